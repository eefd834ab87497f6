//! How a broker comes up and goes down.
//!
//! Up: the data directory is locked, ports are bound, logs are recovered while the quorum is found or formed, the broker registers,
//! and only then are clients served. Down: others lead what this broker led, no further connections, what is in flight is finished
//! within a bound, goodbye to the controller, logs are synced and closed. [`Running`] owns every task; each ends with it.

mod dirs;
mod lanes;
mod lock;
mod lost;
mod room;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use lock::{DirLock, LockError};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};
use weir_log::mutants::Mutant;
use weir_proto::admin::v1::admin_server::AdminServer;
use weir_quorum::configs::{Settings, broker_number};
use weir_quorum::listeners::OWN;
use weir_quorum::quorum::{Compaction, Timing};
use weir_quorum::record::HostPort as Address;
use weir_quorum::{BrokerId, ClusterId, ControlError, TopicId};

use crate::Broker;
use crate::certificates::{self, CertificatesError};
use crate::config::{Config, HostPort, Listener};
use crate::fetch_sessions::FetchSessions;
use crate::gateway::GatewayService;
use crate::group_lag::{self, GroupLag};
use crate::groups::{Groups, PeersService, coordinator_config};
use crate::grpc::{AdminService, QueueListener, Services};
use crate::half::{Halves, HalvesService};
use crate::health::Health;
use crate::host::{Host, Threads};
use crate::http::HttpListener;
use crate::metrics::Metrics;
use crate::net::{
    Dialer, KafkaListener, Listener as _, Network, RequestMemory, Tcp, follow_listeners,
};
use crate::partitions::{Partitions, Watermarks};
use crate::producer_ids::ProducerIds;
use crate::queue;
use crate::queue::append::{Appenders, AppendsService};
use crate::queue::ledgers::{self, Ledgers, LedgersService};
use crate::queue::trace::Collector;
use crate::quorum::{Member, MemberError, Metadata, Options, Pace, net};
use crate::quotas::Quotas;
use crate::replication::{self, LeaderDebt, ReplicationService};
use crate::scrub;
use crate::share::{Share, ShareSettings, StatesService};
use crate::telemetry::Telemetry;
use crate::transactions::{self, TransactionCoordinators, TransactionsService};

/// Left free on the data directory's file system, so that metadata and checkpoints can still be written when it is full.
const DISK_RESERVE_BYTES: u64 = 64 << 20;

/// How long clients wait at a start until partitions are led; after that they are told which are not.
const LEADING_PATIENCE: Duration = Duration::from_secs(5);

/// How often the high watermarks are written: as the checkpoint is.
const WATERMARKS_EVERY: Duration = Duration::from_secs(5);

/// How often retention looks at every partition; Kafka's default is five minutes, short enough here for topics of minutes.
const RETENTION_INTERVAL: Duration = Duration::from_secs(30);

/// What compaction reads and writes at most, in bytes for each second.
const COMPACTION_RATE: &str = "log.cleaner.io.max.bytes.per.second";
/// How often compaction looks for what is due.
const COMPACTION_PAUSE: &str = "log.cleaner.backoff.ms";
/// A look at every partition takes some milliseconds.
const COMPACTION_PAUSE_MIN: Duration = Duration::from_millis(20);

/// Streams of replication that wait to be served, beyond which further ones wait to be accepted: more than brokers begin at once.
const STREAMS_WAITING_MAX: usize = 64;

