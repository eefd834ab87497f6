//! The operator, installed as people install it.

use crate::shell::run;
use crate::watching::until;
use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, Client};

/// Where it runs.
pub(crate) const NAMESPACE: &str = "weir-system";
/// The Deployment of the release `weir`, which is also the name of the lease.
pub(crate) const DEPLOYMENT: &str = "weir-operator";

/// Installs the chart, or makes sure that it is installed, and waits until two operators are ready.
pub(crate) async fn installed(client: &Client) {
    run(
        "helm",
        &[
            "upgrade",
            "--install",
            "weir",
            "charts/weir-operator",
            "--namespace",
            NAMESPACE,
            "--create-namespace",
            // A story may have set some.
            "--reset-values",
        ],
    );
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
        "two operators are ready",
        |deployment| {
            let status = deployment.status.as_ref();
            status.and_then(|status| status.ready_replicas) == Some(2)
                && status.and_then(|status| status.observed_generation)
                    == deployment.metadata.generation
        },
    )
    .await;
}
