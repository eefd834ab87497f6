//! Listens to the brokers of each cluster, so that it is looked at as soon as one of them has gone, or cannot be spared any more, though nothing in Kubernetes
//! has changed: whoever drains a node then is kept from evicting another.
//!
//! One call at a time for each cluster, which brokers answer when there is something to say. Nothing is decided here: a pass begins, and reads everything
//! anew.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::admin::{Admin, Way};
use crate::decide::evictions::Availability;
use crate::world::Key;

/// Before the next call, whatever the answer was.
const PAUSE: Duration = Duration::from_millis(200);

/// After one that begins a pass: a broker that comes and goes is no reason for more than a pass each second.
const REST: Duration = Duration::from_secs(1);

/// Where nobody answers, or brokers are too old to: twice as long each time, and never longer than the last of the two. Passes look all the same.
const AWAY: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];

/// One who listens for each cluster.
#[derive(Debug, Default)]
pub(super) struct Listening(Mutex<BTreeMap<Key, Listener>>);

#[derive(Debug)]
struct Listener {
    way: Way,
    task: JoinHandle<()>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Listening {
    /// Listens to a cluster's brokers from here on, unless that is done by this way already. Whoever has seen `known` is told when it becomes worse.
    pub(super) fn listen(
        &self,
        cluster: &Key,
        way: &Way,
        known: Availability,
        worse: impl Fn() + Send + 'static,
    ) {
        let mut all = self.all();
        if all
            .get(cluster)
            .is_some_and(|listener| listener.way == *way)
        {
            return;
        }
        let mut admin = Admin::new(way.clone());
        let (mut heard, of) = (Heard::of(known), cluster.clone());
        let task = tokio::spawn(async move {
            loop {
                let answer = admin.availability(&heard.known).await;
                let answer = answer.inspect_err(|error| {
                    tracing::debug!(cluster = %of, %error, "nobody says how the brokers are");
                });
                let (is_worse, pause) = heard.hear(answer.ok());
                if is_worse {
                    worse();
                }
                tokio::time::sleep(pause).await;
            }
        });
        let way = way.clone();
        all.insert(cluster.clone(), Listener { way, task });
    }

    /// Listens to a cluster no longer.
    pub(super) fn stop(&self, cluster: &Key) {
        self.all().remove(cluster);
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<Key, Listener>> {
        // Nothing that can panic runs while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was heard last, and for how long nobody is asked when nobody answers.
#[derive(Debug)]
struct Heard {
    known: Availability,
    away: Duration,
}

impl Heard {
    fn of(known: Availability) -> Self {
        let [away, _] = AWAY;
        Self { known, away }
    }

    /// Takes an answer, if there was one. Returns whether it is worse than what was known, and the pause before it is asked again.
    fn hear(&mut self, answer: Option<Availability>) -> (bool, Duration) {
        let [shortest, longest] = AWAY;
        let Some(now) = answer else {
            let pause = self.away;
            self.away = longest.min(pause * 2);
            return (false, pause);
        };
        self.away = shortest;
        let is_worse = now.is_worse_than(&self.known);
        self.known = now;
        (is_worse, if is_worse { REST } else { PAUSE })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{AWAY, Heard, PAUSE, REST};
    use crate::decide::evictions::Availability;
    use crate::world::BrokerId;

    fn seen(alive: &[u32], brokers_needed: bool) -> Availability {
        Availability {
            alive: alive.iter().copied().map(BrokerId).collect(),
            brokers_needed,
            controller_unknown: false,
        }
    }

    #[test]
    fn what_becomes_worse_is_told_once_and_then_again_when_it_had_been_better() {
        let (well, behind) = (seen(&[0, 1, 2], false), seen(&[0, 1, 2], true));
        let mut heard = Heard::of(well.clone());
        for (now, expected) in [
            (&well, (false, PAUSE)),
            (&behind, (true, REST)),
            (&behind, (false, PAUSE)),
            (&seen(&[0, 1], true), (true, REST)),
            (&well, (false, PAUSE)),
            (&behind, (true, REST)),
        ] {
            assert_eq!(heard.hear(Some(now.clone())), expected, "{now:?}");
            assert_eq!(heard.known, *now);
        }
    }

    #[test]
    fn who_does_not_answer_is_asked_ever_more_seldom_and_what_was_missed_is_told() {
        let mut heard = Heard::of(seen(&[0, 1, 2], false));
        let pauses: Vec<Duration> = (0..8).map(|_| heard.hear(None).1).collect();
        assert_eq!(
            pauses,
            [1, 2, 4, 8, 16, 32, 60, 60].map(Duration::from_secs)
        );
        assert_eq!(heard.hear(Some(seen(&[0, 2], false))), (true, REST));
        assert_eq!(heard.hear(None), (false, AWAY[0]), "and anew from there");
    }
}
