#![allow(clippy::unwrap_used, reason = "tests")]

mod brokers;
mod configs;
mod moves;
mod quotas;
mod topics;
mod world;
