//! A real Prometheus with the rules that the chart installs, which looks at brokers and operators as the chart has it look: an alert fires when a broker
//! is killed and does not come back, and ends when it does.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use weir_tests::cluster::network::command_within;
use weir_tests::{broker, given, wait};

use crate::nodes::cluster_of_the_tests;
use crate::operator;
use crate::shell::run;
use crate::stage::{Stage, skipped};
use crate::watching::LIMIT;

/// Where it listens, in the network of the API server, from where pods are reached.
const ADDRESS: &str = "127.0.0.1:9490";

#[tokio::test]
async fn an_alert_fires_while_a_broker_is_away_and_ends_when_it_is_back() {
    let Some(network) = cluster_of_the_tests() else {
        skipped(
            "alerts",
            "from here the pods of this cluster are not reached",
        );
        return;
    };
    let stage = Stage::open_alone("alerts").await;
    stage.cluster("shop", 3).await;
    let folder = tempfile::tempdir().expect("a folder");
    let prometheus = Prometheus::start(network, folder.path(), &targets(&stage).await);
    prometheus.waits_for("it sees three brokers", r#"max(weir_live_brokers{cluster="shop"}) == 3 and max(weir_operator_brokers_wanted{cluster="shop"}) == 3"#);
    prometheus.waits_until("nothing is wrong", |firing| firing.is_empty());

    let victim = stage.brokers("shop").await.swap_remove(2);
    let cordon = Cordon::all();
    let began = Instant::now();
    let kill = [
        "delete",
        "pod",
        &victim.name_any(),
        "--grace-period=0",
        "--force",
    ];
    stage.kubectl(&kill);
    let firing = prometheus.waits_until("WeirBrokerDown fires", |firing| {
        firing
            .iter()
            .any(|alert| is_of_shop(alert, "WeirBrokerDown"))
    });
    println!(
        "  WeirBrokerDown after {:.1} s, of which a tenth of the time that the rule waits",
        began.elapsed().as_secs_f64()
    );
    let alert = firing
        .iter()
        .find(|alert| is_of_shop(alert, "WeirBrokerDown"));
    let annotations = &alert.expect("just seen")["annotations"];
    assert_eq!(annotations["summary"], "1 brokers of shop are down");

    drop(cordon);
    let began = Instant::now();
    stage
        .pod_ready(&victim.name_any(), &victim.uid().unwrap_or_default())
        .await;
    stage.cluster_ready("shop").await;
    fs::write(folder.path().join("targets.json"), targets(&stage).await).expect("written");
    prometheus.waits_until("nothing is wrong any more", |firing| firing.is_empty());
    println!(
        "  resolved {:.1} s after it might come back",
        began.elapsed().as_secs_f64()
    );
    drop(prometheus);
    stage.close().await;
}

fn is_of_shop(alert: &Value, name: &str) -> bool {
    alert["labels"]["alertname"] == name && alert["labels"]["cluster"] == "shop"
}

/// No node takes a pod, until dropped.
struct Cordon;

impl Cordon {
    fn all() -> Self {
        run("kubectl", &["cordon", "--selector", "kubernetes.io/os"]);
        Self
    }
}

impl Drop for Cordon {
    fn drop(&mut self) {
        run("kubectl", &["uncordon", "--selector", "kubernetes.io/os"]);
    }
}

/// A Prometheus, until dropped.
struct Prometheus {
    process: Child,
    network: String,
}

impl Prometheus {
    fn start(network: String, folder: &Path, targets: &str) -> Self {
        let write = |name: &str, text: &str| {
            fs::write(folder.join(name), text).expect("written");
        };
        write("rules.yaml", &rules());
        write("targets.json", targets);
        write("prometheus.yaml", CONFIGURATION);
        let mut prometheus = broker::mortal(&given::prometheus());
        prometheus
            .arg("--config.file=prometheus.yaml")
            .arg("--storage.tsdb.path=data")
            .arg(format!("--web.listen-address={ADDRESS}"))
            .arg("--log.level=warn")
            .current_dir(folder)
            .stdin(Stdio::null());
        let process = command_within(&network, &prometheus).spawn();
        Self {
            process: process.expect("Prometheus starts"),
            network,
        }
    }

    /// Alerts that fire; `None` while it does not answer.
    fn firing(&self) -> Option<Vec<Value>> {
        let answer = self.get("alerts", "")?;
        let alerts = answer["data"]["alerts"].as_array()?.clone();
        let is_firing = |alert: &Value| alert["state"] == "firing";
        Some(alerts.into_iter().filter(is_firing).collect())
    }

    fn waits_until(&self, what: &str, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let mut last = Vec::new();
        let found = wait::poll(LIMIT, || {
            last = self.firing()?;
            wanted(&last).then(|| last.clone())
        });
        found.unwrap_or_else(|| panic!("waited {} s in vain: {what}; {last:?}", LIMIT.as_secs()))
    }

    fn waits_for(&self, what: &str, expression: &str) {
        wait::until(what, LIMIT, || {
            let answer = self.get("query", expression)?;
            let found = answer["data"]["result"].as_array()?;
            (!found.is_empty()).then_some(())
        });
    }

    fn get(&self, what: &str, query: &str) -> Option<Value> {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--get", "--data-urlencode"])
            .arg(format!("query={query}"))
            .arg(format!("http://{ADDRESS}/api/v1/{what}"));
        let answer = command_within(&self.network, &curl).output().ok()?;
        serde_json::from_slice(&answer.stdout).ok()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The chart's, each of which waits for a tenth of its time: how long they wait promtool has tried.
fn rules() -> String {
    let file = given::root().join("charts/weir-operator/files/alerts.yaml");
    let rules = fs::read_to_string(file).expect("the chart has rules");
    let sooner = |line: &str| match line.split_once("for: ") {
        Some((before, time)) => {
            let (count, unit) = time.split_at(time.len() - 1);
            let seconds = match unit {
                "m" => 6,
                "h" => 360,
                _ => panic!("{line}"),
            };
            let count: u32 = count.parse().expect("a whole number of minutes or hours");
            format!("{before}for: {}s\n", count * seconds)
        }
        None => format!("{line}\n"),
    };
    rules.lines().map(sooner).collect()
}

/// Prometheus of Debian knows no Kubernetes: whom to look at lies in a file, with the labels that the chart's PodMonitor and ServiceMonitor give.
const CONFIGURATION: &str = "\
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
rule_files: [rules.yaml]
scrape_configs:
  - job_name: weir
    honor_labels: true
    file_sd_configs: [{files: [targets.json], refresh_interval: 1s}]
";

/// Brokers and operators as they are now, those that have an address.
async fn targets(stage: &Stage) -> String {
    let operators: Api<Pod> = Api::namespaced(stage.client.clone(), operator::NAMESPACE);
    let operators = operators.list(&Default::default()).await;
    let operators = operators.expect("operators are listed").items;
    let of = |pod: &Pod, labels: Value| {
        let address = pod.status.as_ref()?.pod_ip.as_ref()?;
        Some(json!({"targets": [format!("{address}:9600")], "labels": labels}))
    };
    let brokers = stage.brokers("shop").await;
    let brokers = brokers.iter().filter_map(|pod| {
        let labels =
            json!({"namespace": stage.namespace, "cluster": "shop", "pod": pod.name_any()});
        of(pod, labels)
    });
    let operators = operators
        .iter()
        .filter_map(|pod| of(pod, json!({"pod": pod.name_any()})));
    Value::from_iter(brokers.chain(operators)).to_string()
}
