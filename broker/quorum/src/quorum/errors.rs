//! What can go wrong with a node, and how openraft's errors become that.

use openraft::error::{ClientWriteError, RaftError};

use crate::ids::{BrokerId, NodeId};
use crate::raft::types::Peer;

/// Why a node could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the metadata quorum in {dir}: {reason}")]
pub struct OpenError {
    pub(super) dir: String,
    pub(super) reason: String,
}

/// Why a proposal came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// This node does not lead. What was proposed may still come to be if it led when it was asked.
    #[error("this node does not lead the quorum")]
    NotLeader,
    /// The image that it was decided on is not the newest any more; nothing happened.
    #[error("decided on metadata that are not the newest any more")]
    Stale,
    /// The node has stopped.
    #[error("the quorum's node has stopped: {0}")]
    Stopped(String),
}

/// Why a message was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// It was meant for another node.
    #[error("this is {me}, and the message is for {wanted}")]
    NotMe {
        /// This node.
        me: NodeId,
        /// Whom it was for.
        wanted: NodeId,
    },
    /// It is in the name of another broker than the one that sent it.
    #[error("broker {sender} may not speak for broker {claimed}")]
    NotTheSender {
        /// Who sent it.
        sender: BrokerId,
        /// In whose name.
        claimed: BrokerId,
    },
    /// It makes no sense here.
    #[error("message not understood: {0}")]
    Malformed(String),
    /// The node has stopped.
    #[error("the quorum's node has stopped: {0}")]
    Stopped(String),
}

pub(super) fn refused(error: RaftError<NodeId, ClientWriteError<NodeId, Peer>>) -> ProposeError {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(_)) => ProposeError::NotLeader,
        // Another change of members is under way; it was decided on what is not the newest any more.
        RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) => {
            tracing::debug!(%error, "change of members refused");
            ProposeError::Stale
        }
        RaftError::Fatal(fatal) => ProposeError::Stopped(reason(&fatal)),
    }
}

/// An error with all that caused it.
pub(super) fn reason(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
