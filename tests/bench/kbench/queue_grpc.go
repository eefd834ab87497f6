package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// Weir's gRPC API, `weir.queue.v1`: PublishStream with a result for each message, Subscribe with credit, and a settlement for each
// message, whose outcome comes back. Topics and the group's start are declared as for Kafka's clients.
type grpcShare struct {
	*kafkaShare
}

func grpcQueues(ctx context.Context, s settings) (queues, error) {
	share, err := kafkaQueues(ctx, s)
	if err != nil {
		return nil, err
	}
	return grpcShare{share.(*kafkaShare)}, nil
}

// Plain passes messages on as they are encoded here.
type plain struct{}

func (plain) Name() string { return "proto" }

func (plain) Marshal(message any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(message.([]byte))}, nil
}

func (plain) Unmarshal(data mem.BufferSlice, message any) error {
	*message.(*[]byte) = data.Materialize()
	return nil
}

// Stream has a connection of its own.
type stream struct {
	grpc.ClientStream
	conn *grpc.ClientConn
}

func (g grpcShare) stream(method string) (stream, error) {
	const largest = 64 << 20
	conn, err := grpc.NewClient(g.s.grpc,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(plain{}), grpc.MaxCallRecvMsgSize(largest)),
	)
	if err != nil {
		return stream{}, err
	}
	both := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	opened, err := conn.NewStream(context.Background(), both, "/weir.queue.v1.Queue/"+method)
	if err != nil {
		conn.Close()
		return stream{}, err
	}
	return stream{opened, conn}, nil
}

type grpcSender struct {
	stream
	topic string
	// Of what is on its way: results come in its order.
	pending chan func(error)
	all     sync.WaitGroup
}

func (g grpcShare) sender(context.Context) (sender, error) {
	stream, err := g.stream("PublishStream")
	if err != nil {
		return nil, err
	}
	sender := &grpcSender{stream: stream, topic: g.s.topic, pending: make(chan func(error), max(g.s.window/g.s.clients, 1))}
	go sender.listen()
	return sender, nil
}

func (g *grpcSender) listen() {
	var failed error
	for told := range g.pending {
		if failed == nil {
			var result []byte
			if failed = g.RecvMsg(&result); failed == nil {
				told(publishOutcome(result))
				g.all.Done()
				continue
			}
		}
		told(failed)
		g.all.Done()
	}
}

// PublishOutcome reads a PublishResult.
func publishOutcome(result []byte) error {
	var refused error
	err := eachField(result, func(field protowire.Number, value []byte, _ uint64) error {
		if field == 2 {
			refused = fmt.Errorf("refused: %q", value)
		}
		return nil
	})
	return errorOr(err, refused)
}

func (g *grpcSender) send(ctx context.Context, value []byte, told func(error)) {
	g.all.Add(1)
	select {
	case g.pending <- told:
	case <-ctx.Done():
		told(ctx.Err())
		g.all.Done()
		return
	}
	message := protowire.AppendTag(make([]byte, 0, len(value)+8), 2, protowire.BytesType)
	message = protowire.AppendBytes(message, value)
	request := protowire.AppendTag(make([]byte, 0, len(message)+len(g.topic)+16), 1, protowire.BytesType)
	request = protowire.AppendString(request, g.topic)
	request = protowire.AppendTag(request, 3, protowire.BytesType)
	request = protowire.AppendBytes(request, message)
	// What is wrong is heard by whoever listens.
	_ = g.SendMsg(request)
}

func (g *grpcSender) flush(context.Context) error {
	g.all.Wait()
	return nil
}

func (g *grpcSender) close() {
	_ = g.CloseSend()
	g.conn.Close()
	close(g.pending)
}

type grpcWorker struct {
	stream
	// Held while a message is worked on, so that its settlement goes out before the stream is closed.
	working sync.Mutex
	closed  bool
	sent    int64
	settled int64
	ended   chan error
}

