#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::SystemTime;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status};
use weir_proto::admin::v1::admin_server::{Admin as Service, AdminServer};

use weir_tls::server::TlsStream;
use weir_tls::{Held, Role, Seen, Tls};

use super::{Admin, Way, proto};
use crate::act::{self, Acted};
use crate::decide::certificates::members;
use crate::decide::cluster::Step as ClusterStep;
use crate::decide::evictions::Availability;
use crate::decide::topic::Step;
use crate::testing::certificates;
use crate::validate::{BeginAt, Reset, ResetTo};
use crate::world::{BrokerId, Disk, Key, Refusal, ResetSeen};

/// A broker that has what it is given and refuses topics whose name begins with `bad`.
#[derive(Debug, Clone, Default)]
struct Broker {
    calls: Arc<Mutex<Vec<String>>>,
    away: bool,
    id: i32,
    /// Whom it hears from.
    controller: Option<i32>,
    /// Asked who is alive, it says that it hears from none.
    cut_off: bool,
}

impl Broker {
    fn called<T>(&self, what: String, answer: T) -> Result<Response<T>, Status> {
        if self.away {
            return Err(Status::unavailable("no controller"));
        }
        self.calls.lock().unwrap().push(what);
        Ok(Response::new(answer))
    }
}

fn results(names: impl Iterator<Item = String>) -> proto::TopicResultsResponse {
    let error = |name: &str| {
        name.starts_with("bad").then(|| proto::Error {
            code: "INVALID_CONFIG".into(),
            message: format!("{name} is bad"),
        })
    };
    proto::TopicResultsResponse {
        results: names
            .map(|name| proto::TopicResult {
                error: error(&name),
                name,
            })
            .collect(),
    }
}

#[tonic::async_trait]
impl Service for Broker {
    async fn describe_cluster(
        &self,
        _: Request<proto::DescribeClusterRequest>,
    ) -> Result<Response<proto::DescribeClusterResponse>, Status> {
        let broker = |id| proto::Broker {
            id,
            alive: true,
            version: "0.1.0".into(),
            disk_total_bytes: 100 + u64::try_from(id).unwrap_or(0),
            disk_available_bytes: 50,
            ..proto::Broker::default()
        };
        let answer = proto::DescribeClusterResponse {
            cluster_id: "id".into(),
            brokers: vec![broker(0), broker(1)],
            voters: vec![0],
            answering_broker: Some(self.id),
            controller_id: self.controller,
            ..Default::default()
        };
        self.called("cluster".into(), answer)
    }

    async fn describe_topics(
        &self,
        request: Request<proto::DescribeTopicsRequest>,
    ) -> Result<Response<proto::DescribeTopicsResponse>, Status> {
        let topic = proto::Topic {
            name: "orders".into(),
            partitions: 3,
            ..proto::Topic::default()
        };
        self.called(
            format!("topics {:?}", request.into_inner().names),
            proto::DescribeTopicsResponse {
                topics: vec![topic],
            },
        )
    }

    async fn create_topics(
        &self,
        request: Request<proto::CreateTopicsRequest>,
    ) -> Result<Response<proto::TopicResultsResponse>, Status> {
        let topics = request.into_inner().topics;
        self.called(
            format!("create {}", topics.len()),
            results(topics.into_iter().map(|topic| topic.name)),
        )
    }

    async fn alter_topics(
        &self,
        request: Request<proto::AlterTopicsRequest>,
    ) -> Result<Response<proto::TopicResultsResponse>, Status> {
        let changes = request.into_inner().changes;
        self.called(
            format!("alter {}", changes.len()),
            results(changes.into_iter().map(|change| change.name)),
        )
    }

    async fn delete_topics(
        &self,
        request: Request<proto::DeleteTopicsRequest>,
    ) -> Result<Response<proto::TopicResultsResponse>, Status> {
        let names = request.into_inner().names;
        self.called(
            format!("delete {}", names.len()),
            results(names.into_iter()),
        )
    }

