//! What is to be made or renewed, decided from what there is and what time it is. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::held::Held;
use crate::identity::Role;
use crate::life::Life;

/// What there is of a cluster's certificates, and can be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The authority's.
    pub authority: Option<Life>,
    /// Everyone's that this authority issued, with the key that belongs to it.
    pub leaves: BTreeMap<Role, Life>,
}

/// One certificate to make.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Due {
    /// An authority where there is none.
    Authority,
    /// The authority's own certificate, under the key that it has.
    AuthorityRenewal,
    /// A member's.
    Leaf(Role),
    /// That of a listener for clients.
    Listener {
        /// Its name.
        name: String,
        /// What clients look for: names in DNS, and addresses.
        hosts: BTreeSet<String>,
    },
}

impl std::fmt::Display for Due {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Authority => f.write_str("the authority"),
            Self::AuthorityRenewal => f.write_str("the authority, renewed"),
            Self::Leaf(role) => role.fmt(f),
            Self::Listener { name, .. } => write!(f, "listener {name}"),
        }
    }
}

/// What is due at a time (seconds since 1970), the authority first.
#[must_use]
pub fn due(wanted: &[Role], seen: &Seen, now: i64) -> Vec<Due> {
    let authority = match seen.authority {
        None => Some(Due::Authority),
        Some(life) if life.is_due(now) => Some(Due::AuthorityRenewal),
        Some(_) => None,
    };
    let leaves = wanted.iter().filter(|role| {
        // What an authority issued that is no longer there is worth nothing.
        seen.authority.is_none() || seen.leaves.get(role).is_none_or(|life| life.is_due(now))
    });
    authority
        .into_iter()
        .chain(leaves.map(|role| Due::Leaf(*role)))
        .collect()
}

/// Which listeners' certificates are due at a time (seconds since 1970), of those that the authority is to issue, with the hosts that each has
/// to be good for. One that names further hosts stays.
#[must_use]
pub fn due_listeners(
    wanted: &BTreeMap<String, BTreeSet<String>>,
    held: &Held,
    now: i64,
) -> Vec<Due> {
    let is_due = |(name, hosts): &(&String, &BTreeSet<String>)| {
        let seen = held.seen_listener(name, hosts);
        seen.is_none_or(|life| life.is_due(now))
    };
    let due = wanted.iter().filter(is_due);
    due.map(|(name, hosts)| Due::Listener {
        name: name.clone(),
        hosts: hosts.clone(),
    })
    .collect()
}
