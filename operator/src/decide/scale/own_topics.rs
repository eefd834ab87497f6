//! The brokers' own topics (`__consumer_offsets` and its like) have no resource in which a person could lower their number of replicas: they follow the
//! number of brokers down, and up again to what they had.
//!
//! What they had is written on the StatefulSet a pass before it is lowered, so that it is not forgotten whenever the operator is killed; it is
//! forgotten when it has been asked for again.

use super::{Case, DRAINING, Scale, remaining, shrinks, with_a_controller};
use crate::decide::cluster::Step;
use crate::decide::gates::Blocked;
use crate::world::{BrokerId, TopicSeen};

/// How many replicas a topic is to have.
fn target(topic: &TopicSeen) -> u32 {
    topic
        .wanted_replication_factor
        .unwrap_or(topic.replication_factor)
}

/// Whether the brokers' own topics are to have no more replicas than brokers stay; if not, that is asked for as soon as it is remembered what they
/// had.
pub(super) fn fit(case: &Case<'_>, scale: &mut Scale) -> bool {
    let topics = case.look.into_iter().flat_map(|look| &look.topics);
    let wide: Vec<(&String, u32)> = topics
        .filter(|(_, topic)| topic.internal && target(topic) > case.wanted)
        .map(|(name, topic)| (name, target(topic)))
        .collect();
    let Some(most) = wide.iter().map(|(_, factor)| *factor).max() else {
        return true;
    };
    if case.lowered >= Some(most) {
        scale.before.push(Step::Replicate {
            topics: wide.into_iter().map(|(name, _)| name.clone()).collect(),
            replicas: case.wanted,
        });
        return true;
    }
    scale.lowered = Some(most);
    scale.blocked.push(Blocked {
        gate: DRAINING,
        message: format!(
            "the brokers' own topics get {} replicas, which is as many as brokers stay; they have {most} again when there are brokers for them",
            case.wanted
        ),
    });
    false
}

/// Has the brokers' own topics have again what they had, as far as there are brokers for it, and forgets it then.
pub(super) fn raise(case: &Case<'_>, scale: &mut Scale) {
    let (Some(before), Some(look)) = (case.lowered, with_a_controller(case)) else {
        return;
    };
    let takes = |broker: &BrokerId| {
        let seen = look.brokers.get(broker);
        seen.is_some_and(|seen| seen.alive && !seen.draining && !seen.cordoned)
    };
    let takers = remaining(case).into_iter().filter(takes).count();
    let replicas = before.min(u32::try_from(takers).unwrap_or(u32::MAX));
    if shrinks(case) || replicas == 0 {
        return;
    }
    let own = look.topics.iter().filter(|(_, topic)| topic.internal);
    // What a look says that is old is not believed: asked twice is no harm, never is.
    let is_asked = |topic: &TopicSeen| replicas == before || target(topic) < replicas;
    let asked = own.filter(|(_, topic)| is_asked(topic));
    let topics: Vec<String> = asked.map(|(name, _)| name.clone()).collect();
    if topics.is_empty() {
        return;
    }
    // Before the set forgets it.
    scale.before.push(Step::Replicate { topics, replicas });
    if replicas == before {
        scale.lowered = None;
    }
}
