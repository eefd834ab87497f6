//! Half messages: what a producer has prepared, and will commit or roll back once its own work is done.
//!
//! A [`Halves`] has those of one partition of `__half_messages`, which producers' groups are spread over; it does no I/O, and is a [`Machine`], which
//! says how it is run. A half is prepared, then decided: rolled back by a record here, or committed by a transaction that whoever runs the
//! machine carries out ([`Action::Commit`], [`Carrying`]). What always holds:
//!
//! - A half has one outcome, which is told when it is durable, and is told again to whoever asks again, for [`Config::kept_ms`].
//! - A commit writes only once its producer is durable here ([`Request::Began`]): whoever is loaded next can end that very transaction, and so finds out whether it was committed.
//! - Transactional ids have numbers, which are taken by a record here ([`Request::Take`]): so each is one machine's, nobody who is loaded later begins in it, and whoever went before cannot
//!   take one of its successor's. An id is one half's until that half's outcome is stored.
//! - Whoever carries out a commit speaks to the machine that has asked for it, and to none that is loaded later.
//! - Of what nobody knows whether it was published nothing is published again ([`State::InDoubt`]).
//! - Everything is bounded: [`Config`] has each bound with its reason.
//!
//! RocketMQ's transaction messages are the model: a half that nobody decides is asked for (`check_after_ms`, `asks_max` times), and rolled
//! back then. Other than there an ask that nobody hears does not count; a half is rolled back [`Config::age_max_ms`] after it was prepared at the latest.

mod carry;
mod commits;
mod request;
mod stored;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use uuid::Uuid;
use weir_wire::LeaderEpoch;

use crate::machine::{Entry, Machine, Outcome, Replayed};
use crate::outbox::{Effects, Outbox};
use crate::stored::StoredError;
use crate::types::{CallId, MonoMs, Now, Position};
pub use carry::{Aborted, Carrying, Step};
pub use request::{
    Action, Ask, Commit, Event, Fate, HalfError, Identity, Measured, Own, Request, Response,
};
use stored::{Messages, Standing, Stored};

/// The internal topic in which halves are kept.
pub const HALVES_TOPIC: &str = "__half_messages";

/// The first number of a transactional id. What is below were slots of earlier versions, which every leader of a shard used.
pub const NUMBER_MIN: u64 = 256;

/// Halves that are handed to one who asks for them, at once.
const ASKS_TOGETHER: usize = 16;

/// Bounds, for each partition of the topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Commits under way at the same time. Each takes a transactional id, which goes from one to the next, and is forgotten with the machine; who coordinates transactions
    /// forgets it when it was unused for `transactional.id.expiration.ms`.
    pub commits_max: usize,
    /// Bytes of messages that are not decided, which lie in memory.
    pub bytes_max: usize,
    /// Halves that are known, decided or not: some hundred bytes each. Where there are more, those that were decided first are forgotten.
    pub halves_max: usize,
    /// Those who wait for something to be asked.
    pub waiting_max: usize,
    /// How long an outcome is remembered, so that a producer may ask again.
    pub kept_ms: i64,
    /// When a half that nobody has decided is rolled back, whether or not anybody could be asked.
    pub age_max_ms: i64,
    /// How often what is too old is looked for.
    pub look_every_ms: u64,
    /// A defect, which the simulation must find: a half that was asked for is not known to who is loaded next.
    pub forgets_asked: bool,
}

impl Default for Config {
    fn default() -> Self {
        const DAY_MS: i64 = 86_400_000;
        Self {
            commits_max: 8,
            bytes_max: 64 << 20,
            halves_max: 200_000,
            waiting_max: 10_000,
            kept_ms: DAY_MS,
            age_max_ms: 7 * DAY_MS,
            look_every_ms: 60_000,
            forgets_asked: false,
        }
    }
}

/// Where a half stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nobody has decided.
    Prepared,
    /// It is being committed.
    Committing {
        /// In the transaction of this one, once one may have begun.
        begun: Option<Identity>,
    },
    /// It is decided.
    Done {
        /// How.
        outcome: Outcome,
        /// When, milliseconds since 1970.
        at_ms: i64,
    },
    /// It may have been published, and will not be again.
    InDoubt {
        /// Since when, milliseconds since 1970.
        at_ms: i64,
    },
}

