//! Windows for each priority, against a list of all messages: which is next, what stays settled, and how many are left.

use std::collections::BTreeMap;

use proptest::prelude::*;
use weir_queues::order::KeyHash;
use weir_queues::priority::{Choice, Level};
use weir_wire::{LeaderEpoch, PartitionIndex, TopicId};

use super::*;
use crate::machine::Machine;
use crate::share::state::{
    InitializeState, ReadState, ShareStates, StateConfig, StateKey, StateLoader, StateRequest,
    StateResponse, StateSummary, WriteState,
};
use crate::share::{AckError, Departure, Windows, Write};
use crate::types::{CallId, Now};

const CONFIG: ShareConfig = ShareConfig {
    lock_ms: 1_000,
    deliveries_max: 4,
    records_max: 10_000,
};

fn key() -> StateKey {
    StateKey {
        group: "g".into(),
        topic: TopicId(uuid::Uuid::from_u128(7)),
        partition: PartitionIndex(3),
    }
}

/// The coordinator of the state, as it really is, whose disk is its memory.
struct Coordinator {
    states: ShareStates,
    log: Vec<crate::machine::Entry>,
    calls: u64,
}

impl Coordinator {
    fn load(log: Vec<crate::machine::Entry>) -> Self {
        let mut loader = StateLoader::default();
        for entry in &log {
            for read in entry.replayed() {
                ShareStates::replay(&mut loader, read).unwrap();
            }
        }
        let config = StateConfig {
            updates_per_snapshot: 3,
            entries_max: 60,
            ..StateConfig::default()
        };
        Self {
            states: ShareStates::load(loader, &config, LeaderEpoch(0), Now::default()),
            log,
            calls: 0,
        }
    }

    fn ask(&mut self, request: StateRequest) -> StateResponse {
        self.calls += 1;
        self.states
            .handle(CallId(self.calls), request, Now::default());
        let mut replies = Vec::new();
        loop {
            let effects = self.states.take_effects();
            replies.extend(effects.replies);
            if effects.entries.is_empty() {
                break;
            }
            self.log.extend(effects.entries);
            self.states.durable(effects.position);
            if let Some(gone) = self.states.forgettable() {
                let stay = usize::try_from(effects.position.0 - gone.0).unwrap();
                self.log.drain(..self.log.len() - stay);
            }
        }
        replies.pop().unwrap().response
    }

