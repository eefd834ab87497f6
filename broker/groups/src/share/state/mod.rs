//! The share coordinator: keeps the states of share-partitions, so that whoever leads one next goes on where the last has
//! stopped.
//!
//! A [`ShareStates`] holds those of one partition of `__share_group_state`, as a [`Machine`] over its log, in Kafka's own
//! records: a *snapshot* of a state, and *updates* on top of it that say what has changed, until there are so many that
//! another snapshot is due. What always holds:
//!
//! - What was answered is durable.
//! - A leader of an earlier epoch, or one whose state was set anew from outside meanwhile, changes nothing.
//! - What a leader has stored as done with stays so, until the state is set anew from outside: of two connections an older one may
//!   bring a write that was given up, and made again, long ago.
//! - Where a leader keeps priorities apart, a state has a part for each level, which begins as what was stored of all. Its own start is then the
//!   lowest of theirs, and what Kafka's tools see; a leader that does not know of levels changes nothing of them. Initialised anew, it has none.
//! - A state takes no more than [`StateConfig::batches_max`] batches.
//! - The log has at most some four entries for each state, or [`StateConfig::entries_max`], before all is said again and the rest is
//!   let go of.

mod again;
mod levels;
mod request;
mod stored;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::convert::Infallible;

use again::Again;
use levels::LevelParts;
pub use request::{
    InitializeState, ReadState, StateError, StateKey, StateRequest, StateResponse, StateSummary,
    WriteState,
};
use stored::Stored;
use weir_wire::{LeaderEpoch, Offset};

use super::overlay::Overlay;
use super::write::Restored;
use crate::machine::{Machine, Replayed};
use crate::outbox::{Effects, Outbox};
use crate::stored::StoredError;
use crate::types::{CallId, MonoMs, Now, Position};

/// The internal topic in which states are kept.
pub const SHARE_STATE_TOPIC: &str = "__share_group_state";

/// The start of a state that was initialised and never written: it is for the leader to find one.
pub const NO_START: Offset = Offset(-1);

/// Bytes of a group's name: the stored format has 16 bits for a length.
pub const NAME_BYTES_MAX: usize = 16_384;

/// Settings of a share coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateConfig {
    /// `share.coordinator.snapshot.update.records.per.snapshot`: more updates make loading slower, fewer make the log larger.
    pub updates_per_snapshot: u32,
    /// Batches of one state: a snapshot of so many must fit one record of 1 MB. A leader whose window is bounded as it should
    /// be never has so many.
    pub batches_max: usize,
    /// States of one shard: each takes a few hundred bytes, and whoever may join a group makes as many as the topics that
    /// it names have partitions.
    pub states_max: usize,
    /// Bytes of a group's name.
    pub name_bytes_max: usize,
    /// Entries of the log that are read again by whoever takes over: 50,000 take some tenths of a second. With more than a quarter as
    /// many states it is four times their number, so that what is said again is a quarter of what is written at most.
    pub entries_max: u64,
}

impl Default for StateConfig {
    fn default() -> Self {
        Self {
            updates_per_snapshot: 500,
            batches_max: 20_000,
            states_max: 200_000,
            name_bytes_max: NAME_BYTES_MAX,
            entries_max: 50_000,
        }
    }
}

/// What is kept of a share-partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) snapshot_epoch: i32,
    pub(super) state_epoch: i32,
    pub(super) leader_epoch: LeaderEpoch,
    pub(super) start: Offset,
    pub(super) complete_count: i32,
    pub(super) batches: Overlay,
    pub(super) levels: Option<Box<LevelParts>>,
    pub(super) created_ms: i64,
    /// Since the snapshot.
    pub(super) updates: u32,
}

/// The states of one shard, loaded and ready.
#[derive(Debug)]
pub struct ShareStates {
    config: StateConfig,
    states: BTreeMap<StateKey, State>,
    /// How many of them have levels.
    with_levels: usize,
    out: Outbox<StateResponse, Infallible>,
    again: Again,
}

/// The states while the log is read.
#[derive(Debug, Default)]
pub struct StateLoader {
    states: BTreeMap<StateKey, State>,
    levels: levels::Loading,
    entries: u64,
}

impl StateLoader {
    fn replay(&mut self, stored: Stored) {
        match stored {
            Stored::Snapshot(key, Some(state)) => {
                self.states.insert(key, state);
            }
            Stored::Snapshot(key, None) => {
                self.states.remove(&key);
            }
            Stored::Update(key, Some(update)) => {
                if let Some(state) = self.states.get_mut(&key)
                    && state.snapshot_epoch == update.snapshot_epoch
                {
                    state.apply(&update.changes);
                }
            }
            Stored::Level(key, level, part) => self.levels.replay(key, level, part),
            Stored::Update(_, None) | Stored::Other => {}
        }
    }
}

