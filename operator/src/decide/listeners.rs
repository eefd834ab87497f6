//! Where clients reach each broker by each listener, and what brokers are told of it.
//!
//! What a person wrote comes first; what is left open Kubernetes knows: the port that it gave a Service, the address of the node that the pod is on,
//! of the load balancer that was made. Those come after the pods, and change while they run, so that brokers are told while they run
//! ([`Step::SetListeners`]), and keep it in their metadata: nobody is restarted for a listener, and clients find their way while this operator is
//! away. A broker whose address is missing listens already; clients of that listener are not told of it before.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::decide::cluster::Step;
use crate::decide::gates::Blocked;
use crate::names;
use crate::validate::{Listener, ListenerType};
use crate::world::{BrokerId, HostPort, Key, ListenerAt, Look, NodeAddress};

/// Gate: Kubernetes does not know an address yet.
pub const ADDRESS_MISSING: &str = "ListenerAddressMissing";
/// Gate: several brokers would have one address.
pub const ADDRESS_SHARED: &str = "ListenerAddressShared";
/// Gate: no broker can be told.
pub const NOT_SEEN: &str = "ListenersNotSeen";
/// Gate: the brokers are too old.
pub const NOT_SUPPORTED: &str = "ListenersNotSupported";

/// The order in which a node's addresses are taken: what is reached from furthest away comes first, and a name that may not be known to any DNS last.
const NODE_ADDRESSES: [&str; 5] = [
    "ExternalDNS",
    "ExternalIP",
    "InternalIP",
    "InternalDNS",
    "Hostname",
];

/// Node addresses in a bootstrap address: enough for a client to find one that is there.
const BOOTSTRAP_MAX: usize = 3;

/// What was asked, and what there is.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// The cluster.
    pub cluster: &'a Key,
    /// What is wanted.
    pub listeners: &'a [Listener],
    /// How many brokers there are to be.
    pub brokers: u32,
    /// Objects in the API, by kind and name.
    pub objects: &'a BTreeMap<(String, String), Value>,
    /// Addresses of the nodes that brokers are on.
    pub hosts: &'a BTreeMap<BrokerId, Vec<NodeAddress>>,
    /// What the brokers say, if any answered.
    pub look: Option<&'a Look>,
}

/// Where clients reach one listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The listener.
    pub name: String,
    /// Where they begin.
    pub bootstrap: Option<String>,
    /// Each broker, as far as that is known.
    pub addresses: BTreeMap<BrokerId, HostPort>,
    /// What clients may look for in its certificate: names in DNS, and addresses.
    pub hosts: BTreeSet<String>,
}

/// What is done about listeners.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Listeners {
    /// What brokers are told.
    pub step: Option<Step>,
    /// What is missing.
    pub blocked: Vec<Blocked>,
    /// Of each listener.
    pub found: Vec<Found>,
}

/// Decides what brokers are told of their listeners.
#[must_use]
pub fn listeners(case: &Case<'_>) -> Listeners {
    let mut decided = Listeners::default();
    for listener in case.listeners {
        let (found, missing) = found(case, listener);
        decided.blocked.extend(missing);
        decided.found.push(found);
    }
    tell(case, &mut decided);
    decided
}

/// The addresses of a listener, and the first thing that is wrong with them.
fn found(case: &Case<'_>, listener: &Listener) -> (Found, Option<Blocked>) {
    let mut addresses = BTreeMap::new();
    let mut missing = Vec::new();
    for broker in (0..case.brokers).map(BrokerId) {
        match address(case, listener, broker) {
            Ok(address) => {
                addresses.insert(broker, address);
            }
            Err(why) => missing.push((broker, why)),
        }
    }
    let mut blocked = missing.first().map(|(broker, why)| Blocked {
        gate: ADDRESS_MISSING,
        message: format!(
            "listener {}: {} of {} brokers have no address yet, broker {broker} because {why}. It goes on by itself when that changes, or set \
             advertisedHost and advertisedPort",
            listener.name,
            missing.len(),
            case.brokers
        ),
    });
    if let Some((broker, other, at)) = shared(&addresses) {
        blocked = Some(Blocked {
            gate: ADDRESS_SHARED,
            message: format!(
                "listener {}: brokers {broker} and {other} would both be at {at}, and a client would not find who leads. Nobody is told an address \
                 of it. Write {{id}} into advertisedHost, or give each of brokers[] an advertisedPort",
                listener.name
            ),
        });
        addresses.clear();
    }
    let bootstrap = bootstrap(case, listener, &addresses);
    let found = Found {
        name: listener.name.clone(),
        bootstrap,
        hosts: hosts(case, listener, &addresses),
        addresses,
    };
    (found, blocked)
}

