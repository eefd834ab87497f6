//! The seam to the network: how quorum nodes reach each other.
//!
//! The quorum hands over bytes and gets bytes back. Whoever implements this connects lazily, keeps to the deadline, and
//! carries the target's node id along, so that a message for one disk is never answered by another
//! ([`crate::quorum::Quorum::answer`] checks it on the other side).

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;

use crate::ids::NodeId;

/// A node to call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Which node.
    pub node: NodeId,
    /// Where the quorum last knew it, host:port.
    pub address: String,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rpc {
    /// Raft's AppendEntries.
    AppendEntries,
    /// Raft's RequestVote.
    Vote,
    /// A whole snapshot.
    InstallSnapshot,
}

/// Why there was no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TransportError(pub String);

/// Carries messages to other quorum nodes.
#[async_trait]
pub trait Transport: Debug + Send + Sync + 'static {
    /// Sends `request` and waits for the answer, for `deadline` at most.
    async fn call(
        &self,
        target: &Target,
        rpc: Rpc,
        request: Vec<u8>,
        deadline: Duration,
    ) -> Result<Vec<u8>, TransportError>;
}
