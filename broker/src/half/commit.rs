//! Carrying out a commit: its messages in one transaction.
//!
//! A transaction is known by the producer id and epoch that it is written with, since in version 2 of Kafka's protocol each has an epoch of its own (KIP-890). Both are stored
//! with the half before anything is written. Whoever is not sure what became of that transaction asks for its *abort*: that is done, and then it
//! was not and never will be committed, or it is an invalid state, and then it was. So a coordinator that dies at any point leaves
//! the one after it with a transaction of which it can find out.
//!
//! What it cannot tell from an abort is a committed transaction whose producer is not known any more, and then messages are published twice: where a coordinator that was
//! replaced meanwhile, and does not know it, calls InitProducerId for the slot right after its successor's commit, of which the successor did not hear; and where
//! the coordinator of transactions has forgotten the slot's id, unused for `transactional.id.expiration.ms`.

use std::time::Duration;

use prost::Message;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weir_groups::Producer;
use weir_groups::half::{Commit, Halves as Machine, Request, Response};
use weir_log::mutants::Mutant;
use weir_proto::halves::v1 as proto;
use weir_quorum::TopicId;
use weir_wire::batch::{Attributes, BatchBuilder};
use weir_wire::messages::{
    EndTxnRequest, EndTxnResponseView, InitProducerIdRequest, InitProducerIdResponseView,
};
use weir_wire::{MessageView, PartitionIndex, ProducerEpoch, ProducerId};

use crate::error::{ApiError, ErrorCode};
use crate::gateway::{Gateway, Place, passes, protocol, refused};
use crate::grpc::Draft;
use crate::shards::{Call, Inbox};

const INIT_PRODUCER_ID: i16 = 4;
/// Of version 2: each transaction has an epoch of its own.
const END_TXN: i16 = 5;

/// The transactional id of a slot is this, the partition and the slot. Nobody else should use such.
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

/// Why an attempt came to nothing.
#[derive(Debug)]
enum Failed {
    /// It passes by itself, and another attempt finds out what came of this one.
    Passing(ApiError),
    /// The messages cannot be published.
    Refused(ApiError),
    /// It is not being committed any more.
    Over,
}

impl From<ApiError> for Failed {
    fn from(error: ApiError) -> Self {
        Self::Passing(error)
    }
}

