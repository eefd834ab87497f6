//! One member of a consumer group.

use std::collections::BTreeSet;

use crate::modern::Epoch;
use crate::modern::reconcile::Current;
use crate::request::Protocol;
use crate::types::{InstanceId, MemberId, MonoMs};

/// A member.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) id: MemberId,
    pub(crate) profile: Profile,
    pub(crate) current: Current,
    /// When it is taken for dead.
    pub(crate) session_deadline: MonoMs,
    /// Until when it may take to give up partitions, and its epoch when it was asked to.
    pub(crate) revocation: Option<(MonoMs, Epoch)>,
    /// Until when a member of the classic protocol is to ask for its assignment, or to join again.
    pub(crate) classic_deadline: Option<MonoMs>,
}

/// What a member says about itself; stored as one record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Profile {
    pub(crate) instance: Option<InstanceId>,
    pub(crate) rack: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    /// Topics that it subscribes to by name.
    pub(crate) topics: BTreeSet<String>,
    /// Matches further topics.
    pub(crate) regex: Option<String>,
    /// How long it may take to give up partitions.
    pub(crate) rebalance_timeout_ms: i32,
    /// The assignor that it prefers.
    pub(crate) assignor: Option<String>,
    /// Set while it speaks the classic protocol.
    pub(crate) classic: Option<ClassicSide>,
}

/// What a member of the classic protocol says beside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClassicSide {
    pub(crate) session_timeout_ms: i32,
    pub(crate) protocols: Vec<Protocol>,
}

impl Member {
    pub(crate) fn new(id: MemberId, profile: Profile) -> Self {
        Self {
            id,
            profile,
            current: Current::default(),
            session_deadline: MonoMs::default(),
            revocation: None,
            classic_deadline: None,
        }
    }

    pub(crate) fn is_classic(&self) -> bool {
        self.profile.classic.is_some()
    }
}

impl Profile {
    /// Bytes that its texts hold.
    pub(crate) fn bytes(&self) -> usize {
        let optional = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let protocols = self.classic.iter().flat_map(|side| &side.protocols);
        let protocols = protocols.map(|own| own.name.len() + own.metadata.len());
        self.instance.as_ref().map_or(0, InstanceId::len)
            + optional(&self.rack)
            + self.client_id.len()
            + self.client_host.len()
            + self.topics.iter().map(String::len).sum::<usize>()
            + optional(&self.regex)
            + optional(&self.assignor)
            + protocols.sum::<usize>()
    }

    /// The longest of its texts.
    pub(crate) fn longest(&self) -> usize {
        let texts = [
            self.rack.as_deref(),
            self.regex.as_deref(),
            self.assignor.as_deref(),
            self.instance.as_ref().map(InstanceId::as_str),
            Some(&self.client_id),
            Some(&self.client_host),
        ];
        let topics = self.topics.iter().map(String::len);
        topics
            .chain(texts.into_iter().flatten().map(str::len))
            .max()
            .unwrap_or(0)
    }
}
