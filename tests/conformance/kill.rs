//! `kill -9` of everything, ten times, while an idempotent producer goes on.

use crate::MANIFESTS;
use std::time::Duration;
use weir_tests::acknowledged::Producer;
use weir_tests::clients::Clients;
use weir_tests::flights;
use weir_tests::local::Local;
use weir_tests::log;
use weir_tests::random::Random;
use weir_tests::wait;

/// How many times everything is killed.
const KILLS: u32 = 10;

/// Messages that may be sent beyond the moment of a kill: more than the producer has in flight, so that each kill finds
/// messages in all states.
const STILL_ON_THEIR_WAY: u64 = 10_000;

#[test]
fn what_was_acknowledged_is_there_after_everything_was_killed_ten_times() {
    let flights = flights::all();
    let mut random = Random::announced();
    let mut local = Local::start(MANIFESTS);
    let bootstrap = local.bootstrap();
    wait::until("the topic is there", Duration::from_secs(30), || {
        (Clients::Here.partitions(&bootstrap, "flights") == 12).then_some(())
    });

    let mut producer = Producer::start(&Clients::Here, &bootstrap, "flights");
    for kill in 1..=KILLS {
        // Counted, not timed: sooner than a first batch is done, or deep in the flow.
        let moment = random.between(1, 10_000);
        producer.allow(moment + STILL_ON_THEIR_WAY);
        producer.follow(moment);
        local.crash_and_start_again();
        assert_eq!(
            local.bootstrap(),
            bootstrap,
            "the address stays what it was"
        );
        let acknowledged = producer.acknowledged().clone();
        wait::until(
            "every partition has a leader again",
            Duration::from_secs(60),
            || (Clients::Here.partitions(&bootstrap, "flights") == 12).then_some(()),
        );
        let log = Clients::Here.read_log(&bootstrap, "flights");
        log::holds_acknowledged(&log, &acknowledged);
        println!(
            "  kill {kill}: {} acknowledged, all there",
            acknowledged.len()
        );
    }

    let sent = producer.finish();
    let log = Clients::Here.read_log(&bootstrap, "flights");
    log::holds_each_once(&log, &flights, sent);
    println!("  {sent} messages, each exactly once");
}
