//! Tells whoever waits for it that brokers have gone, or cannot be spared any more, or that this broker would not hear of it.

use std::sync::Arc;
use std::time::Duration;

use weir_proto::admin::v1 as proto;

use super::describe;
use crate::Broker;

/// How long a call waits that has nothing to say: not longer than callers wait for any other.
const HOLD: Duration = Duration::from_secs(10);

/// All partitions are looked through for an answer: however often the metadata changes, not more often than this for each caller.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Waits until it is another than what is known. `None` when there will be no newer metadata: the broker stops.
pub(super) async fn wait(
    broker: &Broker,
    known: Option<&proto::Availability>,
) -> Option<proto::Availability> {
    let mut images = broker.metadata.watch();
    let ends = tokio::time::Instant::now() + HOLD;
    loop {
        let image = Arc::clone(&images.borrow_and_update());
        let now = describe::availability(broker, &image);
        if known != Some(&now) {
            return Some(now);
        }
        // Not left to the wait below, which goes on where the metadata have changed while they were looked through.
        if tokio::time::Instant::now() >= ends {
            return Some(now);
        }
        tokio::select! {
            changed = images.changed() => {
                changed.ok()?;
                tokio::time::sleep(LOOK_EVERY).await;
            }
            () = turns(broker, now.controller_unknown) => {}
            () = tokio::time::sleep_until(ends) => return Some(now),
        }
    }
}

/// Waits until a controller is heard again, or no longer: that a lease ends nobody tells.
async fn turns(broker: &Broker, controller_unknown: bool) {
    while broker.metadata.confirmed_controller().is_none() == controller_unknown {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
