package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Redis's streams with consumer groups: XADD, XREADGROUP, and an XACK for each message. What another has as partitions are streams.
// Messages stay in their stream when they are acknowledged, as they do in a log.
type redisShare struct {
	s       settings
	client  *redis.Client
	workers int
}

// Commands that go out together at most: those that are there when the one before has been answered.
const redisPipeline = 500

const redisGroup = "workers"

// RedisQueues waits for a broker that is only starting.
func redisQueues(ctx context.Context, s settings) (queues, error) {
	if s.bound > 0 {
		return nil, errors.New("streams have no bound that refuses")
	}
	client := redisClient(s)
	for {
		err := client.Ping(ctx).Err()
		if err == nil {
			return &redisShare{s: s, client: client}, nil
		}
		if pause(ctx, 50*time.Millisecond) != nil {
			return nil, err
		}
	}
}

// RedisClient has one connection, as a sender or a worker of another broker has.
func redisClient(s settings) *redis.Client {
	return redis.NewClient(&redis.Options{Addr: s.address, PoolSize: 1, ReadTimeout: -1, WriteTimeout: -1, MaxRetries: -1})
}

func (r *redisShare) names() []string {
	names := make([]string, r.s.partitions)
	for i := range names {
		names[i] = fmt.Sprintf("%s-%d", r.s.topic, i)
	}
	return names
}

func (r *redisShare) declare(ctx context.Context) error {
	for _, name := range r.names() {
		if err := r.client.XGroupCreateMkStream(ctx, name, redisGroup, "0").Err(); err != nil {
			return err
		}
	}
	return nil
}

func (r *redisShare) remove(ctx context.Context) error {
	return r.client.Del(ctx, r.names()...).Err()
}

func (r *redisShare) close() { r.client.Close() }

type redisMessage struct {
	stream string
	value  []byte
	told   func(error)
}

type redisSender struct {
	client  *redis.Client
	streams []string
	next    int
	waiting chan redisMessage
	all     sync.WaitGroup
}

func (r *redisShare) sender(ctx context.Context) (sender, error) {
	window := max(r.s.window/r.s.clients, 1)
	sender := &redisSender{client: redisClient(r.s), streams: r.names(), waiting: make(chan redisMessage, window)}
	go sender.pass(ctx)
	return sender, nil
}

// Pass sends what has gathered, until there will be nothing more.
func (r *redisSender) pass(ctx context.Context) {
	for first := range r.waiting {
		together := []redisMessage{first}
	gather:
		for len(together) < redisPipeline {
			select {
			case message, open := <-r.waiting:
				if !open {
					break gather
				}
				together = append(together, message)
			default:
				break gather
			}
		}
		pipeline := r.client.Pipeline()
		for _, message := range together {
			pipeline.XAdd(ctx, &redis.XAddArgs{Stream: message.stream, Values: []any{"v", message.value}})
		}
		answers, err := pipeline.Exec(ctx)
		for i, message := range together {
			if i < len(answers) {
				err = answers[i].Err()
			}
			message.told(err)
			r.all.Done()
		}
	}
}

func (r *redisSender) send(ctx context.Context, value []byte, told func(error)) {
	r.all.Add(1)
	stream := r.streams[r.next%len(r.streams)]
	r.next++
	select {
	case r.waiting <- redisMessage{stream, value, told}:
	case <-ctx.Done():
		told(ctx.Err())
		r.all.Done()
	}
}

func (r *redisSender) flush(context.Context) error {
	// Each is answered, if only with the context's end.
	r.all.Wait()
	return nil
}

func (r *redisSender) close() {
	close(r.waiting)
	r.client.Close()
}

type redisWorker struct {
	client  *redis.Client
	name    string
	streams []string
	count   int
}

func (r *redisShare) worker(context.Context) (worker, error) {
	names := r.names()
	streams := append(names, strings.Split(strings.Repeat(">", len(names)), "")...)
	count := max(r.s.prefetch/len(names), 1)
	r.workers++
	return &redisWorker{redisClient(r.s), fmt.Sprintf("worker-%d", r.workers), streams, count}, nil
}

// Work acknowledges what it has read before it reads more, each message with a command of its own.
func (r *redisWorker) work(ctx context.Context, each func([]byte)) error {
	for ctx.Err() == nil {
		read, err := r.client.XReadGroup(context.WithoutCancel(ctx), &redis.XReadGroupArgs{
			Group: redisGroup, Consumer: r.name, Streams: r.streams, Count: int64(r.count), Block: shareWait,
		}).Result()
		if errors.Is(err, redis.Nil) {
			continue
		}
		if err != nil {
			return err
		}
		pipeline := r.client.Pipeline()
		for _, stream := range read {
			for _, message := range stream.Messages {
				value, _ := message.Values["v"].(string)
				each([]byte(value))
				pipeline.XAck(ctx, stream.Stream, redisGroup, message.ID)
			}
		}
		if _, err := pipeline.Exec(context.WithoutCancel(ctx)); err != nil {
			return err
		}
	}
	return nil
}

func (r *redisWorker) settle(context.Context) error { return nil }
func (r *redisWorker) close()                       { r.client.Close() }
