//! Who leads and who votes, out of openraft's metrics; and the log's size, which openraft does not watch.

use std::collections::BTreeSet;
use std::time::Duration;

use openraft::RaftMetrics;
use openraft::error::Fatal;
use tokio::sync::watch;
use tokio::time::Instant;

use super::errors::reason;
use crate::ids::NodeId;
use crate::members::Members;
use crate::raft::log_file::LogReader;
use crate::raft::types::{Membership, Peer, Raft};

/// Who leads and who votes, as far as a node knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The leader.
    pub leader: Option<NodeId>,
    /// Its term.
    pub term: u64,
    /// Whether that is this node.
    pub is_leader: bool,
    /// When this node, a leader, sent what a majority last said to have heard. That it changes is not told.
    pub heard_by_majority: Option<Instant>,
    /// The members.
    pub members: Members,
    /// Set when the node has stopped for good: its disk failed, or it met metadata that it does not understand. The
    /// process has to end.
    pub failed: Option<String>,
}

impl Status {
    /// Whether this node leads and there is nobody else, so that nobody waits to hear from it and nobody else can lead.
    pub fn is_alone(&self) -> bool {
        let members = &self.members;
        self.is_leader
            && members.nodes.keys().eq(&self.leader)
            && members.voters.iter().eq(&self.leader)
    }

    /// Where the leader is reached.
    pub fn leader_address(&self) -> Option<&str> {
        self.members
            .nodes
            .get(self.leader.as_ref()?)
            .map(String::as_str)
    }
}

/// Turns openraft's metrics into [`Status`], which changes only when something that matters does, keeps the log below
/// `log_bytes_max`, and stops the clock of a node that is alone. Ends when the node stops, or when no one follows it any more.
pub(super) fn follow(
    raft: Raft,
    me: NodeId,
    log: LogReader,
    log_bytes_max: u64,
) -> watch::Receiver<Status> {
    let mut metrics = raft.metrics();
    let (sender, receiver) = watch::channel(read(me, &metrics.borrow()));
    let mut tidying = Tidying::new(log, log_bytes_max);
    tokio::spawn(async move {
        loop {
            let (status, step) = {
                let metrics = metrics.borrow_and_update();
                (read(me, &metrics), tidying.next(&metrics))
            };
            // Whoever leads nobody has no use for the clock of heartbeats and elections, by far the most that an idle broker does.
            raft.runtime_config().tick(!status.is_alone());
            sender.send_if_modified(|old| {
                old.heard_by_majority = status.heard_by_majority;
                let changed = *old != status;
                *old = status;
                changed
            });
            // A node that has stopped says so below.
            let _ = match step {
                Some(Step::Snapshot) => raft.trigger().snapshot().await,
                Some(Step::Purge(upto)) => raft.trigger().purge_log(upto).await,
                None => Ok(()),
            };
            tokio::select! {
                () = sender.closed() => return,
                changed = metrics.changed() => if changed.is_err() {
                    let mut ended = read(me, &metrics.borrow());
                    // One that stops in good order says so; this one has panicked.
                    if metrics.borrow().running_state.is_ok() {
                        ended.failed = Some("the quorum's node ended unexpectedly".to_owned());
                    }
                    sender.send_replace(ended);
                    return;
                }
            }
        }
    });
    receiver
}

fn read(me: NodeId, metrics: &RaftMetrics<NodeId, Peer>) -> Status {
    Status {
        leader: metrics.current_leader,
        term: metrics.current_term,
        is_leader: metrics.current_leader == Some(me) && metrics.state.is_leader(),
        heard_by_majority: heard_by_majority(metrics),
        members: members_of(metrics.membership_config.membership()),
        failed: match &metrics.running_state {
            Ok(()) | Err(Fatal::Stopped) => None,
            Err(fatal) => Some(reason(fatal)),
        },
    }
}

/// Metrics are read as soon as they are reported, so what they count from is now.
fn heard_by_majority(metrics: &RaftMetrics<NodeId, Peer>) -> Option<Instant> {
    let since = Duration::from_millis(metrics.millis_since_quorum_ack?);
    Instant::now().checked_sub(since)
}

/// What the log needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Snapshot,
    Purge(u64),
}

/// Watches the log's size: openraft counts entries, and one entry may hold ten thousand records.
struct Tidying {
    log: LogReader,
    log_bytes_max: u64,
    /// The newest snapshot when another was asked for.
    asked_after: Option<Option<u64>>,
    purge_asked: Option<u64>,
}

impl Tidying {
    fn new(log: LogReader, log_bytes_max: u64) -> Self {
        Self {
            log,
            log_bytes_max,
            asked_after: None,
            purge_asked: None,
        }
    }

    fn next(&mut self, metrics: &RaftMetrics<NodeId, Peer>) -> Option<Step> {
        let index = |id: Option<crate::raft::types::LogId>| id.map(|id| id.index);
        let (snapshot, purged) = (index(metrics.snapshot), index(metrics.purged));
        if self.log.bytes() <= self.log_bytes_max {
            return None;
        }
        if snapshot > purged {
            let asked = std::mem::replace(&mut self.purge_asked, snapshot);
            return snapshot.filter(|_| asked != snapshot).map(Step::Purge);
        }
        if index(metrics.last_applied) > snapshot && self.asked_after != Some(snapshot) {
            self.asked_after = Some(snapshot);
            return Some(Step::Snapshot);
        }
        None
    }
}

pub(super) fn members_of(membership: &Membership) -> Members {
    let voters: BTreeSet<NodeId> = membership.voter_ids().collect();
    Members {
        voters,
        nodes: membership
            .nodes()
            .map(|(node, peer)| (*node, peer.address.clone()))
            .collect(),
        is_joint: membership.get_joint_config().len() > 1,
    }
}
