//! What members of a share group were handed and said of it, and what must hold.
//!
//! What its group and its topic ask for is in the group's [`Rules`]: how often a record is handed out, how long it waits in between
//! ([`turns`]), whether records of one key go one at a time, and that some are for nobody.
//!
//! A record whose acceptance or rejection was acknowledged is handed to nobody afterwards. A record is out with one member at a
//! time, for as long as its lock certainly lasts. Deliveries are counted up. In the end every record was accepted, rejected, or
//! handed out as often as it may be.
//!
//! Clients see of a lock only when they asked for it and when the answer came, so what is judged is what is certain: a lock
//! begins when its fetch was sent at the earliest, and is forgotten by design when the partition's leader changes. The life
//! tells of that as a new *era*; within one, and at one broker, locks and counts must hold.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::history::{Place, Shared};
use crate::network::{HostId, Net};
use crate::queues::value;
use ranks::{At, Ranks};

mod ranks;
mod turns;

/// How long a lock lasts, as the group is configured: short, so that some end in every life.
pub const LOCK_MS: u64 = 2_500;
/// How often a record is handed out at most, as the group is configured: the most that brokers allow unless told otherwise, so
/// that few records are given up for answers that nobody heard.
pub const DELIVERIES_MAX: i16 = 10;
/// What the clocks of a broker and of the life may differ by in rounding.
const ROUNDING_MS: u64 = 5;

/// What a group and its topic ask for.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The group.
    pub group: &'static str,
    /// What it works on.
    pub topic: &'static str,
    /// How often a record is handed out at most.
    pub deliveries_max: i16,
    /// How long a record waits after each delivery; the last goes on.
    pub backoffs_ms: &'static [u64],
    /// Records of one key go one at a time.
    pub is_ordered: bool,
    /// The greatest level is next.
    pub is_ranked: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            group: "sharers",
            topic: "orders",
            deliveries_max: DELIVERIES_MAX,
            backoffs_ms: &[],
            is_ordered: false,
            is_ranked: false,
        }
    }
}

impl Rules {
    /// How long a record waits after so many deliveries.
    #[must_use]
    pub fn backoff_ms(&self, deliveries: i16) -> u64 {
        let nth = usize::try_from(deliveries.max(1) - 1).unwrap_or(0);
        let backoff = self.backoffs_ms.get(nth).or(self.backoffs_ms.last());
        backoff.copied().unwrap_or(0)
    }
}

/// What a member says of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum Say {
    /// It is done with.
    Accept = 1,
    /// It may be handed to another.
    Release = 2,
    /// It is never to be handed out again.
    Reject = 3,
}

/// What a member was handed of one partition in one answer.
#[derive(Debug)]
pub struct Delivery {
    /// Who.
    pub member: HostId,
    /// By which broker.
    pub broker: i32,
    /// Where.
    pub place: Place,
    /// When it was asked for.
    pub sent_ms: u64,
    /// In which era that was.
    pub era: u64,
    /// First and last offset, and how often they were handed out, in the answer's order.
    pub ranges: Vec<(i64, i64, i16)>,
    /// The records that came with them.
    pub values: BTreeMap<i64, String>,
}

/// What came of what a member said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It was acknowledged.
    Yes,
    /// The broker says that the member does not have the record.
    NotHeld,
    /// It did not take effect, and need not have.
    Nothing,
    /// Nobody knows, or it did not take effect for other reasons.
    Unknown,
}

/// The share group of a life. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Shares {
    net: Net,
    history: Shared,
    books: Arc<Mutex<Books>>,
}

