//! Views: topics whose partitions have what those of another topic have, as far as a filter lets it through.
//!
//! Each partition of a view is filled by its leader ([`follow`]), which reads the source's partition of the same number, wherever that is led, as one who
//! reads what is committed, and appends here what the filter lets through. How far it has come lies in the view's own log: in front of each batch, in the same append,
//! is a control batch ([`word`]) that says up to where the source was looked at once the batch is there. So no replica can have the one
//! without the other, whoever leads next goes on from the last word in its own log ([`find`]), and nothing else has to agree.
//!
//! What always holds:
//! - Nobody but the copier of the epoch's leader appends to a view, one append after the other.
//! - A copier begins with the log as it was when its epoch began, or anew after an append of which nothing is known.
//! - A word whose batch does not follow it was cut off in between: it counts for nothing, and was never acknowledged.
//! - Neither retention nor DeleteRecords takes the last word away ([`Kept`]).

mod build;
mod copy;
mod find;
#[cfg(test)]
mod tests;
mod word;

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;
use weir_quorum::configs::VIEW_OF;
use weir_quorum::image::Topic;
use weir_wire::{LeaderEpoch, Offset};

use super::led;
use crate::Broker;
use crate::gateway::Gateway;

pub use word::COPIER;

/// Copies into each partition of a view that this broker leads, until `stop`.
pub async fn follow(broker: Arc<Broker>, stop: CancellationToken) {
    let gateway = Gateway::new(Arc::clone(&broker));
    led::follow(broker, stop, is_view, |broker, key, epoch| {
        copy::Copying::new(broker, gateway.clone(), key, epoch).run()
    })
    .await;
}

fn is_view(topic: &Topic) -> bool {
    let source = topic.config.get(VIEW_OF);
    source.is_some_and(|source| !source.trim().is_empty())
}

/// From where on a view's log has to stay, which only its leader knows.
#[derive(Debug, Default)]
pub struct Kept(AtomicI64);

impl Kept {
    /// Nothing from here on may go. 0 while it is not known.
    #[must_use]
    pub fn from(&self) -> Offset {
        Offset(self.0.load(Ordering::Acquire))
    }

    /// The last word lies here; `None`: there is none, and nothing has to stay.
    fn set(&self, word: Option<Offset>) {
        let from = word.map_or(i64::MAX, |word| word.0);
        self.0.store(from, Ordering::Release);
    }

    fn forget(&self) {
        self.0.store(0, Ordering::Release);
    }
}

/// How far one partition of a view is behind its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lag {
    /// Which leader's copier says so.
    pub epoch: LeaderEpoch,
    /// Offsets of what is committed in the source that were not looked at yet, as of the last look.
    pub messages: u64,
    /// When it was at the source's end last, or began.
    pub since_ms: i64,
}

/// What the copier says of itself.
#[derive(Debug, Default)]
pub struct Progress(Mutex<Option<Lag>>);

impl Progress {
    /// What the last copier of this partition said, if there was one.
    #[must_use]
    pub fn lag(&self) -> Option<Lag> {
        *self.lock()
    }

    /// A copier begins, or begins anew.
    fn begins(&self, epoch: LeaderEpoch, now_ms: i64) {
        let mut lag = self.lock();
        if lag.is_none_or(|lag| lag.epoch != epoch) {
            *lag = Some(Lag {
                epoch,
                messages: 0,
                since_ms: now_ms,
            });
        }
    }

    /// Everything before `next` was looked at, of a source whose committed messages ended there.
    fn looked(&self, next: i64, source_end: i64, now_ms: i64) {
        if let Some(lag) = self.lock().as_mut() {
            lag.messages = u64::try_from(source_end - next).unwrap_or(0);
            if lag.messages == 0 {
                lag.since_ms = now_ms;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Lag>> {
        // Nothing that can panic runs while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
