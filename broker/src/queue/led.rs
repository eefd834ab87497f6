//! A task for each partition of some kind that this broker leads.
//!
//! Whose a partition is the metadata say. What always holds: of one partition one task runs at a time, and it is stopped as soon as the metadata
//! have the partition led elsewhere, in another epoch, or as no longer of the kind. That it does no harm until then is the task's business: it appends in its
//! epoch only.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use weir_log::PartitionKey;
use weir_quorum::image::{Image, Topic};
use weir_wire::LeaderEpoch;

use crate::Broker;
use crate::partitions::{Partition, Partitions, key_of};

/// While the metadata are old.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);
/// While the metadata is ahead of the logs.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// After something went wrong: at first, and at most.
const PAUSE_MIN: Duration = Duration::from_millis(20);
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(2);

/// What a task is for.
pub(super) struct Task {
    pub(super) key: PartitionKey,
    pub(super) epoch: LeaderEpoch,
    pub(super) is_of_kind: fn(&Partition) -> bool,
    /// What is said when it fails.
    pub(super) what: &'static str,
}

impl Task {
    /// Does it again, after a pause, whenever it has failed; until this is dropped.
    pub(super) async fn keep<F, E>(
        &self,
        partitions: &Partitions,
        live: impl Fn(Arc<Partition>) -> F,
    ) where
        F: Future<Output = Result<(), E>>,
        E: Display,
    {
        let mut pause = PAUSE_MIN;
        loop {
            let partition = self.partition(partitions).await;
            let began = Instant::now();
            if let Err(error) = live(Arc::clone(&partition)).await {
                let (topic, partition) = (partition.topic(), self.key.partition);
                if pause > PAUSE_MIN {
                    warn!(%topic, %partition, %error, "{}; trying again", self.what);
                } else {
                    debug!(%topic, %partition, %error, "{} for the moment", self.what);
                }
            }
            if began.elapsed() > PAUSE_MAX {
                pause = PAUSE_MIN;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// The partition, once it is led here and its configuration has come.
    async fn partition(&self, partitions: &Partitions) -> Arc<Partition> {
        loop {
            if let Ok(partition) = partitions.get(self.key)
                && partition.leads(self.epoch)
                && (self.is_of_kind)(&partition)
            {
                return partition;
            }
            // Some milliseconds later it is, or this is stopped.
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

/// The task of a partition.
struct Running {
    epoch: LeaderEpoch,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// Has `run` run for each partition of the topics of this kind that this broker leads, until `stop`. What it returns is dropped when it is to end.
pub(super) async fn follow<F>(
    broker: Arc<Broker>,
    stop: CancellationToken,
    is_of_kind: fn(&Topic) -> bool,
    run: impl Fn(Arc<Broker>, PartitionKey, LeaderEpoch) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut images = broker.metadata.watch();
    let mut running: BTreeMap<PartitionKey, Running> = BTreeMap::new();
    loop {
        let image = Arc::clone(&images.borrow_and_update());
        // An old image, from before this process, may call it the leader of what others lead now.
        let is_current = broker.metadata.caught_up();
        if is_current {
            apply(&broker, &image, is_of_kind, &run, &mut running);
        }
        tokio::select! {
            () = stop.cancelled() => break,
            changed = images.changed() => if changed.is_err() { break },
            // Whether the image is current is no part of it.
            () = tokio::time::sleep(LOOK_EVERY), if !is_current => {}
        }
    }
    for task in running.values() {
        task.stop.cancel();
    }
    for (_, ending) in running {
        // A task that panicked has said so itself.
        let _ = ending.task.await;
    }
}

fn apply<F>(
    broker: &Arc<Broker>,
    image: &Image,
    is_of_kind: fn(&Topic) -> bool,
    run: &impl Fn(Arc<Broker>, PartitionKey, LeaderEpoch) -> F,
    running: &mut BTreeMap<PartitionKey, Running>,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let led = image.partitions_led_by(broker.metadata.broker_id());
    let wanted = led.filter(|(topic, ..)| is_of_kind(topic));
    let wanted: BTreeMap<_, _> = wanted
        .map(|(topic, index, partition)| {
            let epoch = LeaderEpoch(partition.leader_epoch.0);
            (key_of(topic, index), epoch)
        })
        .collect();
    for (key, task) in running.iter() {
        if wanted.get(key) != Some(&task.epoch) {
            task.stop.cancel();
        }
    }
    running.retain(|key, task| wanted.contains_key(key) || !task.task.is_finished());
    for (key, epoch) in wanted {
        let before = match running.get(&key) {
            Some(task) if task.epoch == epoch && !task.stop.is_cancelled() => continue,
            _ => running.remove(&key),
        };
        let stop = CancellationToken::new();
        let (stopped, running_of) = (stop.clone(), run(Arc::clone(broker), key, epoch));
        let task = tokio::spawn(async move {
            if let Some(before) = before {
                let _ = before.task.await;
            }
            tokio::select! {
                () = stopped.cancelled() => {}
                () = running_of => {}
            }
        });
        running.insert(key, Running { epoch, stop, task });
    }
}
