//! The cluster's metadata: records, the image that they make, the controller's decisions, and the Raft quorum that
//! keeps the records.
//!
//! A [`Record`] is one change. The quorum's log is a list of batches of them; every broker applies committed batches to
//! its [`Image`]. A [`Command`] asks the controller, which is the quorum's leader, for a change: [`controller::decide`]
//! says, purely, which records it comes to and what is answered. [`quorum::Quorum`] is one node of the quorum; who votes
//! is decided in [`members`], who forms a cluster in [`forming`], and what a disk is in [`identity`]. What people keep of
//! the metadata is an [`export`]; how a cluster goes on whose quorum is lost is in [`restore`].
//!
//! No network and no files of its own: both come through seams ([`weir_log::storage`] and [`transport`]); so do time,
//! which callers pass in, and randomness ([`quorum::seed_thread`], [`controller::View::entropy`]).

pub mod command;
pub mod configs;
pub mod controller;
pub mod error;
pub mod export;
pub mod forming;
pub mod identity;
pub mod ids;
pub mod image;
pub mod listeners;
pub mod liveness;
pub mod members;
pub mod placement;
pub mod planner;
pub mod quorum;
pub mod quotas;
mod raft;
pub mod record;
pub mod replicas;
pub mod restore;
pub mod topics;
pub mod transport;

pub use command::{Command, Reply};
pub use error::{ControlError, ErrorName};
pub use ids::{
    BrokerEpoch, BrokerId, ClusterId, Incarnation, LeaderEpoch, NodeId, PartitionEpoch, TopicId,
};
pub use image::Image;
pub use record::Record;
