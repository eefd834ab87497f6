//! The gates: everything that may say no, in the order in which it is asked.
//!
//! A gate is a named predicate. The name of the first one that says no becomes the reason of a condition, so names never change
//! their meaning; the message says what is and what would remove the block.

use crate::decide::{roll, scale, topic};

/// Something wanted that is not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocked {
    /// Name of the gate: a condition's reason.
    pub gate: &'static str,
    /// What is in the way, with numbers, and the remedy.
    pub message: String,
}

/// A named predicate over one case: a function that answers why not.
#[derive(Debug, Clone, Copy)]
pub struct Gate<F> {
    /// `CamelCase`, as a condition's reason.
    pub name: &'static str,
    /// `Some(message)` blocks.
    pub blocks: F,
}

/// The first gate that says no; `ask` puts the case to one predicate.
#[must_use]
pub fn first_no<F>(gates: &[Gate<F>], ask: impl Fn(&F) -> Option<String>) -> Option<Blocked> {
    gates.iter().find_map(|gate| {
        ask(&gate.blocks).map(|message| Blocked {
            gate: gate.name,
            message,
        })
    })
}

type AsksScale = fn(&scale::Case) -> Option<String>;
type AsksRoll = fn(&roll::Case<'_>) -> Option<String>;
type AsksTopic = fn(&topic::Case<'_>) -> Option<String>;

/// Changing the number of brokers.
pub const SCALE: &[Gate<AsksScale>] = &[Gate {
    name: "ScaleDownBlocked",
    blocks: scale::removes_brokers,
}];

/// Restarting a broker that serves.
pub const ROLL: &[Gate<AsksRoll>] = &[
    Gate {
        name: "BrokersNotReady",
        blocks: roll::others_not_ready,
    },
    Gate {
        name: "BrokersNotSeen",
        blocks: roll::not_seen,
    },
    Gate {
        name: "QuorumAtRisk",
        blocks: roll::quorum_at_risk,
    },
    Gate {
        name: "PartitionWouldGoOffline",
        blocks: roll::partition_would_go_offline,
    },
];

/// Carrying out a `Topic`.
pub const TOPIC: &[Gate<AsksTopic>] = &[
    Gate {
        name: "ClusterNotFound",
        blocks: topic::cluster_not_found,
    },
    Gate {
        name: "Conflict",
        blocks: topic::owned_by_an_older_one,
    },
    Gate {
        name: "Paused",
        blocks: topic::paused,
    },
    Gate {
        name: "BrokersNotSeen",
        blocks: topic::not_seen,
    },
    Gate {
        name: "PartitionsShrinkRefused",
        blocks: topic::shrinks,
    },
    Gate {
        name: "ReplicationFactorChangeRefused",
        blocks: topic::changes_replication_factor,
    },
    Gate {
        name: "ReplicationFactorAboveBrokers",
        blocks: topic::more_replicas_than_brokers,
    },
];
