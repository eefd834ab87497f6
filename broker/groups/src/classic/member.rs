//! One member of a group.
//!
//! Owns what the member said when it joined, what it was given, and which of its requests wait. What always holds: each
//! waiting request is answered exactly once, when it is taken out of its slot.

use bytes::Bytes;

use crate::consumer::{ClassicSide, Profile};
use crate::request::{JoinRequest, Protocol};
use crate::stored::StoredMember;
use crate::types::{CallId, InstanceId, MemberId, MonoMs};

/// A member of a group, known by its id.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) id: MemberId,
    pub(crate) instance: Option<InstanceId>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) session_timeout_ms: i32,
    pub(crate) rebalance_timeout_ms: i32,
    /// In order of preference; never empty.
    pub(crate) protocols: Vec<Protocol>,
    /// What the leader of the current generation gave it.
    pub(crate) assignment: Bytes,
    /// It has never had an answer to its join, so it sends no heartbeats yet.
    pub(crate) is_new: bool,
    /// Its JoinGroup, waiting for the rebalance.
    pub(crate) join_call: Option<CallId>,
    /// Its SyncGroup, waiting for the leader.
    pub(crate) sync_call: Option<CallId>,
    /// It has joined this generation, and has not asked for its assignment yet.
    pub(crate) sync_owed: bool,
    /// When it is taken for dead, unless it waits for us.
    pub(crate) session_deadline: MonoMs,
}

impl Member {
    /// A member that has just asked to join.
    pub(crate) fn joining(
        id: MemberId,
        request: JoinRequest,
        call: CallId,
        deadline: MonoMs,
    ) -> Self {
        Self {
            id,
            rebalance_timeout_ms: rebalance_timeout_ms(&request),
            instance: request.instance,
            client_id: request.client_id,
            client_host: request.client_host,
            session_timeout_ms: request.session_timeout_ms,
            protocols: request.protocols,
            assignment: Bytes::new(),
            is_new: true,
            join_call: Some(call),
            sync_call: None,
            sync_owed: false,
            session_deadline: deadline,
        }
    }

    /// A member as the log has it, with what it said about `protocol`.
    pub(crate) fn restored(stored: StoredMember, protocol: &str) -> Self {
        Self {
            id: stored.id,
            instance: stored.instance,
            client_id: stored.client_id,
            client_host: stored.client_host,
            session_timeout_ms: stored.session_timeout_ms,
            rebalance_timeout_ms: stored.rebalance_timeout_ms,
            protocols: vec![Protocol {
                name: protocol.to_owned(),
                metadata: stored.subscription,
            }],
            assignment: stored.assignment,
            is_new: false,
            join_call: None,
            sync_call: None,
            sync_owed: false,
            session_deadline: MonoMs::default(),
        }
    }

    /// A member of a consumer group that becomes a classic one.
    pub(crate) fn migrated(
        id: MemberId,
        profile: &Profile,
        side: &ClassicSide,
        assignment: Bytes,
    ) -> Self {
        Self {
            id,
            instance: profile.instance.clone(),
            client_id: profile.client_id.clone(),
            client_host: profile.client_host.clone(),
            session_timeout_ms: side.session_timeout_ms,
            rebalance_timeout_ms: profile.rebalance_timeout_ms,
            protocols: side.protocols.clone(),
            assignment,
            is_new: false,
            join_call: None,
            sync_call: None,
            sync_owed: false,
            session_deadline: MonoMs::default(),
        }
    }

    /// Takes over what a member says when it joins again.
    pub(crate) fn update(&mut self, request: JoinRequest) {
        self.rebalance_timeout_ms = rebalance_timeout_ms(&request);
        self.session_timeout_ms = request.session_timeout_ms;
        self.protocols = request.protocols;
        self.client_id = request.client_id;
        self.client_host = request.client_host;
    }

    /// A member that waits for the coordinator owes no sign of life. A new one does: its client may be gone without ever
    /// having learnt its id.
    pub(crate) fn may_expire(&self) -> bool {
        self.is_new || (self.join_call.is_none() && self.sync_call.is_none())
    }

    /// The subscription under `protocol`, empty if it has none.
    pub(crate) fn metadata(&self, protocol: Option<&str>) -> Bytes {
        let found = self
            .protocols
            .iter()
            .find(|own| Some(own.name.as_str()) == protocol);
        found.map(|own| own.metadata.clone()).unwrap_or_default()
    }

    /// Whether it can follow `protocol`.
    pub(crate) fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|own| own.name == protocol)
    }

    /// Bytes that its strings and subscriptions hold.
    pub(crate) fn bytes(&self) -> usize {
        let instance = self.instance.as_ref().map_or(0, InstanceId::len);
        let named = self.id.len() + instance + self.client_id.len() + self.client_host.len();
        named + protocols_bytes(&self.protocols)
    }
}

/// Bytes that a list of protocols holds.
pub(crate) fn protocols_bytes(protocols: &[Protocol]) -> usize {
    protocols
        .iter()
        .map(|protocol| protocol.name.len() + protocol.metadata.len())
        .sum()
}

fn rebalance_timeout_ms(request: &JoinRequest) -> i32 {
    if request.rebalance_timeout_ms < 0 {
        request.session_timeout_ms
    } else {
        request.rebalance_timeout_ms
    }
}
