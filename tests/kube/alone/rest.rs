//! A thousand topics at rest: however often everything is looked at again, not one object is written, and the operator stays small.
//! `WEIR_TOPICS` makes more of them, and has the operator's work at rest measured for a minute.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use weir_crds::{Cluster, Topic};
use weir_tests::wait;

use crate::operator;
use crate::shell::{attempt, run};
use crate::stage::Stage;
use crate::watching::{LIMIT, ready};

const TOPICS: usize = 1_000;
/// How long the operator's work at rest is measured.
const AT_REST: Duration = Duration::from_secs(60);
/// How often everything is to be looked at again.
const ROUNDS: u64 = 10;
/// What an operator may have, though it knows of a thousand topics.
const MEMORY_MAX_MIB: u64 = 100;

/// What a Cluster is made of. Pods are the kubelet's to write, and events are nobody's state.
const KINDS: [&str; 10] = [
    "clusters.weir.dev",
    "topics.weir.dev",
    "consumergroups.weir.dev",
    "statefulsets.apps",
    "services",
    "configmaps",
    "secrets",
    "serviceaccounts",
    "poddisruptionbudgets.policy",
    "persistentvolumeclaims",
];

#[tokio::test]
async fn a_thousand_topics_at_rest_are_looked_at_again_and_again_and_nothing_is_written() {
    let stage = Stage::open_alone("rest").await;
    stage.cluster("shop", 1).await;
    let asked = std::env::var("WEIR_TOPICS").ok();
    let topics = asked.as_ref().map_or(TOPICS, |count| {
        count.parse().expect("WEIR_TOPICS is a number")
    });
    let began = Instant::now();
    make(&stage, topics);
    println!(
        "  {topics} Topics are applied in {:.1} s",
        began.elapsed().as_secs_f64()
    );
    all_ready(&stage, topics).await;
    println!(
        "  {topics} Topics are Ready {:.1} s after kubectl apply began",
        began.elapsed().as_secs_f64()
    );
    // Whoever still had something to write has.
    let mut before = at_rest(&stage);

    let began = Instant::now();
    for round in 0..ROUNDS {
        let topic = format!("t-{round}");
        look_again(&stage, &round.to_string(), &topic, &mut before).await;
    }
    println!(
        "  {ROUNDS} times everything was looked at again in {:.1} s",
        began.elapsed().as_secs_f64()
    );

    // Operators that know nothing look at everything for the first time.
    let pods: Api<Pod> = Api::namespaced(stage.client.clone(), operator::NAMESPACE);
    let all = DeleteParams::default().grace_period(0);
    pods.delete_collection(&all, &ListParams::default())
        .await
        .expect("the operators go");
    operator::installed(&stage.client).await;
    looked_again(&stage, &Passes::default()).await;
    // Of more of them what it takes to look for the first time is not what is judged.
    measure(asked.is_none());
    if asked.is_some() {
        let began = Instant::now();
        wait::until("it rested for long enough", AT_REST * 2, || {
            (began.elapsed() >= AT_REST).then_some(())
        });
        println!("  {} s later:", began.elapsed().as_secs());
        measure(true);
    }

    let written = written(&stage, &before);
    assert_eq!(written, Vec::<String>::new(), "written without need");
    assert_eq!(before.len(), versions(&stage).len(), "nothing is new");
    stage.close().await;
}

fn make(stage: &Stage, topics: usize) {
    let items: Vec<_> = (0..topics)
        .map(|at| {
            json!({
                "apiVersion": "weir.dev/v1alpha1", "kind": "Topic", "metadata": {"name": format!("t-{at}")},
                "spec": {"clusterRef": {"name": "shop"}, "partitions": 1},
            })
        })
        .collect();
    stage.apply(&json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string());
}

