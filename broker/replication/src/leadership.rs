//! One partition, as its leader sees it in one epoch: how far each replica is, and what follows from that.
//!
//! Owns the high watermark of the epoch. What always holds:
//!
//! - The watermark only grows, and only while the in-sync set that the metadata has is at its minimum or above (KIP-966). It is
//!   the least of what every replica of the *widest* set has promised: that of the metadata together with those that the leader has
//!   asked to be taken in, who may be in it already.
//! - A replica comes into the set only when it has promised everything below the watermark, and everything that the leader had when
//!   its epoch began: what an earlier leader acknowledged may lie above the watermark that this one knows of.
//! - One change is asked for at a time, of the newest state that is known.
//! - Who says that it takes nothing is not waited for, unless the set would be below its minimum without it: then nothing is won.
//!
//! Pure: what is heard goes in, with the time; what is to be done comes out.

use std::collections::{BTreeMap, BTreeSet};

use weir_wire::{BrokerId, LeaderEpoch, Offset};

/// Milliseconds of a clock that never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

/// What a replica has to have done with a batch before it counts as there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Promise {
    /// Synced it to its disk.
    Synced,
    /// Received it.
    Received,
}

/// How far a replica is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ends {
    /// It has everything below.
    pub received: Offset,
    /// Everything below is on its disk; never more than it has received.
    pub synced: Offset,
}

impl Ends {
    fn promised(self, promise: Promise) -> Offset {
        match promise {
            Promise::Synced => self.synced,
            Promise::Received => self.received,
        }
    }
}

/// A replica of the metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Replica {
    /// The broker.
    pub id: BrokerId,
    /// Its registration (KIP-903).
    pub registration: u64,
    /// Whether it may come into the in-sync set: it is ready, and not about to stop.
    pub may_join: bool,
}

/// What the metadata says of the partition in this epoch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Known {
    /// Counts the partition's states.
    pub partition_epoch: i32,
    /// All replicas, the leader among them.
    pub replicas: Vec<Replica>,
    /// Those in sync.
    pub isr: BTreeSet<BrokerId>,
    /// How many must be for something to be acknowledged.
    pub in_sync_min: usize,
    /// What counts.
    pub promise: Promise,
}

/// An in-sync set to ask the controller for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Want {
    /// The state that it is to be made to.
    pub partition_epoch: i32,
    /// Who is in sync, each in the registration that was seen to be.
    pub isr: Vec<(BrokerId, u64)>,
}

/// What came of a [`Want`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is done; the metadata will say so.
    Taken,
    /// It is certain that it was not done, and will not be.
    Refused,
    /// Nobody knows.
    Unknown,
}

/// A replica that is not the leader.
#[derive(Clone, Copy, Debug, Hash)]
struct Follower {
    registration: u64,
    /// Not known before it has told, in the registration that it has.
    ends: Option<Ends>,
    /// When it last had everything that the leader had at that time.
    caught_up: Millis,
    /// Where the leader's end was at a time; once the follower has that, it was caught up then.
    mark: (Offset, Millis),
    /// What it had when it said that it takes no more: until it has more than that.
    full_at: Option<Offset>,
}

/// One partition in one epoch of its leader.
#[derive(Clone, Debug, Hash)]
pub struct Leadership {
    me: BrokerId,
    epoch: LeaderEpoch,
    /// The leader's end when the epoch began.
    began_at: Offset,
    known: Known,
    own: Ends,
    followers: BTreeMap<BrokerId, Follower>,
    /// What replicas said of themselves last, in a registration that the metadata may not have here yet.
    said: BTreeMap<BrokerId, (u64, Ends)>,
    /// The set that was asked for and may be in force already.
    asked: Option<Want>,
    high_watermark: Offset,
}

impl Leadership {
    /// A leader that begins its epoch. `high_watermark` is what it knew of as a follower.
    #[must_use]
    pub fn new(
        me: BrokerId,
        epoch: LeaderEpoch,
        known: Known,
        own: Ends,
        high_watermark: Offset,
        now: Millis,
    ) -> Self {
        let mut leadership = Self {
            me,
            epoch,
            began_at: own.received,
            known: Known {
                partition_epoch: known.partition_epoch,
                replicas: Vec::new(),
                isr: BTreeSet::new(),
                in_sync_min: known.in_sync_min,
                promise: known.promise,
            },
            own,
            followers: BTreeMap::new(),
            said: BTreeMap::new(),
            asked: None,
            // What this log does not have it cannot lead to, whatever it knew of in another life.
            high_watermark: high_watermark.min(own.received),
        };
        leadership.learn(known, now);
        leadership
    }

