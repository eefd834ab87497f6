//! The gRPC service that brokers offer each other. Pure translation: checks whom a message is for and in whose name it is, and
//! passes it on.

use std::sync::Arc;

use tonic::{Request, Response, Status, Streaming};
use weir_proto::quorum::v1::control_response::Result as ControlResult;
use weir_proto::quorum::v1::quorum_server::Quorum as QuorumService;
use weir_proto::quorum::v1::{
    ControlRequest, ControlResponse, IdentityRequest, IdentityResponse, JoinRequest, JoinResponse,
    RaftMessage, SnapshotChunk,
};
use weir_quorum::quorum::AnswerError;
use weir_quorum::transport::Rpc;
use weir_quorum::{BrokerId, Command, ControlError, ErrorName, Incarnation, NodeId};

use super::controller::Refusal;
use super::member::Shared;
use super::net::{MESSAGE_BYTES_MAX, Peer, speaks_for};

/// The broker that a message comes from, as its certificate says; `None` where there are no certificates.
fn broker_of<T>(request: &Request<T>) -> Option<BrokerId> {
    match request.extensions().get::<Option<Peer>>() {
        Some(Some(Peer::Broker(id))) => Some(*id),
        // Only brokers come here (`Callers`).
        Some(Some(Peer::Operator)) | Some(None) | None => None,
    }
}

/// What brokers ask of each other.
#[derive(Clone, Debug)]
pub(crate) struct Service(pub(crate) Arc<Shared>);

impl Service {
    /// Refuses what comes from, or is meant for, another cluster.
    fn check_cluster(&self, theirs: &str) -> Result<(), Status> {
        match self.0.cluster_id() {
            Some(ours) if ours.as_str() == theirs => Ok(()),
            Some(ours) => Err(Status::failed_precondition(format!(
                "this broker ({}) belongs to cluster {ours}, and the message is of cluster {theirs}",
                self.0.quorum.node().broker
            ))),
            None => Err(Status::unavailable("this broker belongs to no cluster yet")),
        }
    }

    async fn raft(
        &self,
        rpc: Rpc,
        from: Option<BrokerId>,
        target: &str,
        payload: &[u8],
    ) -> Result<Response<RaftMessage>, Status> {
        let target: NodeId = target
            .parse()
            .map_err(|error| Status::invalid_argument(format!("{error}")))?;
        let answer = self
            .0
            .quorum
            .answer(target, rpc, payload, from)
            .await
            .map_err(|error| match error {
                AnswerError::NotMe { .. } => Status::failed_precondition(error.to_string()),
                AnswerError::NotTheSender { .. } => Status::permission_denied(error.to_string()),
                AnswerError::Malformed(_) => Status::invalid_argument(error.to_string()),
                AnswerError::Stopped(_) => Status::unavailable(error.to_string()),
            })?;
        Ok(Response::new(RaftMessage {
            payload: answer,
            ..RaftMessage::default()
        }))
    }
}

#[tonic::async_trait]
impl QuorumService for Service {
    async fn append_entries(
        &self,
        request: Request<RaftMessage>,
    ) -> Result<Response<RaftMessage>, Status> {
        let from = broker_of(&request);
        let RaftMessage {
            cluster_id,
            payload,
            target,
        } = request.into_inner();
        self.check_cluster(&cluster_id)?;
        self.raft(Rpc::AppendEntries, from, &target, &payload).await
    }

    async fn vote(&self, request: Request<RaftMessage>) -> Result<Response<RaftMessage>, Status> {
        let from = broker_of(&request);
        let RaftMessage {
            cluster_id,
            payload,
            target,
        } = request.into_inner();
        self.check_cluster(&cluster_id)?;
        self.raft(Rpc::Vote, from, &target, &payload).await
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<SnapshotChunk>>,
    ) -> Result<Response<RaftMessage>, Status> {
        let from = broker_of(&request);
        let mut chunks = request.into_inner();
        let first = chunks
            .message()
            .await?
            .ok_or_else(|| Status::invalid_argument("a snapshot without a beginning"))?;
        self.check_cluster(&first.cluster_id)?;
        let mut payload = first.data;
        while let Some(chunk) = chunks.message().await? {
            // What an image of many times the largest cluster comes to.
            if payload.len() + chunk.data.len() > 16 * MESSAGE_BYTES_MAX {
                return Err(Status::resource_exhausted(
                    "the snapshot is larger than 1 GiB",
                ));
            }
            payload.extend_from_slice(&chunk.data);
        }
        self.raft(Rpc::InstallSnapshot, from, &first.target, &payload)
            .await
    }

    async fn identity(
        &self,
        _: Request<IdentityRequest>,
    ) -> Result<Response<IdentityResponse>, Status> {
        let node = self.0.quorum.node();
        Ok(Response::new(IdentityResponse {
            broker_id: node.broker.0,
            incarnation: node.incarnation.to_string(),
            cluster_id: self.0.cluster_id().map(|id| id.0),
        }))
    }

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        speaks_for(&request, BrokerId(request.get_ref().broker_id))?;
        let JoinRequest {
            cluster_id,
            broker_id,
            incarnation,
            address,
        } = request.into_inner();
        let Some(ours) = self.0.cluster_id() else {
            return Err(Status::unavailable("this broker belongs to no cluster yet"));
        };
        let mut response = JoinResponse {
            cluster_id: ours.0.clone(),
            ..JoinResponse::default()
        };
        if !cluster_id.is_empty() && cluster_id != ours.0 {
            response.refused = Some(format!(
                "broker {broker_id} belongs to cluster {cluster_id}, and this is cluster {ours}"
            ));
            return Ok(Response::new(response));
        }
        let incarnation: Incarnation = incarnation
            .parse()
            .map_err(|error| Status::invalid_argument(format!("incarnation: {error}")))?;
        let node = NodeId {
            broker: BrokerId(broker_id),
            incarnation,
        };
        match self.0.desk.join(node, address).await {
            Ok(()) => {}
            Err(Refusal::NotLeader) => {
                response.leader_address = Some(self.0.leader_address().unwrap_or_default())
            }
            Err(Refusal::Control(error)) => response.refused = Some(error.message),
        }
        Ok(Response::new(response))
    }

    async fn control(
        &self,
        request: Request<ControlRequest>,
    ) -> Result<Response<ControlResponse>, Status> {
        let ControlRequest {
            cluster_id,
            command,
        } = request.get_ref();
        self.check_cluster(cluster_id)?;
        let answer = match serde_json::from_slice::<Command>(command) {
            Ok(command) => {
                if let Some(broker) = command.speaker() {
                    speaks_for(&request, broker)?;
                }
                self.0.desk.command(command).await
            }
            Err(error) => Err(Refusal::Control(ControlError::new(
                ErrorName::InvalidRequest,
                format!(
                    "the controller does not understand the command, which may be of a newer Weir: {error}"
                ),
            ))),
        };
        let json = |error: serde_json::Error| Status::internal(error.to_string());
        let response = match answer {
            Ok(done) => ControlResponse {
                metadata_index: done.index,
                result: Some(ControlResult::Reply(
                    serde_json::to_vec(&done.reply).map_err(json)?,
                )),
            },
            Err(Refusal::Control(error)) => ControlResponse {
                metadata_index: 0,
                result: Some(ControlResult::Error(
                    serde_json::to_vec(&error).map_err(json)?,
                )),
            },
            Err(Refusal::NotLeader) => ControlResponse {
                metadata_index: 0,
                result: Some(ControlResult::LeaderAddress(
                    self.0.leader_address().unwrap_or_default(),
                )),
            },
        };
        Ok(Response::new(response))
    }
}
