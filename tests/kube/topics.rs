//! The life of topics under load: one is made, grows, has more replicas and fewer, is configured, and is let go of with its data kept; what somebody else
//! changes is changed back or told, as its resource says; of two resources for one topic the older counts, then the other; and one is deleted with its data.
//! What brokers have for all topics changes while they run.

use std::time::Instant;

use weir_crds::{Topic, TopicStatus};
use weir_tests::clients::Clients;
use weir_tests::{flights, log, wait};

use crate::flow::{Flow, MORE, PARTITIONS};
use crate::stage::{Stage, restarts};
use crate::watching::{LIMIT, condition, until, until_replaced};

/// As many partitions as the topic gets.
const MORE_PARTITIONS: usize = 18;

/// Clients hear of partitions that are new when they ask again, every five minutes by default.
const SOON: &str = "topic.metadata.refresh.interval.ms=1000";

/// What their resources say of the topics, and somebody else's word, in milliseconds.
const WEEK: &str = "604800000";
const DAY: &str = "86400000";
const HOUR: &str = "3600000";

/// Nobody makes a topic by asking for it.
const SHOP: &str = "\
apiVersion: weir.dev/v1alpha1
kind: Cluster
metadata:
  name: shop
spec:
  replicas: 3
  storage:
    size: 1Gi
  config:
    auto.create.topics.enable: 'false'
";

#[tokio::test]
async fn topics_are_made_grown_replicated_configured_repaired_shared_and_deleted_under_load() {
    let stage = Stage::open("topics").await;
    stage.apply(SHOP);
    stage.cluster_ready("shop").await;
    let clients = stage.clients().await;
    let life = Life {
        bootstrap: stage.bootstrap("shop"),
        stage,
        clients,
    };
    life.made("flights", PARTITIONS, 1, WEEK, "driftPolicy: Repair")
        .await;
    let flow = Flow::begin_with(&life.clients, &life.bootstrap, &[SOON], &[SOON]);
    flow.go_on("the topic was made");

    life.grows(&flow).await;
    for replicas in [3, 2] {
        life.has_replicas(&flow, replicas).await;
    }
    life.drifts(&flow).await;
    life.is_shared().await;
    life.has_defaults(&flow).await;

    // With its resource goes nothing of the topic.
    life.stage
        .kubectl(&["delete", "topic.weir.dev", "flights", "--wait"]);
    flow.go_on("nobody looks after the topic any more");
    flow.end(&life.clients, &life.bootstrap);
    assert_eq!(
        life.config("flights", "retention.ms"),
        DAY,
        "it stays as it was"
    );
    life.stage.cluster_ready("shop").await;
    life.stage.close().await;
}

struct Life {
    stage: Stage,
    clients: Clients,
    bootstrap: String,
}

impl Life {
    /// Applies a resource for a topic of its own name, and waits until it is so.
    async fn made(
        &self,
        name: &str,
        partitions: usize,
        replicas: usize,
        retention: &str,
        more: &str,
    ) -> TopicStatus {
        self.stage.apply(&format!(
            "apiVersion: weir.dev/v1alpha1\nkind: Topic\nmetadata:\n  name: {name}\n\
             spec:\n  clusterRef:\n    name: shop\n  partitions: {partitions}\n  replicationFactor: {replicas}\n\
             \x20 config:\n    retention.ms: {retention}\n  {more}\n"
        ));
        let topic = self.stage.topic_ready(name).await;
        let status = topic.status.unwrap_or_default();
        let is = (status.partitions, status.replication_factor);
        let number = |number| i32::try_from(number).ok();
        assert_eq!(is, (number(partitions), number(replicas)), "{name}");
        assert_eq!(self.config(name, "retention.ms"), retention, "{name}");
        status
    }

    async fn grows(&self, flow: &Flow) {
        let mark = flow.load.mark();
        self.made("flights", MORE_PARTITIONS, 1, WEEK, "driftPolicy: Repair")
            .await;
        flow.load.wait_for(
            &mark,
            MORE,
            MORE_PARTITIONS,
            LIMIT,
            "the topic has more partitions",
        );
        wait::until("the group reads all of them", LIMIT, || {
            (flow.readers.owned() == MORE_PARTITIONS).then_some(())
        });
        println!("  {PARTITIONS} partitions became {MORE_PARTITIONS}");
    }

    async fn has_replicas(&self, flow: &Flow, replicas: usize) {
        let began = Instant::now();
        self.made(
            "flights",
            MORE_PARTITIONS,
            replicas,
            WEEK,
            "driftPolicy: Repair",
        )
        .await;
        wait::until("all replicas are in sync", LIMIT, || {
            let all = self.clients.describe(&self.bootstrap, "flights");
            let is_so = |one: &weir_tests::clients::Partition| {
                (one.replicas, one.in_sync) == (replicas, replicas)
            };
            (all.len() == MORE_PARTITIONS && all.iter().all(is_so)).then_some(())
        });
        flow.go_on("the topic has another number of replicas");
        println!(
            "  each partition has {replicas} replicas after {:.1} s",
            began.elapsed().as_secs_f64()
        );
    }

