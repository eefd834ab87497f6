#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::join_all;
use kube::Api as Kube;
use tokio::time::Instant;

use super::{DURATION, Lease, Lost, RENEW_DEADLINE, RETRY};
use crate::testing::api::{Api, Road, Roads};

/// Longer than anything waits.
const FOR_EVER: Duration = Duration::from_secs(3_600);

fn contender(api: &Api, roads: Roads, identity: &str) -> Lease {
    let leases = Kube::namespaced(api.client_by(roads), "weir");
    Lease::new(leases, "weir-operator", identity)
}

/// Each request takes a little while there and back, so that two who begin together both read before either writes.
fn open() -> Roads {
    let way = Duration::from_millis(10);
    Arc::new(move || Road::Takes(way, way))
}

/// The same, until the road is cut.
fn until_cut() -> (Roads, Arc<AtomicBool>) {
    let cut = Arc::new(AtomicBool::new(false));
    let is_cut = Arc::clone(&cut);
    let roads = move || {
        let way = Duration::from_millis(10);
        let there = if is_cut.load(Ordering::Relaxed) {
            FOR_EVER
        } else {
            way
        };
        Road::Takes(there, way)
    };
    (Arc::new(roads), cut)
}

#[tokio::test(start_paused = true)]
async fn of_two_who_read_before_either_writes_one_holds_it() {
    let api = Api::default();
    let (one, other) = (
        contender(&api, open(), "one"),
        contender(&api, open(), "other"),
    );
    let (mut seen_by_one, mut seen_by_other) = (None, None);
    let (first, second) = tokio::join!(
        one.try_acquire(&mut seen_by_one),
        other.try_acquire(&mut seen_by_other)
    );
    let (first, second) = (first.unwrap(), second.unwrap());
    assert!(first ^ second, "there was none: {first} {second}");
    let (holder, loser) = if first {
        (&one, &other)
    } else {
        (&other, &one)
    };
    assert!(holder.still_held().await.is_ok());
    assert!(matches!(loser.still_held().await, Err(Lost::Taken(_))));

    holder.release().await;
    assert!(holder.still_held().await.is_err(), "it was given up");
    let (first, second) = tokio::join!(
        one.try_acquire(&mut seen_by_one),
        other.try_acquire(&mut seen_by_other)
    );
    let (first, second) = (first.unwrap(), second.unwrap());
    assert!(first ^ second, "it was nobody's: {first} {second}");
}

