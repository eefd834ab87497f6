//! Groups that another broker coordinates, and partitions that another broker leads: it is asked over gRPC.

use std::sync::{Arc, Mutex};

use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use weir_proto::admin::v1 as admin;
use weir_proto::admin::v1::reset_offsets_request::To;
use weir_proto::groups::v1 as proto;
use weir_proto::groups::v1::groups_server::{Groups as Answers, GroupsServer};
use weir_quorum::command::{Command, Heartbeat, RegisterBroker, Reply};
use weir_quorum::record::HostPort;
use weir_quorum::{BrokerId, Incarnation};

use super::{House, TOPIC};

/// The other broker: it knows every group, each with one commit, and every partition ends at 100.
#[derive(Clone, Debug, Default)]
struct Other {
    /// The partition of the commit.
    partition: Arc<Mutex<i32>>,
}

#[tonic::async_trait]
impl Answers for Other {
    async fn describe(
        &self,
        request: Request<proto::DescribeRequest>,
    ) -> Result<Response<proto::DescribeResponse>, Status> {
        let partition = *self.partition.lock().unwrap();
        let mut ids = request.into_inner().ids;
        if ids.is_empty() {
            ids.push("zebra".to_owned());
        }
        let groups = ids.into_iter().map(|id| proto::Group {
            id,
            state: "Stable".to_owned(),
            committed: vec![proto::Committed {
                topic: TOPIC.to_owned(),
                partition,
                offset: 40,
            }],
            ..proto::Group::default()
        });
        Ok(Response::new(proto::DescribeResponse {
            groups: groups.collect(),
        }))
    }

    async fn standings(
        &self,
        request: Request<proto::StandingsRequest>,
    ) -> Result<Response<proto::StandingsResponse>, Status> {
        let results = request.into_inner().committed.into_iter().map(|place| {
            let standing = proto::Standing {
                end_offset: 100,
                lag: 100 - place.offset,
                lag_ms: 7,
            };
            proto::StandingResult {
                standing: Some(standing),
            }
        });
        Ok(Response::new(proto::StandingsResponse {
            results: results.collect(),
        }))
    }

    async fn places(
        &self,
        request: Request<proto::PlacesRequest>,
    ) -> Result<Response<proto::PlacesResponse>, Status> {
        let request = request.into_inner();
        let place = proto::Place {
            start_offset: 10,
            end_offset: 100,
            offset_at_time: request.timestamp_ms.map(|_| 55),
        };
        let results = request
            .partitions
            .iter()
            .map(|_| proto::PlaceResult { place: Some(place) });
        Ok(Response::new(proto::PlacesResponse {
            results: results.collect(),
        }))
    }

    async fn reset_offsets(
        &self,
        request: Request<admin::ResetOffsetsRequest>,
    ) -> Result<Response<admin::ResetOffsetsResponse>, Status> {
        // So that the test sees what has come.
        Ok(Response::new(admin::ResetOffsetsResponse {
            error: Some(admin::Error {
                code: request.into_inner().request_id,
                message: String::new(),
            }),
            ..admin::ResetOffsetsResponse::default()
        }))
    }
}

impl House {
    /// A second broker is alive, and answers at `address`.
    async fn meet(&self, address: String) {
        let id = BrokerId(1);
        let register = Command::RegisterBroker(RegisterBroker {
            id,
            incarnation: Incarnation(uuid::Uuid::from_u128(2)),
            kafka: HostPort {
                host: "other".into(),
                port: 9092,
            },
            quorum_address: address,
            rack: None,
            version: "1".to_owned(),
            feature_level: weir_quorum::controller::FEATURE_LEVEL,
        });
        let Reply::Registered { epoch } = self.metadata.control(register).await.unwrap() else {
            panic!("registered")
        };
        let alive = Command::Heartbeat(Heartbeat {
            id,
            epoch,
            ready: true,
            stopping: false,
            full: false,
            feature_level: weir_quorum::controller::FEATURE_LEVEL,
            sizes: Vec::new(),
        });
        self.metadata.control(alive).await.unwrap();
    }

    /// A group that is coordinated by this broker.
    async fn group_at(&self, broker: i32) -> String {
        for number in 0..1_000 {
            let group = format!("group-{number}");
            if self.groups.find(&group).await.unwrap().id == BrokerId(broker) {
                return group;
            }
        }
        panic!("no group of broker {broker}");
    }

    fn partition_at(&self, broker: i32) -> i32 {
        let topic = self.image().topic(TOPIC).cloned().unwrap();
        let led = |index: &i32| topic.partition(*index).unwrap().leader == Some(BrokerId(broker));
        (0..4).find(led).unwrap()
    }
}

/// A house with a neighbour that answers.
async fn neighbours() -> (House, Other) {
    let house = House::empty().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let other = Other::default();
    let server = Server::builder().serve_with_incoming(
        GroupsServer::new(other.clone()),
        TcpIncoming::from(listener),
    );
    tokio::spawn(server);
    house.meet(address).await;
    house.create(TOPIC, 4).await;
    (house, other)
}

