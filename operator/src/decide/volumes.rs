//! Volumes of brokers grow with `spec.storage.size`, or by themselves as `spec.storage.autoGrow` says, and go with their brokers when
//! `spec.storage.onScaleDown` says so.
//!
//! The StatefulSet's claim template cannot change, so it keeps the size that the cluster was made with, and what grows are the claims
//! themselves: those of brokers that come later too, once they are bound. Whether a StorageClass lets its volumes grow the API server knows,
//! and says when it is asked to. Nothing shrinks: a claim that has more than is asked for is as good.
//!
//! A volume is deleted only if it was marked while its broker was seen drained and empty, and after the broker was stopped and forgotten:
//! what was kept by an earlier scale-down, or belonged to an earlier cluster of this name, bears no mark.

use std::collections::BTreeMap;

use crate::decide::cluster::{Step, World};
use crate::decide::gates::Blocked;
use crate::quantity::Quantity;
use crate::validate::{AutoGrow, Cluster, Storage};
use crate::world::{BrokerId, Disk};

/// Gate: a person has to do something before volumes can grow.
pub const PENDING: &str = "StorageResizePending";
/// Gate: volumes are growing.
pub const RESIZING: &str = "StorageResizing";
/// Gate: a volume has filled up and may not grow any more.
pub const AT_MAXIMUM: &str = "StorageAtMaximum";

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
    /// What of that says that it failed.
    pub failed: Option<String>,
    /// It is to be deleted once its broker is gone.
    pub released: bool,
    /// Which of all that had this name.
    pub uid: String,
    /// It is being deleted.
    pub leaving: bool,
}

/// What becomes of the volumes of brokers that leave.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Release {
    /// Before the set loses brokers.
    pub(super) marks: Vec<Step>,
    /// At the end.
    pub(super) deletions: Vec<Step>,
}

/// Decides which volumes are marked, kept, and deleted. `set` is the StatefulSet's size as observed, `brokers` what it is to be now.
pub(super) fn release(cluster: &Cluster, set: Option<u32>, brokers: u32, world: &World) -> Release {
    let mut release = Release::default();
    let set = set.unwrap_or(0);
    let is_drained = |broker: &BrokerId| {
        let look = world.look.as_ref();
        look.is_some_and(|look| look.brokers.contains_key(broker) && look.is_empty(*broker))
    };
    let is_forgotten = |broker: &BrokerId| {
        let look = world.look.as_ref();
        !world.processes.contains_key(broker)
            && look.is_some_and(|look| !look.brokers.contains_key(broker))
    };
    for (broker, claim) in &world.claims {
        let (broker, claim_name) = (*broker, claim.name.clone());
        let leaves = cluster.storage.deletes_on_scale_down && broker.0 >= brokers;
        if leaves && broker.0 < set && !claim.released && is_drained(&broker) {
            release.marks.push(Step::MarkVolume {
                broker,
                claim: claim_name,
            });
        } else if !leaves && claim.released {
            release.marks.push(Step::KeepVolume {
                broker,
                claim: claim_name,
            });
        } else if claim.released && broker.0 >= set && is_forgotten(&broker) {
            release.deletions.push(Step::DeleteVolume {
                broker,
                claim: claim_name,
            });
        }
    }
    release
}

/// Claims to grow, and which of those that were asked to are not there yet.
pub(super) fn grow(
    wanted: &Storage,
    brokers: u32,
    claims: &BTreeMap<BrokerId, Claim>,
    disks: &BTreeMap<BrokerId, Disk>,
) -> (Vec<Step>, Vec<Blocked>) {
    let mut steps = Vec::new();
    let mut growing = Vec::new();
    let mut full = Vec::new();
    for (broker, claim) in claims
        .iter()
        .filter(|(broker, claim)| broker.0 < brokers && claim.bound)
    {
        // What cannot be read is not touched.
        let Some(requested) = Quantity::parse(&claim.requested) else {
            continue;
        };
        let has = Quantity::parse(&claim.capacity);
        let is_growing = has.is_some_and(|has| has < requested.max(wanted.amount));
        let mut to = (requested < wanted.amount).then(|| wanted.size.clone());
        if let (None, false, Some(policy), Some(disk)) =
            (&to, is_growing, &wanted.auto_grow, disks.get(broker))
            && policy.is_full(disk)
        {
            to = policy.next(requested);
            if to.is_none() {
                full.push((claim, disk));
            }
        }
        if let Some(to) = to {
            steps.push(Step::GrowVolume {
                broker: *broker,
                claim: claim.name.clone(),
                from: claim.requested.clone(),
                to,
            });
        } else if is_growing {
            growing.push(claim);
        }
    }
    let mut blocked = Vec::new();
    let (failed, growing): (Vec<&Claim>, Vec<&Claim>) = growing
        .into_iter()
        .partition(|claim| claim.failed.is_some());
    if let Some((claim, why)) = failed
        .iter()
        .find_map(|claim| Some((claim, claim.failed.as_ref()?)))
    {
        blocked.push(Blocked {
            gate: PENDING,
            message: format!(
                "{} of {brokers} volumes could not be grown: PersistentVolumeClaim {} asks for {} and has {} ({why}). Kubernetes tries it again: see \
                 what its storage lacks, such as room or a quota. The brokers go on with the volumes that they have",
                failed.len(),
                claim.name,
                claim.requested,
                claim.capacity,
            ),
        });
    }
    if let Some(first) = growing.first() {
        let notes = if first.notes.is_empty() {
            String::new()
        } else {
            format!(" ({})", first.notes.join("; "))
        };
        blocked.push(Blocked {
            gate: RESIZING,
            message: format!(
                "{} of {brokers} volumes are growing: PersistentVolumeClaim {} asks for {} and has {}{notes}",
                growing.len(),
                first.name,
                first.requested,
                first.capacity,
            ),
        });
    }
    if let (Some((claim, disk)), Some(policy)) = (full.first(), &wanted.auto_grow) {
        blocked.push(Blocked {
            gate: AT_MAXIMUM,
            message: format!(
                "{} volumes are full and have their maximum: PersistentVolumeClaim {} has {} and {} % of it are used. Raise \
                 spec.storage.autoGrow.maximum ({}), or keep less",
                full.len(),
                claim.name,
                claim.requested,
                used_percent(disk),
                policy.maximum_text,
            ),
        });
    }
    (steps, blocked)
}

