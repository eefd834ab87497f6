//! Asking another broker for the state of a share-partition that it coordinates, over gRPC on the quorum's port: both ends.

use std::sync::Arc;
use std::time::Duration;

use tonic::{Request, Response, Status};
use weir_groups::share::state::{
    InitializeState, ReadState, StateError, StateKey, StateRequest, StateResponse, StateSummary,
    WriteState,
};
use weir_groups::share::{DeliveryState, LevelState, Restored, StateBatch};
use weir_proto::share::v1 as proto;
use weir_proto::share::v1::ask_request::Request as Asked;
use weir_proto::share::v1::share_states_client::ShareStatesClient;
use weir_proto::share::v1::share_states_server::{self, ShareStatesServer};
use weir_queues::priority::Level;
use weir_quorum::image::Broker;
use weir_wire::{LeaderEpoch, Offset, PartitionIndex, TopicId};

use crate::health::Health;
use crate::net::Dialer;
use crate::quorum::net::{Channels, MESSAGE_BYTES_MAX};

/// How long another broker may take: an answer waits for one append, at most.
const PATIENCE: Duration = Duration::from_secs(5);

/// The ways to other brokers.
#[derive(Debug)]
pub(super) struct Peers {
    channels: Channels,
}

impl Peers {
    pub(super) fn new(dialer: Dialer) -> Self {
        Self {
            channels: Channels::new(dialer),
        }
    }

    pub(super) async fn ask(
        &self,
        coordinator: &Broker,
        request: StateRequest,
    ) -> Result<StateResponse, StateError> {
        let channel = self
            .channels
            .to_broker(coordinator.id, &coordinator.quorum_address)
            .map_err(|_| StateError::NotAvailable)?;
        let mut client = ShareStatesClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let (message, kind) = asked(request)?;
        let mut message = Request::new(message);
        message.set_timeout(PATIENCE);
        match client.ask(message).await {
            Ok(answer) => answered(kind, answer.into_inner()),
            Err(status) => {
                tracing::debug!(broker = %coordinator.id, %status, "a share coordinator cannot be asked");
                Err(StateError::NotAvailable)
            }
        }
    }
}

/// Which question an answer is to.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Initialize,
    Read,
    Write,
    Summary,
    Delete,
}

fn asked(request: StateRequest) -> Result<(proto::AskRequest, Kind), StateError> {
    let (key, asked, kind) = match request {
        StateRequest::Initialize(request) => {
            let message = proto::Initialize {
                state_epoch: request.state_epoch,
                start_offset: request.start.0,
            };
            (request.key, Asked::Initialize(message), Kind::Initialize)
        }
        StateRequest::Read(request) => {
            let leader_epoch = request.leader_epoch.0;
            let message = proto::Read { leader_epoch };
            (request.key, Asked::Read(message), Kind::Read)
        }
        StateRequest::Write(request) => {
            let message = proto::Write {
                state_epoch: request.state_epoch,
                leader_epoch: request.leader_epoch.0,
                start_offset: request.start.0,
                complete_count: request.complete_count,
                batches: request.batches.into_iter().map(batch).collect(),
                levels: request.levels.into_iter().map(level).collect(),
            };
            (request.key, Asked::Write(message), Kind::Write)
        }
        StateRequest::Summary(key) => (key, Asked::Summary(proto::Summary {}), Kind::Summary),
        StateRequest::Delete(key) => (key, Asked::Delete(proto::Delete {}), Kind::Delete),
        // Each coordinator forgets by itself.
        StateRequest::Forget(_) | StateRequest::KeepOnly(_) => {
            return Err(StateError::InvalidRequest);
        }
    };
    let key = proto::Key {
        group: key.group.to_string(),
        topic_id: key.topic.0.as_bytes().to_vec(),
        partition: key.partition.0,
    };
    let message = proto::AskRequest {
        key: Some(key),
        request: Some(asked),
    };
    Ok((message, kind))
}

