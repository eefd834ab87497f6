//! One pass over one partition.

use std::sync::Arc;

use tracing::{debug, info, warn};
use weir_wire::Offset;
use weir_wire::batch::{BatchHeader, BatchView, RewriteError};

use super::cleaner::{Cleaner, Throttle};
use super::filter::{Rules, Verdict};
use super::map::OffsetMap;
use super::output::Output;
use super::source::Source;
use super::swap;
use super::transactions::Transactions;
use crate::aborted::{Aborted, Span};
use crate::error::ReadError;
use crate::files::{FileError, Wait};
use crate::reader::aborted_within;
use crate::seek::Sought;
use crate::segment::{Newest, Segment};
use crate::shared::{Segments, Shared, segment_at};

/// A pass that is to be made.
#[derive(Debug)]
pub(crate) struct CleanJob {
    pub(crate) shared: Arc<Shared>,
    pub(crate) cleaner: Arc<Cleaner>,
    pub(crate) rules: Rules,
    /// How often the log had been cut when it was asked for: what is said here may not be so of what it is after another cut.
    pub(crate) truncations: u64,
    /// Nothing from here on is looked at.
    pub(crate) up_to: Offset,
    /// A segment that is put together from several grows no larger.
    pub(crate) segment_bytes: u64,
    pub(crate) min_lag_ms: i64,
    pub(crate) max_lag_ms: i64,
    /// So much is dirty that a pass is due whatever its age.
    pub(crate) is_dirty_enough: bool,
}

/// Why a pass ended early.
#[derive(Debug)]
enum Stopped {
    /// The log is not what it was, or not here any more.
    Obsolete,
    NoRoom {
        wanted_bytes: u64,
    },
    Read(ReadError),
    File(FileError),
}

impl From<ReadError> for Stopped {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl From<FileError> for Stopped {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

impl CleanJob {
    /// Makes the pass. Waits for the disk. Only a failed sync or a dying disk is an error that anyone else has to know of.
    pub(crate) fn run(&self) -> Result<(), FileError> {
        let partition = self.shared.key;
        match self.pass() {
            Ok(()) => return Ok(()),
            // Its directory has been taken away.
            Err(Stopped::File(error)) if error.is_not_found() && self.shared.is_gone() => {
                return Ok(());
            }
            Err(Stopped::File(error)) if error.is_fatal() => return Err(error),
            Err(Stopped::Obsolete) => return Ok(()),
            Err(_) if self.shared.is_gone() || self.shared.is_closed() => return Ok(()),
            Err(Stopped::NoRoom { wanted_bytes }) => {
                warn!(%partition, wanted_bytes, "no room to compact; it is tried again");
            }
            Err(Stopped::Read(error)) => {
                let _no_cut_is_under_way = self.shared.edit_segments();
                if self.shared.truncations() != self.truncations {
                    // The log was cut under the pass: no wonder.
                    return Ok(());
                }
                if matches!(error, ReadError::Corrupt(_)) {
                    self.shared.set_uncleanable(true);
                }
                warn!(%partition, %error, "compaction cannot read the log");
            }
            Err(Stopped::File(error)) => {
                warn!(%partition, path = %error.path.display(), error = %error.source, "compaction failed {}", error.doing);
            }
        }
        self.cleaner.failed();
        Ok(())
    }

    fn pass(&self) -> Result<(), Stopped> {
        let shared = &*self.shared;
        let truncations = self.truncations;
        let segments = shared.segments();
        if shared.truncations() != truncations || shared.is_closed() {
            return Err(Stopped::Obsolete);
        }
        let start = shared.compacted_to().max(shared.log_start());
        let cleanable = self.cleanable(&segments, start)?;
        if cleanable.last().is_none_or(|last| last.end() <= start)
            || !self.is_due(cleanable, start)?
        {
            return Ok(());
        }
        let mut throttle = Throttle::new(&self.cleaner);
        let map = self.read_dirty(cleanable, start, &mut throttle)?;
        if map.end() <= start {
            return Ok(());
        }
        let count = cleanable.partition_point(|segment| segment.base < map.end());
        let cleaned = &cleanable[..count];
        self.let_go_of_checkpoint(cleaned)?;
        let mut transactions = Transactions::new(self.aborted(cleaned)?);
        let before: u64 = cleaned.iter().map(|segment| segment.size()).sum();
        for group in groups(cleaned, self.segment_bytes) {
            self.clean(group, &map, &mut transactions, truncations, &mut throttle)?;
        }
        {
            let mut beside = shared.beside();
            if shared.is_closed() || shared.truncations() != truncations {
                return Err(Stopped::Obsolete);
            }
            swap::store_compacted_to(shared, &mut beside, map.end())?;
        }
        self.cleaner.finished(self.rules.now_ms);
        let after: u64 = shared
            .segments()
            .iter()
            .filter(|segment| segment.base < map.end())
            .map(|segment| segment.size())
            .sum();
        info!(partition = %shared.key, compacted_to = %map.end(), bytes_before = before, bytes_after = after, "compacted");
        Ok(())
    }

