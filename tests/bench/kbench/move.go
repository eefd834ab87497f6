package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Drain moves every replica of one broker to the others, and waits until it holds none.
func drain(ctx context.Context, s settings) (answer, error) {
	return move(ctx, s, func(all placement, broker int32) {
		for _, partition := range all.partitions {
			if at := slices.Index(partition.replicas, broker); at >= 0 {
				all.replace(partition, at, all.leastLoaded(partition.replicas, broker))
			}
		}
	})
}

// Fill gives one broker as many replicas as the others have, and waits until it holds them.
func fill(ctx context.Context, s settings) (answer, error) {
	return move(ctx, s, func(all placement, broker int32) {
		share := 0
		for _, count := range all.counts {
			share += count
		}
		share /= len(all.counts)
		for _, partition := range all.partitions {
			if all.counts[broker] >= share || slices.Contains(partition.replicas, broker) {
				continue
			}
			at := all.mostLoaded(partition.replicas)
			if all.counts[partition.replicas[at]] > share {
				all.replace(partition, at, broker)
			}
		}
	})
}

// Replicas of all partitions, and how many each broker has.
type placement struct {
	partitions []*placed
	counts     map[int32]int
}

type placed struct {
	topic     string
	partition int32
	replicas  []int32
	moved     bool
}

func (p placement) replace(partition *placed, at int, broker int32) {
	p.counts[partition.replicas[at]]--
	p.counts[broker]++
	partition.replicas[at], partition.moved = broker, true
}

func (p placement) leastLoaded(replicas []int32, except int32) int32 {
	least := int32(-1)
	for broker, count := range p.counts {
		if broker == except || slices.Contains(replicas, broker) {
			continue
		}
		if least < 0 || count < p.counts[least] || count == p.counts[least] && broker < least {
			least = broker
		}
	}
	return least
}

func (p placement) mostLoaded(replicas []int32) int {
	most := 0
	for at, broker := range replicas {
		if p.counts[broker] > p.counts[replicas[most]] {
			most = at
		}
	}
	return most
}

func placements(ctx context.Context, admin *kadm.Client) (placement, error) {
	metadata, err := admin.Metadata(ctx)
	if err != nil {
		return placement{}, err
	}
	metadata.Topics.FilterInternal()
	all := placement{counts: map[int32]int{}}
	for _, broker := range metadata.Brokers {
		all.counts[broker.NodeID] = 0
	}
	for _, topic := range metadata.Topics.Sorted() {
		for _, partition := range topic.Partitions.Sorted() {
			all.partitions = append(all.partitions, &placed{topic.Topic, partition.Partition, slices.Clone(partition.Replicas), false})
			for _, broker := range partition.Replicas {
				all.counts[broker]++
			}
		}
	}
	return all, nil
}

// Move carries out a plan by reassignments. At half of them it says "steady BROKER": the one that leads the quorum.
func move(ctx context.Context, s settings, plan func(placement, int32)) (answer, error) {
	client, err := connect(s)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	admin, broker := kadm.NewClient(client), int32(s.broker)
	all, err := placements(ctx, admin)
	if err != nil {
		return nil, err
	}
	before, err := bytesOn(ctx, admin, broker)
	if err != nil {
		return nil, err
	}
	plan(all, broker)
	var wanted kadm.AlterPartitionAssignmentsReq
	moving, moves := kadm.TopicsSet{}, 0
	for _, partition := range all.partitions {
		if partition.moved {
			wanted.Assign(partition.topic, partition.partition, partition.replicas)
			moving.Add(partition.topic, partition.partition)
			moves++
		}
	}
	began := time.Now()
	told, err := admin.AlterPartitionAssignments(ctx, wanted)
	if err == nil {
		err = told.Error()
	}
	if err != nil {
		return nil, err
	}
	if err := untilMoved(ctx, client, moving, moves); err != nil {
		return nil, err
	}
	seconds := time.Since(began).Seconds()
	after, err := bytesOn(ctx, admin, broker)
	if err != nil {
		return nil, err
	}
	if err := untilPlaced(ctx, admin, all); err != nil {
		return nil, err
	}
	bytes := max(before, after)
	return answer{
		"moved_s": round(seconds), "moved_replicas": moves, "moved_mb": round(float64(bytes) / 1e6), "moved_mb_s": round(float64(bytes) / 1e6 / seconds),
	}, nil
}

// UntilMoved asks whoever answers: the broker that led the quorum may be killed meanwhile.
func untilMoved(ctx context.Context, client *kgo.Client, moving kadm.TopicsSet, moves int) error {
	admin := kadm.NewClient(client)
	halfway, said := false, time.Now()
	for {
		left := -1
		listed, err := admin.ListPartitionReassignments(ctx, moving)
		if err == nil {
			left = len(listed.Sorted())
		}
		if time.Since(said) > time.Second {
			fmt.Fprintf(os.Stderr, "%d of %d partitions are still moved (%v)\n", left, moves, err)
			said = time.Now()
		}
		if left >= 0 && left <= moves/2 && !halfway {
			if leader, err := quorumLeader(ctx, client); err == nil {
				fmt.Println("steady", leader)
				halfway = true
			}
		}
		if left == 0 {
			return nil
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return fmt.Errorf("%d of %d partitions were still moved: %w", left, moves, err)
		}
	}
}

// UntilPlaced waits until whoever is asked knows where all is: brokers hear of changes a moment after the controller.
func untilPlaced(ctx context.Context, admin *kadm.Client, wanted placement) error {
	for {
		now, err := placements(ctx, admin)
		var differs error
		for i, partition := range now.partitions {
			if want := wanted.partitions[i].replicas; !slices.Equal(partition.replicas, want) {
				differs = fmt.Errorf("%s-%d is on %v, wanted %v", partition.topic, partition.partition, partition.replicas, want)
			}
		}
		if err == nil && differs == nil {
			return nil
		}
		if waited := pause(ctx, 100*time.Millisecond); waited != nil {
			return errors.Join(waited, err, differs)
		}
	}
}

// BytesOn is how much one broker's replicas take.
func bytesOn(ctx context.Context, admin *kadm.Client, broker int32) (int64, error) {
	dirs, err := admin.DescribeBrokerLogDirs(ctx, broker, nil)
	if err != nil {
		return 0, err
	}
	if err := dirs.Error(); err != nil {
		return 0, err
	}
	return dirs.Size(), nil
}
