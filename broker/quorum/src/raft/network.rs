//! openraft's network over the [`Transport`] seam: messages become JSON, failures become waits.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use openraft::OptionalSend;
use openraft::error::{Fatal, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::types::{Peer, Snapshot, SnapshotMeta, TypeConfig, Vote};
use crate::ids::NodeId;
use crate::transport::{Rpc, Target, Transport, TransportError};

/// A snapshot as it travels: this as JSON, a newline, and the data.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SnapshotHeader {
    pub(crate) vote: Vote,
    pub(crate) meta: SnapshotMeta,
}

/// Makes a [`Line`] to each node.
#[derive(Clone, Debug)]
pub(crate) struct Network(pub(crate) Arc<dyn Transport>);

/// The way to one node.
#[derive(Debug)]
pub(crate) struct Line {
    transport: Arc<dyn Transport>,
    target: Target,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Line;

    async fn new_client(&mut self, target: NodeId, node: &Peer) -> Line {
        let target = Target {
            node: target,
            address: node.address.clone(),
        };
        Line {
            transport: self.0.clone(),
            target,
        }
    }
}

type CallError = RPCError<NodeId, Peer, RaftError<NodeId>>;

impl Line {
    async fn call<Q: Serialize, A: DeserializeOwned>(
        &self,
        rpc: Rpc,
        request: &Q,
        deadline: Duration,
    ) -> Result<A, Unreachable> {
        let request = serde_json::to_vec(request).map_err(|error| Unreachable::new(&error))?;
        self.send(rpc, request, deadline).await
    }

    async fn send<A: DeserializeOwned>(
        &self,
        rpc: Rpc,
        request: Vec<u8>,
        deadline: Duration,
    ) -> Result<A, Unreachable> {
        let answer = tokio::time::timeout(
            deadline,
            self.transport.call(&self.target, rpc, request, deadline),
        )
        .await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(_) => Err(TransportError(format!(
                "{} did not answer within {deadline:?}",
                self.target.address
            ))),
        };
        // Any failure counts as unreachable, so that a node that refuses is not asked again at once, without end.
        let answer = answer.map_err(|error| Unreachable::new(&error))?;
        serde_json::from_slice(&answer).map_err(|error| Unreachable::new(&error))
    }
}

impl RaftNetwork<TypeConfig> for Line {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<NodeId>, CallError> {
        Ok(self
            .call(Rpc::AppendEntries, &rpc, option.hard_ttl())
            .await?)
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<NodeId>,
        option: RPCOption,
    ) -> Result<VoteResponse<NodeId>, CallError> {
        Ok(self.call(Rpc::Vote, &rpc, option.hard_ttl()).await?)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<NodeId>, StreamingError<TypeConfig, Fatal<NodeId>>> {
        let header = SnapshotHeader {
            vote,
            meta: snapshot.meta,
        };
        let mut request = serde_json::to_vec(&header)
            .map_err(|error| StreamingError::Unreachable(Unreachable::new(&error)))?;
        request.push(b'\n');
        request.extend_from_slice(&snapshot.snapshot);
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            answer = self.send(Rpc::InstallSnapshot, request, option.hard_ttl()) => {
                answer.map_err(StreamingError::Unreachable)
            }
        }
    }

    fn backoff(&self) -> Backoff {
        // Short at first, for a node that is just starting; then no more than a few calls in a second.
        Backoff::new((0..).map(|times: u32| Duration::from_millis((20 << times.min(5)).min(400))))
    }
}
