#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use proptest::prelude::*;
use serde_json::{Value, json};
use weir_tls::{Due, LEAF_LIFE, Pair, Role};

use crate::decide::certificates;
use crate::decide::cluster::{Step, World, decide};
use crate::objects;
use crate::testing::{self, converged, made_at, made_at_s, resource};
use crate::validate::{Cluster, Defaults};
use crate::world::{BrokerId, HostPort, ListenerAt, NodeAddress};

/// A cluster with these listeners.
fn cluster(listeners: Value) -> Cluster {
    let mut resource = serde_json::to_value(resource()).unwrap();
    resource["spec"]["listeners"] = listeners;
    let defaults = Defaults {
        broker_image: "weir-broker:0.1.0".into(),
    };
    Cluster::validate(&serde_json::from_value(resource).unwrap(), &defaults).unwrap()
}

fn nodes() -> Cluster {
    cluster(json!([{"name": "nodes", "port": 9100, "type": "nodePort"}]))
}

fn service<'w>(world: &'w mut World, name: &str) -> &'w mut Value {
    let at = ("Service".to_owned(), name.to_owned());
    world.objects.get_mut(&at).unwrap()
}

/// As Kubernetes completes it: node ports for all, brokers on nodes.
fn completed(cluster: &Cluster) -> World {
    let mut world = converged(cluster);
    let mut port = 31_000;
    for ((kind, _), object) in &mut world.objects {
        if kind == "Service" && object["spec"]["type"] == "NodePort" {
            object["spec"]["ports"][0]["nodePort"] = port.into();
            port += 1;
        }
    }
    for broker in 0..3 {
        let address = |kind: &str, address: String| NodeAddress {
            kind: kind.into(),
            address,
        };
        let addresses = vec![
            address("Hostname", format!("node{broker}")),
            address("InternalIP", format!("10.0.0.{broker}")),
        ];
        world.hosts.insert(BrokerId(broker), addresses);
    }
    world
}

fn told(cluster: &Cluster, world: &World) -> BTreeMap<BrokerId, Vec<ListenerAt>> {
    let steps = decide(cluster, world).unwrap().plan.steps;
    let mut told = steps.into_iter().filter_map(|step| match step {
        Step::SetListeners { brokers } => Some(brokers),
        _ => None,
    });
    told.next().unwrap_or_default().into_iter().collect()
}

fn gates(cluster: &Cluster, world: &World) -> Vec<(&'static str, String)> {
    let blocked = decide(cluster, world).unwrap().plan.blocked;
    blocked
        .into_iter()
        .map(|no| (no.gate, no.message))
        .collect()
}

/// The brokers do what they are told.
fn obey(cluster: &Cluster, world: &mut World) {
    let told = told(cluster, world);
    let look = world.look.as_mut().unwrap();
    for (broker, listeners) in told {
        look.brokers.get_mut(&broker).unwrap().listeners = listeners;
    }
}

fn at(told: &BTreeMap<BrokerId, Vec<ListenerAt>>, broker: u32) -> Option<String> {
    let listener = told[&BrokerId(broker)].first()?;
    Some(listener.advertised.as_ref()?.to_string())
}

#[test]
fn each_broker_is_told_the_address_of_its_node_and_the_port_of_its_service() {
    let (cluster, mut world) = (nodes(), completed(&nodes()));
    // The Service to bootstrap from has 31000, those of the brokers the next ones.
    let first = told(&cluster, &world);
    assert_eq!(at(&first, 0).as_deref(), Some("10.0.0.0:31001"));
    assert_eq!(at(&first, 2).as_deref(), Some("10.0.0.2:31003"));
    let found = decide(&cluster, &world).unwrap().listeners.remove(0);
    assert_eq!(
        found.bootstrap.as_deref(),
        Some("10.0.0.0:31000,10.0.0.1:31000,10.0.0.2:31000")
    );
    obey(&cluster, &mut world);
    assert!(decide(&cluster, &world).unwrap().plan.is_empty());
    // Its pod comes back on another node.
    world.hosts.insert(
        BrokerId(1),
        vec![NodeAddress {
            kind: "InternalIP".into(),
            address: "10.0.0.9".into(),
        }],
    );
    let next = told(&cluster, &world);
    assert_eq!(next.keys().collect::<Vec<_>>(), [&BrokerId(1)]);
    assert_eq!(at(&next, 1).as_deref(), Some("10.0.0.9:31002"));
}