impl State {
    /// When that was found which does not change any more.
    const fn over_at_ms(self) -> Option<i64> {
        match self {
            Self::Prepared | Self::Committing { .. } => None,
            Self::Done { at_ms, .. } | Self::InDoubt { at_ms } => Some(at_ms),
        }
    }
}

/// One half.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Half {
    prepared: Option<Messages>,
    standing: Standing,
    /// Who waits for its outcome.
    waiting: Vec<CallId>,
    /// Its commit waits for others.
    is_queued: bool,
    due: Option<MonoMs>,
}

impl Half {
    fn new(prepared: Option<Messages>, standing: Standing) -> Self {
        Self {
            prepared,
            standing,
            waiting: Vec::new(),
            is_queued: false,
            due: None,
        }
    }

    fn bytes(&self) -> usize {
        let messages = self.prepared.as_ref();
        messages.map_or(0, |prepared| prepared.messages.len())
    }
}

const NEW: Standing = Standing {
    asked: 0,
    state: State::Prepared,
};

/// The state while a log is read.
#[derive(Debug, Default)]
pub struct Loader {
    halves: BTreeMap<Uuid, Half>,
    /// The first that nobody has taken.
    next_number: u64,
}

/// One who waits for something to be asked.
#[derive(Debug)]
struct Listener {
    call: CallId,
    until: MonoMs,
}

/// The halves of one partition, loaded and ready.
#[derive(Debug)]
pub struct Halves {
    config: Config,
    halves: BTreeMap<Uuid, Half>,
    /// Of those that are not decided.
    bytes: usize,
    /// Those that are decided, or in doubt, by when.
    decided: BTreeSet<(i64, Uuid)>,
    /// When each that is prepared is to be asked for.
    due: BTreeSet<(MonoMs, Uuid)>,
    /// Those for which it is time, by group.
    ready: BTreeMap<String, BTreeSet<Uuid>>,
    listeners: BTreeMap<String, VecDeque<Listener>>,
    listening: usize,
    /// How many are being committed.
    committing: usize,
    /// Those that are to be, in order.
    queue: VecDeque<Uuid>,
    /// Ids of this machine's own that no half has.
    idle: Vec<Identity>,
    /// The first that nobody has taken.
    next_number: u64,
    next_look: MonoMs,
    out: Outbox<Response, Action>,
}

impl Halves {
    fn prepare(&mut self, id: Uuid, of: Messages, now: Now) -> Result<(), HalfError> {
        if self.halves.contains_key(&id) {
            return Err(HalfError::Exists(id));
        }
        let Config {
            halves_max,
            bytes_max,
            ..
        } = self.config;
        while self.halves.len() >= halves_max && self.forget_oldest() {}
        if self.halves.len() >= halves_max || self.bytes + of.messages.len() > bytes_max {
            let why = format!(
                "{} transactions with {} bytes are kept for this producer group and those beside it; at most {halves_max} with {bytes_max} may be",
                self.halves.len(),
                self.bytes
            );
            return Err(HalfError::Bound(why));
        }
        self.bytes += of.messages.len();
        self.emit(Entry::Record(stored::messages(id, &of)));
        self.tally(Event::Prepared);
        let check_after_ms = of.check_after_ms;
        self.halves.insert(id, Half::new(Some(of), NEW));
        self.wait(id, now.mono.after(check_after_ms));
        Ok(())
    }

    /// Forgets what was decided first. False when nothing is.
    fn forget_oldest(&mut self) -> bool {
        let Some((_, id)) = self.decided.pop_first() else {
            return false;
        };
        self.halves.remove(&id);
        self.emit(Entry::Record(stored::nothing(id)));
        true
    }

    fn emit(&mut self, entry: Entry) {
        self.out.emit(Ok(entry));
    }

    /// Tells what was emitted last, once it is durable.
    fn tally(&mut self, event: Event) {
        self.out.act_when_durable(Action::Count(event));
    }

    /// It is asked for when that time comes.
    fn wait(&mut self, id: Uuid, at: MonoMs) {
        if let Some(half) = self.halves.get_mut(&id) {
            half.due = Some(at);
            self.due.insert((at, id));
        }
    }

