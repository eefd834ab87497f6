//! Two replicas that lead in turn, driven at random: in the end their logs are the same, and so is all that follows from them.

use proptest::prelude::*;
use weir_wire::batch::batches;
use weir_wire::{LeaderEpoch, Offset, ProducerId};

use super::*;
use crate::testing::Random;
use crate::testing::replicas::agreed_end;
use crate::{PartitionHandle, Verified};

/// A replica on a disk of its own.
struct Replica {
    storage: SimStorage,
    rig: Rig,
    handle: PartitionHandle,
    config: LogConfig,
}

impl Replica {
    fn new(config: LogConfig) -> Self {
        let storage = SimStorage::new();
        let mut rig = Rig::new(&storage);
        let (opened, _) = rig.open(&config);
        Self {
            storage,
            rig,
            handle: opened.handle,
            config,
        }
    }

    /// A kill, a power cut or a clean stop, and a start. What is durable is all there is.
    fn restart(&mut self, how: u64) {
        self.rig.settle();
        let storage = match how {
            0 => self.storage.process_killed(),
            1 => self.storage.power_cut(Unsynced::Lost),
            _ => {
                self.rig.close(&self.handle);
                self.storage.process_killed()
            }
        };
        self.rig = Rig::new(&storage);
        let (opened, _) = self.rig.open(&self.config);
        assert_eq!(opened.report.damage, None);
        (self.storage, self.handle) = (storage, opened.handle);
    }

    fn append(&mut self, random: &mut Random, epoch: LeaderEpoch) {
        let id = random.below(3) as i64;
        let verified = Some(Verified {
            since: Offset(i64::MAX),
            begins_at_zero: false,
        });
        let (batch, origin) = match random.below(6) {
            0 => (batch(1 + random.below(4) as usize), Origin::Client),
            1 => {
                let gone = without_records(1 + random.below(4) as i64);
                (gone, Origin::Client)
            }
            2 => (transactional(100 + id, 0, -1, 2), Origin::Coordinator),
            3 | 4 => {
                let origin = Origin::Marker {
                    transaction_version: 1,
                };
                (marker(100 + id, 0, random.below(2) == 0), origin)
            }
            _ => {
                let known = self.rig.producers(&self.handle);
                let last = known
                    .iter()
                    .find(|known| known.producer_id == ProducerId(id));
                let next = last.map_or(0, |last| last.last_sequence + 1);
                (batch_of(id, 0, next, 2), Origin::Client)
            }
        };
        send_as(&self.handle, &batch, origin, verified, epoch);
    }

    /// Fetches from the leader, in one turn, as far as `rounds` reads go.
    fn follow(&mut self, leader: &Self, max_bytes: usize, rounds: usize) {
        self.rig.settle();
        let leader = leader.handle.reader();
        let mut at = self.handle.reader().log_end();
        let mut answers = Vec::new();
        for _ in 0..rounds {
            let read = leader.read(at, leader.log_end(), max_bytes, true).unwrap();
            let Some(last) = batches(&read.bytes).last() else {
                break;
            };
            at = last.unwrap().header().next_offset();
            answers.push((at, send_replica(&self.handle, read.bytes)));
        }
        self.rig.settle();
        for (at, answer) in answers {
            assert_eq!(answer.lock().unwrap().take(), Some(Ok(at)));
        }
        assert_eq!(self.handle.reader().log_end(), at);
    }
}

fn drive(seed: u64) {
    let mut random = Random::new(seed);
    let mut leader = Replica::new(small_segments());
    let mut follower = Replica::new(LogConfig {
        segment_bytes: 900,
        ..small_segments()
    });
    let mut epoch = LeaderEpoch(1);
    for _ in 0..120 {
        match random.below(20) {
            0..9 => leader.append(&mut random, epoch),
            9 => leader.rig.settle(),
            10..15 => {
                leader.rig.settle();
                let rounds = 1 + random.below(3) as usize;
                follower.follow(&leader, random.below(800) as usize, rounds);
            }
            15 | 16 => {
                // The follower takes over; the leader comes back, finds where they agree, and cuts the rest off.
                leader.rig.settle();
                std::mem::swap(&mut leader, &mut follower);
                epoch = LeaderEpoch(epoch.0 + 1);
                if random.below(2) == 0 {
                    leader.append(&mut random, epoch);
                    leader.rig.settle();
                }
                let end = agreed_end(follower.handle.reader(), leader.handle.reader());
                assert_eq!(follower.rig.truncate(&follower.handle, end.0), end);
            }
            17 => leader.restart(random.below(3)),
            18 => follower.restart(random.below(3)),
            _ => {
                if random.below(4) == 0 {
                    follower.rig.reset(&follower.handle, 0).unwrap();
                }
            }
        }
    }
    leader.rig.settle();
    follower.follow(&leader, 700, usize::MAX);
    same(&mut leader, &mut follower, seed);
    follower.restart(random.below(3));
    same(&mut leader, &mut follower, seed);
}

fn same(leader: &mut Replica, follower: &mut Replica, seed: u64) {
    assert_eq!(
        leader.rig.producers(&leader.handle),
        follower.rig.producers(&follower.handle),
        "seed {seed}"
    );
    let (leads, follows) = (leader.handle.reader(), follower.handle.reader());
    let end = leads.log_end();
    assert_eq!(all_bytes(leads), all_bytes(follows), "seed {seed}");
    assert_eq!(leads.history(), follows.history(), "seed {seed}");
    check_history(follows, &format!("seed {seed}"));
    assert_eq!(
        leads.open_transactions(),
        follows.open_transactions(),
        "seed {seed}"
    );
    let stable = leads.last_stable(end);
    assert_eq!(stable, follows.last_stable(end), "seed {seed}");
    assert_eq!(
        leads.aborted_transactions(Offset(0), stable).unwrap(),
        follows.aborted_transactions(Offset(0), stable).unwrap(),
        "seed {seed}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn replicas_that_lead_in_turn_end_the_same(seed in any::<u32>()) {
        drive(u64::from(seed));
    }
}