/// The names and addresses by which clients reach a listener, as far as a certificate can have them.
fn hosts(
    case: &Case<'_>,
    listener: &Listener,
    addresses: &BTreeMap<BrokerId, HostPort>,
) -> BTreeSet<String> {
    let Key { namespace, name } = case.cluster;
    let service = names::listener_service(name, &listener.name, None);
    let balanced = balanced_host(case, &service).ok();
    let inside = format!("{service}.{namespace}.svc");
    let of_brokers = addresses.values().map(|address| address.host.clone());
    let hosts = [format!("{inside}.cluster.local"), inside]
        .into_iter()
        .chain(balanced)
        .chain(of_brokers);
    hosts.filter(|host| weir_tls::is_host(host)).collect()
}

/// Two brokers with one address, if there are such.
fn shared(addresses: &BTreeMap<BrokerId, HostPort>) -> Option<(BrokerId, BrokerId, &HostPort)> {
    let mut seen: BTreeMap<&HostPort, BrokerId> = BTreeMap::new();
    addresses
        .iter()
        .find_map(|(broker, at)| seen.insert(at, *broker).map(|other| (other, *broker, at)))
}

/// Where clients of a listener reach a broker, or why that is not known.
fn address(case: &Case<'_>, listener: &Listener, broker: BrokerId) -> Result<HostPort, String> {
    let own = listener.brokers.get(&broker);
    let host = own.and_then(|own| own.advertised_host.clone()).or_else(|| {
        let template = listener.advertised_host.as_ref()?;
        Some(template.replace("{id}", &broker.to_string()))
    });
    let port = own
        .and_then(|own| own.advertised_port)
        .or(listener.advertised_port);
    let service = names::listener_service(&case.cluster.name, &listener.name, Some(broker));
    let host = match (host, listener.kind) {
        (Some(host), _) => host,
        (None, ListenerType::Internal) => {
            names::broker_host(&case.cluster.name, &case.cluster.namespace, broker)
        }
        (None, ListenerType::NodePort) => node_host(case, listener, broker)?,
        (None, ListenerType::LoadBalancer) => balanced_host(case, &service)?,
    };
    let port = match (port, listener.kind) {
        (Some(port), _) => port,
        (None, ListenerType::NodePort) => node_port(case, &service)?,
        (None, ListenerType::Internal | ListenerType::LoadBalancer) => listener.port,
    };
    Ok(HostPort { host, port })
}

/// The node of a broker's pod; of one that is between nodes, what the brokers were told last.
fn node_host(case: &Case<'_>, listener: &Listener, broker: BrokerId) -> Result<String, String> {
    let of_node = case.hosts.get(&broker).into_iter().flatten();
    let mut kinds = listener.node_address_type.into_iter().chain(NODE_ADDRESSES);
    let of_kind = |kind: &str| {
        let mut addresses = of_node.clone();
        addresses
            .find(|one| one.kind == kind)
            .map(|one| one.address.clone())
    };
    let before = || {
        let seen = case.look?.brokers.get(&broker)?;
        let mut listeners = seen.listeners.iter();
        let same = listeners.find(|at| at.name == listener.name)?;
        Some(same.advertised.as_ref()?.host.clone())
    };
    kinds.find_map(of_kind).or_else(before).ok_or_else(|| {
        format!(
            "its pod {} is on no node yet, or the node has no address",
            names::pod(&case.cluster.name, broker)
        )
    })
}

fn service<'a>(case: &Case<'a>, name: &str) -> Option<&'a Value> {
    let at = ("Service".to_owned(), name.to_owned());
    case.objects.get(&at)
}

fn node_port(case: &Case<'_>, name: &str) -> Result<u16, String> {
    let port = service(case, name).and_then(|service| {
        let port = service.pointer("/spec/ports/0/nodePort")?.as_u64()?;
        u16::try_from(port).ok().filter(|port| *port > 0)
    });
    port.ok_or_else(|| format!("Service {name} has no node port yet"))
}

