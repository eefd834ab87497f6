//! Messages that are to come later, and messages that come twice: what records may ask for with their headers.
//!
//! How those that are to come later lie in their topic's log, and how they come out of it:
//!
//! A record that is not due yet is appended to its own partition's log, in a control batch that no consumer is given
//! ([`without_held_back`]); behind it, in the same append, lies its *twin*: the producer's batch without those records, with the producer's
//! identity, sequence and offsets. So retries are known by the twin, what is due keeps its order, and the offset that a producer is
//! told, in the twin, is a receipt. When a message is due, the partition's leader appends it once more, as an ordinary record.
//!
//! What always holds:
//! - One log has everything, so what waits is as safe as what does not, and moves with its partition: replicas, failover and crashes have nothing else to agree
//!   on. A control batch whose twin does not follow it was cut off in between: it was never acknowledged, and counts for nothing.
//! - Messages are released in the order of (due time, offset), and each released record says its own. So the last one in the log tells which were:
//!   those up to it. For that, nothing is appended that is due before what was released (the floor of `Seen::Known`), and nothing is released that
//!   is due at or behind what is just being appended.
//! - Only the leader of an epoch releases, and only after it has read the log as it was when the epoch began.
//! - The log is not cut, by retention, before the oldest message that waits ([`Stage::oldest`]).
//!
//! A message that comes twice within a topic's window, as its id says, is left out of its batch, whose offsets stay. What always holds: an id that is in the log, by
//! its record's timestamp within the window, is known to whoever leads before it takes another; of two that come at once one is refused for
//! the moment until it is certain what became of the other. Duplicates of an idempotent producer's retries are the lane's to find.
//!
//! `append` is called by Produce for topics that have `weir.queue.delay.max.ms`; [`follow`] is the task that releases.

mod append;
mod record;
mod release;
mod scan;
mod split;
mod stage;
#[cfg(test)]
mod tests;

pub(crate) use append::append;
pub use record::{RELEASER, without_held_back};
pub use release::follow;
pub use split::Heeds;
pub(crate) use split::{Wish, look};
pub use stage::Stage;
