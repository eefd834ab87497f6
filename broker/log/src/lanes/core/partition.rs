//! A partition in its lane: its files, who waits for what, and what is under way in the background.

use std::sync::Arc;

use tracing::warn;
use weir_wire::Offset;

use super::super::background::Urgency;
use super::super::{Admission, Append, Appended, Ends, Observer, Replicate};
use crate::clean::{CleanJob, Cleaner};
use crate::config::{Durability, LogConfig};
use crate::dir::{DataDir, PartitionKey};
use crate::error::{AppendError, Fatal};
use crate::log::{
    PartitionLog, RetentionJob, SnapshotJob, SyncWork, TruncationFailed, WriteFailed,
};
use crate::mutants::Mutant;
use crate::producers::{KnownProducers, ProducerState};

/// Calls with what became of it.
type Done<T> = Box<dyn FnOnce(Result<T, AppendError>) + Send>;

/// Somebody who waits for batches to be written, and what was decided about them.
enum Waiting {
    Append(Done<Appended>, Result<Appended, AppendError>),
    /// Of a leader's batches: where the log ends with them.
    Replicate(Done<Offset>, Result<Offset, AppendError>),
}

impl Waiting {
    /// Tells what was decided. `refused`: not all that was staged is in the log, which ends at `end`.
    fn tell(self, refused: Option<&AppendError>, end: Offset) {
        match self {
            Self::Append(done, decided) => done(match (decided, refused) {
                // Also a duplicate of a batch that could not be written.
                (Ok(appended), Some(error)) if appended.last_offset >= end => Err(error.clone()),
                (decided, _) => decided,
            }),
            Self::Replicate(done, decided) => done(match (decided, refused) {
                (Ok(new_end), Some(error)) if new_end > end => Err(error.clone()),
                (decided, _) => decided,
            }),
        }
    }

    fn refuse(self, error: AppendError) {
        match self {
            Self::Append(done, _) => done(Err(error)),
            Self::Replicate(done, _) => done(Err(error)),
        }
    }
}

pub(super) struct Partition {
    log: PartitionLog,
    observer: Arc<dyn Observer>,
    waiting: Vec<Waiting>,
    /// Why the last write that was tried was refused, if it was: for want of room.
    refused: Option<AppendError>,
    /// The log's end as the observer knows it.
    told_end: Offset,
    /// Since when something is written that a background sync has not been asked for.
    unsynced_since_ms: Option<i64>,
    sync_running: bool,
    snapshot_running: bool,
    /// Up to where retention may go, while work of it is under way.
    retaining: Option<Offset>,
    is_cleaning: bool,
}

impl Partition {
    pub(super) fn new(log: PartitionLog, observer: Arc<dyn Observer>) -> Self {
        let partition = Self {
            told_end: log.shared().log_end(),
            log,
            observer,
            waiting: Vec::new(),
            refused: None,
            unsynced_since_ms: None,
            sync_running: false,
            snapshot_running: false,
            retaining: None,
            is_cleaning: false,
        };
        partition.count_unsynced_writer(true);
        partition
    }

    fn count_unsynced_writer(&self, opened: bool) {
        if self.durability() != Durability::Fsync {
            self.dir().count_unsynced_writer(opened);
        }
    }

    fn dir(&self) -> &Arc<DataDir> {
        &self.log.shared().dir
    }

    pub(super) fn durability(&self) -> Durability {
        self.log.config().durability
    }

    pub(super) fn set_config(&mut self, config: LogConfig) {
        self.count_unsynced_writer(false);
        self.log.set_config(config);
        self.count_unsynced_writer(true);
    }

    pub(super) fn set_admission(&mut self, admission: Option<Arc<dyn Admission>>) {
        self.log.set_admission(admission);
    }

    pub(super) fn stage(&mut self, append: Append, now_ms: i64) {
        let Append {
            batch,
            leader_epoch,
            origin,
            verified,
            begins_at_zero,
            done,
        } = append;
        let asked = (origin, verified, begins_at_zero);
        let decided = self.log.stage(batch, leader_epoch, asked, now_ms);
        self.waiting
            .push(Waiting::Append(done, self.or_for_want_of_room(decided)));
    }

    /// A batch that seems to leave some out may only follow one that there was no room for. It is refused for the same reason, which
    /// tells its producer to send both again; that its sequence is wrong would make librdkafka begin a new epoch and send twice what
    /// other partitions have not acknowledged yet.
    fn or_for_want_of_room(
        &self,
        decided: Result<Appended, AppendError>,
    ) -> Result<Appended, AppendError> {
        match (&decided, &self.refused) {
            (Err(error), Some(refused)) if error.gap().is_some() => Err(refused.clone()),
            _ => decided,
        }
    }

