//! Leaders say who is in sync with them.
//!
//! A leader knows best how far its replicas are, and the controller who is alive and which state is the newest. A change is
//! taken only when both agree: it is made by the current leader to the newest state, and whoever comes to the set is ready,
//! and in the very registration in which the leader saw it to be in sync (KIP-903): a broker that has restarted since may
//! have come back with less.

use super::elections::{self, Changes, Minimum};
use super::{Decision, View};
use crate::command::{AlterInSync, InSyncChange, Reply};
use crate::error::{ControlError, ErrorName};
use crate::ids::{BrokerEpoch, BrokerId};
use crate::image::{Image, Partition};
use crate::replicas::{Rules, Step};

pub(super) fn alter(view: &View<'_>, request: &AlterInSync) -> Result<Decision, ControlError> {
    super::brokers::registration(view, request.id, request.epoch)?;
    let mut changes = Changes::default();
    // Changes of one topic make one record.
    let mut order: Vec<usize> = (0..request.partitions.len()).collect();
    order.sort_by_key(|at| (request.partitions[*at].topic, request.partitions[*at].index));
    let mut results = vec![Ok(()); request.partitions.len()];
    let mut previous = None;
    let mut minimum = Minimum::default();
    for at in order {
        let change = &request.partitions[at];
        let key = (change.topic, change.index);
        results[at] = if previous.replace(key) == Some(key) {
            let message = "the partition is named twice in one request";
            Err(ControlError::new(ErrorName::InvalidRequest, message))
        } else {
            alter_one(view, request.id, change, &mut minimum, &mut changes)
        };
    }
    Ok(Decision::new(
        changes.into_records(),
        Reply::Partitions(results),
    ))
}

fn alter_one(
    view: &View<'_>,
    leader: BrokerId,
    change: &InSyncChange,
    minimum: &mut Minimum,
    changes: &mut Changes,
) -> Result<(), ControlError> {
    let refuse = |name, message: String| Err(ControlError::new(name, message));
    let Some(topic) = view.image.topic_by_id(change.topic) else {
        return refuse(
            ErrorName::UnknownTopicId,
            format!("no topic has the id {}", change.topic),
        );
    };
    let Some(partition) = topic.partition(change.index) else {
        return refuse(
            ErrorName::UnknownTopicOrPartition,
            format!(
                "topic {:?} has {} partitions",
                topic.name,
                topic.partitions.len()
            ),
        );
    };
    if partition.leader != Some(leader) || partition.leader_epoch != change.leader_epoch {
        return refuse(
            ErrorName::FencedLeaderEpoch,
            format!(
                "broker {leader} does not lead in epoch {}; the current one is {}",
                change.leader_epoch.0, partition.leader_epoch.0
            ),
        );
    }
    if partition.epoch != change.partition_epoch {
        return refuse(
            ErrorName::InvalidUpdateVersion,
            format!(
                "made to state {} of the partition; the newest is {}",
                change.partition_epoch.0, partition.epoch.0
            ),
        );
    }
    for (id, epoch) in &change.isr {
        eligible(view.image, partition, *id, *epoch)?;
    }
    if !change.isr.iter().any(|(id, _)| *id == leader) {
        return refuse(
            ErrorName::InvalidRequest,
            "a leader is in sync with itself".to_owned(),
        );
    }
    let isr: Vec<BrokerId> = change.isr.iter().map(|(id, _)| *id).collect();
    let rules = Rules {
        in_sync_min: minimum.of(view, topic),
        can_lead: &|id| elections::can_lead(view.image, id),
    };
    if let Some(next) = Step::new(partition, rules).in_sync(&isr).finish() {
        changes.push(topic, change.index, &next);
    }
    Ok(())
}

/// Whether a replica may be in sync. One that is about to stop may stay, and not come.
fn eligible(
    image: &Image,
    partition: &Partition,
    id: BrokerId,
    epoch: BrokerEpoch,
) -> Result<(), ControlError> {
    let stays = partition.isr.contains(&id);
    let why = match image.broker(id) {
        _ if !partition.replicas.contains(&id) => "is no replica",
        None => "is not registered",
        Some(broker) if broker.fenced => "is fenced",
        Some(broker) if broker.epoch != epoch => "has registered anew since it was seen in sync",
        Some(broker) if broker.stopping && !stays => "is about to stop",
        Some(_) => return Ok(()),
    };
    Err(ControlError::new(
        ErrorName::IneligibleReplica,
        format!("broker {id} {why}"),
    ))
}