    fn read(&mut self) -> Restored {
        let request = ReadState {
            key: key(),
            leader_epoch: LeaderEpoch(0),
        };
        match self.ask(StateRequest::Read(request)) {
            StateResponse::Read(restored) => restored.unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn initialize(&mut self, state_epoch: i32, start: Offset) {
        let request = InitializeState {
            key: key(),
            state_epoch,
            start,
        };
        let begun = self.ask(StateRequest::Initialize(request));
        assert_eq!(begun, StateResponse::Initialize(Ok(())));
    }

    fn write(&mut self, write: Write) {
        let request = WriteState {
            key: key(),
            state_epoch: write.state_epoch,
            leader_epoch: LeaderEpoch(0),
            start: write.start,
            complete_count: write.complete_count,
            batches: write.batches,
            levels: write.levels,
        };
        let written = self.ask(StateRequest::Write(request));
        assert_eq!(written, StateResponse::Write(Ok(())));
    }

    fn summary(&mut self) -> StateSummary {
        match self.ask(StateRequest::Summary(key())) {
            StateResponse::Summary(summary) => summary.unwrap(),
            other => panic!("{other:?}"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Available,
    Out(&'static str),
    Done,
}

#[derive(Clone, Copy, Debug)]
struct Message {
    level: u8,
    state: State,
    deliveries: i16,
    /// As whoever takes over will know.
    stored: i16,
}

/// In which order messages are wanted: by this choice, or without priorities.
type Mode = Option<Choice>;

struct House {
    coordinator: Coordinator,
    windows: Windows,
    mode: Mode,
    /// First and last offset; those of batches without messages are not in `messages`.
    log: Vec<(i64, i64)>,
    log_start: i64,
    end: i64,
    messages: BTreeMap<i64, Message>,
}

impl House {
    fn new(mode: Mode) -> Self {
        let mut coordinator = Coordinator::load(Vec::new());
        coordinator.initialize(0, Offset(0));
        let mut house = Self {
            coordinator,
            windows: Windows::plain(CONFIG, Restored::default(), false),
            mode,
            log: Vec::new(),
            log_start: 0,
            end: 0,
            messages: BTreeMap::new(),
        };
        house.restart(mode);
        house
    }

    /// A batch; 10 is what nobody is given.
    fn append(&mut self, levels: &[u8]) {
        let base = self.end;
        for (offset, level) in (base..).zip(levels) {
            self.end = offset + 1;
            if *level < 10 {
                let message = Message {
                    level: *level,
                    state: State::Available,
                    deliveries: 0,
                    stored: 0,
                };
                self.messages.insert(offset, message);
            }
        }
        self.log.push((base, self.end - 1));
    }

    fn follow(&mut self) {
        if let Some(from) = self.windows.follows_from() {
            let log = (from.0..self.end).map(|offset| {
                let message = self.messages.get(&offset);
                let level = message.and_then(|message| Level::new(message.level));
                (Offset(offset), level)
            });
            let log: Vec<_> = log.collect();
            self.windows.follow(&log);
        }
    }

    /// As a leader begins.
    fn restart(&mut self, mode: Mode) {
        self.coordinator = Coordinator::load(std::mem::take(&mut self.coordinator.log));
        self.mode = mode;
        let restored = self.coordinator.read();
        if mode.is_none() && restored.levels.is_empty() {
            self.windows = Windows::plain(CONFIG, restored, false);
        } else {
            self.windows = Windows::by_level(CONFIG, &restored, false, mode);
            self.windows.log_start_moved(Offset(self.log_start));
            self.follow();
            if mode.is_none() && self.windows.is_settled() {
                let start = self.windows.standing().0;
                self.coordinator.initialize(restored.state_epoch + 1, start);
                let restored = self.coordinator.read();
                assert!(restored.levels.is_empty());
                self.windows = Windows::plain(CONFIG, restored, false);
            }
        }
        self.windows.log_start_moved(Offset(self.log_start));
        for message in self.messages.values_mut() {
            if message.state != State::Done {
                (message.state, message.deliveries) = (State::Available, message.stored);
            }
        }
    }

    fn available(&self) -> impl Iterator<Item = (i64, u8)> {
        let there = self.messages.iter();
        there
            .filter(|(_, message)| message.state == State::Available)
            .map(|(offset, message)| (*offset, message.level))
    }

    /// As a fetch takes: of one level, if there are levels. The offsets.
    fn take(&mut self, name: &'static str, count: i64, mode: AcquireMode) -> Vec<i64> {
        let (mut taken, mut had, mut left) = (Vec::new(), None, count);
        let mut looks = 0;
        while left > 0 {
            looks += 1;
            assert!(looks < 10_000, "it goes on: {:?}", self.windows);
            self.follow();
            let Some(place) = self.windows.next(had.as_ref(), Offset(self.end)) else {
                break;
            };
            if place.read_from.0 >= self.end {
                break;
            }
            // Two batches at a time.
            let log = self
                .log
                .iter()
                .filter(|(_, last)| *last >= place.read_from.0);
            let is_message = |first: &i64| self.messages.contains_key(first);
            let log = log.take(2).flat_map(|(first, last)| {
                // Whole batches where all are messages, one by one otherwise.
                match (*first..=*last).all(|offset| is_message(&offset)) {
                    true => vec![batch(*first, *last)],
                    false => (*first..=*last)
                        .map(|offset| match is_message(&offset) {
                            true => batch(offset, offset),
                            false => control(offset),
                        })
                        .collect(),
                }
            });
            let log: Vec<_> = log.collect();
            let member = member(name);
            let want = Acquire {
                member: &member,
                records_max: left,
                batch_size: 1,
                mode,
                from: place.read_from,
                batches: &log,
            };
            let acquired = self.windows.acquire(&place, want, MonoMs(0));
            for range in &acquired {
                for offset in range.first.0..=range.last.0 {
                    let message = self.messages.get_mut(&offset).unwrap();
                    assert_eq!(message.state, State::Available, "{offset}");
                    message.state = State::Out(name);
                    message.deliveries += 1;
                    assert_eq!(range.deliveries, message.deliveries, "{offset}");
                    taken.push(offset);
                    left -= 1;
                }
            }
            if !acquired.is_empty() {
                had = Some(place);
            } else if self.windows.next(Some(&place), Offset(self.end)) == Some(place) {
                panic!("{place:?} brings nothing");
            }
        }
        taken
    }

    /// Takes, and looks whether it was what was to be taken.
    fn take_next(&mut self, name: &'static str, count: i64, mode: AcquireMode) {
        let before: Vec<_> = self.available().collect();
        let is_by_level = self.windows.follows_from().is_some();
        let taken = self.take(name, count, mode);
        if before.is_empty() {
            assert_eq!(taken, [] as [i64; 0]);
            return;
        }
        let first = taken.first().expect("there was something to take");
        let level = self.messages[first].level;
        match self.mode {
            Some(Choice::Strict) => {
                assert_eq!(Some(level), before.iter().map(|(_, level)| *level).max());
            }
            None => assert_eq!(*first, before[0].0, "the oldest"),
            Some(Choice::Weighted) => {}
        }
        let mut expected = before;
        expected.retain(|(_, other)| !is_by_level || *other == level);
        let expected: Vec<_> = expected.into_iter().map(|(offset, _)| offset).collect();
        assert_eq!(taken, expected[..taken.len()], "the oldest first");
        let least = usize::try_from(count).unwrap().min(expected.len());
        match mode {
            AcquireMode::RecordLimit => assert_eq!(taken.len(), least),
            AcquireMode::BatchOptimized => assert!(taken.len() >= least),
        }
    }

    fn of(&self, name: &str) -> Vec<i64> {
        let out = self.messages.iter();
        out.filter(|(_, message)| matches!(message.state, State::Out(holder) if holder == name))
            .map(|(offset, _)| *offset)
            .collect()
    }

    /// Says something of each; with `fails` it is not stored, and all is as before.
    fn say_it(&mut self, name: &'static str, said: &[(i64, AckType)], fails: bool) {
        // As clients do: what lies side by side is one batch.
        let mut batches: Vec<AckBatch> = Vec::new();
        for (offset, kind) in said {
            match batches.last_mut() {
                Some(batch) if batch.last.0 + 1 == *offset => {
                    batch.last = Offset(*offset);
                    batch.types.push(*kind);
                }
                _ => batches.push(ack(*offset, *offset, *kind)),
            }
        }
        self.windows
            .acknowledge(&member(name), &batches, MonoMs(0))
            .unwrap();
        if fails {
            if self.windows.take_write().is_some() {
                self.windows.written(Written::Failed);
            }
            return;
        }
        for (offset, kind) in said {
            let message = self.messages.get_mut(offset).unwrap();
            message.state = match kind {
                AckType::Release if message.deliveries < CONFIG.deliveries_max => State::Available,
                _ => State::Done,
            };
            message.stored = message.deliveries;
        }
        self.store();
    }

    fn say(&mut self, name: &'static str, said: &[(i64, AckType)]) {
        self.say_it(name, said, false);
    }

    fn leave(&mut self, name: &'static str) {
        self.windows
            .release(&member(name), Departure::Lost, MonoMs(0));
        for offset in self.of(name) {
            let message = self.messages.get_mut(&offset).unwrap();
            message.stored = message.deliveries;
            message.state = match message.deliveries < CONFIG.deliveries_max {
                true => State::Available,
                false => State::Done,
            };
        }
        self.store();
    }

    fn cut(&mut self, log_start: i64) {
        self.log_start = self.log_start.max(log_start.min(self.end));
        self.windows.log_start_moved(Offset(self.log_start));
        let kept = self.messages.split_off(&self.log_start);
        self.messages = kept;
        self.store();
    }

    fn store(&mut self) {
        self.follow();
        while let Some(write) = self.windows.take_write() {
            self.coordinator.write(write);
            self.windows.written(Written::Stored);
        }
    }

    /// What is told of how far the group is, where priorities are kept apart.
    fn check_standing(&mut self) {
        self.follow();
        if self.windows.follows_from().is_none() {
            return;
        }
        let open = self.messages.iter();
        let open: Vec<i64> = open
            .filter(|(_, message)| message.state != State::Done)
            .map(|(offset, _)| *offset)
            .collect();
        let (start, settled) = self.windows.standing();
        assert_eq!(start.0, open.first().copied().unwrap_or(self.end));
        let left = self.end - start.0 - i64::from(settled);
        assert_eq!(left, i64::try_from(open.len()).unwrap());
    }
}

const NAMES: [&str; 3] = ["a", "b", "c"];
const KINDS: [AckType; 4] = [
    AckType::Accept,
    AckType::Release,
    AckType::Accept,
    AckType::Reject,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_next_is_what_is_to_be_next_and_what_is_settled_stays_so(
        modes in prop::collection::vec(prop::option::of(0..2_u8), 1..4),
        steps in prop::collection::vec((0..14_u8, 0..3_usize, 1..12_u8, any::<u64>()), 1..80),
    ) {
        let mut modes = modes.into_iter().cycle().map(|mode| {
            mode.map(|kind| if kind == 0 { Choice::Strict } else { Choice::Weighted })
        });
        let mut house = House::new(modes.next().unwrap());
        for (kind, who, count, random) in steps {
            let name = NAMES[who];
            let mode = match random % 2 {
                0 => AcquireMode::RecordLimit,
                _ => AcquireMode::BatchOptimized,
            };
            match kind {
                0..4 => {
                    let digits = (0..count).map(|at| u8::try_from((random >> (4 * at)) % 11).unwrap());
                    // Also batches of one level.
                    let one = u8::try_from(random % 10).unwrap();
                    let levels: Vec<u8> = digits.map(|digit| if random % 3 == 0 { one } else { digit }).collect();
                    house.append(&levels);
                }
                4..8 => house.take_next(name, i64::from(count), mode),
                8..11 => {
                    let out = house.of(name).into_iter().enumerate();
                    let said: Vec<_> = out
                        .filter(|(at, _)| (random >> (at % 64)) % 4 != 0)
                        .map(|(at, offset)| (offset, KINDS[(at + who) % 4]))
                        .collect();
                    house.say_it(name, &said, random % 8 == 0);
                }
                11 => house.leave(name),
                12 => house.cut(i64::try_from(random % 40).unwrap()),
                _ => {
                    let next = if random % 2 == 0 { modes.next().unwrap() } else { house.mode };
                    house.restart(next);
                }
            }
            house.check_standing();
        }
        // Everything comes in the end, whoever leads and however it is chosen.
        house.restart(modes.next().unwrap());
        while house.available().next().is_some() {
            house.take_next("z", 7, AcquireMode::RecordLimit);
            let said: Vec<_> = house.of("z").into_iter().map(|offset| (offset, AckType::Accept)).collect();
            house.say("z", &said);
        }
        prop_assert!(house.messages.values().all(|message| message.state == State::Done));
        // And then nothing is left of priorities.
        house.restart(None);
        prop_assert!(house.windows.follows_from().is_none());
        let last = house.messages.keys().next_back();
        prop_assert!(last.is_none_or(|last| house.coordinator.summary().start.0 > *last));
    }
}

#[test]
fn nine_comes_first_behind_any_number_of_zeros() {
    let mut house = House::new(Some(Choice::Strict));
    for _ in 0..1_000 {
        house.append(&[0; 100]);
    }
    house.append(&[0, 9, 0]);
    assert_eq!(house.take("a", 1, AcquireMode::RecordLimit), [100_001]);
    assert_eq!(house.take("b", 2, AcquireMode::RecordLimit), [0, 1]);
    // Both lie in what the coordinator keeps as one partition.
    house.say("a", &[(100_001, AckType::Accept)]);
    house.say("b", &[(0, AckType::Accept)]);
    let summary = house.coordinator.summary();
    assert_eq!((summary.start, summary.complete_count), (Offset(1), 1));
    let entries = house.coordinator.log.len();
    assert!(entries < 30, "{entries}");
    assert!(house.windows.levels_memory() < 16_000);
}

#[test]
fn weights_starve_nobody() {
    let mut house = House::new(Some(Choice::Weighted));
    for _ in 0..300 {
        house.append(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    }
    let mut got = [0; 10];
    for _ in 0..110 {
        for offset in house.take("a", 5, AcquireMode::RecordLimit) {
            got[usize::from(house.messages[&offset].level)] += 1;
        }
    }
    // Of 550 messages each level has (level + 1) parts of 55.
    let due = [10, 20, 30, 40, 50, 60, 70, 80, 90, 100];
    let is_near = |(got, due): (&i32, i32)| (got - due).abs() <= 5;
    assert!(got.iter().zip(due).all(is_near), "{got:?}");
}

#[test]
fn what_a_member_does_not_have_of_any_level_is_refused_and_nothing_happens() {
    let mut house = House::new(Some(Choice::Strict));
    house.append(&[9, 1, 9, 1]);
    assert_eq!(house.take("a", 5, AcquireMode::RecordLimit), [0, 2]);
    assert_eq!(house.take("b", 5, AcquireMode::RecordLimit), [1, 3]);
    let mut acked = |first, last| {
        let said = [
            ack(0, 0, AckType::Accept),
            ack(first, last, AckType::Accept),
        ];
        house.windows.acknowledge(&member("a"), &said, MonoMs(0))
    };
    assert_eq!(acked(1, 2), Err(AckError::NotOwner));
    assert_eq!(acked(2, 4), Err(AckError::NotFound));
    assert_eq!(acked(0, 0), Err(AckError::Malformed));
    assert!(house.windows.take_write().is_none());
    assert_eq!(house.of("a"), [0, 2]);
    house.say("a", &[(0, AckType::Accept), (2, AckType::Accept)]);
}

fn keyed(offset: i64, key: u64) -> Fetched {
    Fetched {
        key: Some(KeyHash(key)),
        ..batch(offset, offset)
    }
}

/// The first that comes of a log of single messages.
fn one(windows: &mut Windows, name: &str, log: &[Fetched]) -> Option<i64> {
    let end = Offset(i64::try_from(log.len()).unwrap());
    let mut before = None;
    loop {
        let place = windows.next(None, end)?;
        assert_ne!(before, Some(place), "it goes on");
        before = Some(place);
        let member = member(name);
        let want = Acquire {
            member: &member,
            records_max: 1,
            batch_size: 1,
            mode: AcquireMode::RecordLimit,
            from: place.read_from,
            batches: log,
        };
        if let Some(range) = windows.acquire(&place, want, MonoMs(0)).first() {
            return Some(range.first.0);
        }
    }
}

#[test]
fn of_a_key_one_message_is_out_whatever_its_level() {
    let restored = Restored::default();
    let mut windows = Windows::by_level(CONFIG, &restored, true, Some(Choice::Strict));
    // The key 1 has messages of the levels 0, 0, 9 and 9; the key 2 one of level 3.
    let log = [
        keyed(0, 1),
        keyed(1, 1),
        keyed(2, 2),
        keyed(3, 1),
        keyed(4, 1),
    ];
    let told = |offset: i64, level: u8| (Offset(offset), Level::new(level));
    windows.follow(&[told(0, 0), told(1, 0), told(2, 3)]);
    let say = |windows: &mut Windows, offset, kind| {
        let said = [ack(offset, offset, kind)];
        windows.acknowledge(&member("a"), &said, MonoMs(0)).unwrap();
        while windows.take_write().is_some() {
            windows.written(Written::Stored);
        }
    };
    assert_eq!(one(&mut windows, "a", &log[..3]), Some(2));
    assert_eq!(one(&mut windows, "a", &log[..3]), Some(0));
    windows.follow(&[told(4, 9)]);
    assert_eq!(one(&mut windows, "a", &log), None, "its key is out");
    // What is tried again keeps all of its key waiting.
    say(&mut windows, 0, AckType::Release);
    assert_eq!(one(&mut windows, "a", &log), Some(0));
    assert_eq!(one(&mut windows, "a", &log), None);
    say(&mut windows, 0, AckType::Accept);
    assert!(windows.take_freed(), "who waits is woken");
    assert_eq!(one(&mut windows, "a", &log), Some(3), "now the greatest");
    assert_eq!(one(&mut windows, "a", &log), None);
    say(&mut windows, 3, AckType::Accept);
    assert_eq!(one(&mut windows, "a", &log), Some(4));
    say(&mut windows, 4, AckType::Accept);
    assert_eq!(one(&mut windows, "a", &log), Some(1));
}

#[test]
fn all_levels_share_one_bound_on_giving_up() {
    let mut windows = Windows::by_level(CONFIG, &Restored::default(), false, Some(Choice::Strict));
    let retry = RetryConfig {
        given_up_max: Some(1),
        has_dead_letters: true,
        ..RetryConfig::default()
    };
    windows.retry_as(Some(&retry), MonoMs(0));
    windows.follow(&[(Offset(0), Level::new(9)), (Offset(1), Level::new(2))]);
    let log = [batch(0, 0), batch(1, 1)];
    for offset in 0..2 {
        assert_eq!(one(&mut windows, "a", &log), Some(offset));
    }
    let said = [ack(0, 1, AckType::Reject)];
    windows.acknowledge(&member("a"), &said, MonoMs(0)).unwrap();
    while windows.take_write().is_some() {
        windows.written(Written::Stored);
    }
    let dead = windows.take_dead(10);
    assert_eq!(dead.len(), 1, "the other is tried again: {dead:?}");
    assert_eq!(dead[0].first, Offset(0));
    windows.buried(Offset(0), Offset(0));
    assert!(windows.next_deadline().is_some(), "it waits for its time");
    assert_eq!(windows.standing(), (Offset(1), 0));
}
