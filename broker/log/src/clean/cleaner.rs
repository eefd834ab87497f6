//! What all passes of a process have in common: how much memory and disk they may use, and what they have done.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Bounds of compaction, and counts of what it did. Shared; all can be read and changed while it runs.
#[derive(Debug)]
pub struct Cleaner {
    map_bytes_max: AtomicU64,
    bytes_per_second: AtomicU64,
    passes: AtomicU64,
    failures: AtomicU64,
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
    last_pass_ms: AtomicU64,
}

/// Memory of the map of keys, which only one pass has at a time: two million keys of a dirty section, more in several passes.
const MAP_BYTES_MAX: u64 = 64 << 20;

impl Default for Cleaner {
    fn default() -> Self {
        Self {
            map_bytes_max: AtomicU64::new(MAP_BYTES_MAX),
            bytes_per_second: AtomicU64::new(0),
            passes: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            read_bytes: AtomicU64::new(0),
            written_bytes: AtomicU64::new(0),
            last_pass_ms: AtomicU64::new(0),
        }
    }
}

impl Cleaner {
    /// Bounds what passes read and write together, in bytes for each second; 0 is without bound.
    pub fn set_bytes_per_second(&self, bytes: u64) {
        self.bytes_per_second.store(bytes, Ordering::Relaxed);
    }

    /// Bounds the map of keys, in bytes.
    pub fn set_map_bytes_max(&self, bytes: u64) {
        self.map_bytes_max.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn map_bytes_max(&self) -> u64 {
        self.map_bytes_max.load(Ordering::Relaxed)
    }

    /// Passes that were finished.
    pub fn passes(&self) -> u64 {
        self.passes.load(Ordering::Relaxed)
    }

    /// Passes that could not be finished because of the disk or of what lies there.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Bytes of log that passes have read.
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of log that passes have written.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes.load(Ordering::Relaxed)
    }

    /// When a pass was last finished, in milliseconds since 1970; 0 when none was.
    pub fn last_pass_ms(&self) -> u64 {
        self.last_pass_ms.load(Ordering::Relaxed)
    }

    pub(super) fn finished(&self, now_ms: i64) {
        self.passes.fetch_add(1, Ordering::Relaxed);
        self.last_pass_ms
            .store(u64::try_from(now_ms).unwrap_or(0), Ordering::Relaxed);
    }

    pub(super) fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }
}

/// Holds one pass to the bound on bytes, and counts them.
#[derive(Debug)]
pub(super) struct Throttle<'a> {
    cleaner: &'a Cleaner,
    since: Instant,
    bytes: u64,
}

/// The longest rest at once: whoever shuts down waits no longer than that for a pass to notice.
const REST_MAX: Duration = Duration::from_millis(100);
/// How often a debt is looked at.
const LOOK_EVERY_BYTES: u64 = 256 << 10;

impl<'a> Throttle<'a> {
    pub(super) fn new(cleaner: &'a Cleaner) -> Self {
        Self {
            cleaner,
            since: Instant::now(),
            bytes: 0,
        }
    }

    pub(super) fn read(&mut self, bytes: u64, stop: impl Fn() -> bool) {
        self.cleaner.read_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.rest(bytes, stop);
    }

    pub(super) fn wrote(&mut self, bytes: u64, stop: impl Fn() -> bool) {
        self.cleaner
            .written_bytes
            .fetch_add(bytes, Ordering::Relaxed);
        self.rest(bytes, stop);
    }

    fn rest(&mut self, bytes: u64, stop: impl Fn() -> bool) {
        self.bytes += bytes;
        if self.bytes < LOOK_EVERY_BYTES {
            return;
        }
        loop {
            let rate = self.cleaner.bytes_per_second.load(Ordering::Relaxed);
            let earned = match rate {
                0 => u64::MAX,
                rate => (self.since.elapsed().as_secs_f64() * rate as f64) as u64,
            };
            if earned >= self.bytes || stop() {
                break;
            }
            let owed = (self.bytes - earned) as f64 / rate as f64;
            std::thread::sleep(Duration::from_secs_f64(owed).min(REST_MAX));
        }
        self.bytes = 0;
        self.since = Instant::now();
    }
}
