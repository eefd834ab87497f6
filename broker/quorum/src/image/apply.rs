//! How a batch of records makes the next image.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Broker, Image, Partition, Topic};
use crate::ids::{BrokerEpoch, BrokerId, ClusterId, LeaderEpoch, PartitionEpoch, TopicId};
use crate::record::{
    BrokerRegistered, ClientQuotaChanged, ConfigChanged, ConfigOf, PartitionsAdded, PartitionsSet,
    Record, TopicCreated,
};

/// A record that contradicts what is there. Committed records never do: a broker that meets one stops.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ApplyError {
    /// The record is about a topic that is not there.
    #[error("metadata names topic {0}, which does not exist")]
    NoTopic(TopicId),
    /// The record makes a topic that is there.
    #[error("metadata creates topic {0:?}, which exists")]
    TopicExists(String),
    /// The record is about a partition that is not there, or makes one out of turn.
    #[error("metadata names partition {1} of topic {0}, which has {2} partitions")]
    NoPartition(TopicId, i32, usize),
    /// The record is about a broker, or a registration, that is not there.
    #[error("metadata names registration {1} of broker {0}, which does not exist")]
    NoBroker(BrokerId, BrokerEpoch),
    /// A log of another cluster.
    #[error("metadata is of cluster {found}, and this is cluster {wanted}")]
    OtherCluster {
        /// What the image says.
        wanted: ClusterId,
        /// What the record says.
        found: ClusterId,
    },
}

impl Image {
    /// The image after the entry at `index`, which holds `records`.
    pub fn apply(&self, index: u64, records: &[Record]) -> Result<Image, ApplyError> {
        let mut next = self.clone();
        next.apply_in_place(index, records)?;
        Ok(next)
    }

    /// As [`apply`](Self::apply), on an image that is no one else's yet.
    pub(crate) fn apply_in_place(
        &mut self,
        index: u64,
        records: &[Record],
    ) -> Result<(), ApplyError> {
        self.index = index;
        if !records.is_empty() {
            self.revision = index;
        }
        records.iter().try_for_each(|record| self.apply_one(record))
    }

    /// The image that a snapshot's records make, as of the entry at `index`.
    pub fn from_snapshot(
        index: u64,
        revision: u64,
        records: &[Record],
    ) -> Result<Image, ApplyError> {
        let mut image = Image::default();
        image.apply_in_place(index, records)?;
        image.revision = revision;
        Ok(image)
    }

    fn apply_one(&mut self, record: &Record) -> Result<(), ApplyError> {
        match record {
            Record::ClusterFormed(formed) => match &self.cluster_id {
                Some(id) if *id != formed.cluster_id => {
                    return Err(ApplyError::OtherCluster {
                        wanted: id.clone(),
                        found: formed.cluster_id.clone(),
                    });
                }
                _ => self.cluster_id = Some(formed.cluster_id.clone()),
            },
            Record::FeatureLevel(feature) => self.feature_level = feature.level,
            Record::BrokerRegistered(registered) => self.register(registered),
            Record::BrokerFenced(fenced) => {
                self.registration(fenced.id, fenced.epoch)?.fenced = true
            }
            Record::BrokerUnfenced(unfenced) => {
                self.registration(unfenced.id, unfenced.epoch)?.fenced = false
            }
            Record::BrokerStopping(stopping) => {
                self.registration(stopping.id, stopping.epoch)?.stopping = true
            }
            Record::BrokerCordoned(cordoned) => {
                self.broker_mut(cordoned.id)?.cordoned = cordoned.cordoned
            }
            Record::BrokerDraining(draining) => {
                self.broker_mut(draining.id)?.draining = draining.draining
            }
            Record::Rebalancing(rebalancing) => self.is_rebalancing = rebalancing.active,
            Record::ReplicasWanted(wanted) => {
                self.topic_mut(wanted.topic)?.replicas_wanted = wanted.replicas;
            }
            Record::TopicCreated(created) => self.create_topic(created)?,
            Record::PartitionsAdded(added) => self.add_partitions(added)?,
            Record::PartitionsSet(set) => self.set_partitions(set)?,
            Record::TopicDeleted(deleted) => self.delete_topic(deleted.id)?,
            Record::ConfigChanged(changed) => self.change_config(changed)?,
            Record::ProducerIdsAllocated(allocated) => self.next_producer_id = allocated.next,
            Record::ClientQuotaChanged(changed) => self.change_quota(changed),
            Record::BrokerUnregistered(gone) => {
                self.registration(gone.id, gone.epoch)?;
                Arc::make_mut(&mut self.brokers).remove(&gone.id);
                Arc::make_mut(&mut self.broker_configs).remove(&gone.id);
            }
        }
        Ok(())
    }

    fn register(&mut self, registered: &BrokerRegistered) {
        let broker = Broker {
            id: registered.id,
            incarnation: registered.incarnation,
            epoch: registered.epoch.unwrap_or(BrokerEpoch(self.index)),
            kafka: registered.kafka.clone(),
            quorum_address: registered.quorum_address.clone(),
            rack: registered.rack.clone(),
            version: registered.version.clone(),
            fenced: true,
            cordoned: registered.cordoned,
            draining: registered.draining,
            stopping: false,
        };
        Arc::make_mut(&mut self.brokers).insert(registered.id, Arc::new(broker));
    }

