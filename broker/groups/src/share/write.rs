//! What is stored of a share-partition, and what happens when it is.
//!
//! One write is under way at a time; whatever is acknowledged meanwhile gathers into the next, so that many
//! acknowledgements cost one write, and writes arrive in order.

use weir_queues::priority::Level;
use weir_wire::Offset;

use super::overlay::{DeliveryState, StateBatch};
use super::partition::SharePartition;
use super::runs::{Letter, State};

/// Names a write. Later ones are greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// A share-partition as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Of this initialisation of the state.
    pub state_epoch: i32,
    /// Every record before it is done with.
    pub start: Offset,
    /// What is known of records from there on.
    pub batches: Vec<StateBatch>,
    /// Of each level, where messages have priorities: then nothing is in `batches`, and the start is the lowest of theirs. Empty otherwise.
    pub levels: Vec<LevelState>,
}

/// What is stored of the messages of one priority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LevelState {
    /// The priority.
    pub level: Level,
    /// Every record of it before this is done with.
    pub start: Offset,
    /// What is known, or has changed, of records of it from there on.
    pub batches: Vec<StateBatch>,
}

/// To be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Its name.
    pub ticket: Ticket,
    /// The epoch that the state must have.
    pub state_epoch: i32,
    /// Every record before it is done with, once this is stored.
    pub start: Offset,
    /// Records from there on that are done with, once this is stored.
    pub complete_count: i32,
    /// What has changed, in order and without overlap.
    pub batches: Vec<StateBatch>,
    /// What has changed of each level, where messages have priorities.
    pub levels: Vec<LevelState>,
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is stored.
    Stored,
    /// It is not, and will not be: everything is as before the acknowledgements in it.
    Failed,
}

impl SharePartition {
    /// What is to be stored now, if anything is, and nothing is being stored. Tell the outcome with
    /// [`written`](SharePartition::written).
    pub fn take_write(&mut self) -> Option<Write> {
        if self.writing.is_some() || !self.has_unsaved {
            return None;
        }
        let open = self
            .runs
            .states()
            .find(|(_, _, state)| !state.will_be_over());
        let start = open.map_or(self.end, |(first, _, _)| first);
        let complete = self
            .runs
            .states_from(start)
            .filter(|(first, _, state)| *first >= start && state.will_be_over());
        let complete: i64 = complete.map(|(first, last, _)| last - first + 1).sum();
        let mut unsaved = std::mem::take(&mut self.unsaved);
        unsaved.drop_below(Offset(start));
        let ticket = self.gathering;
        self.writing = Some(ticket);
        self.gathering = Ticket(ticket.0 + 1);
        self.has_unsaved = false;
        Some(Write {
            ticket,
            state_epoch: self.state_epoch,
            start: Offset(start),
            complete_count: i32::try_from(complete).unwrap_or(i32::MAX),
            batches: unsaved.batches().collect(),
            levels: Vec::new(),
        })
    }

    pub(super) fn settle(&mut self, outcome: Written) {
        let Some(ticket) = self.writing.take() else {
            return;
        };
        let is_of = |state: &State| match state {
            State::Acquired { becoming, .. } => {
                becoming.is_some_and(|becoming| becoming.ticket == ticket)
            }
            State::Dead { letter, .. } => *letter == Letter::Unstored(ticket),
            _ => false,
        };
        let written: Vec<_> = self.runs.iter().filter(|run| is_of(&run.state)).collect();
        for run in written {
            let batch = |state, deliveries| StateBatch {
                first: Offset(run.first),
                last: Offset(run.last),
                state,
                deliveries,
            };
            match (run.state, outcome) {
                (
                    State::Acquired {
                        deliveries,
                        becoming: Some(becoming),
                        ..
                    },
                    Written::Stored,
                ) => {
                    let batch = batch(becoming.state, deliveries);
                    self.enter(batch, becoming.due, Letter::Wanted);
                }
                (
                    State::Acquired {
                        member,
                        deliveries,
                        until,
                        ..
                    },
                    Written::Failed,
                ) => {
                    let kept = State::Acquired {
                        member,
                        deliveries,
                        until,
                        becoming: None,
                    };
                    self.runs.set(run.first, run.last, kept);
                    // Its lock may have been passed over meanwhile.
                    self.earliest_expiry = Some(
                        self.earliest_expiry
                            .map_or(until, |before| before.min(until)),
                    );
                }
                // That there is to be a letter is stored, and it may be written; or that is to be stored again.
                (State::Dead { deliveries, .. }, outcome) => {
                    let letter = match outcome {
                        Written::Stored => Letter::Wanted,
                        Written::Failed => {
                            self.unsaved
                                .put(batch(DeliveryState::Archiving, deliveries));
                            self.has_unsaved = true;
                            Letter::Unstored(self.gathering)
                        }
                    };
                    self.has_dead |= letter == Letter::Wanted;
                    let dead = State::Dead { deliveries, letter };
                    self.runs.set(run.first, run.last, dead);
                }
                _ => {}
            }
        }
        self.advance_start();
    }
}
