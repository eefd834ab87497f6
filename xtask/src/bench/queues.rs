//! What queues do: shared consumption, delay, and bounds, beside those of other brokers that have the same.
//!
//! The client is one program for all of them (`kbench`), in one language, with each broker's usual library, but for RocketMQ's. Those who share all rows of a
//! family do it on one broker that has never run: [`FAMILIES`].

use super::broker::{Installed, Kind as Brokers, Programs, Running, settle};
use super::load::{Answer, Load};
use super::results::Results;
use super::{Options, Part, turns};
use crate::Outcome;

/// One row of the tables.
pub(super) struct Row {
    /// Its name, for `--only`.
    pub(super) name: &'static str,
    load: Kind,
    partitions: u32,
}

#[derive(Clone, Copy)]
enum Kind {
    /// Queues are filled, then workers empty them.
    Share,
    /// The same at the same time.
    ShareAtOnce,
    /// At a steady rate, how long it takes until a worker has a message.
    ShareEndToEnd { rate: u32 },
    /// Messages that wait for a long time.
    Delayed,
    /// Messages that fall due at a steady rate.
    DueSteadily,
    /// Very many that fall due within one second.
    DueAtOnce,
    /// More is offered than there is room for.
    FlashSale,
}

/// Shared consumption of messages of 1 KiB, each of which is acknowledged by itself.
pub(super) const SHARE: [Row; 2] = [
    row("share-1K-p1", Kind::Share, 1),
    row("share-1K-p12", Kind::Share, 12),
];
pub(super) const SHARE_AT_ONCE: [Row; 1] = [row("share-1K-p12-at-once", Kind::ShareAtOnce, 12)];
pub(super) const SHARE_END_TO_END: [Row; 1] = [row(
    "share-1K-p1-5000-per-second",
    Kind::ShareEndToEnd { rate: 5_000 },
    1,
)];
/// Delayed messages; the later rows run beside those that wait since the first.
pub(super) const DELAY: [Row; 1] = [row("delay-waiting", Kind::Delayed, 12)];
pub(super) const DUE: [Row; 2] = [
    row("delay-due-1000-per-second", Kind::DueSteadily, 12),
    row("delay-due-all-in-one-second", Kind::DueAtOnce, 12),
];
/// A bounded queue.
pub(super) const BOUND: [Row; 1] = [row("bound-flash-sale", Kind::FlashSale, 12)];

/// Rows that run on the same broker, one after another.
const FAMILIES: [&[&[Row]]; 3] = [
    &[&SHARE, &SHARE_AT_ONCE, &SHARE_END_TO_END],
    &[&DELAY, &DUE],
    &[&BOUND],
];

const fn row(name: &'static str, load: Kind, partitions: u32) -> Row {
    Row {
        name,
        load,
        partitions,
    }
}

/// All rows, in the tables' order.
pub(super) fn all() -> impl Iterator<Item = &'static Row> {
    FAMILIES
        .iter()
        .flat_map(|family| family.iter().flat_map(|rows| rows.iter()))
}

/// Whether this broker is to run any of it.
pub(super) fn wants(options: &Options, brokers: Brokers) -> bool {
    options.brokers.contains(&brokers) && all().any(|row| row.is_for(brokers, options))
}

/// How much of each.
struct Extent {
    /// Messages that are sent and worked off.
    shared: u32,
    waiting: u32,
    /// Seconds in which 1,000 a second fall due.
    due_seconds: u32,
    due_at_once: u32,
    /// Seconds before they do, in which they are sent.
    lead_seconds: u32,
    offers: u32,
}

impl Extent {
    fn of(options: &Options) -> Self {
        if options.quick {
            Self {
                shared: 50_000,
                waiting: 1_000_000,
                due_seconds: 5,
                due_at_once: 100_000,
                lead_seconds: 10,
                offers: 30_000,
            }
        } else {
            Self {
                shared: 400_000,
                waiting: 10_000_000,
                due_seconds: 30,
                due_at_once: 1_000_000,
                lead_seconds: 30,
                offers: 200_000,
            }
        }
    }
}

/// What the figures of shared consumption are about, for the report.
pub(super) fn described_share(options: &Options) -> String {
    let Extent { shared, .. } = Extent::of(options);
    format!(
        "One broker of each; four senders wait for confirmations, with 10,000 messages of 1 KiB on their way at most, and four workers acknowledge each message \
         by itself. {shared} messages are sent, and then worked off; and once more at the same time. Weir's and Kafka's workers are members \
         of a share group (franz-go, which sends acknowledgements with its next fetch, neighbours as one range), Weir's by gRPC have a stream with credit and send a \
         settlement for each message, RabbitMQ's have quorum queues (amqp091-go, a frame for each acknowledgement), Redis's a consumer group of streams (go-redis, \
         `appendfsync always`, an XACK for each); where others have partitions these have as many queues or streams; RocketMQ has its own client, in Java, which notes \
         every five seconds how far it is, and gets a tenth of the messages, for it takes long. RabbitMQ, Redis, RocketMQ (`SYNC_FLUSH`) and Weir `fsync` sync before \
         they confirm; Kafka and Weir `os` do not.",
    )
}

/// The same of delay.
pub(super) fn described_delay(options: &Options) -> String {
    let Extent {
        waiting,
        due_at_once,
        ..
    } = Extent::of(options);
    format!(
        "{waiting} messages of 100 bytes wait for up to a year, and beside them 1,000 a second fall due, then {due_at_once} within one second: how late a consumer \
         has them. None may be early. Of RocketMQ's timers none wait beside them (`timerPrecisionMs=100`, its least), and a twentieth falls due within a second.",
    )
}

