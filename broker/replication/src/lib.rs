//! What a leader and its followers have to know of each other, without input or output.
//!
//! - [`Leadership`]: how far each replica of one partition is, in one epoch of its leader; from that the high watermark and
//!   the in-sync set to ask for.
//! - [`agreement`]: where a follower's log and its leader's part, so that the follower cuts off what the leader does not have.
//!
//! What always holds is said there. Who calls it: the broker's `replication` module, which has the streams.

pub mod agreement;
mod leadership;

pub use leadership::{Answer, Ends, Known, Leadership, Millis, Promise, Replica, Want};
