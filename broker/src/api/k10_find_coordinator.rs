//! FindCoordinator: who coordinates a group or a transactional id; from version 4 on for many at once.

use std::sync::Arc;

use weir_groups::share::state::StateKey;
use weir_wire::messages::find_coordinator_response::Coordinator;
use weir_wire::messages::{FindCoordinatorRequestView, FindCoordinatorResponse};

use super::leaders::endpoint;
use super::{Answer, Refused, Request};
use crate::Broker;
use crate::error::{ApiError, ErrorCode};

/// The kind of key that names a group.
const GROUP: i8 = 0;
/// The kind of key that is a transactional id.
const TRANSACTION: i8 = 1;
/// The kind of key that names a share-partition: `group:topicId:partition`.
const SHARE: i8 = 2;

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: FindCoordinatorRequestView<'_> = request.decode()?;
    let is_batch = request.version >= 4;
    let keys: Vec<String> = if is_batch {
        view.coordinator_keys.iter().map(str::to_owned).collect()
    } else {
        vec![view.key.to_owned()]
    };
    let key_type = view.key_type;
    let (responder, broker) = (request.responder(), Arc::clone(broker));
    let peer = Arc::clone(&request.peer);
    Ok(Answer::later(async move {
        let mut coordinators = Vec::with_capacity(keys.len());
        for key in keys {
            coordinators.push(find(&broker, &peer.listener, key_type, key).await);
        }
        responder.reply(&if is_batch {
            batch(coordinators)
        } else {
            single(coordinators)
        })
    }))
}

async fn find(broker: &Broker, listener: &str, key_type: i8, key: String) -> Coordinator {
    let found = match key_type {
        GROUP => broker
            .groups
            .find(&key)
            .await
            .map_err(|error| ApiError::new(error.code(), error.to_string())),
        TRANSACTION => broker
            .transactions
            .find(&key)
            .await
            .map_err(|error| ApiError::new(error.code(), error.to_string())),
        SHARE if !StateKey::is_one(&key) => Err(ApiError::new(
            ErrorCode::InvalidRequest,
            "a share-partition is named group:topicId:partition",
        )),
        SHARE => broker
            .share
            .persister()
            .find(&key)
            .await
            .map_err(|error| ApiError::new(error.code(), error.to_string())),
        other => {
            let message = format!(
                "key type {other} is not served; allowed: 0 (groups), 1 (transactions), 2 (share-partitions)"
            );
            Err(ApiError::new(ErrorCode::InvalidRequest, message))
        }
    };
    let at = found.and_then(|found| {
        let image = broker.metadata.image();
        endpoint(&image, listener, &found).ok_or_else(|| {
            let message = format!(
                "broker {} coordinates {key:?} and has no address on the listener {listener} yet",
                found.id
            );
            ApiError::new(ErrorCode::CoordinatorNotAvailable, message)
        })
    });
    match at {
        Ok(at) => Coordinator {
            key,
            node_id: at.id,
            host: at.host,
            port: at.port,
            ..Coordinator::default()
        },
        Err(error) => Coordinator {
            key,
            node_id: -1,
            port: -1,
            error_code: error.code.code(),
            error_message: error.message(),
            ..Coordinator::default()
        },
    }
}

fn batch(coordinators: Vec<Coordinator>) -> FindCoordinatorResponse {
    FindCoordinatorResponse {
        coordinators,
        ..FindCoordinatorResponse::default()
    }
}

fn single(coordinators: Vec<Coordinator>) -> FindCoordinatorResponse {
    let found = coordinators.into_iter().next().unwrap_or_default();
    FindCoordinatorResponse {
        error_code: found.error_code,
        error_message: found.error_message,
        node_id: found.node_id,
        host: found.host,
        port: found.port,
        ..FindCoordinatorResponse::default()
    }
}
