//! A target that allocates more than its input allows, to prove that the check can fail.
#![no_main]

use std::hint::black_box;

use libfuzzer_sys::fuzz_target;
use weir_wire_fuzz::{ALLOCATION_FACTOR, ALLOCATION_FIXED, Counting, bounded};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fuzz_target!(|input: &[u8]| bounded(input, |input| {
    let allowed = input.len() * ALLOCATION_FACTOR + ALLOCATION_FIXED;
    drop(black_box(Vec::<u8>::with_capacity(allowed + 1)));
}));
