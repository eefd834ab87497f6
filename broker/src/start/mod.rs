//! How a broker comes up and goes down.
//!
//! Up: the data directory is locked, ports are bound, logs are recovered while the quorum is found or formed, the broker registers,
//! and only then are clients served. Down: no further connections, what is in flight is finished within a bound, goodbye to the
//! controller, logs are synced and closed. [`Running`] owns every task; each ends with it.

mod lock;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use lock::{DirLock, LockError};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tracing::{error, info, warn};
use weir_log::storage::Storage;
use weir_log::storage_os::OsStorage;
use weir_log::{DataDir, Fatal, Lanes, LanesConfig, SystemClock};
use weir_proto::admin::v1::admin_server::AdminServer;
use weir_quorum::record::HostPort as Address;
use weir_quorum::{BrokerId, ControlError};

use crate::Broker;
use crate::config::{Config, HostPort, Listener};
use crate::groups::{Groups, coordinator_config};
use crate::grpc::AdminService;
use crate::health::Health;
use crate::http::HttpListener;
use crate::metrics::Metrics;
use crate::net::{KafkaListener, RequestMemory};
use crate::partitions::Partitions;
use crate::producer_ids::ProducerIds;
use crate::quorum::Metadata;

/// Left free on the data directory's file system, so that metadata and checkpoints can still be written when it is full.
const DISK_RESERVE_BYTES: u64 = 64 << 20;

/// How often retention looks at every partition; Kafka's default is five minutes, short enough here for topics of minutes.
const RETENTION_INTERVAL: Duration = Duration::from_secs(30);

/// Why a broker did not come up.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory is not ours.
    #[error(transparent)]
    Lock(#[from] LockError),
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

/// What is called, once, when a disk failure leaves it unknown what is on disk. In production it ends the process.
pub type OnFatal = Arc<dyn Fn(&Fatal) + Send + Sync>;

/// A broker that runs.
#[derive(Debug)]
pub struct Running {
    broker: Arc<Broker>,
    health: Arc<Health>,
    addresses: Addresses,
    /// Ends the listeners for clients.
    stop_clients: CancellationToken,
    /// Ends everything else.
    stop: CancellationToken,
    clients: TaskTracker,
    tasks: TaskTracker,
    _lock: DirLock,
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
}

/// Brings a broker up. Returns when its parts are assembled and it serves; whether clients may be sent to it is what
/// [`Running::ready`] waits for.
pub async fn start(config: Config, on_fatal: OnFatal) -> Result<Running, StartError> {
    let began = Instant::now();
    let lock = DirLock::take(&config.data_dir)?;
    let health = Health::starting();
    let metrics = Arc::new(Metrics::new()?);
    let settings = Arc::new(config.settings().map_err(StartError::Config)?);
    let (stop, stop_clients) = (CancellationToken::new(), CancellationToken::new());
    let (tasks, clients) = (TaskTracker::new(), TaskTracker::new());

    let http = HttpListener::bind(&config.http).await.map_err(bind_error("listeners.http.bind", &config.http))?;
    let http_address = http.address();
    tasks.spawn(http.serve(Arc::clone(&health), stop.clone()));

    health.step("opening the log directory");
    let storage: Arc<dyn Storage> = Arc::new(OsStorage::new());
    let log_dir = config.data_dir.join("log");
    let dir = DataDir::open(Arc::clone(&storage), &log_dir, DISK_RESERVE_BYTES)
        .map_err(|source| StartError::Logs { dir: log_dir.clone(), source })?;
    let lanes = start_lanes(&config, &metrics, on_fatal)?;

    let kafka = KafkaListener::bind(&config.kafka.bind)
        .await
        .map_err(bind_error("listeners.kafka.bind", &config.kafka.bind))?;
    let quorum = bind_quorum(&config.quorum.bind).await?;
    let addresses = Addresses { kafka: kafka.address(), quorum: quorum.1, http: http_address };

    let me = BrokerId(config.broker_id);
    let partitions = Partitions::new(me, dir, lanes, Arc::clone(&settings), Arc::clone(&metrics));
    health.step("recovering logs");
    let found = partitions.recover().map_err(|source| StartError::Logs { dir: log_dir, source })?;

    health.step("finding the metadata quorum");
    let metadata = Metadata::solitary(me, advertised(&config.kafka, addresses.kafka), (*settings).clone())
        .await
        .map_err(StartError::Config)?;
    partitions.opened().await;
    info!(partitions = found, ms = millis(began), "logs recovered");

    let coordinators = coordinator_config(&config.groups);
    let groups = Groups::new(metadata.clone(), Arc::clone(&partitions), coordinators, Arc::new(SystemClock));
    let broker = Arc::new(Broker {
        request_memory: RequestMemory::new(config.limits.request_memory_bytes),
        config,
        metadata: metadata.clone(),
        partitions: Arc::clone(&partitions),
        producer_ids: ProducerIds::default(),
        storage,
        metrics,
        groups,
    });
    health.assembled(Arc::clone(&broker));

    let is_current = {
        let metadata = metadata.clone();
        move || metadata.caught_up()
    };
    tasks.spawn(Arc::clone(&partitions).follow(metadata.watch(), is_current, stop.clone()));
    // With the clients: who waits in a group is let go, and finds its coordinator elsewhere.
    clients.spawn(broker.groups.clone().follow(stop_clients.clone()));
    tasks.spawn(keep_retention(partitions, stop.clone()));
    let admin = AdminServer::new(AdminService::new(Arc::clone(&health)));
    let server = Server::builder().serve_with_incoming_shutdown(admin, quorum.0, stop.clone().cancelled_owned());
    tasks.spawn(async move {
        if let Err(error) = server.await {
            error!(%error, "the listener for brokers and the operator ended");
        }
    });
    clients.spawn(kafka.serve(Arc::clone(&broker), stop_clients.clone()));
    Ok(Running { broker, health, addresses, stop_clients, stop, clients, tasks, _lock: lock })
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
        self.stop_clients.cancel();
        self.clients.close();
        let patience = self.broker.config.shutdown_timeout;
        if tokio::time::timeout(patience, self.clients.wait()).await.is_err() {
            warn!(?patience, "requests were still in flight");
        }
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        let partitions = Arc::clone(&self.broker.partitions);
        if let Err(error) = tokio::task::spawn_blocking(move || partitions.shutdown()).await {
            error!(%error, "closing the logs");
        }
        info!(ms = millis(began), "stopped");
    }
}