#[derive(Debug, Default)]
struct Books {
    rules: Rules,
    is_closed: bool,
    is_over: bool,
    /// Members are to do nothing, and so many do.
    rests: bool,
    resting: usize,
    /// Where logs begin that do not begin at 0: what was before made room.
    starts: BTreeMap<Place, i64>,
    era: u64,
    records: BTreeMap<(Place, i64), Record>,
    /// When the answers to fetches were given up.
    unanswered: Vec<u64>,
    settled: usize,
    /// Members that have gone for good.
    gone: usize,
    /// Records of each key that somebody was shown, where that counts.
    keys: BTreeMap<(Place, String), BTreeSet<i64>>,
    ranks: Ranks,
}

#[derive(Debug, Default)]
struct Record {
    last: Option<Last>,
    /// When its end was asked for first.
    end_asked_ms: Option<u64>,
    /// Its acceptance was asked for.
    may_be_accepted: bool,
    /// Its acceptance was acknowledged to who certainly had it.
    is_accepted: bool,
    /// A release was acknowledged: after which delivery, and when it was asked for.
    released: Option<(i16, u64)>,
    /// The greatest count at which a release was acknowledged: it is stored.
    floor: i16,
    /// When its end was acknowledged.
    settled_ms: Option<u64>,
    /// Its end was asked for, and maybe came.
    may_be_settled: bool,
    held: Option<Holding>,
}

/// The last delivery that anyone saw.
#[derive(Clone, Copy, Debug)]
struct Last {
    count: i16,
    member: HostId,
    era: u64,
    broker: i32,
    sent_ms: u64,
    received_ms: u64,
    /// The member has left in order since, which takes the delivery back.
    was_taken_back: bool,
}

/// A record is out.
#[derive(Clone, Copy, Debug)]
struct Holding {
    member: HostId,
    broker: i32,
    era: u64,
    sent_ms: u64,
    received_ms: u64,
    /// It has said that it is done with it, and has not heard yet: maybe it is.
    ends: bool,
}

impl Holding {
    /// Whether its lock certainly lasts.
    fn is_live(&self, era: u64, now_ms: u64) -> bool {
        self.era == era && now_ms + ROUNDING_MS < self.sent_ms + LOCK_MS
    }
}

impl Shares {
    /// One of which nothing is known yet.
    #[must_use]
    pub fn new(net: Net, history: Shared, rules: Rules) -> Self {
        let books = Books {
            rules,
            ..Books::default()
        };
        Self {
            net,
            history,
            books: Arc::new(Mutex::new(books)),
        }
    }

    /// What its group and its topic ask for.
    #[must_use]
    pub fn rules(&self) -> Rules {
        self.lock().rules
    }

    /// A member takes no part any more.
    pub fn gone(&self) {
        self.lock().gone += 1;
    }

    /// How many members take no part any more.
    #[must_use]
    pub fn gone_count(&self) -> usize {
        self.lock().gone
    }

    /// When a record may have been settled at the earliest; `None`: it is not.
    #[must_use]
    pub fn settled_from(&self, place: &Place, offset: i64) -> Option<u64> {
        let books = self.lock();
        let record = books.records.get(&(place.clone(), offset));
        let asked = record.and_then(|record| record.end_asked_ms);
        // What may have been given up may have been long ago.
        let is_given_up = books.may_be_given_up(record.unwrap_or(&Record::default()));
        is_given_up.then_some(0).or(asked)
    }

    /// Whether a record was certainly accepted, and whether it may have been.
    #[must_use]
    pub fn acceptance(&self, place: &Place, offset: i64) -> (bool, bool) {
        let books = self.lock();
        let record = books.records.get(&(place.clone(), offset));
        record.map_or((false, false), |record| {
            (record.is_accepted, record.may_be_accepted)
        })
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The life's clock.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.net.now_ms()
    }

    /// Nothing more is written: what is there is to be finished.
    pub fn close(&self) {
        self.lock().is_closed = true;
    }

    /// Whether nothing more is written.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// Everything is finished.
    pub fn end(&self) {
        self.lock().is_over = true;
    }

    /// Members are to do nothing for a while, or are to go on.
    pub fn rest(&self, rests: bool) {
        self.lock().rests = rests;
    }

