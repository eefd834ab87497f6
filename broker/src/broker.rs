//! What every handler is given: the parts of one running broker.
//!
//! [`Broker`] owns nothing that changes by itself; each part guards its own state. It is shared by `Arc` and lives until the
//! last connection is closed.

use std::sync::Arc;

use crate::config::Config;
use crate::groups::Groups;
use crate::metrics::Metrics;
use crate::partitions::Partitions;
use crate::quorum::Metadata;

/// One running broker.
#[derive(Debug)]
pub struct Broker {
    /// What it was told from outside.
    pub config: Config,
    /// The cluster's metadata.
    pub metadata: Metadata,
    /// The partitions that are here.
    pub partitions: Arc<Partitions>,
    /// What it counts.
    pub metrics: Arc<Metrics>,
    /// The group coordinators.
    pub groups: Groups,
}
