package main

import (
	"bufio"
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// A pause that counts as an interruption when it is asked whether all is well again.
	interruption = 250 * time.Millisecond
	// How long all has to be well before the run ends.
	calm = 3 * time.Second
)

// Failover has one partition's records sent at a steady rate, tells whose process is to be hit, and judges by the acknowledgements
// and the partition what that did.
func failover(ctx context.Context, s settings) (answer, error) {
	client, err := producer(s, append(patience(s.patience), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	if err := ensureTopic(ctx, client, s.topic, s.partitions); err != nil {
		return nil, err
	}
	partition, _, err := victim(ctx, client, s)
	if err != nil {
		return nil, err
	}

	var acks acknowledgements
	began := time.Now()
	var stop func() (int64, error)
	if s.sender == "" {
		stop = sendSteadily(ctx, s, client, partition, acks.add)
	} else if stop, err = sendElsewhere(ctx, s, partition, acks.add); err != nil {
		return nil, err
	}
	if err := pause(ctx, s.warmup); err != nil {
		return nil, err
	}
	for !acks.isCalm(time.Second) {
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return nil, fmt.Errorf("never steady: %w", err)
		}
	}
	now, broker, err := victim(ctx, client, s)
	if err != nil || now != partition {
		return nil, fmt.Errorf("the leaders changed before anything was done to them (%w)", err)
	}
	acks.beginAnew()
	fmt.Println("steady", broker)
	steady := time.Now()
	for time.Since(steady) < s.duration || !acks.isCalm(calm) {
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return nil, fmt.Errorf("acknowledgements never came steadily again: %w", err)
		}
	}
	longest := acks.longestGap()
	sent, err := stop()
	if err != nil {
		return nil, err
	}

	seen, disorder, err := readBack(ctx, s, partition, sent)
	if err != nil {
		return nil, fmt.Errorf("reading back: %w", err)
	}
	lost, doubled := 0, 0
	for _, sequence := range acks.sequences {
		if seen[sequence] == 0 {
			lost++
		}
	}
	for _, times := range seen {
		doubled += max(0, times-1)
	}
	return answer{
		"seconds": round(time.Since(began).Seconds()), "gap_ms": round(longest.Seconds() * 1e3),
		"sent": sent, "acknowledged": len(acks.sequences), "lost": lost, "doubled": doubled, "disorder": disorder,
	}, nil
}

// Acknowledgements, and when they came.
type acknowledgements struct {
	lock      sync.Mutex
	sequences []int64
	last      time.Time
	well      time.Time // since when there was no interruption
	longest   time.Duration
}

func (a *acknowledgements) add(sequence int64) {
	a.lock.Lock()
	defer a.lock.Unlock()
	now := time.Now()
	a.sequences = append(a.sequences, sequence)
	if gap := now.Sub(a.last); !a.last.IsZero() && gap > a.longest {
		a.longest = gap
	}
	if now.Sub(a.last) > interruption {
		a.well = now
	}
	a.last = now
}

func (a *acknowledgements) beginAnew() {
	a.lock.Lock()
	defer a.lock.Unlock()
	a.longest = 0
}

func (a *acknowledgements) longestGap() time.Duration {
	a.lock.Lock()
	defer a.lock.Unlock()
	return a.longest
}

func (a *acknowledgements) isCalm(enough time.Duration) bool {
	a.lock.Lock()
	defer a.lock.Unlock()
	return len(a.sequences) > 0 && time.Since(a.last) < interruption && time.Since(a.well) >= enough
}

// Patience is how long a client waits for an answer in all; its own default if that is 0.
func patience(limit time.Duration) []kgo.Opt {
	if limit == 0 {
		return nil
	}
	// The broker's part and what is added to it.
	return []kgo.Opt{kgo.ProduceRequestTimeout(limit / 2), kgo.RequestTimeoutOverhead(limit / 2)}
}

// Victim is a partition of the topic and its leader, which also leads the quorum, or does not.
func victim(ctx context.Context, client *kgo.Client, s settings) (partition, broker int32, err error) {
	quorum, err := quorumLeader(ctx, client)
	if err != nil {
		return 0, 0, err
	}
	topics, err := kadm.NewClient(client).ListTopics(ctx, s.topic)
	if err != nil {
		return 0, 0, err
	}
	for _, partition := range topics[s.topic].Partitions.Sorted() {
		if partition.Leader >= 0 && (partition.Leader == quorum) == (s.victim == "quorum-leader") {
			return partition.Partition, partition.Leader, nil
		}
	}
	return 0, 0, fmt.Errorf("broker %d leads the quorum, and no partition of %s has a leader for %q", quorum, s.topic, s.victim)
}

