//! Replication: streams between the brokers that lead partitions and those that follow them.
//!
//! Leaders push: each broker keeps one stream to each other broker that follows something it leads ([`send`]), and serves those that
//! others open to it ([`receive`]). What a partition is to whom is decided in [`crate::partitions`]; how far replicas are, and
//! the high watermark, in `weir_replication`. [`in_sync`] asks the controller for in-sync sets.

mod frames;
mod in_sync;
mod links;
mod producers;
mod read;
mod ready;
mod receive;
mod send;
mod throttle;
mod write;

use std::io;
use std::sync::Arc;

use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;
use weir_log::PartitionKey;
use weir_wire::{BrokerId, LeaderEpoch};

pub use links::Links;
pub use producers::ReplicationService;
pub(crate) use throttle::LeaderDebt;

use crate::host::Host;
use crate::metrics::Metrics;
use crate::partitions::Partitions;
use crate::quorum::Metadata;
use crate::quorum::net::{Channels, Incoming, Peer};
use frames::ToFollower;

/// What the parts of replication share.
pub(crate) struct Shared {
    pub(crate) metadata: Metadata,
    pub(crate) partitions: Arc<Partitions>,
    pub(crate) links: Arc<Links>,
    pub(crate) channels: Arc<Channels>,
    pub(crate) host: Host,
    pub(crate) metrics: Arc<Metrics>,
    /// A replica may have caught up.
    pub(crate) in_sync: Notify,
    /// What was sent to replicas that are throttled.
    pub(crate) debt: LeaderDebt,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// Replicates until `stop`. Streams that other brokers open come by `incoming`.
pub(crate) async fn run(
    shared: Arc<Shared>,
    mut incoming: mpsc::Receiver<Incoming>,
    stop: CancellationToken,
) {
    let tasks = TaskTracker::new();
    tasks.spawn(in_sync::keep(Arc::clone(&shared), stop.clone()));
    let mut served = Vec::new();
    loop {
        for link in shared.links.all() {
            if !served.contains(&link.to) {
                served.push(link.to);
                tasks.spawn(send::run(Arc::clone(&shared), link, stop.clone()));
            }
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = shared.links.added() => {}
            Some(incoming) = incoming.recv() => {
                let (shared, stop) = (Arc::clone(&shared), stop.clone());
                tasks.spawn(async move {
                    let ended = stop.run_until_cancelled(receive::serve(shared, incoming)).await;
                    if let Some(Err(error)) = ended {
                        debug!(%error, "a leader's stream has ended");
                    }
                });
            }
        }
    }
    tasks.close();
    tasks.wait().await;
}

impl Shared {
    /// Whether a stream is from a broker of this cluster, and meant for this one.
    fn admit(&self, hello: &ToFollower, peer: Option<&Peer>) -> io::Result<BrokerId> {
        let refuse = |why: String| Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        let ToFollower::Hello { cluster, from, to } = hello else {
            return refuse("a stream that does not begin with a hello".into());
        };
        let ours = self
            .metadata
            .cluster_id()
            .map(|id| id.0)
            .unwrap_or_default();
        if *cluster != ours || ours.is_empty() {
            return refuse(format!("a stream of cluster {cluster:?}; this is {ours:?}"));
        }
        if *to != self.links.me() {
            return refuse(format!(
                "a stream for broker {to}; this is {}",
                self.links.me()
            ));
        }
        if let Some(peer) = peer
            && *peer != Peer::Broker(weir_quorum::BrokerId(from.0))
        {
            return refuse(format!("{peer:?} opens a stream as broker {from}"));
        }
        Ok(*from)
    }

    /// Whether this broker's replica of a partition may be elected, as far as is known here.
    fn counts_as_in_sync(&self, key: &PartitionKey) -> bool {
        let (image, me) = (self.metadata.image(), self.metadata.broker_id());
        let topic = image.topic_by_id(weir_quorum::TopicId(key.topic_id.0));
        let partition = topic.and_then(|topic| topic.partition(key.partition.0));
        partition
            .is_some_and(|partition| partition.isr.contains(&me) || partition.elr.contains(&me))
    }

    /// The last epoch of a partition whose leader was elected at the price of what it lacked.
    fn unclean_epoch(&self, key: &PartitionKey) -> Option<LeaderEpoch> {
        let image = self.metadata.image();
        let topic = image.topic_by_id(weir_quorum::TopicId(key.topic_id.0))?;
        let partition = topic.partition(key.partition.0)?;
        partition.unclean.map(|epoch| LeaderEpoch(epoch.0))
    }

    /// A broker does not take connections any more.
    fn metadata_suspect(&self, broker: BrokerId) {
        self.metadata.suspect(weir_quorum::BrokerId(broker.0));
    }

    fn sent(&self, bytes: usize) {
        self.metrics.replication_sent_bytes.inc_by(bytes as u64);
    }

    fn received(&self, bytes: usize) {
        self.metrics.replication_received_bytes.inc_by(bytes as u64);
    }
}
