//! Status of a Cluster.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use weir_crds::{
    BlockedStep, BrokersSummary, ClusterStatus, FeatureLevelStatus, ListenerAddress,
    ListenerStatus, PlanSummary, PlannedStep,
};

use super::{Is, Wanted, conditions, truncated};
use crate::decide::Blocked;
use crate::decide::cluster::{Decision, Step, World};
use crate::decide::{certificates, gates, heal, listeners, scale, taken, upgrade, volumes};
use crate::names;
use crate::plan;
use crate::validate::{Cluster, Invalid};
use crate::world::{BrokerId, HostPort, Look};

/// Steps and gates that a status lists, by its schema.
const LISTED_MAX: usize = 32;
/// Bytes of a message in those lists, by its schema.
const LISTED_MESSAGE_MAX: usize = 1024;

/// Brokers that a status lists, by its schema.
const BROKERS_MAX: usize = 100;

/// For how long nobody answers before what was said last is no longer told: longer than an election, or a restart of the broker that was asked.
const UNSEEN_S: i64 = 30;

/// Condition that is unknown exactly while no broker answers.
const VOTERS_MISSING: &str = "VotersMissing";

/// Gates that only a person can open.
pub(crate) const NEEDS_A_PERSON: [&str; 14] = [
    scale::DRAIN_UNREAD,
    gates::INVALID_SPEC,
    taken::NAME_TAKEN,
    listeners::ADDRESS_SHARED,
    listeners::NOT_SUPPORTED,
    upgrade::REFUSED,
    "CertificatesUnusable",
    "LostLastCopy",
    "ScaleDownFeatureLevel",
    "ScaleDownReplicationFactor",
    "ScaleDownTooFewVoters",
    volumes::PENDING,
    volumes::AT_MAXIMUM,
    "RackNotSupported",
];

/// Gates of something that goes on by itself, none of which holds a restart.
const UNDER_WAY: [&str; 4] = [
    heal::HEALING,
    volumes::RESIZING,
    scale::DRAINING,
    scale::SPREAD_WAITS,
];

/// Conditions of their own, each with the gates that make it true.
const OF_GATES: [(&str, &[&str]); 7] = [
    (
        "ListenersPending",
        &[
            listeners::ADDRESS_SHARED,
            certificates::LISTENER_CERTIFICATE,
            listeners::ADDRESS_MISSING,
            listeners::NOT_SUPPORTED,
            listeners::NOT_SEEN,
        ],
    ),
    ("DowngradeRefused", &[upgrade::REFUSED]),
    (
        "FinalizationPending",
        &[
            "FinalizeRestartsPending",
            "FinalizeNotKnownToAll",
            "FinalizeUnhealthy",
            upgrade::WAITS,
        ],
    ),
    (
        "BrokerLost",
        &[
            "LostLastCopy",
            "LostProofMissing",
            "LostBrokersNotSeen",
            "LostOneAtATime",
            heal::HEALING,
        ],
    ),
    (
        "ScaleDownBlocked",
        &[
            "ScaleDownBrokersNotSeen",
            "ScaleDownFeatureLevel",
            "ScaleDownReplicationFactor",
            "ScaleDownTooFewVoters",
            "ScaleDownBrokersMissing",
        ],
    ),
    (
        "StorageResizePending",
        &[volumes::PENDING, volumes::RESIZING, volumes::AT_MAXIMUM],
    ),
    ("Paused", &["Paused"]),
];

/// How a pass over a cluster came out.
#[derive(Debug, Clone)]
pub enum Outcome<'a> {
    /// The spec cannot be carried out.
    Invalid(&'a Invalid),
    /// It was decided; `failed` says what went wrong when a step was taken.
    Decided {
        /// What was wanted.
        cluster: &'a Cluster,
        /// What was seen.
        world: &'a World,
        /// What was decided.
        decision: &'a Decision,
        /// The step that failed, and why.
        failed: Option<String>,
        /// Why the brokers could not be asked.
        unseen: Option<String>,
    },
    /// Kubernetes itself could not be read.
    Unread(String),
}