    fn registration(
        &mut self,
        id: BrokerId,
        epoch: BrokerEpoch,
    ) -> Result<&mut Broker, ApplyError> {
        match Arc::make_mut(&mut self.brokers).get_mut(&id) {
            Some(broker) if broker.epoch == epoch => Ok(Arc::make_mut(broker)),
            _ => Err(ApplyError::NoBroker(id, epoch)),
        }
    }

    fn broker_mut(&mut self, id: BrokerId) -> Result<&mut Broker, ApplyError> {
        let broker = Arc::make_mut(&mut self.brokers).get_mut(&id);
        broker
            .map(Arc::make_mut)
            .ok_or(ApplyError::NoBroker(id, BrokerEpoch(0)))
    }

    fn create_topic(&mut self, created: &TopicCreated) -> Result<(), ApplyError> {
        if self.topics.contains_key(created.name.as_str())
            || self.topic_names.contains_key(&created.id)
        {
            return Err(ApplyError::TopicExists(created.name.clone()));
        }
        let name: Arc<str> = created.name.as_str().into();
        let topic = Topic {
            name: name.clone(),
            id: created.id,
            config: created.config.clone(),
            replicas_wanted: None,
            partitions: Vec::new(),
        };
        Arc::make_mut(&mut self.topics).insert(name.clone(), Arc::new(topic));
        Arc::make_mut(&mut self.topic_names).insert(created.id, name);
        Ok(())
    }

    fn topic_mut(&mut self, id: TopicId) -> Result<&mut Topic, ApplyError> {
        let name = self.topic_names.get(&id).ok_or(ApplyError::NoTopic(id))?;
        let topic = Arc::make_mut(&mut self.topics)
            .get_mut(name)
            .ok_or(ApplyError::NoTopic(id))?;
        Ok(Arc::make_mut(topic))
    }

    fn add_partitions(&mut self, added: &PartitionsAdded) -> Result<(), ApplyError> {
        let topic = self.topic_mut(added.topic)?;
        let count = topic.partitions.len();
        if usize::try_from(added.first) != Ok(count) || added.leaders.len() != added.replicas.len()
        {
            return Err(ApplyError::NoPartition(added.topic, added.first, count));
        }
        topic
            .partitions
            .extend(
                added
                    .replicas
                    .iter()
                    .zip(&added.leaders)
                    .map(|(replicas, leader)| {
                        Arc::new(Partition {
                            replicas: replicas.clone(),
                            isr: replicas.clone(),
                            leader: *leader,
                            leader_epoch: LeaderEpoch(0),
                            epoch: PartitionEpoch(0),
                            elr: Vec::new(),
                            last_known: Vec::new(),
                            adding: Vec::new(),
                            removing: Vec::new(),
                            unclean: None,
                        })
                    }),
            );
        Ok(())
    }

    fn set_partitions(&mut self, set: &PartitionsSet) -> Result<(), ApplyError> {
        let topic = self.topic_mut(set.topic)?;
        for state in &set.partitions {
            let partition = Arc::new(Partition::from_state(state));
            let (at, count) = (usize::try_from(state.index), topic.partitions.len());
            match at {
                Ok(at) if at < count => topic.partitions[at] = partition,
                Ok(at) if at == count => topic.partitions.push(partition),
                _ => return Err(ApplyError::NoPartition(set.topic, state.index, count)),
            }
        }
        Ok(())
    }

    fn delete_topic(&mut self, id: TopicId) -> Result<(), ApplyError> {
        let name = Arc::make_mut(&mut self.topic_names)
            .remove(&id)
            .ok_or(ApplyError::NoTopic(id))?;
        Arc::make_mut(&mut self.topics).remove(&name);
        Ok(())
    }

    fn change_quota(&mut self, changed: &ClientQuotaChanged) {
        let all = Arc::make_mut(&mut self.client_quotas);
        let quotas = all.entry(changed.entity.clone()).or_default();
        match changed.value {
            Some(value) => {
                quotas.insert(changed.key.clone(), value);
            }
            None => {
                quotas.remove(&changed.key);
            }
        }
        if quotas.is_empty() {
            all.remove(&changed.entity);
        }
    }

    fn change_config(&mut self, changed: &ConfigChanged) -> Result<(), ApplyError> {
        match &changed.of {
            ConfigOf::Topic(id) => change(&mut self.topic_mut(*id)?.config, changed),
            ConfigOf::Cluster => change(Arc::make_mut(&mut self.cluster_config), changed),
            ConfigOf::Broker(id) => {
                change_one(Arc::make_mut(&mut self.broker_configs), id, changed);
            }
            ConfigOf::Group(id) => {
                change_one(Arc::make_mut(&mut self.group_configs), id, changed);
            }
            ConfigOf::ClientMetrics(name) => {
                change_one(
                    Arc::make_mut(&mut self.client_metrics_configs),
                    name,
                    changed,
                );
            }
        }
        Ok(())
    }
}

fn change(config: &mut BTreeMap<String, String>, changed: &ConfigChanged) {
    match &changed.value {
        Some(value) => {
            config.insert(changed.key.clone(), value.clone());
        }
        None => {
            config.remove(&changed.key);
        }
    }
}

/// Changes the configuration of one of many; one for which nothing is set is not kept.
fn change_one<K: Ord + Clone>(
    configs: &mut BTreeMap<K, BTreeMap<String, String>>,
    of: &K,
    changed: &ConfigChanged,
) {
    let config = configs.entry(of.clone()).or_default();
    change(config, changed);
    if config.is_empty() {
        configs.remove(of);
    }
}
