//! What the operator does to groups, over gRPC, while consumers are in them.

use tonic::transport::Channel;
use weir_proto::admin::v1 as proto;
use weir_proto::admin::v1::admin_client::AdminClient;
use weir_proto::admin::v1::beginning::At;
use weir_proto::admin::v1::reset_offsets_request::To;
use weir_tls::Role;
use weir_wire::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use weir_wire::messages::{OffsetCommitRequest, OffsetCommitResponseView};
use weir_wire::{ErrorCode, MessageView};

use super::client::{Client, TestBroker};
use super::consumer_groups::{GROUP, beat, client, given, joining};

const ALL: &[i32] = &[0, 1, 2, 3];

fn admin(broker: &TestBroker) -> AdminClient<Channel> {
    AdminClient::new(broker.channel(Role::Operator))
}

async fn commit(client: &mut Client, topic: uuid::Uuid, epoch: i32, offset: i64) -> i16 {
    let request = OffsetCommitRequest {
        group_id: GROUP.to_owned(),
        member_id: "a".to_owned(),
        generation_id_or_member_epoch: epoch,
        topics: vec![OffsetCommitRequestTopic {
            topic_id: topic,
            partitions: vec![OffsetCommitRequestPartition {
                partition_index: 0,
                committed_offset: offset,
                ..OffsetCommitRequestPartition::default()
            }],
            ..OffsetCommitRequestTopic::default()
        }],
        ..OffsetCommitRequest::default()
    };
    let body = client.call(10, &request).await;
    let committed = OffsetCommitResponseView::decode(&body, 10)
        .unwrap()
        .to_owned();
    committed.topics[0].partitions[0].error_code
}

async fn group(admin: &mut AdminClient<Channel>) -> proto::Group {
    let request = proto::DescribeGroupsRequest {
        ids: vec![GROUP.to_owned()],
    };
    let described = admin.describe_groups(request).await.unwrap().into_inner();
    described.groups[0].clone()
}

#[tokio::test]
async fn offsets_are_reset_once_under_a_live_consumer_who_is_fenced() {
    let broker = TestBroker::start().await;
    let (mut client, topic) = client(&broker).await;
    client.beat(1, &joining("a")).await;
    assert_eq!(commit(&mut client, topic, 1, 41).await, 0);
    let mut admin = admin(&broker);
    let mut reset = async |request: proto::ResetOffsetsRequest| {
        admin.reset_offsets(request).await.unwrap().into_inner()
    };
    let request = |id: &str, to| proto::ResetOffsetsRequest {
        group: GROUP.to_owned(),
        request_id: id.to_owned(),
        topics: Vec::new(),
        dry_run: false,
        to: Some(to),
    };
    let dry = proto::ResetOffsetsRequest {
        dry_run: true,
        ..request("one", To::Earliest(true))
    };
    let would = reset(dry).await;
    assert_eq!((would.error, would.fenced_members), (None, 1));
    assert_eq!(would.partitions.len(), 4);
    let first = &would.partitions[0];
    assert_eq!((first.before, first.after), (Some(41), Some(0)));
    let told = client.beat(1, &beat("a", 1, topic, Some(ALL))).await;
    assert_eq!(told.error_code, 0, "a dry run fences nobody");

    let done = reset(request("one", To::Earliest(true))).await;
    assert_eq!((done.error, done.done_before), (None, false));
    for code in [
        commit(&mut client, topic, 1, 42).await,
        client
            .beat(1, &beat("a", 1, topic, Some(ALL)))
            .await
            .error_code,
    ] {
        assert_eq!(code, ErrorCode::UnknownMemberId.code());
    }
    let again = client.beat(1, &joining("a")).await;
    assert_eq!(given(&again), Some(ALL.to_vec()));
    assert_eq!(commit(&mut client, topic, again.member_epoch, 3).await, 0);

    // Also after the broker was away.
    let broker = broker.restart().await;
    let mut admin = self::admin(&broker);
    let repeated = super::client::eventually("the coordinator is there", async || {
        let answer = admin
            .reset_offsets(request("one", To::Earliest(true)))
            .await;
        let answer = answer.unwrap().into_inner();
        answer.error.is_none().then_some(answer)
    })
    .await;
    assert!(repeated.done_before);
    assert_eq!(repeated.done_at_ms, done.done_at_ms);
    let described = super::client::eventually("the leader is there", async || {
        Some(group(&mut admin).await).filter(|group| group.error.is_none())
    })
    .await;
    assert_eq!(described.lag[0].committed_offset, 3);
}

