#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::panic, reason = "tests")]

use weir_wire::{PartitionIndex, TopicId};

use super::*;
use crate::machine::Entry;
use crate::share::{DeliveryState, StateBatch};

/// A shard whose disk is its memory.
struct Shard {
    states: ShareStates,
    log: Vec<Entry>,
    calls: u64,
    /// The greatest length that the log ever had.
    longest: usize,
}

impl Shard {
    fn new() -> Self {
        Self::load(&[])
    }

    fn load(log: &[Entry]) -> Self {
        let mut loader = StateLoader::default();
        for entry in log {
            for read in entry.replayed() {
                ShareStates::replay(&mut loader, read).unwrap();
            }
        }
        let config = StateConfig {
            updates_per_snapshot: 3,
            batches_max: 50,
            entries_max: 100,
            ..StateConfig::default()
        };
        Self {
            states: ShareStates::load(loader, &config, LeaderEpoch(0), Now::default()),
            log: log.to_vec(),
            calls: 0,
            longest: log.len(),
        }
    }

    fn ask(&mut self, request: StateRequest) -> StateResponse {
        self.calls += 1;
        let call = CallId(self.calls);
        self.states.handle(call, request, Now::default());
        let effects = self.states.take_effects();
        if !effects.entries.is_empty() {
            assert_eq!(effects.replies, [], "nothing is told before it is durable");
        }
        self.log.extend(effects.entries);
        self.states.durable(effects.position);
        let later = self.states.take_effects();
        let mut replies = effects.replies.into_iter().chain(later.replies);
        let reply = replies.next().unwrap();
        self.log.extend(later.entries);
        self.longest = self.longest.max(self.log.len());
        self.states.durable(later.position);
        if let Some(gone) = self.states.forgettable() {
            let stay = usize::try_from(later.position.0 - gone.0).unwrap();
            self.log.drain(..self.log.len() - stay);
        }
        assert_eq!((reply.call, replies.next()), (call, None));
        reply.response
    }

    fn initialize(&mut self, state_epoch: i32, start: i64) -> Result<(), StateError> {
        self.initialize_key(key(), state_epoch, start)
    }

    fn initialize_key(
        &mut self,
        key: StateKey,
        state_epoch: i32,
        start: i64,
    ) -> Result<(), StateError> {
        let request = InitializeState {
            key,
            state_epoch,
            start: Offset(start),
        };
        match self.ask(StateRequest::Initialize(request)) {
            StateResponse::Initialize(outcome) => outcome,
            other => panic!("{other:?}"),
        }
    }

    fn read(&mut self, epoch: i32) -> Result<Restored, StateError> {
        let request = ReadState {
            key: key(),
            leader_epoch: LeaderEpoch(epoch),
        };
        match self.ask(StateRequest::Read(request)) {
            StateResponse::Read(outcome) => outcome,
            other => panic!("{other:?}"),
        }
    }

    fn write(
        &mut self,
        (state_epoch, leader_epoch): (i32, i32),
        start: i64,
        batches: &[StateBatch],
    ) -> Result<(), StateError> {
        self.write_key(key(), (state_epoch, leader_epoch), start, batches)
    }

    fn write_key(
        &mut self,
        key: StateKey,
        (state_epoch, leader_epoch): (i32, i32),
        start: i64,
        batches: &[StateBatch],
    ) -> Result<(), StateError> {
        let request = WriteState {
            key,
            state_epoch,
            leader_epoch: LeaderEpoch(leader_epoch),
            start: Offset(start),
            complete_count: 1,
            batches: batches.to_vec(),
            levels: Vec::new(),
        };
        match self.ask(StateRequest::Write(request)) {
            StateResponse::Write(outcome) => outcome,
            other => panic!("{other:?}"),
        }
    }
}

fn key() -> StateKey {
    StateKey {
        group: "g".into(),
        topic: TopicId(uuid::Uuid::from_u128(7)),
        partition: PartitionIndex(3),
    }
}

