//! TxnOffsetCommit: a group's place in its partitions, which holds once the producer's transaction is committed.
//!
//! The transaction's coordinator is asked first whether the partition that keeps the group is part of the transaction; for
//! clients of version 2 of transactions (5 and later) it becomes so by that (KIP-890).

use std::sync::Arc;

use weir_groups::request::{
    CommitPartition, CommitRequest, CommitTopic, CommittedTopic, InTransaction, TopicRef,
};
use weir_groups::transactions::Version;
use weir_groups::{Generation, GroupError, OFFSETS_TOPIC};
use weir_quorum::image::Topic;
use weir_wire::messages::txn_offset_commit_request::TxnOffsetCommitRequestTopicView;
use weir_wire::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use weir_wire::messages::{TxnOffsetCommitRequestView, TxnOffsetCommitResponse};
use weir_wire::{LeaderEpoch, Offset, PartitionIndex, TopicId};

use super::k25_add_offsets_to_txn::partition_of;
use super::transactional::producer;
use super::{Answer, Refused, Request, leaders};
use crate::Broker;
use crate::error::ErrorCode;
use crate::transactions::Vouch;

/// The first version of clients that speak version 2 of transactions.
const V2_FROM: i16 = 5;
/// The first version of clients that are told that a group is not there, rather than that its generation is another.
const TELLS_MISSING_GROUP_FROM: i16 = 6;
/// The first version of clients that know what to do about a transaction that can only be aborted.
const ABORTABLE_FROM: i16 = 4;

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: TxnOffsetCommitRequestView<'_> = request.decode()?;
    let image = broker.metadata.image();
    let mut response = TxnOffsetCommitResponse::default();
    // Where in the response the coordinator's word on each topic belongs.
    let (mut topics, mut places) = (Vec::new(), Vec::new());
    for topic in view.topics {
        let known = leaders::topic(&image, topic.name, topic.topic_id);
        if let Ok(known) = known {
            places.push(response.topics.len());
            topics.push(to_commit(&topic, known));
        }
        response
            .topics
            .push(answer_for(&topic, known.map(Arc::as_ref)));
    }
    let commit = CommitRequest {
        group: view.group_id.into(),
        member: view.member_id.into(),
        instance: view.group_instance_id.map(Into::into),
        generation: Generation(view.generation_id_or_member_epoch),
        retention_ms: None,
        tells_missing_group: request.version >= TELLS_MISSING_GROUP_FROM,
        topics,
    };
    let asked = Asked {
        id: view.transactional_id.to_owned(),
        producer: producer(view.producer_id, view.producer_epoch),
        version: request.version,
    };
    let (responder, broker) = (request.responder(), Arc::clone(broker));
    drop(request);
    Ok(Answer::later(async move {
        let outcome = asked.commit(&broker, commit).await;
        fill(&mut response, &places, outcome);
        responder.reply(&response)
    }))
}

/// In which transaction.
struct Asked {
    id: String,
    producer: weir_groups::Producer,
    version: i16,
}

impl Asked {
    async fn commit(
        self,
        broker: &Broker,
        request: CommitRequest,
    ) -> Result<Vec<CommittedTopic>, ErrorCode> {
        let code = |error: GroupError| error.code();
        let is_v2 = self.version >= V2_FROM;
        // Before the coordinator is asked: what ends the transaction after it has answered is then known to be late.
        let markers_seen = broker
            .groups
            .markers_seen(&request.group)
            .await
            .map_err(code)?;
        let partition = partition_of(broker, request.group.as_str()).await;
        let partition = partition.ok_or(ErrorCode::CoordinatorNotAvailable)?;
        let vouched = broker.transactions.vouch(Vouch {
            id: self.id.into(),
            producer: self.producer,
            adds: is_v2,
            partitions: vec![(OFFSETS_TOPIC.to_owned(), partition)],
        });
        match vouched.await.first().copied().map(told(self.version)) {
            Some(ErrorCode::None) => {}
            Some(error) => return Err(error),
            None => return Err(ErrorCode::UnknownServerError),
        }
        let transaction = InTransaction {
            producer: self.producer,
            version: if is_v2 { Version::V2 } else { Version::V0 },
            markers_seen,
        };
        let committed = broker.groups.commit_in_transaction(request, transaction);
        committed.await.map_err(code)
    }
}

/// The coordinator's word as a client of this version knows what to do about it.
fn told(version: i16) -> impl Fn(ErrorCode) -> ErrorCode {
    move |code| match code {
        ErrorCode::ProducerFenced => ErrorCode::InvalidProducerEpoch,
        ErrorCode::TransactionAbortable if version < ABORTABLE_FROM => ErrorCode::InvalidTxnState,
        ErrorCode::ConcurrentTransactions if version < V2_FROM => {
            ErrorCode::CoordinatorLoadInProgress
        }
        // Of the transaction's coordinator; a client would look for the group's.
        ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable => {
            ErrorCode::CoordinatorLoadInProgress
        }
        other => other,
    }
}

fn to_commit(topic: &TxnOffsetCommitRequestTopicView<'_>, known: &Topic) -> CommitTopic {
    let there = topic
        .partitions
        .iter()
        .filter(|partition| known.partition(partition.partition_index).is_some());
    let partitions = there.map(|partition| CommitPartition {
        partition: PartitionIndex(partition.partition_index),
        offset: Offset(partition.committed_offset),
        leader_epoch: LeaderEpoch(partition.committed_leader_epoch),
        metadata: partition.committed_metadata.unwrap_or_default().to_owned(),
    });
    let topic = TopicRef {
        name: known.name.to_string(),
        id: TopicId(known.id.0),
    };
    CommitTopic {
        topic,
        partitions: partitions.collect(),
    }
}

fn answer_for(
    topic: &TxnOffsetCommitRequestTopicView<'_>,
    known: Result<&Topic, ErrorCode>,
) -> TxnOffsetCommitResponseTopic {
    let error_code = |partition| match known {
        Err(error) => error.code(),
        Ok(topic) if topic.partition(partition).is_none() => {
            ErrorCode::UnknownTopicOrPartition.code()
        }
        Ok(_) => ErrorCode::None.code(),
    };
    let partitions = topic
        .partitions
        .iter()
        .map(|partition| TxnOffsetCommitResponsePartition {
            partition_index: partition.partition_index,
            error_code: error_code(partition.partition_index),
        });
    TxnOffsetCommitResponseTopic {
        name: topic.name.to_owned(),
        topic_id: topic.topic_id,
        partitions: partitions.collect(),
    }
}

/// Puts the coordinator's word on each partition that is there in its place.
fn fill(
    response: &mut TxnOffsetCommitResponse,
    places: &[usize],
    outcome: Result<Vec<CommittedTopic>, ErrorCode>,
) {
    let mut committed = outcome.map(Vec::into_iter);
    for place in places {
        let partitions = &mut response.topics[*place].partitions;
        let outcomes = committed.as_mut().map(|topics| {
            topics
                .next()
                .map(|topic| topic.partitions)
                .unwrap_or_default()
        });
        let there = partitions
            .iter_mut()
            .filter(|partition| partition.error_code == 0);
        for (index, partition) in there.enumerate() {
            partition.error_code = match &outcomes {
                Ok(outcomes) => outcomes
                    .get(index)
                    .map_or(0, |(_, outcome)| GroupError::code_of(outcome)),
                Err(error) => error.code(),
            };
        }
    }
}
