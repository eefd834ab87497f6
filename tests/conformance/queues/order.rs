//! Of the messages of one key one is out at a time, the oldest first.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread;

use weir_tests::lock::lock;
use weir_tests::puppet::{Kind, New, Record};
use weir_tests::wait;

use super::clients::{EVERYONE, SHARERS};
use super::stage::{LIMIT, Stage, now_ms, number_of};

const TOPIC: &str = "order";
const GROUP: &str = "in-order";
const PARTITIONS: usize = 2;

/// Keys of each client, records of each key that are sent at once, and how often: after the broker is back once more.
const KEYS: usize = 2;
const EACH: usize = 6;
const ROUNDS: usize = 3;

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Somebody has it, or has released it, since this time.
    Undone { since_ms: i64 },
    /// Somebody is saying that it is done.
    Ending,
}

/// The messages of each key that were ever out, by offset.
type Keys = BTreeMap<String, BTreeMap<i64, State>>;

pub(super) fn of_one_key_one_is_out_at_a_time(stage: &Stage) {
    stage.topic(TOPIC, PARTITIONS, &[("weir.queue.order", "key")]);
    stage.group(GROUP, &[]);
    let keys = Mutex::<Keys>::default();
    let ended = Mutex::<BTreeMap<String, usize>>::default();
    let wanted = EVERYONE.len() * KEYS * EACH * ROUNDS;
    thread::scope(|scope| {
        for client in SHARERS {
            let (keys, ended) = (&keys, &ended);
            scope.spawn(move || {
                let member = stage.member(client, GROUP, TOPIC, None);
                while lock(ended).len() < wanted {
                    let records = member.poll();
                    for record in &records {
                        take(stage, &mut lock(keys), record);
                    }
                    for record in &records {
                        // A released one comes again, and nothing of its key before.
                        let is_released =
                            number_of(&record.value).is_multiple_of(5) && record.deliveries == 1;
                        let kind = if is_released {
                            Kind::Release
                        } else {
                            Kind::Accept
                        };
                        if kind == Kind::Accept {
                            let mut keys = lock(keys);
                            let of_key = keys.entry(key(record)).or_default();
                            of_key.insert(record.offset, State::Ending);
                        }
                        // What is not certain to be stored comes again, or does not.
                        let _ = member.settle([(record, kind)]);
                        if kind == Kind::Accept {
                            let mut ended = lock(ended);
                            *ended.entry(record.value.clone()).or_default() += 1;
                        }
                    }
                }
            });
        }
        for round in 0..ROUNDS {
            if round + 1 == ROUNDS {
                stage.wait_until_mended();
            }
            thread::scope(|scope| {
                for client in EVERYONE {
                    scope.spawn(move || {
                        let numbers = round * EACH..(round + 1) * EACH;
                        let records: Vec<_> = numbers
                            .flat_map(|number| (0..KEYS).map(move |key| (key, number)))
                            .map(|(key, number)| {
                                let key = format!("{}-{key}", client.name());
                                New::of(format!("{key}-{number}")).key(key)
                            })
                            .collect();
                        stage.send(client, TOPIC, &records);
                    });
                }
            });
            if round == 0 {
                stage.under_way();
            }
        }
        let found = wait::poll(LIMIT, || (lock(&ended).len() == wanted).then_some(()));
        if found.is_none() {
            let (seen, states) = (lock(&ended).clone(), lock(&keys).clone());
            // Lets the members end.
            lock(&ended).extend((0..wanted).map(|number| (format!("none-{number}"), 0)));
            panic!("{} of {wanted} are done; {states:?}", seen.len());
        }
    });
}

/// A message may be out when all older ones of its key are done, unless leases have ended with their leader.
fn take(stage: &Stage, keys: &mut Keys, record: &Record) {
    let of_key = keys.entry(key(record)).or_default();
    for (offset, state) in of_key.range(..record.offset) {
        if let State::Undone { since_ms } = *state {
            assert!(
                stage.leases_may_have_ended(since_ms),
                "{record:?} is out, and so is offset {offset}, since {since_ms}"
            );
        }
    }
    for (offset, state) in of_key.range(record.offset + 1..) {
        assert!(
            stage.leases_may_have_ended(record.at),
            "{record:?} is out after offset {offset}, which is {state:?}"
        );
    }
    let since_ms = now_ms();
    of_key.insert(record.offset, State::Undone { since_ms });
}

fn key(record: &Record) -> String {
    record.key.clone().expect("all have keys")
}
