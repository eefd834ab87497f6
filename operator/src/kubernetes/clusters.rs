//! One pass over one Cluster: observe, decide, act ([`steps`]), status.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::api::Api;
use kube::runtime::events::EventType;
use kube::{Resource, ResourceExt};
use tokio::time::Instant;

use super::apply;
use super::by_name::{self, DecideError};
use super::context::Context;
use super::disks::Asked;
use super::metrics::Metrics;
use super::observe::{self, Observed};
use super::patience::Patience;
use super::queue::Next;
use crate::admin;
use crate::decide::cluster::{Decision, Extent, World};
use crate::decide::{certificates, gates, heal, listeners, scale, volumes};
use crate::status::{self, cluster::Outcome};
use crate::validate::Cluster;
use crate::world::{Key, Look};

mod steps;

use steps::{act, grow_volumes};

/// Clusters worked on at the same time: each waits mostly for the API server.
const CONCURRENCY: usize = 8;
/// Drift that no watch reports is found this soon.
const AT_REST: Duration = Duration::from_secs(60);
/// While something goes on that takes minutes and is not watched: volumes that grow, an upgrade that has to stay healthy for a while, replicas that catch up.
const FOR_OTHERS: Duration = Duration::from_secs(10);

/// How often it is looked again, a second apart, while no controller is known: an election takes as long, and is no news for anybody.
const ELECTION_LOOKS: u32 = 2;

/// Works on the queue until dropped.
pub(super) async fn work(context: &Arc<Context>) {
    context
        .clusters
        .work(
            CONCURRENCY,
            |key| {
                let context = Arc::clone(context);
                async move {
                    let began = Instant::now();
                    let result = pass(&context, &key).await;
                    context
                        .metrics
                        .pass("cluster", &key, began.elapsed(), is_well(&result));
                    result.unwrap_or_else(|error| {
                        tracing::warn!(cluster = %key, %error, "a pass over a cluster failed");
                        Next::Failed
                    })
                }
            },
            |key| context.metrics.panicked("cluster", key),
        )
        .await;
}

/// Whether a pass did all that it was to do.
fn is_well(result: &Result<Next, DecideError>) -> bool {
    matches!(result, Ok(Next::WhenAdded | Next::After(_)))
}

async fn pass(context: &Context, key: &Key) -> Result<Next, DecideError> {
    let api: Api<weir_crds::Cluster> = Api::namespaced(context.client.clone(), &key.namespace);
    let Some(resource) = api.get_opt(&key.name).await? else {
        context.close(key);
        context.metrics.forget_cluster(key, &gate_names());
        return Ok(Next::WhenAdded);
    };
    if resource.metadata.deletion_timestamp.is_some() {
        return Ok(Next::WhenAdded);
    }
    let cluster = match Cluster::validate(&resource, &context.defaults) {
        Ok(cluster) => cluster,
        Err(invalid) => {
            report(context, &resource, &Outcome::Invalid(&invalid)).await?;
            let refused = [status::cluster::refused(&invalid)];
            context.metrics.blocked(key, &gate_names(), &refused);
            return keep_up(context, &resource, key).await;
        }
    };
    context.remember_valid(key, &cluster);
    let mut observed = match observe::cluster(&context.client, key, &cluster.uid).await {
        Ok(observed) => observed,
        Err(error) => {
            report(context, &resource, &Outcome::Unread(apply::plain(&error))).await?;
            return Err(error.into());
        }
    };
    let (mut decision, unseen) = look_and_decide(context, key, &cluster, &mut observed).await?;
    context.remember(key, decision.healthy);
    let (grown, extent) = if cluster.paused {
        (Ok(()), Extent::Paused)
    } else {
        let grown = grow_volumes(context, &resource, key, &mut decision).await;
        (grown, Extent::All)
    };
    let acted = act(context, &resource, &cluster, &observed, &decision, extent).await;
    let failed = grown.and(acted).err();
    context
        .metrics
        .blocked(key, &gate_names(), &decision.plan.blocked);

    let outcome = Outcome::Decided {
        cluster: &cluster,
        world: &observed.world,
        decision: &decision,
        failed: failed.clone(),
        unseen,
    };
    let reported = report(context, &resource, &outcome).await?;
    let world = &observed.world;
    measure(&context.metrics, &cluster, world, &decision);
    if !reported.tells_of_brokers {
        context.metrics.unseen(key);
    }
    if reported.now_ready {
        context.topics.add(key.clone());
        context.groups.add(key.clone());
    }
    Ok(match failed {
        Some(_) => Next::Failed,
        None if cluster.paused => Next::After(for_evictions(&decision)),
        None => Next::After(again(&context.patience, key, &observed.world, &decision)),
    })
}

