// Kbench is the client of Weir's benchmarks: one small load generator for every broker that speaks Kafka's protocol, so
// that what differs between two runs is the broker.
//
//	kbench -address HOST:PORT[,HOST:PORT...] -mode MODE [flags]
//
//	produce     sends -count records as fast as acknowledgements come back
//	consume     reads -count records from the start of a topic, and checks that each is there once and in order
//	fan-out     produce, while -groups consumer groups read everything at the topic's end
//	end-to-end  open loop: sends -rate records a second; each carries the time at which it was due, so that a stall is
//	            charged to every record that it delayed
//	beside      the same, says "steady" after -duration and goes on until standard input ends: what was measured before
//	            and after is told apart
//	share       sends -count messages and then has -workers take them, each of which acknowledges each message by itself
//	share-at-once  both at the same time
//	share-end-to-end  end-to-end, to such workers
//	flash-sale  offers -count messages, one at a time from each of -clients, to queues that take -bound of them
//	delayed     leaves -count messages waiting that are due within the next year, and says what memory they take
//	due         sends -count messages that are due within -duration, which begins after -warmup, and says how late each came
//	failover    sends -rate records a second to one partition and says "steady BROKER", which is the one whose end is to
//	            be survived; how long no acknowledgement came, and what became of each record
//	in-sync     waits until every partition of a topic has as many replicas in sync as it has replicas
//	drain       moves all replicas of -broker to others; says "steady BROKER" when half is done: the one that leads the quorum
//	fill        gives -broker its share of all replicas, and says the same
//	throttle    bounds the replicas that are moved to -rate bytes a second of each broker
//	create      makes -topics topics and waits until every partition serves
//	delete      deletes a topic
//	first       waits until one record in each partition of a topic is acknowledged by brokers that are only starting
//
// It answers with one JSON object on standard output, after what it has to say meanwhile.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"time"
)

type settings struct {
	address, mode, topic, compression string
	group, victim, sender, pids       string
	protocol, grpc                    string
	topics, partitions, size, broker  int
	batch, window, clients, groups    int
	workers, prefetch, bound          int
	count                             int64
	rate                              float64
	linger, warmup, duration, limit   time.Duration
	patience                          time.Duration
}

// Answer is what a run measured, by name.
type answer map[string]any

var modes = map[string]func(context.Context, settings) (answer, error){
	"produce":    produce,
	"consume":    consume,
	"fan-out":    fanOut,
	"end-to-end": endToEnd,
	"beside":     beside,
	"failover":   failover,

	"share":            share,
	"share-at-once":    shareAtOnce,
	"share-end-to-end": shareEndToEnd,
	"flash-sale":       flashSale,
	"delayed":          delayed,
	"due":              due,

	"in-sync":  inSync,
	"drain":    drain,
	"fill":     fill,
	"throttle": throttle,
	"create":   create,
	"delete":   remove,
	"first":    first,
}

func main() {
	var s settings
	flag.StringVar(&s.address, "address", "127.0.0.1:9092", "the brokers' `host:port`, separated by commas")
	flag.StringVar(&s.mode, "mode", "produce", "what to do")
	flag.StringVar(&s.topic, "topic", "kbench", "topic, or with -topics what their names begin with")
	flag.StringVar(&s.protocol, "protocol", "kafka", "of -mode share and others with workers: kafka (share groups), grpc (weir.queue.v1), amqp (quorum queues) or redis (streams)")
	flag.StringVar(&s.grpc, "grpc", "", "of -protocol grpc: the broker's `host:port` for it")
	flag.IntVar(&s.workers, "workers", 4, "consumers that share what there is, each with a connection of its own")
	flag.IntVar(&s.prefetch, "prefetch", 500, "messages that a worker is given at a time, about")
	flag.IntVar(&s.bound, "bound", 0, "messages that the queues take at most; 0 for any number")
	flag.IntVar(&s.topics, "topics", 0, "how many topics, `topic`-0 and on; 0 for the one topic")
	flag.IntVar(&s.partitions, "partitions", 1, "partitions of each topic")
	flag.IntVar(&s.broker, "broker", 0, "the `id` of the broker that is to be drained or filled")
	flag.IntVar(&s.size, "size", 1024, "`bytes` of a record, at least 16; 0 for a mix from 100 bytes to 100 KiB")
	flag.Int64Var(&s.count, "count", 1_000_000, "records")
	flag.StringVar(&s.compression, "compression", "none", "none, lz4, zstd, snappy or gzip")
	flag.IntVar(&s.batch, "batch", 1_000_000, "`bytes` of a batch at most")
	flag.IntVar(&s.clients, "clients", 1, "producers, each with connections of its own")
	flag.IntVar(&s.groups, "groups", 10, "consumer groups of -mode fan-out, with one member each")
	flag.StringVar(&s.group, "group", "", "the `consumer group` that -mode consume reads as; none by default")
	flag.StringVar(&s.victim, "victim", "leader", "of -mode failover: a partition's leader, or quorum-leader: one that also leads the metadata's quorum")
	flag.StringVar(&s.sender, "sender", "", "of -mode failover: `program,argument` that sends in place of this one, as tests/bench/steady.py does")
	flag.DurationVar(&s.patience, "patience", 0, "of -mode failover: how long a client waits for a broker's answer; 0 for the client's default")
	flag.IntVar(&s.window, "window", 10_000, "records on their way at most, of all producers")
	flag.DurationVar(&s.linger, "linger", 0, "how long a batch waits for more records")
	flag.Float64Var(&s.rate, "rate", 1000, "records a second; of -mode throttle, bytes")
	flag.DurationVar(&s.warmup, "warmup", 4*time.Second, "not measured")
	flag.DurationVar(&s.duration, "duration", 15*time.Second, "measured")
	flag.DurationVar(&s.limit, "limit", 5*time.Minute, "give up after")
	flag.StringVar(&s.pids, "pids", "", "processes of the brokers, separated by commas, to report their CPU seconds and memory")
	flag.Parse()

	if s.size != 0 {
		s.size = max(s.size, stamp)
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.limit)
	defer cancel()
	result, err := run(ctx, s)
	if err != nil {
		fmt.Fprintf(os.Stderr, "kbench %s %s: %v\n", s.mode, s.topic, err)
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings) (answer, error) {
	mode, known := modes[s.mode]
	if !known {
		return nil, fmt.Errorf("no such mode")
	}
	return mode(ctx, s)
}

// Round keeps three digits after the point: more would pretend.
func round(value float64) float64 { return math.Round(value*1000) / 1000 }
