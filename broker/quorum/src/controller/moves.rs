//! The controller moves replicas by itself: off brokers that are emptied, to as many as a topic is to have, and evenly over
//! the brokers.
//!
//! What is wanted stands in the metadata (a broker is draining, a topic's wanted replicas, rebalancing), and so does what is
//! under way (a partition's replicas that come and go). [`moves`] compares the two and begins the next moves, a bounded
//! number at a time; which they are the [`planner`] says, anew each time. So there is nothing to resume after
//! a crash of anyone, and what is wanted no more ends by saying so.

use std::collections::BTreeMap;
use std::time::Duration;

use super::elections::{self, Changes, Minimum};
use super::{Decision, MOVES_LEVEL, View};
use crate::command::{ChangeReplicas, Cordon, Reply, TopicOutcome, TopicResult};
use crate::error::{ControlError, ErrorName};
use crate::ids::{BrokerId, TopicId};
use crate::image::{Broker, Image, Partition, Topic};
use crate::planner::{self, Move};
use crate::record::{BrokerCordoned, BrokerDraining, Rebalancing, Record, ReplicasWanted};
use crate::replicas::{Rules, Step};

/// How large partitions are, as far as that is known.
pub type Sizes = BTreeMap<(TopicId, i32), u64>;

/// Partitions that come to one broker, or leave one leader, at the same time: enough to keep a disk and a link busy, few
/// enough for each to be done soon, so that what is served while it moves is served well.
const IN_FLIGHT_PER_BROKER: usize = 5;

/// A broker that has been silent for so long is not waited for to take its share: it may never come back, and nobody is to be given replicas for
/// what was asked for weeks ago. More than a restart takes, on another node too.
const MISSED_FOR: Duration = Duration::from_secs(600);

/// Moves begun in one go.
const BEGUN_AT_ONCE: usize = 100;

/// A broker gets no new replicas, or does again; then what was leaving it stays.
pub(super) fn cordon(view: &View<'_>, request: &Cordon) -> Result<Decision, ControlError> {
    let broker = registered(view.image, request.id)?;
    // Also when nothing changes: an answer then tells that the quorum has agreed on it now, as that of a drain does.
    let mut records = vec![Record::BrokerCordoned(BrokerCordoned {
        id: request.id,
        cordoned: request.cordoned,
    })];
    if broker.draining && !request.cordoned {
        records.push(Record::BrokerDraining(BrokerDraining {
            id: request.id,
            draining: false,
        }));
        records.extend(stay(view, request.id));
    }
    Ok(Decision::new(records, Reply::Done))
}

/// A broker is emptied.
pub(super) fn drain(view: &View<'_>, id: BrokerId) -> Result<Decision, ControlError> {
    let broker = registered(view.image, id)?;
    is_served(view.image)?;
    let mut records = Vec::new();
    if !broker.cordoned {
        records.push(Record::BrokerCordoned(BrokerCordoned {
            id,
            cordoned: true,
        }));
    }
    // Also when it is draining already: an answer then tells that the quorum has agreed on it now, so whoever asks and reads what the
    // broker holds after it reads nothing older. That is the proof that a broker may go.
    records.push(Record::BrokerDraining(BrokerDraining {
        id,
        draining: true,
    }));
    Ok(Decision::new(records, Reply::Done))
}

/// Replicas are spread evenly, or stay where they are; what is under way is finished.
pub(super) fn rebalance(view: &View<'_>, active: bool) -> Result<Decision, ControlError> {
    is_served(view.image)?;
    let is_new = view.image.is_rebalancing() != active;
    let records = is_new.then_some(Record::Rebalancing(Rebalancing { active }));
    Ok(Decision::new(records.into_iter().collect(), Reply::Done))
}

/// Topics get another number of replicas.
pub(super) fn change_replicas(
    view: &View<'_>,
    request: &ChangeReplicas,
) -> Result<Decision, ControlError> {
    is_served(view.image)?;
    let mut records = Vec::new();
    let results = request.topics.iter().map(|(name, replicas)| {
        let outcome = wanted(view.image, name, *replicas);
        let topic = view.image.topic(name);
        if let (Ok((_, record)), false) = (&outcome, request.validate_only) {
            records.extend(record.clone());
        }
        TopicResult {
            name: name.clone(),
            id: topic.map(|topic| topic.id),
            outcome: outcome.map(|(numbers, _)| numbers),
        }
    });
    let results = results.collect();
    Ok(Decision::new(records, Reply::Topics(results)))
}

