//! The image: the whole of the cluster's metadata as of one entry of the log.
//!
//! An image never changes. The next one is derived from it and a batch of records ([`Image::apply`]) and shares with it
//! all that the batch did not touch, so that a batch costs one copy of the maps it touches, not of what they hold.
//! Iteration is in the order of keys everywhere: two brokers that applied the same records see the same image.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ids::{
    BrokerEpoch, BrokerId, ClusterId, Incarnation, LeaderEpoch, PartitionEpoch, TopicId,
};
use crate::quotas::ClientQuotas;
use crate::record::{HostPort, PartitionState};

mod apply;
mod snapshot;
#[cfg(test)]
mod tests;

pub use apply::ApplyError;

/// The cluster's metadata as of one entry of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    index: u64,
    revision: u64,
    cluster_id: Option<ClusterId>,
    feature_level: u32,
    next_producer_id: i64,
    is_rebalancing: bool,
    brokers: Arc<BTreeMap<BrokerId, Arc<Broker>>>,
    topics: Arc<BTreeMap<Arc<str>, Arc<Topic>>>,
    topic_names: Arc<BTreeMap<TopicId, Arc<str>>>,
    broker_configs: Arc<BTreeMap<BrokerId, BTreeMap<String, String>>>,
    cluster_config: Arc<BTreeMap<String, String>>,
    group_configs: Arc<BTreeMap<String, BTreeMap<String, String>>>,
    client_metrics_configs: Arc<BTreeMap<String, BTreeMap<String, String>>>,
    client_quotas: Arc<ClientQuotas>,
}

/// A broker that has registered once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// The broker.
    pub id: BrokerId,
    /// Its disk.
    pub incarnation: Incarnation,
    /// Its registration.
    pub epoch: BrokerEpoch,
    /// Where clients reach it.
    pub kafka: HostPort,
    /// Where other brokers and the operator reach it, host:port.
    pub quorum_address: String,
    /// The failure domain that it stands in.
    pub rack: Option<String>,
    /// The version of its software.
    pub version: String,
    /// Whether it is away or not ready: a fenced broker leads nothing and is not shown to clients.
    pub fenced: bool,
    /// Whether it gets no new replicas.
    pub cordoned: bool,
    /// Whether its replicas go to others: it is about to leave the cluster. It is cordoned then.
    pub draining: bool,
    /// Whether it is about to stop: it leads only what nobody else can.
    pub stopping: bool,
}

impl Broker {
    /// Whether it may be given something to lead.
    pub fn can_lead(&self) -> bool {
        !self.fenced && !self.stopping
    }
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: Arc<str>,
    /// Its id: a topic made anew has another.
    pub id: TopicId,
    /// What differs from the cluster's defaults.
    pub config: BTreeMap<String, String>,
    /// How many replicas its partitions are to have, where that is being changed.
    pub replicas_wanted: Option<u32>,
    /// Its partitions; a partition's index is its place here.
    pub partitions: Vec<Arc<Partition>>,
}

impl Topic {
    /// A topic that there is not, with one partition of so many replicas: for what its configuration comes to.
    pub fn imagined(name: &str, config: BTreeMap<String, String>, replicas: i32) -> Self {
        let replicas: Vec<BrokerId> = (0..replicas).map(BrokerId).collect();
        let partition = Partition {
            isr: replicas.clone(),
            leader: replicas.first().copied(),
            replicas,
            leader_epoch: LeaderEpoch(0),
            epoch: PartitionEpoch(0),
            elr: Vec::new(),
            last_known: Vec::new(),
            adding: Vec::new(),
            removing: Vec::new(),
            unclean: None,
        };
        Self {
            name: name.into(),
            id: TopicId::default(),
            config,
            replicas_wanted: None,
            partitions: vec![Arc::new(partition)],
        }
    }

    /// The partition of this index.
    pub fn partition(&self, index: i32) -> Option<&Arc<Partition>> {
        self.partitions.get(usize::try_from(index).ok()?)
    }

