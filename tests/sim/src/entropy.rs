//! The system's randomness, from the seed: this process's `getrandom`.
//!
//! The standard library asks for it by a weak symbol, "to allow interposition", and takes from it the keys of every
//! `HashMap`; from one of those tokio takes the seed of its choices in `select!`. So that with this, and a process for each
//! life, all of that is the same in every run of a seed; the alternative, `--cfg tokio_unstable`, would build every
//! dependency once more and leave maps as they are.
#![allow(unsafe_code, reason = "a symbol that the standard library looks for")]

use std::sync::atomic::{AtomicU64, Ordering};

use weir_sim::random::Random;

static STATE: AtomicU64 = AtomicU64::new(1);

/// Everything drawn from here on follows from `seed`.
pub(crate) fn seed(seed: u64) {
    STATE.store(seed, Ordering::Relaxed);
}

/// What the C library has under this name.
#[unsafe(no_mangle)]
extern "C" fn getrandom(buffer: *mut u8, length: usize, _flags: u32) -> isize {
    // SAFETY: the caller owns so many bytes there; that is the function's contract.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer, length) };
    let mut random = Random::of(STATE.fetch_add(0x9e37_79b9, Ordering::Relaxed));
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&random.draw().to_le_bytes()[..chunk.len()]);
    }
    isize::try_from(length).unwrap_or(isize::MAX)
}