fn answered(kind: Kind, answer: proto::AskResponse) -> Result<StateResponse, StateError> {
    if answer.refusal.is_some() {
        return Err(refusal(answer.refusal()));
    }
    Ok(match kind {
        Kind::Initialize => StateResponse::Initialize(Ok(())),
        Kind::Write => StateResponse::Write(Ok(())),
        Kind::Delete => StateResponse::Delete,
        Kind::Summary => StateResponse::Summary(answer.state.map(|state| StateSummary {
            state_epoch: state.state_epoch,
            leader_epoch: LeaderEpoch(state.leader_epoch),
            start: Offset(state.start_offset),
            complete_count: state.complete_count,
        })),
        Kind::Read => {
            let state = answer.state.ok_or(StateError::NotAvailable)?;
            StateResponse::Read(Ok(Restored {
                state_epoch: state.state_epoch,
                start: Offset(state.start_offset),
                batches: state.batches.iter().filter_map(state_batch).collect(),
                levels: state.levels.iter().filter_map(level_state).collect(),
            }))
        }
    })
}

/// Answers other brokers for the states that this one coordinates.
#[derive(Debug)]
pub struct StatesService {
    health: Arc<Health>,
}

impl StatesService {
    /// The service, which answers as soon as the broker is assembled.
    #[must_use]
    pub fn server(health: Arc<Health>) -> ShareStatesServer<Self> {
        ShareStatesServer::new(Self { health })
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }
}

#[tonic::async_trait]
impl share_states_server::ShareStates for StatesService {
    async fn ask(
        &self,
        request: Request<proto::AskRequest>,
    ) -> Result<Response<proto::AskResponse>, Status> {
        let broker = self.health.assembled_broker()?;
        let (key, request) = question(request.into_inner())
            .ok_or_else(|| Status::invalid_argument("a key and a request are wanted"))?;
        let answer = broker.share.persister().ask_here(&key, request).await;
        Ok(Response::new(answer.and_then(reply).unwrap_or_else(
            |error| proto::AskResponse {
                refusal: Some(refused(error).into()),
                state: None,
            },
        )))
    }
}

fn question(message: proto::AskRequest) -> Option<(StateKey, StateRequest)> {
    let key = message.key?;
    let key = StateKey {
        group: key.group.into(),
        topic: TopicId(uuid::Uuid::from_slice(&key.topic_id).ok()?),
        partition: PartitionIndex(key.partition),
    };
    let own = key.clone();
    let request = match message.request? {
        Asked::Initialize(message) => StateRequest::Initialize(InitializeState {
            key,
            state_epoch: message.state_epoch,
            start: Offset(message.start_offset),
        }),
        Asked::Read(message) => StateRequest::Read(ReadState {
            key,
            leader_epoch: LeaderEpoch(message.leader_epoch),
        }),
        Asked::Write(message) => StateRequest::Write(WriteState {
            key,
            state_epoch: message.state_epoch,
            leader_epoch: LeaderEpoch(message.leader_epoch),
            start: Offset(message.start_offset),
            complete_count: message.complete_count,
            batches: message.batches.iter().filter_map(state_batch).collect(),
            levels: message.levels.iter().filter_map(level_state).collect(),
        }),
        Asked::Summary(_) => StateRequest::Summary(key),
        Asked::Delete(_) => StateRequest::Delete(key),
    };
    Some((own, request))
}

fn reply(answer: StateResponse) -> Result<proto::AskResponse, StateError> {
    let state = match answer {
        StateResponse::Initialize(outcome) | StateResponse::Write(outcome) => {
            outcome?;
            None
        }
        StateResponse::Delete | StateResponse::Forget => None,
        StateResponse::Read(outcome) => {
            let restored = outcome?;
            Some(proto::State {
                state_epoch: restored.state_epoch,
                leader_epoch: -1,
                start_offset: restored.start.0,
                complete_count: -1,
                batches: restored.batches.into_iter().map(batch).collect(),
                levels: restored.levels.into_iter().map(level).collect(),
            })
        }
        StateResponse::Summary(summary) => summary.map(|summary| proto::State {
            state_epoch: summary.state_epoch,
            leader_epoch: summary.leader_epoch.0,
            start_offset: summary.start.0,
            complete_count: summary.complete_count,
            batches: Vec::new(),
            levels: Vec::new(),
        }),
    };
    Ok(proto::AskResponse {
        refusal: None,
        state,
    })
}

