//! Assignors: from members, their subscriptions and what they were to have before, to what they are to have now.
//!
//! Pure and deterministic: the same [`Spec`] gives the same [`Assignment`] on every broker. What always holds: every
//! partition of a topic that somebody subscribes to is given to a subscriber of it, and (`range`, `uniform`) to one only.

mod range;
mod simple;
mod uniform;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

pub(crate) use range::range;
pub(crate) use simple::simple;
pub(crate) use uniform::uniform;
use weir_wire::TopicId;

use super::Partitions;
use crate::types::{InstanceId, MemberId};

/// What an assignor is told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spec {
    /// The members, by id.
    pub(crate) members: BTreeMap<MemberId, MemberSpec>,
    /// How many partitions each topic has that some member subscribes to. Others do not exist.
    pub(crate) topics: BTreeMap<TopicId, i32>,
}

/// A member as an assignor sees it.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemberSpec {
    /// Set for static members.
    pub(crate) instance: Option<InstanceId>,
    /// The topics of [`Spec::topics`] that it subscribes to.
    pub(crate) topics: BTreeSet<TopicId>,
    /// What it was to have until now.
    pub(crate) before: Partitions,
}

/// What each member of the [`Spec`] is to have; each of them is there.
pub(crate) type Assignment = BTreeMap<MemberId, Partitions>;

impl Spec {
    /// The members that subscribe to `topic`, by id.
    fn subscribers(&self, topic: TopicId) -> impl Iterator<Item = (&MemberId, &MemberSpec)> {
        self.members
            .iter()
            .filter(move |(_, member)| member.topics.contains(&topic))
    }

    /// Nobody has anything.
    fn nothing(&self) -> Assignment {
        self.members
            .keys()
            .map(|member| (member.clone(), Partitions::new()))
            .collect()
    }
}

/// Computes an assignment.
pub(crate) type Assignor = fn(&Spec) -> Assignment;

/// The assignors that members of consumer groups may ask for; the first is the default.
pub(crate) const CONSUMER_ASSIGNORS: [(&str, Assignor); 2] =
    [("uniform", uniform), ("range", range)];