    pub(super) fn stage_replica(&mut self, replicate: Replicate, now_ms: i64) {
        let Replicate { batches, done } = replicate;
        let decided = self.log.stage_replica(&batches, now_ms);
        self.waiting.push(Waiting::Replicate(done, decided));
    }

    /// Writes what is staged, unless its data directory has no room for it. Reports what was
    /// appended, and what of it is as durable as it is to be.
    pub(super) fn write(&mut self, now_ms: i64) -> Result<(), Fatal> {
        let wanted_bytes = self.log.staged_bytes();
        let mut refused = None;
        if !self.data_dir().take_room(wanted_bytes) {
            self.log.unstage();
            refused = Some(AppendError::NoSpace { wanted_bytes });
        } else if wanted_bytes > 0 {
            match self.log.write_staged(now_ms) {
                Ok(()) => {}
                Err(WriteFailed::Refused(error)) => refused = Some(error),
                Err(WriteFailed::Fatal(fatal)) => return Err(fatal),
            }
            self.unsynced_since_ms.get_or_insert(now_ms);
        }
        self.report_appended(refused.as_ref());
        if wanted_bytes > 0 {
            self.refused = refused;
        }
        if self.durability() != Durability::Fsync || Mutant::AcknowledgeBeforeSync.is_active() {
            self.meet_promise();
        }
        Ok(())
    }

    fn report_appended(&mut self, refused: Option<&AppendError>) {
        let end = self.log.shared().log_end();
        for waiting in std::mem::take(&mut self.waiting) {
            waiting.tell(refused, end);
        }
    }

    /// The turn's writes are done.
    pub(super) fn tell_written(&mut self) {
        let end = self.log.shared().log_end();
        if end > self.told_end {
            self.told_end = end;
            self.observer.written(end);
        }
    }

    /// Everything that is written is as durable as it is to be.
    fn meet_promise(&self) {
        let shared = self.log.shared();
        let end = match self.durability() {
            _ if Mutant::AcknowledgeBeforeSync.is_active() => shared.log_end(),
            Durability::Fsync => shared.synced_end(),
            Durability::Replicated | Durability::Os => shared.log_end(),
        };
        if end > shared.durable_end() {
            shared.set_durable_end(end);
            self.observer.durable(end);
        }
    }

    /// The sync without which nothing more can be promised.
    pub(super) fn foreground_sync(&self) -> Option<SyncWork> {
        self.log
            .sync_work()
            .filter(|_| self.durability() == Durability::Fsync)
    }

    /// All that is to be synced.
    pub(super) fn sync_work(&self) -> Option<SyncWork> {
        self.log.sync_work()
    }

    pub(super) fn synced(&mut self, work: &SyncWork) {
        self.log.synced(work);
        if self.durability() == Durability::Fsync {
            self.unsynced_since_ms = None;
        }
        self.meet_promise();
    }

    /// When the sync must begin that [`Durability::Replicated`] promises: half of the time is left for the sync itself.
    pub(super) fn sync_due_ms(&self) -> Option<i64> {
        let replicated = self.durability() == Durability::Replicated && !self.sync_running;
        self.unsynced_since_ms
            .filter(|_| replicated)
            .map(|since| since.saturating_add(self.log.config().replicated_sync_ms / 2))
    }

    pub(super) fn background_sync(&mut self, now_ms: i64) -> Option<(Urgency, SyncWork)> {
        let urgency = match self.durability() {
            Durability::Fsync => return None,
            Durability::Replicated if self.sync_due_ms().is_some_and(|due| due <= now_ms) => {
                Urgency::Deadline
            }
            // A closed segment is synced once, so that a start need not look at it again.
            Durability::Os if self.log.has_unsynced_closed() && !self.sync_running => Urgency::None,
            Durability::Replicated | Durability::Os => return None,
        };
        let work = self.log.sync_work()?;
        self.sync_running = true;
        self.unsynced_since_ms = None;
        Some((urgency, work))
    }

    pub(super) fn synced_in_background(&mut self, work: &SyncWork) {
        self.sync_running = false;
        self.synced(work);
    }

    pub(super) fn snapshot(&mut self, now_ms: i64) -> Option<SnapshotJob> {
        if self.snapshot_running || !self.log.wants_snapshot() {
            return None;
        }
        let job = self.log.snapshot(now_ms);
        self.snapshot_running = job.is_some();
        job
    }

    pub(super) fn snapshot_written(&mut self) {
        self.snapshot_running = false;
    }

    pub(super) fn flush_index(&mut self) {
        self.log.flush_index(false);
    }

    pub(super) fn producers(&self) -> Vec<ProducerState> {
        self.log.producers()
    }

    pub(super) fn producers_before(&self, start: Offset) -> KnownProducers {
        self.log.producers_before(start)
    }

