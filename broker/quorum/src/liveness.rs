//! Who has been heard from: the controller's memory of heartbeats.
//!
//! It is kept by the leader alone and in memory alone. A broker that falls silent is fenced by a record; that record is
//! what counts. A fresh leader has heard from no one, and so gives everyone a whole session before it fences.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ids::{BrokerEpoch, BrokerId};

/// A point in time on a clock that never goes back: the time since an arbitrary start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now(pub Duration);

/// When each broker was heard from last.
#[derive(Clone, Debug)]
pub struct Liveness {
    session: Duration,
    since: Now,
    // At most one entry for each registered broker.
    heard: BTreeMap<BrokerId, (BrokerEpoch, Now)>,
}

impl Liveness {
    /// The memory of a leader that was elected at `now`. A broker silent for longer than `session` counts as gone.
    pub fn new(session: Duration, now: Now) -> Self {
        Self {
            session,
            since: now,
            heard: BTreeMap::new(),
        }
    }

    /// Remembers that a broker was heard from.
    pub fn heard(&mut self, id: BrokerId, epoch: BrokerEpoch, now: Now) {
        self.heard.insert(id, (epoch, now));
    }

    /// Forgets a broker: it said goodbye, or was fenced.
    pub fn forget(&mut self, id: BrokerId) {
        self.heard.remove(&id);
    }

    /// Whether a registration has been heard from within its session, or may have been by the leader before.
    pub fn is_alive(&self, id: BrokerId, epoch: BrokerEpoch, now: Now) -> bool {
        self.expires(id, epoch) > now
    }

    /// Whether this leader itself has heard from a registration within its session.
    pub fn is_heard(&self, id: BrokerId, epoch: BrokerEpoch, now: Now) -> bool {
        self.heard
            .get(&id)
            .is_some_and(|(heard_epoch, _)| *heard_epoch == epoch)
            && self.is_alive(id, epoch, now)
    }

    /// When a registration's session ends, if nothing is heard from it until then.
    pub fn expires(&self, id: BrokerId, epoch: BrokerEpoch) -> Now {
        let last = match self.heard.get(&id) {
            Some((heard_epoch, at)) if *heard_epoch == epoch => *at,
            _ => self.since,
        };
        Now(last.0 + self.session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: Duration = Duration::from_secs(3);

    fn at(ms: u64) -> Now {
        Now(Duration::from_millis(ms))
    }

    #[test]
    fn a_silent_broker_is_alive_until_its_session_ends() {
        let mut liveness = Liveness::new(SESSION, at(0));
        liveness.heard(BrokerId(1), BrokerEpoch(5), at(1000));
        assert!(liveness.is_alive(BrokerId(1), BrokerEpoch(5), at(3999)));
        assert!(!liveness.is_alive(BrokerId(1), BrokerEpoch(5), at(4000)));
    }

    #[test]
    fn a_fresh_leader_gives_everyone_a_whole_session() {
        let liveness = Liveness::new(SESSION, at(10_000));
        assert!(liveness.is_alive(BrokerId(1), BrokerEpoch(5), at(12_999)));
        assert!(!liveness.is_alive(BrokerId(1), BrokerEpoch(5), at(13_000)));
    }
}
