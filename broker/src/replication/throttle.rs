//! How fast replicas that are behind are fed (KIP-73): so that a move leaves room for what producers and consumers do.
//!
//! What counts is `leader.replication.throttled.rate` of the broker that gives, over all that it gives to throttled replicas, and
//! `follower.replication.throttled.rate` of the broker that takes. Leaders push, so they heed both; of the follower's rate each leader that
//! feeds a throttled replica there takes its share. Throttled are the replicas that a topic names
//! (`leader.replication.throttled.replicas`, `follower.replication.throttled.replicas`), and those that a reassignment adds; but none
//! that is in sync, which would only slow producers down.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use weir_log::PartitionKey;
use weir_quorum::configs::{self, Settings};
use weir_quorum::image::{Partition, Topic};
use weir_quorum::{BrokerId, Image, TopicId};

/// A debt is looked at again after so long: the rate may have been raised.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What was taken and is not paid for yet. It is paid at the rate; nothing more may be taken before it is.
#[derive(Debug)]
pub(super) struct Debt {
    bytes: f64,
    at: Instant,
}

impl Debt {
    pub(super) fn none(now: Instant) -> Self {
        Self {
            bytes: 0.0,
            at: now,
        }
    }

    /// How long before more may be taken; at most [`LOOK_AGAIN`].
    fn wait(&mut self, rate: f64, now: Instant) -> Duration {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.bytes = (self.bytes - rate * passed).max(0.0);
        self.at = now;
        if rate <= 0.0 {
            return LOOK_AGAIN;
        }
        Duration::from_secs_f64((self.bytes / rate).min(LOOK_AGAIN.as_secs_f64()))
    }

    fn add(&mut self, bytes: usize) {
        self.bytes += bytes as f64;
    }
}

/// The rates of one stream, in bytes for each second, as the metadata has them.
#[derive(Debug, Default)]
pub(super) struct Rates {
    /// Of the broker that leads, over all its streams.
    leader: Option<f64>,
    /// This stream's share of what the follower takes in.
    follower: Option<f64>,
}

impl Rates {
    fn of(image: &Image, settings: &Settings, leader: BrokerId, follower: BrokerId) -> Self {
        Self {
            leader: rate(image, settings, leader, "leader.replication.throttled.rate"),
            follower: rate(
                image,
                settings,
                follower,
                "follower.replication.throttled.rate",
            )
            .map(|rate| rate / feeders(image, follower) as f64),
        }
    }

    fn are_none(&self) -> bool {
        self.leader.is_none() && self.follower.is_none()
    }
}

/// A broker's rate, if there is one.
fn rate(image: &Image, settings: &Settings, broker: BrokerId, name: &str) -> Option<f64> {
    let def = configs::broker_def(name).ok()?;
    let effective = configs::effective_broker(image, settings, Some(broker), def);
    let rate: i64 = effective.value().parse().ok()?;
    (rate < i64::MAX).then_some(rate as f64)
}

/// How many leaders feed a throttled replica on this broker; at least one.
fn feeders(image: &Image, follower: BrokerId) -> usize {
    let leaders: BTreeSet<BrokerId> = image
        .topics()
        .flat_map(|topic| (0..).zip(&topic.partitions).map(move |it| (topic, it)))
        .filter(|(topic, (index, partition))| replica(topic, *index, partition, None, follower).1)
        .filter_map(|(_, (_, partition))| partition.leader)
        .collect();
    leaders.len().max(1)
}

/// Whether a replica is throttled where it is led, and where it is.
fn replica(
    topic: &Topic,
    index: i32,
    partition: &Partition,
    leader: Option<BrokerId>,
    follower: BrokerId,
) -> (bool, bool) {
    if !partition.replicas.contains(&follower) || partition.isr.contains(&follower) {
        return (false, false);
    }
    if partition.adding.contains(&follower) {
        return (true, true);
    }
    let lists = |name: &str, broker: Option<BrokerId>| {
        broker.is_some_and(|broker| {
            let value = topic.config.get(name).map_or("", String::as_str);
            lists(value, index, broker)
        })
    };
    (
        lists("leader.replication.throttled.replicas", leader),
        lists("follower.replication.throttled.replicas", Some(follower)),
    )
}

/// Whether a list of replicas, `*` or partition:broker,..., names this one.
fn lists(value: &str, index: i32, broker: BrokerId) -> bool {
    value.trim() == "*"
        || value.split(',').any(|replica| {
            let named = replica.trim().split_once(':');
            named.is_some_and(|(partition, id)| {
                partition.parse() == Ok(index) && id.parse() == Ok(broker.0)
            })
        })
}

/// What all streams of a leader share.
#[derive(Debug)]
pub(crate) struct LeaderDebt(Mutex<Debt>);

impl Default for LeaderDebt {
    fn default() -> Self {
        Self(Mutex::new(Debt::none(Instant::now())))
    }
}

/// The throttle of one stream.
#[derive(Debug)]
pub(super) struct Throttle {
    leader: BrokerId,
    follower: BrokerId,
    image: Arc<Image>,
    rates: Rates,
    follower_debt: Debt,
}