    /// The segments that may be written anew: closed, on disk, seen by consumers, and old enough.
    fn cleanable<'a>(
        &self,
        segments: &'a Segments,
        start: Offset,
    ) -> Result<&'a [Arc<Segment>], Stopped> {
        let bound = self.up_to.min(self.shared.synced_end());
        let closed = &segments[..segments.len().saturating_sub(1)];
        let mut count = 0;
        for segment in closed {
            let is_young = self.min_lag_ms > 0
                && segment.end() > start
                && self.newest_of(segment)? > self.rules.now_ms.saturating_sub(self.min_lag_ms);
            if segment.end() > bound || is_young {
                break;
            }
            count += 1;
        }
        Ok(&closed[..count])
    }

    fn newest_of(&self, segment: &Segment) -> Result<i64, Stopped> {
        if let Newest::Hint(newest) | Newest::Certain(newest) = segment.newest() {
            return Ok(newest);
        }
        let file = segment.file(&self.shared.dir, &self.shared.path)?;
        let sought = Sought {
            segment,
            file: &*file,
            wait: Wait::Yes,
        };
        Ok(self.shared.newest_hint(&sought)?)
    }

    /// Whether there is enough to do, or something has waited long enough.
    fn is_due(&self, cleanable: &[Arc<Segment>], start: Offset) -> Result<bool, Stopped> {
        if self.is_dirty_enough {
            return Ok(true);
        }
        let dirty = cleanable.iter().find(|segment| segment.end() > start);
        let Some(segment) = dirty.filter(|_| self.max_lag_ms < i64::MAX) else {
            return Ok(false);
        };
        let file = segment.file(&self.shared.dir, &self.shared.path)?;
        let sought = Sought {
            segment,
            file: &*file,
            wait: Wait::Yes,
        };
        let oldest = self.shared.find(&sought, start.max(segment.base))?.header;
        let since = match oldest.base_timestamp_ms {
            // Records without a time have waited for as long as the newest of the others.
            ..0 => self.newest_of(segment)?,
            since => since,
        };
        Ok(since <= self.rules.now_ms.saturating_sub(self.max_lag_ms))
    }

    /// Reads the keys of what is dirty, as many as fit the map.
    fn read_dirty(
        &self,
        cleanable: &[Arc<Segment>],
        start: Offset,
        throttle: &mut Throttle<'_>,
    ) -> Result<OffsetMap, Stopped> {
        let mut map = OffsetMap::new(self.cleaner.map_bytes_max(), start);
        let dirty: Vec<_> = cleanable
            .iter()
            .filter(|segment| segment.end() > start)
            .cloned()
            .collect();
        let mut transactions = Transactions::new(self.aborted(&dirty)?);
        for segment in &dirty {
            let mut source = Source::new(&self.shared, segment)?;
            while let Some(batch) = source.next(throttle)? {
                if self.shared.is_closed() {
                    return Err(Stopped::Obsolete);
                }
                let header = *batch.header();
                let read = read_keys(&batch, &mut transactions, start, &mut map);
                if let Err(error) = &read {
                    debug!(partition = %self.shared.key, offset = %header.base_offset, %error, "a batch cannot be read");
                }
                if let Ok(Some(full_at)) = read {
                    map.set_end(full_at);
                    return Ok(map);
                }
                map.set_end(header.next_offset().max(start));
            }
        }
        Ok(map)
    }

    /// The checkpoint names a place in a segment's file. Before that file is exchanged, the checkpoint on disk has to name a
    /// place in a later one: else a power cut would make this look like damage.
    fn let_go_of_checkpoint(&self, cleaned: &[Arc<Segment>]) -> Result<(), Stopped> {
        let end = cleaned.last().map_or(Offset::ZERO, |last| last.end());
        if self.shared.mark.get().segment < end {
            return Err(Stopped::Obsolete);
        }
        Ok(self.shared.dir.write_checkpoint(false)?)
    }

    /// The transactions in these segments that were aborted.
    fn aborted(&self, segments: &[Arc<Segment>]) -> Result<Vec<Aborted>, ReadError> {
        let (Some(first), Some(last)) = (segments.first(), segments.last()) else {
            return Ok(Vec::new());
        };
        let span = Span {
            from: first.base,
            to: last.end(),
        };
        aborted_within(&self.shared, span, Wait::Yes)
    }

    /// Tells the segment that takes the place of some of the aborted transactions that these told of, as far as their markers
    /// stay: as long as there is a marker, something of its transaction may be left.
    fn carry_over(
        &self,
        group: &[Arc<Segment>],
        markers: &[Offset],
        new: &Segment,
    ) -> Result<(), Stopped> {
        let mut aborted = self.aborted(group)?;
        aborted.retain(|aborted| markers.binary_search(&aborted.marker).is_ok());
        aborted.sort_by_key(|aborted| aborted.marker);
        for aborted in aborted {
            new.aborted.add(aborted);
        }
        let shared = &self.shared;
        new.with_aborted(&shared.dir, &shared.path, |aborted, place| {
            aborted.flush(place)
        })?;
        Ok(())
    }

