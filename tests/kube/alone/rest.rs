//! A thousand topics at rest, and a group that is behind: however often everything is looked at again, not one object is written, and the operator stays small.
//! `WEIR_TOPICS` makes more of them, and has the operator's work at rest measured for a minute.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use weir_crds::{Cluster, ConsumerGroup, Topic};
use weir_tests::{flights, wait};

use crate::operator;
use crate::shell::{attempt, run};
use crate::stage::Stage;
use crate::watching::{LIMIT, condition, ready, until};

const TOPICS: usize = 1_000;
const CLUSTER: &str = "clusters.weir.dev/shop";
/// How long the operator's work at rest is measured.
const AT_REST: Duration = Duration::from_secs(60);
/// How often everything is to be looked at again.
const ROUNDS: u64 = 10;
/// What waits to be read by a group that nobody is in.
const UNREAD: usize = 10;
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
    a_group_is_behind(&stage).await;
    // Topics of the brokers' own were made for it, of which the Cluster says how many there are when it is looked at.
    cluster_looked_at_again(&stage, "a group is there").await;
    // Whoever still had something to write has.
    let mut before = at_rest(&stage);

    let began = Instant::now();
    for round in 0..ROUNDS {
        assert_eq!(cluster_written(&stage, &before).await, None);
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
    // What waits has become older in between.
    groups_looked_at(&stage, 2).await;
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

/// Something waits to be read, and does so for longer and longer. Nobody reads, and the objective is missed.
async fn a_group_is_behind(stage: &Stage) {
    let clients = stage.clients().await;
    clients.produce(&stage.bootstrap("shop"), "t-0", &flights::all()[..UNREAD]);
    stage.apply(
        "apiVersion: weir.dev/v1alpha1\nkind: ConsumerGroup\nmetadata:\n  name: readers\n\
         spec:\n  clusterRef:\n    name: shop\n  topics: [t-0]\n  begin:\n    to: Earliest\n\
         \x20 lagObjective:\n    records: 5\n    seconds: 1\n",
    );
    let groups = stage.api::<ConsumerGroup>();
    until(&groups, "readers", "a group is behind", |group| {
        let Some(status) = &group.status else {
            return false;
        };
        let records = status.lag.as_ref().map(|lag| lag.records);
        let missed = condition(&status.conditions, "LagObjectiveMet");
        let part = "the oldest has waited for more than 1 s";
        records == i64::try_from(UNREAD).ok()
            && missed.is_some_and(|missed| missed.message.contains(part))
    })
    .await;
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

/// Has the Cluster and a Topic looked at once more; what is written for that counts among what was there before. Nothing else is written of the Cluster.
pub(crate) async fn look_again(
    stage: &Stage,
    round: &str,
    topic: &str,
    before: &mut BTreeMap<String, String>,
) {
    let seen = passes(stage).await;
    let touch = json!({"metadata": {"annotations": {"touched": round}}});
    let clusters = stage.api::<Cluster>();
    let patched_cluster = clusters
        .patch(
            "shop",
            &PatchParams::default(),
            &Patch::Merge(touch.clone()),
        )
        .await
        .expect("the Cluster is annotated");
    before.insert(
        CLUSTER.to_owned(),
        patched_cluster.resource_version().unwrap_or_default(),
    );
    let topics = stage.api::<Topic>();
    let patched = topics
        .patch(topic, &PatchParams::default(), &Patch::Merge(touch))
        .await
        .expect("a Topic is annotated");
    let at = format!("topics.weir.dev/{topic}");
    before.insert(at, patched.resource_version().unwrap_or_default());
    looked_again(stage, &seen).await;
    let is = clusters.get("shop").await.expect("the Cluster is there");
    assert_eq!(is.status, patched_cluster.status, "its status");
    assert_eq!(cluster_written(stage, before).await, None);
}

/// The version that the Cluster had, and another one that it has now.
async fn cluster_written(
    stage: &Stage,
    before: &BTreeMap<String, String>,
) -> Option<(String, String)> {
    let was = before.get(CLUSTER).cloned().unwrap_or_default();
    let cluster = stage.api::<Cluster>().get("shop").await;
    let is = cluster.expect("the Cluster is there").resource_version();
    let is = is.unwrap_or_default();
    (was != is).then_some((was, is))
}

/// Has the Cluster looked at once more, whatever is written then: twice, since one that had begun already may be the first.
pub(crate) async fn cluster_looked_at_again(stage: &Stage, when: &str) {
    for round in 0..2 {
        let seen = passes(stage).await;
        let touch = format!("touched={}-{round}", when.replace(' ', "-"));
        stage.kubectl(&["annotate", CLUSTER, "--overwrite", &touch]);
        passed(stage, "nobody looked again", |now| {
            now.clusters > seen.clusters
        })
        .await;
    }
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

/// How many passes succeeded, over clusters, topics and groups, by any operator.
#[derive(Default)]
pub(crate) struct Passes {
    clusters: u64,
    topics: u64,
    groups: u64,
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
        // One that is about to start, or has just gone, or is on a node that has, has made none.
        let raw = ["get", "--raw", &path, "--request-timeout=5s"];
        let read = attempt("kubectl", &raw, "");
        let text = String::from_utf8_lossy(&read.stdout).into_owned();
        let count = |kind: &str| -> u64 {
            let series =
                format!("weir_operator_reconciles_total{{kind=\"{kind}\",result=\"success\"}} ");
            let value = text.lines().find_map(|line| line.strip_prefix(&series));
            value.and_then(|value| value.parse().ok()).unwrap_or(0)
        };
        passes.clusters += count("cluster");
        passes.topics += count("topics");
        passes.groups += count("groups");
    }
    passes
}

/// Waits until the cluster and its topics were looked at since.
pub(crate) async fn looked_again(stage: &Stage, since: &Passes) {
    passed(stage, "nobody looked again", |now| {
        now.clusters > since.clusters && now.topics > since.topics
    })
    .await;
}

/// Waits until operators that have just begun have looked at groups so often.
async fn groups_looked_at(stage: &Stage, times: u64) {
    passed(stage, "nobody looked at groups", |now| now.groups >= times).await;
}

async fn passed(stage: &Stage, otherwise: &str, wanted: impl Fn(&Passes) -> bool) {
    let began = Instant::now();
    while !wanted(&passes(stage).await) {
        assert!(
            began.elapsed() < LIMIT,
            "{otherwise} within {} s",
            LIMIT.as_secs()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Prints what each operator has and has used, and judges the memory if told so; on this machine's own cluster they are processes of this machine.
fn measure(is_judged: bool) {
    let listed = run("ps", &["-eo", "rss=,pid=,args="]);
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
        let seconds = cpu_seconds(fields.next().unwrap_or_default());
        println!(
            "  an operator has {} MiB and has used {seconds:.2} s of a core",
            kib >> 10
        );
        assert!(
            !is_judged || kib >> 10 < MEMORY_MAX_MIB,
            "an operator has {} MiB",
            kib >> 10
        );
    }
}

/// What a process has used of a core.
fn cpu_seconds(process: &str) -> f64 {
    /// Of the kernel, for whoever reads it.
    const TICKS_A_SECOND: f64 = 100.0;
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // Fields 14 and 15 (utime and stime); the second, the name in parentheses, may have spaces.
    let behind_name = stat.rsplit_once(')').map_or("", |(_, behind)| behind);
    let fields: Vec<&str> = behind_name.split_whitespace().collect();
    let ticks = |at: usize| -> u32 {
        fields
            .get(at)
            .and_then(|text| text.parse().ok())
            .unwrap_or(0)
    };
    f64::from(ticks(11) + ticks(12)) / TICKS_A_SECOND
}
