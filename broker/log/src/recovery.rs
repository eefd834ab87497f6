//! Opening a partition: what is on disk, what of it counts, and what is done about the rest.
//!
//! The checkpoint divides the log. Below it everything was durable: what is missing or wrong there is damage, which is
//! reported and never repaired by cutting. Above it batches are checked one by one, and the first that is not whole ends the
//! log: it was never reported durable. What stays is made durable before it is shown to anyone, as if it had just been
//! appended; with [`Durability::Fsync`] it is written again first, because a page that a failed sync marked clean would
//! otherwise be believed to be on disk.

mod inventory;
#[cfg(test)]
mod power_cuts;
mod scan;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use tracing::{info, warn};
use weir_wire::Offset;

use crate::config::{Durability, LogConfig};
use crate::dir::{DataDir, Mark, PartitionMeta, SharedMark};
use crate::epochs::Epochs;
use crate::error::{Damage, OpenError, ReadError};
use crate::files::{FileError, SYNCING, Wait};
use crate::lanes::RecoveryReport;
use crate::log::{Found, PartitionLog, State, rebuild_state};
use crate::seek::Sought;
use crate::segment::Segment;
use crate::shared::{Bounds, Shared};
use crate::storage::{File, OpenMode};
use crate::walk::Walk;
use inventory::Inventory;

/// Opens a partition, made when it is not there.
pub(crate) fn open(
    dir: &Arc<DataDir>,
    meta: &PartitionMeta,
    config: LogConfig,
    now_ms: i64,
) -> Result<(PartitionLog, RecoveryReport), OpenError> {
    let mut inventory = Inventory::take(dir, meta)?;
    let stored = dir.stored_mark(meta.key);
    let mut report = RecoveryReport {
        created: inventory.is_new() && stored.is_none(),
        ..RecoveryReport::default()
    };
    let fresh = inventory.ensure_segment(dir)?;
    let first = inventory.first_base();
    let mark = match stored {
        Some((mark, _)) if mark.end > first => mark,
        _ => Mark {
            end: first,
            segment: first,
            position: 0,
        },
    };
    let clean = stored.is_some_and(|(_, clean)| clean) && inventory.ends_at(mark);
    let shared = share(dir, meta, &inventory, mark);
    let mut opening = Opening {
        shared,
        inventory,
        mark,
        report,
    };
    if clean || fresh && stored.is_none() {
        opening.report.clean = clean;
        opening.trust();
    } else {
        opening.examine(config.durability)?;
    }
    report = opening.report;
    let (shared, mut inventory) = (opening.shared, opening.inventory);
    let end = shared.log_end();
    inventory.drop_snapshots_beyond(dir, end)?;
    let State {
        epochs,
        producers,
        transactions,
        damage,
    } = rebuild_state(
        &shared,
        &inventory.snapshots,
        end,
        now_ms,
        config.producers_max,
    )
    .map_err(|error| unreadable(&shared, error))?;
    if let Some(damage) = damage {
        shared.set_damage(damage);
    }
    *shared.epochs() = epochs;
    *shared.transactions() = transactions;
    report.damage = shared.damage();
    report.log_start = shared.log_start();
    report.log_end = end;
    say(&shared, &report);
    dir.opened(meta.key, Arc::clone(&shared.mark));
    let active_file = open_active(&shared)?;
    let found = Found {
        shared,
        active_file,
        producers,
        snapshots: inventory.snapshots,
        made: inventory.made,
        fresh,
    };
    let log = PartitionLog::new(found, config, now_ms).ok_or(OpenError::Stopped)?;
    Ok((log, report))
}

