package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Latencies of records that were due in one phase of a run, from when they were due.
type latencies struct {
	lock              sync.Mutex
	acknowledged, end []time.Duration
}

func (l *latencies) acknowledge(d time.Duration) {
	l.lock.Lock()
	defer l.lock.Unlock()
	l.acknowledged = append(l.acknowledged, d)
}

func (l *latencies) arrive(d time.Duration) {
	l.lock.Lock()
	defer l.lock.Unlock()
	l.end = append(l.end, d)
}

// Into an answer: percentiles of the whole way, and of the way to the acknowledgement.
func (l *latencies) into(result answer, prefix string) {
	percentiles(result, prefix, l.end)
	percentiles(result, prefix+"acknowledged_", l.acknowledged)
}

func percentiles(result answer, prefix string, all []time.Duration) {
	if len(all) == 0 {
		return
	}
	slices.Sort(all)
	for name, share := range map[string]float64{"p50_ms": .5, "p99_ms": .99, "p999_ms": .999, "max_ms": 1} {
		at := min(int(share*float64(len(all))), len(all)-1)
		result[prefix+name] = round(all[at].Seconds() * 1e3)
	}
}

func endToEnd(ctx context.Context, s settings) (answer, error) {
	var measured latencies
	warmups := int64(s.rate * s.warmup.Seconds())
	total := warmups + int64(s.rate*s.duration.Seconds())
	result, err := openLoop(ctx, s, func(i int64) (*latencies, bool) {
		if i < warmups {
			return nil, true
		}
		return &measured, i < total
	})
	if err != nil {
		return nil, err
	}
	measured.into(result, "")
	return result, nil
}

// Beside tells what was before "steady" from what was until standard input ended.
func beside(ctx context.Context, s settings) (answer, error) {
	var before, during latencies
	warmups := int64(s.rate * s.warmup.Seconds())
	steady := warmups + int64(s.rate*s.duration.Seconds())
	var ended atomic.Bool
	result, err := openLoop(ctx, s, func(i int64) (*latencies, bool) {
		switch {
		case i < warmups:
			return nil, true
		case i < steady:
			return &before, true
		case i == steady:
			fmt.Println("steady")
			go func() {
				io.Copy(io.Discard, os.Stdin)
				ended.Store(true)
			}()
		}
		return &during, !ended.Load()
	})
	if err != nil {
		return nil, err
	}
	before.into(result, "before_")
	during.into(result, "during_")
	return result, nil
}

// OpenLoop sends and reads records until `phase` says that there are no more; it says before each in which phase that is.
func openLoop(ctx context.Context, s settings, phase func(i int64) (of *latencies, more bool)) (answer, error) {
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

	// Phases are runs of records, so where each begins is enough for the reader.
	var lock sync.Mutex
	type run struct {
		first int64
		of    *latencies
	}
	runs := []run{{}}
	phaseOf := func(i int64) *latencies {
		lock.Lock()
		defer lock.Unlock()
		at := len(runs) - 1
		for ; i < runs[at].first; at-- {
		}
		return runs[at].of
	}

	var arrived atomic.Int64
	reading := make(chan error, 1)
	go func() {
		reading <- poll(ctx, reader, func(r *kgo.Record) (more bool, err error) {
			latency := time.Duration(time.Now().UnixNano() - dueOf(r.Value))
			if of := phaseOf(sequenceOf(r.Value)); of != nil {
				of.arrive(latency)
			}
			arrived.Add(1)
			return true, nil
		})
	}()

	var failure atomic.Pointer[error]
	patterns := payloads(s.size)
	clock := startClock(s.pids)
	step := float64(time.Second) / s.rate
	sent := int64(0)
	for ; failure.Load() == nil; sent++ {
		due := clock.started.Add(time.Duration(float64(sent) * step))
		time.Sleep(time.Until(due))
		of, more := phase(sent)
		if !more {
			break
		}
		if of != runs[len(runs)-1].of {
			lock.Lock()
			runs = append(runs, run{sent, of})
			lock.Unlock()
		}
		value := stamped(patterns[sent%int64(len(patterns))], due, sent)
		sender.Produce(ctx, &kgo.Record{Value: value}, func(_ *kgo.Record, err error) {
			switch {
			case err != nil:
				failure.CompareAndSwap(nil, &err)
			case of != nil:
				of.acknowledge(time.Since(due))
			}
		})
	}
	if err := sender.Flush(ctx); err != nil {
		return nil, err
	}
	if err := failure.Load(); err != nil {
		return nil, *err
	}
	for arrived.Load() < sent {
		select {
		case err := <-reading:
			return nil, fmt.Errorf("reading: %w", err)
		case <-time.After(time.Millisecond):
		}
	}
	result := clock.stop(sent, sent*int64(s.size))
	result["rate"] = s.rate
	cancel()
	<-reading
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
