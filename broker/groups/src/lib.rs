//! The coordinators: groups of every type and their offsets, and [`transactions`], as state machines.
//!
//! Owns Kafka's group protocols and the offsets that groups commit, and does no I/O: `(request, now) → effects`.
//! A [`Coordinator`] holds the groups of one partition of `__consumer_offsets` (a *shard*). What always holds:
//!
//! - A reply that tells of stored state leaves only when that state is durable, so a coordinator that is killed and
//!   loaded again, here or elsewhere, never contradicts what a client was told. A committed offset never goes back by
//!   itself.
//! - In one generation of a group a partition belongs to one member, as the leader assigned it.
//! - Every call is answered exactly once.
//! - Everything is bounded: [`Config`] has each bound with its reason.
//!
//! The caller (the broker's `shards` module) reads the shard's partition from its start into a [`Loader`], which gives the
//! [`Coordinator`]; [`Machine`] says how it is run.

mod as_machine;
mod classic;
mod cluster;
mod config;
mod consumer;
mod coordinator;
mod describe;
mod error;
mod expiry;
mod group;
pub mod half;
mod lag;
mod loader;
mod machine;
mod modern;
mod offsets;
mod outbox;
mod pending;
mod placement;
mod protocols;
pub mod request;
mod reset;
pub mod share;
mod stored;
pub mod transactions;
mod types;

#[cfg(test)]
mod tests;

pub use as_machine::Asked;
pub use cluster::{Cluster, GroupSettings, MigrationPolicy, NoCluster, TopicInfo};
pub use config::Config;
pub use coordinator::Coordinator;
pub use error::GroupError;
pub use lag::lag;
pub use loader::Loader;
pub use machine::{Entry, Machine, Marker, Outcome, Producer, Replayed};
pub use modern::{Epoch, Partitions, TopicPartition, by_topic};
pub use outbox::Effects;
pub use placement::{OFFSETS_TOPIC, partition_for};
pub use request::{Reply, Request, Response};
pub use stored::{StoredError, StoredRecord};
pub use types::{
    CallId, Generation, GroupId, InstanceId, MemberId, MonoMs, Now, Position, TransactionalId,
    WallMs,
};
