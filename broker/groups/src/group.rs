//! One group of any type: what all groups have in common, and the state that is its type's own.
//!
//! Owns the group's offsets and its place in the coordinator's list of wakes; [`Kind`] owns the members. What is the
//! same for every type (offsets, expiry, listing, deletion) asks the kind through a few questions and lives in
//! `offsets`, `expiry` and `describe`; what differs is dispatched here. A group that only ever kept offsets is a classic
//! one, as in Kafka, and becomes what the first member makes of it.
//!
//! # Another type of group
//!
//! Add a variant to [`Kind`] and to [`GroupType`], answer each question of `impl Kind`, add the requests that are the
//! type's own to `request` and their dispatch to `coordinator`, the stored records to `stored`, and their replay to
//! `loader`. The types whose members are assigned by the coordinator share the blocks of [`crate::modern`], which says
//! what a share group needs.

use std::collections::BTreeSet;

use weir_wire::TopicId;

use crate::classic::Classic;
use crate::consumer::Consumer;
use crate::error::GroupError;
use crate::offsets::Offsets;
use crate::outbox::Turn;
use crate::pending::PendingOffsets;
use crate::request::{CommitRequest, Consumption, Description, GroupState, GroupType, TopicRef};
use crate::reset::DoneReset;
use crate::share::group::{SHARE, ShareGroup};
use crate::stored::StoredRecord;
use crate::types::{Generation, GroupId, MemberId, MonoMs};

/// A group.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) id: GroupId,
    pub(crate) offsets: Offsets,
    pub(crate) pending: PendingOffsets,
    /// The last that were carried out, in their order.
    pub(crate) resets: Vec<DoneReset>,
    pub(crate) kind: Kind,
    /// Under which moment the coordinator's list of wakes has the group.
    pub(crate) listed_at: Option<MonoMs>,
}

/// The members of a group, by the protocol that they follow.
#[derive(Debug)]
pub(crate) enum Kind {
    /// Members assign (KIP-62 and its like).
    Classic(Box<Classic>),
    /// The coordinator assigns (KIP-848).
    Consumer(Box<Consumer>),
    /// The coordinator assigns, partitions to many members at once (KIP-932).
    Share(Box<ShareGroup>),
}

/// From when the retention of a group's offsets counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    /// They do not expire now.
    Never,
    /// From each offset's commit.
    Commit,
    /// From the moment at which the group became empty, in milliseconds since 1970.
    Moment(i64),
}

impl Group {
    /// A group without members or offsets.
    pub(crate) fn new(id: GroupId) -> Self {
        Self {
            kind: Kind::Classic(Box::new(Classic::new(id.clone()))),
            offsets: Offsets::default(),
            pending: PendingOffsets::default(),
            resets: Vec::new(),
            listed_at: None,
            id,
        }
    }

    /// Nothing would be lost if it were forgotten.
    pub(crate) fn is_blank(&self) -> bool {
        !self.kind.is_stored()
            && self.kind.is_deserted()
            && self.keeps_nothing()
            && self.resets.is_empty()
    }

    /// Every topic of which it keeps offsets or states, each id once.
    pub(crate) fn topics(&self) -> impl Iterator<Item = TopicRef> {
        let committed = self.offsets.topics().flat_map(|(name, partitions)| {
            let ids: BTreeSet<TopicId> =
                partitions.values().map(|offset| offset.topic_id).collect();
            ids.into_iter().map(|id| TopicRef {
                name: name.to_owned(),
                id,
            })
        });
        let share = match &self.kind {
            Kind::Share(share) => Some(share),
            Kind::Classic(_) | Kind::Consumer(_) => None,
        };
        let states = share.into_iter().flat_map(|share| &share.states);
        committed.chain(states.map(|(id, stated)| TopicRef {
            name: stated.name.to_string(),
            id: *id,
        }))
    }

    /// It has no offsets, and is to get none.
    pub(crate) fn keeps_nothing(&self) -> bool {
        self.offsets.is_empty() && self.pending.is_empty()
    }

    /// The members, of a classic group.
    pub(crate) fn classic(&mut self) -> Option<&mut Classic> {
        match &mut self.kind {
            Kind::Classic(classic) => Some(classic),
            Kind::Consumer(_) | Kind::Share(_) => None,
        }
    }
}

impl Kind {
    /// As Kafka names it.
    pub(crate) fn group_type(&self) -> GroupType {
        match self {
            Self::Classic(_) => GroupType::Classic,
            Self::Consumer(_) => GroupType::Consumer,
            Self::Share(_) => GroupType::Share,
        }
    }

    pub(crate) fn state(&self) -> GroupState {
        match self {
            Self::Classic(group) => group.state(),
            Self::Consumer(group) => group.state(),
            Self::Share(group) => group.state(),
        }
    }

    /// `consumer`, `connect`, ...; empty for a group that only keeps offsets.
    pub(crate) fn protocol_type(&self) -> &str {
        match self {
            Self::Classic(group) => group.protocol_type.as_deref().unwrap_or_default(),
            Self::Consumer(_) => crate::classic::CONSUMER,
            Self::Share(_) => SHARE,
        }
    }