/// The status after a pass.
#[must_use]
pub fn status(
    previous: &ClusterStatus,
    generation: Option<i64>,
    outcome: &Outcome<'_>,
    now: Timestamp,
) -> ClusterStatus {
    let mut status = previous.clone();
    let wanted = match outcome {
        Outcome::Invalid(invalid) => {
            // What was decided and seen before is told no longer: none of it is kept up.
            status.brokers = None;
            status.plan = Some(PlanSummary {
                steps: Vec::new(),
                blocked: vec![blocked(&refused(invalid))],
            });
            invalid_conditions(invalid)
        }
        Outcome::Unread(error) => {
            vec![
                Wanted::new("Ready", Is::Unknown, "ObservationFailed", error.clone()),
                Wanted::new("Reconciling", true, "ObservationFailed", error.clone()),
                Wanted::new("Stalled", false, "NothingStalls", ""),
            ]
        }
        Outcome::Decided {
            cluster,
            world,
            decision,
            failed,
            unseen,
        } => {
            fill(&mut status, cluster, world, decision);
            if world.look.is_none() && are_unseen(&previous.conditions, now) {
                status.brokers = None;
            }
            decided_conditions(world, decision, failed.as_deref(), unseen.as_deref())
        }
    };
    // A generation that could not be looked at has not been observed.
    if !matches!(outcome, Outcome::Unread(_)) {
        status.observed_generation = generation;
    }
    status.conditions = conditions(
        &previous.conditions,
        status.observed_generation,
        now,
        wanted,
    );
    status
}

/// What is said of a spec that cannot be carried out.
#[must_use]
pub fn refused(invalid: &Invalid) -> Blocked {
    Blocked {
        gate: gates::INVALID_SPEC,
        message: invalid.to_string(),
    }
}

fn invalid_conditions(invalid: &Invalid) -> Vec<Wanted> {
    let Blocked { gate, message } = refused(invalid);
    vec![
        Wanted::new("Ready", false, gate, message.clone()),
        Wanted::new(
            "Reconciling",
            false,
            gate,
            "nothing is changed until the spec can be carried out",
        ),
        Wanted::new("Stalled", true, gate, message),
    ]
}

fn decided_conditions(
    world: &World,
    decision: &Decision,
    failed: Option<&str>,
    unseen: Option<&str>,
) -> Vec<Wanted> {
    let plan = &decision.plan;
    let mut wanted = vec![
        ready(world, decision, unseen),
        reconciling(world, decision, failed),
    ];
    wanted.push(
        match plan
            .blocked
            .iter()
            .find(|blocked| NEEDS_A_PERSON.contains(&blocked.gate))
        {
            Some(blocked) => Wanted::new("Stalled", true, blocked.gate, blocked.message.clone()),
            None => Wanted::new("Stalled", false, "NothingStalls", ""),
        },
    );
    wanted.push(voters(decision, world.look.as_ref()));
    for (kind, gates) in OF_GATES {
        let blocked = plan
            .blocked
            .iter()
            .find(|blocked| gates.contains(&blocked.gate));
        wanted.push(match blocked {
            Some(blocked) => Wanted::new(kind, true, blocked.gate, blocked.message.clone()),
            None => Wanted::new(kind, false, "AsWanted", ""),
        });
    }
    wanted
}

/// Whether no broker has answered for so long that what was said last tells nothing of now.
fn are_unseen(previous: &[Condition], now: Timestamp) -> bool {
    let mut unknown = previous
        .iter()
        .filter(|known| known.type_ == VOTERS_MISSING && known.status == "Unknown");
    unknown.any(|known| known.last_transition_time.0.as_second() + UNSEEN_S <= now.as_second())
}

