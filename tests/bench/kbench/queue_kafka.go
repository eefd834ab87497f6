package main

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Share groups (KIP-932): the topic's partitions are shared by all workers. The client acknowledges with its next fetch.
type kafkaShare struct {
	s      settings
	client *kgo.Client
}

func kafkaQueues(_ context.Context, s settings) (queues, error) {
	client, err := connect(s)
	if err != nil {
		return nil, err
	}
	return &kafkaShare{s, client}, nil
}

// Declare has the group begin with what is there; a group of its own for each topic, of the same name.
func (k *kafkaShare) declare(ctx context.Context) error {
	configs := map[string]*string{}
	if k.s.bound > 0 {
		for name, value := range map[string]string{
			"weir.queue.group":        k.s.topic,
			"weir.queue.max.messages": fmt.Sprint(k.s.bound),
			"weir.queue.max.scope":    "topic",
			"weir.queue.overflow":     "reject",
		} {
			configs[name] = &value
		}
	}
	admin := kadm.NewClient(k.client)
	if _, err := admin.CreateTopic(ctx, int32(k.s.partitions), -1, configs, k.s.topic); err != nil {
		return err
	}
	if err := untilServing(ctx, admin, k.s.partitions, k.s.topic); err != nil {
		return err
	}
	earliest := "earliest"
	config := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	config.Name, config.Value = "share.auto.offset.reset", &earliest
	resource := kmsg.NewIncrementalAlterConfigsRequestResource()
	resource.ResourceType, resource.ResourceName = kmsg.ConfigResourceTypeGroupConfig, k.s.topic
	resource.Configs = append(resource.Configs, config)
	request := kmsg.NewPtrIncrementalAlterConfigsRequest()
	request.Resources = append(request.Resources, resource)
	response, err := request.RequestWith(ctx, k.client)
	if err != nil {
		return err
	}
	for _, resource := range response.Resources {
		if err := kerr.ErrorForCode(resource.ErrorCode); err != nil {
			return fmt.Errorf("share.auto.offset.reset: %w", err)
		}
	}
	return nil
}

func (k *kafkaShare) remove(ctx context.Context) error {
	_, err := kadm.NewClient(k.client).DeleteTopic(ctx, k.s.topic)
	return err
}

func (k *kafkaShare) close() { k.client.Close() }

type kafkaSender struct{ client *kgo.Client }

func (k *kafkaShare) sender(context.Context) (sender, error) {
	s := k.s
	s.window = max(s.window/s.clients, 1)
	client, err := producer(s)
	if err != nil {
		return nil, err
	}
	return kafkaSender{client}, nil
}

func (k kafkaSender) send(ctx context.Context, value []byte, told func(error)) {
	k.client.Produce(ctx, &kgo.Record{Value: value}, func(_ *kgo.Record, err error) { told(err) })
}

func (k kafkaSender) flush(ctx context.Context) error { return k.client.Flush(ctx) }
func (k kafkaSender) close()                          { k.client.Close() }

type kafkaWorker struct {
	client *kgo.Client
	failed *failure
}

// How long a fetch waits for messages; acknowledgements wait for it, since the client sends one request at a time.
const shareWait = 100 * time.Millisecond

func (k *kafkaShare) worker(context.Context) (worker, error) {
	failed := new(failure)
	client, err := connect(k.s,
		kgo.ShareGroup(k.s.topic),
		kgo.ConsumeTopics(k.s.topic),
		kgo.ShareMaxRecords(int32(k.s.prefetch)),
		kgo.ShareAckCallback(func(_ *kgo.Client, results kgo.ShareAckResults) { failed.set(results.Error()) }),
		kgo.FetchMaxWait(shareWait),
		kgo.FetchMinBytes(1),
		kgo.FetchMaxBytes(50<<20),
	)
	if err != nil {
		return nil, err
	}
	return kafkaWorker{client, failed}, nil
}

func (k kafkaWorker) work(ctx context.Context, each func([]byte)) error {
	for ctx.Err() == nil {
		fetches := k.client.PollFetches(ctx)
		if ctx.Err() == nil {
			if err := fetches.Err(); err != nil && !kerr.IsRetriable(err) {
				return err
			}
		}
		for records := fetches.RecordIter(); !records.Done(); {
			record := records.Next()
			each(record.Value)
			record.Ack(kgo.AckAccept)
		}
		if err := k.failed.get(); err != nil {
			return fmt.Errorf("acknowledging: %w", err)
		}
	}
	return nil
}

func (k kafkaWorker) settle(ctx context.Context) error {
	return errorOr(k.client.FlushAcks(ctx), k.failed.get())
}

// Close leaves the group at once, rather than be noticed.
func (k kafkaWorker) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_ = k.client.LeaveGroupContext(ctx)
	k.client.Close()
}
