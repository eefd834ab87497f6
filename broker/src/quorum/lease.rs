//! For how long a broker may take what it knows of the cluster for the newest.
//!
//! A broker that is cut off from the controller goes on serving what it leads: nothing is acknowledged that was not
//! replicated, so nothing is lost by it. But another may lead by then, and know more. What this broker must not do any more is to
//! deny: an offset beyond the end of its log, or a sequence that does not follow on what it has, may be what the other leader
//! has acknowledged. Clients take such an answer for final (a consumer starts over, a producer gives up), so without a lease
//! they are told to look for the leader and ask again. Coordinators, who answer from memory, prove first that they still lead.
//!
//! The lease counts from when a heartbeat was sent that the controller answered, and it ends before the controller fences a broker
//! that has fallen silent: after half a session. The controller answers only while a majority has heard from it so lately that
//! no other can have been elected (`Quorum::is_followed`). A leader that was just elected gives its deposed predecessor
//! half a session, too.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Clones are the same lease.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    lasts: Duration,
    confirmed: Arc<Mutex<Option<Instant>>>,
}

impl Lease {
    /// Not confirmed yet.
    pub(crate) fn new(session: Duration) -> Self {
        Self {
            lasts: session / 2,
            confirmed: Arc::default(),
        }
    }

    /// Held by whoever is the controller himself.
    pub(crate) fn endless() -> Self {
        Self {
            lasts: Duration::MAX,
            confirmed: Arc::new(Mutex::new(Some(Instant::now()))),
        }
    }

    /// The controller has answered what was sent then.
    pub(crate) fn confirm(&self, sent: Instant) {
        *self
            .confirmed
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(sent);
    }

    /// Whether it lasts.
    pub(crate) fn holds(&self) -> bool {
        self.holds_at(Instant::now())
    }

    fn holds_at(&self, now: Instant) -> bool {
        let confirmed = *self
            .confirmed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        confirmed.is_some_and(|at| now.saturating_duration_since(at) < self.lasts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_lasts_half_a_session_from_when_the_heartbeat_was_sent() {
        let lease = Lease::new(Duration::from_secs(2));
        let sent = Instant::now();
        assert!(!lease.holds_at(sent));
        lease.confirm(sent);
        assert!(lease.holds_at(sent + Duration::from_millis(999)));
        assert!(!lease.holds_at(sent + Duration::from_secs(1)));
        lease.confirm(sent + Duration::from_secs(1));
        assert!(lease.holds_at(sent + Duration::from_millis(1999)));
        assert!(Lease::endless().holds_at(sent + Duration::from_secs(1 << 40)));
    }
}
