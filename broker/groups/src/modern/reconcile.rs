//! How a member of a consumer group goes from what it has to what it is to have (KIP-848).
//!
//! Pure: `(what it has, its target, what it says it owns, who else has what) → what it has next`. What always holds: a
//! partition is given to a member only when nobody has it; a member has a partition until it has said that it owns it no
//! longer, or is gone; a member's epoch moves to the target's only when there is nothing left for it to give up.

use std::collections::BTreeMap;

use weir_wire::TopicId;

use super::{Epoch, Partitions, TopicPartition};

/// Partitions, and for each the epoch in which the member was given it.
pub(crate) type Held = BTreeMap<TopicPartition, Epoch>;

/// How far a member has come on its way to its target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It has what it is to have.
    #[default]
    Stable,
    /// It is to give up partitions, and has not said that it did.
    Unrevoked,
    /// Others have yet to give up partitions that it is to have.
    Unreleased,
}

impl Progress {
    /// Kafka's number in stored records.
    pub(crate) const fn to_stored(self) -> i8 {
        match self {
            Self::Stable => 0,
            Self::Unrevoked => 1,
            Self::Unreleased => 2,
        }
    }

    /// From Kafka's number; none for one that it has not had so far.
    pub(crate) const fn from_stored(number: i8) -> Option<Self> {
        match number {
            0 => Some(Self::Stable),
            1 => Some(Self::Unrevoked),
            2 => Some(Self::Unreleased),
            _ => None,
        }
    }
}

/// What a member has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Current {
    pub(crate) epoch: Epoch,
    /// A member that has not heard of its newest epoch comes with this one.
    pub(crate) previous_epoch: Epoch,
    pub(crate) progress: Progress,
    /// What it may consume.
    pub(crate) assigned: Held,
    /// What it has yet to give up.
    pub(crate) revoking: Held,
}

impl Current {
    /// Everything that nobody else may have.
    pub(crate) fn held(&self) -> impl Iterator<Item = &TopicPartition> {
        self.assigned.keys().chain(self.revoking.keys())
    }

    fn moved_to(&self, epoch: Epoch) -> (Epoch, Epoch) {
        if epoch == self.epoch {
            (self.epoch, self.previous_epoch)
        } else {
            (epoch, self.epoch)
        }
    }
}

/// What a member's way depends on.
pub(crate) struct Way<'a> {
    /// What it is to have.
    pub(crate) target: &'a Partitions,
    /// Since which epoch.
    pub(crate) target_epoch: Epoch,
    /// What it says that it owns; it does not say each time.
    pub(crate) owned: Option<&'a Partitions>,
    /// Whether it subscribes to a topic.
    pub(crate) subscribes: &'a dyn Fn(TopicId) -> bool,
    /// Whether a member has the partition, this one included.
    pub(crate) is_held: &'a dyn Fn(&TopicPartition) -> bool,
}

impl Way<'_> {
    /// What the member has next; none when it stays as it is.
    pub(crate) fn next(&self, current: &Current) -> Option<Current> {
        let next = match current.progress {
            Progress::Stable if current.epoch == self.target_epoch => self.unsubscribe(current),
            Progress::Unrevoked if self.owns(&current.revoking) => self.unsubscribe(current),
            _ => self.step(current),
        };
        (next != *current).then_some(next)
    }

    /// Whether it still owns some of `held`, for all it has said.
    fn owns(&self, held: &Held) -> bool {
        self.owned
            .is_none_or(|owned| held.keys().any(|partition| owned.contains(partition)))
    }

    /// Takes away what it subscribes to no longer; nothing else changes before the target does.
    fn unsubscribe(&self, current: &Current) -> Current {
        let mut next = current.clone();
        let (kept, given_up): (Held, Held) = current
            .assigned
            .iter()
            .partition(|(partition, _)| (self.subscribes)(partition.topic));
        if given_up.is_empty() {
            return next;
        }
        next.assigned = kept;
        next.revoking.extend(given_up);
        if self.owns(&next.revoking) {
            next.progress = Progress::Unrevoked;
        } else {
            next.revoking = Held::new();
        }
        next
    }

    fn step(&self, current: &Current) -> Current {
        let wanted = |partition: &TopicPartition| {
            self.target.contains(partition) && (self.subscribes)(partition.topic)
        };
        let (mut assigned, revoking): (Held, Held) = current
            .assigned
            .iter()
            .partition(|(partition, _)| wanted(partition));
        if !revoking.is_empty() && self.owns(&revoking) {
            return Current {
                progress: Progress::Unrevoked,
                assigned,
                revoking,
                ..current.clone()
            };
        }
        let mut is_waiting = false;
        for partition in self.target.iter().filter(|partition| wanted(partition)) {
            if assigned.contains_key(partition) {
                continue;
            }
            // What it is giving up itself, or has just given up, is free for it.
            let is_own = current.revoking.contains_key(partition);
            if is_own || !(self.is_held)(partition) {
                assigned.insert(*partition, self.target_epoch);
            } else {
                is_waiting = true;
            }
        }
        let (epoch, previous_epoch) = current.moved_to(self.target_epoch);
        let progress = if is_waiting {
            Progress::Unreleased
        } else {
            Progress::Stable
        };
        Current {
            epoch,
            previous_epoch,
            progress,
            assigned,
            revoking: Held::new(),
        }
    }
}

/// The same partitions, each held since `epoch`.
pub(crate) fn held_since(
    partitions: impl IntoIterator<Item = TopicPartition>,
    epoch: Epoch,
) -> Held {
    partitions
        .into_iter()
        .map(|partition| (partition, epoch))
        .collect()
}
