//! Carrying out commits: who is asked for what, as [`Carrying`] says, which decides.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weir_groups::Producer;
use weir_groups::half::{
    Aborted, Carrying, Commit, Fate, Halves as Machine, Identity, Request, Response, Step,
};
use weir_log::mutants::Mutant;
use weir_proto::halves::v1 as proto;
use weir_quorum::TopicId;
use weir_wire::batch::{Attributes, BatchBuilder};
use weir_wire::messages::{
    EndTxnRequest, EndTxnResponseView, InitProducerIdRequest, InitProducerIdResponseView,
};
use weir_wire::{MessageView, PartitionIndex, ProducerEpoch, ProducerId};

use crate::error::{ApiError, ErrorCode};
use crate::gateway::{Gateway, Link, Place, passes, protocol, refused};
use crate::grpc::Draft;
use crate::shards::{Call, Inbox};

const INIT_PRODUCER_ID: i16 = 4;
/// Of version 2: each transaction has an epoch of its own.
const END_TXN: i16 = 5;

/// A transactional id is this, the partition and a number. Nobody else should use such.
const TRANSACTIONAL_ID: &str = "__half";
/// How long a transaction may take before its coordinator aborts it.
const TRANSACTION_TIMEOUT_MS: i32 = 60_000;
/// How long one attempt to write is tried; below that, so that what takes longer is aborted from here.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a transaction coordinator may take for an answer.
const PATIENCE_OF_ONE: Duration = Duration::from_secs(10);
/// Before the next attempt.
const PAUSE: Duration = Duration::from_millis(100);
/// Bytes of messages in one batch, unless one is larger: below what a topic takes by default.
const BATCH_BYTES: usize = 512 << 10;

/// A commit to be carried out.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) commit: Commit,
    /// Whose.
    pub(super) shard: PartitionIndex,
    /// Who wants to hear of it.
    pub(super) inbox: Inbox<Machine>,
    /// Cancelled when somebody else goes on with it.
    pub(super) ended: CancellationToken,
}

/// Why it is not known what is to be written.
#[derive(Debug)]
enum Unreadable {
    /// It cannot be published, now or ever.
    ForGood(ApiError),
    /// Nobody could be asked.
    ForNow(ApiError),
}

/// Batches for one partition, in order.
struct Batches {
    place: Place,
    drafts: Vec<Vec<Draft>>,
}

/// Until it is known what came of it, or somebody else goes on.
pub(super) async fn carry_out(gateway: Gateway, job: Job) {
    let ended = job.ended.clone();
    ended.run_until_cancelled(carry_on(gateway, job)).await;
}

async fn carry_on(gateway: Gateway, job: Job) {
    let commits = Commits {
        gateway,
        shard: job.shard,
    };
    let id = job.commit.id;
    let mut carrying = Carrying::new(job.commit.begun);
    let mut batches = Vec::new();
    loop {
        let error = match carrying.step().clone() {
            Step::Abort(of) => match commits.end(of, false).await {
                Ok(next) => {
                    carrying.aborted(Aborted::Now(next));
                    continue;
                }
                Err(error) => match aborted(error.code) {
                    Some(Aborted::Never) if Mutant::HalfTwice.is_active() => {
                        carrying.aborted(Aborted::Now(of.producer));
                        continue;
                    }
                    Some(aborted) => {
                        carrying.aborted(aborted);
                        continue;
                    }
                    None => error,
                },
            },
            Step::Look => match commits.batches(&job).await {
                Ok(all) => {
                    batches = all;
                    carrying.looked();
                    continue;
                }
                Err(Unreadable::ForGood(error)) => {
                    carrying.refused(error.code, error.message);
                    continue;
                }
                Err(Unreadable::ForNow(error)) => error,
            },
            Step::Take => match tell(&job.inbox, Request::Take { id }).await {
                Some(Response::Take(Some(own))) => {
                    carrying.took(own);
                    continue;
                }
                _ => return,
            },
            Step::Init(number) => match commits.init(number).await {
                Ok(producer) => {
                    carrying.given(producer);
                    continue;
                }
                Err(NotGiven::Answered(error)) => error,
                Err(NotGiven::Lost(error)) => {
                    carrying.not_given();
                    error
                }
            },
            Step::Begin(as_whom) => match tell(&job.inbox, Request::Began { id, as_whom }).await {
                Some(Response::Began(true)) => {
                    carrying.stored();
                    continue;
                }
                _ => return,
            },
            Step::Write(as_whom) => match commits.write(as_whom, &batches).await {
                Ok(()) => {
                    carrying.written();
                    continue;
                }
                Err(error) if is_of_transaction(error.code) => {
                    carrying.unsure();
                    error
                }
                // What passes was waited for. The id is for others, and its producer may try again.
                Err(error) => {
                    carrying.refused(error.code, error.message);
                    continue;
                }
            },
            Step::Commit(as_whom) => match commits.end(as_whom, true).await {
                Ok(next) => {
                    carrying.committed(next);
                    continue;
                }
                Err(error) => {
                    carrying.unsure();
                    error
                }
            },
            Step::Tell(fate, next) => {
                if fate == Fate::Unknown {
                    say_in_doubt(&job);
                }
                tell(&job.inbox, Request::Finished { id, fate, next }).await;
                return;
            }
        };
        tracing::debug!(half = %id, ?error, "a commit is tried again");
        tokio::time::sleep(PAUSE).await;
    }
}

