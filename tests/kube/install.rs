//! Installing, the first cluster, and the chart of a cluster.

use crate::shell::run;
use crate::stage::Stage;
use kube::ResourceExt;
use std::time::Instant;

#[tokio::test]
async fn the_quickstart_becomes_ready_and_says_so() {
    let stage = Stage::open("install").await;
    let applied = Instant::now();
    stage.kubectl(&["apply", "--filename", "examples/quickstart.yaml"]);
    stage.cluster_ready("quickstart").await;
    println!(
        "  {:.1} s from kubectl apply to a Cluster of three brokers that is Ready",
        applied.elapsed().as_secs_f64()
    );
    for topic in ["orders", "events"] {
        stage.topic_ready(topic).await;
    }
    stage.group_ready("billing").await;

    let listed = stage.kubectl(&["get", "weir"]);
    println!("{listed}");
    for wanted in [
        "READY",
        "BROKERS",
        "BOOTSTRAP",
        "PARTITIONS",
        "quickstart",
        "orders",
        "events",
        "billing",
    ] {
        assert!(listed.contains(wanted), "{wanted} in\n{listed}");
    }
    let described = stage.kubectl(&["describe", "cluster.weir.dev", "quickstart"]);
    assert!(
        described.contains("BrokersReady"),
        "a condition with its reason in\n{described}"
    );

    // The namespace enforces the restricted profile, so a pod that broke it would not be here.
    let brokers = stage.brokers("quickstart").await;
    assert_eq!(brokers.len(), 3, "broker pods");
    for pod in &brokers {
        let container = &pod.spec.as_ref().expect("pods have specs").containers[0];
        let security = container
            .security_context
            .as_ref()
            .expect("a security context");
        assert_eq!(
            security.read_only_root_filesystem,
            Some(true),
            "{}",
            pod.name_any()
        );
    }
    stage.close().await;
}

#[tokio::test]
async fn the_chart_of_a_cluster_installs_and_its_test_passes() {
    let stage = Stage::open("chart").await;
    let namespace = stage.namespace.clone();
    run(
        "helm",
        &[
            "install",
            "shop",
            "charts/weir-cluster",
            "--namespace",
            &namespace,
            "--set",
            "cluster.storage.size=1Gi,cluster.resources.requests.memory=64Mi",
            "--set",
            "topics.orders.partitions=6",
            "--set",
            "consumerGroups.billing.topics={orders}",
        ],
    );
    stage.cluster_ready("shop").await;
    let orders = stage.topic_ready("orders").await;
    assert_eq!(orders.status.and_then(|status| status.partitions), Some(6));
    println!(
        "{}",
        run(
            "helm",
            &[
                "test",
                "shop",
                "--namespace",
                &namespace,
                "--timeout",
                "60s"
            ]
        )
    );
    run("helm", &["uninstall", "shop", "--namespace", &namespace]);
    stage.close().await;
}