#[test]
fn a_pod_between_nodes_keeps_the_address_that_it_had() {
    let (cluster, mut world) = (nodes(), completed(&nodes()));
    obey(&cluster, &mut world);
    world.hosts.remove(&BrokerId(1));
    assert!(decide(&cluster, &world).unwrap().plan.is_empty());
}

#[test]
fn the_type_of_address_that_was_asked_for_comes_first_and_another_is_better_than_none() {
    for (wanted, expected) in [
        ("Hostname", "node0:31001"),
        ("ExternalIP", "10.0.0.0:31001"),
    ] {
        let cluster = cluster(
            json!([{"name": "nodes", "port": 9100, "type": "nodePort", "nodeAddressType": wanted}]),
        );
        let told = told(&cluster, &completed(&cluster));
        assert_eq!(at(&told, 0).as_deref(), Some(expected));
    }
}

#[test]
fn a_broker_whose_address_is_missing_listens_already_and_the_condition_says_what_is_missing() {
    let balanced = cluster(json!([{"name": "lb", "port": 9100, "type": "loadBalancer"}]));
    let mut world = converged(&balanced);
    let ingress = |at: Value| json!({"loadBalancer": {"ingress": [at]}});
    service(&mut world, "shop-listener-lb-0")["status"] = ingress(json!({"ip": "203.0.113.7"}));
    service(&mut world, "shop-listener-lb-1")["status"] =
        ingress(json!({"hostname": "a.elb.example.com", "ip": "203.0.113.8"}));
    let told = told(&balanced, &world);
    assert_eq!(at(&told, 0).as_deref(), Some("203.0.113.7:9100"));
    assert_eq!(at(&told, 1).as_deref(), Some("a.elb.example.com:9100"));
    assert_eq!(told[&BrokerId(2)][0].port, 9100);
    assert_eq!(at(&told, 2), None);
    let blocked = gates(&balanced, &world);
    assert_eq!(blocked[0].0, "ListenerAddressMissing");
    for part in ["listener lb", "1 of 3", "broker 2", "shop-listener-lb-2"] {
        assert!(blocked[0].1.contains(part), "{}", blocked[0].1);
    }
    obey(&balanced, &mut world);
    service(&mut world, "shop-listener-lb-2")["status"] = ingress(json!({"ip": "203.0.113.9"}));
    assert_eq!(gates(&balanced, &world), []);
}

#[test]
fn what_a_person_wrote_comes_before_what_kubernetes_knows() {
    let cluster = cluster(json!([{
        "name": "own", "port": 9100, "type": "internal", "advertisedHost": "broker-{id}.example.com", "advertisedPort": 443,
        "brokers": [{"id": 2, "advertisedHost": "two.example.com", "advertisedPort": 8443}],
    }, {"name": "inside", "port": 9101, "type": "internal"}]));
    let world = converged(&cluster);
    let told = told(&cluster, &world);
    let of = |broker: u32, listener: usize| told[&BrokerId(broker)][listener].clone();
    let listener = |name: &str, port, host: &str, advertised| ListenerAt {
        tls: false,
        name: name.into(),
        port,
        advertised: Some(HostPort {
            host: host.into(),
            port: advertised,
        }),
    };
    // In the order of their names, as brokers are compared.
    let inside = "shop-broker-0.shop-brokers.market.svc";
    assert_eq!(of(0, 0), listener("inside", 9101, inside, 9101));
    assert_eq!(of(0, 1), listener("own", 9100, "broker-0.example.com", 443));
    assert_eq!(of(2, 1), listener("own", 9100, "two.example.com", 8443));
    let found = decide(&cluster, &world).unwrap().listeners;
    assert_eq!(
        found[1].bootstrap.as_deref(),
        Some("shop-listener-inside.market.svc:9101")
    );
}