fn wanted(
    image: &Image,
    name: &str,
    replicas: i32,
) -> Result<(TopicOutcome, Option<Record>), ControlError> {
    let topic = image.topic(name).ok_or_else(|| {
        ControlError::new(
            ErrorName::UnknownTopicOrPartition,
            format!("topic {name:?} does not exist"),
        )
    })?;
    let takers = image.brokers().filter(|broker| !broker.cordoned).count();
    let count = u32::try_from(replicas).ok().filter(|count| *count > 0);
    let fits = |count: &u32| usize::try_from(*count).is_ok_and(|count| count <= takers);
    let count = count.filter(fits).ok_or_else(|| {
        ControlError::new(
            ErrorName::InvalidReplicationFactor,
            format!("replication factor {replicas}; allowed is 1 to {takers}, the number of brokers that take new replicas"),
        )
    })?;
    let record = Record::ReplicasWanted(ReplicasWanted {
        topic: topic.id,
        replicas: Some(count),
    });
    let numbers = TopicOutcome {
        partitions: i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX),
        replication_factor: replicas,
    };
    Ok((numbers, (!has(topic, count)).then_some(record)))
}

/// Whether a topic has so many replicas, and is to have no other number.
fn has(topic: &Topic, replicas: u32) -> bool {
    let is_so = |partition: &Partition| u32::try_from(partition.target().count()) == Ok(replicas);
    topic
        .replicas_wanted
        .is_none_or(|wanted| wanted == replicas)
        && topic.partitions.iter().all(|partition| is_so(partition))
}

fn registered(image: &Image, id: BrokerId) -> Result<&Broker, ControlError> {
    let broker = image.broker(id).map(AsRef::as_ref);
    broker.ok_or_else(|| {
        ControlError::new(
            ErrorName::BrokerIdNotRegistered,
            format!("broker {id} is not registered"),
        )
    })
}

fn is_served(image: &Image) -> Result<(), ControlError> {
    if image.feature_level() >= MOVES_LEVEL {
        return Ok(());
    }
    Err(ControlError::new(
        ErrorName::UnsupportedVersion,
        format!(
            "this cluster uses feature level {}, and moving replicas by itself takes {MOVES_LEVEL}: raise it once all brokers run \
             a version that knows it",
            image.feature_level()
        ),
    ))
}

/// What is leaving a broker stays there, where that loses nothing.
fn stay(view: &View<'_>, id: BrokerId) -> Vec<Record> {
    let leaving = view.image.partitions_on(id);
    let leaving = leaving.filter(|(_, _, partition)| {
        partition.removing.contains(&id) && super::reassign::check_cancel(partition).is_ok()
    });
    let can_lead = |id| elections::can_lead(view.image, id);
    elections::step_each(view, leaving, &can_lead, |step| step.cancel())
}

/// Whether anything is wanted for which replicas have to move.
pub fn is_moving(image: &Image) -> bool {
    image.is_rebalancing()
        || image.brokers().any(|broker| broker.draining)
        || image.topics().any(|topic| topic.replicas_wanted.is_some())
}

