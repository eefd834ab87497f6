//! The brokers' disruption budget follows what brokers say of each other, also when no pod changes: it is closed as soon as one of them is not heard any
//! more though its pod is ready, and open again when it is back.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use crate::nodes::cluster_of_the_tests;
use crate::operator::{self, processes_of};
use crate::shell::run;
use crate::stage::{Stage, pod_is_ready, restarts};
use crate::watching::until;

/// The port by which brokers and the operator reach a broker. Kubernetes asks another one whether it is ready.
const INTERNAL: &str = "9094";

/// How long closing may take: half of the time after which the operator looks at a cluster that says nothing.
const SECONDS: Duration = Duration::from_secs(30);

/// One of three brokers that are well is deaf to the others and to the operator for a while.
pub(crate) async fn follow_what_brokers_say(stage: &Stage) {
    if cluster_of_the_tests().is_none() {
        println!("  left out: from here the network of pods is not reached");
        return;
    }
    // Another operator would look at everything as soon as it leads.
    let _stays = operator::stays().await;
    lets_go(stage, 1, "all brokers are well").await;
    let before = restarts(&stage.brokers("shop").await);
    // Since it is looked at now, it is not looked at again for a minute unless something is told.
    let touch = "clusters.weir.dev/shop";
    stage.kubectl(&["annotate", touch, "--overwrite", "touched=now"]);

    // Not the one that the operator asks first: if it is asking now, it is answered that all is well.
    let pod = stage.api::<Pod>().get("shop-broker-1").await;
    let began = Instant::now();
    let deaf = Deaf::make(&pod.expect("a broker has a pod"));
    lets_go(stage, 0, "a broker is not heard any more").await;
    let closed = began.elapsed();
    let pods = stage.brokers("shop").await;
    assert!(pods.iter().all(pod_is_ready), "no pod has changed");
    assert!(closed < SECONDS, "{closed:?}: nobody told the operator");
    drop(deaf);
    lets_go(stage, 1, "it is back").await;
    println!(
        "  a broker was deaf: evictions were held after {:.1} s, and {:.1} s until it was back",
        closed.as_secs_f64(),
        began.elapsed().as_secs_f64()
    );
    assert_eq!(
        restarts(&stage.brokers("shop").await),
        before,
        "nobody was restarted"
    );
}

/// Waits until the budget lets so many brokers go.
async fn lets_go(stage: &Stage, brokers: i32, when: &str) {
    let budgets = stage.api::<PodDisruptionBudget>();
    let what = format!("{when}: evictions of {brokers}");
    until(&budgets, "shop-broker", &what, |budget| {
        let spec = budget.spec.as_ref();
        spec.and_then(|spec| spec.max_unavailable.as_ref()) == Some(&IntOrString::Int(brokers))
    })
    .await;
}

/// A pod that nothing reaches by the brokers' port, and that reaches nobody by it. Until dropped.
struct Deaf {
    process: String,
}

impl Deaf {
    fn make(pod: &Pod) -> Self {
        let uid = pod.uid().unwrap_or_default();
        let process = processes_of(&uid, "weir-broker").pop();
        let process = process.expect("the broker runs on this machine");
        let deaf = Self { process };
        deaf.rules("--insert");
        deaf
    }

    /// What comes by that port, asked and answered.
    fn rules(&self, what: &str) {
        for port in ["--dport", "--sport"] {
            let network = ["--target", &self.process, "--net", "iptables", "--wait"];
            let rule = [what, "INPUT", "-p", "tcp", port, INTERNAL, "-j", "DROP"];
            run("nsenter", &[&network[..], &rule].concat());
        }
    }
}

impl Drop for Deaf {
    fn drop(&mut self) {
        self.rules("--delete");
    }
}
