//! Two operators, of which one acts. When it goes, the other takes over.

use crate::operator;
use crate::stage::Stage;
use crate::watching::until;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use kube::{Api, ResourceExt};
use std::time::Instant;

#[tokio::test]
async fn when_the_leading_operator_goes_the_other_takes_over() {
    let stage = Stage::open_alone("leader").await;
    stage.cluster("shop", 1).await;
    stage.topic("shop", "before", 1).await;

    let leases: Api<Lease> = Api::namespaced(stage.client.clone(), operator::NAMESPACE);
    let pods: Api<Pod> = Api::namespaced(stage.client.clone(), operator::NAMESPACE);
    let leader = holder(
        &until(&leases, operator::DEPLOYMENT, "someone leads", |lease| {
            holder(lease).is_some()
        })
        .await,
    )
    .expect("just seen");
    let others: Vec<String> = pods
        .list(&Default::default())
        .await
        .expect("pods are listed")
        .iter()
        .map(ResourceExt::name_any)
        .collect();
    let killed = others
        .iter()
        .find(|pod| leader.starts_with(pod.as_str()))
        .expect("the leader is a pod");

    let began = Instant::now();
    pods.delete(killed, &DeleteParams::default().grace_period(0))
        .await
        .expect("the pod goes");
    let next = until(&leases, operator::DEPLOYMENT, "another leads", |lease| {
        holder(lease).is_some_and(|now| now != leader)
    });
    let next = holder(&next.await).expect("just seen");
    println!(
        "  {next} took over from {leader} after {:.1} s",
        began.elapsed().as_secs_f64()
    );

    stage.topic("shop", "after", 1).await;
    operator::installed(&stage.client).await;
    stage.close().await;
}

fn holder(lease: &Lease) -> Option<String> {
    lease
        .spec
        .as_ref()?
        .holder_identity
        .clone()
        .filter(|holder| !holder.is_empty())
}
