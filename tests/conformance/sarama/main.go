// Sarama: `sarama BOOTSTRAP [NAME...]`. Writes `pass NAME` or `fail NAME: why` for each scenario; the same names mean the same in
// every language (docs/testing.md).
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
)

const (
	limit  = 90 * time.Second // far above what any scenario takes
	atOnce = 4                // scenarios mostly wait for timers of groups
	count  = 1000
)

var (
	bootstrap []string
	numbers   atomic.Int64
)

func fresh(what string) string {
	return fmt.Sprintf("go-%s-%d-%d", what, time.Now().UnixNano(), numbers.Add(1))
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func same(wanted, was any, what string) {
	if !reflect.DeepEqual(wanted, was) {
		panic(fmt.Errorf("%s: %v, not %v", what, was, wanted))
	}
}

func until(what string, look func() bool) {
	for end := time.Now().Add(time.Minute); !look(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			panic(fmt.Errorf("waited for a minute in vain: %s", what))
		}
	}
}

func fails(wanted error, err error) {
	if !errors.Is(err, wanted) {
		panic(fmt.Errorf("%v, not %v", err, wanted))
	}
}

func config(change func(*sarama.Config)) *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	config.Producer.Return.Successes = true
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Metadata.AllowAutoTopicCreation = false
	if change != nil {
		change(config)
	}
	return config
}

func admin() sarama.ClusterAdmin {
	admin, err := sarama.NewClusterAdmin(bootstrap, config(nil))
	must(err)
	return admin
}

func topic(what string, partitions int32, configs map[string]string) string {
	name, admin := fresh(what), admin()
	defer admin.Close()
	entries := map[string]*string{}
	for key, value := range configs {
		entries[key] = &value
	}
	must(admin.CreateTopic(name, &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: 1, ConfigEntries: entries}, false))
	return name
}

func messages(name string) []*sarama.ProducerMessage {
	var all []*sarama.ProducerMessage
	for n := range count {
		all = append(all, &sarama.ProducerMessage{
			Topic: name, Key: sarama.StringEncoder(fmt.Sprintf("key-%d", n)), Value: sarama.StringEncoder(fmt.Sprintf("value-%d", n)),
		})
	}
	return all
}

func fill(name string, change func(*sarama.Config)) []*sarama.ProducerMessage {
	producer, err := sarama.NewSyncProducer(bootstrap, config(change))
	must(err)
	defer producer.Close()
	all := messages(name)
	must(producer.SendMessages(all))
	return all
}

// read returns what is between the beginning and the end of a topic.
func read(name string, change func(*sarama.Config)) []*sarama.ConsumerMessage {
	client, err := sarama.NewClient(bootstrap, config(change))
	must(err)
	defer client.Close()
	consumer, err := sarama.NewConsumerFromClient(client)
	must(err)
	defer consumer.Close()
	partitions, err := consumer.Partitions(name)
	must(err)
	var all []*sarama.ConsumerMessage
	for _, partition := range partitions {
		end, err := client.GetOffset(name, partition, sarama.OffsetNewest)
		must(err)
		stream, err := consumer.ConsumePartition(name, partition, sarama.OffsetOldest)
		must(err)
		for quiet := false; !quiet; {
			select {
			case message := <-stream.Messages():
				all = append(all, message)
				quiet = message.Offset == end-1
			case <-time.After(2 * time.Second):
				quiet = true // what is left are markers and what was aborted
			}
			quiet = quiet || end == 0
		}
		must(stream.Close())
	}
	return all
}

func roundTrip(change func(*sarama.Config)) {
	name := topic("round-trip", 3, nil)
	type place struct {
		partition int32
		offset    int64
	}
	sent, seen := map[string]place{}, map[string]place{}
	for _, message := range fill(name, change) {
		key, _ := message.Key.Encode()
		sent[string(key)] = place{message.Partition, message.Offset}
	}
	for _, message := range read(name, nil) {
		same(strings.Replace(string(message.Key), "key", "value", 1), string(message.Value), "the value of a key")
		seen[string(message.Key)] = place{message.Partition, message.Offset}
	}
	same(sent, seen, "where messages are")
}

func codec(codec sarama.CompressionCodec) func() {
	return func() { roundTrip(func(c *sarama.Config) { c.Producer.Compression = codec }) }
}

func idempotent(c *sarama.Config) {
	c.Producer.Idempotent = true
	c.Net.MaxOpenRequests = 1
}

