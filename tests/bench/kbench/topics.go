package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func topicNames(s settings) []string {
	names := make([]string, max(s.topics, 1))
	for i := range names {
		names[i] = fmt.Sprintf("%s-%d", s.topic, i)
	}
	return names
}

// Create sends one request for each topic: Apache Kafka refuses 10,000 partitions in one.
func create(ctx context.Context, s settings) (answer, error) {
	client, err := connect(s)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	names := topicNames(s)
	clock := startClock(s.pids)
	for _, name := range names {
		if _, err := admin.CreateTopic(ctx, int32(s.partitions), -1, nil, name); err != nil {
			return nil, err
		}
	}
	if err := untilServing(ctx, admin, len(names)*s.partitions, names...); err != nil {
		return nil, err
	}
	return clock.stop(0, 0), nil
}

// First tries often, so that what it adds to the time that the broker takes is a few milliseconds.
func first(ctx context.Context, s settings) (answer, error) {
	const often = 5 * time.Millisecond
	for address := range strings.SplitSeq(s.address, ",") {
		for {
			connection, err := net.Dial("tcp", address)
			if err == nil {
				connection.Close()
				break
			}
			if err := pause(ctx, often); err != nil {
				return nil, err
			}
		}
	}
	for {
		err := acknowledged(ctx, s)
		if err == nil {
			return answer{}, nil
		}
		if pause(ctx, often) != nil {
			return nil, err
		}
	}
}

func acknowledged(ctx context.Context, s settings) error {
	client, err := producer(s,
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.MetadataMinAge(10*time.Millisecond),
		kgo.RetryBackoffFn(func(int) time.Duration { return 10 * time.Millisecond }),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	if err := ensureTopic(ctx, client, s.topic, s.partitions); err != nil {
		return err
	}
	records := make([]*kgo.Record, s.partitions)
	for i := range records {
		records[i] = &kgo.Record{Partition: int32(i), Value: make([]byte, s.size)}
	}
	return client.ProduceSync(ctx, records...).FirstErr()
}
