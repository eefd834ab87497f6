//! Identities for producers, from blocks that the controller hands out: no two producers of a cluster ever get the same.

use tokio::sync::Mutex;
use weir_quorum::command::{AllocateProducerIds, Command, Reply};
use weir_quorum::{ControlError, ErrorName};
use weir_wire::ProducerId;

use crate::quorum::Metadata;

/// What is left of the last block.
#[derive(Debug, Default)]
pub struct ProducerIds {
    left: Mutex<std::ops::Range<i64>>,
}

impl ProducerIds {
    /// An identity that was never given out. Asks the controller for a block when the last one is used up; whoever comes
    /// meanwhile waits for the same block.
    pub async fn next(&self, metadata: &Metadata) -> Result<ProducerId, ControlError> {
        let mut left = self.left.lock().await;
        if left.is_empty() {
            *left = block(metadata).await?;
        }
        let not_given = || {
            ControlError::new(
                ErrorName::UnknownServerError,
                "the controller gave an empty block",
            )
        };
        left.next().map(ProducerId).ok_or_else(not_given)
    }
}

async fn block(metadata: &Metadata) -> Result<std::ops::Range<i64>, ControlError> {
    let not_registered = || {
        ControlError::new(
            ErrorName::BrokerIdNotRegistered,
            "this broker has not registered yet",
        )
    };
    let epoch = metadata.registration().ok_or_else(not_registered)?;
    let command = Command::AllocateProducerIds(AllocateProducerIds {
        id: metadata.broker_id(),
        epoch,
    });
    match metadata.control(command).await? {
        Reply::ProducerIds { first, count } => Ok(first..first + i64::from(count)),
        _ => Err(ControlError::new(
            ErrorName::UnknownServerError,
            "the controller answered something else",
        )),
    }
}
