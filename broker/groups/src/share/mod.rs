//! Share groups (KIP-932): records that are handed out one by one, acknowledged one by one, and handed out again.
//!
//! - [`SharePartition`] is the acquisition engine: which records of one partition one group has out, with whom and until
//!   when. Whatever is to be built on acknowledgement of single records builds on it.
//! - [`Windows`] are the windows of one share-partition: one engine, or one for each priority of its topic's messages.
//! - `group` is a group of type `share` in the group coordinator: members, and who reads which partitions.
//! - [`state::ShareStates`] keeps what is stored of share-partitions, so that another broker can go on.
//! - [`Overlay`] is how states of ranges of offsets lie over one another; it is what is persisted of a share-partition.
//!
//! No I/O anywhere: the broker's `share` module carries things out.

mod acknowledge;
mod acquire;
pub(crate) mod group;
mod ordering;
mod overlay;
mod partition;
mod retrying;
mod runs;
pub mod state;
mod told;
mod windows;
mod write;

#[cfg(test)]
mod tests;

pub use acknowledge::{AckBatch, AckError, AckType};
pub use acquire::{Acquire, AcquireMode, Acquired, Content, Fetched};
pub use overlay::{DeliveryState, Overlay, StateBatch};
pub use partition::{Departure, ShareConfig, SharePartition};
pub use retrying::{Dead, RetryConfig};
pub use told::Told;
pub use windows::{Place, Windows};
pub use write::{LevelState, Restored, Ticket, Write, Written};
