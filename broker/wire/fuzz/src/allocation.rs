//! An allocator that counts what is live and the most that was.
//!
//! libFuzzer's own memory comes from C++ and is not counted.
#![allow(unsafe_code, reason = "an allocator is unsafe by its trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, counted. Every target has it as its global one.
#[derive(Debug)]
pub struct Counting;

fn grown(size: usize) {
    let live = LIVE.fetch_add(size, Relaxed) + size;
    PEAK.fetch_max(live, Relaxed);
}

fn shrunk(size: usize) {
    LIVE.fetch_sub(size, Relaxed);
}

// SAFETY: every call goes to the system's allocator as it came; counting touches two atomics and allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: the caller keeps to `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: the caller keeps to `GlobalAlloc::alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        shrunk(layout.size());
        // SAFETY: the caller keeps to `GlobalAlloc::dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // Both are live while the system copies.
        grown(new_size);
        shrunk(layout.size());
        // SAFETY: the caller keeps to `GlobalAlloc::realloc`.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

/// Forgets the peak so far; returns what is live.
pub(crate) fn start() -> usize {
    let live = LIVE.load(Relaxed);
    PEAK.store(live, Relaxed);
    live
}

/// The most that was live beyond `before` since [`start`].
pub(crate) fn peak_since(before: usize) -> usize {
    PEAK.load(Relaxed).saturating_sub(before)
}

static RUNS: AtomicU64 = AtomicU64::new(0);
static WORST_PEAK: AtomicUsize = AtomicUsize::new(0);
/// The worst peak for each byte of input, in thousandths.
static WORST_RATIO: AtomicUsize = AtomicUsize::new(0);

/// Keeps the worst, and says it after 1024 runs and each time they have doubled.
pub(crate) fn report(peak: usize, input_len: usize) {
    WORST_PEAK.fetch_max(peak, Relaxed);
    WORST_RATIO.fetch_max(peak * 1000 / input_len.max(1), Relaxed);
    let runs = RUNS.fetch_add(1, Relaxed) + 1;
    if runs >= 1024 && runs.is_power_of_two() {
        let (peak, ratio) = (WORST_PEAK.load(Relaxed), WORST_RATIO.load(Relaxed));
        eprintln!("allocation after {runs} runs: at most {peak} bytes, {ratio}/1000 of the input");
    }
}
