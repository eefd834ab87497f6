//! Time as the log sees it: one number, through a seam that a simulation replaces.

use std::fmt::Debug;
use std::time::{SystemTime, UNIX_EPOCH};

/// Where the log takes the time from.
pub trait Clock: Debug + Send + Sync {
    /// Milliseconds since the Unix epoch. May jump, also backwards; nothing here breaks when it does.
    fn now_ms(&self) -> i64;
}

/// The operating system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .ok()
            .and_then(|elapsed| i64::try_from(elapsed.as_millis()).ok())
            .unwrap_or(0)
    }
}
