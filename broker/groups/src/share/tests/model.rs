//! A share-partition as one would write it without a thought for speed: a state for each record.

use std::collections::BTreeMap;

use super::*;
use crate::share::DeliveryState;
use crate::share::partition::Departure;
use crate::share::runs::State;
use crate::share::write::{Ticket, Write};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    Available(i16),
    Acquired {
        member: usize,
        deliveries: i16,
        until: u64,
        becoming: Option<(Ticket, DeliveryState)>,
    },
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
}

impl Model {
    pub(super) fn new() -> Self {
        Self {
            gathering: 1,
            ..Self::default()
        }
    }

    pub(super) fn room(&self) -> i64 {
        let counted = self.records.values().filter(|r| **r != Record::Nothing);
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
            let is_record = batch.base.0 <= offset && batch.is_for_consumers;
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
                match self.records.get(&at).cloned() {
                    // It was before the start already, or is since the gap before it was passed.
                    None if at < self.end => {}
                    Some(Record::Available(_)) if !is_record => {
                        self.records.insert(at, Record::Nothing);
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
            let state = match kind {
                AckType::Accept => DeliveryState::Acknowledged,
                AckType::Reject | AckType::Gap => DeliveryState::Archived,
                AckType::Release if *deliveries < CONFIG.deliveries_max => DeliveryState::Available,
                AckType::Release => DeliveryState::Archived,
                AckType::Renew => {
                    *until = now + CONFIG.lock_ms;
                    continue;
                }
            };
            *becoming = Some((ticket, state));
            self.unsaved.insert(*at, (state, *deliveries));
        }
        true
    }

    pub(super) fn give_back(&mut self, which: impl Fn(usize, u64) -> bool, departure: Departure) {
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
            let (state, deliveries) = match departure {
                Departure::Orderly => (DeliveryState::Available, *deliveries - 1),
                Departure::Lost if *deliveries >= CONFIG.deliveries_max => {
                    (DeliveryState::Archived, *deliveries)
                }
                Departure::Lost => (DeliveryState::Available, *deliveries),
            };
            self.unsaved.insert(*at, (state, deliveries));
            *record = match state {
                DeliveryState::Available => Record::Available(deliveries),
                _ => Record::Done,
            };
        }
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
        for record in self.records.values_mut() {
            let Record::Acquired {
                becoming,
                deliveries,
                ..
            } = record
            else {
                continue;
            };
            let Some((ticket, state)) = *becoming else {
                continue;
            };
            if ticket == write.ticket {
                *becoming = None;
                if is_stored {
                    *record = match state {
                        DeliveryState::Available => Record::Available(*deliveries),
                        _ => Record::Done,
                    };
                }
            }
        }
        self.advance();
    }

    /// The start, and how many are over from there on, once everything on its way is stored.
    pub(super) fn as_if_stored(&self) -> (i64, i64) {
        let is_over = |record: &Record| match record {
            Record::Done | Record::Nothing => true,
            Record::Acquired { becoming, .. } => {
                becoming.is_some_and(|(_, state)| state.is_final())
            }
            Record::Available(_) => false,
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
    pub(super) fn crash(&mut self) {
        let (start, stored) = self.stored.clone();
        let end = stored.last_key_value().map_or(start, |(last, _)| last + 1);
        let record = |offset| match stored.get(&offset) {
            None => Record::Available(0),
            Some((DeliveryState::Available, deliveries)) => Record::Available(*deliveries),
            Some(_) => Record::Done,
        };
        let records = (start..end).map(|offset| (offset, record(offset)));
        *self = Self {
            start,
            records: records.collect(),
            end,
            stored: (start, stored.clone()),
            ..Self::new()
        };
        self.advance();
    }

    fn advance(&mut self) {
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
                        becoming: becoming.map(|becoming| (becoming.ticket, becoming.state)),
                    },
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
            _ => None,
        });
        if let Some(first) = first_lock.min() {
            assert!(partition.next_deadline().unwrap() <= MonoMs(first));
        }
        let runs: Vec<_> = partition.runs.iter().collect();
        assert!(runs.windows(2).all(|pair| pair[0].state != pair[1].state));
        assert!(partition.runs.len() <= 2 * usize::try_from(CONFIG.records_max).unwrap() + 1);
    }
}
