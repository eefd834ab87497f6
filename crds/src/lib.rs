//! Weir's custom resources as Rust types, and everything that is generated from them.
//!
//! This crate owns the API group `weir.dev/v1alpha1`: the kinds [`Cluster`], [`Topic`] and [`ConsumerGroup`], the rules
//! that the API server checks without knowing a running cluster, and the same rules for manifests that never see an API
//! server ([`admission`]). What always holds:
//!
//! * A field that is absent (`None`) is unmanaged: nobody writes a value into the user's spec, defaults in the schema aside.
//! * Deserialising never fails on a value that only a rule forbids, so that one odd object cannot stop a watch of all of
//!   them. Numbers with units stay text ([`StorageSize`], [`ResourceQuantity`]) until someone asks for their value.
//! * Manifests come from [`crds`], never from `kube`'s `CustomResourceExt::crd` alone: see [`schema`].
#![allow(
    clippy::duplicated_attributes,
    reason = "each printer column of a kind has a type and a path"
)]
#![allow(
    unreachable_pub,
    reason = "the derive of KubeSchema copies each struct, with its `pub`, into a function"
)]

pub mod admission;
mod cluster;
mod consumer_group;
mod group_actions;
mod listener;
mod pod;
mod quantity;
pub mod schema;
mod shared;
mod sharing;
mod topic;

pub use cluster::{
    AutoGrow, BlockedStep, BrokersSummary, Cluster, ClusterSpec, ClusterStatus, FINALIZE_AFTER_S,
    FeatureLevelStatus, ImagePullPolicy, MAX_CLUSTER_NAME, OnScaleDown, PlanSummary, PlannedStep,
    Rack, Storage, Tracing, Upgrade,
};
pub use consumer_group::{
    ConsumerGroup, ConsumerGroupSpec, ConsumerGroupStatus, Lag, LagObjective, MAX_TOPICS_IN_STATUS,
    TopicLag,
};
pub use group_actions::{
    BEGIN_CONFIG, ConsumerScale, GroupBeginning, LastReset, MAX_PARTITIONS_IN_STATUS, OffsetReset,
    PartitionReset, ResetPosition, ScaleStatus,
};
pub use listener::{
    Listener, ListenerAddress, ListenerBroker, ListenerStatus, ListenerTls, ListenerType,
    NodeAddressType,
};
pub use pod::{EnvVar, PodOverrides, Resources};
pub use quantity::{QuantityError, ResourceQuantity, StorageSize};
pub use schema::crds;
pub use shared::{ClusterRef, ConfigValue, SecretRef};
pub use sharing::{
    DeadLetters, FIELD_OF_CONFIG, GroupIsolation, GroupLease, GroupRetry, SHARING_CONFIGS,
};
pub use topic::{
    BoundScope, DeletionPolicy, DriftPolicy, Overflow, Queue, QueueBound, QueueOrder,
    QueuePriority, Topic, TopicSpec, TopicStatus,
};

/// The API group of every kind of Weir's.
pub const GROUP: &str = "weir.dev";
/// The only version served so far.
pub const VERSION: &str = "v1alpha1";
