//! What is measured under load: throughput and latency, one row each.

use super::broker::{Installed, settle};
use super::load::{Load, words};
use super::report::Results;
use crate::Outcome;

/// One row of the tables.
pub(super) struct Row {
    /// Its name, for `--only`.
    pub(super) name: String,
    load: Kind,
    partitions: u32,
}

/// What kind of load.
enum Kind {
    Produce(Size, &'static str),
    Consume(Size),
    EndToEnd { rate: u32 },
}

/// A record's size, with as much of it as gives a run of some seconds.
#[derive(Clone, Copy)]
struct Size {
    name: &'static str,
    bytes: u32,
    records: u32,
    /// Records in flight at most: tens of megabytes, enough to keep every partition busy.
    window: u32,
}

const SIZES: [Size; 3] = [
    Size {
        name: "100B",
        bytes: 100,
        records: 4_000_000,
        window: 10_000,
    },
    Size {
        name: "1K",
        bytes: 1024,
        records: 1_000_000,
        window: 10_000,
    },
    Size {
        name: "10K",
        bytes: 10_240,
        records: 100_000,
        window: 2_000,
    },
];

/// All rows, in the tables' order.
pub(super) fn rows() -> impl Iterator<Item = Row> {
    let produce = SIZES.into_iter().flat_map(|size| {
        ["none", "lz4"].into_iter().flat_map(move |compression| {
            [1, 12].map(|partitions| {
                let suffix = if compression == "none" {
                    String::new()
                } else {
                    format!("-{compression}")
                };
                Row {
                    name: format!("produce-{}-all-p{partitions}{suffix}", size.name),
                    load: Kind::Produce(size, compression),
                    partitions,
                }
            })
        })
    });
    let consume = SIZES.into_iter().flat_map(|size| {
        [1, 12].map(|partitions| Row {
            name: format!("consume-{}-p{partitions}", size.name),
            load: Kind::Consume(size),
            partitions,
        })
    });
    let end_to_end = [(1_000, 1), (10_000, 12)].map(|(rate, partitions)| Row {
        name: format!("e2e-1K-{rate}-p{partitions}"),
        load: Kind::EndToEnd { rate },
        partitions,
    });
    produce.chain(consume).chain(end_to_end)
}

impl Size {
    fn arguments(self, quick: bool) -> String {
        let records = if quick {
            self.records / 4
        } else {
            self.records
        };
        format!(
            "-size {} -count {records} -window {}",
            self.bytes, self.window
        )
    }
}

/// Runs them one after another on a broker that is started for it, each on a topic of its own.
pub(super) fn run(
    rows: &[Row],
    quick: bool,
    broker: &Installed,
    load: &Load,
    results: &mut Results,
) -> Outcome {
    let running = broker.start()?;
    let pid = running.pid();
    warm_up(quick, broker, load)?;
    for row in rows {
        settle();
        match row.measure(quick, broker, pid, load) {
            Ok(answer) => results.measured(&row.name, broker.kind, answer),
            Err(error) => results.failed(&row.name, broker.kind, &*error),
        }
        load.run(
            broker,
            0,
            &words(&format!("-mode delete -topic {}", row.name)),
        )?;
    }
    running.stop()?;
    Ok(())
}

/// Half a gigabyte in and out, in small and large records: a virtual machine compiles what it runs often.
fn warm_up(quick: bool, broker: &Installed, load: &Load) -> Outcome {
    load.first(broker, "warm-up", 12)?;
    for size in SIZES {
        let (topic, size) = (format!("warm-up-{}", size.name), size.arguments(quick));
        load.run(
            broker,
            0,
            &words(&format!(
                "-mode produce -partitions 12 -topic {topic} {size}"
            )),
        )?;
        load.run(
            broker,
            0,
            &words(&format!("-mode consume -topic {topic} {size}")),
        )?;
        load.run(broker, 0, &words(&format!("-mode delete -topic {topic}")))?;
    }
    Ok(())
}

impl Row {
    fn measure(
        &self,
        quick: bool,
        broker: &Installed,
        pid: u32,
        load: &Load,
    ) -> Outcome<super::load::Answer> {
        let topic = format!("-topic {} -partitions {}", self.name, self.partitions);
        match self.load {
            Kind::Produce(size, compression) => {
                let size = size.arguments(quick);
                load.run(
                    broker,
                    pid,
                    &words(&format!(
                        "-mode produce {topic} {size} -compression {compression}"
                    )),
                )
            }
            Kind::Consume(size) => {
                let size = size.arguments(quick);
                load.run(broker, 0, &words(&format!("-mode produce {topic} {size}")))?;
                settle();
                load.run(
                    broker,
                    pid,
                    &words(&format!("-mode consume {topic} {size}")),
                )
            }
            Kind::EndToEnd { rate } => {
                let time = if quick {
                    "-warmup 2s -duration 4s"
                } else {
                    "-warmup 4s -duration 15s"
                };
                load.run(
                    broker,
                    pid,
                    &words(&format!(
                        "-mode end-to-end {topic} -rate {rate} {time} -window 200000"
                    )),
                )
            }
        }
    }
}
