//! One partition's halves, their log, and whoever carries out commits.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use uuid::Uuid;
use weir_wire::{ErrorCode, LeaderEpoch, ProducerEpoch, ProducerId};

use super::*;
use crate::machine::Producer;
use crate::types::WallMs;

mod commits;

const CHECK_MS: u64 = 60_000;
const ASKS: u32 = 3;

fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn identity(number: u64) -> Identity {
    Identity {
        number,
        producer: Producer {
            id: ProducerId(7),
            epoch: ProducerEpoch(0),
        },
    }
}

fn prepare(number: u128) -> Request {
    Request::Prepare {
        id: id(number),
        group: "shop".to_owned(),
        check_after_ms: CHECK_MS,
        asks_max: ASKS,
        messages: Bytes::from(format!("message {number}")),
    }
}

fn end(number: u128, outcome: Outcome) -> Request {
    let id = id(number);
    Request::End { id, outcome }
}

fn listen(wait_ms: u64) -> Request {
    let group = "shop".to_owned();
    Request::NextAsks { group, wait_ms }
}

struct World {
    machine: Halves,
    config: Config,
    log: Vec<Entry>,
    /// Emitted, not durable.
    pending: Vec<Entry>,
    position: Position,
    now: Now,
    calls: u64,
    answers: BTreeMap<u64, Response>,
    actions: Vec<Commit>,
    events: Vec<Event>,
    syncs: bool,
}

impl World {
    fn new() -> Self {
        Self::with(Config::default())
    }

    fn with(config: Config) -> Self {
        let now = Now {
            mono: MonoMs(0),
            wall: WallMs(1_700_000_000_000),
        };
        Self {
            machine: Halves::load(Loader::default(), &config, LeaderEpoch(0), now),
            config,
            log: Vec::new(),
            pending: Vec::new(),
            position: Position::default(),
            now,
            calls: 0,
            answers: BTreeMap::new(),
            actions: Vec::new(),
            events: Vec::new(),
            syncs: true,
        }
    }

    fn send(&mut self, request: Request) -> u64 {
        self.calls += 1;
        self.machine.handle(CallId(self.calls), request, self.now);
        if self.machine.next_deadline() <= self.now.mono {
            self.machine.tick(self.now);
        }
        self.carry();
        self.calls
    }

    fn carry(&mut self) {
        loop {
            let effects = self.machine.take_effects();
            assert!(effects.broken.is_none());
            for reply in effects.replies {
                let before = self.answers.insert(reply.call.0, reply.response);
                assert!(before.is_none(), "answered twice");
            }
            for action in effects.actions {
                match action {
                    Action::Commit(commit) => self.actions.push(*commit),
                    Action::Count(event) => self.events.push(event),
                }
            }
            self.position = effects.position;
            let is_over = effects.entries.is_empty();
            self.pending.extend(effects.entries);
            if is_over {
                return;
            }
            if self.syncs {
                self.sync();
            }
        }
    }

    fn sync(&mut self) {
        self.log.append(&mut self.pending);
        self.machine.durable(self.position);
    }

    fn ask(&mut self, request: Request) -> Response {
        let call = self.send(request);
        self.answers.remove(&call).expect("an answer")
    }

    fn advance(&mut self, ms: u64) {
        let until = self.now.mono.after(ms);
        while self.machine.next_deadline() <= until {
            self.go_to(self.machine.next_deadline());
            self.machine.tick(self.now);
            self.carry();
        }
        self.go_to(until);
    }

    fn go_to(&mut self, at: MonoMs) {
        let ms = at.0.saturating_sub(self.now.mono.0);
        self.now.mono = self.now.mono.after(ms);
        self.now.wall.0 += i64::try_from(ms).unwrap();
    }

    /// What is not durable is lost, and with it all who wait.
    fn crash(&mut self) {
        self.pending.clear();
        self.actions.clear();
        let mut loader = Loader::default();
        for entry in &self.log {
            for replayed in entry.replayed() {
                Halves::replay(&mut loader, replayed).unwrap();
            }
        }
        self.position = Position::default();
        self.machine = Halves::load(loader, &self.config, LeaderEpoch(0), self.now);
        self.carry();
    }

    fn end(&mut self, number: u128, outcome: Outcome) -> Result<(), HalfError> {
        match self.ask(end(number, outcome)) {
            Response::End(ended) => ended,
            other => panic!("{other:?}"),
        }
    }

