//! `watchNamespaces`: the release that worked everywhere is told to work in one namespace only. There it does all that a Cluster asks for, with a Role, and is
//! refused nothing but to look at nodes; elsewhere it may do nothing. What was made elsewhere meanwhile it takes up when it is told to work everywhere again.

use std::collections::BTreeSet;
use std::time::Instant;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{Api, Client, ResourceExt};
use weir_crds::{Cluster, Topic};

use crate::operator;
use crate::shell::{attempt, run};
use crate::stage::{Stage, restarts};
use crate::watching::{ready, until, until_replaced};

/// A namespace that is not watched.
const ELSEWHERE: &str = "weir-unwatched";

/// Of what it does without, an operator says that it was refused it only when it says all.
const SAYS_ALL: &str = r"logLevel=info\,weir_operator=debug";

/// What it says then of a node: pods say the same of theirs.
const OF_NODES: &str = "the addresses of a node cannot be read";

/// A Cluster that clients reach by nodes, whose addresses are to be had without reading nodes.
const SHOP: &str = "\
apiVersion: weir.dev/v1alpha1
kind: Cluster
metadata:
  name: shop
spec:
  replicas: 1
  storage:
    size: 1Gi
    onScaleDown: Delete
  listeners:
    - name: nodes
      port: 9100
      type: nodePort
      nodeAddressType: InternalIP
";

/// A topic that goes with its resource, and a group.
const ORDERS: &str = "\
apiVersion: weir.dev/v1alpha1
kind: Topic
metadata:
  name: orders
spec:
  clusterRef:
    name: shop
  partitions: 3
  deletionPolicy: Delete
---
apiVersion: weir.dev/v1alpha1
kind: ConsumerGroup
metadata:
  name: billing
spec:
  clusterRef:
    name: shop
  topics: [orders]
  begin:
    to: Earliest
";

#[tokio::test]
async fn an_operator_for_one_namespace_does_all_of_its_work_there_and_none_elsewhere() {
    let stage = Stage::open_alone("watched").await;
    let elsewhere = Elsewhere::make(&stage.client);
    let began = Instant::now();
    let watched = format!("watchNamespaces={{{}}}", stage.namespace);
    let values = ["--set", &watched, "--set", SAYS_ALL];
    operator::installed_with(&stage.client, &values).await;
    let operators = operator::all(&stage.client).await;
    operator::leads_one_of(&stage.client, &operators).await;
    say("the operator works in one namespace", began);
    let may = |namespace: &str| {
        let account = format!(
            "--as=system:serviceaccount:{}:weir-operator",
            operator::NAMESPACE
        );
        let asked = ["auth", "can-i", "patch", "statefulsets.apps", &account];
        let answer = attempt("kubectl", &[&asked, &["-n", namespace][..]].concat(), "");
        String::from_utf8_lossy(&answer.stdout).trim() == "yes"
    };
    assert!(may(&stage.namespace), "the Role is there");
    assert!(!may(ELSEWHERE), "and that one alone");

    elsewhere.apply();
    works(&stage).await;
    elsewhere.is_as_it_was().await;
    let now = operator::all(&stage.client).await;
    assert_eq!(restarts(&now), restarts(&operators), "no operator ended");
    let refused: usize = operators.iter().map(refusals).sum();
    assert!(refused > 0, "nodes are not for it to read, and it says so");

    let began = Instant::now();
    operator::installed(&stage.client).await;
    elsewhere.is_ready().await;
    say("it works everywhere again", began);
    elsewhere.forget().await;
    stage.close().await;
}

fn say(what: &str, began: Instant) {
    println!("  {what} after {:.1} s", began.elapsed().as_secs_f64());
}

