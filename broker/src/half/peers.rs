//! Asking another broker about halves that it coordinates, over gRPC on the port for brokers: both ends.

use std::sync::Arc;
use std::time::Duration;

use tonic::Status;
use uuid::Uuid;
use weir_groups::Outcome;
use weir_groups::half::{Ask, HalfError, Request, Response};
use weir_proto::halves::v1 as proto;
use weir_proto::halves::v1::halves_client::HalvesClient;
use weir_proto::halves::v1::halves_server::{self, HalvesServer};
use weir_quorum::image::Broker;
use weir_wire::{ErrorCode, PartitionIndex};

use super::{Halves, NotDone, unexpected};
use crate::health::Health;
use crate::quorum::net::MESSAGE_BYTES_MAX;

/// How long another broker may take beyond what it was asked to wait: a commit may have to wait for room and for disks.
const PATIENCE: Duration = Duration::from_secs(30);

impl Halves {
    pub(super) async fn ask_leader(
        &self,
        leader: &Broker,
        at: PartitionIndex,
        request: Request,
    ) -> Result<Response, NotDone> {
        let away = |why: &dyn std::fmt::Display| {
            NotDone::Away(format!("broker {} cannot be asked: {why}", leader.id))
        };
        let channel = self
            .shared
            .channels
            .to_broker(leader.id, &leader.quorum_address);
        let channel = channel.map_err(|error| away(&error))?;
        let mut client = HalvesClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let partition = at.0;
        match request {
            Request::Prepare {
                id,
                group,
                check_after_ms,
                asks_max,
                messages,
            } => {
                let asked = proto::PrepareRequest {
                    partition,
                    id: id.as_bytes().to_vec(),
                    producer_group: group,
                    check_after_ms,
                    asks_max,
                    messages,
                };
                let answer = client.prepare(within(PATIENCE, asked)).await;
                let answer = answer.map_err(|status| away(&status))?.into_inner();
                Ok(Response::Prepare(result(id, answer)))
            }
            Request::End { id, outcome } => {
                let asked = proto::EndRequest {
                    partition,
                    id: id.as_bytes().to_vec(),
                    commits: outcome == Outcome::Commit,
                };
                let answer = client.end(within(PATIENCE, asked)).await;
                let answer = answer.map_err(|status| away(&status))?.into_inner();
                Ok(Response::End(result(id, answer)))
            }
            Request::NextAsks { group, wait_ms } => {
                let asked = proto::NextAsksRequest {
                    partition,
                    producer_group: group,
                    wait_ms,
                };
                let patience = PATIENCE + Duration::from_millis(wait_ms);
                let answer = client.next_asks(within(patience, asked)).await;
                let answer = answer.map_err(|status| away(&status))?.into_inner();
                let asks = answer.asks.into_iter().filter_map(|ask| {
                    Some(Ask {
                        id: Uuid::from_slice(&ask.id).ok()?,
                        asked: ask.asked,
                        messages: ask.messages,
                    })
                });
                Ok(Response::NextAsks(asks.collect()))
            }
            // Each coordinator's own.
            Request::Measure
            | Request::Take { .. }
            | Request::Began { .. }
            | Request::Finished { .. } => Err(away(&"a mistake of ours")),
        }
    }
}

fn within<T>(patience: Duration, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(patience);
    request
}

fn result(id: Uuid, answer: proto::Answer) -> Result<(), HalfError> {
    let refusal = answer.refusal();
    let proto::Answer {
        error_code,
        message,
        ..
    } = answer;
    Err(match refusal {
        proto::Refusal::None => return Ok(()),
        proto::Refusal::Unknown => HalfError::Unknown(id),
        proto::Refusal::Committed => HalfError::Committed(id),
        proto::Refusal::RolledBack => HalfError::RolledBack(id),
        proto::Refusal::InDoubt => HalfError::InDoubt(id),
        proto::Refusal::Exists => HalfError::Exists(id),
        proto::Refusal::Bound => HalfError::Bound(message),
        proto::Refusal::Refused => {
            let code = i16::try_from(error_code)
                .ok()
                .and_then(ErrorCode::from_code);
            let code = code.unwrap_or(ErrorCode::UnknownServerError);
            HalfError::Refused { code, message }
        }
    })
}

