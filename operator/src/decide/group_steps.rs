//! What is to be asked of the brokers for the ConsumerGroups of a cluster: configurations, pauses, where new groups begin, and resets of offsets.
//!
//! What always holds: of several resources for one group only the oldest is followed; a group that no resource has said a word about is left as it is; a
//! converged world asks for nothing; the order in which resources are given does not matter. Where a group begins is asked for only in topics that it has
//! no offset of, and while it has no members; the brokers look again when they carry it out.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use weir_crds::{BEGIN_CONFIG, ConsumerGroupStatus, SHARING_CONFIGS};

use super::config_value::is_stored_as;
use super::group::not_begun;
use super::reset;
use crate::validate::{BeginAt, Beginning, Group, Reset};
use crate::world::{GroupSeen, Key, Refusal};

/// A resource, and what is known of it.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// What it says.
    pub group: &'a Group,
    /// When it was made; none without a Kubernetes.
    pub created: Option<Timestamp>,
    /// The generation of its spec.
    pub generation: Option<i64>,
    /// What was said of it last.
    pub status: &'a ConsumerGroupStatus,
}

/// One thing to ask of the brokers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The group is to be paused, or to go on.
    Pause {
        /// Who asks.
        resource: Key,
        /// The group.
        group: String,
        /// Which of the two.
        paused: bool,
    },
    /// How a share group is given its messages is to be changed.
    Configure {
        /// Who asks.
        resource: Key,
        /// The group.
        group: String,
        /// By configuration; what has no value is taken back.
        changes: BTreeMap<String, Option<String>>,
    },
    /// The group begins in topics that are new to it.
    Begin {
        /// Who asks.
        resource: Key,
        /// The group.
        group: String,
        /// Where.
        at: BeginAt,
        /// In these topics.
        topics: BTreeSet<String>,
    },
    /// Offsets are to be set, or a dry run is wanted.
    Reset {
        /// Who asks.
        resource: Key,
        /// The group.
        group: String,
        /// What is to be set.
        reset: Reset,
    },
}

impl Step {
    /// Who asks.
    #[must_use]
    pub fn resource(&self) -> &Key {
        match self {
            Self::Pause { resource, .. }
            | Self::Configure { resource, .. }
            | Self::Begin { resource, .. }
            | Self::Reset { resource, .. } => resource,
        }
    }
}

/// What of a group's configuration is to be changed; what has no value is taken back. A resource with any of `filter`, `retry` and `deadLetters` sets
/// all that they stand for; one that did, and has none any more, takes it back. Where a share group begins stands for itself, and so does each of what
/// `lease`, `isolation` and `config` name.
fn changes_wanted(asked: &Asked<'_>, seen: &GroupSeen) -> BTreeMap<String, Option<String>> {
    let mut changes = BTreeMap::new();
    let stored = |name: &str| seen.config.get(name).map(String::as_str);
    let mut set = |name: &str, wanted: Option<&str>| {
        if wanted != stored(name) {
            changes.insert(name.to_owned(), wanted.map(str::to_owned));
        }
    };
    let sharing = &asked.group.sharing;
    if !sharing.is_empty() || asked.status.configured {
        for name in SHARING_CONFIGS {
            set(name, sharing.get(name).map(String::as_str));
        }
    }
    let begin = asked.group.begin_config();
    if begin.is_some() || asked.status.begin_configured {
        set(BEGIN_CONFIG, begin);
    }
    let config = &asked.group.config;
    for (name, wanted) in config {
        // A person has written it, in any spelling.
        if !stored(name).is_some_and(|stored| is_stored_as(wanted, stored)) {
            set(name, Some(wanted.as_str()));
        }
    }
    // What other fields stand for is theirs.
    let is_left = |name: &&String| {
        !config.contains_key(*name)
            && !SHARING_CONFIGS.contains(&name.as_str())
            && name.as_str() != BEGIN_CONFIG
    };
    for name in asked.status.config_keys.iter().filter(is_left) {
        set(name, None);
    }
    changes
}

/// What is to be asked, and who is not heard.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupsPlan {
    /// In the order in which they are to be asked.
    pub steps: Vec<Step>,
    /// Resources that ask for something about a group which an older one speaks for, and that one.
    pub conflicts: BTreeMap<Key, Key>,
}

/// Whether the group is to be paused; `None`: as it is. A pause that this resource asked for ends when it asks no longer.
#[must_use]
pub fn pause_wanted(asked: &Asked<'_>) -> Option<bool> {
    match asked.group.paused {
        None if asked.status.paused => Some(false),
        other => other,
    }
}

