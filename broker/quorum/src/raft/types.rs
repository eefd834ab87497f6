//! The types that openraft is made to work with.

use serde::{Deserialize, Serialize};

use super::runtime::WeirRuntime;
use crate::ids::NodeId;

/// openraft with Weir's types.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TypeConfig;

impl openraft::RaftTypeConfig for TypeConfig {
    type D = Batch;
    type R = Applied;
    type NodeId = NodeId;
    type Node = Peer;
    type Entry = openraft::Entry<TypeConfig>;
    type SnapshotData = Vec<u8>;
    type AsyncRuntime = WeirRuntime;
    type Responder = openraft::impls::OneshotResponder<TypeConfig>;
}

/// Records as they stand in the log: framed text, which is only read when it is applied, so that a broker too old for
/// it stops there with the name of what it does not know, and not somewhere in the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Batch(pub(crate) String);

/// What applying a batch came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Applied {
    /// The image has it.
    Yes,
    /// It was decided on metadata that were not the newest any more, and nothing happened.
    Stale,
}

/// Where a node is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Peer {
    /// Its quorum listener, host:port.
    pub(crate) address: String,
}

pub(crate) type Raft = openraft::Raft<TypeConfig>;
pub(crate) type Entry = openraft::Entry<TypeConfig>;
pub(crate) type LogId = openraft::LogId<NodeId>;
pub(crate) type Vote = openraft::Vote<NodeId>;
pub(crate) type StorageError = openraft::StorageError<NodeId>;
pub(crate) type StorageIoError = openraft::StorageIOError<NodeId>;
pub(crate) type Membership = openraft::Membership<NodeId, Peer>;
pub(crate) type StoredMembership = openraft::StoredMembership<NodeId, Peer>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<NodeId, Peer>;
pub(crate) type Snapshot = openraft::Snapshot<TypeConfig>;