#[tokio::test]
async fn a_group_begins_where_it_is_put_and_is_not_moved_once_it_has() {
    let broker = TestBroker::start().await;
    let (mut client, topic) = client(&broker).await;
    let mut admin = admin(&broker);
    let mut begin = async |at: At| {
        let request = proto::ResetOffsetsRequest {
            group: GROUP.to_owned(),
            topics: vec![proto::ResetTopic {
                name: "orders".to_owned(),
                partitions: Vec::new(),
            }],
            to: Some(To::Begin(proto::Beginning { at: Some(at) })),
            ..proto::ResetOffsetsRequest::default()
        };
        admin.reset_offsets(request).await.unwrap().into_inner()
    };
    let begun = super::client::eventually("the leader is there", async || {
        Some(begin(At::Earliest(true)).await).filter(|answer| answer.error.is_none())
    })
    .await;
    let set = begun.partitions.iter().map(|one| (one.before, one.after));
    assert_eq!(set.collect::<Vec<_>>(), vec![(None, Some(0)); ALL.len()]);

    client.beat(1, &joining("a")).await;
    assert_eq!(commit(&mut client, topic, 1, 41).await, 0);
    let refused = begin(At::Latest(true)).await;
    assert_eq!(
        refused.error.map(|error| error.code).as_deref(),
        Some("NON_EMPTY_GROUP")
    );
    client.beat(1, &beat("a", -1, topic, None)).await;
    let again = begin(At::TimestampMs(0)).await;
    assert_eq!((again.error, again.done_before), (None, false));
    assert!(again.partitions.iter().all(|one| one.after.is_none()));
    assert_eq!(again.partitions[0].before, Some(41));
}

#[tokio::test]
async fn what_cannot_be_reset_says_why() {
    let broker = TestBroker::start().await;
    let (mut client, topic) = client(&broker).await;
    client.beat(1, &joining("a")).await;
    commit(&mut client, topic, 1, 41).await;
    let mut admin = admin(&broker);
    let good = proto::ResetOffsetsRequest {
        group: GROUP.to_owned(),
        request_id: "one".to_owned(),
        to: Some(To::Latest(true)),
        ..proto::ResetOffsetsRequest::default()
    };
    let of_topic = |name: &str, partition| {
        vec![proto::ResetTopic {
            name: name.to_owned(),
            partitions: vec![partition],
        }]
    };
    let cases = [
        (
            proto::ResetOffsetsRequest {
                to: None,
                ..good.clone()
            },
            "INVALID_REQUEST",
        ),
        (
            proto::ResetOffsetsRequest {
                request_id: String::new(),
                ..good.clone()
            },
            "INVALID_REQUEST",
        ),
        (
            proto::ResetOffsetsRequest {
                to: Some(To::Begin(proto::Beginning { at: None })),
                ..good.clone()
            },
            "INVALID_REQUEST",
        ),
        (
            proto::ResetOffsetsRequest {
                to: Some(To::TimestampMs(-1)),
                ..good.clone()
            },
            "INVALID_REQUEST",
        ),
        (
            proto::ResetOffsetsRequest {
                topics: of_topic("missing", 0),
                ..good.clone()
            },
            "UNKNOWN_TOPIC_OR_PARTITION",
        ),
        (
            proto::ResetOffsetsRequest {
                topics: of_topic("orders", 9),
                ..good.clone()
            },
            "UNKNOWN_TOPIC_OR_PARTITION",
        ),
        (
            proto::ResetOffsetsRequest {
                group: "other".to_owned(),
                ..good.clone()
            },
            "GROUP_ID_NOT_FOUND",
        ),
        (
            proto::ResetOffsetsRequest {
                group: String::new(),
                topics: of_topic("orders", 0),
                ..good.clone()
            },
            "INVALID_GROUP_ID",
        ),
        (
            proto::ResetOffsetsRequest {
                request_id: "x".repeat(129),
                ..good.clone()
            },
            "INVALID_REQUEST",
        ),
    ];
    for (request, code) in cases {
        let text = format!("{request:?}");
        let answer = admin.reset_offsets(request).await.unwrap().into_inner();
        assert_eq!(
            answer.error.map(|error| error.code).as_deref(),
            Some(code),
            "{text}"
        );
    }
    let told = client.beat(1, &beat("a", 1, topic, Some(ALL))).await;
    assert_eq!(told.error_code, 0, "nobody was fenced");
}

