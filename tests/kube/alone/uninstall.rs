//! Uninstalling the operator takes nothing else along, and installed again it goes on where it was.

use crate::shell::run;
use crate::stage::Stage;
use crate::{operator, watching};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, ResourceExt};
use weir_crds::Cluster;
use weir_tests::flights;
use weir_tests::log;

#[tokio::test]
async fn uninstalling_the_operator_leaves_brokers_serving_and_definitions_in_place() {
    let stage = Stage::open_alone("uninstall").await;
    stage.cluster("shop", 1).await;
    stage.topic("shop", "flights", 3).await;
    let clients = stage.clients().await;
    let bootstrap = stage.bootstrap("shop");
    let some = &flights::all()[..2_000];
    clients.produce(&bootstrap, "flights", &some[..1_000]);

    let operators: Api<Pod> = Api::namespaced(stage.client.clone(), operator::NAMESPACE);
    run(
        "helm",
        &[
            "uninstall",
            "weir",
            "--namespace",
            operator::NAMESPACE,
            "--wait",
        ],
    );
    for pod in operators
        .list(&Default::default())
        .await
        .expect("pods are listed")
    {
        watching::until_replaced(&operators, &pod.name_any(), &pod.uid().unwrap_or_default()).await;
    }

    let definitions: Api<CustomResourceDefinition> = Api::all(stage.client.clone());
    for name in [
        "clusters.weir.dev",
        "topics.weir.dev",
        "consumergroups.weir.dev",
    ] {
        assert!(
            definitions
                .get_opt(name)
                .await
                .expect("an answer")
                .is_some(),
            "{name} is there"
        );
    }
    assert!(
        stage
            .api::<Cluster>()
            .get_opt("shop")
            .await
            .expect("an answer")
            .is_some(),
        "the Cluster is there"
    );
    clients.produce(&bootstrap, "flights", &some[1_000..]);
    log::holds_exactly(&clients.read_log(&bootstrap, "flights"), some)
        .unwrap_or_else(|wrong| panic!("{wrong}"));

    // Installed again, it goes on where it was.
    let pods = crate::stage::restarts(&stage.brokers("shop").await);
    operator::installed(&stage.client).await;
    stage.topic("shop", "trains", 2).await;
    assert_eq!(
        crate::stage::restarts(&stage.brokers("shop").await),
        pods,
        "no broker was restarted"
    );
    stage.close().await;
}
