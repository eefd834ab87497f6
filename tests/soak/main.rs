//! A week in an hour: everything that clients do, at once, while brokers are killed: `cargo xtask soak`, and a short form as a stage of
//! `cargo xtask test`.
//!
//! `WEIR_SOAK_SECONDS` says for how long; `WEIR_SEED` makes the same choices again. From 20 minutes on, the memory of a broker that
//! nobody kills in the second half must stay what it is.
#![allow(clippy::print_stdout, reason = "stories say how far they are")]

mod loads;

use std::time::{Duration, Instant};

use loads::Loads;
use weir_tests::cluster::{Cluster, Shape};
use weir_tests::memory::Memory;
use weir_tests::random::Random;
use weir_tests::wait;

/// How long it takes in `make test`.
const SHORT: Duration = Duration::from_secs(32);

/// From here on it is the long form: brokers are killed each minute, and memory is judged.
const LONG: Duration = Duration::from_secs(20 * 60);

/// How often a broker is killed in the long form, and in the short one.
const KILL_EVERY: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(10));

/// How often somebody joins or leaves each group, in the long form and in the short one.
const CHURN_EVERY: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(6));

/// How long a broker stays away at most.
const AWAY_MS_MAX: u64 = 5_000;

/// One in so many times all brokers are killed at once.
const ALL_OF: u64 = 6;

/// Brokers of the cluster.
const BROKERS: usize = 3;

/// How often memory is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is different between the long form and the short one.
struct Plan {
    lasts: Duration,
    kill_every: Duration,
    churn_every: Duration,
    is_long: bool,
    /// Whose memory is judged: not killed alone, and not at all in the second half.
    witness: Option<usize>,
}

impl Plan {
    fn new(random: &mut Random) -> Self {
        let lasts = std::env::var("WEIR_SOAK_SECONDS").map_or(SHORT, |seconds| {
            Duration::from_secs(seconds.parse().expect("WEIR_SOAK_SECONDS is a number"))
        });
        let is_long = lasts >= LONG;
        let either = |(long, short)| if is_long { long } else { short };
        Self {
            lasts,
            kill_every: either(KILL_EVERY),
            churn_every: either(CHURN_EVERY),
            is_long,
            witness: is_long.then(|| pick(random, BROKERS)),
        }
    }

    /// Who is killed next.
    fn victims(&self, random: &mut Random, at: Duration) -> Vec<usize> {
        let may_be_all = !self.is_long || at < self.lasts / 2;
        if random.between(0, ALL_OF) == 0 && may_be_all {
            return (0..BROKERS).collect();
        }
        let others: Vec<usize> = (0..BROKERS)
            .filter(|broker| Some(*broker) != self.witness)
            .collect();
        vec![others[pick(random, others.len())]]
    }
}

fn pick(random: &mut Random, of: usize) -> usize {
    usize::try_from(random.between(0, of as u64)).expect("small")
}

#[test]
fn everything_at_once_stays_right_while_brokers_are_killed() {
    let mut random = Random::announced();
    let plan = Plan::new(&mut random);
    let mut cluster = Cluster::start(Shape {
        brokers: BROKERS,
        disk_bytes: None,
        settings: "",
    });
    let mut loads = Loads::start(&cluster, plan.is_long);
    let mut watch = Watch::default();
    let began = Instant::now();
    let (mut next_kill, mut next_churn) = (plan.kill_every, plan.churn_every);
    let mut kills = 0;
    while began.elapsed() < plan.lasts {
        let now = began.elapsed();
        if now >= next_churn {
            loads.churn(&mut random);
            next_churn += plan.churn_every;
        }
        if now >= next_kill {
            let victims = plan.victims(&mut random, now);
            let away = Duration::from_millis(random.between(0, AWAY_MS_MAX));
            loads.forget_silence();
            cluster.kill(&victims);
            let killed = Instant::now();
            wait::until("brokers are away", AWAY, || {
                (killed.elapsed() >= away).then_some(())
            });
            cluster.start_all();
            loads.go_on();
            let silence = loads.silence();
            loads.wait_for_sync(&cluster);
            kills += 1;
            println!(
                "  {:4} s  brokers {victims:?} killed, away for {:.1} s; a partition was silent for at most {silence}",
                now.as_secs(),
                away.as_secs_f64(),
            );
            next_kill = (next_kill + plan.kill_every).max(began.elapsed());
        }
        cluster.check_alive();
        loads.check_alive();
        watch.look(&cluster, began.elapsed());
        let looked = began.elapsed();
        wait::until("the next look", LOOK_EVERY * 10, || {
            (began.elapsed() >= looked + LOOK_EVERY).then_some(())
        });
    }
    println!("  {kills} times killed; now all comes to its end");
    loads.finish(&cluster);
    watch.judge(&plan);
}

/// Far longer than brokers stay away.
const AWAY: Duration = Duration::from_secs(60);

/// The memory of each broker's life.
#[derive(Default)]
struct Watch {
    lives: Vec<(usize, u32, Memory)>,
}

impl Watch {
    fn look(&mut self, cluster: &Cluster, at: Duration) {
        for broker in 0..BROKERS {
            let (Some(process), Some(bytes)) =
                (cluster.process(broker), cluster.memory_bytes(broker))
            else {
                continue;
            };
            let known = self
                .lives
                .iter_mut()
                .rfind(|(_, known, _)| *known == process);
            if let Some((_, _, memory)) = known {
                memory.take(at, bytes);
            } else {
                let mut memory = Memory::default();
                memory.take(at, bytes);
                self.lives.push((broker, process, memory));
            }
        }
    }

    fn judge(&self, plan: &Plan) {
        for broker in 0..BROKERS {
            let lives = self.lives.iter().filter(|(of, ..)| *of == broker);
            let most: Vec<String> = lives
                .map(|(.., memory)| (memory.most() >> 20).to_string())
                .collect();
            println!(
                "  the most memory of each life of broker {broker}: {} MiB",
                most.join(", ")
            );
        }
        let Some(witness) = plan.witness else {
            return;
        };
        let last = self.lives.iter().rfind(|(broker, ..)| *broker == witness);
        let (.., memory) = last.expect("it was looked at");
        match memory.is_flat() {
            Ok((before, after)) => println!(
                "  broker {witness}, alive for {} minutes, had {} MiB and has {} MiB",
                memory.lasted().as_secs() / 60,
                before >> 20,
                after >> 20
            ),
            Err(grown) => panic!("broker {witness}: {grown}"),
        }
    }
}
