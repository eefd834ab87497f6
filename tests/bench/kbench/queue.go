package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Queues are what one kind of broker has for point to point: each message goes to one worker, which acknowledges it by itself.
// What is one topic with partitions at one broker is as many queues at another, which has nothing that is split.
type queues interface {
	// Declare makes them, empty, and knows when they serve.
	declare(ctx context.Context) error
	// Sender has a connection of its own.
	sender(ctx context.Context) (sender, error)
	// Worker has a connection of its own too.
	worker(ctx context.Context) (worker, error)
	remove(ctx context.Context) error
	close()
}

type sender interface {
	// Send may wait for room; it returns before the broker has confirmed the message, which is when told is called. It is
	// called by one goroutine.
	send(ctx context.Context, value []byte, told func(error))
	// Flush waits until all are confirmed or refused.
	flush(ctx context.Context) error
	close()
}

type worker interface {
	// Work hands over messages and acknowledges each, until the context is done, which is no error. It may call from several
	// goroutines.
	work(ctx context.Context, each func(value []byte)) error
	// Settle waits until the broker has the acknowledgements.
	settle(ctx context.Context) error
	close()
}

var protocols = map[string]func(context.Context, settings) (queues, error){
	"kafka": kafkaQueues,
	"grpc":  grpcQueues,
	"amqp":  amqpQueues,
	"redis": redisQueues,
}

func queuesOf(ctx context.Context, s settings) (queues, error) {
	open, known := protocols[s.protocol]
	if !known {
		return nil, fmt.Errorf("no protocol %q", s.protocol)
	}
	return open(ctx, s)
}

// Tally knows which messages came, and what it took from the first on.
type tally struct {
	seen        []atomic.Bool
	distinct    atomic.Int64
	redelivered atomic.Int64
	foreign     atomic.Int64
	pids        string
	first       sync.Once
	clock       clock
	all         chan struct{}
}

func newTally(count int64, pids string) *tally {
	return &tally{seen: make([]atomic.Bool, count), pids: pids, all: make(chan struct{})}
}

// Saw says which message it is, and whether it came for the first time.
func (t *tally) saw(value []byte) (sequence int64, isNew bool) {
	t.first.Do(func() { t.clock = startClock(t.pids) })
	sequence = -1
	if len(value) >= stamp {
		sequence = sequenceOf(value)
	}
	if sequence < 0 || sequence >= int64(len(t.seen)) {
		t.foreign.Add(1)
		return sequence, false
	}
	if t.seen[sequence].Swap(true) {
		t.redelivered.Add(1)
		return sequence, false
	}
	if t.distinct.Add(1) == int64(len(t.seen)) {
		close(t.all)
	}
	return sequence, true
}

// Check says whether there was what no one sent.
func (t *tally) check() error {
	if foreign := t.foreign.Load(); foreign > 0 {
		return fmt.Errorf("%d messages that nobody sent", foreign)
	}
	return nil
}

// Share fills queues and empties them: first -count messages are sent and confirmed, then workers take and acknowledge them all. The way
// out is measured from the first message that a worker has: how long workers take to find their places is another matter.
func share(ctx context.Context, s settings) (answer, error) {
	return withQueues(ctx, s, func(queues queues) (answer, error) {
		clock := startClock(s.pids)
		bytes, err := sendAll(ctx, s, queues)
		if err != nil {
			return nil, fmt.Errorf("sending: %w", err)
		}
		result := answer{}
		rate(result, "in", clock.stop(s.count, bytes))
		tally := newTally(s.count, s.pids)
		crew, err := employ(ctx, s, queues, tally, func(int64, []byte) {})
		if err != nil {
			return nil, err
		}
		defer crew.close()
		if err := crew.wait(ctx); err != nil {
			return nil, err
		}
		rate(result, "out", tally.clock.stop(s.count, bytes))
		result["redelivered"] = tally.redelivered.Load()
		return result, tally.check()
	})
}

// ShareAtOnce sends and works at the same time, until all is acknowledged. Workers have -warmup to find their places.
func shareAtOnce(ctx context.Context, s settings) (answer, error) {
	return withQueues(ctx, s, func(queues queues) (answer, error) {
		tally := newTally(s.count, s.pids)
		crew, err := employ(ctx, s, queues, tally, func(int64, []byte) {})
		if err != nil {
			return nil, err
		}
		defer crew.close()
		if err := pause(ctx, s.warmup); err != nil {
			return nil, err
		}
		clock := startClock(s.pids)
		bytes, err := sendAll(ctx, s, queues)
		if err != nil {
			return nil, fmt.Errorf("sending: %w", err)
		}
		if err := crew.wait(ctx); err != nil {
			return nil, err
		}
		result := answer{"redelivered": tally.redelivered.Load()}
		rate(result, "through", clock.stop(s.count, bytes))
		return result, tally.check()
	})
}

// WithQueues makes them, and removes them when all went well.
func withQueues(ctx context.Context, s settings, use func(queues) (answer, error)) (answer, error) {
	queues, err := queuesOf(ctx, s)
	if err != nil {
		return nil, err
	}
	defer queues.close()
	if err := queues.declare(ctx); err != nil {
		return nil, err
	}
	result, err := use(queues)
	if err != nil {
		return nil, err
	}
	return result, queues.remove(ctx)
}

