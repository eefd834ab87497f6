//! Transactions of clients of gRPC: `Prepare`, `Commit`, `Rollback`, `CheckBack`.
//!
//! What is prepared is kept by the coordinator of its producer's group ([`crate::half`]); here fields are checked, and each message is given its place
//! and its time, which stay as they are however late it is committed.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use prost::Message;
use tokio::sync::mpsc;
use tonic::{Code, Status, Streaming};
use uuid::Uuid;
use weir_groups::Outcome;
use weir_groups::half::HalfError;
use weir_proto::halves::v1 as kept;
use weir_proto::queue::v1 as proto;
use weir_proto::queue::v1::check_back_request::Request as Said;
use weir_proto::queue::v1::check_back_response::Response as Told;
use weir_wire::PartitionIndex;

use super::message::Draft;
use super::status::Refused;
use super::{Inner, stopping};
use crate::error::ApiError;
use crate::half::{Half, NotDone};

/// Messages of one transaction, encoded, and how many: they lie in memory until they are decided, and in one record.
const BYTES_MAX: usize = 1 << 20;
const MESSAGES_MAX: usize = 1_000;
const GROUP_BYTES_MAX: usize = 255;
/// RocketMQ's defaults.
const CHECK_AFTER_MS: i64 = 60_000;
const ASKS: u32 = 15;
const CHECK_AFTER_MS_MIN: i64 = 100;
const CHECK_AFTER_MS_MAX: i64 = 86_400_000;
const ASKS_MAX: u32 = 1_000;
/// How long a coordinator is waited for to have something to ask; then it may be another.
const LISTEN: Duration = Duration::from_secs(10);
/// Before one that cannot be asked is asked again.
const PAUSE: Duration = Duration::from_millis(200);
/// Answers of one stream that are carried out at the same time; then it is not read from.
const ANSWERS_MAX: usize = 100;
/// Responses that wait for the stream to take them.
pub(super) const UNSENT_MAX: usize = 16;

/// A transaction, as its id names it: where it is kept, and which it is.
type Named = (PartitionIndex, Uuid);

impl From<NotDone> for Refused {
    fn from(error: NotDone) -> Self {
        let message = error.to_string();
        let code = match error {
            NotDone::Away(_) => Code::Unavailable,
            NotDone::Refused(error) => match error {
                HalfError::Unknown(_) => Code::NotFound,
                HalfError::Committed(_) | HalfError::RolledBack(_) => Code::FailedPrecondition,
                HalfError::InDoubt(_) => Code::DataLoss,
                HalfError::Exists(_) => Code::AlreadyExists,
                HalfError::Bound(_) => Code::ResourceExhausted,
                HalfError::Refused { code, message } => {
                    return ApiError::new(code, message).into();
                }
            },
        };
        Self::new(code, message)
    }
}

fn id_of((partition, id): Named) -> String {
    format!("{partition}-{id}")
}

fn named(field: &str, text: &str) -> Result<Named, Refused> {
    let parts = text.split_once('-');
    let named = parts.and_then(|(partition, id)| {
        let partition = partition.parse().ok().filter(|partition| *partition >= 0)?;
        Some((PartitionIndex(partition), id.parse().ok()?))
    });
    let why = "is not what Prepare has answered";
    named.ok_or_else(|| Refused::invalid(field, why))
}

fn checked_group(group: String) -> Result<String, Refused> {
    if !(1..=GROUP_BYTES_MAX).contains(&group.len()) {
        let why = format!(
            "has {} bytes; 1 to {GROUP_BYTES_MAX} are allowed",
            group.len()
        );
        return Err(Refused::invalid("producer_group", why));
    }
    Ok(group)
}

/// 0 stands for the default.
fn or_default<T: Copy + Default + PartialOrd + std::fmt::Display>(
    field: &str,
    given: T,
    default: T,
    (min, max): (T, T),
) -> Result<T, Refused> {
    if given == T::default() {
        return Ok(default);
    }
    if !(min..=max).contains(&given) {
        let why = format!("is {given}; {min} to {max} are allowed");
        return Err(Refused::invalid(field, why));
    }
    Ok(given)
}

impl Inner {
    pub(super) async fn prepare(
        &self,
        request: proto::PrepareRequest,
    ) -> Result<proto::PrepareResponse, Refused> {
        let group = checked_group(request.producer_group)?;
        let after = (CHECK_AFTER_MS_MIN, CHECK_AFTER_MS_MAX);
        let check_after_ms = or_default(
            "check_after_ms",
            request.check_after_ms,
            CHECK_AFTER_MS,
            after,
        )?;
        let asks_max = or_default("asks_max", request.asks_max, ASKS, (1, ASKS_MAX))?;
        let count = request.messages.len();
        if !(1..=MESSAGES_MAX).contains(&count) {
            let why = format!("has {count}; 1 to {MESSAGES_MAX} are allowed");
            return Err(Refused::invalid("messages", why));
        }
        let topics = request.messages.iter().map(|of| of.topic.as_str());
        self.gateway.look_for(topics).await;
        let placed = request.messages.into_iter().map(|of| self.kept(of));
        let messages = placed.collect::<Result<_, _>>()?;
        let messages = kept::Messages { messages }.encode_to_vec();
        if messages.len() > BYTES_MAX {
            let why = format!(
                "has {} bytes, encoded; at most {BYTES_MAX} are allowed",
                messages.len()
            );
            return Err(Refused::invalid("messages", why));
        }
        let broker = self.gateway.broker();
        let half = Half {
            id: broker.host.entropy.uuid(),
            group,
            check_after_ms: u64::try_from(check_after_ms).unwrap_or(0),
            asks_max,
            messages: messages.into(),
        };
        let id = half.id;
        let at = broker.halves.prepare(half).await?;
        Ok(proto::PrepareResponse {
            transaction_id: id_of((at, id)),
        })
    }

