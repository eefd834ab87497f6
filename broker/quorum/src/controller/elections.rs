//! Who leads a partition when brokers come and go.

use crate::ids::BrokerId;
use crate::image::{Image, Partition, Topic};
use crate::record::{PartitionChanged, Record};

/// The change that gives a partition another leader, or none.
pub(super) fn change_leader(
    topic: &Topic,
    index: i32,
    partition: &Partition,
    leader: Option<BrokerId>,
) -> Record {
    Record::PartitionChanged(PartitionChanged {
        topic: topic.id,
        index,
        leader,
        leader_epoch: partition.leader_epoch.next(),
        epoch: partition.epoch.next(),
        replicas: None,
        isr: None,
        elr: None,
    })
}

/// The first replica, in the order of preference, that is in sync and alive.
pub(super) fn elect(
    partition: &Partition,
    is_alive: impl Fn(BrokerId) -> bool,
) -> Option<BrokerId> {
    partition
        .replicas
        .iter()
        .copied()
        .find(|id| partition.isr.contains(id) && is_alive(*id))
}

/// The changes that take all leadership from a broker that is going: to another in-sync replica, or to no one. The
/// in-sync set stays: the broker has what it had.
pub(super) fn depose(image: &Image, gone: BrokerId) -> Vec<Record> {
    let is_alive =
        |id: BrokerId| id != gone && image.broker(id).is_some_and(|broker| !broker.fenced);
    image
        .partitions_led_by(gone)
        .map(|(topic, index, partition)| {
            change_leader(topic, index, partition, elect(partition, is_alive))
        })
        .collect()
}

/// The changes that give partitions without a leader to a broker that has come back, where it is in sync.
pub(super) fn restore(image: &Image, back: BrokerId) -> Vec<Record> {
    image
        .partitions_on(back)
        .filter(|(_, _, partition)| partition.leader.is_none() && partition.isr.contains(&back))
        .map(|(topic, index, partition)| change_leader(topic, index, partition, Some(back)))
        .collect()
}

/// The changes that follow from a broker's coming back with another disk: what it held is gone, so it is in sync with
/// nothing and leads nothing, until replicas are made anew or a person accepts the loss.
pub(super) fn disown(image: &Image, wiped: BrokerId) -> Vec<Record> {
    let is_alive =
        |id: BrokerId| id != wiped && image.broker(id).is_some_and(|broker| !broker.fenced);
    image
        .partitions_on(wiped)
        .filter(|(_, _, partition)| {
            partition.isr.contains(&wiped) || partition.leader == Some(wiped)
        })
        .map(|(topic, index, partition)| {
            let leader = match partition.leader {
                Some(leader) if leader != wiped => Some(leader),
                _ => elect(partition, is_alive),
            };
            let leader_epoch = if leader == partition.leader {
                partition.leader_epoch
            } else {
                partition.leader_epoch.next()
            };
            Record::PartitionChanged(PartitionChanged {
                topic: topic.id,
                index,
                leader,
                leader_epoch,
                epoch: partition.epoch.next(),
                replicas: None,
                isr: Some(
                    partition
                        .isr
                        .iter()
                        .copied()
                        .filter(|id| *id != wiped)
                        .collect(),
                ),
                elr: None,
            })
        })
        .collect()
}

/// The changes that let a live replica lead where none that is in sync is left, at the price of what it lacks. Only where
/// the in-sync set is empty: a replica that is in sync and away may come back with everything.
pub(super) fn unclean<'a>(image: &'a Image, topic: &'a Topic) -> impl Iterator<Item = Record> + 'a {
    let is_alive = |id: &BrokerId| image.broker(*id).is_some_and(|broker| !broker.fenced);
    (0..)
        .zip(&topic.partitions)
        .filter_map(move |(index, partition)| {
            if partition.leader.is_some() || !partition.isr.is_empty() {
                return None;
            }
            let leader = partition.replicas.iter().copied().find(is_alive)?;
            Some(Record::PartitionChanged(PartitionChanged {
                topic: topic.id,
                index,
                leader: Some(leader),
                leader_epoch: partition.leader_epoch.next(),
                epoch: partition.epoch.next(),
                replicas: None,
                isr: Some(vec![leader]),
                elr: None,
            }))
        })
}