fn say_in_doubt(job: &Job) {
    let messages = proto::Messages::decode(job.commit.messages.clone());
    let messages = messages.unwrap_or_default().messages;
    let mut topics: Vec<String> = messages.into_iter().map(|placed| placed.topic).collect();
    topics.sort_unstable();
    topics.dedup();
    tracing::error!(
        transaction = %format_args!("{}-{}", job.shard, job.commit.id), ?topics,
        "a transaction is in doubt: whether it was published is not known any more, and it is not published again; look in its topics"
    );
}

/// What an answer to an abort says of the transaction; nothing when it is to be asked again.
const fn aborted(code: ErrorCode) -> Option<Aborted> {
    match code {
        ErrorCode::InvalidTxnState => Some(Aborted::Never),
        ErrorCode::ProducerFenced
        | ErrorCode::InvalidProducerEpoch
        | ErrorCode::InvalidProducerIdMapping => Some(Aborted::Unknown),
        _ => None,
    }
}

/// Asks the machine; nothing when it is another broker's by now.
async fn tell(inbox: &Inbox<Machine>, request: Request) -> Option<Response> {
    let (answer, answered) = oneshot::channel();
    inbox.send(Call { request, answer }).await;
    answered.await.ok()
}

/// Why a producer was not given.
enum NotGiven {
    /// It was not asked for, or the answer says so.
    Answered(ApiError),
    /// The answer is lost.
    Lost(ApiError),
}

/// Whom a shard's commits ask.
struct Commits {
    gateway: Gateway,
    shard: PartitionIndex,
}

impl Commits {
    fn name(&self, number: u64) -> String {
        format!("{TRANSACTIONAL_ID}-{}-{number}", self.shard)
    }

    /// What is to be published, and where.
    async fn batches(&self, job: &Job) -> Result<Vec<Batches>, Unreadable> {
        let wrong = |why| Unreadable::ForGood(ApiError::new(ErrorCode::InvalidRecord, why));
        let messages = proto::Messages::decode(job.commit.messages.clone());
        let messages = messages.map_err(|error| wrong(error.to_string()))?.messages;
        let mut image = self.gateway.image();
        let mut all: Vec<Batches> = Vec::new();
        let mut bytes = Vec::new();
        for placed in messages {
            let id = uuid::Uuid::from_slice(&placed.topic_id);
            let id = TopicId(id.map_err(|error| wrong(error.to_string()))?);
            if image.topic_by_id(id).is_none() {
                // It may have been made just before the half, and this broker not have heard of it: what is said next is final.
                let newest = self.gateway.broker().metadata.up_to_date().await;
                image = newest.map_err(|error| Unreadable::ForNow(error.into()))?;
            }
            if image.topic_by_id(id).is_none() {
                let why = format!("topic {} is deleted", placed.topic);
                let gone = ApiError::new(ErrorCode::UnknownTopicOrPartition, why);
                return Err(Unreadable::ForGood(gone));
            }
            // Its time was set when it was prepared.
            let draft = Draft::of(placed.message, 0).map_err(|refused| wrong(refused.message))?;
            let place = Place {
                topic: placed.topic.into(),
                id,
                partition: placed.partition,
            };
            let at = all.iter().position(|batches| batches.place == place);
            let at = at.unwrap_or_else(|| {
                let drafts = Vec::new();
                all.push(Batches { place, drafts });
                bytes.push(usize::MAX);
                all.len() - 1
            });
            let more = draft.bytes();
            if bytes[at] == usize::MAX || bytes[at] + more > BATCH_BYTES {
                all[at].drafts.push(Vec::new());
                bytes[at] = 0;
            }
            bytes[at] += more;
            if let Some(batch) = all[at].drafts.last_mut() {
                batch.push(draft);
            }
        }
        Ok(all)
    }

