//! A cluster's certificates as Secrets: the authority, the brokers', and the operator's own; and what clients are to trust as a ConfigMap.
//!
//! What the brokers' listeners show their clients is in the brokers' Secret too, which every pod mounts already: so a listener gets its certificate,
//! and another one, while the pods run.
//! The brokers' are in one Secret, since all pods of a StatefulSet mount the same: each reads its own. In every Secret the files have
//! the names that they have in a directory (`weir_tls::directory`).

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde::Deserialize;
use serde_json::Value;
use weir_tls::{Held, Pair, Pems, Role, directory};

use super::{BuildError, Child, child, metadata};
use crate::names;
use crate::validate::Cluster;

const AUTHORITY_KEY: &str = "ca.key";

/// The Secrets of a cluster that has certificates, the authority's first, and the ConfigMap with what clients are to trust.
///
/// # Errors
/// When an object cannot be serialised, which is a defect.
pub fn secrets(cluster: &Cluster, held: &Held) -> Result<Vec<Child>, BuildError> {
    let Some(authority) = &held.authority else {
        return Ok(Vec::new());
    };
    let name = &cluster.key.name;
    let trusted = || {
        (
            directory::AUTHORITY.to_owned(),
            authority.certificate.clone(),
        )
    };
    let of = |wanted: fn(&Role) -> bool| {
        let members = held.leaves.iter().filter(move |(role, _)| wanted(role));
        members.flat_map(|(role, pair)| {
            [
                (directory::certificate_of(*role), pair.certificate.clone()),
                (directory::key_of(*role), pair.key.clone()),
            ]
        })
    };
    let key = (AUTHORITY_KEY.to_owned(), authority.key.clone());
    let listeners = held.listeners.iter().flat_map(|(listener, pair)| {
        [
            (
                directory::certificate_of_listener(listener),
                pair.certificate.clone(),
            ),
            (directory::key_of_listener(listener), pair.key.clone()),
        ]
    });
    let brokers = of(|role| matches!(role, Role::Broker(_))).chain(listeners);
    let operator = of(|role| *role == Role::Operator);
    let secret = |name: String, texts: BTreeMap<String, String>| Secret {
        metadata: metadata::named(cluster, name),
        type_: Some("Opaque".to_owned()),
        data: Some(
            texts
                .into_iter()
                .map(|(file, text)| (file, ByteString(text.into_bytes())))
                .collect(),
        ),
        ..Secret::default()
    };
    let published = ConfigMap {
        metadata: metadata::named(cluster, names::authority_config_map(name)),
        data: Some([trusted()].into()),
        ..ConfigMap::default()
    };
    let mut children = [
        secret(names::authority_secret(name), [trusted(), key].into()),
        secret(
            names::brokers_secret(name),
            brokers.chain([trusted()]).collect(),
        ),
        secret(
            names::operator_secret(name),
            operator.chain([trusted()]).collect(),
        ),
    ]
    .iter()
    .map(|secret| child::<Secret>(cluster, secret))
    .collect::<Result<Vec<Child>, BuildError>>()?;
    children.push(child::<ConfigMap>(cluster, &published)?);
    Ok(children)
}

/// What the operator calls the brokers with, from its Secret.
#[must_use]
pub fn credentials(secret: &Value) -> Option<Pems> {
    let mut texts = texts(secret);
    Some(Pems {
        authorities: texts.remove(directory::AUTHORITY)?,
        certificate: texts.remove(&directory::certificate_of(Role::Operator))?,
        key: texts.remove(&directory::key_of(Role::Operator))?,
    })
}

/// The certificate and the key in a Secret of type `kubernetes.io/tls`.
#[must_use]
pub fn brought(secret: &Value) -> Option<Pair> {
    pair(&texts(secret), "tls.crt", "tls.key")
}

/// The files in a Secret.
fn texts(secret: &Value) -> BTreeMap<String, String> {
    let data = Secret::deserialize(secret)
        .ok()
        .and_then(|secret| secret.data);
    data.unwrap_or_default()
        .into_iter()
        .filter_map(|(file, bytes)| Some((file, String::from_utf8(bytes.0).ok()?)))
        .collect()
}

fn pair(texts: &BTreeMap<String, String>, certificate: &str, key: &str) -> Option<Pair> {
    Some(Pair {
        certificate: texts.get(certificate)?.clone(),
        key: texts.get(key)?.clone(),
    })
}

/// The certificates in a cluster's Secrets, `observed` by name.
#[must_use]
pub fn held<'a>(cluster: &str, observed: impl Fn(&str) -> Option<&'a Value>) -> Held {
    let (mut leaves, mut listeners) = (BTreeMap::new(), BTreeMap::new());
    for name in [
        names::brokers_secret(cluster),
        names::operator_secret(cluster),
    ] {
        let texts = observed(&name).map(texts).unwrap_or_default();
        for role in texts.keys().filter_map(|file| directory::role_of(file)) {
            let files = (directory::certificate_of(role), directory::key_of(role));
            if let Some(pair) = pair(&texts, &files.0, &files.1) {
                leaves.insert(role, pair);
            }
        }
        for listener in texts.keys().filter_map(|file| directory::listener_of(file)) {
            let files = (
                directory::certificate_of_listener(listener),
                directory::key_of_listener(listener),
            );
            if let Some(pair) = pair(&texts, &files.0, &files.1) {
                listeners.insert(listener.to_owned(), pair);
            }
        }
    }
    let authority = observed(&names::authority_secret(cluster)).map(|secret| {
        // A Secret that is there without its content is not one that is not there.
        pair(&texts(secret), directory::AUTHORITY, AUTHORITY_KEY).unwrap_or(Pair {
            certificate: String::new(),
            key: String::new(),
        })
    });
    Held {
        authority,
        leaves,
        listeners,
    }
}
