//! Whether this broker's disks have room for what it leads: the controller is told when they have none, and lets others lead meanwhile.
//!
//! With several data directories one without room is enough: which partitions lie there is this broker's own business.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::DISK_RESERVE_BYTES;
use crate::Broker;
use crate::quorum::Member;

/// How often disks are asked when they are nearly full: a second of refusals at most before others are asked to lead.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// How often when there is much room: something else may have filled them.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// What no disk takes in a second: before so many have passed there is no need to ask again.
const BYTES_PER_SECOND: u64 = 4 << 30;

/// What has to be free before a disk has room again: twice the reserve, so that it does not come and go with each segment that retention
/// deletes.
const FREE_AGAIN_BYTES: u64 = 2 * DISK_RESERVE_BYTES;

/// Tells for as long as this broker lives.
pub(super) async fn watch(broker: Arc<Broker>, member: Arc<Member>, stop: CancellationToken) {
    let mut is_full = false;
    loop {
        let mut least = u64::MAX;
        for dir in broker.partitions.dirs() {
            // A disk that cannot say counts as having room: the write itself will tell.
            if let Some(space) = broker.space_of(dir.path()).await {
                least = least.min(space.available_bytes);
            }
        }
        let now_full = least
            <= match is_full {
                true => FREE_AGAIN_BYTES,
                false => DISK_RESERVE_BYTES,
            };
        if now_full != is_full {
            is_full = now_full;
            match is_full {
                true => warn!(
                    available_bytes = least,
                    reserve_bytes = DISK_RESERVE_BYTES,
                    "a disk is full: others lead what they can until there is room again"
                ),
                false => info!(available_bytes = least, "there is room on the disk again"),
            }
            member.set_full(is_full);
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause(least)) => {}
        }
    }
}

/// How long it takes at least until a disk with so much room has none.
fn pause(available: u64) -> Duration {
    let room = available.saturating_sub(DISK_RESERVE_BYTES);
    Duration::from_secs(room / BYTES_PER_SECOND).clamp(PAUSE_MIN, PAUSE_MAX)
}