    fn finish(&mut self, number: u128, fate: Fate) {
        let (id, next) = (id(number), None);
        let finished = self.ask(Request::Finished { id, fate, next });
        assert_eq!(finished, Response::Finished);
    }

    fn asks(&mut self) -> Vec<(Uuid, u32)> {
        let Response::NextAsks(asks) = self.ask(listen(0)) else {
            panic!("asks")
        };
        asks.iter().map(|ask| (ask.id, ask.asked)).collect()
    }
}

#[test]
fn a_half_is_published_when_it_is_committed_and_committing_again_says_the_same() {
    let mut world = World::new();
    assert_eq!(world.ask(prepare(1)), Response::Prepare(Ok(())));
    assert!(world.actions.is_empty());
    let call = world.send(end(1, Outcome::Commit));
    let commit = world.actions.pop().unwrap();
    assert_eq!((commit.id, commit.begun), (id(1), None));
    assert_eq!(commit.messages, "message 1");
    // A second one waits for the same.
    let again = world.send(end(1, Outcome::Commit));
    assert!(world.actions.is_empty() && world.answers.is_empty());
    assert_eq!(
        world.end(1, Outcome::Abort),
        Err(HalfError::Committed(id(1)))
    );
    world.finish(1, Fate::Published);
    for call in [call, again] {
        assert_eq!(world.answers[&call], Response::End(Ok(())));
    }
    world.crash();
    assert_eq!(world.end(1, Outcome::Commit), Ok(()));
    assert_eq!(
        world.end(1, Outcome::Abort),
        Err(HalfError::Committed(id(1)))
    );
    assert!(world.actions.is_empty());
}

#[test]
fn a_half_that_is_rolled_back_is_never_published() {
    let mut world = World::new();
    world.ask(prepare(1));
    assert_eq!(world.end(1, Outcome::Abort), Ok(()));
    assert_eq!(world.end(1, Outcome::Abort), Ok(()));
    assert_eq!(
        world.end(1, Outcome::Commit),
        Err(HalfError::RolledBack(id(1)))
    );
    assert_eq!(
        world.end(2, Outcome::Commit),
        Err(HalfError::Unknown(id(2)))
    );
    world.crash();
    assert_eq!(
        world.end(1, Outcome::Commit),
        Err(HalfError::RolledBack(id(1)))
    );
    assert!(world.actions.is_empty());
    // Which is remembered for a day.
    world.advance(90_000_000);
    assert_eq!(world.end(1, Outcome::Abort), Err(HalfError::Unknown(id(1))));
    world.crash();
    assert_eq!(world.machine.count(), 0);
}

#[test]
fn whoever_is_loaded_next_goes_on_with_the_transaction_that_may_have_begun() {
    let mut world = World::new();
    world.ask(prepare(1));
    world.send(end(1, Outcome::Commit));
    let first = world.actions.pop().unwrap();
    world.crash();
    let second = world.actions.pop().unwrap();
    assert_eq!(second, first);
    let (id, as_whom) = (id(1), identity(NUMBER_MIN));
    let began = Request::Began { id, as_whom };
    assert_eq!(world.ask(began.clone()), Response::Began(true));
    world.crash();
    let third = world.actions.pop().unwrap();
    assert_eq!(third.begun, Some(as_whom));
    world.finish(1, Fate::Published);
    assert_eq!(world.ask(began), Response::Began(false));
    world.crash();
    assert!(world.actions.is_empty());
}

#[test]
fn what_cannot_be_published_stays_prepared() {
    let mut world = World::new();
    world.ask(prepare(1));
    let call = world.send(end(1, Outcome::Commit));
    let full = Fate::Refused(ErrorCode::PolicyViolation, "sold out".to_owned());
    world.finish(1, full);
    let Response::End(Err(HalfError::Refused { code, message })) = &world.answers[&call] else {
        panic!("refused")
    };
    assert_eq!(
        (*code, message.as_str()),
        (ErrorCode::PolicyViolation, "sold out")
    );
    world.crash();
    world.actions.clear();
    world.send(end(1, Outcome::Commit));
    assert_eq!(world.actions.len(), 1);
    world.finish(1, Fate::Refused(ErrorCode::PolicyViolation, String::new()));
    assert_eq!(world.end(1, Outcome::Abort), Ok(()));
}