    async fn write(&self, as_whom: Identity, all: &[Batches]) -> Result<(), ApiError> {
        let deadline = Instant::now() + PATIENCE;
        let transactional_id = self.name(as_whom.number);
        let producer = as_whom.producer;
        for Batches { place, drafts } in all {
            let mut sequence = 0;
            for batch in drafts {
                let transactional = Attributes::default().with_transactional(true);
                let mut builder = BatchBuilder::new().attributes(transactional).producer(
                    producer.id,
                    producer.epoch,
                    sequence,
                );
                for draft in batch {
                    draft.push(&mut builder)?;
                }
                sequence += builder.record_count();
                let batch = builder.build();
                loop {
                    let id = Some(transactional_id.as_str());
                    let appended = self.gateway.append_once(place, id, batch.clone(), deadline);
                    match appended.await {
                        Ok(_) => break,
                        // It may be there; the same batch again is not there twice.
                        Err(error) if passes(error.code) && Instant::now() < deadline => {
                            self.gateway.pause().await;
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Ok(())
    }

    /// Asks who is to write in an id that nobody has used.
    async fn init(&self, number: u64) -> Result<Producer, NotGiven> {
        let transactional_id = self.name(number);
        let link = self.coordinator(&transactional_id).await;
        let link = link.map_err(NotGiven::Answered)?;
        let request = InitProducerIdRequest {
            transactional_id: Some(transactional_id),
            transaction_timeout_ms: TRANSACTION_TIMEOUT_MS,
            producer_id: -1,
            producer_epoch: -1,
            ..InitProducerIdRequest::default()
        };
        let body = ask(&link, INIT_PRODUCER_ID, &request).await;
        let body = body.map_err(NotGiven::Lost)?;
        let response = InitProducerIdResponseView::decode(&body, INIT_PRODUCER_ID);
        let response = response.map_err(|error| NotGiven::Lost(protocol(error).into()))?;
        refused(response.error_code, None).map_err(|error| match error.code {
            // Who does not coordinate it has not carried it out, nor will.
            ErrorCode::NotCoordinator
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::CoordinatorLoadInProgress => NotGiven::Answered(error),
            _ => NotGiven::Lost(error),
        })?;
        Ok(Producer {
            id: ProducerId(response.producer_id),
            epoch: ProducerEpoch(response.producer_epoch),
        })
    }

    /// Ends the transaction of this producer. Who it is in the next one.
    async fn end(&self, whose: Identity, committed: bool) -> Result<Producer, ApiError> {
        let transactional_id = self.name(whose.number);
        let link = self.coordinator(&transactional_id).await?;
        let request = EndTxnRequest {
            transactional_id,
            producer_id: whose.producer.id.0,
            producer_epoch: whose.producer.epoch.0,
            committed,
        };
        let body = ask(&link, END_TXN, &request).await?;
        let response = EndTxnResponseView::decode(&body, END_TXN);
        let response = response.map_err(protocol)?;
        refused(response.error_code, None)?;
        Ok(Producer {
            id: ProducerId(response.producer_id),
            epoch: ProducerEpoch(response.producer_epoch),
        })
    }

    async fn coordinator(&self, transactional_id: &str) -> Result<Arc<Link>, ApiError> {
        let transactions = &self.gateway.broker().transactions;
        let coordinator = transactions.find(transactional_id).await;
        let coordinator = coordinator.map_err(|error| ApiError::from(error.code()))?;
        Ok(self.gateway.link(coordinator.id)?)
    }
}

async fn ask<Q: weir_wire::Request>(
    link: &Link,
    version: i16,
    request: &Q,
) -> Result<bytes::Bytes, ApiError> {
    let answer = tokio::time::timeout(PATIENCE_OF_ONE, link.ask(version, request)).await;
    Ok(answer.map_err(|_| ApiError::from(ErrorCode::RequestTimedOut))??)
}

/// What is wrong is the transaction, and there may be another.
fn is_of_transaction(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::TransactionAbortable
            | ErrorCode::InvalidTxnState
            | ErrorCode::ConcurrentTransactions
            | ErrorCode::ProducerFenced
            | ErrorCode::InvalidProducerEpoch
            | ErrorCode::InvalidProducerIdMapping
            | ErrorCode::OutOfOrderSequenceNumber
            | ErrorCode::UnknownProducerId
            | ErrorCode::DuplicateSequenceNumber
    )
}
