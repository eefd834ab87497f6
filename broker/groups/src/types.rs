//! The names and numbers of group coordination that must not be swapped for one another.
//!
//! What always holds: names are shared, not copied, when cloned; [`Position`] only grows within one load of a shard.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// Declares a name: a shared string with a type of its own.
macro_rules! name {
    ($(#[$docs:meta])* $name:ident) => {
        $(#[$docs])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Whether the name is the empty string, which several requests use for "none yet".
            #[must_use]
            pub fn is_empty(&self) -> bool {
                self.0.is_empty()
            }

            /// Length in bytes.
            #[must_use]
            pub fn len(&self) -> usize {
                self.0.len()
            }
        }

        impl<S: Into<Arc<str>>> From<S> for $name {
            fn from(text: S) -> Self {
                Self(text.into())
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

name! {
    /// `group.id`: names a consumer group.
    GroupId
}
name! {
    /// Names one member of a group; given out by the coordinator, empty until then.
    MemberId
}
name! {
    /// `group.instance.id` (KIP-345): names a static member over its restarts.
    InstanceId
}

name! {
    /// `transactional.id`: names a transactional producer over its restarts.
    TransactionalId
}

/// Number of a group's rebalance. Grows with each; an assignment is valid in one generation only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub i32);

impl Generation {
    /// What requests carry that come from no member, and responses that tell of no generation.
    pub const NONE: Self = Self(-1);

    /// The generation after this one. After the last it begins anew with 1: two billion rebalances lie between.
    #[must_use]
    pub(crate) fn next(self) -> Self {
        Self(self.0.checked_add(1).unwrap_or(1))
    }
}

/// Names one request that waits for its reply. The caller chooses it, unique among those that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// How many records a shard has emitted since it was loaded: the durable ones are those up to some position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// Milliseconds on a clock that never goes back. Its zero means nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MonoMs(pub u64);

impl MonoMs {
    /// The moment `ms` later.
    #[must_use]
    pub const fn after(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

/// Milliseconds since 1970 on the wall clock, which may jump: stored with offsets, never used for timeouts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallMs(pub i64);

/// The time of a request. Timeouts run on the one clock, so that a jump of the other ends nobody's session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For sessions and rebalances.
    pub mono: MonoMs,
    /// For what is stored and compared with what was stored by another process.
    pub wall: WallMs,
}
