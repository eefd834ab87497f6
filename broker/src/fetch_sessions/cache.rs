//! Which sessions are kept: a bounded number of slots, and Kafka's rules for who has to go.
//!
//! Pure: the time comes from outside. Always holds: no more sessions than slots, and no more partitions in all of them than
//! [`PARTITIONS_MAX`].

use std::collections::{BTreeMap, BTreeSet};

use super::SessionId;

/// A session that was not used for so long may be replaced by any other, and one that is younger by none that is not larger:
/// as Kafka's `FetchSession.EVICTION_MS`, so that sessions are not thrown out before they have paid off.
pub(super) const EVICTION_MS: u64 = 120_000;

/// Partitions of all sessions together, each of which takes about a hundred bytes: slots alone would not bound memory, since
/// a session may have as many partitions as a request can name.
pub(super) const PARTITIONS_MAX: usize = 1_000_000;

#[derive(Debug)]
struct Entry<S> {
    session: S,
    partitions: usize,
    created_ms: u64,
    used_ms: u64,
}

/// The sessions that are kept.
#[derive(Debug)]
pub(super) struct Cache<S> {
    entries: BTreeMap<SessionId, Entry<S>>,
    /// By when they were last used, the longest ago first.
    by_use: BTreeSet<(u64, SessionId)>,
    /// Those that may have to go for a larger one, by their size, the smallest first.
    evictable: BTreeSet<(usize, SessionId)>,
    partitions: usize,
    /// How many had to go.
    evicted: u64,
}

impl<S> Default for Cache<S> {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            by_use: BTreeSet::new(),
            evictable: BTreeSet::new(),
            partitions: 0,
            evicted: 0,
        }
    }
}

impl<S> Cache<S> {
    /// How many sessions there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many partitions they have.
    pub(super) fn partitions(&self) -> usize {
        self.partitions
    }

    /// How many sessions had to go for others so far.
    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// The session of this id.
    pub(super) fn get(&self, id: SessionId) -> Option<&S> {
        self.entries.get(&id).map(|entry| &entry.session)
    }

    /// Keeps a session of so many partitions, if there is room or someone who has to go; `draw` gives numbers to be its id.
    pub(super) fn insert(
        &mut self,
        session: S,
        partitions: usize,
        slots: usize,
        now_ms: u64,
        mut draw: impl FnMut() -> i32,
    ) -> Option<SessionId> {
        if partitions > PARTITIONS_MAX || slots == 0 {
            return None;
        }
        while self.entries.len() >= slots || self.partitions + partitions > PARTITIONS_MAX {
            if !self.evict_for(partitions, now_ms) {
                return None;
            }
        }
        let id = loop {
            let drawn = draw();
            if drawn > 0 && !self.entries.contains_key(&SessionId(drawn)) {
                break SessionId(drawn);
            }
        };
        self.entries.insert(
            id,
            Entry {
                session,
                partitions,
                created_ms: now_ms,
                used_ms: now_ms,
            },
        );
        self.by_use.insert((now_ms, id));
        self.partitions += partitions;
        Some(id)
    }

    /// Notes that a session was used, and has so many partitions now.
    pub(super) fn touch(&mut self, id: SessionId, partitions: usize, now_ms: u64) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        self.by_use.remove(&(entry.used_ms, id));
        self.evictable.remove(&(entry.partitions, id));
        self.partitions = self.partitions - entry.partitions + partitions;
        (entry.used_ms, entry.partitions) = (now_ms, partitions);
        self.by_use.insert((now_ms, id));
        if now_ms.saturating_sub(entry.created_ms) > EVICTION_MS {
            self.evictable.insert((partitions, id));
        }
    }

    /// Forgets a session.
    pub(super) fn remove(&mut self, id: SessionId) -> Option<S> {
        let entry = self.entries.remove(&id)?;
        self.by_use.remove(&(entry.used_ms, id));
        self.evictable.remove(&(entry.partitions, id));
        self.partitions -= entry.partitions;
        Some(entry.session)
    }

    /// Makes room for a session of so many partitions: whoever was not used for long goes, or else the smallest of those
    /// that have had their time and are not larger than the new one.
    fn evict_for(&mut self, partitions: usize, now_ms: u64) -> bool {
        let idle = self.by_use.first().copied();
        let victim = match idle {
            Some((used_ms, id)) if now_ms.saturating_sub(used_ms) > EVICTION_MS => Some(id),
            _ => self
                .evictable
                .first()
                .filter(|(smallest, _)| *smallest <= partitions)
                .map(|(_, id)| *id),
        };
        let Some(id) = victim else { return false };
        self.evicted += 1;
        self.remove(id).is_some()
    }
}