fn answer(result: Result<(), HalfError>) -> proto::Answer {
    let Err(error) = result else {
        return proto::Answer::default();
    };
    let message = error.to_string();
    let mut error_code = 0;
    let refusal = match error {
        HalfError::Unknown(_) => proto::Refusal::Unknown,
        HalfError::Committed(_) => proto::Refusal::Committed,
        HalfError::RolledBack(_) => proto::Refusal::RolledBack,
        HalfError::InDoubt(_) => proto::Refusal::InDoubt,
        HalfError::Exists(_) => proto::Refusal::Exists,
        HalfError::Bound(_) => proto::Refusal::Bound,
        HalfError::Refused { code, .. } => {
            error_code = code.code().into();
            proto::Refusal::Refused
        }
    };
    proto::Answer {
        refusal: refusal.into(),
        error_code,
        message,
    }
}

/// Answers other brokers for the halves that this one coordinates.
#[derive(Debug)]
pub struct HalvesService {
    health: Arc<Health>,
}

impl HalvesService {
    /// The service, which answers as soon as the broker is assembled.
    #[must_use]
    pub fn server(health: Arc<Health>) -> HalvesServer<Self> {
        HalvesServer::new(Self { health })
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    async fn ask(&self, partition: i32, request: Request) -> Result<Response, Status> {
        let halves = self.health.assembled_broker()?.halves.clone();
        let asked = halves.ask_here(PartitionIndex(partition), request).await;
        asked.map_err(|error| unavailable(&error))
    }
}

fn unavailable(error: &NotDone) -> Status {
    Status::unavailable(error.to_string())
}

fn id_of(bytes: &[u8]) -> Result<Uuid, Status> {
    Uuid::from_slice(bytes).map_err(|_| Status::invalid_argument("id: 16 bytes are wanted"))
}

#[tonic::async_trait]
impl halves_server::Halves for HalvesService {
    async fn prepare(
        &self,
        request: tonic::Request<proto::PrepareRequest>,
    ) -> Result<tonic::Response<proto::Answer>, Status> {
        let asked = request.into_inner();
        let request = Request::Prepare {
            id: id_of(&asked.id)?,
            group: asked.producer_group,
            check_after_ms: asked.check_after_ms,
            asks_max: asked.asks_max,
            messages: asked.messages,
        };
        match self.ask(asked.partition, request).await? {
            Response::Prepare(prepared) => Ok(tonic::Response::new(answer(prepared))),
            other => Err(unavailable(&unexpected(&other))),
        }
    }

    async fn end(
        &self,
        request: tonic::Request<proto::EndRequest>,
    ) -> Result<tonic::Response<proto::Answer>, Status> {
        let asked = request.into_inner();
        let request = Request::End {
            id: id_of(&asked.id)?,
            outcome: match asked.commits {
                true => Outcome::Commit,
                false => Outcome::Abort,
            },
        };
        match self.ask(asked.partition, request).await? {
            Response::End(ended) => Ok(tonic::Response::new(answer(ended))),
            other => Err(unavailable(&unexpected(&other))),
        }
    }

    async fn next_asks(
        &self,
        request: tonic::Request<proto::NextAsksRequest>,
    ) -> Result<tonic::Response<proto::NextAsksResponse>, Status> {
        let asked = request.into_inner();
        let request = Request::NextAsks {
            group: asked.producer_group,
            wait_ms: asked.wait_ms,
        };
        match self.ask(asked.partition, request).await? {
            Response::NextAsks(asks) => {
                let asks = asks.into_iter().map(|ask| proto::Ask {
                    id: ask.id.as_bytes().to_vec(),
                    asked: ask.asked,
                    messages: ask.messages,
                });
                let asks = asks.collect();
                Ok(tonic::Response::new(proto::NextAsksResponse { asks }))
            }
            other => Err(unavailable(&unexpected(&other))),
        }
    }
}
