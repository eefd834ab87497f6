//! Handing records out.

use weir_queues::order::KeyHash;
use weir_wire::Offset;

use super::partition::SharePartition;
use super::runs::State;
use crate::types::{MemberId, MonoMs};

/// How strictly the greatest number of records is meant (KIP-1206).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AcquireMode {
    /// Whole batches, until there are enough.
    #[default]
    BatchOptimized,
    /// Never more.
    RecordLimit,
}

/// What consumers are given of a part of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Its records.
    Records,
    /// Nothing, since its records are too old for their topic.
    TooOld,
    /// Nothing for another reason: it is a control batch, it was filtered out, or of an aborted transaction, and the group reads committed records only.
    Nothing,
}

/// A batch of the log, as far as handing out goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Its first offset.
    pub base: Offset,
    /// Its last offset.
    pub last: Offset,
    /// What consumers are given of it.
    pub content: Content,
    /// The key of the one record that this is, where records of one key go one at a time.
    pub key: Option<KeyHash>,
}

/// What a member wants.
#[derive(Clone, Copy, Debug)]
pub struct Acquire<'a> {
    /// Who.
    pub member: &'a MemberId,
    /// How many records.
    pub records_max: i64,
    /// How many records make one range of the answer, at least: ranges end where batches of the log do.
    pub batch_size: i64,
    /// How strictly.
    pub mode: AcquireMode,
    /// From where on it was read, or passed over: what [`SharePartition::next_fetch`] said, or a [`Place`](super::Place).
    pub from: Offset,
    /// What was found, in order. Between `from` and the first, and between them, the log has nothing.
    pub batches: &'a [Fetched],
}

/// A range that a member was handed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acquired {
    /// The first offset.
    pub first: Offset,
    /// The last offset.
    pub last: Offset,
    /// How often these were handed out, this time included.
    pub deliveries: i16,
}

impl SharePartition {
    /// Hands out what is available of the batches read, and what is new in them. The log may have been read for another member
    /// at the same time: whoever comes first has it.
    pub fn acquire(&mut self, want: Acquire<'_>, now: MonoMs) -> Vec<Acquired> {
        let mut taking = Taking {
            left: want.records_max,
            until: now.after(self.config.lock_ms),
            want,
            ranges: Vec::new(),
        };
        let mut expected = want.from.0.max(self.start);
        for batch in want.batches {
            if batch.last.0 < expected {
                continue;
            }
            // What lies behind the end of the window was not asked for: the log has been read from the end or before it.
            if expected > self.end || taking.left <= 0 {
                break;
            }
            if batch.base.0 > expected {
                self.pass(expected, batch.base.0 - 1);
            }
            let (first, last) = (batch.base.0.max(expected), batch.last.0);
            match batch.content {
                Content::Records if !self.take(&mut taking, batch, first, last) => break,
                Content::Records => {}
                Content::TooOld => self.expired += self.pass(first, last),
                Content::Nothing => {
                    self.pass(first, last);
                }
            }
            expected = last + 1;
        }
        self.advance_start();
        if !taking.ranges.is_empty() {
            let until = taking.until;
            self.earliest_expiry = Some(
                self.earliest_expiry
                    .map_or(until, |before| before.min(until)),
            );
        }
        taking.ranges
    }

    /// There is nothing for consumers at these offsets. For how many of them that was not known before.
    fn pass(&mut self, first: i64, last: i64) -> u64 {
        let mut passed = (last + 1 - self.end).max(0);
        for run in self.runs.within(first..=last.min(self.end - 1)) {
            if matches!(run.state, State::Available { .. }) {
                passed += run.last + 1 - run.first;
                self.runs.set(run.first, run.last, State::Nothing);
                self.let_next_go(run.first, run.last);
            }
        }
        self.append_until(last + 1, State::Nothing);
        // So that a window without anything to hand out does not count as full.
        self.advance_start();
        passed.unsigned_abs()
    }

    /// Takes what may be had of one batch; what may not go waits in the window. False when there is to be no more.
    fn take(&mut self, taking: &mut Taking<'_>, fetched: &Fetched, first: i64, last: i64) -> bool {
        for run in self.runs.within(first..=last.min(self.end - 1)) {
            let State::Available { deliveries } = run.state else {
                continue;
            };
            if !self.may_go(fetched) {
                let blocked = State::Blocked { deliveries };
                self.runs.set(run.first, run.last, blocked);
                continue;
            }
            let last = match taking.want.mode {
                AcquireMode::BatchOptimized => run.last,
                AcquireMode::RecordLimit => run.last.min(run.first + taking.left - 1),
            };
            if last < run.first {
                return false;
            }
            let deliveries = deliveries.saturating_add(1);
            self.hold(fetched);
            self.runs.set(run.first, last, taking.acquired(deliveries));
            taking.push(run.first, last, deliveries);
        }
        let first = first.max(self.end);
        if first > last {
            return true;
        }
        if !self.may_go(fetched) {
            let has_room = self.room() > last - first;
            if has_room {
                self.append_until(last + 1, State::Blocked { deliveries: 0 });
            }
            return has_room;
        }
        let mut count = (last - first + 1).min(self.room());
        if taking.want.mode == AcquireMode::RecordLimit {
            count = count.min(taking.left);
        }
        if count <= 0 {
            return false;
        }
        self.hold(fetched);
        let taken = first + count - 1;
        self.append_until(taken + 1, taking.acquired(1));
        taking.push(first, taken, 1);
        taken == last
    }
}

/// One acquisition under way.
struct Taking<'a> {
    want: Acquire<'a>,
    until: MonoMs,
    left: i64,
    ranges: Vec<Acquired>,
}

impl Taking<'_> {
    fn acquired(&self, deliveries: i16) -> State {
        State::Acquired {
            member: self.want.member.clone(),
            deliveries,
            until: self.until,
            becoming: None,
        }
    }

    fn push(&mut self, first: i64, last: i64, deliveries: i16) {
        self.left -= last - first + 1;
        if let Some(range) = self.ranges.last_mut() {
            let together = last - range.first.0 + 1;
            let continues = range.last.0 + 1 == first && range.deliveries == deliveries;
            if continues && together <= self.want.batch_size {
                range.last = Offset(last);
                return;
            }
        }
        self.ranges.push(Acquired {
            first: Offset(first),
            last: Offset(last),
            deliveries,
        });
    }
}