func (g grpcShare) worker(context.Context) (worker, error) {
	stream, err := g.stream("Subscribe")
	if err != nil {
		return nil, err
	}
	start := protowire.AppendTag(nil, 1, protowire.BytesType)
	start = protowire.AppendString(start, g.s.topic)
	start = protowire.AppendTag(start, 2, protowire.BytesType)
	start = protowire.AppendString(start, g.s.topic)
	start = protowire.AppendTag(start, 3, protowire.VarintType)
	start = protowire.AppendVarint(start, uint64(g.s.prefetch))
	if err := stream.SendMsg(wrapped(1, start)); err != nil {
		return nil, err
	}
	return &grpcWorker{stream: stream, ended: make(chan error, 1)}, nil
}

// Work accepts each message by itself.
func (g *grpcWorker) work(ctx context.Context, each func([]byte)) error {
	ended := make(chan error, 1)
	go func() {
		err := g.listen(each)
		ended <- err
		g.ended <- err
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return nil
	}
}

// Listen ends when the broker has ended the stream, which it does in good order when all that was settled is stored.
func (g *grpcWorker) listen(each func([]byte)) error {
	for {
		var response []byte
		switch err := g.RecvMsg(&response); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		err := eachField(response, func(kind protowire.Number, value []byte, _ uint64) error {
			switch kind {
			case deliveriesField:
				return eachField(value, func(_ protowire.Number, delivery []byte, _ uint64) error {
					return g.deliver(delivery, each)
				})
			case settledField:
				return eachField(value, func(_ protowire.Number, outcome []byte, _ uint64) error {
					g.settled++
					return settlement(outcome)
				})
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
}

// Fields of SubscribeResponse.
const (
	deliveriesField = 2
	settledField    = 3
)

func (g *grpcWorker) deliver(delivery []byte, each func([]byte)) error {
	const tokenField, messageField, valueField = 1, 7, 2
	var token uint64
	var value []byte
	err := eachField(delivery, func(field protowire.Number, bytes []byte, number uint64) error {
		switch field {
		case tokenField:
			token = number
		case messageField:
			return eachField(bytes, func(field protowire.Number, bytes []byte, _ uint64) error {
				if field == valueField {
					value = bytes
				}
				return nil
			})
		}
		return nil
	})
	if err != nil {
		return err
	}
	g.working.Lock()
	defer g.working.Unlock()
	if g.closed {
		return nil
	}
	g.sent++
	each(value)
	const accept = 1
	accepted := protowire.AppendTag(nil, 1, protowire.VarintType)
	accepted = protowire.AppendVarint(accepted, token)
	accepted = protowire.AppendTag(accepted, 2, protowire.VarintType)
	accepted = protowire.AppendVarint(accepted, accept)
	return g.SendMsg(wrapped(3, wrapped(1, accepted)))
}

func settlement(outcome []byte) error {
	const refusedField = 2
	return eachField(outcome, func(field protowire.Number, value []byte, _ uint64) error {
		if field == refusedField {
			return fmt.Errorf("a settlement was refused: %q", value)
		}
		return nil
	})
}

func (g *grpcWorker) settle(ctx context.Context) error {
	g.working.Lock()
	g.closed = true
	err := g.CloseSend()
	g.working.Unlock()
	if err != nil {
		return err
	}
	select {
	case err := <-g.ended:
		if err == nil && g.settled != g.sent {
			err = fmt.Errorf("of %d settlements %d have an outcome", g.sent, g.settled)
		}
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *grpcWorker) close() { g.conn.Close() }

// Wrapped is a message within another.
func wrapped(field protowire.Number, message []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, field, protowire.BytesType), message)
}

// EachField hands over the fields of a message: bytes, or a number.
func eachField(message []byte, each func(field protowire.Number, bytes []byte, number uint64) error) error {
	for len(message) > 0 {
		field, kind, length := protowire.ConsumeTag(message)
		if length < 0 {
			return protowire.ParseError(length)
		}
		message = message[length:]
		var bytes []byte
		var number uint64
		switch kind {
		case protowire.BytesType:
			bytes, length = protowire.ConsumeBytes(message)
		case protowire.VarintType:
			number, length = protowire.ConsumeVarint(message)
		default:
			length = protowire.ConsumeFieldValue(field, kind, message)
		}
		if length < 0 {
			return protowire.ParseError(length)
		}
		message = message[length:]
		if err := each(field, bytes, number); err != nil {
			return err
		}
	}
	return nil
}