/// The same of bounds.
pub(super) fn described_bound(options: &Options) -> String {
    let Extent { offers, .. } = Extent::of(options);
    format!(
        "16 senders, each of which waits for its answer, offer {offers} messages, or what 30 s allow, where 10,000 have room (Weir: over all 12 partitions; RabbitMQ: one \
         queue, `reject-publish`); then the queue is emptied, to see that what was taken is there and what was refused is not.",
    )
}

/// Repeats all rows, each family on brokers that have never run; who comes first changes.
pub(super) fn run(
    options: &Options,
    programs: &Programs,
    load: &Load,
    results: &mut Results,
) -> Outcome {
    for round in 1..=options.rounds() {
        for kind in turns(&options.brokers, round) {
            for family in FAMILIES {
                let rows = family.iter().flat_map(|rows| rows.iter());
                let rows: Vec<_> = rows.filter(|row| row.is_for(kind, options)).collect();
                if rows.is_empty() {
                    continue;
                }
                println!("queues, round {round}, {kind}");
                let brokers = programs.on_fresh_disks(kind, 1)?;
                let running = brokers.start()?;
                let work = Work {
                    extent: Extent::of(options),
                    quick: options.quick,
                    brokers: &brokers,
                    running: &running,
                    load,
                };
                work.run(&rows, results)?;
                running.stop()?;
            }
        }
    }
    Ok(())
}

impl Row {
    fn is_for(&self, brokers: Brokers, options: &Options) -> bool {
        let is_weir = brokers.is_weir() && brokers.speaks_kafkas();
        let takes_part = match self.load {
            Kind::Share | Kind::ShareAtOnce | Kind::ShareEndToEnd { .. } => true,
            Kind::Delayed => is_weir,
            Kind::DueSteadily | Kind::DueAtOnce => is_weir || brokers == Brokers::RocketMq,
            Kind::FlashSale => is_weir || brokers == Brokers::RabbitMq,
        };
        takes_part && options.wants(Part::Queues, self.name)
    }
}

/// One family on its broker.
struct Work<'a> {
    extent: Extent,
    quick: bool,
    brokers: &'a Installed,
    running: &'a Running,
    load: &'a Load,
}

impl Work<'_> {
    fn run(&self, rows: &[&Row], results: &mut Results) -> Outcome {
        let kind = self.brokers.kind;
        if kind.is_kafka() || kind.is_weir() {
            self.load.first(self.brokers, "warm-up", 12)?;
        }
        // Whoever compiles what runs often has done so then; others answer, at least.
        let part = if kind == Brokers::RocketMq { 40 } else { 4 };
        let some = self.shared("share", "warm-up-share", 12, self.extent.shared / part);
        self.load.run(self.brokers, &some)?;
        for row in rows {
            settle();
            match self.measure(row) {
                Ok(answer) => {
                    results.measured(row.name, kind, answer);
                    if let Some(profile) = self.load.profile(row.name)? {
                        results.profiled(kind, profile);
                    }
                }
                Err(error) => results.failed(row.name, kind, &*error),
            }
        }
        Ok(())
    }

    fn measure(&self, row: &Row) -> Outcome<Answer> {
        let Extent {
            shared,
            waiting,
            due_seconds,
            due_at_once,
            lead_seconds,
            offers,
        } = self.extent;
        // RocketMQ takes some thousands a second when it syncs.
        let is_slow = self.brokers.kind == Brokers::RocketMq;
        let (shared, due_at_once) = match is_slow {
            true => (shared / 10, due_at_once / 20),
            false => (shared, due_at_once),
        };
        let delayed = format!("-topic delayed -partitions {} -size 100", row.partitions);
        // All in one topic for Weir, so that the ones that wait are in the way.
        let (due, steady_lead) = match is_slow {
            true => (delayed.replace("delayed", row.name), lead_seconds),
            false => (delayed.clone(), 5),
        };
        let arguments = match row.load {
            Kind::Share => self.shared("share", row.name, row.partitions, shared),
            Kind::ShareAtOnce => {
                let at_once = self.shared("share-at-once", row.name, row.partitions, shared);
                // Members of Kafka's groups hear of each other every 5 s.
                at_once + " -warmup 6s"
            }
            Kind::ShareEndToEnd { rate } => {
                let duration = if self.quick { "4s" } else { "10s" };
                let sharing = self.shared("share-end-to-end", row.name, row.partitions, 0);
                format!("{sharing} -rate {rate} -window 200000 -warmup 8s -duration {duration}")
            }
            Kind::Delayed => format!("-mode delayed {delayed} -count {waiting} -limit 15m"),
            Kind::DueSteadily => format!(
                "-mode due {due} -count {} -duration {due_seconds}s -warmup {steady_lead}s",
                1_000 * due_seconds
            ),
            Kind::DueAtOnce => {
                format!("-mode due {due} -count {due_at_once} -duration 1s -warmup {lead_seconds}s")
            }
            Kind::FlashSale => {
                // RabbitMQ knows no bound over several queues.
                let partitions = if self.brokers.kind.is_weir() {
                    row.partitions
                } else {
                    1
                };
                let protocol = self.brokers.kind.protocol();
                format!(
                    "-mode flash-sale -protocol {protocol} -topic {} -partitions {partitions} -size 100 -clients 16 -count {offers} -bound 10000 -duration 30s",
                    row.name
                )
            }
        };
        self.load.measure(self.brokers, self.running, &arguments)
    }

    fn shared(&self, mode: &str, topic: &str, partitions: u32, messages: u32) -> String {
        let protocol = self.brokers.kind.protocol();
        format!(
            "-mode {mode} -protocol {protocol} -topic {topic} -partitions {partitions} -size 1024 -count {messages} -clients 4 -workers 4 -limit 10m -grpc {}",
            self.brokers.grpc
        )
    }
}