fn balanced_host(case: &Case<'_>, name: &str) -> Result<String, String> {
    let ingress =
        service(case, name).and_then(|service| service.pointer("/status/loadBalancer/ingress/0"));
    let text = |field: &str| {
        let text = ingress.and_then(|ingress| ingress.get(field)?.as_str());
        text.filter(|text| !text.is_empty())
    };
    text("hostname")
        .or_else(|| text("ip"))
        .map(str::to_owned)
        .ok_or_else(|| {
            format!("Service {name} has no load balancer yet (is there anything in this Kubernetes that makes them?)")
        })
}

/// Where clients of a listener begin.
fn bootstrap(
    case: &Case<'_>,
    listener: &Listener,
    addresses: &BTreeMap<BrokerId, HostPort>,
) -> Option<String> {
    let name = names::listener_service(&case.cluster.name, &listener.name, None);
    let at = |host: &str, port: u16| {
        let host = host.to_owned();
        HostPort { host, port }.to_string()
    };
    match listener.kind {
        // Through what is before the brokers, if anything is.
        ListenerType::Internal if listener.advertised_host.is_none() => Some(at(
            &format!("{name}.{}.svc", case.cluster.namespace),
            listener.port,
        )),
        ListenerType::Internal => {
            let first = addresses.values().take(BOOTSTRAP_MAX);
            let first: Vec<String> = first.map(ToString::to_string).collect();
            (!first.is_empty()).then(|| first.join(","))
        }
        ListenerType::LoadBalancer => {
            let host = balanced_host(case, &name).ok()?;
            Some(at(&host, listener.port))
        }
        ListenerType::NodePort => {
            let port = node_port(case, &name).ok()?;
            let mut hosts: Vec<&str> = Vec::new();
            for address in addresses.values() {
                if !hosts.contains(&address.host.as_str()) {
                    hosts.push(&address.host);
                }
            }
            let first = hosts.into_iter().take(BOOTSTRAP_MAX);
            let first: Vec<String> = first.map(|host| at(host, port)).collect();
            (!first.is_empty()).then(|| first.join(","))
        }
    }
}

/// What brokers are told that they do not know.
fn tell(case: &Case<'_>, decided: &mut Listeners) {
    let block = |gate, why: &str| Blocked {
        gate,
        message: format!(
            "spec.listeners has {} listeners: {why}",
            case.listeners.len()
        ),
    };
    let Some(look) = case.look else {
        if !case.listeners.is_empty() {
            let why = "no broker has answered, so none can be told of them. It goes on by itself when that changes";
            decided.blocked.push(block(NOT_SEEN, why));
        }
        return;
    };
    if !look.sets_listeners {
        if !case.listeners.is_empty() {
            let why = "the brokers are of a version that cannot open them while it runs. Upgrade the brokers, or remove them";
            decided.blocked.push(block(NOT_SUPPORTED, why));
        }
        return;
    }
    if !look.tls_listeners && case.listeners.iter().any(|one| one.tls.is_some()) {
        let why = "the brokers are of a version that cannot open those with TLS. Upgrade the brokers, or remove them";
        decided.blocked.push(block(NOT_SUPPORTED, why));
    }
    let registered = look.brokers.iter().filter(|(id, _)| id.0 < case.brokers);
    let differ: Vec<(BrokerId, Vec<ListenerAt>)> = registered
        .map(|(broker, seen)| {
            let wanted = wanted(case, look, &decided.found, *broker);
            (*broker, seen, wanted)
        })
        .filter(|(_, seen, wanted)| seen.listeners != *wanted)
        .map(|(broker, _, wanted)| (broker, wanted))
        .collect();
    if differ.is_empty() {
        return;
    }
    if look.controller.is_none() {
        let why = "no controller is elected, so brokers cannot be told of them. It goes on by itself when that changes";
        decided.blocked.push(block(NOT_SEEN, why));
        return;
    }
    decided.step = Some(Step::SetListeners { brokers: differ });
}

/// All listeners of a broker that it can open, in the order of their names.
fn wanted(case: &Case<'_>, look: &Look, found: &[Found], broker: BrokerId) -> Vec<ListenerAt> {
    let mut wanted: Vec<ListenerAt> = case
        .listeners
        .iter()
        .zip(found)
        .filter(|(listener, _)| listener.tls.is_none() || look.tls_listeners)
        .map(|(listener, found)| ListenerAt {
            name: listener.name.clone(),
            port: listener.port,
            tls: listener.tls.is_some(),
            advertised: found.addresses.get(&broker).cloned(),
        })
        .collect();
    wanted.sort_by(|a, b| a.name.cmp(&b.name));
    wanted
}

#[cfg(test)]
mod tests;