fn batch(first: i64, last: i64, state: DeliveryState) -> StateBatch {
    StateBatch {
        first: Offset(first),
        last: Offset(last),
        state,
        deliveries: 1,
    }
}

#[test]
fn what_was_written_is_read_by_the_next_leader_and_the_last_one_is_fenced() {
    let mut shard = Shard::new();
    assert_eq!(shard.read(1), Err(StateError::Uninitialized));
    shard.initialize(0, -1).unwrap();
    assert_eq!(shard.read(1).unwrap().start, NO_START);
    let acked = batch(5, 9, DeliveryState::Acknowledged);
    shard.write((0, 1), 2, &[acked]).unwrap();
    let restored = shard.read(2).unwrap();
    assert_eq!((restored.start, restored.batches), (Offset(2), vec![acked]));
    let late = shard.write((0, 1), 10, &[]);
    assert_eq!(late, Err(StateError::FencedLeaderEpoch));
    assert_eq!(shard.read(1), Err(StateError::FencedLeaderEpoch));
}

#[test]
fn a_state_that_begins_anew_fences_who_wrote_the_old_one() {
    let mut shard = Shard::new();
    shard.initialize(0, -1).unwrap();
    shard.write((0, 1), 50, &[]).unwrap();
    shard.initialize(1, 20).unwrap();
    let late = shard.write((0, 1), 60, &[]);
    assert_eq!(late, Err(StateError::FencedStateEpoch));
    assert_eq!(shard.initialize(0, 0), Err(StateError::FencedStateEpoch));
    let restored = shard.read(1).unwrap();
    assert_eq!((restored.state_epoch, restored.start), (1, Offset(20)));
}

#[test]
fn a_coordinator_that_is_loaded_again_knows_the_same() {
    let mut shard = Shard::new();
    shard.initialize(0, 0).unwrap();
    let states = [
        DeliveryState::Available,
        DeliveryState::Archived,
        DeliveryState::Acknowledged,
    ];
    for (round, state) in (0..20).zip(states.into_iter().cycle()) {
        let first = (round * 7) % 30;
        shard
            .write(
                (0, 1),
                round,
                &[batch(first + round, first + round + 3, state)],
            )
            .unwrap();
        let mut again = Shard::load(&shard.log);
        assert_eq!(again.read(1), shard.read(1), "round {round}");
        assert_eq!(again.states.states, shard.states.states);
    }
    let is_snapshot = |entry: &&Entry| match entry {
        Entry::Record(record) => record.key.starts_with(&[0, 0]),
        _ => false,
    };
    assert_eq!(shard.log.iter().filter(is_snapshot).count(), 1 + 20 / 4);
}

/// Many states, of which some come and go, and a coordinator that is replaced now and then.
fn lived(states: i32, requests: u64) -> Shard {
    let of = |number: i32| StateKey {
        partition: PartitionIndex(number),
        ..key()
    };
    let mut shard = Shard::new();
    let mut random = 1_u64;
    for round in 0..requests {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let number = i32::try_from((random >> 33) % u64::try_from(states).unwrap()).unwrap();
        let first = i64::try_from(round % 40).unwrap();
        match (random >> 20) % 16 {
            0 => assert_eq!(
                shard.ask(StateRequest::Delete(of(number))),
                StateResponse::Delete
            ),
            1..4 => {
                let _ = shard.initialize_key(of(number), 0, 0);
            }
            _ => {
                let batches = [batch(first, first + 3, DeliveryState::Available)];
                let _ = shard.write_key(of(number), (0, 1), 0, &batches);
            }
        }
        if round % 97 == 0 {
            let again = Shard::load(&shard.log);
            assert_eq!(again.states.states, shard.states.states, "request {round}");
            if round % 2 == 0 {
                shard = Shard {
                    longest: shard.longest,
                    ..again
                };
            }
        }
    }
    shard
}

#[test]
fn the_log_does_not_grow_with_what_was_written() {
    let shard = lived(10, 5000);
    assert!(shard.states.count() > 5);
    assert!(shard.longest <= 100 + 2 * 10, "{}", shard.longest);
    // Of more states than are said in one go.
    let shard = lived(600, 20_000);
    assert!(shard.states.count() > 300, "{}", shard.states.count());
    assert!(shard.longest <= 4 * 600 + 2 * 600, "{}", shard.longest);
}

