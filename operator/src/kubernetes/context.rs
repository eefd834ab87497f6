//! What all passes share: the client, the lease, what is watched, the queues, and one door to each cluster's brokers.

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::Mutex;

use super::Options;
use super::disks::Disks;
use super::lease::Lease;
use super::listening::Listening;
use super::metrics::Metrics;
use super::patience::Patience;
use super::queue::Queue;
use super::scaling::Histories;
use super::watch::Watched;
use crate::admin::{Admin, Way};
use crate::decide::evictions::Availability;
use crate::decide::upgrade::Healthy;
use crate::names;
use crate::validate::{Cluster, Defaults};
use crate::world::{Key, Look};

/// A cluster's door: the way there, and the connection behind it. Whoever asks its brokers holds the lock until they have answered, or not.
type Door = Arc<Mutex<(Way, Admin)>>;

/// One door for each cluster.
#[derive(Default)]
struct Doors(std::sync::Mutex<BTreeMap<Key, Door>>);

impl Doors {
    /// The door, made anew when addresses or certificates are others. Waits for nobody but those who ask the same cluster.
    async fn door(&self, cluster: &Key, way: Way) -> Door {
        let door = Arc::clone(self.all().entry(cluster.clone()).or_default());
        let mut open = door.lock().await;
        if open.0 != way {
            *open = (way.clone(), Admin::new(way));
        }
        drop(open);
        door
    }

    fn close(&self, cluster: &Key) {
        self.all().remove(cluster);
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<Key, Door>> {
        // Nothing that can panic runs while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shared by all passes.
pub(super) struct Context {
    pub(super) client: Client,
    pub(super) defaults: Defaults,
    pub(super) lease: Arc<Lease>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) watched: Watched,
    pub(super) clusters: Arc<Queue<Key>>,
    pub(super) topics: Queue<Key>,
    pub(super) groups: Queue<Key>,
    /// What was recommended for the consumers of groups.
    pub(super) histories: Histories,
    /// How soon clusters are looked at again that are not at rest.
    pub(super) patience: Patience,
    /// What brokers said of their disks.
    pub(super) disks: Disks,
    recorder: Recorder,
    doors: Doors,
    listening: Listening,
    /// Since when clusters have been healthy whose feature level is to be raised. Lost with the process, which only makes it later.
    healthy: std::sync::Mutex<BTreeMap<Key, Healthy>>,
    /// The last specs that could be carried out. Lost with the process, too.
    valid: std::sync::Mutex<BTreeMap<Key, Cluster>>,
}

impl Context {
    pub(super) fn new(
        client: Client,
        defaults: Defaults,
        lease: Arc<Lease>,
        metrics: Arc<Metrics>,
        options: &Options,
    ) -> Self {
        let reporter = Reporter {
            controller: names::FIELD_MANAGER.to_owned(),
            instance: Some(options.identity.clone()),
        };
        Self {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            defaults,
            lease,
            metrics,
            watched: Watched::default(),
            clusters: Arc::default(),
            topics: Queue::default(),
            groups: Queue::default(),
            histories: Histories::default(),
            patience: Patience::default(),
            disks: Disks::default(),
            doors: Doors::default(),
            listening: Listening::default(),
            healthy: std::sync::Mutex::default(),
            valid: std::sync::Mutex::default(),
        }
    }

    /// What the last decision over a cluster had to be remembered for the next.
    pub(super) fn healthy(&self, cluster: &Key) -> Option<Healthy> {
        self.all_healthy().get(cluster).copied()
    }

    /// Remembers it.
    pub(super) fn remember(&self, cluster: &Key, healthy: Option<Healthy>) {
        match healthy {
            Some(healthy) => self.all_healthy().insert(cluster.clone(), healthy),
            None => self.all_healthy().remove(cluster),
        };
    }

    fn all_healthy(&self) -> MutexGuard<'_, BTreeMap<Key, Healthy>> {
        // Nothing that can panic runs while it is held.
        self.healthy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last of a cluster's specs that could be carried out, as far as this process has seen one.
    pub(super) fn last_valid(&self, cluster: &Key) -> Option<Cluster> {
        self.all_valid().get(cluster).cloned()
    }

    /// Remembers a spec that can be carried out.
    pub(super) fn remember_valid(&self, cluster: &Key, spec: &Cluster) {
        self.all_valid().insert(cluster.clone(), spec.clone());
    }

    fn all_valid(&self) -> MutexGuard<'_, BTreeMap<Key, Cluster>> {
        // Nothing that can panic runs while it is held.
        self.valid.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The door to a cluster's brokers. It is made anew when addresses or certificates are others.
    pub(super) async fn door(&self, cluster: &Key, way: Way) -> Door {
        self.doors.door(cluster, way).await
    }

    /// Has a cluster looked at as soon as its brokers have become fewer than when this was seen, or are needed.
    pub(super) fn listen(&self, cluster: &Key, way: &Way, look: &Look) {
        let (queue, key) = (Arc::clone(&self.clusters), cluster.clone());
        let worse = move || queue.add(key.clone());
        let known = Availability::of(look);
        self.listening.listen(cluster, way, known, worse);
    }

    /// Forgets the door of a cluster that is gone, and listens to it no longer.
    pub(super) fn close(&self, cluster: &Key) {
        self.remember(cluster, None);
        self.all_valid().remove(cluster);
        self.listening.stop(cluster);
        self.patience.forget(cluster);
        self.disks.forget(cluster);
        self.doors.close(cluster);
    }

    /// Tells a person something, once; failing to is no failure of the pass.
    pub(super) async fn tell(
        &self,
        about: &ObjectReference,
        kind: EventType,
        action: &str,
        reason: &str,
        note: String,
    ) {
        /// The API's own limit on an event's note.
        const NOTE_BYTES_MAX: usize = 1024;
        let mut note = note;
        while note.len() > NOTE_BYTES_MAX {
            note.pop();
        }
        let event = Event {
            type_: kind,
            reason: reason.to_owned(),
            note: Some(note),
            action: action.to_owned(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, about).await {
            tracing::debug!(%error, reason, "an event was not published");
        }
    }
}

#[cfg(test)]
impl Context {
    /// That of a process that watches nothing yet.
    pub(super) fn of(client: Client) -> Self {
        let leases = kube::Api::namespaced(client.clone(), "weir");
        let lease = Arc::new(Lease::new(leases, "weir-operator", "test"));
        let defaults = Defaults {
            broker_image: "weir-broker:0.1.0".into(),
        };
        let options = Options {
            namespaces: Vec::new(),
            broker_image: defaults.broker_image.clone(),
            http: ([127, 0, 0, 1], 0).into(),
            lease_namespace: None,
            identity: "test".into(),
        };
        Self::new(client, defaults, lease, Arc::default(), &options)
    }
}

#[cfg(test)]
mod tests {
    use super::Doors;
    use crate::admin::Way;
    use crate::world::Key;

    #[tokio::test(start_paused = true)]
    async fn a_cluster_whose_brokers_do_not_answer_stalls_no_other() {
        let doors = Doors::default();
        let (lost, well) = (Key::new("shop", "lost"), Key::new("shop", "well"));
        let asked = doors.door(&lost, Way::default()).await;
        let _asking = asked.lock().await;
        let other = Way {
            addresses: vec!["other:9094".to_owned()],
            ..Way::default()
        };
        let waits = async { drop(doors.door(&lost, other).await) };
        tokio::select! {
            biased;
            () = waits => panic!("the lock of a door is held while its cluster is asked"),
            _ = doors.door(&well, Way::default()) => {}
        }
    }
}
