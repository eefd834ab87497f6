//! Every version of every API of groups, asked as clients ask it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use weir_wire::frame::{ResponseFrame, encode_request};
use weir_wire::messages::find_coordinator_request::FindCoordinatorRequest;
use weir_wire::messages::join_group_request::JoinGroupRequestProtocol;
use weir_wire::messages::leave_group_request::MemberIdentity;
use weir_wire::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use weir_wire::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use weir_wire::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use weir_wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use weir_wire::messages::*;
use weir_wire::{MessageView, Request};

use super::{GROUP, House, TOPIC};
use crate::Broker;
use crate::api::{self, Answer, Peer, Reply};
use crate::net::RequestMemory;
use crate::producer_ids::ProducerIds;
use crate::share::{Share, ShareSettings};
use crate::transactions::TransactionCoordinators;

/// The client's end.
struct Client {
    house: House,
    broker: Arc<Broker>,
    peer: Arc<Peer>,
}

impl Client {
    async fn new() -> Self {
        let house = House::new().await;
        house.commit(41).await.unwrap();
        let config =
            crate::config::Config::parse("data_dir: /data", &BTreeMap::new(), "broker-0").unwrap();
        let producer_ids = Arc::new(ProducerIds::default());
        let broker = Arc::new(Broker {
            fetch_sessions: Default::default(),
            quotas: Default::default(),
            telemetry: Default::default(),
            appenders: Default::default(),
            config,
            metadata: house.metadata.clone(),
            partitions: Arc::clone(&house.partitions),
            producer_ids: Arc::clone(&producer_ids),
            request_memory: RequestMemory::new(1 << 20),
            connection_places: Arc::new(tokio::sync::Semaphore::new(1)),
            host: crate::host::Host {
                storage: Arc::new(house.storage.clone()),
                ..crate::host::Host::system()
            },
            metrics: Arc::clone(&house.metrics),
            groups: house.groups.clone(),
            group_lag: crate::group_lag::GroupLag::default(),
            transactions: TransactionCoordinators::new(
                house.metadata.clone(),
                Arc::clone(&house.partitions),
                house.groups.clone(),
                producer_ids,
                weir_groups::transactions::Config::default(),
                crate::host::Host::system(),
            ),
            halves: crate::half::Halves::new(
                house.metadata.clone(),
                Arc::clone(&house.partitions),
                weir_groups::half::Config::default(),
                crate::host::Host::system(),
            ),
            ledgers: crate::queue::ledgers::Ledgers::new(crate::net::Dialer::Tcp),
            share: Share::new(
                house.metadata.clone(),
                Arc::clone(&house.partitions),
                ShareSettings::default(),
                crate::host::Host::system(),
            ),
        });
        let peer = Arc::new(Peer::new(([127, 0, 0, 1], 5).into(), "kafka"));
        Self {
            house,
            broker,
            peer,
        }
    }

    /// Hands a request over, and gives the body of the response to come.
    fn hand<R: Request>(&self, version: i16, request: &R) -> impl Future<Output = Bytes> + use<R> {
        let frame = encode_request(version, 7, Some("app"), request)
            .unwrap()
            .try_into_bytes()
            .unwrap();
        let (_, answer) =
            api::dispatch(&self.broker, &self.peer, frame.slice(4..), Instant::now()).unwrap();
        async move {
            let reply = match answer {
                Answer::Now(reply) => reply,
                Answer::Later(future) => future.await,
            };
            let Reply::Send(frame) = reply else {
                panic!("{} {version}: {reply:?}", R::NAME)
            };
            let bytes = frame.try_into_bytes().unwrap();
            let response = ResponseFrame::parse(R::KEY, version, &bytes[4..]).unwrap();
            assert_eq!(response.correlation_id, 7);
            Bytes::copy_from_slice(response.body)
        }
    }

    async fn ask<R: Request>(&self, version: i16, request: &R) -> Bytes {
        self.hand(version, request).await
    }

