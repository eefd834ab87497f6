//! From a producer's batch to what waits, what is cancelled and what is due.

use std::collections::BTreeSet;

use bytes::Bytes;
use weir_queues::Millis;
use weir_queues::dedup::MessageId;
use weir_wire::batch::{
    Attributes, BatchBuilder, BatchError, BatchHeader, NewHeader, NewRecord, RecordView, Rewrite,
    RewriteError, only_batch,
};

use super::record::{KEY, Kept, Said, Twin};
use crate::error::{ApiError, ErrorCode};
use crate::partitions::prepare::Unfit;

/// When a message is due, in milliseconds since 1970.
pub(super) const DELIVER_AT: &str = "weir-deliver-at";
/// When it is due, in milliseconds from its coming.
pub(super) const DELAY_MS: &str = "weir-delay-ms";
/// By which a message can be cancelled.
pub(super) const MESSAGE_ID: &str = "weir-message-id";
/// A record that is no message: those before it in its partition that have this id and wait are not to be released.
pub(super) const CANCEL: &str = "weir-cancel";

/// Record errors told of one batch, as elsewhere.
const RECORD_ERRORS_MAX: usize = 1_000;

/// The longest batch of what waits, beyond twice the topic's longest: it is not compressed, and has to fit what brokers send each other.
const HELD_BACK_MORE: usize = 1 << 20;
const HELD_BACK_MAX: usize = 64 << 20;

/// What records may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heeds {
    /// How far ahead they may be due, if they may.
    pub delay_max_ms: Option<u64>,
    /// For how long their ids are remembered, if they are.
    pub window_ms: Option<u64>,
}

impl Heeds {
    pub(crate) fn is_any(self) -> bool {
        self.delay_max_ms.is_some() || self.window_ms.is_some()
    }
}

/// What a batch wants beside being appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    /// By the record's number, ascending.
    pub(super) marks: Vec<(i32, Mark)>,
    /// By the record's number, ascending: those that may have come before.
    pub(super) ids: Vec<(i32, MessageId)>,
}

