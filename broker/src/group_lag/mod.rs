//! How far all groups that are coordinated here are behind, for metrics.
//!
//! A group's offsets are known here, the ends of its partitions where they are led: that takes questions to other brokers, so a
//! scrape never waits for all of it. What always holds:
//!
//! - Nothing is looked at unless somebody scrapes: no timer wakes a broker whose metrics nobody reads, and whoever reads them
//!   rarely costs little. An interval would look for nobody, and be older at each scrape than a look that the scrape begins.
//! - One look at a time, and after a long one a long rest: however many groups there are, and however many scrape, looking
//!   takes a twentieth of the time at most (until it takes [`REST_MAX`] of rest).
//! - A scrape waits [`SCRAPE_WAIT`] at most and is then given what was known before.
//! - What cannot be learnt is no reason to say that there is less to read: an alert would be resolved by a leader that died.
//!   Such a partition counts as it was last known, its oldest record growing older; see [`known`].
//!
//! [`look`] asks, [`known`] keeps, [`series`] sets the gauges; [`follow`] is what `start` runs, [`GroupLag::refresh`] for
//! [`http`](crate::http).

mod known;
mod look;
mod series;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Broker;
use known::Known;
use series::Series;

/// What was found is new enough for other scrapes for so long: several servers of Prometheus may scrape one broker, each every 15
/// seconds or so.
const REST_MIN: Duration = Duration::from_secs(5);
/// After a look that took long, because of many groups or of a broker that does not answer.
const REST_MAX: Duration = Duration::from_secs(60);
/// How many times as long as the look itself the rest is.
const REST_FACTOR: u32 = 20;
/// How long a scrape waits for a look: most take milliseconds, and Prometheus waits ten seconds for all of a scrape.
const SCRAPE_WAIT: Duration = Duration::from_secs(1);

/// Between those who scrape and the task that looks.
#[derive(Debug)]
pub struct GroupLag {
    wanted: Notify,
    /// When the rest after the last look ends.
    rested: watch::Sender<Option<Instant>>,
}

impl Default for GroupLag {
    fn default() -> Self {
        Self {
            wanted: Notify::new(),
            rested: watch::Sender::new(None),
        }
    }
}

impl GroupLag {
    /// Has the gauges set anew if they are old, and waits a moment for that.
    pub async fn refresh(&self) {
        let mut looks = self.rested.subscribe();
        if self.is_resting() {
            return;
        }
        self.wanted.notify_one();
        let _ = tokio::time::timeout(SCRAPE_WAIT, looks.changed()).await;
    }

    fn is_resting(&self) -> bool {
        self.rested
            .borrow()
            .is_some_and(|until| Instant::now() < until)
    }
}

/// Looks whenever that is wanted, until `stop`.
pub async fn follow(broker: Arc<Broker>, stop: CancellationToken) {
    let (mut known, mut series) = (Known::default(), Series::default());
    let lag = &broker.group_lag;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = lag.wanted.notified() => {}
        }
        // It was wanted while somebody else's look was under way.
        if lag.is_resting() {
            continue;
        }
        let began = Instant::now();
        let look = tokio::select! {
            () = stop.cancelled() => return,
            look = look::look(&broker) => look,
        };
        known.take(look, |group| broker.groups.shard_of(group));
        series.publish(&broker.metrics, &known, broker.host.clock.now_ms());
        lag.rested
            .send_replace(Some(Instant::now() + rest(began.elapsed())));
    }
}

fn rest(took: Duration) -> Duration {
    (took * REST_FACTOR).clamp(REST_MIN, REST_MAX)
}