    /// Whether members are to do nothing.
    #[must_use]
    pub fn rests(&self) -> bool {
        self.lock().rests
    }

    /// A member does nothing, or goes on.
    pub fn resting(&self, does: bool) {
        let resting = &mut self.lock().resting;
        *resting = if does { *resting + 1 } else { *resting - 1 };
    }

    /// How many members do nothing.
    #[must_use]
    pub fn resting_count(&self) -> usize {
        self.lock().resting
    }

    /// A log begins there: nobody is handed what was before.
    pub fn begins(&self, place: &Place, start: i64) {
        self.lock().starts.insert(place.clone(), start);
    }

    /// Whether everything is finished.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.lock().is_over
    }

    /// Records whose end was acknowledged.
    #[must_use]
    pub fn settled_count(&self) -> usize {
        self.lock().settled
    }

    /// A leader may be another: locks may be forgotten.
    pub fn new_era(&self) {
        self.lock().era += 1;
    }

    /// A member gave up waiting for an answer, or its connection ended: its session is over.
    pub fn lost(&self, member: HostId, broker: i32) {
        let now_ms = self.now_ms();
        let mut books = self.lock();
        books.unanswered.push(now_ms);
        books.let_go(|_, held| (held.member, held.broker) == (member, broker));
    }

    /// A member has asked for records, and will not hear what came of it.
    pub fn unheard(&self, broker: i32, sent_ms: u64) {
        let now_ms = self.now_ms();
        self.lock().ranks.unheard(broker, sent_ms, now_ms);
    }

    /// A broker is started.
    pub fn started(&self, broker: HostId) {
        let now_ms = self.now_ms();
        self.lock().ranks.started(i32::from(broker), now_ms);
    }

    /// A message of a level was acknowledged to who produced it in an era.
    pub fn taken(&self, (place, offset): (&Place, i64), level: u8, (broker, era): (i32, u64)) {
        let now_ms = self.now_ms();
        let mut books = self.lock();
        if books.era == era {
            let at = At { broker, era };
            books.ranks.taken((place, offset), level, at, now_ms);
        }
    }

    /// A member is about to end its session in order.
    pub fn leaving(&self, member: HostId, broker: i32) {
        let mut books = self.lock();
        books.let_go(|_, held| (held.member, held.broker) == (member, broker));
        // Also what it said something of that was refused: it had that still.
        for last in books.records.values_mut().filter_map(|it| it.last.as_mut()) {
            last.was_taken_back |= (last.member, last.broker) == (member, broker);
        }
    }

    /// A member is about to take a partition out of its session.
    pub fn forgetting(&self, member: HostId, broker: i32, place: &Place) {
        self.lock()
            .let_go(|at, held| at == place && (held.member, held.broker) == (member, broker));
    }

    /// An answer came.
    pub fn delivered(&self, delivery: &Delivery) {
        let now_ms = self.now_ms();
        let Delivery { place, values, .. } = delivery;
        let mut wrong = Vec::new();
        let mut before = -1;
        {
            let mut books = self.lock();
            books.shown(delivery);
            if books.rules.is_ranked {
                let era = books.era;
                wrong.extend(books.ranks.given(delivery, era, now_ms));
            }
        }
        for (first, last, count) in &delivery.ranges {
            let numbers = [first.unsigned_abs(), last.unsigned_abs()];
            self.net.note("shared", &numbers);
            if *first <= before || last < first {
                wrong.push(format!(
                    "{place:?}: a share fetch acquired {:?}, which do not ascend",
                    delivery.ranges
                ));
                break;
            }
            before = *last;
            for offset in *first..=*last {
                match values.get(&offset) {
                    Some(value) => {
                        self.history.seen(place, offset, value);
                        if let Some(why) = value::for_nobody(value) {
                            wrong.push(format!("{place:?}: {offset} is handed out, {why}"));
                        }
                        wrong.extend(self.lock().turn(delivery, offset, value, now_ms));
                    }
                    None => wrong.push(format!("{place:?}: {offset} is acquired, and not there")),
                }
                let mut books = self.lock();
                wrong.extend(books.delivered(delivery, offset, *count, now_ms));
            }
        }
        self.say(wrong);
    }

    /// A member is about to say something of a record: one that is released may be with another from now on, and whoever had one before
    /// that is done with is told that all is well.
    pub fn saying(&self, member: HostId, place: &Place, offset: i64, say: Say) {
        let mut books = self.lock();
        let record = books.records.entry((place.clone(), offset)).or_default();
        if say != Say::Release {
            record.end_asked_ms.get_or_insert(self.net.now_ms());
            record.may_be_accepted |= say == Say::Accept;
        }
        if let Some(held) = record.held.as_mut().filter(|held| held.member == member) {
            held.ends = true;
        }
        record.held.take_if(|held| held.ends && say == Say::Release);
    }

    /// A member has heard what came of what it said of a record.
    pub fn said(&self, said: &Said) {
        let now_ms = self.now_ms();
        let wrong = self.lock().said(said, now_ms);
        self.say(wrong);
    }

    fn say(&self, wrong: Vec<String>) {
        for what in wrong {
            self.history.wrong(what);
        }
    }

    /// What must not be and is, once everything below `ends` should be finished.
    #[must_use]
    pub fn judge(&self, ends: &[(Place, i64)]) -> Vec<String> {
        self.lock().judge(ends)
    }
}

