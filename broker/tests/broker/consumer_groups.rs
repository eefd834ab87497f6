//! The consumer group protocol (KIP-848) from end to end.

use uuid::Uuid;
use weir_wire::messages::consumer_group_heartbeat_request::TopicPartitions;
use weir_wire::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use weir_wire::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use weir_wire::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerGroupDescribeResponseView,
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
    ConsumerGroupHeartbeatResponseView, DescribeGroupsRequest, DescribeGroupsResponseView,
    FindCoordinatorRequest, FindCoordinatorResponseView, ListGroupsRequest, ListGroupsResponseView,
    OffsetCommitRequest, OffsetCommitResponseView, OffsetFetchRequest, OffsetFetchResponseView,
};
use weir_wire::{ErrorCode, MessageView};

use super::client::{Client, TestBroker, eventually};

pub(crate) const GROUP: &str = "shop";

/// A heartbeat that says everything, from a member that joins.
pub(crate) fn joining(member: &str) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: GROUP.to_owned(),
        member_id: member.to_owned(),
        rebalance_timeout_ms: 60_000,
        subscribed_topic_names: Some(vec!["orders".to_owned()]),
        topic_partitions: Some(Vec::new()),
        ..ConsumerGroupHeartbeatRequest::default()
    }
}

pub(crate) fn beat(
    member: &str,
    epoch: i32,
    topic: Uuid,
    owned: Option<&[i32]>,
) -> ConsumerGroupHeartbeatRequest {
    let owned = owned.map(|partitions| {
        vec![TopicPartitions {
            topic_id: topic,
            partitions: partitions.to_vec(),
        }]
    });
    ConsumerGroupHeartbeatRequest {
        group_id: GROUP.to_owned(),
        member_id: member.to_owned(),
        member_epoch: epoch,
        rebalance_timeout_ms: -1,
        topic_partitions: owned,
        ..ConsumerGroupHeartbeatRequest::default()
    }
}

impl Client {
    pub(crate) async fn beat(
        &mut self,
        version: i16,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> ConsumerGroupHeartbeatResponse {
        eventually("the coordinator is there", async || {
            let body = self.call(version, request).await;
            let response = ConsumerGroupHeartbeatResponseView::decode(&body, version)
                .unwrap()
                .to_owned();
            let code = ErrorCode::from_code(response.error_code);
            // Clients come back on these.
            let is_away = matches!(
                code,
                Some(ErrorCode::CoordinatorLoadInProgress | ErrorCode::NotCoordinator)
            );
            (!is_away).then_some(response)
        })
        .await
    }

    async fn describe_consumer_group(&mut self) -> ConsumerGroupDescribeResponse {
        let request = ConsumerGroupDescribeRequest {
            group_ids: vec![GROUP.to_owned(), "missing".to_owned()],
            include_authorized_operations: true,
        };
        let body = self.call(1, &request).await;
        ConsumerGroupDescribeResponseView::decode(&body, 1)
            .unwrap()
            .to_owned()
    }
}

/// A client that has found the coordinator, and the id of a topic of four partitions.
pub(crate) async fn client(broker: &TestBroker) -> (Client, Uuid) {
    let mut client = broker.connect().await;
    let topic = client.create_topic("orders", 4, &[]).await;
    let request = FindCoordinatorRequest {
        coordinator_keys: vec![GROUP.to_owned()],
        ..FindCoordinatorRequest::default()
    };
    let body = client.call(6, &request).await;
    let found = FindCoordinatorResponseView::decode(&body, 6)
        .unwrap()
        .to_owned();
    assert_eq!(found.coordinators[0].error_code, 0);
    (client, topic)
}

pub(crate) fn given(response: &ConsumerGroupHeartbeatResponse) -> Option<Vec<i32>> {
    let assignment = response.assignment.as_ref()?;
    let topics = assignment.topic_partitions.iter();
    Some(topics.flat_map(|topic| topic.partitions.clone()).collect())
}

/// Trap 14: epochs 0, -1 and -2, and revoke before assign.
#[tokio::test]
async fn two_members_share_a_topic_and_never_a_partition() {
    let broker = TestBroker::start().await;
    let (mut client, topic) = client(&broker).await;
    let first = client.beat(1, &joining("a")).await;
    assert_eq!((first.error_code, first.member_epoch), (0, 1));
    assert_eq!(first.heartbeat_interval_ms, 5_000);
    assert_eq!(given(&first), Some(vec![0, 1, 2, 3]));
    // Before version 1 the coordinator chooses the member's id.
    let second = client.beat(0, &joining("")).await;
    let b = second.member_id.clone().unwrap();
    assert_eq!((second.member_epoch, given(&second)), (2, Some(vec![])));
    let told = client
        .beat(1, &beat("a", 1, topic, Some(&[0, 1, 2, 3])))
        .await;
    let kept = given(&told).unwrap();
    assert_eq!((told.member_epoch, kept.len()), (1, 2));
    let waits = client.beat(1, &beat(&b, 2, topic, Some(&[]))).await;
    assert_eq!(given(&waits), None);
    let done = client.beat(1, &beat("a", 1, topic, Some(&kept))).await;
    assert_eq!(done.member_epoch, 2);
    let gets = client.beat(1, &beat(&b, 2, topic, Some(&[]))).await;
    let mut all = [kept, given(&gets).unwrap()].concat();
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2, 3]);
    let described = client.describe_consumer_group().await;
    let group = &described.groups[0];
    assert_eq!(
        (group.error_code, group.group_state.as_str()),
        (0, "Stable")
    );
    assert_eq!((group.group_epoch, group.assignment_epoch), (2, 2));
    assert_eq!(
        (group.assignor_name.as_str(), group.members.len()),
        ("uniform", 2)
    );
    let member = &group.members[0];
    assert_eq!(member.assignment, member.target_assignment);
    assert_eq!(member.assignment.topic_partitions[0].topic_name, "orders");
    assert_eq!(member.member_type, 1);
    assert_eq!(
        described.groups[1].error_code,
        ErrorCode::GroupIdNotFound.code()
    );
    let left = client.beat(1, &beat(&b, -1, topic, None)).await;
    assert_eq!((left.error_code, left.member_epoch), (0, -1));
}

