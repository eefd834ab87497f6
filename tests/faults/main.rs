//! Broker processes that are killed and stopped one after the other while clients go on: `cargo xtask test --only faults`.
//!
//! `WEIR_FAULTS` says how many faults there are; the few of `make test` take a minute. `WEIR_SEED` makes the same choices again.
#![allow(clippy::print_stdout, reason = "stories say how far they are")]

use std::time::{Duration, Instant};

use weir_tests::acknowledged::Producer;
use weir_tests::clients::Clients;
use weir_tests::flights;
use weir_tests::local::Local;
use weir_tests::log;
use weir_tests::random::Random;
use weir_tests::wait;

/// Three brokers, and a topic of which each has a replica.
const MANIFESTS: &str = "\
apiVersion: weir.dev/v1alpha1
kind: Cluster
metadata:
  name: shop
spec:
  replicas: 3
  storage:
    size: 1Gi
---
apiVersion: weir.dev/v1alpha1
kind: Topic
metadata:
  name: flights
spec:
  clusterRef:
    name: shop
  partitions: 12
  replicationFactor: 3
";

/// Faults of a run in `make test`.
const FAULTS: u64 = 8;

/// Messages that must be acknowledged while a broker is away.
const MEANWHILE: u64 = 3_000;

/// Messages that may be sent beyond those: more than the producer has in flight, so that each fault finds messages in all
/// states.
const STILL_ON_THEIR_WAY: u64 = 10_000;

/// How long a stopped process is stopped at least: longer than its session.
const STOPPED: Duration = Duration::from_secs(4);

#[test]
fn what_is_acknowledged_is_there_whichever_broker_is_killed_or_stopped() {
    let flights = flights::all();
    let faults = std::env::var("WEIR_FAULTS").map_or(FAULTS, |faults| {
        faults.parse().expect("WEIR_FAULTS is a number")
    });
    let mut random = Random::announced();
    let local = Local::start(MANIFESTS);
    let bootstrap = local.bootstrap();
    let all_led = |what: &str| {
        wait::until(what, Duration::from_secs(60), || {
            (Clients::Here.partitions(&bootstrap, "flights") == 12).then_some(())
        });
    };
    all_led("the topic is there");

    let mut producer = Producer::start(&Clients::Here, &bootstrap, "flights");
    for fault in 1..=faults {
        producer.allow(MEANWHILE);
        producer.follow(random.between(1, MEANWHILE));
        let brokers = wait::until("three brokers run", Duration::from_secs(60), || {
            let brokers = local.brokers();
            (brokers.len() == 3).then_some(brokers)
        });
        let which = usize::try_from(random.between(0, 3)).expect("small");
        let broker = brokers[which.min(2)];
        let began = Instant::now();
        if random.between(0, 2) == 0 {
            local.kill(&[broker]);
            go_on(&mut producer);
            println!(
                "  fault {fault}: killed; {MEANWHILE} acknowledged {:.1} s after, the longest silence {:.1} s",
                began.elapsed().as_secs_f64(),
                producer.longest_silence().as_secs_f64()
            );
        } else {
            // What is on its way to a frozen process is waited for by the client (`socket.timeout.ms`, a minute), whoever leads by
            // then; so what has to be is that all goes on when it is back, and finds others leading.
            local.signal("STOP", &[broker]);
            producer.allow(MEANWHILE);
            wait::until(
                "it was stopped for long enough",
                Duration::from_secs(60),
                || (began.elapsed() >= STOPPED).then_some(()),
            );
            local.signal("CONT", &[broker]);
            go_on(&mut producer);
            println!(
                "  fault {fault}: stopped; {MEANWHILE} acknowledged {:.1} s after, the longest silence {:.1} s",
                began.elapsed().as_secs_f64(),
                producer.longest_silence().as_secs_f64()
            );
        }
    }

    let sent = producer.finish_with(|acknowledged| {
        all_led("every partition is led in the end");
        let log = Clients::Here.read_log(&bootstrap, "flights");
        log::holds_acknowledged(&log, acknowledged);
    });
    let log = Clients::Here.read_log(&bootstrap, "flights");
    log::holds_each_once(&log, &flights, sent);
    println!("  {sent} messages, each exactly once, after {faults} faults");
}

/// Messages that are sent from now on are acknowledged, whatever has happened.
fn go_on(producer: &mut Producer) {
    // What was acknowledged before says nothing.
    let _ = producer.acknowledged();
    producer.longest_silence();
    producer.allow(MEANWHILE + STILL_ON_THEIR_WAY);
    producer.follow(MEANWHILE);
}