/// Sets what is measured of a cluster.
fn measure(metrics: &Metrics, cluster: &Cluster, world: &World, decision: &Decision) {
    metrics.cluster(&cluster.key, decision.brokers, world.look.as_ref());
    let first_end = certificates::first_end_s(cluster, &certificates::held(cluster, world).0);
    metrics.certificates(&cluster.key, first_end);
}

/// Looks at everything that is decided on, and decides; returns why no broker answered, too.
async fn look_and_decide(
    context: &Context,
    key: &Key,
    cluster: &Cluster,
    observed: &mut Observed,
) -> Result<(Decision, Option<String>), DecideError> {
    let unseen = look(context, key, observed).await;
    look_at_disks(context, key, cluster, observed).await;
    observe::hosts(&context.client, cluster, observed).await;
    observe::brought(&context.client, cluster, observed).await?;
    observed.world.healthy = context.healthy(key);
    let decision = by_name::decide(&context.client, cluster, &mut observed.world).await?;
    Ok((decision, unseen))
}

/// What goes on while the spec cannot be carried out, by the last one that could be. A process that has seen none has nothing to go by.
async fn keep_up(
    context: &Context,
    resource: &weir_crds::Cluster,
    key: &Key,
) -> Result<Next, DecideError> {
    let Some(last) = context.last_valid(key) else {
        context.metrics.unseen(key);
        return Ok(Next::WhenAdded);
    };
    let extent = if last.paused {
        Extent::Paused
    } else {
        Extent::Invalid
    };
    // Nothing else of it comes about.
    let cluster = Cluster {
        paused: true,
        ..last
    };
    let mut observed = observe::cluster(&context.client, key, &cluster.uid).await?;
    let (decision, _) = look_and_decide(context, key, &cluster, &mut observed).await?;
    let acted = act(context, resource, &cluster, &observed, &decision, extent).await;
    measure(&context.metrics, &cluster, &observed.world, &decision);
    if observed.world.look.is_none() {
        context.metrics.unseen(key);
    }
    Ok(match acted {
        Ok(()) => Next::After(for_evictions(&decision)),
        Err(error) => {
            tracing::warn!(cluster = %key, error, "a step failed of a cluster whose spec cannot be carried out");
            Next::Failed
        }
    })
}

/// How soon a cluster is looked at again. Pods report themselves; what brokers say is asked.
fn again(patience: &Patience, key: &Key, world: &World, decision: &Decision) -> Duration {
    if !is_at_rest(world, decision) {
        let blocked = decision.plan.blocked.iter().map(|blocked| blocked.gate);
        let gates: Vec<&str> = blocked.collect();
        let seen = (
            &world.look,
            (&world.processes, &world.homes, &world.claims),
            (gates, decision.brokers, &decision.outdated),
        );
        return patience.after(key, &seen, !decision.plan.steps.is_empty());
    }
    patience.forget(key);
    if waits_for_others(world, decision) {
        FOR_OTHERS
    } else {
        AT_REST
    }
}

/// When a cluster is looked at again of which no more is kept than what goes on anyhow: whoever drains a node waits for its budget.
fn for_evictions(decision: &Decision) -> Duration {
    if decision.evictions_held {
        FOR_OTHERS
    } else {
        AT_REST
    }
}

