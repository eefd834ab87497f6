//! Metadata records: each change of the cluster, as it stands in the quorum's log and snapshots.
//!
//! The form is JSON with a version. A broker that meets a version, a kind of record or a field that it does not know
//! stops with an error that names it: going on without it would make brokers disagree about the cluster.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{
    BrokerEpoch, BrokerId, ClusterId, Incarnation, LeaderEpoch, PartitionEpoch, TopicId,
};
use crate::quotas::{QuotaEntity, Rate};

/// The version of the framing around records that this binary writes, and the newest that it reads.
pub const FRAME_VERSION: u32 = 1;

/// One change of the cluster's metadata.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// The cluster came to be. The first record of every log.
    ClusterFormed(ClusterFormed),
    /// The features that all brokers may use from here on.
    FeatureLevel(FeatureLevel),
    /// A broker registered: it is known from here on, and fenced until it says that it is ready.
    BrokerRegistered(BrokerRegistered),
    /// A broker stopped answering, or said goodbye.
    BrokerFenced(BrokerFenced),
    /// A broker is ready to lead and serve.
    BrokerUnfenced(BrokerUnfenced),
    /// A broker is about to stop: it keeps what it leads until others have it, and gets nothing new.
    BrokerStopping(BrokerStopping),
    /// A broker gets no new replicas, or does again.
    BrokerCordoned(BrokerCordoned),
    /// A topic came to be; its partitions follow.
    TopicCreated(TopicCreated),
    /// A topic's next partitions came to be, each in sync and in its first epoch.
    PartitionsAdded(PartitionsAdded),
    /// Partitions of a topic are as the record says, new ones and old.
    PartitionsSet(PartitionsSet),
    /// A topic and its data are gone.
    TopicDeleted(TopicDeleted),
    /// A configuration was set or unset.
    ConfigChanged(ConfigChanged),
    /// Producer ids below this one are taken.
    ProducerIdsAllocated(ProducerIdsAllocated),
    /// A client quota was set or unset.
    ClientQuotaChanged(ClientQuotaChanged),
    /// A broker is gone for good.
    BrokerUnregistered(BrokerUnregistered),
    /// A broker is being emptied, or is not any more. From feature level 2 on.
    BrokerDraining(BrokerDraining),
    /// A topic is to have another number of replicas, or has it. From feature level 2 on.
    ReplicasWanted(ReplicasWanted),
    /// Replicas are being spread evenly over the brokers, or are not any more. From feature level 2 on.
    Rebalancing(Rebalancing),
}

/// See [`Record::BrokerDraining`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrokerDraining {
    /// The broker.
    pub id: BrokerId,
    /// Whether its replicas go to others.
    pub draining: bool,
}

/// See [`Record::ReplicasWanted`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplicasWanted {
    /// The topic.
    pub topic: TopicId,
    /// How many replicas each partition is to have; absent: as many as it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
}

/// See [`Record::Rebalancing`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rebalancing {
    /// Whether it goes on.
    pub active: bool,
}

/// See [`Record::ClientQuotaChanged`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientQuotaChanged {
    /// Whose quota.
    pub entity: QuotaEntity,
    /// What it limits.
    pub key: String,
    /// The limit; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Rate>,
}

/// See [`Record::BrokerUnregistered`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrokerUnregistered {
    /// The broker.
    pub id: BrokerId,
    /// The registration that ended.
    pub epoch: BrokerEpoch,
}

/// See [`Record::ClusterFormed`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterFormed {
    /// The cluster's id, for ever.
    pub cluster_id: ClusterId,
}

/// See [`Record::FeatureLevel`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureLevel {
    /// From 1.
    pub level: u32,
}

