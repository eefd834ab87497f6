//! Transaction coordinators: their input and output.
//!
//! Decides nothing about transactions: that is `weir_groups::transactions`, whose machines the broker's
//! [`shards`](crate::shards) run, one for each partition of `__transaction_state` that this broker leads. Owns the way of
//! markers to the leaders of partitions, here and on other brokers, and of leaders' questions to coordinators. What always
//! holds: markers are tried until every partition has its own or is gone, or the shard is another broker's, which goes on.
//!
//! [`TransactionCoordinators`] is what handlers use; [`TransactionCoordinators::follow`] is what `start` runs.

mod ask;
mod markers;
mod peers;
mod settings;
mod verify;
mod vouch;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use weir_groups::transactions::{Action, Config, Transactions};

use crate::groups::Groups;
use crate::host::Host;
use crate::partitions::Partitions;
use crate::producer_ids::ProducerIds;
use crate::quorum::Metadata;
use crate::quorum::net::Channels;
use crate::shards::{Acting, Shards};
pub use markers::MarkerWriter;
pub use peers::TransactionsService;
pub use settings::coordinator_config;
pub use verify::{ADDS_FROM, Verification};
pub use vouch::Vouch;

/// The transaction coordinators that this broker runs, and the way to others. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TransactionCoordinators {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    metadata: Metadata,
    producer_ids: Arc<ProducerIds>,
    shards: Shards<Transactions>,
    markers: MarkerWriter,
    channels: Arc<Channels>,
}

impl TransactionCoordinators {
    /// No shard is served before [`TransactionCoordinators::follow`] runs.
    #[must_use]
    pub fn new(
        metadata: Metadata,
        partitions: Arc<Partitions>,
        groups: Groups,
        producer_ids: Arc<ProducerIds>,
        config: Config,
        host: Host,
    ) -> Self {
        let channels = Arc::new(Channels::new(host.dialer.clone()));
        let markers = MarkerWriter::new(
            metadata.clone(),
            Arc::clone(&partitions),
            groups,
            Arc::clone(&host.clock),
            Arc::clone(&channels),
        );
        let writer = markers.clone();
        let act = move |action: Action, acting: &Acting<Transactions>| {
            let Action::WriteMarkers(markers) = action;
            let (inbox, ended) = (acting.inbox.clone(), acting.ended.clone());
            // Ends with the shard's machine, which begins it anew when it is loaded again.
            tokio::spawn(writer.clone().finish(*markers, inbox, ended));
        };
        let shards = Shards::new(
            metadata.clone(),
            partitions,
            config,
            host,
            Arc::new(act),
            Arc::new(|| None),
        );
        Self {
            shared: Arc::new(Shared {
                metadata,
                producer_ids,
                shards,
                markers,
                channels,
            }),
        }
    }

    /// Runs a task for each shard that this broker coordinates, as the metadata says, until `stop`. Ends when they have.
    pub async fn follow(self, stop: CancellationToken) {
        self.shared.shards.clone().follow(stop).await;
    }

    /// What writes markers to partitions that this broker leads.
    #[must_use]
    pub fn markers(&self) -> &MarkerWriter {
        &self.shared.markers
    }
}