func shape() {
	name := topic("shape", 1, nil)
	producer, err := sarama.NewSyncProducer(bootstrap, config(nil))
	must(err)
	defer producer.Close()
	at := time.UnixMilli(1_700_000_000_123)
	_, offset, err := producer.SendMessage(&sarama.ProducerMessage{
		Topic: name, Key: sarama.StringEncoder("key"), Value: sarama.StringEncoder("value"), Timestamp: at,
		Headers: []sarama.RecordHeader{{Key: []byte("a"), Value: []byte("1")}, {Key: []byte("a"), Value: []byte{}}},
	})
	must(err)
	same(int64(0), offset, "offset")
	_, _, err = producer.SendMessage(&sarama.ProducerMessage{Topic: name, Key: sarama.StringEncoder("gone")})
	must(err)
	all := read(name, nil)
	same(2, len(all[0].Headers), "headers")
	same("1", string(all[0].Headers[0].Value), "a header's value")
	same(at.UnixMilli(), all[0].Timestamp.UnixMilli(), "timestamp")
	same(true, all[1].Value == nil, "no value")
}

func tooLarge() {
	name := topic("small", 1, map[string]string{"max.message.bytes": "1000"})
	producer, err := sarama.NewSyncProducer(bootstrap, config(nil))
	must(err)
	defer producer.Close()
	_, _, err = producer.SendMessage(&sarama.ProducerMessage{Topic: name, Value: sarama.StringEncoder(strings.Repeat("x", 2000))})
	fails(sarama.ErrMessageSizeTooLarge, err)
}

func byTime() {
	name := topic("by-time", 1, nil)
	producer, err := sarama.NewSyncProducer(bootstrap, config(nil))
	must(err)
	defer producer.Close()
	for n := range 10 {
		_, _, err = producer.SendMessage(&sarama.ProducerMessage{
			Topic: name, Value: sarama.StringEncoder("v"), Timestamp: time.UnixMilli(1_700_000_000_000 + int64(n)*1000),
		})
		must(err)
	}
	client, err := sarama.NewClient(bootstrap, config(nil))
	must(err)
	defer client.Close()
	for at, wanted := range map[int64]int64{1_700_000_004_500: 5, sarama.OffsetOldest: 0, sarama.OffsetNewest: 10} {
		offset, err := client.GetOffset(name, 0, at)
		must(err)
		same(wanted, offset, fmt.Sprintf("the offset at %d", at))
	}
}

// member of a group: counts what it sees and knows what it owns.
type member struct {
	group sarama.ConsumerGroup
	owned atomic.Int64
	seen  *sync.Map
	done  context.CancelFunc
	ended chan struct{}
}

func (m *member) Setup(session sarama.ConsumerGroupSession) error {
	var owned int64
	for _, partitions := range session.Claims() {
		owned += int64(len(partitions))
	}
	m.owned.Store(owned)
	return nil
}

func (m *member) Cleanup(session sarama.ConsumerGroupSession) error {
	session.Commit()
	return nil
}

func (m *member) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case message, open := <-claim.Messages():
			if !open {
				return nil
			}
			if _, twice := m.seen.LoadOrStore(string(message.Key), message.Offset); twice {
				m.seen.Store("twice: "+string(message.Key), message.Offset)
			}
			session.MarkMessage(message, "")
		case <-session.Context().Done():
			return nil
		}
	}
}

func join(group, name string, seen *sync.Map, change func(*sarama.Config)) *member {
	joined, err := sarama.NewConsumerGroup(bootstrap, group, config(change))
	must(err)
	ctx, done := context.WithCancel(context.Background())
	m := &member{group: joined, seen: seen, done: done, ended: make(chan struct{})}
	go func() {
		defer close(m.ended)
		for ctx.Err() == nil {
			if err := joined.Consume(ctx, []string{name}, m); err != nil && ctx.Err() == nil {
				m.seen.Store("error: "+err.Error(), 0)
			}
		}
	}()
	return m
}

func (m *member) leave() {
	m.done()
	<-m.ended
	must(m.group.Close())
}

func size(of *sync.Map) int {
	n := 0
	of.Range(func(any, any) bool { n++; return true })
	return n
}

func rebalance() {
	name, group, seen := topic("rebalance", 6, nil), fresh("group"), &sync.Map{}
	first := join(group, name, seen, nil)
	until("one has all", func() bool { return first.owned.Load() == 6 })
	fill(name, nil)
	until("all is read", func() bool { return size(seen) == count })
	second := join(group, name, seen, nil)
	until("each has half", func() bool { return first.owned.Load() == 3 && second.owned.Load() == 3 })
	first.leave()
	until("the other has all", func() bool { return second.owned.Load() == 6 })
	second.leave()
	same(count, size(seen), "messages seen")
}

