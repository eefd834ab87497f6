//! Who leads a partition when brokers come and go.

use std::sync::Arc;

use crate::ids::BrokerId;
use crate::image::{Image, Partition, Topic};
use crate::record::{LeadersChanged, PartitionChanged, Record};

/// The records that give partitions, in the order of topics, their next leaders.
fn change_leaders<'a>(
    changes: impl Iterator<Item = (&'a Arc<Topic>, i32, &'a Arc<Partition>, Option<BrokerId>)>,
) -> Vec<Record> {
    let mut records: Vec<LeadersChanged> = Vec::new();
    for (topic, index, partition, leader) in changes {
        let change = (
            index,
            leader,
            partition.leader_epoch.next(),
            partition.epoch.next(),
        );
        match records.last_mut() {
            Some(last) if last.topic == topic.id => last.changes.push(change),
            _ => records.push(LeadersChanged {
                topic: topic.id,
                changes: vec![change],
            }),
        }
    }
    records.into_iter().map(Record::LeadersChanged).collect()
}

/// The first replica, in the order of preference, that is in sync and alive.
fn elect(partition: &Partition, is_alive: impl Fn(BrokerId) -> bool) -> Option<BrokerId> {
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
    let led = image.partitions_led_by(gone);
    change_leaders(
        led.map(|(topic, index, partition)| (topic, index, partition, elect(partition, is_alive))),
    )
}

/// The changes that give partitions without a leader to a broker that has come back, where it is in sync.
pub(super) fn restore(image: &Image, back: BrokerId) -> Vec<Record> {
    let waiting = image
        .partitions_on(back)
        .filter(|(_, _, partition)| partition.leader.is_none() && partition.isr.contains(&back));
    change_leaders(waiting.map(|(topic, index, partition)| (topic, index, partition, Some(back))))
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
