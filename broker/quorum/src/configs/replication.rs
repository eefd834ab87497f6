//! How often data is kept, and how many copies an acknowledgement takes, where nobody says.
//!
//! Kafka's own answers are 1 and 1, with which one broker's disk is the end of a record. Here a cluster of three and more
//! keeps three copies and acknowledges with two, so that any one broker may go; a smaller one keeps as many as it has
//! brokers. How many a cluster has is what its configuration says (`cluster.brokers`), so that a young one, whose brokers
//! register one after the other, decides as it will when it is whole; or how many have registered, where that is more.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::{ConfigDef, Settings, broker_def};
use crate::image::{Image, Topic};

/// With three copies any one may go while there still are two; more is for those who ask for it.
const REPLICAS_WANTED: usize = 3;

/// How many brokers a cluster has, or is to have.
pub fn cluster_size(image: &Image, settings: &Settings) -> usize {
    settings.cluster_brokers().max(image.brokers().len())
}

/// How many replicas partitions get when nobody says.
fn replicas_default(image: &Image, settings: &Settings) -> usize {
    cluster_size(image, settings).clamp(1, REPLICAS_WANTED)
}

/// How many must be in sync for a write to so many replicas to be acknowledged when nobody says.
fn in_sync_min_default(replicas: usize) -> usize {
    if replicas >= REPLICAS_WANTED { 2 } else { 1 }
}

/// How many replicas each partition of a topic has at least, those that are still being added not counted.
fn replicas_least(topic: &Topic) -> usize {
    let stable = topic
        .partitions
        .iter()
        .map(|partition| partition.stable().count());
    stable.min().unwrap_or(0)
}

/// The least number of replicas in sync with which a topic takes writes with acks=all. The controller and the leaders of
/// partitions ask this one function; so do descriptions of the topic.
pub fn in_sync_min(image: &Image, settings: &Settings, topic: &Topic) -> usize {
    in_sync_min_of(image, settings, &topic.config, replicas_least(topic))
}

/// As [`in_sync_min`], of a topic with this configuration of its own and so many replicas.
pub(crate) fn in_sync_min_of(
    image: &Image,
    settings: &Settings,
    config: &BTreeMap<String, String>,
    replicas: usize,
) -> usize {
    let said = config
        .get(IN_SYNC_MIN)
        .or_else(|| image.cluster_config().get(IN_SYNC_MIN))
        .map(String::as_str)
        .or_else(|| settings.get(IN_SYNC_MIN));
    let said = said.and_then(|value| value.trim().parse().ok());
    said.unwrap_or_else(|| in_sync_min_default(replicas)).max(1)
}

/// The configuration that says how many replicas must be in sync, for a topic and for all.
pub(crate) const IN_SYNC_MIN: &str = "min.insync.replicas";

/// A broker's configuration's value when nothing says otherwise.
pub(super) fn broker_default(
    image: &Image,
    settings: &Settings,
    def: &'static ConfigDef,
) -> Cow<'static, str> {
    match def.name {
        "default.replication.factor"
        | "offsets.topic.replication.factor"
        | "share.coordinator.state.topic.replication.factor"
        | "transaction.state.log.replication.factor" => {
            replicas_default(image, settings).to_string().into()
        }
        "share.coordinator.state.topic.min.isr" | "transaction.state.log.min.isr" => {
            in_sync_min_default(replicas_default(image, settings))
                .to_string()
                .into()
        }
        _ => def.default.into(),
    }
}

/// A topic's configuration's value when nothing says otherwise.
pub(super) fn topic_default(topic: &Topic, def: &'static ConfigDef) -> Cow<'static, str> {
    match def.name {
        IN_SYNC_MIN => in_sync_min_default(replicas_least(topic))
            .to_string()
            .into(),
        _ => def.default.into(),
    }
}

/// What was said of a number of all brokers, if anything was: set for the cluster, or in the configuration file.
pub(crate) fn said(image: &Image, settings: &Settings, name: &str) -> Option<i64> {
    let def = broker_def(name).ok()?;
    let value = image.cluster_config().get(def.name).map(String::as_str);
    value
        .or_else(|| settings.get(def.name))?
        .trim()
        .parse()
        .ok()
}
