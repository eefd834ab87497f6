//! Who votes: which change the quorum's membership needs next. Pure.
//!
//! Brokers 0, 1 and 2 vote once all three are members; before that, whoever formed the cluster votes alone, since two
//! voters survive the loss of neither. Everyone else learns. A broker that comes back with another disk takes the place
//! of its old name, which is removed in the same change and never counted beside it.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{BrokerId, NodeId};

/// The brokers that vote in a cluster of three and more.
pub const VOTERS: [BrokerId; 3] = [BrokerId(0), BrokerId(1), BrokerId(2)];

/// The quorum's members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// Those that vote; during a change, by the old or the new rule.
    pub voters: BTreeSet<NodeId>,
    /// All, and where they are reached.
    pub nodes: BTreeMap<NodeId, String>,
    /// Whether a change of voters is half done.
    pub is_joint: bool,
}

/// One step of membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Takes a node in, as a learner.
    Add(NodeId, String),
    /// A node is reached elsewhere.
    Move(NodeId, String),
    /// These vote, and no one else; voters that no longer do are removed.
    Vote(BTreeSet<NodeId>),
    /// These are gone.
    Remove(BTreeSet<NodeId>),
}

/// The next step on the way to `node` being a member at `address`; `None` when it is one. Whoever asks has made sure
/// that no other node of the same broker is alive.
pub fn admit(members: &Members, node: NodeId, address: &str) -> Option<Change> {
    match members.nodes.get(&node) {
        None => return Some(Change::Add(node, address.to_owned())),
        Some(known) if known != address => return Some(Change::Move(node, address.to_owned())),
        Some(_) => {}
    }
    let old: BTreeSet<NodeId> = members
        .nodes
        .keys()
        .copied()
        .filter(|other| other.broker == node.broker && *other != node)
        .collect();
    if old.iter().any(|other| members.voters.contains(other)) {
        let mut voters: BTreeSet<NodeId> = members.voters.difference(&old).copied().collect();
        voters.insert(node);
        return Some(Change::Vote(voters));
    }
    (!old.is_empty()).then_some(Change::Remove(old))
}

/// The next step on the way to the right voters; `None` when they are right. `is_near` says whether a node has nearly
/// all of the log: one that has not would hold up every decision once it counts.
pub fn settle(members: &Members, is_near: impl Fn(NodeId) -> bool) -> Option<Change> {
    if members.is_joint {
        return Some(Change::Vote(
            wanted(members).unwrap_or_else(|| members.voters.clone()),
        ));
    }
    let wanted = wanted(members)?;
    let is_ready = wanted
        .iter()
        .all(|node| members.voters.contains(node) || is_near(*node));
    (wanted != members.voters && is_ready).then_some(Change::Vote(wanted))
}

/// Whether those vote that should.
pub fn is_settled(members: &Members) -> bool {
    !members.is_joint && wanted(members).is_none_or(|wanted| wanted == members.voters)
}

/// The nodes of the brokers 0 to 2, if all three are members under one name each.
fn wanted(members: &Members) -> Option<BTreeSet<NodeId>> {
    let one = |broker: BrokerId| {
        let mut nodes = members.nodes.keys().filter(|node| node.broker == broker);
        nodes.next().copied().filter(|_| nodes.next().is_none())
    };
    VOTERS.into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::ids::Incarnation;

    fn node(broker: i32, disk: u128) -> NodeId {
        NodeId {
            broker: BrokerId(broker),
            incarnation: Incarnation(Uuid::from_u128(disk)),
        }
    }

    fn members(voters: &[NodeId], all: &[NodeId]) -> Members {
        Members {
            voters: voters.iter().copied().collect(),
            nodes: all
                .iter()
                .map(|node| (*node, format!("host{}:1", node.broker)))
                .collect(),
            is_joint: false,
        }
    }

    #[test]
    fn one_votes_until_three_are_there() {
        let (a, b, c) = (node(0, 1), node(1, 1), node(2, 1));
        assert_eq!(settle(&members(&[a], &[a, b]), |_| true), None);
        assert_eq!(settle(&members(&[a], &[a, b, node(3, 1)]), |_| true), None);
        assert_eq!(
            settle(&members(&[a], &[a, b, c]), |_| true),
            Some(Change::Vote([a, b, c].into()))
        );
        assert_eq!(settle(&members(&[a], &[a, b, c]), |node| node != c), None);
        assert_eq!(
            settle(&members(&[a, b, c], &[a, b, c, node(3, 1)]), |_| true),
            None
        );
    }

    #[test]
    fn a_wiped_voter_takes_the_place_of_its_old_name_in_one_change() {
        let (a, b, c, wiped) = (node(0, 1), node(1, 1), node(2, 1), node(1, 2));
        let before = members(&[a, b, c], &[a, b, c]);
        assert_eq!(
            admit(&before, wiped, "host1:1"),
            Some(Change::Add(wiped, "host1:1".into()))
        );
        let added = members(&[a, b, c], &[a, b, c, wiped]);
        assert_eq!(settle(&added, |_| true), None);
        assert_eq!(
            admit(&added, wiped, "host1:1"),
            Some(Change::Vote([a, c, wiped].into()))
        );
        assert_eq!(
            admit(&members(&[a, c, wiped], &[a, c, wiped]), wiped, "host1:1"),
            None
        );
    }

    #[test]
    fn a_wiped_learners_old_name_is_removed() {
        let (a, old, new) = (node(0, 1), node(4, 1), node(4, 2));
        assert_eq!(
            admit(&members(&[a], &[a, old, new]), new, "host4:1"),
            Some(Change::Remove([old].into()))
        );
    }

    #[test]
    fn a_member_that_moved_is_found_elsewhere() {
        let a = node(0, 1);
        assert_eq!(
            admit(&members(&[a], &[a]), a, "new:1"),
            Some(Change::Move(a, "new:1".into()))
        );
        assert_eq!(admit(&members(&[a], &[a]), a, "host0:1"), None);
    }
}
