//! What tests of a whole Weir share: other people's clients, the flights they send, and what must hold afterwards.
//!
//! [`history`] and [`log`] judge what was seen and do no I/O; [`clients`], [`members`] and [`local`] run other programs;
//! [`story`] is the main job, told once for local mode and for Kubernetes. Everything here panics with a sentence when
//! what it expects does not happen, as tests do.
#![allow(clippy::print_stdout, reason = "stories say how far they are")]

pub mod acknowledged;
pub mod broker;
pub mod clients;
pub mod cluster;
pub mod compacted;
pub mod copier;
pub mod flights;
pub mod given;
pub mod history;
pub mod kafka;
pub mod leaves;
pub mod load;
pub mod local;
pub mod lock;
pub mod log;
pub mod members;
pub mod memory;
pub mod numbered;
pub mod producer;
pub mod programs;
pub mod puppet;
pub mod random;
pub mod readers;
pub mod sharers;
pub mod story;
pub mod suite;
pub mod wait;
