//! Volumes grow as a person asks, and by themselves.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use weir_crds::{Cluster, ClusterStatus};
use weir_tests::wait;

use super::volumes::Volumes;
use super::{VOLUME_MIB, figure};
use crate::stage::{Stage, restarts};
use crate::watching::{LIMIT, condition, until};

/// What is asked for: room for a broker that has filled what it had, which is then nearly three quarters.
const LARGER_MIB: u64 = 704;
/// By how much a volume grows by itself.
const STEP_MIB: u64 = 128;
/// When it does: one that was full and is larger now, and none that was not full.
const THRESHOLD_PERCENT: u32 = 68;
/// What such a one has of its size after a step, and more.
const MOSTLY_FULL_PERCENT: u32 = 50;

/// A cluster one of whose brokers has a volume that is full.
pub(super) struct Growth<'a> {
    stage: &'a Stage,
    volumes: &'a Volumes<'a>,
    /// Whose volume it is.
    broker: usize,
    set: StatefulSet,
    pods: Vec<(String, String, i32)>,
}

impl<'a> Growth<'a> {
    pub(super) async fn begin(stage: &'a Stage, volumes: &'a Volumes<'a>, broker: usize) -> Self {
        let set = stage.api::<StatefulSet>().get("shop-broker").await;
        Self {
            stage,
            volumes,
            broker,
            set: set.expect("there is a StatefulSet"),
            pods: restarts(&stage.brokers("shop").await),
        }
    }

    /// A person asks for larger volumes, and the class does not allow it: a condition has the API server's words and the remedy, and nothing happens.
    pub(super) async fn is_refused(&self) {
        self.storage(&format!(r#"{{"size":"{LARGER_MIB}Mi"}}"#));
        let status = self.seen("StorageResizePending").await;
        let message = message_of(&status, "StorageResizePending");
        for part in [
            "PersistentVolumeClaim data-shop-broker-",
            "cannot grow to 704Mi",
            "the storageclass that provisions the pvc must support resize",
            "allowVolumeExpansion: true",
        ] {
            assert!(message.contains(part), "{message}");
        }
        assert_eq!(message_of(&status, "Stalled"), message);
        for broker in 0..3 {
            self.asks_for(broker, VOLUME_MIB).await;
        }
    }

    /// The class allows it: all volumes grow, that of a broker which is not ready among them.
    pub(super) async fn is_allowed(&self) {
        self.volumes.may_grow();
        let status = self
            .seen_while("StorageResizing", |status| {
                let ready = condition(&status.conditions, "Ready");
                ready.is_some_and(|ready| ready.reason == "BrokersNotReady")
            })
            .await;
        let message = message_of(&status, "StorageResizePending");
        for part in ["of 3 volumes are growing", "asks for 704Mi and has 512Mi"] {
            assert!(message.contains(part), "{message}");
        }
        for broker in 0..3 {
            let claim = self.asks_for(broker, LARGER_MIB).await;
            self.volumes.grow(self.stage, &claim, LARGER_MIB);
        }
    }

    /// The volume that was full grows by a step, and by no more than it may; when it is as large as that and still full, a person is needed.
    pub(super) async fn by_itself(&self, node: &str) {
        self.seen("AsWanted").await;
        self.auto_grow(THRESHOLD_PERCENT, 1024);
        let grown = LARGER_MIB + STEP_MIB;
        let claim = self.asks_for(self.broker, grown).await;
        self.volumes.grow(self.stage, &claim, grown);
        wait::until("the broker has more", LIMIT, || {
            let has = figure(self.stage, self.broker, "weir_disk_bytes");
            has.filter(|has| *has > (LARGER_MIB << 20) as f64)
        });

        self.auto_grow(MOSTLY_FULL_PERCENT, grown);
        let status = self.seen("StorageAtMaximum").await;
        let message = message_of(&status, "StorageResizePending");
        for part in [
            format!("data-shop-broker-{} has {grown}Mi", self.broker),
            format!("spec.storage.autoGrow.maximum ({grown}Mi)"),
        ] {
            assert!(message.contains(&part), "{message}");
        }
        assert_eq!(message_of(&status, "Stalled"), message);

        self.volumes.make_room(node);
        self.auto_grow(MOSTLY_FULL_PERCENT, 1024);
        self.seen("AsWanted").await;
        for broker in 0..3 {
            let has_grown = broker == self.broker;
            let size = if has_grown { grown } else { LARGER_MIB };
            self.asks_for(broker, size).await;
        }
        self.nobody_was_restarted().await;
    }

    /// The set is the same, with the claims' first size in it; so are the pods, but that the broker whose disk was full has ended by itself.
    async fn nobody_was_restarted(&self) {
        let set = self.stage.api::<StatefulSet>().get("shop-broker").await;
        let set = set.expect("there is a StatefulSet");
        assert_eq!(set.metadata.uid, self.set.metadata.uid);
        let templates = |set: &StatefulSet| set.spec.clone()?.volume_claim_templates;
        assert_eq!(templates(&set), templates(&self.set));
        let mut pods = restarts(&self.stage.brokers("shop").await);
        pods[self.broker].2 = self.pods[self.broker].2;
        assert_eq!(pods, self.pods, "nobody was restarted for a volume");
    }

    /// Waits until a broker's claim asks for this size.
    async fn asks_for(&self, broker: usize, size_mib: u64) -> PersistentVolumeClaim {
        let claims = self.stage.api::<PersistentVolumeClaim>();
        let name = format!("data-shop-broker-{broker}");
        let wanted = format!("{size_mib}Mi");
        until(&claims, &name, &format!("it asks for {wanted}"), |claim| {
            let asked = claim.spec.as_ref().and_then(|spec| {
                let requests = spec.resources.as_ref()?.requests.as_ref()?;
                requests.get("storage")
            });
            asked.is_some_and(|asked| asked.0 == wanted)
        })
        .await
    }

    fn auto_grow(&self, threshold_percent: u32, maximum_mib: u64) {
        self.storage(&format!(
            r#"{{"autoGrow":{{"thresholdPercent":{threshold_percent},"step":"{STEP_MIB}Mi","maximum":"{maximum_mib}Mi"}}}}"#
        ));
    }

    fn storage(&self, fields: &str) {
        let fields = format!(r#"{{"spec":{{"storage":{fields}}}}}"#);
        self.stage.patch("clusters.weir.dev/shop", &fields);
    }

    /// Waits for this reason of the condition `StorageResizePending`, of the spec as it is now.
    async fn seen(&self, reason: &str) -> ClusterStatus {
        self.seen_while(reason, |_| true).await
    }

    /// The same while something else holds.
    async fn seen_while(
        &self,
        reason: &str,
        holds: impl Fn(&ClusterStatus) -> bool,
    ) -> ClusterStatus {
        let clusters = self.stage.api::<Cluster>();
        let cluster = until(&clusters, "shop", reason, |cluster| {
            let Some(status) = &cluster.status else {
                return false;
            };
            let is = condition(&status.conditions, "StorageResizePending");
            status.observed_generation == cluster.metadata.generation
                && is.is_some_and(|is| is.reason == reason)
                && holds(status)
        });
        cluster.await.status.unwrap_or_default()
    }
}

fn message_of<'s>(status: &'s ClusterStatus, kind: &str) -> &'s str {
    condition(&status.conditions, kind).map_or("", |condition| &condition.message)
}