#[tokio::test]
async fn a_group_is_paused_and_resumed_while_its_consumer_stays() {
    let broker = TestBroker::start().await;
    let (mut client, topic) = client(&broker).await;
    client.beat(1, &joining("a")).await;
    let mut admin = admin(&broker);
    let pause = |paused| proto::PauseGroupsRequest {
        ids: vec![GROUP.to_owned()],
        paused,
    };
    let answer = admin.pause_groups(pause(true)).await.unwrap().into_inner();
    assert_eq!(answer.results[0].error, None);
    assert_eq!(group(&mut admin).await.consumption, "Pausing");
    let told = client.beat(1, &beat("a", 1, topic, Some(ALL))).await;
    assert_eq!(given(&told), Some(Vec::new()));
    let given_up = client
        .beat(1, &beat("a", told.member_epoch, topic, Some(&[])))
        .await;
    assert_eq!(group(&mut admin).await.consumption, "Paused");
    admin.pause_groups(pause(false)).await.unwrap();
    let resumed = client
        .beat(1, &beat("a", given_up.member_epoch, topic, Some(&[])))
        .await;
    assert_eq!(given(&resumed), Some(ALL.to_vec()));
    assert_eq!(group(&mut admin).await.consumption, "Running");

    let refused = proto::PauseGroupsRequest {
        ids: vec![String::new()],
        paused: true,
    };
    let refused = admin.pause_groups(refused).await.unwrap().into_inner();
    assert!(refused.results[0].error.is_some());
}

#[tokio::test]
async fn a_group_is_configured_before_it_exists_and_what_it_cannot_mean_is_refused() {
    let broker = TestBroker::start().await;
    let mut admin = admin(&broker);
    let change = |id: &str, set: &[(&str, &str)], unset: &[&str]| proto::GroupConfigChange {
        id: id.to_owned(),
        set: set
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        unset: unset.iter().map(|key| (*key).to_owned()).collect(),
    };
    let backoff = "weir.share.retry.backoff.ms";
    let groups = vec![
        change(GROUP, &[(backoff, "1000,5000")], &["weir.share.filter"]),
        change("other", &[("weir.share.filter", "country == 'de'")], &[]),
    ];
    let request = proto::ConfigureGroupsRequest { groups };
    let answer = admin.configure_groups(request).await.unwrap().into_inner();
    assert_eq!(answer.results[0].error, None);
    let (mut client, _) = client(&broker).await;
    client.beat(1, &joining("a")).await;
    let refused = answer.results[1].error.clone().unwrap();
    assert_eq!(refused.code, "INVALID_CONFIG");
    assert!(refused.message.contains("line 1, column 1"), "{refused:?}");
    assert_eq!(group(&mut admin).await.config[backoff], "1000,5000");
    let groups = vec![change(GROUP, &[], &[backoff])];
    let request = proto::ConfigureGroupsRequest { groups };
    admin.configure_groups(request).await.unwrap();
    assert!(group(&mut admin).await.config.is_empty());
}