    /// The epoch.
    #[must_use]
    pub fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// What the metadata says, as far as was heard.
    #[must_use]
    pub fn known(&self) -> &Known {
        &self.known
    }

    /// Everything below may be seen, and is acknowledged.
    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// The metadata has a newer state of the partition, in the same epoch. True when the watermark has moved.
    pub fn learn(&mut self, known: Known, now: Millis) -> bool {
        let mark = (self.own.received, now);
        let mut followers = BTreeMap::new();
        for replica in known
            .replicas
            .iter()
            .filter(|replica| replica.id != self.me)
        {
            // One that has registered anew may have come back with less: it has to tell again.
            let same = self
                .followers
                .get(&replica.id)
                .filter(|follower| follower.registration == replica.registration);
            let said = self.said.get(&replica.id);
            let fresh = Follower {
                registration: replica.registration,
                ends: said
                    .filter(|(registration, _)| *registration == replica.registration)
                    .map(|(_, ends)| *ends),
                caught_up: now,
                mark,
                full_at: None,
            };
            followers.insert(replica.id, same.copied().unwrap_or(fresh));
        }
        self.followers = followers;
        self.said
            .retain(|id, _| known.replicas.iter().any(|replica| replica.id == *id));
        // What was asked for is done, or can be no more: it was to be made to another state.
        if self
            .asked
            .as_ref()
            .is_some_and(|asked| asked.partition_epoch != known.partition_epoch)
        {
            self.asked = None;
        }
        self.known = known;
        self.advance()
    }

    /// The leader's own log has got further. True when the watermark has moved.
    pub fn own(&mut self, ends: Ends, now: Millis) -> bool {
        let promise = self.known.promise;
        let (before, after) = (self.own.promised(promise), ends.promised(promise));
        if after > before {
            // Who had everything until now is not behind yet, however long nothing came.
            for follower in self.followers.values_mut() {
                if follower
                    .ends
                    .is_some_and(|ends| ends.promised(promise) >= before)
                {
                    follower.caught_up = now;
                    follower.mark = (after, now);
                }
            }
        }
        self.own = ends;
        self.advance()
    }

    /// A follower, if this is still its registration.
    fn follower(&mut self, id: BrokerId, registration: u64) -> Option<&mut Follower> {
        let follower = self.followers.get_mut(&id);
        follower.filter(|follower| follower.registration == registration)
    }

    /// A follower says how far it is, in one of its registrations. True when the watermark has moved.
    pub fn heard(&mut self, id: BrokerId, registration: u64, ends: Ends, now: Millis) -> bool {
        let (promise, own) = (self.known.promise, self.own);
        self.said.insert(id, (registration, ends));
        let Some(follower) = self.follower(id, registration) else {
            return false;
        };
        follower.ends = Some(ends);
        follower.full_at.take_if(|had| ends.received > *had);
        let (promised, wanted) = (ends.promised(promise), own.promised(promise));
        if promised >= wanted {
            follower.caught_up = now;
            follower.mark = (wanted, now);
        } else if promised >= follower.mark.0 {
            follower.caught_up = follower.caught_up.max(follower.mark.1);
            follower.mark = (wanted, now);
        }
        self.advance()
    }

    /// A follower has no room for what comes next, in one of its registrations. True when there may be another set to ask for.
    pub fn takes_nothing(&mut self, id: BrokerId, registration: u64) -> bool {
        let Some(follower) = self.follower(id, registration) else {
            return false;
        };
        let was_full = follower.full_at.is_some();
        follower.full_at = follower.ends.map(|ends| ends.received);
        !was_full && self.known.isr.contains(&id)
    }

