//! The operator, installed as people install it, and killed as machines kill it.

use crate::nodes::cluster_of_the_tests;
use crate::shell::{attempt, run};
use crate::watching::until;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use std::fs;
use tokio::sync::{RwLock, RwLockReadGuard};

/// Where it runs.
pub(crate) const NAMESPACE: &str = "weir-system";
/// The Deployment of the release `weir`, which is also the name of the lease.
pub(crate) const DEPLOYMENT: &str = "weir-operator";

/// Installs the chart, or makes sure that it is installed, and waits until two operators are ready.
pub(crate) async fn installed(client: &Client) {
    installed_with(client, &[]).await;
}

/// The same with values of a story's own, for as long as nobody installs it again; those before, which had others, have gone.
pub(crate) async fn installed_with(client: &Client, values: &[&str]) {
    let arguments = [
        "upgrade",
        "--install",
        "weir",
        "charts/weir-operator",
        "--namespace",
        NAMESPACE,
        "--create-namespace",
        // A story may have set some.
        "--reset-values",
    ];
    run("helm", &[&arguments, values].concat());
    run(
        "kubectl",
        &[
            "label",
            "--overwrite",
            "namespace",
            NAMESPACE,
            "pod-security.kubernetes.io/enforce=restricted",
        ],
    );
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    until(
        &deployments,
        DEPLOYMENT,
        "two operators are ready, and no others are there",
        |deployment| {
            deployment.status.as_ref().is_some_and(|status| {
                let count = [
                    status.replicas,
                    status.updated_replicas,
                    status.ready_replicas,
                ];
                count == [Some(2); 3]
                    && status.observed_generation == deployment.metadata.generation
            })
        },
    )
    .await;
}

/// The operators that are there and stay.
pub(crate) async fn all(client: &Client) -> Vec<Pod> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let all = pods.list(&Default::default()).await;
    let mut all = all.expect("pods are listed").items;
    all.retain(|pod| pod.metadata.deletion_timestamp.is_none());
    all
}

/// Waits until one of these leads.
pub(crate) async fn leads_one_of(client: &Client, operators: &[Pod]) {
    let leases: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE);
    until(&leases, DEPLOYMENT, "one of these leads", |lease| {
        holder(lease).is_some_and(|holder| {
            let is_it = |pod: &Pod| holder.starts_with(&pod.name_any());
            operators.iter().any(is_it)
        })
    })
    .await;
}

/// Written by whoever kills an operator.
static KILLS: RwLock<()> = RwLock::const_new(());

/// As long as this is held, no other story kills an operator.
pub(crate) async fn stays() -> RwLockReadGuard<'static, ()> {
    KILLS.read().await
}

/// Who holds the lease.
pub(crate) async fn leader(client: &Client) -> String {
    let leases: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE);
    let lease = until(&leases, DEPLOYMENT, "someone leads", |lease| {
        holder(lease).is_some()
    });
    holder(&lease.await).expect("just seen")
}

/// Waits until somebody else leads.
pub(crate) async fn other_leader(client: &Client, than: &str) -> String {
    let leases: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE);
    let lease = until(&leases, DEPLOYMENT, "another leads", |lease| {
        holder(lease).is_some_and(|now| now != than)
    });
    holder(&lease.await).expect("just seen")
}

fn holder(lease: &Lease) -> Option<String> {
    lease
        .spec
        .as_ref()?
        .holder_identity
        .clone()
        .filter(|holder| !holder.is_empty())
}

/// Kills the operator that leads, in the middle of whatever it does, and says who it was. Its pod goes as well, so that the next one does not wait for
/// Kubernetes to try again.
pub(crate) async fn kill_leader(client: &Client) -> String {
    let _kills = KILLS.write().await;
    let leader = leader(client).await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let all = pods.list(&Default::default()).await;
    let all = all.expect("pods are listed");
    let pod = all
        .iter()
        .find(|pod| leader.starts_with(&pod.name_any()))
        .expect("the leader is a pod");
    // A pod that is deleted lives for a moment longer, in which it might end what it has begun.
    if cluster_of_the_tests().is_some() {
        let processes = processes_of(&pod.uid().unwrap_or_default(), "weir-operator");
        assert!(!processes.is_empty(), "{leader} has a process");
        for process in processes {
            let killed = attempt("kill", &["-KILL", &process], "");
            assert!(killed.status.success(), "kill {process}");
        }
    }
    pods.delete(&pod.name_any(), &DeleteParams::default().grace_period(0))
        .await
        .expect("the pod goes");
    leader
}

/// The same, and its lease is given up, as by one that ends well: whoever waits need not wait until it has run out. Only where the process is certainly
/// gone by then.
pub(crate) async fn kill_leader_and_its_lease(client: &Client) -> String {
    let leader = kill_leader(client).await;
    if cluster_of_the_tests().is_some() {
        let leases: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE);
        let nobody = json!({"spec": {"holderIdentity": "", "leaseDurationSeconds": 1}});
        leases
            .patch(DEPLOYMENT, &PatchParams::default(), &Patch::Merge(nobody))
            .await
            .expect("the lease is there");
    }
    leader
}

/// The processes of this machine that run a program of this name in the pod of this uid.
pub(crate) fn processes_of(uid: &str, program: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").expect("processes are listed");
    let names = processes.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let read = |process: &str, what: &str| {
        fs::read_to_string(format!("/proc/{process}/{what}")).unwrap_or_default()
    };
    names
        .filter(|process| process.bytes().all(|byte| byte.is_ascii_digit()))
        .filter(|process| {
            read(process, "comm").trim_end() == program
                && read(process, "cgroup").contains(&format!("pod{uid}"))
        })
        .collect()
}