/// VotersMissing: fewer brokers vote in the metadata quorum than a cluster of this size has voters.
fn voters(decision: &Decision, look: Option<&Look>) -> Wanted {
    let kind = VOTERS_MISSING;
    let Some(look) = look else {
        let why = "no broker has answered";
        return Wanted::new(kind, Is::Unknown, "BrokersNotSeen", why);
    };
    let (votes, missing) = (look.voters.len(), look.missing_voters(decision.brokers));
    if missing == 0 {
        return Wanted::new(kind, false, "AsWanted", "");
    }
    let message = format!(
        "{votes} of {} brokers vote in the metadata quorum: while it is so, the cluster survives the loss of fewer of their disks. It goes on by \
         itself once brokers 0 to 2, or three others, are there, stay, and have caught up",
        votes + missing
    );
    Wanted::new(kind, true, "TooFewVote", message)
}

/// Ready: every broker that should be there is ready, and the brokers themselves agree that all are alive.
fn ready(world: &World, decision: &Decision, unseen: Option<&str>) -> Wanted {
    let ready = world.ready(decision.brokers);
    let size = decision.brokers as usize;
    if ready < size {
        return Wanted::new(
            "Ready",
            false,
            "BrokersNotReady",
            format!("{ready} of {size} brokers are ready"),
        );
    }
    let Some(look) = &world.look else {
        return Wanted::new(
            "Ready",
            Is::Unknown,
            "BrokersNotSeen",
            unseen.unwrap_or("no broker has answered yet"),
        );
    };
    if !look.is_confirmed() {
        let why = "no broker that answers hears from a controller, so what they say of one another may be old";
        return Wanted::new("Ready", Is::Unknown, "NoController", why);
    }
    let alive = look.alive(decision.brokers);
    let offline: u64 = look
        .topics
        .values()
        .map(|topic| u64::from(topic.offline_partitions))
        .sum();
    if alive < size {
        Wanted::new(
            "Ready",
            false,
            "BrokersNotAlive",
            format!("{alive} of {size} brokers are alive as the brokers see it"),
        )
    } else if offline > 0 {
        Wanted::new(
            "Ready",
            false,
            "PartitionsOffline",
            format!("{offline} partitions have no leader"),
        )
    } else {
        Wanted::new(
            "Ready",
            true,
            "BrokersReady",
            format!("{size} of {size} brokers are ready"),
        )
    }
}

fn reconciling(world: &World, decision: &Decision, failed: Option<&str>) -> Wanted {
    let plan = &decision.plan;
    if let Some(error) = failed {
        return Wanted::new(
            "Reconciling",
            true,
            "StepFailed",
            format!("{error}. It is tried again"),
        );
    }
    if plan.blocked.iter().any(|blocked| blocked.gate == "Paused") {
        return Wanted::new("Reconciling", false, "Paused", "spec.paused is true");
    }
    let goes_on = plan
        .blocked
        .iter()
        .find(|blocked| UNDER_WAY.contains(&blocked.gate));
    let rolling = plan
        .blocked
        .iter()
        .find(|blocked| gates::ROLL.iter().any(|gate| gate.name == blocked.gate));
    let (ready, size) = (world.ready(decision.brokers), decision.brokers as usize);
    if !decision.outdated.is_empty() {
        let message = rolling.map_or_else(
            || format!("{} brokers are to be restarted", decision.outdated.len()),
            |blocked| blocked.message.clone(),
        );
        return Wanted::new(
            "Reconciling",
            true,
            rolling.map_or("Rolling", |blocked| blocked.gate),
            message,
        );
    }
    if let Some(goes_on) = goes_on {
        return Wanted::new("Reconciling", true, goes_on.gate, goes_on.message.clone());
    }
    if !plan.steps.is_empty() {
        return Wanted::new(
            "Reconciling",
            true,
            "Applying",
            format!("{} steps are being taken", plan.steps.len()),
        );
    }
    if ready < size {
        return Wanted::new(
            "Reconciling",
            true,
            "BrokersStarting",
            format!("{ready} of {size} brokers are ready"),
        );
    }
    if let Some(look) = world.look.as_ref().filter(|look| look.rebalancing) {
        return Wanted::new(
            "Reconciling",
            true,
            "Rebalancing",
            format!(
                "replicas are being spread over the brokers; {} partitions are on their way",
                look.moving_partitions
            ),
        );
    }
    Wanted::new("Reconciling", false, "Converged", "")
}