/// What a write changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) leader_epoch: LeaderEpoch,
    /// [`NO_START`]: the start stays.
    pub(super) start: Offset,
    pub(super) complete_count: i32,
    pub(super) batches: Overlay,
}

impl State {
    fn apply(&mut self, changes: &Changes) {
        if changes.leader_epoch >= LeaderEpoch(0) {
            self.leader_epoch = changes.leader_epoch;
        }
        self.start = self.start.max(changes.start);
        for batch in changes.batches.batches() {
            self.batches.put_unless_final(batch);
        }
        self.batches.drop_below(self.start);
        self.complete_count = changes.complete_count;
        self.updates += 1;
    }
}

impl ShareStates {
    fn initialize(&mut self, call: CallId, request: InitializeState, now: Now) {
        let key = request.key;
        let before = self.states.get(&key);
        let refused = if key.group.len() > self.config.name_bytes_max || key.group.is_empty() {
            Some(StateError::InvalidRequest)
        } else if before.is_some_and(|state| state.state_epoch > request.state_epoch) {
            Some(StateError::FencedStateEpoch)
        } else if before.is_none() && self.states.len() >= self.config.states_max {
            Some(StateError::BoundReached)
        } else {
            None
        };
        if let Some(error) = refused {
            return self.answer(call, StateResponse::Initialize(Err(error)));
        }
        let had_levels = before.is_some_and(|state| state.levels.is_some());
        let state = State {
            snapshot_epoch: before.map_or(0, |state| state.snapshot_epoch.wrapping_add(1)),
            state_epoch: request.state_epoch,
            leader_epoch: before.map_or(LeaderEpoch(0), |state| state.leader_epoch),
            start: request.start.max(NO_START),
            complete_count: 0,
            batches: Overlay::default(),
            levels: None,
            created_ms: now.wall.0,
            updates: 0,
        };
        if had_levels {
            self.end_levels(&key);
        }
        self.out.emit(stored::snapshot(&key, &state, now.wall.0));
        self.states.insert(key, state);
        self.answer(call, StateResponse::Initialize(Ok(())));
    }

    fn read(&mut self, call: CallId, request: &ReadState, now: Now) {
        let answer = match self.states.get_mut(&request.key) {
            None => Err(StateError::Uninitialized),
            Some(state) if request.leader_epoch < state.leader_epoch => {
                Err(StateError::FencedLeaderEpoch)
            }
            Some(state) => {
                // From here on the leaders before this one write no more.
                if request.leader_epoch > state.leader_epoch {
                    let changes = Changes {
                        leader_epoch: request.leader_epoch,
                        start: NO_START,
                        complete_count: state.complete_count,
                        batches: Overlay::default(),
                    };
                    let updates_max = self.config.updates_per_snapshot;
                    let out = &mut self.out;
                    change(out, &request.key, state, &changes, updates_max, now);
                }
                Ok(Restored {
                    state_epoch: state.state_epoch,
                    start: state.start,
                    batches: match state.levels {
                        Some(_) => Vec::new(),
                        None => state.batches.batches().collect(),
                    },
                    levels: state
                        .levels
                        .as_ref()
                        .map_or_else(Vec::new, |levels| levels.states()),
                })
            }
        };
        self.answer(call, StateResponse::Read(answer));
    }

    fn write(&mut self, call: CallId, request: WriteState, now: Now) {
        let answer = self.written(request, now);
        self.answer(call, StateResponse::Write(answer));
    }

    fn written(&mut self, request: WriteState, now: Now) -> Result<(), StateError> {
        let state = self
            .states
            .get_mut(&request.key)
            .ok_or(StateError::Uninitialized)?;
        if request.leader_epoch < state.leader_epoch {
            return Err(StateError::FencedLeaderEpoch);
        }
        if request.state_epoch != state.state_epoch {
            return Err(StateError::FencedStateEpoch);
        }
        if !request.levels.is_empty() {
            return self.write_levels(request, now);
        }
        if state.levels.is_some() {
            // From before there were levels: it comes late, and they know better.
            return Ok(());
        }
        let changes = Changes {
            leader_epoch: request.leader_epoch,
            start: request.start,
            complete_count: request.complete_count,
            batches: request.batches.into_iter().collect(),
        };
        // Seldom near the bound, so that seldom a copy is made to see.
        let batches_max = self.config.batches_max;
        if state.batches.len() + 2 * changes.batches.len() > batches_max {
            let mut would_be = state.clone();
            would_be.apply(&changes);
            if would_be.batches.len() > batches_max {
                return Err(StateError::BoundReached);
            }
        }
        let updates_max = self.config.updates_per_snapshot;
        let out = &mut self.out;
        change(out, &request.key, state, &changes, updates_max, now);
        Ok(())
    }

