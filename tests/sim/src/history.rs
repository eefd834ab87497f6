//! What clients saw, and what must hold of it.
//!
//! The anomalies are those of Jepsen's Kafka workload: acknowledged records that are lost, records that were seen and are
//! gone or changed, duplicates of an idempotent producer, its records out of order, offsets that go back, partitions with two
//! owners in one generation, commits that go back. Events are judged as they come where that can be done; the rest by
//! [`Shared::judge`] when everything has been read once more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::network::{HostId, Net};
use crate::trace::hash;

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(pub Arc<str>, pub i32);

/// A batch that was acknowledged.
#[derive(Clone, Debug)]
pub struct Acked {
    /// Where.
    pub place: Place,
    /// By whom it was sent.
    pub producer: HostId,
    /// The first record's offset.
    pub base_offset: i64,
    /// Its records.
    pub values: Arc<[String]>,
}

/// The history of a life. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Shared {
    net: Net,
    state: Arc<Mutex<History>>,
}

#[derive(Debug, Default)]
struct History {
    closed: bool,
    done: usize,
    wrong: Vec<String>,
    acked: Vec<Acked>,
    /// What each producer has sent to each partition, in order.
    sent: BTreeMap<(Place, HostId), Vec<String>>,
    /// Hashes of the values seen at offsets.
    seen: BTreeMap<Place, BTreeMap<i64, u64>>,
    /// Values that were read in the end.
    values: BTreeMap<Place, BTreeMap<i64, String>>,
    watermarks: BTreeMap<Place, i64>,
    ends: BTreeMap<Place, i64>,
    is_final: bool,
    producer_ids: BTreeSet<i64>,
    owners: BTreeMap<(String, i32), BTreeMap<Place, HostId>>,
    commits: BTreeMap<(String, Place), Commits>,
    topics: BTreeMap<String, Topic>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Commits {
    acked: i64,
    sent: i64,
}

/// What is known of a topic that comes and goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// It is there, with so many partitions.
    There(i32),
    /// It may be there or not.
    Perhaps,
    /// It is not there.
    Gone,
}

/// What a life came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Batches acknowledged.
    pub acked: usize,
    /// Records seen.
    pub seen: usize,
    /// Generations of groups.
    pub generations: usize,
    /// Commits acknowledged, as the sum of committed offsets.
    pub committed: i64,
    /// Topics made.
    pub topics: usize,
}

impl Shared {
    /// An empty history.
    #[must_use]
    pub fn new(net: Net) -> Self {
        Self {
            net,
            state: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, History> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether clients should go on.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.lock().closed
    }

    /// Lets clients finish what they have begun.
    pub fn close(&self) {
        self.lock().closed = true;
    }

    /// A client has finished.
    pub fn done(&self) {
        self.lock().done += 1;
    }

    /// How many clients have finished.
    #[must_use]
    pub fn done_count(&self) -> usize {
        self.lock().done
    }

    /// Something must not be.
    pub fn wrong(&self, what: String) {
        self.net.note("wrong", &[hash(what.as_bytes())]);
        let at = self.net.now_ms();
        self.lock().wrong.push(format!("at {at} ms: {what}"));
    }

    /// What must not be and is.
    #[must_use]
    pub fn wrongs(&self) -> Vec<String> {
        self.lock().wrong.clone()
    }

    /// How much there was.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let state = self.lock();
        Counts {
            acked: state.acked.len(),
            seen: state.seen.values().map(BTreeMap::len).sum(),
            generations: state.owners.len(),
            committed: state.commits.values().map(|commits| commits.acked).sum(),
            topics: state.topics.len(),
        }
    }

    /// A producer got an identity.
    pub fn producer_id(&self, id: i64) {
        let fresh = self.lock().producer_ids.insert(id);
        if !fresh {
            self.wrong(format!("producer id {id} was given twice"));
        }
    }

    /// A producer is about to send these, for the first time.
    pub fn sending(&self, place: &Place, producer: HostId, values: &[String]) {
        let mut state = self.lock();
        let sent = state.sent.entry((place.clone(), producer)).or_default();
        sent.extend(values.iter().cloned());
    }

