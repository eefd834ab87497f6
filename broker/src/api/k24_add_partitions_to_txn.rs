//! AddPartitionsToTxn: partitions become part of a transaction; from version 4 on for many transactions at once, as brokers
//! ask, and also whether they are part of it already.

use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt};
use weir_groups::transactions::request::{AddRequest, VerifyRequest};
use weir_groups::transactions::{PartitionSet, TransactionError, Version};
use weir_quorum::image::Image;
use weir_wire::array::Array;
use weir_wire::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopicView, AddPartitionsToTxnTransactionView,
};
use weir_wire::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};
use weir_wire::messages::{AddPartitionsToTxnRequestView, AddPartitionsToTxnResponse};
use weir_wire::{ErrorCode, PartitionIndex};

use super::transactional::{code_of, producer};
use super::{Answer, Refused, Request};
use crate::Broker;

/// From here on a request names transactions, and whoever asks speaks version 2 of transactions.
const BATCHED_FROM: i16 = 4;

type Asked = BoxFuture<'static, Vec<AddPartitionsToTxnTopicResult>>;

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: AddPartitionsToTxnRequestView<'_> = request.decode()?;
    let image = broker.metadata.image();
    let responder = request.responder();
    if request.version < BATCHED_FROM {
        let asked = add(broker, &image, &view.one(), request.version);
        return Ok(Answer::later(async move {
            responder.reply(&AddPartitionsToTxnResponse {
                results_by_topic_v3_and_below: asked.await,
                ..AddPartitionsToTxnResponse::default()
            })
        }));
    }
    // Every coordinator is asked before the first answer is waited for.
    let asked = view.transactions.iter().map(|transaction| {
        let id = transaction.transactional_id.to_owned();
        let asked = if transaction.verify_only {
            verify(broker, &transaction)
        } else {
            add(broker, &image, &transaction, request.version)
        };
        (id, asked)
    });
    let asked: Vec<_> = asked.collect();
    Ok(Answer::later(async move {
        let mut results = Vec::with_capacity(asked.len());
        for (transactional_id, asked) in asked {
            results.push(AddPartitionsToTxnResult {
                transactional_id,
                topic_results: asked.await,
            });
        }
        responder.reply(&AddPartitionsToTxnResponse {
            results_by_transaction: results,
            ..AddPartitionsToTxnResponse::default()
        })
    }))
}

/// The request of a version that names one transaction.
trait One<'a> {
    fn one(&self) -> AddPartitionsToTxnTransactionView<'a>;
}

impl<'a> One<'a> for AddPartitionsToTxnRequestView<'a> {
    fn one(&self) -> AddPartitionsToTxnTransactionView<'a> {
        AddPartitionsToTxnTransactionView {
            transactional_id: self.v3_and_below_transactional_id,
            producer_id: self.v3_and_below_producer_id,
            producer_epoch: self.v3_and_below_producer_epoch,
            verify_only: false,
            topics: self.v3_and_below_topics,
        }
    }
}

fn add(
    broker: &Broker,
    image: &Image,
    transaction: &AddPartitionsToTxnTransactionView<'_>,
    version: i16,
) -> Asked {
    let topics = transaction.topics;
    let is_known = |topic: &str, index: i32| {
        let topic = image.topic(topic);
        topic.is_some_and(|topic| topic.partition(index).is_some())
    };
    let has_unknown = topics.iter().any(|topic| {
        let mut partitions = topic.partitions.iter();
        partitions.any(|index| !is_known(topic.name, index))
    });
    if has_unknown {
        // All or none: those that could be added are not tried.
        let results = results(topics, |topic, index| {
            if is_known(topic, index.0) {
                ErrorCode::OperationNotAttempted
            } else {
                ErrorCode::UnknownTopicOrPartition
            }
        });
        return async move { results }.boxed();
    }
    let asked = broker.transactions.add(AddRequest {
        id: transaction.transactional_id.into(),
        producer: producer(transaction.producer_id, transaction.producer_epoch),
        version: if version < BATCHED_FROM {
            Version::V0
        } else {
            Version::V2
        },
        partitions: partitions(topics),
    });
    let mut answers = results(topics, |_, _| ErrorCode::None);
    async move {
        let code = code_of(&asked.await, version);
        fill(&mut answers, |_, _| code);
        answers
    }
    .boxed()
}

fn verify(broker: &Broker, transaction: &AddPartitionsToTxnTransactionView<'_>) -> Asked {
    let topics = transaction.topics;
    let asked = broker.transactions.verify(VerifyRequest {
        id: transaction.transactional_id.into(),
        producer: producer(transaction.producer_id, transaction.producer_epoch),
        partitions: partitions(topics),
    });
    let mut answers = results(topics, |_, _| ErrorCode::None);
    async move {
        match asked.await {
            Err(error) => fill(&mut answers, |_, _| error.code()),
            Ok(verdicts) => fill(&mut answers, |topic, index| {
                let verdict = verdicts
                    .iter()
                    .find(|(of, at, _)| of == topic && *at == index);
                let outcome = verdict.map_or(Err(TransactionError::Unknown), |found| found.2);
                outcome.map_or_else(TransactionError::code, |()| ErrorCode::None)
            }),
        }
        answers
    }
    .boxed()
}

fn partitions(topics: Array<'_, AddPartitionsToTxnTopicView<'_>>) -> PartitionSet {
    let mut set = PartitionSet::default();
    for topic in topics {
        for index in topic.partitions {
            set.insert(topic.name, PartitionIndex(index));
        }
    }
    set
}

fn results(
    topics: Array<'_, AddPartitionsToTxnTopicView<'_>>,
    code: impl Fn(&str, PartitionIndex) -> ErrorCode,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let results = topics.iter().map(|topic| AddPartitionsToTxnTopicResult {
        name: topic.name.to_owned(),
        results_by_partition: topic
            .partitions
            .iter()
            .map(|index| AddPartitionsToTxnPartitionResult {
                partition_index: index,
                partition_error_code: code(topic.name, PartitionIndex(index)).code(),
            })
            .collect(),
    });
    results.collect()
}

fn fill(
    answers: &mut [AddPartitionsToTxnTopicResult],
    code: impl Fn(&str, PartitionIndex) -> ErrorCode,
) {
    for topic in answers {
        for partition in &mut topic.results_by_partition {
            let index = PartitionIndex(partition.partition_index);
            partition.partition_error_code = code(&topic.name, index).code();
        }
    }
}