/// See [`Shares::said`].
#[derive(Clone, Debug)]
pub struct Said {
    /// Who.
    pub member: HostId,
    /// Of which record.
    pub place: Place,
    /// Of which record.
    pub offset: i64,
    /// How often it was handed out, as the member was told.
    pub count: i16,
    /// When it was asked for.
    pub acquired_ms: u64,
    /// In which era that was.
    pub era: u64,
    /// What.
    pub say: Say,
    /// When.
    pub sent_ms: u64,
    /// What came of it.
    pub heard: Heard,
}

impl Said {
    /// Whether the member certainly had the record until now.
    fn is_live(&self, era: u64, now_ms: u64) -> bool {
        self.era == era && now_ms + ROUNDING_MS < self.acquired_ms + LOCK_MS
    }
}

impl Shares {
    /// Whether the member certainly had until now what it said something of.
    #[must_use]
    pub fn is_live(&self, said: &Said) -> bool {
        said.is_live(self.era(), self.now_ms())
    }

    /// The era.
    #[must_use]
    pub fn era(&self) -> u64 {
        self.lock().era
    }
}

impl Books {
    fn let_go(&mut self, which: impl Fn(&Place, &Holding) -> bool) {
        for ((place, _), record) in &mut self.records {
            record.held.take_if(|held| which(place, held));
        }
    }