    /// A batch was acknowledged.
    pub fn acked(&self, batch: Acked) {
        let numbers = [u64::from(batch.producer), batch.base_offset.unsigned_abs()];
        self.net.note("acked", &numbers);
        for (offset, value) in (batch.base_offset..).zip(batch.values.iter()) {
            self.at(&batch.place, offset, hash(value.as_bytes()), "acknowledged");
        }
        self.lock().acked.push(batch);
    }

    /// Where each of these ends, once all that was sent was acknowledged.
    #[must_use]
    pub fn acked_ends(&self, places: &[Place]) -> Vec<(Place, i64)> {
        let state = self.lock();
        let end_of = |place: &Place| {
            let batches = state.acked.iter().filter(|batch| batch.place == *place);
            let ends = batches
                .map(|batch| batch.base_offset + i64::try_from(batch.values.len()).unwrap_or(0));
            ends.max().unwrap_or(0)
        };
        places
            .iter()
            .map(|place| (place.clone(), end_of(place)))
            .collect()
    }

    /// Somebody read a value.
    pub fn seen(&self, place: &Place, offset: i64, value: &str) {
        let hash = hash(value.as_bytes());
        self.net.note("seen", &[offset.unsigned_abs(), hash]);
        self.at(place, offset, hash, "seen");
        let mut state = self.lock();
        if state.is_final {
            let values = state.values.entry(place.clone()).or_default();
            values.insert(offset, value.to_owned());
        }
    }

    /// What is at an offset never changes.
    fn at(&self, place: &Place, offset: i64, hash: u64, how: &str) {
        let before = {
            let mut state = self.lock();
            let seen = state.seen.entry(place.clone()).or_default();
            *seen.entry(offset).or_insert(hash)
        };
        if before != hash {
            self.wrong(format!(
                "{place:?}: offset {offset} was {how} as something else before"
            ));
        }
    }

    /// Somebody was told a high watermark.
    pub fn watermark(&self, place: &Place, high_watermark: i64) {
        let mut state = self.lock();
        let known = state.watermarks.entry(place.clone()).or_default();
        *known = (*known).max(high_watermark);
    }

    /// A member was assigned these in a generation.
    pub fn owns(&self, group: &str, generation: i32, member: HostId, places: &[Place]) {
        self.net
            .note("owns", &[u64::from(member), places.len() as u64]);
        let mut twice = Vec::new();
        {
            let mut state = self.lock();
            let key = (group.to_owned(), generation);
            let owners = state.owners.entry(key).or_default();
            for place in places {
                match owners.insert(place.clone(), member) {
                    Some(other) if other != member => twice.push((place.clone(), other)),
                    _ => {}
                }
            }
        }
        for (place, other) in twice {
            self.wrong(format!(
                "{place:?} belongs to members {other} and {member} in generation {generation} of {group}"
            ));
        }
    }

    /// What a group is known to have committed.
    #[must_use]
    pub fn committed(&self, group: &str, place: &Place) -> i64 {
        let key = (group.to_owned(), place.clone());
        self.lock()
            .commits
            .get(&key)
            .map_or(0, |commits| commits.acked)
    }

    /// A member is about to commit.
    pub fn committing(&self, group: &str, place: &Place, offset: i64) {
        let mut state = self.lock();
        let commits = state
            .commits
            .entry((group.to_owned(), place.clone()))
            .or_default();
        commits.sent = commits.sent.max(offset);
    }

    /// A commit was acknowledged.
    pub fn committed_to(&self, group: &str, place: &Place, offset: i64) {
        self.net.note("committed", &[offset.unsigned_abs()]);
        let mut state = self.lock();
        let commits = state
            .commits
            .entry((group.to_owned(), place.clone()))
            .or_default();
        commits.acked = commits.acked.max(offset);
    }

    /// A member asked for a commit when `known` was acknowledged, and was told `found`.
    pub fn found_committed(&self, group: &str, place: &Place, known: i64, found: i64) {
        let key = (group.to_owned(), place.clone());
        let sent = self
            .lock()
            .commits
            .get(&key)
            .map_or(0, |commits| commits.sent);
        if found.max(0) < known {
            self.wrong(format!(
                "{place:?}: {group} had committed {known}, and finds {found}"
            ));
        }
        if found > sent {
            self.wrong(format!(
                "{place:?}: {group} finds {found} committed, and never was above {sent}"
            ));
        }
    }

