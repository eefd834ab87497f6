//! Turns that are taken by whoever queues, with lanes that have threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use bytes::Bytes;
use weir_wire::Offset;

use crate::storage_sim::SimStorage;
use crate::testing::{DIR, EPOCH, Recorder, batch, batch_at, key};
use crate::{
    Append, AppendError, Appended, DataDir, Durability, Fatal, Lanes, LanesConfig, LogConfig,
    OpenPartition, Opened, Origin, PartitionHandle, PartitionMeta, SystemClock, lend_turns,
};

/// What became of an append, and which thread said so.
type Said = (Result<Appended, AppendError>, ThreadId);

struct Threads {
    lanes: Lanes,
    dir: Arc<DataDir>,
    fatals: Arc<Mutex<Vec<Fatal>>>,
}

impl Threads {
    fn start() -> Self {
        let config = LanesConfig {
            lanes: 1,
            ..LanesConfig::default()
        };
        let fatals: Arc<Mutex<Vec<Fatal>>> = Arc::default();
        let heard = Arc::clone(&fatals);
        let on_fatal = Arc::new(move |fatal: &Fatal| heard.lock().unwrap().push(fatal.clone()));
        let storage = Arc::new(SimStorage::new());
        Self {
            lanes: Lanes::start(config, Arc::new(SystemClock), on_fatal).unwrap(),
            dir: DataDir::open(storage, DIR.as_ref(), 0).unwrap(),
            fatals,
        }
    }

    fn open(&self, number: i32, durability: Durability) -> (PartitionHandle, Arc<Recorder>) {
        let recorder = Arc::new(Recorder::default());
        let (sender, opened) = mpsc::channel();
        let wanted = OpenPartition {
            dir: Arc::clone(&self.dir),
            meta: PartitionMeta {
                key: key(number),
                topic: "flights".to_owned(),
            },
            config: LogConfig {
                durability,
                replicated_sync_ms: 50,
                ..LogConfig::default()
            },
            observer: Arc::clone(&recorder) as _,
        };
        self.lanes
            .open(wanted, move |result| sender.send(result).unwrap());
        let Opened { handle, .. } = opened.recv().unwrap().unwrap();
        (handle, recorder)
    }
}

fn send(handle: &PartitionHandle, batch: &Bytes) -> Receiver<Said> {
    let (sender, said) = mpsc::channel();
    handle.append(Append {
        batch: batch.clone(),
        leader_epoch: EPOCH,
        origin: Origin::Client,
        verified: None,
        begins_at_zero: false,
        done: Box::new(move |result| sender.send((result, thread::current().id())).unwrap()),
    });
    said
}

/// Appends one by one until `this` thread has written one; each is done when its answer is here.
fn append_until_lent(handle: &PartitionHandle) -> u64 {
    let me = thread::current().id();
    for count in 1..100_000 {
        let said = lend_turns(|| send(handle, &batch(1)));
        // The lane may still be at what came before.
        let (result, by) = said.recv().unwrap();
        result.unwrap();
        if by == me {
            return count;
        }
    }
    panic!("no turn was ever lent");
}

#[test]
fn what_need_not_be_synced_is_written_by_whoever_queues_it_when_the_lane_is_at_rest() {
    let threads = Threads::start();
    for (number, durability) in [(0, Durability::Os), (1, Durability::Replicated)] {
        let (handle, recorder) = threads.open(number, durability);
        let count = append_until_lent(&handle);
        let end = Offset(i64::try_from(count).unwrap());
        assert_eq!(recorder.durable_end(), end, "told before it returned");
        assert_eq!(handle.reader().log_end(), end);
    }
    threads.lanes.shutdown();
}

#[test]
fn a_sync_and_a_large_write_are_for_the_lanes_thread() {
    let threads = Threads::start();
    let (synced, _) = threads.open(0, Durability::Fsync);
    let (large, _) = threads.open(1, Durability::Os);
    let large_batch = batch_at(&[1_000], 70 << 10);
    let me = thread::current().id();
    for _ in 0..200 {
        for (handle, batch) in [(&synced, &batch(1)), (&large, &large_batch)] {
            let (result, by) = lend_turns(|| send(handle, batch)).recv().unwrap();
            result.unwrap();
            assert_ne!(by, me);
        }
    }
    threads.lanes.shutdown();
}

#[test]
fn without_an_offer_every_turn_is_the_lanes() {
    let threads = Threads::start();
    let (handle, _) = threads.open(0, Durability::Os);
    for _ in 0..200 {
        let (result, by) = send(&handle, &batch(1)).recv().unwrap();
        result.unwrap();
        assert_ne!(by, thread::current().id());
    }
    threads.lanes.shutdown();
}

#[test]
fn the_lanes_thread_wakes_by_itself_for_the_sync_after_a_lent_turn() {
    let threads = Threads::start();
    let (handle, _) = threads.open(0, Durability::Replicated);
    append_until_lent(&handle);
    // Nobody queues anything more.
    let deadline = Instant::now() + Duration::from_secs(60);
    while handle.reader().synced_end() < handle.reader().log_end() {
        assert!(Instant::now() < deadline, "never synced");
        thread::yield_now();
    }
    threads.lanes.shutdown();
}

#[test]
fn turns_of_many_threads_keep_each_ones_order_and_lose_nothing() {
    const EACH: usize = 500;
    let threads = Threads::start();
    let promises = [Durability::Os, Durability::Fsync, Durability::Replicated];
    let handles: Vec<_> = (0..)
        .zip(promises)
        .map(|(number, durability)| threads.open(number, durability).0)
        .collect();
    let handles = &handles;
    thread::scope(|scope| {
        for number in 0..4 {
            scope.spawn(move || {
                let mut saids: Vec<Vec<Receiver<Said>>> =
                    handles.iter().map(|_| Vec::new()).collect();
                for turn in 0..EACH {
                    let mut all = || {
                        for (handle, saids) in handles.iter().zip(&mut saids) {
                            saids.push(send(handle, &batch(1)));
                        }
                    };
                    if (turn + number) % 3 == 0 {
                        all();
                    } else {
                        lend_turns(all);
                    }
                }
                for saids in saids {
                    let offsets = saids.iter().map(|said| {
                        let (result, _) = said.recv().unwrap();
                        result.unwrap().base_offset
                    });
                    let offsets: Vec<_> = offsets.collect();
                    assert!(offsets.is_sorted(), "{offsets:?}");
                }
            });
        }
    });
    for handle in handles {
        let end = i64::try_from(4 * EACH).unwrap();
        assert_eq!(handle.reader().log_end(), Offset(end));
    }
    threads.lanes.shutdown();
}

#[test]
fn a_panic_in_a_lent_turn_stops_the_lane_and_says_so() {
    let threads = Threads::start();
    let (handle, _) = threads.open(0, Durability::Os);
    append_until_lent(&handle);
    let thrown = catch_unwind(AssertUnwindSafe(|| {
        lend_turns(|| {
            handle.append(Append {
                batch: batch(1),
                leader_epoch: EPOCH,
                origin: Origin::Client,
                verified: None,
                begins_at_zero: false,
                done: Box::new(|_| panic!("a defect")),
            });
        });
    }));
    let after = send(&handle, &batch(1)).recv().unwrap().0;
    assert!(matches!(after, Err(AppendError::Stopped)), "{after:?}");
    assert!(thrown.is_err(), "the lane was at rest");
    assert_eq!(threads.fatals.lock().unwrap().len(), 1);
    threads.lanes.shutdown();
}
