//! How fast messages may be given up.

use crate::Millis;

const MINUTE_MS: u64 = 60_000;

/// A bucket that holds a minute's worth: so many messages may be given up at once, then as many a minute.
#[derive(Clone, Debug)]
pub struct Breaker {
    /// Messages a minute; `None`: as many as come.
    rate_max: Option<u64>,
    /// [`MINUTE_MS`] make a message; each millisecond brings as many as the rate is.
    level: u64,
    filled_at: Millis,
}

impl Breaker {
    /// A full one.
    #[must_use]
    pub fn new(rate_max: Option<u64>, now: Millis) -> Self {
        Self {
            rate_max,
            level: full(rate_max),
            filled_at: now,
        }
    }

    /// Another rate from now on; the bucket keeps what it has, as far as it fits.
    pub fn set_rate(&mut self, rate_max: Option<u64>, now: Millis) {
        self.fill(now);
        self.level = match self.rate_max {
            Some(_) => self.level.min(full(rate_max)),
            None => full(rate_max),
        };
        self.rate_max = rate_max;
    }

    /// Takes one message's worth.
    ///
    /// # Errors
    /// When there is none: when there will be, if nobody else takes it.
    pub fn take(&mut self, now: Millis) -> Result<(), Millis> {
        let Some(rate) = self.rate_max else {
            return Ok(());
        };
        self.fill(now);
        if self.level >= MINUTE_MS {
            self.level -= MINUTE_MS;
            return Ok(());
        }
        let missing = MINUTE_MS - self.level;
        // At a rate of 0 nothing is given up; who asks looks again in a minute.
        let wait = missing
            .checked_div(rate)
            .map_or(MINUTE_MS, |_| missing.div_ceil(rate));
        Err(now.after(wait))
    }

    /// Whether nothing more may be given up for the moment: what an alert asks.
    pub fn is_open(&mut self, now: Millis) -> bool {
        self.fill(now);
        self.rate_max.is_some() && self.level < MINUTE_MS
    }

    fn fill(&mut self, now: Millis) {
        let passed = now.0.saturating_sub(self.filled_at.0);
        self.filled_at = self.filled_at.max(now);
        let more = passed.saturating_mul(self.rate_max.unwrap_or(0));
        self.level = self.level.saturating_add(more).min(full(self.rate_max));
    }
}

fn full(rate_max: Option<u64>) -> u64 {
    rate_max.unwrap_or(0).saturating_mul(MINUTE_MS)
}
