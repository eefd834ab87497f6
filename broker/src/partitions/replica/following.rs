//! A partition's follower: the stream of the leader that feeds it, and where its log begins and ends.

use std::sync::Arc;

use bytes::Bytes;
use tracing::error;
use weir_log::{AppendError, LaneError, PartitionHandle, Replicate};
use weir_replication::Ends;
use weir_wire::{BrokerId, LeaderEpoch, Offset};

use super::{Replica, State, Wake};

/// What a follower knows in its epoch.
pub(super) struct Following {
    pub(super) epoch: LeaderEpoch,
    pub(super) leader: Option<BrokerId>,
    /// The stream that feeds it.
    pub(super) inlet: Option<Arc<dyn Wake>>,
    /// What the leader says its high watermark is.
    pub(super) leader_watermark: Offset,
    /// Where the leader says its log begins, and up to where this log was asked to begin.
    pub(super) leader_start: Offset,
    pub(super) start_asked: Offset,
}

impl Following {
    /// Lets the log begin where the leader's does, as far as this one is durable.
    pub(super) fn follow_start(&mut self, handle: &PartitionHandle) {
        let reader = handle.reader();
        let start = self.leader_start.min(reader.durable_end());
        if start <= self.start_asked.max(reader.log_start()) {
            return;
        }
        self.start_asked = start;
        let key = reader.key();
        handle.delete_records(start, move |result| {
            if let Err(error) = result {
                error!(%key, %error, "the log's start does not follow the leader's");
            }
        });
    }
}

/// Why a stream cannot feed a partition.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NotFed {
    /// The metadata has not come to that epoch here.
    #[error("epoch {0} is not known here yet")]
    NotYet(i32),
    /// It has gone on since.
    #[error("the epoch is over; the current one is {0}")]
    Over(i32),
    /// Somebody else leads in that epoch, or another stream of the leader's feeds it.
    #[error("another stream feeds the partition")]
    Another,
    /// What is to be cut off lies below the high watermark: a mistake that nobody must mend by losing records.
    #[error(
        "the leader's log parts from this one at {agreed}, below the high watermark {high_watermark}"
    )]
    BelowWatermark {
        /// Where.
        agreed: i64,
        /// What consumers may have seen.
        high_watermark: i64,
    },
    /// It would be begun anew, and counts as one that has everything: the metadata has to let go of it first.
    #[error("the replica is damaged or cannot follow, and still counts as in sync")]
    CountsAsInSync,
    /// It begins behind the log's first batches, and the leader has not said what it knows of their producers.
    #[error("the leader does not say what it knows of producers: {0}")]
    ProducersUnknown(String),
    /// The log cannot be used.
    #[error("the log cannot be used: {0}")]
    Unusable(String),
    /// The lane said no.
    #[error(transparent)]
    Lane(#[from] LaneError),
    /// The lane would not append.
    #[error(transparent)]
    Append(#[from] AppendError),
}

impl Replica {
    /// A stream of the leader in this epoch begins to feed this replica, in place of any before.
    pub(crate) fn feed(
        &self,
        leader: BrokerId,
        epoch: LeaderEpoch,
        inlet: &Arc<dyn Wake>,
    ) -> Result<(), NotFed> {
        let mut state = self.lock();
        let known = state.epoch();
        match &mut *state {
            State::Following(following)
                if following.epoch == epoch && following.leader == Some(leader) =>
            {
                following.inlet = Some(Arc::clone(inlet));
                Ok(())
            }
            _ if known < epoch => Err(NotFed::NotYet(epoch.0)),
            _ if known > epoch => Err(NotFed::Over(known.0)),
            _ => Err(NotFed::Another),
        }
    }

    /// Does something with the lane for the stream that feeds this replica: nothing of another stream or role comes in between.
    pub(crate) fn while_fed<T>(
        &self,
        inlet: &Arc<dyn Wake>,
        act: impl FnOnce(&PartitionHandle) -> T,
    ) -> Result<T, NotFed> {
        let mut state = self.lock();
        if state.fed_by(inlet).is_none() {
            return Err(NotFed::Another);
        }
        Ok(act(&self.handle))
    }

    /// Queues what the stream that feeds this replica brought. `failed` is called when it cannot be appended.
    pub(crate) fn receive(
        self: &Arc<Self>,
        inlet: &Arc<dyn Wake>,
        batches: Bytes,
        failed: impl FnOnce(AppendError) + Send + 'static,
    ) -> Result<(), NotFed> {
        self.while_fed(inlet, |handle| {
            handle.replicate(Replicate {
                batches,
                done: Box::new(move |result| {
                    if let Err(error) = result {
                        failed(error);
                    }
                }),
            });
        })
    }

    /// What the leader says of itself, by the stream that feeds this replica.
    pub(crate) fn told(
        &self,
        inlet: &Arc<dyn Wake>,
        high_watermark: Offset,
        log_start: Offset,
    ) -> Result<(), NotFed> {
        let mut state = self.lock();
        let following = state.fed_by(inlet).ok_or(NotFed::Another)?;
        following.leader_watermark = following.leader_watermark.max(high_watermark);
        following.leader_start = following.leader_start.max(log_start);
        let end = following.leader_watermark.min(self.reader().log_end());
        following.follow_start(&self.handle);
        drop(state);
        self.advance(end);
        Ok(())
    }

    /// How far this replica is, for the stream that feeds it.
    pub(crate) fn fed(&self, inlet: &Arc<dyn Wake>) -> Option<Ends> {
        let mut state = self.lock();
        // Within the lock: of another epoch it would speak of other records.
        state.fed_by(inlet).map(|_| self.ends())
    }
}
