//! Commits: in which ids, against a coordinator of transactions that loses requests and answers, with leaders that do not know that they are none any more.

use std::collections::BTreeMap;

use super::super::carry::Step;
use super::*;

impl World {
    fn take(&mut self, number: u128) -> Option<Own> {
        let id = id(number);
        match self.ask(Request::Take { id }) {
            Response::Take(own) => own,
            other => panic!("{other:?}"),
        }
    }

    fn committing(&mut self, number: u128) {
        self.ask(prepare(number));
        self.send(end(number, Outcome::Commit));
    }
}

#[test]
fn an_id_is_taken_once_whoever_is_loaded_and_goes_from_one_half_to_the_next() {
    let mut world = World::new();
    assert_eq!(world.take(1), None, "nobody commits it");
    for half in [1, 2] {
        world.committing(half);
    }
    assert_eq!(world.take(1), Some(Own::New(NUMBER_MIN)));
    assert_eq!(world.take(1), Some(Own::New(NUMBER_MIN + 1)));
    world.crash();
    // Of the same epoch, and all the same.
    assert_eq!(world.take(2), Some(Own::New(NUMBER_MIN + 2)));
    let next = identity(NUMBER_MIN + 2);
    let fate = Fate::Published;
    world.ask(Request::Finished {
        id: id(2),
        fate,
        next: Some(next),
    });
    assert_eq!(world.take(1), Some(Own::Used(next)));
    assert_eq!(world.take(1), Some(Own::New(NUMBER_MIN + 3)));
    // Its epochs are nearly used up.
    let mut worn = next;
    worn.producer.epoch = ProducerEpoch(30_001);
    let fate = Fate::Refused(ErrorCode::PolicyViolation, String::new());
    world.ask(Request::Finished {
        id: id(1),
        fate,
        next: Some(worn),
    });
    world.committing(3);
    assert_eq!(world.take(3), Some(Own::New(NUMBER_MIN + 4)));
}

#[test]
fn an_id_is_not_given_before_it_is_known_to_be_taken() {
    let mut world = World::new();
    world.committing(1);
    world.syncs = false;
    let call = world.send(Request::Take { id: id(1) });
    assert!(!world.answers.contains_key(&call));
    world.crash();
    world.syncs = true;
    assert_eq!(world.take(1), Some(Own::New(NUMBER_MIN)));
}

#[test]
fn what_is_in_doubt_is_neither_published_again_nor_said_to_be_rolled_back() {
    let mut world = World::new();
    world.ask(prepare(1));
    let call = world.send(end(1, Outcome::Commit));
    world.finish(1, Fate::Unknown);
    let doubt = Err(HalfError::InDoubt(id(1)));
    assert_eq!(world.answers[&call], Response::End(doubt.clone()));
    assert_eq!(world.events.last(), Some(&Event::InDoubt));
    for _ in 0..2 {
        world.actions.clear();
        for outcome in [Outcome::Commit, Outcome::Abort] {
            assert_eq!(world.end(1, outcome), doubt);
        }
        assert!(world.actions.is_empty());
        world.crash();
    }
    let measured = Response::Measure(Measured::default());
    assert_eq!(world.ask(Request::Measure), measured);
    // Which is remembered for a day.
    world.advance(90_000_000);
    assert_eq!(
        world.end(1, Outcome::Commit),
        Err(HalfError::Unknown(id(1)))
    );
}

#[test]
fn everything_that_happens_is_counted_when_it_is_durable() {
    let mut world = World::new();
    world.ask(prepare(1));
    let measured = Measured {
        undecided: 1,
        oldest_at_ms: Some(world.now.wall.0),
    };
    assert_eq!(world.ask(Request::Measure), Response::Measure(measured));
    world.advance(CHECK_MS);
    world.asks();
    world.syncs = false;
    world.send(end(1, Outcome::Abort));
    assert_eq!(world.events, [Event::Prepared, Event::Asked]);
    world.sync();
    world.carry();
    assert_eq!(world.events.last(), Some(&Event::Decided(Outcome::Abort)));
}

