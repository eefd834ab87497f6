//! Many lives, some at the same time.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::child::{self, With};

/// Failed lives after which no further ones begin: enough to see what they have in common.
const FAILED_MAX: usize = 5;

/// Which lives.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) from: u64,
    pub(crate) seeds: Option<u64>,
    pub(crate) seconds: Option<u64>,
    pub(crate) jobs: usize,
    pub(crate) resume: Option<PathBuf>,
    pub(crate) with: With,
}

/// What all of them came to.
#[derive(Default)]
struct Sum {
    lives: u64,
    virtual_ms: u64,
    events: u64,
    failed: usize,
    /// Seeds that are being lived.
    open: Vec<u64>,
}

/// Lives them; says how it went, and whether it went well.
pub(crate) fn many(wanted: &Wanted) -> bool {
    let resumed = wanted
        .resume
        .as_ref()
        .and_then(|file| std::fs::read_to_string(file).ok()?.trim().parse().ok());
    let first: u64 = resumed.unwrap_or(wanted.from);
    let (next, stop) = (AtomicU64::new(first), AtomicBool::new(false));
    let last = wanted.seeds.map(|seeds| first.saturating_add(seeds));
    let began = Instant::now();
    let deadline = wanted
        .seconds
        .map(|seconds| began + Duration::from_secs(seconds));
    let sum = Mutex::new(Sum::default());
    std::thread::scope(|scope| {
        for _ in 0..wanted.jobs.max(1) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed)
                    && deadline.is_none_or(|deadline| Instant::now() < deadline)
                {
                    let Ok(mut open) = sum.lock() else { return };
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if last.is_some_and(|last| seed >= last) {
                        return;
                    }
                    open.open.push(seed);
                    drop(open);
                    let told = child::live(seed, &wanted.with);
                    let Ok(mut sum) = sum.lock() else { return };
                    sum.add(seed, &told, &wanted.with);
                    if sum.failed >= FAILED_MAX {
                        stop.store(true, Ordering::Relaxed);
                    }
                    if let Some(file) = &wanted.resume
                        && sum.failed == 0
                    {
                        let unlived = next.load(Ordering::Relaxed);
                        let from = sum.open.iter().copied().min().unwrap_or(unlived);
                        if let Err(error) = std::fs::write(file, format!("{from}\n")) {
                            println!("{}: {error}", file.display());
                        }
                    }
                }
            });
        }
    });
    let Ok(sum) = sum.into_inner() else {
        return false;
    };
    let lives = sum.lives.max(1) as f64;
    println!(
        "{} lives from seed {first} on, {} failed; each {:.1} virtual seconds and {:.0} events, {:.2} seconds of one of {} \
         processes",
        sum.lives,
        sum.failed,
        sum.virtual_ms as f64 / 1000.0 / lives,
        sum.events as f64 / lives,
        began.elapsed().as_secs_f64() * wanted.jobs as f64 / lives,
        wanted.jobs,
    );
    sum.failed == 0 && sum.lives > 0
}

impl Sum {
    fn add(&mut self, seed: u64, told: &child::Told, with: &With) {
        self.open.retain(|open| *open != seed);
        self.lives += 1;
        self.virtual_ms += told.virtual_ms;
        self.events += told.events;
        if !told.wrong.is_empty() {
            self.failed += 1;
            println!("seed {seed}: {}", told.summary);
            for wrong in &told.wrong {
                println!("  {wrong}");
            }
            let with = with.arguments();
            if with.is_empty() {
                println!("  replay: cargo xtask sim --seed {seed}");
            } else {
                println!(
                    "  replay: target/sim/weir-sim --seed {seed} {}",
                    with.join(" ")
                );
            }
        }
        if self.lives.is_multiple_of(100) {
            println!("{} lives, up to seed {seed}", self.lives);
        }
    }
}

/// The first seed in which anything goes wrong with this defect, as far as one is found.
pub(crate) fn first_wrong(
    seeds: RangeInclusive<u64>,
    jobs: usize,
    with: &With,
) -> Option<(u64, String)> {
    let (next, found) = (AtomicU64::new(*seeds.start()), Mutex::new(None));
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if !seeds.contains(&seed) || found.lock().is_ok_and(|found| found.is_some()) {
                        return;
                    }
                    let told = child::live(seed, with);
                    if let Some(wrong) = told.wrong.into_iter().next()
                        && let Ok(mut found) = found.lock()
                    {
                        found.get_or_insert((seed, wrong));
                    }
                }
            });
        }
    });
    found.into_inner().ok().flatten()
}
