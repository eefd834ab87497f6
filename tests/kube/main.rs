//! Weir on a real Kubernetes: `cargo xtask test --only kube`, or with `KUBECONFIG` on a cluster of one's own.
//!
//! Each file is a story about one promise. A story has a namespace of its own, which enforces the restricted Pod
//! Security profile; it waits by watching, and leaves its namespace standing when it fails, so that one can look.
#![allow(clippy::print_stdout, reason = "stories say how far they are")]

mod alone;
mod charts;
mod deletion;
mod disaster;
mod evictions;
mod flights;
mod flow;
mod full_disk;
mod groups;
mod install;
mod leaves;
mod listeners;
mod load;
mod operator;
mod refusals;
mod scaling;
mod shell;
mod stage;
mod tls;
mod topics;
mod upgrade;
mod watching;

use alone::{nodes, rest};
