package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// How far ahead messages may be due: the most that Weir allows.
const delayMax = 365 * 24 * time.Hour

// Delayed leaves -count messages waiting, due at any time from an hour to a year from now: what each of them costs in memory.
func delayed(ctx context.Context, s settings) (answer, error) {
	client, err := delayedProducer(ctx, s)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	// What a broker needs for being sent messages is no cost of those that wait.
	const plain = 100_000
	if _, err := sendDue(ctx, s, client, plain, func(int64) time.Time { return time.Time{} }); err != nil {
		return nil, err
	}
	before, err := restingMemory(ctx, s.pids)
	if err != nil {
		return nil, err
	}
	clock := startClock(s.pids)
	now := time.Now()
	bytes, err := sendDue(ctx, s, client, s.count, func(int64) time.Time {
		const soonest = time.Hour
		return now.Add(soonest + rand.N(delayMax-2*soonest))
	})
	if err != nil {
		return nil, err
	}
	result := answer{}
	rate(result, "in", clock.stop(s.count, bytes))
	after, err := restingMemory(ctx, s.pids)
	if err != nil {
		return nil, err
	}
	result["waiting"] = s.count
	result["broker_rss_mib"] = round(after)
	result["waiting_mib"] = round(after - before)
	result["bytes_each"] = round((after - before) * (1 << 20) / float64(s.count))
	return result, nil
}

// Due sends -count messages that are due one after another within -duration, which begins -warmup from now, and measures how late each
// is at a consumer that reads at the topic's end. None may be early.
func due(ctx context.Context, s settings) (answer, error) {
	client, err := delayedProducer(ctx, s)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	reader, err := readerFromEnd(ctx, s, client)
	if err != nil {
		return nil, err
	}
	defer reader.Close()

	began := time.Now()
	// On a whole millisecond, in which times are written.
	first := began.Add(s.warmup).Truncate(time.Millisecond)
	step := float64(s.duration) / float64(s.count)
	bytes, err := sendDue(ctx, s, client, s.count, func(i int64) time.Time {
		return first.Add(time.Duration(float64(i) * step)).Truncate(time.Millisecond)
	})
	if err != nil {
		return nil, err
	}
	sending := time.Since(began)
	if time.Now().After(first) {
		return nil, fmt.Errorf("sending took %v, and -warmup is %v", sending, s.warmup)
	}

	late := make([]time.Duration, 0, s.count)
	seen := make([]bool, s.count)
	early, again := 0, 0
	var last time.Time
	clock := startClock(s.pids)
	err = poll(ctx, reader, func(r *kgo.Record) (more bool, err error) {
		now := time.Now()
		sequence := sequenceOf(r.Value)
		if sequence < 0 || sequence >= s.count {
			return false, fmt.Errorf("record %d was never sent", sequence)
		}
		if seen[sequence] {
			again++
			return true, nil
		}
		seen[sequence] = true
		lateness := now.Sub(time.Unix(0, dueOf(r.Value)))
		if lateness < 0 {
			early++
		}
		late = append(late, lateness)
		last = now
		return int64(len(late)) < s.count, nil
	})
	if err != nil {
		return nil, fmt.Errorf("after %d records: %w", len(late), err)
	}
	result := clock.stop(s.count, bytes)
	result["due_per_s"] = math.Round(float64(s.count) / s.duration.Seconds())
	result["released_per_s"] = math.Round(float64(s.count) / last.Sub(first).Seconds())
	result["in_per_s"] = math.Round(float64(s.count) / sending.Seconds())
	result["early"], result["doubled"] = early, again
	percentiles(result, "late_", late)
	if early > 0 || again > 0 {
		return nil, fmt.Errorf("%d records were early, %d came twice", early, again)
	}
	return result, nil
}

// DelayedProducer is a client, and its topic takes delayed messages.
func delayedProducer(ctx context.Context, s settings) (*kgo.Client, error) {
	client, err := producer(s)
	if err != nil {
		return nil, err
	}
	if err := ensureDelayed(ctx, s, client); err != nil {
		client.Close()
		return nil, err
	}
	return client, nil
}

func ensureDelayed(ctx context.Context, s settings, client *kgo.Client) error {
	admin := kadm.NewClient(client)
	horizon := strconv.FormatInt(delayMax.Milliseconds(), 10)
	_, err := admin.CreateTopic(ctx, int32(s.partitions), -1, map[string]*string{"weir.queue.delay.max.ms": &horizon}, s.topic)
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return err
	}
	return untilServing(ctx, admin, s.partitions, s.topic)
}

// SendDue has messages acknowledged, each of which is due when that is said, or at once; it returns their bytes.
func sendDue(ctx context.Context, s settings, client *kgo.Client, count int64, when func(i int64) time.Time) (int64, error) {
	var failure failure
	var bytes int64
	patterns := payloads(s.size)
	for i := int64(0); i < count && failure.get() == nil; i++ {
		due := when(i)
		record := &kgo.Record{Value: stamped(patterns[i%int64(len(patterns))], due, i)}
		if !due.IsZero() {
			at := strconv.AppendInt(nil, due.UnixMilli(), 10)
			record.Headers = []kgo.RecordHeader{{Key: "weir-deliver-at", Value: at}}
		}
		bytes += int64(len(record.Value))
		client.Produce(ctx, record, func(_ *kgo.Record, err error) { failure.set(err) })
	}
	return bytes, errorOr(client.Flush(ctx), failure.get())
}

// RestingMemory is the brokers' resident memory in MiB, when it has not fallen for a second.
func restingMemory(ctx context.Context, pids string) (float64, error) {
	least := math.Inf(1)
	for same := 0; same < 5; {
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return 0, err
		}
		now := brokersUsage(pids).rss
		if now < least {
			least, same = now, 0
		} else {
			same++
		}
	}
	return least, nil
}
