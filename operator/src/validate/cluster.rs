//! A `Cluster` that can be built.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt;
use weir_crds::{PodOverrides, Resources, Tracing};

use super::listener::{Listener, listeners};
use super::{Invalid, at_least_one};
use crate::broker_config::Settings;
use crate::names;
use crate::quantity::Quantity;
use crate::world::{BrokerId, Key};

/// What the operator itself was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defaults {
    /// Image of the brokers when a Cluster names none.
    pub broker_image: String,
}

/// Where the brokers' image comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Image {
    /// The Cluster names it.
    Named(String),
    /// The Cluster leaves it to the operator: what the brokers have stays, and a new cluster gets this one.
    Default(String),
}

/// Each broker's volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    /// As written.
    pub size: String,
    /// As an amount.
    pub amount: Quantity,
    /// `None`: Kubernetes' default class.
    pub class: Option<String>,
    /// Volumes of brokers that left are deleted.
    pub deletes_on_scale_down: bool,
    /// How it grows by itself.
    pub auto_grow: Option<AutoGrow>,
}

/// How volumes grow by themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AutoGrow {
    /// From this share on that is used.
    pub threshold_percent: u32,
    /// By so much.
    pub step: Quantity,
    /// Up to this.
    pub maximum: Quantity,
    /// The same as written.
    pub maximum_text: String,
}

/// A cluster that somebody wants.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// The resource.
    pub key: Key,
    /// For owner references; empty for manifests.
    pub uid: String,
    /// Change nothing, report only.
    pub paused: bool,
    /// The resource is being deleted.
    pub deleting: bool,
    /// Brokers.
    pub replicas: u32,
    /// Their image.
    pub image: Image,
    /// `imagePullPolicy`, when given.
    pub image_pull_policy: Option<&'static str>,
    /// Names of pull secrets.
    pub image_pull_secrets: Vec<String>,
    /// Their volumes.
    pub storage: Storage,
    /// Their container's resources.
    pub resources: Resources,
    /// Their configuration.
    pub settings: Settings,
    /// Where spans of traced messages go.
    pub otlp_endpoint: Option<String>,
    /// Additions to the pods.
    pub pod: PodOverrides,
    /// Further doors for clients.
    pub listeners: Vec<Listener>,
    /// A newer feature level is used after so many healthy seconds.
    pub finalize_after_s: i64,
    /// `spec.rack` is set, which this version does not carry out.
    pub rack: Option<String>,
    /// The cluster id that was seen before (`status.clusterId`): no broker may form another cluster from an empty disk.
    pub cluster_id: Option<String>,
    /// A person's word on which disks are lost (`weir.dev/lost-disk`), as it was written.
    pub declared_lost: Option<String>,
    /// Brokers that are to hold nothing and to stay (`weir.dev/drain`).
    pub drained: BTreeSet<BrokerId>,
    /// Why it cannot be read which these are.
    pub drained_unread: Option<Invalid>,
}

impl Cluster {
    /// Judges a resource.
    ///
    /// # Errors
    /// Names the first field that cannot be carried out.
    pub fn validate(resource: &weir_crds::Cluster, defaults: &Defaults) -> Result<Self, Invalid> {
        let key = Key::new(
            resource.namespace().unwrap_or_default(),
            resource.name_any(),
        );
        let spec = &resource.spec;
        check_name(&key.name)?;
        let resources = spec.resources.clone().unwrap_or_default();
        check_resources("spec.resources.requests", &resources.requests)?;
        check_resources("spec.resources.limits", &resources.limits)?;
        // No part of the spec, and no reason to carry none of it out.
        let (drained, drained_unread) =
            match drained(resource.annotations().get(names::DRAIN_ANNOTATION)) {
                Ok(drained) => (drained, None),
                Err(invalid) => (BTreeSet::new(), Some(invalid)),
            };
        Ok(Self {
            uid: resource.uid().unwrap_or_default(),
            paused: spec.paused,
            deleting: resource.metadata.deletion_timestamp.is_some(),
            replicas: at_least_one("spec.replicas", spec.replicas)?,
            image: image(spec, defaults)?,
            image_pull_policy: spec
                .image_pull_policy
                .map(weir_crds::ImagePullPolicy::as_str),
            image_pull_secrets: spec
                .image_pull_secrets
                .iter()
                .map(|secret| secret.name.clone())
                .collect(),
            storage: Storage {
                size: spec.storage.size.0.clone(),
                amount: positive("spec.storage.size", &spec.storage.size.0)?,
                class: spec.storage.storage_class_name.clone(),
                deletes_on_scale_down: spec.storage.on_scale_down == weir_crds::OnScaleDown::Delete,
                auto_grow: auto_grow(&spec.storage)?,
            },
            resources,
            otlp_endpoint: spec.tracing.as_ref().map(otlp_endpoint).transpose()?,
            settings: Settings::read(
                spec.config
                    .iter()
                    .map(|(key, value)| (key.as_str(), value.as_str())),
            )?,
            pod: spec.pod.clone().unwrap_or_default(),
            listeners: listeners(&spec.listeners)?,
            finalize_after_s: spec
                .upgrade
                .as_ref()
                .map_or(weir_crds::FINALIZE_AFTER_S, |upgrade| {
                    upgrade.finalize_after_seconds
                })
                .into(),
            rack: spec.rack.as_ref().map(|rack| rack.topology_key.clone()),
            cluster_id: resource
                .status
                .as_ref()
                .and_then(|status| status.cluster_id.clone()),
            declared_lost: resource
                .annotations()
                .get(names::LOST_DISK_ANNOTATION)
                .cloned(),
            drained,
            drained_unread,
            key,
        })
    }
}