/// The next moves, and the ends of what is done. Nothing when nothing is wanted, or all that may be under way is.
pub fn moves(view: &View<'_>, sizes: &Sizes) -> Vec<Record> {
    let image = view.image;
    if !is_moving(image) || image.feature_level() < MOVES_LEVEL {
        return Vec::new();
    }
    let brokers: Vec<planner::Broker> = image.brokers().map(|broker| planned(broker)).collect();
    let all: Vec<(&Topic, i32, &Partition)> = image
        .partitions()
        .map(|(topic, index, partition)| (&**topic, index, &**partition))
        .collect();
    let partitions: Vec<planner::Partition> = all
        .iter()
        .map(|(topic, index, partition)| {
            let wanted = topic
                .replicas_wanted
                .and_then(|count| usize::try_from(count).ok());
            planner::Partition {
                replicas: partition.target().collect(),
                wanted: wanted.unwrap_or_else(|| partition.target().count()),
                bytes: sizes.get(&(topic.id, *index)).copied().unwrap_or(0),
                // Where nobody leads, nobody can bring a new replica up to date.
                is_moving: partition.is_reassigning() || partition.leader.is_none(),
            }
        })
        .collect();
    let mut records = Vec::new();
    let mut begun = Begun::new(view, &all);
    begun.take(planner::settle(&brokers, &partitions));
    for topic in image.topics() {
        if let Some(count) = topic.replicas_wanted
            && has(topic, count)
            && !topic
                .partitions
                .iter()
                .any(|partition| partition.is_reassigning())
        {
            records.push(Record::ReplicasWanted(ReplicasWanted {
                topic: topic.id,
                replicas: None,
            }));
        }
    }
    // First what has to be: what is to leave, or to be added, is not to be moved twice.
    if image.is_rebalancing() && begun.is_idle() {
        let moves = planner::spread(&brokers, &partitions, BEGUN_AT_ONCE);
        // Who is away for a moment, such as a broker that is new and is restarted, is to have its share too.
        if moves.is_empty() && !image.brokers().any(|broker| is_missed(view, broker)) {
            records.push(Record::Rebalancing(Rebalancing { active: false }));
        }
        begun.take(moves);
    }
    records.extend(begun.changes.into_records());
    records
}

/// Whether a broker is away for a moment that would take replicas.
fn is_missed(view: &View<'_>, broker: &Broker) -> bool {
    let would_take = !broker.can_lead() && !broker.cordoned && !broker.draining;
    would_take && view.liveness.silence(broker.id, view.now) < MISSED_FOR
}

fn planned(broker: &Broker) -> planner::Broker {
    planner::Broker {
        id: broker.id,
        rack: broker.rack.clone(),
        takes: broker.can_lead() && !broker.cordoned,
        is_leaving: broker.draining,
    }
}

/// Moves that are begun, and how much every broker has to do with those and what was under way before.
struct Begun<'a> {
    view: &'a View<'a>,
    all: &'a [(&'a Topic, i32, &'a Partition)],
    busy: BTreeMap<BrokerId, usize>,
    /// Whether a move is under way, begun, or waits for its turn, that has to be.
    waits: bool,
    minimum: Minimum,
    changes: Changes,
}

impl<'a> Begun<'a> {
    fn new(view: &'a View<'a>, all: &'a [(&'a Topic, i32, &'a Partition)]) -> Self {
        let mut begun = Self {
            view,
            all,
            busy: BTreeMap::new(),
            waits: false,
            minimum: Minimum::default(),
            changes: Changes::default(),
        };
        for (_, _, partition) in all {
            if !partition.adding.is_empty() {
                begun.occupy(partition.leader, &partition.adding);
            }
        }
        begun
    }

    fn is_idle(&self) -> bool {
        !self.waits
    }

    fn occupy(&mut self, leader: Option<BrokerId>, adding: &[BrokerId]) {
        for id in leader.iter().chain(adding) {
            *self.busy.entry(*id).or_default() += 1;
        }
    }

    /// Begins as many of these as may be under way.
    fn take(&mut self, moves: Vec<Move>) {
        self.waits |= !moves.is_empty();
        let mut begun = 0;
        for Move {
            partition,
            replicas,
        } in moves
        {
            let (topic, index, before) = self.all[partition];
            let come = |id: &&BrokerId| !before.replicas.contains(*id);
            let adding: Vec<BrokerId> = replicas.iter().filter(come).copied().collect();
            let is_free = |id: &BrokerId| {
                self.busy
                    .get(id)
                    .is_none_or(|busy| *busy < IN_FLIGHT_PER_BROKER)
            };
            let copies = !adding.is_empty();
            if begun == BEGUN_AT_ONCE || copies && !before.leader.iter().chain(&adding).all(is_free)
            {
                continue;
            }
            let rules = Rules {
                in_sync_min: self.minimum.of(self.view, topic),
                can_lead: &|id| elections::can_lead(self.view.image, id),
            };
            if let Some(next) = Step::new(before, rules).reassign(&replicas).finish() {
                self.changes.push(topic, index, &next);
                begun += 1;
                if copies {
                    self.occupy(before.leader, &adding);
                }
            }
        }
    }
}
