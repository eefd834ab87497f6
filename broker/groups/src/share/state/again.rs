//! States are said again, so that the log before can go.
//!
//! Updates build on each other and are of one key, so compaction cannot help: without this the log would only grow, and with it the
//! time that the next coordinator needs to load it. What always holds: what is let go of lies before a snapshot of every state that there
//! is, and all of those are durable.

use std::ops::Bound;

use weir_queues::priority::LEVELS;

use super::{ShareStates, StateKey, whole};
use crate::types::{Now, Position};

/// States that are said in one go; the next follow when these are durable, so that requests come in between.
const STEP: usize = 256;

/// How far it is.
#[derive(Debug, Default)]
pub(super) struct Again {
    /// Entries that the log had when it was loaded and that were not let go of since.
    loaded: u64,
    /// What was emitted up to there was let go of.
    forgotten: Position,
    /// Under way.
    round: Option<Round>,
    /// Not told yet.
    told: Option<Position>,
    /// The time of the last request.
    now_ms: i64,
}

/// All states are said once.
#[derive(Debug)]
struct Round {
    /// What was emitted up to there can go in the end.
    from: Position,
    /// The last that was said; none when all are.
    at: Option<StateKey>,
    /// To be durable before it goes on.
    until: Position,
}

impl Again {
    pub(super) fn loaded(entries: u64) -> Self {
        Self {
            loaded: entries,
            ..Self::default()
        }
    }

    pub(super) fn forgettable(&mut self) -> Option<Position> {
        self.told.take()
    }
}

impl ShareStates {
    /// Begins to say everything again when the log has become long.
    pub(super) fn begin_again(&mut self, now: Now) {
        self.again.now_ms = now.wall.0;
        let from = self.out.position();
        let length = self.again.loaded + (from.0 - self.again.forgotten.0);
        let entries = self.states.len() + LEVELS * self.with_levels;
        let entries = u64::try_from(entries).unwrap_or(u64::MAX);
        if self.again.round.is_some() || length <= self.config.entries_max.max(4 * entries) {
            return;
        }
        self.say_again(from, Bound::Unbounded);
        self.go_on_again();
    }

    /// Goes on when what was said is durable.
    pub(super) fn go_on_again(&mut self) {
        while let Some(round) = self
            .again
            .round
            .take_if(|round| round.until <= self.out.durable_to())
        {
            match round.at {
                Some(at) => self.say_again(round.from, Bound::Excluded(at)),
                None => {
                    self.again.loaded = 0;
                    self.again.forgotten = round.from;
                    self.again.told = Some(round.from);
                }
            }
        }
    }

    fn say_again(&mut self, from: Position, after: Bound<StateKey>) {
        let mut states = self.states.range_mut((after, Bound::Unbounded));
        let mut at = None;
        for (key, state) in states.by_ref().take(STEP) {
            whole(&mut self.out, key, state, self.again.now_ms);
            at = Some(key);
        }
        let at = at.cloned().filter(|_| states.next().is_some());
        let until = self.out.position();
        self.again.round = Some(Round { from, at, until });
    }
}
