package main

import (
	"context"
	"strconv"

	"github.com/twmb/franz-go/pkg/kadm"
)

// Throttle bounds what each broker gives to replicas that are moved, and takes in of them (KIP-73), for all replicas of some topics.
func throttle(ctx context.Context, s settings) (answer, error) {
	client, err := connect(s)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	metadata, err := admin.Metadata(ctx)
	if err != nil {
		return nil, err
	}
	rate, all := strconv.FormatInt(int64(s.rate), 10), "*"
	rates := []kadm.AlterConfig{
		{Name: "leader.replication.throttled.rate", Value: &rate},
		{Name: "follower.replication.throttled.rate", Value: &rate},
	}
	replicas := []kadm.AlterConfig{
		{Name: "leader.replication.throttled.replicas", Value: &all},
		{Name: "follower.replication.throttled.replicas", Value: &all},
	}
	for _, broker := range metadata.Brokers.NodeIDs() {
		if err := altered(admin.AlterBrokerConfigs(ctx, rates, broker)); err != nil {
			return nil, err
		}
	}
	metadata.Topics.FilterInternal()
	return answer{}, altered(admin.AlterTopicConfigs(ctx, replicas, metadata.Topics.Names()...))
}

func altered(told kadm.AlterConfigsResponses, err error) error {
	for _, one := range told {
		if err == nil {
			err = one.Err
		}
	}
	return err
}