fn batch(batch: StateBatch) -> proto::Batch {
    proto::Batch {
        first_offset: batch.first.0,
        last_offset: batch.last.0,
        state: i32::from(batch.state.id()),
        deliveries: i32::from(batch.deliveries),
    }
}

/// One that says what nobody stores is passed over.
fn state_batch(batch: &proto::Batch) -> Option<StateBatch> {
    Some(StateBatch {
        first: Offset(batch.first_offset),
        last: Offset(batch.last_offset),
        state: DeliveryState::from_id(i8::try_from(batch.state).ok()?)?,
        deliveries: i16::try_from(batch.deliveries).ok()?,
    })
}

fn level(state: LevelState) -> proto::Level {
    proto::Level {
        level: i32::from(state.level.number()),
        start_offset: state.start.0,
        batches: state.batches.into_iter().map(batch).collect(),
    }
}

/// One that nobody knows is passed over.
fn level_state(level: &proto::Level) -> Option<LevelState> {
    Some(LevelState {
        level: Level::new(u8::try_from(level.level).ok()?)?,
        start: Offset(level.start_offset),
        batches: level.batches.iter().filter_map(state_batch).collect(),
    })
}

fn refused(error: StateError) -> proto::Refusal {
    match error {
        StateError::FencedLeaderEpoch => proto::Refusal::FencedLeaderEpoch,
        StateError::FencedStateEpoch => proto::Refusal::FencedStateEpoch,
        StateError::Uninitialized => proto::Refusal::Uninitialized,
        StateError::InvalidRequest => proto::Refusal::InvalidRequest,
        StateError::BoundReached => proto::Refusal::BoundReached,
        StateError::NotCoordinator => proto::Refusal::NotCoordinator,
        StateError::Loading => proto::Refusal::Loading,
        StateError::NotAvailable => proto::Refusal::NotAvailable,
    }
}

fn refusal(refusal: proto::Refusal) -> StateError {
    match refusal {
        proto::Refusal::FencedLeaderEpoch => StateError::FencedLeaderEpoch,
        proto::Refusal::FencedStateEpoch => StateError::FencedStateEpoch,
        proto::Refusal::Uninitialized => StateError::Uninitialized,
        proto::Refusal::InvalidRequest => StateError::InvalidRequest,
        proto::Refusal::BoundReached => StateError::BoundReached,
        proto::Refusal::NotCoordinator => StateError::NotCoordinator,
        proto::Refusal::Loading => StateError::Loading,
        // What a newer broker may say.
        proto::Refusal::NotAvailable | proto::Refusal::Unspecified => StateError::NotAvailable,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    #![allow(clippy::panic, reason = "tests")]

    use super::*;

    fn levels() -> Vec<LevelState> {
        let batch = StateBatch {
            first: Offset(7),
            last: Offset(9),
            state: DeliveryState::Archiving,
            deliveries: 3,
        };
        let levels = Level::all().map(|level| LevelState {
            level,
            start: Offset(i64::from(level.number())),
            batches: vec![batch],
        });
        levels.collect()
    }

    #[test]
    fn levels_reach_another_broker_and_come_back() {
        let write = WriteState {
            key: StateKey {
                group: "g".into(),
                topic: TopicId::ZERO,
                partition: PartitionIndex(3),
            },
            state_epoch: 1,
            leader_epoch: LeaderEpoch(2),
            start: Offset(0),
            complete_count: 5,
            batches: Vec::new(),
            levels: levels(),
        };
        let (message, _) = asked(StateRequest::Write(write)).unwrap();
        let Some((_, StateRequest::Write(heard))) = question(message) else {
            panic!("a write")
        };
        assert_eq!(heard.levels, levels());
        let restored = Restored {
            start: Offset(0),
            levels: levels(),
            ..Restored::default()
        };
        let answer = reply(StateResponse::Read(Ok(restored.clone()))).unwrap();
        let heard = answered(Kind::Read, answer).unwrap();
        assert_eq!(heard, StateResponse::Read(Ok(restored)));
    }
}
