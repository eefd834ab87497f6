package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func produce(ctx context.Context, s settings) (answer, error) {
	client, err := producer(s)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	topic := func(int64) string { return s.topic }
	if s.topics == 0 {
		if err := ensureTopic(ctx, client, s.topic, s.partitions); err != nil {
			return nil, err
		}
	} else {
		names := topicNames(s)
		topic = func(i int64) string { return names[i%int64(len(names))] }
	}

	var failure atomic.Pointer[error]
	acknowledged := func(_ *kgo.Record, err error) {
		if err != nil {
			failure.CompareAndSwap(nil, &err)
		}
	}
	patterns := payloads(s.size)
	clock := startClock(s.pid)
	for i := int64(0); i < s.count && failure.Load() == nil; i++ {
		value := stamped(patterns[i%int64(len(patterns))], clock.started, i)
		client.Produce(ctx, &kgo.Record{Topic: topic(i), Value: value}, acknowledged)
	}
	if err := client.Flush(ctx); err != nil {
		return nil, err
	}
	if err := failure.Load(); err != nil {
		return nil, *err
	}
	return clock.stop(s.count, s.size), nil
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
	client, err := consumer(s, start)
	if err != nil {
		return nil, err
	}
	defer client.Close()

	next := make([]int64, len(start))
	seen := make([]bool, s.count)
	var count int64
	clock := startClock(s.pid)
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
		return count < s.count, nil
	})
	if err != nil {
		return nil, fmt.Errorf("after %d records: %w", count, err)
	}
	return clock.stop(count, s.size), nil
}

func consumer(s settings, start map[int32]kgo.Offset) (*kgo.Client, error) {
	return connect(s,
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{s.topic: start}),
		kgo.FetchMaxWait(500*time.Millisecond),
		kgo.FetchMinBytes(1),
		kgo.FetchMaxBytes(50<<20),
		kgo.FetchMaxPartitionBytes(4<<20),
	)
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