    /// Somebody configures two topics with a Kafka client: that of one resource is changed back, of the other told, until it is itself changed.
    async fn drifts(&self, flow: &Flow) {
        let report = "driftPolicy: Report";
        self.made("ledger", 3, 3, WEEK, report).await;
        for topic in ["flights", "ledger"] {
            self.set(topic, "retention.ms", HOUR);
        }
        let began = Instant::now();
        // Told when it is looked at; so it is with what is changed back.
        let ledger = self
            .seen("ledger", "the change is told", |status| {
                is(status, "Drifted", "True", "ChangedBySomebodyElse")
            })
            .await;
        let told = condition(&ledger.conditions, "Drifted").map(|told| told.message.as_str());
        for part in ["retention.ms", HOUR, WEEK, "spec.driftPolicy is Report"] {
            assert!(told.is_some_and(|told| told.contains(part)), "{told:?}");
        }
        assert!(is(&ledger, "Ready", "False", "Drifted"));
        wait::until("the other is changed back", LIMIT, || {
            (self.config("flights", "retention.ms") == WEEK).then_some(())
        });
        println!(
            "  what somebody else changed was changed back, or told, within {:.1} s",
            began.elapsed().as_secs_f64()
        );
        assert_eq!(self.config("ledger", "retention.ms"), HOUR, "only told");

        // What the resource itself asks for is done whatever its policy is.
        self.made("ledger", 3, 3, DAY, report).await;
        self.made("flights", MORE_PARTITIONS, 2, DAY, "driftPolicy: Repair")
            .await;
        flow.go_on("the topic is configured");
    }

    /// A second resource for a topic has nothing to say, until the first one goes; then it is deleted together with the topic.
    async fn is_shared(&self) {
        let some = &flights::all()[..100];
        self.clients.produce(&self.bootstrap, "ledger", some);
        let before = self.stage.topic_ready("ledger").await;
        let id = before.status.and_then(|status| status.topic_id);
        self.stage.apply(
            "apiVersion: weir.dev/v1alpha1\nkind: Topic\nmetadata:\n  name: ledger-too\n\
             spec:\n  clusterRef:\n    name: shop\n  topicName: ledger\n  partitions: 4\n  deletionPolicy: Delete\n",
        );
        self.seen("ledger-too", "the older one counts", |status| {
            is(status, "Ready", "False", "Conflict") && is(status, "Stalled", "True", "Conflict")
        })
        .await;
        let older = self.stage.topic_ready("ledger").await;
        let partitions = older.status.and_then(|status| status.partitions);
        assert_eq!(partitions, Some(3), "nobody has grown it");

        self.stage
            .kubectl(&["delete", "topic.weir.dev", "ledger", "--wait"]);
        let heir = self.stage.topic_ready("ledger-too").await;
        let status = heir.status.clone().unwrap_or_default();
        assert_eq!((status.topic_id, status.partitions), (id, Some(4)));
        let kept = self.clients.read_log(&self.bootstrap, "ledger");
        log::holds_exactly(&kept, some).unwrap_or_else(|wrong| panic!("{wrong}"));

        let topics = self.stage.api::<Topic>();
        self.stage
            .kubectl(&["delete", "topic.weir.dev", "ledger-too", "--wait=false"]);
        let uid = heir.metadata.uid.unwrap_or_default();
        until_replaced(&topics, "ledger-too", &uid).await;
        let left = self.clients.partitions(&self.bootstrap, "ledger");
        assert_eq!(left, 0, "it is gone before its resource is");
        println!("  the younger resource of a topic took over, and took it along");
    }

    /// What the Cluster says for topics that say nothing themselves: brokers are told, and none is restarted for it.
    async fn has_defaults(&self, flow: &Flow) {
        let before = restarts(&self.stage.brokers("shop").await);
        let more = format!("{SHOP}    num.partitions: 5\n    log.retention.ms: {DAY}\n");
        self.stage.apply(&more);
        self.stage.cluster_settled("shop").await;
        self.stage.apply(
            "apiVersion: weir.dev/v1alpha1\nkind: Topic\nmetadata:\n  name: plain\n\
             spec:\n  clusterRef:\n    name: shop\n",
        );
        let plain = self.stage.topic_ready("plain").await;
        let partitions = plain.status.and_then(|status| status.partitions);
        assert_eq!(partitions, Some(5));
        assert_eq!(self.config("plain", "retention.ms"), DAY);
        self.stage.apply(SHOP);
        self.stage.cluster_settled("shop").await;
        assert_eq!(self.config("plain", "retention.ms"), WEEK, "Kafka's own");
        flow.go_on("brokers were told what they have for topics");
        let after = restarts(&self.stage.brokers("shop").await);
        assert_eq!(after, before, "nobody was restarted");
        println!("  brokers were told of other defaults, and that there are none, while they ran");
    }

    async fn seen(
        &self,
        name: &str,
        what: &str,
        wanted: impl Fn(&TopicStatus) -> bool,
    ) -> TopicStatus {
        let topics = self.stage.api::<Topic>();
        let found = until(&topics, name, what, |topic| {
            topic.status.as_ref().is_some_and(&wanted)
        });
        found.await.status.unwrap_or_default()
    }

    /// What a Kafka client is told of a topic's configuration.
    fn config(&self, topic: &str, name: &str) -> String {
        self.clients.config(&self.bootstrap, topic, name)
    }

    /// A Kafka client configures a topic.
    fn set(&self, topic: &str, name: &str, value: &str) {
        let word = format!("{name}={value}");
        let said = self.clients.config(&self.bootstrap, topic, &word);
        assert_eq!(said, "");
    }
}

fn is(status: &TopicStatus, kind: &str, is: &str, reason: &str) -> bool {
    condition(&status.conditions, kind)
        .is_some_and(|condition| condition.status == is && condition.reason == reason)
}