#[test]
fn brokers_that_would_share_an_address_are_told_none_of_it() {
    let cluster = cluster(
        json!([{"name": "own", "port": 9100, "type": "internal", "advertisedHost": "kafka.example.com"}]),
    );
    let world = converged(&cluster);
    assert_eq!(at(&told(&cluster, &world), 0), None);
    let blocked = gates(&cluster, &world);
    assert_eq!(blocked[0].0, "ListenerAddressShared");
    assert!(
        blocked[0].1.contains("kafka.example.com:9100"),
        "{}",
        blocked[0].1
    );
}

#[test]
fn nobody_is_told_anything_while_nobody_can_be() {
    let cluster = nodes();
    let mut world = completed(&cluster);
    let mut expect = |change: fn(&mut World), gate: &str| {
        change(&mut world);
        assert_eq!(told(&cluster, &world), BTreeMap::new());
        assert_eq!(gates(&cluster, &world)[0].0, gate);
    };
    expect(
        |world| world.look.as_mut().unwrap().controller = None,
        "ListenersNotSeen",
    );
    expect(
        |world| world.look.as_mut().unwrap().sets_listeners = false,
        "ListenersNotSupported",
    );
    expect(|world| world.look = None, "ListenersNotSeen");
}

#[test]
fn a_listener_restarts_nobody_and_leaves_nothing_when_it_goes() {
    let plain = crate::testing::cluster();
    let (with, mut world) = (nodes(), converged(&plain));
    let restarts = |step: &Step| matches!(step, Step::RestartBroker { .. });
    let added = decide(&with, &world).unwrap();
    assert!(
        !added.plan.steps.iter().any(restarts),
        "{:?}",
        added.plan.steps
    );
    let services: Vec<String> = added
        .plan
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::Apply { child, .. } => Some(child.title()),
            _ => None,
        })
        .collect();
    assert_eq!(
        services,
        [
            "Service shop-listener-nodes",
            "Service shop-listener-nodes-0",
            "Service shop-listener-nodes-1",
            "Service shop-listener-nodes-2",
        ]
    );

    world = completed(&with);
    obey(&with, &mut world);
    let gone = decide(&plain, &world).unwrap();
    let deleted = |name: &str| Step::DeleteService { name: name.into() };
    let mut expected: Vec<Step> = ["", "-0", "-1", "-2"]
        .map(|broker| deleted(&format!("shop-listener-nodes{broker}")))
        .into();
    expected.push(Step::SetListeners {
        brokers: (0..3).map(|id| (BrokerId(id), Vec::new())).collect(),
    });
    assert_eq!(gone.plan.steps, expected);
}

#[test]
fn a_listener_that_gets_another_name_may_keep_its_node_ports() {
    let before = nodes();
    let mut world = completed(&before);
    obey(&before, &mut world);
    let after = cluster(json!([{"name": "outside", "port": 9100, "type": "nodePort"}]));
    let steps = decide(&after, &world).unwrap().plan.steps;
    let is_deletion = |step: &Step| matches!(step, Step::DeleteService { .. });
    let deletions = steps.iter().filter(|step| is_deletion(step)).count();
    assert_eq!(deletions, 4);
    // Kubernetes gives a port to no second Service while the first one has it.
    let last = steps.iter().rposition(is_deletion);
    let is_new =
        |step: &Step| matches!(step, Step::Apply { child, .. } if child.resource.kind == "Service");
    let first = steps.iter().position(is_new);
    assert!(last.unwrap() < first.unwrap(), "{steps:?}");
    assert!(
        steps[first.unwrap()..].iter().all(Step::holds_up_nothing),
        "{steps:?}"
    );
}

#[test]
fn the_services_of_brokers_that_left_go_and_the_others_stay() {
    let mut cluster = nodes();
    let mut world = completed(&cluster);
    obey(&cluster, &mut world);
    cluster.replicas = 2;
    let look = world.look.as_mut().unwrap();
    look.voters = vec![BrokerId(0)];
    look.brokers.get_mut(&BrokerId(2)).unwrap().draining = true;
    let steps = decide(&cluster, &world).unwrap().plan.steps;
    let deleted: Vec<&Step> = steps
        .iter()
        .filter(|step| matches!(step, Step::DeleteService { .. }))
        .collect();
    let name = "shop-listener-nodes-2".to_owned();
    assert_eq!(deleted, [&Step::DeleteService { name }]);
}

