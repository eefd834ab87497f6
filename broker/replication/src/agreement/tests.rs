#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;

fn history(starts: &[(i32, i64)], end: i64) -> (Vec<(LeaderEpoch, Offset)>, Offset) {
    let starts = starts
        .iter()
        .map(|(epoch, start)| (LeaderEpoch(*epoch), Offset(*start)));
    (starts.collect(), Offset(end))
}

fn agreed(leader: (&[(i32, i64)], i64), start: i64, follower: (&[(i32, i64)], i64)) -> Option<i64> {
    let (leader, leader_end) = history(leader.0, leader.1);
    let (follower, follower_end) = history(follower.0, follower.1);
    let leader = History {
        starts: &leader,
        end: leader_end,
    };
    let follower = History {
        starts: &follower,
        end: follower_end,
    };
    agreed_end(leader, Offset(start), follower).map(|end| end.0)
}

#[test]
fn a_follower_that_is_behind_goes_on_where_it_is() {
    assert_eq!(agreed((&[(0, 0)], 10), 0, (&[(0, 0)], 7)), Some(7));
    assert_eq!(agreed((&[(0, 0), (2, 5)], 10), 0, (&[(0, 0)], 3)), Some(3));
}

// Traps, losing data, 2: what an old leader appended after its last follower had left.
#[test]
fn what_only_an_old_leader_had_is_cut() {
    assert_eq!(agreed((&[(0, 0), (1, 5)], 9), 0, (&[(0, 0)], 8)), Some(5));
}

// KIP-279: two quick elections, and each of the two has an epoch that the other never saw.
#[test]
fn epochs_that_one_of_them_lacks_are_passed_over() {
    let leader: (&[_], _) = (&[(0, 0), (2, 4)], 9);
    let follower: (&[_], _) = (&[(0, 0), (1, 6)], 9);
    assert_eq!(agreed(leader, 0, follower), Some(4));
    assert_eq!(agreed(follower, 0, leader), Some(4));
}

// The leader of the follower's only epoch fell before all in sync had what it appended, and the next leader has nothing.
#[test]
fn a_follower_with_nothing_that_the_leader_saw_is_cut_to_its_beginning() {
    assert_eq!(agreed((&[], 0), 0, (&[(1, 0)], 2)), Some(0));
    assert_eq!(agreed((&[(2, 0)], 3), 0, (&[(1, 0)], 2)), Some(0));
    // All was deleted up to there, and the leader has not heard of the last deletion.
    assert_eq!(agreed((&[], 100), 80, (&[(1, 100)], 102)), Some(100));
    assert_eq!(agreed((&[], 99), 80, (&[(1, 100)], 102)), None);
}

#[test]
fn an_empty_follower_begins_where_the_leader_does() {
    assert_eq!(agreed((&[(3, 100)], 200), 100, (&[], 100)), Some(100));
    assert_eq!(agreed((&[(3, 100)], 200), 100, (&[], 0)), None);
    assert_eq!(agreed((&[(3, 100)], 200), 100, (&[(1, 0)], 50)), None);
}

/// A record: who wrote it.
type Log = Vec<i32>;

fn history_of(log: &Log) -> (Vec<(LeaderEpoch, Offset)>, Offset) {
    let mut starts: Vec<(LeaderEpoch, Offset)> = Vec::new();
    for (offset, epoch) in (0..).zip(log) {
        if starts.last().is_none_or(|(last, _)| last.0 < *epoch) {
            starts.push((LeaderEpoch(*epoch), Offset(offset)));
        }
    }
    (starts, Offset(log.len() as i64))
}

proptest! {
    /// Random leaders append and are followed for a while; then any two logs agree exactly as far as they are the same.
    #[test]
    fn logs_agree_as_far_as_they_are_the_same(
        turns in prop::collection::vec((0..3_usize, 0..4_usize, prop::option::of(0..3_usize)), 1..20),
    ) {
        let mut logs: [Log; 3] = Default::default();
        for (epoch, (leader, appended, followed_by)) in (0..).zip(&turns) {
            logs[*leader].extend(std::iter::repeat_n(epoch, *appended));
            if let Some(follower) = followed_by {
                logs[*follower] = logs[*leader].clone();
            }
            for (a, b) in [(0, 1), (1, 2), (2, 0), (1, 0), (2, 1), (0, 2)] {
                let (a, b) = (&logs[a], &logs[b]);
                let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
                let ((leader, leader_end), (follower, follower_end)) = (history_of(a), history_of(b));
                let leader = History { starts: &leader, end: leader_end };
                let follower = History { starts: &follower, end: follower_end };
                let end = agreed_end(leader, Offset(0), follower);
                prop_assert_eq!(end, Some(Offset(same as i64)));
            }
        }
    }
}
