//! Who of a topic's partitions may have how much of its bound.
//!
//! Kept by the leader of one partition of the topic, and stored nowhere: it begins without knowing what is out, gives nothing until it
//! has heard of every partition, and hears what each keeps to. What always holds: what it believes a partition may have is at least what any
//! broker that can still commit something there keeps to. That takes two things of the callers: that a partition's leader asks the ledger
//! that its metadata names and takes no grant of an earlier one ([`Lease::ledger_is`](super::Lease::ledger_is)), and that the ledger hears no leader of an epoch that its own
//! metadata knows to be over ([`Ledger::epoch_is`]).

use std::collections::BTreeMap;

use weir_wire::{LeaderEpoch, PartitionIndex};

use super::lease::{Ask, Grant};

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Of the leader that was heard last, or the least that may be heard.
    epoch: LeaderEpoch,
    /// What that one may have; `None`: not heard of it yet.
    leased: Option<Leased>,
}

#[derive(Clone, Copy, Debug)]
struct Leased {
    grant: u64,
    limit: u64,
    /// How much of it was used when it was heard last.
    used: u64,
    /// It needed more than there was when it was heard last.
    lacks: bool,
}

/// The ledger of one topic. See the module.
#[derive(Clone, Debug)]
pub struct Ledger {
    epoch: LeaderEpoch,
    bound: u64,
    partitions: BTreeMap<PartitionIndex, Entry>,
}

impl Ledger {
    /// A ledger that knows of nothing, kept in this epoch.
    #[must_use]
    pub fn new(epoch: LeaderEpoch, bound: u64) -> Self {
        Self {
            epoch,
            bound,
            partitions: BTreeMap::new(),
        }
    }

    /// There is such a partition, and its leader epoch is this one, or a later one by now.
    pub fn epoch_is(&mut self, partition: PartitionIndex, epoch: LeaderEpoch) {
        let entry = self.partitions.entry(partition).or_insert(Entry {
            epoch,
            leased: None,
        });
        if epoch > entry.epoch {
            // What the new leader begins with it says itself.
            *entry = Entry {
                epoch,
                leased: None,
            };
        }
    }

    /// The topic's bound has changed. One that has become less is met as messages are settled.
    pub fn set_bound(&mut self, bound: u64) {
        self.bound = bound;
    }

    /// How much nobody has; 0 while some partition was not heard of.
    #[must_use]
    pub fn free(&self) -> u64 {
        let mut leased: u64 = 0;
        for entry in self.partitions.values() {
            match entry.leased {
                Some(one) => leased = leased.saturating_add(one.limit),
                None => return 0,
            }
        }
        self.bound.saturating_sub(leased)
    }

    /// Hears a partition, and answers; `None` for who asks another ledger, or leads no more.
    pub fn ask(&mut self, ask: Ask) -> Option<Grant> {
        if ask.ledger != self.epoch {
            return None;
        }
        let entry = self.partitions.get_mut(&ask.partition)?;
        if ask.epoch < entry.epoch {
            return None;
        }
        let is_first = ask.epoch > entry.epoch || entry.leased.is_none();
        entry.epoch = ask.epoch;
        let mut leased = match entry.leased {
            Some(leased) if !is_first => leased,
            _ => Leased {
                grant: ask.grant,
                limit: ask.limit,
                used: ask.used,
                lacks: false,
            },
        };
        // Who has not got the last grant yet may still get it, and speaks of what was before.
        let is_up_to_date = ask.grant == leased.grant;
        if is_up_to_date {
            leased.limit = leased.limit.min(ask.limit);
        }
        leased.used = ask.used;
        entry.leased = Some(leased);
        if is_up_to_date {
            // A part of what a batch needs would be kept from a smaller one elsewhere, and two of them from each other for ever.
            let free = self.free();
            let more = if free < ask.need {
                0
            } else {
                ask.want.min(free)
            };
            if more > 0 {
                leased.grant += 1;
                leased.limit += more;
            }
            leased.lacks = more < ask.need;
        }
        let entry = self.partitions.get_mut(&ask.partition)?;
        entry.leased = Some(leased);
        let mut others = self
            .partitions
            .iter()
            .filter(|(partition, _)| **partition != ask.partition)
            .map(|(_, entry)| entry.leased);
        let is_used_up = |one: Option<Leased>| one.is_some_and(|one| one.used >= one.limit);
        Some(Grant {
            partition: ask.partition,
            epoch: ask.epoch,
            ledger: self.epoch,
            grant: leased.grant,
            limit: leased.limit,
            is_recalled: others.clone().any(|one| one.is_some_and(|one| one.lacks)),
            is_all: leased.lacks && others.all(is_used_up),
        })
    }
}
