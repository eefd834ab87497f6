//! What the metrics have of one stream; nothing any more when it ends.

use std::sync::Arc;

use super::credit::Credit;
use crate::metrics::Metrics;

#[derive(Debug)]
pub(super) struct Measured {
    metrics: Arc<Metrics>,
    credit: Credit,
}

impl Measured {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        metrics.subscribe_streams.inc();
        let credit = Credit::default();
        Self { metrics, credit }
    }

    /// The stream's credit is this now.
    pub(super) fn set(&mut self, now: Credit) {
        let before = std::mem::replace(&mut self.credit, now);
        let change = |now: u32, before: u32| i64::from(now) - i64::from(before);
        let metrics = &self.metrics;
        metrics
            .subscribe_credit
            .add(change(now.limit(), before.limit()));
        metrics
            .subscribe_outstanding
            .add(change(now.out(), before.out()));
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        self.set(Credit::default());
        self.metrics.subscribe_streams.dec();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn what_streams_have_is_added_up_and_gone_with_them() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let seen = || {
            let of = [
                &metrics.subscribe_streams,
                &metrics.subscribe_credit,
                &metrics.subscribe_outstanding,
            ];
            of.map(prometheus::IntGauge::get)
        };
        let mut credit = Credit::default();
        credit.set(10);
        let (mut one, mut other) = (
            Measured::new(Arc::clone(&metrics)),
            Measured::new(Arc::clone(&metrics)),
        );
        one.set(credit);
        credit.reserve(4);
        credit.fetched(4, 3);
        other.set(credit);
        assert_eq!(seen(), [2, 20, 3]);
        credit.settled();
        credit.set(1);
        other.set(credit);
        assert_eq!(seen(), [2, 11, 2]);
        drop(other);
        assert_eq!(seen(), [1, 10, 0]);
        drop(one);
        assert_eq!(seen(), [0, 0, 0]);
    }
}
