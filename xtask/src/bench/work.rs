//! What is measured under load: throughput and latency, one row each.

use super::broker::{Installed, Kind as Broker, settle};
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
    /// Many producers of small batches in many partitions: where syncing decides.
    SmallBatches,
    /// Readers at the end of a topic that is written.
    FanOut(Size),
    EndToEnd {
        rate: u32,
    },
    /// End to end while another client reads a topic from its start that was written long before.
    CatchUp {
        gigabytes: u32,
    },
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

const ONE_KIB: Size = Size {
    name: "1K",
    bytes: 1024,
    records: 1_000_000,
    window: 10_000,
};

const SIZES: [Size; 5] = [
    Size {
        name: "100B",
        bytes: 100,
        records: 4_000_000,
        window: 10_000,
    },
    ONE_KIB,
    Size {
        name: "10K",
        bytes: 10_240,
        records: 100_000,
        window: 2_000,
    },
    Size {
        name: "100K",
        bytes: 102_400,
        records: 10_000,
        window: 200,
    },
    // From 100 bytes to 100 KiB, 15 KiB in the mean.
    Size {
        name: "mix",
        bytes: 0,
        records: 70_000,
        window: 1_500,
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
    let more = [
        Row {
            name: SMALL_BATCHES.to_owned(),
            load: Kind::SmallBatches,
            partitions: 64,
        },
        Row {
            name: "fan-out-1K-p12-10-readers".to_owned(),
            load: Kind::FanOut(ONE_KIB),
            partitions: 12,
        },
    ];
    let end_to_end = [(1_000, 1), (10_000, 12)].map(|(rate, partitions)| Row {
        name: format!("e2e-1K-{rate}-p{partitions}"),
        load: Kind::EndToEnd { rate },
        partitions,
    });
    let catch_up = Row {
        name: "e2e-1K-1000-p1-while-a-late-reader-reads-5-GB".to_owned(),
        load: Kind::CatchUp { gigabytes: 5 },
        partitions: 1,
    };
    produce
        .chain(consume)
        .chain(more)
        .chain(end_to_end)
        .chain([catch_up])
}

/// The one row that Kafka also runs with a sync for each batch.
pub(super) const SMALL_BATCHES: &str = "produce-1K-16-producers-p64-4K-batches";

impl Row {
    /// Whether a broker runs it: Kafka with a sync for each batch takes part only where syncing decides.
    pub(super) fn is_for(&self, broker: Broker) -> bool {
        broker != Broker::KafkaFlush || self.name == SMALL_BATCHES
    }
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
    rows: &[&Row],
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
            Kind::SmallBatches => {
                let records = if quick { 50_000 } else { 400_000 };
                let arguments = format!(
                    "-mode produce {topic} -size 1024 -count {records} -clients 16 -batch 4096 -window 10000"
                );
                load.run(broker, pid, &words(&arguments))
            }
            Kind::FanOut(size) => {
                let size = size.arguments(quick);
                let arguments = format!("-mode fan-out {topic} -readers 10 {size}");
                load.run(broker, pid, &words(&arguments))
            }
            Kind::EndToEnd { rate } => end_to_end(&topic, rate, quick, broker, pid, load),
            Kind::CatchUp { gigabytes } => {
                let gigabytes = if quick { 1 } else { gigabytes };
                let late = format!(
                    "-topic {}-late -partitions 4 -size 1000 -count {}",
                    self.name,
                    gigabytes * 1_000_000
                );
                load.run(broker, 0, &words(&format!("-mode produce {late}")))?;
                settle();
                let mut reader = load.spawn(broker, &words(&format!("-mode consume {late}")))?;
                let answer = end_to_end(&topic, 1_000, quick, broker, pid, load);
                if reader.try_wait()?.is_none() {
                    reader.kill()?;
                }
                reader.wait()?;
                let delete = format!("-mode delete -topic {}-late", self.name);
                load.run(broker, 0, &words(&delete))?;
                answer
            }
        }
    }
}

fn end_to_end(
    topic: &str,
    rate: u32,
    quick: bool,
    broker: &Installed,
    pid: u32,
    load: &Load,
) -> Outcome<super::load::Answer> {
    let time = if quick {
        "-warmup 2s -duration 4s"
    } else {
        "-warmup 4s -duration 15s"
    };
    let arguments = format!("-mode end-to-end {topic} -rate {rate} {time} -window 200000");
    load.run(broker, pid, &words(&arguments))
}
