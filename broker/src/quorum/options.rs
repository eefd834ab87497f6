//! What a broker's part in the quorum is told.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use weir_quorum::configs::Settings;
use weir_quorum::quorum::{Blocking, Compaction, Timing};
use weir_quorum::record::HostPort;
use weir_quorum::{BrokerId, ClusterId};

use super::entropy::Entropy;
use crate::net::Dialer;

/// What a broker's part in the quorum is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// This broker.
    pub broker_id: BrokerId,
    /// The data directory. `meta.json` and the directory `metadata` in it are the quorum's.
    pub data_dir: PathBuf,
    /// The cluster that this broker is meant to belong to, when that is known. Then it never forms one.
    pub cluster_id: Option<ClusterId>,
    /// Where the quorum listeners of the first brokers (0 to 2, or fewer) are, this one's included or not. An empty disk
    /// asks them; afterwards they are where these brokers are looked for first, whatever the log remembers.
    pub peers: BTreeMap<BrokerId, String>,
    /// Where others reach this broker's quorum listener, host:port.
    pub quorum_address: String,
    /// Where clients reach this broker.
    pub kafka: HostPort,
    /// The failure domain that it stands in.
    pub rack: Option<String>,
    /// The version of its software.
    pub version: String,
    /// The newest feature level that it knows, and that a cluster is formed with.
    pub feature_level: u32,
    /// The configuration file's part of brokers' and topics' configuration.
    pub settings: Settings,
    /// When to do what.
    pub pace: Pace,
    /// Raft's clocks.
    pub timing: Timing,
    /// How much of the log is kept.
    pub compaction: Compaction,
    /// Where calls to the disk run.
    pub blocking: Blocking,
    /// Where new numbers come from.
    pub entropy: Entropy,
    /// How other brokers are reached.
    pub dialer: Dialer,
}

/// When to do what.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How often a broker tells the controller that it is alive.
    pub heartbeat: Duration,
    /// How long a broker may be silent before it is fenced.
    pub session: Duration,
    /// How long a command is tried before it is given up.
    pub command: Duration,
    /// How long a proposal may take before the controller answers that it does not know what became of it.
    pub proposal: Duration,
    /// How long saying goodbye may hold up the end of the process.
    pub goodbye: Duration,
    /// The first pause before something is tried again; it doubles up to [`Pace::retry_max`].
    pub retry_min: Duration,
    /// The longest such pause.
    pub retry_max: Duration,
}

impl Default for Pace {
    /// A process that dies is noticed by its port ([`Metadata::suspect`](super::Metadata::suspect)); the session is for
    /// machines that freeze or are cut off, whose partitions are to be led by others in less than three seconds. Six
    /// heartbeats to a session: some that are late on a busy machine fence no one, and a controller that was held up itself
    /// takes no one for silent.
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(300),
            session: Duration::from_secs(2),
            command: Duration::from_secs(10),
            proposal: Duration::from_secs(5),
            goodbye: Duration::from_secs(2),
            retry_min: Duration::from_millis(20),
            retry_max: Duration::from_millis(500),
        }
    }
}

/// Pauses that double.
#[derive(Debug)]
pub(crate) struct Pauses {
    next: Duration,
    max: Duration,
}

impl Pauses {
    pub(crate) fn new(pace: &Pace) -> Self {
        Self {
            next: pace.retry_min,
            max: pace.retry_max,
        }
    }

    pub(crate) async fn pause(&mut self) {
        tokio::time::sleep(self.next).await;
        self.next = (self.next * 2).min(self.max);
    }
}
