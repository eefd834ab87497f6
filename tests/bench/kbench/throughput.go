package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func produce(ctx context.Context, s settings) (answer, error) {
	clock, records, bytes, err := send(ctx, s)
	if err != nil {
		return nil, err
	}
	return clock.stop(records, bytes), nil
}

// Send has all records acknowledged, and returns when it began, how many there were and their bytes.
func send(ctx context.Context, s settings) (clock, int64, int64, error) {
	clients := make([]*kgo.Client, s.clients)
	s.window = max(s.window/s.clients, 1)
	for i := range clients {
		client, err := producer(s)
		if err != nil {
			return clock{}, 0, 0, err
		}
		defer client.Close()
		clients[i] = client
	}
	topic := func(int64) string { return s.topic }
	if s.topics == 0 {
		if err := ensureTopic(ctx, clients[0], s.topic, s.partitions); err != nil {
			return clock{}, 0, 0, err
		}
	} else {
		names := topicNames(s)
		topic = func(i int64) string { return names[i%int64(len(names))] }
	}

	var failure atomic.Pointer[error]
	failed := func(err error) {
		if err != nil {
			failure.CompareAndSwap(nil, &err)
		}
	}
	var bytes atomic.Int64
	patterns := payloads(s.size)
	began := startClock(s.pids)
	var all sync.WaitGroup
	for first, client := range clients {
		all.Go(func() {
			sent := int64(0)
			for i := int64(first); i < s.count && failure.Load() == nil; i += int64(len(clients)) {
				value := stamped(patterns[i%int64(len(patterns))], began.started, i)
				sent += int64(len(value))
				client.Produce(ctx, &kgo.Record{Topic: topic(i), Value: value}, func(_ *kgo.Record, err error) { failed(err) })
			}
			bytes.Add(sent)
			failed(client.Flush(ctx))
		})
	}
	all.Wait()
	if err := failure.Load(); err != nil {
		return clock{}, 0, 0, *err
	}
	return began, s.count, bytes.Load(), nil
}

// FanOut measures how long it takes until every group has every record that was sent meanwhile.
func fanOut(ctx context.Context, s settings) (answer, error) {
	through, err := connect(s)
	if err != nil {
		return nil, err
	}
	defer through.Close()
	if err := ensureTopic(ctx, through, s.topic, s.partitions); err != nil {
		return nil, err
	}
	read := make(chan error, s.groups)
	for i := range s.groups {
		ready := make(chan struct{})
		reader, err := member(s, fmt.Sprintf("%s-%d", s.topic, i), func(partitions int) {
			if partitions == s.partitions {
				close(ready)
			}
		})
		if err != nil {
			return nil, err
		}
		defer reader.Close()
		go func() {
			count := int64(0)
			read <- poll(ctx, reader, func(*kgo.Record) (more bool, err error) {
				count++
				return count < s.count, nil
			})
		}()
		select {
		case <-ready:
		case <-ctx.Done():
			return nil, fmt.Errorf("group %d of %d never had the whole topic: %w", i+1, s.groups, ctx.Err())
		}
	}
	clock, records, bytes, err := send(ctx, s)
	if err != nil {
		return nil, err
	}
	for range s.groups {
		if err := <-read; err != nil {
			return nil, fmt.Errorf("reading: %w", err)
		}
	}
	return clock.stop(records, bytes*int64(s.groups)), nil
}

func consume(ctx context.Context, s settings) (answer, error) {
	admin, err := connect(s)
	if err != nil {
		return nil, err
	}
	defer admin.Close()
	topics, err := kadm.NewClient(admin).ListTopics(ctx, s.topic)
	if err != nil {
		return nil, err
	}
	start := map[int32]kgo.Offset{}
	for partition := range topics[s.topic].Partitions {
		start[partition] = kgo.NewOffset().AtStart()
	}
	var client *kgo.Client
	if s.group == "" {
		client, err = consumer(s, start)
	} else {
		client, err = member(s, s.group, func(int) {})
	}
	if err != nil {
		return nil, err
	}
	defer client.Close()

	next := make([]int64, len(start))
	seen := make([]bool, s.count)
	var count, bytes int64
	clock := startClock(s.pids)
	err = poll(ctx, client, func(r *kgo.Record) (more bool, err error) {
		if r.Offset != next[r.Partition] {
			return false, fmt.Errorf("offset %d of partition %d follows %d", r.Offset, r.Partition, next[r.Partition]-1)
		}
		next[r.Partition]++
		sequence := sequenceOf(r.Value)
		if sequence < 0 || sequence >= s.count || seen[sequence] {
			return false, fmt.Errorf("record %d at offset %d of partition %d is there twice or was never sent", sequence, r.Offset, r.Partition)
		}
		seen[sequence] = true
		count++
		bytes += int64(len(r.Value))
		return count < s.count, nil
	})
	if err != nil {
		return nil, fmt.Errorf("after %d records: %w", count, err)
	}
	return clock.stop(count, bytes), nil
}

func consumer(s settings, start map[int32]kgo.Offset) (*kgo.Client, error) {
	return reading(s, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{s.topic: start}))
}

// Member reads as the only one of its group, from the topic's start when the group is new; it tells how many partitions it gets.
func member(s settings, group string, assigned func(partitions int)) (*kgo.Client, error) {
	return reading(s,
		kgo.ConsumerGroup(group),
		kgo.ConsumeTopics(s.topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
			assigned(len(partitions[s.topic]))
		}),
	)
}

func reading(s settings, what ...kgo.Opt) (*kgo.Client, error) {
	return connect(s, append(what,
		kgo.FetchMaxWait(500*time.Millisecond),
		kgo.FetchMinBytes(1),
		kgo.FetchMaxBytes(50<<20),
		kgo.FetchMaxPartitionBytes(4<<20),
	)...)
}

// Poll hands over records until that says that there are enough, or fails.
func poll(ctx context.Context, client *kgo.Client, each func(*kgo.Record) (more bool, err error)) error {
	for {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return err
		}
		for records := fetches.RecordIter(); !records.Done(); {
			if more, err := each(records.Next()); err != nil || !more {
				return err
			}
		}
	}
}
