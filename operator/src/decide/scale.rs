//! How many brokers there are to be.
//!
//! A cluster grows at once. It does not shrink: a broker's partitions have to be moved off it first, and nothing here can prove
//! that they were. What it has is counted from the StatefulSet and from the brokers' own registrations, whichever says more, so that
//! a StatefulSet that somebody scaled down by hand is no proof either.

use crate::decide::gates::{self, Blocked};
use crate::world::Look;

/// What was asked, and what there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// `spec.replicas`.
    pub wanted: u32,
    /// Brokers that exist or are registered.
    pub present: u32,
}

/// The number of brokers to run, with what stands in the way of the number that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Size {
    /// Never below what there is.
    pub brokers: u32,
    /// Why it is not what was asked for.
    pub blocked: Option<Blocked>,
}

/// Decides the size. `set` is the StatefulSet's own (or the number of data directories), absent before the first apply.
#[must_use]
pub fn size(wanted: u32, set: Option<u32>, look: Option<&Look>) -> Size {
    let registered = look
        .and_then(|look| look.brokers.keys().next_back())
        .map_or(0, |broker| broker.0.saturating_add(1));
    let case = Case {
        wanted,
        present: set.unwrap_or(0).max(registered),
    };
    match gates::first_no(gates::SCALE, |gate| gate(&case)) {
        Some(blocked) => Size {
            brokers: case.present,
            blocked: Some(blocked),
        },
        None => Size {
            brokers: wanted,
            blocked: None,
        },
    }
}

/// Gate: brokers would be removed.
pub(super) fn removes_brokers(case: &Case) -> Option<String> {
    (case.wanted < case.present).then(|| {
        format!(
            "spec.replicas is {wanted}, but the cluster has {present} brokers and this version cannot drain one: nothing was removed, \
             {present} brokers go on. Set spec.replicas back to {present}",
            wanted = case.wanted,
            present = case.present,
        )
    })
}

#[cfg(test)]
mod tests {
    use super::size;
    use crate::world::{BrokerId, BrokerSeen, Look};

    fn look(brokers: u32) -> Look {
        Look {
            brokers: (0..brokers)
                .map(|id| (BrokerId(id), BrokerSeen::default()))
                .collect(),
            ..Look::default()
        }
    }

    #[test]
    fn a_cluster_grows_at_once_and_never_shrinks() {
        for (wanted, set, registered, brokers, blocked) in [
            (3, None, 0, 3, false),
            (3, Some(3), 3, 3, false),
            (5, Some(3), 3, 5, false),
            (2, Some(3), 3, 3, true),
            (2, Some(3), 0, 3, true),
            // Somebody scaled the StatefulSet down by hand: the brokers' registrations still count.
            (2, Some(2), 3, 3, true),
            (3, Some(2), 3, 3, false),
        ] {
            let size = size(wanted, set, Some(&look(registered)));
            assert_eq!(
                (size.brokers, size.blocked.is_some()),
                (brokers, blocked),
                "{wanted} {set:?} {registered}"
            );
        }
    }

    #[test]
    fn a_refusal_has_the_numbers_and_the_remedy() {
        let blocked = size(2, Some(3), None)
            .blocked
            .map(|blocked| (blocked.gate, blocked.message));
        let (gate, message) = blocked.unwrap_or_default();
        assert_eq!(gate, "ScaleDownBlocked");
        assert!(
            message.contains("spec.replicas is 2")
                && message.contains("Set spec.replicas back to 3"),
            "{message}"
        );
    }
}
