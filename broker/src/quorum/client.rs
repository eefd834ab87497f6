//! Asking the controller, wherever it is: here, at a known leader, or where the last broker asked says.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use weir_proto::quorum::v1::control_response::Result as ControlResult;
use weir_proto::quorum::v1::quorum_client::QuorumClient;
use weir_proto::quorum::v1::{ControlRequest, ControlResponse};
use weir_quorum::{Command, ControlError, ErrorName, Reply};

use super::controller::{Done, Refusal};
use super::member::Shared;
use super::net::MESSAGE_BYTES_MAX;
use super::options::Pauses;
use super::suspicion::is_refusal;
use super::{Controller, no_controller};

/// Carries commands to the controller.
#[derive(Clone, Debug)]
pub(crate) struct ControllerClient(pub(crate) Arc<Shared>);

#[async_trait]
impl Controller for ControllerClient {
    async fn control(&self, command: Command) -> Result<Reply, ControlError> {
        self.control_within(command, self.0.options.pace.command)
            .await
    }
}

/// What asking once came to.
enum Asked {
    Done(Done),
    Refused(ControlError),
    /// Ask there.
    Elsewhere(String),
    /// No one is known who would know.
    NoOne,
}

impl ControllerClient {
    /// As [`Controller::control`], with another patience.
    pub(crate) async fn control_within(
        &self,
        command: Command,
        patience: Duration,
    ) -> Result<Reply, ControlError> {
        self.control_in(command, patience, self.0.options.pace.proposal)
            .await
    }

    /// The same, with a patience of its own for each broker that is asked.
    pub(crate) async fn control_in(
        &self,
        command: Command,
        patience: Duration,
        attempt: Duration,
    ) -> Result<Reply, ControlError> {
        match tokio::time::timeout(patience, self.ask(command, patience, attempt)).await {
            Ok(answer) => answer,
            Err(_) => Err(no_controller(patience)),
        }
    }

    async fn ask(
        &self,
        command: Command,
        patience: Duration,
        attempt: Duration,
    ) -> Result<Reply, ControlError> {
        let mut pauses = Pauses::new(&self.0.options.pace);
        let mut hint = None;
        loop {
            let asked = self.ask_once(&command, hint.take(), patience, attempt);
            match asked.await {
                Asked::Done(done) => {
                    // The asker must find in the image what it was told.
                    let _ = self
                        .0
                        .quorum
                        .watch()
                        .wait_for(|image| image.index() >= done.index)
                        .await;
                    return Ok(done.reply);
                }
                Asked::Refused(error) => return Err(error),
                Asked::Elsewhere(address) => hint = Some(address),
                Asked::NoOne => {}
            }
            self.wait_for_leader(&mut pauses).await;
        }
    }

    async fn ask_once(
        &self,
        command: &Command,
        hint: Option<String>,
        patience: Duration,
        attempt: Duration,
    ) -> Asked {
        let is_leader = self.0.quorum.status().borrow().is_leader;
        if is_leader {
            return match self.0.desk.command(command.clone()).await {
                Ok(done) => Asked::Done(done),
                Err(Refusal::Control(error)) => Asked::Refused(error),
                Err(Refusal::NotLeader) => Asked::NoOne,
            };
        }
        let Some(address) = hint.or_else(|| self.0.leader_address()) else {
            return Asked::NoOne;
        };
        let asked = self.ask_remote(command, &address, patience, attempt);
        match asked.await {
            Ok(asked) => asked,
            Err(error) => {
                tracing::debug!(address, error, "the controller did not answer");
                Asked::NoOne
            }
        }
    }

    async fn ask_remote(
        &self,
        command: &Command,
        address: &str,
        patience: Duration,
        attempt: Duration,
    ) -> Result<Asked, String> {
        let Some(cluster_id) = self.0.cluster_id() else {
            return Ok(Asked::NoOne);
        };
        let channel = self
            .0
            .channels
            .to(address)
            .map_err(|error| error.to_string())?;
        let mut client = QuorumClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let command = serde_json::to_vec(command).map_err(|error| error.to_string())?;
        let mut request = tonic::Request::new(ControlRequest {
            cluster_id: cluster_id.0,
            command,
        });
        request.set_timeout(patience);
        // A leader that hangs must not use up the whole patience: another may be elected meanwhile.
        let deadline = Instant::now() + attempt;
        let response = tokio::time::timeout_at(deadline, client.control(request))
            .await
            .map_err(|_| "no answer in time".to_owned())?
            .map_err(|status| {
                let leader = self.0.quorum.status().borrow().leader;
                if let Some(leader) = leader.filter(|_| is_refusal(&status))
                    && self.0.leader_address().as_deref() == Some(address)
                {
                    self.0.suspicions.voice(leader.broker);
                }
                status.message().to_owned()
            })?;
        let ControlResponse {
            metadata_index,
            result,
        } = response.into_inner();
        Ok(match result {
            Some(ControlResult::Reply(reply)) => {
                let reply = serde_json::from_slice(&reply).map_err(|error| error.to_string())?;
                Asked::Done(Done {
                    reply,
                    index: metadata_index,
                })
            }
            Some(ControlResult::Error(error)) => {
                Asked::Refused(serde_json::from_slice(&error).unwrap_or_else(|error| {
                    ControlError::new(
                        ErrorName::UnknownServerError,
                        format!("refused, for a reason not understood: {error}"),
                    )
                }))
            }
            Some(ControlResult::LeaderAddress(leader)) if !leader.is_empty() => {
                Asked::Elsewhere(leader)
            }
            Some(ControlResult::LeaderAddress(_)) | None => Asked::NoOne,
        })
    }

    /// Waits a little, or until someone else leads.
    async fn wait_for_leader(&self, pauses: &mut Pauses) {
        let mut status = self.0.quorum.status();
        let before = {
            let status = status.borrow_and_update();
            (status.leader, status.is_leader)
        };
        tokio::select! {
            () = pauses.pause() => {}
            // Of a node that has stopped nothing more is heard; then the pause is all there is.
            Ok(_) = status.wait_for(|now| now.leader.is_some() && (now.leader, now.is_leader) != before) => {}
        }
    }
}
