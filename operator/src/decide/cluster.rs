//! What is done for one Cluster in Kubernetes: its volumes first, then its objects, then at most one restart.
//!
//! The size comes from [`scale`], volumes from [`volumes`], what is done about lost disks from [`heal`], the restart from [`roll`], the feature level from [`upgrade`], what brokers are told of their listeners from [`listeners`], whether brokers may be evicted from [`evictions`], what they are told of their configuration from [`live_config`], differences of objects from [`drift`]. A paused cluster is only looked at, but for its disruption budget ([`Extent`]).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use weir_tls::{Due, Held};

use crate::decide::gates::Blocked;
use crate::decide::upgrade::{self, Finalize, Healthy};
use crate::decide::volumes::{self, Claim};
use crate::decide::{
    Plan, certificates, drift, evictions, heal, listeners, live_config, roll, scale, taken,
};
use crate::names;
use crate::objects::{self, BuildError, Child, Existing};
use crate::validate::Cluster;
use crate::world::{BrokerId, Disk, Home, ListenerAt, Look, NodeAddress, Process};

/// What was observed of one cluster.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct World {
    /// Objects in the API, by kind and name.
    pub objects: BTreeMap<(String, String), Value>,
    /// Names that the cluster needs and that somebody else's objects have, by kind and name.
    pub taken: BTreeSet<(String, String)>,
    /// The claims of the brokers' volumes.
    pub claims: BTreeMap<BrokerId, Claim>,
    /// The broker pods.
    pub processes: BTreeMap<BrokerId, Process>,
    /// What the brokers say, if one answered.
    pub look: Option<Look>,
    /// What each broker says of its disk; asked only where somebody wants to know.
    pub disks: BTreeMap<BrokerId, Disk>,
    /// Where the volumes of brokers lie that are not ready.
    pub homes: BTreeMap<BrokerId, Home>,
    /// Addresses of the nodes that brokers are on; read only where clients are told of them.
    pub hosts: BTreeMap<BrokerId, Vec<NodeAddress>>,
    /// When that was, in seconds since 1970: certificates end.
    pub now_s: i64,
    /// Since when everything has been as it should be for a newer feature level, as the decision before this one had it.
    pub healthy: Option<Healthy>,
}

impl World {
    /// How many of the first brokers, as many as there are to be, have a pod that is ready and stays. One that leaves stands in for none of them.
    #[must_use]
    pub fn ready(&self, size: u32) -> usize {
        let process = |broker| self.processes.get(&BrokerId(broker));
        (0..size)
            .filter_map(process)
            .filter(|process| process.ready && !process.leaving)
            .count()
    }

    fn object(&self, kind: &str, name: &str) -> Option<&Value> {
        self.objects.get(&(kind.to_owned(), name.to_owned()))
    }

    /// The StatefulSet, as far as it has to stay what it is.
    #[must_use]
    pub fn existing(&self, cluster: &Cluster) -> Existing {
        Existing::of(self.object("StatefulSet", &names::brokers(&cluster.key.name)))
    }

