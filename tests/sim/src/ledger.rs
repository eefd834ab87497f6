//! What transactional producers did, and what readers of committed records saw of it.
//!
//! A transaction whose commit was acknowledged is there, each record once; one that was never to be committed is not there, and nobody
//! ever saw of it; one whose commit was asked for and not answered is there whole or not at all. What was seen stays.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::history::Place;
use crate::network::HostId;

/// A producer's transaction: whose, and its how many-th.
pub type Name = (HostId, u64);

/// The ledger of a life. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Ledger(Arc<Mutex<Books>>);

#[derive(Debug, Default)]
struct Books {
    transactions: BTreeMap<Name, Transaction>,
    seen: BTreeMap<Place, BTreeMap<i64, String>>,
    there: BTreeMap<Place, Vec<(i64, String)>>,
}

#[derive(Debug, Default)]
struct Transaction {
    values: Vec<(Place, String)>,
    fate: Fate,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Fate {
    /// It is open, was aborted, or was left alone.
    #[default]
    NotToCommit,
    /// Its commit was asked for.
    Asked,
    /// Its commit was acknowledged.
    Committed,
}

/// What a value says of itself: whose it is, and its number in its transaction.
fn value_of(name: Name, number: usize) -> String {
    format!("{}/{}/{number}", name.0, name.1)
}

fn name_of(value: &str) -> Option<Name> {
    let mut parts = value.split('/');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A transaction is about to write there; this is what it writes.
    #[must_use]
    pub fn writing(&self, name: Name, place: &Place) -> String {
        let mut books = self.lock();
        let transaction = books.transactions.entry(name).or_default();
        let value = value_of(name, transaction.values.len());
        transaction.values.push((place.clone(), value.clone()));
        value
    }

    /// Its commit is about to be asked for.
    pub fn committing(&self, name: Name) {
        self.lock().transactions.entry(name).or_default().fate = Fate::Asked;
    }

    /// Its commit was acknowledged.
    pub fn committed(&self, name: Name) {
        self.lock().transactions.entry(name).or_default().fate = Fate::Committed;
    }

    /// A reader of committed records saw a value.
    pub fn seen(&self, place: &Place, offset: i64, value: &str) {
        let mut books = self.lock();
        let seen = books.seen.entry(place.clone()).or_default();
        seen.insert(offset, value.to_owned());
    }

    /// What readers of committed records see there in the end.
    pub fn read_to_the_end(&self, place: &Place, values: Vec<(i64, String)>) {
        self.lock().there.insert(place.clone(), values);
    }

    /// How many transactions were committed.
    #[must_use]
    pub fn committed_count(&self) -> usize {
        let books = self.lock();
        let all = books.transactions.values();
        all.filter(|it| it.fate == Fate::Committed).count()
    }

    /// What must not be and is.
    #[must_use]
    pub fn judge(&self) -> Vec<String> {
        self.lock().judge()
    }
}

impl Books {
    fn judge(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut count: BTreeMap<(&Place, &str), usize> = BTreeMap::new();
        for (place, values) in &self.there {
            let mut last: BTreeMap<HostId, (u64, usize)> = BTreeMap::new();
            for (offset, value) in values {
                *count.entry((place, value)).or_default() += 1;
                let Some((host, number)) = name_of(value) else {
                    wrong.push(format!("{place:?}: holds {value:?}, which nobody sent"));
                    continue;
                };
                let within = value.rsplit('/').next().and_then(|it| it.parse().ok());
                let order = (number, within.unwrap_or(usize::MAX));
                if last
                    .insert(host, order)
                    .is_some_and(|before| before >= order)
                {
                    wrong.push(format!("{place:?}: {value} at {offset} is out of order"));
                }
            }
        }
        for (place, seen) in &self.seen {
            let there: BTreeMap<i64, &String> = self
                .there
                .get(place)
                .into_iter()
                .flatten()
                .map(|(offset, value)| (*offset, value))
                .collect();
            for (offset, value) in seen {
                if there.get(offset) != Some(&value) {
                    wrong.push(format!(
                        "{place:?}: {value} was seen as committed at {offset}, where {:?} is",
                        there.get(offset)
                    ));
                }
            }
        }
        for (name, transaction) in &self.transactions {
            let counts: Vec<usize> = transaction
                .values
                .iter()
                .map(|(place, value)| count.get(&(place, value)).copied().unwrap_or(0))
                .collect();
            let is_right = match transaction.fate {
                Fate::Committed => counts.iter().all(|count| *count == 1),
                Fate::NotToCommit => counts.iter().all(|count| *count == 0),
                Fate::Asked => {
                    counts.iter().all(|count| *count == 1) || counts.iter().all(|count| *count == 0)
                }
            };
            if !is_right {
                wrong.push(format!(
                    "transaction {name:?} ({:?}) has its records this often: {counts:?}",
                    transaction.fate
                ));
            }
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(fate: Fate, there: &[(i64, &str)]) -> Vec<String> {
        let (ledger, place) = (Ledger::default(), Place("t".into(), 0));
        for _ in 0..2 {
            let _ = ledger.writing((7, 1), &place);
        }
        match fate {
            Fate::NotToCommit => {}
            Fate::Asked => ledger.committing((7, 1)),
            Fate::Committed => ledger.committed((7, 1)),
        }
        let there = there.iter().map(|(at, value)| (*at, (*value).to_owned()));
        ledger.read_to_the_end(&place, there.collect());
        ledger.judge()
    }

    #[test]
    fn a_transaction_is_there_whole_or_not_at_all() {
        let (first, second) = ((4, "7/1/0"), (5, "7/1/1"));
        for fate in [Fate::Asked, Fate::Committed] {
            assert!(life(fate, &[first, second]).is_empty());
            assert!(!life(fate, &[first]).is_empty());
            assert!(!life(fate, &[second, first]).is_empty());
            assert!(!life(fate, &[first, second, (9, "7/1/1")]).is_empty());
        }
        assert!(life(Fate::Asked, &[]).is_empty());
        assert!(!life(Fate::Committed, &[]).is_empty());
        assert!(life(Fate::NotToCommit, &[]).is_empty());
        assert!(!life(Fate::NotToCommit, &[first]).is_empty());
        assert!(!life(Fate::Asked, &[(0, "nobody's")]).is_empty());
    }

    #[test]
    fn what_was_seen_as_committed_stays() {
        let (ledger, place) = (Ledger::default(), Place("t".into(), 0));
        let value = ledger.writing((7, 1), &place);
        ledger.committing((7, 1));
        ledger.seen(&place, 3, &value);
        ledger.read_to_the_end(&place, Vec::new());
        assert_eq!(ledger.judge().len(), 1);
        ledger.read_to_the_end(&place, vec![(3, value)]);
        assert!(ledger.judge().is_empty());
    }
}
