//! All choices of a life, from its seed: a generator that is only its state (SplitMix64).

use std::ops::Range;

/// A sequence of numbers that its seed decides.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        Self(seed)
    }

    /// Another sequence, which this one decides: so that what one part draws does not move what another does.
    pub fn fork(&mut self) -> Self {
        Self(self.draw())
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number of a range, which must not be empty.
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.draw() % (range.end - range.start).max(1)
    }

    /// Whether something happens that happens `times` out of `of`.
    pub fn chance(&mut self, times: u64, of: u64) -> bool {
        self.within(0..of) < times
    }

    /// One of several, of which there must be one.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        let index = self.within(0..of.len() as u64);
        &of[usize::try_from(index).unwrap_or(0)]
    }
}
