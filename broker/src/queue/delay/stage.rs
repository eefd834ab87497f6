//! What waits in one partition, and which ids came, as its leader knows it.
//!
//! A *life* of it begins when the log is read, and ends with the leadership, or when an append went wrong. Its lock is held for
//! some instructions; [`Stage::enter`]'s guard while an append is handed to the lane.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use tokio::sync::Notify;
use weir_queues::Millis;
use weir_queues::dedup::{MessageId, Window};
use weir_queues::delay::{Entry, Waiting};
use weir_wire::{LeaderEpoch, Offset};

use super::split::{Split, Wish};

/// Messages of one partition that may wait: with the packed index that is 60 MB, and at most some 300 MB for the moment in which all of them are due in the
/// same second.
const WAITING_MAX: u64 = 10_000_000;

/// Cancellations that are remembered while messages before them wait, of some 50 bytes each.
const CANCELS_MAX: usize = 200_000;

/// What waits in one partition. See the module.
#[derive(Debug, Default)]
pub struct Stage {
    /// Held by appends while they are handed over, and for the moment in which a life begins: so what was handed over is before it.
    handing_over: RwLock<()>,
    state: Mutex<State>,
    /// Something came that may be due before all else, or nothing blocks any more.
    pub(super) news: Notify,
}

#[derive(Debug, Default)]
struct State {
    life: u64,
    known: Option<Known>,
}

/// What is known once the log was read.
#[derive(Debug)]
struct Known {
    epoch: LeaderEpoch,
    waiting: Waiting,
    cancelled: BTreeMap<MessageId, Offset>,
    ids: Option<Window>,
    /// Whether it was read what waits.
    knows_delays: bool,
    /// What is being appended.
    entered: BTreeMap<u64, Entered>,
    next_ticket: u64,
    /// The least offset of those that are being released.
    releasing: Option<Offset>,
}

#[derive(Clone, Debug)]
struct Entered {
    ids: Vec<MessageId>,
    first_due: Option<Millis>,
    count: u64,
    /// It comes to lie here or behind.
    from: Offset,
}

/// A place among what is being appended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    life: u64,
    number: u64,
}

/// As long as it lives, no new life begins.
#[derive(Debug)]
pub(super) struct HandingOver<'a> {
    ticket: Ticket,
    _guard: RwLockReadGuard<'a, ()>,
}

impl HandingOver<'_> {
    pub(super) fn ticket(&self) -> Ticket {
        self.ticket
    }
}

/// Why a batch cannot be appended as it is.
#[derive(Debug)]
pub(super) enum NotEntered {
    /// It is to be due later.
    Late,
    /// Too much waits.
    Full(String),
}

/// What is known of what a batch asks for.
#[derive(Debug)]
pub(super) enum Seen {
    Known {
        /// Before when nothing in it may be due.
        floor: Millis,
        /// Of its records those that came before, by their numbers, and where.
        before: Vec<(i32, Offset)>,
    },
    /// What becomes of a record with the same id is not certain yet.
    Uncertain,
}

/// What was appended.
#[derive(Debug)]
pub(super) struct Came {
    /// Where the control batch begins.
    pub(super) base: Offset,
    pub(super) waits: Vec<(Millis, i64)>,
    pub(super) cancels: Vec<(MessageId, i64)>,
    /// What its producer is told: the offset of its first record.
    pub(super) told: Offset,
    pub(super) ids: Vec<(i32, MessageId)>,
    pub(super) now_ms: i64,
}

/// What reading the log has found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) waiting: Waiting,
    pub(super) cancelled: BTreeMap<MessageId, Offset>,
    /// Where ids are remembered.
    pub(super) ids: Option<Window>,
    /// Whether it was read what waits.
    pub(super) knows_delays: bool,
}

/// How much waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// How many messages, those that were cancelled included.
    pub messages: u64,
    /// When the next is due; of one that is far, when its second, minute or hour begins.
    pub next_due: Option<Millis>,
}

impl Stage {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new life: nothing is known until the log was read as it is now.
    pub(super) fn begin(&self) -> u64 {
        let _all_handed_over = self
            .handing_over
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let mut state = self.lock();
        state.life += 1;
        state.known = None;
        state.life
    }