/// Of all pods that there are, as `replicas` counts them.
fn ready_pods(world: &World) -> usize {
    world
        .processes
        .values()
        .filter(|process| process.ready && !process.leaving)
        .count()
}

fn fill(status: &mut ClusterStatus, cluster: &Cluster, world: &World, decision: &Decision) {
    status.replicas = i32::try_from(world.processes.len()).ok();
    status.ready_replicas = i32::try_from(ready_pods(world)).ok();
    status.selector = Some(names::selector_string(&cluster.key.name));
    status.bootstrap = Some(names::bootstrap_address(
        &cluster.key.name,
        &cluster.key.namespace,
    ));
    status.plan = summary(decision);
    status.listeners = decision.listeners.iter().map(listener).collect();
    let Some(look) = &world.look else { return };
    if !look.cluster_id.is_empty() {
        status.cluster_id = Some(look.cluster_id.clone());
    }
    let versions = look
        .brokers
        .values()
        .filter(|broker| broker.alive && !broker.version.is_empty());
    status.version = versions
        .map(|broker| broker.version.as_str())
        .min_by_key(|version| version_key(version))
        .map(str::to_owned);
    status.feature_level = Some(feature_level(look, decision));
    status.brokers = Some(BrokersSummary {
        registered: count(look.brokers.len()),
        alive: count(look.brokers.values().filter(|broker| broker.alive).count()),
        controller: look
            .controller
            .and_then(|broker| i32::try_from(broker.0).ok()),
        voters: Some(count(look.voters.len())),
        topics: i64::try_from(look.topics.len()).ok(),
        partitions: Some(
            look.topics
                .values()
                .map(|topic| i64::from(topic.partitions))
                .sum(),
        ),
        offline_partitions: Some(
            look.topics
                .values()
                .map(|topic| i64::from(topic.offline_partitions))
                .sum(),
        ),
        moving_partitions: Some(i64::from(look.moving_partitions)),
        draining: draining(look),
    });
}

fn listener(found: &listeners::Found) -> ListenerStatus {
    let address = |(broker, at): (&BrokerId, &HostPort)| {
        Some(ListenerAddress {
            broker: i32::try_from(broker.0).ok()?,
            host: at.host.clone(),
            port: at.port.into(),
        })
    };
    ListenerStatus {
        name: found.name.clone(),
        bootstrap: found.bootstrap.clone(),
        addresses: found
            .addresses
            .iter()
            .filter_map(address)
            .take(BROKERS_MAX)
            .collect(),
    }
}

fn feature_level(look: &Look, decision: &Decision) -> FeatureLevelStatus {
    let level = |level: u32| i32::try_from(level).unwrap_or(i32::MAX);
    let newest = look.levels.iter().flat_map(|levels| levels.newest.values());
    let at = decision.finalizes_at_s;
    FeatureLevelStatus {
        finalized: level(look.feature_level),
        known_to_all: newest.min().copied().map(level),
        finalizes_at: at.and_then(|at| Timestamp::from_second(at).ok()).map(Time),
    }
}