    fn topic_id(&self) -> uuid::Uuid {
        self.house.topic().id.0
    }
}

#[tokio::test]
async fn every_version_of_offset_commit_and_fetch_keeps_and_tells_offsets() {
    let client = Client::new().await;
    for version in 2..=10 {
        let partition = OffsetCommitRequestPartition {
            committed_offset: 100 + i64::from(version),
            committed_metadata: Some("note".to_owned()),
            ..OffsetCommitRequestPartition::default()
        };
        let known = OffsetCommitRequestTopic {
            name: TOPIC.to_owned(),
            topic_id: if version >= 10 {
                client.topic_id()
            } else {
                uuid::Uuid::nil()
            },
            partitions: vec![partition.clone()],
        };
        let unknown = OffsetCommitRequestTopic {
            name: "unknown".to_owned(),
            topic_id: if version >= 10 {
                uuid::Uuid::from_u128(9)
            } else {
                uuid::Uuid::nil()
            },
            partitions: vec![partition],
        };
        let request = OffsetCommitRequest {
            group_id: GROUP.to_owned(),
            topics: vec![unknown, known],
            ..OffsetCommitRequest::default()
        };
        let body = client.ask(version, &request).await;
        let response = OffsetCommitResponseView::decode(&body, version)
            .unwrap()
            .to_owned();
        let codes: Vec<i16> = response
            .topics
            .iter()
            .map(|topic| topic.partitions[0].error_code)
            .collect();
        assert_eq!(
            codes,
            [if version >= 10 { 100 } else { 3 }, 0],
            "version {version}"
        );
        assert_eq!(
            client.house.committed().await,
            Some(100 + i64::from(version))
        );
    }
    for version in 1..=7 {
        let topic = OffsetFetchRequestTopic {
            name: TOPIC.to_owned(),
            partition_indexes: vec![0, 5],
        };
        for topics in [Some(vec![topic]), None] {
            if version < 2 && topics.is_none() {
                continue;
            }
            let named = topics.is_some();
            let request = OffsetFetchRequest {
                group_id: GROUP.to_owned(),
                topics,
                ..OffsetFetchRequest::default()
            };
            let body = client.ask(version, &request).await;
            let response = OffsetFetchResponseView::decode(&body, version)
                .unwrap()
                .to_owned();
            let offsets: Vec<i64> = response.topics[0]
                .partitions
                .iter()
                .map(|found| found.committed_offset)
                .collect();
            assert_eq!(
                offsets,
                if named { vec![110, -1] } else { vec![110] },
                "version {version}"
            );
        }
    }
    for version in 8..=10 {
        let by_id = version >= 10;
        let topic = OffsetFetchRequestTopics {
            name: if by_id {
                String::new()
            } else {
                TOPIC.to_owned()
            },
            topic_id: if by_id {
                client.topic_id()
            } else {
                uuid::Uuid::nil()
            },
            partition_indexes: vec![0],
        };
        let group = |id: &str, topics| OffsetFetchRequestGroup {
            group_id: id.to_owned(),
            topics,
            ..OffsetFetchRequestGroup::default()
        };
        let request = OffsetFetchRequest {
            groups: vec![
                group(GROUP, Some(vec![topic])),
                group(GROUP, None),
                group("other", None),
            ],
            ..OffsetFetchRequest::default()
        };
        let body = client.ask(version, &request).await;
        let response = OffsetFetchResponseView::decode(&body, version)
            .unwrap()
            .to_owned();
        assert_eq!(response.groups.len(), 3, "version {version}");
        for group in &response.groups[..2] {
            assert_eq!(
                group.topics[0].partitions[0].committed_offset, 110,
                "version {version}"
            );
            assert_eq!(group.topics[0].topic_id == client.topic_id(), by_id);
        }
        assert!(response.groups[2].topics.is_empty());
    }
}

