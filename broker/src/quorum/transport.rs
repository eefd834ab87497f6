//! Raft's messages over gRPC.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use weir_proto::quorum::v1::quorum_client::QuorumClient;
use weir_proto::quorum::v1::{RaftMessage, SnapshotChunk};
use weir_quorum::BrokerId;
use weir_quorum::transport::{Rpc, Target, Transport, TransportError};

use super::State;
use super::net::{Channels, MESSAGE_BYTES_MAX};
use super::suspicion::{Suspicions, is_refusal};

/// How much of a snapshot one message carries.
const CHUNK_BYTES: usize = 1 << 20;

/// The quorum's transport over gRPC.
#[derive(Debug)]
pub(crate) struct GrpcTransport {
    pub(crate) suspicions: Suspicions,
    pub(crate) channels: Arc<Channels>,
    pub(crate) peers: BTreeMap<BrokerId, String>,
    pub(crate) state: watch::Receiver<State>,
}

#[async_trait]
impl Transport for GrpcTransport {
    async fn call(
        &self,
        target: &Target,
        rpc: Rpc,
        request: Vec<u8>,
        deadline: Duration,
    ) -> Result<Vec<u8>, TransportError> {
        let wrong = |error: &dyn std::fmt::Display| TransportError(error.to_string());
        let cluster_id = self.state.borrow().cluster_id.clone();
        let cluster_id = cluster_id
            .ok_or_else(|| wrong(&"this broker belongs to no cluster yet"))?
            .0;
        // What the configuration says is newer than what the log remembers.
        let address = self
            .peers
            .get(&target.node.broker)
            .unwrap_or(&target.address);
        let channel = self.channels.to_broker(target.node.broker, address);
        let channel = channel.map_err(|error| wrong(&error))?;
        let mut client = QuorumClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let (broker, target) = (target.node.broker, target.node.to_string());
        let answer = async {
            match rpc {
                Rpc::AppendEntries => {
                    client
                        .append_entries(RaftMessage {
                            cluster_id,
                            payload: request,
                            target,
                        })
                        .await
                }
                Rpc::Vote => {
                    client
                        .vote(RaftMessage {
                            cluster_id,
                            payload: request,
                            target,
                        })
                        .await
                }
                Rpc::InstallSnapshot => {
                    let first = SnapshotChunk {
                        cluster_id,
                        target,
                        data: Vec::new(),
                    };
                    let chunks: Vec<SnapshotChunk> = std::iter::once(first)
                        .chain(request.chunks(CHUNK_BYTES).map(|data| SnapshotChunk {
                            data: data.to_vec(),
                            ..SnapshotChunk::default()
                        }))
                        .collect();
                    client.install_snapshot(futures::stream::iter(chunks)).await
                }
            }
        };
        match tokio::time::timeout(deadline, answer).await {
            Ok(Ok(answer)) => Ok(answer.into_inner().payload),
            Ok(Err(status)) => {
                if is_refusal(&status) {
                    self.suspicions.voice(broker);
                }
                Err(TransportError(format!("{address}: {}", status.message())))
            }
            Err(_) => Err(TransportError(format!(
                "{address} did not answer within {deadline:?}"
            ))),
        }
    }
}
