//! What a ConsumerGroup asks for is done while consumers live: offsets are reset once, consumption is paused and goes on, and the consumers' Deployment
//! follows the lag from none to four and back to none. And what a person does with `kubectl weir` comes about as said.

use crate::operator;
use crate::shell::run;
use crate::stage::{Stage, nobody_goes, restarts};
use crate::watching::{LIMIT, condition, until};
use k8s_openapi::api::apps::v1::Deployment;
use std::process::Child;
use std::sync::mpsc::Receiver;
use std::time::Instant;
use weir_crds::{BEGIN_CONFIG, Cluster, ClusterStatus, ConsumerGroup, ConsumerGroupStatus};
use weir_tests::clients::Clients;
use weir_tests::flights;
use weir_tests::members::lines_of;

/// Messages at first, and those that come while the group is paused.
const FIRST: usize = 1_200;
const LATER: usize = 120;

/// How often members commit: after each message, so that who is given a partition reads none again, and the lag goes to 0.
const EACH: &str = "1";

#[tokio::test]
async fn offsets_are_reset_and_a_group_is_paused_under_live_consumers() {
    let stage = Stage::open("groups").await;
    stage.cluster("shop", 3).await;
    let clients = stage.clients().await;
    for protocol in ["classic", "consumer"] {
        let topic = format!("flights-{protocol}");
        stage.topic("shop", &topic, 6).await;
        let group = Group {
            name: format!("readers-{protocol}"),
            topic,
        };
        reset_and_pause(&stage, &clients, &group, protocol).await;
        println!("  a group of the {protocol} protocol was reset and paused");
    }
    a_share_group_begins(&stage, &clients).await;
    a_person_looks(&stage);
    a_person_restarts_brokers(&stage).await;
    stage.cluster_ready("shop").await;
    stage.close().await;
}

/// A ConsumerGroup and the topic that it reads.
struct Group {
    name: String,
    topic: String,
}

impl Group {
    fn apply(&self, stage: &Stage, more: &str) {
        let Self { name, topic } = self;
        stage.apply(&format!(
            "apiVersion: weir.dev/v1alpha1\nkind: ConsumerGroup\nmetadata:\n  name: {name}\n\
             spec:\n  clusterRef:\n    name: shop\n  topics: [{topic}]\n{more}"
        ));
    }

    /// Waits until the status is as wanted.
    async fn until(
        &self,
        stage: &Stage,
        what: &str,
        wanted: impl Fn(&ConsumerGroupStatus) -> bool,
    ) -> ConsumerGroupStatus {
        let groups = stage.api::<ConsumerGroup>();
        let found = until(&groups, &self.name, what, |group| {
            group.status.as_ref().is_some_and(&wanted)
        });
        found.await.status.unwrap_or_default()
    }

    async fn lag_is(&self, stage: &Stage, records: usize) {
        let records = i64::try_from(records).expect("a few messages");
        self.until(stage, &format!("a lag of {records}"), |status| {
            status
                .lag
                .as_ref()
                .is_some_and(|lag| lag.records == records)
        })
        .await;
    }
}

fn holds(status: &ConsumerGroupStatus, kind: &str, is: &str, reason: &str) -> bool {
    condition(&status.conditions, kind)
        .is_some_and(|condition| condition.status == is && condition.reason == reason)
}