impl Throttle {
    pub(super) fn new(leader: BrokerId, follower: BrokerId, now: Instant) -> Self {
        Self {
            leader,
            follower,
            image: Arc::default(),
            rates: Rates::default(),
            follower_debt: Debt::none(now),
        }
    }

    /// Heeds the newest metadata.
    pub(super) fn heed(&mut self, image: Arc<Image>, settings: &Settings) {
        if !Arc::ptr_eq(&self.image, &image) {
            self.rates = Rates::of(&image, settings, self.leader, self.follower);
            self.image = image;
        }
    }

    /// Until when a partition's replica must wait; `None` when it may have more now.
    pub(super) fn until(
        &mut self,
        key: PartitionKey,
        all: &LeaderDebt,
        now: Instant,
    ) -> Option<Instant> {
        let (by_leader, by_follower) = self.applies_to(key);
        let mut wait = Duration::ZERO;
        if let Some(rate) = self.rates.leader.filter(|_| by_leader) {
            wait = all.lock().wait(rate, now);
        }
        if let Some(rate) = self.rates.follower.filter(|_| by_follower) {
            wait = wait.max(self.follower_debt.wait(rate, now));
        }
        (!wait.is_zero()).then(|| now + wait)
    }

    /// So much was sent to a partition's replica.
    pub(super) fn sent(&mut self, key: PartitionKey, all: &LeaderDebt, bytes: usize) {
        let (by_leader, by_follower) = self.applies_to(key);
        if by_leader {
            all.lock().add(bytes);
        }
        if by_follower {
            self.follower_debt.add(bytes);
        }
    }

    fn applies_to(&self, key: PartitionKey) -> (bool, bool) {
        if self.rates.are_none() {
            return (false, false);
        }
        let topic = self.image.topic_by_id(TopicId(key.topic_id.0));
        let found = topic.and_then(|topic| Some((topic, topic.partition(key.partition.0)?)));
        let Some((topic, partition)) = found else {
            return (false, false);
        };
        let index = key.partition.0;
        let (by_leader, by_follower) =
            replica(topic, index, partition, Some(self.leader), self.follower);
        (
            by_leader && self.rates.leader.is_some(),
            by_follower && self.rates.follower.is_some(),
        )
    }
}

impl LeaderDebt {
    fn lock(&self) -> std::sync::MutexGuard<'_, Debt> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn over_any_time_no_more_than_the_rate_passes_and_one_turn() {
        let began = Instant::now();
        let mut debt = Debt::none(began);
        let (mut now, mut sent) = (began, 0);
        while now < began + Duration::from_secs(60) {
            match debt.wait(1_000.0, now) {
                Duration::ZERO => {
                    debt.add(700);
                    sent += 700;
                }
                wait => now += wait,
            }
        }
        assert!((60_000..=61_400).contains(&sent), "{sent}");
    }

    #[test]
    fn a_rate_of_nothing_lets_nothing_pass_and_a_raised_one_is_heeded_within_a_second() {
        let began = Instant::now();
        let mut debt = Debt::none(began);
        assert_eq!(debt.wait(0.0, began), LOOK_AGAIN);
        debt.add(1_000_000);
        assert_eq!(debt.wait(1.0, began), LOOK_AGAIN);
        let later = began + LOOK_AGAIN;
        assert!(debt.wait(1e9, later) < Duration::from_millis(2));
        assert_eq!(debt.wait(1e9, later + LOOK_AGAIN), Duration::ZERO);
    }

    #[test]
    fn lists_of_replicas_are_read_as_kafka_writes_them() {
        assert!(lists("*", 3, BrokerId(1)));
        assert!(lists("0:2, 3:1", 3, BrokerId(1)));
        assert!(!lists("0:2,3:1", 3, BrokerId(2)));
        assert!(!lists("", 0, BrokerId(0)));
    }

    fn topic(config: &[(&str, &str)], isr: &[i32], adding: &[i32]) -> Topic {
        let config = config
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let mut topic = Topic::imagined("t", config, 3);
        let partition = Arc::make_mut(&mut topic.partitions[0]);
        let ids = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect::<Vec<_>>();
        partition.isr = ids(isr);
        partition.adding = ids(adding);
        topic
    }

    fn throttled(topic: &Topic) -> (bool, bool) {
        let partition = topic.partition(0).unwrap();
        replica(topic, 0, partition, Some(BrokerId(0)), BrokerId(2))
    }

    #[test]
    fn a_replica_that_is_in_sync_is_not_throttled() {
        let all = [
            ("leader.replication.throttled.replicas", "*"),
            ("follower.replication.throttled.replicas", "0:2"),
        ];
        assert_eq!(throttled(&topic(&all, &[0, 1], &[])), (true, true));
        assert_eq!(throttled(&topic(&all[..1], &[0, 1], &[])), (true, false));
        assert_eq!(throttled(&topic(&all[1..], &[0, 1], &[])), (false, true));
        assert_eq!(throttled(&topic(&all, &[0, 1, 2], &[])), (false, false));
    }

    #[test]
    fn what_a_reassignment_adds_is_throttled_without_being_named() {
        assert_eq!(throttled(&topic(&[], &[0, 1], &[2])), (true, true));
        assert_eq!(throttled(&topic(&[], &[0, 1], &[])), (false, false));
    }
}
