// franz-go, doing what it is told: puppet BOOTSTRAP. Orders and answers are those of every language: tests/src/puppet.rs.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// An order, with all the words that any of them has.
type order struct {
	ID         int64    `json:"id"`
	Do         string   `json:"do"`
	As         string   `json:"as"`
	Topic      string   `json:"topic"`
	Topics     []string `json:"topics"`
	Group      string   `json:"group"`
	Partitions int32    `json:"partitions"`
	Isolation  string   `json:"isolation"`
	Credit     int32    `json:"credit"`
	Ms         int64    `json:"ms"`
	Single     bool     `json:"single"`
	Records    []record `json:"records"`
}

// A record, to be sent, as it was read, or to be settled.
type record struct {
	Topic      string            `json:"topic,omitempty"`
	Partition  *int32            `json:"partition,omitempty"`
	Offset     int64             `json:"offset"`
	Key        *string           `json:"key"`
	Value      *string           `json:"value"`
	Headers    map[string]string `json:"headers"`
	Timestamp  int64             `json:"timestamp,omitempty"`
	Deliveries int32             `json:"deliveries"`
	At         int64             `json:"at"`
	Kind       string            `json:"kind,omitempty"`
}

type answer map[string]any

// puppet has the clients by the names that orders give them.
type puppet struct {
	bootstrap []string
	turn      sync.Mutex
	producers map[string]*kgo.Client
	readers   map[string]*kgo.Client
	sharers   map[string]*sharer
}

func main() {
	p := &puppet{
		bootstrap: strings.Split(os.Args[1], ","),
		producers: map[string]*kgo.Client{},
		readers:   map[string]*kgo.Client{},
		sharers:   map[string]*sharer{},
	}
	works := map[string]func(order) (answer, error){
		"produce":      p.produce,
		"read-open":    p.readOpen,
		"read-poll":    p.readPoll,
		"read-close":   p.readClose,
		"share-open":   p.shareOpen,
		"share-poll":   p.sharePoll,
		"share-settle": p.shareSettle,
		"share-close":  p.shareClose,
	}
	var turn sync.Mutex
	out := json.NewEncoder(os.Stdout)
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var one order
		if err := json.Unmarshal(lines.Bytes(), &one); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		go func() {
			said, err := works[one.Do](one)
			if err != nil {
				said = answer{"failed": err.Error()}
			}
			said["id"] = one.ID
			turn.Lock()
			defer turn.Unlock()
			out.Encode(said)
		}()
	}
}

// client has the patience of clients whose brokers are killed, and looks elsewhere within seconds.
func (p *puppet) client(more ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(p.bootstrap...),
		kgo.ProduceRequestTimeout(1500 * time.Millisecond),
		kgo.RequestTimeoutOverhead(time.Second),
		kgo.DialTimeout(time.Second),
		kgo.MetadataMinAge(250 * time.Millisecond),
		kgo.FetchMaxWait(500 * time.Millisecond),
	}, more...)...)
}

func (p *puppet) produce(o order) (answer, error) {
	p.turn.Lock()
	client := p.producers[o.As]
	if client == nil {
		var err error
		client, err = p.client(kgo.RecordPartitioner(chosen{kgo.StickyKeyPartitioner(nil)}), kgo.ProducerLinger(0))
		if err != nil {
			p.turn.Unlock()
			return nil, err
		}
		p.producers[o.As] = client
	}
	p.turn.Unlock()
	results := make([]answer, len(o.Records))
	var sent sync.WaitGroup
	for at, one := range o.Records {
		sent.Add(1)
		client.Produce(context.Background(), one.toSend(o.Topic), func(there *kgo.Record, err error) {
			defer sent.Done()
			if err != nil {
				results[at] = answer{"error": strings.SplitN(err.Error(), ":", 2)[0], "message": err.Error()}
				return
			}
			results[at] = answer{"partition": there.Partition, "offset": there.Offset}
		})
		if o.Single {
			sent.Wait()
		}
	}
	sent.Wait()
	return answer{"results": results}, nil
}

func (p *puppet) readOpen(o order) (answer, error) {
	isolation := kgo.ReadCommitted()
	if o.Isolation == "read_uncommitted" {
		isolation = kgo.ReadUncommitted()
	}
	client, err := p.client(kgo.ConsumeTopics(o.Topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(isolation))
	if err != nil {
		return nil, err
	}
	p.turn.Lock()
	defer p.turn.Unlock()
	p.readers[o.As] = client
	return answer{}, nil
}

func (p *puppet) readPoll(o order) (answer, error) {
	p.turn.Lock()
	client := p.readers[o.As]
	p.turn.Unlock()
	records, err := poll(client, o.Ms)
	return answer{"records": told(records)}, err
}

func (p *puppet) readClose(o order) (answer, error) {
	p.turn.Lock()
	client := p.readers[o.As]
	delete(p.readers, o.As)
	p.turn.Unlock()
	client.Close()
	return answer{}, nil
}

// poll takes what comes within so many milliseconds. What a client tries again by itself is no error.
func poll(client *kgo.Client, ms int64) ([]*kgo.Record, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(ms)*time.Millisecond)
	defer cancel()
	fetches := client.PollFetches(ctx)
	for _, failed := range fetches.Errors() {
		if ctx.Err() == nil {
			fmt.Fprintf(os.Stderr, "%s %d: %v\n", failed.Topic, failed.Partition, failed.Err)
		}
	}
	return fetches.Records(), nil
}
