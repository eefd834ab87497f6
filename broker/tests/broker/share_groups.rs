//! Share groups from outside: members, descriptions, and setting where a group stands.

use uuid::Uuid;
use weir_wire::MessageView;
use weir_wire::messages::alter_share_group_offsets_request::{
    AlterShareGroupOffsetsRequestPartition, AlterShareGroupOffsetsRequestTopic,
};
use weir_wire::messages::delete_share_group_offsets_request::DeleteShareGroupOffsetsRequestTopic;
use weir_wire::messages::describe_share_group_offsets_request::DescribeShareGroupOffsetsRequestGroup;
use weir_wire::messages::describe_share_group_offsets_response::DescribeShareGroupOffsetsResponsePartition;
use weir_wire::messages::share_fetch_request::{FetchPartition, FetchTopic};
use weir_wire::messages::{
    AlterShareGroupOffsetsRequest, AlterShareGroupOffsetsResponseView, DeleteGroupsRequest,
    DeleteGroupsResponseView, DeleteShareGroupOffsetsRequest, DeleteShareGroupOffsetsResponseView,
    DescribeShareGroupOffsetsRequest, DescribeShareGroupOffsetsResponseView, ErrorCode,
    FindCoordinatorRequest, FindCoordinatorResponseView, ListGroupsRequest, ListGroupsResponseView,
    ShareFetchRequest, ShareFetchResponseView, ShareGroupDescribeRequest,
    ShareGroupDescribeResponseView, ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse,
    ShareGroupHeartbeatResponseView,
};

use crate::client::{Client, TestBroker, batch, eventually};
use crate::group_lag::{becomes, metric};

const GROUP: &str = "sharers";

/// A broker with a topic of two partitions, whose group coordinator is at work.
async fn house() -> (TestBroker, Client, Uuid) {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create_topic("t", 2, &[]).await;
    let find = FindCoordinatorRequest {
        coordinator_keys: vec![GROUP.to_owned()],
        ..FindCoordinatorRequest::default()
    };
    eventually("there is a coordinator", async || {
        let body = client.call(6, &find).await;
        let found = FindCoordinatorResponseView::decode(&body, 6)
            .unwrap()
            .to_owned();
        (found.coordinators[0].error_code == 0).then_some(())
    })
    .await;
    (broker, client, topic)
}

async fn beat(
    client: &mut Client,
    member: &str,
    epoch: i32,
    topics: Option<&[&str]>,
) -> ShareGroupHeartbeatResponse {
    let request = ShareGroupHeartbeatRequest {
        group_id: GROUP.to_owned(),
        member_id: member.to_owned(),
        member_epoch: epoch,
        rack_id: None,
        subscribed_topic_names: topics
            .map(|topics| topics.iter().map(|name| (*name).to_owned()).collect()),
    };
    eventually("the coordinator is loaded", async || {
        let body = client.call(1, &request).await;
        let response = ShareGroupHeartbeatResponseView::decode(&body, 1)
            .unwrap()
            .to_owned();
        let loading = ErrorCode::CoordinatorLoadInProgress.code();
        (response.error_code != loading).then_some(response)
    })
    .await
}

async fn standing(client: &mut Client) -> Vec<DescribeShareGroupOffsetsResponsePartition> {
    let request = DescribeShareGroupOffsetsRequest {
        groups: vec![DescribeShareGroupOffsetsRequestGroup {
            group_id: GROUP.to_owned(),
            topics: None,
        }],
    };
    let body = client.call(1, &request).await;
    let response = DescribeShareGroupOffsetsResponseView::decode(&body, 1)
        .unwrap()
        .to_owned();
    let mut topics = response.groups.into_iter().flat_map(|group| group.topics);
    topics
        .next()
        .map_or_else(Vec::new, |topic| topic.partitions)
}

async fn alter(client: &mut Client, start_offset: i64) -> (i16, Vec<i16>) {
    let place = |partition_index| AlterShareGroupOffsetsRequestPartition {
        partition_index,
        start_offset,
    };
    let request = AlterShareGroupOffsetsRequest {
        group_id: GROUP.to_owned(),
        topics: vec![AlterShareGroupOffsetsRequestTopic {
            topic_name: "t".to_owned(),
            partitions: vec![place(0), place(7)],
        }],
    };
    eventually("the coordinator is loaded", async || {
        let body = client.call(0, &request).await;
        let response = AlterShareGroupOffsetsResponseView::decode(&body, 0)
            .unwrap()
            .to_owned();
        let outcomes = response
            .responses
            .iter()
            .flat_map(|topic| &topic.partitions);
        let outcomes: Vec<_> = outcomes.map(|partition| partition.error_code).collect();
        let loading = ErrorCode::CoordinatorLoadInProgress.code();
        (!outcomes.contains(&loading)).then_some((response.error_code, outcomes))
    })
    .await
}