fn used_percent(disk: &Disk) -> u64 {
    let used = u128::from(disk.total_bytes.saturating_sub(disk.available_bytes));
    let percent = used * 100 / u128::from(disk.total_bytes.max(1));
    u64::try_from(percent).unwrap_or(100)
}

impl AutoGrow {
    fn is_full(&self, disk: &Disk) -> bool {
        disk.total_bytes > 0 && used_percent(disk) >= u64::from(self.threshold_percent)
    }

    /// What a claim asks for next; `None` when it has all that it may.
    fn next(&self, requested: Quantity) -> Option<String> {
        if requested >= self.maximum {
            return None;
        }
        match requested.plus(self.step) {
            Some(next) if next < self.maximum => Some(next.to_string()),
            _ => Some(self.maximum_text.clone()),
        }
    }
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

    use super::{AT_MAXIMUM, Claim, PENDING, RESIZING, grow, release};
    use crate::decide::cluster::{Step, World};
    use crate::names;
    use crate::quantity::Quantity;
    use crate::testing::{self, cluster, converged};
    use crate::validate::{AutoGrow, Cluster, Storage};
    use crate::world::{BrokerId, Disk};

    fn storage(size: &str) -> Storage {
        Storage {
            size: size.into(),
            amount: Quantity::parse(size).unwrap_or_else(|| unreachable!("{size} is a quantity")),
            class: None,
            deletes_on_scale_down: false,
            auto_grow: None,
        }
    }

