//! Share sessions (KIP-932): which partitions a member fetches from, so that its requests need only say what changes.
//!
//! A session belongs to a member of a group and to the connection on which it was opened. Its epoch grows with every
//! request, so that one that was lost, or came twice, is noticed. What always holds: there are no more sessions than the
//! bound says, and none names more partitions than its bound says.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use weir_groups::{GroupId, MemberId};
use weir_wire::messages::ErrorCode;
use weir_wire::{PartitionIndex, TopicId};

/// Partitions of one session: as many as one broker is to lead. Each takes some fifty bytes.
const PARTITIONS_MAX: usize = 10_000;

/// Whose session.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SessionKey {
    pub(super) group: GroupId,
    pub(super) member: MemberId,
}

/// One partition of one topic.
pub(super) type TopicPartition = (TopicId, PartitionIndex);

/// Names a connection, each once in the life of the process.
pub(super) type ConnectionId = u64;

#[derive(Debug)]
struct Session {
    epoch: i32,
    partitions: BTreeSet<TopicPartition>,
    /// Partitions that it does not fetch from any more; the member may still have something of them.
    left: BTreeSet<TopicPartition>,
    connection: ConnectionId,
}

/// What a request means to its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It was opened: everything is to be told of these partitions. The member left others, if it had a session before.
    Opened {
        partitions: Vec<TopicPartition>,
        left: Vec<TopicPartition>,
    },
    /// It goes on: what is new is to be told.
    Continued(Vec<TopicPartition>),
    /// It is over: what the member had of these may go to others.
    Closed(Vec<TopicPartition>),
}

/// Why a request does not fit its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SessionError {
    #[error("there is no such share session")]
    NotFound,
    #[error("the share session's epoch is another")]
    Epoch,
    #[error("the bound on share sessions is reached")]
    Limit,
    #[error("the first request of a share session has nothing to acknowledge")]
    EarlyAcknowledgement,
    #[error("the share session names too many partitions")]
    Partitions,
}

impl SessionError {
    pub(super) const fn code(self) -> ErrorCode {
        match self {
            Self::NotFound => ErrorCode::ShareSessionNotFound,
            Self::Epoch => ErrorCode::InvalidShareSessionEpoch,
            Self::Limit => ErrorCode::ShareSessionLimitReached,
            Self::EarlyAcknowledgement | Self::Partitions => ErrorCode::InvalidRequest,
        }
    }
}

/// A request's epoch that opens a session, and one that closes it.
const OPENS: i32 = 0;
const CLOSES: i32 = -1;

/// What a fetch says of its session.
#[derive(Debug)]
pub(super) struct Change<'a> {
    pub(super) epoch: i32,
    pub(super) add: &'a [TopicPartition],
    pub(super) forget: &'a [TopicPartition],
    pub(super) acknowledges: bool,
    pub(super) connection: ConnectionId,
}

/// The sessions of this broker.
#[derive(Debug)]
pub(super) struct Sessions {
    sessions: BTreeMap<SessionKey, Session>,
    sessions_max: usize,
    /// How many sessions of a group have a partition.
    uses: BTreeMap<(GroupId, TopicPartition), usize>,
}

impl Sessions {
    pub(super) fn new(sessions_max: usize) -> Self {
        Self {
            sessions: BTreeMap::new(),
            sessions_max,
            uses: BTreeMap::new(),
        }
    }

    /// A ShareFetch.
    pub(super) fn fetch(
        &mut self,
        key: &SessionKey,
        change: &Change<'_>,
    ) -> Result<Step, SessionError> {
        match change.epoch {
            OPENS => self.open(key, change),
            CLOSES => self.close(key),
            _ => {
                let session = self.current(key, change.epoch)?;
                if session.partitions.len() + change.add.len() > PARTITIONS_MAX {
                    return Err(SessionError::Partitions);
                }
                session.epoch = next(session.epoch);
                session.connection = change.connection;
                self.change(key, change);
                let session = self.sessions.get(key);
                Ok(Step::Continued(
                    session.map_or_else(Vec::new, Session::turn),
                ))
            }
        }
    }

    /// A ShareAcknowledge.
    pub(super) fn acknowledge(
        &mut self,
        key: &SessionKey,
        epoch: i32,
    ) -> Result<Step, SessionError> {
        match epoch {
            OPENS => Err(SessionError::Epoch),
            CLOSES => self.close(key),
            _ => {
                let session = self.current(key, epoch)?;
                session.epoch = next(session.epoch);
                Ok(Step::Continued(Vec::new()))
            }
        }
    }