#[tokio::test]
async fn commits_carry_the_member_epoch_and_outlive_a_restart() {
    let broker = TestBroker::start().await;
    let (mut client, topic) = client(&broker).await;
    client.beat(1, &joining("a")).await;
    let commit = |epoch: i32| OffsetCommitRequest {
        group_id: GROUP.to_owned(),
        member_id: "a".to_owned(),
        generation_id_or_member_epoch: epoch,
        topics: vec![OffsetCommitRequestTopic {
            topic_id: topic,
            partitions: vec![OffsetCommitRequestPartition {
                partition_index: 0,
                committed_offset: 41,
                ..OffsetCommitRequestPartition::default()
            }],
            ..OffsetCommitRequestTopic::default()
        }],
        ..OffsetCommitRequest::default()
    };
    for (epoch, expected) in [(1, ErrorCode::None), (7, ErrorCode::StaleMemberEpoch)] {
        let body = client.call(10, &commit(epoch)).await;
        let committed = OffsetCommitResponseView::decode(&body, 10)
            .unwrap()
            .to_owned();
        assert_eq!(
            committed.topics[0].partitions[0].error_code,
            expected.code()
        );
    }
    let broker = broker.restart().await;
    let mut client = broker.connect().await;
    // The group is as it was: the member goes on in its epoch.
    let told = client
        .beat(1, &beat("a", 1, topic, Some(&[0, 1, 2, 3])))
        .await;
    assert_eq!((told.error_code, told.member_epoch), (0, 1));
    let fetch = |member: Option<&str>, epoch: i32| OffsetFetchRequest {
        groups: vec![OffsetFetchRequestGroup {
            group_id: GROUP.to_owned(),
            member_id: member.map(str::to_owned),
            member_epoch: epoch,
            topics: Some(vec![OffsetFetchRequestTopics {
                topic_id: topic,
                partition_indexes: vec![0],
                ..OffsetFetchRequestTopics::default()
            }]),
        }],
        ..OffsetFetchRequest::default()
    };
    for (member, epoch, expected) in [
        (Some("a"), 1, ErrorCode::None),
        (None, -1, ErrorCode::None),
        (Some("a"), 2, ErrorCode::StaleMemberEpoch),
        (Some("b"), 1, ErrorCode::UnknownMemberId),
    ] {
        let body = client.call(10, &fetch(member, epoch)).await;
        let fetched = OffsetFetchResponseView::decode(&body, 10)
            .unwrap()
            .to_owned();
        let group = &fetched.groups[0];
        assert_eq!(group.error_code, expected.code(), "{member:?} {epoch}");
        if expected == ErrorCode::None {
            assert_eq!(group.topics[0].partitions[0].committed_offset, 41);
        }
    }
}