/// The brokers that the annotation [`names::DRAIN_ANNOTATION`] names.
pub(crate) fn drained(written: Option<&String>) -> Result<BTreeSet<BrokerId>, Invalid> {
    let words = written.map_or("", String::as_str).split(',').map(str::trim);
    let numbers = words.filter(|word| !word.is_empty()).map(|word| {
        word.parse().map(BrokerId).map_err(|_| {
            Invalid::new(
                "metadata.annotations[weir.dev/drain]",
                format!("\"{word}\" is not a broker's number"),
                "Write numbers with commas between them, such as 1,4, or remove the annotation",
            )
        })
    });
    numbers.collect()
}

/// What the brokers take: with anything else they would not start.
fn otlp_endpoint(tracing: &Tracing) -> Result<String, Invalid> {
    let url = tracing.otlp_endpoint.trim();
    let is_good = url.strip_prefix("http://").is_some_and(|rest| {
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let is_named = |text: &str, more: &str| {
            let mut letters = text.chars();
            letters.all(|letter| letter.is_ascii_alphanumeric() || more.contains(letter))
        };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (authority, None),
        };
        let inside = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let is_host = match inside {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !host.is_empty() && is_named(host, "._-"),
        };
        is_host && port.is_none_or(|port| port.parse::<u16>().is_ok()) && is_named(path, "._~%/-")
    });
    if !is_good {
        return Err(Invalid::new(
            "spec.tracing.otlpEndpoint",
            format!("\"{url}\" is not http://HOST[:PORT][/PATH]"),
            "Write the collector's URL, without TLS, for example http://collector:4318",
        ));
    }
    Ok(url.to_owned())
}

fn check_name(name: &str) -> Result<(), Invalid> {
    let label = name
        .chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-');
    if label && name.len() <= names::CLUSTER_NAME_LEN_MAX {
        return Ok(());
    }
    Err(Invalid::new(
        "metadata.name",
        format!("\"{name}\" cannot name Services and pods"),
        format!(
            "Use at most {} lower-case letters, digits and '-', beginning with a letter",
            names::CLUSTER_NAME_LEN_MAX
        ),
    ))
}

fn positive(field: &str, text: &str) -> Result<Quantity, Invalid> {
    Quantity::parse(text)
        .filter(|quantity| quantity.is_positive())
        .ok_or_else(|| {
            Invalid::new(
                field,
                format!("\"{text}\" is not a positive quantity"),
                "Write one such as 10Gi or 500m",
            )
        })
}

fn auto_grow(storage: &weir_crds::Storage) -> Result<Option<AutoGrow>, Invalid> {
    let Some(policy) = &storage.auto_grow else {
        return Ok(None);
    };
    let (size, maximum) = (&storage.size.0, &policy.maximum.0);
    let field = "spec.storage.autoGrow.maximum";
    let policy = AutoGrow {
        threshold_percent: at_least_one(
            "spec.storage.autoGrow.thresholdPercent",
            policy.threshold_percent,
        )?,
        step: positive("spec.storage.autoGrow.step", &policy.step.0)?,
        maximum: positive(field, maximum)?,
        maximum_text: maximum.clone(),
    };
    if policy.maximum < positive("spec.storage.size", size)? {
        return Err(Invalid::new(
            field,
            format!("{maximum} is below spec.storage.size, {size}"),
            "Write a larger one",
        ));
    }
    Ok(Some(policy))
}

fn check_resources(
    field: &str,
    amounts: &BTreeMap<String, weir_crds::ResourceQuantity>,
) -> Result<(), Invalid> {
    for (name, amount) in amounts {
        positive(&format!("{field}.{name}"), &amount.0)?;
    }
    Ok(())
}

/// A version is a tag of the operator's own broker image.
fn image(spec: &weir_crds::ClusterSpec, defaults: &Defaults) -> Result<Image, Invalid> {
    match (&spec.image, &spec.version) {
        (Some(_), Some(_)) => Err(Invalid::new(
            "spec.image",
            "spec.version is set too",
            "Keep one of the two",
        )),
        (Some(image), None) => Ok(Image::Named(image.clone())),
        (None, Some(version)) => Ok(Image::Named(format!(
            "{}:{version}",
            repository(&defaults.broker_image)
        ))),
        (None, None) => Ok(Image::Default(defaults.broker_image.clone())),
    }
}

/// An image's name without tag and digest.
fn repository(image: &str) -> &str {
    let image = image.split_once('@').map_or(image, |(name, _)| name);
    match image.rsplit_once(':') {
        // A port of the registry is followed by a path, a tag is not.
        Some((name, tag)) if !tag.contains('/') => name,
        _ => image,
    }
}

#[cfg(test)]
mod tests {
    use super::repository;

    #[test]
    fn a_version_replaces_the_tag_and_not_the_registrys_port() {
        for (image, expected) in [
            ("weir-broker:0.1.0", "weir-broker"),
            ("weir-broker", "weir-broker"),
            (
                "registry.example:5000/weir/broker",
                "registry.example:5000/weir/broker",
            ),
            (
                "registry.example:5000/weir/broker:1.2.3",
                "registry.example:5000/weir/broker",
            ),
            ("weir/broker@sha256:abc", "weir/broker"),
        ] {
            assert_eq!(repository(image), expected);
        }
    }
}
