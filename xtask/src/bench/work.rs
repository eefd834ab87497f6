//! Runs what is measured under load: row after row on brokers that are started for them, each on a topic of its own.

use super::broker::{Installed, Running, settle};
use super::load::{Answer, Load};
use super::others::Way;
use super::results::Results;
use super::rows::{Kind, ONE_KIB, Row, SIZES};
use crate::Outcome;

/// Runs rows that are for as many brokers as these are.
pub(super) fn run(
    rows: &[Row],
    quick: bool,
    brokers: &Installed,
    load: &Load,
    results: &mut Results,
) -> Outcome {
    let running = brokers.start()?;
    warm_up(quick, brokers, load)?;
    measure(rows, quick, brokers, &running, load, results)?;
    running.stop()?;
    Ok(())
}

/// The same on brokers that run and stay.
pub(super) fn measure(
    rows: &[Row],
    quick: bool,
    brokers: &Installed,
    running: &Running,
    load: &Load,
    results: &mut Results,
) -> Outcome {
    for row in rows {
        settle();
        let work = Work {
            row,
            topic: format!("-topic {} -partitions {}", row.name, row.partitions),
            quick,
            brokers,
            running,
            load,
        };
        match work.measure() {
            Ok(answer) => {
                results.measured(&row.name, brokers.kind, answer);
                if let Some(profile) = load.profile(&row.name)? {
                    results.profiled(brokers.kind, profile);
                }
            }
            Err(error) => results.failed(&row.name, brokers.kind, &*error),
        }
        load.run(brokers, &format!("-mode delete -topic {}", row.name))?;
    }
    Ok(())
}

/// Some gigabytes in and out, in small and large records: a virtual machine compiles what it runs often.
fn warm_up(quick: bool, brokers: &Installed, load: &Load) -> Outcome {
    load.first(brokers, "warm-up", 12)?;
    for size in SIZES {
        let (topic, size) = (format!("warm-up-{}", size.name), size.arguments(quick));
        let produce = format!("-mode produce -partitions 12 -topic {topic} {size}");
        load.run(brokers, &produce)?;
        load.run(brokers, &format!("-mode consume -topic {topic} {size}"))?;
        load.run(brokers, &format!("-mode delete -topic {topic}"))?;
    }
    Ok(())
}

/// One row on the brokers that run it.
struct Work<'a> {
    row: &'a Row,
    topic: String,
    quick: bool,
    brokers: &'a Installed,
    running: &'a Running,
    load: &'a Load,
}

impl Work<'_> {
    fn measure(&self) -> Outcome<Answer> {
        let (topic, quick) = (&self.topic, self.quick);
        match self.row.load {
            Kind::Produce(size, compression) => self.measured(&format!(
                "-mode produce {topic} {} -compression {compression}",
                size.arguments(quick)
            )),
            Kind::Consume(size) => {
                let size = size.arguments(quick);
                self.unmeasured(&format!("-mode produce {topic} {size}"))?;
                settle();
                self.measured(&format!("-mode consume {topic} {size}"))
            }
            Kind::Others(client, way) => {
                let (name, records) = (&self.row.name, ONE_KIB.records(quick));
                match way {
                    Way::In => self.load.first(self.brokers, name, self.row.partitions)?,
                    Way::Out => {
                        let size = ONE_KIB.arguments(quick);
                        self.unmeasured(&format!("-mode produce {topic} {size}"))?;
                    }
                }
                settle();
                client.run(way, self.brokers, self.running, name, records)
            }
            Kind::SmallBatches => {
                let records = if quick { 50_000 } else { 400_000 };
                self.measured(&format!(
                    "-mode produce {topic} -size 1024 -count {records} -clients 16 -batch 4096 -window 10000"
                ))
            }
            Kind::FanOut(size) => self.measured(&format!(
                "-mode fan-out {topic} -groups 10 {}",
                size.arguments(quick)
            )),
            Kind::EndToEnd { rate } => self.end_to_end(f64::from(rate)),
            Kind::HalfOfMaximum => self.half_of_maximum(),
            Kind::CatchUp { gigabytes } => self.catch_up(if quick { 1 } else { gigabytes }),
        }
    }

    fn measured(&self, arguments: &str) -> Outcome<Answer> {
        self.load.measure(self.brokers, self.running, arguments)
    }

    fn unmeasured(&self, arguments: &str) -> Outcome<Answer> {
        self.load.run(self.brokers, arguments)
    }

    fn times(&self) -> &'static str {
        if self.quick {
            "-warmup 2s -duration 4s"
        } else {
            "-warmup 4s -duration 15s"
        }
    }

    fn end_to_end(&self, rate: f64) -> Outcome<Answer> {
        self.measured(&format!(
            "-mode end-to-end {} -rate {rate} {} -window 200000",
            self.topic,
            self.times()
        ))
    }

    /// What these brokers take at most is measured just before, so that it is the same machine in the same mood.
    fn half_of_maximum(&self) -> Outcome<Answer> {
        let most = self.unmeasured(&format!(
            "-mode produce {} {}",
            self.topic,
            ONE_KIB.arguments(self.quick)
        ))?;
        let per_second = most.number("records").zip(most.number("seconds"));
        let (records, seconds) = per_second.ok_or("the client did not say how much it sent")?;
        settle();
        self.end_to_end((records / seconds / 2.0).round())
    }

    /// The late group reads what lies on disk only; the producer's p99 before is measured in the same run of the same client.
    fn catch_up(&self, gigabytes: u32) -> Outcome<Answer> {
        let late = format!(
            "-topic {}-late -partitions 4 -size 1000 -count {}",
            self.row.name,
            gigabytes * 1_000_000
        );
        self.unmeasured(&format!("-mode produce {late}"))?;
        self.brokers.forget_cached()?;
        let steady = self.load.until_steady(
            self.brokers,
            self.running,
            &format!(
                "-mode beside {} -rate 1000 {} -window 200000",
                self.topic,
                self.times()
            ),
        )?;
        let reader = self.measured(&format!(
            "-mode consume -group {}-late {late}",
            self.row.name
        ));
        let answer = steady.finish()?;
        self.unmeasured(&format!("-mode delete -topic {}-late", self.row.name))?;
        Ok(answer.with("late_mb_s", reader?.number("mb_s")))
    }
}
