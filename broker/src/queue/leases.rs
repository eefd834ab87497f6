//! What a partition may have of a bound that is its whole topic's.
//!
//! One lease for each of what may be bounded. Its limits are what the lane keeps to; beside them it is remembered which batch did not fit, and
//! whether the ledger has said that there is not so much. What always holds: "full" is said only when the ledger said so after the batch's like
//! was asked for; before, a batch is refused for the moment. What is leased and not used goes back, so that the last message can be sold wherever it is
//! asked for; what was leased for a batch that waits stays until its producer had time to send it again.

use std::time::Duration;

use tokio::time::Instant;
use weir_queues::bound::{Ask, Grant, Lease, Limits, Size};
use weir_wire::{LeaderEpoch, PartitionIndex};

/// How long what was said last counts: credit that is leased and not used is given back then, a batch that did not fit and did not come again is not
/// waited for any more, and the ledger's "there is no more" is not believed any more. Longer than clients wait before they send again.
const KEPT_FOR: Duration = Duration::from_secs(3);

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
    /// How much the last batch is that did not fit, and until when it is waited for.
    waits: Option<(u64, Instant)>,
    /// How much more it needed when the ledger was asked; 0 once it has answered, or when nothing was needed.
    asked: u64,
    /// Until when to believe that so much is not there.
    full: Option<(u64, Instant)>,
    /// Somebody else lacks something.
    is_recalled: bool,
    /// What was used when the ledger was asked last.
    used: Option<u64>,
    /// Until when messages count as coming.
    busy_until: Option<Instant>,
    /// Up to where nothing is given back, and until when: a batch that did not fit may come again.
    kept: Option<(u64, Instant)>,
}

impl Part {
    /// What a partition to which messages come has beyond what it uses, so that not every batch waits for the ledger: a quarter of an even
    /// share.
    fn spare(&self, partitions: u64) -> u64 {
        self.bound / (4 * partitions)
    }

    /// Gives back what is not used, and says what to ask for.
    fn ask(&mut self, used: u64, partitions: u64, now: Instant) -> Ask {
        self.waits.take_if(|(_, until)| *until <= now);
        self.kept.take_if(|(_, until)| *until <= now);
        if self.used.replace(used).is_some_and(|before| before < used) {
            self.busy_until = Some(now + KEPT_FOR);
        }
        let comes = self.waits.is_some() || self.busy_until.is_some_and(|until| now < until);
        let spare = match comes && !self.is_recalled {
            true => self.spare(partitions),
            false => 0,
        };
        let kept = self.kept.map_or(0, |(level, _)| level);
        self.lease.give_back(used.saturating_add(spare).max(kept));
        let waits = self.waits.map_or(0, |(more, _)| more);
        let needed = used.saturating_add(waits);
        let need = needed.saturating_sub(self.lease.limit());
        let want = needed
            .saturating_add(spare)
            .saturating_sub(self.lease.limit());
        self.asked = need;
        self.lease.ask(used, want, need)
    }

    fn granted(&mut self, grant: Grant, now: Instant) {
        if !self.lease.is_answered_by(&grant) {
            return;
        }
        let before = self.lease.limit();
        self.lease.granted(grant);
        self.is_recalled = grant.is_recalled;
        let asked = std::mem::take(&mut self.asked);
        if asked == 0 {
            // It says nothing of whether there is more.
            return;
        }
        let gained = self.lease.limit().saturating_sub(before);
        let is_full = grant.is_all && gained == 0;
        self.full = is_full.then_some((asked, now + KEPT_FOR));
        if gained >= asked {
            // Without what is spare.
            self.kept = Some((before.saturating_add(asked), now + KEPT_FOR));
        }
        if is_full || gained >= asked {
            self.waits = None;
        }
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
                waits: None,
                asked: 0,
                full: None,
                is_recalled: false,
                used: None,
                busy_until: None,
                kept: None,
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
            part.waits = Some((unit.of(more), now + KEPT_FOR));
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
    pub(super) fn asks(
        &mut self,
        ledger: LeaderEpoch,
        backlog: Size,
        now: Instant,
    ) -> Vec<(Unit, Ask)> {
        let partitions = self.partitions;
        let ask = |(unit, part): (Unit, &mut Option<Part>)| {
            let part = part.as_mut()?;
            part.lease.ledger_is(ledger);
            Some((unit, part.ask(unit.of(backlog), partitions, now)))
        };
        Unit::ALL
            .into_iter()
            .zip(&mut self.parts)
            .filter_map(ask)
            .collect()
    }

    /// The ledger has answered.
    pub(super) fn granted(&mut self, unit: Unit, grant: Grant, now: Instant) {
        if let Some(part) = &mut self.parts[unit.index()] {
            part.granted(grant, now);
        }
    }

    /// Whether the ledger should hear of this partition before long: it lacks something, or has what it does not use.
    pub(super) fn is_restless(&self, backlog: Size) -> bool {
        self.parts()
            .any(|(unit, part)| part.waits.is_some() || part.lease.limit() > unit.of(backlog))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used, reason = "tests")]

