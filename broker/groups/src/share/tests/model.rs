//! A share-partition as one would write it without a thought for speed: a state for each record.

use std::collections::BTreeMap;

use weir_queues::Millis;
use weir_queues::order::KeyHash;
use weir_queues::retry::Breaker;

use super::*;
use crate::share::DeliveryState;
use crate::share::partition::Departure;
use crate::share::runs::{Letter, State};
use crate::share::write::{Ticket, Write};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    Available(i16),
    Acquired {
        member: usize,
        deliveries: i16,
        until: u64,
        becoming: Option<(Ticket, DeliveryState, Option<u64>)>,
    },
    /// How often it was handed out; an older record of its key is not done with.
    Blocked(i16),
    /// How often it was handed out, and when it may be again.
    Parked(i16, u64),
    /// How often it was handed out, and how far its dead letter is.
    Dead(i16, Letter),
    Done,
    Nothing,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) start: i64,
    /// From `start` on.
    pub(super) records: BTreeMap<i64, Record>,
    pub(super) end: i64,
    /// What was stored: the start, and states by offset.
    pub(super) stored: (i64, BTreeMap<i64, (DeliveryState, i16)>),
    /// What is to be stored with the next write.
    pub(super) unsaved: BTreeMap<i64, (DeliveryState, i16)>,
    pub(super) gathering: u64,
    /// What the group asks for its retries, and what the breaker has left.
    pub(super) retry: Option<(RetryConfig, Breaker)>,
    /// The keys of records that were read, where records of one key go one at a time.
    pub(super) order: Option<BTreeMap<i64, KeyHash>>,
}

/// What becomes of a record, and when if not at once.
type Becoming = (DeliveryState, Option<u64>);

impl Model {
    pub(super) fn new(retry: Option<&RetryConfig>, now: u64) -> Self {
        Self {
            gathering: 1,
            retry: retry.map(|retry| {
                let breaker = Breaker::new(retry.given_up_max, Millis(now));
                (retry.clone(), breaker)
            }),
            ..Self::default()
        }
    }

    pub(super) fn room(&self) -> i64 {
        let is_counted = |record: &&Record| match record {
            Record::Nothing => false,
            Record::Done => self.retry.is_none(),
            _ => true,
        };
        let counted = self.records.values().filter(is_counted);
        CONFIG.records_max - i64::try_from(counted.count()).unwrap()
    }

    pub(super) fn next_fetch(&self) -> Option<i64> {
        let available = self
            .records
            .iter()
            .find(|(_, record)| matches!(record, Record::Available(_)));
        match available {
            Some((offset, _)) => Some(*offset),
            None => (self.room() > 0).then_some(self.end),
        }
    }

