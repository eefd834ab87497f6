//! Volumes of brokers grow with `spec.storage.size`.
//!
//! The StatefulSet's claim template cannot change, so it keeps the size that the cluster was made with, and what grows are the claims
//! themselves: those of brokers that come later too, once they are bound. Whether a StorageClass lets its volumes grow the API server knows,
//! and says when it is asked to. Nothing shrinks: a claim that has more than is asked for is as good.

use std::collections::BTreeMap;

use crate::decide::cluster::Step;
use crate::decide::gates::Blocked;
use crate::quantity::Quantity;
use crate::validate::Storage;
use crate::world::BrokerId;

/// Gate: a person has to do something before volumes can grow.
pub const PENDING: &str = "StorageResizePending";
/// Gate: volumes are growing.
pub const RESIZING: &str = "StorageResizing";

/// The claim of a broker's volume.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Claim {
    /// Its name.
    pub name: String,
    /// It has a volume; before that its size cannot change.
    pub bound: bool,
    /// The size that it asks for.
    pub requested: String,
    /// The size that its volume has; empty while that is not known.
    pub capacity: String,
    /// What Kubernetes says of its being resized.
    pub notes: Vec<String>,
}

/// Claims to grow, and which of those that were asked to are not there yet.
pub(super) fn grow(
    wanted: &Storage,
    brokers: u32,
    claims: &BTreeMap<BrokerId, Claim>,
) -> (Vec<Step>, Option<Blocked>) {
    let mut steps = Vec::new();
    let mut growing = Vec::new();
    for (broker, claim) in claims
        .iter()
        .filter(|(broker, claim)| broker.0 < brokers && claim.bound)
    {
        // What cannot be read is not touched.
        let Some(requested) = Quantity::parse(&claim.requested) else {
            continue;
        };
        if requested < wanted.amount {
            steps.push(Step::GrowVolume {
                broker: *broker,
                claim: claim.name.clone(),
                from: claim.requested.clone(),
                to: wanted.size.clone(),
            });
        } else if Quantity::parse(&claim.capacity).is_some_and(|has| has < wanted.amount) {
            growing.push(claim);
        }
    }
    let blocked = growing.first().map(|first| {
        let notes = if first.notes.is_empty() {
            String::new()
        } else {
            format!(" ({})", first.notes.join("; "))
        };
        Blocked {
            gate: RESIZING,
            message: format!(
                "{} of {brokers} volumes are growing to {}: PersistentVolumeClaim {} has {}{notes}",
                growing.len(),
                wanted.size,
                first.name,
                first.capacity,
            ),
        }
    });
    (steps, blocked)
}

/// The API server does not let a claim grow.
#[must_use]
pub fn refused(claim: &str, to: &str, why: &str) -> Blocked {
    Blocked {
        gate: PENDING,
        message: format!(
            "PersistentVolumeClaim {claim} cannot grow to {to}: {why}. Set allowVolumeExpansion: true on its StorageClass if its \
             provisioner can do that; it is tried again each minute. Otherwise create a new Cluster on a class that can, and move the data. \
             The brokers go on with the volumes that they have"
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Claim, grow};
    use crate::decide::cluster::Step;
    use crate::quantity::Quantity;
    use crate::validate::Storage;
    use crate::world::BrokerId;

    fn storage(size: &str) -> Storage {
        Storage {
            size: size.into(),
            amount: Quantity::parse(size).unwrap_or_else(|| unreachable!("{size} is a quantity")),
            class: None,
        }
    }

    fn claims(sizes: &[(&str, &str)]) -> BTreeMap<BrokerId, Claim> {
        let claim = |(at, (requested, capacity)): (u32, &(&str, &str))| {
            let claim = Claim {
                name: format!("data-shop-broker-{at}"),
                bound: !capacity.is_empty(),
                requested: (*requested).into(),
                capacity: (*capacity).into(),
                notes: Vec::new(),
            };
            (BrokerId(at), claim)
        };
        (0..).zip(sizes).map(claim).collect()
    }

    #[test]
    fn claims_that_ask_for_less_are_grown_and_nothing_else_is_touched() {
        // The second was grown by hand, the third has no volume yet, the fourth is of a broker that is no longer there.
        let claims = claims(&[
            ("10Gi", "10Gi"),
            ("40Gi", "40Gi"),
            ("10Gi", ""),
            ("10Gi", "10Gi"),
        ]);
        let (steps, blocked) = grow(&storage("20Gi"), 3, &claims);
        let grown = Step::GrowVolume {
            broker: BrokerId(0),
            claim: "data-shop-broker-0".into(),
            from: "10Gi".into(),
            to: "20Gi".into(),
        };
        assert_eq!((steps, blocked), (vec![grown], None));
    }

    #[test]
    fn what_was_asked_to_grow_is_named_until_it_has_the_size_and_then_all_is_well() {
        let mut claims = claims(&[("20Gi", "10Gi"), ("20480Mi", "21Gi")]);
        if let Some(claim) = claims.get_mut(&BrokerId(0)) {
            claim.notes.push("FileSystemResizePending: wait".into());
        }
        let (steps, blocked) = grow(&storage("20Gi"), 2, &claims);
        let message = blocked.map(|blocked| blocked.message).unwrap_or_default();
        assert_eq!(steps, []);
        for part in [
            "1 of 2",
            "data-shop-broker-0 has 10Gi",
            "ResizePending: wait",
        ] {
            assert!(message.contains(part), "{message}");
        }
        if let Some(claim) = claims.get_mut(&BrokerId(0)) {
            claim.capacity = "20Gi".into();
        }
        assert_eq!(grow(&storage("20Gi"), 2, &claims), (vec![], None));
    }
}
