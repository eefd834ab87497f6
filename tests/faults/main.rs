//! Real brokers, each in a network namespace of its own, to which things happen while other people's clients go on:
//! `cargo xtask test --only faults`.
//!
//! `WEIR_FAULT_SECONDS` says how long each fault lasts at least; the few seconds of `make test` are more than a broker's session.
//! `WEIR_SEED` makes the same choices again.
#![allow(clippy::print_stdout, reason = "stories say how far they are")]

mod fault;
mod loads;

use std::time::{Duration, Instant};

use fault::{FAULTS, Fault};
use loads::Loads;
use weir_tests::cluster::{Cluster, Shape};
use weir_tests::random::Random;
use weir_tests::wait;

/// Each broker's disk: small enough to be filled at once, and more than any run writes.
const DISK_BYTES: u64 = 1 << 30;

/// How long a fault lasts at least in `make test`: longer than a broker's session of two seconds.
const LASTS: Duration = Duration::from_secs(3);

/// Messages of each partition that must be acknowledged to say that it goes on: more than are on their way when a fault begins.
const MORE: u64 = 20;

/// How long clients may take to go on. They do within seconds; machines differ.
const LIMIT: Duration = Duration::from_secs(90);

#[test]
fn clients_go_on_and_nothing_is_lost_whatever_happens_to_one_broker() {
    let lasts = std::env::var("WEIR_FAULT_SECONDS").map_or(LASTS, |seconds| {
        Duration::from_secs(seconds.parse().expect("WEIR_FAULT_SECONDS is a number"))
    });
    let chosen = std::env::var("WEIR_FAULTS").ok();
    let mut random = Random::announced();
    let mut cluster = Cluster::start(Shape {
        brokers: 3,
        disk_bytes: Some(DISK_BYTES),
        settings: "",
    });
    let mut loads = Loads::start(&cluster, &mut random);
    for fault in order(&mut random) {
        if chosen
            .as_ref()
            .is_some_and(|chosen| !chosen.split(',').any(|name| name == fault.name()))
        {
            continue;
        }
        let victim = usize::try_from(random.between(0, 3)).expect("small");
        happen(&mut cluster, &mut loads, fault, victim, lasts);
    }
    loads.finish(&cluster);
}

/// All faults, in an order that the seed decides.
fn order(random: &mut Random) -> Vec<Fault> {
    let mut left = FAULTS.to_vec();
    let mut order = Vec::new();
    while !left.is_empty() {
        let next = random.between(0, left.len() as u64);
        order.push(left.swap_remove(usize::try_from(next).expect("small")));
    }
    order
}

fn happen(cluster: &mut Cluster, loads: &mut Loads, fault: Fault, victim: usize, lasts: Duration) {
    if fault.seen_within().is_none() {
        // What is led by others is to stay so, and clients are to know who leads: one that asks the broker that it cannot reach waits.
        loads.wait_for_preferred(cluster);
        loads.go_on(MORE, None, LIMIT, "whoever is to lead leads");
    }
    let led_elsewhere = loads.led_elsewhere(cluster, victim);
    loads.forget_silence();
    let began = Instant::now();
    fault.begin(cluster, victim);
    let go_on = |loads: &mut Loads, when: &str| match fault.seen_within() {
        Some(within) if within < lasts => loads.go_on(MORE, None, LIMIT, when),
        // It is over before anybody sees it.
        Some(_) => loads.check_alive(),
        None => loads.go_on(MORE, Some(&led_elsewhere), LIMIT, when),
    };
    go_on(loads, &format!("{} began", fault.name()));
    wait::until("it lasted for long enough", lasts + LIMIT, || {
        (began.elapsed() >= lasts).then_some(())
    });
    go_on(loads, &format!("{} went on", fault.name()));
    let during = loads.silence();
    fault.end(cluster, victim);
    loads.go_on(MORE, None, LIMIT, &format!("{} was over", fault.name()));
    loads.wait_for_sync(cluster);
    println!(
        "  {:18} broker {victim}: a partition was silent for at most {during}; {:4.1} s until all is well",
        fault.name(),
        began.elapsed().as_secs_f64()
    );
}