async fn reset_and_pause(stage: &Stage, clients: &Clients, group: &Group, protocol: &str) {
    let bootstrap = stage.bootstrap("shop");
    let all = flights::all();
    clients.produce(&bootstrap, &group.topic, &all[..FIRST]);
    group.apply(stage, "");
    let mut readers = Readers::start(clients, &bootstrap, group, protocol);
    readers.got(FIRST);
    group.lag_is(stage, 0).await;

    let reset = |dry_run: bool| {
        format!("  reset:\n    requestId: again\n    to: Earliest\n    dryRun: {dry_run}\n")
    };
    group.apply(stage, &reset(true));
    let status = group
        .until(stage, "the dry run", |status| {
            holds(status, "ResetDone", "False", "DryRun")
        })
        .await;
    let would = status.last_reset.expect("what would change");
    assert_eq!(would.partitions_reset, Some(6));
    assert!(would.partitions.iter().all(|one| one.to == Some(0)));
    group.lag_is(stage, 0).await;
    readers.got_nothing();

    group.apply(stage, &reset(false));
    let is_done = |status: &ConsumerGroupStatus| holds(status, "ResetDone", "True", "Done");
    let status = group.until(stage, "the reset", is_done).await;
    let last = status.last_reset.expect("what was changed");
    assert_eq!(last.fenced_members, Some(2), "{last:?}");
    // Everything once more, and only once.
    readers.got(FIRST);
    group.lag_is(stage, 0).await;

    // The same reset stays in the spec while other things change.
    group.apply(stage, &format!("{}  paused: true\n", reset(false)));
    group
        .until(stage, "paused", |status| {
            holds(status, "Paused", "True", "Paused")
        })
        .await;
    clients.produce(&bootstrap, &group.topic, &all[FIRST..FIRST + LATER]);
    group.lag_is(stage, LATER).await;
    let status = group.until(stage, "members stay", |status| {
        status.members == Some(2) && status.consumption.as_deref() == Some("Paused")
    });
    status.await;
    readers.got_nothing();

    group.apply(stage, &reset(false));
    group
        .until(stage, "it goes on", |status| {
            status.consumption.as_deref() == Some("Running") && !status.paused
        })
        .await;
    readers.got(LATER);
    group.lag_is(stage, 0).await;
    let again = group.until(stage, "the reset is still done", is_done).await;
    assert_eq!(again.last_reset.and_then(|last| last.time), last.time);

    if protocol != "classic" {
        return;
    }
    let before = run("date", &["--utc", "+%Y-%m-%dT%H:%M:%S.%3NZ"]);
    clients.produce(&bootstrap, &group.topic, &all[..LATER]);
    readers.got(LATER);
    group.lag_is(stage, 0).await;
    let since = ["--timestamp", before.trim()];
    let seen = put_back(stage, group, &mut readers, "time", &since).await;
    assert_eq!(seen, LATER, "what came since then");
    put_back(stage, group, &mut readers, "shift", &["--shift", "-10"]).await;
    let offset = ["--offset", "3", "--topic", &group.topic, "--partition", "0"];
    put_back(stage, group, &mut readers, "offset", &offset).await;
}

/// A person has a group put back by `kubectl weir reset-offsets`, which first says what would change. Returns how many messages came once more: just
/// as many as it said.
async fn put_back(
    stage: &Stage,
    group: &Group,
    readers: &mut Readers,
    id: &str,
    to: &[&str],
) -> usize {
    let words = [&["reset-offsets", &group.name, "--request-id", id], to].concat();
    let told = stage.weir(&words, "");
    assert!(
        told.contains("dry run") && told.contains("--execute"),
        "{told}"
    );
    readers.got_nothing();
    let of_this = |status: &ConsumerGroupStatus| {
        let last = status.last_reset.as_ref();
        last.is_some_and(|last| last.request_id == id && last.dry_run)
    };
    let status = group.until(stage, "what would change", of_this).await;
    let would = status.last_reset.expect("just seen").partitions;
    let back = |from: Option<i64>, to: Option<i64>| Some(from? - to?);
    let count: i64 = would.iter().filter_map(|one| back(one.from, one.to)).sum();
    let count = usize::try_from(count).expect("it is put back");
    assert!(count > 0, "{would:?}");

    let told = stage.weir(&[words, vec!["--execute"]].concat(), "");
    assert!(told.contains("members fenced"), "{told}");
    readers.got(count);
    group.lag_is(stage, 0).await;
    readers.got_nothing();
    count
}

/// Where a share group begins is its configuration at the brokers, as long as a resource says so.
async fn a_share_group_begins(stage: &Stage, clients: &Clients) {
    let group = Group {
        name: "sharers".to_owned(),
        topic: "flights-classic".to_owned(),
    };
    let bootstrap = stage.bootstrap("shop");
    let begins = || clients.config(&bootstrap, "group:sharers", BEGIN_CONFIG);
    let default = begins();
    group.apply(stage, "  begin:\n    to: Earliest\n    shareGroup: true\n");
    group
        .until(stage, "it begins as declared", |status| {
            holds(status, "Begun", "True", "Configured") && status.begin_configured
        })
        .await;
    assert_eq!(
        (default.as_str(), begins().as_str()),
        ("latest", "earliest")
    );
    group.apply(stage, "");
    group
        .until(stage, "nobody says where it begins", |status| {
            !status.begin_configured
        })
        .await;
    assert_eq!(begins(), default);
    stage.kubectl(&["delete", "consumergroup.weir.dev", "sharers"]);
    println!("  a share group was to begin at the earliest message, and then where it would have");
}

