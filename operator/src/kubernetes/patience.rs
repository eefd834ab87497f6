//! How soon a cluster is looked at again on whose way there is something that nobody reports: after as long as nothing has changed, within bounds. A
//! restart or a drain is followed closely, and a broker that stays away is not asked about all the time.

use std::collections::BTreeMap;
use std::fmt::{self, Debug, Write};
use std::hash::{DefaultHasher, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::world::Key;

/// While something changes.
const SOONEST: Duration = Duration::from_secs(2);
/// However long nothing has.
const LATEST: Duration = Duration::from_secs(30);

/// What was last seen of each cluster that is not at rest.
#[derive(Debug, Default)]
pub(super) struct Patience(Mutex<BTreeMap<Key, Seen>>);

#[derive(Debug, Clone, Copy)]
struct Seen {
    fingerprint: u64,
    since: Instant,
}

impl Patience {
    /// How soon to look again after this was seen. Whoever has just done something waits for what comes of it.
    pub(super) fn after(&self, cluster: &Key, seen: &impl Debug, has_acted: bool) -> Duration {
        let (fingerprint, now) = (fingerprint(seen), Instant::now());
        let mut all = self.all();
        let before = all.get(cluster).copied();
        let since = before
            .filter(|before| !has_acted && before.fingerprint == fingerprint)
            .map_or(now, |before| before.since);
        all.insert(cluster.clone(), Seen { fingerprint, since });
        (now - since).clamp(SOONEST, LATEST)
    }

    /// The cluster is at rest, or gone.
    pub(super) fn forget(&self, cluster: &Key) {
        self.all().remove(cluster);
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<Key, Seen>> {
        // Nothing that can panic runs while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of all that there is to be seen, without a copy of it.
fn fingerprint(seen: &impl Debug) -> u64 {
    struct Hashed(DefaultHasher);
    impl Write for Hashed {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.write(text.as_bytes());
            Ok(())
        }
    }
    let mut hashed = Hashed(DefaultHasher::new());
    // It fails only where the writer does.
    let _ = write!(hashed, "{seen:?}");
    hashed.0.finish()
}

#[cfg(test)]
mod tests {
    use super::{Key, Patience};

    #[tokio::test(start_paused = true)]
    async fn what_stays_as_it_is_is_looked_at_ever_more_seldom_and_what_changes_soon() {
        let (patience, shop) = (Patience::default(), Key::new("market", "shop"));
        let mut waits = Vec::new();
        for (seen, has_acted) in [
            ("a", false),
            ("a", false),
            ("a", false),
            ("a", false),
            ("a", false),
            ("a", false),
            ("a", false),
            ("b", false),
            ("b", false),
            ("b", false),
            ("b", true),
            ("b", false),
        ] {
            let wait = patience.after(&shop, &seen, has_acted);
            waits.push(wait.as_secs());
            tokio::time::sleep(wait).await;
        }
        assert_eq!(waits, [2, 2, 4, 8, 16, 30, 30, 2, 2, 4, 2, 2]);
        // However often it was looked at in between, it is the time that counts.
        for _ in 0..9 {
            assert_eq!(patience.after(&shop, &"b", false).as_secs(), 4);
        }
        patience.forget(&shop);
        assert_eq!(patience.after(&shop, &"b", false).as_secs(), 2);
        let other = Key::new("market", "other");
        assert_eq!(patience.after(&other, &"b", false).as_secs(), 2);
    }
}
