//! Whether a process's memory stays what it is, from looks at it over an hour.

use std::time::Duration;

/// How much of a life is not judged: caches fill, and all sizes of load have been there once.
const WARM_UP: f64 = 0.25;

/// How much more there may be in the end than at the beginning, whatever the size: what an allocator keeps differs by as much.
const MORE_BYTES_MAX: u64 = 16 << 20;

/// And how much more in relation to it.
const MORE_PART_MAX: f64 = 0.10;

/// Looks at the memory of one process.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    looks: Vec<(Duration, u64)>,
}

impl Memory {
    /// Takes in that at some time, later than all before, it had so many bytes.
    pub fn take(&mut self, at: Duration, bytes: u64) {
        self.looks.push((at, bytes));
    }

    /// The most that it had.
    #[must_use]
    pub fn most(&self) -> u64 {
        self.looks
            .iter()
            .map(|(_, bytes)| *bytes)
            .max()
            .unwrap_or(0)
    }

    /// From when to when it was looked at.
    #[must_use]
    pub fn lasted(&self) -> Duration {
        let first = self.looks.first().map_or(Duration::ZERO, |look| look.0);
        self.looks
            .last()
            .map_or(Duration::ZERO, |look| look.0 - first)
    }

    /// Compares the middle of what it had soon after it was warm with the middle of what it had in the end: each a quarter of the
    /// looks that count.
    ///
    /// # Errors
    /// How much it grew, if that is more than chance.
    pub fn is_flat(&self) -> Result<(u64, u64), String> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a part of a length"
        )]
        let warm = (self.looks.len() as f64 * WARM_UP) as usize;
        let counted = &self.looks[warm..];
        let quarter = counted.len() / 4;
        if quarter == 0 {
            return Err("there are too few looks to judge".to_owned());
        }
        let (before, after) = (
            middle(&counted[..quarter]),
            middle(&counted[counted.len() - quarter..]),
        );
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "bytes of a process"
        )]
        let part = (before as f64 * MORE_PART_MAX) as u64;
        if after > before + MORE_BYTES_MAX.max(part) {
            return Err(format!(
                "its memory grew from {} to {} MiB in {} minutes",
                before >> 20,
                after >> 20,
                self.lasted().as_secs() / 60
            ));
        }
        Ok((before, after))
    }
}

fn middle(looks: &[(Duration, u64)]) -> u64 {
    let mut bytes: Vec<u64> = looks.iter().map(|(_, bytes)| *bytes).collect();
    bytes.sort_unstable();
    bytes[bytes.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn memory(bytes: impl Fn(u64) -> u64) -> Memory {
        let mut memory = Memory::default();
        for second in 0..1_800 {
            memory.take(Duration::from_secs(second), bytes(second));
        }
        memory
    }

    #[test]
    fn what_grows_and_shrinks_or_grows_only_at_first_is_flat() {
        assert!(
            memory(|second| 60 * MIB + second % 7 * MIB)
                .is_flat()
                .is_ok()
        );
        assert!(memory(|second| second.min(100) * MIB).is_flat().is_ok());
        assert!(
            memory(|second| if second % 300 == 0 {
                900 * MIB
            } else {
                60 * MIB
            })
            .is_flat()
            .is_ok()
        );
    }

    #[test]
    fn what_grows_on_and_on_is_found() {
        assert!(
            memory(|second| 60 * MIB + second * MIB / 30)
                .is_flat()
                .is_err()
        );
        assert!(
            memory(|second| 900 * MIB + second * MIB / 10)
                .is_flat()
                .is_err()
        );
        assert!(Memory::default().is_flat().is_err());
    }
}