/// Why a broker did not come up.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory is not ours.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// There is no certificate that it could use.
    #[error(transparent)]
    Certificates(#[from] CertificatesError),
    /// A port cannot be bound.
    #[error("{field}: {address} cannot be bound: {source}")]
    Bind {
        /// The configuration's field.
        field: &'static str,
        /// The address.
        address: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// The broker cannot take part in a metadata quorum.
    #[error(transparent)]
    Member(#[from] MemberError),
    /// The logs cannot be opened.
    #[error("the logs in {dir} cannot be opened: {source}")]
    Logs {
        /// Where.
        dir: PathBuf,
        /// Why.
        source: weir_log::OpenError,
    },
    /// Threads cannot be started.
    #[error("the threads that write logs cannot be started: {0}")]
    Threads(io::Error),
    /// The configuration contradicts what the cluster knows.
    #[error("the configuration is refused: {0}")]
    Config(ControlError),
    /// Metrics contradict each other. A mistake of ours.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// What is called, once, with what happened, when a failure leaves it unknown what is on disk. In production it ends the process.
pub type OnFatal = Arc<dyn Fn(&str) + Send + Sync>;

/// A broker that runs.
#[derive(Debug)]
pub struct Running {
    broker: Arc<Broker>,
    member: Arc<Member>,
    health: Arc<Health>,
    addresses: Addresses,
    /// Ends the listeners for clients.
    stop_clients: CancellationToken,
    /// Ends everything else.
    stop: CancellationToken,
    clients: TaskTracker,
    tasks: TaskTracker,
    /// Lanes that have no threads of their own.
    lanes: TaskTracker,
    /// Held until everything has ended; a simulated disk has one process by itself.
    locks: Vec<DirLock>,
}

/// Where a broker listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// Kafka clients.
    pub kafka: SocketAddr,
    /// Brokers and the operator.
    pub quorum: SocketAddr,
    /// Metrics and health.
    pub http: SocketAddr,
    /// Clients of gRPC, if there are to be any.
    pub grpc: Option<SocketAddr>,
}

/// Brings a broker up. Returns when clients are served. A broker that waits for its peers waits here; its metrics and health are served
/// meanwhile.
pub async fn start(config: Config, on_fatal: OnFatal) -> Result<Running, StartError> {
    let mut locks = vec![DirLock::take(&config.data_dir)?];
    for dir in &config.log_dirs {
        locks.push(DirLock::take(dir)?);
    }
    let host = Host {
        dialer: Dialer::Tls(Arc::new(certificates::open(&config)?)),
        ..Host::system()
    };
    let mut running = start_on(config, host, &Tcp, on_fatal).await?;
    running.locks = locks;
    Ok(running)
}

/// As [`start`], on another disk, clock and network than the operating system's.
pub async fn start_on<N: Network>(
    config: Config,
    host: Host,
    network: &N,
    on_fatal: OnFatal,
) -> Result<Running, StartError> {
    let began = Instant::now();
    let health = Health::starting();
    let metrics = Arc::new(Metrics::new()?);
    let settings = config.settings().map_err(StartError::Config)?;
    let (stop, stop_clients) = (CancellationToken::new(), CancellationToken::new());
    // Whatever goes wrong below, nothing that was begun goes on.
    let abandon = (stop.clone().drop_guard(), stop_clients.clone().drop_guard());
    let (tasks, clients) = (TaskTracker::new(), TaskTracker::new());

    let http = HttpListener::bind(network, &config.http)
        .await
        .map_err(bind_error("listeners.http.bind", &config.http))?;
    let kafka = KafkaListener::bind(network, &config.kafka.bind, OWN)
        .await
        .map_err(bind_error("listeners.kafka.bind", &config.kafka.bind))?;
    let quorum = network
        .bind(&config.quorum.bind)
        .await
        .map_err(bind_error("listeners.quorum.bind", &config.quorum.bind))?;
    let queues = match &config.grpc {
        None => None,
        Some(address) => {
            let bound = QueueListener::bind(network, address).await;
            Some(bound.map_err(bind_error("listeners.grpc.bind", address))?)
        }
    };
    let addresses = Addresses {
        kafka: kafka.address(),
        quorum: quorum.address(),
        http: http.address(),
        grpc: queues.as_ref().map(QueueListener::address),
    };
    tasks.spawn(http.serve(Arc::clone(&health), stop.clone()));

    health.step("opening the data directory");
    let storage = Arc::clone(&host.storage);
    let member = Member::open(
        member_options(&config, &settings, addresses, &host),
        Arc::clone(&storage),
    )
    .await?;
    let services = Services {
        first: AdminServer::new(AdminService::new(Arc::clone(&health), stop_clients.clone())),
        second: Services {
            first: PeersService::server(Arc::clone(&health)),
            second: Services {
                first: TransactionsService::server(Arc::clone(&health)),
                second: Services {
                    first: StatesService::server(Arc::clone(&health)),
                    second: Services {
                        first: HalvesService::server(Arc::clone(&health)),
                        second: Services {
                            first: LedgersService::server(Arc::clone(&health)),
                            second: Services {
                                first: AppendsService::server(Arc::clone(&health)),
                                second: Services {
                                    first: GatewayService::server(
                                        Arc::clone(&health),
                                        stop_clients.clone(),
                                    ),
                                    second: Services {
                                        first: ReplicationService::server(Arc::clone(&health)),
                                        second: member.service(),
                                    },
                                },
                            },
                        },
                    },
                },
            },
        },
    };
    let (replication_in, replication_out) = mpsc::channel(STREAMS_WAITING_MAX);
    let tls = host.dialer.tls().cloned();
    if let Some(tls) = tls.clone() {
        let stop = stop.clone();
        tasks.spawn(async move { stop.run_until_cancelled(tls.follow()).await });
    }
    let grpc = net::server().serve_with_incoming_shutdown(
        net::Callers(services),
        Box::pin(net::incoming(quorum, tls, replication_in)),
        stop.clone().cancelled_owned(),
    );
    tasks.spawn(async move {
        if let Err(error) = grpc.await {
            error!(%error, "the listener for brokers and the operator ended");
        }
    });

    health.step("recovering logs");
    let dirs = dirs::open(&config, &storage, DISK_RESERVE_BYTES)?;
    let boots = lost::Boots::read(&storage, config.data_dir.clone(), &host.boot_id, &dirs);
    let logs_dir = config.data_dir.clone();
    let logs = move |source| StartError::Logs {
        dir: logs_dir.clone(),
        source,
    };
    let boots = boots.map_err(&logs)?;
    let metadata = member.metadata();
    let lane_tasks = TaskTracker::new();
    let lanes = lanes::start(
        &config,
        &host,
        &metrics,
        Arc::clone(&on_fatal),
        &lane_tasks,
        &stop,
    )
    .map_err(StartError::Threads)?;
    let me = metadata.broker_id();
    let settings = Arc::new(settings);
    let partitions = Partitions::new(me, dirs, lanes, Arc::clone(&settings), Arc::clone(&metrics));
    let exporter = config.otlp_endpoint.clone().map(|endpoint| {
        let counters = (metrics.spans_sent.clone(), metrics.spans_dropped.clone());
        let name = config.cluster.name.as_deref().unwrap_or("weir");
        let service = (name.to_owned(), format!("broker-{me}"));
        let (exporter, collector) =
            Collector::new(endpoint, counters, host.dialer.clone(), service);
        tasks.spawn(collector.run(stop.clone()));
        exporter
    });
    let tracing = partitions.tracing();
    tracing.begin(Arc::clone(&host.clock), exporter);
    let known = {
        let (storage, dir) = (Arc::clone(&storage), config.data_dir.clone());
        host.blocking(move || Watermarks::read(&*storage, &dir))
            .await
    };
    partitions.remember(known.map_err(&logs)?);
    let found = partitions.recover().map_err(&logs)?;

    // Logs are recovered meanwhile.
    health.step("finding the cluster's metadata quorum");
    member.start().await?;
    health.step("recovering logs");
    partitions.opened().await;
    info!(partitions = found, ms = millis(began), "logs are recovered");

    let coordinators = coordinator_config(&config.groups);
    let groups = Groups::new(
        metadata.clone(),
        Arc::clone(&partitions),
        coordinators,
        host.clone(),
    );
    let producer_ids = Arc::new(ProducerIds::default());
    let transactions = TransactionCoordinators::new(
        metadata.clone(),
        Arc::clone(&partitions),
        groups.clone(),
        Arc::clone(&producer_ids),
        transactions::coordinator_config(&config.transactions),
        host.clone(),
    );
    let share = Share::new(
        metadata.clone(),
        Arc::clone(&partitions),
        ShareSettings::default(),
        host.clone(),
    );
    let halves = Halves::new(
        metadata.clone(),
        Arc::clone(&partitions),
        weir_groups::half::Config {
            forgets_asked: Mutant::HalfForgotten.is_active(),
            ..weir_groups::half::Config::default()
        },
        host.clone(),
    );
    let dialer = host.dialer.clone();
    let broker = Arc::new(Broker {
        request_memory: RequestMemory::new(config.limits.request_memory_bytes),
        connection_places: Arc::new(Semaphore::new(config.limits.connections)),
        config,
        metadata: metadata.clone(),
        partitions: Arc::clone(&partitions),
        producer_ids,
        host,
        metrics,
        fetch_sessions: FetchSessions::default(),
        quotas: Quotas::default(),
        telemetry: Telemetry::default(),
        groups,
        group_lag: GroupLag::default(),
        transactions,
        halves,
        share,
        ledgers: Ledgers::new(dialer.clone()),
        appenders: Appenders::new(dialer),
    });
    health.assembled(Arc::clone(&broker));
    let is_current = {
        let metadata = metadata.clone();
        move || metadata.caught_up()
    };
    tasks.spawn(Arc::clone(&partitions).follow(metadata.watch(), is_current, stop.clone()));
    let replication = replication::Shared {
        metadata: metadata.clone(),
        partitions: Arc::clone(&partitions),
        links: Arc::clone(partitions.links()),
        channels: Arc::clone(member.channels()),
        host: broker.host.clone(),
        metrics: Arc::clone(&broker.metrics),
        in_sync: Notify::new(),
        debt: LeaderDebt::default(),
    };
    tasks.spawn(replication::run(
        Arc::new(replication),
        replication_out,
        stop.clone(),
    ));
    tasks.spawn(keep_watermarks(Arc::clone(&broker), stop.clone()));
    tasks.spawn(scrub::keep(Arc::clone(&broker), stop.clone()));
    tasks.spawn(keep_retention(Arc::clone(&partitions), stop.clone()));
    tasks.spawn(keep_compacting(
        Arc::clone(&partitions),
        metadata.clone(),
        Arc::clone(&settings),
        stop.clone(),
    ));
    // With the clients: who waits in a group is let go, and finds its coordinator elsewhere.
    clients.spawn(broker.groups.clone().follow(stop_clients.clone()));
    tasks.spawn(group_lag::follow(Arc::clone(&broker), stop.clone()));
    clients.spawn(broker.transactions.clone().follow(stop_clients.clone()));
    clients.spawn(broker.share.clone().follow(stop_clients.clone()));
    let halves = broker.halves.clone();
    clients.spawn(halves.follow(Arc::clone(&broker), stop_clients.clone()));
    // With the clients, whose connections end when they are answered.
    clients.spawn(queue::throttle::follow(
        partitions.bounds(),
        stop_clients.clone(),
    ));
    tasks.spawn(queue::follow(
        Arc::clone(&broker),
        partitions.bounds(),
        stop.clone(),
    ));
    tasks.spawn(ledgers::follow(
        Arc::clone(&broker),
        partitions.bounds(),
        stop.clone(),
    ));
    tasks.spawn(queue::delay::follow(Arc::clone(&broker), stop.clone()));
    tasks.spawn(queue::view::follow(Arc::clone(&broker), stop.clone()));
    tasks.spawn(queue::trace::follow(Arc::clone(&broker), stop.clone()));
    let member = Arc::new(member);
    let measured = Arc::clone(&partitions);
    member.measure(move || sizes(&measured));
    tasks.spawn(room::watch(
        Arc::clone(&broker),
        Arc::clone(&member),
        stop.clone(),
    ));
    tasks.spawn(watch_quorum(Arc::clone(&member), on_fatal, stop.clone()));

    metadata.until(Metadata::caught_up).await;
    let lost = boots.lost(&partitions, &metadata);
    let ends = lost::Boots::ends(&partitions, &lost);
    member.report_lost(lost, ends).await;
    boots.told().map_err(&logs)?;
    member.set_ready(true);
    metadata.until(Metadata::is_active).await;
    leading(&metadata, &broker.partitions).await;
    info!(ms = millis(began), "registered and serving");
    clients.spawn(kafka.serve(Arc::clone(&broker), stop_clients.clone()));
    if let Some(queues) = queues {
        clients.spawn(queues.serve(Arc::clone(&broker), stop_clients.clone()));
    }
    clients.spawn(follow_listeners(
        network.clone(),
        Arc::clone(&broker),
        stop_clients.clone(),
    ));
    abandon.0.disarm();
    abandon.1.disarm();
    Ok(Running {
        broker,
        member,
        health,
        addresses,
        stop_clients,
        stop,
        clients,
        tasks,
        lanes: lane_tasks,
        locks: Vec::new(),
    })
}

impl Running {
    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Its parts.
    #[must_use]
    pub fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    /// What is missing until clients may be sent here.
    #[must_use]
    pub fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// Takes the broker down: requests in flight are finished within `shutdown_timeout`, everything is synced.
    pub async fn stop(self) {
        let began = Instant::now();
        info!("stopping");
        self.health.stopping();
        let patience = self.broker.config.shutdown_timeout;
        let gone_by = tokio::time::Instant::now() + patience;
        // Others lead before clients have to look for them, and who asks here meanwhile is told where they are.
        self.member.retire(patience / 2).await;
        self.stop_clients.cancel();
        self.clients.close();
        if tokio::time::timeout_at(gone_by, self.clients.wait())
            .await
            .is_err()
        {
            warn!(?patience, "requests were still in flight");
        }
        self.broker.partitions.retire();
        // While the listener for brokers still answers: goodbye may have to be said to this very process.
        self.member.shutdown().await;
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.close_logs().await;
        info!(ms = millis(began), "stopped");
        drop(self.locks);
    }

    async fn close_logs(&self) {
        let partitions = Arc::clone(&self.broker.partitions);
        match self.broker.host.threads {
            Threads::Own => {
                let closed = tokio::task::spawn_blocking(move || partitions.shutdown());
                if let Err(error) = closed.await {
                    error!(%error, "closing the logs");
                }
            }
            Threads::One { .. } => {
                let finish = partitions.shut_down_by_hand();
                self.lanes.close();
                self.lanes.wait().await;
                finish();
            }
        }
    }
}

fn member_options(
    config: &Config,
    settings: &Settings,
    addresses: Addresses,
    host: &Host,
) -> Options {
    let peers = (0..)
        .zip(&config.peers)
        .map(|(id, address)| (BrokerId(id), address.to_string()));
    Options {
        broker_id: BrokerId(config.broker_id),
        data_dir: config.data_dir.clone(),
        cluster_id: config.cluster.id.clone().map(ClusterId),
        peers: peers.collect(),
        quorum_address: advertised(&config.quorum, addresses.quorum).to_string(),
        kafka: advertised(&config.kafka, addresses.kafka),
        rack: config.rack.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        feature_level: config.cluster.feature_level,
        settings: settings.clone(),
        pace: Pace::default(),
        timing: Timing::default(),
        compaction: Compaction::default(),
        blocking: host.where_blocking(),
        entropy: host.entropy.clone(),
        dialer: host.dialer.clone(),
    }
}

/// A quorum node that stops for good takes the process with it.
async fn watch_quorum(member: Arc<Member>, on_fatal: OnFatal, stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        reason = member.failed() => on_fatal(&format!("the metadata quorum's node has stopped: {reason}")),
    }
}

/// Waits until what is led here, as the metadata says, takes appends: some milliseconds, in which clients would only be sent away.
async fn leading(metadata: &Metadata, partitions: &Partitions) {
    let led = async {
        while !partitions.leads_its_own(&metadata.image()) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    // Those that are not by then are told of by themselves.
    let _ = tokio::time::timeout(LEADING_PATIENCE, led).await;
}

/// Writes the high watermarks when they have changed, and in the end.
async fn keep_watermarks(broker: Arc<Broker>, stop: CancellationToken) {
    let mut written = Watermarks::default();
    loop {
        let is_over = tokio::select! {
            () = stop.cancelled() => true,
            () = tokio::time::sleep(WATERMARKS_EVERY) => false,
        };
        let now = broker.partitions.watermarks();
        if now != written {
            let (storage, dir) = (
                Arc::clone(&broker.host.storage),
                broker.config.data_dir.clone(),
            );
            let next = now.clone();
            let writing = broker.host.blocking(move || next.write(&*storage, &dir));
            match writing.await {
                Ok(()) => written = now,
                // What stands there is older, and as true.
                Err(error) => warn!(%error, "the high watermarks are not kept"),
            }
        }
        if is_over {
            return;
        }
    }
}

async fn keep_retention(partitions: Arc<Partitions>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RETENTION_INTERVAL) => partitions.retain(),
        }
    }
}

