//! Group coordinators: their input and output.
//!
//! Decides nothing about groups: that is `weir-groups`, whose machines the broker's [`shards`](crate::shards) run, one for
//! each partition of `__consumer_offsets` that this broker leads. What always holds: every call is answered once, whatever
//! becomes of its shard; handing a request over does not wait, what waits is the answer.
//!
//! [`Groups`] is what handlers and the gRPC service use; [`Groups::follow`] is what `start` runs.

mod ask;
mod cluster;
mod describe;
mod follow;
mod lag;
mod peers;
mod places;
mod reset;
mod settings;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use weir_groups::{Asked, Config, Coordinator, Request};

use crate::host::Host;
use crate::partitions::Partitions;
use crate::quorum::Metadata;
use crate::quorum::net::Channels;
use crate::shards::Shards;
use cluster::Seen;
pub(crate) use describe::Standings;
pub(crate) use lag::oldest_unread;
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
    host: Host,
    shards: Shards<Coordinator>,
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
        host: Host,
    ) -> Self {
        let shards = Shards::new(
            metadata.clone(),
            Arc::clone(&partitions),
            config,
            host.clone(),
            Arc::new(|never, _| match never {}),
            Arc::new({
                let metadata = metadata.clone();
                move || {
                    Some(Asked {
                        request: Request::ForgetAbsentTopics,
                        cluster: Arc::new(Seen::newest(&metadata)),
                    })
                }
            }),
        );
        Self {
            shared: Arc::new(Shared {
                metadata,
                partitions,
                channels: Channels::new(host.dialer.clone()),
                host,
                shards,
            }),
        }
    }
}