#[tokio::test]
async fn every_version_of_the_membership_apis_is_answered() {
    let client = Client::new().await;
    for version in 0..=9 {
        // Too short a session: refused at once.
        let request = JoinGroupRequest {
            group_id: GROUP.to_owned(),
            protocol_type: "consumer".to_owned(),
            protocols: vec![JoinGroupRequestProtocol::default()],
            ..JoinGroupRequest::default()
        };
        let body = client.ask(version, &request).await;
        let response = JoinGroupResponseView::decode(&body, version)
            .unwrap()
            .to_owned();
        assert_eq!(response.error_code, 26, "version {version}");
    }
    for version in 0..=5 {
        let request = SyncGroupRequest {
            group_id: GROUP.to_owned(),
            ..SyncGroupRequest::default()
        };
        let body = client.ask(version, &request).await;
        assert_eq!(
            SyncGroupResponseView::decode(&body, version)
                .unwrap()
                .error_code,
            25,
            "version {version}"
        );
    }
    for version in 0..=4 {
        let request = HeartbeatRequest {
            group_id: GROUP.to_owned(),
            ..HeartbeatRequest::default()
        };
        let body = client.ask(version, &request).await;
        assert_eq!(
            HeartbeatResponseView::decode(&body, version)
                .unwrap()
                .error_code,
            25,
            "version {version}"
        );
    }
    for version in 0..=5 {
        let mut request = LeaveGroupRequest {
            group_id: GROUP.to_owned(),
            ..LeaveGroupRequest::default()
        };
        if version < 3 {
            request.member_id = "nobody".to_owned();
        } else {
            let nobody = MemberIdentity {
                member_id: "nobody".to_owned(),
                ..MemberIdentity::default()
            };
            request.members = vec![nobody];
        }
        let body = client.ask(version, &request).await;
        let response = LeaveGroupResponseView::decode(&body, version)
            .unwrap()
            .to_owned();
        let of_member = response.members.first().map(|member| member.error_code);
        assert_eq!(
            of_member.unwrap_or(response.error_code),
            25,
            "version {version}"
        );
    }
}

#[tokio::test]
async fn every_version_of_find_coordinator_names_this_broker() {
    let client = Client::new().await;
    for version in 0..=6 {
        let mut request = FindCoordinatorRequest::default();
        if version < 4 {
            request.key = GROUP.to_owned();
        } else {
            request.coordinator_keys = vec![GROUP.to_owned(), "other".to_owned()];
        }
        let body = client.ask(version, &request).await;
        let response = FindCoordinatorResponseView::decode(&body, version)
            .unwrap()
            .to_owned();
        let ports: Vec<i32> = response
            .coordinators
            .iter()
            .map(|found| found.port)
            .collect();
        let ports = if version < 4 {
            vec![response.port; 2]
        } else {
            ports
        };
        assert_eq!(ports, [9092, 9092], "version {version}");
    }
    let unknown = FindCoordinatorRequest {
        key_type: 3,
        ..FindCoordinatorRequest::default()
    };
    let body = client.ask(1, &unknown).await;
    assert_eq!(
        FindCoordinatorResponseView::decode(&body, 1)
            .unwrap()
            .error_code,
        42
    );
}

