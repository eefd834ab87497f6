//! The parts of a state where a leader keeps priorities apart.

use std::array;
use std::collections::BTreeMap;

use weir_queues::priority::{LEVELS, Level};
use weir_wire::Offset;

use super::{Changes, ShareStates, State, StateError, StateKey, WriteState, change, stored, whole};
use crate::share::overlay::Overlay;
use crate::share::write::LevelState;
use crate::types::Now;

/// What is kept of one level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::share) struct LevelPart {
    pub(super) start: Offset,
    pub(super) batches: Overlay,
}

impl LevelPart {
    fn apply(&mut self, start: Offset, batches: &Overlay) {
        self.start = self.start.max(start);
        for batch in batches.batches() {
            self.batches.put_unless_final(batch);
        }
        self.batches.drop_below(self.start);
    }

    /// Whether it would have too many batches.
    fn would_pass(&self, batches_max: usize, start: Offset, batches: &Overlay) -> bool {
        if self.batches.len() + 2 * batches.len() <= batches_max {
            return false;
        }
        let mut would_be = self.clone();
        would_be.apply(start, batches);
        would_be.batches.len() > batches_max
    }
}

/// What is kept of each level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::share) struct LevelParts([LevelPart; LEVELS]);

impl LevelParts {
    /// As all levels together were.
    fn of(state: &State) -> Self {
        Self(array::from_fn(|_| LevelPart {
            start: state.start,
            batches: state.batches.clone(),
        }))
    }

    pub(super) fn parts(&self) -> impl Iterator<Item = (Level, &LevelPart)> {
        Level::all().zip(&self.0)
    }

    pub(super) fn states(&self) -> Vec<LevelState> {
        let states = self.parts().map(|(level, part)| LevelState {
            level,
            start: part.start,
            batches: part.batches.batches().collect(),
        });
        states.collect()
    }
}

impl ShareStates {
    /// Stores what a leader says that keeps priorities apart.
    pub(super) fn write_levels(&mut self, request: WriteState, now: Now) -> Result<(), StateError> {
        let key = &request.key;
        let state = self.states.get_mut(key).ok_or(StateError::Uninitialized)?;
        let batches_max = self.config.batches_max;
        let changed = request.levels.into_iter();
        let changed: Vec<(Level, Offset, Overlay)> = changed
            .map(|it| (it.level, it.start, it.batches.into_iter().collect()))
            .collect();
        let begins = state.levels.is_none();
        let mut parts = match state.levels.take() {
            Some(parts) => parts,
            None => Box::new(LevelParts::of(state)),
        };
        let is_too_much = changed.iter().any(|(level, start, batches)| {
            parts.0[level.index()].would_pass(batches_max, *start, batches)
        });
        if is_too_much {
            state.levels = Some(parts).filter(|_| !begins);
            return Err(StateError::BoundReached);
        }
        for (level, start, batches) in &changed {
            parts.0[level.index()].apply(*start, batches);
        }
        state.levels = Some(parts);
        let changes = Changes {
            leader_epoch: request.leader_epoch,
            start: request.start,
            complete_count: request.complete_count,
            batches: Overlay::default(),
        };
        if begins {
            state.apply(&changes);
            state.batches = Overlay::default();
            self.with_levels += 1;
            whole(&mut self.out, key, state, now.wall.0);
            return Ok(());
        }
        for (level, start, batches) in &changed {
            let record = stored::level_update(key, *level, state, (*start, batches));
            self.out.emit(record);
        }
        let updates_max = self.config.updates_per_snapshot;
        change(&mut self.out, key, state, &changes, updates_max, now);
        Ok(())
    }

    /// There is one state for all levels again, or none.
    pub(super) fn end_levels(&mut self, key: &StateKey) {
        self.with_levels -= 1;
        for level in Level::all() {
            self.out.emit(stored::level_tombstone(key, level));
        }
    }
}

/// What a record says of one level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LevelChange {
    /// All of it, as of a snapshot.
    Begin(i32, LevelPart),
    /// What has changed since: where it starts, and more.
    Go(i32, Offset, Overlay),
    /// Levels are kept together.
    End,
}

/// Levels while the log is read. They come before their state's own record.
#[derive(Debug, Default)]
pub(super) struct Loading(BTreeMap<StateKey, [Option<(i32, LevelPart)>; LEVELS]>);

impl Loading {
    pub(super) fn replay(&mut self, key: StateKey, level: Level, said: LevelChange) {
        match said {
            LevelChange::Begin(epoch, part) => {
                self.0.entry(key).or_default()[level.index()] = Some((epoch, part));
            }
            LevelChange::Go(epoch, start, batches) => {
                let parts = self.0.get_mut(&key);
                if let Some((begun, part)) = parts.and_then(|parts| parts[level.index()].as_mut())
                    && *begun == epoch
                {
                    part.apply(start, &batches);
                }
            }
            LevelChange::End => {
                self.0.remove(&key);
            }
        }
    }

    pub(super) fn give_to(self, states: &mut BTreeMap<StateKey, State>) {
        for (key, parts) in self.0 {
            if let Some(state) = states.get_mut(&key) {
                let mut levels = LevelParts::of(state);
                for (part, stored) in levels.0.iter_mut().zip(parts) {
                    if let Some((_, stored)) = stored {
                        *part = stored;
                    }
                }
                state.batches = Overlay::default();
                state.levels = Some(Box::new(levels));
            }
        }
    }
}