    async fn cordon(
        &self,
        request: Request<proto::CordonRequest>,
    ) -> Result<Response<proto::BrokerResultsResponse>, Status> {
        let request = request.into_inner();
        let what = format!("cordon {:?} {}", request.brokers, request.cordoned);
        self.called(what, proto::BrokerResultsResponse::default())
    }

    async fn drain(
        &self,
        request: Request<proto::DrainRequest>,
    ) -> Result<Response<proto::BrokerResultsResponse>, Status> {
        let what = format!("drain {:?}", request.into_inner().brokers);
        self.called(what, proto::BrokerResultsResponse::default())
    }

    async fn rebalance(
        &self,
        request: Request<proto::RebalanceRequest>,
    ) -> Result<Response<proto::RebalanceResponse>, Status> {
        let what = format!("rebalance {}", request.into_inner().active);
        self.called(what, proto::RebalanceResponse::default())
    }

    async fn raise_feature_level(
        &self,
        request: Request<proto::RaiseFeatureLevelRequest>,
    ) -> Result<Response<proto::RaiseFeatureLevelResponse>, Status> {
        let what = format!("level {}", request.into_inner().level);
        self.called(what, proto::RaiseFeatureLevelResponse::default())
    }

    async fn describe_feature_levels(
        &self,
        _: Request<proto::DescribeFeatureLevelsRequest>,
    ) -> Result<Response<proto::DescribeFeatureLevelsResponse>, Status> {
        // As brokers do that are older than this call.
        Err(Status::unimplemented("no such call"))
    }

    async fn set_listeners(
        &self,
        request: Request<proto::SetListenersRequest>,
    ) -> Result<Response<proto::BrokerResultsResponse>, Status> {
        let brokers = request.into_inner().brokers;
        let what = format!("listeners of {}", brokers.len());
        self.called(what, proto::BrokerResultsResponse::default())
    }

    async fn unregister_brokers(
        &self,
        request: Request<proto::UnregisterBrokersRequest>,
    ) -> Result<Response<proto::BrokerResultsResponse>, Status> {
        let what = format!("unregister {:?}", request.into_inner().brokers);
        self.called(what, proto::BrokerResultsResponse::default())
    }

    async fn describe_groups(
        &self,
        request: Request<proto::DescribeGroupsRequest>,
    ) -> Result<Response<proto::DescribeGroupsResponse>, Status> {
        let group = |id: String| proto::Group {
            id,
            state: "Dead".into(),
            ..proto::Group::default()
        };
        let ids = request.into_inner().ids;
        self.called(
            format!("groups {}", ids.len()),
            proto::DescribeGroupsResponse {
                groups: ids.into_iter().map(group).collect(),
            },
        )
    }

    async fn reset_offsets(
        &self,
        request: Request<proto::ResetOffsetsRequest>,
    ) -> Result<Response<proto::ResetOffsetsResponse>, Status> {
        let request = request.into_inner();
        let partition = proto::ResetPartition {
            topic: "orders".into(),
            partition: 3,
            before: Some(70),
            after: None,
        };
        self.called(
            format!("reset {request:?}"),
            proto::ResetOffsetsResponse {
                done_at_ms: 7,
                fenced_members: 2,
                partitions: vec![partition],
                ..proto::ResetOffsetsResponse::default()
            },
        )
    }

    async fn trace(
        &self,
        _request: Request<proto::TraceRequest>,
    ) -> Result<Response<proto::TraceResponse>, Status> {
        Err(Status::unimplemented("nobody asks for it here"))
    }

    async fn redrive(
        &self,
        _request: Request<proto::RedriveRequest>,
    ) -> Result<Response<proto::RedriveResponse>, Status> {
        Err(Status::unimplemented("nobody asks for it here"))
    }

