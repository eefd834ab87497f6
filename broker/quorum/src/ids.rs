//! The names of things in a cluster: what they are, and that one cannot be passed for another.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// A broker's number: the ordinal of its pod. Never negative in a running cluster; −1 on Kafka's wire means "none" and
/// is an `Option` here.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct BrokerId(pub i32);

impl fmt::Display for BrokerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Identifies a data directory: made once, when the directory is first used. A wiped disk is another incarnation, so
/// that it can never answer for what the old one had promised.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Incarnation(pub Uuid);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Incarnation {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::parse_str(text).map(Self)
    }
}

/// Identifies a cluster: made when the cluster is formed, in the form that Kafka prints (22 characters of base64url).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClusterId(pub String);

impl ClusterId {
    /// The cluster id that stands for `uuid`.
    pub fn from_uuid(uuid: Uuid) -> Self {
        Self(base64url(uuid))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Identifies a topic: a topic made anew under an old name has a new id. Displays as Kafka prints it (base64url).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct TopicId(pub Uuid);

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base64url(self.0))
    }
}

/// Counts the leaders of one partition, from 0.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct LeaderEpoch(pub i32);

impl LeaderEpoch {
    /// The epoch of the next leader.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Counts the changes of one partition's metadata, from 0.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct PartitionEpoch(pub i32);

impl PartitionEpoch {
    /// The epoch after the next change.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Identifies one registration of a broker: the index in the Raft log of the record that registered it. A heartbeat of
/// an earlier registration is stale.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct BrokerEpoch(pub u64);

impl fmt::Display for BrokerEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A node of the quorum: a broker on one disk. Written `broker@incarnation`.
///
/// A vote is given under this name, so a wiped disk never votes twice under one name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId {
    /// The broker.
    pub broker: BrokerId,
    /// Its disk.
    pub incarnation: Incarnation,
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.broker, self.incarnation)
    }
}

impl FromStr for NodeId {
    type Err = NodeIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || NodeIdError(text.to_owned());
        let (broker, incarnation) = text.split_once('@').ok_or_else(wrong)?;
        Ok(Self {
            broker: BrokerId(broker.parse().map_err(|_| wrong())?),
            incarnation: incarnation.parse().map_err(|_| wrong())?,
        })
    }
}

/// A text that is no node id.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no quorum node id; wanted BROKER@INCARNATION")]
pub struct NodeIdError(String);

// As text, since node ids are keys of maps in JSON.
impl Serialize for NodeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for NodeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A UUID in 22 characters, as Kafka prints it.
fn base64url(uuid: Uuid) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let number = uuid.as_u128();
    // 128 bits are 21 characters of six bits and one of two, which is padded at its low end.
    (0..22u32)
        .map(|i| {
            let bits = if i < 21 {
                number >> (122 - 6 * i)
            } else {
                number << 4
            };
            char::from(ALPHABET[(bits & 63) as usize])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_topic_id_is_printed_as_kafka_prints_it() {
        let uuid = Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);
        assert_eq!(TopicId(uuid).to_string(), "ABEiM0RVZneImaq7zN3u_w");
    }

    #[test]
    fn a_node_id_survives_text() {
        let id = NodeId {
            broker: BrokerId(2),
            incarnation: Incarnation(Uuid::from_u128(7)),
        };
        assert_eq!(id.to_string().parse::<NodeId>().unwrap(), id);
        assert!("2".parse::<NodeId>().is_err());
    }
}