    /// What a member gets, by offset.
    pub(super) fn acquire(
        &mut self,
        member: usize,
        (records_max, mode): (i64, AcquireMode),
        from: i64,
        log: &[Fetched],
        now: u64,
    ) -> BTreeMap<i64, i16> {
        let mut got = BTreeMap::new();
        let Some(last) = log.last() else { return got };
        let mut offset = from;
        'log: while offset <= last.last.0 {
            let batch = log.iter().find(|batch| batch.last.0 >= offset).unwrap();
            if i64::try_from(got.len()).unwrap() >= records_max {
                break;
            }
            let is_record = batch.base.0 <= offset && batch.content == Content::Records;
            let whole = if is_record { batch.last.0 } else { offset };
            for at in offset..=whole {
                let left = records_max - i64::try_from(got.len()).unwrap();
                let is_over = mode == AcquireMode::RecordLimit && left <= 0;
                let taken = |deliveries| Record::Acquired {
                    member,
                    deliveries,
                    until: now + CONFIG.lock_ms,
                    becoming: None,
                };
                let record = self.records.get(&at).cloned();
                let is_asked = match &record {
                    None => at >= self.end,
                    record => matches!(record, Some(Record::Available(_))),
                };
                let may_go = !is_record || !is_asked || self.may_go(at, batch.key);
                match record {
                    // It was before the start already, or is since the gap before it was passed.
                    None if at < self.end => {}
                    Some(Record::Available(_)) if !is_record => {
                        self.records.insert(at, Record::Nothing);
                    }
                    Some(Record::Available(before)) if !may_go => {
                        self.records.insert(at, Record::Blocked(before));
                    }
                    None if !may_go && self.room() > 0 => {
                        self.records.insert(at, Record::Blocked(0));
                        self.end = at + 1;
                    }
                    Some(Record::Available(_)) | None if is_record && is_over => break 'log,
                    Some(Record::Available(before)) => {
                        self.records.insert(at, taken(before + 1));
                        got.insert(at, before + 1);
                    }
                    None if !is_record => {
                        self.records.insert(at, Record::Nothing);
                        self.end = at + 1;
                    }
                    None if self.room() > 0 => {
                        self.records.insert(at, taken(1));
                        got.insert(at, 1);
                        self.end = at + 1;
                    }
                    None => break 'log,
                    Some(_) => {}
                }
                self.advance();
            }
            offset = whole + 1;
        }
        got
    }

    /// Whether no older record of its key that was read is there still.
    fn may_go(&mut self, at: i64, key: Option<KeyHash>) -> bool {
        let (Some(order), Some(key)) = (&mut self.order, key) else {
            return true;
        };
        order.insert(at, key);
        self.is_first_of_its_key(at)
    }

    fn is_first_of_its_key(&self, at: i64) -> bool {
        let Some(order) = &self.order else {
            return true;
        };
        let older = order
            .range(..at)
            .filter(|(_, key)| order.get(&at) == Some(*key));
        let is_there = |offset: &i64| {
            let record = self.records.get(offset);
            record.is_some_and(|record| !matches!(record, Record::Done | Record::Nothing))
        };
        !older.map(|(offset, _)| offset).any(is_there)
    }

    pub(super) fn held_by(&self, member: usize) -> Vec<i64> {
        let held = self.records.iter().filter(|(_, record)| {
            matches!(record, Record::Acquired { member: holder, becoming: None, .. } if *holder == member)
        });
        held.map(|(offset, _)| *offset).collect()
    }

    /// Whether it is allowed; and if so, does it.
    pub(super) fn acknowledge(
        &mut self,
        member: usize,
        said: &BTreeMap<i64, AckType>,
        now: u64,
    ) -> bool {
        let held = self.held_by(member);
        let allowed = said.keys().all(|offset| {
            *offset < self.start
                || held.contains(offset)
                || self.records.get(offset) == Some(&Record::Nothing)
        });
        if !allowed {
            return false;
        }
        let ticket = Ticket(self.gathering);
        let mut unsaved = Vec::new();
        for (at, kind) in said {
            let Some(Record::Acquired {
                deliveries,
                until,
                becoming,
                ..
            }) = self.records.get_mut(at)
            else {
                continue;
            };
            let (state, due) = match kind {
                AckType::Accept => (DeliveryState::Acknowledged, None),
                AckType::Gap => (DeliveryState::Archived, None),
                AckType::Reject => fate(&mut self.retry, true, *deliveries, now),
                AckType::Release => fate(&mut self.retry, false, *deliveries, now),
                AckType::Renew => {
                    *until = now + CONFIG.lock_ms;
                    continue;
                }
            };
            *becoming = Some((ticket, state, due));
            unsaved.push((*at, (state, *deliveries)));
        }
        for (at, said) in unsaved {
            self.unsaved.insert(at, self.stored_as(said));
        }
        true
    }

    /// As a state is stored.
    fn stored_as(&self, (state, deliveries): (DeliveryState, i16)) -> (DeliveryState, i16) {
        match self.retry {
            Some(_) if state.is_final() => (DeliveryState::Acknowledged, 0),
            _ => (state, deliveries),
        }
    }

    /// Records whose time has come.
    pub(super) fn unpark(&mut self, now: u64) {
        for record in self.records.values_mut() {
            if let Record::Parked(deliveries, due) = *record
                && due <= now
            {
                *record = Record::Available(deliveries);
            }
        }
    }

    /// The oldest that are to become dead letters, and were not taken.
    pub(super) fn take_dead(&mut self, count: usize) -> BTreeMap<i64, i16> {
        let untaken = self
            .records
            .iter_mut()
            .filter_map(|(at, record)| match record {
                Record::Dead(deliveries, letter @ Letter::Wanted) => {
                    Some((*at, *deliveries, letter))
                }
                _ => None,
            });
        let taken = untaken.take(count).map(|(at, deliveries, letter)| {
            *letter = Letter::Taken;
            (at, deliveries)
        });
        taken.collect()
    }

    pub(super) fn buried(&mut self, at: i64) {
        let Some(record @ Record::Dead(..)) = self.records.get_mut(&at) else {
            return;
        };
        let Record::Dead(deliveries, _) = *record else {
            return;
        };
        *record = Record::Done;
        let said = self.stored_as((DeliveryState::Archived, deliveries));
        self.unsaved.insert(at, said);
        self.absorb(&[at]);
        self.advance();
    }

    /// What is no record beside what has become done is done too.
    fn absorb(&mut self, changed: &[i64]) {
        for at in changed {
            if self.retry.is_none() || self.records.get(at) != Some(&Record::Done) {
                continue;
            }
            for step in [-1, 1] {
                let mut next = at + step;
                while self.records.get(&next) == Some(&Record::Nothing) {
                    self.records.insert(next, Record::Done);
                    self.unsaved.insert(next, (DeliveryState::Acknowledged, 0));
                    next += step;
                }
            }
        }
    }

    pub(super) fn give_back(
        &mut self,
        which: impl Fn(usize, u64) -> bool,
        departure: Departure,
        now: u64,
    ) {
        let mut unsaved = Vec::new();
        for (at, record) in &mut self.records {
            let Record::Acquired {
                member,
                deliveries,
                until,
                becoming: None,
            } = record
            else {
                continue;
            };
            if !which(*member, *until) {
                continue;
            }
            let ((state, due), deliveries) = match departure {
                Departure::Orderly => ((DeliveryState::Available, None), *deliveries - 1),
                Departure::Lost => {
                    let fate = fate(&mut self.retry, false, *deliveries, now);
                    (fate, *deliveries)
                }
            };
            unsaved.push((*at, (state, deliveries)));
            *record = match state {
                DeliveryState::Archiving => {
                    Record::Dead(deliveries, Letter::Unstored(Ticket(self.gathering)))
                }
                _ => entered(state, due, deliveries),
            };
        }
        let changed: Vec<i64> = unsaved.iter().map(|(at, _)| *at).collect();
        for (at, said) in unsaved {
            self.unsaved.insert(at, self.stored_as(said));
        }
        self.absorb(&changed);
        self.advance();
    }

    pub(super) fn settle(&mut self, write: &Write, is_stored: bool) {
        if is_stored {
            for batch in &write.batches {
                for offset in batch.first.0..=batch.last.0 {
                    self.stored
                        .1
                        .insert(offset, (batch.state, batch.deliveries));
                }
            }
            self.stored.0 = write.start.0;
            self.stored.1 = self.stored.1.split_off(&write.start.0);
        }
        let mut changed = Vec::new();
        for (at, record) in &mut self.records {
            if let Record::Dead(deliveries, letter @ Letter::Unstored(_)) = record
                && *letter == Letter::Unstored(write.ticket)
            {
                *letter = match is_stored {
                    true => Letter::Wanted,
                    false => {
                        let again = (DeliveryState::Archiving, *deliveries);
                        self.unsaved.insert(*at, again);
                        Letter::Unstored(Ticket(self.gathering))
                    }
                };
            }
            let Record::Acquired {
                becoming,
                deliveries,
                ..
            } = record
            else {
                continue;
            };
            let Some((ticket, state, due)) = *becoming else {
                continue;
            };
            if ticket == write.ticket {
                *becoming = None;
                if is_stored {
                    *record = entered(state, due, *deliveries);
                    changed.push(*at);
                }
            }
        }
        self.absorb(&changed);
        self.advance();
    }

    /// The start, and how many are over from there on, once everything on its way is stored.
    pub(super) fn as_if_stored(&self) -> (i64, i64) {
        let is_over = |record: &Record| match record {
            Record::Done | Record::Nothing => true,
            Record::Acquired { becoming, .. } => {
                becoming.is_some_and(|(_, state, _)| state.is_final())
            }
            _ => false,
        };
        let open = self.records.iter().find(|(_, record)| !is_over(record));
        let start = open.map_or(self.end, |(at, _)| *at);
        let over = self
            .records
            .range(start..)
            .filter(|(_, record)| is_over(record));
        (start, i64::try_from(over.count()).unwrap())
    }

    pub(super) fn log_start(&mut self, at: i64) {
        if at > self.start {
            self.records = self.records.split_off(&at);
            self.start = at;
            self.end = self.end.max(at);
            self.advance();
        }
    }

    /// The leader is gone; another begins from what is stored.
    pub(super) fn crash(&mut self, now: u64) {
        let (start, stored) = self.stored.clone();
        let end = stored.last_key_value().map_or(start, |(last, _)| last + 1);
        let record = |offset| match stored.get(&offset) {
            None => Record::Available(0),
            Some((DeliveryState::Available, deliveries)) => Record::Available(*deliveries),
            Some((DeliveryState::Archiving, deliveries)) => {
                Record::Dead(*deliveries, Letter::Wanted)
            }
            Some(_) => Record::Done,
        };
        let records = (start..end).map(|offset| (offset, record(offset)));
        *self = Self {
            start,
            records: records.collect(),
            end,
            stored: (start, stored.clone()),
            order: self.order.as_ref().map(|_| BTreeMap::new()),
            ..Self::new(self.retry.as_ref().map(|(retry, _)| retry), now)
        };
        self.advance();
    }

    fn advance(&mut self) {
        let blocked = self.records.iter().filter_map(|(at, record)| match record {
            Record::Blocked(deliveries) => Some((*at, *deliveries)),
            _ => None,
        });
        for (at, deliveries) in blocked.collect::<Vec<_>>() {
            if self.is_first_of_its_key(at) {
                self.records.insert(at, Record::Available(deliveries));
            }
        }
        while let Some(first) = self.records.first_entry()
            && matches!(first.get(), Record::Done | Record::Nothing)
        {
            first.remove();
        }
        self.start = self
            .records
            .first_key_value()
            .map_or(self.end, |(at, _)| *at);
    }

    /// Whether the engine says the same.
    pub(super) fn check(&self, partition: &mut SharePartition, members: &[MemberId]) {
        assert_eq!(
            (partition.start(), partition.end()),
            (Offset(self.start), Offset(self.end))
        );
        let mut expanded = BTreeMap::new();
        for run in partition.runs.iter() {
            for offset in run.first..=run.last {
                let record = match &run.state {
                    State::Available { deliveries } => Record::Available(*deliveries),
                    State::Acquired {
                        member,
                        deliveries,
                        until,
                        becoming,
                    } => Record::Acquired {
                        member: members.iter().position(|m| m == member).unwrap(),
                        deliveries: *deliveries,
                        until: until.0,
                        becoming: becoming.map(|becoming| {
                            let due = becoming.due.map(|due| due.0);
                            (becoming.ticket, becoming.state, due)
                        }),
                    },
                    State::Blocked { deliveries } => Record::Blocked(*deliveries),
                    // The time is checked where it comes.
                    State::Parked { deliveries } => match self.records.get(&offset) {
                        Some(Record::Parked(_, due)) => Record::Parked(*deliveries, *due),
                        _ => Record::Parked(*deliveries, 0),
                    },
                    State::Dead { deliveries, letter } => Record::Dead(*deliveries, *letter),
                    State::Done => Record::Done,
                    State::Nothing => Record::Nothing,
                };
                expanded.insert(offset, record);
            }
        }
        assert_eq!(expanded, self.records);
        assert_eq!(partition.next_fetch().map(|next| next.0), self.next_fetch());
        let first_lock = self.records.values().filter_map(|record| match record {
            Record::Acquired {
                until,
                becoming: None,
                ..
            } => Some(*until),
            Record::Parked(_, due) => Some(*due),
            _ => None,
        });
        if let Some(first) = first_lock.min() {
            assert!(partition.next_deadline().unwrap() <= MonoMs(first));
        }
        let runs: Vec<_> = partition.runs.iter().collect();
        assert!(runs.windows(2).all(|pair| pair[0].state != pair[1].state));
        assert!(partition.runs.len() <= 3 * usize::try_from(CONFIG.records_max).unwrap() + 2);
    }
}