    /// Nobody is asked for it.
    fn let_be(&mut self, id: Uuid) {
        let Some(half) = self.halves.get_mut(&id) else {
            return;
        };
        if let Some(at) = half.due.take() {
            self.due.remove(&(at, id));
        }
        if let Some(prepared) = &half.prepared
            && let Some(ready) = self.ready.get_mut(&prepared.group)
        {
            ready.remove(&id);
            if ready.is_empty() {
                self.ready.remove(&prepared.group);
            }
        }
    }

    fn end(&mut self, call: CallId, id: Uuid, outcome: Outcome, now: Now) {
        let refused = match self.halves.get_mut(&id) {
            None => HalfError::Unknown(id),
            Some(half) => match (half.standing.state, outcome) {
                (State::Done { outcome: done, .. }, wanted) if done == wanted => {
                    let ended = Response::End(Ok(()));
                    return self.out.reply_when_durable(call, ended);
                }
                (State::InDoubt { .. }, _) => HalfError::InDoubt(id),
                (State::Done { .. }, Outcome::Commit) => HalfError::RolledBack(id),
                (State::Done { .. } | State::Committing { .. }, Outcome::Abort) => {
                    HalfError::Committed(id)
                }
                (State::Prepared, Outcome::Abort) if half.is_queued => HalfError::Committed(id),
                (State::Prepared, Outcome::Abort) => {
                    half.waiting.push(call);
                    return self.decide(id, Outcome::Abort, now);
                }
                (State::Prepared | State::Committing { .. }, Outcome::Commit)
                    if half.waiting.len() >= self.config.waiting_max =>
                {
                    let why = format!("{} wait for its commit already", self.config.waiting_max);
                    HalfError::Bound(why)
                }
                (State::Prepared | State::Committing { .. }, Outcome::Commit) => {
                    half.waiting.push(call);
                    let is_under_way = half.is_queued || half.standing.state != State::Prepared;
                    if !is_under_way {
                        half.is_queued = true;
                        self.let_be(id);
                        self.queue.push_back(id);
                        self.commit_next();
                    }
                    return;
                }
            },
        };
        self.out
            .reply_when_durable(call, Response::End(Err(refused)));
    }

    /// Stores where a half stands.
    fn stand(&mut self, id: Uuid) {
        if let Some(half) = self.halves.get(&id) {
            let record = stored::standing(id, half.standing);
            self.emit(Entry::Record(record));
        }
    }

    /// Stores an outcome, and tells it to who waits.
    fn decide(&mut self, id: Uuid, outcome: Outcome, now: Now) {
        let at_ms = now.wall.0;
        let waiting = self.close(id, State::Done { outcome, at_ms }, at_ms);
        self.tally(Event::Decided(outcome));
        for call in waiting {
            self.out.reply_when_durable(call, Response::End(Ok(())));
        }
    }

    /// Stores where a half stands in the end, and forgets its messages. Who waits for it.
    fn close(&mut self, id: Uuid, state: State, at_ms: i64) -> Vec<CallId> {
        self.let_be(id);
        let Some(half) = self.halves.get_mut(&id) else {
            return Vec::new();
        };
        half.standing.state = state;
        self.bytes -= half.bytes();
        half.prepared = None;
        let waiting = std::mem::take(&mut half.waiting);
        self.decided.insert((at_ms, id));
        let records = vec![stored::standing(id, half.standing), stored::no_messages(id)];
        self.emit(Entry::Together(records));
        waiting
    }

    fn listen(&mut self, call: CallId, group: String, wait_ms: u64, now: Now) {
        if self.listening >= self.config.waiting_max {
            return self.out.reply(call, Response::NextAsks(Vec::new()));
        }
        let until = now.mono.after(wait_ms);
        let listeners = self.listeners.entry(group.clone()).or_default();
        listeners.push_back(Listener { call, until });
        self.listening += 1;
        self.tell(&group, now);
    }