#[test]
fn a_producer_is_asked_so_often_and_then_the_half_is_rolled_back() {
    let mut world = World::new();
    world.ask(prepare(1));
    assert_eq!(world.asks(), []);
    // Nobody listens, which does not count.
    world.advance(CHECK_MS * 10);
    for time in 1..=ASKS {
        assert_eq!(world.asks(), [(id(1), time)]);
        assert_eq!(world.asks(), [], "not at once again");
        if time == 2 {
            world.crash();
        }
        let waiting = world.send(listen(CHECK_MS / 2));
        world.advance(CHECK_MS / 2);
        assert_eq!(world.answers[&waiting], Response::NextAsks(Vec::new()));
        world.advance(CHECK_MS / 2);
    }
    assert_eq!(world.asks(), []);
    assert_eq!(
        world.end(1, Outcome::Commit),
        Err(HalfError::RolledBack(id(1)))
    );
}

#[test]
fn who_listens_is_asked_as_soon_as_it_is_time_and_only_one_of_them() {
    let mut world = World::new();
    let first = world.send(listen(CHECK_MS * 2));
    let second = world.send(listen(CHECK_MS * 2));
    world.ask(prepare(1));
    world.advance(CHECK_MS);
    // Who came last: of the others one may have gone.
    let Response::NextAsks(asks) = &world.answers[&second] else {
        panic!("asks")
    };
    assert_eq!(asks[0].messages, "message 1");
    assert!(!world.answers.contains_key(&first));
    assert_eq!(world.end(1, Outcome::Abort), Ok(()));
    world.advance(CHECK_MS * 2);
    assert_eq!(world.answers[&first], Response::NextAsks(Vec::new()));
}

#[test]
fn a_half_that_nobody_can_be_asked_for_is_rolled_back_in_the_end() {
    let mut world = World::new();
    world.ask(prepare(1));
    world.advance(7 * 86_400_000 + 120_000);
    assert_eq!(world.asks(), []);
    assert_eq!(world.machine.count(), 1, "remembered for a day");
}

#[test]
fn commits_wait_for_each_other_and_bounds_are_named() {
    let config = Config {
        commits_max: 1,
        halves_max: 2,
        ..Config::default()
    };
    let mut world = World::with(config);
    world.ask(prepare(1));
    world.ask(prepare(2));
    let Response::Prepare(Err(HalfError::Bound(why))) = world.ask(prepare(3)) else {
        panic!("a bound")
    };
    assert!(why.contains("at most 2"), "{why}");
    world.send(end(1, Outcome::Commit));
    world.send(end(2, Outcome::Commit));
    assert_eq!(world.actions.len(), 1);
    assert_eq!(
        world.end(2, Outcome::Abort),
        Err(HalfError::Committed(id(2)))
    );
    world.finish(1, Fate::Published);
    assert_eq!(world.actions.len(), 2);
    assert_eq!(world.actions[1].id, id(2));
}

#[test]
fn what_was_decided_first_makes_room_for_more() {
    let config = Config {
        halves_max: 2,
        ..Config::default()
    };
    let mut world = World::with(config);
    for half in [1, 2] {
        world.ask(prepare(half));
        assert_eq!(world.end(half, Outcome::Abort), Ok(()));
        world.advance(1);
    }
    assert_eq!(world.ask(prepare(3)), Response::Prepare(Ok(())));
    world.crash();
    assert_eq!(world.end(1, Outcome::Abort), Err(HalfError::Unknown(id(1))));
    assert_eq!(world.end(2, Outcome::Abort), Ok(()));
}

#[test]
fn a_record_that_is_cut_or_unknown_is_named() {
    let standing = stored::standing(id(1), NEW);
    let mut loader = Loader::default();
    let mut replay = |key: &[u8], value: Option<&[u8]>| {
        let pending = None;
        let entry = Replayed::Record {
            key,
            value,
            pending,
        };
        Halves::replay(&mut loader, entry)
    };
    let value = standing.value.unwrap();
    for len in 0..value.len() {
        assert!(replay(&standing.key, Some(&value[..len])).is_err(), "{len}");
    }
    assert!(replay(&standing.key[..17], Some(&value)).is_err());
    // Of a kind that a later version may write.
    assert!(replay(&[0, 9, 1], Some(&[1])).is_ok());
}

