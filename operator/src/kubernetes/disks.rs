//! What brokers said of their disks when they were last asked. A disk fills slowly, and a cluster is looked at often while something is under way.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::decide::volumes::Claim;
use crate::validate::AutoGrow;
use crate::world::{BrokerId, Disk, Key};

/// So long it holds.
const HOLDS: Duration = Duration::from_secs(30);

type Said = BTreeMap<BrokerId, Disk>;

/// What it was asked for: another policy, and volumes of other sizes, want another answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    policy: AutoGrow,
    /// What each claim asks for, and has.
    sizes: Vec<(BrokerId, String, String)>,
}

impl Asked {
    pub(super) fn of(policy: &AutoGrow, claims: &BTreeMap<BrokerId, Claim>) -> Self {
        let sizes = claims.iter().map(|(broker, claim)| {
            let (requested, capacity) = (claim.requested.clone(), claim.capacity.clone());
            (*broker, requested, capacity)
        });
        Self {
            policy: policy.clone(),
            sizes: sizes.collect(),
        }
    }
}

/// For each cluster whose volumes grow by themselves.
#[derive(Debug, Default)]
pub(super) struct Disks(Mutex<BTreeMap<Key, (Instant, Asked, Said)>>);

impl Disks {
    /// What the brokers said, or say now if that does not hold any more.
    pub(super) async fn of(
        &self,
        cluster: &Key,
        asked: Asked,
        ask: impl Future<Output = Said>,
    ) -> Said {
        let known = self.all().get(cluster).cloned();
        if let Some((at, before, said)) = known
            && before == asked
            && at.elapsed() < HOLDS
        {
            return said;
        }
        let said = ask.await;
        let known = (Instant::now(), asked, said.clone());
        self.all().insert(cluster.clone(), known);
        said
    }

    /// The cluster is gone, or its volumes do not grow by themselves any more.
    pub(super) fn forget(&self, cluster: &Key) {
        self.all().remove(cluster);
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<Key, (Instant, Asked, Said)>> {
        // Nothing that can panic runs while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use std::cell::Cell;
    use std::time::Duration;

    use super::{Asked, AutoGrow, Disks, HOLDS, Said};
    use crate::quantity::Quantity;
    use crate::testing::{cluster, converged};
    use crate::world::{BrokerId, Key};

    #[tokio::test(start_paused = true)]
    async fn brokers_are_asked_once_in_a_while_and_when_something_else_is_asked_for() {
        let (disks, shop) = (Disks::default(), Key::new("market", "shop"));
        let calls = Cell::new(0);
        let mut claims = converged(&cluster()).claims;
        let ask = async |asked: &Asked| {
            let answer = async {
                calls.set(calls.get() + 1);
                Said::default()
            };
            disks.of(&shop, asked.clone(), answer).await;
            calls.get()
        };
        let policy = |threshold_percent| AutoGrow {
            threshold_percent,
            step: Quantity::parse("1Gi").unwrap(),
            maximum: Quantity::parse("9Gi").unwrap(),
            maximum_text: "9Gi".to_owned(),
        };
        let first = Asked::of(&policy(80), &claims);
        assert_eq!(ask(&first).await, 1);
        tokio::time::sleep(HOLDS - Duration::from_secs(1)).await;
        assert_eq!(ask(&first).await, 1);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(ask(&first).await, 2);
        assert_eq!(ask(&first).await, 2);
        let changed = Asked::of(&policy(50), &claims);
        assert_eq!(ask(&changed).await, 3, "a person wants it otherwise");
        // Of a volume that has grown what was said before says that it is full.
        claims.get_mut(&BrokerId(0)).unwrap().capacity = "20Gi".to_owned();
        assert_eq!(ask(&Asked::of(&policy(50), &claims)).await, 4);
        assert_eq!(ask(&Asked::of(&policy(50), &claims)).await, 4);
        disks.forget(&shop);
        assert_eq!(ask(&Asked::of(&policy(50), &claims)).await, 5);
    }
}
