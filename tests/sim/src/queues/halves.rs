//! Half messages: what their producers prepared, decided and heard, and what must hold of it.
//!
//! All messages of a half are in the logs or none is, each once and in the half's order: all where a commit was acknowledged, none where a rollback was or where
//! nobody wanted a commit. A broker gives up a half by itself only when it was asked for as often as its producer allows, which takes its time; and it asks
//! for what is open only, with what was prepared.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::books::Books;
use crate::history::Place;

/// What clocks may differ by in rounding.
const ROUNDING_MS: u64 = 5;

/// How a half ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Its messages are published.
    Commit,
    /// They never are.
    Rollback,
}

/// A half.
#[derive(Clone, Debug)]
pub struct Deal {
    /// What is to be published, and where.
    pub messages: Vec<(Place, String)>,
    /// After how long it is asked for.
    pub check_after_ms: u64,
    /// How often.
    pub asks_max: u32,
    /// When it was sent.
    pub sent_ms: u64,
    /// Its name, once anybody has heard it.
    pub id: Option<String>,
    /// What its producer has decided, once it has.
    pub decision: Option<Ending>,
    /// How it has ended by a broker's word, and when that came.
    pub ended: Option<(Ending, u64)>,
}

impl Deal {
    /// One that is about to be prepared.
    #[must_use]
    pub fn new(messages: Vec<(Place, String)>, check_after_ms: u64, asks_max: u32) -> Self {
        Self {
            messages,
            check_after_ms,
            asks_max,
            sent_ms: 0,
            id: None,
            decision: None,
            ended: None,
        }
    }

    /// Until when it is asked for at least, if nobody decides.
    #[must_use]
    pub fn open_until_ms(&self) -> u64 {
        self.sent_ms + (u64::from(self.asks_max) + 1) * self.check_after_ms
    }
}

/// The halves of a life. Clones are the same ones.
#[derive(Clone, Debug)]
pub struct Deals {
    books: Books,
    deals: Arc<Mutex<Vec<Deal>>>,
}