    /// A connection is gone, and with it the sessions that were last used on it. Their partitions are given back.
    pub(super) fn lost(
        &mut self,
        connection: ConnectionId,
    ) -> Vec<(SessionKey, Vec<TopicPartition>)> {
        let lost = self
            .sessions
            .iter()
            .filter(|(_, session)| session.connection == connection);
        let keys: Vec<_> = lost.map(|(key, _)| key.clone()).collect();
        let parted = keys.into_iter().filter_map(|key| {
            let partitions = self.remove(&key)?;
            Some((key, partitions))
        });
        parted.collect()
    }

    /// Whether the member has a session.
    pub(super) fn has(&self, key: &SessionKey) -> bool {
        self.sessions.contains_key(key)
    }

    /// Whether some session of the group has the partition.
    pub(super) fn uses(&self, group: &GroupId, partition: TopicPartition) -> bool {
        self.uses.contains_key(&(group.clone(), partition))
    }

    /// Adds and forgets partitions of a session.
    fn change(&mut self, key: &SessionKey, change: &Change<'_>) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        for partition in change.add {
            session.left.remove(partition);
            if session.partitions.insert(*partition) {
                *self
                    .uses
                    .entry((key.group.clone(), *partition))
                    .or_default() += 1;
            }
        }
        for partition in change.forget {
            if session.partitions.remove(partition) {
                release(&mut self.uses, &key.group, *partition);
                // Of those beyond it locks have to end.
                if session.left.len() < PARTITIONS_MAX {
                    session.left.insert(*partition);
                }
            }
        }
    }

    /// Ends a session. Partitions of which its member may have something.
    fn remove(&mut self, key: &SessionKey) -> Option<Vec<TopicPartition>> {
        let session = self.sessions.remove(key)?;
        for partition in &session.partitions {
            release(&mut self.uses, &key.group, *partition);
        }
        Some(session.partitions.into_iter().chain(session.left).collect())
    }

    fn open(&mut self, key: &SessionKey, change: &Change<'_>) -> Result<Step, SessionError> {
        if change.acknowledges {
            return Err(SessionError::EarlyAcknowledgement);
        }
        if change.add.len() > PARTITIONS_MAX {
            return Err(SessionError::Partitions);
        }
        let before = self.remove(key).unwrap_or_default();
        if self.sessions.len() >= self.sessions_max {
            return Err(SessionError::Limit);
        }
        let session = Session {
            epoch: next(OPENS),
            partitions: BTreeSet::new(),
            left: before.into_iter().take(PARTITIONS_MAX).collect(),
            connection: change.connection,
        };
        self.sessions.insert(key.clone(), session);
        self.change(key, change);
        let session = self.sessions.get(key);
        Ok(Step::Opened {
            partitions: session.map_or_else(Vec::new, Session::turn),
            left: session.map_or_else(Vec::new, |session| session.left.iter().copied().collect()),
        })
    }

    fn close(&mut self, key: &SessionKey) -> Result<Step, SessionError> {
        let partitions = self.remove(key).ok_or(SessionError::NotFound)?;
        Ok(Step::Closed(partitions))
    }

    fn current(&mut self, key: &SessionKey, epoch: i32) -> Result<&mut Session, SessionError> {
        let session = self.sessions.get_mut(key).ok_or(SessionError::NotFound)?;
        if session.epoch == epoch {
            Ok(session)
        } else {
            Err(SessionError::Epoch)
        }
    }
}

impl Session {
    /// The partitions, another one first each time, so that none starves behind a busy one.
    fn turn(&self) -> Vec<TopicPartition> {
        let mut partitions: Vec<_> = self.partitions.iter().copied().collect();
        if !partitions.is_empty() {
            let first = usize::try_from(self.epoch).unwrap_or_default() % partitions.len();
            partitions.rotate_left(first);
        }
        partitions
    }
}

fn release(
    uses: &mut BTreeMap<(GroupId, TopicPartition), usize>,
    group: &GroupId,
    partition: TopicPartition,
) {
    if let Entry::Occupied(mut count) = uses.entry((group.clone(), partition)) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}