    /// How many replicas its partitions have: those of the first, as Kafka's tools report it.
    pub fn replication_factor(&self) -> usize {
        self.partitions
            .first()
            .map_or(0, |partition| partition.replicas.len())
    }

    /// Whether it is the brokers' own (`__consumer_offsets` and its like).
    pub fn is_internal(&self) -> bool {
        crate::topics::is_internal(&self.name)
    }
}

/// One partition's metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// The brokers that hold it, the preferred leader first.
    pub replicas: Vec<BrokerId>,
    /// Those of them that hold everything acknowledged.
    pub isr: Vec<BrokerId>,
    /// The leader, if there is one.
    pub leader: Option<BrokerId>,
    /// Counts leaders.
    pub leader_epoch: LeaderEpoch,
    /// Counts changes.
    pub epoch: PartitionEpoch,
    /// Replicas outside the in-sync set that may be elected all the same (KIP-966).
    pub elr: Vec<BrokerId>,
    /// Replicas that may hold as much, though not for certain: when nobody may be elected, the one with the most may be chosen.
    pub last_known: Vec<BrokerId>,
    /// Replicas that a reassignment adds; they are among `replicas`.
    pub adding: Vec<BrokerId>,
    /// Replicas that go when those have everything; they are among `replicas`.
    pub removing: Vec<BrokerId>,
    /// The last epoch whose leader was elected at the price of what it lacked: what others have from before it, also what was
    /// acknowledged, is given up where that leader does not have it.
    pub unclean: Option<LeaderEpoch>,
}

impl Partition {
    /// The replicas that it is to have: without those that are on their way out.
    pub fn target(&self) -> impl Iterator<Item = BrokerId> {
        let staying = |id: &BrokerId| !self.removing.contains(id);
        self.replicas.iter().copied().filter(staying)
    }

    /// The replicas that it had before those came that a reassignment adds.
    pub fn stable(&self) -> impl Iterator<Item = BrokerId> {
        let settled = |id: &BrokerId| !self.adding.contains(id);
        self.replicas.iter().copied().filter(settled)
    }

    /// Whether the controller counts on nothing being acknowledged: who left the in-sync set since it fell below its minimum
    /// may still be elected. A leader heeds this whatever minimum its own configuration has, which may be another than the
    /// controller's while a file is being changed.
    pub fn is_below_minimum(&self) -> bool {
        !self.elr.is_empty()
    }

    /// Whether replicas are being moved.
    pub fn is_reassigning(&self) -> bool {
        !self.adding.is_empty() || !self.removing.is_empty()
    }

    /// As a record has it.
    pub(crate) fn to_state(&self, index: i32) -> PartitionState {
        PartitionState {
            index,
            replicas: self.replicas.clone(),
            isr: self.isr.clone(),
            leader: self.leader,
            leader_epoch: self.leader_epoch,
            epoch: self.epoch,
            elr: self.elr.clone(),
            last_known: self.last_known.clone(),
            adding: self.adding.clone(),
            removing: self.removing.clone(),
            unclean: self.unclean,
        }
    }

    pub(crate) fn from_state(state: &PartitionState) -> Self {
        Self {
            replicas: state.replicas.clone(),
            isr: state.isr.clone(),
            leader: state.leader,
            leader_epoch: state.leader_epoch,
            epoch: state.epoch,
            elr: state.elr.clone(),
            last_known: state.last_known.clone(),
            adding: state.adding.clone(),
            removing: state.removing.clone(),
            unclean: state.unclean,
        }
    }
}

impl Image {
    /// The index of the last entry of the log that is in here.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The index of the last entry that changed anything here. A decision made on this image holds as long as this is
    /// the newest image's revision.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The cluster's id; `None` before the cluster's first record was applied.
    pub fn cluster_id(&self) -> Option<&ClusterId> {
        self.cluster_id.as_ref()
    }

    /// The features that all brokers may use.
    pub fn feature_level(&self) -> u32 {
        self.feature_level
    }

    /// The first producer id that no broker has been given.
    pub fn next_producer_id(&self) -> i64 {
        self.next_producer_id
    }