impl Deals {
    /// None yet.
    #[must_use]
    pub fn new(books: Books) -> Self {
        Self {
            books,
            deals: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Deal>> {
        self.deals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, number: usize, what: impl FnOnce(&mut Deal) -> T) -> Option<T> {
        self.lock().get_mut(number).map(what)
    }

    /// A half is about to be prepared: its number.
    #[must_use]
    pub fn preparing(&self, mut deal: Deal) -> usize {
        deal.sent_ms = self.books.now_ms();
        let mut deals = self.lock();
        deals.push(deal);
        deals.len() - 1
    }

    /// The life's clock.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.books.now_ms()
    }

    /// A half as it stands.
    #[must_use]
    pub fn get(&self, number: usize) -> Option<Deal> {
        self.lock().get(number).cloned()
    }

    /// Those that nobody has heard the end of, of which the name is known.
    #[must_use]
    pub fn open(&self) -> Vec<(usize, Deal)> {
        let deals = self.lock();
        let all = deals.iter().enumerate();
        let open = all.filter(|(_, deal)| deal.id.is_some() && deal.ended.is_none());
        open.map(|(number, deal)| (number, deal.clone())).collect()
    }

    /// A half is kept, by this name.
    pub fn prepared(&self, number: usize, id: &str) {
        self.note("prepared", number);
        let named = |deal: &mut Deal| deal.id.get_or_insert_with(|| id.to_owned()).as_str() == id;
        if self.with(number, named) == Some(false) {
            self.wrong(number, &format!("is {id} too"));
        }
    }

    /// Its producer has decided, for good.
    pub fn decide(&self, number: usize, ending: Ending) {
        self.with(number, |deal| *deal.decision.get_or_insert(ending));
    }

    /// A broker says that a half has ended as its producer has decided.
    pub fn ended(&self, number: usize, ending: Ending) {
        self.note("ended", number);
        let now_ms = self.books.now_ms();
        let how = self.with(number, |deal| deal.ended.get_or_insert((ending, now_ms)).0);
        if how.is_some_and(|how| how != ending) {
            self.wrong(number, &format!("has ended in a {ending:?} too"));
        }
    }

    /// A broker says that a half has ended in another way than its producer has decided.
    pub fn contradicted(&self, number: usize, decided: Ending) {
        self.note("contradicted", number);
        let now_ms = self.books.now_ms();
        let Some(deal) = self.get(number) else {
            return;
        };
        if decided == Ending::Rollback {
            return self.wrong(number, "is committed, which nobody has asked for");
        }
        if now_ms + ROUNDING_MS < deal.open_until_ms() {
            self.wrong(
                number,
                "is rolled back before it was asked for often enough",
            );
        }
        self.ended(number, Ending::Rollback);
    }

    /// A broker asks what became of these messages, over a stream that was begun then: which half that is.
    #[must_use]
    pub fn asked(
        &self,
        (id, asked): (&str, u32),
        messages: &[(Place, String)],
        stream_ms: u64,
    ) -> Option<usize> {
        let number = self
            .lock()
            .iter()
            .position(|deal| deal.messages == *messages);
        let Some(number) = number else {
            self.books.wrong(format!(
                "{id} is asked for, which nobody has prepared: {messages:?}"
            ));
            return None;
        };
        self.prepared(number, id);
        let deal = self.get(number)?;
        if !(1..=deal.asks_max).contains(&asked) {
            self.wrong(number, &format!("is asked for the {asked}. time"));
        }
        if deal.ended.is_some_and(|(_, ended_ms)| ended_ms < stream_ms) {
            self.wrong(number, "is asked for though it has ended");
        }
        Some(number)
    }

    /// Something must not be of a half.
    pub fn wrong(&self, number: usize, what: &str) {
        let deal = self.get(number);
        self.books.wrong(format!("half {number} {what}: {deal:?}"));
    }

    fn note(&self, what: &str, number: usize) {
        self.books.note(what, number);
    }

    /// What must not be and is, once everything was read.
    #[must_use]
    pub fn judge(&self) -> Vec<String> {
        let mut there = self.books.places();
        let mut wrong = Vec::new();
        for (number, deal) in self.lock().iter().enumerate() {
            wrong.extend(
                judge(deal, &mut there)
                    .into_iter()
                    .map(|what| format!("half {number}: {what}: {deal:?}")),
            );
        }
        let others = there.into_iter();
        wrong.extend(others.map(|(value, places)| {
            format!("{value} is at {places:?}, which nobody has prepared there")
        }));
        wrong
    }
}

/// Takes what a half has put there out of what is there; says what is wrong with it.
fn judge(deal: &Deal, there: &mut BTreeMap<String, Vec<(Place, i64)>>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut missing = BTreeSet::new();
    let mut last: BTreeMap<&Place, i64> = BTreeMap::new();
    for (place, value) in &deal.messages {
        let found = there.remove(value).unwrap_or_default();
        let Some((at, offset)) = found.first() else {
            missing.insert(value);
            continue;
        };
        if found.len() > 1 || at != place {
            wrong.push(format!("{value} is at {found:?}"));
        }
        if last
            .insert(place, *offset)
            .is_some_and(|last| last > *offset)
        {
            wrong.push(format!("{value} at {offset} comes too early"));
        }
    }
    let is_published = missing.len() < deal.messages.len();
    if is_published && !missing.is_empty() {
        wrong.push(format!("{missing:?} are missing"));
    }
    match deal.ended {
        Some((Ending::Commit, _)) if !is_published => {
            wrong.push("it is committed, and not there".to_owned());
        }
        Some((Ending::Rollback, _)) if is_published => {
            wrong.push("it is rolled back, and there".to_owned());
        }
        _ if is_published && deal.decision != Some(Ending::Commit) => {
            wrong.push("it is there, and its producer has committed nothing".to_owned());
        }
        _ => {}
    }
    wrong
}
