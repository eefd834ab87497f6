//! Coordinators over real logs on a simulated disk, in a cluster of one broker without a quorum.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::panic, reason = "tests")]

mod apis;
mod elsewhere;
mod lag;
mod shards;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use weir_groups::request::{
    CommitPartition, CommitRequest, CommitTopic, FetchRequest, JoinRequest, ListRequest, Protocol,
    TopicRef,
};
use weir_groups::{Config, Epoch, Generation, GroupError};
use weir_log::storage_sim::SimStorage;
use weir_log::{DataDir, Lanes, LanesConfig, PartitionKey, SystemClock};
use weir_quorum::command::{Command, CreateTopics, DeleteTopics, NewTopic, TopicRef as Named};
use weir_quorum::configs::Settings;
use weir_quorum::record::HostPort;
use weir_quorum::{BrokerId, Image};
use weir_wire::{LeaderEpoch, Offset, PartitionIndex, TopicId};

use super::{Groups, Unreachable};
use crate::metrics::Metrics;
use crate::partitions::{Partition, Partitions};
use crate::quorum::Metadata;

const GROUP: &str = "shop";
const TOPIC: &str = "orders";

/// One broker's coordinators and what they stand on.
struct House {
    storage: SimStorage,
    metadata: Metadata,
    partitions: Arc<Partitions>,
    metrics: Arc<Metrics>,
    groups: Groups,
    serving: CancellationToken,
    tasks: TaskTracker,
    _stop: DropGuard,
}

impl House {
    /// With a topic of one partition, and coordinators that serve.
    async fn new() -> Self {
        let house = Self::empty().await;
        house.create(TOPIC, 1).await;
        house.groups.find(GROUP).await.unwrap();
        house.loaded().await;
        house
    }

