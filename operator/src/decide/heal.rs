//! Brokers whose disk is lost for ever: each gets an empty one, joins under a new incarnation, and is given its data by the others.
//!
//! A broker that is away comes back by itself when its node does, with everything that it had; so a volume is thrown away only on **proof of
//! loss**. Proof is that the volume lies on a node and on no other, and that the Node object is gone; or a person's word on the Cluster
//! (`weir.dev/lost-disk`), which names broker and incarnation. A node that does not answer is no proof, however long. Proof by Node does not
//! suffice where nobody else has what the broker had: then it takes a person's word.
//!
//! One broker at a time: which one, and which of its volumes, is written on the StatefulSet first ([`Healing`]), and only a later pass, on all
//! it sees then, and after the controller has said so once more ([`Step::ProveLost`]), deletes that very volume and its pod. A volume that came after it is never taken for it, since a person's word goes on naming
//! the old incarnation until the new one is registered. The next broker's turn comes when this one has everything again; a person's word need
//! not wait for more than its being back, since what it waits for may lie on the other.

use std::collections::BTreeMap;
use std::fmt;

use crate::decide::cluster::Step;
use crate::decide::gates::{self, Blocked};
use crate::decide::volumes::Claim;
use crate::names;
use crate::world::{BrokerId, BrokerSeen, Home, Look, NodeState, Process};

/// Gate: a broker gets a new disk.
pub const HEALING: &str = "Healing";

/// What was asked, and what there is.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// How many brokers there are to be.
    pub brokers: u32,
    /// What a person said is lost: `BROKER@INCARNATION`, several with commas between them.
    pub declared: Option<&'a str>,
    /// What is under way, as the StatefulSet remembers it.
    pub healing: Option<&'a Healing>,
    /// The claims of the brokers' volumes.
    pub claims: &'a BTreeMap<BrokerId, Claim>,
    /// Where the volumes of brokers that are not ready lie.
    pub homes: &'a BTreeMap<BrokerId, Home>,
    /// All processes.
    pub processes: &'a BTreeMap<BrokerId, Process>,
    /// What the brokers say, if any answered.
    pub look: Option<&'a Look>,
}

/// A broker whose volume is being replaced. Written `BROKER@INCARNATION CLAIM-UID`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Healing {
    /// Which.
    pub broker: BrokerId,
    /// The disk that is lost; empty when it was never registered with one.
    pub incarnation: String,
    /// The claim of that disk, by its uid.
    pub claim_uid: String,
}

impl fmt::Display for Healing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{} {}", self.broker, self.incarnation, self.claim_uid)
    }
}

impl Healing {
    /// Reads what [`fmt::Display`] wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (disk, claim_uid) = text.split_once(' ')?;
        let (broker, incarnation) = disk.split_once('@')?;
        Some(Self {
            broker: BrokerId(broker.parse().ok()?),
            incarnation: incarnation.to_owned(),
            claim_uid: claim_uid.to_owned(),
        })
    }
}

/// What is done about lost disks.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Heal {
    /// What the StatefulSet is to remember.
    pub healing: Option<Healing>,
    /// What is done once it remembers.
    pub steps: Vec<Step>,
    /// What is under way, and which broker waits for what.
    pub blocked: Vec<Blocked>,
}

/// A broker that may have lost its disk.
#[derive(Debug)]
pub struct Candidate<'a> {
    /// Which.
    pub broker: BrokerId,
    /// What it is registered as; absent when it never was, or when nobody could be asked.
    pub seen: Option<&'a BrokerSeen>,
    /// Its volume's claim.
    pub claim: &'a Claim,
    /// Where that volume lies.
    pub home: &'a Home,
    /// Everything else.
    pub case: Case<'a>,
}

impl Candidate<'_> {
    fn incarnation(&self) -> &str {
        self.seen.map_or("", |seen| &seen.incarnation)
    }

    /// Whether a person says that its disk is lost.
    fn is_declared(&self) -> bool {
        let disk = format!("{}@{}", self.broker, self.incarnation());
        let mut declared = self.case.declared.unwrap_or_default().split(',');
        !self.incarnation().is_empty() && declared.any(|one| one.trim() == disk)
    }

    fn is_gone(&self) -> bool {
        self.home.state() == Some(NodeState::Gone)
    }

    /// What nobody else has, in words; empty when there is nothing of that kind.
    fn last_copies(&self) -> String {
        let Some(seen) = self.seen else {
            return String::new();
        };
        match &seen.last_copies {
            Some(last) if last.partitions == 0 => String::new(),
            Some(last) => {
                let more = if last.named.len() < last.partitions as usize {
                    " …"
                } else {
                    ""
                };
                format!(
                    "the last copy of {} partitions is on that disk and would be lost with it: {}{more}",
                    last.partitions,
                    last.named.join(", ")
                )
            }
            None => {
                "whether it has the last copy of a partition brokers of this version do not say"
                    .to_owned()
            }
        }
    }

    fn healing(&self) -> Healing {
        Healing {
            broker: self.broker,
            incarnation: self.incarnation().to_owned(),
            claim_uid: self.claim.uid.clone(),
        }
    }

    fn why(&self) -> String {
        let proof = if self.is_declared() {
            format!("{} says that its disk is lost", names::LOST_DISK_ANNOTATION)
        } else {
            self.home.to_string()
        };
        match self.last_copies() {
            last if last.is_empty() => proof,
            last => format!("{proof}; {last}"),
        }
    }
}