    /// Why no broker may be evicted as it is.
    fn evictions_held(&self, cluster: &Cluster) -> Option<String> {
        let budget = self.object("PodDisruptionBudget", &names::brokers(&cluster.key.name))?;
        let why = budget
            .pointer("/metadata/annotations")?
            .get(names::EVICTIONS_HELD_ANNOTATION)?;
        why.as_str().map(str::to_owned)
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
    /// Have brokers that are being drained stay after all.
    CancelDrain {
        /// Whose drain is called off.
        brokers: Vec<BrokerId>,
    },
    /// Have brokers emptied: they get no new replicas, and those that they have go to others.
    Drain {
        /// Which.
        brokers: Vec<BrokerId>,
    },
    /// Have replicas spread evenly.
    Rebalance {
        /// Over how many brokers.
        over: u32,
    },
    /// Have topics of the brokers' own have another number of replicas.
    Replicate {
        /// Which.
        topics: Vec<String>,
        /// How many replicas each.
        replicas: u32,
    },
    /// Have the controller confirm that brokers are drained and empty, now. Nothing after this is done when it does not.
    ProveEmpty {
        /// Which; the set loses them next.
        brokers: Vec<BrokerId>,
    },
    /// Remember that a volume is to be deleted once its broker, which has been emptied, is gone.
    MarkVolume {
        /// Whose.
        broker: BrokerId,
        /// The claim.
        claim: String,
    },
    /// Forget that.
    KeepVolume {
        /// Whose.
        broker: BrokerId,
        /// The claim.
        claim: String,
    },
    /// Have the cluster use a newer feature level. There is no way back.
    RaiseFeatureLevel {
        /// Which.
        level: u32,
    },
    /// Tell brokers which listeners they have, and where clients reach them.
    SetListeners {
        /// Those for which it is another than what they have, with all of theirs.
        brokers: Vec<(BrokerId, Vec<ListenerAt>)>,
    },
    /// Tell all brokers configurations while they run.
    Configure {
        /// What is to be, by the brokers' names.
        set: BTreeMap<String, String>,
        /// What is to be as nobody had said it.
        unset: BTreeSet<String>,
    },
    /// Delete the Service of a listener, or of a broker on one, that is not wanted any more.
    DeleteService {
        /// Its name.
        name: String,
    },
    /// Have the brokers forget some that are gone.
    Unregister {
        /// Which.
        brokers: Vec<BrokerId>,
    },
    /// Delete the volume of a broker that is gone.
    DeleteVolume {
        /// Whose.
        broker: BrokerId,
        /// The claim.
        claim: String,
    },
    /// Have the controller confirm that a broker is away, and what others have, now. Nothing after this is done when it does not.
    ProveLost {
        /// Which.
        broker: BrokerId,
        /// The disk that is lost; empty when it was never registered with one.
        incarnation: String,
        /// Whether it is cordoned, which it stays.
        cordoned: bool,
        /// What nobody else has is given up.
        gives_up: bool,
    },
    /// Delete the volume of a broker that has lost its disk.
    DeleteLostVolume {
        /// Whose.
        broker: BrokerId,
        /// The claim.
        claim: String,
        /// What proves it, and what goes with it.
        why: String,
    },
    /// Delete the pod of a broker that has lost its disk, so that another is made, with another volume.
    DeleteLostPod {
        /// Whose.
        broker: BrokerId,
        /// Nobody is there to stop it.
        at_once: bool,
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

/// How much of a decision is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All of it.
    All,
    /// The cluster is paused: what its disruption budget says of the brokers, which whoever drains nodes relies on.
    Paused,
    /// The spec cannot be carried out, and it was decided by the one before: that, and certificates, which end.
    Invalid,
}

impl Extent {
    fn has(self, step: &Step) -> bool {
        let keeps = |wanted: &str| match step {
            // Nothing is made that is not there.
            Step::Apply { child, change } => child.resource.kind == wanted && change != "missing",
            _ => false,
        };
        match self {
            Self::All => true,
            Self::Paused => keeps("PodDisruptionBudget"),
            Self::Invalid => {
                keeps("PodDisruptionBudget")
                    || keeps("Secret")
                    || matches!(step, Step::Issue { .. })
            }
        }
    }
}

impl Decision {
    /// The steps that are taken.
    pub fn steps(&self, extent: Extent) -> impl Iterator<Item = &Step> {
        let steps = self.plan.steps.iter();
        steps.filter(move |step| extent.has(step))
    }
}

impl Step {
    /// Whether nothing else is to wait for it: what clients outside come by, and what brokers are told while they run.
    #[must_use]
    pub fn holds_up_nothing(&self) -> bool {
        match self {
            Self::SetListeners { .. } | Self::Configure { .. } | Self::DeleteService { .. } => true,
            Self::Apply { child, .. } => {
                child.resource.kind == "Service" && is_of_listener(&child.content)
            }
            _ => false,
        }
    }
}

/// Whether a Service is one of a listener.
fn is_of_listener(service: &Value) -> bool {
    let labels = service.pointer("/metadata/labels");
    labels.is_some_and(|labels| labels.get(names::LISTENER_LABEL).is_some())
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
    /// To be given to the next decision, if that is taken by the same operator.
    pub healthy: Option<Healthy>,
    /// When a newer feature level will be used, in seconds since 1970.
    pub finalizes_at_s: Option<i64>,
    /// Where clients reach each listener.
    pub listeners: Vec<listeners::Found>,
    /// No broker that serves may be evicted now.
    pub evictions_held: bool,
}

/// Decides for one cluster.
///
/// # Errors
/// When an object cannot be written, which is a defect.
pub fn decide(cluster: &Cluster, world: &World) -> Result<Decision, BuildError> {
    let mut existing = world.existing(cluster);
    let live = live_config::live(&live_config::Case {
        wanted: &cluster.settings.topics,
        file: existing.file_config.as_ref(),
        configured: &existing.configured,
        look: world.look.as_ref(),
    });
    // From here on the settings are those of the file.
    let mut in_file = cluster.clone();
    in_file.settings.topics = live.file.clone();
    let cluster = &in_file;
    existing.file_config = Some(live.file);
    existing.configured = live.configured;
    let configure = (!live.set.is_empty() || !live.unset.is_empty()).then_some(Step::Configure {
        set: live.set,
        unset: live.unset,
    });
    let scale = scale::scale(&scale::Case {
        wanted: cluster.replicas,
        set: existing.replicas,
        remembered: existing.brokers,
        balanced: existing.balanced,
        lowered: &existing.lowered,
        drained: &cluster.drained,
        drained_unread: cluster.drained_unread.as_ref(),
        processes: &world.processes,
        look: world.look.as_ref(),
    });
    let healing = existing.healing.take();
    let heal = heal::heal(&heal::Case {
        brokers: scale.brokers,
        declared: cluster.declared_lost.as_deref(),
        healing: healing.as_ref(),
        claims: &world.claims,
        homes: &world.homes,
        processes: &world.processes,
        look: world.look.as_ref(),
    });
    let released = volumes::release(cluster, existing.replicas, scale.brokers, world);
    // First: a volume that is full may be what keeps the rest from coming about.
    let (steps, growing) =
        volumes::grow(&cluster.storage, scale.brokers, &world.claims, &world.disks);
    let mut plan = Plan {
        steps,
        blocked: scale.blocked,
    };
    plan.blocked.extend(growing);
    plan.blocked.extend(heal.blocked);
    plan.blocked.extend(rack_waits(cluster));
    plan.blocked.extend(taken::blocked(cluster, world));
    let look = world.look.as_ref();
    let doors = listeners::listeners(&listeners::Case {
        cluster: &cluster.key,
        listeners: &cluster.listeners,
        brokers: scale.brokers,
        objects: &world.objects,
        hosts: &world.hosts,
        look,
    });
    let (held, not_brought) = certificates::held(cluster, world);
    plan.blocked.extend(not_brought);
    let mut children = Vec::new();
    match certificates::due(cluster, scale.brokers, &doors.found, &held, world.now_s) {
        Ok(_) if taken::has_a_secret(world) => {}
        Ok(due) if due.is_empty() => children.extend(objects::secrets(cluster, &held)?),
        // All of the Secrets come of that.
        Ok(due) => plan.steps.push(Step::Issue { due }),
        Err(blocked) => plan.blocked.push(blocked),
    }
    let wanted = existing.image(cluster).to_owned();
    existing.levels = existing.levels.learn(
        &wanted,
        &objects::pod_hash(cluster, &wanted),
        &world.processes,
        look,
    );
    let refused = existing
        .levels
        .refuse(&wanted, existing.template_image.as_deref());
    if let Some((blocked, kept)) = refused {
        plan.blocked.push(blocked);
        existing.kept_image = Some(kept);
    } else {
        plan.blocked
            .extend(upgrade::not_let_in(&world.processes, look));
    }
    let hash = objects::pod_hash(cluster, existing.image(cluster));
    let is_replaced = |broker: &BrokerId| {
        heal.steps
            .iter()
            .any(|step| matches!(step, Step::DeleteLostPod { broker: lost, .. } if lost == broker))
    };
    let roll = roll::next(scale.brokers, &hash, &world.processes, look, &scale.leaving);
    existing.keeps_template = taken::is_read_by_pods(world);
    // One whose pod goes with its disk comes back as it is wanted.
    let restart = roll
        .restart
        .filter(|broker| !existing.keeps_template && !is_replaced(broker));
    let finalize = if existing.kept_image.is_some() {
        Finalize::default()
    } else {
        upgrade::finalize(&upgrade::Case {
            brokers: scale.brokers,
            processes: &world.processes,
            outdated: &roll.outdated,
            look,
            healthy: world.healthy,
            finalize_after_s: cluster.finalize_after_s,
            now_s: world.now_s,
        })
    };
    if let Some(level) = finalize.raise {
        // Before it is asked: whoever does not see that it was done takes it for done.
        existing.levels.level = level;
    }
    // Before the restart: whoever drains nodes meanwhile waits for it.
    existing.evictions_held = evictions::held(&evictions::Case {
        // While it is paused there are those that there are, and nobody is restarted.
        size: existing
            .replicas
            .filter(|_| cluster.paused)
            .unwrap_or(scale.brokers),
        processes: &world.processes,
        look,
        restarts: restart.is_some() && !cluster.paused,
        was: world.evictions_held(cluster),
    });
    existing.balanced = Some(scale.balanced);
    existing.lowered = scale.lowered;
    existing.healing = heal.healing;
    children.extend(objects::desired(cluster, scale.brokers, &existing)?);
    let services = objects::listeners(cluster, scale.brokers)?;
    let unwanted = unwanted_services(world, &services);
    let (sets, others): (Vec<Child>, Vec<Child>) = children
        .into_iter()
        .partition(|child| child.resource.kind == "StatefulSet");
    plan.steps
        .extend(others.into_iter().filter_map(|child| change(world, child)));
    // The set loses brokers only after what has to be known before that, and remembers only what has been asked.
    plan.steps.extend(released.marks);
    plan.steps.extend(scale.before);
    plan.steps
        .extend(sets.into_iter().filter_map(|child| change(world, child)));
    plan.steps.extend(heal.steps);
    plan.steps.extend(scale.after);
    plan.steps.extend(released.deletions);
    plan.steps.extend(finalize.step());
    if let Some(broker) = restart {
        let why = format!(
            "{} of {} brokers run what is no longer wanted",
            roll.outdated.len(),
            world.processes.len()
        );
        plan.steps.push(Step::RestartBroker { broker, why });
    }
    // Last, so that a node port that is taken, or a controller that is too old and about to be restarted, holds up nothing else. Services that are
    // not wanted go first, since a listener that has another name may have their node ports.
    plan.steps.extend(unwanted);
    plan.steps.extend(
        services
            .into_iter()
            .filter_map(|child| change(world, child)),
    );
    plan.steps.extend(doors.step);
    plan.steps.extend(configure);
    plan.blocked.extend(doors.blocked);
    plan.blocked.extend(roll.blocked);
    plan.blocked.extend(finalize.blocked);
    let waiting = plan.steps.iter().filter(|step| !Extent::Paused.has(step));
    let waiting = waiting.count();
    if cluster.paused && waiting > 0 {
        let message =
            format!("spec.paused is true: {waiting} steps wait. Set it to false to go on");
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
        brokers: scale.brokers,
        outdated: roll.outdated,
        healthy: finalize.healthy,
        finalizes_at_s: finalize.at_s,
        listeners: doors.found,
        evictions_held: existing.evictions_held.is_some(),
    })
}

/// Services of listeners that are there and not wanted.
fn unwanted_services(world: &World, wanted: &[Child]) -> Vec<Step> {
    let is_wanted = |name: &str| wanted.iter().any(|child| child.name == name);
    let services = world
        .objects
        .iter()
        .filter(|((kind, _), _)| kind == "Service");
    let of_listeners = services.filter(|(_, object)| is_of_listener(object));
    let unwanted = of_listeners.filter(|((_, name), _)| !is_wanted(name));
    unwanted
        .map(|((_, name), _)| Step::DeleteService { name: name.clone() })
        .collect()
}

/// What has to be done for an object to be as it should be.
fn change(world: &World, child: Child) -> Option<Step> {
    if !taken::is_free(world, &child) {
        return None;
    }
    let change = match world.object(&child.resource.kind, &child.name) {
        None => "missing".to_owned(),
        Some(observed) => drift::first_difference(&child.content, observed)?,
    };
    Some(Step::Apply {
        change: told(&child, change),
        child: Box::new(child),
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