func static() {
	name, group, seen := topic("static", 1, nil), fresh("static"), &sync.Map{}
	fill(name, nil)
	for range 2 {
		m := join(group, name, seen, func(c *sarama.Config) { c.Consumer.Group.InstanceId = "one" })
		until("all is read", func() bool { return size(seen) == count })
		until("it has its partition", func() bool { return m.owned.Load() == 1 })
		m.leave()
	}
	same(count, size(seen), "messages seen")
}

func commits() {
	name, group := topic("commits", 1, nil), fresh("commits")
	fill(name, nil)
	client, err := sarama.NewClient(bootstrap, config(nil))
	must(err)
	defer client.Close()
	offsets, err := sarama.NewOffsetManagerFromClient(group, client)
	must(err)
	partition, err := offsets.ManagePartition(name, 0)
	must(err)
	partition.MarkOffset(30, "thirty")
	offsets.Commit()
	must(partition.Close())
	must(offsets.Close())
	admin := admin()
	defer admin.Close()
	told, err := admin.ListConsumerGroupOffsets(group, map[string][]int32{name: {0}})
	must(err)
	block := told.GetBlock(name, 0)
	same([]any{int64(30), "thirty"}, []any{block.Offset, block.Metadata}, "what is committed")
	seen := &sync.Map{}
	m := join(group, name, seen, nil)
	until("the rest is read", func() bool { return size(seen) == count-30 })
	m.leave()
}

func committed(c *sarama.Config) { c.Consumer.IsolationLevel = sarama.ReadCommitted }

func transactional(id string) func(*sarama.Config) {
	return func(c *sarama.Config) {
		idempotent(c)
		c.Producer.Transaction.ID = id
	}
}

func transactions() {
	name := topic("transactions", 3, nil)
	producer, err := sarama.NewSyncProducer(bootstrap, config(transactional(fresh("id"))))
	must(err)
	defer producer.Close()
	var written, kept []string
	for number := range 20 {
		must(producer.BeginTxn())
		for n := range 10 {
			value := fmt.Sprintf("%d-%d", number, n)
			_, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: name, Value: sarama.StringEncoder(value)})
			must(err)
			written = append(written, value)
			if number%3 != 0 {
				kept = append(kept, value)
			}
		}
		if number%3 == 0 {
			must(producer.AbortTxn())
		} else {
			must(producer.CommitTxn())
		}
	}
	same(sorted(kept), values(read(name, committed)), "what committed readers see")
	same(sorted(written), values(read(name, nil)), "what others see")
}

func transactionsOffsets() {
	name, group := topic("offsets", 1, nil), fresh("copier")
	producer, err := sarama.NewSyncProducer(bootstrap, config(transactional(fresh("copier"))))
	must(err)
	defer producer.Close()
	for number, end := range []func() error{producer.CommitTxn, producer.AbortTxn} {
		must(producer.BeginTxn())
		_, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: name, Value: sarama.StringEncoder(fmt.Sprint(number))})
		must(err)
		offsets := map[string][]*sarama.PartitionOffsetMetadata{name: {{Partition: 0, Offset: int64(7 + number)}}}
		must(producer.AddOffsetsToTxn(offsets, group))
		must(end())
	}
	admin := admin()
	defer admin.Close()
	told, err := admin.ListConsumerGroupOffsets(group, map[string][]int32{name: {0}})
	must(err)
	same(int64(7), told.GetBlock(name, 0).Offset, "the committed offset")
	same([]string{"0"}, values(read(name, committed)), "what is committed")
}

func sorted(all []string) []string {
	slices.Sort(all)
	return all
}

func values(of []*sarama.ConsumerMessage) []string {
	var all []string
	for _, message := range of {
		all = append(all, string(message.Value))
	}
	return sorted(all)
}

func adminTopics() {
	name, admin := fresh("admin"), admin()
	defer admin.Close()
	must(admin.CreateTopic(name, &sarama.TopicDetail{NumPartitions: 3, ReplicationFactor: 1}, false))
	partitions := func() int {
		told, err := admin.DescribeTopics([]string{name})
		must(err)
		return len(told[0].Partitions)
	}
	until("there are three", func() bool { return partitions() == 3 })
	must(admin.CreatePartitions(name, 5, nil, false))
	until("there are five", func() bool { return partitions() == 5 })
	must(admin.DeleteTopic(name))
	until("it is gone", func() bool {
		topics, err := admin.ListTopics()
		must(err)
		_, there := topics[name]
		return !there
	})
}

func adminTopicErrors() {
	name, admin := topic("errors", 2, nil), admin()
	defer admin.Close()
	one := &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1}
	fails(sarama.ErrTopicAlreadyExists, admin.CreateTopic(name, one, false))
	fails(sarama.ErrInvalidTopic, admin.CreateTopic("a b", one, false))
	fails(sarama.ErrInvalidReplicationFactor, admin.CreateTopic(fresh("many"), &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 9}, false))
	fails(sarama.ErrUnknownTopicOrPartition, admin.DeleteTopic(fresh("missing")))
}

