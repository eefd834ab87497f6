//! Client quotas: whom they are for, what they limit, and what may be set (KIP-13, KIP-124, KIP-599, KIP-612).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{ControlError, ErrorName};

/// Bytes a second that producers may send.
pub const PRODUCER_BYTE_RATE: &str = "producer_byte_rate";
/// Bytes a second that consumers may fetch.
pub const CONSUMER_BYTE_RATE: &str = "consumer_byte_rate";
/// Percent of one thread's time that requests may take.
pub const REQUEST_PERCENTAGE: &str = "request_percentage";
/// Partitions a second that may be created and deleted.
pub const CONTROLLER_MUTATION_RATE: &str = "controller_mutation_rate";
/// Connections a second that an address may open.
pub const CONNECTION_CREATION_RATE: &str = "connection_creation_rate";

/// How many entities may have quotas: every broker keeps all of them.
pub const ENTITIES_MAX: usize = 10_000;

/// The longest name of a user or client, in bytes.
const NAME_BYTES_MAX: usize = 1_024;

/// A user's, client's or address's name, or all of that kind that have no quota of their own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum QuotaName {
    /// All others.
    Default,
    /// This one.
    Named(String),
}

/// Whom a quota is for: a user, a client id, both, or an address.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuotaEntity {
    /// The user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<QuotaName>,
    /// The client id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<QuotaName>,
    /// The address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<QuotaName>,
}

/// A limit; always finite and above 0 once it was checked.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rate(pub f64);

// No rate is NaN: what is no number is not taken ([`check_value`]), and JSON has none.
impl Eq for Rate {}

/// The quotas of all entities.
pub type ClientQuotas = BTreeMap<QuotaEntity, BTreeMap<String, Rate>>;

impl QuotaEntity {
    /// An entity from pairs of a type (`user`, `client-id`, `ip`) and a name, none for all others.
    pub fn of<'n>(
        pairs: impl Iterator<Item = (&'n str, Option<&'n str>)>,
    ) -> Result<Self, ControlError> {
        let mut entity = Self::default();
        for (kind, name) in pairs {
            if name == Some("") {
                return Err(invalid(format!("Empty {kind} not supported")));
            }
            if name.is_some_and(|name| name.len() > NAME_BYTES_MAX) {
                return Err(invalid(format!(
                    "the name of a {kind} has more than {NAME_BYTES_MAX} bytes"
                )));
            }
            let name = name.map_or(QuotaName::Default, |name| QuotaName::Named(name.to_owned()));
            let place = match kind {
                "user" => &mut entity.user,
                "client-id" => &mut entity.client_id,
                "ip" => &mut entity.ip,
                _ => {
                    return Err(invalid(format!(
                        "Unhandled client quota entity type: {kind}"
                    )));
                }
            };
            *place = Some(name);
        }
        if entity == Self::default() {
            return Err(invalid("Invalid empty client quota entity"));
        }
        if entity.ip.is_some() && (entity.user.is_some() || entity.client_id.is_some()) {
            return Err(invalid(
                "Invalid quota entity combination, IP entity should not be combined with User or ClientId",
            ));
        }
        if let Some(QuotaName::Named(ip)) = &entity.ip
            && ip.parse::<std::net::IpAddr>().is_err()
        {
            return Err(invalid(format!("{ip} is not a valid IP address.")));
        }
        Ok(entity)
    }

    /// The pairs that it is made of.
    pub fn pairs(&self) -> impl Iterator<Item = (&'static str, Option<&str>)> {
        let parts = [
            ("user", &self.user),
            ("client-id", &self.client_id),
            ("ip", &self.ip),
        ];
        parts.into_iter().filter_map(|(kind, name)| match name {
            None => None,
            Some(QuotaName::Default) => Some((kind, None)),
            Some(QuotaName::Named(name)) => Some((kind, Some(name.as_str()))),
        })
    }

    /// Whether it takes quotas of this name.
    fn takes(&self, key: &str) -> bool {
        if self.ip.is_some() {
            return key == CONNECTION_CREATION_RATE;
        }
        matches!(
            key,
            PRODUCER_BYTE_RATE | CONSUMER_BYTE_RATE | REQUEST_PERCENTAGE | CONTROLLER_MUTATION_RATE
        )
    }
}

/// Whether an entity may have this quota.
pub fn check_key(entity: &QuotaEntity, key: &str) -> Result<(), ControlError> {
    if entity.takes(key) {
        return Ok(());
    }
    Err(invalid(format!("Invalid configuration key {key}")))
}

/// Whether a quota may have this value.
pub fn check_value(key: &str, value: Rate) -> Result<(), ControlError> {
    let Rate(value) = value;
    if !value.is_finite() || value <= 0.0 {
        return Err(invalid(format!("Quota {key} must be greater than 0")));
    }
    let (is_whole, max) = match key {
        PRODUCER_BYTE_RATE | CONSUMER_BYTE_RATE => (true, i64::MAX as f64),
        CONNECTION_CREATION_RATE => (true, f64::from(i32::MAX)),
        _ => (false, f64::MAX),
    };
    if is_whole && value.fract() != 0.0 {
        return Err(invalid(format!("{key} cannot be a fractional value.")));
    }
    if value > max {
        return Err(invalid(format!("Quota {key} must be less than {max}")));
    }
    Ok(())
}

fn invalid(message: impl Into<String>) -> ControlError {
    ControlError::new(ErrorName::InvalidRequest, message)
}
