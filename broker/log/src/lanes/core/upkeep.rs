//! What nobody waits for: retention, compaction, background syncs, snapshots, indexes.

use tracing::warn;
use weir_wire::Offset;

use super::LaneCore;
use crate::lanes::background::{Urgency, Work};
use crate::lanes::command::Slot;
use crate::log::WriteFailed;

impl LaneCore {
    pub(super) fn retain(&mut self, slot: Slot, up_to: Offset, now_ms: i64) {
        if let Err(fatal) = self.write_one(slot, now_ms) {
            self.fail(&fatal);
            return;
        }
        let Some(partition) = self.partitions.get_mut(&slot) else {
            return;
        };
        self.touched.insert(slot);
        match partition.retain(up_to, now_ms) {
            Ok(Some(job)) => {
                // What goes is in a snapshot before: one is due when there is a new segment, as may be for this.
                let snapshot = partition.snapshot(now_ms);
                if let Some(snapshot) = snapshot {
                    self.ask(slot, Urgency::None, Work::Snapshot(snapshot));
                }
                self.ask(slot, Urgency::None, Work::Retention(job));
            }
            Ok(None) => {}
            Err(WriteFailed::Refused(error)) => {
                warn!(%error, "retention could not begin a new segment")
            }
            Err(WriteFailed::Fatal(fatal)) => self.fail(&fatal),
        }
    }

    pub(super) fn clean(&mut self, slot: Slot, up_to: Offset, now_ms: i64) {
        if let Err(fatal) = self.write_one(slot, now_ms) {
            self.fail(&fatal);
            return;
        }
        let Some(partition) = self.partitions.get_mut(&slot) else {
            return;
        };
        self.touched.insert(slot);
        match partition.clean(up_to, &self.cleaner, now_ms) {
            Ok(Some(job)) => self.ask(slot, Urgency::Hours, Work::Clean(job)),
            Ok(None) => {}
            Err(WriteFailed::Refused(error)) => {
                warn!(%error, "compaction could not begin a new segment")
            }
            Err(WriteFailed::Fatal(fatal)) => self.fail(&fatal),
        }
    }

    /// What nobody waits for: background syncs, snapshots, full indexes. Of the partitions that had something to do in this
    /// turn, and those whose sync is due; an idle partition costs nothing.
    pub(super) fn tidy(&mut self, now_ms: i64) {
        let mut slots = std::mem::take(&mut self.touched);
        slots.extend(
            self.sync_due_ms
                .iter()
                .filter(|(_, due)| **due <= now_ms)
                .map(|(slot, _)| *slot),
        );
        for slot in slots {
            self.sync_due_ms.remove(&slot);
            let Some(partition) = self.partitions.get_mut(&slot).filter(|_| !self.failed) else {
                continue;
            };
            let sync = partition.background_sync(now_ms);
            let snapshot = partition.snapshot(now_ms);
            partition.flush_index();
            if let Some(due) = partition.sync_due_ms() {
                self.sync_due_ms.insert(slot, due);
            }
            if let Some((urgency, work)) = sync {
                self.ask(slot, urgency, Work::Sync(work));
            }
            if let Some(job) = snapshot {
                self.ask(slot, Urgency::None, Work::Snapshot(job));
            }
        }
    }
}
