//! `frames` of [`weir_wire_fuzz::targets`].
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_wire_fuzz::{Counting, bounded, targets};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fuzz_target!(|input: &[u8]| bounded(input, targets::frames));
