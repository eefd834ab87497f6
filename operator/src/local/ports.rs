//! Which ports the brokers of this machine have.
//!
//! Fixed, so that a bootstrap address stays true from one start to the next: broker N of the first cluster has Kafka on `base + N`, gRPC
//! for clients 5,000 above, its internal port 10,000 above and its HTTP port 20,000 above; each further cluster begins 100 higher.

use std::net::{Ipv4Addr, TcpListener};

use crate::broker_config::Ports;
use crate::world::BrokerId;

/// Ports between two clusters: as many as a cluster may have brokers.
const CLUSTER_STEP: u16 = 100;
const GRPC_STEP: u16 = 5_000;
const INTERNAL_STEP: u16 = 10_000;
const HTTP_STEP: u16 = 20_000;

/// A port that somebody else has, or that does not exist.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Taken {
    /// In use.
    #[error(
        "port {port} ({what} of broker {broker}) is taken by another program. Stop that one, or choose other ports with --port-base {other}"
    )]
    InUse {
        /// The port.
        port: u16,
        /// What it is for.
        what: &'static str,
        /// Whose it is.
        broker: BrokerId,
        /// A base that may be free.
        other: u16,
    },
    /// Above the highest port.
    #[error("broker {0} would need a port above 65535. Choose a lower --port-base, such as 9092")]
    TooHigh(BrokerId),
}

/// The ports of one broker of the cluster in a slot.
pub(super) fn of(base: u16, slot: u16, broker: BrokerId) -> Result<Ports, Taken> {
    let ports = || {
        let kafka = base
            .checked_add(slot.checked_mul(CLUSTER_STEP)?)?
            .checked_add(u16::try_from(broker.0).ok()?)?;
        Some(Ports {
            kafka,
            internal: kafka.checked_add(INTERNAL_STEP)?,
            http: kafka.checked_add(HTTP_STEP)?,
            grpc: kafka.checked_add(GRPC_STEP)?,
        })
    };
    ports().ok_or(Taken::TooHigh(broker))
}

/// Whether a broker's ports are free now.
pub(super) fn check(ports: Ports, broker: BrokerId, base: u16) -> Result<(), Taken> {
    for (port, what) in [
        (ports.kafka, "Kafka"),
        (ports.internal, "internal"),
        (ports.http, "HTTP"),
        (ports.grpc, "gRPC"),
    ] {
        // Bound and let go: a listener that never accepted leaves nothing behind.
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err() {
            let other = if base < 20_000 {
                base + 10_000 + 500
            } else {
                9092
            };
            return Err(Taken::InUse {
                port,
                what,
                broker,
                other,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::{Ipv4Addr, TcpListener};

    use super::{Taken, check, of};
    use crate::broker_config::Ports;
    use crate::world::BrokerId;

    #[test]
    fn no_two_brokers_share_a_port_and_the_first_is_where_clients_look() {
        let mut seen = BTreeSet::new();
        for slot in 0..3 {
            for broker in 0..100 {
                let ports = of(9092, slot, BrokerId(broker)).unwrap_or(Ports {
                    kafka: 0,
                    internal: 0,
                    http: 0,
                    grpc: 0,
                });
                for port in [ports.kafka, ports.internal, ports.http, ports.grpc] {
                    assert!(port > 0 && seen.insert(port), "{port} twice");
                }
            }
        }
        assert_eq!(of(9092, 0, BrokerId(0)).map(|ports| ports.kafka), Ok(9092));
    }

    #[test]
    fn a_port_that_does_not_exist_is_an_error_with_a_remedy() {
        assert_eq!(of(60_000, 0, BrokerId(0)), Err(Taken::TooHigh(BrokerId(0))));
    }

    #[test]
    fn a_port_that_is_taken_is_named_with_the_remedy() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|listener| Ok((listener.local_addr()?.port(), listener)));
        let Ok((port, _listener)) = taken else {
            panic!("no port on the loopback")
        };
        let ports = Ports {
            kafka: port,
            internal: port,
            http: port,
            grpc: port,
        };
        let error = check(ports, BrokerId(1), 9092)
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default();
        assert!(
            error.contains(&format!("port {port} (Kafka of broker 1) is taken"))
                && error.contains("--port-base 19592"),
            "{error}"
        );
    }
}