    /// A topic was made.
    pub fn topic_made(&self, name: &str, partitions: i32) {
        self.net.note("topic made", &[hash(name.as_bytes())]);
        self.lock()
            .topics
            .insert(name.to_owned(), Topic::There(partitions));
    }

    /// A topic is being deleted.
    pub fn topic_going(&self, name: &str) {
        self.lock().topics.insert(name.to_owned(), Topic::Perhaps);
    }

    /// A topic was deleted.
    pub fn topic_gone(&self, name: &str) {
        self.net.note("topic gone", &[hash(name.as_bytes())]);
        self.lock().topics.insert(name.to_owned(), Topic::Gone);
    }

    /// What is known of topics.
    #[must_use]
    pub fn topics(&self) -> BTreeMap<String, Topic> {
        self.lock().topics.clone()
    }

    /// From here on everything is read for the last time.
    pub fn begin_final_read(&self) {
        let mut state = self.lock();
        state.is_final = true;
        state.done = 0;
    }

    /// All of a partition was read for the last time, up to its high watermark.
    pub fn read_to_the_end(&self, place: &Place, end: i64) {
        self.net.note("end", &[end.unsigned_abs()]);
        self.lock().ends.insert(place.clone(), end);
    }

    /// Judges what was read for the last time.
    pub fn judge(&self) {
        let wrong = {
            let state = self.lock();
            state
                .ends
                .keys()
                .flat_map(|place| state.judge(place))
                .collect::<Vec<_>>()
        };
        for what in wrong {
            self.wrong(what);
        }
    }
}

impl History {
    fn judge(&self, place: &Place) -> Vec<String> {
        let mut wrong = Vec::new();
        let nothing = BTreeMap::new();
        let values = self.values.get(place).unwrap_or(&nothing);
        let end = self.ends.get(place).copied().unwrap_or(0);
        // Offsets follow one another: nothing here is compacted, deleted or aborted.
        for (expected, offset) in (0..).zip(values.keys()) {
            if expected != *offset {
                wrong.push(format!(
                    "{place:?}: offset {offset} follows {}",
                    expected - 1
                ));
                break;
            }
        }
        let highest = self.watermarks.get(place).copied().unwrap_or(0);
        if end < highest {
            wrong.push(format!(
                "{place:?}: ends at {end}, and its high watermark was {highest}"
            ));
        }
        for offset in self.seen.get(place).into_iter().flat_map(BTreeMap::keys) {
            if !values.contains_key(offset) {
                wrong.push(format!(
                    "{place:?}: offset {offset} was seen or acknowledged, and is gone"
                ));
            }
        }
        for batch in self.acked.iter().filter(|batch| batch.place == *place) {
            for (offset, value) in (batch.base_offset..).zip(batch.values.iter()) {
                if values.get(&offset) != Some(value) {
                    wrong.push(format!(
                        "{place:?}: what was acknowledged at {offset} is not there"
                    ));
                }
            }
        }
        // Each producer's records, once each, in the order in which they were sent; and nobody else's.
        let mut by_producer: BTreeMap<HostId, Vec<&String>> = BTreeMap::new();
        for value in values.values() {
            let producer = value.split('/').next().and_then(|host| host.parse().ok());
            match producer {
                Some(producer) => by_producer.entry(producer).or_default().push(value),
                None => wrong.push(format!("{place:?}: holds {value:?}, which nobody sent")),
            }
        }
        for (producer, there) in by_producer {
            let sent = self.sent.get(&(place.clone(), producer));
            let sent = sent.map_or(&[][..], Vec::as_slice);
            // All that was begun was finished, or it is the last and is there or not.
            let agree = there
                .iter()
                .zip(sent)
                .take_while(|(a, b)| **a == *b)
                .count();
            if agree < there.len() {
                let (is, should) = (there[agree], sent.get(agree));
                let short = |value: &str| value.chars().take(40).collect::<String>();
                wrong.push(format!(
                    "{place:?}: producer {producer}'s record {agree} is {:?} where {:?} was sent",
                    short(is),
                    should.map(|value| short(value)),
                ));
            }
        }
        wrong
    }
}