#[tokio::test]
async fn any_broker_describes_every_group() {
    let (house, other) = neighbours().await;
    let (mine, theirs) = (house.group_at(0).await, house.group_at(1).await);
    // Of the group here, a partition there; of the group there, a partition here.
    let (here, there) = (house.partition_at(0), house.partition_at(1));
    house.partition(here).await;
    *other.partition.lock().unwrap() = here;
    house.commit_to(&mine, there, 90).await.unwrap();
    let asked = [theirs.clone(), mine.clone()];
    let groups = house.groups.describe_with_lag(&asked).await.unwrap();
    let found: Vec<_> = groups
        .iter()
        .map(|group| (group.id.clone(), group.state.as_str()))
        .collect();
    assert_eq!(
        found,
        [(theirs, "Stable"), (mine.clone(), "Empty")],
        "in the order of the request"
    );
    assert_eq!(
        (
            groups[1].lag[0].partition,
            groups[1].lag[0].lag,
            groups[1].lag[0].lag_ms
        ),
        (there, 10, 7)
    );
    assert_eq!(
        (
            groups[0].lag[0].partition,
            groups[0].lag[0].end_offset,
            groups[0].lag[0].lag
        ),
        (here, 0, 0)
    );
    let all = house.describe_all().await.unwrap();
    let all: Vec<&str> = all.iter().map(|group| group.id.as_str()).collect();
    assert_eq!(all, [mine.as_str(), "zebra"]);
}

#[tokio::test]
async fn what_cannot_be_learnt_is_an_error_and_not_a_guess() {
    let house = House::empty().await;
    // Nobody listens there.
    house.meet("127.0.0.1:9".to_owned()).await;
    house.create(TOPIC, 4).await;
    let (mine, theirs) = (house.group_at(0).await, house.group_at(1).await);
    house
        .commit_to(&mine, house.partition_at(1), 90)
        .await
        .unwrap();
    let groups = house
        .groups
        .describe_with_lag(&[mine, theirs])
        .await
        .unwrap();
    let codes: Vec<_> = groups
        .iter()
        .map(|group| group.error.as_ref().unwrap().code.as_str())
        .collect();
    assert_eq!(codes, ["LEADER_NOT_AVAILABLE", "COORDINATOR_NOT_AVAILABLE"]);
    assert_eq!(house.describe_all().await.unwrap_err().broker, BrokerId(1));
}

fn reset(group: &str, partition: i32, to: To) -> admin::ResetOffsetsRequest {
    admin::ResetOffsetsRequest {
        group: group.to_owned(),
        request_id: format!("{to:?}"),
        topics: vec![admin::ResetTopic {
            name: TOPIC.to_owned(),
            partitions: vec![partition],
        }],
        to: Some(to),
        dry_run: false,
    }
}

#[tokio::test]
async fn a_reset_goes_to_the_coordinator_and_asks_the_leaders() {
    let (house, _) = neighbours().await;
    let (mine, theirs) = (house.group_at(0).await, house.group_at(1).await);
    let there = house.partition_at(1);
    house.loaded().await;
    let cases = [
        (To::Earliest(true), 10),
        (To::Latest(true), 100),
        (To::TimestampMs(7), 55),
        (To::Offset(1_000), 100),
        (To::Shift(-30), 70),
    ];
    for (to, expected) in cases {
        let answer = house.groups.reset_offsets(reset(&mine, there, to)).await;
        assert_eq!(answer.error, None);
        assert_eq!(answer.partitions[0].after, Some(expected), "{to:?}");
    }
    let carried = house
        .groups
        .reset_offsets(reset(&theirs, there, To::Offset(3)))
        .await;
    assert_eq!(carried.error.unwrap().code, "Offset(3)");
}

#[tokio::test]
async fn nothing_is_reset_while_a_leader_cannot_be_asked() {
    let house = House::empty().await;
    // Nobody listens there.
    house.meet("127.0.0.1:9".to_owned()).await;
    house.create(TOPIC, 4).await;
    let (mine, theirs) = (house.group_at(0).await, house.group_at(1).await);
    let (here, there) = (house.partition_at(0), house.partition_at(1));
    house.partition(here).await;
    house.loaded().await;
    let mut both = reset(&mine, here, To::Earliest(true));
    both.topics[0].partitions.push(there);
    let refused = house.groups.reset_offsets(both.clone()).await;
    assert_eq!(refused.error.unwrap().code, "LEADER_NOT_AVAILABLE");
    let refused = house
        .groups
        .reset_offsets(reset(&theirs, here, To::Earliest(true)))
        .await;
    assert_eq!(refused.error.unwrap().code, "COORDINATOR_NOT_AVAILABLE");
    // The id is not used up.
    both.topics[0].partitions = vec![here];
    let done = house.groups.reset_offsets(both).await;
    assert_eq!((done.error, done.done_before), (None, false));
}
