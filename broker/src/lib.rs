//! The broker: connects protocol, logs, metadata and coordinators to the network.
//!
//! - [`config`]: the one file that says what this broker is to be.
//! - [`net`]: listeners and connections; frames in, frames out, in order and bounded.
//! - [`api`]: one table of the Kafka APIs, and a file for each.
//! - [`partitions`]: the partitions that this broker leads, as the metadata says; appending, reading, waiting.
//! - [`replication`]: streams between leaders and followers.
//! - [`certificates`]: what this broker proves with who it is, to other brokers and the operator.
//! - [`quorum`]: the metadata facade: the image, commands to the controller, the Raft transport.
//! - [`shards`]: coordinators over the partitions of an internal topic: their input and output, whatever they coordinate.
//! - [`groups`]: the group coordinators' input and output.
//! - [`group_lag`]: how far all groups that are coordinated here are behind, for metrics.
//! - [`transactions`]: the transaction coordinators' input and output.
//! - [`scrub`]: looks for bytes on disk that are not what was written.
//! - [`share`]: share groups: share-partitions, members' sessions, and the coordinators of their states.
//! - [`queue`]: bounded queues, and what else makes a topic more than a log.
//! - [`gateway`]: reaching what other brokers lead, in the name of clients that came to this one.
//! - [`grpc`]: what the operator asks, and what clients of gRPC do with queues.
//! - [`http`]: metrics and health.
//! - [`health`]: whether the broker is ready, and what is missing.
//! - [`probe`]: writes and reads back a few messages, for people and for tests of an installation.
//! - [`host`]: what a broker stands on: disk, clock, threads; a simulation has its own.
//! - [`gather`]: waiting for several outcomes at once.
//! - [`producer_ids`]: identities for producers.
//! - [`fetch_sessions`]: what consumers fetch, so that they need not say it each time.
//! - [`quotas`]: how much clients may take.
//! - [`telemetry`]: what clients say about themselves.
//! - [`metadata_files`]: `weir-broker metadata`, for disks of brokers that do not run: exports, and the way on when the quorum is lost.
//! - [`metrics`]: every metric, defined in one place.
//! - [`probe`]: `weir-broker probe`, a client that writes and reads back; `main` runs it as a subcommand.
//! - [`error`]: the table from Weir's errors to Kafka's codes.
//! - [`start`]: the order in which a broker comes up and goes down.

pub mod api;
pub mod broker;
pub mod certificates;
pub mod config;
pub mod error;
pub mod fetch_sessions;
pub mod gateway;
pub mod gather;
pub mod group_lag;
pub mod groups;
pub mod grpc;
pub mod half;
pub mod health;
pub mod host;
pub mod http;
pub mod metadata_files;
pub mod metrics;
pub mod net;
pub mod partitions;
pub mod probe;
pub mod producer_ids;
pub mod queue;
pub mod quorum;
pub mod quotas;
pub mod replication;
pub mod scrub;
pub mod shards;
pub mod share;
pub mod start;
pub mod telemetry;
pub mod transactions;

pub use broker::Broker;