    async fn configure_groups(
        &self,
        request: Request<proto::ConfigureGroupsRequest>,
    ) -> Result<Response<proto::GroupResultsResponse>, Status> {
        let groups = request.into_inner().groups;
        let results = groups.into_iter().map(|group| proto::GroupResult {
            id: group.id,
            error: None,
        });
        Ok(Response::new(proto::GroupResultsResponse {
            results: results.collect(),
        }))
    }

    async fn configure_brokers(
        &self,
        request: Request<proto::ConfigureBrokersRequest>,
    ) -> Result<Response<proto::ConfigureBrokersResponse>, Status> {
        let set = request.into_inner().set.len();
        let error = (set == 0).then(|| proto::Error {
            code: "INVALID_CONFIG".into(),
            message: "no".into(),
        });
        self.called(
            format!("configure {set}"),
            proto::ConfigureBrokersResponse { error },
        )
    }

    async fn await_availability(
        &self,
        request: Request<proto::AwaitAvailabilityRequest>,
    ) -> Result<Response<proto::AwaitAvailabilityResponse>, Status> {
        let mut now = request.into_inner().known.unwrap_or_default();
        // One has gone since.
        now.alive.pop();
        now.brokers_needed = true;
        now.controller_unknown = self.cut_off;
        let answer = proto::AwaitAvailabilityResponse { now: Some(now) };
        self.called("availability".into(), answer)
    }

    async fn export_metadata(
        &self,
        _: Request<proto::ExportMetadataRequest>,
    ) -> Result<Response<proto::ExportMetadataResponse>, Status> {
        let json = "{}".to_owned();
        self.called("export".into(), proto::ExportMetadataResponse { json })
    }

    async fn pause_groups(
        &self,
        request: Request<proto::PauseGroupsRequest>,
    ) -> Result<Response<proto::GroupResultsResponse>, Status> {
        let request = request.into_inner();
        let results = request.ids.iter().map(|id| proto::GroupResult {
            id: id.clone(),
            error: (id == "odd").then(|| proto::Error {
                code: "INVALID_REQUEST".into(),
                message: "no".into(),
            }),
        });
        self.called(
            format!("pause {}", request.paused),
            proto::GroupResultsResponse {
                results: results.collect(),
            },
        )
    }
}

/// Starts a broker and returns its address.
async fn start(broker: Broker) -> String {
    start_as(broker, certificates()).await
}

/// The same, with broker 0's certificate of these.
async fn start_as(broker: Broker, held: &Held) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let tls = Tls::from_pems(held.pems(Role::Broker(0)).unwrap()).unwrap();
    let incoming = futures::stream::unfold((listener, tls), |(listener, tls)| async {
        let (socket, _) = listener.accept().await.ok()?;
        let accepted = tls.accept(socket).await;
        let accepted = accepted.map(|(stream, role)| {
            assert_eq!(role, Role::Operator);
            Accepted(stream)
        });
        Some((accepted, (listener, tls)))
    });
    let server = Server::builder();
    tokio::spawn(server.serve_with_incoming(AdminServer::new(broker), Box::pin(incoming)));
    address
}

/// As tonic wants it.
struct Accepted(TlsStream<TcpStream>);

impl Connected for Accepted {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// The way to these addresses, for who is known there.
fn way(addresses: Vec<String>) -> Way {
    let brokers = addresses.into_iter().map(|address| vec![address]);
    Way::new(brokers.collect(), certificates().pems(Role::Operator))
}

fn create(topic: &str) -> Step {
    Step::Create {
        resource: Key::new("shop", topic),
        topic: topic.into(),
        partitions: None,
        replication_factor: None,
        config: BTreeMap::new(),
    }
}

/// An address at which nobody listens.
async fn closed() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().to_string()
}

