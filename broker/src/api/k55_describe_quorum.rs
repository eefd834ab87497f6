//! DescribeQuorum: who leads and votes in the metadata's quorum (KIP-595).

use std::sync::Arc;

use weir_quorum::BrokerId;
use weir_wire::messages::describe_quorum_response::{
    Listener, Node, PartitionData, ReplicaState, TopicData,
};
use weir_wire::messages::{DescribeQuorumRequestView, DescribeQuorumResponse};

use super::{Answer, Refused, Request};
use crate::Broker;
use crate::error::ErrorCode;

/// The name that Kafka gives to the log of the metadata, which is no topic that one could read.
const METADATA: &str = "__cluster_metadata";

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: DescribeQuorumRequestView<'_> = request.decode()?;
    let is_metadata = view.topics.len() == 1
        && view.topics.iter().all(|topic| {
            topic.topic_name == METADATA
                && topic.partitions.len() == 1
                && topic
                    .partitions
                    .iter()
                    .all(|partition| partition.partition_index == 0)
        });
    if !is_metadata {
        let refused = |partition_index| PartitionData {
            partition_index,
            error_code: ErrorCode::UnknownTopicOrPartition.code(),
            error_message: Some(format!("only partition 0 of {METADATA} has a quorum")),
            ..PartitionData::default()
        };
        let topics = view.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter();
            TopicData {
                topic_name: topic.topic_name.to_owned(),
                partitions: partitions
                    .map(|partition| refused(partition.partition_index))
                    .collect(),
            }
        });
        return request.answer(&DescribeQuorumResponse {
            topics: topics.collect(),
            ..DescribeQuorumResponse::default()
        });
    }
    let image = broker.metadata.image();
    let quorum = broker.metadata.quorum();
    let end = i64::try_from(image.index()).unwrap_or(i64::MAX);
    let me = broker.metadata.broker_id();
    let replica = |id: BrokerId| ReplicaState {
        replica_id: id.0,
        replica_directory_id: image
            .broker(id)
            .map(|broker| broker.incarnation.0)
            .unwrap_or_default(),
        // What the others have is known to the leader's own replication only.
        log_end_offset: if id == me { end } else { -1 },
        ..ReplicaState::default()
    };
    let learners = image
        .brokers()
        .map(|broker| broker.id)
        .filter(|id| !quorum.voters.contains(id));
    let partition = PartitionData {
        leader_id: quorum.leader.map_or(-1, |id| id.0),
        leader_epoch: i32::try_from(quorum.term).unwrap_or(i32::MAX),
        high_watermark: end,
        current_voters: quorum.voters.iter().copied().map(replica).collect(),
        observers: learners.map(replica).collect(),
        ..PartitionData::default()
    };
    let nodes = image.brokers().map(|broker| {
        let (host, port) = broker
            .quorum_address
            .rsplit_once(':')
            .unwrap_or((&broker.quorum_address, "0"));
        Node {
            node_id: broker.id.0,
            listeners: vec![Listener {
                name: "CONTROLLER".to_owned(),
                host: host.to_owned(),
                port: port.parse().unwrap_or_default(),
            }],
        }
    });
    request.answer(&DescribeQuorumResponse {
        topics: vec![TopicData {
            topic_name: METADATA.to_owned(),
            partitions: vec![partition],
        }],
        nodes: if request.version >= 2 {
            nodes.collect()
        } else {
            Vec::new()
        },
        ..DescribeQuorumResponse::default()
    })
}
