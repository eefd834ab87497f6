//! What the engine does by itself, told to whoever traces messages. Nothing is gathered unless somebody asked for it.

use weir_wire::Offset;

use super::overlay::{DeliveryState, StateBatch};
use super::partition::SharePartition;
use super::runs::State;
use crate::types::MonoMs;

/// Ranges that are gathered until they are taken; of more nobody is told.
const TOLD_MAX: usize = 4_096;

/// What became of a range of records that were out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// A lock ended, or a member was gone: they may be handed out again.
    Returned {
        /// The first.
        first: Offset,
        /// The last.
        last: Offset,
        /// How often they were handed out.
        deliveries: i16,
    },
    /// They wait before they are handed out again.
    Parked {
        /// The first.
        first: Offset,
        /// The last.
        last: Offset,
        /// How often they were handed out.
        deliveries: i16,
        /// Until then.
        until: MonoMs,
    },
    /// They are given up.
    GivenUp {
        /// The first.
        first: Offset,
        /// The last.
        last: Offset,
        /// How often they were handed out.
        deliveries: i16,
    },
}

impl SharePartition {
    /// What has become of records since the last time; with `gathers` it is gathered from now on, too.
    pub fn take_told(&mut self, gathers: bool) -> Vec<Told> {
        let told = self.told.take().unwrap_or_default();
        self.told = gathers.then(Vec::new);
        told
    }

    fn is_dead(&self, first: Offset, last: Offset) -> bool {
        let runs = self.runs.within(first.0..=last.0);
        runs.iter()
            .any(|run| matches!(run.state, State::Dead { .. }))
    }

    fn tell(&mut self, told: Told) {
        if let Some(all) = self.told.as_mut().filter(|all| all.len() < TOLD_MAX) {
            all.push(told);
        }
    }

    /// Records are what a member or the engine has made of them.
    pub(super) fn tell_of(&mut self, batch: StateBatch, due: Option<MonoMs>) {
        if self.told.is_none() {
            return;
        }
        let StateBatch {
            first,
            last,
            deliveries,
            ..
        } = batch;
        match (batch.state, due) {
            (DeliveryState::Available, Some(until)) if self.retrying.is_some() => {
                self.tell(Told::Parked {
                    first,
                    last,
                    deliveries,
                    until,
                });
            }
            // It was told when that was decided, and its dead letter is written now.
            (DeliveryState::Archived, _) if self.is_dead(first, last) => {}
            (DeliveryState::Archiving | DeliveryState::Archived, _) => {
                self.tell(Told::GivenUp {
                    first,
                    last,
                    deliveries,
                });
            }
            (DeliveryState::Available | DeliveryState::Acknowledged, _) => {}
        }
    }

    /// Records were taken back from who had them.
    pub(super) fn tell_returned(&mut self, batch: StateBatch, due: Option<MonoMs>) {
        if batch.state == DeliveryState::Available && (due.is_none() || self.retrying.is_none()) {
            let StateBatch {
                first,
                last,
                deliveries,
                ..
            } = batch;
            self.tell(Told::Returned {
                first,
                last,
                deliveries,
            });
        }
    }
}
