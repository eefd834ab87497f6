//! Whole quorums over gRPC on the loopback, with simulated disks.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use weir_log::storage_sim::{SimStorage, Unsynced};
use weir_quorum::command::{Cordon, CreateTopics, NewTopic};
use weir_quorum::configs::Settings;
use weir_quorum::quorum::{Blocking, Compaction, Timing};
use weir_quorum::record::HostPort;
use weir_quorum::{BrokerId, ClusterId, Command, Reply};

use super::{Entropy, Member, MemberError, Metadata, Options, Pace, net};

/// How long anything may take before a test counts as failed: far above what it takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// One broker in a runtime of its own, so that it can be killed with all of its tasks and connections.
struct Broker {
    member: Arc<Member>,
    metadata: Metadata,
    disk: SimStorage,
    runtime: Option<Runtime>,
}

/// The addresses of a cluster's quorum listeners, which outlive the brokers behind them.
struct Ports(Vec<SocketAddr>);

impl Ports {
    async fn of(brokers: usize) -> (Self, Vec<TcpListener>) {
        let mut listeners = Vec::new();
        for _ in 0..brokers {
            listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
        }
        (
            Self(
                listeners
                    .iter()
                    .map(|listener| listener.local_addr().unwrap())
                    .collect(),
            ),
            listeners,
        )
    }

    fn options(&self, id: usize) -> Options {
        Options {
            broker_id: BrokerId(id as i32),
            data_dir: PathBuf::from("/data"),
            cluster_id: None,
            peers: self
                .0
                .iter()
                .take(3)
                .enumerate()
                .map(|(id, at)| (BrokerId(id as i32), at.to_string()))
                .collect(),
            quorum_address: self.0[id].to_string(),
            kafka: HostPort {
                host: "127.0.0.1".into(),
                port: 9092,
            },
            rack: None,
            version: "test".into(),
            feature_level: weir_quorum::controller::FEATURE_LEVEL,
            settings: one_replica(),
            pace: Pace {
                heartbeat: Duration::from_millis(100),
                session: Duration::from_millis(1500),
                ..Pace::default()
            },
            timing: Timing::default(),
            compaction: Compaction::default(),
            blocking: Blocking::Pool,
            entropy: Entropy::System,
            dialer: crate::net::Dialer::Tcp,
        }
    }
}

/// Topics have one replica unless they say otherwise.
fn one_replica() -> Settings {
    let one = ("default.replication.factor".to_owned(), "1".to_owned());
    Settings::new([one].into()).unwrap()
}

async fn open(options: Options, listener: TcpListener, disk: SimStorage) -> Broker {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let listener = listener.into_std().unwrap();
    let storage = Arc::new(disk.clone());
    let opened = runtime.spawn(async move {
        let member = Arc::new(Member::open(options, storage).await.unwrap());
        let listener = TcpListener::from_std(listener).unwrap();
        let incoming = futures::stream::unfold(listener, |listener| async {
            let accepted = listener.accept().await.map(|(stream, _)| stream);
            Some((accepted, listener))
        });
        tokio::spawn(net::server().serve_with_incoming(member.service(), incoming.boxed()));
        member
    });
    let member = opened.await.unwrap();
    Broker {
        metadata: member.metadata(),
        member,
        disk,
        runtime: Some(runtime),
    }
}

impl Broker {
    async fn start(&self) -> Result<(), MemberError> {
        let member = self.member.clone();
        let runtime = self.runtime.as_ref().unwrap().handle().clone();
        let started = runtime.spawn(async move { member.start().await });
        tokio::time::timeout(PATIENCE, started)
            .await
            .expect("started in time")
            .unwrap()
    }

    async fn active(&self) {
        self.member.set_ready(true);
        let active = self
            .metadata
            .wait_for(PATIENCE, |_| self.metadata.is_active())
            .await;
        assert!(active.is_some(), "not active: {:?}", self.metadata.image());
    }

