//! Metrics and health over HTTP.
//!
//! `/metrics` for Prometheus; `/healthz` says that the process is alive and depends on nothing; `/readyz` says whether clients may be sent
//! here, and if not, why not.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::IntGaugeVec;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};
use weir_groups::request::ListRequest;
use weir_quorum::configs::Scope;
use weir_wire::PartitionIndex;

use crate::Broker;
use crate::config::HostPort;
use crate::health::Health;
use crate::metrics::OTHER_TOPICS;
use crate::net::{Listener, Network};
use crate::partitions::Partition;

/// Scrapers and probes at the same time; whoever comes beyond that waits in the socket.
const CONNECTIONS_MAX: usize = 32;

/// A client that does not finish its request in this time is hung up on.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a scrape waits for coordinators, which answer at once unless something of them is not durable. While the quorum is lost
/// that may last, and then metrics are wanted most.
const COORDINATORS_WAIT: Duration = Duration::from_secs(1);

/// A bound address on which nobody is served yet.
#[derive(Debug)]
pub struct HttpListener<L> {
    socket: L,
}

impl<L: Listener> HttpListener<L> {
    /// Binds.
    pub async fn bind<N: Network<Listener = L>>(
        network: &N,
        address: &HostPort,
    ) -> io::Result<Self> {
        let socket = network.bind(address).await?;
        Ok(Self { socket })
    }

    /// The address that was bound.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.socket.address()
    }

    /// Serves until `stop`, then hangs up on everyone.
    pub async fn serve(self, health: Arc<Health>, stop: CancellationToken) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let connections = TaskTracker::new();
        loop {
            let accept = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (place, self.socket.accept().await)
            };
            let (place, accepted) = tokio::select! {
                () = stop.cancelled() => break,
                accepted = accept => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!(%error, "accepting an HTTP connection failed");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (health, stop) = (Arc::clone(&health), stop.clone());
            connections.spawn(async move {
                let answer = |request| {
                    let health = Arc::clone(&health);
                    async move { Ok::<_, Infallible>(answer(&health, &request).await) }
                };
                let mut http = http1::Builder::new();
                http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
                let connection = http.serve_connection(TokioIo::new(stream), service_fn(answer));
                tokio::select! {
                    () = stop.cancelled() => {}
                    ended = connection => if let Err(error) = ended { debug!(%error, "HTTP connection") },
                }
                drop(place);
            });
        }
        connections.close();
        connections.wait().await;
    }
}

async fn answer(health: &Health, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
    }
    match request.uri().path() {
        "/healthz" => text(StatusCode::OK, "ok\n"),
        "/readyz" => {
            let missing = health.missing();
            if missing.is_empty() {
                text(StatusCode::OK, "ready\n")
            } else {
                text(
                    StatusCode::SERVICE_UNAVAILABLE,
                    format!("not ready: {}\n", missing.join("; ")),
                )
            }
        }
        "/metrics" => metrics(health).await,
        _ => text(
            StatusCode::NOT_FOUND,
            "there are /metrics, /healthz and /readyz\n",
        ),
    }
}

