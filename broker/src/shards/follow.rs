//! Which shards this broker serves: those whose partitions it leads.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use weir_groups::Machine;
use weir_log::PartitionKey;
use weir_quorum::image::Image;
use weir_wire::LeaderEpoch;

use super::Shards;
use super::shard::{Inbox, Shard};
use crate::partitions::key_of;

/// The task of a shard. Two of one partition follow one another; they differ in the epoch.
struct Running<M: Machine> {
    inbox: Inbox<M>,
    epoch: LeaderEpoch,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// Runs a task for each shard that this broker serves.
struct Following<M: Machine> {
    shards: Shards<M>,
    running: BTreeMap<PartitionKey, Running<M>>,
}

impl<M: Machine> Shards<M> {
    /// Runs a task for each shard that this broker serves, as the metadata says, until `stop`. Ends when they have.
    pub async fn follow(self, stop: CancellationToken) {
        let mut images = self.shared.metadata.watch();
        let mut following = Following {
            shards: self.clone(),
            running: BTreeMap::new(),
        };
        loop {
            let image = Arc::clone(&images.borrow_and_update());
            following.apply(&image);
            tokio::select! {
                () = stop.cancelled() => break,
                changed = images.changed() => if changed.is_err() { break },
            }
        }
        following.end().await;
    }

    pub(super) fn led(&self, image: &Image) -> BTreeMap<PartitionKey, LeaderEpoch> {
        let me = self.shared.metadata.broker_id();
        let Some(topic) = image.topic(M::TOPIC) else {
            return BTreeMap::new();
        };
        let partitions = (0..)
            .zip(&topic.partitions)
            .filter(|(_, partition)| partition.leader == Some(me));
        let led = partitions.map(|(index, partition)| {
            let epoch = LeaderEpoch(partition.leader_epoch.0);
            (key_of(topic, index), epoch)
        });
        led.collect()
    }
}

impl<M: Machine> Following<M> {
    /// Starts and stops tasks so that there is one for each shard that is led here in this image.
    fn apply(&mut self, image: &Image) {
        // An old image, from before this process, may call it the leader of what others lead now.
        if self.shards.shared.metadata.caught_up() {
            self.run(self.shards.led(image));
        }
    }

    /// Stops all tasks, and waits for their end.
    async fn end(mut self) {
        self.run(BTreeMap::new());
        for (_, ending) in self.running {
            // A task that panicked has said so itself.
            let _ = ending.task.await;
        }
    }

    fn run(&mut self, led: BTreeMap<PartitionKey, LeaderEpoch>) {
        let running = &mut self.running;
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
            running.insert(*key, start(&self.shards, *key, *epoch, before));
        }
        let inboxes = led.keys().filter_map(|key| {
            running
                .get(key)
                .map(|shard| (key.partition, shard.inbox.clone()))
        });
        *self
            .shards
            .shared
            .inboxes
            .write()
            .unwrap_or_else(PoisonError::into_inner) = inboxes.collect();
    }
}

fn start<M: Machine>(
    shards: &Shards<M>,
    key: PartitionKey,
    epoch: LeaderEpoch,
    before: Option<Running<M>>,
) -> Running<M> {
    let stop = CancellationToken::new();
    let shard = Shard {
        key,
        epoch,
        shared: Arc::clone(&shards.shared),
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
