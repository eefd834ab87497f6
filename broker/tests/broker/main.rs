//! A whole broker in this process, asked in Kafka's protocol.
//!
//! Each test has a broker of its own on ports that the system chooses and a directory that is gone afterwards. Tests named after a trap
//! of the protocol say which one.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod admin;
mod administering;
mod appending;
mod bounds;
mod certificates;
mod client;
mod cluster;
mod compaction;
mod configs;
mod consumer_groups;
mod delay;
mod deleting;
mod disaster;
mod fetching;
mod full_disk;
mod group_admin;
mod group_lag;
mod grpc;
mod grpc_sharing;
mod half;
mod lifecycle;
mod listeners;
mod moving;
mod priority;
mod producing;
mod protocol;
mod queues;
mod quick_look;
mod quotas;
mod replication;
mod retries;
mod selecting;
mod sessions;
mod share;
mod share_groups;
mod telemetry;
mod throttle;
mod tls;
mod topics;
mod trace;
mod transactions;
mod transactions_log;
mod upgrade;
mod views;