    fn claims(sizes: &[(&str, &str)]) -> BTreeMap<BrokerId, Claim> {
        let claim = |(at, (requested, capacity)): (u32, &(&str, &str))| {
            let claim = Claim {
                name: format!("data-shop-broker-{at}"),
                bound: !capacity.is_empty(),
                requested: (*requested).into(),
                capacity: (*capacity).into(),
                ..Claim::default()
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
        let (steps, blocked) = grow(&storage("20Gi"), 3, &claims, &BTreeMap::new());
        let grown = Step::GrowVolume {
            broker: BrokerId(0),
            claim: "data-shop-broker-0".into(),
            from: "10Gi".into(),
            to: "20Gi".into(),
        };
        assert_eq!((steps, blocked), (vec![grown], vec![]));
    }

    #[test]
    fn what_was_asked_to_grow_is_named_until_it_has_the_size_and_then_all_is_well() {
        let mut claims = claims(&[("20Gi", "10Gi"), ("20480Mi", "21Gi")]);
        if let Some(claim) = claims.get_mut(&BrokerId(0)) {
            claim.notes.push("FileSystemResizePending: wait".into());
        }
        let (steps, blocked) = grow(&storage("20Gi"), 2, &claims, &BTreeMap::new());
        let message = &blocked[0].message;
        assert_eq!((steps, blocked.len()), (vec![], 1));
        for part in [
            "1 of 2",
            "data-shop-broker-0 asks for 20Gi and has 10Gi",
            "ResizePending: wait",
        ] {
            assert!(message.contains(part), "{message}");
        }
        if let Some(claim) = claims.get_mut(&BrokerId(0)) {
            claim.capacity = "20Gi".into();
        }
        let grown = grow(&storage("20Gi"), 2, &claims, &BTreeMap::new());
        assert_eq!(grown, (vec![], vec![]));
    }

    #[test]
    fn a_growth_that_failed_is_told_with_its_reason_and_not_taken_for_one_that_goes_on() {
        let mut claims = claims(&[("20Gi", "10Gi"), ("20Gi", "10Gi"), ("10Gi", "10Gi")]);
        if let Some(claim) = claims.get_mut(&BrokerId(1)) {
            claim.failed = Some("ControllerResizeError: quota".into());
        }
        if let Some(claim) = claims.get_mut(&BrokerId(2)) {
            claim.failed = Some("NodeResizeError: of before".into());
        }
        let (_, blocked) = grow(&storage("10Gi"), 3, &claims, &BTreeMap::new());
        let gates: Vec<&str> = blocked.iter().map(|blocked| blocked.gate).collect();
        assert_eq!(gates, [PENDING, RESIZING]);
        for part in [
            "1 of 3",
            "data-shop-broker-1 asks for 20Gi and has 10Gi",
            "ControllerResizeError: quota",
        ] {
            assert!(blocked[0].message.contains(part), "{}", blocked[0].message);
        }
        assert!(
            blocked[1].message.contains("1 of 3"),
            "{}",
            blocked[1].message
        );
    }

    fn disks(used_percent: u64) -> BTreeMap<BrokerId, Disk> {
        let disk = Disk {
            total_bytes: 1000,
            available_bytes: 1000 - used_percent * 10,
        };
        [(BrokerId(0), disk)].into()
    }

    fn by_itself(maximum: &str) -> Storage {
        let auto_grow = AutoGrow {
            threshold_percent: 80,
            step: Quantity::parse("10Gi").unwrap_or_else(|| unreachable!()),
            maximum: Quantity::parse(maximum).unwrap_or_else(|| unreachable!()),
            maximum_text: maximum.into(),
        };
        Storage {
            auto_grow: Some(auto_grow),
            ..storage("20Gi")
        }
    }

    #[test]
    fn a_volume_that_fills_up_grows_by_a_step_up_to_the_maximum() {
        for (has, used, maximum, expected) in [
            ("20Gi", 79, "100Gi", Ok(None)),
            ("20Gi", 80, "100Gi", Ok(Some("30Gi"))),
            ("20Gi", 95, "25Gi", Ok(Some("25Gi"))),
            ("25Gi", 95, "25Gi", Err(AT_MAXIMUM)),
            // Larger by hand than it might grow by itself.
            ("40Gi", 95, "25Gi", Err(AT_MAXIMUM)),
        ] {
            let claims = claims(&[(has, has)]);
            let (steps, blocked) = grow(&by_itself(maximum), 1, &claims, &disks(used));
            let to = steps.first().map(|step| match step {
                Step::GrowVolume { to, .. } => to.as_str(),
                _ => "another step",
            });
            let outcome = blocked.first().map_or(Ok(to), |blocked| Err(blocked.gate));
            assert_eq!(outcome, expected, "{has} {used} {maximum}");
        }
    }

    #[test]
    fn a_volume_that_grows_is_not_asked_to_grow_again_before_it_has() {
        let claims = claims(&[("30Gi", "20Gi")]);
        let (steps, blocked) = grow(&by_itself("100Gi"), 1, &claims, &disks(95));
        assert_eq!((steps, blocked[0].gate), (vec![], RESIZING));
    }

    #[test]
    fn a_volume_goes_only_with_a_mark_that_it_got_while_its_broker_was_seen_empty() {
        let mut cluster = Cluster {
            replicas: 2,
            ..cluster()
        };
        let mut world = converged(&testing::cluster());
        let steps = |cluster: &Cluster, world: &World, set, brokers| {
            let released = release(cluster, Some(set), brokers, world);
            (released.marks, released.deletions)
        };
        assert_eq!(steps(&cluster, &world, 3, 2), (vec![], vec![]), "kept");
        cluster.storage.deletes_on_scale_down = true;
        assert_eq!(steps(&cluster, &world, 3, 2), (vec![], vec![]), "not empty");
        let two = BrokerId(2);
        let seen = world.look.as_mut().and_then(|look| {
            look.voters.clear();
            look.brokers.get_mut(&two)
        });
        seen.unwrap_or_else(|| unreachable!()).draining = true;
        let claim = names::claim("shop", two);
        let mark = Step::MarkVolume {
            broker: two,
            claim: claim.clone(),
        };
        assert_eq!(steps(&cluster, &world, 3, 2), (vec![mark], vec![]));
        if let Some(claim) = world.claims.get_mut(&two) {
            claim.released = true;
        }
        world.processes.remove(&two);
        assert_eq!(
            steps(&cluster, &world, 2, 2),
            (vec![], vec![]),
            "registered"
        );
        if let Some(look) = &mut world.look {
            look.brokers.remove(&two);
        }
        let delete = Step::DeleteVolume {
            broker: two,
            claim: claim.clone(),
        };
        assert_eq!(steps(&cluster, &world, 2, 2), (vec![], vec![delete]));
        // It comes back, or the person thinks better of it.
        let keep = Step::KeepVolume { broker: two, claim };
        assert_eq!(steps(&cluster, &world, 3, 3), (vec![keep.clone()], vec![]));
        cluster.storage.deletes_on_scale_down = false;
        assert_eq!(steps(&cluster, &world, 2, 2), (vec![keep], vec![]));
    }
}