fn start_lanes(config: &Config, metrics: &Arc<Metrics>, on_fatal: OnFatal) -> Result<Lanes, StartError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    // A lane mostly waits for its disk: a quarter of the cores is enough to keep one busy, two let one batch gather meanwhile.
    let lanes = if config.threads.lanes == 0 { (cores / 4).clamp(2, 16) } else { config.threads.lanes };
    let fatal_errors = metrics.fatal_errors.clone();
    let report = move |fatal: &Fatal| {
        fatal_errors.inc();
        error!(error = %fatal, "nothing is acknowledged any more");
        on_fatal(fatal);
    };
    let config = LanesConfig { lanes, ..LanesConfig::default() };
    Lanes::start(config, Arc::new(SystemClock), Arc::new(report)).map_err(StartError::Threads)
}

async fn keep_retention(partitions: Arc<Partitions>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RETENTION_INTERVAL) => partitions.retain(),
        }
    }
}

async fn bind_quorum(address: &HostPort) -> Result<(TcpIncoming, SocketAddr), StartError> {
    let bind = TcpListener::bind((address.host.as_str(), address.port)).await;
    let listener = bind.map_err(bind_error("listeners.quorum.bind", address))?;
    let bound = listener.local_addr().map_err(bind_error("listeners.quorum.bind", address))?;
    Ok((TcpIncoming::from(listener).with_nodelay(Some(true)), bound))
}

fn bind_error(field: &'static str, address: &HostPort) -> impl Fn(io::Error) -> StartError {
    let address = address.to_string();
    move |source| StartError::Bind { field, address: address.clone(), source }
}

/// What others are told: as configured, with the port that was bound where none was named.
fn advertised(listener: &Listener, bound: SocketAddr) -> Address {
    let HostPort { host, port } = listener.advertised.clone();
    Address { host, port: if port == 0 { bound.port() } else { port } }
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
