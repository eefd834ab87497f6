//! The brokers' own topics (`__consumer_offsets` and its like) have no resource in which a person could lower their number of replicas: they follow the
//! number of brokers down, and up again to what each of them had.
//!
//! What they had is written on the StatefulSet a pass before it is lowered, so that it is not forgotten whenever the operator is killed; it is
//! forgotten when it has been asked for again.

use std::collections::BTreeMap;

use super::{Case, DRAINING, Scale, remaining, shrinks, with_a_controller};
use crate::decide::cluster::Step;
use crate::decide::gates::Blocked;
use crate::world::{BrokerId, Look, TopicSeen};

/// How many replicas topics had before there were fewer brokers than that, by their names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lowered {
    topics: BTreeMap<String, u32>,
    /// An older operator's memory: one number for all that there were.
    all: Option<u32>,
}

impl Lowered {
    /// What was kept; what cannot be read is left out.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
        let numbers = pairs.filter_map(|(name, had)| Some((name.to_owned(), had.parse().ok()?)));
        Self {
            topics: numbers.collect(),
            all: text.parse().ok(),
        }
    }

    /// As it is kept, without a space; `None` while there is nothing to remember.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        if let Some(all) = self.all {
            return Some(all.to_string());
        }
        let pairs = self
            .topics
            .iter()
            .map(|(name, had)| format!("{name}={had}"));
        let pairs: Vec<String> = pairs.collect();
        (!pairs.is_empty()).then(|| pairs.join(","))
    }

    /// With a number for each of the brokers' own topics where there was one for all.
    fn each(&self, look: &Look) -> BTreeMap<String, u32> {
        let mut topics = self.topics.clone();
        if let Some(all) = self.all {
            let own = look.topics.iter().filter(|(_, topic)| topic.internal);
            topics.extend(own.map(|(name, _)| (name.clone(), all)));
        }
        topics
    }
}

/// How many replicas a topic is to have.
fn target(topic: &TopicSeen) -> u32 {
    topic
        .wanted_replication_factor
        .unwrap_or(topic.replication_factor)
}

/// Whether the brokers' own topics are to have no more replicas than brokers stay; if not, that is asked for as soon as it is remembered what they
/// had.
pub(super) fn fit(case: &Case<'_>, scale: &mut Scale) -> bool {
    let Some(look) = case.look else { return true };
    let wide: BTreeMap<&String, u32> = look
        .topics
        .iter()
        .filter(|(_, topic)| topic.internal && target(topic) > case.wanted)
        .map(|(name, topic)| (name, target(topic)))
        .collect();
    if wide.is_empty() {
        return true;
    }
    let mut had = case.lowered.each(look);
    if wide.iter().all(|(name, now)| had.get(*name) >= Some(now)) {
        scale.before.push(Step::Replicate {
            topics: wide.into_keys().cloned().collect(),
            replicas: case.wanted,
        });
        return true;
    }
    scale.blocked.push(Blocked {
        gate: DRAINING,
        message: format!(
            "the brokers' own topics get {} replicas, which is as many as brokers stay; they have what they had again when there are brokers for it ({})",
            case.wanted,
            named(&wide)
        ),
    });
    for (name, now) in wide {
        let most = had.entry(name.clone()).or_insert(now);
        *most = now.max(*most);
    }
    scale.lowered = Lowered {
        topics: had,
        all: None,
    };
    false
}

fn named(topics: &BTreeMap<&String, u32>) -> String {
    let each = topics.iter().map(|(name, had)| format!("{name}: {had}"));
    each.collect::<Vec<String>>().join(", ")
}

/// Has the brokers' own topics have again what they had, as far as there are brokers for it, and forgets it then.
pub(super) fn raise(case: &Case<'_>, scale: &mut Scale) {
    let Some(look) = with_a_controller(case).filter(|_| !shrinks(case)) else {
        return;
    };
    let takes = |broker: &BrokerId| {
        let seen = look.brokers.get(broker);
        seen.is_some_and(|seen| seen.alive && !seen.draining && !seen.cordoned)
    };
    let takers = remaining(case).into_iter().filter(takes).count();
    let takers = u32::try_from(takers).unwrap_or(u32::MAX);
    let mut had = case.lowered.each(look);
    let mut asked: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    had.retain(|name, before| {
        let replicas = takers.min(*before);
        let Some(topic) = look.topics.get(name).filter(|_| replicas > 0) else {
            return true;
        };
        let is_all = replicas == *before;
        // What a look says that is old is not believed: asked twice is no harm, never is.
        if is_all || target(topic) < replicas {
            asked.entry(replicas).or_default().push(name.clone());
        }
        !is_all
    });
    if asked.is_empty() {
        return;
    }
    // Before the set forgets it.
    let steps = asked
        .into_iter()
        .map(|(replicas, topics)| Step::Replicate { topics, replicas });
    scale.before.extend(steps);
    scale.lowered = Lowered {
        topics: had,
        all: None,
    };
}