/// Waits until every Topic is Ready. One list tells of all of them.
async fn all_ready(stage: &Stage, wanted: usize) {
    let topics = stage.api::<Topic>();
    // For each thousand.
    let limit = LIMIT * u32::try_from(wanted.div_ceil(1_000)).unwrap_or(u32::MAX);
    let began = Instant::now();
    loop {
        let all = topics.list(&ListParams::default()).await;
        let all = all.expect("Topics are listed").items;
        let is_ready = |topic: &&Topic| {
            let status = topic.status.as_ref();
            status.is_some_and(|status| ready(*topic, &status.conditions))
        };
        let count = all.iter().filter(is_ready).count();
        if count == wanted {
            return;
        }
        assert!(
            began.elapsed() < limit,
            "{count} of {wanted} Topics are Ready after {} s",
            limit.as_secs()
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// The version of every object in the namespace that the operator may write, once nobody writes any more.
pub(crate) fn at_rest(stage: &Stage) -> BTreeMap<String, String> {
    let mut before = BTreeMap::new();
    wait::until("nobody writes any more", LIMIT, || {
        let now = versions(stage);
        let rests = now == before;
        before = now;
        rests.then_some(())
    });
    before
}

/// Objects whose versions are others than these, or that are not there any more.
pub(crate) fn written(stage: &Stage, before: &BTreeMap<String, String>) -> Vec<String> {
    let after = versions(stage);
    let written = before
        .iter()
        .filter(|(object, version)| after.get(*object) != Some(version));
    written.map(|(object, _)| object.clone()).collect()
}

/// Has the Cluster and a Topic looked at once more; what is written for that counts among what was there before.
pub(crate) async fn look_again(
    stage: &Stage,
    round: &str,
    topic: &str,
    before: &mut BTreeMap<String, String>,
) {
    let seen = passes(stage).await;
    let touch = json!({"metadata": {"annotations": {"touched": round}}});
    let clusters = stage.api::<Cluster>();
    let patched = clusters
        .patch(
            "shop",
            &PatchParams::default(),
            &Patch::Merge(touch.clone()),
        )
        .await
        .expect("the Cluster is annotated");
    let at = "clusters.weir.dev/shop".to_owned();
    before.insert(at, patched.resource_version().unwrap_or_default());
    let topics = stage.api::<Topic>();
    let patched = topics
        .patch(topic, &PatchParams::default(), &Patch::Merge(touch))
        .await
        .expect("a Topic is annotated");
    let at = format!("topics.weir.dev/{topic}");
    before.insert(at, patched.resource_version().unwrap_or_default());
    looked_again(stage, &seen).await;
}

/// The version of every object in the namespace that the operator may write.
fn versions(stage: &Stage) -> BTreeMap<String, String> {
    let kinds = KINDS.join(",");
    let listed = stage.kubectl(&["get", &kinds, "--output", "json"]);
    let listed: kube::core::ObjectList<DynamicObject> =
        serde_json::from_str(&listed).expect("kubectl prints JSON");
    let version = |object: DynamicObject| {
        let types = object.types.clone().unwrap_or_default();
        let group = types.api_version.split_once('/').map(|(group, _)| group);
        let plural = format!("{}s", types.kind.to_lowercase());
        let kind = group.map_or_else(|| plural.clone(), |group| format!("{plural}.{group}"));
        let version = object.resource_version().unwrap_or_default();
        (format!("{kind}/{}", object.name_any()), version)
    };
    listed.items.into_iter().map(version).collect()
}

/// How many passes succeeded, over clusters and over topics, by any operator.
#[derive(Default)]
pub(crate) struct Passes {
    clusters: u64,
    topics: u64,
}

async fn passes(stage: &Stage) -> Passes {
    let pods: Api<Pod> = Api::namespaced(stage.client.clone(), operator::NAMESPACE);
    let mut passes = Passes::default();
    for pod in pods
        .list(&ListParams::default())
        .await
        .expect("operators are listed")
    {
        let path = format!(
            "/api/v1/namespaces/{}/pods/{}:9600/proxy/metrics",
            operator::NAMESPACE,
            pod.name_any()
        );
        // One that is about to start, or has just gone, has made none.
        let read = attempt("kubectl", &["get", "--raw", &path], "");
        let text = String::from_utf8_lossy(&read.stdout).into_owned();
        let count = |kind: &str| -> u64 {
            let series =
                format!("weir_operator_reconciles_total{{kind=\"{kind}\",result=\"success\"}} ");
            let value = text.lines().find_map(|line| line.strip_prefix(&series));
            value.and_then(|value| value.parse().ok()).unwrap_or(0)
        };
        passes.clusters += count("cluster");
        passes.topics += count("topics");
    }
    passes
}

/// Waits until the cluster and its topics were looked at since.
pub(crate) async fn looked_again(stage: &Stage, since: &Passes) {
    let began = Instant::now();
    loop {
        let now = passes(stage).await;
        if now.clusters > since.clusters && now.topics > since.topics {
            return;
        }
        assert!(
            began.elapsed() < LIMIT,
            "nobody looked again within {} s",
            LIMIT.as_secs()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Prints what each operator has and has used, and judges the memory if told so; on this machine's own cluster they are processes of this machine.
fn measure(is_judged: bool) {
    let listed = run("ps", &["-eo", "rss=,cputime=,args="]);
    let operators: Vec<&str> = listed
        .lines()
        .filter(|line| line.trim_end().ends_with("/weir-operator run"))
        .collect();
    if crate::nodes::cluster_of_the_tests().is_none() {
        println!("  the operators' memory is not to be seen from here");
        return;
    }
    assert!(operators.len() >= 2, "two operators run:\n{listed}");
    for operator in operators {
        let mut fields = operator.split_whitespace();
        let kib: u64 = fields
            .next()
            .and_then(|kib| kib.parse().ok())
            .unwrap_or(u64::MAX);
        let cpu = fields.next().unwrap_or_default();
        println!(
            "  an operator has {} MiB and has used {cpu} of a core",
            kib >> 10
        );
        assert!(
            !is_judged || kib >> 10 < MEMORY_MAX_MIB,
            "an operator has {} MiB",
            kib >> 10
        );
    }
}