    /// Without topics.
    async fn empty() -> Self {
        let storage = SimStorage::new();
        let dir = DataDir::open(Arc::new(storage.clone()), Path::new("/data"), 0).unwrap();
        let lanes = LanesConfig {
            lanes: 1,
            ..LanesConfig::default()
        };
        let lanes = Lanes::start(
            lanes,
            Arc::new(SystemClock),
            Arc::new(|fatal| panic!("{fatal}")),
        )
        .unwrap();
        let kafka = HostPort {
            host: "localhost".into(),
            port: 9092,
        };
        let values = [
            ("offsets.topic.num.partitions", "3"),
            // The other brokers of a test are not there to replicate.
            ("offsets.topic.replication.factor", "1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let settings = Settings::new(values.into()).unwrap();
        let metadata = Metadata::solitary(BrokerId(0), kafka, settings.clone())
            .await
            .unwrap();
        let metrics = Arc::new(Metrics::new().unwrap());
        let partitions = Partitions::new(
            BrokerId(0),
            vec![dir],
            lanes,
            Arc::new(settings),
            Arc::clone(&metrics),
        );
        let stop = CancellationToken::new();
        tokio::spawn(Arc::clone(&partitions).follow(metadata.watch(), || true, stop.clone()));
        let groups = coordinators(&metadata, &partitions);
        let mut house = Self {
            storage,
            metadata,
            partitions,
            metrics,
            groups,
            serving: CancellationToken::new(),
            tasks: TaskTracker::new(),
            _stop: stop.drop_guard(),
        };
        house.serve();
        house
    }

    fn serve(&mut self) {
        self.serving = CancellationToken::new();
        self.tasks
            .spawn(self.groups.clone().follow(self.serving.clone()));
    }

    /// Waits until every shard is loaded.
    async fn loaded(&self) {
        while self.groups.list(&ListRequest::default()).await.is_err() {
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The coordinators end, and others take their place, as when leadership goes and comes back.
    async fn reload(&mut self) {
        self.serving.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.tasks.reopen();
        self.groups = coordinators(&self.metadata, &self.partitions);
        self.serve();
        self.loaded().await;
    }

    async fn create(&self, name: &str, partitions: i32) {
        let topic = NewTopic {
            name: name.to_owned(),
            partitions: Some(partitions),
            ..NewTopic::default()
        };
        let create = CreateTopics {
            topics: vec![topic],
            validate_only: false,
        };
        self.metadata
            .control(Command::CreateTopics(create))
            .await
            .unwrap();
    }

    async fn delete(&self, name: &str) {
        let delete = DeleteTopics {
            topics: vec![Named::Name(name.to_owned())],
        };
        self.metadata
            .control(Command::DeleteTopics(delete))
            .await
            .unwrap();
    }

    fn image(&self) -> Arc<Image> {
        self.metadata.image()
    }

    /// The topic with its present id.
    fn topic(&self) -> TopicRef {
        let id = self.image().topic(TOPIC).unwrap().id;
        TopicRef {
            name: TOPIC.to_owned(),
            id: TopicId(id.0),
        }
    }

    async fn commit(&self, offset: i64) -> Result<(), GroupError> {
        self.commit_to(GROUP, 0, offset).await
    }

    async fn commit_to(&self, group: &str, partition: i32, offset: i64) -> Result<(), GroupError> {
        let partition = CommitPartition {
            partition: PartitionIndex(partition),
            offset: Offset(offset),
            leader_epoch: LeaderEpoch::NONE,
            metadata: String::new(),
        };
        let request = CommitRequest {
            group: group.into(),
            member: "".into(),
            instance: None,
            generation: Generation::NONE,
            retention_ms: None,
            tells_missing_group: true,
            topics: vec![CommitTopic {
                topic: self.topic(),
                partitions: vec![partition],
            }],
        };
        loop {
            match self.groups.commit(request.clone()).await {
                Err(GroupError::CoordinatorLoadInProgress) => tokio::time::sleep(PAUSE).await,
                answer => return answer.and_then(|topics| topics[0].partitions[0].1),
            }
        }
    }

    /// All groups, once this broker's own shards are loaded.
    async fn describe_all(&self) -> Result<Vec<weir_proto::admin::v1::Group>, Unreachable> {
        loop {
            match self.groups.describe_with_lag(&[]).await {
                Err(error) if error.broker == BrokerId(0) => tokio::time::sleep(PAUSE).await,
                answer => return answer,
            }
        }
    }

    /// A partition of the topic, once it is open here.
    async fn partition(&self, index: i32) -> Arc<Partition> {
        let key = PartitionKey {
            topic_id: self.topic().id,
            partition: PartitionIndex(index),
        };
        loop {
            match self.partitions.get(key) {
                Ok(partition) => return partition,
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    async fn committed(&self) -> Option<i64> {
        let topics = vec![(self.topic(), vec![PartitionIndex(0)])];
        let request = FetchRequest {
            group: GROUP.into(),
            member: None,
            epoch: Epoch::LEAVING,
            topics: Some(topics),
        };
        loop {
            match self.groups.fetch(request.clone()).await {
                Ok(topics) => {
                    return topics[0].partitions[0]
                        .1
                        .as_ref()
                        .map(|offset| offset.offset.0);
                }
                // Clients come back on these.
                Err(GroupError::CoordinatorLoadInProgress | GroupError::NotCoordinator) => {
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// Between two looks at something that comes by itself.
const PAUSE: Duration = Duration::from_millis(2);

fn coordinators(metadata: &Metadata, partitions: &Arc<Partitions>) -> Groups {
    let config = Config {
        initial_rebalance_delay_ms: 0,
        ..Config::default()
    };
    Groups::new(
        metadata.clone(),
        Arc::clone(partitions),
        config,
        crate::host::Host::system(),
    )
}

fn join(member: &str) -> JoinRequest {
    JoinRequest {
        group: GROUP.into(),
        member: member.into(),
        instance: None,
        client_id: "app".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".to_owned(),
        protocols: vec![Protocol {
            name: "range".to_owned(),
            metadata: vec![0, 0, 0, 0, 0, 0].into(),
        }],
        member_id_required: false,
        can_skip_assignment: false,
        unique: "1".to_owned(),
    }
}
