//! What a node is told, and how openraft is told it.

use std::path::PathBuf;
use std::time::Duration;

use openraft::{Config, SnapshotPolicy};

use crate::ids::NodeId;
use crate::raft::blocking::Blocking;

/// What a node is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who it is.
    pub node: NodeId,
    /// Where others reach it, host:port.
    pub address: String,
    /// Its directory: all of its files are here and nothing else is.
    pub dir: PathBuf,
    /// Its clocks.
    pub timing: Timing,
    /// How much of the log is kept.
    pub compaction: Compaction,
    /// Where calls to the disk run.
    pub blocking: Blocking,
}

/// How soon a node notices that there is no leader.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How often a leader is heard from. A message to a follower has this long, the follower's sync included.
    pub heartbeat: Duration,
    /// The shortest time without a leader after which a node stands for election.
    pub election_min: Duration,
    /// The longest such time. It is added once more by those who have just heard from a leader, and no vote is given to
    /// another before it is over.
    pub election_max: Duration,
    /// How long a snapshot may take to arrive.
    pub snapshot: Duration,
}

impl Default for Timing {
    /// A leader that falls silent is replaced within 1.2 to 1.7 seconds (time is looked at every 300 ms), one whose port
    /// refuses connections after 0.7 ([`Quorum::replace_leader`](super::Quorum::replace_leader)). A machine may stall for a
    /// second without an election; a heartbeat that is shorter than a slow disk's sync would be sent again and again.
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(200),
            election_min: Duration::from_millis(500),
            election_max: Duration::from_millis(700),
            snapshot: Duration::from_secs(30),
        }
    }
}

/// How much of the log is kept.
#[derive(Clone, Copy, Debug)]
pub struct Compaction {
    /// After how many entries the next snapshot is made.
    pub snapshot_every: u64,
    /// How many entries that a snapshot holds are kept, for nodes that are a little behind.
    pub keep: u64,
    /// How large the log grows before the next snapshot is made and nothing that it holds is kept.
    pub log_bytes_max: u64,
}

impl Default for Compaction {
    /// Entries are few (a cluster at rest writes none) and mostly small; what is kept is replayed well within a second.
    fn default() -> Self {
        Self {
            snapshot_every: 2000,
            keep: 500,
            log_bytes_max: 32 << 20,
        }
    }
}

pub(super) fn config(options: &Options) -> Config {
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Config {
        cluster_name: "weir".to_owned(),
        heartbeat_interval: ms(options.timing.heartbeat),
        election_timeout_min: ms(options.timing.election_min),
        election_timeout_max: ms(options.timing.election_max),
        install_snapshot_timeout: ms(options.timing.snapshot),
        // What one message holds is bounded in bytes by the log store.
        max_payload_entries: 256,
        // Beyond what is kept there is only the snapshot.
        replication_lag_threshold: options.compaction.snapshot_every + options.compaction.keep,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(options.compaction.snapshot_every),
        max_in_snapshot_log_to_keep: options.compaction.keep,
        // Purging writes the log file anew, so not for every entry.
        purge_batch_size: options.compaction.keep.max(1),
        ..Config::default()
    }
}