fn share(
    dir: &Arc<DataDir>,
    meta: &PartitionMeta,
    inventory: &Inventory,
    mark: Mark,
) -> Arc<Shared> {
    let segments = inventory.segments(dir);
    let bounds = Bounds {
        start: inventory.log_start,
        end: mark.end,
    };
    let mark = Arc::new(SharedMark::new(mark));
    let shared = Shared::new(
        Arc::clone(dir),
        meta.key,
        segments,
        bounds,
        Epochs::default(),
        mark,
    );
    shared.set_compacted_to(inventory.compacted_to);
    Arc::new(shared)
}

fn open_active(shared: &Shared) -> Result<Arc<dyn File>, OpenError> {
    let segments = shared.segments();
    let active = segments.last().ok_or(OpenError::Stopped)?;
    let path = active.log_path(&shared.path);
    Ok(shared
        .dir
        .storage()
        .open(&path, OpenMode::Write)
        .map_err(FileError::of("opening", &path))?)
}

fn unreadable(shared: &Shared, error: ReadError) -> OpenError {
    match error {
        ReadError::Io { path, source } => OpenError::Io {
            doing: "reading",
            path,
            source,
        },
        other => OpenError::Unreadable {
            path: shared.path.clone(),
            found: other.to_string(),
        },
    }
}

fn say(shared: &Shared, report: &RecoveryReport) {
    match &report.damage {
        Some(damage) => warn!(
            partition = %shared.key, from = %damage.offsets.start, to = %damage.offsets.end, found = damage.found,
            "durable records are missing or wrong; the partition is not written to any more"
        ),
        None if report.cut_bytes > 0 => info!(
            partition = %shared.key, bytes = report.cut_bytes, log_end = %report.log_end,
            batches_behind = report.batches_behind_cut, "cut what was not whole at the log's end"
        ),
        None => {}
    }
}

/// A partition while it is opened.
struct Opening {
    shared: Arc<Shared>,
    inventory: Inventory,
    mark: Mark,
    report: RecoveryReport,
}

impl Opening {
    /// The log ends at the mark, as the checkpoint of a clean shutdown says and the file's length confirms.
    fn trust(&mut self) {
        self.end_at(self.mark.end);
    }

    fn end_at(&self, end: Offset) {
        let shared = &self.shared;
        if let Some(last) = shared.segments().last() {
            last.publish(last.size(), end);
        }
        shared.set_log_start(shared.log_start().min(end));
        shared.set_log_end(end);
        shared.set_durable_end(end);
        shared.set_synced_end(end);
        shared.set_compacted_to(shared.compacted_to().min(end));
    }

    fn examine(&mut self, durability: Durability) -> Result<(), OpenError> {
        match self.check_below_mark()? {
            Some(damage) => self.keep_damaged(damage),
            None => self.recover_above_mark(durability),
        }
    }

    /// Whether all that was durable is there, by lengths and by whether segments follow each other. What lies between is
    /// for readers and the scrub to find.
    fn check_below_mark(&self) -> Result<Option<Damage>, OpenError> {
        let segments = self.shared.segments();
        let first = self.inventory.first_base();
        if first > self.inventory.log_start {
            return Ok(Some(missing(
                self.inventory.log_start,
                first,
                "the log begins later",
            )));
        }
        for pair in segments.windows(2) {
            let [segment, next] = pair else { continue };
            if next.base > self.mark.segment {
                break;
            }
            let end = self.end_of(segment, segment.size())?;
            if end != next.base {
                return Ok(Some(missing(
                    end.min(next.base),
                    next.base,
                    "a segment ends early or is missing",
                )));
            }
        }
        let Some(marked) = segments
            .iter()
            .find(|segment| segment.base == self.mark.segment)
        else {
            let below = segments
                .iter()
                .rev()
                .find(|segment| segment.base < self.mark.end);
            let end = below.map_or(Ok(first), |segment| self.end_of(segment, segment.size()))?;
            return Ok(Some(missing(
                end.min(self.mark.end),
                self.mark.end,
                "a segment is missing",
            )));
        };
        let end = self.end_of(marked, self.mark.position.min(marked.size()))?;
        if end != self.mark.end {
            return Ok(Some(missing(
                end.min(self.mark.end),
                self.mark.end,
                "a segment is shorter than it was",
            )));
        }
        Ok(None)
    }

