//! Brokers register, are heard from, fall silent and say goodbye.

use super::{Decision, View, elections, levels};
use crate::command::{Goodbye, Heartbeat, RegisterBroker, Reply, ReportLost, Suspect};
use crate::error::{ControlError, ErrorName};
use crate::ids::{BrokerEpoch, BrokerId, ClusterId, NodeId};
use crate::image::{Broker, Image};
use crate::record::{
    BrokerFenced, BrokerRegistered, BrokerStopping, BrokerUnfenced, BrokerUnregistered,
    ClusterFormed, FeatureLevel, Record,
};

/// The first records of a cluster, which uses this feature level.
pub fn formed(cluster_id: ClusterId, level: u32) -> Vec<Record> {
    vec![
        Record::ClusterFormed(ClusterFormed { cluster_id }),
        Record::FeatureLevel(FeatureLevel { level }),
    ]
}

pub(super) fn register(
    view: &View<'_>,
    request: &RegisterBroker,
) -> Result<Decision, ControlError> {
    if request.id.0 < 0 {
        return Err(ControlError::new(
            ErrorName::InvalidRequest,
            format!(
                "broker id {} is negative; allowed are 0 and above",
                request.id
            ),
        ));
    }
    if levels::too_old(view.image, request) {
        return Err(ControlError::new(
            ErrorName::InvalidRequest,
            format!(
                "broker {} (version {}) knows features up to level {}, and this cluster uses level {}: run a newer version",
                request.id,
                request.version,
                request.feature_level,
                view.image.feature_level()
            ),
        ));
    }
    let known = view.image.broker(request.id);
    let mut records = Vec::new();
    if let Some(known) = known {
        if known.incarnation == request.incarnation {
            records.extend(elections::depose(view, request.id));
        } else {
            admissible(
                view,
                NodeId {
                    broker: request.id,
                    incarnation: request.incarnation,
                },
            )?;
            records.extend(elections::disown(view, request.id));
        }
    }
    records.push(Record::BrokerRegistered(BrokerRegistered {
        id: request.id,
        incarnation: request.incarnation,
        kafka: request.kafka.clone(),
        quorum_address: request.quorum_address.clone(),
        rack: request.rack.clone(),
        version: request.version.clone(),
        epoch: None,
        cordoned: known.is_some_and(|known| known.cordoned),
        draining: known.is_some_and(|known| known.draining),
    }));
    Ok(Decision::new(
        records,
        Reply::Registered {
            epoch: BrokerEpoch(0),
        },
    ))
}

/// Whether a disk may act under its broker's id: no other disk of that broker is in use.
pub fn admissible(view: &View<'_>, node: NodeId) -> Result<(), ControlError> {
    let known = view.image.broker(node.broker);
    match known.filter(|known| known.incarnation != node.incarnation && is_alive(view, known)) {
        None => Ok(()),
        Some(known) => Err(ControlError::new(
            ErrorName::DuplicateBrokerRegistration,
            format!(
                "broker id {} is taken: the broker at {} with the disk {} is alive; give this one (disk {}) another id, or \
                 stop the other first",
                node.broker, known.quorum_address, known.incarnation, node.incarnation
            ),
        )),
    }
}

/// Whether the disk that is registered under an id is in use: heard from, or, before this leader could hear, not known
/// to be gone.
fn is_alive(view: &View<'_>, known: &Broker) -> bool {
    if known.fenced {
        view.liveness.is_heard(known.id, known.epoch, view.now)
    } else {
        view.liveness.is_alive(known.id, known.epoch, view.now)
    }
}

pub(super) fn heartbeat(view: &View<'_>, request: &Heartbeat) -> Result<Decision, ControlError> {
    let broker = registration(view, request.id, request.epoch)?;
    let mut records = Vec::new();
    match (broker.fenced, request.ready) {
        (true, true) if !request.stopping => {
            records.push(Record::BrokerUnfenced(BrokerUnfenced {
                id: request.id,
                epoch: request.epoch,
            }));
            records.extend(elections::restore(view, request.id));
        }
        (false, false) => records.extend(fence(view, broker)),
        _ => {}
    }
    if request.stopping && !broker.fenced && !broker.stopping {
        records.push(Record::BrokerStopping(BrokerStopping {
            id: request.id,
            epoch: request.epoch,
        }));
        records.extend(elections::retire(view, request.id));
    } else if request.full && request.ready && !broker.fenced {
        records.extend(elections::relieve(view, request.id));
    }
    let may_stop =
        request.stopping && (broker.fenced || hands_over_nothing(view, request.id, &records));
    Ok(Decision::new(
        records,
        Reply::Heartbeat {
            fenced: !request.ready,
            may_stop,
        },
    ))
}

