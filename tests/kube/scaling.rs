//! A Cluster is scaled from three brokers to five and back while a producer writes and a group reads: the new brokers take their share, they are emptied
//! before they go, their volumes go with them, and nothing that was acknowledged is missing, doubled or out of order. Meanwhile another broker is emptied,
//! stays, and has its share again; one that is half emptied stays after all, and then goes and comes back to the disk that it left; and the operator is
//! killed after each step of the way back.

use crate::flow::{Flow, PARTITIONS};
use crate::operator;
use crate::stage::{Stage, nobody_goes, restarts};
use crate::watching::{LIMIT, condition, until, until_replaced};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::api::ListParams;
use std::time::Instant;
use weir_crds::{BrokersSummary, Cluster};
use weir_tests::clients::Clients;
use weir_tests::wait;

const SHOP: &str = "clusters.weir.dev/shop";

#[tokio::test]
async fn three_brokers_become_five_and_three_again_under_load_and_nothing_is_lost() {
    let stage = Stage::open("scaling").await;
    stage.apply(
        "apiVersion: weir.dev/v1alpha1\nkind: Cluster\nmetadata:\n  name: shop\n\
         spec:\n  replicas: 3\n  storage:\n    size: 1Gi\n",
    );
    stage.cluster_ready("shop").await;
    stage.topic("shop", "flights", PARTITIONS as u32).await;
    let before = restarts(&stage.brokers("shop").await);
    let clients = stage.clients().await;
    let bootstrap = stage.bootstrap("shop");
    let flow = Flow::begin(&clients, &bootstrap, &[]);
    flow.go_on("nothing has happened yet");

    let began = Instant::now();
    stage.kubectl(&["scale", SHOP, "--replicas=5"]);
    at_rest(&stage, "five brokers share the replicas", 5).await;
    say("three brokers became five", began);
    as_an_autoscaler_sees_it(&stage).await;
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
    stays_after_all(&stage).await;
    say("a broker was to go, and stayed after all", began);
    let began = Instant::now();
    goes_and_comes_back(&stage, &flow, &volumes[1]).await;
    wait::until("it has its share again, and all of it", LIMIT, || {
        let all = clients.describe(&bootstrap, "flights");
        let is_whole = all.len() == PARTITIONS && all.iter().all(|one| one.in_sync == 3);
        (is_whole && leads(&clients, &bootstrap).contains(&4)).then_some(())
    });
    say("a broker went and came back to its disk", began);
    flow.go_on("there are five brokers again");

    let began = Instant::now();
    stage.patch(SHOP, r#"{"spec":{"storage":{"onScaleDown":"Delete"}}}"#);
    stage.kubectl(&["scale", SHOP, "--replicas=3"]);
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

/// What a HorizontalPodAutoscaler reads of a Cluster, before it writes what `kubectl scale` does.
async fn as_an_autoscaler_sees_it(stage: &Stage) {
    let scale = stage.api::<Cluster>().get_scale("shop").await;
    let scale = scale.expect("Clusters have a scale subresource");
    let wanted = scale.spec.and_then(|spec| spec.replicas);
    let status = scale.status.unwrap_or_default();
    let selected = ListParams::default().labels(&status.selector.unwrap_or_default());
    let pods = stage.api::<Pod>().list(&selected).await;
    let pods = pods.expect("pods are listed").items.len();
    assert_eq!((wanted, status.replicas, pods), (Some(5), 5, 5));
}

/// A broker is on its way out, and is wanted again before it has gone: replicas cannot move meanwhile, so that it is still full.
async fn stays_after_all(stage: &Stage) {
    let before = restarts(&stage.brokers("shop").await);
    stage.patch(
        SHOP,
        r#"{"spec":{"config":{"follower.replication.throttled.rate":0}}}"#,
    );
    stage.cluster_settled("shop").await;
    stage.kubectl(&["scale", SHOP, "--replicas=4"]);
    let clusters = stage.api::<Cluster>();
    until(&clusters, "shop", "broker 4 is being emptied", |cluster| {
        let Some(status) = &cluster.status else {
            return false;
        };
        let is_moving = status
            .brokers
            .as_ref()
            .is_some_and(|now| now.draining == [4] && now.moving_partitions > Some(0));
        let says = condition(&status.conditions, "Reconciling").is_some_and(|reconciling| {
            reconciling.reason == "Draining"
                && reconciling.message.contains("broker 4 holds ")
                && reconciling.message.contains("Set spec.replicas back")
        });
        is_moving && says
    })
    .await;
    stage.kubectl(&["scale", SHOP, "--replicas=5"]);
    let stays = |brokers: &BrokersSummary| brokers.draining.is_empty() && brokers.registered == 5;
    seen(stage, "broker 4 stays", stays).await;
    // And still does when everything was looked at once more.
    stage.patch(
        SHOP,
        r#"{"spec":{"config":{"follower.replication.throttled.rate":1}}}"#,
    );
    until(&clusters, "shop", "it was looked at again", |cluster| {
        let status = cluster.status.as_ref();
        status.is_some_and(|status| {
            status.observed_generation == cluster.metadata.generation
                && status.brokers.as_ref().is_some_and(stays)
        })
    })
    .await;
    nobody_goes(&stage.brokers("shop").await, &before, "broker 4 stays");
}

/// A broker goes, its volume stays, and it comes back to it: with metadata as they were when it went, and a name that was forgotten since.
async fn goes_and_comes_back(stage: &Stage, flow: &Flow, (claim, uid): &(&str, String)) {
    let claims = stage.api::<PersistentVolumeClaim>();
    let is_kept = async || {
        let found = claims.get(claim).await.expect("the claim is there");
        assert_eq!(found.uid().as_ref(), Some(uid), "it is the same");
        assert_eq!(found.metadata.deletion_timestamp, None, "it stays");
    };
    stage.patch(SHOP, r#"{"spec":{"replicas":4,"config":null}}"#);
    at_rest(stage, "four brokers have everything", 4).await;
    assert_eq!(stage.brokers("shop").await.len(), 4, "it went");
    is_kept().await;
    flow.go_on("there are four brokers");
    stage.kubectl(&["scale", SHOP, "--replicas=5"]);
    at_rest(stage, "five brokers share the replicas again", 5).await;
    is_kept().await;
}

/// Kills whoever leads the operators as soon as it is seen to have made a step, and waits until another leads: what is done after that is the other's,
/// who knows of the way so far only what is written down. Once nobody leads until the lease has run out: the brokers go on by themselves, so the second
/// finds them drained.
async fn killed_at_every_step(stage: &Stage, flow: &Flow) {
    killed(stage, "it was asked for").await;
    let drains = |brokers: &BrokersSummary| brokers.draining == [3, 4] || brokers.registered < 5;
    seen(stage, "two brokers are being emptied, or have gone", drains).await;
    let leader = operator::kill_leader(&stage.client).await;
    flow.go_on("brokers are emptied, and nobody looks after them");
    followed(stage, &leader, "the drain began").await;
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
    let leader = operator::kill_leader_and_its_lease(&stage.client).await;
    followed(stage, &leader, when).await;
}

/// Waits until another leads than the one that was killed.
async fn followed(stage: &Stage, leader: &str, when: &str) {
    let began = Instant::now();
    operator::other_leader(&stage.client, leader).await;
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

/// Who is to lead partitions of the topic, or of the brokers' own: they are spread together.
fn leads(clients: &Clients, bootstrap: &str) -> Vec<usize> {
    let topics = ["flights", "__consumer_offsets"].into_iter();
    let all = topics.flat_map(|topic| clients.describe(bootstrap, topic));
    all.filter_map(|one| one.preferred).collect()
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
