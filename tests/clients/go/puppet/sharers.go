package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// place is where a record lies.
type place struct {
	topic     string
	partition int32
	offset    int64
}

func placeOf(record *kgo.Record) place {
	return place{record.Topic, record.Partition, record.Offset}
}

// sharer is a member of a share group, with what it has out and what the broker said of its acknowledgements last.
type sharer struct {
	client *kgo.Client
	out    map[place]*kgo.Record
	turn   sync.Mutex
	failed map[place]error // by partition; the offset is 0
}

var kinds = map[string]kgo.AckStatus{
	"accept": kgo.AckAccept, "release": kgo.AckRelease, "reject": kgo.AckReject, "renew": kgo.AckRenew,
}

func (p *puppet) shareOpen(o order) (answer, error) {
	member := &sharer{out: map[place]*kgo.Record{}, failed: map[place]error{}}
	options := []kgo.Opt{
		kgo.ShareGroup(o.Group), kgo.ConsumeTopics(o.Topics...), kgo.ShareAckCallback(func(_ *kgo.Client, results kgo.ShareAckResults) {
			member.turn.Lock()
			defer member.turn.Unlock()
			for _, one := range results {
				if one.Err != nil {
					member.failed[place{one.Topic, one.Partition, 0}] = one.Err
				}
			}
		}),
	}
	if o.Credit > 0 {
		options = append(options, kgo.ShareMaxRecords(o.Credit), kgo.ShareMaxRecordsStrict())
	}
	client, err := p.client(options...)
	if err != nil {
		return nil, err
	}
	member.client = client
	p.turn.Lock()
	defer p.turn.Unlock()
	p.sharers[o.As] = member
	return answer{}, nil
}

func (p *puppet) member(name string) *sharer {
	p.turn.Lock()
	defer p.turn.Unlock()
	return p.sharers[name]
}

func (p *puppet) sharePoll(o order) (answer, error) {
	member := p.member(o.As)
	records, err := poll(member.client, o.Ms)
	for _, one := range records {
		member.out[placeOf(one)] = one
	}
	// A record that came again meanwhile voids what was handed out of it before.
	records = slices.DeleteFunc(records, func(one *kgo.Record) bool { return member.out[placeOf(one)] != one })
	return answer{"records": told(records)}, err
}

func (p *puppet) shareSettle(o order) (answer, error) {
	member := p.member(o.As)
	member.turn.Lock()
	clear(member.failed)
	member.turn.Unlock()
	for _, one := range o.Records {
		at := place{one.Topic, *one.Partition, one.Offset}
		record := member.out[at]
		if record == nil {
			return nil, fmt.Errorf("%v is not out", at)
		}
		record.Ack(kinds[one.Kind])
		if one.Kind != "renew" {
			delete(member.out, at)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	flushed := member.client.FlushAcks(ctx)
	stored := make([]bool, len(o.Records))
	member.turn.Lock()
	defer member.turn.Unlock()
	for at, one := range o.Records {
		stored[at] = flushed == nil && member.failed[place{one.Topic, *one.Partition, 0}] == nil
	}
	return answer{"stored": stored}, nil
}

func (p *puppet) shareClose(o order) (answer, error) {
	p.member(o.As).client.Close()
	return answer{}, nil
}
