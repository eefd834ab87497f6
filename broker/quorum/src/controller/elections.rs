//! Who leads a partition and who is in sync with it when brokers come and go.
//!
//! What happens to one partition is decided in [`replicas`](crate::replicas); here is which partitions an event is about.

use std::sync::Arc;

use super::View;
use crate::configs::topic_number;
use crate::ids::BrokerId;
use crate::image::{Image, Partition, Topic};
use crate::record::{PartitionsSet, Record};
use crate::replicas::{Rules, Step};

/// Gathers changed partitions into one record for each topic.
#[derive(Debug, Default)]
pub(super) struct Changes(Vec<PartitionsSet>);

impl Changes {
    pub(super) fn push(&mut self, topic: &Topic, index: i32, partition: &Partition) {
        let state = partition.to_state(index);
        match self.0.last_mut() {
            Some(last) if last.topic == topic.id => last.partitions.push(state),
            _ => self.0.push(PartitionsSet {
                topic: topic.id,
                partitions: vec![state],
            }),
        }
    }

    pub(super) fn into_records(self) -> Vec<Record> {
        self.0.into_iter().map(Record::PartitionsSet).collect()
    }
}

/// The least number of replicas in sync with which a topic takes writes.
pub(super) fn in_sync_min(view: &View<'_>, topic: &Topic) -> usize {
    let wanted = topic_number(view.image, view.settings, topic, "min.insync.replicas");
    usize::try_from(wanted).unwrap_or(1).max(1)
}

/// Takes a step with each of these partitions, in the order of topics.
pub(super) fn step_each<'a>(
    view: &View<'_>,
    partitions: impl Iterator<Item = (&'a Arc<Topic>, i32, &'a Arc<Partition>)>,
    can_lead: &dyn Fn(BrokerId) -> bool,
    happens: impl for<'p> Fn(Step<'p>) -> Step<'p>,
) -> Vec<Record> {
    let mut changes = Changes::default();
    let mut minimum: Option<(&Arc<Topic>, usize)> = None;
    for (topic, index, partition) in partitions {
        let in_sync_min = match minimum {
            Some((of, minimum)) if Arc::ptr_eq(of, topic) => minimum,
            _ => in_sync_min(view, topic),
        };
        minimum = Some((topic, in_sync_min));
        let rules = Rules {
            in_sync_min,
            can_lead,
        };
        if let Some(next) = happens(Step::new(partition, rules)).finish() {
            changes.push(topic, index, &next);
        }
    }
    changes.into_records()
}

/// Whether a broker may lead, as the metadata has it.
pub(super) fn can_lead(image: &Image, id: BrokerId) -> bool {
    image.broker(id).is_some_and(|broker| broker.can_lead())
}

/// What follows from a broker's going: it leads nothing and is in sync with nothing; it has what it had.
pub(super) fn depose(view: &View<'_>, gone: BrokerId) -> Vec<Record> {
    let alive = |id| id != gone && can_lead(view.image, id);
    step_each(view, view.image.partitions_on(gone), &alive, |step| {
        step.gone(gone)
    })
}

/// What follows from a broker's being ready: it leads what waited for it.
pub(super) fn restore(view: &View<'_>, back: BrokerId) -> Vec<Record> {
    let alive = |id| id == back || can_lead(view.image, id);
    let waiting = view.image.partitions_on(back);
    let waiting = waiting.filter(|(_, _, partition)| partition.leader.is_none());
    step_each(view, waiting, &alive, |step| step)
}

/// What follows from a broker's coming back with another disk: what it held is gone, so it leads nothing until replicas
/// are made anew or a person accepts the loss.
pub(super) fn disown(view: &View<'_>, wiped: BrokerId) -> Vec<Record> {
    let alive = |id| id != wiped && can_lead(view.image, id);
    step_each(view, view.image.partitions_on(wiped), &alive, |step| {
        step.wiped(wiped)
    })
}

/// What follows from a broker's being about to stop: others lead where they can.
pub(super) fn retire(view: &View<'_>, stopping: BrokerId) -> Vec<Record> {
    let alive = |id| id != stopping && can_lead(view.image, id);
    step_each(
        view,
        view.image.partitions_led_by(stopping),
        &alive,
        |step| step,
    )
}

/// Lets a live replica lead where none is left that holds everything, at the price of what it lacks: the one that was last
/// known to hold the most, or else the preferred one. Only where nobody that holds everything may come back.
pub(super) fn unclean(view: &View<'_>, topic: &Arc<Topic>) -> Vec<Record> {
    let mut changes = Changes::default();
    for (index, partition) in (0..).zip(&topic.partitions) {
        let is_lost =
            partition.leader.is_none() && partition.isr.is_empty() && partition.elr.is_empty();
        if is_lost && let Some(next) = accept_loss(view, topic, partition) {
            changes.push(topic, index, &next);
        }
    }
    changes.into_records()
}

/// One partition after a person has accepted the loss of whatever its next leader lacks.
pub(super) fn accept_loss(
    view: &View<'_>,
    topic: &Topic,
    partition: &Partition,
) -> Option<Partition> {
    let can_lead = |id| can_lead(view.image, id);
    let among = |set: &[BrokerId]| set.iter().copied().find(|id| can_lead(*id));
    let leader = among(&partition.last_known).or_else(|| among(&partition.replicas))?;
    let rules = Rules {
        in_sync_min: in_sync_min(view, topic),
        can_lead: &can_lead,
    };
    Step::new(partition, rules).accept_loss(leader).finish()
}
