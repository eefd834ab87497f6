//! Somebody who makes and deletes topics, and looks at what the brokers say of the cluster.

use std::collections::BTreeMap;

use weir_wire::MessageView;
use weir_wire::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use weir_wire::messages::delete_topics_request::DeleteTopicState;
use weir_wire::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use weir_wire::messages::{
    CreateTopicsRequest, CreateTopicsResponseView, DeleteTopicsRequest, DeleteTopicsResponseView,
    ErrorCode, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponseView,
};

use super::{Client, Unanswered};
use crate::history::Shared;

/// Makes and deletes topics that nobody else uses.
#[derive(Debug)]
pub struct Admin {
    client: Client,
    history: Shared,
}

impl Admin {
    /// Somebody with nothing to do yet.
    #[must_use]
    pub fn new(client: Client, history: Shared) -> Self {
        Self { client, history }
    }

    /// Makes a topic, however long it takes.
    pub async fn create(&mut self, name: &str, partitions: i32, configs: &[(&str, String)]) {
        while !self.create_once(name, partitions, configs).await {
            self.client.pause().await;
        }
    }

    async fn create_once(
        &mut self,
        name: &str,
        partitions: i32,
        configs: &[(&str, String)],
    ) -> bool {
        let configs = configs.iter().map(|(name, value)| CreatableTopicConfig {
            name: (*name).to_owned(),
            value: Some(value.clone()),
        });
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: name.to_owned(),
                num_partitions: partitions,
                replication_factor: -1,
                configs: configs.collect(),
                ..CreatableTopic::default()
            }],
            timeout_ms: 4_000,
            ..CreateTopicsRequest::default()
        };
        let broker = self.client.any_broker();
        let answer = self.client.ask(broker, 7, &request, |body| {
            CreateTopicsResponseView::decode(body, 7).map(|view| view.to_owned())
        });
        let code = answer
            .await
            .ok()
            .and_then(|mut answer| Some(answer.topics.pop()?.error_code));
        let exists = code == Some(ErrorCode::TopicAlreadyExists.code());
        // A broker that did not hear from the controller asks it again: then what it made exists.
        code == Some(0) || exists
    }

    /// Sets configurations of a resource, however long it takes.
    pub async fn configure(&mut self, resource: (i8, &str), configs: &[(&str, String)]) {
        let (resource_type, resource_name) = (resource.0, resource.1.to_owned());
        let configs = configs.iter().map(|(name, value)| AlterableConfig {
            name: (*name).to_owned(),
            config_operation: 0,
            value: Some(value.clone()),
        });
        let request = IncrementalAlterConfigsRequest {
            resources: vec![AlterConfigsResource {
                resource_type,
                resource_name,
                configs: configs.collect(),
            }],
            ..IncrementalAlterConfigsRequest::default()
        };
        loop {
            let broker = self.client.any_broker();
            let answer = self.client.ask(broker, 1, &request, |body| {
                IncrementalAlterConfigsResponseView::decode(body, 1).map(|view| view.to_owned())
            });
            let code = answer
                .await
                .ok()
                .and_then(|mut answer| Some(answer.responses.pop()?.error_code));
            if code == Some(0) {
                return;
            }
            self.client.pause().await;
        }
    }

    async fn delete(&mut self, name: &str) {
        loop {
            let request = DeleteTopicsRequest {
                topics: vec![DeleteTopicState {
                    name: Some(name.to_owned()),
                    ..DeleteTopicState::default()
                }],
                timeout_ms: 4_000,
                ..DeleteTopicsRequest::default()
            };
            let broker = self.client.any_broker();
            let answer = self.client.ask(broker, 6, &request, |body| {
                DeleteTopicsResponseView::decode(body, 6).map(|view| view.to_owned())
            });
            let code = answer
                .await
                .ok()
                .and_then(|mut answer| Some(answer.responses.pop()?.error_code));
            let unknown = code == Some(ErrorCode::UnknownTopicOrPartition.code());
            if code == Some(0) || unknown {
                return;
            }
            self.client.pause().await;
        }
    }

    /// Makes and deletes topics until the history says that it is enough.
    pub async fn run(mut self) {
        let mut number = 0;
        let mut kept: Vec<String> = Vec::new();
        while self.history.is_open() {
            let name = format!("passing-{number}");
            number += 1;
            let partitions = 1 + i32::try_from(self.client.random.within(0..4)).unwrap_or(0);
            self.create(&name, partitions, &[]).await;
            self.history.topic_made(&name, partitions);
            kept.push(name);
            if kept.len() > 2 {
                let name = kept.remove(0);
                self.history.topic_going(&name);
                self.delete(&name).await;
                self.history.topic_gone(&name);
            }
            for _ in 0..8 {
                self.client.pause().await;
            }
        }
        self.history.done();
    }
}

/// What one broker says of the cluster: the topics with the leaders of their partitions, and the brokers. `None` when it
/// does not answer, or a partition has no leader.
pub async fn metadata_of(client: &mut Client, broker: i32) -> Option<ClusterView> {
    let metadata = match client.metadata(broker, None).await {
        Ok(metadata) => metadata,
        Err(Unanswered) => return None,
    };
    let mut view = ClusterView::default();
    for known in metadata.brokers {
        view.brokers.push(known.node_id);
    }
    for topic in metadata.topics {
        let mut leaders = Vec::new();
        for partition in &topic.partitions {
            if partition.error_code != 0 || partition.leader_id < 0 {
                return None;
            }
            leaders.push((
                partition.partition_index,
                partition.leader_id,
                partition.leader_epoch,
            ));
        }
        leaders.sort_unstable();
        view.topics.insert(topic.name?, leaders);
    }
    view.brokers.sort_unstable();
    Some(view)
}

/// See [`metadata_of`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterView {
    /// Topics, with (partition, leader, epoch) each.
    pub topics: BTreeMap<String, Vec<(i32, i32, i32)>>,
    /// Brokers.
    pub brokers: Vec<i32>,
}
