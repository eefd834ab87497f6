//! Disks that are lost for ever, and disks that are not. A node that does not answer proves nothing, however long: nothing is given up before its Node object
//! is gone, or a person names the broker and the disk.

use std::time::Instant;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use weir_crds::Cluster;
use weir_tests::wait;

use super::{Place, Play, number, say};
use crate::operator::processes_of;
use crate::rest::cluster_looked_at_again;
use crate::watching::{LIMIT, condition, until, until_replaced};

impl Play {
    /// A node goes and takes its disk along. While it might come back nothing is thrown away; when its Node object is gone the broker begins
    /// with an empty disk elsewhere, though not on the node that something happens to next.
    pub(super) async fn lost_for_ever(&self, (pod, node): &Place, (_, next): &Place) {
        let claims = self.stage.api::<PersistentVolumeClaim>();
        let (name, uid) = self.claim_of(pod).await;
        let before = self.stage.api::<Pod>().get(pod).await.expect("a pod");

        let began = self.before();
        self.nodes.tell(&["kill", number(node)]);
        self.flow.go_on("a node was lost");
        let silence = self.flow.load.longest_silence();
        let lacks_proof = self.lost("LostProofMissing").await;
        assert!(
            lacks_proof.contains(node.as_str()) && lacks_proof.contains("weir.dev/lost-disk="),
            "{lacks_proof}"
        );
        self.is_kept(&name, &uid, "a node that does not answer is no proof")
            .await;

        self.nodes.tell(&["wipe", number(node)]);
        self.stage.kubectl(&["cordon", next]);
        let gone = Instant::now();
        self.stage.kubectl(&["delete", "node", node]);
        until_replaced(&claims, &name, &uid).await;
        self.stage
            .pod_ready(pod, &before.uid().unwrap_or_default())
            .await;
        self.stage.kubectl(&["uncordon", next]);
        self.all_is_well(pod).await;
        println!(
            "  {:4.1} s from the end of its Node object until everything is on another disk",
            gone.elapsed().as_secs_f64()
        );
        self.lost("AsWanted").await;
        say(&format!("{node} lost with its disk"), silence, began);
        self.nodes.tell(&["up", number(node)]);
        self.node_ready(node).await;
    }

    /// A node stays cut off, and its broker with its disk. However long that is nothing is given up before a person says so, naming that very disk;
    /// another one that is named is none. Then the broker begins elsewhere with an empty disk, and the old one, which lives all the while, stays out when
    /// the network is back.
    pub(super) async fn given_up(&self, (pod, node): &Place) {
        let claims = self.stage.api::<PersistentVolumeClaim>();
        let (name, uid) = self.claim_of(pod).await;
        let before = self.stage.api::<Pod>().get(pod).await.expect("a pod");
        let before = before.uid().unwrap_or_default();

        let began = self.before();
        self.nodes.tell(&["cut", number(node)]);
        self.flow.go_on("a node was cut off for long");
        let silence = self.flow.load.longest_silence();
        let told = self.lost("LostProofMissing").await;
        let word = told.split_whitespace().find_map(|word| {
            let word = word.strip_prefix("weir.dev/lost-disk=")?;
            Some(word.trim_end_matches([':', '.', ',']).to_owned())
        });
        let word = word.unwrap_or_else(|| panic!("{told}"));
        let (broker, _) = word.split_once('@').unwrap_or_else(|| panic!("{told}"));
        let other = format!("{broker}@00000000-0000-4000-8000-000000000000");
        self.says_lost(&other);
        let told = self.lost_as("LostProofMissing", &other).await;
        assert!(
            told.contains(&format!("(it names {other} now)")) && told.contains(&word),
            "{told}"
        );
        self.is_kept(&name, &uid, "another disk was named").await;

        let given_up = Instant::now();
        self.says_lost(&word);
        until_replaced(&claims, &name, &uid).await;
        self.stage.pod_ready(pod, &before).await;
        self.all_is_well(pod).await;
        self.lost("AsWanted").await;
        println!(
            "  {:4.1} s from a person's word until everything is on another disk",
            given_up.elapsed().as_secs_f64()
        );
        self.nodes.tell(&["mend", number(node)]);
        self.node_ready(node).await;
        wait::until("the old broker has gone", LIMIT, || {
            processes_of(&before, "weir-broker")
                .is_empty()
                .then_some(())
        });
        self.all_is_well(pod).await;
        say(&format!("{node} cut off and given up"), silence, began);
    }

    /// Says on the Cluster that this disk is lost.
    fn says_lost(&self, word: &str) {
        let annotation = format!("weir.dev/lost-disk={word}");
        let cluster = "clusters.weir.dev/shop";
        self.stage
            .kubectl(&["annotate", cluster, "--overwrite", &annotation]);
    }

    /// The claim of a broker's volume, and its uid.
    async fn claim_of(&self, pod: &str) -> (String, String) {
        let name = format!("data-{pod}");
        let claims = self.stage.api::<PersistentVolumeClaim>();
        let claim = claims.get(&name).await.expect("the broker has a volume");
        (name, claim.uid().unwrap_or_default())
    }

    /// It is the same claim still, and stays, also when everything was looked at once more.
    async fn is_kept(&self, name: &str, uid: &str, why: &str) {
        cluster_looked_at_again(&self.stage, why).await;
        let claims = self.stage.api::<PersistentVolumeClaim>();
        let claim = claims.get(name).await.expect("the claim is there still");
        let is = (claim.uid(), claim.metadata.deletion_timestamp);
        assert_eq!(is, (Some(uid.to_owned()), None), "{why}");
    }

    /// Waits for a reason of the Cluster's condition `BrokerLost`; returns its message.
    async fn lost(&self, reason: &str) -> String {
        self.lost_as(reason, "").await
    }

    /// The same, with this in its message.
    async fn lost_as(&self, reason: &str, part: &str) -> String {
        let of = |cluster: &Cluster| {
            let conditions = &cluster.status.as_ref()?.conditions;
            condition(conditions, "BrokerLost").cloned()
        };
        let clusters = self.stage.api::<Cluster>();
        let cluster = until(&clusters, "shop", reason, |cluster| {
            of(cluster).is_some_and(|lost| lost.reason == reason && lost.message.contains(part))
        })
        .await;
        of(&cluster).map(|lost| lost.message).unwrap_or_default()
    }
}
