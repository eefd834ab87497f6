//! A Cluster is scaled from three brokers to five and back while a producer writes and a group reads: the new brokers take their share, they are emptied
//! before they go, their volumes go with them, and nothing that was acknowledged is missing, doubled or out of order. Meanwhile another broker is emptied,
//! stays, and has its share again; and the operator is killed after each step of the way back.

use crate::flow::{Flow, PARTITIONS};
use crate::operator;
use crate::stage::{Stage, restarts};
use crate::watching::{condition, until, until_replaced};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;
use std::time::Instant;
use weir_crds::{BrokersSummary, Cluster};
use weir_tests::clients::Clients;

#[tokio::test]
async fn three_brokers_become_five_and_three_again_under_load_and_nothing_is_lost() {
    let stage = Stage::open("scaling").await;
    stage.apply(
        "apiVersion: weir.dev/v1alpha1\nkind: Cluster\nmetadata:\n  name: shop\n\
         spec:\n  replicas: 3\n  storage:\n    size: 1Gi\n    onScaleDown: Delete\n",
    );
    stage.cluster_ready("shop").await;
    stage.topic("shop", "flights", PARTITIONS as u32).await;
    let before = restarts(&stage.brokers("shop").await);
    let clients = stage.clients().await;
    let bootstrap = stage.bootstrap("shop");
    let flow = Flow::begin(&clients, &bootstrap, &[]);
    flow.go_on("nothing has happened yet");

    let began = Instant::now();
    stage.kubectl(&["scale", "clusters.weir.dev/shop", "--replicas=5"]);
    at_rest(&stage, "five brokers share the replicas", 5).await;
    say("three brokers became five", began);
    let claims = stage.api::<PersistentVolumeClaim>();
    let mut volumes = Vec::new();
    for name in ["data-shop-broker-3", "data-shop-broker-4"] {
        let claim = claims.get(name).await;
        let claim = claim.expect("the new broker has a volume");
        volumes.push((name, claim.uid().unwrap_or_default()));
    }

    let began = Instant::now();
    let told = stage.weir(&["drain", "shop", "1"], "");
    assert!(told.contains("kubectl weir uncordon shop 1"), "{told}");
    emptied(&stage, &clients, &bootstrap).await;
    stage.weir(&["uncordon", "shop", "1"], "");
    at_rest(&stage, "it has its share again", 5).await;
    assert!(leads(&clients, &bootstrap).contains(&1), "it leads again");
    say(
        "a broker was emptied, stayed and had its share again",
        began,
    );
    flow.go_on("there are five brokers");

    let began = Instant::now();
    stage.kubectl(&["scale", "clusters.weir.dev/shop", "--replicas=3"]);
    killed_at_every_step(&stage, &flow).await;
    at_rest(&stage, "three brokers have everything", 3).await;
    for (name, uid) in volumes {
        until_replaced(&claims, name, &uid).await;
    }
    say(
        "five brokers became three, with four operators killed",
        began,
    );

    flow.go_on("there are three brokers");
    flow.end(&clients, &bootstrap);
    assert_eq!(
        restarts(&stage.brokers("shop").await),
        before,
        "nobody else was restarted"
    );
    stage.cluster_ready("shop").await;
    stage.close().await;
}

fn say(what: &str, began: Instant) {
    println!("  {what} in {:.1} s", began.elapsed().as_secs_f64());
}

/// Kills whoever leads the operators as soon as it is seen to have made a step, and waits until another leads: what is done after that is the other's,
/// who knows of the way so far only what is written down. While nobody leads the brokers go on by themselves, so the second finds them drained.
async fn killed_at_every_step(stage: &Stage, flow: &Flow) {
    killed(stage, "it was asked for").await;
    let drains = |brokers: &BrokersSummary| brokers.draining == [3, 4] || brokers.registered < 5;
    seen(stage, "two brokers are being emptied, or have gone", drains).await;
    killed(stage, "the drain began").await;
    flow.go_on("brokers are emptied, and nobody looks after them");
    let sets = stage.api::<StatefulSet>();
    until(&sets, "shop-broker", "the set is smaller", |set| {
        let wanted = set.spec.as_ref().and_then(|spec| spec.replicas);
        wanted.is_some_and(|wanted| wanted < 5)
    })
    .await;
    killed(stage, "the set was made smaller").await;
    let forgotten = |brokers: &BrokersSummary| brokers.registered < 5;
    seen(stage, "a broker is forgotten", forgotten).await;
    killed(stage, "a broker was forgotten").await;
}

async fn killed(stage: &Stage, when: &str) {
    let leader = operator::kill_leader(&stage.client).await;
    let began = Instant::now();
    operator::other_leader(&stage.client, &leader).await;
    println!(
        "  the operator was killed after {when}; another led after {:.1} s",
        began.elapsed().as_secs_f64()
    );
}

/// Waits until so many brokers are registered and alive, and nothing is on its way any more.
async fn at_rest(stage: &Stage, what: &str, brokers: i32) {
    until(&stage.api::<Cluster>(), "shop", what, |cluster| {
        let Some(status) = &cluster.status else {
            return false;
        };
        let rests = condition(&status.conditions, "Reconciling")
            .is_some_and(|reconciling| reconciling.status == "False");
        let is_there = status.brokers.as_ref().is_some_and(|now| {
            (now.registered, now.alive) == (brokers, brokers)
                && now.moving_partitions == Some(0)
                && now.offline_partitions == Some(0)
                && now.draining.is_empty()
        });
        rests
            && is_there
            && status.ready_replicas == Some(brokers)
            && status.observed_generation == cluster.metadata.generation
    })
    .await;
}

/// Waits until broker 1 holds nothing, is there still, and does not vote.
async fn emptied(stage: &Stage, clients: &Clients, bootstrap: &str) {
    until(
        &stage.api::<Cluster>(),
        "shop",
        "broker 1 is emptied",
        |cluster| {
            let Some(status) = &cluster.status else {
                return false;
            };
            let rests = condition(&status.conditions, "Reconciling")
                .is_some_and(|reconciling| reconciling.status == "False");
            let is_so = status.brokers.as_ref().is_some_and(|now| {
                (now.registered, now.alive) == (5, 5)
                    && now.draining == [1]
                    && now.moving_partitions == Some(0)
            });
            rests && is_so && status.ready_replicas == Some(5)
        },
    )
    .await;
    assert!(!leads(clients, bootstrap).contains(&1), "it leads nothing");
}

/// Who is to lead partitions of the topic.
fn leads(clients: &Clients, bootstrap: &str) -> Vec<usize> {
    let all = clients.describe(bootstrap, "flights");
    all.iter().filter_map(|one| one.preferred).collect()
}

/// Waits until the brokers say so of themselves.
async fn seen(stage: &Stage, what: &str, wanted: impl Fn(&BrokersSummary) -> bool) {
    until(&stage.api::<Cluster>(), "shop", what, |cluster| {
        let brokers = cluster
            .status
            .as_ref()
            .and_then(|status| status.brokers.as_ref());
        brokers.is_some_and(&wanted)
    })
    .await;
}
