#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::panic, reason = "tests")]

mod engine;
mod model;
mod random;
mod retrying;
mod windows;

use weir_wire::Offset;

use super::acquire::{Acquire, AcquireMode, Acquired, Content, Fetched};
use super::partition::{ShareConfig, SharePartition};
use super::write::{Restored, Written};
use super::{AckBatch, AckType, RetryConfig};
use crate::types::{MemberId, MonoMs};

const CONFIG: ShareConfig = ShareConfig {
    lock_ms: 1_000,
    deliveries_max: 3,
    records_max: 20,
};

fn batch(base: i64, last: i64) -> Fetched {
    Fetched {
        base: Offset(base),
        last: Offset(last),
        content: Content::Records,
        key: None,
    }
}

fn control(at: i64) -> Fetched {
    Fetched {
        content: Content::Nothing,
        ..batch(at, at)
    }
}

fn fresh() -> SharePartition {
    SharePartition::restore(CONFIG, Restored::default())
}

fn member(name: &str) -> MemberId {
    name.into()
}

/// Hands out up to `records_max` of these batches; ranges as `(first, last, deliveries)`.
fn acquire(
    partition: &mut SharePartition,
    name: &str,
    batches: &[Fetched],
    records_max: i64,
    now: u64,
) -> Vec<(i64, i64, i16)> {
    let mode = AcquireMode::BatchOptimized;
    acquire_as(partition, name, batches, (records_max, 1, mode), now)
}

fn acquire_as(
    partition: &mut SharePartition,
    name: &str,
    batches: &[Fetched],
    (records_max, batch_size, mode): (i64, i64, AcquireMode),
    now: u64,
) -> Vec<(i64, i64, i16)> {
    let Some(from) = partition.next_fetch() else {
        return Vec::new();
    };
    let member = member(name);
    let want = Acquire {
        member: &member,
        records_max,
        batch_size,
        mode,
        from,
        batches,
    };
    let ranges = partition.acquire(want, MonoMs(now));
    let plain = |range: Acquired| (range.first.0, range.last.0, range.deliveries);
    ranges.into_iter().map(plain).collect()
}

fn ack(first: i64, last: i64, kind: AckType) -> AckBatch {
    AckBatch {
        first: Offset(first),
        last: Offset(last),
        types: vec![kind],
    }
}

/// Everything that is to be stored is.
fn store(partition: &mut SharePartition) {
    while partition.take_write().is_some() {
        partition.written(Written::Stored);
    }
}
