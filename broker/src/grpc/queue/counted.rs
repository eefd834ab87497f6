//! What calls of request and reply come to, for the metrics.

use std::sync::Arc;

use tokio::time::Instant;

use crate::metrics::Metrics;

pub(super) const REPLIED: &str = "replied";
pub(super) const EXPIRED: &str = "expired";
pub(super) const REFUSED: &str = "refused";
pub(super) const UNAVAILABLE: &str = "unavailable";
/// Nobody waits for what it comes to.
const CANCELLED: &str = "cancelled";

/// What calls come to, as the metrics name it.
pub(crate) const OUTCOMES: [&str; 5] = [REPLIED, EXPIRED, REFUSED, UNAVAILABLE, CANCELLED];

/// A call, which is counted when it is over.
pub(super) struct Counted {
    metrics: Arc<Metrics>,
    began: Instant,
    pub(super) came_to: &'static str,
}

impl Counted {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        metrics.calls_waiting.inc();
        Self {
            metrics,
            began: Instant::now(),
            came_to: CANCELLED,
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let Self {
            metrics,
            began,
            came_to,
        } = self;
        metrics.calls_waiting.dec();
        metrics.calls.with_label_values(&[*came_to]).inc();
        if *came_to == REPLIED {
            metrics.call_duration.observe(began.elapsed().as_secs_f64());
        }
    }
}