    fn delivered(
        &mut self,
        delivery: &Delivery,
        offset: i64,
        count: i16,
        now_ms: u64,
    ) -> Vec<String> {
        let (era, deliveries_max) = (self.era, self.rules.deliveries_max);
        let (place, member) = (&delivery.place, delivery.member);
        let record = self.records.entry((place.clone(), offset)).or_default();
        let mut wrong = Vec::new();
        if record
            .settled_ms
            .is_some_and(|settled_ms| settled_ms < delivery.sent_ms)
        {
            wrong.push(format!(
                "{place:?}: {offset} was done with, and is handed to {member}"
            ));
        }
        if let Some(held) = record.held
            && held.broker == delivery.broker
            && held.received_ms < delivery.sent_ms
            && held.is_live(era, now_ms)
        {
            wrong.push(format!(
                "{place:?}: {offset} is out with {} and is handed to {member}",
                held.member
            ));
        }
        if count <= record.floor {
            wrong.push(format!(
                "{place:?}: {offset} was released after {} deliveries, and this is number {count}",
                record.floor
            ));
        }
        if let Some(last) = record.last
            && (last.era, last.broker) == (delivery.era, delivery.broker)
            && last.era == era
            && last.received_ms < delivery.sent_ms
            && count < last.count + i16::from(!last.was_taken_back)
        {
            wrong.push(format!(
                "{place:?}: delivery {count} of {offset} comes after number {}",
                last.count
            ));
        }
        if !(1..=deliveries_max).contains(&count) {
            wrong.push(format!("{place:?}: delivery {count} of {offset}"));
        }
        record.last = Some(Last {
            count,
            member,
            era: delivery.era,
            broker: delivery.broker,
            sent_ms: delivery.sent_ms,
            received_ms: now_ms,
            was_taken_back: false,
        });
        record.held = Some(Holding {
            member,
            broker: delivery.broker,
            era: delivery.era,
            sent_ms: delivery.sent_ms,
            received_ms: now_ms,
            ends: false,
        });
        wrong
    }

    fn said(&mut self, said: &Said, now_ms: u64) -> Vec<String> {
        let mut wrong = Vec::new();
        let (place, offset, member) = (&said.place, said.offset, said.member);
        let was_live = said.era == self.era && now_ms + ROUNDING_MS < said.acquired_ms + LOCK_MS;
        let (era, deliveries_max) = (self.era, self.rules.deliveries_max);
        let record = self.records.entry((place.clone(), offset)).or_default();
        // Who has said something has nothing any more, whatever came of it.
        record.held.take_if(|held| held.member == member);
        match said.heard {
            Heard::Unknown => record.may_be_settled |= said.say != Say::Release,
            Heard::NotHeld if was_live => wrong.push(format!(
                "{place:?}: {member} has {offset}, and is told that it has not"
            )),
            Heard::NotHeld | Heard::Nothing => {}
            Heard::Yes if said.say == Say::Release => {
                if was_live && said.count < deliveries_max {
                    record.floor = record.floor.max(said.count);
                    record.released = Some((said.count, said.sent_ms));
                }
            }
            Heard::Yes => {
                if let Some(held) = record.held
                    && held.received_ms < said.sent_ms
                    && held.is_live(era, now_ms)
                    && !held.ends
                {
                    wrong.push(format!(
                        "{place:?}: {member} ends {offset}, which {} has",
                        held.member
                    ));
                }
                record.is_accepted |= was_live && said.say == Say::Accept;
                let first = record.settled_ms.is_none();
                record.settled_ms.get_or_insert(now_ms);
                self.settled += usize::from(first);
            }
        }
        wrong
    }

    /// Whether a record may have been handed out as often as it may be.
    fn may_be_given_up(&self, record: &Record) -> bool {
        // What was handed out in answers that nobody heard counts too.
        let (count, since_ms) = record
            .last
            .map_or((0, 0), |last| (last.count, last.received_ms));
        let unheard = self.unanswered.iter().filter(|at| **at >= since_ms).count();
        let most = usize::try_from(count).unwrap_or(0) + unheard;
        most >= usize::try_from(self.rules.deliveries_max).unwrap_or(0)
    }

    fn judge(&self, ends: &[(Place, i64)]) -> Vec<String> {
        let mut wrong = self.ranks.judge();
        let none = Record::default();
        for (place, end) in ends {
            let start = self.starts.get(place).copied().unwrap_or(0);
            for offset in start..*end {
                let record = self.records.get(&(place.clone(), offset)).unwrap_or(&none);
                if record.settled_ms.is_some() || record.may_be_settled {
                    continue;
                }
                if !self.may_be_given_up(record) {
                    wrong.push(format!(
                        "{place:?}: {offset} counts as done with, and nobody was: {record:?}"
                    ));
                }
            }
        }
        wrong
    }
}

#[cfg(test)]
mod tests;
