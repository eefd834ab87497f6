//! Listeners that can be carried out.

use std::collections::{BTreeMap, BTreeSet};

use super::Invalid;
use crate::names;
use crate::world::BrokerId;

pub use weir_crds::ListenerType;

/// A further door for clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Unique in its Cluster.
    pub name: String,
    /// What brokers and Services listen on.
    pub port: u16,
    /// How clients reach it.
    pub kind: ListenerType,
    /// What clients are shown, where they speak TLS.
    pub tls: Option<ListenerTls>,
    /// `{id}` stands for the broker's number.
    pub advertised_host: Option<String>,
    /// What clients are told instead of what Kubernetes knows.
    pub advertised_port: Option<u16>,
    /// What is different for single brokers.
    pub brokers: BTreeMap<BrokerId, ListenerBroker>,
    /// Node port of the bootstrap Service.
    pub bootstrap_node_port: Option<u16>,
    /// Which of a node's addresses comes first.
    pub node_address_type: Option<&'static str>,
    /// Of the Services; `{id}` stands for the broker's number.
    pub annotations: BTreeMap<String, String>,
    /// From where load balancers take connections.
    pub load_balancer_source_ranges: Vec<String>,
}

/// Whose certificate clients are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenerTls {
    /// One of the cluster's own authority.
    Issued,
    /// A person's, from the Secret of this name.
    Secret(String),
}

/// What is different for one broker.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListenerBroker {
    /// What clients are told.
    pub advertised_host: Option<String>,
    /// What clients are told.
    pub advertised_port: Option<u16>,
    /// Node port of its Service.
    pub node_port: Option<u16>,
}

impl Listener {
    /// Whether each broker has a Service of its own.
    #[must_use]
    pub fn has_service_each(&self) -> bool {
        match self.kind {
            ListenerType::Internal => false,
            ListenerType::NodePort | ListenerType::LoadBalancer => true,
        }
    }
}

/// Judges `spec.listeners`.
///
/// # Errors
/// Names the first field that cannot be carried out.
pub(super) fn listeners(spec: &[weir_crds::Listener]) -> Result<Vec<Listener>, Invalid> {
    let own = [
        names::KAFKA_PORT,
        names::INTERNAL_PORT,
        names::HTTP_PORT,
        names::GRPC_PORT,
    ];
    let mut taken: BTreeSet<u16> = own.into_iter().collect();
    let mut known = BTreeSet::new();
    let mut listeners = Vec::with_capacity(spec.len());
    for listener in spec {
        let name = &listener.name;
        let field = |field: &str| format!("spec.listeners[{name}].{field}");
        let listened = port(&field("port"), listener.port)?;
        if !known.insert(name) {
            return Err(Invalid::new(
                field("name"),
                "is there twice",
                "Keep one of the two",
            ));
        }
        if !taken.insert(listened) {
            return Err(Invalid::new(
                field("port"),
                format!("{listened} is taken, by the brokers or another listener"),
                "Choose another, such as 9100",
            ));
        }
        let optional = |name: &str, number: Option<i32>| {
            number.map(|number| port(&field(name), number)).transpose()
        };
        let mut brokers = BTreeMap::new();
        for broker in &listener.brokers {
            let id = u32::try_from(broker.id).map_err(|_| {
                Invalid::new(
                    field("brokers"),
                    format!("{} is no broker", broker.id),
                    "Count from 0",
                )
            })?;
            let of = ListenerBroker {
                advertised_host: broker.advertised_host.clone(),
                advertised_port: optional("brokers.advertisedPort", broker.advertised_port)?,
                node_port: optional("brokers.nodePort", broker.node_port)?,
            };
            brokers.insert(BrokerId(id), of);
        }
        listeners.push(Listener {
            name: name.clone(),
            port: listened,
            kind: listener.r#type,
            tls: listener.tls.as_ref().map(|tls| {
                let secret = tls.certificate_secret.clone();
                secret.map_or(ListenerTls::Issued, ListenerTls::Secret)
            }),
            advertised_host: listener.advertised_host.clone(),
            advertised_port: optional("advertisedPort", listener.advertised_port)?,
            brokers,
            bootstrap_node_port: optional("bootstrapNodePort", listener.bootstrap_node_port)?,
            node_address_type: listener
                .node_address_type
                .map(weir_crds::NodeAddressType::as_str),
            annotations: listener.annotations.clone(),
            load_balancer_source_ranges: listener.load_balancer_source_ranges.clone(),
        });
    }
    Ok(listeners)
}

fn port(field: &str, number: i32) -> Result<u16, Invalid> {
    let port = u16::try_from(number).ok().filter(|port| *port > 0);
    port.ok_or_else(|| {
        Invalid::new(
            field,
            format!("{number} is no port"),
            "Write one from 1 to 65535",
        )
    })
}