/// A Cluster with a Topic and a group comes, grows, changes and goes.
async fn works(stage: &Stage) {
    let began = Instant::now();
    stage.apply(SHOP);
    stage.cluster_ready("shop").await;
    stage.apply(ORDERS);
    stage.topic_ready("orders").await;
    stage.group_ready("billing").await;
    say("a Cluster, a Topic and a group are Ready", began);

    let began = Instant::now();
    stage.kubectl(&["scale", "clusters.weir.dev/shop", "--replicas=3"]);
    let cluster = stage.cluster_settled("shop").await;
    let pods = stage.brokers("shop").await;
    assert_eq!(pods.len(), 3, "three brokers");
    let listeners = cluster.status.map(|status| status.listeners);
    let told = listeners.into_iter().flatten().flat_map(|it| it.addresses);
    let told: BTreeSet<String> = told.map(|address| address.host).collect();
    let nodes = pods.iter().filter_map(|pod| {
        let status = pod.status.as_ref()?;
        status.host_ip.clone()
    });
    assert_eq!(told, nodes.collect(), "clients are told of nodes");
    say("one broker became three", began);

    let began = Instant::now();
    stage.patch("topic.weir.dev/orders", r#"{"spec":{"partitions":6}}"#);
    let grown = stage.topic_ready("orders").await;
    assert_eq!(grown.status.and_then(|status| status.partitions), Some(6));
    stage.kubectl(&["delete", "topic.weir.dev", "orders", "--wait"]);
    say("the topic grew and went", began);

    let began = Instant::now();
    let (name, uid) = (pods[0].name_any(), pods[0].uid().unwrap_or_default());
    stage.kubectl(&["delete", "clusters.weir.dev", "shop", "--wait"]);
    until_replaced(&stage.api::<Pod>(), &name, &uid).await;
    say("the Cluster went", began);
}

/// How often an operator was refused a node's addresses. Fails when it was refused anything else.
fn refusals(operator: &Pod) -> usize {
    let name = operator.name_any();
    let said = run(
        "kubectl",
        &["--namespace", operator::NAMESPACE, "logs", &name],
    );
    let refused = said
        .lines()
        .filter(|line| line.to_lowercase().contains("forbidden"));
    let (of_nodes, others): (Vec<&str>, Vec<&str>) =
        refused.partition(|line| line.contains(OF_NODES));
    assert!(others.is_empty(), "{name}:\n{}", others.join("\n"));
    of_nodes.len()
}

/// A Cluster with a Topic where the operator does not look.
struct Elsewhere {
    clusters: Api<Cluster>,
    topics: Api<Topic>,
    sets: Api<StatefulSet>,
    namespaces: Api<Namespace>,
}

impl Elsewhere {
    fn make(client: &Client) -> Self {
        let delete = ["delete", "namespace", ELSEWHERE, "--ignore-not-found"];
        run("kubectl", &[&delete[..], &["--wait"]].concat());
        run("kubectl", &["create", "namespace", ELSEWHERE]);
        Self {
            clusters: Api::namespaced(client.clone(), ELSEWHERE),
            topics: Api::namespaced(client.clone(), ELSEWHERE),
            sets: Api::namespaced(client.clone(), ELSEWHERE),
            namespaces: Api::all(client.clone()),
        }
    }

    fn apply(&self) {
        let arguments = ["--namespace", ELSEWHERE, "apply", "--filename", "-"];
        let applied = attempt("kubectl", &arguments, &format!("{SHOP}---\n{ORDERS}"));
        assert!(
            applied.status.success(),
            "kubectl apply: {}",
            String::from_utf8_lossy(&applied.stderr)
        );
    }

    /// Nobody has said or made anything.
    async fn is_as_it_was(&self) {
        let cluster = self.clusters.get("shop").await.expect("it is there");
        assert_eq!(cluster.status, None, "nobody looked at the Cluster");
        let topic = self.topics.get("orders").await.expect("it is there");
        assert_eq!(topic.status, None, "nobody looked at the Topic");
        let finalizers = (cluster.finalizers(), topic.finalizers());
        assert_eq!(finalizers, (&[][..], &[][..]), "and nobody holds them");
        let sets = self.sets.list(&Default::default()).await;
        assert!(sets.expect("sets are listed").items.is_empty(), "no broker");
    }

    async fn is_ready(&self) {
        let what = "the Topic elsewhere is Ready";
        until(&self.topics, "orders", what, |topic| {
            let status = topic.status.as_ref();
            status.is_some_and(|status| ready(topic, &status.conditions))
        })
        .await;
    }

    async fn forget(self) {
        let gone = self.namespaces.delete(ELSEWHERE, &Default::default()).await;
        gone.expect("the namespace goes");
    }
}
