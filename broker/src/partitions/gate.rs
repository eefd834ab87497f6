//! Where the first batches of transactions wait until their coordinators have vouched for them (KIP-890).
//!
//! A leader takes the first batch of a transaction only when its coordinator says that the partition is part of it. Meanwhile the
//! producer's later batches queue up behind it, so that they keep their order. Pure: it holds what waits, whatever that is, and says
//! what is to be done. What always holds: what waits is let through in the order of its coming, or given up, never lost; while
//! some of it is being let through, nothing passes it.
//!
//! A partition whose producers have no transaction to begin holds nothing here. What waits is bounded by the requests in flight;
//! what is remembered of producers whose batches could not be taken, by [`REMEMBERED_MAX`].

use std::collections::{BTreeMap, VecDeque};

use weir_log::Verified;
use weir_wire::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

/// Producers that are remembered though nothing of theirs is under way: in as many transactions at once something may go wrong
/// in one partition. Beyond it the one that was remembered first is forgotten.
const REMEMBERED_MAX: usize = 1_000;

/// A producer in one of its incarnations.
pub(super) type Who = (ProducerId, ProducerEpoch);

/// What becomes of a batch that is offered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Offered<T> {
    /// It is to be appended now.
    Pass(T, Option<Word>),
    /// It waits, and the coordinator is to be asked.
    Ask,
    /// It waits behind others.
    Waits,
    /// A batch before it is missing, whose first sequence was this.
    Gap(T, i32),
}

/// The coordinator's word, and which question it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) verified: Verified,
    number: u64,
}

/// One producer.
#[derive(Debug)]
struct Entry<T> {
    stage: Stage<T>,
    /// The least sequence that was offered since nothing was taken: those above it do not come before it.
    lowest_sequence: i32,
    /// In which leadership that was: in between others may have led, and taken it.
    epoch: LeaderEpoch,
    /// Of the question that it waits for, or waited for last. They ascend.
    number: u64,
    verified: Verified,
    /// Batches that were let through and are neither taken nor refused yet.
    under_way: usize,
}

#[derive(Debug)]
enum Stage<T> {
    /// Nothing is under way. The last attempt failed.
    Remembered,
    /// The coordinator is asked, or what waited is being let through.
    Waiting {
        waiting: VecDeque<T>,
        /// A marker of this producer was written since the coordinator was asked, which may have waited for just that.
        is_out_of_date: bool,
        /// One of those that were let through is in the log.
        is_taken: bool,
    },
    /// It has vouched, and batches are on their way to the lane.
    Vouched,
}

impl<T> Stage<T> {
    fn waiting(batch: T) -> Self {
        Self::Waiting {
            waiting: VecDeque::from([batch]),
            is_out_of_date: false,
            is_taken: false,
        }
    }
}

impl<T> Entry<T> {
    /// One whose first batch waits for the coordinator's word.
    fn asking(
        batch: T,
        (lowest_sequence, epoch): (i32, LeaderEpoch),
        number: u64,
        verified: Verified,
    ) -> Self {
        Self {
            stage: Stage::waiting(batch),
            lowest_sequence,
            epoch,
            number,
            verified,
            under_way: 0,
        }
    }

    fn word(&self) -> Word {
        Word {
            verified: self.verified,
            number: self.number,
        }
    }
}

/// The gate of one partition.
#[derive(Debug)]
pub(super) struct Gate<T> {
    producers: BTreeMap<Who, Entry<T>>,
    next_number: u64,
}

impl<T> Default for Gate<T> {
    fn default() -> Self {
        Self {
            producers: BTreeMap::new(),
            next_number: 0,
        }
    }
}

impl<T> Gate<T> {
    /// A batch of a transaction comes, to who leads in this `epoch`. `is_ongoing`: the log has a transaction of this producer open.
    /// `verified`: what the coordinator's word would be good for if it were asked now.
    pub(super) fn offer(
        &mut self,
        who: Who,
        (sequence, epoch): (i32, LeaderEpoch),
        batch: T,
        is_ongoing: bool,
        verified: Verified,
    ) -> Offered<T> {
        let number = self.next_number;
        let Some(entry) = self.producers.get_mut(&who) else {
            if is_ongoing {
                return Offered::Pass(batch, None);
            }
            self.next_number += 1;
            let entry = Entry::asking(batch, (sequence, epoch), number, verified);
            self.producers.insert(who, entry);
            return Offered::Ask;
        };
        match &mut entry.stage {
            Stage::Waiting { waiting, .. } => {
                waiting.push_back(batch);
                Offered::Waits
            }
            Stage::Vouched => {
                entry.under_way += 1;
                Offered::Pass(batch, Some(entry.word()))
            }
            Stage::Remembered if is_ongoing => {
                self.producers.remove(&who);
                Offered::Pass(batch, None)
            }
            Stage::Remembered if entry.epoch == epoch && sequence > entry.lowest_sequence => {
                Offered::Gap(batch, entry.lowest_sequence)
            }
            Stage::Remembered => {
                self.next_number += 1;
                *entry = Entry::asking(batch, (sequence, epoch), number, verified);
                Offered::Ask
            }
        }
    }

