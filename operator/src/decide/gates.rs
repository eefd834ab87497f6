//! The gates: everything that may say no, in the order in which it is asked.
//!
//! A gate is a named predicate. The name of the first one that says no becomes the reason of a condition, so names never change
//! their meaning; the message says what is and what would remove the block.

use crate::decide::{certificates, heal, listeners, roll, scale, taken, topic, upgrade, volumes};

/// Gate: nothing of a spec is carried out that cannot be carried out.
pub const INVALID_SPEC: &str = "InvalidSpec";

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

type AsksScale = fn(&scale::Case<'_>) -> Option<String>;
type AsksHeal = fn(&heal::Candidate<'_>) -> Option<String>;
type AsksRoll = fn(&roll::Case<'_>) -> Option<String>;
type AsksUpgrade = fn(&upgrade::Candidate<'_>) -> Option<String>;
type AsksTopic = fn(&topic::Case<'_>) -> Option<String>;

/// Removing brokers.
pub const SCALE: &[Gate<AsksScale>] = &[
    Gate {
        name: "ScaleDownBrokersNotSeen",
        blocks: scale::not_seen,
    },
    Gate {
        name: "ScaleDownFeatureLevel",
        blocks: scale::level_too_low,
    },
    Gate {
        name: "ScaleDownTooFewVoters",
        blocks: scale::too_few_vote,
    },
    Gate {
        name: "ScaleDownReplicationFactor",
        blocks: scale::too_many_replicas,
    },
    Gate {
        name: "ScaleDownBrokersMissing",
        blocks: scale::some_are_missing,
    },
];

/// Giving a broker that is away an empty disk.
pub const HEAL: &[Gate<AsksHeal>] = &[
    Gate {
        name: "LostBrokersNotSeen",
        blocks: heal::not_seen,
    },
    Gate {
        name: "LostProofMissing",
        blocks: heal::no_proof,
    },
    Gate {
        name: "LostLastCopy",
        blocks: heal::last_copy,
    },
    Gate {
        name: "LostOneAtATime",
        blocks: heal::one_at_a_time,
    },
];

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
        name: "PartitionWouldFallBelowMinimum",
        blocks: roll::partition_would_fall_below_minimum,
    },
];

/// Having the cluster use a newer feature level, from which there is no way back.
pub const UPGRADE: &[Gate<AsksUpgrade>] = &[
    Gate {
        name: "FinalizeRestartsPending",
        blocks: upgrade::restarts_pending,
    },
    Gate {
        name: "FinalizeNotKnownToAll",
        blocks: upgrade::not_known_to_all,
    },
    Gate {
        name: "FinalizeUnhealthy",
        blocks: upgrade::unhealthy,
    },
    Gate {
        name: upgrade::WAITS,
        blocks: upgrade::waits,
    },
];

/// Names of all gates that may hold something of a cluster.
pub fn of_a_cluster() -> impl Iterator<Item = &'static str> {
    let scale = SCALE.iter().map(|gate| gate.name);
    let roll = ROLL.iter().map(|gate| gate.name);
    let heal = HEAL.iter().map(|gate| gate.name);
    let upgrade = UPGRADE.iter().map(|gate| gate.name);
    scale.chain(roll).chain(heal).chain(upgrade).chain([
        INVALID_SPEC,
        upgrade::REFUSED,
        certificates::LISTENER_CERTIFICATE,
        listeners::ADDRESS_MISSING,
        listeners::ADDRESS_SHARED,
        listeners::NOT_SEEN,
        listeners::NOT_SUPPORTED,
        heal::HEALING,
        scale::DRAIN_UNREAD,
        scale::DRAINING,
        scale::SPREAD_WAITS,
        volumes::PENDING,
        volumes::RESIZING,
        volumes::AT_MAXIMUM,
        taken::NAME_TAKEN,
        "CertificatesUnusable",
        "RackNotSupported",
        "Paused",
    ])
}

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
        name: topic::PAUSED,
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
        name: "ReplicationFactorAboveBrokers",
        blocks: topic::more_replicas_than_brokers,
    },
    Gate {
        name: "FeatureLevelTooLow",
        blocks: topic::level_too_low,
    },
];