    /// The group as everyone may see it.
    pub(crate) fn describe(&self) -> Description {
        match self {
            Self::Classic(group) => group.describe(),
            Self::Consumer(group) => group.describe(),
            Self::Share(group) => group.describe(),
        }
    }

    /// Whether its members read, as far as the coordinator has a say in it. `is_paused` is what was asked for.
    pub(crate) fn consumption(&self, is_paused: bool) -> Consumption {
        let (may_be_paused, is_idle) = match self {
            Self::Classic(group) => (group.may_be_paused(), group.is_idle()),
            Self::Consumer(group) => (true, group.is_idle()),
            Self::Share(group) => (true, group.is_idle()),
        };
        match (is_paused, may_be_paused, is_idle) {
            (false, _, _) => Consumption::Running,
            (true, false, _) => Consumption::NotPausable,
            (true, true, true) => Consumption::Paused,
            (true, true, false) => Consumption::Pausing,
        }
    }

    /// Everybody who is in it, or about to be.
    pub(crate) fn member_ids(&self) -> Vec<&MemberId> {
        match self {
            Self::Classic(group) => group.members.keys().chain(group.pending.keys()).collect(),
            Self::Consumer(group) => group.members.keys().collect(),
            Self::Share(group) => group.members.keys().collect(),
        }
    }

    /// Something of it beside its offsets is in the log, so that its end must be too.
    pub(crate) fn is_stored(&self) -> bool {
        match self {
            Self::Classic(group) => group.stored,
            Self::Consumer(group) => group.is_stored(),
            Self::Share(group) => group.is_stored(),
        }
    }

    /// It has no members.
    pub(crate) fn is_empty(&self) -> bool {
        self.state() == GroupState::Empty
    }

    /// It has no members, and nobody is about to be one.
    pub(crate) fn is_deserted(&self) -> bool {
        match self {
            Self::Classic(group) => group.is_deserted(),
            Self::Consumer(group) => group.is_empty(),
            // One with states is kept until it is deleted: nothing else knows of them.
            Self::Share(group) => group.is_empty() && group.states.is_empty(),
        }
    }

    /// The end of everything that is stored of it, its offsets aside.
    pub(crate) fn end(&self, turn: &mut Turn<'_>) {
        match self {
            Self::Classic(group) => turn.out.emit(StoredRecord::group_tombstone(&group.id)),
            Self::Consumer(group) => group.end(turn),
            Self::Share(group) => group.end(turn),
        }
    }

    /// Whether some member reads `topic`, so that its offsets must stay.
    pub(crate) fn is_subscribed_to(&self, topic: &str) -> bool {
        match self {
            Self::Classic(group) => group.is_subscribed_to(topic),
            Self::Consumer(group) => group.is_subscribed_to(topic),
            Self::Share(group) => group.is_subscribed_to(topic),
        }
    }

    /// From when the retention of its offsets counts.
    pub(crate) fn retained_since(&self) -> Since {
        match self {
            Self::Classic(group) => group.retained_since(),
            Self::Consumer(_) | Self::Share(_) => Since::Commit,
        }
    }

    /// Whether offsets may be deleted while it has members.
    pub(crate) fn may_delete_offsets(&self) -> bool {
        self.is_empty() || self.protocol_type() == crate::classic::CONSUMER
    }

    /// Whether these offsets may be committed by whoever asks.
    pub(crate) fn check_commit(
        &mut self,
        turn: &Turn<'_>,
        request: &CommitRequest,
        is_transactional: bool,
    ) -> Result<(), GroupError> {
        let is_nobody = request.generation < Generation(0)
            && request.member.is_empty()
            && request.instance.is_none();
        if is_transactional && is_nobody && !matches!(self, Self::Share(_)) {
            // Producers need not know the group's members (before KIP-447).
            return Ok(());
        }
        match self {
            Self::Classic(group) => group.check_commit(turn, request, is_transactional),
            Self::Consumer(group) => group.check_commit(request, is_transactional),
            // Its members acknowledge instead.
            Self::Share(_) => Err(GroupError::GroupIdNotFound),
        }
    }

    /// Goes on after loading.
    pub(crate) fn resume(&mut self, turn: &mut Turn<'_>) {
        match self {
            Self::Classic(group) => group.resume(turn),
            Self::Consumer(group) => group.resume(turn),
            Self::Share(group) => group.resume(turn),
        }
    }

    /// Acts on every deadline that has passed.
    pub(crate) fn tick(&mut self, turn: &mut Turn<'_>) {
        match self {
            Self::Classic(group) => group.tick(turn),
            Self::Consumer(group) => group.tick(turn),
            Self::Share(group) => group.tick(turn),
        }
    }

    /// When it wants to be looked at, at the latest.
    pub(crate) fn wake_at(&self) -> Option<MonoMs> {
        match self {
            Self::Classic(group) => group.wake_at,
            Self::Consumer(group) => group.wake_at(),
            Self::Share(group) => group.wake_at(),
        }
    }
}