/// The epoch of the request after this one's. After the greatest the numbers begin anew with 1.
fn next(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn key(member: &str) -> SessionKey {
        SessionKey {
            group: "g".into(),
            member: member.into(),
        }
    }

    fn partition(index: i32) -> TopicPartition {
        (TopicId::ZERO, PartitionIndex(index))
    }

    fn change(epoch: i32, add: &[TopicPartition]) -> Change<'_> {
        Change {
            epoch,
            add,
            forget: &[],
            acknowledges: false,
            connection: 1,
        }
    }

    #[test]
    fn a_session_goes_on_only_with_the_epoch_that_is_due() {
        let mut sessions = Sessions::new(2);
        let a = key("a");
        assert_eq!(
            sessions.fetch(&a, &change(1, &[])),
            Err(SessionError::NotFound)
        );
        let opened = sessions.fetch(&a, &change(0, &[partition(0)]));
        let expected = Step::Opened {
            partitions: vec![partition(0)],
            left: Vec::new(),
        };
        assert_eq!(opened, Ok(expected));
        let more = sessions.fetch(&a, &change(1, &[partition(1)]));
        assert_eq!(more, Ok(Step::Continued(vec![partition(0), partition(1)])));
        assert_eq!(
            sessions.fetch(&a, &change(2, &[])),
            Ok(Step::Continued(vec![partition(1), partition(0)])),
            "another one first"
        );
        assert_eq!(
            sessions.fetch(&a, &change(1, &[])),
            Err(SessionError::Epoch)
        );
        assert_eq!(sessions.acknowledge(&a, 0), Err(SessionError::Epoch));
        assert_eq!(sessions.acknowledge(&a, 3), Ok(Step::Continued(Vec::new())));
        let forget = Change {
            forget: &[partition(1)],
            ..change(4, &[])
        };
        assert_eq!(
            sessions.fetch(&a, &forget),
            Ok(Step::Continued(vec![partition(0)]))
        );
        assert_eq!(
            sessions.acknowledge(&a, -1),
            Ok(Step::Closed(vec![partition(0), partition(1)])),
            "it may have something of what it has left"
        );
        assert_eq!(
            sessions.fetch(&a, &change(-1, &[])),
            Err(SessionError::NotFound)
        );
    }

    #[test]
    fn sessions_are_bounded_and_one_that_is_opened_again_is_the_same() {
        let mut sessions = Sessions::new(1);
        for _ in 0..2 {
            sessions.fetch(&key("a"), &change(0, &[])).unwrap();
        }
        let other = sessions.fetch(&key("b"), &change(0, &[]));
        assert_eq!(other, Err(SessionError::Limit));
        let early = Change {
            acknowledges: true,
            ..change(0, &[])
        };
        assert_eq!(
            sessions.fetch(&key("a"), &early),
            Err(SessionError::EarlyAcknowledgement)
        );
    }

    #[test]
    fn a_session_that_is_opened_anew_leaves_what_it_does_not_name() {
        let mut sessions = Sessions::new(1);
        let a = key("a");
        let first = [partition(0), partition(1)];
        sessions.fetch(&a, &change(0, &first)).unwrap();
        let again = sessions.fetch(&a, &change(0, &[partition(1), partition(2)]));
        let expected = Step::Opened {
            partitions: vec![partition(2), partition(1)],
            left: vec![partition(0)],
        };
        assert_eq!(again, Ok(expected));
        let used = |index| sessions.uses(&a.group, partition(index));
        assert_eq!([0, 1, 2].map(used), [false, true, true]);
        let all = vec![partition(1), partition(2), partition(0)];
        assert_eq!(
            sessions.lost(1),
            [(a, all)],
            "it may still have something of what it has left"
        );
    }

    #[test]
    fn a_session_goes_with_the_connection_that_it_was_last_used_on() {
        let mut sessions = Sessions::new(1);
        let a = key("a");
        sessions.fetch(&a, &change(0, &[partition(0)])).unwrap();
        assert!(sessions.uses(&a.group, partition(0)));
        let moved = Change {
            connection: 2,
            ..change(1, &[])
        };
        sessions.fetch(&a, &moved).unwrap();
        assert_eq!(sessions.lost(1), []);
        assert_eq!(sessions.lost(2), [(a.clone(), vec![partition(0)])]);
        assert!(!sessions.uses(&a.group, partition(0)));
    }
}
