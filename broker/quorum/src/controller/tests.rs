#![allow(clippy::unwrap_used, reason = "tests")]

mod brokers;
mod configs;
mod topics;
mod world;
