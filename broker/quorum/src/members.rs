//! Who votes: which change the quorum's membership needs next. Pure.
//!
//! Brokers 0, 1 and 2 vote once all three are members; before that, whoever formed the cluster votes alone, since two
//! voters survive the loss of neither. Everyone else learns. A voter that is about to leave the cluster makes room for
//! another broker, and where there are not three that stay, the first of them votes alone. A broker that comes back with
//! another disk takes the place of its old name, which is removed in the same change and never counted beside it.

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
    /// These vote, and no one else; voters that no longer do learn.
    Yield(BTreeSet<NodeId>),
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

/// The next step on the way to the right voters; `None` when they are right. `is_leaving` says whether a broker is about to
/// leave the cluster, `is_near` whether a node has nearly all of the log: one that has not would hold up every decision once
/// it counts.
pub fn settle(
    members: &Members,
    is_leaving: impl Fn(BrokerId) -> bool,
    is_near: impl Fn(NodeId) -> bool,
) -> Option<Change> {
    let wanted = wanted(members, is_leaving);
    if members.is_joint {
        return Some(vote(
            members,
            wanted.unwrap_or_else(|| members.voters.clone()),
        ));
    }
    let wanted = wanted?;
    let is_ready = wanted
        .iter()
        .all(|node| members.voters.contains(node) || is_near(*node));
    (wanted != members.voters && is_ready).then(|| vote(members, wanted))
}

/// Whether a step may be taken now: before fewer vote, each of them has to be alive. Where one of three votes alone, and its disk is lost, nothing
/// is ever decided again.
pub fn is_safe(members: &Members, change: &Change, is_alive: impl Fn(NodeId) -> bool) -> bool {
    match change {
        Change::Vote(voters) | Change::Yield(voters) => {
            voters.len() >= members.voters.len() || voters.iter().all(|node| is_alive(*node))
        }
        Change::Add(..) | Change::Move(..) | Change::Remove(_) => true,
    }
}

/// Whether those vote that should.
pub fn is_settled(members: &Members, is_leaving: impl Fn(BrokerId) -> bool) -> bool {
    !members.is_joint && wanted(members, is_leaving).is_none_or(|wanted| wanted == members.voters)
}

/// The next step on the way to a broker's being no member any more; `None` when it is none, or when nobody could vote in its
/// place.
pub fn expel(members: &Members, broker: BrokerId) -> Option<Change> {
    let is_its = |node: &&NodeId| node.broker == broker;
    if members.voters.iter().any(|node| is_its(&node)) {
        return settle(members, |id| id == broker, |_| true);
    }
    let nodes: BTreeSet<NodeId> = members.nodes.keys().filter(is_its).copied().collect();
    (!nodes.is_empty()).then_some(Change::Remove(nodes))
}

/// These vote from here on. The old name of a broker that votes under another is gone; who votes no more for other reasons
/// still learns.
fn vote(members: &Members, voters: BTreeSet<NodeId>) -> Change {
    let is_old_name = |gone: &NodeId| voters.iter().any(|node| node.broker == gone.broker);
    if members.voters.difference(&voters).all(is_old_name) {
        Change::Vote(voters)
    } else {
        Change::Yield(voters)
    }
}

