//! The gauges: which series there are, and which are gone.

use std::collections::{BTreeMap, BTreeSet};

use super::known::{Known, Lag};
use crate::metrics::{Metrics, OTHER_TOPICS};

/// Pairs of a group and a topic, and groups, with series of their own; the others are counted together, so that a cluster of very
/// many groups does not make a scrape of many megabytes.
const SERIES_MAX: usize = 1_000;

type Pair = (String, String);

/// What is in the gauges.
#[derive(Debug)]
pub(super) struct Series {
    max: usize,
    /// Those that have series of their own keep them until they are gone: a place that is free goes to the next one.
    pairs: BTreeSet<Pair>,
    groups: BTreeSet<String>,
    has_other_pairs: bool,
    has_other_groups: bool,
}

impl Default for Series {
    fn default() -> Self {
        Self::new(SERIES_MAX)
    }
}

impl Series {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            pairs: BTreeSet::new(),
            groups: BTreeSet::new(),
            has_other_pairs: false,
            has_other_groups: false,
        }
    }

    /// Sets the gauges to what is known. A series that stays is never missing in between, whoever scrapes meanwhile.
    pub(super) fn publish(&mut self, metrics: &Metrics, known: &Known, now_ms: i64) {
        self.publish_lags(metrics, known, now_ms);
        self.publish_members(metrics, known);
    }

    fn publish_lags(&mut self, metrics: &Metrics, known: &Known, now_ms: i64) {
        let (records, seconds) = (&metrics.group_lag_records, &metrics.group_lag_seconds);
        let lags = known.lags(now_ms);
        let lags: BTreeMap<Pair, Lag> = lags
            .map(|((group, topic), lag)| ((group.to_owned(), topic.to_owned()), lag))
            .collect();
        let set = |labels: [&str; 2], lag: &Lag| {
            records.with_label_values(&labels).set(lag.records);
            seconds.with_label_values(&labels).set(lag.seconds);
        };
        let remove = |labels: [&str; 2]| {
            // One that was never set is not there.
            let _ = records.remove_label_values(&labels);
            let _ = seconds.remove_label_values(&labels);
        };
        for (group, topic) in admit(&mut self.pairs, &lags, self.max) {
            remove([&group, &topic]);
        }
        let mut other = None;
        for (pair, lag) in &lags {
            if self.pairs.contains(pair) {
                set([&pair.0, &pair.1], lag);
            } else {
                let sum: &mut Lag = other.get_or_insert_default();
                sum.records = sum.records.saturating_add(lag.records);
                sum.seconds = sum.seconds.max(lag.seconds);
            }
        }
        match &other {
            Some(other) => set([OTHER_TOPICS; 2], other),
            None if self.has_other_pairs => remove([OTHER_TOPICS; 2]),
            None => {}
        }
        self.has_other_pairs = other.is_some();
    }

    fn publish_members(&mut self, metrics: &Metrics, known: &Known) {
        let gauges = &metrics.group_members;
        let members = known.members();
        let members: BTreeMap<String, i64> = members
            .map(|(group, members)| (group.to_owned(), i64::try_from(members).unwrap_or(i64::MAX)))
            .collect();
        for group in admit(&mut self.groups, &members, self.max) {
            let _ = gauges.remove_label_values(&[&group]);
        }
        let mut other = None;
        for (group, members) in &members {
            if self.groups.contains(group) {
                gauges.with_label_values(&[group]).set(*members);
            } else {
                *other.get_or_insert(0) += members;
            }
        }
        match other {
            Some(other) => gauges.with_label_values(&[OTHER_TOPICS]).set(other),
            None if self.has_other_groups => drop(gauges.remove_label_values(&[OTHER_TOPICS])),
            None => {}
        }
        self.has_other_groups = other.is_some();
    }
}

/// Lets those go that are gone, and returns them; then lets others in, as there is room.
fn admit<K: Ord + Clone, V>(own: &mut BTreeSet<K>, there: &BTreeMap<K, V>, max: usize) -> Vec<K> {
    let gone: Vec<K> = own.extract_if(.., |key| !there.contains_key(key)).collect();
    for key in there.keys() {
        if own.len() >= max {
            break;
        }
        own.insert(key.clone());
    }
    gone
}
