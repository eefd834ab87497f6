//! Against the story of one connection.
#![allow(clippy::unwrap_used, reason = "tests")]

use weir_wire::{PartitionIndex, ProducerEpoch};

use super::*;

const PASSING: ErrorCode = ErrorCode::NotEnoughReplicas;
const GAP: ErrorCode = ErrorCode::OutOfOrderSequenceNumber;

struct Story {
    pipelined: Pipelined,
    now: Instant,
    epoch: LeaderEpoch,
}

impl Story {
    fn new() -> Self {
        Self {
            pipelined: Pipelined::default(),
            now: Instant::now(),
            epoch: LeaderEpoch(3),
        }
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
    }

    fn of(&self, whose: (i32, i64, i16), sequence: i32, code: ErrorCode) -> ErrorCode {
        let (key, batch) = batch(whose, sequence);
        let place = (key, self.epoch);
        self.pipelined.settle(place, batch, code, || self.now)
    }

    fn admits(&self, sequence: i32) -> Result<(), ErrorCode> {
        let (key, batch) = batch((0, 7, 0), sequence);
        let place = (key, self.epoch);
        self.pipelined.admit(place, batch, || self.now)
    }

    fn tell(&self, sequence: i32, code: ErrorCode) -> ErrorCode {
        self.of((0, 7, 0), sequence, code)
    }
}

fn batch(
    (partition, producer, epoch): (i32, i64, i16),
    sequence: i32,
) -> (PartitionKey, Sequenced) {
    let key = PartitionKey {
        topic_id: weir_wire::TopicId(uuid::Uuid::from_u128(1)),
        partition: PartitionIndex(partition),
    };
    let producer = Producer {
        id: ProducerId(producer),
        epoch: ProducerEpoch(epoch),
    };
    (key, Sequenced { producer, sequence })
}

#[test]
fn nothing_behind_a_refused_batch_is_handed_on_before_that_has_come_again() {
    let mut story = Story::new();
    assert_eq!(story.admits(15), Ok(()), "nothing was refused");
    story.tell(10, PASSING);
    assert_eq!(story.admits(15), Err(PASSING));
    assert_eq!(story.tell(15, PASSING), PASSING);
    assert_eq!(story.admits(10), Ok(()));
    assert_eq!(story.admits(15), Ok(()), "in its turn");
    // Refused once more: the second, which was on its way, came too early.
    story.tell(10, PASSING);
    assert_eq!(story.admits(15), Err(PASSING));
    assert_eq!(story.admits(5), Ok(()), "what is before it");
    assert_eq!(story.admits(15), Err(PASSING));
    story.wait(PATIENCE);
    assert_eq!(story.admits(15), Ok(()), "it never came again");
}

#[test]
fn what_was_refused_while_another_led_may_have_been_taken_there() {
    let mut story = Story::new();
    story.tell(10, ErrorCode::NotLeaderOrFollower);
    assert_eq!(story.admits(15), Err(ErrorCode::NotLeaderOrFollower));
    story.epoch = LeaderEpoch(5);
    assert_eq!(story.admits(15), Ok(()), "this leader judges itself");
    assert_eq!(story.tell(15, GAP), GAP);
    story.tell(20, PASSING);
    assert_eq!(story.admits(25), Err(PASSING));
}

#[test]
fn what_was_refused_of_a_partition_not_heard_of_may_have_been_taken_by_any_leader_but_the_first() {
    let mut story = Story::new();
    for (epoch, admitted) in [(0, Err(PASSING)), (1, Ok(()))] {
        story.epoch = LeaderEpoch::NONE;
        story.tell(10, PASSING);
        assert_eq!(story.admits(15), Err(PASSING), "still not heard of");
        story.epoch = LeaderEpoch(epoch);
        assert_eq!(story.admits(15), admitted);
    }
}

#[test]
fn what_is_behind_a_batch_refused_for_the_moment_is_refused_as_that_was_until_it_is_accepted() {
    let story = Story::new();
    assert_eq!(story.tell(5, ErrorCode::None), ErrorCode::None);
    assert_eq!(story.tell(10, PASSING), PASSING);
    assert_eq!(story.tell(15, GAP), PASSING);
    assert_eq!(story.tell(20, GAP), PASSING);
    assert_eq!(
        story.tell(10, ErrorCode::NotLeaderOrFollower),
        ErrorCode::NotLeaderOrFollower
    );
    assert_eq!(story.tell(20, GAP), ErrorCode::NotLeaderOrFollower);
    assert_eq!(story.tell(10, ErrorCode::None), ErrorCode::None);
    assert_eq!(story.tell(20, GAP), GAP);
}

#[test]
fn the_first_of_several_that_were_refused_is_the_one_that_is_waited_for() {
    let story = Story::new();
    story.tell(10, PASSING);
    story.tell(15, PASSING);
    assert_eq!(story.tell(15, GAP), PASSING);
    story.tell(10, ErrorCode::None);
    story.tell(15, ErrorCode::None);
    assert_eq!(story.tell(25, GAP), GAP);
}

#[test]
fn a_gap_is_told_when_nothing_before_it_was_refused() {
    let story = Story::new();
    assert_eq!(story.tell(10, GAP), GAP);
    story.tell(20, PASSING);
    assert_eq!(story.tell(15, GAP), GAP, "before the refused one");
    assert_eq!(story.of((1, 7, 0), 25, GAP), GAP, "another partition");
    assert_eq!(story.of((0, 8, 0), 25, GAP), GAP, "another producer");
    assert_eq!(story.of((0, 7, 1), 25, GAP), GAP, "another epoch");
    assert_eq!(
        story.tell(25, ErrorCode::InvalidRecord),
        ErrorCode::InvalidRecord
    );
}

#[test]
fn a_batch_that_does_not_come_again_is_a_gap_in_the_end() {
    let mut story = Story::new();
    story.tell(10, PASSING);
    story.wait(PATIENCE / 2);
    // What is refused for it makes it no younger.
    assert_eq!(story.tell(15, GAP), PASSING);
    story.wait(PATIENCE / 2);
    assert_eq!(story.tell(15, GAP), GAP);
}

#[test]
fn sequences_go_on_at_zero() {
    let story = Story::new();
    story.tell(i32::MAX - 2, PASSING);
    assert_eq!(story.tell(1, GAP), PASSING);
    story.tell(i32::MAX - 2, ErrorCode::None);
    assert_eq!(story.tell(1, GAP), GAP);
}

#[test]
fn what_a_connection_is_remembered_for_is_bounded_and_makes_room_with_time() {
    let mut story = Story::new();
    let max = i64::try_from(REMEMBERED_MAX).unwrap();
    for producer in 0..max + 10 {
        story.of((0, producer, 0), 10, PASSING);
    }
    assert_eq!(story.of((0, max - 1, 0), 15, GAP), PASSING);
    assert_eq!(story.of((0, max, 0), 15, GAP), GAP);
    story.wait(PATIENCE);
    story.of((0, max, 0), 10, PASSING);
    assert_eq!(story.of((0, max, 0), 15, GAP), PASSING);
}
