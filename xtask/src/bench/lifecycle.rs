//! What is measured around the load: starting, resting, coming back after `kill -9`, many partitions.

use super::broker::{Kind, Programs, settle};
use super::load::Load;
use super::results::Results;
use super::{Options, Part};
use crate::Outcome;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The row that needs no running broker.
pub(super) const IMAGE: &str = "image";

/// Names for `--only`, and what stands in the table; in its order.
pub(super) const ROWS: [(&str, &str); 12] = [
    (
        IMAGE,
        "image (Kafka: its jars alone, without a Java runtime), MiB",
    ),
    (
        "start",
        "start on an empty directory to the first acknowledged message, s",
    ),
    (
        "start-again",
        "start again to the first acknowledged message, s",
    ),
    ("idle-memory", "resident memory when idle, MiB"),
    ("idle-cpu", "CPU when idle, % of a core"),
    (
        "killed",
        "start after `kill -9` under load to an acknowledged message in every partition, s",
    ),
    ("killed-memory", "resident memory after that, MiB"),
    ("partitions", "making the partitions until all serve, s"),
    ("partitions-produce", "producing to all of them, MB/s"),
    ("partitions-memory", "resident memory after that, MiB"),
    ("partitions-stop", "stopping with them, s"),
    (
        "partitions-start",
        "starting with them to the first acknowledged message, s",
    ),
];

/// How much of each.
struct Extent {
    starts: u32,
    idle: Duration,
    killed_gb: u32,
    topics: u32,
}

/// Partitions of each of the many topics.
const PARTITIONS: u32 = 1_000;

impl Extent {
    fn of(options: &Options) -> Self {
        if options.quick {
            Self {
                starts: 1,
                idle: Duration::from_secs(5),
                killed_gb: 1,
                topics: 1,
            }
        } else {
            Self {
                starts: 3,
                idle: Duration::from_secs(60),
                killed_gb: 4,
                topics: 10,
            }
        }
    }
}

/// What the figures are about, for the report.
pub(super) fn described(options: &Options) -> String {
    let extent = Extent::of(options);
    format!(
        "Idle is {} s after the first message; `kill -9` comes with {} GB in 4 partitions; many partitions are {}.",
        extent.idle.as_secs(),
        extent.killed_gb,
        extent.topics * PARTITIONS
    )
}

/// Measures one broker.
pub(super) fn run(
    kind: Kind,
    options: &Options,
    programs: &Programs,
    load: &Load,
    results: &mut Results,
) -> Outcome {
    let extent = Extent::of(options);
    let parts: [(&str, Measure); 3] = [
        ("start", starting),
        ("killed", killed),
        ("partitions", many_partitions),
    ];
    for (prefix, part) in parts {
        let wanted = ROWS.iter().any(|(name, _)| {
            let idle = prefix == "start" && name.starts_with("idle");
            (idle || name.starts_with(prefix)) && options.wants(Part::LifeCycle, name)
        });
        if wanted {
            println!("life cycle, {kind}: {prefix}");
            if let Err(error) = part(kind, &extent, programs, load, results) {
                results.failed(prefix, kind, &*error);
            }
        }
    }
    Ok(())
}

type Measure = fn(Kind, &Extent, &Programs, &Load, &mut Results) -> Outcome;

fn starting(
    kind: Kind,
    extent: &Extent,
    programs: &Programs,
    load: &Load,
    results: &mut Results,
) -> Outcome {
    const TOPIC: &str = "first";
    for _ in 0..extent.starts {
        let broker = programs.on_fresh_disks(kind, 1)?;
        let started = Instant::now();
        let running = broker.start()?;
        load.first(&broker, TOPIC, 1)?;
        results.fact("start", kind, started.elapsed().as_secs_f64());
        running.stop()?;
        let started = Instant::now();
        let running = broker.start()?;
        load.first(&broker, TOPIC, 1)?;
        results.fact("start-again", kind, started.elapsed().as_secs_f64());
        running.stop()?;
    }
    let broker = programs.on_fresh_disks(kind, 1)?;
    let running = broker.start()?;
    load.first(&broker, TOPIC, 1)?;
    // What starting leaves to do is not idling.
    sleep(extent.idle / 4);
    let before = running.cpu_seconds()?;
    sleep(extent.idle);
    let burned = running.cpu_seconds()? - before;
    results.fact("idle-cpu", kind, burned / extent.idle.as_secs_f64() * 100.0);
    results.fact("idle-memory", kind, running.resident_mib()?);
    running.stop()?;
    Ok(())
}

fn killed(
    kind: Kind,
    extent: &Extent,
    programs: &Programs,
    load: &Load,
    results: &mut Results,
) -> Outcome {
    const TOPIC: &str = "killed";
    let fill = |records: u32| {
        format!("-mode produce -topic {TOPIC} -partitions 4 -size 1000 -count {records}")
    };
    let broker = programs.on_fresh_disks(kind, 1)?;
    let running = broker.start()?;
    load.first(&broker, TOPIC, 4)?;
    load.run(&broker, &fill(extent.killed_gb * 1_000_000))?;
    let mut client = load.spawn(&broker, &fill(10_000_000))?;
    sleep(Duration::from_millis(500));
    running.kill()?;
    client.kill()?;
    client.wait()?;
    settle();

    let started = Instant::now();
    let running = broker.start()?;
    load.first(&broker, TOPIC, 4)?;
    results.fact("killed", kind, started.elapsed().as_secs_f64());
    results.fact("killed-memory", kind, running.resident_mib()?);
    running.stop()?;
    Ok(())
}

fn many_partitions(
    kind: Kind,
    extent: &Extent,
    programs: &Programs,
    load: &Load,
    results: &mut Results,
) -> Outcome {
    let many = format!(
        "-topic many -topics {} -partitions {PARTITIONS}",
        extent.topics
    );
    let broker = programs.on_fresh_disks(kind, 1)?;
    let running = broker.start()?;
    load.first(&broker, "first", 1)?;
    let answer = load.run(&broker, &format!("-mode create {many}"))?;
    results.fact(
        "partitions",
        kind,
        answer.number("seconds").unwrap_or(f64::NAN),
    );
    let produce = format!("-mode produce {many} -size 1024 -count 500000 -linger 20ms");
    let answer = load.run(&broker, &produce)?;
    results.fact(
        "partitions-produce",
        kind,
        answer.number("mb_s").unwrap_or(f64::NAN),
    );
    results.fact("partitions-memory", kind, running.resident_mib()?);
    results.fact("partitions-stop", kind, running.stop()?.as_secs_f64());
    let started = Instant::now();
    let running = broker.start()?;
    load.first(&broker, "first", 1)?;
    results.fact("partitions-start", kind, started.elapsed().as_secs_f64());
    running.stop()?;
    Ok(())
}
