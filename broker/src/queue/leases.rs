//! What a partition may have of a bound that is its whole topic's.
//!
//! One lease for each of what may be bounded. Its limits are what the lane keeps to; beside them it is remembered what was lacking when a
//! batch did not fit, and whether the ledger has said that there is no more. What always holds: "full" is said only when the ledger
//! said so after the batch's like was asked for; before, a batch is refused for the moment.

use std::time::Duration;

use tokio::time::Instant;
use weir_queues::bound::{Ask, Grant, Lease, Limits, Size};
use weir_wire::{LeaderEpoch, PartitionIndex};

/// How long the ledger's "there is no more" is believed without another question: each batch that is refused by it asks again. Longer than
/// clients wait before they send again (a second, and a fifth more), or a client that comes alone would never be told.
const FULL_FOR: Duration = Duration::from_secs(3);

/// Messages or bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unit {
    Messages,
    Bytes,
}

impl Unit {
    pub(crate) const ALL: [Self; 2] = [Self::Messages, Self::Bytes];

    /// Where what there is for each unit lies.
    pub(crate) const fn index(self) -> usize {
        self as usize
    }

    fn of(self, size: Size) -> u64 {
        match self {
            Self::Messages => size.messages,
            Self::Bytes => size.bytes,
        }
    }

    pub(crate) fn limit(self, limits: Limits) -> Option<u64> {
        match self {
            Self::Messages => limits.messages,
            Self::Bytes => limits.bytes,
        }
    }
}

/// One of the bounds.
#[derive(Debug)]
struct Part {
    lease: Lease,
    bound: u64,
    /// How much more the last batch that did not fit would have needed, until the ledger has given it or said that there is not so much.
    lacking: u64,
    /// Until when to believe that so much is not there.
    full: Option<(u64, Instant)>,
    /// Somebody else lacks something.
    is_recalled: bool,
    /// What was used when the ledger was asked last.
    used: Option<u64>,
}

impl Part {
    /// What a partition to which messages come has beyond what it uses, so that not every batch waits for the ledger: a quarter of an even
    /// share.
    fn spare(&self, partitions: u64) -> u64 {
        self.bound / (4 * partitions)
    }
}

/// A partition's leases, in one epoch of its leader.
#[derive(Debug)]
pub(super) struct Leases {
    parts: [Option<Part>; 2],
    partitions: u64,
}

impl Leases {
    /// Begins with the backlog that is there.
    pub(super) fn new(
        (partition, epoch): (PartitionIndex, LeaderEpoch),
        (ledger, partitions): (LeaderEpoch, usize),
        bounds: Limits,
        backlog: Size,
    ) -> Self {
        let part = |unit: Unit| {
            unit.limit(bounds).map(|bound| Part {
                lease: Lease::new(partition, epoch, ledger, unit.of(backlog)),
                bound,
                lacking: 0,
                full: None,
                is_recalled: false,
                used: None,
            })
        };
        Self {
            parts: Unit::ALL.map(part),
            partitions: partitions.max(1) as u64,
        }
    }

    /// The bounds that there are.
    fn parts(&self) -> impl Iterator<Item = (Unit, &Part)> {
        let parts = Unit::ALL.into_iter().zip(&self.parts);
        parts.filter_map(|(unit, part)| Some((unit, part.as_ref()?)))
    }

    /// What the lane keeps to.
    pub(super) fn limits(&self) -> Limits {
        let [messages, bytes] = &self.parts;
        let limit = |part: &Option<Part>| part.as_ref().map(|part| part.lease.limit());
        Limits {
            messages: limit(messages),
            bytes: limit(bytes),
        }
    }

    /// A batch does not fit into what there is; the ledger is to be asked. True when it has just said of what the batch lacks that there is
    /// not so much.
    pub(super) fn lacks(&mut self, backlog: Size, more: Size, now: Instant) -> bool {
        let mut is_full = false;
        for (unit, part) in Unit::ALL.into_iter().zip(&mut self.parts) {
            let Some(part) = part else { continue };
            let needed = unit.of(backlog).saturating_add(unit.of(more));
            let lacking = needed.saturating_sub(part.lease.limit());
            if lacking == 0 {
                continue;
            }
            is_full |= part
                .full
                .is_some_and(|(missing, until)| missing <= lacking && now < until);
            part.lacking = lacking;
        }
        is_full
    }

    /// Whether the ledger is to be asked before a batch has to wait for it.
    pub(super) fn run_low(&self, backlog: Size) -> bool {
        self.parts().any(|(unit, part)| {
            let left = part.lease.limit().saturating_sub(unit.of(backlog));
            !part.is_recalled && left < part.spare(self.partitions) / 2
        })
    }

    /// What to say to the ledger that is kept in this epoch; what is not used is given back, but for a little where messages come.
    pub(super) fn asks(&mut self, ledger: LeaderEpoch, backlog: Size) -> Vec<(Unit, Ask)> {
        let partitions = self.partitions;
        let ask = |(unit, part): (Unit, &mut Option<Part>)| {
            let part = part.as_mut()?;
            part.lease.ledger_is(ledger);
            let used = unit.of(backlog);
            let is_busy = part.lacking > 0 || part.used.is_some_and(|before| before < used);
            let spare = match is_busy && !part.is_recalled {
                true => part.spare(partitions),
                false => 0,
            };
            part.used = Some(used);
            part.lease
                .give_back(used.saturating_add(spare).saturating_add(part.lacking));
            let wanted = used.saturating_add(part.lacking).saturating_add(spare);
            let want = wanted.saturating_sub(part.lease.limit());
            Some((unit, part.lease.ask(used, want)))
        };
        Unit::ALL
            .into_iter()
            .zip(&mut self.parts)
            .filter_map(ask)
            .collect()
    }

    /// The ledger has answered.
    pub(super) fn granted(&mut self, unit: Unit, grant: Grant, now: Instant) {
        let Some(part) = &mut self.parts[unit.index()] else {
            return;
        };
        let before = part.lease.limit();
        part.lease.granted(grant);
        let gained = part.lease.limit().saturating_sub(before);
        part.is_recalled = grant.is_recalled;
        if part.lacking == 0 {
            // Nothing was asked for, so it says nothing of whether there is more.
            return;
        }
        part.lacking = part.lacking.saturating_sub(gained);
        part.full = None;
        if grant.is_all && part.lacking > 0 {
            part.full = Some((part.lacking, now + FULL_FOR));
            part.lacking = 0;
        }
    }

    /// Whether the ledger should hear of this partition before long: it lacks something, or has what it does not use.
    pub(super) fn is_restless(&self, backlog: Size) -> bool {
        self.parts()
            .any(|(unit, part)| part.lacking > 0 || part.lease.limit() > unit.of(backlog))
    }
}