#[tokio::test]
async fn brokers_that_do_not_answer_are_passed_over() {
    let broker = Broker::default();
    let closed = closed().await;
    let away = start(Broker {
        away: true,
        ..Broker::default()
    })
    .await;
    let mut admin = Admin::new(way(vec![closed, away, start(broker.clone()).await]));
    let look = admin.look().await.unwrap();
    assert_eq!(
        (look.cluster_id.as_str(), look.brokers.len(), look.voters),
        ("id", 2, vec![BrokerId(0)])
    );
    assert_eq!(look.topics["orders"].partitions, 3);
    assert_eq!(
        *broker.calls.lock().unwrap(),
        ["cluster", "topics []"],
        "one call for all topics"
    );
}

#[tokio::test]
async fn each_broker_is_asked_for_its_disk_once_and_at_its_next_address_only_if_it_does_not_answer()
{
    let closed = closed().await;
    let all = [0, 1].map(|id| Broker {
        id,
        ..Broker::default()
    });
    let mut addresses = Vec::new();
    for broker in &all {
        addresses.push([start(broker.clone()).await, start(broker.clone()).await]);
    }
    let [[first, again], [_, other]] = <[_; 2]>::try_from(addresses).unwrap();
    let brokers = vec![
        vec![first.clone(), again.clone()],
        vec![closed.clone(), other.clone()],
        vec![closed.clone()],
    ];
    let way = Way::new(brokers, certificates().pems(Role::Operator));
    assert_eq!(
        way.addresses,
        [&first, &closed, &closed, &again, &other].map(String::as_str),
        "names before addresses"
    );
    let disk = |id: u64| Disk {
        total_bytes: 100 + id,
        available_bytes: 50,
    };
    let expected = BTreeMap::from([(BrokerId(0), disk(0)), (BrokerId(1), disk(1))]);
    assert_eq!(super::disks(&way).await, expected);
    for broker in &all {
        assert_eq!(*broker.calls.lock().unwrap(), ["cluster"]);
    }
}

#[tokio::test]
async fn who_is_alive_is_asked_with_what_is_known() {
    let mut admin = Admin::new(way(vec![start(Broker::default()).await]));
    let known = Availability {
        alive: [0, 1, 2].map(BrokerId).into(),
        ..Availability::default()
    };
    let now = admin.availability(&known).await.unwrap();
    assert_eq!(now.alive, [0, 1].map(BrokerId).into());
    assert!(now.brokers_needed);
}

#[tokio::test]
async fn after_a_broker_that_hears_from_no_controller_one_is_asked_that_does() {
    let lone = || Broker {
        cut_off: true,
        ..Broker::default()
    };
    let (cut_off, other, well) = (
        lone(),
        lone(),
        Broker {
            controller: Some(1),
            ..Broker::default()
        },
    );
    let closed = closed().await;
    let addresses = vec![
        start(cut_off.clone()).await,
        start(other.clone()).await,
        closed,
        start(well.clone()).await,
    ];
    let known = |broker: &Broker| std::mem::take(&mut *broker.calls.lock().unwrap());
    let mut admin = Admin::new(way(addresses.clone()));
    let look = admin.look().await.unwrap();
    assert_eq!(look.controller, Some(BrokerId(1)));
    assert_eq!(admin.answering(), addresses.last().map(String::as_str));
    assert_eq!(known(&cut_off), ["cluster"]);
    assert_eq!(known(&well)[..2], ["cluster", "topics []"]);
    // It is asked first from then on.
    admin.look().await.unwrap();
    assert!(known(&cut_off).is_empty());

    // Where nobody does, what the first one says is taken for what it is.
    let mut admin = Admin::new(way(addresses[..3].to_vec()));
    let look = admin.look().await.unwrap();
    assert_eq!((look.controller, look.brokers.len()), (None, 2));

    // Whoever waits at one that does not hear of anything waits at another the next time.
    known(&other);
    let mut admin = Admin::new(way(addresses));
    let is_unknown = async |admin: &mut Admin| {
        let now = admin.availability(&Availability::default()).await;
        now.unwrap().controller_unknown
    };
    assert!(is_unknown(&mut admin).await);
    assert!(is_unknown(&mut admin).await);
    assert_eq!(known(&other), ["availability"]);
    assert!(!is_unknown(&mut admin).await);
}