async fn keep_compacting(
    partitions: Arc<Partitions>,
    metadata: Metadata,
    settings: Arc<Settings>,
    stop: CancellationToken,
) {
    loop {
        let image = metadata.image();
        let rate = broker_number(&image, &settings, metadata.broker_id(), COMPACTION_RATE);
        partitions.clean(u64::try_from(rate).unwrap_or(0));
        let pause = broker_number(&image, &settings, metadata.broker_id(), COMPACTION_PAUSE);
        let pause = Duration::from_millis(u64::try_from(pause).unwrap_or(0));
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause.max(COMPACTION_PAUSE_MIN)) => {}
        }
    }
}

/// How large each of this broker's replicas is.
fn sizes(partitions: &Partitions) -> Vec<(TopicId, i32, u64)> {
    let all = partitions.all();
    let sizes = all.iter().map(|partition| {
        let key = partition.key();
        let bytes = partition.reader().size_bytes();
        (TopicId(key.topic_id.0), key.partition.0, bytes)
    });
    sizes.collect()
}

fn bind_error(field: &'static str, address: &HostPort) -> impl Fn(io::Error) -> StartError {
    let address = address.to_string();
    move |source| StartError::Bind {
        field,
        address: address.clone(),
        source,
    }
}

/// What others are told: as configured, with the port that was bound where none was named.
fn advertised(listener: &Listener, bound: SocketAddr) -> Address {
    let HostPort { host, port } = listener.advertised.clone();
    Address {
        host,
        port: if port == 0 { bound.port() } else { port },
    }
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
