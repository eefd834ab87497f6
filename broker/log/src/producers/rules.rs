//! Which batches and markers are taken: Kafka's rules, those of KIP-98, KIP-890 and KIP-1228.

use weir_wire::batch::{BatchHeader, EndTransactionMarker};
use weir_wire::{Offset, ProducerId};

use super::Producers;
use super::producer::{Producer, SeenBatch};
use crate::error::{AppendError, SequenceError, TransactionError};

/// Whose batch it is, which decides what is asked of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// A producer's: sequences count, and what was seen before is a duplicate.
    #[default]
    Client,
    /// A producer's, behind one in front of it that only brokers read, which is of no producer and of which nothing is asked: both are appended,
    /// one behind the other, or none of them. Of the two the second is judged, and told of.
    Escorted,
    /// A broker's own, behind one in front of it as with [`Escorted`](Self::Escorted). Nothing is asked of either.
    Noted,
    /// A coordinator's own, such as the offsets of a transaction, which carry the producer's id and epoch and no sequence.
    Coordinator,
    /// The end of a transaction, as its coordinator says.
    Marker {
        /// 0 and 1: the marker carries the producer's epoch. 2 and above: a greater one, by which a late marker is known (KIP-1228).
        transaction_version: i8,
    },
}

/// The word of a transaction's coordinator that this partition is part of the producer's ongoing transaction. Without it a
/// producer's first batch of a transaction is refused, or it might never end (KIP-890).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Where the log ended before the coordinator was asked: a marker of this producer from there on makes its word void.
    pub since: Offset,
    /// The producer begins each transaction with sequence 0 (transactions version 2), so that one without any state here cannot
    /// begin with another.
    pub begins_at_zero: bool,
}

/// A batch that is to be judged or remembered: its header, and what it says if it is a marker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arriving {
    pub(crate) header: BatchHeader,
    pub(crate) marker: Option<EndTransactionMarker>,
}

/// What is to be done with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Append it.
    Append,
    /// It is in the log already, at these offsets.
    Duplicate {
        base_offset: Offset,
        last_offset: Offset,
    },
}

impl Producers {
    /// Judges a batch. Nothing changes. When there are `producers_max` open transactions, no producer may begin one more that is
    /// not known: nothing could give way to it. With `begins_at_zero` a producer that is not known has to begin with sequence 0.
    pub(crate) fn check(
        &self,
        arriving: &Arriving,
        origin: Origin,
        verified: Option<Verified>,
        (producers_max, begins_at_zero): (usize, bool),
    ) -> Result<Verdict, AppendError> {
        let Arriving { header, marker } = arriving;
        if header.producer_id.0 < 0 {
            return Ok(Verdict::Append);
        }
        let known = self.by_id.get(&header.producer_id);
        match (origin, marker) {
            (
                Origin::Marker {
                    transaction_version,
                },
                Some(marker),
            ) => check_marker(known, header, *marker, transaction_version)?,
            (Origin::Client | Origin::Escorted, _) => {
                if let Some(seen) = known.and_then(|known| duplicate(known, header)) {
                    return Ok(Verdict::Duplicate {
                        base_offset: seen.base_offset,
                        last_offset: seen.last_offset(),
                    });
                }
                check_transaction(known, header, verified)?;
                let is_version_2 = verified.is_some_and(|verified| verified.begins_at_zero);
                check_sequence(known, header, begins_at_zero, is_version_2)?;
                check_kind(known, header)?;
            }
            // A marker without its record, as compaction leaves it, says nothing more.
            (Origin::Noted | Origin::Coordinator | Origin::Marker { .. }, _) => {
                check_transaction(known, header, verified)?;
                check_kind(known, header)?;
            }
        }
        if known.is_none() && self.open.len() >= producers_max {
            return Err(AppendError::Busy);
        }
        Ok(Verdict::Append)
    }
}

fn duplicate(known: &Producer, header: &BatchHeader) -> Option<SeenBatch> {
    let same = |seen: &&SeenBatch| {
        seen.base_sequence == header.base_sequence
            && seen.last_offset_delta == header.last_offset_delta
    };
    let batches = if known.epoch == header.producer_epoch {
        known.batches()
    } else {
        &[]
    };
    batches.iter().find(same).copied()
}

fn check_transaction(
    known: Option<&Producer>,
    header: &BatchHeader,
    verified: Option<Verified>,
) -> Result<(), AppendError> {
    let producer = header.producer_id;
    if let Some(known) = known.filter(|known| header.producer_epoch < known.epoch) {
        return Err(fenced(known, header).into());
    }
    if !header.attributes.is_transactional() {
        return Ok(());
    }
    let is_ongoing = known
        .is_some_and(|known| known.transaction.is_some() && known.epoch == header.producer_epoch);
    let last_marker = known.map_or(Offset::NONE, |known| known.last_marker);
    let is_verified = verified.is_some_and(|verified| last_marker < verified.since);
    if is_ongoing || is_verified {
        Ok(())
    } else {
        Err(TransactionError::NotOngoing { producer }.into())
    }
}

/// While a transaction is open its producer writes nothing outside of it.
fn check_kind(known: Option<&Producer>, header: &BatchHeader) -> Result<(), TransactionError> {
    let is_open = known.is_some_and(|known| known.transaction.is_some());
    if is_open && !header.attributes.is_transactional() {
        return Err(TransactionError::NotTransactional {
            producer: header.producer_id,
        });
    }
    Ok(())
}

fn check_sequence(
    known: Option<&Producer>,
    header: &BatchHeader,
    begins_at_zero: bool,
    is_version_2: bool,
) -> Result<(), SequenceError> {
    let (producer, got) = (header.producer_id, header.base_sequence);
    match known {
        Some(known) if known.epoch == header.producer_epoch => {
            in_order(producer, known.next_sequence(), got)
        }
        Some(_) => in_order(producer, 0, got),
        None if is_version_2 => in_order(producer, 0, got),
        None if begins_at_zero && got != 0 => Err(SequenceError::Unknown { producer, got }),
        // Of an unknown producer any sequence may come: its state may have expired, or gone with old segments.
        None => Ok(()),
    }
}

fn check_marker(
    known: Option<&Producer>,
    header: &BatchHeader,
    marker: EndTransactionMarker,
    transaction_version: i8,
) -> Result<(), AppendError> {
    let Some(known) = known else { return Ok(()) };
    let (epoch, current) = (header.producer_epoch, known.epoch);
    // A marker of version 2 raises the epoch. One that does not is late, but for a retry of the one that did (KAFKA-19999).
    let is_late = transaction_version >= 2 && epoch == current && known.transaction.is_some();
    if epoch < current || is_late {
        return Err(fenced(known, header).into());
    }
    if marker.coordinator_epoch < known.coordinator_epoch {
        return Err(TransactionError::CoordinatorFenced {
            producer: header.producer_id,
            got: marker.coordinator_epoch,
            current: known.coordinator_epoch,
        }
        .into());
    }
    Ok(())
}

fn fenced(known: &Producer, header: &BatchHeader) -> SequenceError {
    SequenceError::Fenced {
        producer: header.producer_id,
        got: header.producer_epoch,
        current: known.epoch,
    }
}

fn in_order(producer: ProducerId, expected: i32, got: i32) -> Result<(), SequenceError> {
    if expected == got {
        Ok(())
    } else {
        Err(SequenceError::OutOfOrder {
            producer,
            expected,
            got,
        })
    }
}
