//! A cluster in one process: a simulated disk for each broker, and a network that is a map.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::select_all;
use uuid::Uuid;
use weir_log::storage_sim::{SimStorage, Unsynced};

use crate::controller;
use crate::ids::{BrokerId, ClusterId, Incarnation, NodeId};
use crate::quorum::{Blocking, Compaction, Options, Quorum, Timing};
use crate::record::Record;
use crate::transport::{Rpc, Target, Transport, TransportError};

pub(super) fn node(broker: usize, disk: u128) -> NodeId {
    NodeId {
        broker: BrokerId(broker as i32),
        incarnation: Incarnation(Uuid::from_u128(disk)),
    }
}

/// The nodes that are reachable, by address.
#[derive(Debug, Default)]
struct Net {
    nodes: Mutex<BTreeMap<String, Quorum>>,
    snapshots: AtomicUsize,
}

#[derive(Debug)]
struct Wire(Arc<Net>);

#[async_trait]
impl Transport for Wire {
    async fn call(
        &self,
        target: &Target,
        rpc: Rpc,
        request: Vec<u8>,
        _: Duration,
    ) -> Result<Vec<u8>, TransportError> {
        let quorum = self.0.nodes.lock().unwrap().get(&target.address).cloned();
        let quorum = quorum.ok_or_else(|| TransportError("unreachable".into()))?;
        if rpc == Rpc::InstallSnapshot {
            self.0.snapshots.fetch_add(1, Ordering::Relaxed);
        }
        quorum
            .answer(target.node, rpc, &request, None)
            .await
            .map_err(|error| TransportError(error.to_string()))
    }
}

pub(super) struct Cluster {
    net: Arc<Net>,
    disks: BTreeMap<usize, SimStorage>,
}

impl Cluster {
    /// Forms a cluster of so many brokers, of which all vote when there are three.
    pub(super) async fn of(brokers: usize) -> Self {
        let mut cluster = Self {
            net: Arc::default(),
            disks: BTreeMap::new(),
        };
        for id in 0..brokers {
            cluster.start(id, 1).await;
        }
        let first = cluster.quorum(0);
        first.form().await.unwrap();
        cluster.leader().await;
        first.ensure_leading().await.unwrap();
        first
            .propose(
                0,
                &controller::formed(ClusterId("test".into()), controller::FEATURE_LEVEL),
            )
            .await
            .unwrap();
        for id in 1..brokers {
            first.admit(node(id, 1), &Self::address(id)).await.unwrap();
        }
        if brokers == 3 {
            while !first.settle(|_| false, |_| true).await.unwrap() {
                tokio::task::yield_now().await;
            }
        }
        cluster
    }

    pub(super) fn address(id: usize) -> String {
        format!("broker{id}:9094")
    }

    pub(super) async fn start(&mut self, id: usize, disk: u128) {
        let storage = self.disks.entry(id).or_default().clone();
        let options = Options {
            node: node(id, disk),
            address: Self::address(id),
            dir: PathBuf::from("/data/metadata"),
            timing: Timing {
                heartbeat: Duration::from_millis(50),
                election_min: Duration::from_millis(150),
                election_max: Duration::from_millis(400),
                snapshot: Duration::from_secs(5),
            },
            compaction: Compaction {
                snapshot_every: 1000,
                keep: 0,
                log_bytes_max: 64 << 10,
            },
            blocking: Blocking::Inline,
        };
        let quorum = Quorum::open(options, Arc::new(storage), Arc::new(Wire(self.net.clone())))
            .await
            .unwrap();
        self.net
            .nodes
            .lock()
            .unwrap()
            .insert(Self::address(id), quorum);
    }

    /// Kills a broker as `kill -9` does.
    pub(super) async fn kill(&mut self, id: usize) {
        let quorum = self
            .net
            .nodes
            .lock()
            .unwrap()
            .remove(&Self::address(id))
            .unwrap();
        let disk = self.disks.get_mut(&id).unwrap();
        *disk = disk.process_killed();
        quorum.shutdown().await;
    }

    /// Takes the power from all brokers at once.
    pub(super) async fn power_cut(&mut self, unsynced: Unsynced) {
        let all = std::mem::take(&mut *self.net.nodes.lock().unwrap());
        for disk in self.disks.values_mut() {
            *disk = disk.power_cut(unsynced);
        }
        for quorum in all.into_values() {
            quorum.shutdown().await;
        }
    }

    /// A broker's disk.
    pub(super) fn disk(&mut self, id: usize) -> SimStorage {
        self.disks.entry(id).or_default().clone()
    }

    pub(super) fn wipe(&mut self, id: usize) {
        self.disks.remove(&id);
    }

    pub(super) fn quorum(&self, id: usize) -> Quorum {
        self.net.nodes.lock().unwrap()[&Self::address(id)].clone()
    }

    pub(super) fn snapshots_sent(&self) -> usize {
        self.net.snapshots.load(Ordering::Relaxed)
    }

    pub(super) fn leader_now(&self) -> Option<usize> {
        let nodes = self.net.nodes.lock().unwrap();
        nodes
            .values()
            .find(|quorum| quorum.status().borrow().is_leader)
            .map(|quorum| quorum.node().broker.0 as usize)
    }

    /// Waits for a broker that leads.
    pub(super) async fn leader(&self) -> usize {
        let all: Vec<Quorum> = self.net.nodes.lock().unwrap().values().cloned().collect();
        let waits = all.into_iter().map(|quorum| {
            Box::pin(async move {
                let mut status = quorum.status();
                loop {
                    status.wait_for(|status| status.is_leader).await.unwrap();
                    if quorum.ensure_leading().await.is_ok() {
                        return quorum.node().broker.0 as usize;
                    }
                    // Its followers may only be starting.
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            })
        });
        select_all(waits).await.0
    }

    pub(super) async fn propose(&self, records: &[Record]) {
        let quorum = self.quorum(self.leader().await);
        quorum
            .propose(quorum.image().revision(), records)
            .await
            .unwrap();
    }

    /// Waits until a broker's log begins after its snapshot.
    pub(super) async fn compacted(&self, id: usize) {
        let quorum = self.quorum(id);
        quorum.compact().await;
        let mut metrics = quorum.raft.metrics();
        let snapshot = metrics
            .wait_for(|metrics| metrics.snapshot.is_some())
            .await
            .unwrap()
            .snapshot
            .unwrap();
        quorum
            .raft
            .trigger()
            .purge_log(snapshot.index)
            .await
            .unwrap();
        metrics
            .wait_for(|metrics| metrics.purged >= Some(snapshot))
            .await
            .unwrap();
    }
}