async fn metrics(health: &Health) -> Response<Full<Bytes>> {
    let Some(broker) = health.broker() else {
        return text(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not ready: {}\n", health.missing().join("; ")),
        );
    };
    observe(broker).await;
    match broker.metrics.encode() {
        Ok(mut metrics) => {
            metrics.extend_from_slice(broker.telemetry.text().as_bytes());
            text(StatusCode::OK, metrics)
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

/// Sets what is a state and not counted where it happens.
async fn observe(broker: &Broker) {
    let metrics = &broker.metrics;
    let partitions = broker.partitions.all();
    let image = broker.metadata.image();
    let bytes = partitions
        .iter()
        .map(|partition| partition.reader().size_bytes())
        .sum();
    metrics.log_bytes.set(gauge(bytes));
    metrics.partitions.set(gauge(partitions.len() as u64));
    metrics
        .damaged_partitions
        .set(gauge(broker.partitions.damaged() as u64));
    metrics.metadata_index.set(gauge(image.index()));
    metrics
        .live_brokers
        .set(gauge(image.live_brokers().count() as u64));
    metrics.is_controller.set(i64::from(
        broker.metadata.controller_id() == Some(broker.metadata.broker_id()),
    ));
    metrics
        .request_memory
        .set(gauge(broker.request_memory.held_bytes()));
    observe_compaction(broker, &partitions);
    observe_queues(broker, &partitions);
    observe_delays(broker, &partitions);
    observe_views(broker, &partitions);
    observe_sharing(broker, &partitions).await;
    let sessions = broker.fetch_sessions.kept();
    metrics.fetch_sessions.set(gauge(sessions.sessions as u64));
    metrics
        .fetch_session_partitions
        .set(gauge(sessions.partitions as u64));
    metrics.fetch_sessions_evicted.is_by_now(sessions.evicted);
    let (clients, dropped) = broker.telemetry.counts();
    metrics.telemetry_clients.set(gauge(clients as u64));
    metrics.telemetry_dropped.is_by_now(dropped);
    observe_groups(broker).await;
    broker.group_lag.refresh().await;
    observe_halves(broker).await;
    if let Some(space) = broker.disk_space().await {
        metrics
            .disk_available_bytes
            .set(gauge(space.available_bytes));
        metrics.disk_bytes.set(gauge(space.total_bytes));
    }
    if let Some(bytes) = resident_memory_bytes() {
        metrics.resident_memory.set(gauge(bytes));
    }
}

fn observe_compaction(broker: &Broker, partitions: &[Arc<Partition>]) {
    let (metrics, cleaner) = (&broker.metrics, broker.partitions.cleaner());
    metrics.compaction_passes.is_by_now(cleaner.passes());
    metrics.compaction_failures.is_by_now(cleaner.failures());
    metrics
        .compaction_read_bytes
        .is_by_now(cleaner.read_bytes());
    metrics
        .compaction_written_bytes
        .is_by_now(cleaner.written_bytes());
    metrics
        .compaction_last_pass_seconds
        .set(gauge(cleaner.last_pass_ms() / 1_000));
    let compacted = || {
        partitions
            .iter()
            .filter(|partition| partition.config().cleanup_policy.compact)
    };
    let ratio = |partition: &Arc<Partition>| match partition.reader().dirty_bytes() {
        (_, 0) => 0.0,
        (dirty, all) => dirty as f64 / all as f64,
    };
    metrics
        .compaction_dirty_ratio_max
        .set(compacted().map(ratio).fold(0.0, f64::max));
    let uncleanable = compacted().filter(|partition| partition.reader().is_uncleanable());
    metrics
        .uncleanable_partitions
        .set(gauge(uncleanable.count() as u64));
}

/// Of topics with messages that are to come later: how many, and when the next one is due.
fn observe_delays(broker: &Broker, partitions: &[Arc<Partition>]) {
    let topics = &broker.metrics.topics;
    topics.delayed_messages.reset();
    topics.delayed_next_due.reset();
    let mut next: BTreeMap<&str, u64> = BTreeMap::new();
    for partition in partitions {
        let known = partition
            .delay_max_ms()
            .and_then(|_| partition.delays().size());
        let Some(size) = known else {
            continue;
        };
        let topic = topics.label(partition.topic());
        topics
            .delayed_messages
            .with_label_values(&[topic])
            .add(gauge(size.messages));
        if let Some(due) = size.next_due {
            let next = next.entry(topic).or_insert(u64::MAX);
            *next = due.0.min(*next);
        }
    }
    for (topic, due) in next {
        let seconds = gauge(due / 1_000);
        topics
            .delayed_next_due
            .with_label_values(&[topic])
            .set(seconds);
    }
}

/// Of topics with a bound: how much is not settled, and how much may be.
fn observe_queues(broker: &Broker, partitions: &[Arc<Partition>]) {
    let topics = &broker.metrics.topics;
    for gauges in [
        &topics.queue_backlog_messages,
        &topics.queue_backlog_bytes,
        &topics.queue_bound_messages,
        &topics.queue_bound_bytes,
    ] {
        gauges.reset();
    }
    for partition in partitions {
        let Some(bound) = partition.bound() else {
            continue;
        };
        let known = bound.backlog();
        let Some((_, backlog)) = known.filter(|(epoch, _)| partition.leads(*epoch)) else {
            continue;
        };
        let topic = topics.label(partition.topic());
        let add = |gauges: &IntGaugeVec, value| {
            gauges.with_label_values(&[topic]).add(gauge(value));
        };
        add(&topics.queue_backlog_messages, backlog.messages);
        let config = bound.config();
        if config.max_bytes.is_some() {
            add(&topics.queue_backlog_bytes, backlog.bytes);
        }
        // One for the whole topic is told once.
        if config.scope == Scope::Partition || partition.key().partition == PartitionIndex(0) {
            if let Some(most) = config.max_messages {
                add(&topics.queue_bound_messages, most);
            }
            if let Some(most) = config.max_bytes {
                add(&topics.queue_bound_bytes, most);
            }
        }
    }
}

/// Of views: how far they are behind their sources.
fn observe_views(broker: &Broker, partitions: &[Arc<Partition>]) {
    let topics = &broker.metrics.topics;
    topics.view_lag_messages.reset();
    topics.view_lag_seconds.reset();
    let now_ms = broker.host.clock.now_ms();
    for partition in partitions {
        let known = partition
            .view()
            .and_then(|_| partition.view_progress().lag());
        let Some(lag) = known.filter(|lag| partition.leads(lag.epoch)) else {
            continue;
        };
        let topic = topics.label(partition.topic());
        let messages = topics.view_lag_messages.with_label_values(&[topic]);
        messages.add(gauge(lag.messages));
        let seconds = topics.view_lag_seconds.with_label_values(&[topic]);
        seconds.set(seconds.get().max((now_ms - lag.since_ms) / 1_000));
    }
}

/// Pairs of a share group and a topic with values of their own; the others are counted together.
const SHARING_MAX: usize = 1_000;

/// Of share groups: what waits for its next delivery, and how old what is not settled is.
async fn observe_sharing(broker: &Broker, partitions: &[Arc<Partition>]) {
    let metrics = &broker.metrics;
    let measures = broker.share.measure(partitions).await;
    metrics.share_parked.reset();
    metrics.share_oldest.reset();
    for (at, ((group, topic), measured)) in measures.iter().enumerate() {
        let labels = match at < SHARING_MAX {
            true => [group.as_str(), topic],
            false => [OTHER_TOPICS; 2],
        };
        metrics
            .share_parked
            .with_label_values(&labels)
            .add(gauge(measured.parked));
        let oldest = metrics.share_oldest.with_label_values(&labels);
        oldest.set(oldest.get().max(gauge(measured.oldest_ms / 1_000)));
    }
}

/// Half messages that nobody has decided. While a shard is loading or waits, those of the others would look like all.
async fn observe_halves(broker: &Broker) {
    let measured = tokio::time::timeout(COORDINATORS_WAIT, broker.halves.measure());
    let Ok(Some(measured)) = measured.await else {
        return;
    };
    let metrics = &broker.metrics;
    metrics.half_undecided.set(gauge(measured.undecided as u64));
    let now_ms = broker.host.clock.now_ms();
    let age_ms = measured.oldest_at_ms.map_or(0, |at_ms| now_ms - at_ms);
    metrics.half_oldest_undecided.set(age_ms.max(0) / 1_000);
}

/// How many groups are in which state. While a shard is loading or waits, what is known of the others would look like groups that are gone.
async fn observe_groups(broker: &Broker) {
    let listed = broker.groups.list(&ListRequest::default());
    let Ok(Ok(groups)) = tokio::time::timeout(COORDINATORS_WAIT, listed).await else {
        return;
    };
    broker.metrics.groups.reset();
    for group in groups {
        broker
            .metrics
            .groups
            .with_label_values(&[group.state.name()])
            .inc();
    }
}

/// From `/proc`, where the kernel tells without a disk.
fn resident_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<u64>()
        .ok()
        .map(|kib| kib * 1024)
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
    );
    response
}