    /// Hands out what is to be asked to those who listen.
    fn tell(&mut self, group: &str, now: Now) {
        while let Some(ready) = self.ready.get(group) {
            let Some(listeners) = self.listeners.get_mut(group) else {
                return;
            };
            // The last that came is the likeliest to be there still.
            let Some(listener) = listeners.pop_back() else {
                return;
            };
            if listeners.is_empty() {
                self.listeners.remove(group);
            }
            self.listening -= 1;
            let ids: Vec<Uuid> = ready.iter().take(ASKS_TOGETHER).copied().collect();
            let asks = ids.into_iter().filter_map(|id| self.ask(id, now)).collect();
            self.out
                .reply_when_durable(listener.call, Response::NextAsks(asks));
        }
    }

    fn ask(&mut self, id: Uuid, now: Now) -> Option<Ask> {
        self.let_be(id);
        let half = self.halves.get_mut(&id)?;
        half.standing.asked += 1;
        let prepared = half.prepared.as_ref()?;
        let ask = Ask {
            id,
            asked: half.standing.asked,
            messages: prepared.messages.clone(),
        };
        let again = now.mono.after(prepared.check_after_ms);
        self.stand(id);
        self.tally(Event::Asked);
        self.wait(id, again);
        Some(ask)
    }

    /// It is time to ask for it, or to ask no more.
    fn is_due(&mut self, id: Uuid, now: Now) {
        let Some(half) = self.halves.get_mut(&id) else {
            return;
        };
        half.due = None;
        let Some(prepared) = &half.prepared else {
            return;
        };
        if half.standing.asked >= prepared.asks_max {
            return self.decide(id, Outcome::Abort, now);
        }
        let group = prepared.group.clone();
        self.ready.entry(group.clone()).or_default().insert(id);
        self.tell(&group, now);
    }

    /// Lets go of those who have listened long enough.
    fn dismiss(&mut self, now: Now) {
        let mut dismissed = Vec::new();
        self.listeners.retain(|_, listeners| {
            listeners.retain(|listener| {
                let stays = listener.until > now.mono;
                if !stays {
                    dismissed.push(listener.call);
                }
                stays
            });
            !listeners.is_empty()
        });
        self.listening -= dismissed.len();
        for call in dismissed {
            self.out.reply(call, Response::NextAsks(Vec::new()));
        }
    }

    /// Rolls back what is too old, and forgets what was decided long ago.
    fn look(&mut self, now: Now) {
        let age_ms = |since: i64| now.wall.0.saturating_sub(since);
        let is_old = |half: &Half| {
            let is_open = half.standing.state == State::Prepared && !half.is_queued;
            let prepared = half.prepared.as_ref().filter(|_| is_open);
            prepared.is_some_and(|of| age_ms(of.prepared_at_ms) >= self.config.age_max_ms)
        };
        let old = self.halves.iter().filter(|(_, half)| is_old(half));
        let old: Vec<Uuid> = old.map(|(id, _)| *id).collect();
        for id in old {
            self.decide(id, Outcome::Abort, now);
        }
        let kept_ms = self.config.kept_ms;
        let is_over = |decided: &(i64, Uuid)| age_ms(decided.0) >= kept_ms;
        while self.decided.first().is_some_and(is_over) {
            self.forget_oldest();
        }
        self.next_look = now.mono.after(self.config.look_every_ms);
    }

    fn measure(&self) -> Measured {
        let undecided = self.halves.len() - self.decided.len();
        let prepared = self
            .halves
            .values()
            .filter_map(|half| half.prepared.as_ref());
        Measured {
            undecided,
            oldest_at_ms: prepared.map(|of| of.prepared_at_ms).min(),
        }
    }
}

impl Machine for Halves {
    const TOPIC: &'static str = HALVES_TOPIC;
    const DUTY: &'static str = "half messages";
    type Config = Config;
    type Loader = Loader;
    type Request = Request;
    type Response = Response;
    type Action = Action;

    fn replay(loader: &mut Loader, entry: Replayed<'_>) -> Result<(), StoredError> {
        let Replayed::Record { key, value, .. } = entry else {
            return Ok(());
        };
        let halves = &mut loader.halves;
        match stored::decode(key, value)? {
            Stored::Messages(id, Some(prepared)) => {
                halves.insert(id, Half::new(Some(prepared), NEW));
            }
            Stored::Messages(id, None) => {
                if let Some(half) = halves.get_mut(&id) {
                    half.prepared = None;
                }
            }
            Stored::Standing(id, Some(standing)) => {
                let half = halves
                    .entry(id)
                    .or_insert_with(|| Half::new(None, standing));
                half.standing = standing;
            }
            Stored::Standing(id, None) => {
                halves.remove(&id);
            }
            Stored::Taken(next) => loader.next_number = next,
            Stored::Other => {}
        }
        Ok(())
    }