#[derive(Clone, Debug)]
enum Step {
    Prepare(u128),
    End(u128, bool),
    Listen,
    Began(u128),
    Finish(u128, bool),
    Durable,
    Advance(u64),
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let half = 0..4u128;
    let step = prop_oneof![
        4 => half.clone().prop_map(Step::Prepare),
        5 => (half.clone(), any::<bool>()).prop_map(|(half, commit)| Step::End(half, commit)),
        2 => Just(Step::Listen),
        3 => half.clone().prop_map(Step::Began),
        4 => (half, any::<bool>()).prop_map(|(half, well)| Step::Finish(half, well)),
        6 => Just(Step::Durable),
        2 => prop_oneof![Just(100u64), Just(CHECK_MS)].prop_map(Step::Advance),
        1 => Just(Step::Crash),
    ];
    proptest::collection::vec(step, 1..150)
}

/// What its producer was told of each half, and what was published of it.
#[derive(Default)]
struct Seen {
    told: BTreeMap<Uuid, Outcome>,
    published: BTreeMap<Uuid, u32>,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// The naive model: a half has the outcome that anybody was told first, and is published once if that is a commit, and else never.
    #[test]
    fn a_half_has_one_outcome_whatever_happens(steps in steps()) {
        let config = Config { commits_max: 2, ..Config::default() };
        let mut world = World::with(config);
        world.syncs = false;
        let mut seen = Seen::default();
        let mut asked: BTreeMap<u64, (Uuid, Outcome)> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Prepare(half) => { world.send(prepare(half)); }
                Step::End(half, commits) => {
                    let outcome = if commits { Outcome::Commit } else { Outcome::Abort };
                    let call = world.send(end(half, outcome));
                    asked.insert(call, (id(half), outcome));
                }
                Step::Listen => { world.send(listen(1_000)); }
                Step::Began(half) => {
                    if world.actions.iter().any(|commit| commit.id == id(half)) {
                        let (id, as_whom) = (id(half), identity(NUMBER_MIN));
                        world.send(Request::Began { id, as_whom });
                    }
                }
                Step::Finish(half, well) => {
                    let at = world.actions.iter().position(|commit| commit.id == id(half));
                    if let Some(at) = at {
                        let commit = world.actions.remove(at);
                        // What the transaction has done holds, whatever becomes of the news; a later attempt finds it.
                        let done = seen.published.contains_key(&commit.id);
                        let well = well || done;
                        if well && !done {
                            seen.published.insert(commit.id, 1);
                        }
                        let fate = if well { Fate::Published } else { Fate::Refused(ErrorCode::PolicyViolation, String::new()) };
                        world.send(Request::Finished { id: commit.id, fate, next: None });
                    }
                }
                Step::Durable => { world.sync(); world.carry(); }
                Step::Advance(ms) => world.advance(ms),
                Step::Crash => { world.crash(); asked.clear(); world.answers.clear(); }
            }
            prop_assert!(world.actions.len() <= 2, "more commits than may be");
            for (call, answer) in std::mem::take(&mut world.answers) {
                let Some((id, wanted)) = asked.remove(&call) else { continue };
                let Response::End(answer) = answer else { panic!("{answer:?}") };
                let outcome = match answer {
                    Ok(()) => wanted,
                    Err(HalfError::RolledBack(_)) => Outcome::Abort,
                    // It may still be on its way.
                    Err(_) => continue,
                };
                let before = *seen.told.entry(id).or_insert(outcome);
                prop_assert_eq!(before, outcome, "told otherwise before");
                let is_published = seen.published.contains_key(&id);
                prop_assert_eq!(is_published, outcome == Outcome::Commit);
            }
        }
        // Everything that is being committed comes to an end.
        world.syncs = true;
        world.sync();
        world.carry();
        world.crash();
        for commit in std::mem::take(&mut world.actions) {
            world.send(Request::Finished { id: commit.id, fate: Fate::Published, next: None });
        }
        for (id, outcome) in seen.told {
            let (again, other) = match outcome {
                Outcome::Commit => (Outcome::Commit, Outcome::Abort),
                Outcome::Abort => (Outcome::Abort, Outcome::Commit),
            };
            prop_assert_eq!(world.ask(Request::End { id, outcome: again }), Response::End(Ok(())));
            let refused = world.ask(Request::End { id, outcome: other });
            prop_assert!(matches!(refused, Response::End(Err(_))), "{:?}", refused);
        }
    }
}