/// Plans for all groups of a cluster. `is_held`: the Cluster is paused, and nothing is done but status.
#[must_use]
pub fn plan(
    is_held: bool,
    asked: &[Asked<'_>],
    seen: &BTreeMap<String, Result<GroupSeen, Refusal>>,
) -> GroupsPlan {
    let (speakers, conflicts) = oldest(asked, |one| asks(one).then_some(one.group.id.as_str()));
    let mut plan = GroupsPlan {
        steps: Vec::new(),
        conflicts,
    };
    if is_held {
        return plan;
    }
    for (id, speaker) in &speakers {
        let Some(Ok(seen)) = seen.get(*id) else {
            continue;
        };
        let changes = changes_wanted(speaker, seen);
        if !changes.is_empty() {
            plan.steps.push(Step::Configure {
                resource: speaker.group.key.clone(),
                group: (*id).to_owned(),
                changes,
            });
        }
    }
    // Pauses first: a group that is to be paused and reset does not read in between.
    for (id, speaker) in &speakers {
        let Some(Ok(seen)) = seen.get(*id) else {
            continue;
        };
        let is_paused = seen.consumption.map(|now| now.is_to_be_paused());
        if let (Some(paused), Some(is_paused)) = (pause_wanted(speaker), is_paused)
            && paused != is_paused
        {
            plan.steps.push(Step::Pause {
                resource: speaker.group.key.clone(),
                group: (*id).to_owned(),
                paused,
            });
        }
    }
    // Before resets: one that shifts has something to go from then.
    for (id, speaker) in &speakers {
        let (Some(Ok(seen)), Some(Beginning::Offsets { at, .. })) =
            (seen.get(*id), &speaker.group.begin)
        else {
            continue;
        };
        let topics = not_begun(speaker.group, seen);
        if seen.members == 0 && seen.consumption.is_some() && !topics.is_empty() {
            plan.steps.push(Step::Begin {
                resource: speaker.group.key.clone(),
                group: (*id).to_owned(),
                at: *at,
                topics,
            });
        }
    }
    for (id, speaker) in &speakers {
        let is_seen = matches!(seen.get(*id), Some(Ok(seen)) if seen.consumption.is_some());
        let last = speaker.status.last_reset.as_ref();
        let due = reset::due(speaker.group.reset.as_ref(), last, speaker.generation);
        if let Some(reset) = due.filter(|_| is_seen) {
            plan.steps.push(Step::Reset {
                resource: speaker.group.key.clone(),
                group: (*id).to_owned(),
                reset: reset.clone(),
            });
        }
    }
    plan
}

/// Whether the resource asks for anything to be done with the group.
fn asks(asked: &Asked<'_>) -> bool {
    pause_wanted(asked).is_some()
        || asked.group.begin.is_some()
        || asked.status.begin_configured
        || asked.group.reset.is_some()
        || !asked.group.sharing.is_empty()
        || asked.status.configured
        || !asked.group.config.is_empty()
        || !asked.status.config_keys.is_empty()
}

/// Of resources that name one Deployment, those that do not scale it, and the one that does: the oldest.
#[must_use]
pub fn scale_conflicts(asked: &[Asked<'_>]) -> BTreeMap<Key, Key> {
    let (_, conflicts) = oldest(asked, |one| {
        let scale = one.group.scale.as_ref()?;
        Some((one.group.key.namespace.as_str(), scale.deployment.as_str()))
    });
    conflicts
}

/// Of resources that claim the same thing the oldest, and of each other one whom it gives way to.
fn oldest<'a, T: Ord>(
    asked: &'a [Asked<'a>],
    claim: impl Fn(&'a Asked<'a>) -> Option<T>,
) -> (BTreeMap<T, &'a Asked<'a>>, BTreeMap<Key, Key>) {
    let age = |one: &'a Asked<'a>| (one.created, &one.group.key);
    let claims = || asked.iter().filter_map(|one| Some((claim(one)?, one)));
    let mut owners: BTreeMap<T, &Asked<'_>> = BTreeMap::new();
    for (what, one) in claims() {
        let owner = owners.entry(what).or_insert(one);
        if age(one) < age(owner) {
            *owner = one;
        }
    }
    let conflicts = claims().filter_map(|(what, one)| {
        let owner = &owners.get(&what)?.group.key;
        (*owner != one.group.key).then(|| (one.group.key.clone(), owner.clone()))
    });
    let conflicts = conflicts.collect();
    (owners, conflicts)
}

#[cfg(test)]
mod tests;