    /// A message as it is kept.
    fn kept(&self, request: proto::PublishRequest) -> Result<kept::Placed, Refused> {
        let now_ms = self.now_ms();
        let draft = Draft::of(request.message.clone(), now_ms)?;
        let mut message = request.message.unwrap_or_default();
        for (field, is_given) in [
            ("message.deliver_at_ms", message.deliver_at_ms.is_some()),
            ("message.delay_ms", message.delay_ms.is_some()),
        ] {
            if is_given {
                let why = "is not allowed in a transaction";
                return Err(Refused::invalid(field, why));
            }
        }
        if message.timestamp_ms == 0 {
            message.timestamp_ms = now_ms;
        }
        let place = self.place(&request.topic, request.partition, draft.key.as_deref())?;
        Ok(kept::Placed {
            topic: place.topic.to_string(),
            topic_id: place.id.0.as_bytes().to_vec(),
            partition: place.partition,
            message: Some(message),
        })
    }

    pub(super) async fn end(&self, id: &str, outcome: Outcome) -> Result<(), Refused> {
        let (at, id) = named("transaction_id", id)?;
        let halves = &self.gateway.broker().halves;
        Ok(halves.end(at, id, outcome).await?)
    }

    /// Serves a stream of `CheckBack`, until either side ends it.
    pub(super) async fn check_back(
        &self,
        mut requests: Streaming<proto::CheckBackRequest>,
        out: mpsc::Sender<Result<proto::CheckBackResponse, Status>>,
    ) {
        let checking = self.check_back_until_over(&mut requests, &out);
        let status = tokio::select! {
            checked = checking => match checked {
                Ok(()) => return,
                Err(status) => status,
            },
            () = self.stop.cancelled() => stopping(),
            () = out.closed() => return,
        };
        // The client may have gone.
        let _ = out.send(Err(status)).await;
    }

    async fn check_back_until_over(
        &self,
        requests: &mut Streaming<proto::CheckBackRequest>,
        out: &mpsc::Sender<Result<proto::CheckBackResponse, Status>>,
    ) -> Result<(), Status> {
        let Some(first) = requests.message().await? else {
            return Ok(());
        };
        let group = match first.request {
            Some(Said::Start(start)) => checked_group(start.producer_group)?,
            _ => return Err(Refused::invalid("start", "is to be sent first").into()),
        };
        let asking = async {
            loop {
                self.ask_on(&group, out).await;
            }
        };
        let answering = async {
            let mut answers = FuturesUnordered::new();
            loop {
                tokio::select! {
                    said = requests.message(), if answers.len() < ANSWERS_MAX => match said? {
                        None => break,
                        Some(said) => answers.push(self.answered(said.request)),
                    },
                    Some(ended) = answers.next() => send(out, ended).await,
                }
            }
            // The client asks for nothing more, and hears of what it has said.
            while let Some(ended) = answers.next().await {
                send(out, ended).await;
            }
            Ok(())
        };
        tokio::select! {
            never = asking => never,
            answered = answering => answered,
        }
    }

    /// Passes on what the coordinator has to ask.
    async fn ask_on(
        &self,
        group: &str,
        out: &mpsc::Sender<Result<proto::CheckBackResponse, Status>>,
    ) {
        let halves = &self.gateway.broker().halves;
        match halves.next_asks(group, LISTEN).await {
            Ok((at, asks)) => {
                for ask in asks {
                    let messages = published(&ask.messages);
                    let ask = proto::CheckBackAsk {
                        transaction_id: id_of((at, ask.id)),
                        asked: ask.asked,
                        messages,
                    };
                    send(out, Told::Ask(ask)).await;
                }
            }
            Err(error) => {
                tracing::debug!(group, %error, "nobody knows what a producer is to be asked");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    async fn answered(&self, said: Option<Said>) -> Told {
        let (transaction_id, refused) = match said {
            Some(Said::Answer(answer)) => {
                let id = &answer.transaction_id;
                let ended = match answer.decision() {
                    proto::Decision::Commit => self.end(id, Outcome::Commit).await,
                    proto::Decision::Rollback => self.end(id, Outcome::Abort).await,
                    // It is asked again.
                    proto::Decision::Unknown => named("transaction_id", id).map(|_| ()),
                    proto::Decision::Unspecified => Err(Refused::invalid("decision", "is missing")),
                };
                (answer.transaction_id, ended.err())
            }
            _ => {
                let why = "is to be sent once, and then answers";
                (String::new(), Some(Refused::invalid("start", why)))
            }
        };
        Told::Ended(proto::CheckBackEnded {
            transaction_id,
            refused: refused.map(Into::into),
        })
    }
}

/// What was prepared, as it was.
fn published(messages: &Bytes) -> Vec<proto::PublishRequest> {
    // It was encoded by a broker.
    let messages = kept::Messages::decode(messages.clone()).unwrap_or_default();
    let messages = messages.messages.into_iter();
    messages
        .map(|placed| proto::PublishRequest {
            topic: placed.topic,
            partition: Some(placed.partition),
            message: placed.message,
        })
        .collect()
}

async fn send(out: &mpsc::Sender<Result<proto::CheckBackResponse, Status>>, told: Told) {
    let response = proto::CheckBackResponse {
        response: Some(told),
    };
    // The stream ends with its client.
    let _ = out.send(Ok(response)).await;
}
