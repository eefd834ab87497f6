//! Where numbers that were never used before come from: the system, or a simulation's seed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use uuid::Uuid;

/// A source of numbers that were never used before.
#[derive(Clone, Debug, Default)]
pub enum Entropy {
    /// The operating system's.
    #[default]
    System,
    /// The same numbers in each run of the same seed.
    Seeded(Arc<AtomicU64>),
}

impl Entropy {
    /// The numbers that follow from a seed.
    pub fn seeded(seed: u64) -> Self {
        Self::Seeded(Arc::new(AtomicU64::new(seed)))
    }

    /// The next number.
    pub(crate) fn next(&self) -> u128 {
        match self {
            Self::System => Uuid::new_v4().as_u128(),
            Self::Seeded(state) => {
                let draw = || {
                    let step = 0x9e37_79b9_7f4a_7c15_u64;
                    let mut z = state.fetch_add(step, Ordering::Relaxed).wrapping_add(step);
                    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                    u128::from(z ^ (z >> 31))
                };
                (draw() << 64) | draw()
            }
        }
    }

    /// The next number as a random UUID.
    pub(crate) fn uuid(&self) -> Uuid {
        uuid::Builder::from_random_bytes(self.next().to_be_bytes()).into_uuid()
    }
}
