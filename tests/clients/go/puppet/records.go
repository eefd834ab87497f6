package main

import (
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// chosen lets an order name the partition, and leaves all others to franz-go's own choice.
type chosen struct{ kgo.Partitioner }

func (c chosen) ForTopic(topic string) kgo.TopicPartitioner {
	return chosenOfTopic{c.Partitioner.ForTopic(topic)}
}

type chosenOfTopic struct{ kgo.TopicPartitioner }

func (c chosenOfTopic) Partition(r *kgo.Record, n int) int {
	if r.Partition >= 0 {
		return int(r.Partition)
	}
	return c.TopicPartitioner.Partition(r, n)
}

func (r record) toSend(topic string) *kgo.Record {
	send := &kgo.Record{Topic: topic, Partition: -1}
	if r.Partition != nil {
		send.Partition = *r.Partition
	}
	if r.Key != nil {
		send.Key = []byte(*r.Key)
	}
	if r.Value != nil {
		send.Value = []byte(*r.Value)
	}
	if r.Timestamp != 0 {
		send.Timestamp = time.UnixMilli(r.Timestamp)
	}
	for name, value := range r.Headers {
		send.Headers = append(send.Headers, kgo.RecordHeader{Key: name, Value: []byte(value)})
	}
	return send
}

// told are records as orders for reading are answered, with the time when they were here.
func told(records []*kgo.Record) []record {
	at, all := time.Now().UnixMilli(), make([]record, 0, len(records))
	text := func(bytes []byte) *string {
		if bytes == nil {
			return nil
		}
		said := string(bytes)
		return &said
	}
	for _, one := range records {
		headers := map[string]string{}
		for _, header := range one.Headers {
			headers[header.Key] = string(header.Value)
		}
		all = append(all, record{
			Topic: one.Topic, Partition: &one.Partition, Offset: one.Offset, Key: text(one.Key), Value: text(one.Value), Headers: headers,
			Timestamp: one.Timestamp.UnixMilli(), Deliveries: one.DeliveryCount(), At: at,
		})
	}
	return all
}