    /// The coordinator is about to be asked, perhaps again: its word is good for what comes after `since`.
    pub(super) fn asking(&mut self, who: Who, since: Offset) {
        if let Some(entry) = self.producers.get_mut(&who)
            && let Stage::Waiting { is_out_of_date, .. } = &mut entry.stage
        {
            *is_out_of_date = false;
            entry.verified.since = since;
        }
    }

    /// Whether a marker was written since the coordinator was asked, so that its word counts for nothing here.
    pub(super) fn is_out_of_date(&self, who: Who) -> bool {
        self.producers.get(&who).is_some_and(|entry| {
            matches!(
                entry.stage,
                Stage::Waiting {
                    is_out_of_date: true,
                    ..
                }
            )
        })
    }

    /// The coordinator has vouched. The next batch that is to be appended; what is offered meanwhile waits. `None` when all that
    /// waited is on its way.
    pub(super) fn next(&mut self, who: Who) -> Option<(T, Word)> {
        let entry = self.producers.get_mut(&who)?;
        let word = entry.word();
        let Stage::Waiting {
            waiting, is_taken, ..
        } = &mut entry.stage
        else {
            return None;
        };
        if let Some(batch) = waiting.pop_front() {
            entry.under_way += 1;
            return Some((batch, word));
        }
        if *is_taken {
            self.producers.remove(&who);
        } else if entry.under_way == 0 {
            entry.stage = Stage::Remembered;
            self.forget_surplus();
        } else {
            entry.stage = Stage::Vouched;
        }
        None
    }

    /// The coordinator has not vouched. Gives back what waited.
    pub(super) fn refuse(&mut self, who: Who) -> VecDeque<T> {
        let Some(entry) = self.producers.get_mut(&who) else {
            return VecDeque::new();
        };
        match std::mem::replace(&mut entry.stage, Stage::Remembered) {
            Stage::Waiting { waiting, .. } => {
                self.forget_surplus();
                waiting
            }
            other => {
                entry.stage = other;
                VecDeque::new()
            }
        }
    }

    /// A batch that was let through on this word has been taken, or refused.
    pub(super) fn settled(&mut self, who: Who, word: Word, was_taken: bool) {
        let Some(entry) = self.producers.get_mut(&who) else {
            return;
        };
        if entry.number != word.number {
            return;
        }
        entry.under_way = entry.under_way.saturating_sub(1);
        match &mut entry.stage {
            Stage::Waiting { is_taken, .. } => *is_taken |= was_taken,
            // From here on the log itself knows that the transaction is open.
            Stage::Vouched if was_taken => {
                self.producers.remove(&who);
            }
            Stage::Vouched if entry.under_way == 0 => {
                entry.stage = Stage::Remembered;
                self.forget_surplus();
            }
            Stage::Vouched | Stage::Remembered => {}
        }
    }

    /// A marker has ended the producer's transaction: what went wrong in it is of no account in the next, and the word that a
    /// coordinator may just be giving is asked for again.
    pub(super) fn ended(&mut self, id: ProducerId) {
        let all = (id, ProducerEpoch(i16::MIN))..=(id, ProducerEpoch(i16::MAX));
        let mut remembered = Vec::new();
        for (who, entry) in self.producers.range_mut(all) {
            match &mut entry.stage {
                Stage::Remembered => remembered.push(*who),
                Stage::Waiting { is_out_of_date, .. } => *is_out_of_date = true,
                Stage::Vouched => {}
            }
        }
        for who in remembered {
            self.producers.remove(&who);
        }
    }

    fn forget_surplus(&mut self) {
        let remembered = |entry: &Entry<T>| matches!(entry.stage, Stage::Remembered);
        let kept = self
            .producers
            .values()
            .filter(|entry| remembered(entry))
            .count();
        if kept <= REMEMBERED_MAX {
            return;
        }
        let oldest = self
            .producers
            .iter()
            .filter(|(_, entry)| remembered(entry))
            .min_by_key(|(_, entry)| entry.number)
            .map(|(who, _)| *who);
        if let Some(oldest) = oldest {
            self.producers.remove(&oldest);
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }
}

#[cfg(test)]
mod tests;
