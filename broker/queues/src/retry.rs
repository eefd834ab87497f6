//! When a message that was not acknowledged is tried again, and when it is given up.
//!
//! [`Policy`] decides for one message; [`Parked`] holds those that wait for their time; [`Breaker`] bounds how fast messages are
//! given up, so that a consumer that fails at everything does not empty the queue into its dead letters. What always holds: a message is
//! handed out again no earlier than its backoff says; what waits holds nothing else up; of what waits, what is due first comes first, and
//! at the same time what is older.

mod breaker;
mod parked;
#[cfg(test)]
mod tests;

use thiserror::Error;

pub use breaker::Breaker;
pub use parked::Parked;

use crate::Millis;
use crate::dead_letter::Reason;

/// Backoffs of one list: deliveries beyond are a matter of the limit.
const BACKOFFS_MAX: usize = 64;
/// The longest backoff: a day. What is to wait longer is a delay, which is stored; what is parked begins anew after a failover.
const BACKOFF_MS_MAX: u64 = 24 * 60 * 60 * 1_000;

/// Why a list of backoffs is none.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BackoffsError {
    /// One is no number, or too great.
    #[error("{0:?} is no backoff; one is a whole number of milliseconds, at most 86400000")]
    NotOne(String),
    /// There are too many.
    #[error("{0} backoffs; at most 64 may be given, the last of which goes on")]
    TooMany(usize),
}

/// How long a message waits after each of its deliveries; the last goes on. Without any: not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backoffs(Vec<u64>);

impl Backoffs {
    /// Reads a list of milliseconds with commas between.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(list: &str) -> Result<Self, BackoffsError> {
        let parts = list.split(',').map(str::trim);
        let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
        if parts.len() > BACKOFFS_MAX {
            return Err(BackoffsError::TooMany(parts.len()));
        }
        let backoffs = parts.into_iter().map(|part| {
            let backoff = part.parse().ok().filter(|ms| *ms <= BACKOFF_MS_MAX);
            backoff.ok_or_else(|| BackoffsError::NotOne(part.to_owned()))
        });
        backoffs.collect::<Result<_, _>>().map(Self)
    }

    /// How long to wait after so many deliveries.
    #[must_use]
    pub fn after(&self, deliveries: i16) -> u64 {
        let nth = usize::try_from(deliveries.max(1) - 1).unwrap_or(0);
        let backoff = self.0.get(nth).or(self.0.last());
        backoff.copied().unwrap_or(0)
    }
}

/// What went wrong with a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The consumer gave it back, or its time with it ended, or it went away.
    Released,
    /// The consumer says that nobody shall try.
    Rejected,
}

/// What becomes of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is handed out again, no earlier than this.
    Retry(Millis),
    /// It is given up.
    GiveUp(Reason),
}

/// What a group asks of its retries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How long a message waits.
    pub backoffs: Backoffs,
    /// How often it is handed out at most.
    pub deliveries_max: i16,
}

impl Policy {
    /// What becomes of a message that was handed out so often. Where it would be given up and the breaker says no, it waits as long
    /// as that takes, or its last backoff when that is longer: it is handed out once more then.
    pub fn after(
        &self,
        failure: Failure,
        deliveries: i16,
        breaker: &mut Breaker,
        now: Millis,
    ) -> Next {
        let backoff = self.backoffs.after(deliveries);
        let reason = match failure {
            Failure::Rejected => Reason::Rejected,
            Failure::Released if deliveries >= self.deliveries_max => Reason::DeliveryLimit,
            Failure::Released => return Next::Retry(now.after(backoff)),
        };
        match breaker.take(now) {
            Ok(()) => Next::GiveUp(reason),
            Err(closed_at) => Next::Retry(closed_at.max(now.after(backoff))),
        }
    }
}