impl Wish {
    /// Records that are to come later, by their numbers, and when.
    pub(crate) fn waits(&self) -> Vec<(i32, Millis)> {
        let marks = self.marks.iter();
        let waits = marks.filter_map(|(number, mark)| match mark {
            Mark::Waits(due) => Some((*number, *due)),
            Mark::Cancels(_) => None,
        });
        waits.collect()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    Waits(Millis),
    Cancels(Vec<u8>),
}

/// What is to be appended, and what it means once it is.
#[derive(Debug)]
pub(super) struct Split {
    /// The control batch and its twin, or the producer's batch alone.
    pub(super) bytes: Bytes,
    /// Records of the control batch: its offsets are those right before the twin's. 0: there is none.
    pub(super) records: i64,
    /// Of the records that are in it, by their numbers in their producer's batch.
    pub(super) ids: Vec<(i32, MessageId)>,
    /// What waits: when it is due, and its number in the control batch.
    pub(super) waits: Vec<(Millis, i64)>,
    pub(super) cancels: Vec<(MessageId, i64)>,
}

impl Split {
    pub(super) fn first_due(&self) -> Option<Millis> {
        self.waits.iter().map(|(due, _)| *due).min()
    }
}

/// The id of a message, if it has one.
pub(super) fn id_of(record: &RecordView<'_>) -> Option<MessageId> {
    let mut headers = record.headers.iter();
    let id = headers.find(|header| header.key == MESSAGE_ID)?.value?;
    Some(MessageId::of(id))
}

/// What a checked batch wants of a topic that heeds headers; `None`: nothing.
pub(crate) fn look(batch: &[u8], heeds: Heeds, now_ms: i64) -> Result<Option<Wish>, Unfit> {
    let view = only_batch(batch).map_err(ApiError::from)?;
    let now = Millis(u64::try_from(now_ms).unwrap_or(0));
    let inflated = view.inflated().map_err(RewriteError::from)?;
    let is_transactional = view.header().attributes.is_transactional();
    // What a transaction aborts never came; and its producer is idempotent.
    let takes_ids = heeds.window_ms.is_some() && !is_transactional;
    let (mut marks, mut errors, mut count) = (Vec::new(), Vec::new(), 0);
    let mut ids = Vec::new();
    for (number, record) in (0..).zip(inflated.iter().map_err(ApiError::from)?) {
        let record = record.map_err(ApiError::from)?;
        let mark = heeds.delay_max_ms.map(|max_ms| mark(&record, max_ms, now));
        let is_message = !matches!(mark, Some(Ok(Some(Mark::Cancels(_)))));
        if let Some(id) = id_of(&record).filter(|_| takes_ids && is_message) {
            ids.push((number, id));
        }
        match mark.unwrap_or(Ok(None)) {
            Ok(None) => {}
            Ok(Some(mark)) => marks.push((number, mark)),
            Err(why) => {
                count += 1;
                if errors.len() < RECORD_ERRORS_MAX {
                    errors.push((number, why));
                }
            }
        }
    }
    if let Some((number, why)) = errors.first() {
        let message = format!(
            "{count} records cannot be delayed as they ask; the first, record {number}: {why}"
        );
        return Err(Unfit {
            error: ApiError::new(ErrorCode::InvalidRecord, message),
            records: errors,
        });
    }
    if marks.is_empty() {
        let has_ids = !ids.is_empty();
        return Ok(has_ids.then_some(Wish { marks, ids }));
    }
    if is_transactional {
        let message = "a transaction cannot have records that are delayed or cancel others";
        return Err(ApiError::new(ErrorCode::InvalidRecord, message).into());
    }
    Ok(Some(Wish { marks, ids }))
}

fn mark(record: &RecordView<'_>, max_ms: u64, now: Millis) -> Result<Option<Mark>, String> {
    let (mut at, mut delay, mut cancel) = (None, None, None);
    for header in record.headers.iter() {
        let place = match header.key {
            DELIVER_AT => &mut at,
            DELAY_MS => &mut delay,
            CANCEL => &mut cancel,
            _ => continue,
        };
        if place.replace(header.value.unwrap_or_default()).is_some() {
            return Err(format!("{} is there twice", header.key));
        }
    }
    let (at, delay) = (
        at.map(|value| number(DELIVER_AT, value)).transpose()?,
        delay.map(|value| number(DELAY_MS, value)).transpose()?,
    );
    if let Some(id) = cancel {
        return match (id, at, delay) {
            ([], ..) => Err(format!("{CANCEL} names nothing")),
            (id, None, None) => Ok(Some(Mark::Cancels(id.to_vec()))),
            _ => Err(format!("{CANCEL} takes no delay")),
        };
    }
    let due = match (at, delay) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => return Err(format!("{DELIVER_AT} and {DELAY_MS} are both there")),
        (Some(at), None) => Millis(at),
        (None, Some(delay)) => now.after(delay),
    };
    if due <= now {
        return Ok(None);
    }
    let ahead = due.0 - now.0;
    if ahead > max_ms {
        return Err(format!(
            "it is due in {ahead} ms; weir.queue.delay.max.ms is {max_ms}"
        ));
    }
    Ok(Some(Mark::Waits(due)))
}

fn number(name: &str, value: &[u8]) -> Result<u64, String> {
    let text = std::str::from_utf8(value).unwrap_or_default().trim();
    text.parse().map_err(|_| {
        let value = String::from_utf8_lossy(&value[..value.len().min(40)]);
        format!("{name} is {value:?}; wanted: a number of milliseconds")
    })
}

