//! What is done for one Cluster in Kubernetes: its objects first, then at most one restart.
//!
//! The size comes from [`scale`], volumes from [`volumes`], the restart from [`roll`], differences of objects from [`drift`]. A paused cluster is only looked at.

use std::collections::BTreeMap;

use serde_json::Value;
use weir_tls::{Due, Held};

use crate::decide::gates::Blocked;
use crate::decide::volumes::{self, Claim};
use crate::decide::{Plan, certificates, drift, roll, scale};
use crate::names;
use crate::objects::{self, BuildError, Child, Existing};
use crate::validate::Cluster;
use crate::world::{BrokerId, Look, Process};

/// What was observed of one cluster.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct World {
    /// Objects in the API, by kind and name.
    pub objects: BTreeMap<(String, String), Value>,
    /// The claims of the brokers' volumes.
    pub claims: BTreeMap<BrokerId, Claim>,
    /// The broker pods.
    pub processes: BTreeMap<BrokerId, Process>,
    /// What the brokers say, if one answered.
    pub look: Option<Look>,
    /// When that was, in seconds since 1970: certificates end.
    pub now_s: i64,
}

impl World {
    fn object(&self, kind: &str, name: &str) -> Option<&Value> {
        self.objects.get(&(kind.to_owned(), name.to_owned()))
    }

    /// The StatefulSet, as far as it has to stay what it is.
    #[must_use]
    pub fn existing(&self, cluster: &Cluster) -> Existing {
        Existing::of(self.object("StatefulSet", &names::brokers(&cluster.key.name)))
    }

    /// The certificates that there are, usable or not.
    #[must_use]
    pub fn certificates(&self, cluster: &str) -> Held {
        objects::held(cluster, |name| self.object("Secret", name))
    }
}

/// One change.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Have the claim of a broker's volume ask for more.
    GrowVolume {
        /// Whose.
        broker: BrokerId,
        /// The claim.
        claim: String,
        /// What it asks for.
        from: String,
        /// What it is to ask for.
        to: String,
    },
    /// Make certificates, and put them where they belong.
    Issue {
        /// Which.
        due: Vec<Due>,
    },
    /// Create or change an object.
    Apply {
        /// All of it.
        child: Box<Child>,
        /// The first difference, or that it is missing.
        change: String,
    },
    /// Replace a broker's pod.
    RestartBroker {
        /// Whose.
        broker: BrokerId,
        /// What for.
        why: String,
    },
}

/// The decision, and what status needs of how it was come to.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// Steps and gates.
    pub plan: Plan<Step>,
    /// How many brokers there are to be now.
    pub brokers: u32,
    /// Brokers that run with an old hash.
    pub outdated: Vec<BrokerId>,
}

/// Decides for one cluster.
///
/// # Errors
/// When an object cannot be written, which is a defect.
pub fn decide(cluster: &Cluster, world: &World) -> Result<Decision, BuildError> {
    let existing = world.existing(cluster);
    let size = scale::size(cluster.replicas, existing.replicas, world.look.as_ref());
    // First: a volume that is full may be what keeps the rest from coming about.
    let (steps, growing) = volumes::grow(&cluster.storage, size.brokers, &world.claims);
    let mut plan = Plan {
        steps,
        blocked: size.blocked.into_iter().collect(),
    };
    plan.blocked.extend(growing);
    plan.blocked.extend(rack_waits(cluster));
    let held = world.certificates(&cluster.key.name);
    let mut children = Vec::new();
    match certificates::due(cluster, size.brokers, &held, world.now_s) {
        Ok(due) if due.is_empty() => children.extend(objects::secrets(cluster, &held)?),
        // All of the Secrets come of that.
        Ok(due) => plan.steps.push(Step::Issue { due }),
        Err(blocked) => plan.blocked.push(blocked),
    }
    children.extend(objects::desired(cluster, size.brokers, &existing)?);
    for child in children {
        let change = match world.object(&child.resource.kind, &child.name) {
            None => Some("missing".to_owned()),
            Some(observed) => drift::first_difference(&child.content, observed),
        };
        if let Some(change) = change {
            plan.steps.push(Step::Apply {
                change: told(&child, change),
                child: Box::new(child),
            });
        }
    }
    let hash = objects::pod_hash(cluster, existing.image(cluster));
    let roll = roll::next(size.brokers, &hash, &world.processes, world.look.as_ref());
    if let Some(broker) = roll.restart {
        let why = format!(
            "{} of {} brokers run what is no longer wanted",
            roll.outdated.len(),
            world.processes.len()
        );
        plan.steps.push(Step::RestartBroker { broker, why });
    }
    plan.blocked.extend(roll.blocked);
    if cluster.paused && !plan.steps.is_empty() {
        let message = format!(
            "spec.paused is true: {} steps wait. Set it to false to go on",
            plan.steps.len()
        );
        plan.blocked.insert(
            0,
            Blocked {
                gate: "Paused",
                message,
            },
        );
    }
    Ok(Decision {
        plan,
        brokers: size.brokers,
        outdated: roll.outdated,
    })
}

/// What is said of a change: of a Secret, where it is and not what.
fn told(child: &Child, change: String) -> String {
    match change.split_once(": ") {
        Some((place, _)) if child.resource.kind == "Secret" => place.to_owned(),
        _ => change,
    }
}

fn rack_waits(cluster: &Cluster) -> Option<Blocked> {
    cluster.rack.as_ref().map(|label| Blocked {
        gate: "RackNotSupported",
        message: format!("spec.rack names the node label {label}, which this version does not read: all brokers count as one rack. Remove spec.rack"),
    })
}

#[cfg(test)]
mod tests;
