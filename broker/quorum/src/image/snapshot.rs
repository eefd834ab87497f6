//! The records that make an image from nothing: what a snapshot holds.

use super::Image;
use crate::record::{
    BrokerRegistered, BrokerStopping, BrokerUnfenced, ClientQuotaChanged, ClusterFormed,
    ConfigChanged, ConfigOf, FeatureLevel, PartitionsSet, ProducerIdsAllocated, Rebalancing,
    Record, ReplicasWanted, TopicCreated,
};

impl Image {
    /// Records that make this image from nothing ([`Image::from_snapshot`]).
    pub fn snapshot(&self) -> Vec<Record> {
        let mut records = Vec::with_capacity(2 * (self.brokers.len() + self.topics.len()) + 8);
        if let Some(cluster_id) = &self.cluster_id {
            records.push(Record::ClusterFormed(ClusterFormed {
                cluster_id: cluster_id.clone(),
            }));
        }
        if self.feature_level != 0 {
            records.push(Record::FeatureLevel(FeatureLevel {
                level: self.feature_level,
            }));
        }
        if self.next_producer_id != 0 {
            // Who got the last block is not kept: it matters to no one later.
            records.push(Record::ProducerIdsAllocated(ProducerIdsAllocated {
                broker: Default::default(),
                next: self.next_producer_id,
            }));
        }
        if self.is_rebalancing {
            records.push(Record::Rebalancing(Rebalancing { active: true }));
        }
        self.snapshot_brokers(&mut records);
        self.snapshot_configs(&mut records);
        self.snapshot_quotas(&mut records);
        self.snapshot_topics(&mut records);
        records
    }

    fn snapshot_brokers(&self, records: &mut Vec<Record>) {
        for broker in self.brokers.values() {
            records.push(Record::BrokerRegistered(BrokerRegistered {
                id: broker.id,
                incarnation: broker.incarnation,
                kafka: broker.kafka.clone(),
                quorum_address: broker.quorum_address.clone(),
                rack: broker.rack.clone(),
                version: broker.version.clone(),
                epoch: Some(broker.epoch),
                cordoned: broker.cordoned,
                draining: broker.draining,
            }));
            if !broker.fenced {
                records.push(Record::BrokerUnfenced(BrokerUnfenced {
                    id: broker.id,
                    epoch: broker.epoch,
                }));
            }
            if broker.stopping {
                records.push(Record::BrokerStopping(BrokerStopping {
                    id: broker.id,
                    epoch: broker.epoch,
                }));
            }
        }
    }

    fn snapshot_configs(&self, records: &mut Vec<Record>) {
        let mut push = |of: &ConfigOf, key: &String, value: &String| {
            records.push(Record::ConfigChanged(ConfigChanged {
                of: of.clone(),
                key: key.clone(),
                value: Some(value.clone()),
            }));
        };
        for (key, value) in self.cluster_config.iter() {
            push(&ConfigOf::Cluster, key, value);
        }
        for (id, config) in self.broker_configs.iter() {
            for (key, value) in config {
                push(&ConfigOf::Broker(*id), key, value);
            }
        }
        for (group, config) in self.group_configs.iter() {
            for (key, value) in config {
                push(&ConfigOf::Group(group.clone()), key, value);
            }
        }
        for (name, config) in self.client_metrics_configs.iter() {
            for (key, value) in config {
                push(&ConfigOf::ClientMetrics(name.clone()), key, value);
            }
        }
    }

    fn snapshot_quotas(&self, records: &mut Vec<Record>) {
        for (entity, quotas) in self.client_quotas.iter() {
            for (key, value) in quotas {
                records.push(Record::ClientQuotaChanged(ClientQuotaChanged {
                    entity: entity.clone(),
                    key: key.clone(),
                    value: Some(*value),
                }));
            }
        }
    }

    fn snapshot_topics(&self, records: &mut Vec<Record>) {
        for topic in self.topics.values() {
            records.push(Record::TopicCreated(TopicCreated {
                name: topic.name.to_string(),
                id: topic.id,
                config: topic.config.clone(),
            }));
            if let Some(replicas) = topic.replicas_wanted {
                records.push(Record::ReplicasWanted(ReplicasWanted {
                    topic: topic.id,
                    replicas: Some(replicas),
                }));
            }
            if !topic.partitions.is_empty() {
                let partitions = (0..).zip(&topic.partitions);
                records.push(Record::PartitionsSet(PartitionsSet {
                    topic: topic.id,
                    partitions: partitions
                        .map(|(index, partition)| partition.to_state(index))
                        .collect(),
                }));
            }
        }
    }
}