    /// The set to ask for, if it should be another; it is taken as asked from here on. `lag_max_ms` is how long a replica may be behind
    /// (`replica.lag.time.max.ms`).
    pub fn want(&mut self, now: Millis, lag_max_ms: u64) -> Option<Want> {
        if self.asked.is_some() {
            return None;
        }
        let mut isr: BTreeSet<BrokerId> = self
            .known
            .replicas
            .iter()
            .filter(|replica| self.belongs(replica, now, lag_max_ms))
            .map(|replica| replica.id)
            .collect();
        let without_full = isr.iter().filter(|id| !self.is_full(**id)).count();
        if without_full >= self.in_sync_min() {
            isr.retain(|id| !self.is_full(*id));
        }
        if isr == self.known.isr {
            return None;
        }
        let registered = |id: &BrokerId| {
            let replica = self
                .known
                .replicas
                .iter()
                .find(|replica| replica.id == *id)?;
            Some((*id, replica.registration))
        };
        let want = Want {
            partition_epoch: self.known.partition_epoch,
            isr: isr.iter().filter_map(registered).collect(),
        };
        self.asked = Some(want.clone());
        Some(want)
    }

    /// Whether this replica is out of the in-sync set and belongs into it.
    #[must_use]
    pub fn may_join(&self, id: BrokerId, now: Millis) -> bool {
        let mut replicas = self.known.replicas.iter();
        !self.known.isr.contains(&id)
            && replicas
                .find(|replica| replica.id == id)
                .is_some_and(|replica| self.belongs(replica, now, 0))
    }

    /// What came of the set that was asked for. True when the watermark has moved.
    pub fn answered(&mut self, answer: Answer) -> bool {
        if answer == Answer::Refused {
            self.asked = None;
        }
        // Taken: the metadata says so soon. Unknown: it may be in force, and is asked for again by `ask_again`.
        self.advance()
    }

    /// The set that may be in force, to be asked for again when nobody knows what came of it.
    #[must_use]
    pub fn asked(&self) -> Option<&Want> {
        self.asked.as_ref()
    }

    /// When [`want`](Self::want) may have something new at the earliest, if nothing is heard until then.
    #[must_use]
    pub fn next_lag(&self, lag_max_ms: u64) -> Option<Millis> {
        let in_sync = self.followers.iter();
        let in_sync = in_sync.filter(|(id, _)| self.known.isr.contains(id));
        in_sync
            .map(|(_, follower)| Millis(follower.caught_up.0.saturating_add(lag_max_ms)))
            .min()
    }

    /// How many there must be in sync: no more than there are.
    fn in_sync_min(&self) -> usize {
        self.known.in_sync_min.min(self.known.replicas.len())
    }

    fn is_full(&self, id: BrokerId) -> bool {
        let follower = self.followers.get(&id);
        follower.is_some_and(|follower| follower.full_at.is_some())
    }

    fn belongs(&self, replica: &Replica, now: Millis, lag_max_ms: u64) -> bool {
        if replica.id == self.me {
            return true;
        }
        let Some(follower) = self.followers.get(&replica.id) else {
            return false;
        };
        if self.known.isr.contains(&replica.id) {
            return now.0.saturating_sub(follower.caught_up.0) < lag_max_ms
                || follower.ends.is_some_and(|ends| {
                    ends.promised(self.known.promise) >= self.own.promised(self.known.promise)
                });
        }
        // Traps, losing data, 10.
        let needed = self.high_watermark.max(self.began_at);
        replica.may_join
            && follower.full_at.is_none()
            && follower
                .ends
                .is_some_and(|ends| ends.promised(self.known.promise) >= needed)
    }

    /// On the way of every acknowledgement: allocates nothing.
    fn advance(&mut self) -> bool {
        if self.known.isr.len() < self.in_sync_min() {
            return false;
        }
        let asked = self.asked.iter().flat_map(|want| &want.isr);
        // The widest set. Who is in both is asked twice.
        let widest = self.known.isr.iter().chain(asked.map(|(id, _)| id));
        let mut least = None;
        for id in widest {
            // One that has not told how far it is holds everything up.
            let Some(end) = self.promised(*id) else {
                return false;
            };
            least = Some(least.map_or(end, |least: Offset| least.min(end)));
        }
        let moves = least.filter(|least| *least > self.high_watermark);
        self.high_watermark = moves.unwrap_or(self.high_watermark);
        moves.is_some()
    }

    fn promised(&self, id: BrokerId) -> Option<Offset> {
        if id == self.me {
            return Some(self.own.promised(self.known.promise));
        }
        Some(self.followers.get(&id)?.ends?.promised(self.known.promise))
    }
}

#[cfg(test)]
mod tests;