    pub(super) fn learn(&self, life: u64, epoch: LeaderEpoch, found: Found) {
        let mut state = self.lock();
        if state.life == life {
            state.known = Some(Known {
                epoch,
                waiting: found.waiting,
                cancelled: found.cancelled,
                ids: found.ids,
                knows_delays: found.knows_delays,
                entered: BTreeMap::new(),
                next_ticket: 0,
                releasing: None,
            });
        }
    }

    /// What is known of a batch that comes now in this epoch; `None` while what it asks for is not.
    pub(super) fn look(&self, epoch: LeaderEpoch, wish: &Wish, now_ms: i64) -> Option<Seen> {
        let mut state = self.lock();
        let known = state.known.as_mut().filter(|known| known.epoch == epoch)?;
        let is_read = (wish.ids.is_empty() || known.ids.is_some())
            && (wish.marks.is_empty() || known.knows_delays);
        is_read.then(|| known.look(&wish.ids, now_ms))
    }

    /// What a batch has is about to be appended, at `from` or behind, made for this floor.
    pub(super) fn enter(
        &self,
        epoch: LeaderEpoch,
        floor: Millis,
        split: &Split,
        from: Offset,
    ) -> Result<HandingOver<'_>, NotEntered> {
        let guard = self
            .handing_over
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let mut state = self.lock();
        let life = state.life;
        let known = state.known.as_mut().filter(|known| known.epoch == epoch);
        // Then there is no floor either.
        let known = known.ok_or(NotEntered::Late)?;
        let first_due = split.first_due();
        if known.waiting.floor() > floor && first_due.is_some_and(|due| due < known.waiting.floor())
        {
            return Err(NotEntered::Late);
        }
        if known.is_there(&split.ids) {
            return Err(NotEntered::Late);
        }
        known.check_room(split)?;
        let number = known.next_ticket;
        known.next_ticket += 1;
        let count = u64::try_from(split.waits.len()).unwrap_or(u64::MAX);
        let entered = Entered {
            ids: split.ids.iter().map(|(_, id)| *id).collect(),
            first_due,
            count,
            from,
        };
        known.entered.insert(number, entered);
        Ok(HandingOver {
            ticket: Ticket { life, number },
            _guard: guard,
        })
    }

    /// It was appended, or will not be.
    pub(super) fn leave(&self, ticket: Ticket, came: Option<Came>) {
        let mut state = self.lock();
        if state.life != ticket.life {
            // It is in what was read when the present life began.
            return;
        }
        let Some(known) = &mut state.known else {
            return;
        };
        known.entered.remove(&ticket.number);
        if let Some(came) = came {
            for (due, number) in came.waits {
                let at = Offset(came.base.0 + number);
                known.waiting.add(Entry { due, at });
            }
            for (id, number) in came.cancels {
                let at = Offset(came.base.0 + number);
                let by = known.cancelled.entry(id).or_insert(at);
                *by = at.max(*by);
            }
            if let Some(window) = &mut known.ids {
                let now = Millis(u64::try_from(came.now_ms).unwrap_or(0));
                for (number, id) in came.ids {
                    let at = Offset(came.told.0 + i64::from(number));
                    window.remember(id, at, now);
                }
            }
        }
        drop(state);
        self.news.notify_one();
    }

    /// At most `count` that are due, in order; they are being released from now on.
    pub(super) fn choose(&self, life: u64, now: Millis, count: usize) -> Vec<Entry> {
        let mut state = self.lock();
        let Some(known) = state.known_in(life) else {
            return Vec::new();
        };
        // What is being appended may turn out to be before anything that is due as late as it.
        let entered = known
            .entered
            .values()
            .filter_map(|entered| entered.first_due);
        let before = entered.min().unwrap_or(Millis(u64::MAX));
        let chosen = known
            .waiting
            .take_due(now.min(Millis(before.0.saturating_sub(1))), count);
        known.releasing = chosen.iter().map(|entry| entry.at).min();
        chosen
    }

    /// Whether a message with this id that lies there was cancelled.
    pub(super) fn is_cancelled(&self, life: u64, id: MessageId, at: Offset) -> bool {
        let mut state = self.lock();
        let known = state.known_in(life);
        known.is_some_and(|known| known.cancelled.get(&id).is_some_and(|by| at < *by))
    }

    /// What was chosen is in the log.
    pub(super) fn released(&self, life: u64) {
        if let Some(known) = self.lock().known_in(life) {
            known.releasing = None;
        }
    }

    /// When to choose again, if there is no news before. `None`: only then.
    pub(super) fn next_wake(&self, life: u64, now: Millis) -> Option<Millis> {
        let mut state = self.lock();
        let wake = state.known_in(life)?.waiting.next_wake();
        // What is due and was not chosen is behind what is being appended.
        wake.filter(|wake| *wake > now)
    }

    /// Where the oldest message lies that waits: the log may be cut up to there. `None` while that is not known.
    #[must_use]
    pub fn oldest(&self) -> Option<Offset> {
        let mut state = self.lock();
        let known = state.known.as_mut()?;
        let entered = known.entered.values().map(|entered| entered.from);
        let oldest = known.waiting.oldest().into_iter().chain(known.releasing);
        let oldest = oldest.chain(entered).min().unwrap_or(Offset(i64::MAX));
        // No message is before them any more.
        known.cancelled.retain(|_, by| *by > oldest);
        Some(oldest)
    }

    /// The partition's configuration has changed, perhaps in what records may ask for.
    pub(crate) fn reconfigured(&self) {
        self.news.notify_one();
    }

    /// How much waits; `None` while that is not known.
    #[must_use]
    pub fn size(&self) -> Option<Size> {
        let state = self.lock();
        let known = state.known.as_ref()?;
        Some(Size {
            messages: known.waiting.len(),
            next_due: known.waiting.next_due(),
        })
    }
}

