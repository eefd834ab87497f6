//! What a broker stands on: disk, clock, new numbers, threads, the way to other brokers.
//!
//! In production all of it is the operating system's. In the simulation (`tests/sim`) a whole cluster runs in one thread from
//! one seed; so nothing in the broker asks the system for time or randomness that decides anything, waits for a disk other
//! than by [`Host::blocking`], or starts a thread of its own. Timers are tokio's, whose clock the simulation moves.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use weir_log::storage::Storage;
use weir_log::storage_os::OsStorage;
use weir_log::{Clock, SystemClock};
use weir_quorum::quorum::Blocking;

use crate::net::Dialer;
use crate::quorum::Entropy;

/// Where Linux says which boot this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What a broker stands on.
#[derive(Clone, Debug)]
pub struct Host {
    /// The disk.
    pub storage: Arc<dyn Storage>,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// Numbers that were never used before.
    pub entropy: Entropy,
    /// Who waits for the disk.
    pub threads: Threads,
    /// How other brokers are reached.
    pub dialer: Dialer,
    /// Names the time since the machine last came up: as long as it stays the same, the kernel has all that was written.
    pub boot_id: String,
}

/// Who waits for the disk.
#[derive(Clone, Default)]
pub enum Threads {
    /// Lanes have threads of their own; other calls that wait run on tokio's pool for that.
    #[default]
    Own,
    /// Nobody: everything runs on the one thread of the runtime, on a disk that answers at once. How long a sync takes is
    /// slept for instead, between writing and syncing.
    One {
        /// How long the next sync takes.
        sync_takes: Arc<dyn Fn() -> Duration + Send + Sync>,
    },
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Own => "Own",
            Self::One { .. } => "One",
        })
    }
}

impl Host {
    /// The operating system.
    #[must_use]
    pub fn system() -> Self {
        Self {
            storage: Arc::new(OsStorage::new()),
            clock: Arc::new(SystemClock),
            entropy: Entropy::System,
            threads: Threads::Own,
            dialer: Dialer::Tcp,
            // Where the system does not say, every start is taken for the first after a power cut.
            boot_id: std::fs::read_to_string(BOOT_ID).map_or_else(
                |_| Entropy::System.uuid().to_string(),
                |id| id.trim().to_owned(),
            ),
        }
    }

    /// Runs what may wait for the disk where that holds up nobody else.
    pub async fn blocking<T, W>(&self, work: W) -> T
    where
        T: Send + 'static,
        W: FnOnce() -> T + Send + 'static,
    {
        self.where_blocking().run(work).await
    }

    /// Where calls to the disk run.
    #[must_use]
    pub fn where_blocking(&self) -> Blocking {
        match self.threads {
            Threads::Own => Blocking::Pool,
            Threads::One { .. } => Blocking::Inline,
        }
    }
}