/// An address behind which a broker is until it is told to stand still: what is open stays open, and nobody reads or writes any more.
async fn stopping(broker: Broker) -> (String, Arc<Notify>) {
    let to = start(broker).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let stand_still = Arc::new(Notify::new());
    let told = Arc::clone(&stand_still);
    tokio::spawn(async move {
        let (mut near, _) = listener.accept().await.unwrap();
        // Whoever comes later is refused.
        drop(listener);
        let mut far = TcpStream::connect(to).await.unwrap();
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
            () = told.notified() => std::future::pending().await,
        }
    });
    (address, stand_still)
}

#[tokio::test]
async fn a_broker_that_stands_still_is_given_up_before_the_deadline_of_the_call() {
    let (address, stand_still) = stopping(Broker::default()).await;
    let mut admin = Admin::new(way(vec![address]));
    admin.look().await.unwrap();
    stand_still.notify_one();
    let error = admin.look().await.unwrap_err().to_string();
    assert!(!error.contains("no answer within"), "{error}");
}

#[tokio::test]
async fn when_none_answers_the_error_names_each() {
    let away = start(Broker {
        away: true,
        ..Broker::default()
    })
    .await;
    let error = Admin::new(way(vec![away.clone()]))
        .look()
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(&away) && error.contains("no controller"),
        "{error}"
    );
    assert!(
        Admin::default()
            .look()
            .await
            .unwrap_err()
            .to_string()
            .contains("no address")
    );
}

#[tokio::test]
async fn thousands_of_steps_are_few_calls_and_each_resource_gets_its_answer() {
    let broker = Broker::default();
    let mut admin = Admin::new(way(vec![start(broker.clone()).await]));
    let mut steps: Vec<Step> = (0..1200).map(|at| create(&format!("topic-{at}"))).collect();
    steps.push(create("bad-one"));
    steps.push(Step::Delete {
        resource: Key::new("shop", "old"),
        topic: "old".into(),
    });
    let acted = act::on_topics(&mut admin, &steps).await.unwrap();
    assert_eq!(
        *broker.calls.lock().unwrap(),
        ["create 500", "create 500", "create 201", "delete 1"]
    );
    assert_eq!(acted.changed.len(), 1201);
    let refusal = Refusal {
        code: "INVALID_CONFIG".into(),
        message: "bad-one is bad".into(),
    };
    assert_eq!(
        acted.refused,
        BTreeMap::from([(Key::new("shop", "bad-one"), refusal)])
    );
}

