//! The bytes of requests that one broker holds.
//!
//! A frame's share is taken when its length is known and given back when its request is answered, so that clients cannot make
//! the broker hold more than `limits.request_memory`, however many connections they open. A connection whose frame does not fit
//! now is not read from until it does; the senders notice by TCP's own flow control.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// One permit stands for this many bytes: small enough to be exact, large enough for the counter.
const UNIT_BYTES: u64 = 1024;

/// What all requests together may hold.
#[derive(Clone, Debug)]
pub struct RequestMemory {
    units: Arc<Semaphore>,
    units_max: u32,
}

/// The share of one request. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Share {
    _permit: OwnedSemaphorePermit,
}

impl RequestMemory {
    /// Room for this many bytes.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let units_max = u32::try_from(bytes.div_ceil(UNIT_BYTES))
            .unwrap_or(u32::MAX)
            .max(1);
        Self {
            units: Arc::new(Semaphore::new(units_max as usize)),
            units_max,
        }
    }

    /// Waits until a frame of this length fits. One that is larger than everything gets everything.
    pub(crate) async fn share(&self, bytes: usize) -> Share {
        let permit = Arc::clone(&self.units)
            .acquire_many_owned(self.units_of(bytes))
            .await;
        Share {
            _permit: permit.unwrap_or_else(|_closed| unreachable!("the semaphore is never closed")),
        }
    }

    /// The share of a frame of this length, if it fits now.
    pub(crate) fn try_share(&self, bytes: usize) -> Option<Share> {
        let permit = Arc::clone(&self.units).try_acquire_many_owned(self.units_of(bytes));
        permit.ok().map(|permit| Share { _permit: permit })
    }

    fn units_of(&self, bytes: usize) -> u32 {
        u32::try_from((bytes as u64).div_ceil(UNIT_BYTES))
            .unwrap_or(u32::MAX)
            .min(self.units_max)
    }

    /// Bytes that are taken.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        (self.units_max as usize - self.units.available_permits()) as u64 * UNIT_BYTES
    }
}
