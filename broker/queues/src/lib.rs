//! What queues decide: how full they may be, when a message is tried again, when it is given up, who gets which, and in what order.
//!
//! State machines and data structures without I/O: time comes in, effects go out, and nothing iterates over a randomly seeded
//! map. The broker's `queue` module carries out what they say; a topic that asks for none of it never comes here.
//!
//! - [`bound`]: the backlog of a partition and its bound, and the ledger by which a topic's partitions share one.
//! - [`retry`]: when a message that failed is tried again, what waits for that, and a breaker against floods of dead letters.
//! - [`dead_letter`]: what a message that is given up says of itself (KIP-1191).
//! - [`filter`]: tags and conditions.
//! - [`delay`]: what is not due yet, in the order in which it will be.
//! - [`priority`]: which level is next, and the oldest of it.
//! - [`order`]: one message of a key at a time.
//! - [`dedup`]: ids that came before.
//! - [`trace`]: which messages are traced, and what is remembered of them.

pub mod bound;
pub mod dead_letter;
pub mod dedup;
pub mod delay;
pub mod filter;
pub mod order;
pub mod priority;
pub mod retry;
pub mod trace;

/// A time, in milliseconds: of the wall clock where it is a message's, of any clock where it only orders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(pub u64);

impl Millis {
    /// So much later.
    #[must_use]
    pub fn after(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}
