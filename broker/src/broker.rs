//! What every handler is given: the parts of one running broker.
//!
//! [`Broker`] owns nothing that changes by itself; each part guards its own state. It is shared by `Arc` and lives until the
//! last connection is closed.

use crate::config::Config;
use crate::groups::Groups;
use crate::metrics::Metrics;

/// One running broker.
#[derive(Debug)]
pub struct Broker {
    /// What it was told from outside.
    pub config: Config,
    /// What it counts.
    pub metrics: Metrics,
    /// The group coordinators.
    pub groups: Groups,
}