    use weir_queues::bound::Ledger;

    use super::*;

    const EPOCH: LeaderEpoch = LeaderEpoch(1);

    /// Two partitions with a bound of 10 together, and their ledger.
    struct Topic {
        ledger: Ledger,
        leases: [Leases; 2],
        used: [u64; 2],
        now: Instant,
    }

    fn messages(messages: u64) -> Size {
        Size { messages, bytes: 0 }
    }

    impl Topic {
        fn new() -> Self {
            let mut ledger = Ledger::new(EPOCH, 10);
            let bounds = Limits {
                messages: Some(10),
                bytes: None,
            };
            let leases = [0, 1].map(|index| {
                let partition = PartitionIndex(index);
                ledger.epoch_is(partition, EPOCH);
                Leases::new((partition, EPOCH), (EPOCH, 2), bounds, Size::default())
            });
            let mut topic = Self {
                ledger,
                leases,
                used: [0, 0],
                now: Instant::now(),
            };
            topic.ask(0);
            topic.ask(1);
            topic
        }

        /// A partition asks, and hears the answer after `between` was done.
        fn ask_and(&mut self, who: usize, between: impl FnOnce(&mut Self)) {
            let asks = self.leases[who].asks(EPOCH, messages(self.used[who]), self.now);
            between(self);
            for (unit, ask) in asks {
                if let Some(grant) = self.ledger.ask(ask) {
                    self.leases[who].granted(unit, grant, self.now);
                }
            }
        }

        fn ask(&mut self, who: usize) {
            self.ask_and(who, |_| {});
        }

        /// A batch comes: taken, or what its producer is told.
        fn send(&mut self, who: usize, count: u64) -> &'static str {
            let (used, more) = (messages(self.used[who]), messages(count));
            let then = messages(self.used[who] + count);
            if self.leases[who].limits().hold(then) {
                self.used[who] += count;
                return "taken";
            }
            match self.leases[who].lacks(used, more, self.now) {
                true => "full",
                false => "not now",
            }
        }

        fn later(&mut self, ms: u64) {
            self.now += Duration::from_millis(ms);
        }
    }

    #[test]
    fn what_two_batches_wait_for_in_vain_a_smaller_one_may_have() {
        let mut topic = Topic::new();
        topic.used = [2, 2];
        topic.ask(0);
        topic.ask(1);
        for _ in 0..2 {
            assert_eq!(topic.send(0, 7), "not now");
            assert_eq!(topic.send(1, 8), "not now");
            topic.ask(0);
            topic.ask(1);
            topic.ask(0);
            topic.later(4_000);
        }
        assert_eq!(topic.send(0, 6), "not now");
        topic.ask(0);
        assert_eq!(topic.send(0, 6), "taken");
        assert_eq!(topic.send(0, 1), "not now");
        topic.ask(0);
        assert_eq!(topic.send(0, 1), "full");
    }

    #[test]
    fn what_was_leased_for_a_batch_is_there_when_it_comes_again_and_goes_back_when_it_does_not() {
        let mut topic = Topic::new();
        assert_eq!(topic.send(0, 8), "not now");
        topic.ask(0);
        // Its producer waits; another partition needs more than is left.
        assert_eq!(topic.send(1, 5), "not now");
        topic.ask(1);
        topic.later(500);
        topic.ask(0);
        assert_eq!(topic.send(1, 5), "not now", "somebody has what is not used");
        topic.ask(1);
        assert_eq!(topic.send(0, 8), "taken");
        topic.used[0] = 0;
        topic.ask(0);
        assert_eq!(topic.send(0, 8), "taken", "it is kept while it counts");
        topic.used[0] = 0;
        topic.later(3_100);
        topic.ask(0);
        assert_eq!(topic.send(1, 5), "not now");
        topic.ask(1);
        assert_eq!(topic.send(1, 5), "taken");
    }

    #[test]
    fn an_answer_to_another_question_does_not_say_whether_there_is_more() {
        let mut topic = Topic::new();
        assert_eq!(topic.send(0, 8), "not now");
        topic.ask(0);
        assert_eq!(topic.send(0, 8), "taken");
        assert_eq!(topic.send(0, 3), "not now");
        topic.ask(0);
        assert_eq!(topic.send(0, 3), "full");
        // What was asked before that batch came says nothing of it.
        topic.leases[0].parts[0].as_mut().expect("bounded").waits = None;
        topic.ask_and(0, |topic| assert_eq!(topic.send(0, 3), "full"));
        assert_eq!(topic.send(0, 3), "full");
        topic.later(3_100);
        assert_eq!(topic.send(0, 3), "not now", "it is not believed for ever");
    }
}