    /// The offset after the last whole batch before a position, by the headers behind the last index entry before it.
    fn end_of(&self, segment: &Segment, position: u64) -> Result<Offset, OpenError> {
        let unreadable = |error| unreadable(&self.shared, error);
        let file = segment.file(&self.shared.dir, &self.shared.path)?;
        let sought = Sought {
            segment,
            file: &*file,
            wait: Wait::Yes,
        };
        let start = self
            .shared
            .start(&sought, |entry| u64::from(entry.position) < position)
            .map_err(unreadable)?;
        let mut walk = Walk::new(&*file, start.position, position, start.offset, Wait::Yes);
        loop {
            match walk.next() {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(walk.expected()),
                Err(error) => match self.shared.walk_error(segment, error) {
                    ReadError::Corrupt(_) => return Ok(walk.expected()),
                    error => return Err(unreadable(error)),
                },
            }
        }
    }

    /// Leaves everything as it is, for reading what is there.
    fn keep_damaged(&mut self, damage: Damage) -> Result<(), OpenError> {
        let segments = self.shared.segments();
        let Some(last) = segments.last() else {
            return Ok(());
        };
        let end = self.end_of(last, last.size())?;
        self.shared.set_damage(damage);
        self.end_at(end);
        Ok(())
    }

    /// Checks batch by batch what the checkpoint does not vouch for, cuts behind the last whole one, and syncs.
    fn recover_above_mark(&mut self, durability: Durability) -> Result<(), OpenError> {
        let mut segments = (*self.shared.segments()).clone();
        let first = segments.partition_point(|segment| segment.base < self.mark.segment);
        let mut expected = self.mark.end;
        let mut kept = first;
        let mut torn = false;
        for segment in &segments[first..] {
            if torn || segment.base != expected && segment.base != self.mark.segment {
                torn = true;
                self.report.cut_bytes += segment.size();
                self.report.batches_behind_cut += scan::whole_batches(&self.shared, segment)?;
                continue;
            }
            let from = if segment.base == self.mark.segment {
                self.mark.position
            } else {
                0
            };
            let scanned = scan::scan(&self.shared, segment, from, expected)?;
            self.report.scanned_bytes += scanned.position - from;
            self.report.batches_behind_cut += scanned.batches_behind;
            self.report.cut_bytes += segment.size() - scanned.position;
            self.report.indexes_rebuilt += u32::from(segment.size() > from);
            torn = scanned.position < segment.size();
            expected = scanned.offset;
            kept += 1;
            scan::settle(
                &self.shared,
                segment,
                from,
                &scanned,
                durability == Durability::Fsync,
            )?;
        }
        for segment in segments.drain(kept..).rev() {
            self.inventory.remove_segment(&self.shared, &segment)?;
        }
        if expected < self.shared.log_start() {
            // Records were deleted that had not been synced, and are gone now by themselves. Their offsets are not used again.
            expected = self.shared.log_start();
            for segment in segments.drain(..).rev() {
                self.inventory.remove_segment(&self.shared, &segment)?;
            }
            self.inventory.ensure_segment(&self.shared.dir)?;
            segments = self.inventory.segments(&self.shared.dir);
        }
        let path = &self.shared.path;
        self.shared
            .dir
            .storage()
            .sync_dir(path)
            .map_err(FileError::of(SYNCING, path))?;
        self.shared.set_segments(segments);
        self.end_at(expected);
        if let Some(last) = self.shared.segments().last() {
            self.shared.mark.set(Mark {
                end: expected,
                segment: last.base,
                position: last.size(),
            });
        }
        Ok(())
    }
}

fn missing(from: Offset, to: Offset, found: &str) -> Damage {
    Damage {
        offsets: from..to,
        found: found.to_owned(),
    }
}
