//! What every handler is given: the parts of one running broker.
//!
//! [`Broker`] owns nothing that changes by itself; each part guards its own state. It is shared by `Arc` and lives until the
//! last connection is closed.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::Semaphore;
use weir_log::storage::Space;

use crate::config::Config;
use crate::fetch_sessions::FetchSessions;
use crate::group_lag::GroupLag;
use crate::groups::Groups;
use crate::half::Halves;
use crate::host::Host;
use crate::metrics::Metrics;
use crate::net::RequestMemory;
use crate::partitions::Partitions;
use crate::producer_ids::ProducerIds;
use crate::queue::append::Appenders;
use crate::queue::ledgers::Ledgers;
use crate::quorum::Metadata;
use crate::quotas::Quotas;
use crate::share::Share;
use crate::telemetry::Telemetry;
use crate::transactions::TransactionCoordinators;

/// One running broker.
#[derive(Debug)]
pub struct Broker {
    /// What it was told from outside.
    pub config: Config,
    /// The cluster's metadata.
    pub metadata: Metadata,
    /// The partitions that are here.
    pub partitions: Arc<Partitions>,
    /// Identities for producers.
    pub producer_ids: Arc<ProducerIds>,
    /// What requests may hold.
    pub request_memory: RequestMemory,
    /// A place for each client's connection, over all listeners.
    pub connection_places: Arc<Semaphore>,
    /// What it stands on.
    pub host: Host,
    /// What it counts.
    pub metrics: Arc<Metrics>,
    /// What consumers fetch, so that they need not say it each time.
    pub fetch_sessions: FetchSessions,
    /// How much clients have taken of what they may.
    pub quotas: Quotas,
    /// What clients say about themselves.
    pub telemetry: Telemetry,
    /// The group coordinators.
    pub groups: Groups,
    /// How far their groups are behind, for metrics.
    pub group_lag: GroupLag,
    /// The transaction coordinators.
    pub transactions: TransactionCoordinators,
    /// Coordinators of half messages.
    pub halves: Halves,
    /// Share-partitions, their sessions and states.
    pub share: Share,
    /// Bounds of whole topics.
    pub ledgers: Ledgers,
    /// The ways to leaders of partitions, for what is appended in other names than a Kafka client's.
    pub appenders: Appenders,
}

impl Broker {
    /// The file systems that partitions lie on, together; `None` when none can be asked.
    pub async fn disk_space(&self) -> Option<Space> {
        let mut sum: Option<Space> = None;
        for dir in self.partitions.dirs() {
            let Some(space) = self.space_of(dir.path()).await else {
                continue;
            };
            let before = sum.unwrap_or(Space {
                available_bytes: 0,
                total_bytes: 0,
            });
            sum = Some(Space {
                available_bytes: before.available_bytes + space.available_bytes,
                total_bytes: before.total_bytes + space.total_bytes,
            });
        }
        sum
    }

    /// One directory's file system; `None` when it cannot be asked.
    pub async fn space_of(&self, path: &Path) -> Option<Space> {
        let (storage, path) = (Arc::clone(&self.host.storage), path.to_owned());
        let asked = self.host.blocking(move || storage.space(&path));
        asked.await.ok()
    }
}