    /// Whether replicas are being spread evenly over the brokers.
    pub fn is_rebalancing(&self) -> bool {
        self.is_rebalancing
    }

    /// A broker that has registered, alive or not.
    pub fn broker(&self, id: BrokerId) -> Option<&Arc<Broker>> {
        self.brokers.get(&id)
    }

    /// All brokers that have registered, alive or not, by id.
    pub fn brokers(&self) -> impl ExactSizeIterator<Item = &Arc<Broker>> {
        self.brokers.values()
    }

    /// The same as before until one of them changes.
    pub fn broker_map(&self) -> &Arc<BTreeMap<BrokerId, Arc<Broker>>> {
        &self.brokers
    }

    /// The brokers that are not fenced, by id.
    pub fn live_brokers(&self) -> impl Iterator<Item = &Arc<Broker>> {
        self.brokers.values().filter(|broker| !broker.fenced)
    }

    /// A topic by its name.
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(name)
    }

    /// A topic by its id.
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.topics.get(self.topic_names.get(&id)?)
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = &Arc<Topic>> {
        self.topics.values()
    }

    /// How many partitions there are, over all topics.
    pub fn partition_count(&self) -> usize {
        self.topics
            .values()
            .map(|topic| topic.partitions.len())
            .sum()
    }

    /// One partition by its topic's name.
    pub fn partition(&self, topic: &str, index: i32) -> Option<&Arc<Partition>> {
        self.topic(topic)?.partition(index)
    }

    /// The partitions that a broker leads, by topic and index. Looks at every partition.
    pub fn partitions_led_by(
        &self,
        broker: BrokerId,
    ) -> impl Iterator<Item = (&Arc<Topic>, i32, &Arc<Partition>)> {
        self.partitions()
            .filter(move |(_, _, partition)| partition.leader == Some(broker))
    }

    /// The partitions that a broker holds a replica of, by topic and index. Looks at every partition.
    pub fn partitions_on(
        &self,
        broker: BrokerId,
    ) -> impl Iterator<Item = (&Arc<Topic>, i32, &Arc<Partition>)> {
        self.partitions()
            .filter(move |(_, _, partition)| partition.replicas.contains(&broker))
    }

    /// All partitions, by topic and index.
    pub fn partitions(&self) -> impl Iterator<Item = (&Arc<Topic>, i32, &Arc<Partition>)> {
        self.topics.values().flat_map(|topic| {
            (0..)
                .zip(&topic.partitions)
                .map(move |(index, partition)| (topic, index, partition))
        })
    }

    /// What was set for all brokers.
    pub fn cluster_config(&self) -> &BTreeMap<String, String> {
        &self.cluster_config
    }

    /// What was set for one broker.
    pub fn broker_config(&self, id: BrokerId) -> Option<&BTreeMap<String, String>> {
        self.broker_configs.get(&id)
    }

    /// The quotas of all clients that have any.
    pub fn client_quotas(&self) -> &Arc<ClientQuotas> {
        &self.client_quotas
    }

    /// What was set for a group.
    pub fn group_config(&self, group: &str) -> Option<&BTreeMap<String, String>> {
        self.group_configs.get(group)
    }

    /// The groups for which something was set, by id.
    pub fn configured_groups(&self) -> impl ExactSizeIterator<Item = &String> {
        self.group_configs.keys()
    }

    /// What was set for a client metrics subscription.
    pub fn client_metrics_config(&self, subscription: &str) -> Option<&BTreeMap<String, String>> {
        self.client_metrics_configs.get(subscription)
    }

    /// What was set for all client metrics subscriptions; the same as before until one of them changes.
    pub fn client_metrics_configs(&self) -> &Arc<BTreeMap<String, BTreeMap<String, String>>> {
        &self.client_metrics_configs
    }

    /// The client metrics subscriptions, by name.
    pub fn client_metrics_subscriptions(
        &self,
    ) -> impl ExactSizeIterator<Item = (&String, &BTreeMap<String, String>)> {
        self.client_metrics_configs.iter()
    }
}
