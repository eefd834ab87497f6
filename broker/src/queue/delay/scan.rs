//! Reads a log to know what of it waits.

use std::collections::BTreeMap;

use weir_log::mutants::Mutant;
use weir_log::{LogReader, ReadError};
use weir_queues::Millis;
use weir_queues::dedup::{MessageId, Window};
use weir_queues::delay::{Entry, Waiting};
use weir_wire::Offset;
use weir_wire::batch::{BatchError, BatchView, RewriteError, batches};

use super::record::{RELEASER, Said, Twin, Whence, holds_back};
use super::split::{Heeds, id_of};
use super::stage::Found;

/// Bytes that are read at once.
const READ_BYTES: usize = 4 << 20;

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unread {
    #[error(transparent)]
    Log(#[from] ReadError),
    #[error("a batch at {0}: {1}")]
    Batch(i64, BatchError),
}

/// What was read so far.
#[derive(Debug)]
pub(super) struct Scan {
    waiting: Waiting,
    cancelled: BTreeMap<MessageId, Offset>,
    ids: Option<Ids>,
    knows_delays: bool,
    /// What the control batch said that was read last, and counts if its twin comes next.
    held_back: Option<HeldBack>,
}

/// Ids that came within the window.
#[derive(Debug)]
struct Ids {
    window: Window,
    since: Millis,
    now: Millis,
}

impl Ids {
    /// A record's time is when it came, but for one from the future.
    fn came(&mut self, id: MessageId, at: Offset, timestamp_ms: i64) {
        let came = Millis(u64::try_from(timestamp_ms).unwrap_or(0)).min(self.now);
        if came > self.since && !Mutant::ForgetIds.is_active() {
            self.window.remember(id, at, came);
        }
    }
}

#[derive(Debug)]
struct HeldBack {
    twin: Twin,
    /// Ids, when they came, and what their producer was told.
    ids: Vec<(MessageId, i64, Offset)>,
    waits: Vec<Entry>,
    cancels: Vec<(MessageId, Offset)>,
}

impl Scan {
    pub(super) fn new(now: Millis, heeds: Heeds) -> Self {
        let ids = heeds.window_ms.map(|window_ms| Ids {
            window: Window::new(window_ms),
            since: Millis(now.0.saturating_sub(window_ms)),
            now,
        });
        Self {
            ids,
            knows_delays: heeds.delay_max_ms.is_some(),
            waiting: Waiting::new(now),
            cancelled: BTreeMap::new(),
            held_back: None,
        }
    }

    /// Reads some batches from `from` on. Says where to go on.
    pub(super) fn read(
        &mut self,
        log: &LogReader,
        from: Offset,
        end: Offset,
    ) -> Result<Offset, Unread> {
        let read = match log.read(from, end, READ_BYTES, true) {
            // It was cut meanwhile, or was before.
            Err(ReadError::OffsetOutOfRange { start, .. }) if from < start => return Ok(start),
            read => read?,
        };
        for batch in batches(&read.bytes) {
            let at = read.base_offset.0;
            let batch = batch.map_err(|error| Unread::Batch(at, error))?;
            let at = batch.header().base_offset.0;
            self.take(&batch)
                .map_err(|error| Unread::Batch(at, error))?;
        }
        Ok(read.next_offset)
    }

    /// Takes the next batch of the log.
    pub(super) fn take(&mut self, batch: &BatchView<'_>) -> Result<(), BatchError> {
        let header = batch.header();
        let before = self.held_back.take();
        if holds_back(header) {
            self.held_back = HeldBack::of(batch)?;
            return Ok(());
        }
        if let Some(held_back) = before.filter(|held_back| held_back.twin.is(header)) {
            if self.knows_delays && !Mutant::ForgetDelayed.is_active() {
                for entry in held_back.waits {
                    self.waiting.replay(entry);
                }
                self.cancelled.extend(held_back.cancels);
            }
            if let Some(ids) = &mut self.ids {
                for (id, timestamp_ms, told) in held_back.ids {
                    ids.came(id, told, timestamp_ms);
                }
            }
        }
        if header.producer_id == RELEASER && !Mutant::ReleaseTwice.is_active() {
            let mut last = None;
            for record in batch.records()? {
                last = Whence::of(&record?).or(last);
            }
            if let Some(whence) = last {
                self.waiting.released_to(whence.entry);
            }
        } else {
            self.take_ids(batch)?;
        }
        Ok(())
    }

    /// Of a producer's batch. One that cannot be inflated has none that could be looked at when it came.
    fn take_ids(&mut self, batch: &BatchView<'_>) -> Result<(), BatchError> {
        let header = batch.header();
        let Some(ids) = &mut self.ids else {
            return Ok(());
        };
        let is_old = Millis(u64::try_from(header.max_timestamp_ms).unwrap_or(0)) <= ids.since;
        let attributes = header.attributes;
        if is_old || attributes.is_control() || attributes.is_transactional() {
            return Ok(());
        }
        let Ok(inflated) = batch.inflated().map_err(RewriteError::from) else {
            return Ok(());
        };
        for record in inflated.iter()? {
            let record = record?;
            if let Some(id) = id_of(&record) {
                ids.came(id, record.offset, record.timestamp_ms);
            }
        }
        Ok(())
    }

    pub(super) fn found(self) -> Found {
        Found {
            waiting: self.waiting,
            cancelled: self.cancelled,
            ids: self.ids.map(|ids| ids.window),
            knows_delays: self.knows_delays,
        }
    }
}

impl HeldBack {
    /// `None` when it is of another version.
    fn of(batch: &BatchView<'_>) -> Result<Option<Self>, BatchError> {
        let mut found: Option<Self> = None;
        for record in batch.records()? {
            let record = record?;
            let at = record.offset;
            match (Said::decode(&record), &mut found) {
                (Some(Said::Opens(twin)), None) => {
                    found = Some(Self {
                        twin,
                        ids: Vec::new(),
                        waits: Vec::new(),
                        cancels: Vec::new(),
                    });
                }
                (Some(Said::Waits(kept)), Some(found)) => {
                    found.waits.push(Entry { due: kept.due, at });
                    if let Some(id) = id_of(&record) {
                        let told = batch.header().next_offset().0 + i64::from(kept.number);
                        found.ids.push((id, record.timestamp_ms, Offset(told)));
                    }
                }
                (Some(Said::Cancels(id)), Some(found)) => {
                    found.cancels.push((MessageId::of(id), at));
                }
                _ => {}
            }
        }
        Ok(found)
    }
}
