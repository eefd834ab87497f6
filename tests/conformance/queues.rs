//! Queues through clients that nobody here wrote, on three brokers of which one is killed meanwhile.
//!
//! All scenarios run at the same time, each with topics and groups of its own. A scenario says when it is well under way
//! ([`Stage::under_way`]); when all have, a broker is killed by SIGKILL and comes back, and what was promised holds throughout. Its clients
//! are puppets ([`weir_tests::puppet`]): Kafka's Java client, librdkafka, franz-go, and one that is generated for Python from `weir.queue.v1`.
//! In `expected/queues.txt` is a line for each scenario and client that has a part in it.

mod admin;
mod asking;
mod bounds;
mod clients;
mod delay;
mod half;
mod keeping;
mod letters;
mod order;
mod priority;
mod retries;
mod sharing;
mod stage;
mod trace;
mod view;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Instant;

use clients::Client::{self, FranzGo, Grpc, Java, Librdkafka};
use stage::Stage;
use weir_tests::random::Random;
use weir_tests::suite::{self, Verdict, Verdicts};

/// A scenario, and which clients have a part in it.
struct Scenario {
    name: &'static str,
    clients: &'static [Client],
    run: fn(&Stage),
}

const ALL: &[Client] = &[Java, Librdkafka, FranzGo, Grpc];

const SCENARIOS: [Scenario; 23] = [
    Scenario {
        name: "share",
        clients: ALL,
        run: sharing::each_is_done_with_once,
    },
    Scenario {
        name: "broadcast",
        clients: ALL,
        run: sharing::every_reader_gets_everything,
    },
    Scenario {
        name: "credit",
        clients: &[Java, FranzGo, Grpc],
        run: sharing::no_more_is_out_than_there_is_credit_for,
    },
    Scenario {
        name: "order",
        clients: ALL,
        run: order::of_one_key_one_is_out_at_a_time,
    },
    Scenario {
        name: "delay",
        clients: ALL,
        run: delay::nothing_comes_early_or_out_of_order,
    },
    Scenario {
        name: "retry",
        clients: ALL,
        run: retries::what_nobody_can_do_becomes_a_dead_letter,
    },
    Scenario {
        name: "breaker",
        clients: ALL,
        run: letters::a_flood_of_failures_does_not_empty_the_queue,
    },
    Scenario {
        name: "redrive",
        clients: ALL,
        run: letters::letters_go_back_by_a_condition,
    },
    Scenario {
        name: "filter",
        clients: ALL,
        run: keeping::a_group_gets_what_its_filter_lets_through,
    },
    Scenario {
        name: "time-to-live",
        clients: ALL,
        run: keeping::what_is_too_old_is_not_handed_out,
    },
    Scenario {
        name: "duplicates",
        clients: ALL,
        run: keeping::what_comes_twice_is_there_once,
    },
    Scenario {
        name: "sold-out",
        clients: ALL,
        run: bounds::a_partition_takes_exactly_what_it_may,
    },
    Scenario {
        name: "sold-out-topic",
        clients: ALL,
        run: bounds::a_topic_takes_exactly_what_it_may,
    },
    Scenario {
        name: "sold-bytes",
        clients: ALL,
        run: bounds::a_partition_takes_as_many_bytes_as_it_may,
    },
    Scenario {
        name: "throttled",
        clients: ALL,
        run: bounds::who_sends_waits_for_room,
    },
    Scenario {
        name: "sold-again",
        clients: ALL,
        run: bounds::what_is_settled_makes_room_for_as_much,
    },
    Scenario {
        name: "drop-oldest",
        clients: ALL,
        run: bounds::the_oldest_make_room,
    },
    Scenario {
        name: "request-reply",
        clients: ALL,
        run: asking::every_call_gets_its_reply,
    },
    Scenario {
        name: "priority",
        clients: ALL,
        run: priority::the_most_urgent_goes_first,
    },
    Scenario {
        name: "priority-weighted",
        clients: ALL,
        run: priority::the_least_urgent_has_its_share,
    },
    Scenario {
        name: "half",
        clients: ALL,
        run: half::what_is_prepared_appears_when_it_is_committed_or_never,
    },
    Scenario {
        name: "view",
        clients: ALL,
        run: view::a_view_has_what_its_filter_lets_through,
    },
    Scenario {
        name: "trace",
        clients: ALL,
        run: trace::brokers_tell_where_a_message_was,
    },
];

#[test]
fn queues_keep_their_promises_to_every_client_while_a_broker_is_killed() {
    let chosen = std::env::var("WEIR_QUEUES").ok();
    let chosen: Vec<_> = SCENARIOS
        .iter()
        .filter(|one| {
            let names = chosen.as_deref();
            names.is_none_or(|names| names.split(',').any(|name| name == one.name))
        })
        .collect();
    let mut random = Random::announced();
    let stage = Stage::build(chosen.len());
    let began = Instant::now();
    let ends: Vec<_> = thread::scope(|scope| {
        let running: Vec<_> = chosen
            .iter()
            .map(|scenario| {
                let stage = &stage;
                scope.spawn(move || {
                    let ended = catch_unwind(AssertUnwindSafe(|| (scenario.run)(stage)));
                    stage.ended(ended.is_err());
                    println!(
                        "  {}: {} after {} s",
                        scenario.name,
                        if ended.is_ok() { "well" } else { "FAILED" },
                        began.elapsed().as_secs()
                    );
                    ended
                })
            })
            .collect();
        stage.kill_a_broker(&mut random);
        let ends = running
            .into_iter()
            .map(|one| one.join().expect("it is caught"));
        ends.collect()
    });
    let mut said = Verdicts::default();
    for (scenario, ended) in chosen.iter().zip(ends) {
        for client in scenario.clients {
            let name = format!("{}/{}", scenario.name, client.name());
            match &ended {
                Ok(()) => said.take(&name, Verdict::Pass, ""),
                Err(panic) => said.take(&name, Verdict::Fail, &words(panic.as_ref())),
            }
        }
    }
    if std::env::var_os("WEIR_QUEUES").is_some() {
        assert!(said.failed().is_empty(), "{said}");
        return;
    }
    suite::check("queues", &said);
}

/// What somebody said who panicked.
fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("it panicked").replace('\n', " ")
}
