//! Finds how far a view has come, in its own log.

use weir_log::{LogReader, ReadError};
use weir_wire::Offset;
use weir_wire::batch::{BatchError, batches};

use super::word::{Word, is_spoken_of};

/// Offsets before the end that are looked through first, and by how much more each time. There is a word with each batch, so the first look finds
/// one unless the last batch has more records, or others than the copier wrote here.
const SPAN_MIN: i64 = 1_024;
const SPAN_FACTOR: i64 = 16;
/// Bytes that are read at once.
const READ_BYTES: usize = 4 << 20;

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unread {
    #[error(transparent)]
    Log(#[from] ReadError),
    #[error("a batch of the view's log: {0}")]
    Batch(#[from] BatchError),
}

/// The last word before `end`, and where it lies. May wait for the disk.
pub(super) fn last_word(log: &LogReader, end: Offset) -> Result<Option<(Word, Offset)>, Unread> {
    let mut span = SPAN_MIN;
    loop {
        let start = log.log_start();
        let from = Offset(end.0.saturating_sub(span)).max(start);
        let found = last_between(log, from, end)?;
        if found.is_some() || from <= start {
            return Ok(found);
        }
        span = span.saturating_mul(SPAN_FACTOR);
    }
}

fn last_between(
    log: &LogReader,
    from: Offset,
    end: Offset,
) -> Result<Option<(Word, Offset)>, Unread> {
    let mut search = Search::default();
    let mut at = from;
    while at < end {
        let read = match log.read(at, end, READ_BYTES, true) {
            // It was cut meanwhile.
            Err(ReadError::OffsetOutOfRange { start, .. }) if at < start => {
                at = start;
                continue;
            }
            read => read?,
        };
        search.take(&read.bytes)?;
        if read.next_offset <= at {
            break;
        }
        at = read.next_offset;
    }
    Ok(search.found)
}

/// Goes through a log from somewhere on.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// What the batch before said, which counts if the next is the one that it spoke of.
    said: Option<(Word, Offset)>,
    pub(super) found: Option<(Word, Offset)>,
}

impl Search {
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), BatchError> {
        for batch in batches(bytes) {
            let batch = batch?;
            let header = batch.header();
            if let Some(said) = self.said.take().filter(|_| is_spoken_of(header)) {
                self.found = Some(said);
            }
            let word = Word::of(&batch)?;
            self.said = word.map(|word| (word, header.base_offset));
        }
        Ok(())
    }
}