fn draining(look: &Look) -> Vec<i32> {
    let brokers = look.brokers.iter().filter(|(_, seen)| seen.draining);
    brokers
        .filter_map(|(broker, _)| i32::try_from(broker.0).ok())
        .take(BROKERS_MAX)
        .collect()
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// Versions in the order of their numbers; what is not a number counts as 0.
fn version_key(version: &str) -> Vec<u64> {
    version
        .split(['.', '-', '+'])
        .map(|part| part.parse().unwrap_or(0))
        .collect()
}

fn summary(decision: &Decision) -> Option<PlanSummary> {
    let plan = &decision.plan;
    if plan.is_empty() {
        return None;
    }
    Some(PlanSummary {
        steps: plan.steps.iter().take(LISTED_MAX).map(planned).collect(),
        blocked: plan.blocked.iter().take(LISTED_MAX).map(blocked).collect(),
    })
}

fn planned(step: &Step) -> PlannedStep {
    let (action, target, message) = match step {
        Step::Issue { due } => ("Issue", "certificates".to_owned(), plan::names_of(due)),
        Step::GrowVolume {
            claim, from, to, ..
        } => (
            "GrowVolume",
            format!("PersistentVolumeClaim {claim}"),
            format!("{from} → {to}"),
        ),
        Step::Apply { child, change } => ("Apply", child.title(), change.clone()),
        Step::RestartBroker { broker, why } => {
            ("RestartBroker", format!("broker {broker}"), why.clone())
        }
        Step::CancelDrain { brokers } => ("CancelDrain", plan::numbers_of(brokers), String::new()),
        Step::Drain { brokers } => ("Drain", plan::numbers_of(brokers), String::new()),
        Step::Replicate { topics, replicas } => (
            "Replicate",
            topics.join(", "),
            format!("{replicas} replicas"),
        ),
        Step::Rebalance { over } => (
            "Rebalance",
            format!("{over} brokers"),
            "replicas are spread over all of them".to_owned(),
        ),
        Step::ProveEmpty { brokers } => ("ProveEmpty", plan::numbers_of(brokers), String::new()),
        Step::RaiseFeatureLevel { level } => (
            "RaiseFeatureLevel",
            format!("feature level {level}"),
            String::new(),
        ),
        Step::SetListeners { brokers } => {
            let ids: Vec<BrokerId> = brokers.iter().map(|(broker, _)| *broker).collect();
            ("SetListeners", plan::numbers_of(&ids), String::new())
        }
        Step::Configure { set, unset } => (
            "Configure",
            "all brokers, while they run".to_owned(),
            plan::configs_of(set, unset),
        ),
        Step::DeleteService { name } => ("DeleteService", format!("Service {name}"), String::new()),
        Step::Unregister { brokers } => ("Unregister", plan::numbers_of(brokers), String::new()),
        Step::MarkVolume { claim, .. } => volume("MarkVolume", claim),
        Step::KeepVolume { claim, .. } => volume("KeepVolume", claim),
        Step::DeleteVolume { claim, .. } => volume("DeleteVolume", claim),
        Step::ProveLost { broker, .. } => ("ProveLost", format!("broker {broker}"), String::new()),
        Step::DeleteLostVolume { claim, why, .. } => (
            "DeleteLostVolume",
            format!("PersistentVolumeClaim {claim}"),
            why.clone(),
        ),
        Step::DeleteLostPod { broker, .. } => {
            ("DeleteLostPod", format!("broker {broker}"), String::new())
        }
    };
    PlannedStep {
        action: action.to_owned(),
        target: Some(truncated(target, 256)),
        message: Some(message)
            .filter(|message| !message.is_empty())
            .map(|message| truncated(message, LISTED_MESSAGE_MAX)),
    }
}

fn volume(action: &'static str, claim: &str) -> (&'static str, String, String) {
    let target = format!("PersistentVolumeClaim {claim}");
    (action, target, String::new())
}

fn blocked(blocked: &Blocked) -> BlockedStep {
    let step = match blocked.gate {
        gate if gate.starts_with("ScaleDown") => "remove brokers",
        scale::DRAINING => "remove brokers",
        scale::DRAIN_UNREAD => "empty brokers",
        gate if gate.starts_with("Lost") => "replace lost disks",
        heal::HEALING => "replace lost disks",
        scale::SPREAD_WAITS => "spread replicas",
        volumes::PENDING | volumes::RESIZING | volumes::AT_MAXIMUM => "resize volumes",
        gate if gate.starts_with("Listener") => "be reached by listeners",
        upgrade::REFUSED => "run an older version",
        gate if gate.starts_with("Finalize") => "use a newer feature level",
        "RackNotSupported" => "place replicas by rack",
        "CertificatesUnusable" => "make certificates",
        taken::NAME_TAKEN => "make objects",
        "Paused" | gates::INVALID_SPEC => "all steps",
        _ => "restart brokers",
    };
    BlockedStep {
        gate: blocked.gate.to_owned(),
        step: step.to_owned(),
        message: truncated(blocked.message.clone(), LISTED_MESSAGE_MAX),
    }
}
