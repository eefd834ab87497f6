//! Which certificates a cluster needs, and what stands in the way of making them. What is due when is `weir_tls::due`.

use std::collections::{BTreeMap, BTreeSet};

use weir_tls::{Due, Held, Pair, Role, TlsError};

use crate::decide::cluster::World;
use crate::decide::gates::Blocked;
use crate::decide::listeners::Found;
use crate::names;
use crate::objects;
use crate::validate::{Cluster, ListenerTls};

/// Gate: the Secret that a listener's certificate is to come from has none.
pub const LISTENER_CERTIFICATE: &str = "ListenerCertificateMissing";

/// Everyone who needs one: each broker, and whoever calls them from outside.
#[must_use]
pub fn members(brokers: u32) -> Vec<Role> {
    (0..brokers)
        .filter_map(|id| i32::try_from(id).ok().map(Role::Broker))
        .chain([Role::Operator])
        .collect()
}

/// The certificates that there are, with those of listeners that persons brought as these are now, and none of listeners that are gone. What could
/// not be brought stays as it was, and is said.
#[must_use]
pub fn held(cluster: &Cluster, world: &World) -> (Held, Vec<Blocked>) {
    let mut held = world.certificates(&cluster.key.name);
    let mut blocked = Vec::new();
    let mut before = std::mem::take(&mut held.listeners);
    for listener in &cluster.listeners {
        let Some(tls) = &listener.tls else { continue };
        let name = &listener.name;
        let mut pair = before.remove(name);
        if let ListenerTls::Secret(secret) = tls {
            match brought(world, secret) {
                Ok(now) => pair = Some(now),
                Err(why) => {
                    let goes_on = if pair.is_some() {
                        "Its clients are shown the certificate from before"
                    } else {
                        "Brokers do not open it before"
                    };
                    blocked.push(Blocked {
                        gate: LISTENER_CERTIFICATE,
                        message: format!(
                            "listener {name}: Secret {secret} {why}. {goes_on}. It goes on by itself when that changes; or remove \
                             tls.certificateSecret, and the operator issues one"
                        ),
                    });
                }
            }
        }
        held.listeners.extend(pair.map(|pair| (name.clone(), pair)));
    }
    (held, blocked)
}

fn brought(world: &World, secret: &str) -> Result<Pair, String> {
    let at = ("Secret".to_owned(), secret.to_owned());
    let content = world.objects.get(&at).ok_or("is not there")?;
    let pair = objects::brought(content).ok_or("has no tls.crt and tls.key")?;
    pair.life()
        .map_err(|error| format!("cannot be used: {error}"))?;
    Ok(pair)
}

/// What is to be made at a time (seconds since 1970).
///
/// # Errors
/// When there is an authority that cannot be used, which is for a person to see to: brokers that trust another one than their peers do not
/// speak to each other.
pub fn due(
    cluster: &Cluster,
    brokers: u32,
    found: &[Found],
    held: &Held,
    now_s: i64,
) -> Result<Vec<Due>, Blocked> {
    let seen = held
        .seen(&cluster.key.name)
        .map_err(|error| unusable(cluster, &error))?;
    let mut due = weir_tls::due(&members(brokers), &seen, now_s);
    due.extend(weir_tls::due_listeners(
        &issued(cluster, found),
        held,
        now_s,
    ));
    Ok(due)
}

/// The listeners whose certificates come of the cluster's authority, and what clients look for in each.
fn issued(cluster: &Cluster, found: &[Found]) -> BTreeMap<String, BTreeSet<String>> {
    let each = cluster.listeners.iter().zip(found);
    let issued = each.filter(|(listener, _)| listener.tls == Some(ListenerTls::Issued));
    issued
        .map(|(listener, found)| (listener.name.clone(), found.hosts.clone()))
        .collect()
}

/// When the first of a cluster's certificates ends, in seconds since 1970; those of listeners too, whoever brought them.
#[must_use]
pub fn first_end_s(cluster: &Cluster, held: &Held) -> Option<i64> {
    let seen = held.seen(&cluster.key.name).ok()?;
    let of_listeners = held.listeners.values();
    let of_listeners = of_listeners.filter_map(|pair| pair.life().ok());
    let all = seen.authority.into_iter().chain(seen.leaves.into_values());
    all.chain(of_listeners).map(|life| life.until).min()
}

fn unusable(cluster: &Cluster, error: &TlsError) -> Blocked {
    let secret = names::authority_secret(&cluster.key.name);
    Blocked {
        gate: "CertificatesUnusable",
        message: format!(
            "Secret {secret} holds no authority that certificates can be issued of: {error}. Restore the Secret, labelled {}={}; or delete it, and \
             with it the trust between the brokers until each has read its new certificate, which takes some minutes",
            names::CLUSTER_LABEL,
            cluster.key.name
        ),
    }
}