/// See [`Record::BrokerRegistered`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrokerRegistered {
    /// The broker.
    pub id: BrokerId,
    /// Its disk.
    pub incarnation: Incarnation,
    /// Where clients reach it.
    pub kafka: HostPort,
    /// Where other brokers and the operator reach it, host:port.
    pub quorum_address: String,
    /// The failure domain that it stands in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rack: Option<String>,
    /// The version of its software.
    pub version: String,
    /// The registration; absent in the log, where it is the index of the record's entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<BrokerEpoch>,
    /// Whether it gets no new replicas.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cordoned: bool,
    /// Whether its replicas go to others. From feature level 2 on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub draining: bool,
}

/// A host and a port that clients are told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostPort {
    /// A DNS name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl std::fmt::Display for HostPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// See [`Record::BrokerFenced`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrokerFenced {
    /// The broker.
    pub id: BrokerId,
    /// The registration that ended.
    pub epoch: BrokerEpoch,
}

/// See [`Record::BrokerUnfenced`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrokerUnfenced {
    /// The broker.
    pub id: BrokerId,
    /// The registration that is ready.
    pub epoch: BrokerEpoch,
}

/// See [`Record::BrokerStopping`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrokerStopping {
    /// The broker.
    pub id: BrokerId,
    /// The registration that is about to end.
    pub epoch: BrokerEpoch,
}

/// See [`Record::BrokerCordoned`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrokerCordoned {
    /// The broker.
    pub id: BrokerId,
    /// Whether it gets no new replicas.
    pub cordoned: bool,
}

/// See [`Record::TopicCreated`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicCreated {
    /// The topic's name.
    pub name: String,
    /// Its id.
    pub id: TopicId,
    /// What differs from the cluster's defaults.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, String>,
}

/// See [`Record::PartitionsAdded`]. One record for all of them, since a topic may have thousands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartitionsAdded {
    /// The topic.
    pub topic: TopicId,
    /// The index of the first of them.
    pub first: i32,
    /// For each, the brokers that hold it, all in sync, the preferred leader first.
    pub replicas: Vec<Vec<BrokerId>>,
    /// For each, the leader, if there is one.
    pub leaders: Vec<Option<BrokerId>>,
}

/// See [`Record::PartitionsSet`]. One record for all that change together: a broker that goes may hold thousands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartitionsSet {
    /// The topic.
    pub topic: TopicId,
    /// Each as a whole. An index that the topic does not have yet follows its last one.
    pub partitions: Vec<PartitionState>,
}

/// All there is to know of a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartitionState {
    /// The partition's index.
    pub index: i32,
    /// The brokers that hold it, the preferred leader first.
    pub replicas: Vec<BrokerId>,
    /// Those of them that hold everything acknowledged.
    pub isr: Vec<BrokerId>,
    /// The leader; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<BrokerId>,
    /// Counts leaders: one that changes always comes with a new epoch.
    pub leader_epoch: LeaderEpoch,
    /// Counts changes.
    pub epoch: PartitionEpoch,
    /// Replicas outside the in-sync set that may be elected all the same (KIP-966).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub elr: Vec<BrokerId>,
    /// Replicas that may hold as much, though not for certain: when nobody may be elected, the one with the most may be chosen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last_known: Vec<BrokerId>,
    /// Replicas that a reassignment adds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adding: Vec<BrokerId>,
    /// Replicas that go when those have everything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removing: Vec<BrokerId>,
    /// The last epoch whose leader was elected at the price of what it lacked; absent: none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unclean: Option<LeaderEpoch>,
}

/// See [`Record::TopicDeleted`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicDeleted {
    /// The topic.
    pub id: TopicId,
}

/// See [`Record::ConfigChanged`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigChanged {
    /// Whose configuration.
    pub of: ConfigOf,
    /// The key.
    pub key: String,
    /// The value; absent: back to the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// Whose configuration a record changes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ConfigOf {
    /// A topic's.
    Topic(TopicId),
    /// One broker's.
    Broker(BrokerId),
    /// Every broker's default.
    Cluster,
    /// A group's, by its id.
    Group(String),
    /// A client metrics subscription's, by its name.
    ClientMetrics(String),
}

