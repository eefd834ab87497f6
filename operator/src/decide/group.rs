//! What is said of a `ConsumerGroup`: arithmetic over what the brokers know exactly. What is done is in `group_steps` and `group_scale`.

use std::collections::{BTreeMap, BTreeSet};

use super::group_scale::Load;
use crate::validate::{Beginning, Group, Objective};
use crate::world::{Consumption, GroupSeen};

/// Lag, over one topic or several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lag {
    /// Records yet to be read.
    pub records: i64,
    /// Age of the oldest of them, in whole seconds, rounded up so that an age is never 0 while something waits.
    pub seconds: i64,
}

impl Lag {
    fn plus(self, records: i64, age_ms: i64) -> Self {
        let seconds = age_ms.max(0).div_euclid(1000) + i64::from(age_ms.max(0) % 1000 > 0);
        Self {
            records: self.records.saturating_add(records.max(0)),
            seconds: self.seconds.max(seconds),
        }
    }
}

/// What was found out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Kafka's name of the group's state.
    pub state: String,
    /// Members.
    pub members: u32,
    /// Over all topics that count.
    pub lag: Lag,
    /// For each topic that counts, those with the most lag first.
    pub topics: Vec<(String, Lag)>,
    /// When there is an objective: whether it is met, and in words. Without what is counted, which changes all the time.
    pub objective: Option<(bool, String)>,
    /// Whether the members read.
    pub consumption: Option<Consumption>,
    /// What counts for the number of consumers.
    pub load: Load,
    /// Topics in which it is to begin and has not.
    pub not_begun: BTreeSet<String>,
}

/// Reports on one group.
#[must_use]
pub fn report(group: &Group, seen: &GroupSeen) -> Report {
    let mut by_topic: BTreeMap<&str, Lag> = BTreeMap::new();
    let mut total = Lag::default();
    let mut known_partitions = 0;
    let mut partitions: BTreeMap<&str, usize> = BTreeMap::new();
    for partition in seen
        .lag
        .iter()
        .filter(|partition| group.topics.is_empty() || group.topics.contains(&partition.topic))
    {
        let lag = by_topic.entry(&partition.topic).or_default();
        *lag = lag.plus(partition.records, partition.age_ms);
        total = total.plus(partition.records, partition.age_ms);
        known_partitions += 1;
        let count = usize::try_from(partition.topic_partitions).unwrap_or(usize::MAX);
        partitions.insert(&partition.topic, count);
    }
    // One topic whose brokers do not say is enough not to know.
    let are_known = !partitions.is_empty() && partitions.values().all(|count| *count > 0);
    let load = Load {
        records: total.records,
        known_partitions,
        partitions: are_known.then(|| {
            partitions
                .values()
                .fold(0_usize, |sum, count| sum.saturating_add(*count))
        }),
    };
    let mut topics: Vec<(String, Lag)> = by_topic
        .into_iter()
        .map(|(topic, lag)| (topic.to_owned(), lag))
        .collect();
    topics.sort_by(|left, right| {
        right
            .1
            .records
            .cmp(&left.1.records)
            .then_with(|| left.0.cmp(&right.0))
    });
    Report {
        state: seen.state.clone(),
        members: seen.members,
        lag: total,
        topics,
        objective: group.objective.map(|objective| judge(objective, total)),
        consumption: seen.consumption,
        load,
        not_begun: not_begun(group, seen),
    }
}

/// Topics in which the group is to begin and has not, by what the brokers say.
pub(super) fn not_begun(group: &Group, seen: &GroupSeen) -> BTreeSet<String> {
    let Some(Beginning::Offsets { topics, .. }) = &group.begin else {
        return BTreeSet::new();
    };
    let mut topics = topics.clone();
    for lag in &seen.lag {
        topics.remove(&lag.topic);
    }
    topics
}

fn judge(objective: Objective, lag: Lag) -> (bool, String) {
    let parts: Vec<(bool, String)> = [
        objective.records.map(|most| {
            let met = lag.records <= most;
            let how = if met { "at most" } else { "more than" };
            (met, format!("{how} {most} records wait"))
        }),
        objective.seconds.map(|most| {
            let met = lag.seconds <= most;
            let how = if met { "at most" } else { "more than" };
            (met, format!("the oldest has waited for {how} {most} s"))
        }),
    ]
    .into_iter()
    .flatten()
    .collect();
    let met = parts.iter().all(|(met, _)| *met);
    let text: Vec<String> = parts.into_iter().map(|(_, text)| text).collect();
    (met, text.join("; "))
}

#[cfg(test)]
mod tests {
    use super::{Lag, report};
    use crate::validate::{Group, Objective};
    use crate::world::{GroupSeen, Key, PartitionLag};

    fn group(topics: &[&str], records: Option<i64>, seconds: Option<i64>) -> Group {
        Group {
            key: Key::new("shop", "billing"),
            cluster: Key::new("shop", "main"),
            id: "billing".into(),
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
            objective: (records.is_some() || seconds.is_some())
                .then_some(Objective { records, seconds }),
            paused: None,
            begin: None,
            reset: None,
            scale: None,
            sharing: Default::default(),
            config: Default::default(),
        }
    }

    fn seen() -> GroupSeen {
        let lag = |topic: &str, partition, records, age_ms| PartitionLag {
            committed_offset: 0,
            topic: topic.into(),
            partition,
            records,
            age_ms,
            topic_partitions: 4,
        };
        GroupSeen {
            state: "Stable".into(),
            members: 2,
            lag: vec![
                lag("orders", 0, 10, 1_500),
                lag("orders", 1, 5, 900),
                lag("audit", 0, 100, 60_000),
            ],
            consumption: None,
            config: Default::default(),
        }
    }

    #[test]
    fn lag_is_summed_in_records_and_the_oldest_in_seconds() {
        let report = report(&group(&[], None, None), &seen());
        assert_eq!(
            report.lag,
            Lag {
                records: 115,
                seconds: 60
            }
        );
        assert_eq!(
            report.topics,
            [
                (
                    "audit".to_owned(),
                    Lag {
                        records: 100,
                        seconds: 60
                    }
                ),
                (
                    "orders".to_owned(),
                    Lag {
                        records: 15,
                        seconds: 2
                    }
                )
            ]
        );
        assert_eq!(report.objective, None);
    }

    #[test]
    fn all_partitions_of_a_topic_that_is_read_are_room_for_consumers() {
        let load = report(&group(&["orders"], None, None), &seen()).load;
        assert_eq!(
            (load.records, load.known_partitions, load.partitions),
            (15, 2, Some(4))
        );
        let mut old = seen();
        old.lag[0].topic_partitions = 0;
        old.lag[1].topic_partitions = 0;
        assert_eq!(report(&group(&[], None, None), &old).load.partitions, None);
    }

    #[test]
    fn only_the_topics_that_are_named_count() {
        assert_eq!(
            report(&group(&["orders"], None, None), &seen()).lag,
            Lag {
                records: 15,
                seconds: 2
            }
        );
    }

    #[test]
    fn one_missed_objective_is_enough() {
        for (records, seconds, met) in [
            (Some(15), Some(2), true),
            (Some(14), Some(2), false),
            (Some(15), Some(1), false),
            (Some(0), None, false),
        ] {
            let objective = report(&group(&["orders"], records, seconds), &seen()).objective;
            assert_eq!(
                objective.map(|(met, _)| met),
                Some(met),
                "{records:?} {seconds:?}"
            );
        }
    }
}