/// What becomes of a record that was handed out so often.
fn fate(
    retry: &mut Option<(RetryConfig, Breaker)>,
    is_rejected: bool,
    deliveries: i16,
    now: u64,
) -> Becoming {
    let is_given_up = is_rejected || deliveries >= CONFIG.deliveries_max;
    let Some((config, breaker)) = retry else {
        let state = match is_given_up {
            true => DeliveryState::Archived,
            false => DeliveryState::Available,
        };
        return (state, None);
    };
    let mut due = now + config.backoffs.after(deliveries);
    if is_given_up {
        match breaker.take(Millis(now)) {
            Ok(()) if config.has_dead_letters => return (DeliveryState::Archiving, None),
            Ok(()) => return (DeliveryState::Archived, None),
            Err(again) => due = due.max(again.0),
        }
    }
    (DeliveryState::Available, (due > now).then_some(due))
}

/// What a record is once its state is stored.
fn entered(state: DeliveryState, due: Option<u64>, deliveries: i16) -> Record {
    match (state, due) {
        (DeliveryState::Available, Some(due)) => Record::Parked(deliveries, due),
        (DeliveryState::Available, None) => Record::Available(deliveries),
        (DeliveryState::Archiving, _) => Record::Dead(deliveries, Letter::Wanted),
        (DeliveryState::Acknowledged | DeliveryState::Archived, _) => Record::Done,
    }
}