    pub(super) fn truncate_to(
        &mut self,
        end: Offset,
        now_ms: i64,
    ) -> Result<Offset, TruncationFailed> {
        let before = self.log.shared().log_end();
        let end = self.log.truncate_to(end, now_ms)?;
        if end < before {
            self.told_end = self.told_end.min(end);
            self.was_cut(end);
        }
        Ok(end)
    }

    /// Throws everything away, and begins at `start`.
    pub(super) fn reset(
        &mut self,
        start: Offset,
        producers: KnownProducers,
    ) -> Result<Offset, TruncationFailed> {
        let before = self.log.shared().log_start();
        self.log.reset(start, producers)?;
        if start != before {
            self.observer.log_start(start);
        }
        self.told_end = start;
        self.was_cut(start);
        Ok(start)
    }

    /// The log was cut, and all that is left of it, up to `end`, is on disk.
    fn was_cut(&mut self, end: Offset) {
        self.unsynced_since_ms = None;
        // What is written from here on may not be seen yet by whoever said how far retention may go.
        self.retaining = self.retaining.map(|up_to| up_to.min(end));
        // It may not have been on disk before.
        self.meet_promise();
    }

    pub(super) fn ends(&self) -> Ends {
        let shared = self.log.shared();
        Ends {
            log_end: shared.log_end(),
            synced_end: shared.synced_end(),
            durable_end: shared.durable_end(),
        }
    }

    pub(super) fn delete_records(&mut self, start: Offset) -> Result<Offset, TruncationFailed> {
        let before = self.log.shared().log_start();
        let start = self.log.delete_records(start)?;
        if start > before {
            self.observer.log_start(start);
        }
        Ok(start)
    }

    pub(super) fn retain(
        &mut self,
        up_to: Offset,
        now_ms: i64,
    ) -> Result<Option<RetentionJob>, WriteFailed> {
        if self.retaining.is_some() {
            return Ok(None);
        }
        let before = self.log.shared().log_start();
        let job = self.log.retain(up_to, now_ms)?;
        let start = self.log.shared().log_start();
        if start > before {
            self.observer.log_start(start);
        }
        self.retaining = job.is_some().then_some(up_to);
        Ok(job)
    }

    /// The work of retention is done: there may be more, up to here.
    pub(super) fn retained(&mut self) -> Option<Offset> {
        self.retaining.take()
    }

    pub(super) fn clean(
        &mut self,
        up_to: Offset,
        cleaner: &Arc<Cleaner>,
        now_ms: i64,
    ) -> Result<Option<CleanJob>, WriteFailed> {
        if self.is_cleaning {
            return Ok(None);
        }
        let job = self.log.clean(up_to, cleaner, now_ms)?;
        self.is_cleaning = job.is_some();
        Ok(job)
    }

    /// The pass has ended, one way or another.
    pub(super) fn cleaned(&mut self) {
        self.is_cleaning = false;
        self.log.segments_exchanged();
    }

    /// Syncs and writes what makes the next open quick. Says whose it was.
    pub(super) fn close(&mut self, now_ms: i64) -> Result<PartitionKey, TruncationFailed> {
        self.log.shared().set_closed();
        if let Some(work) = self.log.sync_work() {
            work.run()
                .map_err(|error| TruncationFailed::Fatal(error.into()))?;
            self.synced(&work);
        }
        self.log.flush_index(true);
        if let Some(job) = self.log.closing_snapshot(now_ms)
            && let Err(error) = job.write()
        {
            if error.is_fatal() {
                return Err(TruncationFailed::Fatal(error.into()));
            }
            warn!(path = %error.path.display(), error = %error.source, "no state snapshot; the next start reads headers");
        }
        let shared = self.log.shared();
        for segment in shared.segments().iter() {
            segment.forget_files(&shared.dir);
        }
        shared
            .dir
            .closed(shared.key, shared.mark.get(), shared.damage().is_none());
        self.count_unsynced_writer(false);
        Ok(shared.key)
    }

    /// Readers are told that there is nothing any more.
    pub(super) fn gone(self) -> (Arc<DataDir>, PartitionKey) {
        let shared = self.log.shared();
        shared.set_gone();
        shared.set_closed();
        for segment in shared.segments().iter() {
            segment.forget_files(&shared.dir);
        }
        self.count_unsynced_writer(false);
        (Arc::clone(self.dir()), shared.key)
    }

    /// The lane has stopped.
    pub(super) fn refuse_staged(&mut self) {
        for waiting in self.waiting.drain(..) {
            waiting.refuse(AppendError::Stopped);
        }
    }

    /// The directory that it writes to.
    pub(super) fn data_dir(&self) -> &Arc<DataDir> {
        self.dir()
    }
}
