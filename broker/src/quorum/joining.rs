//! How a broker becomes a member of its cluster: with an empty disk, by forming one or joining one; in each life again,
//! by telling the leader where it is reached now.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;
use weir_proto::quorum::v1::quorum_client::QuorumClient;
use weir_proto::quorum::v1::{IdentityRequest, JoinRequest};
use weir_quorum::forming::{self, Answer, FormingError, Step};
use weir_quorum::{BrokerId, ClusterId};

use super::controller::Refusal;
use super::member::Shared;
use super::options::Pauses;

/// How long a peer has to say who it is.
const IDENTITY_PATIENCE: Duration = Duration::from_secs(1);

/// How long a leader has to take a broker in.
const JOIN_PATIENCE: Duration = Duration::from_secs(5);

/// Asks the peers until it is clear whether to form a cluster (`None`) or to join one.
pub(crate) async fn find_cluster(shared: &Shared) -> Result<Option<ClusterId>, FormingError> {
    let me = shared.quorum.node().broker;
    let mut pauses = Pauses::new(&shared.options.pace);
    let mut last_reason = String::new();
    loop {
        let peers = shared.options.peers.iter().filter(|(id, _)| **id != me);
        let answers = join_all(
            peers.map(async |(id, address)| (*id, ask_identity(shared, *id, address).await)),
        )
        .await;
        let answers: BTreeMap<BrokerId, Answer> = answers.into_iter().collect();
        match forming::next(me, shared.options.cluster_id.as_ref(), &answers)? {
            Step::Form => return Ok(None),
            Step::Join(cluster_id, _) => return Ok(Some(cluster_id)),
            Step::Wait(reason) => {
                if reason != last_reason {
                    tracing::info!(reason, "waiting for a cluster to join");
                    last_reason = reason;
                }
                pauses.pause().await;
            }
        }
    }
}

async fn ask_identity(shared: &Shared, id: BrokerId, address: &str) -> Answer {
    let asked = async {
        let channel = shared
            .channels
            .to_broker(id, address)
            .map_err(|error| error.to_string())?;
        let mut client = QuorumClient::new(channel);
        let response = client.identity(IdentityRequest {}).await;
        response
            .map(tonic::Response::into_inner)
            .map_err(|status| status.message().to_owned())
    };
    match tokio::time::timeout(IDENTITY_PATIENCE, asked).await {
        Err(_) => Answer::None(format!(
            "{address} did not answer within {IDENTITY_PATIENCE:?}"
        )),
        Ok(Err(error)) => Answer::None(format!("{address}: {error}")),
        Ok(Ok(identity)) if identity.broker_id != id.0 => Answer::None(format!(
            "{address} is the address of broker {}; correct the peers",
            identity.broker_id
        )),
        Ok(Ok(identity)) => identity
            .cluster_id
            .map_or(Answer::Empty, |id| Answer::Member(ClusterId(id))),
    }
}

/// What asking to be taken in came to.
#[derive(Debug)]
pub(crate) enum Joined {
    /// This broker is a member, and its address is known.
    Yes,
    /// No leader could be asked; try again.
    NotYet,
    /// The leader says no, for now or for good.
    Refused(String),
}

/// Asks the leader once to take this broker in, or to note where it is reached. Finds the leader by the quorum's status,
/// or by asking the peers. What this broker's own log says of members is no answer: it may have been taken in by a leader whose decision was lost with it,
/// or put out while it was away, and whom nobody sends the log waits for ever for what it was told.
pub(crate) async fn join(shared: &Shared) -> Joined {
    let node = shared.quorum.node();
    let is_leader = shared.quorum.status().borrow().is_leader;
    if is_leader {
        return match shared
            .desk
            .join(node, shared.options.quorum_address.clone())
            .await
        {
            Ok(()) => Joined::Yes,
            Err(Refusal::NotLeader) => Joined::NotYet,
            Err(Refusal::Control(error)) => Joined::Refused(error.message),
        };
    }
    let mut tried = BTreeSet::new();
    let mut next: Vec<String> = shared.options.peers.values().rev().cloned().collect();
    next.extend(shared.leader_address());
    while let Some(address) = next.pop() {
        if address == shared.options.quorum_address || !tried.insert(address.clone()) {
            continue;
        }
        match tokio::time::timeout(JOIN_PATIENCE, ask_join(shared, &address)).await {
            Ok(Ok(Asked::Joined)) => return Joined::Yes,
            Ok(Ok(Asked::Refused(reason))) => return Joined::Refused(reason),
            Ok(Ok(Asked::Elsewhere(leader))) => next.push(leader),
            Ok(Err(error)) => tracing::debug!(address, error, "asked to join"),
            Err(_) => tracing::debug!(address, "asked to join: no answer in time"),
        }
    }
    Joined::NotYet
}

enum Asked {
    Joined,
    Refused(String),
    Elsewhere(String),
}

async fn ask_join(shared: &Shared, address: &str) -> Result<Asked, String> {
    let node = shared.quorum.node();
    let request = JoinRequest {
        cluster_id: shared.cluster_id().map(|id| id.0).unwrap_or_default(),
        broker_id: node.broker.0,
        incarnation: node.incarnation.to_string(),
        address: shared.options.quorum_address.clone(),
    };
    let channel = shared
        .channels
        .to(address)
        .map_err(|error| error.to_string())?;
    let response = QuorumClient::new(channel)
        .join(request)
        .await
        .map_err(|status| status.message().to_owned())?;
    let response = response.into_inner();
    Ok(match (response.refused, response.leader_address) {
        (Some(reason), _) => Asked::Refused(reason),
        (None, None) => Asked::Joined,
        (None, Some(leader)) if !leader.is_empty() => Asked::Elsewhere(leader),
        (None, Some(_)) => return Err("no leader is known there".to_owned()),
    })
}