/// Whether there is nothing left to wait for before a broker stops: what it leads once these records are applied, no other
/// broker that is there could lead even when it has caught up.
fn hands_over_nothing(view: &View<'_>, stopping: BrokerId, records: &[Record]) -> bool {
    let is_waited_for = |image: &Image| {
        let mut led = image.partitions_led_by(stopping);
        led.any(|(_, _, partition)| {
            let mut others = partition.target().filter(|id| *id != stopping);
            others.any(|id| elections::can_lead(image, id))
        })
    };
    if records.is_empty() {
        return !is_waited_for(view.image);
    }
    let next = view.image.apply(view.image.index() + 1, records);
    next.is_ok_and(|next| !is_waited_for(&next))
}

/// Somebody could not reach a broker. Nothing follows from that alone: the controller's loop looks for itself, and what it
/// finds may make the broker [`unreachable()`].
pub(super) fn suspect(view: &View<'_>, request: &Suspect) -> Result<Decision, ControlError> {
    registration(view, request.id, request.epoch)?;
    Ok(Decision::new(Vec::new(), Reply::Done))
}

/// What follows from nobody's listening where a broker of this registration should: its process is gone, and it is fenced
/// without waiting for its session's end. `None` when that registration is over or fenced already.
pub fn unreachable(view: &View<'_>, id: BrokerId, epoch: BrokerEpoch) -> Option<Vec<Record>> {
    let broker = registration(view, id, epoch).ok()?;
    (!broker.fenced).then(|| fence(view, broker))
}

/// A broker names replicas of its own that may lack what it had, before it is ready: they are in sync with nothing. A
/// partition that nobody else holds goes on with what there is: nobody could make up for it.
pub(super) fn report_lost(view: &View<'_>, request: &ReportLost) -> Result<Decision, ControlError> {
    registration(view, request.id, request.epoch)?;
    let alive = |id| id != request.id && elections::can_lead(view.image, id);
    let lost = view
        .image
        .partitions_on(request.id)
        .filter(|(topic, index, partition)| {
            partition.replicas.len() > 1 && request.partitions.contains(&(topic.id, *index))
        });
    let records = elections::step_each(view, lost, &alive, |step| step.lost(request.id));
    Ok(Decision::new(records, Reply::Done))
}

pub(super) fn goodbye(view: &View<'_>, request: &Goodbye) -> Result<Decision, ControlError> {
    let broker = registration(view, request.id, request.epoch)?;
    let records = if broker.fenced {
        Vec::new()
    } else {
        fence(view, broker)
    };
    Ok(Decision::new(records, Reply::Done))
}

pub(super) fn unregister(view: &View<'_>, id: BrokerId) -> Result<Decision, ControlError> {
    let Some(broker) = view.image.broker(id) else {
        return Err(ControlError::new(
            ErrorName::BrokerIdNotRegistered,
            format!("Broker ID {id} is not currently registered"),
        ));
    };
    let refuse = |why: String| Err(ControlError::new(ErrorName::InvalidRequest, why));
    if is_alive(view, broker) {
        return refuse(format!(
            "broker {id} is alive, and would register again: stop it first"
        ));
    }
    // What a broker holds is gone with it once nobody knows it any more.
    let held = view.image.partitions_on(id).count();
    if held > 0 {
        return refuse(format!("broker {id} holds {held} partitions"));
    }
    let gone = Record::BrokerUnregistered(BrokerUnregistered {
        id,
        epoch: broker.epoch,
    });
    Ok(Decision::new(vec![gone], Reply::Done))
}

/// The broker whose session is over first, if any is, and the records that fence it. The leader's loop asks again
/// until there is none, so that each is decided on what the one before came to.
pub fn expired(view: &View<'_>) -> Option<(BrokerId, Vec<Record>)> {
    let broker = view
        .image
        .live_brokers()
        .find(|broker| !view.liveness.is_alive(broker.id, broker.epoch, view.now))?;
    Some((broker.id, fence(view, broker)))
}

fn fence(view: &View<'_>, broker: &Broker) -> Vec<Record> {
    let mut records = vec![Record::BrokerFenced(BrokerFenced {
        id: broker.id,
        epoch: broker.epoch,
    })];
    records.extend(elections::depose(view, broker.id));
    records
}

/// The broker of a registration that is the current one.
pub(super) fn registration<'a>(
    view: &View<'a>,
    id: BrokerId,
    epoch: BrokerEpoch,
) -> Result<&'a Broker, ControlError> {
    let Some(broker) = view.image.broker(id) else {
        return Err(ControlError::new(
            ErrorName::BrokerIdNotRegistered,
            format!("broker {id} is not registered"),
        ));
    };
    if broker.epoch != epoch {
        return Err(ControlError::new(
            ErrorName::StaleBrokerEpoch,
            format!(
                "registration {epoch} of broker {id} is over; the current one is {}",
                broker.epoch
            ),
        ));
    }
    Ok(broker)
}