func adminConfigs() {
	name, admin := topic("configs", 1, nil), admin()
	defer admin.Close()
	told := func() string {
		entries, err := admin.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: name, ConfigNames: []string{"retention.ms"}})
		must(err)
		same(1, len(entries), "entries")
		return entries[0].Value
	}
	same("604800000", told(), "the default")
	value := "1000"
	must(admin.IncrementalAlterConfig(sarama.TopicResource, name, map[string]sarama.IncrementalAlterConfigsEntry{
		"retention.ms": {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &value},
	}, false))
	until("it is changed", func() bool { return told() == "1000" })
}

func adminRecords() {
	name, admin := topic("records", 1, nil), admin()
	defer admin.Close()
	fill(name, nil)
	must(admin.DeleteRecords(name, map[int32]int64{0: 4}))
	same(count-4, len(read(name, nil)), "messages left")
}

func adminGroups() {
	name, group, admin := topic("grouped", 2, nil), fresh("grouped"), admin()
	defer admin.Close()
	m := join(group, name, &sync.Map{}, nil)
	until("it has both", func() bool { return m.owned.Load() == 2 })
	state := func() string {
		told, err := admin.DescribeConsumerGroups([]string{group})
		must(err)
		return told[0].State
	}
	same("Stable", state(), "its state")
	m.leave()
	same("Empty", state(), "its state without members")
	listed := func() bool {
		groups, err := admin.ListConsumerGroups()
		must(err)
		_, there := groups[group]
		return there
	}
	same(true, listed(), "listed")
	must(admin.DeleteConsumerGroup(group))
	same(false, listed(), "listed after it was deleted")
}

func adminCluster() {
	admin := admin()
	defer admin.Close()
	brokers, controller, err := admin.DescribeCluster()
	must(err)
	same(true, slices.ContainsFunc(brokers, func(one *sarama.Broker) bool { return one.ID() == controller }), "its controller is one of its brokers")
	var ids []int32
	for _, broker := range brokers {
		ids = append(ids, broker.ID())
	}
	dirs, err := admin.DescribeLogDirs(ids)
	must(err)
	same(len(brokers), len(dirs), "brokers that tell of their directories")
}

type scenario struct {
	name string
	run  func()
}

func main() {
	bootstrap = []string{os.Args[1]}
	scenarios := []scenario{
		{"produce-none", codec(sarama.CompressionNone)}, {"produce-gzip", codec(sarama.CompressionGZIP)},
		{"produce-snappy", codec(sarama.CompressionSnappy)}, {"produce-lz4", codec(sarama.CompressionLZ4)},
		{"produce-zstd", codec(sarama.CompressionZSTD)},
		{"produce-acks-1", func() { roundTrip(func(c *sarama.Config) { c.Producer.RequiredAcks = sarama.WaitForLocal }) }},
		{"produce-idempotent", func() { roundTrip(idempotent) }},
		{"record-shape", shape}, {"record-too-large", tooLarge}, {"offsets-by-time", byTime},
		{"group-rebalance", rebalance}, {"group-static", static}, {"group-commits", commits},
		{"transactions", transactions}, {"transactions-offsets", transactionsOffsets},
		{"admin-topics", adminTopics}, {"admin-topic-errors", adminTopicErrors}, {"admin-configs", adminConfigs},
		{"admin-records", adminRecords}, {"admin-groups", adminGroups}, {"admin-cluster", adminCluster},
	}
	var group sync.WaitGroup
	turns := make(chan struct{}, atOnce)
	for _, one := range scenarios {
		if len(os.Args) > 2 && !slices.Contains(os.Args[2:], one.name) {
			continue
		}
		turns <- struct{}{}
		group.Add(1)
		go func() {
			defer group.Done()
			fmt.Println(verdict(one))
			<-turns
		}()
	}
	group.Wait()
}

func verdict(one scenario) string {
	ended := make(chan error, 1)
	go func() {
		defer func() {
			if failure := recover(); failure != nil {
				ended <- fmt.Errorf("%v", failure)
			}
		}()
		one.run()
		ended <- nil
	}()
	select {
	case err := <-ended:
		if err != nil {
			return fmt.Sprintf("fail %s: %s", one.name, strings.ReplaceAll(err.Error(), "\n", " "))
		}
		return "pass " + one.name
	case <-time.After(limit):
		return fmt.Sprintf("fail %s: took more than %v", one.name, limit)
	}
}
