//! The brokers' configuration file, as the operator writes it.
//!
//! The broker owns the format (`weir-broker --check-config` judges a file); this is the part of it that the operator sets, in a stable order.
//! One file serves all brokers of a cluster: `{id}` in it stands for the broker's own id, which in Kubernetes is its pod's ordinal.

mod settings;
mod table;

use std::collections::BTreeMap;

use serde::Serialize;

pub use settings::Settings;
pub use table::{live_key, live_name};

use crate::names;
use crate::world::BrokerId;

/// Where a broker keeps its data inside its pod.
pub const DATA_DIR: &str = "/var/lib/weir";

/// Where a broker finds certificates inside its pod.
pub const TLS_DIR: &str = "/etc/weir-tls";

/// A configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BrokerConfig {
    cluster: ClusterSection,
    broker: BrokerSection,
    data_dir: String,
    listeners: Listeners,
    peers: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    topics: BTreeMap<&'static str, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    groups: BTreeMap<&'static str, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    limits: BTreeMap<&'static str, String>,
    log_format: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    shutdown_timeout: Option<String>,
    /// In Kubernetes it is in the environment of pods (`objects/stateful_set.rs`).
    #[serde(skip_serializing_if = "Option::is_none")]
    tracing: Option<TracingSection>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct TracingSection {
    otlp_endpoint: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct ClusterSection {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    brokers: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct BrokerSection {
    id: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Listeners {
    kafka: Listener,
    quorum: QuorumListener,
    http: Bound,
    /// In Kubernetes it is in the environment of pods (`objects/stateful_set.rs`).
    #[serde(skip_serializing_if = "Option::is_none")]
    grpc: Option<Bound>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Listener {
    bind: String,
    advertised: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct QuorumListener {
    bind: String,
    advertised: String,
    tls: TlsFiles,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct TlsFiles {
    ca: String,
    certificate: String,
    key: String,
}

impl TlsFiles {
    /// Each broker's own, under the names that `weir_tls::directory` gives.
    fn within(dir: &str) -> Self {
        Self {
            ca: format!("{dir}/{}", weir_tls::directory::AUTHORITY),
            certificate: format!("{dir}/broker-{{id}}.crt"),
            key: format!("{dir}/broker-{{id}}.key"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Bound {
    bind: String,
}

/// Ports of one broker on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// Kafka.
    pub kafka: u16,
    /// Quorum and `Admin`.
    pub internal: u16,
    /// Metrics and health.
    pub http: u16,
    /// Queues over gRPC.
    pub grpc: u16,
}

/// What all brokers of a cluster are told.
#[derive(Debug, Clone, Copy)]
pub struct Shared<'a> {
    /// The cluster's name, for people.
    pub name: &'a str,
    /// Its id, once it has formed.
    pub id: Option<&'a str>,
    /// How many brokers there are to be.
    pub brokers: u32,
    /// What a person set.
    pub settings: &'a Settings,
}

impl BrokerConfig {
    /// For all pods of a cluster.
    #[must_use]
    pub fn in_kubernetes(shared: Shared<'_>, namespace: &str) -> Self {
        let host = |broker: &str| {
            format!(
                "{}-{broker}.{}.{namespace}.svc",
                names::brokers(shared.name),
                names::headless_service(shared.name)
            )
        };
        let listener = |port: u16| Listener {
            bind: format!("0.0.0.0:{port}"),
            advertised: format!("{}:{port}", host("{id}")),
        };
        let peer = |broker: u32| format!("{}:{}", host(&broker.to_string()), names::INTERNAL_PORT);
        Self::new(
            shared,
            "hostname".to_owned(),
            DATA_DIR.to_owned(),
            peer,
            Listeners {
                kafka: listener(names::KAFKA_PORT),
                quorum: QuorumListener {
                    bind: format!("0.0.0.0:{}", names::INTERNAL_PORT),
                    advertised: format!("{}:{}", host("{id}"), names::INTERNAL_PORT),
                    tls: TlsFiles::within(TLS_DIR),
                },
                http: Bound {
                    bind: format!("0.0.0.0:{}", names::HTTP_PORT),
                },
                grpc: None,
            },
        )
        .with_log_format("json")
    }

    /// For one process on this machine, reachable from this machine only.
    #[must_use]
    pub fn on_this_machine(
        shared: Shared<'_>,
        broker: BrokerId,
        data_dir: String,
        tls_dir: &str,
        ports: impl Fn(BrokerId) -> Ports,
    ) -> Self {
        let listener = |port: u16| Listener {
            bind: format!("127.0.0.1:{port}"),
            advertised: format!("127.0.0.1:{port}"),
        };
        let own = ports(broker);
        let peer = |peer: u32| format!("127.0.0.1:{}", ports(BrokerId(peer)).internal);
        Self::new(
            shared,
            broker.to_string(),
            data_dir,
            peer,
            Listeners {
                kafka: listener(own.kafka),
                quorum: QuorumListener {
                    bind: format!("127.0.0.1:{}", own.internal),
                    advertised: format!("127.0.0.1:{}", own.internal),
                    tls: TlsFiles::within(tls_dir),
                },
                http: Bound {
                    bind: format!("127.0.0.1:{}", own.http),
                },
                grpc: Some(Bound {
                    bind: format!("127.0.0.1:{}", own.grpc),
                }),
            },
        )
    }

    fn new(
        shared: Shared<'_>,
        id: String,
        data_dir: String,
        peer: impl Fn(u32) -> String,
        listeners: Listeners,
    ) -> Self {
        let settings = shared.settings;
        Self {
            cluster: ClusterSection {
                name: shared.name.to_owned(),
                id: shared.id.map(str::to_owned),
                brokers: shared.brokers,
            },
            broker: BrokerSection { id },
            data_dir,
            listeners,
            peers: (0..shared.brokers).map(peer).collect(),
            topics: settings.topics.clone(),
            groups: settings.groups.clone(),
            limits: settings.limits.clone(),
            log_format: "text",
            shutdown_timeout: None,
            tracing: None,
        }
    }

    fn with_log_format(mut self, log_format: &'static str) -> Self {
        self.log_format = log_format;
        self
    }

    /// Where spans of traced messages go; nowhere when it is absent.
    #[must_use]
    pub fn with_otlp_endpoint(mut self, url: Option<String>) -> Self {
        self.tracing = url.map(|otlp_endpoint| TracingSection { otlp_endpoint });
        self
    }

    /// How long a broker that is told to stop may finish what it has begun; the broker's own default when it is absent.
    #[must_use]
    pub fn with_shutdown_timeout(mut self, seconds: Option<i64>) -> Self {
        self.shutdown_timeout = seconds.map(|seconds| format!("{seconds}s"));
        self
    }

    /// The file's text.
    ///
    /// # Errors
    /// Never for this type in practice; the serialiser's own error otherwise.
    pub fn to_yaml(&self) -> Result<String, serde_yaml::ser::Error> {
        serde_yaml::to_string(self)
    }
}

#[cfg(test)]
mod tests {
    use weir_tls::{Role, directory};

    use super::TlsFiles;

    #[test]
    fn a_broker_looks_for_its_certificate_where_it_is_put() {
        let files = TlsFiles::within("/tls");
        let of_seven = |path: &str| path.replace("{id}", "7");
        let expected = directory::files("/tls".as_ref(), Role::Broker(7));
        assert_eq!(expected.authorities.to_str(), Some(files.ca.as_str()));
        assert_eq!(
            expected.certificate.to_str(),
            Some(of_seven(&files.certificate).as_str())
        );
        assert_eq!(expected.key.to_str(), Some(of_seven(&files.key).as_str()));
    }
}
