//! How much of a rate was taken: a bucket that holds [`BURST_S`] seconds' worth and fills at the rate.
//!
//! Pure: the time comes from outside. What is taken beyond what is there is owed, and the debt divided by the rate is how long
//! whoever took it must wait: over any time, no more than the rate times that time and one bucket is taken.

use std::time::Duration;

/// Seconds' worth that may be taken at once: Kafka measures a rate over at least ten seconds (`quota.window.num` − 1 windows
/// of `quota.window.size.seconds`).
pub(super) const BURST_S: f64 = 10.0;

/// One bucket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    rate: f64,
    left: f64,
    at: Duration,
}

impl Bucket {
    /// A full bucket.
    pub(super) fn new(rate: f64, now: Duration) -> Self {
        Self {
            rate,
            left: rate * BURST_S,
            at: now,
        }
    }

    fn fill(&mut self, rate: f64, now: Duration) {
        if rate != self.rate {
            // What was owed under another rate is owed in the same measure.
            self.left *= rate / self.rate;
            self.rate = rate;
        }
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.left = (self.left + passed * rate).min(rate * BURST_S);
        self.at = now;
    }

    /// Takes an amount, whether or not it is there; how long to wait for what is owed.
    pub(super) fn take(&mut self, rate: f64, amount: f64, now: Duration) -> Duration {
        self.fill(rate, now);
        self.left -= amount;
        self.owed()
    }

    /// Takes an amount only if nothing is owed; otherwise how long to wait until then.
    pub(super) fn try_take(
        &mut self,
        rate: f64,
        amount: f64,
        now: Duration,
    ) -> Result<(), Duration> {
        self.fill(rate, now);
        match self.owed() {
            Duration::ZERO => {
                self.left -= amount;
                Ok(())
            }
            wait => Err(wait),
        }
    }

    fn owed(&self) -> Duration {
        if self.left >= 0.0 {
            return Duration::ZERO;
        }
        // At least a millisecond, or a client that is told of milliseconds is told of nothing; at most what it can be told.
        let seconds = (-self.left / self.rate).clamp(0.001, f64::from(i32::MAX) / 1_000.0);
        Duration::from_secs_f64(seconds)
    }

    /// Whether nothing was taken lately, so that a new bucket would be the same.
    pub(super) fn is_full(&self, now: Duration) -> bool {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.left + passed * self.rate >= self.rate * BURST_S
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whoever_waits_as_long_as_told_stays_within_the_rate(
            rate in 1.0..1e9_f64,
            takes in prop::collection::vec((0.0..3.0_f64, 0..2_000_u64), 1..50),
        ) {
            let (mut now, mut taken) = (Duration::ZERO, 0.0);
            let mut bucket = Bucket::new(rate, now);
            for (of_rate, pause_ms) in takes {
                let amount = rate * of_rate;
                taken += amount;
                now += bucket.take(rate, amount, now) + Duration::from_millis(pause_ms);
                let allowed = rate * (now.as_secs_f64() + BURST_S);
                prop_assert!(taken <= allowed * 1.000_001 + 1.0, "{taken} of {allowed}");
            }
        }
    }

    #[test]
    fn a_burst_is_free_and_what_is_beyond_it_is_waited_for() {
        let mut bucket = Bucket::new(100.0, Duration::ZERO);
        assert_eq!(bucket.take(100.0, 1_000.0, Duration::ZERO), Duration::ZERO);
        assert_eq!(
            bucket.take(100.0, 50.0, Duration::ZERO),
            Duration::from_millis(500)
        );
        assert_eq!(
            bucket.try_take(100.0, 1.0, Duration::ZERO),
            Err(Duration::from_millis(500))
        );
        assert_eq!(bucket.try_take(100.0, 1.0, Duration::from_secs(1)), Ok(()));
        assert!(!bucket.is_full(Duration::from_secs(2)));
        assert!(bucket.is_full(Duration::from_secs(60)));
    }
}