/// Decides what becomes of brokers that are away.
#[must_use]
pub fn heal(case: &Case<'_>) -> Heal {
    let mut heal = Heal {
        healing: case
            .healing
            .filter(|healing| healing.broker.0 < case.brokers && !is_whole(case, healing))
            .cloned(),
        ..Heal::default()
    };
    if let Some(healing) = heal.healing.clone() {
        go_on(case, &healing, &mut heal);
    }
    let others = (0..case.brokers).map(BrokerId);
    for candidate in others.filter_map(|broker| candidate(case, broker)) {
        let begun = heal.healing.as_ref();
        if begun.is_some_and(|healing| healing.broker == candidate.broker) {
            continue;
        }
        let now = Candidate {
            case: Case {
                healing: begun,
                ..*case
            },
            ..candidate
        };
        match gates::first_no(gates::HEAL, |gate| gate(&now)) {
            Some(blocked) => heal.blocked.push(blocked),
            None => heal.healing = Some(now.healing()),
        }
    }
    if let Some(healing) = &heal.healing {
        let blocked = Blocked {
            gate: HEALING,
            message: progress(case, healing),
        };
        heal.blocked.insert(0, blocked);
    }
    heal
}

/// What is done about the one that is under way.
fn go_on(case: &Case<'_>, healing: &Healing, heal: &mut Heal) {
    let claim = case.claims.get(&healing.broker);
    let candidate = candidate(case, healing.broker);
    let Some(claim) = claim.filter(|claim| claim.uid == healing.claim_uid) else {
        // The new volume may be lost too. Before anything is registered with it, a person's word was about the old one.
        let is_registered = |it: &Candidate<'_>| {
            it.seen
                .is_some_and(|seen| seen.incarnation != healing.incarnation)
        };
        if let Some(again) = candidate.filter(|it| it.is_gone() || is_registered(it)) {
            match proof(&again) {
                None => heal.healing = Some(again.healing()),
                Some(blocked) => heal.blocked.push(blocked),
            }
        }
        return;
    };
    let pod = case
        .processes
        .get(&healing.broker)
        .filter(|pod| !pod.ready)
        .map(|_| Step::DeleteLostPod {
            broker: healing.broker,
            // Nobody is there to say that it has stopped.
            at_once: case
                .homes
                .get(&healing.broker)
                .is_some_and(|home| home.state() != Some(NodeState::Ready)),
        });
    if claim.leaving {
        heal.steps.extend(pod);
        return;
    }
    match candidate.filter(|candidate| candidate.incarnation() == healing.incarnation) {
        Some(candidate) => match proof(&candidate) {
            None => {
                heal.steps.push(Step::ProveLost {
                    broker: healing.broker,
                    incarnation: healing.incarnation.clone(),
                    cordoned: candidate.seen.is_some_and(|seen| seen.cordoned),
                    gives_up: candidate.is_declared(),
                });
                heal.steps.push(Step::DeleteLostVolume {
                    broker: healing.broker,
                    claim: claim.name.clone(),
                    why: candidate.why(),
                });
                heal.steps.extend(pod);
            }
            // The gates are asked once more, with all others, and say so.
            Some(_) => heal.healing = None,
        },
        // It is back, with what it had.
        None => heal.healing = None,
    }
}

/// What is missing for a disk to count as lost, its turn aside.
fn proof(candidate: &Candidate<'_>) -> Option<Blocked> {
    let alone = Candidate {
        case: Case {
            healing: None,
            ..candidate.case
        },
        ..*candidate
    };
    gates::first_no(gates::HEAL, |gate| gate(&alone))
}

