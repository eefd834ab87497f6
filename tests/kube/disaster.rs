//! What is left after a disaster is enough: of a Cluster that was deleted with all its objects and claims, the volumes; of a quorum most of whose disks are
//! gone for ever, one disk and a person's word. `docs/disaster.md` says what is typed here.

use crate::stage::Stage;
use crate::watching::{LIMIT, until, until_replaced};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use std::time::Instant;
use weir_crds::Cluster;
use weir_tests::clients::Clients;
use weir_tests::flights::{self, Message};
use weir_tests::{log, wait};

const PARTITIONS: usize = 12;

/// Messages of each part.
const PART: usize = 2_000;

/// A class whose volumes outlive their claims.
const CLASS: &str = "weir-kept";

#[tokio::test]
async fn a_cluster_is_made_anew_from_its_volumes_and_goes_on_from_one_disk_of_three() {
    let stage = Stage::open("disaster").await;
    class(&stage, true).await;
    let cluster = apply(&stage).await;
    let id = cluster.status.and_then(|status| status.cluster_id);
    stage.topic("shop", "flights", PARTITIONS as u32).await;
    let mut drill = Drill {
        clients: stage.clients().await,
        bootstrap: stage.bootstrap("shop"),
        all: flights::all(),
        sent: 0,
    };
    drill.goes_on();
    let export = stage.weir(&["export", "shop"], "");
    assert!(
        export.contains("\"flights\"") && export.contains(id.as_deref().unwrap_or("?")),
        "{export}"
    );

    let began = Instant::now();
    delete_all(&stage).await;
    let told = stage.weir(&["adopt", "shop"], "");
    assert!(
        told.matches("PersistentVolume").count() == 3 && told.contains("Nothing was changed"),
        "{told}"
    );
    stage.weir(&["adopt", "shop", "--execute"], "");
    let cluster = apply(&stage).await;
    assert_eq!(cluster.status.and_then(|status| status.cluster_id), id);
    drill.goes_on();
    println!(
        "  {:.1} s from deleting a Cluster and its claims until it is there again with all that was in it",
        began.elapsed().as_secs_f64()
    );

    let began = Instant::now();
    lose_most_disks(&stage).await;
    restore(&stage).await;
    stage.patch("clusters.weir.dev/shop", r#"{"spec":{"paused":false}}"#);
    let cluster = stage.cluster_ready("shop").await;
    assert_eq!(cluster.status.and_then(|status| status.cluster_id), id);
    drill.goes_on();
    println!(
        "  {:.1} s from the end of two disks of three until the third has filled two new ones",
        began.elapsed().as_secs_f64()
    );
    class(&stage, false).await;
    stage.close().await;
    forget_volumes().await;
}

/// What was acknowledged so far.
struct Drill {
    clients: Clients,
    bootstrap: String,
    all: Vec<Message>,
    sent: usize,
}

impl Drill {
    /// Everything is there and in sync, and more is taken.
    fn goes_on(&mut self) {
        wait::until("all replicas are in sync", LIMIT, || {
            let all = self.clients.describe(&self.bootstrap, "flights");
            (all.len() == PARTITIONS && all.iter().all(|one| one.in_sync == 3)).then_some(())
        });
        let more = &self.all[self.sent..self.sent + PART];
        self.clients.produce(&self.bootstrap, "flights", more);
        self.sent += PART;
        let log = self.clients.read_log(&self.bootstrap, "flights");
        log::holds_exactly(&log, &self.all[..self.sent]).unwrap_or_else(|wrong| panic!("{wrong}"));
    }
}

async fn apply(stage: &Stage) -> Cluster {
    stage.apply(&format!(
        "apiVersion: weir.dev/v1alpha1\nkind: Cluster\nmetadata:\n  name: shop\n\
         spec:\n  replicas: 3\n  storage:\n    size: 1Gi\n    storageClassName: {CLASS}\n"
    ));
    stage.cluster_ready("shop").await
}

/// Makes the class, as the default one is but for what becomes of volumes; or forgets it.
async fn class(stage: &Stage, make: bool) {
    let classes: Api<StorageClass> = Api::all(stage.client.clone());
    stage.kubectl(&["delete", "storageclass", CLASS, "--ignore-not-found"]);
    if !make {
        return;
    }
    let all = classes.list(&ListParams::default()).await;
    let all = all.expect("classes are listed").items;
    let is_default = |class: &&StorageClass| {
        let annotations = class.annotations();
        annotations.get("storageclass.kubernetes.io/is-default-class") == Some(&"true".to_owned())
    };
    let mut kept = all
        .iter()
        .find(is_default)
        .expect("a default class")
        .clone();
    kept.metadata = Default::default();
    kept.metadata.name = Some(CLASS.to_owned());
    kept.reclaim_policy = Some("Retain".to_owned());
    classes
        .create(&Default::default(), &kept)
        .await
        .expect("a class is made");
}

/// Volumes of the class, each with the claim that it names.
async fn volumes() -> Vec<(String, String)> {
    let client = kube::Client::try_default()
        .await
        .expect("KUBECONFIG names a cluster");
    let volumes: Api<PersistentVolume> = Api::all(client);
    let all = volumes.list(&ListParams::default()).await;
    let of_the_class = |volume: &PersistentVolume| {
        let spec = volume.spec.as_ref()?;
        let claim = spec.claim_ref.as_ref()?.name.clone()?;
        (spec.storage_class_name.as_deref() == Some(CLASS)).then(|| (volume.name_any(), claim))
    };
    let all = all.expect("volumes are listed").items;
    all.iter().filter_map(of_the_class).collect()
}

async fn forget_volumes() {
    for (volume, _) in volumes().await {
        crate::shell::run("kubectl", &["delete", "pv", &volume, "--wait=false"]);
    }
}

/// All that Kubernetes knows of the cluster, but its volumes.
async fn delete_all(stage: &Stage) {
    stage.kubectl(&["delete", "clusters.weir.dev", "shop", "--wait"]);
    for broker in 0..3 {
        let pod = format!("shop-broker-{broker}");
        if let Some(found) = stage.api::<Pod>().get_opt(&pod).await.expect("an answer") {
            let uid = found.uid().unwrap_or_default();
            until_replaced(&stage.api::<Pod>(), &pod, &uid).await;
        }
    }
    stage.kubectl(&["delete", "pvc", "--all", "--wait"]);
    let volumes: Api<PersistentVolume> = Api::all(stage.client.clone());
    for (volume, _) in self::volumes().await {
        until(&volumes, &volume, "the volume is kept", |volume| {
            let phase = volume.status.as_ref().and_then(|it| it.phase.as_deref());
            phase == Some("Released")
        })
        .await;
    }
}

/// Two of three brokers die at once, and their disks with them; they come back with empty ones, and wait.
async fn lose_most_disks(stage: &Stage) {
    stage.patch("clusters.weir.dev/shop", r#"{"spec":{"paused":true}}"#);
    let claims = ["data-shop-broker-0", "data-shop-broker-1"];
    let pods = ["shop-broker-0", "shop-broker-1"];
    let (mut old, lost) = (Vec::new(), volumes().await);
    for claim in claims {
        let found = stage.api::<PersistentVolumeClaim>().get(claim).await;
        old.push(found.expect("a claim").uid().unwrap_or_default());
    }
    // Each goes when its pod does.
    stage.kubectl(&["delete", "pvc", claims[0], claims[1], "--wait=false"]);
    stage.kubectl(&[
        "delete",
        "pod",
        pods[0],
        pods[1],
        "--force",
        "--grace-period=0",
    ]);
    for (claim, uid) in claims.iter().zip(&old) {
        until_replaced(&stage.api::<PersistentVolumeClaim>(), claim, uid).await;
    }
    for (volume, claim) in lost {
        if claims.contains(&claim.as_str()) {
            stage.kubectl(&["delete", "pv", &volume, "--wait=false"]);
        }
    }
    stage.kubectl(&["scale", "statefulset", "shop-broker", "--replicas=0"]);
    stage.kubectl(&[
        "wait",
        "--for=delete",
        "pod/shop-broker-2",
        "--timeout=120s",
    ]);
}

/// A person's word, by a pod that has the disk that is left.
async fn restore(stage: &Stage) {
    let image = stage.kubectl(&[
        "get",
        "statefulset",
        "shop-broker",
        "--output=jsonpath={.spec.template.spec.containers[0].image}",
    ]);
    for (name, word, phase) in [
        ("asks", "", "Failed"),
        ("says", ", --accept-loss", "Succeeded"),
    ] {
        stage.apply(
            &RESTORE
                .replace("NAME", name)
                .replace("IMAGE", &image)
                .replace("WORD", word),
        );
        until(&stage.api::<Pod>(), name, phase, |pod| {
            let is = pod.status.as_ref().and_then(|it| it.phase.as_deref());
            is == Some(phase)
        })
        .await;
        let told = stage.kubectl(&["logs", name]);
        println!("{told}");
        assert!(
            told.contains("Broker 2 decides alone") && told.contains("never be used again"),
            "{told}"
        );
        assert!(
            !told.contains("acknowledged and are not here"),
            "everything was in sync: {told}"
        );
        stage.kubectl(&["delete", "pod", name, "--wait"]);
    }
}

const RESTORE: &str = "\
apiVersion: v1
kind: Pod
metadata:
  name: NAME
spec:
  restartPolicy: Never
  automountServiceAccountToken: false
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    seccompProfile:
      type: RuntimeDefault
  containers:
    - name: restore
      image: IMAGE
      args: [metadata, restore, --data-dir, /var/lib/weir, --broker-id, \"2\"WORD]
      volumeMounts:
        - name: data
          mountPath: /var/lib/weir
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
  volumes:
    - name: data
      persistentVolumeClaim:
        claimName: data-shop-broker-2
";
