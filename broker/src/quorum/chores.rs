//! What a controller does without being asked: finds leaders where all have lost something, gives partitions back to their
//! preferred leaders, and moves replicas.
//!
//! All is decided purely, on the newest metadata; here is when. Preferred leaders are looked after at an interval, as in
//! Kafka, and a while after brokers came or went: a broker that was restarted would lead nothing for minutes otherwise. A
//! while, so that a cluster that is rolled does not move its leaders back and forth.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use weir_quorum::configs::{cluster_number, cluster_truth};
use weir_quorum::controller::{View, awaits_leaders, balance_leaders, moves, recover};
use weir_quorum::quorum::ProposeError;
use weir_quorum::{BrokerEpoch, BrokerId, Image};

use super::controller::Reign;

/// How long brokers must neither have come nor gone before leaders are moved because of it.
const QUIET: Duration = Duration::from_secs(5);

/// How soon the next moves are begun after some have ended; in between, more of them end.
const MOVES_EVERY: Duration = Duration::from_millis(100);

/// How soon moves are looked at again without a change of the image, while one may be due by the time alone: a broker that is missed is waited for
/// for some minutes.
const MOVES_AGAIN: Duration = Duration::from_secs(60);

/// Whether partitions go back to their preferred leaders by themselves.
const AUTOMATIC: &str = "auto.leader.rebalance.enable";
/// How often they do.
const INTERVAL: &str = "leader.imbalance.check.interval.seconds";

/// The brokers that may lead, each in its registration.
type Leading = BTreeSet<(BrokerId, BrokerEpoch)>;

/// What is to be done, and when.
pub(super) struct Chores {
    revision: u64,
    leading: Leading,
    draining: BTreeSet<BrokerId>,
    /// When leaders are looked after next, and when moves are.
    leaders_at: Instant,
    moves_at: Instant,
    /// Brokers came or went since all preferred leaders led.
    unsettled: bool,
}

fn leading(image: &Image) -> Leading {
    let may = image.brokers().filter(|broker| broker.can_lead());
    may.map(|broker| (broker.id, broker.epoch)).collect()
}

fn draining(image: &Image) -> BTreeSet<BrokerId> {
    let draining = image.brokers().filter(|broker| broker.draining);
    draining.map(|broker| broker.id).collect()
}

impl Chores {
    /// Nothing is known of what happened before.
    pub(super) fn new(image: Arc<Image>) -> Self {
        let now = Instant::now();
        Self {
            revision: image.revision(),
            leading: leading(&image),
            draining: draining(&image),
            leaders_at: now + QUIET,
            moves_at: now,
            unsettled: true,
        }
    }

    /// Takes note of a newer image. Says whether other brokers are leaving than before.
    pub(super) fn notice(&mut self, image: Arc<Image>) -> bool {
        if image.revision() == self.revision {
            return false;
        }
        self.revision = image.revision();
        let now = Instant::now();
        self.moves_at = self.moves_at.min(now + MOVES_EVERY);
        let leading = leading(&image);
        if leading != self.leading {
            self.leading = leading;
            self.unsettled = true;
            self.leaders_at = now + QUIET;
        }
        let draining = draining(&image);
        let is_new = draining != self.draining;
        self.draining = draining;
        is_new
    }

    /// When there is something to do next.
    pub(super) fn due(&self) -> Instant {
        self.leaders_at.min(self.moves_at)
    }

    /// Does what is due.
    pub(super) async fn run(&mut self, reign: &Reign<'_>) -> Result<(), ProposeError> {
        let now = Instant::now();
        if self.moves_at <= now {
            // A change of the image brings it up again.
            let pause = if reign.ask(|view| view.image.is_rebalancing()) {
                MOVES_AGAIN
            } else {
                Duration::from_secs(3600)
            };
            self.moves_at = now + pause;
            reign.act(|view| recover(view, &reign.ends)).await?;
            reign.act(|view| moves(view, &reign.sizes)).await?;
        }
        if self.leaders_at <= now {
            self.look_after_leaders(reign, now).await?;
        }
        Ok(())
    }

    async fn look_after_leaders(
        &mut self,
        reign: &Reign<'_>,
        now: Instant,
    ) -> Result<(), ProposeError> {
        let moved = reign.act(balance).await?;
        let awaits = reign.ask(|view| is_automatic(view) && awaits_leaders(view));
        // There may be more than are moved in one go, and some that are still catching up.
        self.unsettled &= moved || awaits;
        let pause = if self.unsettled {
            QUIET
        } else {
            reign.ask(interval)
        };
        self.leaders_at = now + pause;
        Ok(())
    }
}

fn is_automatic(view: &View<'_>) -> bool {
    cluster_truth(view.image, view.settings, AUTOMATIC)
}

fn balance(view: &View<'_>) -> Vec<weir_quorum::Record> {
    if is_automatic(view) {
        balance_leaders(view)
    } else {
        Vec::new()
    }
}

fn interval(view: &View<'_>) -> Duration {
    let seconds = cluster_number(view.image, view.settings, INTERVAL).ok();
    let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok());
    // A year is as good as never, and can be added to any time.
    Duration::from_secs(seconds.unwrap_or(300).clamp(1, 31_536_000))
}