#[tokio::test]
async fn a_share_group_has_members_and_is_described_and_listed() {
    let (broker, mut client, topic) = house().await;
    let joined = beat(&mut client, "a", 0, Some(&["t"])).await;
    assert_eq!((joined.error_code, joined.member_epoch), (0, 1));
    let assignment = joined.assignment.unwrap().topic_partitions;
    assert_eq!(assignment.len(), 1);
    assert_eq!(
        (assignment[0].topic_id, assignment[0].partitions.as_slice()),
        (topic, [0, 1].as_slice())
    );
    let unchanged = beat(&mut client, "a", 1, None).await;
    assert_eq!((unchanged.error_code, unchanged.assignment), (0, None));
    let fenced = beat(&mut client, "a", 9, None).await;
    assert_eq!(fenced.error_code, ErrorCode::FencedMemberEpoch.code());
    let nothing = beat(&mut client, "b", 0, None).await;
    assert_eq!(nothing.error_code, ErrorCode::InvalidRequest.code());

    let request = ShareGroupDescribeRequest {
        group_ids: vec![GROUP.to_owned(), "none".to_owned()],
        include_authorized_operations: false,
    };
    // The coordinator of the other name may still be loading.
    let described = eventually("the coordinators are loaded", async || {
        let body = client.call(1, &request).await;
        let described = ShareGroupDescribeResponseView::decode(&body, 1).unwrap();
        let described = described.to_owned();
        let loading = ErrorCode::CoordinatorLoadInProgress.code();
        let mut groups = described.groups.iter();
        let are_loaded = groups.all(|group| group.error_code != loading);
        are_loaded.then_some(described)
    })
    .await;
    let group = &described.groups[0];
    assert_eq!(
        (
            group.group_state.as_str(),
            group.group_epoch,
            group.assignment_epoch
        ),
        ("Stable", 1, 1)
    );
    assert_eq!(
        group.members[0].assignment.topic_partitions[0].topic_name,
        "t"
    );
    assert_eq!(
        described.groups[1].error_code,
        ErrorCode::GroupIdNotFound.code()
    );

    let request = ListGroupsRequest {
        types_filter: vec!["share".to_owned()],
        ..ListGroupsRequest::default()
    };
    // Other shards may be loading still.
    let listed = eventually("groups are listed", async || {
        let body = client.call(5, &request).await;
        let listed = ListGroupsResponseView::decode(&body, 5).unwrap().to_owned();
        (listed.error_code == 0).then_some(listed)
    })
    .await;
    let listed: Vec<_> = listed
        .groups
        .iter()
        .map(|group| {
            (
                group.group_id.as_str(),
                group.protocol_type.as_str(),
                group.group_type.as_str(),
            )
        })
        .collect();
    assert_eq!(listed, [(GROUP, "share", "share")]);
    broker.running.stop().await;
}