proptest! {
    /// Whatever is known, what is told is never two brokers' at once, never of another port than asked for, and is told once.
    #[test]
    fn what_brokers_are_told_is_told_once_and_is_nobody_elses(
        hosts in prop::collection::vec(prop::option::of("[ab]"), 3), ports in prop::collection::vec(prop::option::of(30_000_u16..30_003), 3),
        own in prop::option::of(1_u16..3), kind in prop::sample::select(vec!["internal", "nodePort", "loadBalancer"]),
    ) {
        let mut listener = json!({"name": "l", "port": 9100, "type": kind});
        if let Some(port) = own {
            listener["advertisedPort"] = port.into();
        }
        let cluster = cluster(json!([listener]));
        let mut world = converged(&cluster);
        for (broker, (host, port)) in (0..).zip(hosts.iter().zip(&ports)) {
            let at = ("Service".to_owned(), format!("shop-listener-l-{broker}"));
            let mut object = world.objects.get_mut(&at);
            if let (Some(object), Some(port)) = (object.as_deref_mut(), port) {
                object["spec"]["ports"][0]["nodePort"] = (*port).into();
            }
            let Some(host) = host else { continue };
            if let Some(object) = object {
                object["status"] = json!({"loadBalancer": {"ingress": [{"ip": host}]}});
            }
            let address = NodeAddress { kind: "InternalIP".into(), address: host.clone() };
            world.hosts.insert(BrokerId(broker), vec![address]);
        }
        obey(&cluster, &mut world);
        prop_assert!(told(&cluster, &world).is_empty(), "it is told once");
        let brokers = &world.look.as_ref().unwrap().brokers;
        let mut all: Vec<&HostPort> = Vec::new();
        for seen in brokers.values() {
            prop_assert_eq!(seen.listeners.len(), 1);
            prop_assert_eq!(seen.listeners[0].port, 9100);
            all.extend(&seen.listeners[0].advertised);
        }
        let unique: std::collections::BTreeSet<&&HostPort> = all.iter().collect();
        prop_assert_eq!(unique.len(), all.len());
        let complete = all.len() == 3;
        let told_of = gates(&cluster, &world).iter().any(|(gate, _)| gate.starts_with("Listener"));
        prop_assert_eq!(complete, !told_of, "what is missing is told");
    }
}

fn secured(secret: Option<&str>) -> Cluster {
    let mut tls = json!({});
    if let Some(secret) = secret {
        tls["certificateSecret"] = secret.into();
    }
    cluster(json!([{
        "name": "outside", "port": 9100, "type": "internal", "advertisedHost": "broker-{id}.example.com", "advertisedPort": 443, "tls": tls,
    }]))
}

/// What is issued for a listener, in this world.
fn issued(cluster: &Cluster, world: &World) -> Vec<Due> {
    let steps = decide(cluster, world).unwrap().plan.steps;
    let due = steps.into_iter().find_map(|step| match step {
        Step::Issue { due } => Some(due),
        _ => None,
    });
    due.unwrap_or_default()
}

/// Carries out what concerns Secrets.
fn carry_out(cluster: &Cluster, world: &mut World) {
    let (mut held, _) = certificates::held(cluster, world);
    held.issue("shop", &issued(cluster, world), made_at())
        .unwrap();
    for child in objects::secrets(cluster, &held).unwrap() {
        let at = (child.resource.kind, child.name);
        world.objects.insert(at, child.content);
    }
}

fn shown(world: &World) -> Option<Pair> {
    let at = ("Secret".to_owned(), "shop-broker-tls".to_owned());
    let read = objects::held("shop", |name| (name == at.1).then(|| &world.objects[&at]));
    read.listeners.get("outside").cloned()
}