#[tokio::test]
async fn nothing_to_do_is_no_call() {
    let broker = Broker::default();
    let mut admin = Admin::new(way(vec![start(broker.clone()).await]));
    assert_eq!(
        act::on_topics(&mut admin, &[]).await.unwrap(),
        Acted::default()
    );
    assert!(admin.groups(Vec::new()).await.unwrap().is_empty());
    assert_eq!(broker.calls.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn groups_are_reset_and_paused() {
    let broker = Broker::default();
    let mut admin = Admin::new(way(vec![start(broker.clone()).await]));
    let reset = Reset {
        id: "again".into(),
        to: ResetTo::Shift(-5),
        topics: vec!["orders".into()],
        partitions: vec![3],
        dry_run: true,
    };
    let seen = admin.reset_offsets("billing", &reset).await.unwrap();
    assert_eq!(
        seen.unwrap(),
        ResetSeen {
            before: false,
            at_ms: 7,
            fenced: 2,
            partitions: vec![("orders".into(), 3, Some(70), None)],
        }
    );
    let ids = vec!["billing".to_owned(), "odd".to_owned()];
    let outcomes = admin.pause_groups(ids, true).await.unwrap();
    assert_eq!(outcomes["billing"], Ok(()));
    assert_eq!(
        outcomes["odd"].as_ref().unwrap_err().code,
        "INVALID_REQUEST"
    );
    let calls = broker.calls.lock().unwrap().clone();
    for part in [
        "billing",
        "again",
        "Shift(-5)",
        "orders",
        "[3]",
        "dry_run: true",
    ] {
        assert!(calls[0].contains(part), "{} lacks {part}", calls[0]);
    }
    assert_eq!(calls[1], "pause true");
    assert!(
        admin
            .pause_groups(Vec::new(), true)
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn a_group_begins_in_each_topic_for_itself() {
    let broker = Broker::default();
    let mut admin = Admin::new(way(vec![start(broker.clone()).await]));
    let topics = ["audit".to_owned(), "orders".to_owned()].into();
    let now = jiff::Timestamp::from_second(1_000).unwrap();
    let at = BeginAt::SecondsBack(400);
    let begun = admin.begin_group("billing", at, &topics, now);
    assert_eq!(begun.await.unwrap().len(), 2);
    let calls = broker.calls.lock().unwrap().clone();
    for (call, topic) in calls.iter().zip(&topics) {
        for part in ["billing", topic, "Begin", "TimestampMs(600000)"] {
            assert!(call.contains(part), "{call} lacks {part}");
        }
    }
}

#[tokio::test]
async fn whoever_is_no_broker_of_the_cluster_is_asked_nothing() {
    let broker = Broker::default();
    let stranger = {
        let now = SystemTime::now();
        let mut held = Held::default();
        let due = weir_tls::due(&members(1), &Seen::default(), 0);
        held.issue("shop", &due, now).unwrap();
        start_as(broker.clone(), &held).await
    };
    let error = Admin::new(way(vec![stranger])).look().await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    assert_eq!(broker.calls.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn nobody_is_asked_before_there_is_a_certificate() {
    let mut admin = Admin::new(Way::new(vec![vec!["127.0.0.1:1".into()]], None));
    let error = admin.look().await.unwrap_err().to_string();
    assert!(error.contains("no certificate"), "{error}");
}

#[tokio::test]
async fn what_is_decided_for_brokers_is_one_call_each_and_emptiness_is_asked_for_before_it_is_looked_at()
 {
    let broker = Broker::default();
    let mut admin = Admin::new(way(vec![start(broker.clone()).await]));
    let brokers = vec![BrokerId(3), BrokerId(4)];
    for step in [
        ClusterStep::Drain {
            brokers: brokers.clone(),
        },
        ClusterStep::CancelDrain {
            brokers: brokers.clone(),
        },
        ClusterStep::Rebalance { over: 5 },
        ClusterStep::Configure {
            set: [("num.partitions".to_owned(), "6".to_owned())].into(),
            unset: Default::default(),
        },
        ClusterStep::Unregister {
            brokers: brokers.clone(),
        },
        // Neither is registered, so neither holds anything.
        ClusterStep::ProveEmpty { brokers },
    ] {
        assert_eq!(act::on_brokers(&mut admin, &step).await, Ok(()));
    }
    assert_eq!(
        *broker.calls.lock().unwrap(),
        [
            "drain [3, 4]",
            "cordon [3, 4] false",
            "rebalance true",
            "configure 1",
            "unregister [3, 4]",
            "drain [3, 4]",
            "cluster",
            "topics []",
        ]
    );
    // Broker 1 is registered, and nobody drains it.
    let brokers = vec![BrokerId(1)];
    let refused = act::on_brokers(&mut admin, &ClusterStep::ProveEmpty { brokers }).await;
    assert!(refused.unwrap_err().contains("broker 1 is not removed"));
    let refused = ClusterStep::Configure {
        set: Default::default(),
        unset: Default::default(),
    };
    let refused = act::on_brokers(&mut admin, &refused).await.unwrap_err();
    assert!(refused.contains("spec.config: the brokers refuse it"));
}
