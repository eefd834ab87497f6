//! Every leaf of the resources' schemas is changed and changed back, in a few batches: in the end the world is what it was, to the last field of the
//! objects that the operator makes, and of topics, groups and configurations as the brokers have them. The values are in `tests/src/leaves.rs`, where a
//! leaf without one fails a test.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, ResourceExt};
use serde_json::{Map, Value, json};
use weir_tests::leaves::{Batch, Kind, kinds};

use crate::shell::attempt;
use crate::stage::Stage;
use crate::watching::LIMIT;

/// What a Cluster is made of.
const MADE: &str =
    "statefulsets.apps,services,configmaps,secrets,serviceaccounts,poddisruptionbudgets.policy";

/// Records of the brokers' metadata that come and go with processes, not with what is wanted.
const OF_PROCESSES: [&str; 5] = [
    "BrokerRegistered",
    "BrokerFenced",
    "BrokerUnfenced",
    "BrokerStopping",
    "ProducerIdsAllocated",
];

const PRIORITY: &str = "apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata:\n  name: weir-leaves\nvalue: 1000\n";

#[tokio::test]
async fn every_leaf_is_changed_and_changed_back_and_the_world_is_what_it_was() {
    let stage = Stage::open("leaves").await;
    stage.apply(PRIORITY);
    let kinds = kinds(env!("CARGO_PKG_VERSION"));
    for (kind, (what, name)) in kinds.iter().zip(NAMED) {
        let manifest = json!({
            "apiVersion": "weir.dev/v1alpha1", "kind": what, "metadata": {"name": name}, "spec": kind.base,
        });
        stage.apply(&manifest.to_string());
    }
    stage.cluster_ready("shop").await;
    stage.topic_ready("orders").await;
    stage.group_ready("packers").await;
    let before = at_rest(&stage).await;

    for (kind, (what, name)) in kinds.iter().zip(NAMED) {
        let resource = Resource::of(&stage, what, name);
        for batch in &kind.batches {
            let began = Instant::now();
            resource.change(batch).await;
            if batch.shows {
                let what = format!("{what}: {} is seen in the world", batch.what);
                until(&stage, &what, |now| *now != before).await;
            }
            resource.settled().await;
            resource.change_back(kind).await;
            resource.settled().await;
            until_back(&stage, &before, &format!("after {what}: {}", batch.what)).await;
            println!(
                "  {what}: {}, and back, in {:.1} s",
                batch.what,
                began.elapsed().as_secs_f64()
            );
        }
    }
    stage.kubectl(&["delete", "priorityclass", "weir-leaves"]);
    stage.close().await;
}

/// In the order of [`kinds`].
const NAMED: [(&str, &str); 3] = [
    ("Cluster", "shop"),
    ("Topic", "orders"),
    ("ConsumerGroup", "packers"),
];

/// One of the resources.
struct Resource {
    api: Api<DynamicObject>,
    name: &'static str,
}