/// A broker that serves nothing and whose disk is not known to be well, if this is one.
fn candidate<'a>(case: &Case<'a>, broker: BrokerId) -> Option<Candidate<'a>> {
    let claim = case.claims.get(&broker)?;
    let is_ready = case
        .processes
        .get(&broker)
        .is_some_and(|process| process.ready);
    let seen = case.look.and_then(|look| look.brokers.get(&broker));
    // What has no volume yet has nothing to lose.
    if is_ready || seen.is_some_and(|seen| seen.alive) || !claim.bound || claim.leaving {
        return None;
    }
    let candidate = Candidate {
        broker,
        seen,
        claim,
        home: case.homes.get(&broker)?,
        case: *case,
    };
    let is_well = match candidate.home {
        Home::Anywhere => true,
        Home::On { state, .. } => *state == NodeState::Ready,
        // Nothing is known of the node; a pod that is only restarted is back soon.
        Home::Unread { missed, .. } => !missed,
    };
    (!is_well || candidate.is_declared()).then_some(candidate)
}

/// Whether a broker has its new disk, and everything on it that it is to have.
fn is_whole(case: &Case<'_>, healing: &Healing) -> bool {
    back(case, healing).is_some_and(|seen| seen.out_of_sync == 0)
}

/// What a broker is registered as, once it is back with another disk.
fn back<'a>(case: &Case<'a>, healing: &Healing) -> Option<&'a BrokerSeen> {
    let seen = case.look?.brokers.get(&healing.broker)?;
    let is_ready = case
        .processes
        .get(&healing.broker)
        .is_some_and(|process| process.ready);
    (is_ready && seen.alive && seen.incarnation != healing.incarnation).then_some(seen)
}

fn progress(case: &Case<'_>, healing: &Healing) -> String {
    let broker = healing.broker;
    match back(case, healing) {
        Some(seen) => format!(
            "broker {broker} is back with an empty disk; {} of its replicas are still being copied",
            seen.out_of_sync
        ),
        None => format!("broker {broker} has lost its disk and gets an empty one"),
    }
}

/// Gate: nobody says what would be lost.
pub(super) fn not_seen(candidate: &Candidate<'_>) -> Option<String> {
    let why = match candidate.case.look {
        None => "no broker has answered",
        Some(look) if look.controller.is_none() => "no controller is elected",
        Some(_) => return None,
    };
    Some(format!(
        "broker {} is away, {}, and {why}, so it is not known what the others have. Nothing was deleted. It goes on by itself when that changes",
        candidate.broker, candidate.home
    ))
}

/// Gate: the disk may come back.
pub(super) fn no_proof(candidate: &Candidate<'_>) -> Option<String> {
    if candidate.is_gone() || candidate.is_declared() {
        return None;
    }
    let Candidate { broker, home, .. } = candidate;
    let by_node = match home {
        Home::On { names, .. } => format!(
            "delete its Node object (kubectl delete node {}), or ",
            names.join(" ")
        ),
        Home::Anywhere | Home::Unread { .. } => String::new(),
    };
    let last = match candidate.last_copies() {
        last if last.is_empty() => last,
        last => format!(" Mind that {last}."),
    };
    let other = candidate
        .case
        .declared
        .map_or_else(String::new, |declared| {
            format!(" (it names {declared} now)")
        });
    let word = if candidate.incarnation().is_empty() {
        format!("delete PersistentVolumeClaim {}", candidate.claim.name)
    } else {
        format!(
            "annotate this Cluster with {}={broker}@{}{other}",
            names::LOST_DISK_ANNOTATION,
            candidate.incarnation()
        )
    };
    Some(format!(
        "broker {broker} is away: {home}. That is no proof that its disk is lost, so nothing was deleted; it goes on with what it has when it \
         is back. If it never will be, {by_node}{word}: then it gets an empty disk, and its data from the others.{last}"
    ))
}

/// Gate: nobody else has what it had.
pub(super) fn last_copy(candidate: &Candidate<'_>) -> Option<String> {
    let last = candidate.last_copies();
    (!last.is_empty() && !candidate.is_declared()).then(|| {
        format!(
            "broker {} is away: {}; but {last}. Nothing was deleted. Bring the node back with its disk; or annotate this Cluster with \
             {}={}@{} to go on without",
            candidate.broker,
            candidate.home,
            names::LOST_DISK_ANNOTATION,
            candidate.broker,
            candidate.incarnation()
        )
    })
}

/// Gate: another broker is being given its data.
pub(super) fn one_at_a_time(candidate: &Candidate<'_>) -> Option<String> {
    let healing = candidate.case.healing?;
    let is_back = back(&candidate.case, healing).is_some();
    (!(is_back && candidate.is_declared())).then(|| {
        format!(
            "broker {} has lost its disk too, and gets an empty one when broker {} has everything again",
            candidate.broker, healing.broker
        )
    })
}

#[cfg(test)]
mod tests;