/// See [`Record::ProducerIdsAllocated`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProducerIdsAllocated {
    /// Who got the block.
    pub broker: BrokerId,
    /// The first id that is still free.
    pub next: i64,
}

#[derive(Serialize)]
struct FrameOut<'a> {
    version: u32,
    revision: u64,
    records: &'a [Record],
}

#[derive(Deserialize)]
struct FrameVersion {
    version: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FrameIn {
    #[allow(
        dead_code,
        reason = "checked before, and named so that unknown fields are refused"
    )]
    version: u32,
    revision: u64,
    records: Vec<Record>,
}

/// Records with the revision of the image that they belong to: in the log, that which they were decided on, and in a
/// snapshot, that which they make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The index of the entry that last changed the image.
    pub revision: u64,
    /// The records.
    pub records: Vec<Record>,
}

/// What is wrong with a frame of records.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Written by a newer Weir.
    #[error(
        "metadata is framed in version {found}, and this broker reads versions up to {FRAME_VERSION}: it was written by \
         a newer Weir; run that version or newer"
    )]
    Version {
        /// The version found.
        found: u32,
    },
    /// A kind of record or a field that is not known here, or damage.
    #[error(
        "metadata record not understood: {0}; a newer Weir may have written it: run that version or newer"
    )]
    Unknown(#[source] serde_json::Error),
}

/// Frames records for the log or a snapshot.
pub fn encode(revision: u64, records: &[Record]) -> String {
    serde_json::to_string(&FrameOut {
        version: FRAME_VERSION,
        revision,
        records,
    })
    .expect("strings, numbers, and maps with string keys become JSON")
}

/// Reads what [`encode`] wrote, here or in another version of Weir.
pub fn decode(frame: &str) -> Result<Frame, RecordError> {
    // The version is read by itself first, so that a newer frame is named as such and not by its first strange field.
    let FrameVersion { version } = serde_json::from_str(frame).map_err(RecordError::Unknown)?;
    if version > FRAME_VERSION {
        return Err(RecordError::Version { found: version });
    }
    let frame: FrameIn = serde_json::from_str(frame).map_err(RecordError::Unknown)?;
    Ok(Frame {
        revision: frame.revision,
        records: frame.records,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn records_survive_their_framing() {
        let records = vec![
            Record::ClusterFormed(ClusterFormed {
                cluster_id: ClusterId("c".into()),
            }),
            Record::ConfigChanged(ConfigChanged {
                of: ConfigOf::Cluster,
                key: "k".into(),
                value: None,
            }),
            Record::ConfigChanged(ConfigChanged {
                of: ConfigOf::Broker(BrokerId(1)),
                key: "k".into(),
                value: Some("\"v\"".into()),
            }),
        ];
        assert_eq!(
            decode(&encode(4, &records)).unwrap(),
            Frame {
                revision: 4,
                records
            }
        );
    }

    #[test]
    fn an_unknown_kind_of_record_is_an_error_that_names_it() {
        let error = decode(r#"{"version":1,"revision":1,"records":[{"TopicFrozen":{"id":1}}]}"#)
            .unwrap_err();
        assert!(error.to_string().contains("TopicFrozen"), "{error}");
    }

    #[test]
    fn an_unknown_field_is_an_error_that_names_it() {
        let error = decode(
            r#"{"version":1,"revision":1,"records":[{"FeatureLevel":{"level":2,"shade":"blue"}}]}"#,
        )
        .unwrap_err();
        assert!(error.to_string().contains("shade"), "{error}");
    }

    #[test]
    fn a_newer_frame_is_named_as_such() {
        let error = decode(r#"{"version":9,"compressed":"..."}"#).unwrap_err();
        assert!(
            matches!(error, RecordError::Version { found: 9 }),
            "{error}"
        );
    }
}
