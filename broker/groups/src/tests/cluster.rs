//! A cluster as tests want it.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;
use weir_wire::TopicId;

use crate::{Cluster, GroupSettings, TopicInfo};

/// Topics by name, and groups' settings. Made anew, with a greater revision, for each change.
#[derive(Clone, Debug, Default)]
pub(crate) struct TestCluster {
    revision: u64,
    made: u128,
    topics: BTreeMap<String, (TopicId, i32)>,
    settings: GroupSettings,
}

impl TestCluster {
    /// A topic comes, under a new id, or grows.
    pub(crate) fn with(mut self, name: &str, partitions: i32) -> Self {
        self.revision += 1;
        self.made += 1;
        let id = TopicId(Uuid::from_u128(self.made));
        self.topics
            .entry(name.to_owned())
            .or_insert((id, partitions))
            .1 = partitions;
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.revision += 1;
        self.topics.remove(name);
        self
    }

    pub(crate) fn with_settings(mut self, settings: GroupSettings) -> Self {
        self.revision += 1;
        self.settings = settings;
        self
    }

    pub(crate) fn topics(&self) -> impl Iterator<Item = (&str, TopicId, i32)> {
        self.topics
            .iter()
            .map(|(name, (id, count))| (name.as_str(), *id, *count))
    }
}

impl Cluster for TestCluster {
    fn revision(&self) -> u64 {
        self.revision
    }

    fn topic(&self, name: &str) -> Option<TopicInfo> {
        let (name, (id, partitions)) = self.topics.get_key_value(name)?;
        Some(TopicInfo {
            id: *id,
            name: name.as_str().into(),
            partitions: *partitions,
        })
    }

    fn topic_by_id(&self, id: TopicId) -> Option<TopicInfo> {
        let mut all = self.topics.iter();
        let (name, _) = all.find(|(_, (own, _))| *own == id)?;
        self.topic(name)
    }

    fn each_name(&self, each: &mut dyn FnMut(&str)) {
        self.topics.keys().for_each(|name| each(name));
    }

    fn racks(&self, _: TopicId, _: i32) -> Vec<Arc<str>> {
        Vec::new()
    }

    fn group_settings(&self, _: &str) -> GroupSettings {
        self.settings
    }
}
