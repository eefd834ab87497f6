// An idempotent producer on franz-go: load BOOTSTRAP TOPIC numbered|keyed. Orders and lines are those of producer.py.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Messages that are known by their number, as the tests know them too (tests/src/numbered.rs).
var filler = strings.Repeat("x", 100)

func numbered(number uint64) (key, value []byte) {
	return fmt.Appendf(nil, "k%d", number%997), fmt.Appendf(nil, "%d %s", number, filler[:number%100])
}

// keyed writes few keys over and over, and deletes one in eight times.
func keyed(number uint64) (key, value []byte) {
	mixed := (number + 1) * 0x9e3779b97f4a7c15 >> 40
	key = fmt.Appendf(nil, "k%d", mixed%400)
	if mixed/400%8 == 0 {
		return key, nil
	}
	return key, fmt.Appendf(nil, "%d %s", number, filler[:number%100])
}

func main() {
	bootstrap, topic, message := os.Args[1], os.Args[2], numbered
	if os.Args[3] == "keyed" {
		message = keyed
	}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(bootstrap, ",")...),
		kgo.DefaultProduceTopic(topic),
		kgo.ClientID("franz-go-producer"),
		kgo.ProducerLinger(time.Millisecond),
		// Brokers are frozen and cut off here, and a client is to look elsewhere within seconds.
		kgo.ProduceRequestTimeout(1500*time.Millisecond),
		kgo.RequestTimeoutOverhead(time.Second),
		kgo.DialTimeout(time.Second),
		kgo.MetadataMinAge(250*time.Millisecond),
		// A produce request that nobody answers has it try the same broker again, without asking who leads now.
		kgo.MetadataMaxAge(2*time.Second),
		// A broker that is killed before it answers once on a connection is no wrong configuration.
		kgo.AlwaysRetryEOF(),
		// What is led by a broker that is cut off must not hold up the rest.
		kgo.MaxBufferedRecords(100_000),
	)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var turn sync.Mutex
	out := bufio.NewWriter(os.Stdout)
	say := func(format string, words ...any) {
		turn.Lock()
		defer turn.Unlock()
		fmt.Fprintf(out, format+"\n", words...)
	}
	flush := func() {
		turn.Lock()
		defer turn.Unlock()
		out.Flush()
	}
	orders := make(chan string)
	go func() {
		lines := bufio.NewScanner(os.Stdin)
		for lines.Scan() {
			orders <- lines.Text()
		}
		orders <- "stop"
	}()

	var sent uint64
	var allowed, rate float64
	since := time.Now()
	tick := time.NewTicker(5 * time.Millisecond)
	for stopped := false; !stopped; {
		select {
		case order := <-orders:
			if order == "stop" {
				stopped = true
			} else {
				fmt.Sscanf(order, "rate %f", &rate)
				since = time.Now()
			}
			continue
		case <-tick.C:
		}
		now := time.Now()
		// At most a second's worth of what could not be sent while brokers were away is made up for.
		allowed = min(allowed+rate*now.Sub(since).Seconds(), float64(sent)+rate)
		since = now
		for ; float64(sent)+1 <= allowed; sent++ {
			number := sent
			key, value := message(number)
			client.Produce(context.Background(), &kgo.Record{Key: key, Value: value}, func(record *kgo.Record, err error) {
				if err != nil {
					fmt.Fprintf(os.Stderr, "message %d failed: %v\n", number, err)
					os.Exit(1)
				}
				say("%d %d %d", number, record.Partition, record.Offset)
			})
		}
		flush()
	}
	if err := client.Flush(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	say("sent %d", sent)
	flush()
}
