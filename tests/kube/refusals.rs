//! Bad manifests: the API server refuses them, or a condition names the field and the remedy. No pod restarts; of what only running it shows, one.

use crate::shell::attempt;
use crate::stage::{Stage, restarts, topic};
use crate::watching::{condition, until};
use k8s_openapi::api::core::v1::Pod;
use std::fs;
use std::path::{Path, PathBuf};
use weir_crds::{Cluster, Topic};
use weir_tests::given;

#[tokio::test]
async fn the_api_server_refuses_what_can_be_judged_without_a_cluster() {
    let stage = Stage::open("bad").await;
    let mut count = 0;
    for file in files(&given::root().join("crds/tests/bad")) {
        refused(&stage, &file, &["create", "--dry-run=server"]);
        count += 1;
    }
    println!("  {count} bad manifests refused");
    for file in files(&given::root().join("crds/tests/good")) {
        stage.kubectl(&[
            "create",
            "--dry-run=server",
            "--filename",
            &file.display().to_string(),
        ]);
    }
    stage.close().await;
}

#[tokio::test]
async fn the_api_server_refuses_changes_that_would_lose_or_move_data() {
    let stage = Stage::open("changes").await;
    let (mut allowed, mut forbidden) = (0, 0);
    for change in files(&given::root().join("crds/tests/update")) {
        let old = change.join("old.yaml");
        let manifest = fs::read_to_string(&old).expect("a manifest");
        // A paused Cluster gets no brokers: this is about the API server.
        stage
            .apply(&manifest.replace("\nspec:\n  replicas", "\nspec:\n  paused: true\n  replicas"));
        let new = change.join("new.yaml");
        if fs::read_to_string(&new)
            .expect("a manifest")
            .starts_with("# expect: accepted")
        {
            stage.kubectl(&[
                "apply",
                "--dry-run=server",
                "--filename",
                &new.display().to_string(),
            ]);
            allowed += 1;
        } else {
            refused(&stage, &new, &["apply", "--dry-run=server"]);
            forbidden += 1;
        }
        stage.kubectl(&["delete", "--filename", &old.display().to_string()]);
    }
    println!("  {forbidden} changes refused, {allowed} allowed");
    stage.close().await;
}

#[tokio::test]
async fn what_cannot_be_done_is_a_condition_with_the_remedy_and_brokers_go_on() {
    let stage = Stage::open("conditions").await;
    stage.cluster("shop", 3).await;
    let before = restarts(&stage.brokers("shop").await);

    stage.apply(&topic("nowhere", "lost", 1));
    stuck(&stage, "lost", "ClusterNotFound", &["nowhere"]).await;
    stage.apply(&format!(
        "{}  replicationFactor: 4\n",
        topic("shop", "too-many", 1)
    ));
    stuck(
        &stage,
        "too-many",
        "ReplicationFactorAboveBrokers",
        &["replicationFactor", "4", "3"],
    )
    .await;
    stage.apply(&format!(
        "{}  config:\n    retention.ms: soon\n",
        topic("shop", "odd", 1)
    ));
    stuck(&stage, "odd", "RefusedByBrokers", &["retention.ms"]).await;

    // Its replicas have no place on two brokers.
    stage.apply(&format!(
        "{}  replicationFactor: 3\n",
        topic("shop", "wide", 1)
    ));
    stage.topic_ready("wide").await;
    stage.kubectl(&["scale", "clusters.weir.dev/shop", "--replicas=2"]);
    let clusters = stage.api::<Cluster>();
    let cluster = until(&clusters, "shop", "the scale-down is blocked", |cluster| {
        let status = cluster.status.as_ref();
        let conditions = status.map(|status| status.conditions.as_slice());
        conditions
            .and_then(|conditions| condition(conditions, "ScaleDownBlocked"))
            .is_some_and(|blocked| blocked.status == "True")
    })
    .await;
    assert_eq!(cluster.spec.replicas, 2, "the spec is the person's");
    let status = cluster.status.unwrap_or_default();
    let blocked = condition(&status.conditions, "ScaleDownBlocked").expect("just seen");
    println!("  two brokers: {}", blocked.message);
    for part in [
        "spec.replicas is 2",
        "wide (3)",
        "set spec.replicas to 3 or more",
    ] {
        assert!(blocked.message.contains(part), "{}", blocked.message);
    }
    assert_eq!(blocked.reason, "ScaleDownReplicationFactor");
    let stalled = condition(&status.conditions, "Stalled").expect("it is always there");
    assert_eq!(stalled.status, "True", "a person is needed");
    let brokers = status.brokers.expect("they were asked");
    assert_eq!((brokers.registered, brokers.draining), (3, vec![]));
    stage.kubectl(&["scale", "clusters.weir.dev/shop", "--replicas=3"]);
    stage.cluster_ready("shop").await;

    assert_eq!(
        restarts(&stage.brokers("shop").await),
        before,
        "no pod was restarted"
    );
    runs_nowhere(&stage).await;
    stage.close().await;
}

