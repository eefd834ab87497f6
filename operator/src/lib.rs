//! Weir's operator: turns `Cluster`, `Topic` and `ConsumerGroup` into brokers, topics and status, in Kubernetes or on this machine.
//!
//! `observe → decide → act → status`. What is decided is decided in [`decide`], which is pure; [`kubernetes`] and [`local`] observe and act.
//! Brokers are known only through [`weir_proto`] and the configuration file ([`broker_config`]).

pub mod act;
pub mod admin;
pub mod broker_config;
pub mod decide;
pub mod kubectl;
pub mod kubernetes;
pub mod local;
pub mod manifests;
pub mod names;
pub mod objects;
pub mod plan;
pub mod quantity;
pub mod status;
#[cfg(test)]
mod testing;
pub mod validate;
pub mod watching;
pub mod world;