/// Who should vote; `None`: nobody else than now.
fn wanted(members: &Members, is_leaving: impl Fn(BrokerId) -> bool) -> Option<BTreeSet<NodeId>> {
    let mut names: BTreeMap<BrokerId, Vec<NodeId>> = BTreeMap::new();
    for node in members.nodes.keys() {
        names.entry(node.broker).or_default().push(*node);
    }
    // Of one that has two names it is not settled which disk it has.
    let staying: BTreeMap<BrokerId, NodeId> = names
        .into_iter()
        .filter(|(broker, names)| names.len() == 1 && !is_leaving(*broker))
        .map(|(broker, names)| (broker, names[0]))
        .collect();
    let first = VOTERS.iter().map(|broker| staying.get(broker).copied());
    if let Some(first) = first.collect::<Option<BTreeSet<NodeId>>>() {
        return Some(first);
    }
    if !members.voters.iter().any(|node| is_leaving(node.broker)) {
        return None;
    }
    let votes = |node: &&NodeId| members.voters.contains(*node);
    let (now, others): (Vec<_>, Vec<_>) = staying.values().partition(votes);
    let mut order = now.into_iter().chain(others).copied();
    let three: BTreeSet<NodeId> = order.by_ref().take(VOTERS.len()).collect();
    if three.len() == VOTERS.len() {
        return Some(three);
    }
    three.first().map(|first| BTreeSet::from([*first]))
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

    fn stays(_: BrokerId) -> bool {
        false
    }

    #[test]
    fn nobody_is_left_to_vote_alone_who_is_away() {
        let (a, b, c) = (node(0, 1), node(1, 1), node(2, 1));
        let before = members(&[a, b, c], &[a, b, c]);
        let alone = Change::Yield([a].into());
        assert_eq!(
            settle(&before, |broker| broker == BrokerId(1), |_| true),
            Some(Change::Yield([a].into()))
        );
        assert!(is_safe(&before, &alone, |node| node == a));
        assert!(!is_safe(&before, &alone, |node| node != a));
        let grown = Change::Vote([a, b, c].into());
        assert!(is_safe(&members(&[a], &[a, b, c]), &grown, |node| node == a));
    }

    #[test]
    fn a_voter_that_leaves_makes_room_for_another_broker_and_comes_back_when_it_stays() {
        let (a, b, c, d, e) = (node(0, 1), node(1, 1), node(2, 1), node(3, 1), node(4, 1));
        let all = [a, b, c, d, e];
        let leaves = |id: BrokerId| move |broker: BrokerId| broker == id;
        let before = members(&[a, b, c], &all);
        assert_eq!(
            settle(&before, leaves(BrokerId(1)), |_| true),
            Some(Change::Yield([a, c, d].into()))
        );
        assert_eq!(settle(&before, leaves(BrokerId(1)), |node| node != d), None);
        assert_eq!(settle(&before, leaves(BrokerId(4)), |_| true), None);
        let without = members(&[a, c, d], &all);
        assert_eq!(settle(&without, leaves(BrokerId(1)), |_| true), None);
        assert_eq!(
            settle(&without, stays, |_| true),
            Some(Change::Yield([a, b, c].into()))
        );
        let gone = members(&[a, c, d], &[a, c, d, e]);
        assert_eq!(
            settle(&gone, stays, |_| true),
            None,
            "who took the place keeps it"
        );
        assert_eq!(
            settle(&gone, leaves(BrokerId(3)), |_| true),
            Some(Change::Yield([a, c, e].into()))
        );
    }

    #[test]
    fn before_fewer_than_three_are_left_one_votes_alone() {
        let (a, b, c) = (node(0, 1), node(1, 1), node(2, 1));
        let before = members(&[a, b, c], &[a, b, c]);
        let last = |broker: BrokerId| broker == BrokerId(2);
        let alone = Some(Change::Yield([a].into()));
        assert_eq!(settle(&before, last, |_| true), alone);
        assert_eq!(
            settle(&before, |broker| broker != BrokerId(0), |_| true),
            alone
        );
        assert_eq!(
            settle(&before, |broker| broker == BrokerId(0), |_| true),
            Some(Change::Yield([b].into()))
        );
        assert_eq!(settle(&members(&[a], &[a, b, c]), last, |_| true), None);
        assert_eq!(
            settle(&before, |_| true, |_| true),
            None,
            "somebody has to vote"
        );
        assert_eq!(settle(&members(&[a], &[a, b]), stays, |_| true), None);
    }

    #[test]
    fn a_broker_is_expelled_once_it_does_not_vote() {
        let (a, b, c, d) = (node(0, 1), node(1, 1), node(2, 1), node(3, 1));
        let all = members(&[a, b, c], &[a, b, c, d]);
        assert_eq!(expel(&all, BrokerId(3)), Some(Change::Remove([d].into())));
        assert_eq!(
            expel(&all, BrokerId(1)),
            Some(Change::Yield([a, c, d].into()))
        );
        let yielded = members(&[a, c, d], &[a, b, c, d]);
        assert_eq!(
            expel(&yielded, BrokerId(1)),
            Some(Change::Remove([b].into()))
        );
        assert_eq!(expel(&members(&[a, c, d], &[a, c, d]), BrokerId(1)), None);
        assert_eq!(
            expel(&members(&[a], &[a]), BrokerId(0)),
            None,
            "nobody is left to vote"
        );
    }

    #[test]
    fn one_votes_until_three_are_there() {
        let (a, b, c) = (node(0, 1), node(1, 1), node(2, 1));
        assert_eq!(settle(&members(&[a], &[a, b]), stays, |_| true), None);
        assert_eq!(
            settle(&members(&[a], &[a, b, node(3, 1)]), stays, |_| true),
            None
        );
        assert_eq!(
            settle(&members(&[a], &[a, b, c]), stays, |_| true),
            Some(Change::Vote([a, b, c].into()))
        );
        assert_eq!(
            settle(&members(&[a], &[a, b, c]), stays, |node| node != c),
            None
        );
        assert_eq!(
            settle(&members(&[a, b, c], &[a, b, c, node(3, 1)]), stays, |_| {
                true
            }),
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
        assert_eq!(settle(&added, stays, |_| true), None);
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