/// A change that no node can carry out is tried with one broker; the others wait for it, and go on. Taking it back is all that has to be done, though the
/// cluster is not healthy.
async fn runs_nowhere(stage: &Stage) {
    let before = restarts(&stage.brokers("shop").await);
    stage.patch(
        "clusters.weir.dev/shop",
        r#"{"spec":{"pod":{"nodeSelector":{"disk":"none"}}}}"#,
    );
    let clusters = stage.api::<Cluster>();
    let why = |cluster: &Cluster| {
        let status = cluster.status.as_ref()?;
        let reconciling = condition(&status.conditions, "Reconciling")?;
        (reconciling.reason == "BrokersNotReady").then(|| reconciling.message.clone())
    };
    let waits = |cluster: &Cluster| why(cluster).is_some_and(|why| why.contains("not ready: "));
    let cluster = until(&clusters, "shop", "the roll waits", waits).await;
    let why = why(&cluster).unwrap_or_default();
    println!("  on no node: {why}");
    let (_, broker) = why.split_once("not ready: broker ").expect("it says who");
    let (broker, _) = broker.split_once('.').expect("it is one");
    let name = format!("shop-broker-{broker}");
    until(&stage.api::<Pod>(), &name, "no node takes it", |pod| {
        let conditions = pod.status.iter().flat_map(|status| &status.conditions);
        let mut conditions = conditions.flatten();
        conditions.any(|one| one.reason.as_deref() == Some("Unschedulable"))
    })
    .await;
    stage.patch(
        "clusters.weir.dev/shop",
        r#"{"spec":{"pod":{"nodeSelector":null}}}"#,
    );
    stage.cluster_settled("shop").await;
    let mut after = restarts(&stage.brokers("shop").await);
    after.retain(|(pod, ..)| *pod != name);
    assert!(
        after.len() == 2 && after.iter().all(|pod| before.contains(pod)),
        "nobody else was restarted: {after:?}"
    );
}

async fn stuck(stage: &Stage, name: &str, reason: &str, words: &[&str]) {
    let topic = until(
        &stage.api::<Topic>(),
        name,
        &format!("Ready is False because {reason}"),
        |topic| {
            let conditions = topic
                .status
                .as_ref()
                .map(|status| status.conditions.as_slice());
            conditions
                .and_then(|conditions| condition(conditions, "Ready"))
                .is_some_and(|ready| ready.status == "False" && ready.reason == reason)
        },
    )
    .await;
    let status = topic.status.expect("just seen");
    let message = &condition(&status.conditions, "Ready")
        .expect("just seen")
        .message;
    println!("  {name}: {message}");
    for word in words {
        assert!(message.contains(word), "{word:?} in {message:?}");
    }
}

/// The first line of the manifest says what the refusal has to contain.
fn refused(stage: &Stage, file: &Path, how: &[&str]) {
    let text = fs::read_to_string(file).expect("a manifest");
    let expected = text
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("# expect: "));
    let expected =
        expected.unwrap_or_else(|| panic!("{} does not say what to expect", file.display()));
    let path = file.display().to_string();
    let arguments = [
        &["--namespace", &stage.namespace],
        how,
        &["--filename", &path],
    ]
    .concat();
    let output = attempt("kubectl", &arguments, "");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{path} was accepted");
    assert!(
        said.contains(expected.trim()),
        "{path}: expected {expected:?} and the API server said\n{said}"
    );
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let listed =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = listed
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    files
}
