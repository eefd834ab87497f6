//! When it is a record's turn: not before its backoff, and not while an older one of its key is to be done.
//!
//! Both are kept in memory by who leads, so within an era and at one broker. What a member that left in order had comes back at once. The
//! order of keys is kept beyond that, since who leads next reads the log in order; but there somebody may still have what the one before handed out.

use super::{Books, Delivery, ROUNDING_MS, Record};
use crate::queues::value;

impl Books {
    /// Of which keys records are, of those too that come with what is handed out.
    pub(super) fn shown(&mut self, delivery: &Delivery) {
        if !self.rules.is_ordered {
            return;
        }
        for (offset, value) in &delivery.values {
            if let Some(key) = value::key(value).filter(|_| value::for_nobody(value).is_none()) {
                let key = (delivery.place.clone(), key.to_owned());
                self.keys.entry(key).or_default().insert(*offset);
            }
        }
    }

    /// Called before a delivery is taken down.
    pub(super) fn turn(
        &self,
        delivery: &Delivery,
        offset: i64,
        value: &str,
        now_ms: u64,
    ) -> Vec<String> {
        let mut wrong = Vec::new();
        wrong.extend(self.early(delivery, offset, now_ms));
        if self.rules.is_ordered
            && let Some(key) = value::key(value)
        {
            wrong.extend(self.out_of_order(delivery, offset, key, now_ms));
        }
        wrong
    }

    fn early(&self, delivery: &Delivery, offset: i64, now_ms: u64) -> Option<String> {
        let record = self.records.get(&(delivery.place.clone(), offset))?;
        let last = record.last.filter(|last| {
            !last.was_taken_back
                && (last.era, last.broker) == (delivery.era, delivery.broker)
                && last.era == self.era
                && last.received_ms < delivery.sent_ms
        })?;
        let count = delivery.count_of(offset)?;
        if count != last.count + 1 {
            return None;
        }
        let released = record.released.filter(|(of, _)| *of == last.count);
        let since_ms = released.map_or(last.sent_ms, |(_, sent_ms)| sent_ms.max(last.sent_ms));
        let due_ms = since_ms + self.rules.backoff_ms(last.count);
        (now_ms + ROUNDING_MS < due_ms).then(|| {
            format!(
                "{:?}: {offset} was given back after delivery {} at {since_ms} ms at the earliest, and delivery {count} comes \
                 before {due_ms} ms",
                delivery.place, last.count
            )
        })
    }

    fn out_of_order(
        &self,
        delivery: &Delivery,
        offset: i64,
        key: &str,
        now_ms: u64,
    ) -> Option<String> {
        let place = &delivery.place;
        let known = self.keys.get(&(place.clone(), key.to_owned()))?;
        let none = Record::default();
        for other in known.iter().filter(|other| **other != offset) {
            let record = self.records.get(&(place.clone(), *other));
            let record = record.unwrap_or(&none);
            let is_out = record.held.is_some_and(|held| {
                held.broker == delivery.broker
                    && held.received_ms < delivery.sent_ms
                    && held.is_live(self.era, now_ms)
                    && !held.ends
            });
            if is_out {
                return Some(format!(
                    "{place:?}: {offset} is handed out while {other} of its key {key} is out"
                ));
            }
            let is_open = record.end_asked_ms.is_none() && !self.may_be_given_up(record);
            if *other < offset && is_open {
                return Some(format!(
                    "{place:?}: {offset} is handed out before {other} of its key {key} is done with"
                ));
            }
        }
        None
    }
}

impl Delivery {
    fn count_of(&self, offset: i64) -> Option<i16> {
        let mut ranges = self.ranges.iter();
        let range = ranges.find(|(first, last, _)| (*first..=*last).contains(&offset));
        range.map(|(_, _, count)| *count)
    }
}
