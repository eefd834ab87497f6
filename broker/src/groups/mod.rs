//! Group coordinators: their input and output.
//!
//! Decides nothing about groups: that is `weir-groups`. Owns which shards (partitions of `__consumer_offsets`) this broker
//! coordinates, which follows from the metadata, and one task for each. What always holds:
//!
//! - A shard is served by one task at a time, and only after its whole log was read: a task that takes over waits for the
//!   end of the one before, whose appends have then come to an end too.
//! - Every call is answered once, whatever becomes of its shard.
//! - Handing a request to its shard does not wait: what waits is the answer.
//!
//! [`Groups`] is what handlers and the gRPC service use; [`Groups::follow`] is what `start` runs.

mod ask;
mod batches;
mod describe;
mod find;
mod follow;
mod lag;
mod load;
mod peers;
mod serve;
mod settings;
mod shard;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio::sync::Mutex;
use weir_groups::Config;
use weir_log::Clock;

use crate::partitions::Partitions;
use crate::quorum::Metadata;
use crate::quorum::net::Channels;
use follow::Shards;
pub use peers::{PeersService, Unreachable};
pub use settings::coordinator_config;

/// The coordinators that this broker runs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Groups {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    metadata: Metadata,
    partitions: Arc<Partitions>,
    config: Config,
    clock: Arc<dyn Clock>,
    shards: Shards,
    /// Held by whoever makes the offsets topic, so that a crowd of clients asks the controller once.
    creating: Mutex<()>,
    /// To other brokers, for questions about their groups.
    channels: Channels,
}

impl Groups {
    /// No shard is served before [`Groups::follow`] runs.
    #[must_use]
    pub fn new(
        metadata: Metadata,
        partitions: Arc<Partitions>,
        config: Config,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let shards = Shards::default();
        let (creating, channels) = (Mutex::new(()), Channels::default());
        Self {
            shared: Arc::new(Shared {
                metadata,
                partitions,
                config,
                clock,
                shards,
                creating,
                channels,
            }),
        }
    }
}
