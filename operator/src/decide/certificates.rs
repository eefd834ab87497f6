//! Which certificates a cluster needs, and what stands in the way of making them. What is due when is `weir_tls::due`.

use weir_tls::{Due, Held, Role, TlsError};

use crate::decide::gates::Blocked;
use crate::names;
use crate::validate::Cluster;

/// Everyone who needs one: each broker, and whoever calls them from outside.
#[must_use]
pub fn members(brokers: u32) -> Vec<Role> {
    (0..brokers)
        .filter_map(|id| i32::try_from(id).ok().map(Role::Broker))
        .chain([Role::Operator])
        .collect()
}

/// What is to be made at a time (seconds since 1970).
///
/// # Errors
/// When there is an authority that cannot be used, which is for a person to see to: brokers that trust another one than their peers do not
/// speak to each other.
pub fn due(cluster: &Cluster, brokers: u32, held: &Held, now_s: i64) -> Result<Vec<Due>, Blocked> {
    let seen = held
        .seen(&cluster.key.name)
        .map_err(|error| unusable(cluster, &error))?;
    Ok(weir_tls::due(&members(brokers), &seen, now_s))
}

/// When the first of a cluster's certificates ends, in seconds since 1970.
#[must_use]
pub fn first_end_s(cluster: &Cluster, held: &Held) -> Option<i64> {
    let seen = held.seen(&cluster.key.name).ok()?;
    let all = seen.authority.iter().chain(seen.leaves.values());
    all.map(|life| life.until).min()
}

fn unusable(cluster: &Cluster, error: &TlsError) -> Blocked {
    let secret = names::authority_secret(&cluster.key.name);
    Blocked {
        gate: "CertificatesUnusable",
        message: format!(
            "Secret {secret} holds no authority that certificates can be issued of: {error}. Restore the Secret; or delete it, and with it the \
             trust between the brokers until each has read its new certificate, which takes some minutes"
        ),
    }
}
