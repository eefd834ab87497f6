//! Listeners of a Cluster: further doors for clients, from outside Kubernetes too.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::shared::text_map;

/// A door for clients, besides the one on port 9092 for clients inside Kubernetes, which is always there. Clients that come by a listener are
/// told of addresses of that listener alone. Listeners come, change and go while the brokers run: none of it restarts one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.type == 'nodePort' || (!has(self.bootstrapNodePort) && !has(self.nodeAddressType))").message("listeners: bootstrapNodePort and nodeAddressType are for listeners of type nodePort: remove them or change the type"))]
#[x_kube(validation = Rule::new("self.type == 'nodePort' || !has(self.brokers) || self.brokers.all(b, !has(b.nodePort))").message("listeners: brokers[].nodePort is for listeners of type nodePort: remove it or change the type"))]
#[x_kube(validation = Rule::new("self.type == 'loadBalancer' || !has(self.loadBalancerSourceRanges)").message("listeners: loadBalancerSourceRanges are for listeners of type loadBalancer: remove them or change the type"))]
pub struct Listener {
    /// Name of the listener, part of its Services' names.
    // With "<cluster>-listener-" before it and a broker's number after it, 63 characters are not passed; without '-', and with none of the two names
    // that every Cluster's own Services end in, no Service of one Cluster can have the name of another's.
    #[schemars(length(min = 1, max = 10), regex(pattern = r"^[a-z][a-z0-9]*$"))]
    #[x_kube(validation = Rule::new("self != 'kafka'").message("listeners: the name kafka belongs to the listener on port 9092, which is always there: choose another"))]
    #[x_kube(validation = Rule::new("!(self in ['brokers', 'bootstrap'])").message("listeners: the names brokers and bootstrap would be those of Services of a Cluster that is named <cluster>-listener: choose another"))]
    pub name: String,

    /// Port that brokers and Services listen on.
    #[schemars(range(min = 1024, max = 65535))]
    #[x_kube(validation = Rule::new("!(self in [9092, 9094, 9095, 9096, 9600])").message("listeners: the ports 9092, 9094, 9095, 9096 and 9600 are the brokers' own: choose another, such as 9100"))]
    pub port: i32,

    /// How clients reach it.
    pub r#type: ListenerType,

    /// Clients speak TLS here, 1.2 or 1.3 (`security.protocol=SSL`), and are shown a certificate. `{}` has the operator issue one of the cluster's own
    /// authority, for the names and addresses that clients are told, and renew it; what clients are to trust is in ConfigMap `<cluster>-ca-cert`.
    /// Unset, nothing is encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ListenerTls>,

    /// Host that clients are told for each broker, in which `{id}` stands for the broker's number, such as `broker-{id}.kafka.example.com`.
    /// Unset, what Kubernetes knows: the address of the node or of the load balancer, or the broker's name in DNS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^([A-Za-z0-9._:-]|\{id\})+$")
    )]
    pub advertised_host: Option<String>,

    /// Port that clients are told for each broker. Unset, the node port, or `port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub advertised_port: Option<i32>,

    /// What is different for single brokers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["id".into()]))]
    pub brokers: Vec<ListenerBroker>,

    /// Node port of the bootstrap Service. Unset, Kubernetes chooses one and keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub bootstrap_node_port: Option<i32>,

    /// Which of a node's addresses clients are told, if it has one of that type. Unset, or where it has none, the first that there is of
    /// ExternalDNS, ExternalIP, InternalIP, InternalDNS, Hostname.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_address_type: Option<NodeAddressType>,

    /// Annotations of the listener's Services, for what makes load balancers and names in DNS. `{id}` in a value stands for the broker's
    /// number, and in the bootstrap Service for `bootstrap`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "text_map::<16, 1024>")]
    #[x_kube(validation = Rule::new("self.all(k, !k.startsWith('weir.dev/'))").message("listeners: annotations that begin with weir.dev/ belong to the operator: choose another prefix"))]
    pub annotations: BTreeMap<String, String>,

    /// Networks from which the load balancers take connections, such as `203.0.113.0/24`. Unset, all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 64)))]
    pub load_balancer_source_ranges: Vec<String>,
}

/// What a listener whose clients speak TLS shows them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListenerTls {
    /// Secret of type `kubernetes.io/tls` in the same namespace, such as cert-manager makes: `tls.crt` with the certificate and what lies between it
    /// and an authority, `tls.key` with its key. It has to name what clients are told. What changes in it is used within two minutes or so. Unset,
    /// the operator issues a certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub certificate_secret: Option<String>,
}

/// How clients reach a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ListenerType {
    /// By the brokers' names in DNS, inside Kubernetes; or, with `advertisedHost`, by a proxy or router of one's own before them.
    #[default]
    Internal,
    /// By a port of each broker's node.
    NodePort,
    /// By a load balancer for each broker.
    LoadBalancer,
}

/// A type of addresses of nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NodeAddressType {
    /// The node's name in a DNS outside.
    #[default]
    ExternalDNS,
    /// Its address outside.
    ExternalIP,
    /// Its address in the cluster's own network.
    InternalIP,
    /// Its name in the cluster's own DNS.
    InternalDNS,
    /// Its name.
    Hostname,
}

impl NodeAddressType {
    /// As a Node's status has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ExternalDNS => "ExternalDNS",
            Self::ExternalIP => "ExternalIP",
            Self::InternalIP => "InternalIP",
            Self::InternalDNS => "InternalDNS",
            Self::Hostname => "Hostname",
        }
    }
}

/// What is different of a listener for one broker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListenerBroker {
    /// The broker's number.
    #[schemars(range(min = 0, max = 99))]
    pub id: i32,

    /// Host that clients are told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[A-Za-z0-9._:-]+$"))]
    pub advertised_host: Option<String>,

    /// Port that clients are told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub advertised_port: Option<i32>,

    /// Node port of the broker's Service. Unset, Kubernetes chooses one and keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub node_port: Option<i32>,
}

/// Where clients reach a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListenerStatus {
    /// The listener.
    #[schemars(length(max = 10))]
    pub name: String,
    /// Address to give to its clients as `bootstrap.servers`; absent while none is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub bootstrap: Option<String>,
    /// The brokers' addresses, as far as they are known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub addresses: Vec<ListenerAddress>,
}

/// Where clients reach one broker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListenerAddress {
    /// The broker's number.
    pub broker: i32,
    /// Host.
    #[schemars(length(max = 253))]
    pub host: String,
    /// Port.
    pub port: i32,
}
