package main

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func endToEnd(ctx context.Context, s settings) (answer, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sender, err := producer(s)
	if err != nil {
		return nil, err
	}
	defer sender.Close()
	if err := ensureTopic(ctx, sender, s.topic, s.partitions); err != nil {
		return nil, err
	}
	reader, err := readerFromEnd(ctx, s, sender)
	if err != nil {
		return nil, err
	}
	defer reader.Close()

	warmups := int64(s.rate * s.warmup.Seconds())
	total := warmups + int64(s.rate*s.duration.Seconds())
	latencies := make([]time.Duration, 0, total-warmups)
	received := make(chan error, 1)
	go func() {
		var count int64
		received <- poll(ctx, reader, func(r *kgo.Record) (more bool, err error) {
			if sequenceOf(r.Value) >= warmups {
				latencies = append(latencies, time.Duration(time.Now().UnixNano()-dueOf(r.Value)))
			}
			count++
			return count < total, nil
		})
	}()

	var failure atomic.Pointer[error]
	patterns := payloads(s.size)
	clock := startClock(s.pid)
	step := float64(time.Second) / s.rate
	for i := int64(0); i < total && failure.Load() == nil; i++ {
		due := clock.started.Add(time.Duration(float64(i) * step))
		time.Sleep(time.Until(due))
		value := stamped(patterns[i%int64(len(patterns))], due, i)
		sender.Produce(ctx, &kgo.Record{Value: value}, func(_ *kgo.Record, err error) {
			if err != nil {
				failure.CompareAndSwap(nil, &err)
			}
		})
	}
	if err := sender.Flush(ctx); err != nil {
		return nil, err
	}
	if err := failure.Load(); err != nil {
		return nil, *err
	}
	if err := <-received; err != nil {
		return nil, fmt.Errorf("reading: %w", err)
	}
	result := clock.stop(total, total*int64(s.size))
	slices.Sort(latencies)
	for name, share := range map[string]float64{"p50_ms": .5, "p99_ms": .99, "p999_ms": .999, "max_ms": 1} {
		at := min(int(share*float64(len(latencies))), len(latencies)-1)
		result[name] = round(latencies[at].Seconds() * 1e3)
	}
	return result, nil
}

// ReaderFromEnd fixes the offsets before it returns, so that nothing that is sent after it is missed.
func readerFromEnd(ctx context.Context, s settings, through *kgo.Client) (*kgo.Client, error) {
	ends, err := kadm.NewClient(through).ListEndOffsets(ctx, s.topic)
	if err != nil {
		return nil, err
	}
	start := map[int32]kgo.Offset{}
	for partition, end := range ends[s.topic] {
		if end.Err != nil {
			return nil, end.Err
		}
		start[partition] = kgo.NewOffset().At(end.Offset)
	}
	return consumer(s, start)
}
