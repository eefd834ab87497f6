//! Runs of offsets in the same state: what a share-partition knows of the records in its window.
//!
//! What always holds: the runs lie side by side without a hole, from the first offset of the window to its end; so an
//! offset is in one state. Neighbours that say the same are one run, so that memory follows what differs, not how many
//! records there are: a batch of ten thousand that is out with one member is one run.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::overlay::DeliveryState;
use super::write::Ticket;
use crate::types::{MemberId, MonoMs};

/// What holds of each record of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// May be handed out.
    Available {
        /// How often it was.
        deliveries: i16,
    },
    /// Is out.
    Acquired {
        /// With whom.
        member: MemberId,
        /// How often it was handed out, this time included.
        deliveries: i16,
        /// When it may be handed out again, if nothing is heard.
        until: MonoMs,
        /// What it will be once that is stored.
        becoming: Option<Becoming>,
    },
    /// Waits for an older record of its key.
    Blocked {
        /// How often it was handed out.
        deliveries: i16,
    },
    /// Waits for its time.
    Parked {
        /// How often it was handed out.
        deliveries: i16,
    },
    /// Is to become a dead letter.
    Dead {
        /// How often it was handed out.
        deliveries: i16,
        /// How far that is.
        letter: Letter,
    },
    /// Acknowledged or given up, for good.
    Done,
    /// Nothing that a consumer could be given: a control batch, an aborted record, an offset that was compacted away.
    Nothing,
}

/// How far a dead letter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Letter {
    /// That there is to be one is stored by this write. Before it is, whoever took over would hand the record out again.
    Unstored(Ticket),
    /// It is to be written.
    Wanted,
    /// Somebody is about to write it.
    Taken,
}

/// An acknowledgement on its way to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Becoming {
    pub(super) ticket: Ticket,
    pub(super) state: DeliveryState,
    /// When it may be handed out again, if that is not at once.
    pub(super) due: Option<MonoMs>,
}

impl State {
    /// Whether it is out with this member, which has not said anything of it that is being stored.
    pub(super) fn is_held_by(&self, member: &MemberId) -> bool {
        matches!(self, Self::Acquired { member: holder, becoming: None, .. } if holder == member)
    }

    /// Whether it will never be handed out again.
    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Done | Self::Nothing)
    }

    /// As [`is_over`](Self::is_over), with every write on its way taken as done.
    pub(super) fn will_be_over(&self) -> bool {
        let becoming = match self {
            Self::Acquired { becoming, .. } => becoming.as_ref(),
            _ => None,
        };
        self.is_over() || becoming.is_some_and(|becoming| becoming.state.is_final())
    }
}

/// A run within its bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) state: State,
}

/// The runs of a window. See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Runs {
    /// By first offset: the last, and the state.
    map: BTreeMap<i64, (i64, State)>,
}

impl Runs {
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Run> + '_ {
        self.map.iter().map(|(first, (last, state))| Run {
            first: *first,
            last: *last,
            state: state.clone(),
        })
    }

    /// As [`iter`](Self::iter), without copies.
    pub(super) fn states(&self) -> impl Iterator<Item = (i64, i64, &State)> {
        self.map
            .iter()
            .map(|(first, (last, state))| (*first, *last, state))
    }

    /// From the run that has `offset` on.
    pub(super) fn states_from(&self, offset: i64) -> impl Iterator<Item = (i64, i64, &State)> {
        let from = self
            .map
            .range(..=offset)
            .next_back()
            .map_or(offset, |(first, _)| *first);
        self.map
            .range(from..)
            .map(|(first, (last, state))| (*first, *last, state))
    }

    /// What holds in a range, cut to it.
    pub(super) fn within(&self, range: RangeInclusive<i64>) -> Vec<Run> {
        let (from, to) = range.into_inner();
        if from > to {
            return Vec::new();
        }
        let overlapping = self
            .states_from(from)
            .take_while(|(first, _, _)| *first <= to)
            .filter(|(_, last, _)| *last >= from);
        let cut = overlapping.map(|(first, last, state)| Run {
            first: first.max(from),
            last: last.min(to),
            state: state.clone(),
        });
        cut.collect()
    }

    /// Puts a run behind the last one, or over what is there.
    pub(super) fn set(&mut self, first: i64, last: i64, state: State) {
        debug_assert!(first <= last, "an empty run");
        self.split(first);
        self.split(last + 1);
        let covered: Vec<i64> = self
            .map
            .range(first..=last)
            .map(|(first, _)| *first)
            .collect();
        for key in covered {
            self.map.remove(&key);
        }
        self.map.insert(first, (last, state));
        self.join(last + 1);
        self.join(first);
    }

    /// Forgets everything below `offset`.
    pub(super) fn drop_below(&mut self, offset: i64) {
        self.split(offset);
        self.map = self.map.split_off(&offset);
    }

    /// Makes `offset` the first of a run, when it is within one.
    fn split(&mut self, offset: i64) {
        let Some((_, (last, state))) = self.map.range_mut(..offset).next_back() else {
            return;
        };
        if *last < offset {
            return;
        }
        let behind = (*last, state.clone());
        *last = offset - 1;
        self.map.insert(offset, behind);
    }

    /// Makes the run that begins at `first` part of the one before it, when they say the same.
    fn join(&mut self, first: i64) {
        let Some((last, state)) = self.map.get(&first) else {
            return;
        };
        let last = *last;
        let same = self
            .map
            .range(..first)
            .next_back()
            .is_some_and(|(_, (before, other))| *before + 1 == first && other == state);
        if same {
            self.map.remove(&first);
            if let Some((_, (before, _))) = self.map.range_mut(..first).next_back() {
                *before = last;
            }
        }
    }
}