    /// Writes a group of segments anew as one, and puts that in their place.
    fn clean(
        &self,
        group: &[Arc<Segment>],
        map: &OffsetMap,
        transactions: &mut Transactions,
        truncations: u64,
        throttle: &mut Throttle<'_>,
    ) -> Result<(), Stopped> {
        let shared = &*self.shared;
        let Some(first) = group.first() else {
            return Ok(());
        };
        let wanted_bytes = group.iter().map(|segment| segment.size()).sum();
        if shared.dir.room_bytes() < wanted_bytes {
            return Err(Stopped::NoRoom { wanted_bytes });
        }
        let generation = group.iter().map(|segment| segment.generation).max();
        let name = (first.base, generation.unwrap_or(0).saturating_add(1));
        let mut temporary = None;
        let written = self.write(group, name, map, transactions, throttle, &mut temporary);
        let swapped = written.and_then(|new| match new {
            None => Ok(()),
            Some(new) => match swap::swap(shared, group, new, truncations)? {
                true => {
                    temporary = None;
                    Ok(())
                }
                false => Err(Stopped::Obsolete),
            },
        });
        if let Some(temporary) = temporary
            && !shared.is_closed()
        {
            // If that does not work either, the next start does it.
            let _ = swap::remove(shared, &temporary);
        }
        swapped?;
        Ok(swap::tidy(shared)?)
    }

    fn write(
        &self,
        group: &[Arc<Segment>],
        name: (Offset, u32),
        map: &OffsetMap,
        transactions: &mut Transactions,
        throttle: &mut Throttle<'_>,
        temporary: &mut Option<std::path::PathBuf>,
    ) -> Result<Option<Segment>, Stopped> {
        let shared = &*self.shared;
        let alone = group.len() == 1;
        let mut output: Option<Output<'_>> = None;
        let mut markers = Vec::new();
        for segment in group {
            let mut source = Source::new(shared, segment)?;
            let file = Arc::clone(source.file());
            let output =
                output.get_or_insert_with(|| Output::new(shared, name, alone.then_some(file)));
            *temporary = Some(output.temporary());
            while let Some(batch) = source.next(throttle)? {
                if shared.is_closed() || shared.is_gone() {
                    return Err(Stopped::Obsolete);
                }
                let header = *batch.header();
                let verdict = self.rules.judge(&batch, map, transactions);
                if header.attributes.is_control() && !matches!(verdict, Verdict::Drop) {
                    markers.push(header.base_offset);
                }
                match verdict {
                    Verdict::Keep => output.keep(&header, batch.bytes(), throttle)?,
                    Verdict::Drop => output.drop(&header, throttle)?,
                    Verdict::Replace(bytes) => {
                        // Made just now: it parses.
                        let header = BatchHeader::parse(&bytes).unwrap_or(header);
                        output.replace(&header, &bytes, throttle)?;
                    }
                }
            }
        }
        let new = match output {
            Some(output) => output.finish(throttle)?,
            None => None,
        };
        if let Some(new) = &new {
            self.carry_over(group, &markers, new)?;
        }
        Ok(new)
    }
}

/// Puts a batch's keys into the map. The offset of the first that did not fit, when one did not.
fn read_keys(
    batch: &BatchView<'_>,
    transactions: &mut Transactions,
    start: Offset,
    map: &mut OffsetMap,
) -> Result<Option<Offset>, RewriteError> {
    let header = batch.header();
    if header.attributes.is_control() {
        transactions.is_needless(batch);
        return Ok(None);
    }
    if transactions.is_aborted(header) || header.next_offset() <= start {
        return Ok(None);
    }
    for record in batch.inflated()?.iter()? {
        let record = record?;
        if let Some(key) = record.key.filter(|_| record.offset >= start)
            && !map.put(key, record.offset)
        {
            return Ok(Some(record.offset));
        }
    }
    Ok(None)
}

/// Neighbours that fit one segment together, so that a log of few keys does not become a log of many files.
fn groups(segments: &[Arc<Segment>], bytes_max: u64) -> Vec<&[Arc<Segment>]> {
    let mut groups = Vec::new();
    let mut from = 0;
    let mut bytes = 0;
    for (number, segment) in segments.iter().enumerate() {
        let base = segments[from].base;
        let near = segment.end().0 - base.0 <= i64::from(i32::MAX);
        if number > from && (bytes + segment.size() > bytes_max || !near) {
            groups.push(&segments[from..number]);
            from = number;
            bytes = 0;
        }
        bytes += segment.size();
    }
    if from < segments.len() {
        groups.push(&segments[from..]);
    }
    groups
}

/// Bytes of closed segments that no pass has looked at, and of all closed ones.
pub(crate) fn dirt(shared: &Shared) -> (u64, u64) {
    let segments = shared.segments();
    let start = shared.compacted_to().max(shared.log_start());
    let first = segment_at(&segments, shared.log_start());
    let closed = segments.get(first..segments.len() - 1).unwrap_or_default();
    let bytes = |segments: &mut dyn Iterator<Item = &Arc<Segment>>| {
        segments.map(|segment| segment.size()).sum::<u64>()
    };
    let dirty = bytes(&mut closed.iter().filter(|segment| segment.end() > start));
    (dirty, bytes(&mut closed.iter()))
}
