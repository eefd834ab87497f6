//! Which shards this broker coordinates: those whose partitions it leads.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use weir_groups::request::TopicRef;
use weir_groups::{GroupError, OFFSETS_TOPIC, Request, partition_for};
use weir_log::PartitionKey;
use weir_quorum::image::Image;
use weir_wire::{LeaderEpoch, PartitionIndex, TopicId};

use super::Groups;
use super::shard::{Call, Inbox, Shard};

/// The ways to the shards of this broker, by partition.
#[derive(Debug, Default)]
pub(super) struct Shards {
    inboxes: RwLock<BTreeMap<PartitionIndex, Inbox>>,
}

impl Shards {
    fn set(&self, inboxes: BTreeMap<PartitionIndex, Inbox>) {
        *self.inboxes.write().unwrap_or_else(PoisonError::into_inner) = inboxes;
    }

    fn get(&self, partition: PartitionIndex) -> Option<Inbox> {
        self.inboxes
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&partition)
            .cloned()
    }

    /// All shards of this broker.
    pub(super) fn all(&self) -> Vec<Inbox> {
        self.inboxes
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }
}

/// The task of a shard. Two of one partition follow one another; they differ in the epoch.
#[derive(Debug)]
struct Running {
    inbox: Inbox,
    epoch: LeaderEpoch,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Groups {
    /// Runs a task for each shard that this broker coordinates, as the metadata says, until `stop`. Ends when they have.
    pub async fn follow(self, stop: CancellationToken) {
        let mut images = self.shared.metadata.watch();
        let mut before = Arc::new(Image::default());
        let mut running = BTreeMap::new();
        loop {
            let image = Arc::clone(&images.borrow_and_update());
            // An old image, from before this process, may call it the leader of what others lead now.
            if self.shared.metadata.caught_up() {
                self.run_led(&image, &mut running);
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.forget_deleted(&before, &image) => {}
            }
            before = image;
            tokio::select! {
                () = stop.cancelled() => break,
                changed = images.changed() => if changed.is_err() { break },
            }
        }
        self.run_led(&Image::default(), &mut running);
        for (_, ending) in running {
            // A task that panicked has said so itself.
            let _ = ending.task.await;
        }
    }

    /// Starts and stops tasks so that there is one for each partition of the offsets topic that is led here.
    fn run_led(&self, image: &Image, running: &mut BTreeMap<PartitionKey, Running>) {
        let led = self.led(image);
        for (key, shard) in running.iter() {
            if led.get(key) != Some(&shard.epoch) {
                shard.stop.cancel();
            }
        }
        running.retain(|key, shard| led.contains_key(key) || !shard.task.is_finished());
        for (key, epoch) in &led {
            let before = match running.get(key) {
                Some(shard) if shard.epoch == *epoch && !shard.stop.is_cancelled() => continue,
                _ => running.remove(key),
            };
            running.insert(*key, self.start(*key, *epoch, before));
        }
        let inboxes = led.keys().filter_map(|key| {
            running
                .get(key)
                .map(|shard| (key.partition, shard.inbox.clone()))
        });
        self.shared.shards.set(inboxes.collect());
    }

    fn led(&self, image: &Image) -> BTreeMap<PartitionKey, LeaderEpoch> {
        let me = self.shared.metadata.broker_id();
        let Some(topic) = image.topic(OFFSETS_TOPIC) else {
            return BTreeMap::new();
        };
        let partitions = (0..)
            .zip(&topic.partitions)
            .filter(|(_, partition)| partition.leader == Some(me));
        let led = partitions.map(|(index, partition)| {
            let key = PartitionKey {
                topic_id: TopicId(topic.id.0),
                partition: PartitionIndex(index),
            };
            (key, LeaderEpoch(partition.leader_epoch.0))
        });
        led.collect()
    }

    fn start(&self, key: PartitionKey, epoch: LeaderEpoch, before: Option<Running>) -> Running {
        let stop = CancellationToken::new();
        let shard = Shard {
            key,
            epoch,
            partitions: Arc::clone(&self.shared.partitions),
            config: self.shared.config.clone(),
            clock: Arc::clone(&self.shared.clock),
            stop: stop.clone(),
        };
        let (inbox, task) = shard.start();
        let task = tokio::spawn(async move {
            if let Some(before) = before {
                let _ = before.task.await;
            }
            task.await;
        });
        Running {
            inbox,
            epoch,
            stop,
            task,
        }
    }

    /// Drops the offsets of topics that are gone, so that topics of the same names begin anew.
    async fn forget_deleted(&self, before: &Image, image: &Image) {
        if before.revision() == image.revision() {
            return;
        }
        let gone = before
            .topics()
            .filter(|topic| image.topic_by_id(topic.id).is_none());
        let gone: Vec<TopicRef> = gone
            .map(|topic| TopicRef {
                name: topic.name.to_string(),
                id: TopicId(topic.id.0),
            })
            .collect();
        if gone.is_empty() {
            return;
        }
        for inbox in self.shared.shards.all() {
            // Nobody waits for the answer.
            let (answer, _) = oneshot::channel();
            inbox
                .send(Call {
                    request: Request::ForgetTopics(gone.clone()),
                    answer,
                })
                .await;
        }
    }

    /// The ways to all shards that this broker is to coordinate.
    ///
    /// # Errors
    /// While the task of one of them is yet to start.
    pub(super) fn own_shards(&self) -> Result<Vec<Inbox>, GroupError> {
        let led = self.led(&self.shared.metadata.image());
        let inboxes = led
            .into_keys()
            .map(|key| self.shared.shards.get(key.partition));
        inboxes
            .map(|inbox| inbox.ok_or(GroupError::CoordinatorLoadInProgress))
            .collect()
    }

    /// The way to a group's shard, if that is here.
    pub(super) fn shard_of(&self, group: &str) -> Result<Inbox, GroupError> {
        let image = self.shared.metadata.image();
        let topic = image
            .topic(OFFSETS_TOPIC)
            .ok_or(GroupError::NotCoordinator)?;
        let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        let partition = partition_for(group, count);
        let leader = topic
            .partition(partition.0)
            .and_then(|partition| partition.leader);
        self.shared.shards.get(partition).ok_or({
            if leader == Some(self.shared.metadata.broker_id()) {
                // Its task is about to start.
                GroupError::CoordinatorLoadInProgress
            } else {
                GroupError::NotCoordinator
            }
        })
    }
}
