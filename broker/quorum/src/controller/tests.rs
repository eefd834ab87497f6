#![allow(clippy::unwrap_used, reason = "tests")]

mod brokers;
mod configs;
mod quotas;
mod topics;
mod world;
