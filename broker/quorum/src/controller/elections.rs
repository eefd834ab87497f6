//! Who leads a partition and who is in sync with it when brokers come and go.
//!
//! What happens to one partition is decided in [`replicas`](crate::replicas); here is which partitions an event is about.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::View;
use crate::configs::{self, Durability, IN_SYNC_MIN, TopicConfig};
use crate::ids::{BrokerId, LeaderEpoch, TopicId};
use crate::image::{Image, Partition, Topic};
use crate::record::{PartitionState, PartitionsSet, Record};
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

/// Remembers the minimum of the topic that was asked about last: the same one is mostly asked about again, and the answer
/// takes a look at all of its partitions.
#[derive(Debug, Default)]
pub(super) struct Minimum(Option<(TopicId, usize)>);

impl Minimum {
    /// The least number of replicas in sync with which a topic takes writes.
    pub(super) fn of(&mut self, view: &View<'_>, topic: &Topic) -> usize {
        match self.0 {
            Some((of, minimum)) if of == topic.id => minimum,
            _ => {
                let minimum = in_sync_min(view, topic);
                self.0 = Some((topic.id, minimum));
                minimum
            }
        }
    }
}

/// The least number of replicas in sync with which a topic takes writes.
pub(super) fn in_sync_min(view: &View<'_>, topic: &Topic) -> usize {
    configs::in_sync_min(view.image, view.settings, topic)
}

/// Takes a step with each of these partitions, in the order of topics.
pub(super) fn step_each<'a>(
    view: &View<'_>,
    partitions: impl Iterator<Item = (&'a Arc<Topic>, i32, &'a Arc<Partition>)>,
    can_lead: &dyn Fn(BrokerId) -> bool,
    happens: impl for<'p> Fn(Step<'p>) -> Step<'p>,
) -> Vec<Record> {
    let mut changes = Changes::default();
    let mut minimum = Minimum::default();
    for (topic, index, partition) in partitions {
        let rules = Rules {
            in_sync_min: minimum.of(view, topic),
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

/// What follows from a broker's having no room on its disk: others lead where they can that have some. It stays in sync with what
/// nobody writes to, and goes on with what nobody else could lead.
pub(super) fn relieve(view: &View<'_>, full: BrokerId) -> Vec<Record> {
    let has_room = |id| id != full && can_take_over(view, id);
    step_each(
        view,
        view.image.partitions_led_by(full),
        &has_room,
        |step| step,
    )
}

/// Whether a broker may be given what another leads: it may lead, and has not said that its disk has no room.
pub(super) fn can_take_over(view: &View<'_>, id: BrokerId) -> bool {
    let broker = view.image.broker(id);
    broker.is_some_and(|broker| broker.can_lead() && !view.liveness.is_full(id, broker.epoch))
}

/// What follows from records that lower a minimum: from here on writes are acknowledged with fewer replicas, so those who
/// were eligible only because nothing could be acknowledged without them are not any more (KIP-966).
pub(super) fn relaxed(view: &View<'_>, records: &[Record]) -> Vec<Record> {
    let may_lower = |record: &Record| match record {
        Record::ConfigChanged(changed) => changed.key == IN_SYNC_MIN,
        // The minimum that nobody set follows from how many replicas there are.
        Record::PartitionsSet(set) => view.image.topic_by_id(set.topic).is_some_and(|topic| {
            set.partitions.iter().any(|state| {
                let before = topic.partition(state.index);
                before.is_some_and(|before| before.stable().count() > stable(state))
            })
        }),
        _ => false,
    };
    if !records.iter().any(may_lower) {
        return Vec::new();
    }
    // What contradicts the image is refused when it is applied.
    let Ok(next) = view.image.apply(view.image.index() + 1, records) else {
        return Vec::new();
    };
    let after = View {
        image: &next,
        ..*view
    };
    settled(&after)
}

fn stable(state: &PartitionState) -> usize {
    let replicas = state.replicas.iter();
    replicas.filter(|id| !state.adding.contains(id)).count()
}

/// What a new controller has to put right: its configuration file may have another minimum than that of the one before.
pub fn settled(view: &View<'_>) -> Vec<Record> {
    let alive = |id| can_lead(view.image, id);
    let below = view.image.partitions();
    let below = below.filter(|(_, _, partition)| partition.is_below_minimum());
    step_each(view, below, &alive, |step| step)
}

/// How far the logs of replicas reach that may have lost something, by topic, partition and broker, as far as it was told.
pub type Ends = BTreeMap<(TopicId, i32, BrokerId), (LeaderEpoch, i64)>;

/// Where everyone who held what was acknowledged has lost some of it, the one with the most left leads: after a power cut of
/// the whole cluster for topics that do not sync, which promise no more, once all who may have the most are back; and for
/// topics whose owner has consented.
pub fn recover(view: &View<'_>, ends: &Ends) -> Vec<Record> {
    let can_lead = |id: &BrokerId| can_lead(view.image, *id);
    let mut records = Vec::new();
    for topic in view.image.topics() {
        if !topic.partitions.iter().any(|partition| is_lost(partition)) {
            continue;
        }
        let config = TopicConfig::resolve(view.image, view.settings, topic);
        if config.unclean_leader_election_enable {
            records.extend(unclean(view, topic));
            continue;
        }
        if config.durability == Durability::Fsync {
            continue;
        }
        let mut changes = Changes::default();
        for (index, partition) in (0..).zip(&topic.partitions) {
            let known = &partition.last_known;
            if !is_lost(partition) || known.is_empty() || !known.iter().all(can_lead) {
                continue;
            }
            let end = |id: &BrokerId| ends.get(&(topic.id, index, *id)).copied();
            // Of equals the first, which is the preferred one.
            let most = known.iter().rev().max_by_key(|id| end(id));
            let next = most.and_then(|id| accept_loss_of(view, topic, partition, *id));
            if let Some(next) = next {
                changes.push(topic, index, &next);
            }
        }
        records.extend(changes.into_records());
    }
    records
}

/// Whether nobody leads a partition, and nobody who holds everything may come back.
fn is_lost(partition: &Partition) -> bool {
    partition.leader.is_none() && partition.isr.is_empty() && partition.elr.is_empty()
}

/// Lets a live replica lead where none is left that holds everything, at the price of what it lacks: the one that was last
/// known to hold the most, or else the preferred one. Only where nobody that holds everything may come back.
pub(super) fn unclean(view: &View<'_>, topic: &Arc<Topic>) -> Vec<Record> {
    let mut changes = Changes::default();
    for (index, partition) in (0..).zip(&topic.partitions) {
        if is_lost(partition)
            && let Some(next) = accept_loss(view, topic, partition)
        {
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
    accept_loss_of(view, topic, partition, leader)
}

fn accept_loss_of(
    view: &View<'_>,
    topic: &Topic,
    partition: &Partition,
    leader: BrokerId,
) -> Option<Partition> {
    let rules = Rules {
        in_sync_min: in_sync_min(view, topic),
        can_lead: &|id| can_lead(view.image, id),
    };
    Step::new(partition, rules).accept_loss(leader).finish()
}
