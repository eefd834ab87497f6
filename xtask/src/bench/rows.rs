//! What is measured under load: the rows of the tables, and which load each one is.

use super::broker::Kind as Brokers;
use super::others::{Client, Way};
use super::{Options, Part};

/// One row of the tables.
pub(super) struct Row {
    /// Its name, for `--only`, and its topic's.
    pub(super) name: String,
    pub(super) load: Kind,
    pub(super) partitions: u32,
    /// How many brokers there are: three replicate everything three times.
    pub(super) brokers: usize,
}

/// What kind of load.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Produce(Size, &'static str),
    Consume(Size),
    /// By a client that nobody here wrote, with its defaults.
    Others(Client, Way),
    /// Many producers of small batches in many partitions: where syncing decides.
    SmallBatches,
    /// Consumer groups at the end of a topic that is written.
    FanOut(Size),
    EndToEnd {
        rate: u32,
    },
    /// End to end at half of the rate at which these brokers take records of 1 KiB.
    HalfOfMaximum,
    /// End to end before and while a late group reads a topic from its start that lies on disk.
    CatchUp {
        gigabytes: u32,
    },
}

/// A record's size, with as much of it as gives a run of some seconds.
#[derive(Clone, Copy)]
pub(super) struct Size {
    pub(super) name: &'static str,
    pub(super) bytes: u32,
    records: u32,
    /// Records in flight at most: tens of megabytes, enough to keep every partition busy.
    window: u32,
}

impl Size {
    pub(super) fn arguments(self, quick: bool) -> String {
        format!(
            "-size {} -count {} -window {}",
            self.bytes,
            self.records(quick),
            self.window
        )
    }

    pub(super) fn records(self, quick: bool) -> u32 {
        if quick {
            self.records / 4
        } else {
            self.records
        }
    }
}

const ONE_HUNDRED_BYTES: Size = Size {
    name: "100B",
    bytes: 100,
    records: 4_000_000,
    window: 10_000,
};

pub(super) const ONE_KIB: Size = Size {
    name: "1K",
    bytes: 1024,
    records: 1_000_000,
    window: 10_000,
};

pub(super) const SIZES: [Size; 5] = [
    ONE_HUNDRED_BYTES,
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

/// Those that are watched where nothing else is asked for: the ways of a record in, out, and to two more disks.
pub(super) const WATCHED: [&str; 3] = [
    "produce-1K-all-p12",
    "consume-1K-p12",
    "replicated-produce-1K-all-p12",
];

/// All rows, in the tables' order.
pub(super) fn all() -> impl Iterator<Item = Row> {
    let produce = SIZES.into_iter().flat_map(|size| {
        ["none", "lz4"].into_iter().flat_map(move |compression| {
            [1, 12].map(|partitions| one(Kind::Produce(size, compression), partitions))
        })
    });
    let consume = SIZES
        .into_iter()
        .flat_map(|size| [1, 12].map(|partitions| one(Kind::Consume(size), partitions)));
    let others = Client::ALL
        .into_iter()
        .flat_map(|client| [Way::In, Way::Out].map(|way| one(Kind::Others(client, way), 12)));
    produce
        .chain(consume)
        .chain(others)
        .chain([
            one(Kind::SmallBatches, 64),
            one(Kind::FanOut(ONE_KIB), 12),
            one(Kind::EndToEnd { rate: 1_000 }, 1),
            one(Kind::EndToEnd { rate: 10_000 }, 12),
            one(Kind::CatchUp { gigabytes: 5 }, 1),
        ])
        .chain([
            three(Kind::Produce(ONE_KIB, "none"), 1),
            three(Kind::Produce(ONE_KIB, "none"), 12),
            three(Kind::Produce(ONE_KIB, "lz4"), 12),
            three(Kind::Produce(ONE_HUNDRED_BYTES, "none"), 12),
            three(Kind::EndToEnd { rate: 1_000 }, 1),
            three(Kind::EndToEnd { rate: 10_000 }, 12),
            three(Kind::HalfOfMaximum, 12),
        ])
}

fn one(load: Kind, partitions: u32) -> Row {
    Row {
        name: name(load, partitions),
        load,
        partitions,
        brokers: 1,
    }
}

fn three(load: Kind, partitions: u32) -> Row {
    Row {
        name: format!("replicated-{}", name(load, partitions)),
        load,
        partitions,
        brokers: 3,
    }
}

fn name(load: Kind, partitions: u32) -> String {
    match load {
        Kind::Produce(size, "none") => format!("produce-{}-all-p{partitions}", size.name),
        Kind::Produce(size, compression) => {
            format!("produce-{}-all-p{partitions}-{compression}", size.name)
        }
        Kind::Consume(size) => format!("consume-{}-p{partitions}", size.name),
        Kind::Others(client, Way::In) => format!("{}-produce-1K-p{partitions}", client.name()),
        Kind::Others(client, Way::Out) => format!("{}-consume-1K-p{partitions}", client.name()),
        Kind::SmallBatches => format!("produce-1K-16-producers-p{partitions}-4K-batches"),
        Kind::FanOut(size) => format!("fan-out-{}-p{partitions}-10-groups", size.name),
        Kind::EndToEnd { rate } => format!("e2e-1K-{rate}-p{partitions}"),
        Kind::HalfOfMaximum => format!("e2e-1K-half-of-maximum-p{partitions}"),
        Kind::CatchUp { gigabytes } => {
            format!("e2e-1K-1000-p{partitions}-beside-a-late-group-{gigabytes}-GB")
        }
    }
}

impl Row {
    /// Whether these brokers are to run it now. Kafka with a sync for each batch takes part only where syncing decides.
    pub(super) fn is_for(&self, brokers: Brokers, options: &Options) -> bool {
        let takes_part = match brokers {
            Brokers::KafkaFlush => matches!(self.load, Kind::SmallBatches),
            _ => brokers.speaks_kafkas(),
        };
        takes_part && options.wants(self.part(), &self.name)
    }

    /// Which part of the benchmark it belongs to.
    pub(super) fn part(&self) -> Part {
        if self.brokers == 1 {
            Part::One
        } else {
            Part::Three
        }
    }
}