#[tokio::test]
async fn every_version_of_the_administrators_apis_is_answered() {
    let client = Client::new().await;
    for version in 0..=5 {
        let body = client.ask(version, &ListGroupsRequest::default()).await;
        let response = ListGroupsResponseView::decode(&body, version)
            .unwrap()
            .to_owned();
        assert_eq!(response.groups[0].group_id, GROUP, "version {version}");
        assert_eq!(
            response.groups[0].group_state,
            if version >= 4 { "Empty" } else { "" }
        );
    }
    for version in 0..=6 {
        let request = DescribeGroupsRequest {
            groups: vec![GROUP.to_owned(), "missing".to_owned()],
            include_authorized_operations: version >= 3,
        };
        let body = client.ask(version, &request).await;
        let response = DescribeGroupsResponseView::decode(&body, version)
            .unwrap()
            .to_owned();
        assert_eq!(response.groups[0].group_state, "Empty", "version {version}");
        let missing = &response.groups[1];
        assert_eq!(
            (missing.group_state.as_str(), missing.error_code),
            ("Dead", if version >= 6 { 69 } else { 0 })
        );
    }
    let partitions = vec![OffsetDeleteRequestPartition { partition_index: 0 }];
    let topics = vec![OffsetDeleteRequestTopic {
        name: TOPIC.to_owned(),
        partitions,
    }];
    let body = client
        .ask(
            0,
            &OffsetDeleteRequest {
                group_id: GROUP.to_owned(),
                topics,
            },
        )
        .await;
    let response = OffsetDeleteResponseView::decode(&body, 0)
        .unwrap()
        .to_owned();
    assert_eq!(response.topics[0].partitions[0].error_code, 0);
    assert_eq!(client.house.committed().await, None);
    for version in 0..=2 {
        client.house.commit(1).await.unwrap();
        let request = DeleteGroupsRequest {
            groups_names: vec![GROUP.to_owned(), "missing".to_owned()],
        };
        let body = client.ask(version, &request).await;
        let response = DeleteGroupsResponseView::decode(&body, version)
            .unwrap()
            .to_owned();
        let codes: Vec<i16> = response
            .results
            .iter()
            .map(|result| result.error_code)
            .collect();
        assert_eq!(codes, [0, 69], "version {version}");
    }
}

#[tokio::test]
async fn heartbeats_do_not_starve_behind_a_join_that_waits() {
    let client = Client::new().await;
    let protocol = JoinGroupRequestProtocol {
        name: "range".to_owned(),
        ..JoinGroupRequestProtocol::default()
    };
    let join = |member: &str, instance: &str| JoinGroupRequest {
        group_id: GROUP.to_owned(),
        member_id: member.to_owned(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        group_instance_id: Some(instance.to_owned()),
        protocol_type: "consumer".to_owned(),
        protocols: vec![protocol.clone()],
        ..JoinGroupRequest::default()
    };
    let body = client.ask(9, &join("", "first")).await;
    let first = JoinGroupResponseView::decode(&body, 9).unwrap().to_owned();
    // This one waits until the first has joined again.
    let second = client.hand(9, &join("", "second"));
    let beat = HeartbeatRequest {
        group_id: GROUP.to_owned(),
        generation_id: first.generation_id,
        member_id: first.member_id.clone(),
        group_instance_id: Some("first".to_owned()),
    };
    let body = client.ask(4, &beat).await;
    assert_eq!(
        HeartbeatResponseView::decode(&body, 4).unwrap().error_code,
        27
    );
    let body = client.ask(9, &join(&first.member_id, "first")).await;
    assert_eq!(
        JoinGroupResponseView::decode(&body, 9)
            .unwrap()
            .generation_id,
        2
    );
    let body = second.await;
    assert_eq!(
        JoinGroupResponseView::decode(&body, 9)
            .unwrap()
            .generation_id,
        2
    );
}

#[tokio::test]
async fn clients_cannot_write_where_coordinators_keep_their_state() {
    let client = Client::new().await;
    let topic = TopicProduceData {
        name: weir_groups::OFFSETS_TOPIC.to_owned(),
        partition_data: vec![PartitionProduceData::default()],
        ..TopicProduceData::default()
    };
    let request = ProduceRequest {
        acks: -1,
        topic_data: vec![topic],
        ..ProduceRequest::default()
    };
    let body = client.ask(9, &request).await;
    let response = ProduceResponseView::decode(&body, 9).unwrap().to_owned();
    assert_eq!(response.responses[0].partition_responses[0].error_code, 17);
}