#[test]
fn what_was_deleted_is_gone_for_good() {
    let mut shard = Shard::new();
    shard.initialize(0, 0).unwrap();
    assert_eq!(
        shard.ask(StateRequest::Delete(key())),
        StateResponse::Delete
    );
    assert_eq!(shard.read(1), Err(StateError::Uninitialized));
    assert_eq!(
        Shard::load(&shard.log).read(1),
        Err(StateError::Uninitialized)
    );
    shard.initialize(0, 0).unwrap();
    shard.ask(StateRequest::KeepOnly([key().topic].into()));
    assert_eq!(shard.states.count(), 1);
    shard.ask(StateRequest::KeepOnly([TopicId::ZERO].into()));
    assert_eq!(Shard::load(&shard.log).states.count(), 0);
    shard.initialize(0, 0).unwrap();
    shard.ask(StateRequest::Forget(vec![key().topic]));
    assert_eq!(Shard::load(&shard.log).states.count(), 0);
    assert_eq!(
        shard.ask(StateRequest::Summary(key())),
        StateResponse::Summary(None)
    );
}

#[test]
fn a_state_does_not_grow_beyond_its_bound() {
    let mut shard = Shard::new();
    shard.initialize(0, 0).unwrap();
    let every_other = |from: i64| {
        let batches =
            (0..20).map(move |n| batch(from + 2 * n, from + 2 * n, DeliveryState::Archived));
        batches.collect::<Vec<_>>()
    };
    shard.write((0, 1), 0, &every_other(1)).unwrap();
    shard.write((0, 1), 0, &every_other(41)).unwrap();
    let refused = shard.write((0, 1), 0, &every_other(101));
    assert_eq!(refused, Err(StateError::BoundReached));
    shard.write((0, 1), 100, &every_other(101)).unwrap();
}

#[test]
fn keys_read_as_kafka_writes_them() {
    let key = StateKey {
        group: "a:b".into(),
        topic: TopicId(uuid::Uuid::from_u128(
            0xfb_ff_00_00_00_00_00_00_00_00_00_00_00_00_00_01,
        )),
        partition: PartitionIndex(12),
    };
    assert_eq!(key.to_string(), "a:b:-_8AAAAAAAAAAAAAAAAAAQ:12");
    assert!(StateKey::is_one(&key.to_string()));
    for wrong in [
        "",
        "g",
        "g:1",
        "g:id:1",
        ":AAAAAAAAAAAAAAAAAAAAAQ:1",
        "g:AAAAAAAAAAAAAAAAAAAAAQ:-1",
    ] {
        assert!(!StateKey::is_one(wrong), "{wrong}");
    }
}

#[test]
fn a_write_that_comes_late_takes_nothing_back() {
    let mut shard = Shard::new();
    shard.initialize(0, -1).unwrap();
    shard.read(1).unwrap();
    let released = [batch(0, 9, DeliveryState::Available)];
    shard.write((0, 1), 0, &released).unwrap();
    let accepted = [
        batch(0, 4, DeliveryState::Acknowledged),
        batch(7, 8, DeliveryState::Acknowledged),
    ];
    shard.write((0, 1), 5, &accepted).unwrap();
    // The first once more, as it may come on a connection that was given up.
    shard.write((0, 1), 0, &released).unwrap();
    let mut later = Shard::load(&shard.log);
    for states in [&mut shard, &mut later] {
        let restored = states.read(2).unwrap();
        assert_eq!(restored.start, Offset(5));
        let rest = [
            batch(5, 6, DeliveryState::Available),
            batch(7, 8, DeliveryState::Acknowledged),
            batch(9, 9, DeliveryState::Available),
        ];
        assert_eq!(restored.batches, rest);
    }
    // From outside everything may be set.
    shard.initialize(1, 2).unwrap();
    assert_eq!(shard.read(2).unwrap().start, Offset(2));
}