/// What there is to see, and a message there and back.
fn a_person_looks(stage: &Stage) {
    let says = |words: &[&str], parts: &[&str]| {
        let told = stage.weir(words, "");
        for part in parts {
            assert!(
                told.contains(part),
                "{part} in what {words:?} says:\n{told}"
            );
        }
    };
    says(
        &["status", "shop"],
        &[
            "Cluster shop: 3 of 3 brokers ready",
            "Ready is True (BrokersReady)",
            "Topics: 2 of 2 ready",
            "ConsumerGroups: 2 of 2 ready",
        ],
    );
    says(&["plan"], &["Cluster shop: nothing to do"]);
    says(&["lag", "readers-classic"], &["flights-classic"]);
    says(
        &["lag", "--cluster", "shop"],
        &["readers-classic", "readers-consumer"],
    );
    let topic = "flights-consumer";
    let message = "what a person wrote";
    stage.weir(&["produce", "shop", topic], &format!("{message}\n"));
    says(
        &[
            "consume",
            "shop",
            topic,
            "--from",
            "beginning",
            "--until-end",
        ],
        &[message],
    );
}

/// While a Cluster is paused, its plan says what would be done, and that is all.
async fn a_person_restarts_brokers(stage: &Stage) {
    let before = restarts(&stage.brokers("shop").await);
    let pause = |paused: bool| {
        let patch = format!(r#"{{"spec":{{"paused":{paused}}}}}"#);
        stage.patch("clusters.weir.dev/shop", &patch);
    };
    pause(true);
    let told = stage.weir(&["restart", "shop"], "");
    assert!(told.contains("one at a time"), "{told}");
    let is_planned = |status: &ClusterStatus| {
        let plan = status.plan.as_ref();
        plan.is_some_and(|plan| {
            let mut steps = plan.steps.iter();
            steps.any(|step| step.action == "RestartBroker")
                && plan.blocked.iter().any(|held| held.gate == "Paused")
        })
    };
    seen(stage, "it says what it would do", is_planned).await;
    let told = stage.weir(&["plan", "shop"], "");
    for part in ["RestartBroker broker", "held by Paused"] {
        assert!(told.contains(part), "{part} in {told}");
    }
    // And does not, however often it looks.
    let again = r#"{"spec":{"pod":{"annotations":{"looked":"again"}}}}"#;
    stage.patch("clusters.weir.dev/shop", again);
    seen(stage, "it has looked again", is_planned).await;
    nobody_goes(&stage.brokers("shop").await, &before, "it is paused");

    pause(false);
    stage.cluster_settled("shop").await;
    let after = restarts(&stage.brokers("shop").await);
    for (one, was) in after.iter().zip(&before) {
        assert!(one.0 == was.0 && one.1 != was.1, "{one:?} is another pod");
    }
    println!(
        "  brokers were restarted as a person asked, when the Cluster was not paused any more"
    );
}

/// Waits until the Cluster's status of the newest generation says so.
async fn seen(stage: &Stage, what: &str, wanted: impl Fn(&ClusterStatus) -> bool) {
    until(&stage.api::<Cluster>(), "shop", what, |cluster| {
        let status = cluster.status.as_ref();
        status.is_some_and(|status| {
            status.observed_generation == cluster.metadata.generation && wanted(status)
        })
    })
    .await;
}

/// Two members in one process, and what they say.
struct Readers {
    child: Child,
    lines: Receiver<Vec<u8>>,
}

impl Readers {
    fn start(clients: &Clients, bootstrap: &str, group: &Group, protocol: &str) -> Self {
        let mut script = clients.script("members.py");
        script.args([bootstrap, &group.topic, &group.name, "2", EACH]);
        if protocol == "consumer" {
            script.arg("group.protocol=consumer");
        }
        let (child, lines) = lines_of(&mut script);
        Self { child, lines }
    }

    /// Waits for so many messages.
    fn got(&mut self, count: usize) {
        let start = Instant::now();
        let mut seen = 0;
        while seen < count {
            let left = LIMIT.saturating_sub(start.elapsed());
            match self.lines.recv_timeout(left) {
                Ok(line) => seen += usize::from(is_message(&line)),
                Err(error) => panic!("{seen} messages of {count}: {error}"),
            }
        }
    }

    /// Of what was said until now nothing is a message.
    fn got_nothing(&mut self) {
        for line in self.lines.try_iter() {
            let text = String::from_utf8_lossy(&line).into_owned();
            assert!(!is_message(&line), "{text}");
        }
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_message(line: &[u8]) -> bool {
    let mut words = line.split(|byte| *byte == b' ');
    words.nth(1) == Some(b"got")
}

#[tokio::test]
async fn consumers_follow_the_lag_from_none_to_four_and_back() {
    let stage = Stage::open("lag").await;
    stage.cluster("shop", 3).await;
    stage.topic("shop", "flights", 6).await;
    let clients = stage.clients().await;
    let bootstrap = stage.bootstrap("shop");
    let group = Group {
        name: "readers".to_owned(),
        topic: "flights".to_owned(),
    };
    stage.apply(&consumers(&bootstrap));
    // The group begins at the beginning before anybody is in it, so that its lag is known.
    let spec = |begin: &str| {
        format!(
            "  begin:\n    to: {begin}\n  scale:\n    deployment: readers\n    maxReplicas: 4\n    lagPerReplica: 200\n    \
             scaleDownStabilizationSeconds: 10\n"
        )
    };
    group.apply(&stage, &spec("Earliest"));
    group
        .until(&stage, "it has begun", |status| {
            holds(status, "Begun", "True", "HasOffsets")
        })
        .await;
    let status = group
        .until(&stage, "it is not permitted yet", |status| {
            holds(status, "Scaling", "False", "NotPermitted")
        })
        .await;
    let scaling = condition(&status.conditions, "Scaling").expect("a condition");
    assert!(scaling.message.contains("scaleConsumers.namespaces"));
    permit(&stage);
    group
        .until(&stage, "nobody is needed", |status| {
            holds(status, "Scaling", "True", "AtWanted")
                && status.scale.as_ref().and_then(|scale| scale.replicas) == Some(0)
        })
        .await;

    clients.produce(&bootstrap, "flights", &flights::all()[..FIRST]);
    replicas(&stage, "four consumers", 4).await;
    group.lag_is(&stage, 0).await;
    replicas(&stage, "none again", 0).await;
    group
        .until(&stage, "the status says so", |status| {
            status
                .scale
                .as_ref()
                .is_some_and(|scale| scale.replicas == Some(0) && scale.last_scale_time.is_some())
        })
        .await;

    stage.apply(AUTOSCALER);
    clients.produce(&bootstrap, "flights", &flights::all()[..FIRST]);
    group
        .until(&stage, "somebody else scales it", |status| {
            holds(status, "Scaling", "False", "OwnedByAutoscaler")
                && status.lag.as_ref().is_some_and(|lag| lag.records > 0)
        })
        .await;

    // It has no members, waits for messages, and has begun long ago.
    group.lag_is(&stage, FIRST).await;
    group.apply(&stage, &spec("Latest"));
    let groups = stage.api::<ConsumerGroup>();
    until(&groups, "readers", "what changed was looked at", |group| {
        let status = group.status.as_ref();
        status.is_some_and(|status| {
            status.observed_generation == group.metadata.generation
                && holds(status, "Begun", "True", "HasOffsets")
        })
    })
    .await;
    group.lag_is(&stage, FIRST).await;
    stage.close().await;
}

/// The operator may scale Deployments in the story's namespace.
fn permit(stage: &Stage) {
    let namespaces = format!("scaleConsumers.namespaces={{{}}}", stage.namespace);
    run(
        "helm",
        &[
            "upgrade",
            "weir",
            "charts/weir-operator",
            "--namespace",
            operator::NAMESPACE,
            "--reuse-values",
            "--set",
            &namespaces,
        ],
    );
}

async fn replicas(stage: &Stage, what: &str, count: i32) {
    until(&stage.api::<Deployment>(), "readers", what, |deployment| {
        let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas);
        let status = deployment.status.as_ref();
        let are = status.and_then(|status| status.replicas).unwrap_or(0);
        wanted == Some(count) && are == count
    })
    .await;
}

const AUTOSCALER: &str = "\
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: readers
spec:
  minReplicas: 1
  maxReplicas: 3
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: readers
  metrics:
    - type: Resource
      resource:
        name: cpu
        target:
          type: Utilization
          averageUtilization: 80
";

/// A Deployment of kcat, which reads as a member of the group and throws away what it reads.
fn consumers(bootstrap: &str) -> String {
    format!(
        "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: readers
spec:
  replicas: 0
  selector:
    matchLabels:
      app: readers
  template:
    metadata:
      labels:
        app: readers
    spec:
      terminationGracePeriodSeconds: 10
      automountServiceAccountToken: false
      securityContext:
        runAsNonRoot: true
        seccompProfile:
          type: RuntimeDefault
      containers:
        - name: kcat
          image: weir-test-clients:1
          imagePullPolicy: IfNotPresent
          command: [kcat, -q, -b, \"{bootstrap}\", -X, session.timeout.ms=6000, -f, \"\", -G, readers, flights]
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities:
              drop: [ALL]
"
    )
}
