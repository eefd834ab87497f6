//! What the fuzz targets do with their input, and the proof that it takes no more memory than it may.
//!
//! `cargo xtask fuzz` builds and runs them. Each target is a function from bytes: it must not panic, whatever they are, and
//! what it allocates at any moment must stay within [`ALLOCATION_FACTOR`] times their length.

mod allocation;
pub mod targets;

pub use allocation::Counting;

/// How many bytes of memory a byte of input may ask for.
pub const ALLOCATION_FACTOR: usize = 4;
/// What an input may ask for however short it is.
pub const ALLOCATION_FIXED: usize = 256;

/// Runs a target and panics when it allocated more than its input allows.
pub fn bounded(input: &[u8], target: impl FnOnce(&[u8])) {
    let before = allocation::start();
    target(input);
    let peak = allocation::peak_since(before);
    let allowed = input.len() * ALLOCATION_FACTOR + ALLOCATION_FIXED;
    assert!(
        peak <= allowed,
        "{peak} bytes allocated for {} bytes of input, {allowed} allowed",
        input.len()
    );
    allocation::report(peak, input.len());
}