/// As version 0 wrote it: slots, which every leader has used.
#[test]
fn what_an_earlier_version_has_stored_is_read_and_it_reads_what_is_stored_now() {
    let record = stored::standing(id(1), NEW);
    let old = |state: &[u8]| {
        let mut value = vec![0, 0, 0, 0, 0, 2];
        value.extend_from_slice(state);
        match stored::decode(&record.key, Some(&value)).unwrap() {
            Stored::Standing(_, Some(standing)) => (standing.asked, standing.state),
            other => panic!("{other:?}"),
        }
    };
    let committing = [1, 3, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0];
    let begun = Some(identity(3));
    assert_eq!(old(&committing), (2, State::Committing { begun }));
    let nobody = [&[1, 3][..], &[255; 10]].concat();
    assert_eq!(old(&nobody), (2, State::Committing { begun: None }));
    let done = |outcome| State::Done { outcome, at_ms: 9 };
    assert_eq!(
        old(&[2, 0, 0, 0, 0, 0, 0, 0, 9]),
        (2, done(Outcome::Commit))
    );
    assert_eq!(old(&[3, 0, 0, 0, 0, 0, 0, 0, 9]), (2, done(Outcome::Abort)));

    let states = [
        State::Committing { begun: None },
        State::Committing { begun },
        State::Committing {
            begun: Some(identity(NUMBER_MIN)),
        },
        done(Outcome::Commit),
        done(Outcome::Abort),
        State::InDoubt { at_ms: 9 },
    ];
    for state in states {
        let standing = Standing { asked: 2, state };
        let record = stored::standing(id(1), standing);
        let value = record.value.unwrap();
        let Stored::Standing(_, read) = stored::decode(&record.key, Some(&value)).unwrap() else {
            panic!("where it stands");
        };
        assert_eq!(read, Some(standing));
        for len in 0..value.len() {
            assert!(stored::decode(&record.key, Some(&value[..len])).is_err());
        }
        // Version 0 takes what it knows, and a doubt for "rolled back".
        let taken_for = match state {
            State::InDoubt { .. } => done(Outcome::Abort),
            State::Committing { begun: Some(begun) } => State::Committing {
                begun: Some(Identity {
                    number: begun.number.min(255),
                    ..begun
                }),
            },
            state => state,
        };
        assert_eq!(old(&value[6..]), (2, taken_for));
    }
}

/// A transactional id, as who coordinates transactions has it.
#[derive(Clone, Copy, Debug)]
struct Known {
    epoch: i16,
    /// What the last transaction came to, if there was one in this epoch less one.
    last: Option<Outcome>,
    /// Written in, by whom.
    open: Option<u128>,
}

/// The coordinator of transactions (KIP-890, version 2): each end of a transaction is one epoch more.
#[derive(Debug, Default)]
struct Coordinator {
    ids: BTreeMap<u64, Known>,
    published: BTreeMap<u128, u32>,
}

impl Coordinator {
    fn init(&mut self, number: u64) -> Producer {
        let known = self.ids.entry(number).or_insert(Known {
            epoch: -1,
            last: None,
            open: None,
        });
        // What is open is aborted.
        known.epoch += 1 + i16::from(known.open.is_some());
        known.open = None;
        known.last = None;
        who(known.epoch)
    }

    fn write(&mut self, of: Identity, half: u128) -> bool {
        let Some(known) = self.ids.get_mut(&of.number) else {
            return false;
        };
        if known.epoch != of.producer.epoch.0 {
            return false;
        }
        known.open = Some(half);
        true
    }

    fn end(&mut self, of: Identity, outcome: Outcome) -> Result<Producer, Aborted> {
        let known = self.ids.get_mut(&of.number).ok_or(Aborted::Unknown)?;
        let epoch = of.producer.epoch.0;
        if epoch == known.epoch {
            if outcome == Outcome::Commit {
                let half = known.open.ok_or(Aborted::Never)?;
                *self.published.entry(half).or_default() += 1;
            }
            known.open = None;
            known.epoch += 1;
            known.last = Some(outcome);
            return Ok(who(known.epoch));
        }
        match known.last {
            Some(last) if epoch + 1 == known.epoch && known.open.is_none() => match last == outcome
            {
                true => Ok(who(known.epoch)),
                false => Err(Aborted::Never),
            },
            _ => Err(Aborted::Unknown),
        }
    }
}

