//! What makes a topic more than a log: the input and output of `weir_queues`.
//!
//! Owns nothing of a plain topic. [`append`](mod@append) is how whoever is no Kafka client appends, `redrive`
//! takes dead letters back. [`Bound`] is a bounded partition's, and what is
//! bounded together is leased by [`ledgers`]; [`follow`] is the task that counts backlogs when a leader
//! begins, and lets logs begin later where the oldest messages make room. What always holds: a client's batch is admitted only by a
//! leader that knows its backlog, and the backlog that is known is never less than the true one. Who waits for room does so in [`throttle`].
//! [`delay`] has the messages that are to come later, and [`view`] the topics that have what others have.

pub mod append;
mod bound;
pub mod delay;
mod leases;
mod led;
pub mod ledgers;
pub(crate) mod redrive;
pub mod throttle;
pub mod trace;
pub mod view;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use weir_groups::GroupId;
use weir_groups::share::state::{NO_START, StateError, StateKey};
use weir_log::ReadError;
use weir_log::mutants::Mutant;
use weir_wire::batch::batches;
use weir_wire::{LeaderEpoch, Offset};

pub use bound::{Bound, Settled, Work};

use crate::Broker;
use crate::partitions::Partition;
use crate::quorum::Metadata;

/// How often what groups have settled is looked at without being told: it may be set from outside, on another broker.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// After something went wrong, such as a coordinator that is coming up; who appends meanwhile is refused for the moment.
const PAUSE: Duration = Duration::from_millis(200);
/// Bytes that are read at once to count a backlog.
const READ_BYTES: usize = 4 << 20;

/// Counts backlogs and makes room, until `stop`.
pub async fn follow(broker: Arc<Broker>, work: Arc<Work>, stop: CancellationToken) {
    loop {
        let is_behind = tokio::select! {
            () = stop.cancelled() => return,
            is_behind = look_at_all(&broker) => is_behind,
        };
        let pause = if is_behind { PAUSE } else { LOOK_EVERY };
        tokio::select! {
            () = stop.cancelled() => return,
            () = work.look.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// True when something could not be found out, or is not committed yet.
async fn look_at_all(broker: &Arc<Broker>) -> bool {
    // Together: a coordinator that is coming up is to hold up nobody else.
    let mut looks = JoinSet::new();
    let mut is_behind = false;
    for partition in broker.partitions.all() {
        let Some(bound) = partition.bound() else {
            continue;
        };
        if let Some(epoch) = leads_in(&broker.metadata, &partition) {
            let (room, is_more_to_go) = bound.room_to_make(epoch, partition.high_watermark());
            if let Some(start) = room {
                make_room(&partition, start);
            }
            is_behind |= is_more_to_go;
            let broker = Arc::clone(broker);
            looks.spawn(async move {
                let looked = look(&broker, &partition, &bound, epoch).await;
                looked.map_err(|error| (partition, error))
            });
        }
    }
    while let Some(looked) = looks.join_next().await {
        // A task that panicked has said so itself.
        if let Ok(Err((partition, error))) = looked {
            let (topic, partition) = (partition.topic(), partition.key().partition);
            debug!(%topic, %partition, %error, "a backlog cannot be counted yet");
            is_behind = true;
        }
    }
    is_behind
}

/// The epoch in which this broker leads, when it does.
fn leads_in(metadata: &Metadata, partition: &Partition) -> Option<LeaderEpoch> {
    let key = partition.key();
    let image = metadata.image();
    let topic = image.topic_by_id(weir_quorum::TopicId(key.topic_id.0))?;
    let known = topic.partition(key.partition.0)?;
    let epoch = LeaderEpoch(known.leader_epoch.0);
    (known.leader == Some(metadata.broker_id()) && partition.leads(epoch)).then_some(epoch)
}

#[derive(Debug, thiserror::Error)]
enum Uncounted {
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Log(#[from] ReadError),
    #[error("a batch of the log: {0}")]
    Batch(#[from] weir_wire::batch::BatchError),
}

/// Has a bound know what its group has settled, and counts the backlog if that is not known in this epoch.
async fn look(
    broker: &Broker,
    partition: &Arc<Partition>,
    bound: &Arc<Bound>,
    epoch: LeaderEpoch,
) -> Result<(), Uncounted> {
    let settled = match bound.group() {
        None => None,
        Some(group) => {
            let key = StateKey {
                group: GroupId::from(group),
                topic: partition.key().topic_id,
                partition: partition.key().partition,
            };
            let summary = broker.share.persister().summary(key).await?;
            let summary = summary.filter(|summary| summary.start != NO_START);
            summary.map(|summary| Settled {
                start: summary.start,
                within: u64::try_from(summary.complete_count).unwrap_or(0),
            })
        }
    };
    let mut settled = settled.unwrap_or_default();
    if Mutant::BoundForgotten.is_active() {
        settled.start = partition.reader().log_end();
    }
    if bound.look(epoch, settled) {
        return Ok(());
    }
    let start = settled.start.max(partition.reader().log_start());
    let end = partition.reader().log_end();
    let bytes = if bound.counts_bytes() {
        let partition = Arc::clone(partition);
        let count = move || count(&partition, start, end);
        broker.host.blocking(count).await?
    } else {
        0
    };
    bound.begin(epoch, settled, (start.min(end), end), bytes);
    Ok(())
}

/// Bytes of the batches that have something in `start..end`. Reads them, which are at most as many as may be unsettled, but for a bound that has become less.
fn count(partition: &Partition, start: Offset, end: Offset) -> Result<u64, Uncounted> {
    let (mut at, mut bytes) = (start, 0);
    while at < end {
        let read = partition.reader().read(at, end, READ_BYTES, true)?;
        for batch in batches(&read.bytes) {
            bytes += batch?.header().total_len() as u64;
        }
        if read.next_offset <= at {
            break;
        }
        at = read.next_offset;
    }
    Ok(bytes)
}

/// Lets the log begin at `start`.
fn make_room(partition: &Arc<Partition>, start: Offset) {
    let topic = Arc::clone(partition.topic());
    partition.delete_records(start, move |result| {
        if let Err(error) = result {
            // The next batch asks for room again.
            warn!(%topic, %error, "the oldest messages do not make room");
        }
    });
}