impl State {
    fn known_in(&mut self, life: u64) -> Option<&mut Known> {
        self.known.as_mut().filter(|_| self.life == life)
    }
}

impl Known {
    fn look(&mut self, ids: &[(i32, MessageId)], now_ms: i64) -> Seen {
        let floor = self.waiting.floor();
        let mut before = Vec::new();
        let Some(window) = self.ids.as_mut().filter(|_| !ids.is_empty()) else {
            return Seen::Known { floor, before };
        };
        let now = Millis(u64::try_from(now_ms).unwrap_or(0));
        let on_their_way: BTreeSet<MessageId> = self
            .entered
            .values()
            .flat_map(|entered| entered.ids.iter().copied())
            .collect();
        // In this batch.
        let mut first = BTreeMap::new();
        for (number, id) in ids {
            if on_their_way.contains(id) {
                return Seen::Uncertain;
            }
            if let Some(at) = window.find(*id, now) {
                before.push((*number, at));
            } else if first.insert(*id, *number).is_some() {
                // The one before it is not in the log yet: what is told of this one is its own place.
                before.push((*number, Offset(-1)));
            }
        }
        Seen::Known { floor, before }
    }

    /// Whether any of these came, or is on its way.
    fn is_there(&self, ids: &[(i32, MessageId)]) -> bool {
        if ids.is_empty() {
            return false;
        }
        let entered = self.entered.values();
        let on_their_way: BTreeSet<MessageId> = entered
            .flat_map(|entered| entered.ids.iter().copied())
            .collect();
        ids.iter().any(|(_, id)| {
            let came = self.ids.as_ref().is_some_and(|window| window.knows(*id));
            came || on_their_way.contains(id)
        })
    }

    fn check_room(&self, split: &Split) -> Result<(), NotEntered> {
        let entered: u64 = self.entered.values().map(|entered| entered.count).sum();
        let waits = self.waiting.len() + entered;
        if waits + split.waits.len() as u64 > WAITING_MAX {
            let why =
                format!("{waits} messages of the partition are delayed; allowed: {WAITING_MAX}");
            return Err(NotEntered::Full(why));
        }
        if self.cancelled.len() + split.cancels.len() > CANCELS_MAX {
            let why = format!(
                "{} cancellations are remembered; allowed: {CANCELS_MAX}",
                self.cancelled.len()
            );
            return Err(NotEntered::Full(why));
        }
        Ok(())
    }
}
