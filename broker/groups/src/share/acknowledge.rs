//! What members say of the records that they were handed.

use thiserror::Error;
use weir_queues::retry::Failure;
use weir_wire::Offset;
use weir_wire::messages::ErrorCode;

use super::overlay::{DeliveryState, StateBatch};
use super::partition::SharePartition;
use super::retrying::{Fate, Fates};
use super::runs::{Becoming, State};
use super::write::Ticket;
use crate::types::{MemberId, MonoMs};

/// What a member says of a record. The numbers are the protocol's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckType {
    /// There is no record at this offset.
    Gap,
    /// Done.
    Accept,
    /// Not done; someone else may try.
    Release,
    /// Cannot be done; nobody shall try.
    Reject,
    /// Still at it (KIP-1222).
    Renew,
}

impl AckType {
    /// From the protocol's number.
    #[must_use]
    pub const fn from_id(id: i8) -> Option<Self> {
        match id {
            0 => Some(Self::Gap),
            1 => Some(Self::Accept),
            2 => Some(Self::Release),
            3 => Some(Self::Reject),
            4 => Some(Self::Renew),
            _ => None,
        }
    }
}

/// What a member says of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AckBatch {
    /// The first offset.
    pub first: Offset,
    /// The last offset.
    pub last: Offset,
    /// One for all of them, or one for each.
    pub types: Vec<AckType>,
}

/// Why acknowledgements were refused. None of a request took effect then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AckError {
    /// The ranges make no sense.
    #[error("ranges must ascend, with one acknowledge type or one for each offset")]
    Malformed,
    /// There is no such record in the window.
    #[error("the record is not among those that were delivered")]
    NotFound,
    /// Its lock has ended, or it was acknowledged before.
    #[error("the record is not acquired, or its acknowledgement is under way")]
    NotAcquired,
    /// Another member has it.
    #[error("the member does not have the record")]
    NotOwner,
}

impl AckError {
    /// Kafka's code for it.
    #[must_use]
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::Malformed => ErrorCode::InvalidRequest,
            Self::NotFound | Self::NotAcquired | Self::NotOwner => ErrorCode::InvalidRecordState,
        }
    }
}

impl SharePartition {
    /// Takes what a member says, all or nothing. The ticket is of the write that makes it so; without one there is nothing to wait
    /// for. Offsets before the start are done with, whatever is said of them.
    ///
    /// # Errors
    /// See [`AckError`].
    pub fn acknowledge(
        &mut self,
        member: &MemberId,
        batches: &[AckBatch],
        now: MonoMs,
    ) -> Result<Option<Ticket>, AckError> {
        self.check(member, batches)?;
        let mut is_written = false;
        for batch in batches {
            for (first, last, kind) in pieces(batch, self.start) {
                is_written |= self.apply(first, last, kind, now);
            }
        }
        Ok(is_written.then_some(self.gathering))
    }

    fn check(&self, member: &MemberId, batches: &[AckBatch]) -> Result<(), AckError> {
        check_form(batches)?;
        batches
            .iter()
            .try_for_each(|batch| self.check_range(member, batch.first.0, batch.last.0))
    }

    /// Whether the member has all of a range.
    pub(super) fn check_range(
        &self,
        member: &MemberId,
        first: i64,
        last: i64,
    ) -> Result<(), AckError> {
        if last < self.start {
            return Ok(());
        }
        if last >= self.end {
            return Err(AckError::NotFound);
        }
        let from = first.max(self.start);
        let runs = self.runs.states_from(from);
        for (_, _, state) in runs.take_while(|(first, _, _)| *first <= last) {
            match state {
                State::Nothing => {}
                State::Acquired {
                    member: holder,
                    becoming: None,
                    ..
                } if holder == member => {}
                State::Acquired { member: holder, .. } if holder != member => {
                    return Err(AckError::NotOwner);
                }
                _ => return Err(AckError::NotAcquired),
            }
        }
        Ok(())
    }

    /// Carries out what was checked. True when something is to be stored.
    pub(super) fn apply(&mut self, first: i64, last: i64, kind: AckType, now: MonoMs) -> bool {
        let mut is_written = false;
        for run in self.runs.within(first..=last) {
            let State::Acquired {
                member,
                deliveries,
                until,
                ..
            } = run.state
            else {
                continue;
            };
            let range = (run.first, run.last);
            let fates = match kind {
                AckType::Accept => Fates::alike(range, DeliveryState::Acknowledged),
                AckType::Gap => Fates::alike(range, DeliveryState::Archived),
                AckType::Reject => self.fates(Failure::Rejected, range, deliveries, now),
                AckType::Release => self.fates(Failure::Released, range, deliveries, now),
                AckType::Renew => {
                    let renewed = State::Acquired {
                        member,
                        deliveries,
                        until: now.after(self.config.lock_ms),
                        becoming: None,
                    };
                    self.runs.set(run.first, run.last, renewed);
                    continue;
                }
            };
            is_written = true;
            self.has_unsaved = true;
            for (first, last, Fate { state, due }) in fates {
                self.unsaved.put(self.stored_as(StateBatch {
                    first: Offset(first),
                    last: Offset(last),
                    state,
                    deliveries,
                }));
                let leaving = State::Acquired {
                    member: member.clone(),
                    deliveries,
                    until,
                    becoming: Some(Becoming {
                        ticket: self.gathering,
                        state,
                        due,
                    }),
                };
                self.runs.set(first, last, leaving);
            }
        }
        is_written
    }
}

/// Whether what a member says makes sense, whatever it has.
pub(super) fn check_form(batches: &[AckBatch]) -> Result<(), AckError> {
    let mut before = -1;
    for batch in batches {
        let (first, last) = (batch.first.0, batch.last.0);
        if first <= before || last < first {
            return Err(AckError::Malformed);
        }
        let count = usize::try_from(last - first).map_or(usize::MAX, |most| most.saturating_add(1));
        if batch.types.len() != 1 && batch.types.len() != count {
            return Err(AckError::Malformed);
        }
        before = last;
    }
    Ok(())
}

/// The parts of a batch, from `start` on, that say the same.
pub(super) fn pieces(batch: &AckBatch, start: i64) -> Vec<(i64, i64, AckType)> {
    if let [kind] = batch.types.as_slice() {
        let from = batch.first.0.max(start);
        return Vec::from_iter((from <= batch.last.0).then_some((from, batch.last.0, *kind)));
    }
    let mut pieces: Vec<(i64, i64, AckType)> = Vec::new();
    for (offset, kind) in (batch.first.0..).zip(&batch.types) {
        match pieces.last_mut() {
            _ if offset < start => {}
            Some(piece) if piece.2 == *kind => piece.1 = offset,
            _ => pieces.push((offset, offset, *kind)),
        }
    }
    pieces
}
