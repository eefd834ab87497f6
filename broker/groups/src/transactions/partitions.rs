//! The partitions of one transaction.

use std::collections::{BTreeMap, BTreeSet};

use weir_wire::PartitionIndex;

/// Bytes that a topic takes when it is stored, besides its name: two lengths and its tagged fields, at most.
const TOPIC_OVERHEAD: usize = 9;
/// Bytes that a partition takes when it is stored.
const PARTITION_BYTES: usize = 4;

/// A set of partitions, by topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionSet {
    topics: BTreeMap<String, BTreeSet<PartitionIndex>>,
    bytes: usize,
}

impl PartitionSet {
    /// Adds a partition.
    pub fn insert(&mut self, topic: &str, partition: PartitionIndex) {
        if !self.topics.contains_key(topic) {
            self.topics.insert(topic.to_owned(), BTreeSet::new());
            self.bytes += topic.len() + TOPIC_OVERHEAD;
        }
        if self
            .topics
            .get_mut(topic)
            .is_some_and(|partitions| partitions.insert(partition))
        {
            self.bytes += PARTITION_BYTES;
        }
    }

    /// Whether a partition is in it.
    #[must_use]
    pub fn contains(&self, topic: &str, partition: PartitionIndex) -> bool {
        self.topics
            .get(topic)
            .is_some_and(|partitions| partitions.contains(&partition))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, PartitionIndex)> {
        self.topics().flat_map(|(topic, partitions)| {
            partitions.iter().map(move |partition| (topic, *partition))
        })
    }

    /// Topics with their partitions, in order.
    pub fn topics(&self) -> impl Iterator<Item = (&str, &BTreeSet<PartitionIndex>)> {
        self.topics
            .iter()
            .map(|(topic, partitions)| (topic.as_str(), partitions))
    }

    /// About how many bytes they take when they are stored.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn contains_all(&self, others: &Self) -> bool {
        others
            .iter()
            .all(|(topic, partition)| self.contains(topic, partition))
    }

    pub(crate) fn union(&self, others: &Self) -> Self {
        let mut all = self.clone();
        for (topic, partition) in others.iter() {
            all.insert(topic, partition);
        }
        all
    }
}

impl<T: AsRef<str>> FromIterator<(T, PartitionIndex)> for PartitionSet {
    fn from_iter<I: IntoIterator<Item = (T, PartitionIndex)>>(partitions: I) -> Self {
        let mut set = Self::default();
        for (topic, partition) in partitions {
            set.insert(topic.as_ref(), partition);
        }
        set
    }
}