#[tokio::test]
async fn what_a_heartbeat_must_say_is_checked() {
    let broker = TestBroker::start().await;
    let (mut client, topic) = client(&broker).await;
    type Change = fn(&mut ConsumerGroupHeartbeatRequest);
    let wrong: [(Change, ErrorCode); 9] = [
        (
            |request| request.group_id.clear(),
            ErrorCode::InvalidRequest,
        ),
        (
            |request| request.member_id.clear(),
            ErrorCode::InvalidRequest,
        ),
        (
            |request| request.instance_id = Some(String::new()),
            ErrorCode::InvalidRequest,
        ),
        (
            |request| request.rebalance_timeout_ms = -1,
            ErrorCode::InvalidRequest,
        ),
        (
            |request| request.topic_partitions = None,
            ErrorCode::InvalidRequest,
        ),
        (
            |request| request.subscribed_topic_names = None,
            ErrorCode::InvalidRequest,
        ),
        (
            |request| request.member_epoch = -3,
            ErrorCode::InvalidRequest,
        ),
        (
            |request| request.server_assignor = Some("best".to_owned()),
            ErrorCode::UnsupportedAssignor,
        ),
        (
            |request| request.subscribed_topic_regex = Some("(".to_owned()),
            ErrorCode::InvalidRegularExpression,
        ),
    ];
    for (change, expected) in wrong {
        let mut request = joining("a");
        change(&mut request);
        let response = client.beat(1, &request).await;
        assert_eq!(response.error_code, expected.code(), "{request:?}");
        assert!(response.error_message.is_some());
    }
    let stranger = client.beat(1, &beat("a", 1, topic, None)).await;
    assert_eq!(stranger.error_code, ErrorCode::GroupIdNotFound.code());
    client.beat(1, &joining("a")).await;
    let fenced = client.beat(1, &beat("a", 9, topic, None)).await;
    assert_eq!(fenced.error_code, ErrorCode::FencedMemberEpoch.code());
}

#[tokio::test]
async fn consumer_groups_are_listed_by_type_and_are_no_classic_groups() {
    let broker = TestBroker::start().await;
    let (mut client, _) = client(&broker).await;
    client.beat(1, &joining("a")).await;
    for (kind, count) in [("consumer", 1), ("classic", 0)] {
        let request = ListGroupsRequest {
            types_filter: vec![kind.to_owned()],
            ..ListGroupsRequest::default()
        };
        // Other shards may be loading still.
        let listed = eventually("groups are listed", async || {
            let body = client.call(5, &request).await;
            let listed = ListGroupsResponseView::decode(&body, 5).unwrap().to_owned();
            (listed.error_code == 0).then_some(listed)
        })
        .await;
        assert_eq!(listed.groups.len(), count, "{kind}");
        for group in listed.groups {
            assert_eq!(group.group_type, "consumer");
            assert_eq!(group.protocol_type, "consumer");
            assert_eq!(group.group_state, "Stable");
        }
    }
    let request = DescribeGroupsRequest {
        groups: vec![GROUP.to_owned()],
        ..DescribeGroupsRequest::default()
    };
    let body = client.call(6, &request).await;
    let described = DescribeGroupsResponseView::decode(&body, 6)
        .unwrap()
        .to_owned();
    assert_eq!(described.groups[0].group_state, "Dead");
    assert_eq!(
        described.groups[0].error_code,
        ErrorCode::GroupIdNotFound.code()
    );
}

#[tokio::test]
async fn a_topic_that_is_created_later_is_assigned() {
    let broker = TestBroker::start().await;
    let (mut client, topic) = client(&broker).await;
    let request = ConsumerGroupHeartbeatRequest {
        subscribed_topic_names: None,
        subscribed_topic_regex: Some("o.*s".to_owned()),
        ..joining("a")
    };
    let first = client.beat(1, &request).await;
    assert_eq!(given(&first).map(|given| given.len()), Some(4));
    client.create_topic("others", 2, &[]).await;
    // Expressions are matched once a second.
    let told = eventually("the topic is assigned", async || {
        let told = client
            .beat(1, &beat("a", 1, topic, Some(&[0, 1, 2, 3])))
            .await;
        assert_eq!(told.error_code, 0);
        (told.member_epoch == 2).then_some(told)
    })
    .await;
    assert_eq!(given(&told).map(|given| given.len()), Some(6));
}