/// Asks the brokers; returns why none answered.
async fn look(context: &Context, key: &Key, observed: &mut Observed) -> Option<String> {
    if observed.way.addresses.is_empty() {
        return Some("there are no broker pods yet".to_owned());
    }
    let door = context.door(key, observed.way.clone()).await;
    let mut answer = door.lock().await.1.look().await;
    for _ in 0..ELECTION_LOOKS {
        let look = answer.as_ref().ok();
        if !look.is_some_and(|look| may_be_electing(&observed.world, look)) {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        answer = door.lock().await.1.look().await;
    }
    match answer {
        Ok(look) => {
            context.listen(key, &observed.way, &look);
            observed.world.look = Some(look);
            None
        }
        Err(error) => Some(error.to_string()),
    }
}

/// Whether it is only for a moment that no controller is known. Where a broker is away nobody takes the cluster for well, and what comes of that does
/// not wait.
fn may_be_electing(world: &World, look: &Look) -> bool {
    let mut pods = world.processes.values();
    !look.is_confirmed() && pods.all(|pod| pod.ready && !pod.leaving)
}

/// Finds out what each broker says of its disk, if what is done depends on it.
async fn look_at_disks(context: &Context, key: &Key, cluster: &Cluster, observed: &mut Observed) {
    let Some(policy) = &cluster.storage.auto_grow else {
        context.disks.forget(key);
        return;
    };
    if observed.world.look.is_none() {
        return;
    }
    // Not by the door: whoever else asks this cluster does not wait for a broker that is away.
    let asked = Asked::of(policy, &observed.world.claims);
    let ask = admin::disks(&observed.way);
    observed.world.disks = context.disks.of(key, asked, ask).await;
}

fn is_at_rest(world: &World, decision: &Decision) -> bool {
    let ready = world.ready(decision.brokers);
    let look = world.look.as_ref();
    let alive = look.map_or(0, |look| look.alive(decision.brokers));
    let size = decision.brokers as usize;
    let mut blocked = decision.plan.blocked.iter();
    let is_moving = blocked.any(|blocked| matches!(blocked.gate, heal::HEALING | scale::DRAINING | scale::SPREAD_WAITS))
        || world.look.as_ref().is_some_and(|look| look.rebalancing)
        // One that has been removed is about to be forgotten.
        || world.look.as_ref().is_some_and(|look| look.brokers.len() > size);
    decision.plan.steps.is_empty()
        && decision.outdated.is_empty()
        && !is_moving
        && world.look.as_ref().is_some_and(Look::is_confirmed)
        && ready >= size
        && alive >= size
}

fn waits_for_others(world: &World, decision: &Decision) -> bool {
    let mut blocked = decision.plan.blocked.iter();
    // Status counts partitions that move, also when those that were begun last are all that is left of a spread.
    let is_moving = |look: &Look| look.moving_partitions > 0;
    // Whoever drains a node waits until partitions can spare its broker.
    decision.evictions_held
        || world.look.as_ref().is_some_and(is_moving)
        || blocked.any(|blocked| {
            blocked.gate == volumes::RESIZING
                || blocked.gate == listeners::ADDRESS_MISSING
                || gates::UPGRADE.iter().any(|gate| gate.name == blocked.gate)
        })
}

/// What a status says.
struct Reported {
    /// The cluster has just become ready.
    now_ready: bool,
    /// What brokers said is still told.
    tells_of_brokers: bool,
}

/// Writes status if it changed, and tells what is new in it.
async fn report(
    context: &Context,
    resource: &weir_crds::Cluster,
    outcome: &Outcome<'_>,
) -> Result<Reported, kube::Error> {
    let previous = resource.status.clone().unwrap_or_default();
    let status = status::cluster::status(
        &previous,
        resource.metadata.generation,
        outcome,
        Timestamp::now(),
    );
    let key = Key::new(
        resource.namespace().unwrap_or_default(),
        resource.name_any(),
    );
    let is_ready = status::holds(&status.conditions, "Ready") == Some(true);
    context.metrics.ready(&key, is_ready);
    let tells_of_brokers = status.brokers.is_some();
    if status == previous {
        return Ok(Reported {
            now_ready: false,
            tells_of_brokers,
        });
    }
    apply::status::<weir_crds::Cluster, _>(&context.client, &key, &status).await?;
    let about = resource.object_ref(&());
    if let Some(stalled) = status::newly(&previous.conditions, &status.conditions, "Stalled") {
        context
            .tell(
                &about,
                EventType::Warning,
                "Reconcile",
                &stalled.reason,
                stalled.message.clone(),
            )
            .await;
    }
    let ready = status::newly(&previous.conditions, &status.conditions, "Ready");
    if let Some(ready) = ready {
        context
            .tell(
                &about,
                EventType::Normal,
                "Reconcile",
                "Ready",
                ready.message.clone(),
            )
            .await;
    }
    Ok(Reported {
        now_ready: ready.is_some(),
        tells_of_brokers,
    })
}

/// Every gate that may hold something of a cluster.
fn gate_names() -> Vec<&'static str> {
    gates::of_a_cluster().collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use serde_json::json;

    use super::{
        AT_REST, Context, Next, Patience, World, again, is_at_rest, may_be_electing, pass,
        waits_for_others,
    };
    use crate::decide::cluster::{Step, decide};
    use crate::testing::api::Api;
    use crate::testing::{cluster, converged, resource};
    use crate::world::BrokerId;

    #[tokio::test]
    async fn a_new_cluster_takes_nothing_over_that_is_somebody_elses() {
        let of = |kind: &str, name: &str| match kind {
            "statefulsets" => format!("/apis/apps/v1/namespaces/market/{kind}/{name}"),
            "clusters" => format!("/apis/weir.dev/v1alpha1/namespaces/market/{kind}/{name}"),
            _ => format!("/api/v1/namespaces/market/{kind}/{name}"),
        };
        let (api, key) = (Api::default(), cluster().key);
        let context = Context::of(api.client());
        context.lease.acquire().await;
        api.put(
            &of("clusters", "shop"),
            serde_json::to_value(resource()).unwrap(),
        );
        for name in ["shop-config", "shop-ca-cert"] {
            let theirs = json!({"metadata": {"name": name}, "data": {"theirs": "1"}});
            api.put(&of("configmaps", name), theirs);
        }
        let taken = ["shop-ca-cert", "shop-config"].map(|name| api.at(&of("configmaps", name)));
        for _ in 0..2 {
            pass(&context, &key).await.unwrap();
            let now = ["shop-ca-cert", "shop-config"].map(|name| api.at(&of("configmaps", name)));
            assert_eq!(now, taken);
            assert_eq!(api.at(&of("statefulsets", "shop-broker")), None);
        }
        // What has a name of its own is there, and nothing was taken from anybody for it.
        assert!(api.at(&of("services", "shop-brokers")).is_some());
        assert!(api.at(&of("secrets", "shop-broker-tls")).is_some());
        assert_eq!(api.forced(), 0);
        let status = &api.at(&of("clusters", "shop")).unwrap()["status"];
        let conditions = status["conditions"].as_array().unwrap();
        let says = conditions.iter().find(|one| one["type"] == "Stalled");
        assert_eq!(says.unwrap()["reason"], "NameTaken");

        // Labelled so they are its own after all.
        for name in ["shop-config", "shop-ca-cert"] {
            let ours = json!({"metadata": {"name": name, "labels": {"weir.dev/cluster": "shop"}}});
            api.put(&of("configmaps", name), ours);
        }
        pass(&context, &key).await.unwrap();
        assert!(api.at(&of("statefulsets", "shop-broker")).is_some());
        assert_eq!(api.forced(), 2, "of what was there");
    }

    #[tokio::test]
    async fn a_spec_that_cannot_be_carried_out_is_measured_and_so_are_certificates() {
        const CLUSTER: &str = "/apis/weir.dev/v1alpha1/namespaces/market/clusters/shop";
        let (api, key) = (Api::default(), cluster().key);
        let context = Context::of(api.client());
        let put = |change: fn(&mut weir_crds::ClusterSpec)| {
            let mut resource = resource();
            change(&mut resource.spec);
            api.put(CLUSTER, serde_json::to_value(resource).unwrap());
        };
        let measured = |text: &str| {
            let all = String::from_utf8(context.metrics.text()).unwrap();
            all.lines().any(|line| line.starts_with(text))
        };
        let gate = |gate: &str| {
            format!(
                "weir_operator_blocked{{cluster=\"shop\",gate=\"{gate}\",namespace=\"market\"}} 1"
            )
        };
        put(|spec| spec.paused = true);
        assert!(matches!(pass(&context, &key).await, Ok(Next::After(_))));
        assert!(measured(&gate("Paused")));
        assert!(!measured("weir_operator_certificate_expiry"));

        // Secrets that come, and a cluster that was ready.
        let secrets = converged(&cluster()).objects.into_iter();
        for ((_, name), secret) in secrets.filter(|((kind, _), _)| kind == "Secret") {
            api.put(&format!("/api/v1/namespaces/market/secrets/{name}"), secret);
        }
        context.metrics.ready(&key, true);
        put(|spec| {
            spec.paused = true;
            (spec.image, spec.version) = (Some("one".into()), Some("two".into()));
        });
        assert!(matches!(pass(&context, &key).await, Ok(Next::After(_))));
        assert!(measured(&gate("InvalidSpec")) && !measured(&gate("Paused")));
        assert!(measured(
            "weir_operator_cluster_ready{cluster=\"shop\",namespace=\"market\"} 0"
        ));
        assert!(measured("weir_operator_certificate_expiry"));

        put(|spec| spec.paused = true);
        assert!(matches!(pass(&context, &key).await, Ok(Next::After(_))));
        assert!(measured(&gate("Paused")) && !measured(&gate("InvalidSpec")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_stays_away_is_not_asked_about_all_the_time() {
        let patience = Patience::default();
        let wait = |world: &World| {
            let decision = decide(&cluster(), world).unwrap();
            again(&patience, &cluster().key, world, &decision)
        };
        let mut world = converged(&cluster());
        assert_eq!(wait(&world), AT_REST);
        let alive = |world: &mut World, is: bool| {
            let look = world.look.as_mut().unwrap();
            look.brokers.get_mut(&BrokerId(2)).unwrap().alive = is;
            // Whoever drains a node is told, and that is all there is to do.
            for step in decide(&cluster(), world).unwrap().plan.steps {
                let Step::Apply { child, .. } = step else {
                    panic!("{step:?}");
                };
                let at = (child.resource.kind, child.name);
                world.objects.insert(at, child.content);
            }
        };
        alive(&mut world, false);
        let mut waits = Vec::new();
        for pass in 0..8 {
            if pass == 6 {
                // Something goes on.
                let look = world.look.as_mut().unwrap();
                look.brokers.get_mut(&BrokerId(1)).unwrap().out_of_sync = 3;
            }
            // Time alone is no change.
            world.now_s += 5;
            let wait = wait(&world);
            waits.push(wait.as_secs());
            tokio::time::sleep(wait).await;
        }
        assert_eq!(waits, [2, 2, 4, 8, 16, 30, 2, 2]);
        alive(&mut world, true);
        assert_eq!(wait(&world), AT_REST);
        alive(&mut world, false);
        assert_eq!(wait(&world).as_secs(), 2, "it is another time");
    }

    #[test]
    fn an_election_is_waited_for_where_all_seems_well_and_nowhere_else() {
        let mut world = converged(&cluster());
        let mut look = world.look.clone().unwrap();
        assert!(!may_be_electing(&world, &look));
        look.controller = None;
        assert!(may_be_electing(&world, &look));
        world.processes.get_mut(&BrokerId(1)).unwrap().ready = false;
        assert!(!may_be_electing(&world, &look));
    }

    #[test]
    fn a_cluster_without_a_controller_is_looked_at_again_soon() {
        let mut world = converged(&cluster());
        let rests = |world: &World| is_at_rest(world, &decide(&cluster(), world).unwrap());
        assert!(rests(&world));
        world.look.as_mut().unwrap().controller = None;
        // As it is once the budget is closed for it.
        let decision = decide(&cluster(), &world).unwrap();
        for step in decision.plan.steps {
            if let Step::Apply { child, .. } = step {
                let at = (child.resource.kind, child.name);
                world.objects.insert(at, child.content);
            }
        }
        assert!(decide(&cluster(), &world).unwrap().plan.is_empty());
        assert!(!rests(&world));
    }

    #[test]
    fn partitions_that_move_are_looked_at_again_before_everything_else_is() {
        let mut world = converged(&cluster());
        let waits = |world: &_| {
            let decision = decide(&cluster(), world);
            decision.is_ok_and(|decision| waits_for_others(world, &decision))
        };
        assert!(!waits(&world), "nothing is on its way");
        if let Some(look) = &mut world.look {
            look.moving_partitions = 1;
        }
        assert!(waits(&world));
    }
}
