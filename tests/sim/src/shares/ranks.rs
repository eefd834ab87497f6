//! Of a topic with strict priorities the greatest level is next, and an answer has one.
//!
//! What somebody else has just been handed nobody knows before he has heard it, or has not. So it is judged in the end, by what is certain. A message waited for all
//! of a fetch when the broker that was asked had acknowledged it before, in the same era, so that it is on that very leader's disk and may be read; when whoever
//! was handed it first asked later than that fetch was answered; and when nobody had asked that broker before, since it was started, without hearing what came of it.

use std::collections::BTreeMap;

use super::Delivery;
use crate::history::Place;
use crate::queues::value;

/// A message that waits.
#[derive(Clone, Copy, Debug)]
struct Taken {
    offset: i64,
    level: u8,
    at: At,
    acked_ms: u64,
}

/// At which broker, in which era.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct At {
    pub(super) broker: i32,
    pub(super) era: u64,
}

/// A fetch that was answered with messages of a level.
#[derive(Clone, Copy, Debug)]
struct Given {
    first: i64,
    level: u8,
    at: At,
    sent_ms: u64,
    received_ms: u64,
}

/// Somebody has asked, and has not heard what came of it. What was asked through a cut may arrive whenever that is mended.
#[derive(Clone, Copy, Debug)]
struct Unheard {
    broker: i32,
    sent_ms: u64,
    /// When it was given up.
    lost_ms: u64,
}

/// What is known of levels.
#[derive(Debug, Default)]
pub(super) struct Ranks {
    taken: BTreeMap<Place, Vec<Taken>>,
    given: BTreeMap<Place, Vec<Given>>,
    /// When somebody asked first who was handed a message then.
    asked_ms: BTreeMap<(Place, i64), u64>,
    unheard: Vec<Unheard>,
    /// When which broker was started.
    starts: Vec<(i32, u64)>,
}

impl Ranks {
    /// A message was acknowledged to who produced it in one era.
    pub(super) fn taken(&mut self, (place, offset): (&Place, i64), level: u8, at: At, now_ms: u64) {
        self.taken.entry(place.clone()).or_default().push(Taken {
            offset,
            level,
            at,
            acked_ms: now_ms,
        });
    }

    /// A member has asked a broker, and will not hear of it.
    pub(super) fn unheard(&mut self, broker: i32, sent_ms: u64, now_ms: u64) {
        self.unheard.push(Unheard {
            broker,
            sent_ms,
            lost_ms: now_ms,
        });
    }

    /// A broker is started: it knows of nothing that was asked of it before.
    pub(super) fn started(&mut self, broker: i32, now_ms: u64) {
        self.starts.push((broker, now_ms));
    }

    /// A member was handed something, in an era that goes on.
    pub(super) fn given(&mut self, delivery: &Delivery, era: u64, now_ms: u64) -> Option<String> {
        let place = &delivery.place;
        let offsets = delivery
            .ranges
            .iter()
            .flat_map(|(first, last, _)| *first..=*last);
        let mut levels = BTreeMap::new();
        for offset in offsets {
            let asked = self.asked_ms.entry((place.clone(), offset));
            let asked_ms = asked.or_insert(delivery.sent_ms);
            *asked_ms = delivery.sent_ms.min(*asked_ms);
            if let Some(level) = delivery
                .values
                .get(&offset)
                .and_then(|value| value::level(value))
            {
                levels.entry(level).or_insert(offset);
            }
        }
        if levels.len() > 1 {
            return Some(format!(
                "{place:?}: one answer has messages of several levels: {levels:?}"
            ));
        }
        let (level, first) = levels.pop_first()?;
        if era == delivery.era {
            self.given.entry(place.clone()).or_default().push(Given {
                first,
                level,
                at: At {
                    broker: delivery.broker,
                    era,
                },
                sent_ms: delivery.sent_ms,
                received_ms: now_ms,
            });
        }
        None
    }

    /// What must not be and is.
    pub(super) fn judge(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (place, given) in &self.given {
            let taken = self.taken.get(place).map_or(&[][..], Vec::as_slice);
            for given in given.iter().filter(|given| self.is_certain(given)) {
                let waits = |taken: &&Taken| {
                    let asked_ms = self.asked_ms.get(&(place.clone(), taken.offset));
                    taken.level > given.level
                        && taken.at == given.at
                        && taken.acked_ms < given.sent_ms
                        && asked_ms.is_some_and(|asked_ms| *asked_ms > given.received_ms)
                };
                if let Some(waiting) = taken.iter().find(waits) {
                    wrong.push(format!(
                        "{place:?}: {} waited while {} was handed out: {waiting:?}, {given:?}",
                        waiting.offset, given.first
                    ));
                }
            }
        }
        wrong
    }

    fn is_certain(&self, given: &Given) -> bool {
        let is_open = |unheard: &&Unheard| {
            let is_forgotten = |(broker, at_ms): &(i32, u64)| {
                *broker == unheard.broker && (unheard.lost_ms..=given.sent_ms).contains(at_ms)
            };
            unheard.broker == given.at.broker
                && unheard.sent_ms <= given.received_ms
                && !self.starts.iter().any(is_forgotten)
        };
        !self.unheard.iter().any(|unheard| is_open(&unheard))
    }
}