#[tokio::test]
async fn where_a_group_stands_is_told_set_and_forgotten() {
    let (broker, mut client, topic) = house().await;
    beat(&mut client, "a", 0, Some(&["t"])).await;
    client.produce("t", 0, batch(&["0", "1", "2"])).await;
    let while_read = alter(&mut client, 1).await;
    assert_eq!(while_read.0, ErrorCode::NonEmptyGroup.code());
    assert_eq!(beat(&mut client, "a", -1, None).await.member_epoch, -1);
    let altered = alter(&mut client, 1).await;
    assert_eq!(
        altered,
        (0, vec![0, ErrorCode::UnknownTopicOrPartition.code()])
    );
    let places = standing(&mut client).await;
    let places: Vec<_> = places
        .iter()
        .map(|place| (place.partition_index, place.start_offset, place.lag))
        .collect();
    assert_eq!(places, [(0, 1, 2), (1, -1, -1)]);

    // It is read from there.
    let mut request = ShareFetchRequest {
        group_id: Some(GROUP.to_owned()),
        member_id: Some("a".to_owned()),
        max_wait_ms: 500,
        max_bytes: 1 << 20,
        max_records: 500,
        batch_size: 500,
        topics: vec![FetchTopic {
            topic_id: topic,
            partitions: vec![FetchPartition {
                partition_index: 0,
                ..FetchPartition::default()
            }],
        }],
        ..ShareFetchRequest::default()
    };
    let first = eventually("records are acquired", async || {
        let body = client.call(2, &request).await;
        let response = ShareFetchResponseView::decode(&body, 2).unwrap().to_owned();
        assert_eq!(response.error_code, 0);
        request.share_session_epoch += 1;
        let data = response
            .responses
            .first()
            .and_then(|topic| topic.partitions.first());
        let range = data.and_then(|data| data.acquired_records.first());
        range.map(|range| (range.first_offset, range.last_offset))
    })
    .await;
    assert_eq!(first, (1, 2));

    let forget = DeleteShareGroupOffsetsRequest {
        group_id: GROUP.to_owned(),
        topics: ["t", "u"]
            .map(|name| DeleteShareGroupOffsetsRequestTopic {
                topic_name: name.to_owned(),
            })
            .to_vec(),
    };
    let body = client.call(0, &forget).await;
    let forgotten = DeleteShareGroupOffsetsResponseView::decode(&body, 0)
        .unwrap()
        .to_owned();
    assert_eq!(forgotten.error_code, 0, "{:?}", forgotten.error_message);
    let outcomes: Vec<_> = forgotten
        .responses
        .iter()
        .map(|topic| topic.error_code)
        .collect();
    assert_eq!(outcomes, [0, ErrorCode::UnknownTopicOrPartition.code()]);
    assert!(standing(&mut client).await.is_empty());
    broker.running.stop().await;
}

#[tokio::test]
async fn a_share_groups_lag_is_told_also_when_nobody_reads() {
    let (broker, mut client, _) = house().await;
    client.produce("t", 0, batch(&["0", "1", "2"])).await;
    let lag = r#"weir_group_lag_records{group="sharers",topic="t"}"#;
    let members = r#"weir_group_members{group="sharers"}"#;
    beat(&mut client, "a", 0, Some(&["t"])).await;
    becomes(&broker.running, members, Some(1)).await;
    // It has read nothing yet, so it has no place to be behind from.
    assert_eq!(metric(&broker.running, lag).await, None);
    beat(&mut client, "a", -1, None).await;
    assert_eq!(alter(&mut client, 1).await.0, 0);
    becomes(&broker.running, lag, Some(2)).await;
    assert_eq!(metric(&broker.running, members).await, Some(0));
    assert_eq!(alter(&mut client, 3).await.0, 0);
    becomes(&broker.running, lag, Some(0)).await;
    let delete = DeleteGroupsRequest {
        groups_names: vec![GROUP.to_owned()],
    };
    client.call(2, &delete).await;
    becomes(&broker.running, lag, None).await;
    assert_eq!(metric(&broker.running, members).await, None);
    broker.running.stop().await;
}

#[tokio::test]
async fn a_share_group_is_deleted_with_its_states() {
    let (broker, mut client, _) = house().await;
    beat(&mut client, "a", 0, Some(&["t"])).await;
    let request = DeleteGroupsRequest {
        groups_names: vec![GROUP.to_owned()],
    };
    let delete = async |client: &mut Client| {
        eventually("the coordinator is there", async || {
            let body = client.call(2, &request).await;
            let response = DeleteGroupsResponseView::decode(&body, 2)
                .unwrap()
                .to_owned();
            let error = response.results[0].error_code;
            (error != ErrorCode::CoordinatorNotAvailable.code()).then_some(error)
        })
        .await
    };
    assert_eq!(delete(&mut client).await, ErrorCode::NonEmptyGroup.code());
    beat(&mut client, "a", -1, None).await;
    assert_eq!(alter(&mut client, 1).await.0, 0);
    assert_eq!(delete(&mut client).await, 0);
    assert_eq!(delete(&mut client).await, ErrorCode::GroupIdNotFound.code());
    // One that begins anew begins with no state.
    beat(&mut client, "a", 0, Some(&["t"])).await;
    let starts: Vec<_> = standing(&mut client).await;
    let starts: Vec<_> = starts.iter().map(|place| place.start_offset).collect();
    assert_eq!(starts, [-1, -1]);
    broker.running.stop().await;
}