fn who(epoch: i16) -> Producer {
    Producer {
        id: ProducerId(7),
        epoch: ProducerEpoch(epoch),
    }
}

/// Somebody who carries out a commit.
#[derive(Debug)]
struct Carrier {
    half: u128,
    carrying: Carrying,
    /// In which life of the machine it began: those of earlier ones go on, as far as they need nothing of the machine.
    life: u32,
}

/// What becomes of one thing that is asked of the coordinator of transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Luck {
    Done,
    AnswerLost,
    /// Nobody hears of it, but perhaps later.
    Late,
    /// The messages cannot be written.
    Refused,
}

#[derive(Clone, Debug)]
enum Act {
    Prepare(u128),
    Commit(u128),
    /// One of those who carry something out does its next step.
    Step(usize, Luck),
    /// What came late is carried out.
    Late(usize),
    /// The coordinator of transactions aborts what is open, as after its timeout.
    Timeout,
    /// The machine is loaded anew.
    Load,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let luck = prop_oneof![
        8 => Just(Luck::Done),
        3 => Just(Luck::AnswerLost),
        3 => Just(Luck::Late),
        1 => Just(Luck::Refused),
    ];
    let act = prop_oneof![
        2 => (0..3u128).prop_map(Act::Prepare),
        3 => (0..3u128).prop_map(Act::Commit),
        24 => (0..8usize, luck).prop_map(|(whose, luck)| Act::Step(whose, luck)),
        4 => (0..8usize).prop_map(Act::Late),
        1 => Just(Act::Timeout),
        2 => Just(Act::Load),
    ];
    proptest::collection::vec(act, 1..250)
}

/// A request that has not come yet.
#[derive(Clone, Copy, Debug)]
enum Late {
    Init(u64),
    End(Identity, Outcome),
}

struct Play {
    world: World,
    coordinator: Coordinator,
    carriers: Vec<Carrier>,
    late: Vec<Late>,
    life: u32,
    /// Whether the coordinator of transactions forgets ids.
    forgets: bool,
}

impl Play {
    fn new() -> Self {
        let commits_max = 2;
        Self {
            world: World::with(Config {
                commits_max,
                ..Config::default()
            }),
            coordinator: Coordinator::default(),
            carriers: Vec::new(),
            late: Vec::new(),
            life: 0,
            forgets: false,
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Prepare(half) => {
                self.world.send(prepare(half));
            }
            Act::Commit(half) => {
                self.world.send(end(half, Outcome::Commit));
            }
            Act::Step(whose, luck) if !self.carriers.is_empty() => {
                let at = whose % self.carriers.len();
                let mut carrier = self.carriers.swap_remove(at);
                if self.step(&mut carrier, luck) {
                    self.carriers.push(carrier);
                }
            }
            Act::Late(which) if !self.late.is_empty() => {
                match self.late.swap_remove(which % self.late.len()) {
                    Late::Init(number) => {
                        self.coordinator.init(number);
                    }
                    Late::End(of, outcome) => {
                        let _ = self.coordinator.end(of, outcome);
                    }
                }
            }
            Act::Timeout => {
                for known in self.coordinator.ids.values_mut() {
                    if known.open.take().is_some() {
                        known.epoch += 1;
                        known.last = Some(Outcome::Abort);
                    }
                }
            }
            Act::Load => {
                self.world.crash();
                self.life += 1;
            }
            Act::Step(..) | Act::Late(_) => {}
        }
        self.world.answers.clear();
        for commit in std::mem::take(&mut self.world.actions) {
            self.carriers.push(Carrier {
                half: commit.id.as_u128(),
                carrying: Carrying::new(commit.begun),
                life: self.life,
            });
        }
    }

    /// What the machine answers; nothing to who was of an earlier one.
    fn ask(&mut self, carrier: &Carrier, request: Request) -> Option<Response> {
        (carrier.life == self.life).then(|| self.world.ask(request))
    }

