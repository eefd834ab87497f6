//! What a producer sees when a broker of three ends: the longest time without an acknowledgement, and what became of its records.
//!
//! One partition is written at a steady rate with acks=all by a client that waits for nothing else; its leader is killed or frozen. The
//! client judges (`kbench -mode failover`); whatever sends, franz-go in it or librdkafka beside it, it reads everything back.

use super::broker::{Installed, Kind, Programs, Running};
use super::load::{Answer, Load};
use super::results::Results;
use super::{Options, Part, turns};
use crate::{Outcome, clients, paths};
use rustix::process::Signal;
use std::time::Duration;

/// What happens, and to whom.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    /// `kill -9` of a leader.
    Killed,
    /// `kill -9` of a leader that also leads the metadata's quorum.
    QuorumLeaderKilled,
    /// SIGSTOP of a leader, and SIGCONT after [`FROZEN`].
    Frozen,
}

/// How long a frozen leader is frozen: longer than the session of each broker (Weir's 2 s, Kafka's 9 s), so that it comes back
/// as a leader that others have replaced.
const FROZEN: Duration = Duration::from_secs(15);

/// Who sends.
#[derive(Clone, Copy)]
enum Client {
    FranzGo,
    Librdkafka,
}

/// One row of the table.
pub(super) struct Row {
    /// Its name, for `--only`.
    pub(super) name: &'static str,
    fault: Fault,
    client: Client,
}

/// All rows, in the table's order.
pub(super) const ROWS: [Row; 6] = [
    Row {
        name: "failover-killed-franz-go",
        fault: Fault::Killed,
        client: Client::FranzGo,
    },
    Row {
        name: "failover-killed-librdkafka",
        fault: Fault::Killed,
        client: Client::Librdkafka,
    },
    Row {
        name: "failover-quorum-leader-killed-franz-go",
        fault: Fault::QuorumLeaderKilled,
        client: Client::FranzGo,
    },
    Row {
        name: "failover-quorum-leader-killed-librdkafka",
        fault: Fault::QuorumLeaderKilled,
        client: Client::Librdkafka,
    },
    Row {
        name: "failover-frozen-franz-go",
        fault: Fault::Frozen,
        client: Client::FranzGo,
    },
    Row {
        name: "failover-frozen-librdkafka",
        fault: Fault::Frozen,
        client: Client::Librdkafka,
    },
];

/// Repeats all rows, each time on brokers that have never run; who comes first changes.
pub(super) fn run(
    options: &Options,
    programs: &Programs,
    load: &Load,
    results: &mut Results,
) -> Outcome {
    let rows = ROWS.iter();
    let rows: Vec<_> = rows
        .filter(|row| options.wants(Part::Failover, row.name))
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    let kinds = options.kinds(Kind::is_default);
    for round in 1..=options.rounds_of_failover() {
        for kind in turns(&kinds, round) {
            println!("failover, round {round}, {kind}");
            let brokers = programs.on_fresh_disks(kind, 3)?;
            let mut running = brokers.start()?;
            load.first(&brokers, "warm-up", 12)?;
            load.run(&brokers, "-mode in-sync -topic warm-up")?;
            load.run(&brokers, "-mode produce -topic warm-up -count 300000")?;
            for row in &rows {
                let topic = format!("{}-{round}", row.name);
                match row.measure(&topic, &brokers, &mut running, load) {
                    Ok(answer) => judge(row, kind, answer, results),
                    Err(error) => {
                        results.failed(row.name, kind, &*error);
                        // Who knows what state it left them in.
                        break;
                    }
                }
            }
            running.kill()?;
        }
    }
    Ok(())
}

/// What is lost or doubled fails the run when it is Weir that did it; of Kafka it is reported.
fn judge(row: &Row, kind: Kind, answer: Answer, results: &mut Results) {
    let wrong = ["lost", "doubled", "disorder"]
        .into_iter()
        .filter(|name| answer.number(name) != Some(0.0));
    let wrong: Vec<_> = wrong.collect();
    if !wrong.is_empty() && !kind.is_kafka() {
        let numbers = wrong
            .iter()
            .map(|name| format!("{name}: {:?}", answer.number(name)));
        let error = numbers.collect::<Vec<_>>().join(", ");
        results.failed(row.name, kind, &*Box::<dyn std::error::Error>::from(error));
    }
    results.measured(row.name, kind, answer);
}

impl Row {
    /// Hits the leader of a partition of a topic made for it, and leaves three brokers with everything in sync.
    fn measure(
        &self,
        topic: &str,
        brokers: &Installed,
        running: &mut Running,
        load: &Load,
    ) -> Outcome<Answer> {
        let steady = load.until_steady(brokers, running, &self.arguments(topic)?)?;
        let whom = steady
            .whom
            .ok_or("the client said nobody's id who is to be hit")?;
        let answer = match self.fault {
            Fault::Killed | Fault::QuorumLeaderKilled => {
                running.kill_one(whom)?;
                let answer = steady.finish();
                running.start_again(brokers, whom)?;
                answer
            }
            Fault::Frozen => {
                running.signal(whom, Signal::STOP)?;
                std::thread::sleep(FROZEN);
                running.signal(whom, Signal::CONT)?;
                steady.finish()
            }
        }?;
        load.run(brokers, &format!("-mode in-sync -topic {topic}"))?;
        load.run(brokers, "-mode in-sync -topic warm-up")?;
        load.run(brokers, &format!("-mode delete -topic {topic}"))?;
        Ok(answer)
    }

    fn arguments(&self, topic: &str) -> Outcome<String> {
        let mut arguments = format!(
            "-mode failover -topic {topic} -partitions 12 -rate 2000 -size 1024 -window 200000 -warmup 2s -limit 2m"
        );
        arguments += match self.fault {
            Fault::Killed => " -victim leader -duration 5s",
            Fault::QuorumLeaderKilled => " -victim quorum-leader -duration 5s",
            // A client cannot tell a frozen broker from a slow one but by waiting; this is about what the others do meanwhile.
            Fault::Frozen => " -victim leader -duration 18s -patience 1s",
        };
        if let Client::Librdkafka = self.client {
            arguments += &format!(
                " -sender {},{}",
                clients::python()?.display(),
                paths::root().join("tests/bench/steady.py").display()
            );
        }
        Ok(arguments)
    }
}