impl Resource {
    fn of(stage: &Stage, kind: &str, name: &'static str) -> Self {
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("weir.dev", "v1alpha1", kind));
        Self {
            api: Api::namespaced_with(stage.client.clone(), &stage.namespace, &kind),
            name,
        }
    }

    async fn change(&self, batch: &Batch) {
        let patch = Patch::Merge(json!({"spec": batch.spec}));
        let how = PatchParams::default();
        if let Err(error) = self.api.patch(self.name, &how, &patch).await {
            panic!("{}: {error}", batch.what);
        }
    }

    async fn change_back(&self, kind: &Kind) {
        let began = Instant::now();
        loop {
            let mut now = self.get().await;
            now.data["spec"] = kind.base.clone();
            match self
                .api
                .replace(self.name, &PostParams::default(), &now)
                .await
            {
                Ok(_) => return,
                // The operator has written its status since.
                Err(kube::Error::Api(status)) if status.code == 409 && began.elapsed() < LIMIT => {}
                Err(error) => panic!("{} is changed back: {error}", self.name),
            }
        }
    }

    /// Waits until the operator has looked at what is wanted, and nothing is on its way.
    async fn settled(&self) {
        let began = Instant::now();
        loop {
            let now = self.get().await;
            let status = &now.data["status"];
            let is_seen = status["observedGeneration"].as_i64() == now.metadata.generation;
            let conditions = status["conditions"].as_array();
            let mut conditions = conditions.into_iter().flatten();
            let moves = conditions.any(|condition| {
                condition["type"] == "Reconciling" && condition["status"] == "True"
            });
            if is_seen && !moves {
                return;
            }
            assert!(
                began.elapsed() < LIMIT,
                "{} is not at rest after {} s: {status:#}",
                self.name,
                LIMIT.as_secs()
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn get(&self) -> DynamicObject {
        self.api.get(self.name).await.expect("it is there")
    }
}

/// Between two looks at the world, each of which is two programs.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// Objects by kind and name, and the brokers' metadata.
type World = BTreeMap<String, Value>;

/// Waits until two looks see the same.
async fn at_rest(stage: &Stage) -> World {
    let mut last = look(stage);
    until(stage, "nothing changes any more", |now| {
        let rests = *now == last;
        last.clone_from(now);
        rests
    })
    .await
}

/// Looks until the world is as wanted, and returns it.
async fn until(stage: &Stage, what: &str, wanted: impl FnMut(&World) -> bool) -> World {
    match within_limit(stage, wanted).await {
        Ok(now) => now,
        Err(_) => panic!("waited {} s in vain: {what}", LIMIT.as_secs()),
    }
}

/// Looks until the world is what it was; fails with the first thing that is not.
async fn until_back(stage: &Stage, before: &World, when: &str) {
    if let Err(now) = within_limit(stage, |now| now == before).await {
        assert_eq!(difference(before, &now), None, "{when}");
    }
}

/// Looks until the world is as wanted; an error is what was seen last.
async fn within_limit(
    stage: &Stage,
    mut wanted: impl FnMut(&World) -> bool,
) -> Result<World, World> {
    let began = Instant::now();
    loop {
        let now = look(stage);
        if wanted(&now) {
            return Ok(now);
        }
        if began.elapsed() > LIMIT {
            return Err(now);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn look(stage: &Stage) -> World {
    let listed = stage.kubectl(&["get", MADE, "--output", "json"]);
    let listed: kube::core::ObjectList<DynamicObject> =
        serde_json::from_str(&listed).expect("kubectl prints JSON");
    let mut world: World = listed.items.into_iter().map(as_made).collect();
    let place = ["kubectl", "--namespace", &stage.namespace, "export", "shop"];
    let operator = weir_tests::given::operator();
    let exported = attempt(operator.to_str().unwrap_or_default(), &place, "");
    // While the only broker is restarted it says nothing: a world that is not as it was.
    let export: Value = serde_json::from_slice(&exported.stdout).unwrap_or_default();
    let records = export["records"].as_array().cloned().unwrap_or_default();
    let own: Vec<String> = records.iter().filter_map(own_topic).collect();
    let lasting = records.into_iter().filter(|record| {
        let mut kinds = record.as_object().into_iter().flat_map(Map::keys);
        let text = record.to_string();
        kinds.all(|kind| !OF_PROCESSES.contains(&kind.as_str()))
            && !own.iter().any(|id| text.contains(id))
    });
    let lasting: Vec<Value> = lasting.map(without_epochs).collect();
    world.insert("the brokers' metadata".into(), lasting.into());
    world
}

/// The id of a topic of the brokers' own, which is made when it is needed first and stays.
fn own_topic(record: &Value) -> Option<String> {
    let topic = &record["TopicCreated"];
    let is_own = topic["name"].as_str()?.starts_with("__");
    is_own.then(|| topic["id"].as_str().map(str::to_owned))?
}

/// All that somebody wrote of an object.
fn as_made(object: DynamicObject) -> (String, Value) {
    let kind = object.types.clone().unwrap_or_default().kind;
    let name = format!("{kind} {}", object.name_any());
    let content = json!({
        "uid": object.metadata.uid,
        "labels": object.metadata.labels,
        "annotations": object.metadata.annotations,
        "owners": object.metadata.owner_references,
        "spec": object.data["spec"],
        "data": object.data["data"],
    });
    (name, content)
}

/// Of a topic's partitions, who has them: each restart of a broker is another epoch.
fn without_epochs(mut record: Value) -> Value {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.retain(|name, _| !name.contains("epoch"));
                fields.values_mut().for_each(strip);
            }
            Value::Array(members) => members.iter_mut().for_each(strip),
            _ => {}
        }
    }
    strip(&mut record);
    record
}

/// The first thing that is not what it was, as it was and as it is.
fn difference<'w>(before: &'w World, now: &'w World) -> Option<(&'w str, &'w Value, &'w Value)> {
    let names = before.keys().chain(now.keys());
    let mut differ = names.filter(|name| before.get(*name) != now.get(*name));
    let name = differ.next()?;
    let of = |world: &'w World| world.get(name).unwrap_or(&Value::Null);
    Some((name, of(before), of(now)))
}