    /// As `kill -9`: no goodbye, no answer from now on. Gives the disk back.
    fn kill(self) -> SimStorage {
        self.disk.process_killed()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // All tasks and connections go with it.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Listens where a killed broker did, as soon as its sockets are gone.
async fn listen(at: SocketAddr) -> TcpListener {
    let bound = async {
        loop {
            match TcpListener::bind(at).await {
                Ok(listener) => return listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, bound).await.unwrap()
}

async fn cluster(brokers: usize) -> (Ports, Vec<Broker>) {
    cluster_with(brokers, |_| {}).await
}

async fn cluster_with(brokers: usize, change: impl Fn(&mut Options)) -> (Ports, Vec<Broker>) {
    let (ports, listeners) = Ports::of(brokers).await;
    let mut all = Vec::new();
    for (id, listener) in listeners.into_iter().enumerate() {
        let mut options = ports.options(id);
        change(&mut options);
        all.push(open(options, listener, SimStorage::new()).await);
    }
    futures::future::join_all(
        all.iter()
            .map(|broker| async { broker.start().await.unwrap() }),
    )
    .await;
    futures::future::join_all(all.iter().map(Broker::active)).await;
    (ports, all)
}

fn create(name: &str, partitions: i32) -> Command {
    let topic = NewTopic {
        name: name.into(),
        partitions: Some(partitions),
        ..NewTopic::default()
    };
    Command::CreateTopics(CreateTopics {
        topics: vec![topic],
        validate_only: false,
    })
}

async fn created(broker: &Broker, name: &str, partitions: i32) {
    match broker
        .metadata
        .control(create(name, partitions))
        .await
        .unwrap()
    {
        Reply::Topics(results) => assert!(results[0].outcome.is_ok(), "{results:?}"),
        other => panic!("{other:?}"),
    }
    assert!(
        broker.metadata.image().topic(name).is_some(),
        "the asker does not see what it was told"
    );
}

async fn three_voters(broker: &Broker) {
    let mut state = broker.metadata.state.clone();
    let voters = state.wait_for(|state| state.voters.len() == 3);
    tokio::time::timeout(PATIENCE, voters)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_broker_forms_its_cluster_and_is_active() {
    let start = Instant::now();
    let (_, brokers) = cluster(1).await;
    println_elapsed("one broker from open to active", start);
    let metadata = &brokers[0].metadata;
    assert_eq!(metadata.controller_id(), Some(BrokerId(0)));
    assert_eq!(
        metadata.cluster_id().as_ref(),
        metadata.image().cluster_id()
    );
    created(&brokers[0], "t", 10).await;
    assert_eq!(metadata.image().partitions_led_by(BrokerId(0)).count(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_brokers_form_one_cluster_and_any_of_them_takes_commands() {
    let start = Instant::now();
    let (_, brokers) = cluster(3).await;
    println_elapsed("three brokers from open to active", start);
    let id = brokers[0].metadata.cluster_id().unwrap();
    for broker in &brokers {
        assert_eq!(broker.metadata.cluster_id().as_ref(), Some(&id));
        three_voters(broker).await;
        created(broker, &format!("t{}", broker.metadata.broker_id()), 6).await;
    }
    let image = brokers[0]
        .metadata
        .wait_for(PATIENCE, |image| image.partition_count() == 18)
        .await
        .unwrap();
    for broker in 0..3 {
        assert_eq!(image.partitions_led_by(BrokerId(broker)).count(), 6);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_controller_is_replaced_and_its_partitions_wait_for_it() {
    let (ports, mut brokers) = cluster(3).await;
    three_voters(&brokers[1]).await;
    created(&brokers[1], "t", 6).await;
    let killed = brokers[1].metadata.controller_id().unwrap();
    let disk = brokers.remove(killed.0 as usize).kill();

    let other = &brokers[0];
    let image = other
        .metadata
        .wait_for(PATIENCE, |image| {
            image.broker(killed).is_some_and(|b| b.fenced)
        })
        .await
        .unwrap();
    assert_eq!(image.partitions_led_by(killed).count(), 0);
    assert_eq!(
        image.partitions_on(killed).count(),
        2,
        "replicas stay where they are"
    );
    assert_ne!(other.metadata.controller_id(), Some(killed));
    created(other, "meanwhile", 4).await;
    assert_eq!(
        other
            .metadata
            .image()
            .topic("meanwhile")
            .unwrap()
            .partitions
            .len(),
        4
    );

    let id = killed.0 as usize;
    let back = open(ports.options(id), listen(ports.0[id]).await, disk).await;
    back.start().await.unwrap();
    back.active().await;
    let image = back
        .metadata
        .wait_for(PATIENCE, |image| {
            image.partitions_led_by(killed).count() == 2
        })
        .await
        .unwrap();
    let (_, _, partition) = image.partitions_led_by(killed).next().unwrap();
    assert!(
        partition.leader_epoch.0 >= 2,
        "leads again in a new epoch: {partition:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_voter_comes_back_as_another_disk_and_holds_nothing() {
    let (ports, mut brokers) = cluster(3).await;
    three_voters(&brokers[0]).await;
    created(&brokers[0], "t", 6).await;
    let old = brokers[2].metadata.incarnation();
    drop(brokers.remove(2).kill());

    let wiped = open(
        ports.options(2),
        listen(ports.0[2]).await,
        SimStorage::new(),
    )
    .await;
    assert_ne!(wiped.metadata.incarnation(), old);
    wiped.start().await.unwrap();
    wiped.active().await;
    assert_eq!(
        wiped.metadata.cluster_id(),
        brokers[0].metadata.cluster_id()
    );
    let image = wiped.metadata.image();
    assert_eq!(
        image.partitions_led_by(BrokerId(2)).count(),
        0,
        "an empty disk must not lead what it has lost"
    );
    assert!(
        image
            .partitions_on(BrokerId(2))
            .all(|(_, _, partition)| partition.isr.is_empty())
    );
    three_voters(&wiped).await;
    let status = wiped.member.quorum_status();
    let members = status.borrow().members.clone();
    assert!(
        members.nodes.keys().all(|node| node.incarnation != old),
        "{members:?}"
    );
    created(&wiped, "after", 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_says_goodbye_is_fenced_at_once() {
    let (_, brokers) = cluster(3).await;
    tokio::time::timeout(PATIENCE, brokers[2].member.shutdown())
        .await
        .expect("stopped in time");
    // Well within its session, which would otherwise have to end first.
    let image = brokers[0]
        .metadata
        .wait_for(PATIENCE, |image| {
            image.broker(BrokerId(2)).is_some_and(|b| b.fenced)
        })
        .await;
    assert!(image.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_beyond_the_third_learn() {
    let (_, brokers) = cluster(4).await;
    three_voters(&brokers[3]).await;
    assert_eq!(
        brokers[3].metadata.voters(),
        [BrokerId(0), BrokerId(1), BrokerId(2)]
    );
    created(&brokers[3], "t", 4).await;
    assert_eq!(
        brokers[3]
            .metadata
            .image()
            .partitions_led_by(BrokerId(3))
            .count(),
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_refused_by_name() {
    let (ours, mut listeners) = Ports::of(2).await;
    let mut options = ours.options(0);
    options.peers = BTreeMap::new();
    let stranger_listener = listeners.remove(1);
    let first = open(options, listeners.remove(0), SimStorage::new()).await;
    first.start().await.unwrap();

    let mut options = ours.options(1);
    options.cluster_id = Some(ClusterId("another".into()));
    let stranger = open(options, stranger_listener, SimStorage::new()).await;
    let error = stranger.start().await.unwrap_err().to_string();
    let id = first.metadata.cluster_id().unwrap();
    assert!(
        error.contains("another") && error.contains(id.as_str()),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_broker_is_back_at_once_after_a_kill() {
    let (ports, mut brokers) = cluster(1).await;
    created(&brokers[0], "t", 3).await;
    let id = brokers[0].metadata.cluster_id();
    let disk = brokers.remove(0).kill();
    let start = Instant::now();
    let back = open(ports.options(0), listen(ports.0[0]).await, disk).await;
    back.start().await.unwrap();
    back.active().await;
    println_elapsed("one broker from restart to active", start);
    assert_eq!(back.metadata.cluster_id(), id);
    assert_eq!(
        back.metadata.image().partitions_led_by(BrokerId(0)).count(),
        3
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_moment_of_forming_leaves_one_cluster_that_forms() {
    for at in 1..40 {
        let (ports, mut listeners) = Ports::of(1).await;
        let disk = SimStorage::new();
        disk.die_after(at);
        let options = Options {
            blocking: Blocking::Inline,
            ..ports.options(0)
        };
        let first = Member::open(options.clone(), Arc::new(disk.clone())).await;
        let mut known = None;
        if let Ok(member) = &first {
            let started = tokio::time::timeout(PATIENCE, member.start())
                .await
                .unwrap();
            known = started.ok().and_then(|()| member.metadata().cluster_id());
            tokio::time::timeout(PATIENCE, member.shutdown_at_once())
                .await
                .expect("stopped in time");
        }
        let disk = disk.power_cut(Unsynced::Mixed(at));
        let again = open(options, listeners.remove(0), disk).await;
        again.start().await.unwrap();
        again.active().await;
        let formed = again.metadata.cluster_id();
        assert_eq!(
            formed.as_ref(),
            again.metadata.image().cluster_id(),
            "crash after {at} changes"
        );
        assert!(
            known.is_none() || known == formed,
            "crash after {at} changes"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_come_back_at_other_addresses_are_found() {
    let (_, mut brokers) = cluster(4).await;
    three_voters(&brokers[3]).await;
    let disks: Vec<SimStorage> = brokers.drain(..).map(Broker::kill).collect();
    let (ports, listeners) = Ports::of(4).await;
    for (id, (listener, disk)) in listeners.into_iter().zip(disks).enumerate() {
        brokers.push(open(ports.options(id), listener, disk).await);
    }
    for broker in &brokers {
        broker.start().await.unwrap();
    }
    futures::future::join_all(brokers.iter().map(Broker::active)).await;
    created(&brokers[3], "t", 4).await;
    for broker in &brokers {
        assert!(
            broker
                .metadata
                .wait_for(PATIENCE, |image| image.topic("t").is_some())
                .await
                .is_some()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_one_grows_to_three_voters() {
    let (ports, mut listeners) = Ports::of(3).await;
    let mut alone = ports.options(0);
    alone.peers = BTreeMap::new();
    let first = open(alone, listeners.remove(0), SimStorage::new()).await;
    first.start().await.unwrap();
    first.active().await;
    created(&first, "t", 3).await;
    let second = open(ports.options(1), listeners.remove(0), SimStorage::new()).await;
    second.start().await.unwrap();
    second.active().await;
    assert_eq!(
        first.metadata.voters(),
        [BrokerId(0)],
        "two voters survive the loss of neither"
    );
    let third = open(ports.options(2), listeners.remove(0), SimStorage::new()).await;
    third.start().await.unwrap();
    third.active().await;
    three_voters(&first).await;
    created(&third, "u", 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_partitions_are_created_and_led() {
    let (_, brokers) = cluster(3).await;
    let start = Instant::now();
    created(&brokers[1], "t", 10_000).await;
    println_elapsed("10,000 partitions created, asked of a follower", start);
    let image = brokers[2]
        .metadata
        .wait_for(PATIENCE, |image| image.partition_count() == 10_000)
        .await
        .unwrap();
    assert!((0..3).all(|id| image.partitions_led_by(BrokerId(id)).count() >= 3_333));
}

/// Sessions that do not end within any test: whoever is fenced is fenced for another reason.
fn without_sessions(options: &mut Options) {
    options.pace.session = Duration::from_secs(3600);
}

async fn fenced(by: &Broker, id: BrokerId) -> Arc<weir_quorum::Image> {
    let is_fenced = |image: &Arc<weir_quorum::Image>| image.broker(id).is_some_and(|b| b.fenced);
    let image = by.metadata.wait_for(PATIENCE, is_fenced).await;
    image.unwrap_or_else(|| panic!("not fenced: {:?}", by.metadata.image()))
}

async fn replicated(broker: &Broker, name: &str, partitions: i32) {
    let topic = NewTopic {
        name: name.into(),
        partitions: Some(partitions),
        replication_factor: Some(3),
        ..NewTopic::default()
    };
    let command = Command::CreateTopics(CreateTopics {
        topics: vec![topic],
        validate_only: false,
    });
    match broker.metadata.control(command).await.unwrap() {
        Reply::Topics(results) => assert!(results[0].outcome.is_ok(), "{results:?}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_dies_is_fenced_by_its_closed_port_and_others_lead() {
    let (_, mut brokers) = cluster_with(3, without_sessions).await;
    three_voters(&brokers[1]).await;
    replicated(&brokers[1], "t", 6).await;
    let controller = brokers[1].metadata.controller_id().unwrap();
    let victim = brokers
        .iter()
        .position(|b| b.metadata.broker_id() != controller)
        .unwrap();
    let id = brokers[victim].metadata.broker_id();
    let start = Instant::now();
    drop(brokers.remove(victim).kill());
    let image = fenced(&brokers[0], id).await;
    println_elapsed("a killed broker is fenced", start);
    assert!(
        image
            .partitions()
            .all(|(_, _, p)| p.leader.is_some_and(|leader| leader != id))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_dies_is_replaced_and_fenced_without_waiting_for_its_session() {
    let (_, mut brokers) = cluster_with(3, without_sessions).await;
    three_voters(&brokers[1]).await;
    replicated(&brokers[1], "t", 6).await;
    let id = brokers[1].metadata.controller_id().unwrap();
    let start = Instant::now();
    drop(brokers.remove(id.0 as usize).kill());
    let image = fenced(&brokers[0], id).await;
    println_elapsed("a killed controller is fenced by the next one", start);
    assert!(
        image
            .partitions()
            .all(|(_, _, p)| p.leader.is_some_and(|leader| leader != id))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_suspected_and_answers_is_left_alone() {
    let (_, brokers) = cluster_with(3, without_sessions).await;
    three_voters(&brokers[1]).await;
    for broker in &brokers {
        for id in 0..3 {
            broker.metadata.suspect(BrokerId(id));
        }
    }
    // What was voiced first is looked into before what is asked last.
    created(&brokers[0], "t", 3).await;
    let image = brokers[0].metadata.image();
    assert_eq!(image.live_brokers().count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retiring_broker_hands_over_while_it_still_answers() {
    let (_, brokers) = cluster(3).await;
    replicated(&brokers[0], "t", 6).await;
    let retired = brokers[1].member.retire(PATIENCE);
    tokio::time::timeout(PATIENCE / 2, retired)
        .await
        .expect("in time");
    let image = brokers[1].metadata.image();
    assert_eq!(image.partitions_led_by(BrokerId(1)).count(), 0);
    assert!(
        image
            .broker(BrokerId(1))
            .is_some_and(|b| b.stopping && !b.fenced)
    );
    created(&brokers[1], "still-served", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_lost_is_known_before_the_broker_is_ready() {
    let (_, brokers) = cluster(3).await;
    replicated(&brokers[0], "t", 2).await;
    let image = brokers[2]
        .metadata
        .wait_for(PATIENCE, |image| image.topic("t").is_some())
        .await;
    let topic = image.unwrap().topic("t").unwrap().id;
    let reported = brokers[2]
        .member
        .report_lost([(topic, 1)].into(), Vec::new());
    tokio::time::timeout(PATIENCE, reported)
        .await
        .expect("in time");
    let image = brokers[2].metadata.image();
    let in_sync = |index| {
        image
            .partition("t", index)
            .unwrap()
            .isr
            .contains(&BrokerId(2))
    };
    assert_eq!((in_sync(0), in_sync(1)), (true, false));
}

async fn voters(broker: &Broker, wanted: &[i32]) {
    let mut state = broker.metadata.state.clone();
    let are = |state: &super::State| {
        state
            .voters
            .iter()
            .map(|id| id.0)
            .eq(wanted.iter().copied())
    };
    let voters = tokio::time::timeout(PATIENCE, state.wait_for(are)).await;
    assert!(voters.is_ok(), "{wanted:?}: {:?}", broker.metadata.voters());
}

async fn asked(broker: &Broker, command: Command) {
    // The leader may just have stopped voting.
    for _ in 0..20 {
        match broker.metadata.control(command.clone()).await {
            Ok(_) => return,
            Err(error) if error.name == weir_quorum::ErrorName::RequestTimedOut => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("no controller");
}

#[tokio::test(flavor = "multi_thread")]
async fn before_three_become_fewer_one_votes_alone_and_all_do_again_when_they_stay() {
    let (_, brokers) = cluster(3).await;
    three_voters(&brokers[0]).await;
    created(&brokers[0], "t", 3).await;
    for id in [1, 2] {
        asked(&brokers[0], Command::Drain { id: BrokerId(id) }).await;
    }
    for broker in &brokers {
        voters(broker, &[0]).await;
    }
    created(&brokers[2], "u", 1).await;
    for id in [1, 2] {
        let stay = Cordon {
            id: BrokerId(id),
            cordoned: false,
        };
        asked(&brokers[1], Command::Cordon(stay)).await;
    }
    for broker in &brokers {
        voters(broker, &[0, 1, 2]).await;
    }
    created(&brokers[1], "v", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_three_becomes_one_and_forgets_the_others() {
    let (_, mut brokers) = cluster(3).await;
    three_voters(&brokers[0]).await;
    for id in [1, 2] {
        asked(&brokers[0], Command::Drain { id: BrokerId(id) }).await;
    }
    voters(&brokers[0], &[0]).await;
    for _ in 0..2 {
        let gone = brokers.remove(1);
        tokio::time::timeout(PATIENCE, gone.member.shutdown())
            .await
            .expect("in time");
        let id = gone.metadata.broker_id();
        drop(gone);
        fenced(&brokers[0], id).await;
        asked(&brokers[0], Command::UnregisterBroker { id }).await;
    }
    let status = brokers[0].member.quorum_status();
    let nodes = status.borrow().members.nodes.len();
    assert_eq!(nodes, 1, "nothing is sent to those that are gone");
    created(&brokers[0], "t", 1).await;
}

/// Its own log still says that it is a member.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_was_forgotten_while_it_was_away_is_taken_in_again() {
    let (ports, mut brokers) = cluster(4).await;
    three_voters(&brokers[0]).await;
    let id = BrokerId(3);
    let disk = brokers.remove(3).kill();
    fenced(&brokers[0], id).await;
    asked(&brokers[0], Command::UnregisterBroker { id }).await;
    let mut status = brokers[0].member.quorum_status();
    let left = status.wait_for(|status| status.members.nodes.len() == 3);
    tokio::time::timeout(PATIENCE, left).await.unwrap().unwrap();
    let back = open(ports.options(3), listen(ports.0[3]).await, disk).await;
    back.start().await.unwrap();
    back.active().await;
    created(&back, "t", 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_larger_cluster_another_broker_votes_for_one_that_leaves() {
    let (_, brokers) = cluster(4).await;
    three_voters(&brokers[3]).await;
    asked(&brokers[3], Command::Drain { id: BrokerId(0) }).await;
    for broker in &brokers {
        voters(broker, &[1, 2, 3]).await;
    }
    created(&brokers[0], "t", 3).await;
}

#[tokio::test]
async fn a_registration_that_is_answered_after_it_was_applied_is_noticed() {
    let kafka = HostPort {
        host: "localhost".into(),
        port: 9092,
    };
    let known = Metadata::solitary(BrokerId(0), kafka, one_replica())
        .await
        .unwrap();
    let registered = known.state.borrow().clone();
    let (state, seen) = tokio::sync::watch::channel(super::State::default());
    let metadata = Metadata {
        state: seen,
        ..known
    };
    let mut waiting = Box::pin(metadata.until(Metadata::caught_up));
    assert!(
        futures::poll!(&mut waiting).is_pending(),
        "the image has it already"
    );
    state.send_replace(registered);
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .expect("in time");
}

/// Shown with `--nocapture`; not asserted, since machines differ.
fn println_elapsed(what: &str, start: Instant) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{what}: {:?}", start.elapsed());
}