#[tokio::test(start_paused = true)]
async fn another_takes_over_only_when_it_has_not_changed_for_as_long_as_it_lasts() {
    let api = Api::default();
    let holder = contender(&api, open(), "holder");
    holder.acquire().await;
    let other = contender(&api, open(), "other");
    {
        // While it is renewed, nobody else gets it.
        let hundred = Duration::from_secs(100);
        tokio::select! {
            () = other.acquire() => panic!("it was held"),
            lost = holder.keep() => panic!("{lost}"),
            () = tokio::time::sleep(hundred) => {}
        }
    }
    let silent_since = Instant::now();
    other.acquire().await;
    let waited = silent_since.elapsed();
    // The last renewal may be from right before the silence; and it is seen first up to one try later.
    assert!(waited >= DURATION - RETRY, "{waited:?}");
    assert!(waited <= DURATION + 3 * RETRY, "{waited:?}");
    let held = holder.still_held().await;
    assert!(
        matches!(&held, Err(Lost::Taken(by)) if by == "other"),
        "{held:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_long_under_way_is_no_proof_of_silence() {
    let api = Api::default();
    let (roads, cut) = until_cut();
    let holder = contender(&api, roads, "holder");
    holder.acquire().await;
    let kept = async { (holder.keep().await, Instant::now()) };
    // What the other reads first was asked for long before it was written.
    let slow = Arc::new(AtomicBool::new(true));
    let is_slow = Arc::clone(&slow);
    let roads: Roads = Arc::new(move || {
        let is_first = is_slow.swap(false, Ordering::Relaxed);
        let there = if is_first { 4_900 } else { 10 };
        Road::Takes(Duration::from_millis(there), Duration::from_millis(10))
    });
    let other = contender(&api, roads, "other");
    let taken = async {
        other.acquire().await;
        Instant::now()
    };
    let cuts = async {
        tokio::time::sleep(Duration::from_millis(4_500)).await;
        cut.store(true, Ordering::Relaxed);
    };
    let ((lost, stopped), taken, ()) = tokio::join!(kept, taken, cuts);
    assert!(matches!(lost, Lost::Unconfirmed(_)), "{lost}");
    assert!(stopped < taken, "{:?} too late", stopped - taken);
}

#[tokio::test(start_paused = true)]
async fn who_cannot_renew_stops_before_another_takes_over() {
    let api = Api::default();
    let (roads, cut) = until_cut();
    let holder = contender(&api, roads, "holder");
    holder.acquire().await;
    let other = contender(&api, open(), "other");
    let began = Instant::now();
    let kept = async {
        let lost = holder.keep().await;
        assert!(matches!(lost, Lost::Unconfirmed(_)), "{lost}");
        began.elapsed()
    };
    let taken = async {
        other.acquire().await;
        began.elapsed()
    };
    cut.store(true, Ordering::Relaxed);
    let (stopped, taken) = tokio::join!(kept, taken);
    assert!(
        stopped >= RENEW_DEADLINE - RETRY,
        "not at the first failure"
    );
    assert!(stopped < taken, "{stopped:?} {taken:?}");
    assert!(holder.still_held().await.is_err());
}

/// Numbers that look like chance and are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        // Knuth's MMIX.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// Requests that are mostly fast, and at times slow, refused, or lost for as long as a contender is cut off.
fn hard(seed: u64) -> Roads {
    let state = Mutex::new((Dice(seed), Instant::now()));
    Arc::new(move || {
        let (dice, cut_until) = &mut *state.lock().unwrap();
        let now = Instant::now();
        if now < *cut_until {
            return Road::Takes(FOR_EVER, FOR_EVER);
        }
        let longest_ms = match dice.below(100) {
            0..80 => 200,
            80..90 => 3_000,
            90..96 => 20_000,
            96..98 => {
                *cut_until = now + Duration::from_secs(dice.below(60));
                return Road::Takes(FOR_EVER, FOR_EVER);
            }
            _ => return Road::Refused,
        };
        let mut way = || Duration::from_millis(dice.below(longest_ms));
        Road::Takes(way(), way())
    })
}

#[tokio::test(start_paused = true)]
async fn there_are_never_two_whatever_becomes_of_requests_and_answers() {
    let (mut taken, mut gave_up) = (0, 0);
    for life in 0..10_u64 {
        let api = Api::default();
        let leading: Mutex<BTreeSet<u64>> = Mutex::default();
        let counted: Mutex<(usize, usize)> = Mutex::default();
        let contenders = (0..3_u64).map(|number| {
            let (api, leading, counted) = (&api, &leading, &counted);
            async move {
                let mut dice = Dice(life * 31 + number);
                for process in 0.. {
                    let identity = format!("{number}-{process}");
                    let seed = dice.below(u64::MAX);
                    let lease = contender(api, hard(seed), &identity);
                    lease.acquire().await;
                    {
                        let mut leading = leading.lock().unwrap();
                        leading.insert(number);
                        assert_eq!(leading.len(), 1, "life {life}: {leading:?}");
                    }
                    counted.lock().unwrap().0 += 1;
                    let works = Duration::from_secs(dice.below(120));
                    let lost = tokio::time::timeout(works, lease.keep()).await;
                    leading.lock().unwrap().remove(&number);
                    if lost.is_ok() {
                        counted.lock().unwrap().1 += 1;
                    } else {
                        lease.release().await;
                    }
                }
            }
        });
        let _ = tokio::time::timeout(Duration::from_secs(900), join_all(contenders)).await;
        let (led, lost) = *counted.lock().unwrap();
        assert!(led > 3, "life {life}: somebody leads again and again");
        taken += led;
        gave_up += lost;
    }
    assert!(taken > 50 && gave_up > 10, "{taken} {gave_up}");
}
