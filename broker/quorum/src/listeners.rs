//! Listeners for clients that a broker opens because the metadata say so, and where clients are told that they reach them.
//!
//! They are kept as Kafka keeps them: a broker's own `listeners` and `advertised.listeners`, lists of `name://host:port`. These were always
//! records that every version reads, so that they need no feature level. Only the controller writes them
//! ([`Command::SetListeners`](crate::Command::SetListeners)); clients may not. What cannot be read counts as absent.

use serde::{Deserialize, Serialize};

use crate::ids::BrokerId;
use crate::image::{Broker, Image};
use crate::record::HostPort;

/// The listener of the broker's own file: it is always there, and its address comes with the registration.
pub const OWN: &str = "kafka";

/// The key under which the ports of a broker's other listeners are kept.
pub const BOUND: &str = "listeners";
/// The key under which their addresses are kept.
pub const ADVERTISED: &str = "advertised.listeners";

/// Behind the port of one whose clients speak TLS. Versions that know nothing of it find no number there, and open nothing.
const TLS: &str = "/tls";

/// Listeners of one broker at most: each has a task and a socket, and its address in every broker's metadata.
pub const LISTENERS_MAX: usize = 16;

/// The longest name of a listener.
const NAME_BYTES_MAX: usize = 32;
/// The longest name of a host, by DNS.
const HOST_BYTES_MAX: usize = 253;
/// Below are the ports that need rights which a broker does not have.
const PORT_MIN: u16 = 1024;

/// A listener besides that of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Said", into = "Said")]
pub struct Listener {
    /// Its name: lower-case letters, digits and '-', beginning with a letter.
    pub name: String,
    /// The port that the broker listens on, on all its addresses.
    pub port: u16,
    /// Whether clients speak TLS there.
    pub tls: bool,
    /// Where clients reach it, once that is known. Before, clients that come by this listener are not told of this broker.
    pub advertised: Option<HostPort>,
}

/// A listener as brokers tell each other. Versions that know nothing of TLS find no port, and refuse: they would open it without.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Said {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tls_port: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    advertised: Option<HostPort>,
}

impl From<Listener> for Said {
    fn from(listener: Listener) -> Self {
        let port = Some(listener.port);
        Self {
            name: listener.name,
            port: port.filter(|_| !listener.tls),
            tls_port: port.filter(|_| listener.tls),
            advertised: listener.advertised,
        }
    }
}

impl TryFrom<Said> for Listener {
    type Error = String;

    fn try_from(said: Said) -> Result<Self, String> {
        let (port, tls) = match (said.port, said.tls_port) {
            (Some(port), None) => (port, false),
            (None, Some(port)) => (port, true),
            _ => {
                return Err(format!(
                    "listener {} has either a port or a TLS port",
                    said.name
                ));
            }
        };
        Ok(Self {
            name: said.name,
            port,
            tls,
            advertised: said.advertised,
        })
    }
}

impl Listener {
    /// Whether it can be kept and told to clients; if not, why.
    ///
    /// # Errors
    /// With what was wrong and what is allowed.
    pub fn check(&self) -> Result<(), String> {
        let name = &self.name;
        let is_name = name.len() <= NAME_BYTES_MAX
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && name
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if !is_name || name == OWN {
            return Err(format!(
                "a listener named {name:?}; allowed: at most {NAME_BYTES_MAX} lower-case letters, digits and '-', beginning with a letter, \
                 and not {OWN:?}"
            ));
        }
        if self.port < PORT_MIN {
            return Err(format!(
                "listener {name} on port {}; allowed: {PORT_MIN} to 65535",
                self.port
            ));
        }
        let Some(HostPort { host, port }) = &self.advertised else {
            return Ok(());
        };
        // What stands in a list may not hold what separates its members.
        let is_host = !host.is_empty()
            && host.len() <= HOST_BYTES_MAX
            && host
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':'));
        if !is_host || *port == 0 {
            return Err(format!(
                "listener {name} at {host:?}, port {port}; allowed: a name in DNS or an address, and a port from 1 on"
            ));
        }
        Ok(())
    }
}

/// The ports of listeners, as they are kept.
pub(crate) fn bound(listeners: &[Listener]) -> String {
    let each = listeners.iter().map(|listener| {
        let tls = if listener.tls { TLS } else { "" };
        format!("{}://0.0.0.0:{}{tls}", listener.name, listener.port)
    });
    each.collect::<Vec<_>>().join(",")
}

/// The addresses of listeners, as they are kept.
pub(crate) fn advertised(listeners: &[Listener]) -> String {
    let each = listeners.iter().filter_map(|listener| {
        let address = listener.advertised.as_ref()?;
        Some(format!("{}://{address}", listener.name))
    });
    each.collect::<Vec<_>>().join(",")
}

impl Image {
    /// The listeners that a broker is to have besides that of its file, by the metadata.
    #[must_use]
    pub fn listeners(&self, id: BrokerId) -> Vec<Listener> {
        let found = members(self, id, BOUND).take(LISTENERS_MAX);
        found
            .filter_map(|member| match member.strip_suffix(TLS) {
                Some(member) => Some((parse(member)?, true)),
                None => Some((parse(member)?, false)),
            })
            .map(|((name, bound), tls)| Listener {
                name: name.to_owned(),
                port: bound.port,
                tls,
                advertised: of(self, id, ADVERTISED)
                    .find(|(other, _)| *other == name)
                    .map(|(_, address)| address),
            })
            .collect()
    }

