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
    // When those were heard from last that are gone.
    gone: BTreeMap<BrokerId, Now>,
    // How much less than a whole session a broker gets that has not been heard from yet. As many as led before.
    doubted: BTreeMap<BrokerId, Duration>,
    // The newest feature level that each knows, in its registration.
    levels: BTreeMap<BrokerId, (BrokerEpoch, u32)>,
    // Those whose disks have no room, in these registrations.
    full: BTreeMap<BrokerId, BrokerEpoch>,
    // Who wanted to register and knows less than the cluster uses. Each speaks for its own id alone, so that there are as many at most
    // as there are certificates.
    refused: BTreeMap<BrokerId, u32>,
}

impl Liveness {
    /// The memory of a leader that was elected at `now`. A broker silent for longer than `session` counts as gone.
    pub fn new(session: Duration, now: Now) -> Self {
        Self {
            session,
            since: now,
            heard: BTreeMap::new(),
            gone: BTreeMap::new(),
            doubted: BTreeMap::new(),
            levels: BTreeMap::new(),
            full: BTreeMap::new(),
            refused: BTreeMap::new(),
        }
    }

    /// Remembers which features a broker knows.
    pub fn knows(&mut self, id: BrokerId, epoch: BrokerEpoch, level: u32) {
        self.levels.insert(id, (epoch, level));
        self.refused.remove(&id);
    }

    /// Remembers whether a broker's disk has no room.
    pub fn fills(&mut self, id: BrokerId, epoch: BrokerEpoch, full: bool) {
        if full {
            self.full.insert(id, epoch);
        } else {
            self.full.remove(&id);
        }
    }

    /// Whether a registration has said last that its disk has no room.
    pub fn is_full(&self, id: BrokerId, epoch: BrokerEpoch) -> bool {
        self.full.get(&id) == Some(&epoch)
    }

    /// Remembers that a broker is not let in, since it knows features up to this level alone.
    pub fn refuse(&mut self, id: BrokerId, level: u32) {
        self.refused.insert(id, level);
    }

    /// Brokers that were not let in since, and the newest level that each knows.
    pub fn refused(&self) -> impl Iterator<Item = (BrokerId, u32)> {
        self.refused.iter().map(|(id, level)| (*id, *level))
    }

    /// The newest feature level that a registration has said it knows; `None` before it was heard from.
    pub fn level(&self, id: BrokerId, epoch: BrokerEpoch) -> Option<u32> {
        let (of, level) = self.levels.get(&id)?;
        (*of == epoch).then_some(*level)
    }

    /// Remembers that a broker was heard from at a time, if that is news.
    pub fn heard(&mut self, id: BrokerId, epoch: BrokerEpoch, at: Now) {
        match self.heard.get(&id) {
            Some((known, last)) if *known == epoch && *last >= at => {}
            _ => {
                self.heard.insert(id, (epoch, at));
            }
        }
    }

    /// A broker that this leader has not heard from yet is known to have been silent for so long before.
    pub fn doubt(&mut self, id: BrokerId, silent: Duration) {
        self.doubted.insert(id, silent.min(self.session));
    }

    /// The leader itself could not listen for so long: nobody's silence counts in that time.
    pub fn forgive(&mut self, deaf: Duration) {
        self.since.0 += deaf;
        let heard = self.heard.values_mut().map(|(_, at)| at);
        for at in heard.chain(self.gone.values_mut()) {
            at.0 += deaf;
        }
    }

    /// Whether a registration was heard from at this time or later.
    pub fn is_heard_since(&self, id: BrokerId, epoch: BrokerEpoch, at: Now) -> bool {
        let heard = self.heard.get(&id);
        heard.is_some_and(|(known, last)| *known == epoch && *last >= at)
    }

    /// Forgets a broker: it said goodbye, or was fenced.
    pub fn forget(&mut self, id: BrokerId) {
        if let Some((_, at)) = self.heard.remove(&id) {
            self.gone.insert(id, at);
        }
    }

    /// For how long nothing was heard from a broker, in any registration. Of one that this leader has never heard from, since it leads.
    pub fn silence(&self, id: BrokerId, now: Now) -> Duration {
        let heard = self.heard.get(&id).map(|(_, at)| at);
        let last = heard.or(self.gone.get(&id)).unwrap_or(&self.since);
        now.0.saturating_sub(last.0)
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
        match self.heard.get(&id) {
            Some((heard_epoch, at)) if *heard_epoch == epoch => Now(at.0 + self.session),
            _ => {
                let doubted = self.doubted.get(&id).copied().unwrap_or_default();
                Now(self.since.0 + self.session - doubted)
            }
        }
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
    fn the_silence_before_this_leader_counts_for_whom_it_is_known_of() {
        let mut liveness = Liveness::new(SESSION, at(0));
        liveness.doubt(BrokerId(1), Duration::from_secs(1));
        assert!(liveness.is_alive(BrokerId(1), BrokerEpoch(5), at(1999)));
        assert!(!liveness.is_alive(BrokerId(1), BrokerEpoch(5), at(2000)));
        liveness.heard(BrokerId(1), BrokerEpoch(5), at(1000));
        assert!(liveness.is_alive(BrokerId(1), BrokerEpoch(5), at(3999)));
    }

    #[test]
    fn nobody_is_silent_while_the_leader_does_not_listen() {
        let mut liveness = Liveness::new(SESSION, at(0));
        liveness.heard(BrokerId(1), BrokerEpoch(5), at(1000));
        liveness.forgive(Duration::from_secs(10));
        assert!(liveness.is_alive(BrokerId(1), BrokerEpoch(5), at(13_999)));
        assert!(liveness.is_alive(BrokerId(2), BrokerEpoch(6), at(12_999)));
        assert!(!liveness.is_alive(BrokerId(2), BrokerEpoch(6), at(13_000)));
    }

    #[test]
    fn the_silence_of_who_is_gone_goes_on() {
        let mut liveness = Liveness::new(SESSION, at(100));
        let id = BrokerId(1);
        let silence = |liveness: &Liveness, ms| liveness.silence(id, at(ms)).as_millis();
        assert_eq!(silence(&liveness, 1000), 900, "never heard from");
        liveness.heard(id, BrokerEpoch(5), at(1000));
        assert_eq!(silence(&liveness, 1500), 500);
        liveness.forget(id);
        assert!(!liveness.is_alive(id, BrokerEpoch(5), at(3100)));
        assert_eq!(silence(&liveness, 9000), 8000);
        liveness.forgive(Duration::from_millis(1000));
        liveness.forget(id);
        assert_eq!(silence(&liveness, 9000), 7000);
        liveness.heard(id, BrokerEpoch(6), at(9500));
        assert_eq!(silence(&liveness, 10_000), 500);
    }

    #[test]
    fn a_heartbeat_that_arrives_late_does_not_undo_a_later_one() {
        let mut liveness = Liveness::new(SESSION, at(0));
        liveness.heard(BrokerId(1), BrokerEpoch(5), at(2000));
        liveness.heard(BrokerId(1), BrokerEpoch(5), at(1000));
        assert!(liveness.is_alive(BrokerId(1), BrokerEpoch(5), at(4999)));
    }

    #[test]
    fn a_fresh_leader_gives_everyone_a_whole_session() {
        let liveness = Liveness::new(SESSION, at(10_000));
        assert!(liveness.is_alive(BrokerId(1), BrokerEpoch(5), at(12_999)));
        assert!(!liveness.is_alive(BrokerId(1), BrokerEpoch(5), at(13_000)));
    }
}