    fn load(loader: Loader, config: &Config, _: LeaderEpoch, now: Now) -> Self {
        let mut halves = Self {
            config: config.clone(),
            halves: loader.halves,
            bytes: 0,
            decided: BTreeSet::new(),
            due: BTreeSet::new(),
            ready: BTreeMap::new(),
            listeners: BTreeMap::new(),
            listening: 0,
            committing: 0,
            queue: VecDeque::new(),
            idle: Vec::new(),
            next_number: loader.next_number.max(NUMBER_MIN),
            next_look: now.mono,
            out: Outbox::default(),
        };
        // What compaction has left of a half without the rest of it was decided and forgotten.
        halves.halves.retain(|_, half| {
            half.prepared.is_some() || half.standing.state.over_at_ms().is_some()
        });
        if config.forgets_asked {
            let is_asked = |of: Standing| of.asked > 0 && of.state == State::Prepared;
            halves.halves.retain(|_, half| !is_asked(half.standing));
        }
        halves.bytes = halves.halves.values().map(Half::bytes).sum();
        let ids: Vec<Uuid> = halves.halves.keys().copied().collect();
        for id in ids {
            let half = &halves.halves[&id];
            match (half.standing.state, &half.prepared) {
                (State::Prepared, Some(prepared)) => {
                    // As long as it takes a producer to come back, whoever coordinates.
                    let at = now.mono.after(prepared.check_after_ms);
                    halves.wait(id, at);
                }
                (State::Committing { .. }, _) => {
                    halves.committing += 1;
                    halves.act(id);
                }
                (State::Done { at_ms, .. } | State::InDoubt { at_ms }, _) => {
                    halves.decided.insert((at_ms, id));
                }
                (State::Prepared, None) => {}
            }
        }
        halves
    }

    fn handle(&mut self, call: CallId, request: Request, now: Now) {
        match request {
            Request::Prepare {
                id,
                group,
                check_after_ms,
                asks_max,
                messages,
            } => {
                let of = Messages {
                    group,
                    check_after_ms,
                    asks_max,
                    prepared_at_ms: now.wall.0,
                    messages,
                };
                let prepared = self.prepare(id, of, now);
                self.out
                    .reply_when_durable(call, Response::Prepare(prepared));
            }
            Request::End { id, outcome } => self.end(call, id, outcome, now),
            Request::NextAsks { group, wait_ms } => self.listen(call, group, wait_ms, now),
            Request::Measure => {
                let measured = self.measure();
                self.out.reply(call, Response::Measure(measured));
            }
            Request::Take { id } => {
                let own = self.take(id);
                self.out.reply_when_durable(call, Response::Take(own));
            }
            Request::Began { id, as_whom } => {
                let is_begun = self.began(id, as_whom);
                self.out.reply_when_durable(call, Response::Began(is_begun));
            }
            Request::Finished { id, fate, next } => {
                self.finished(id, fate, next, now);
                self.out.reply_when_durable(call, Response::Finished);
            }
        }
    }

    fn durable(&mut self, position: Position) {
        self.out.durable(position);
    }

    fn tick(&mut self, now: Now) {
        while let Some((at, id)) = self.due.first().copied() {
            if at > now.mono {
                break;
            }
            self.due.pop_first();
            self.is_due(id, now);
        }
        self.dismiss(now);
        if self.next_look <= now.mono {
            self.look(now);
        }
    }

    fn next_deadline(&self) -> MonoMs {
        let due = self.due.first().map(|(at, _)| *at);
        let listeners = self.listeners.values().flatten();
        let listeners = listeners.map(|listener| listener.until);
        due.into_iter()
            .chain(listeners)
            .fold(self.next_look, MonoMs::min)
    }

    fn take_effects(&mut self) -> Effects<Response, Action> {
        self.out.take()
    }

    fn count(&self) -> usize {
        self.halves.len()
    }
}