#[test]
fn a_certificate_is_issued_for_what_clients_are_told_and_renewed_and_goes_with_its_listener() {
    let with = secured(None);
    let mut world = converged(&with);
    let [Due::Listener { name, hosts }] = &issued(&with, &world)[..] else {
        panic!("one certificate")
    };
    assert_eq!(name, "outside");
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    assert_eq!(
        hosts,
        [
            "broker-0.example.com",
            "broker-1.example.com",
            "broker-2.example.com",
            "shop-listener-outside.market.svc",
            "shop-listener-outside.market.svc.cluster.local"
        ]
    );
    let told = told(&with, &world);
    assert!(told.values().all(|listeners| listeners[0].tls));
    obey(&with, &mut world);
    carry_out(&with, &mut world);
    assert!(shown(&world).is_some());
    let decision = decide(&with, &world).unwrap();
    assert!(decision.plan.is_empty(), "{:?}", decision.plan);
    // Another broker has another name.
    let mut more = with.clone();
    more.replicas = 4;
    let due = issued(&more, &world);
    assert!(due.iter().any(
        |due| matches!(due, Due::Listener { hosts, .. } if hosts.contains("broker-3.example.com"))
    ));
    let (held, _) = certificates::held(&with, &world);
    let ends = certificates::first_end_s(&with, &held);
    assert_eq!(
        ends,
        held.listeners["outside"].life().ok().map(|life| life.until)
    );
    world.now_s += i64::try_from(LEAF_LIFE.as_secs()).unwrap() / 10 * 9;
    let due = issued(&with, &world);
    assert!(due.iter().any(|due| matches!(due, Due::Listener { .. })));
    world.now_s = made_at_s();
    // Without the listener nobody keeps its key.
    let plain = cluster(json!([]));
    carry_out(&plain, &mut world);
    assert_eq!(shown(&world), None);
}

#[test]
fn a_person_s_certificate_is_shown_as_it_is_and_followed() {
    let with = secured(Some("outside-cert"));
    let mut world = converged(&with);
    obey(&with, &mut world);
    let gate = || vec![certificates::LISTENER_CERTIFICATE];
    let blocked = |world: &World| -> Vec<&'static str> {
        gates(&with, world)
            .into_iter()
            .map(|(gate, _)| gate)
            .collect()
    };
    // While there is none nobody is shown anything, and nothing is issued in its place.
    assert_eq!(blocked(&world), gate());
    assert_eq!(issued(&with, &world), []);
    let of = |pair: &Pair| {
        let data = |text: &str| ByteString(text.as_bytes().to_vec());
        json!({"kind": "Secret", "data": {"tls.crt": data(&pair.certificate), "tls.key": data(&pair.key)}})
    };
    let leaf = |id| testing::certificates().leaves[&Role::Broker(id)].clone();
    let at = || ("Secret".to_owned(), "outside-cert".to_owned());
    for id in [0, 1] {
        world.objects.insert(at(), of(&leaf(id)));
        carry_out(&with, &mut world);
        assert_eq!(shown(&world), Some(leaf(id)));
        assert!(decide(&with, &world).unwrap().plan.is_empty());
    }
    // What cannot be used, or is gone, changes nothing, and is said.
    let mixed = Pair {
        certificate: leaf(0).certificate,
        key: leaf(1).key,
    };
    for bad in [Some(of(&mixed)), Some(json!({"kind": "Secret"})), None] {
        world.objects.remove(&at());
        world.objects.extend(bad.map(|bad| (at(), bad)));
        assert_eq!(blocked(&world), gate());
        carry_out(&with, &mut world);
        assert_eq!(shown(&world), Some(leaf(1)));
    }
    // When it is not named any more the operator issues one.
    assert!(matches!(
        issued(&secured(None), &world)[..],
        [Due::Listener { .. }]
    ));
}

#[test]
fn brokers_that_know_no_tls_are_told_of_no_listener_that_needs_it() {
    let with = cluster(json!([
        {"name": "outside", "port": 9100, "type": "internal", "tls": {}},
        {"name": "plain", "port": 9101, "type": "internal"},
    ]));
    let mut world = converged(&with);
    world.look.as_mut().unwrap().tls_listeners = false;
    let told = told(&with, &world);
    let names: Vec<&str> = told[&BrokerId(0)]
        .iter()
        .map(|at| at.name.as_str())
        .collect();
    assert_eq!(names, ["plain"]);
    assert_eq!(gates(&with, &world)[0].0, super::NOT_SUPPORTED);
}