    fn summary(&mut self, call: CallId, key: &StateKey) {
        let summary = self.states.get(key).map(|state| StateSummary {
            state_epoch: state.state_epoch,
            leader_epoch: state.leader_epoch,
            start: state.start,
            complete_count: state.complete_count,
        });
        self.answer(call, StateResponse::Summary(summary));
    }

    fn delete(&mut self, call: CallId, key: &StateKey) {
        if let Some(state) = self.states.remove(key) {
            if state.levels.is_some() {
                self.end_levels(key);
            }
            self.out.emit(stored::tombstone(key));
        }
        self.answer(call, StateResponse::Delete);
    }

    fn forget(&mut self, call: CallId, gone: impl Fn(&StateKey) -> bool) {
        let forgotten: Vec<_> = self.states.extract_if(.., |key, _| gone(key)).collect();
        for (key, state) in forgotten {
            if state.levels.is_some() {
                self.end_levels(&key);
            }
            self.out.emit(stored::tombstone(&key));
        }
        self.answer(call, StateResponse::Forget);
    }

    fn answer(&mut self, call: CallId, response: StateResponse) {
        self.out.reply_when_durable(call, response);
    }
}

/// Changes a state, and writes down that it is so.
fn change(
    out: &mut Out,
    key: &StateKey,
    state: &mut State,
    changes: &Changes,
    updates_max: u32,
    now: Now,
) {
    state.apply(changes);
    if state.updates <= updates_max {
        return out.emit(stored::update(key, state.snapshot_epoch, changes));
    }
    whole(out, key, state, now.wall.0);
}

/// Says all of a state; updates after it are on top of it. Its levels come first: what is done of them is known before the start moves.
fn whole(out: &mut Out, key: &StateKey, state: &mut State, now_ms: i64) {
    state.snapshot_epoch = state.snapshot_epoch.wrapping_add(1);
    state.updates = 0;
    for (level, part) in state.levels.iter().flat_map(|levels| levels.parts()) {
        out.emit(stored::level_snapshot(key, level, state, part, now_ms));
    }
    out.emit(stored::snapshot(key, state, now_ms));
}

type Out = Outbox<StateResponse, Infallible>;

impl Machine for ShareStates {
    const TOPIC: &'static str = SHARE_STATE_TOPIC;
    const DUTY: &'static str = "states of share-partitions";
    const LETS_GO: bool = true;
    type Config = StateConfig;
    type Loader = StateLoader;
    type Request = StateRequest;
    type Response = StateResponse;
    type Action = Infallible;

    fn replay(loader: &mut StateLoader, entry: Replayed<'_>) -> Result<(), StoredError> {
        loader.entries += 1;
        match entry {
            Replayed::Record {
                key,
                value,
                pending: None,
            } => {
                loader.replay(Stored::decode(key, value)?);
                Ok(())
            }
            // Nothing is written in transactions.
            Replayed::Record { .. } | Replayed::Marker(_) => Ok(()),
        }
    }

    fn load(loader: StateLoader, config: &StateConfig, _epoch: LeaderEpoch, _now: Now) -> Self {
        let mut states = loader.states;
        loader.levels.give_to(&mut states);
        Self {
            config: config.clone(),
            with_levels: states
                .values()
                .filter(|state| state.levels.is_some())
                .count(),
            states,
            out: Outbox::default(),
            again: Again::loaded(loader.entries),
        }
    }

    fn handle(&mut self, call: CallId, request: StateRequest, now: Now) {
        match request {
            StateRequest::Initialize(request) => self.initialize(call, request, now),
            StateRequest::Read(request) => self.read(call, &request, now),
            StateRequest::Write(request) => self.write(call, request, now),
            StateRequest::Summary(key) => self.summary(call, &key),
            StateRequest::Delete(key) => self.delete(call, &key),
            StateRequest::Forget(topics) => self.forget(call, |key| topics.contains(&key.topic)),
            StateRequest::KeepOnly(topics) => {
                self.forget(call, |key| !topics.contains(&key.topic));
            }
        }
        self.begin_again(now);
    }

    fn durable(&mut self, position: Position) {
        self.out.durable(position);
        self.go_on_again();
    }

    fn forgettable(&mut self) -> Option<Position> {
        self.again.forgettable()
    }

    fn tick(&mut self, _now: Now) {}

    fn next_deadline(&self) -> MonoMs {
        // Nothing happens here by itself.
        MonoMs(u64::MAX)
    }

    fn take_effects(&mut self) -> Effects<StateResponse, Infallible> {
        self.out.take()
    }

    fn count(&self) -> usize {
        self.states.len()
    }
}
