//! When a pass of compaction is due.

use std::sync::Arc;

use weir_wire::Offset;

use super::{PartitionLog, WriteFailed};
use crate::clean::{CleanJob, Cleaner, Rules, dirt};

impl PartitionLog {
    /// The pass that is due over what lies below `up_to`, if one may be. Closes an active segment that is old, so that what a
    /// topic wrote last does not wait for it to write again. Nothing may be staged.
    pub(crate) fn clean(
        &mut self,
        up_to: Offset,
        cleaner: &Arc<Cleaner>,
        now_ms: i64,
    ) -> Result<Option<CleanJob>, WriteFailed> {
        let Some(compaction) = self.config.compaction else {
            return Ok(None);
        };
        let unusable = self.shared.damage().is_some() || self.shared.is_uncleanable();
        if unusable {
            return Ok(None);
        }
        if self.active.size() > 0 && self.is_active_old(now_ms) {
            self.roll(now_ms)?;
        }
        let (dirty, all) = dirt(&self.shared);
        // As Kafka has it: the ratio has to be exceeded.
        let is_dirty_enough = u128::from(dirty) * 1_000_000
            > u128::from(all) * u128::from(compaction.dirty_ratio_min_ppm);
        if dirty == 0 || !is_dirty_enough && compaction.lag_max_ms == i64::MAX {
            return Ok(None);
        }
        Ok(Some(CleanJob {
            shared: Arc::clone(&self.shared),
            cleaner: Arc::clone(cleaner),
            truncations: self.shared.truncations(),
            rules: Rules {
                now_ms,
                delete_retention_ms: compaction.delete_retention_ms,
                producers: self.producers.last_batches(),
            },
            up_to,
            segment_bytes: self.config.segment_bytes.min(super::SEGMENT_BYTES_MAX),
            min_lag_ms: compaction.lag_min_ms,
            max_lag_ms: compaction.lag_max_ms,
            is_dirty_enough,
        }))
    }
}