    /// False when it is over.
    fn step(&mut self, carrier: &mut Carrier, luck: Luck) -> bool {
        let half = carrier.half;
        let id = id(half);
        let is_heard = matches!(luck, Luck::Done | Luck::Refused);
        match carrier.carrying.step().clone() {
            Step::Look => carrier.carrying.looked(),
            Step::Take => match self.ask(carrier, Request::Take { id }) {
                Some(Response::Take(Some(own))) => carrier.carrying.took(own),
                _ => return false,
            },
            Step::Begin(as_whom) => match self.ask(carrier, Request::Began { id, as_whom }) {
                Some(Response::Began(true)) => carrier.carrying.stored(),
                _ => return false,
            },
            Step::Init(number) => match luck {
                Luck::Late => {
                    self.late.push(Late::Init(number));
                    carrier.carrying.not_given();
                }
                _ => {
                    let producer = self.coordinator.init(number);
                    match is_heard {
                        true => carrier.carrying.given(producer),
                        false => carrier.carrying.not_given(),
                    }
                }
            },
            Step::Write(_) if luck == Luck::Refused => {
                let full = ErrorCode::PolicyViolation;
                carrier.carrying.refused(full, String::new());
            }
            Step::Write(as_whom) => match self.coordinator.write(as_whom, half) {
                true if luck == Luck::Done => carrier.carrying.written(),
                _ => carrier.carrying.unsure(),
            },
            Step::Abort(of) => match self.ended(of, Outcome::Abort, luck) {
                Some(Ok(next)) => carrier.carrying.aborted(Aborted::Now(next)),
                Some(Err(other)) => carrier.carrying.aborted(other),
                None => {}
            },
            Step::Commit(of) => match self.ended(of, Outcome::Commit, luck) {
                Some(Ok(next)) => carrier.carrying.committed(next),
                _ => carrier.carrying.unsure(),
            },
            Step::Tell(fate, next) => {
                assert!(
                    self.forgets || fate != Fate::Unknown,
                    "nothing is forgotten, nor in doubt"
                );
                self.ask(carrier, Request::Finished { id, fate, next });
                return false;
            }
        }
        true
    }

    fn ended(
        &mut self,
        of: Identity,
        outcome: Outcome,
        luck: Luck,
    ) -> Option<Result<Producer, Aborted>> {
        if luck == Luck::Late {
            self.late.push(Late::End(of, outcome));
            return None;
        }
        let ended = self.coordinator.end(of, outcome);
        (luck != Luck::AnswerLost).then_some(ended)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever is lost, late, or done by leaders that are replaced: a half is published once at most, and once if that was said.
    #[test]
    fn a_half_is_never_published_twice(acts in acts()) {
        let mut play = Play::new();
        for act in acts {
            play.act(act);
            let twice = play.coordinator.published.iter().find(|(_, times)| **times > 1);
            prop_assert_eq!(twice, None);
        }
        // In the end everything that is being committed is.
        play.act(Act::Load);
        for _ in 0..200 {
            play.act(Act::Step(0, Luck::Done));
        }
        prop_assert!(play.world.machine.committing == 0, "{:?}", play.carriers);
        for half in 0..3 {
            let said = play.world.end(half, Outcome::Abort);
            let times = play.coordinator.published.get(&half).copied();
            match said {
                Err(HalfError::Committed(_)) => prop_assert_eq!(times, Some(1)),
                _ => prop_assert_eq!(times, None),
            }
        }
    }

    /// Where ids are forgotten at any time, nothing is published twice either; it may be in doubt.
    #[test]
    fn what_is_forgotten_is_not_published_again(acts in acts(), forgets in proptest::collection::vec(0..250usize, 1..6)) {
        let mut play = Play::new();
        play.forgets = true;
        for (at, act) in acts.into_iter().enumerate() {
            if forgets.contains(&at) {
                // Only what has ended is.
                play.coordinator.ids.retain(|_, known| known.open.is_some());
            }
            play.act(act);
            let twice = play.coordinator.published.iter().find(|(_, times)| **times > 1);
            prop_assert_eq!(twice, None);
        }
    }
}
