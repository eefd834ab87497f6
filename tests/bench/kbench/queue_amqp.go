package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// RabbitMQ's quorum queues: durable, synced, with a confirmation for each message. What another has as partitions are queues, to
// which a sender turns one after another.
type amqpShare struct {
	s    settings
	conn *amqp.Connection
}

var errNotTaken = errors.New("the broker did not take the message")

// AmqpQueues waits for a broker that is only starting.
func amqpQueues(ctx context.Context, s settings) (queues, error) {
	for {
		conn, err := dialAMQP(s)
		if err == nil {
			return &amqpShare{s, conn}, nil
		}
		if pause(ctx, 50*time.Millisecond) != nil {
			return nil, err
		}
	}
}

func dialAMQP(s settings) (*amqp.Connection, error) {
	return amqp.Dial("amqp://guest:guest@" + s.address + "/")
}

func (a *amqpShare) names() []string {
	names := make([]string, a.s.partitions)
	for i := range names {
		names[i] = fmt.Sprintf("%s-%d", a.s.topic, i)
	}
	return names
}

func (a *amqpShare) declare(context.Context) error {
	kind := amqp.Table{"x-queue-type": "quorum"}
	if a.s.bound > 0 {
		// There is no bound over several queues.
		kind["x-max-length"], kind["x-overflow"] = int64(a.s.bound/a.s.partitions), "reject-publish"
	}
	return a.each(func(channel *amqp.Channel, name string) error {
		_, err := channel.QueueDeclare(name, true, false, false, false, kind)
		return err
	})
}

func (a *amqpShare) remove(context.Context) error {
	return a.each(func(channel *amqp.Channel, name string) error {
		_, err := channel.QueueDelete(name, false, false, false)
		return err
	})
}

// Each does something to one queue after another, until something fails.
func (a *amqpShare) each(do func(channel *amqp.Channel, name string) error) error {
	channel, err := a.conn.Channel()
	if err != nil {
		return err
	}
	defer channel.Close()
	for _, name := range a.names() {
		if err := do(channel, name); err != nil {
			return err
		}
	}
	return nil
}

func (a *amqpShare) close() { a.conn.Close() }

type amqpSender struct {
	conn    *amqp.Connection
	channel *amqp.Channel
	queues  []string
	next    int
	// Of what is on its way, in its order: the client library hands confirmations over in the order of publishing.
	pending chan func(error)
	all     sync.WaitGroup
}

func (a *amqpShare) sender(context.Context) (sender, error) {
	conn, err := dialAMQP(a.s)
	if err != nil {
		return nil, err
	}
	channel, err := conn.Channel()
	if err != nil {
		return nil, err
	}
	if err := channel.Confirm(false); err != nil {
		return nil, err
	}
	window := max(a.s.window/a.s.clients, 1)
	sender := &amqpSender{conn: conn, channel: channel, queues: a.names(), pending: make(chan func(error), window)}
	confirmed := channel.NotifyPublish(make(chan amqp.Confirmation, window))
	go sender.listen(confirmed)
	return sender, nil
}

func (a *amqpSender) listen(confirmed <-chan amqp.Confirmation) {
	for confirmation := range confirmed {
		told := <-a.pending
		if confirmation.Ack {
			told(nil)
		} else {
			told(errNotTaken)
		}
		a.all.Done()
	}
	// The connection is gone.
	for told := range a.pending {
		told(amqp.ErrClosed)
		a.all.Done()
	}
}

func (a *amqpSender) send(ctx context.Context, value []byte, told func(error)) {
	a.all.Add(1)
	select {
	case a.pending <- told:
	case <-ctx.Done():
		told(ctx.Err())
		a.all.Done()
		return
	}
	queue := a.queues[a.next%len(a.queues)]
	a.next++
	message := amqp.Publishing{DeliveryMode: amqp.Persistent, Body: value}
	if err := a.channel.PublishWithContext(ctx, "", queue, false, false, message); err != nil {
		// Whoever listens then tells all that is on its way.
		a.conn.Close()
	}
}

func (a *amqpSender) flush(ctx context.Context) error {
	confirmed := make(chan struct{})
	go func() {
		a.all.Wait()
		close(confirmed)
	}()
	select {
	case <-confirmed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (a *amqpSender) close() {
	a.conn.Close()
	close(a.pending)
}

type amqpWorker struct {
	conn       *amqp.Connection
	channel    *amqp.Channel
	queues     []string
	deliveries []<-chan amqp.Delivery
}

func (a *amqpShare) worker(context.Context) (worker, error) {
	conn, err := dialAMQP(a.s)
	if err != nil {
		return nil, err
	}
	channel, err := conn.Channel()
	if err != nil {
		return nil, err
	}
	worker := &amqpWorker{conn: conn, channel: channel, queues: a.names()}
	// Of each consumer of the channel, which is each queue.
	if err := channel.Qos(max(a.s.prefetch/len(worker.queues), 1), 0, false); err != nil {
		return nil, err
	}
	for _, name := range worker.queues {
		deliveries, err := channel.Consume(name, "", false, false, false, false, nil)
		if err != nil {
			return nil, err
		}
		worker.deliveries = append(worker.deliveries, deliveries)
	}
	return worker, nil
}

func (a *amqpWorker) work(ctx context.Context, each func([]byte)) error {
	var failure failure
	var all sync.WaitGroup
	for _, deliveries := range a.deliveries {
		all.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case message, open := <-deliveries:
					if !open {
						failure.set(amqp.ErrClosed)
						return
					}
					each(message.Body)
					if err := message.Ack(false); err != nil {
						failure.set(err)
						return
					}
				}
			}
		})
	}
	all.Wait()
	return failure.get()
}

// Settle asks something on the same channel, which is answered after what came before it.
func (a *amqpWorker) settle(context.Context) error {
	_, err := a.channel.QueueDeclarePassive(a.queues[0], true, false, false, false, nil)
	return err
}

func (a *amqpWorker) close() { a.conn.Close() }
