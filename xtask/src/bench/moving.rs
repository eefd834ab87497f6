//! A broker of four is emptied and filled again under load, by reassignments as Kafka's tools make them: how long it takes, what clients see of it
//! meanwhile, and that it goes on when the quorum's leader is killed half-way.

use super::broker::{Installed, Kind, Programs, Running};
use super::load::{Answer, Load};
use super::results::Results;
use super::{Options, Part, turns};
use crate::Outcome;

/// Brokers, of which the last, which is none of Weir's voters, is emptied and filled.
const BROKERS: usize = 4;

/// Rows in the table's order.
pub(super) const ROWS: [&str; 3] = [DRAIN, FILL, THROTTLED];
const DRAIN: &str = "moving-drain";
const FILL: &str = "moving-fill-quorum-leader-killed";
const THROTTLED: &str = "moving-drain-throttled";

/// Bytes a second that a broker gives away and takes in when it is throttled.
const RATE: u32 = 25_000_000;

struct Extent {
    partitions: u32,
    records: u32,
    /// Seconds of the client's load before anything moves.
    before: u32,
}

impl Extent {
    fn of(options: &Options) -> Self {
        if options.quick {
            Self {
                partitions: 100,
                records: 200_000,
                before: 5,
            }
        } else {
            Self {
                partitions: 1_000,
                records: 5_000_000,
                before: 30,
            }
        }
    }
}

/// What the figures are about, for the report.
pub(super) fn described(options: &Options) -> String {
    let extent = Extent::of(options);
    format!(
        "Four brokers on the one machine, {} partitions with {:.1} GB of records, three replicas of each. All replicas of one broker are moved to the others, \
         unthrottled, then its share is moved back, and the quorum's leader is killed half-way, then all of them away again, throttled to {} MB/s of each broker \
         (KIP-73). Beside draining a client sends 1,000 records of 1 KiB a second to 12 \
         partitions, which are moved too: how late acknowledgements and a reader at the end were before and meanwhile. In the end all records are \
         read and found once, in order.",
        extent.partitions,
        f64::from(extent.records) / 1e6,
        RATE / 1_000_000,
    )
}

/// Repeats it, each time on brokers that have never run; who comes first changes.
pub(super) fn run(
    options: &Options,
    programs: &Programs,
    load: &Load,
    results: &mut Results,
) -> Outcome {
    if !ROWS.iter().any(|row| options.wants(Part::Moving, row)) {
        return Ok(());
    }
    let kinds = options.kinds(Kind::is_default);
    for round in 1..=options.rounds_of_moving() {
        for kind in turns(&kinds, round) {
            println!("moving, round {round}, {kind}");
            let brokers = programs.on_fresh_disks(kind, BROKERS)?;
            let running = brokers.start()?;
            let mut moving = Moving {
                extent: Extent::of(options),
                brokers: &brokers,
                running,
                load,
            };
            if let Err(error) = moving.measure(results) {
                results.failed(DRAIN, kind, &*error);
            }
            moving.running.kill()?;
        }
    }
    Ok(())
}

struct Moving<'a> {
    extent: Extent,
    brokers: &'a Installed,
    running: Running,
    load: &'a Load,
}

impl Moving<'_> {
    fn measure(&mut self, results: &mut Results) -> Outcome {
        let Extent {
            partitions,
            records,
            ..
        } = self.extent;
        let (load, brokers, kind) = (self.load, self.brokers, self.brokers.kind);
        let records = format!("-topic moved -partitions {partitions} -size 1000 -count {records}");
        load.first(brokers, "moved", 1)?;
        load.run(brokers, "-mode delete -topic moved")?;
        load.run(brokers, &format!("-mode produce {records} -linger 20ms"))?;
        load.run(brokers, "-mode in-sync -topic moved")?;

        results.measured(DRAIN, kind, self.drained("beside")?);

        let moving = load.until_steady(brokers, &self.running, &self.moved("fill"))?;
        let whom = moving
            .whom
            .ok_or("the client did not say who leads the quorum")?;
        self.running.kill_one(whom)?;
        self.running.start_again(brokers, whom)?;
        results.measured(FILL, kind, moving.finish()?);

        load.run(brokers, "-mode in-sync -topic moved")?;
        load.run(brokers, &format!("-mode throttle -rate {RATE}"))?;
        results.measured(THROTTLED, kind, self.drained("beside-throttled")?);

        load.run(brokers, "-mode in-sync -topic moved")?;
        load.run(brokers, &format!("-mode consume {records}"))?;
        Ok(())
    }

    /// Empties the broker beside a client of a topic of its own.
    fn drained(&self, topic: &str) -> Outcome<Answer> {
        let before = self.extent.before;
        let beside = self.load.until_steady(
            self.brokers,
            &self.running,
            &format!("-mode beside -topic {topic} -partitions 12 -rate 1000 -warmup 5s -duration {before}s -limit 30m"),
        )?;
        let moved = self.load.run(self.brokers, &self.moved("drain"))?;
        Ok(both(beside.finish()?, &moved))
    }

    fn moved(&self, mode: &str) -> String {
        format!("-mode {mode} -broker {} -limit 30m", BROKERS - 1)
    }
}

fn both(mut beside: Answer, moved: &Answer) -> Answer {
    for name in ["moved_s", "moved_replicas", "moved_mb", "moved_mb_s"] {
        beside = beside.with(name, moved.number(name));
    }
    beside
}