/// Takes a batch apart. Nothing in it is due before `floor`; records of these numbers are left out.
pub(super) fn split(
    batch: &Bytes,
    wish: &Wish,
    left_out: &BTreeSet<i32>,
    floor: Millis,
    now_ms: i64,
    bytes_max: usize,
) -> Result<Split, Unfit> {
    let ids = wish
        .ids
        .iter()
        .filter(|(number, _)| !left_out.contains(number));
    let ids: Vec<_> = ids.copied().collect();
    if wish.marks.is_empty() && left_out.is_empty() {
        return Ok(Split {
            bytes: batch.clone(),
            records: 0,
            ids,
            waits: Vec::new(),
            cancels: Vec::new(),
        });
    }
    let view = only_batch(batch).map_err(ApiError::from)?;
    let header = *view.header();
    let inflated = view.inflated().map_err(RewriteError::from)?;
    let mut twin = Rewrite::of(&header, None);
    let marks = wish
        .marks
        .iter()
        .filter(|(number, _)| !left_out.contains(number));
    let marks: Vec<_> = marks.collect();
    let mut held_back = HeldBack::new(&header, marks.len() + left_out.len(), now_ms)?;
    let has_marks = !marks.is_empty();
    let mut marks = marks.into_iter().peekable();
    for (number, record) in (0..).zip(inflated.iter().map_err(ApiError::from)?) {
        let record = record.map_err(ApiError::from)?;
        match marks.next_if(|(of, _)| *of == number) {
            None if left_out.contains(&number) => {}
            None => twin.keep(&record),
            Some((_, Mark::Waits(due))) => held_back.wait(&record, number, (*due).max(floor))?,
            Some((_, Mark::Cancels(id))) => held_back.cancel(id)?,
        }
        if held_back.batch.len() > (2 * bytes_max + HELD_BACK_MORE).min(HELD_BACK_MAX) {
            let message = "what is delayed of the batch is too large once it is inflated";
            return Err(ApiError::new(ErrorCode::MessageTooLarge, message).into());
        }
    }
    let HeldBack {
        batch,
        records,
        waits,
        cancels,
        ..
    } = held_back;
    let twin = twin.build()?;
    if !has_marks {
        return Ok(Split {
            bytes: twin,
            records: 0,
            ids,
            waits,
            cancels,
        });
    }
    let mut bytes = Vec::from(batch.build());
    bytes.extend_from_slice(&twin);
    Ok(Split {
        bytes: Bytes::from(bytes),
        records,
        ids,
        waits,
        cancels,
    })
}

struct HeldBack {
    batch: BatchBuilder,
    now_ms: i64,
    records: i64,
    waits: Vec<(Millis, i64)>,
    cancels: Vec<(MessageId, i64)>,
}

impl HeldBack {
    /// For a batch whose twin has so many records less.
    fn new(header: &BatchHeader, less: usize, now_ms: i64) -> Result<Self, ApiError> {
        let mut twin = *header;
        twin.record_count -= i32::try_from(less).unwrap_or(i32::MAX);
        let mut held_back = Self {
            batch: BatchBuilder::new().attributes(Attributes::default().with_control(true)),
            now_ms,
            records: 0,
            waits: Vec::new(),
            cancels: Vec::new(),
        };
        held_back.push(&Said::Opens(Twin::of(&twin)), &[])?;
        Ok(held_back)
    }

    fn push(&mut self, said: &Said<'_>, headers: &[NewHeader<'_>]) -> Result<i64, BatchError> {
        let at = self.records;
        self.batch.push(&NewRecord {
            timestamp_ms: self.now_ms,
            key: Some(&KEY),
            value: Some(&said.encode()),
            headers,
        })?;
        self.records += 1;
        Ok(at)
    }

    fn wait(&mut self, record: &RecordView<'_>, number: i32, due: Millis) -> Result<(), ApiError> {
        let headers = record.headers.iter();
        // Whoever sends the message on is not to delay it again.
        let stay = headers.filter(|header| ![DELIVER_AT, DELAY_MS].contains(&header.key));
        let headers = stay.map(|header| NewHeader {
            key: header.key,
            value: header.value,
        });
        let kept = Kept {
            due,
            number,
            key: record.key,
            value: record.value,
        };
        let at = self.push(&Said::Waits(kept), &headers.collect::<Vec<_>>())?;
        self.waits.push((due, at));
        Ok(())
    }

    fn cancel(&mut self, id: &[u8]) -> Result<(), ApiError> {
        let at = self.push(&Said::Cancels(id), &[])?;
        self.cancels.push((MessageId::of(id), at));
        Ok(())
    }
}