// ShareEndToEnd sends at a rate and measures from when a message was due to be sent until a worker has it, as endToEnd does.
func shareEndToEnd(ctx context.Context, s settings) (answer, error) {
	return withQueues(ctx, s, func(queues queues) (answer, error) {
		warmups := int64(s.rate * s.warmup.Seconds())
		total := warmups + int64(s.rate*s.duration.Seconds())
		var measured latencies
		tally := newTally(total, "")
		crew, err := employ(ctx, s, queues, tally, func(sequence int64, value []byte) {
			if sequence >= warmups {
				measured.arrive(time.Duration(time.Now().UnixNano() - dueOf(value)))
			}
		})
		if err != nil {
			return nil, err
		}
		defer crew.close()
		sender, err := queues.sender(ctx)
		if err != nil {
			return nil, err
		}
		defer sender.close()

		var failure failure
		patterns := payloads(s.size)
		began, step := time.Now(), float64(time.Second)/s.rate
		var clock clock
		for i := int64(0); i < total && failure.get() == nil; i++ {
			due := began.Add(time.Duration(float64(i) * step))
			time.Sleep(time.Until(due))
			if i == warmups {
				clock = startClock(s.pids)
			}
			sender.send(ctx, stamped(patterns[i%int64(len(patterns))], due, i), func(err error) {
				failure.set(err)
				if err == nil && i >= warmups {
					measured.acknowledge(time.Since(due))
				}
			})
		}
		if err := errorOr(sender.flush(ctx), failure.get()); err != nil {
			return nil, fmt.Errorf("sending: %w", err)
		}
		if err := crew.wait(ctx); err != nil {
			return nil, err
		}
		result := clock.stop(total-warmups, (total-warmups)*int64(s.size))
		result["rate"] = s.rate
		result["redelivered"] = tally.redelivered.Load()
		measured.into(result, "")
		return result, tally.check()
	})
}

// SendAll has -clients senders send -count messages, and returns their bytes when all are confirmed.
func sendAll(ctx context.Context, s settings, queues queues) (int64, error) {
	var failure failure
	var bytes atomic.Int64
	patterns := payloads(s.size)
	var all sync.WaitGroup
	for first := range s.clients {
		sender, err := queues.sender(ctx)
		if err != nil {
			return 0, err
		}
		defer sender.close()
		all.Go(func() {
			now, sent := time.Now(), int64(0)
			for i := int64(first); i < s.count && failure.get() == nil; i += int64(s.clients) {
				value := stamped(patterns[i%int64(len(patterns))], now, i)
				sent += int64(len(value))
				sender.send(ctx, value, failure.set)
			}
			bytes.Add(sent)
			failure.set(sender.flush(ctx))
		})
	}
	all.Wait()
	return bytes.Load(), failure.get()
}

// Crew is -workers workers, at work.
type crew struct {
	workers []worker
	worked  chan error
	tally   *tally
	stop    context.CancelFunc
}

// Employ has workers work until each message was seen; look is called with each that is new.
func employ(ctx context.Context, s settings, queues queues, tally *tally, look func(sequence int64, value []byte)) (*crew, error) {
	enough, stop := context.WithCancel(ctx)
	crew := &crew{worked: make(chan error, s.workers), tally: tally, stop: stop}
	for range s.workers {
		worker, err := queues.worker(ctx)
		if err != nil {
			crew.close()
			return nil, err
		}
		crew.workers = append(crew.workers, worker)
	}
	for _, worker := range crew.workers {
		go func() {
			err := worker.work(enough, func(value []byte) {
				if sequence, isNew := tally.saw(value); isNew {
					look(sequence, value)
				}
			})
			crew.worked <- errorOr(err, worker.settle(ctx))
		}()
	}
	return crew, nil
}

// Wait returns when each message was seen, and all acknowledgements are with the broker.
func (c *crew) wait(ctx context.Context) error {
	for left, all := len(c.workers), c.tally.all; left > 0; {
		select {
		case err := <-c.worked:
			if err := errorOr(err, ctx.Err()); err != nil {
				return fmt.Errorf("working, after %d of %d: %w", c.tally.distinct.Load(), len(c.tally.seen), err)
			}
			left--
		case <-all:
			all = nil
			c.stop()
		}
	}
	return nil
}

func (c *crew) close() {
	c.stop()
	for _, worker := range c.workers {
		worker.close()
	}
}

// Rate puts what one direction reached into an answer: messages a second, and what a million of them cost the brokers.
func rate(result answer, name string, told answer) {
	seconds, _ := told["seconds"].(float64)
	records, _ := told["records"].(int64)
	if seconds == 0 || records == 0 {
		return
	}
	result[name+"_per_s"] = math.Round(float64(records) / seconds)
	if cpu, known := told["broker_cpu_s"].(float64); known {
		result[name+"_cpu_s_per_million"] = round(cpu / float64(records) * 1e6)
	}
	if cpu, known := told["client_cpu_s"].(float64); known {
		result[name+"_client_cpu_s_per_million"] = round(cpu / float64(records) * 1e6)
	}
	if rss, known := told["broker_rss_mib"].(float64); known {
		before, _ := result["broker_rss_mib"].(float64)
		result["broker_rss_mib"] = max(before, rss)
	}
}

// Failure keeps the first error of several goroutines.
type failure struct{ first atomic.Pointer[error] }

func (f *failure) set(err error) {
	if err != nil {
		f.first.CompareAndSwap(nil, &err)
	}
}

func (f *failure) get() error {
	if err := f.first.Load(); err != nil {
		return *err
	}
	return nil
}

// ErrorOr returns the first error.
func errorOr(errors ...error) error {
	at := slices.IndexFunc(errors, func(err error) bool { return err != nil })
	if at < 0 {
		return nil
	}
	return errors[at]
}
