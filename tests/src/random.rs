//! Choices that a test can make again: a generator that is only its seed (SplitMix64).

/// A sequence of numbers that its seed decides.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of `WEIR_SEED`, or of the clock, said on standard output so that it can be had again.
    #[must_use]
    pub fn announced() -> Self {
        let seed = std::env::var("WEIR_SEED")
            .ok()
            .and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| {
            let since = std::time::SystemTime::UNIX_EPOCH
                .elapsed()
                .unwrap_or_default();
            since.as_secs() % 1_000_000
        });
        println!("WEIR_SEED={seed} makes the same choices again");
        Self(seed)
    }

    /// A number from `least` up to and without `end`.
    pub fn between(&mut self, least: u64, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        least + (mixed ^ (mixed >> 31)) % (end - least)
    }
}
