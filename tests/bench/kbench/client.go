package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

var codecs = map[string]kgo.CompressionCodec{
	"none":   kgo.NoCompression(),
	"lz4":    kgo.Lz4Compression(),
	"zstd":   kgo.ZstdCompression(),
	"snappy": kgo.SnappyCompression(),
	"gzip":   kgo.GzipCompression(),
}

func connect(s settings, more ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(strings.Split(s.address, ",")...),
		kgo.MetadataMinAge(100 * time.Millisecond),
	}, more...)...)
}

// Producer is idempotent and waits for all replicas; it fills one partition's batch before it turns to the next.
func producer(s settings, more ...kgo.Opt) (*kgo.Client, error) {
	codec, known := codecs[s.compression]
	if !known {
		return nil, fmt.Errorf("no compression %q", s.compression)
	}
	return connect(s, append([]kgo.Opt{
		kgo.DefaultProduceTopic(s.topic),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerBatchCompression(codec),
		kgo.ProducerLinger(s.linger),
		kgo.ProducerBatchMaxBytes(int32(s.batch)),
		kgo.MaxBufferedRecords(s.window),
		kgo.RecordPartitioner(kgo.UniformBytesPartitioner(s.batch, true, true, nil)),
	}, more...)...)
}

// EnsureTopic makes the topic unless it is there, and waits until every partition of it serves.
func ensureTopic(ctx context.Context, client *kgo.Client, name string, partitions int) error {
	admin := kadm.NewClient(client)
	_, err := admin.CreateTopic(ctx, int32(partitions), -1, nil, name)
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return err
	}
	return untilServing(ctx, admin, partitions, name)
}

// UntilServing waits until the leaders of so many partitions answer for them; that metadata names a leader is not enough.
func untilServing(ctx context.Context, admin *kadm.Client, partitions int, names ...string) error {
	for {
		ends, err := admin.ListEndOffsets(ctx, names...)
		serving := 0
		ends.Each(func(end kadm.ListedOffset) {
			if end.Err == nil {
				serving++
			}
		})
		if serving >= partitions {
			return nil
		}
		if err != nil && !kerr.IsRetriable(err) {
			return err
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

// InSync waits until every replica of every partition is in sync, as the cluster's metadata has it.
func inSync(ctx context.Context, s settings) (answer, error) {
	client, err := connect(s)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	for {
		topics, err := admin.ListTopics(ctx, s.topic)
		if err != nil && !kerr.IsRetriable(err) {
			return nil, err
		}
		complete := len(topics[s.topic].Partitions) > 0
		for _, partition := range topics[s.topic].Partitions {
			complete = complete && partition.Leader >= 0 && len(partition.ISR) == len(partition.Replicas)
		}
		if complete {
			return answer{}, nil
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

func remove(ctx context.Context, s settings) (answer, error) {
	client, err := connect(s)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	_, err = kadm.NewClient(client).DeleteTopic(ctx, s.topic)
	return answer{}, err
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