func quorumLeader(ctx context.Context, client *kgo.Client) (int32, error) {
	partition := kmsg.NewDescribeQuorumRequestTopicPartition()
	topic := kmsg.NewDescribeQuorumRequestTopic()
	topic.Topic, topic.Partitions = "__cluster_metadata", append(topic.Partitions, partition)
	request := kmsg.NewPtrDescribeQuorumRequest()
	request.Topics = append(request.Topics, topic)
	response, err := request.RequestWith(ctx, client)
	if err != nil {
		return 0, err
	}
	if err := kerr.ErrorForCode(response.ErrorCode); err != nil {
		return 0, err
	}
	if len(response.Topics) != 1 || len(response.Topics[0].Partitions) != 1 {
		return 0, fmt.Errorf("the answer about the quorum holds no partition")
	}
	return response.Topics[0].Partitions[0].LeaderID, nil
}

// SendSteadily sends with this client; what it returns ends that and says how many records there were.
func sendSteadily(ctx context.Context, s settings, client *kgo.Client, partition int32, acknowledged func(int64)) func() (int64, error) {
	ended, sent := make(chan struct{}), make(chan int64)
	var failure error
	go func() {
		patterns := payloads(s.size)
		began := time.Now()
		step := float64(time.Second) / s.rate
		for i := int64(0); ; i++ {
			due := began.Add(time.Duration(float64(i) * step))
			select {
			case <-ended:
				sent <- i
				return
			case <-time.After(time.Until(due)):
			}
			record := &kgo.Record{Topic: s.topic, Partition: partition, Value: stamped(patterns[i%int64(len(patterns))], due, i)}
			client.Produce(ctx, record, func(_ *kgo.Record, err error) {
				if err == nil {
					acknowledged(i)
				} else {
					failure = err // promises are kept one after the other, and read after Flush
				}
			})
		}
	}()
	return func() (int64, error) {
		close(ended)
		count := <-sent
		if err := client.Flush(ctx); err != nil {
			return 0, err
		}
		return count, failure
	}
}

// SendElsewhere lets another program send: it writes the number of each record that is acknowledged, and `sent COUNT` after its
// standard input has ended.
func sendElsewhere(ctx context.Context, s settings, partition int32, acknowledged func(int64)) (func() (int64, error), error) {
	words := append(strings.Split(s.sender, ","), s.address, s.topic, fmt.Sprint(partition), fmt.Sprint(s.rate),
		fmt.Sprint(s.size), fmt.Sprint(s.patience.Milliseconds()))
	command := exec.CommandContext(ctx, words[0], words[1:]...)
	var complaints strings.Builder
	command.Stderr = &complaints
	input, err := command.StdinPipe()
	if err != nil {
		return nil, err
	}
	output, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, err
	}
	sent := make(chan int64, 1)
	go func() {
		defer close(sent)
		for lines := bufio.NewScanner(output); lines.Scan(); {
			count, isLast := strings.CutPrefix(lines.Text(), "sent ")
			number, err := strconv.ParseInt(count, 10, 64)
			switch {
			case err != nil:
				return
			case isLast:
				sent <- number
			default:
				acknowledged(number)
			}
		}
	}()
	return func() (int64, error) {
		input.Close()
		count, complete := <-sent
		if err := command.Wait(); err != nil || !complete {
			return 0, fmt.Errorf("%s: %v\n%s", s.sender, err, complaints.String())
		}
		return count, nil
	}, nil
}

// ReadBack counts how often each record is there, and how many come after a later one.
func readBack(ctx context.Context, s settings, partition int32, sent int64) (seen []int, disorder int, err error) {
	through, err := connect(s)
	if err != nil {
		return nil, 0, err
	}
	defer through.Close()
	ends, err := kadm.NewClient(through).ListEndOffsets(ctx, s.topic)
	if err != nil {
		return nil, 0, err
	}
	end, _ := ends.Lookup(s.topic, partition)
	if end.Err != nil {
		return nil, 0, end.Err
	}
	seen = make([]int, sent)
	if end.Offset == 0 {
		return seen, 0, nil
	}
	reader, err := consumer(s, map[int32]kgo.Offset{partition: kgo.NewOffset().AtStart()})
	if err != nil {
		return nil, 0, err
	}
	defer reader.Close()
	latest := int64(-1)
	err = poll(ctx, reader, func(r *kgo.Record) (more bool, err error) {
		sequence := sequenceOf(r.Value)
		if sequence < 0 || sequence >= sent {
			return false, fmt.Errorf("record %d at offset %d was never sent", sequence, r.Offset)
		}
		seen[sequence]++
		if sequence < latest {
			disorder++
		}
		latest = max(latest, sequence)
		return r.Offset+1 < end.Offset, nil
	})
	return seen, disorder, err
}
