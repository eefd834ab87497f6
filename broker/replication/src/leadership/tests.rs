#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;

const ME: BrokerId = BrokerId(1);
const B: BrokerId = BrokerId(2);
const C: BrokerId = BrokerId(3);
const LAG: u64 = 10_000;

fn known(isr: &[BrokerId]) -> Known {
    let replica = |id| Replica {
        id,
        registration: 1,
        may_join: true,
    };
    Known {
        partition_epoch: 0,
        replicas: [ME, B, C].map(replica).to_vec(),
        isr: isr.iter().copied().collect(),
        in_sync_min: 2,
        promise: Promise::Synced,
    }
}

fn synced(end: i64) -> Ends {
    Ends {
        received: Offset(end),
        synced: Offset(end),
    }
}

fn received(end: i64, on_disk: i64) -> Ends {
    Ends {
        received: Offset(end),
        synced: Offset(on_disk),
    }
}

fn leader(isr: &[BrokerId], end: i64, high_watermark: i64) -> Leadership {
    Leadership::new(
        ME,
        LeaderEpoch(4),
        known(isr),
        synced(end),
        Offset(high_watermark),
        Millis(0),
    )
}

fn wanted(want: Option<Want>) -> Vec<BrokerId> {
    want.unwrap().isr.into_iter().map(|(id, _)| id).collect()
}

#[test]
fn the_watermark_is_what_all_in_sync_have_on_disk() {
    let mut leader = leader(&[ME, B], 10, 10);
    assert!(!leader.own(synced(20), Millis(0)));
    assert!(
        !leader.heard(B, 1, received(20, 10), Millis(1)),
        "received is not on disk"
    );
    assert!(leader.heard(B, 1, received(20, 15), Millis(2)));
    assert_eq!(leader.high_watermark(), Offset(15));
    assert!(
        !leader.heard(C, 1, synced(3), Millis(3)),
        "C is not in sync"
    );
    assert!(leader.heard(B, 1, synced(20), Millis(4)));
    assert_eq!(leader.high_watermark(), Offset(20));
}

#[test]
fn where_received_is_enough_nobody_waits_for_a_disk() {
    let mut leader = Leadership::new(
        ME,
        LeaderEpoch(0),
        Known {
            promise: Promise::Received,
            ..known(&[ME, B])
        },
        received(9, 0),
        Offset(0),
        Millis(0),
    );
    assert!(leader.heard(B, 1, received(7, 0), Millis(1)));
    assert_eq!(leader.high_watermark(), Offset(7));
}

// KIP-966: below its minimum the set acknowledges nothing, so whoever left it then still has everything.
#[test]
fn below_the_minimum_the_watermark_stands_still() {
    let mut leader = leader(&[ME], 10, 10);
    assert!(!leader.own(synced(20), Millis(0)));
    assert_eq!(leader.high_watermark(), Offset(10));
}

// Traps, losing data, 10.
#[test]
fn nobody_comes_into_the_set_before_it_has_what_the_leader_had_when_its_epoch_began() {
    let mut leader = leader(&[ME, B], 100, 60);
    leader.heard(B, 1, synced(100), Millis(1));
    let mut behind = leader.clone();
    behind.high_watermark = Offset(60);
    behind.heard(C, 1, synced(99), Millis(1));
    assert_eq!(behind.want(Millis(1), LAG), None);
    behind.heard(C, 1, synced(100), Millis(2));
    assert_eq!(wanted(behind.want(Millis(2), LAG)), [ME, B, C]);
}

#[test]
fn one_that_was_asked_to_be_taken_in_counts_from_then_on() {
    let mut leader = leader(&[ME, B], 10, 10);
    leader.heard(B, 1, synced(10), Millis(1));
    leader.heard(C, 1, synced(10), Millis(1));
    assert_eq!(wanted(leader.want(Millis(1), LAG)), [ME, B, C]);
    leader.own(synced(20), Millis(0));
    leader.heard(B, 1, synced(20), Millis(2));
    assert_eq!(
        leader.high_watermark(),
        Offset(10),
        "C may be in sync by now"
    );
    assert_eq!(leader.want(Millis(2), LAG), None, "one at a time");
    leader.answered(Answer::Unknown);
    assert_eq!(leader.high_watermark(), Offset(10));
    leader.answered(Answer::Refused);
    assert_eq!(leader.high_watermark(), Offset(20));
}

#[test]
fn one_that_falls_behind_is_given_up_and_holds_nothing_up_when_the_metadata_says_so() {
    let mut leader = leader(&[ME, B, C], 10, 10);
    leader.heard(B, 1, synced(10), Millis(0));
    leader.heard(C, 1, synced(10), Millis(0));
    leader.own(synced(20), Millis(0));
    leader.heard(B, 1, synced(20), Millis(LAG - 1));
    assert_eq!(leader.want(Millis(LAG - 1), LAG), None);
    assert_eq!(leader.next_lag(LAG), Some(Millis(LAG)));
    assert_eq!(wanted(leader.want(Millis(LAG), LAG)), [ME, B]);
    assert_eq!(
        leader.high_watermark(),
        Offset(10),
        "C is in sync until it is not"
    );
    let next = Known {
        partition_epoch: 1,
        ..known(&[ME, B])
    };
    assert!(leader.learn(next, Millis(LAG)));
    assert_eq!(leader.high_watermark(), Offset(20));
}

