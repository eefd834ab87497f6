package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// FlashSale offers -count messages, or as many as -duration allows, to queues that take -bound of them: each of -clients senders waits for
// its answer before it offers the next. Then the queues are emptied, to see that they have what was taken and nothing else.
func flashSale(ctx context.Context, s settings) (answer, error) {
	return withQueues(ctx, s, func(queues queues) (answer, error) {
		sale := sale{sold: newTally(s.count, "")}
		result, err := sale.offer(ctx, s, queues)
		if err != nil {
			return nil, err
		}
		found := newTally(s.count, "")
		if err := untilQuiet(ctx, s, queues, found); err != nil {
			return nil, err
		}
		lost, wrong := 0, 0
		for i := range found.seen {
			switch sold, found := sale.sold.seen[i].Load(), found.seen[i].Load(); {
			case sold && !found:
				lost++
			case found && !sold:
				wrong++
			}
		}
		result["lost"], result["refused_but_there"] = lost, wrong
		return result, found.check()
	})
}

type sale struct {
	lock                      sync.Mutex
	sold                      *tally
	taken, refused            []time.Duration
	firstRefusal, lastRefusal time.Time
}

func (f *sale) offer(ctx context.Context, s settings, queues queues) (answer, error) {
	var failure failure
	var all sync.WaitGroup
	payload := payloads(s.size)[0]
	clock := startClock(s.pids)
	for first := range s.clients {
		sender, err := queues.sender(ctx)
		if err != nil {
			return nil, err
		}
		defer sender.close()
		all.Go(func() {
			answered := make(chan error, 1)
			for i := int64(first); i < s.count && failure.get() == nil && time.Since(clock.started) < s.duration; i += int64(s.clients) {
				value := stamped(payload, clock.started, i)
				asked := time.Now()
				sender.send(ctx, value, func(err error) { answered <- err })
				failure.set(f.answered(value, asked, <-answered))
			}
		})
	}
	all.Wait()
	if err := failure.get(); err != nil {
		return nil, err
	}
	offers := int64(len(f.taken) + len(f.refused))
	result := clock.stop(offers, offers*int64(s.size))
	result["offers"] = offers
	result["taken"] = len(f.taken)
	result["beyond"] = len(f.taken) - s.bound
	percentiles(result, "taken_", f.taken)
	percentiles(result, "refused_", f.refused)
	if seconds := f.lastRefusal.Sub(f.firstRefusal).Seconds(); seconds > 0 {
		result["refused_per_s"] = math.Round(float64(len(f.refused)) / seconds)
	}
	return result, nil
}

// Answered takes note of an answer; an error if it is neither yes nor no.
func (f *sale) answered(value []byte, asked time.Time, err error) error {
	now := time.Now()
	f.lock.Lock()
	defer f.lock.Unlock()
	switch {
	case err == nil:
		f.taken = append(f.taken, now.Sub(asked))
		f.sold.saw(value)
	case errors.Is(err, kerr.PolicyViolation), errors.Is(err, errNotTaken):
		f.refused = append(f.refused, now.Sub(asked))
		if f.firstRefusal.IsZero() {
			f.firstRefusal = asked
		}
		f.lastRefusal = now
	default:
		return err
	}
	return nil
}

// UntilQuiet works until nothing more has come for two seconds: how much there is is not known before.
func untilQuiet(ctx context.Context, s settings, queues queues, tally *tally) error {
	const quiet = 2 * time.Second
	enough, cancel := context.WithCancel(ctx)
	defer cancel()
	worker, err := queues.worker(ctx)
	if err != nil {
		return err
	}
	defer worker.close()
	var last atomic.Int64
	worked := make(chan error, 1)
	go func() {
		worked <- worker.work(enough, func(value []byte) {
			tally.saw(value)
			last.Store(time.Now().UnixNano())
		})
	}()
	for {
		select {
		case err := <-worked:
			return errorOr(err, fmt.Errorf("nothing came: %w", context.Cause(enough)))
		case <-time.After(100 * time.Millisecond):
			if at := last.Load(); at > 0 && time.Since(time.Unix(0, at)) > quiet {
				cancel()
				return errorOr(<-worked, worker.settle(ctx))
			}
		}
	}
}