    /// Where clients that come by a listener reach a broker; `None` when it has no such listener, or no address for it yet.
    #[must_use]
    pub fn address(&self, broker: &Broker, listener: &str) -> Option<HostPort> {
        if listener == OWN {
            return Some(broker.kafka.clone());
        }
        let mut found = of(self, broker.id, ADVERTISED);
        found
            .find(|(name, _)| *name == listener)
            .map(|(_, address)| address)
    }
}

/// The addresses in a list of a broker's.
fn of<'i>(
    image: &'i Image,
    id: BrokerId,
    key: &str,
) -> impl Iterator<Item = (&'i str, HostPort)> + use<'i> {
    members(image, id, key).filter_map(parse)
}

/// The members of a list of a broker's.
fn members<'i>(
    image: &'i Image,
    id: BrokerId,
    key: &str,
) -> impl Iterator<Item = &'i str> + use<'i> {
    let own = image.broker_config(id).and_then(|own| own.get(key));
    own.into_iter().flat_map(|list| list.split(','))
}

/// `name://host:port`; a host with colons stands in brackets.
fn parse(member: &str) -> Option<(&str, HostPort)> {
    let (name, address) = member.trim().split_once("://")?;
    let (host, port) = address.rsplit_once(':')?;
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    let address = HostPort {
        host: host.to_owned(),
        port: port.parse().ok()?,
    };
    Some((name, address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{ConfigChanged, ConfigOf, Record};

    fn listener(name: &str, port: u16, advertised: Option<(&str, u16)>) -> Listener {
        Listener {
            name: name.into(),
            port,
            tls: name == "secured",
            advertised: advertised.map(|(host, port)| HostPort {
                host: host.into(),
                port,
            }),
        }
    }

    fn kept(listeners: &[Listener]) -> Image {
        let record = |key: &str, value: String| {
            Record::ConfigChanged(ConfigChanged {
                of: ConfigOf::Broker(BrokerId(1)),
                key: key.into(),
                value: Some(value),
            })
        };
        let records = [
            record(BOUND, bound(listeners)),
            record(ADVERTISED, advertised(listeners)),
        ];
        Image::default().apply(1, &records).unwrap_or_default()
    }

    #[test]
    fn what_is_kept_is_read_again() {
        let all = [
            listener("nodes", 9100, Some(("2001:db8::7", 31_000))),
            listener("lb", 9101, Some(("broker-1.example.com", 9092))),
            listener("pending", 9102, None),
            listener("secured", 9103, Some(("broker-1.example.com", 9093))),
        ];
        for one in &all {
            assert_eq!(one.check(), Ok(()));
        }
        assert_eq!(kept(&all).listeners(BrokerId(1)), all);
        assert_eq!(kept(&all).listeners(BrokerId(2)), []);
        assert_eq!(kept(&[]).listeners(BrokerId(1)), []);
    }

    /// A version without TLS must not open what is to be spoken over TLS: for it neither what is kept nor what is asked has a port.
    #[test]
    fn a_version_that_knows_no_tls_opens_nothing_of_it() {
        let secured = listener("secured", 9103, None);
        assert_eq!(parse(&bound(std::slice::from_ref(&secured))), None);
        let said = serde_json::to_value(&secured).unwrap_or_default();
        assert_eq!(
            said,
            serde_json::json!({"name": "secured", "tls_port": 9103})
        );
        assert_eq!(serde_json::from_value::<Listener>(said).ok(), Some(secured));
        let plain = serde_json::json!({"name": "lb", "port": 9100});
        let read = serde_json::from_value::<Listener>(plain).ok();
        assert_eq!(read, Some(listener("lb", 9100, None)));
        for neither in [
            serde_json::json!({"name": "lb"}),
            serde_json::json!({"name": "lb", "port": 9100, "tls_port": 9101}),
        ] {
            assert!(serde_json::from_value::<Listener>(neither).is_err());
        }
    }

    #[test]
    fn what_would_be_read_otherwise_is_refused() {
        for (name, port, host) in [
            ("", 9100, "h"),
            ("Lb", 9100, "h"),
            ("9lb", 9100, "h"),
            ("a,b", 9100, "h"),
            ("a://b", 9100, "h"),
            (OWN, 9100, "h"),
            ("lb", 80, "h"),
            ("lb", 9100, ""),
            ("lb", 9100, "a,lb2://b"),
            ("lb", 9100, "a b"),
            ("lb", 9100, "[::1]"),
        ] {
            let refused = listener(name, port, Some((host, 1))).check();
            assert!(refused.is_err(), "{name} {port} {host}");
        }
        assert!(listener("lb", 9100, Some(("h", 0))).check().is_err());
        assert!(listener(&"a".repeat(33), 9100, None).check().is_err());
    }

    #[test]
    fn what_cannot_be_read_counts_as_absent() {
        for member in ["", "lb", "lb://", "lb://h", "lb://h:", "lb://h:70000"] {
            assert_eq!(parse(member), None, "{member}");
        }
    }
}