impl From<ErrorCode> for Failed {
    fn from(code: ErrorCode) -> Self {
        Self::Passing(code.into())
    }
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
    let transactional_id = format!("{TRANSACTIONAL_ID}-{}-{}", job.shard, job.commit.slot);
    let mut committing = Committing {
        gateway,
        transactional_id,
        producer: job.commit.producer,
    };
    let result = loop {
        match committing.attempt(&job).await {
            Ok(()) => break Ok(()),
            Err(Failed::Refused(error)) => break Err((error.code, error.message)),
            Err(Failed::Over) => return,
            Err(Failed::Passing(error)) => {
                tracing::debug!(half = %job.commit.id, ?error, "a commit is tried again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    };
    let id = job.commit.id;
    tell(&job.inbox, Request::Finished { id, result }).await;
}

/// Asks the machine; nothing when it is another broker's by now.
async fn tell(inbox: &Inbox<Machine>, request: Request) -> Option<Response> {
    let (answer, answered) = oneshot::channel();
    inbox.send(Call { request, answer }).await;
    answered.await.ok()
}

struct Committing {
    gateway: Gateway,
    transactional_id: String,
    /// Whose transaction may have been begun.
    producer: Option<Producer>,
}

impl Committing {
    async fn attempt(&mut self, job: &Job) -> Result<(), Failed> {
        let next = match self.producer {
            None => None,
            Some(producer) => match self.abort(producer).await? {
                Aborted::Never if Mutant::HalfTwice.is_active() => None,
                Aborted::Never => return Ok(()),
                Aborted::Now(next) => next,
            },
        };
        let batches = self.batches(job).await?;
        let producer = match next {
            Some(next) => next,
            None => self.init().await?,
        };
        let id = job.commit.id;
        let began = tell(&job.inbox, Request::Began { id, producer }).await;
        if began != Some(Response::Began(true)) {
            return Err(Failed::Over);
        }
        self.producer = Some(producer);
        match self.publish(producer, &batches).await {
            Ok(()) => {
                self.end(producer, true).await?;
                Ok(())
            }
            Err(error) if is_of_transaction(error.code) => Err(error.into()),
            // What passes was waited for. The slot is for others, and its producer may try again.
            Err(error) => match self.abort(producer).await? {
                Aborted::Now(_) => Err(Failed::Refused(error)),
                Aborted::Never => Ok(()),
            },
        }
    }

    /// What is to be published, and where.
    async fn batches(&self, job: &Job) -> Result<Vec<Batches>, Failed> {
        let wrong = |why: String| Failed::Refused(ApiError::new(ErrorCode::InvalidRecord, why));
        let messages = proto::Messages::decode(job.commit.messages.clone());
        let messages = messages.map_err(|error| wrong(error.to_string()))?.messages;
        let topics = messages.iter().map(|placed| placed.topic.as_str());
        self.gateway.look_for(topics).await;
        let image = self.gateway.image();
        let mut all: Vec<Batches> = Vec::new();
        let mut bytes = Vec::new();
        for placed in messages {
            let id = uuid::Uuid::from_slice(&placed.topic_id);
            let id = TopicId(id.map_err(|error| wrong(error.to_string()))?);
            if image.topic_by_id(id).is_none() {
                let why = format!("topic {} is deleted", placed.topic);
                let gone = ApiError::new(ErrorCode::UnknownTopicOrPartition, why);
                return Err(Failed::Refused(gone));
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

    async fn publish(&self, producer: Producer, all: &[Batches]) -> Result<(), ApiError> {
        let deadline = Instant::now() + PATIENCE;
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
                    let id = Some(self.transactional_id.as_str());
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

    async fn init(&self) -> Result<Producer, ApiError> {
        let request = InitProducerIdRequest {
            transactional_id: Some(self.transactional_id.clone()),
            transaction_timeout_ms: TRANSACTION_TIMEOUT_MS,
            producer_id: -1,
            producer_epoch: -1,
            ..InitProducerIdRequest::default()
        };
        let body = self.ask_coordinator(INIT_PRODUCER_ID, &request).await?;
        let response = InitProducerIdResponseView::decode(&body, INIT_PRODUCER_ID);
        let response = response.map_err(protocol)?;
        refused(response.error_code, None)?;
        Ok(Producer {
            id: ProducerId(response.producer_id),
            epoch: ProducerEpoch(response.producer_epoch),
        })
    }

    /// Ends the transaction of this producer. Who it is in the next one.
    async fn end(&self, producer: Producer, committed: bool) -> Result<Producer, ApiError> {
        let request = EndTxnRequest {
            transactional_id: self.transactional_id.clone(),
            producer_id: producer.id.0,
            producer_epoch: producer.epoch.0,
            committed,
        };
        let body = self.ask_coordinator(END_TXN, &request).await?;
        let response = EndTxnResponseView::decode(&body, END_TXN);
        let response = response.map_err(protocol)?;
        refused(response.error_code, None)?;
        Ok(Producer {
            id: ProducerId(response.producer_id),
            epoch: ProducerEpoch(response.producer_epoch),
        })
    }

    /// Sees to it that this producer's transaction is not committed any more, if it is not.
    async fn abort(&self, producer: Producer) -> Result<Aborted, ApiError> {
        match self.end(producer, false).await {
            Ok(next) => Ok(Aborted::Now(Some(next))),
            Err(error) => match error.code {
                ErrorCode::InvalidTxnState => Ok(Aborted::Never),
                // An earlier coordinator has aborted it, and begun anew.
                ErrorCode::ProducerFenced
                | ErrorCode::InvalidProducerEpoch
                | ErrorCode::InvalidProducerIdMapping => Ok(Aborted::Now(None)),
                _ => Err(error),
            },
        }
    }

    async fn ask_coordinator<Q: weir_wire::Request>(
        &self,
        version: i16,
        request: &Q,
    ) -> Result<bytes::Bytes, ApiError> {
        let transactions = &self.gateway.broker().transactions;
        let coordinator = transactions.find(&self.transactional_id).await;
        let coordinator = coordinator.map_err(|error| ApiError::from(error.code()))?;
        let link = self.gateway.link(coordinator.id)?;
        let answer = tokio::time::timeout(PATIENCE_OF_ONE, link.ask(version, request)).await;
        Ok(answer.map_err(|_| ApiError::from(ErrorCode::RequestTimedOut))??)
    }
}

/// What an abort was answered.
enum Aborted {
    /// It is aborted; who its producer is next, if that is known.
    Now(Option<Producer>),
    /// It was committed before.
    Never,
}

/// What is wrong is the transaction, of which another attempt begins a new one.
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