#[test]
fn a_follower_that_is_always_a_little_behind_stays_in_sync() {
    let mut leader = leader(&[ME, B, C], 0, 0);
    leader.heard(C, 1, synced(0), Millis(0));
    for second in 1..60 {
        let (now, end) = (Millis(second * 1_000), second as i64 * 100);
        leader.own(synced(end), Millis(0));
        leader.heard(B, 1, synced(end), now);
        leader.heard(C, 1, synced(end - 100), now);
        assert_eq!(leader.want(now, LAG), None);
    }
}

#[test]
fn one_that_registered_anew_tells_again_before_it_counts() {
    let mut leader = leader(&[ME, B, C], 10, 5);
    leader.heard(B, 1, synced(10), Millis(1));
    let mut next = known(&[ME, B, C]);
    next.replicas[2].registration = 2;
    leader.learn(next, Millis(2));
    assert!(
        !leader.heard(C, 1, synced(10), Millis(3)),
        "of its life before"
    );
    assert_eq!(leader.high_watermark(), Offset(5));
    assert!(leader.heard(C, 2, synced(8), Millis(4)));
    assert_eq!(leader.high_watermark(), Offset(8));
}

#[derive(Clone, Debug)]
enum Event {
    Append(i64),
    Sync,
    Ack(usize, i64),
    Want,
    Answer(u8),
    Restart(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (1..5_i64).prop_map(Event::Append),
        Just(Event::Sync),
        (0..2_usize, 0..8_i64).prop_map(|(who, by)| Event::Ack(who, by)),
        Just(Event::Want),
        (0..3_u8).prop_map(Event::Answer),
        (0..2_usize).prop_map(Event::Restart),
    ]
}

proptest! {
    /// Against a controller that takes, refuses and forgets to answer: whatever is below the watermark is on the disk of
    /// everybody whom the metadata counts as in sync, whenever the watermark moved.
    #[test]
    fn the_watermark_never_passes_one_that_is_in_sync(events in prop::collection::vec(event(), 1..80)) {
        let mut leader = leader(&[ME, B, C], 0, 0);
        let mut state = known(&[ME, B, C]);
        let mut end = 0;
        let mut on_disk = [0_i64; 2];
        let ids = [B, C];
        for (time, event) in (0..).step_by(3_000).zip(&events) {
            let now = Millis(time);
            let before = leader.high_watermark();
            match event {
                Event::Append(count) => {
                    end += count;
                    leader.own(received(end, leader.own.synced.0), Millis(0));
                }
                Event::Sync => {
                    leader.own(synced(end), Millis(0));
                }
                Event::Ack(who, by) => {
                    on_disk[*who] = (on_disk[*who] + by).min(end);
                    let registration = state.replicas[who + 1].registration;
                    leader.heard(ids[*who], registration, synced(on_disk[*who]), now);
                }
                Event::Want => {
                    leader.want(now, LAG);
                }
                Event::Answer(what) => {
                    let Some(asked) = leader.asked().cloned() else { continue };
                    // Whether it is done is one thing, and whether the leader hears of it another.
                    if *what < 2 && asked.partition_epoch == state.partition_epoch {
                        state.isr = asked.isr.iter().map(|(id, _)| *id).collect();
                        state.partition_epoch += 1;
                    }
                    match what {
                        0 => { leader.learn(state.clone(), now); }
                        1 => { leader.answered(Answer::Unknown); }
                        _ if asked.partition_epoch == state.partition_epoch => { leader.answered(Answer::Refused); }
                        _ => { leader.learn(state.clone(), now); }
                    }
                }
                Event::Restart(who) => {
                    state.replicas[who + 1].registration += 1;
                    state.isr.remove(&ids[*who]);
                    state.partition_epoch += 1;
                    leader.learn(state.clone(), now);
                }
            }
            let after = leader.high_watermark();
            prop_assert!(after >= before);
            if after > before {
                prop_assert!(after.0 <= leader.own.synced.0);
                for (who, id) in ids.iter().enumerate() {
                    if state.isr.contains(id) {
                        prop_assert!(on_disk[who] >= after.0, "{:?} at {:?}", id, event);
                    }
                }
            }
        }
    }
}

#[test]
fn who_takes_nothing_is_not_waited_for() {
    let mut leader = leader(&[ME, B, C], 10, 10);
    for follower in [B, C] {
        leader.heard(follower, 1, synced(10), Millis(0));
    }
    leader.own(synced(20), Millis(1));
    leader.heard(B, 1, synced(20), Millis(2));
    assert_eq!(leader.high_watermark(), Offset(10));
    assert!(!leader.takes_nothing(C, 7), "in another registration");
    assert!(leader.takes_nothing(C, 1));
    assert_eq!(wanted(leader.want(Millis(3), LAG)), [ME, B]);
    leader.learn(
        Known {
            partition_epoch: 1,
            ..known(&[ME, B])
        },
        Millis(4),
    );
    assert_eq!(leader.high_watermark(), Offset(20));
    // It says again how far it is, and that is no further.
    assert!(!leader.heard(C, 1, synced(10), Millis(5)));
    assert!(!leader.may_join(C, Millis(5)));
    leader.heard(C, 1, synced(20), Millis(6));
    assert!(leader.may_join(C, Millis(6)));
}

#[test]
fn a_set_at_its_minimum_keeps_who_takes_nothing_until_it_lags() {
    let mut leader = leader(&[ME, B], 10, 10);
    leader.heard(B, 1, synced(10), Millis(0));
    leader.own(synced(20), Millis(1));
    assert!(leader.takes_nothing(B, 1));
    assert_eq!(leader.want(Millis(2), LAG), None, "nothing would be won");
    assert_eq!(wanted(leader.want(Millis(1 + LAG), LAG)), [ME]);
}
