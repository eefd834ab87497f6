//! The brokers' StatefulSet.
//!
//! `OnDelete`: the operator decides when a pod is replaced. `Parallel`: brokers form their quorum together. Volumes are kept when the set
//! shrinks or goes. Claim templates cannot change, so those that exist are kept as they are; claims grow by themselves. Pods satisfy the restricted Pod Security profile.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::{
    StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec,
    StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EnvVar, HTTPGetAction,
    LocalObjectReference, PersistentVolumeClaim, PersistentVolumeClaimSpec, PodAffinityTerm,
    PodAntiAffinity, PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ResourceRequirements,
    SeccompProfile, SecretVolumeSource, SecurityContext, Volume, VolumeMount,
    VolumeResourceRequirements, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use super::{config_map, metadata, pod_hash};
use crate::broker_config::{DATA_DIR, TLS_DIR, live_key};
use crate::decide::heal::Healing;
use crate::decide::scale::Lowered;
use crate::decide::upgrade::Known;
use crate::names;
use crate::validate::{Cluster, Image};

/// The broker's image has this user.
const USER: i64 = 65_532;

/// A broker flushes, hands over and says goodbye within 20 seconds of its own accord; the rest is for a slow disk.
const GRACE_PERIOD_S: i64 = 60;

/// The broker's configuration of the port for gRPC (`listeners.grpc.bind`), as the environment has it.
const GRPC_BIND: &str = "WEIR_LISTENERS_GRPC_BIND";
/// Where the broker's spans go (`tracing.otlp_endpoint`), likewise.
const OTLP_ENDPOINT: &str = "WEIR_TRACING_OTLP_ENDPOINT";
const CONFIG_DIR: &str = "/etc/weir";
const DATA: &str = names::CLAIM_TEMPLATE;
const CONFIG: &str = "config";
const TLS: &str = "tls";

/// Keys are read by the pod's own group and nobody else.
const KEYS_MODE: i32 = 0o440;

/// The default image that a cluster was created with, so that a newer operator's default does not restart it.
const DEFAULT_IMAGE_ANNOTATION: &str = "weir.dev/default-image";

/// The number of brokers that replicas were last asked to be spread over.
const BALANCED_ANNOTATION: &str = "weir.dev/balanced";

/// How many brokers the operator last gave the set, whatever somebody else has made of that since.
const BROKERS_ANNOTATION: &str = "weir.dev/brokers";

/// How many replicas the brokers' own topics had before brokers left for which they were too many.
const LOWERED_ANNOTATION: &str = "weir.dev/lowered";

/// The broker whose lost disk is being replaced, and which volume that was.
const HEALING_ANNOTATION: &str = "weir.dev/healing";

/// The feature level of the cluster, and those that images know.
const LEVELS_ANNOTATION: &str = "weir.dev/levels";

/// What stands in the brokers' file of what they can be told while they run, as JSON.
const FILE_CONFIG_ANNOTATION: &str = "weir.dev/file-config";

/// What brokers were told while they run, by the brokers' names, with commas between them.
const LIVE_CONFIG_ANNOTATION: &str = "weir.dev/live-config";

/// What there is already and has to stay.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Existing {
    /// What is known of feature levels.
    pub levels: Known,
    /// What the brokers are to run whatever the Cluster says, which would be refused by those that run.
    pub kept_image: Option<String>,
    /// What the pods of the set are made with.
    pub template_image: Option<String>,
    /// Pods are to be made as they were, whatever the Cluster says.
    pub keeps_template: bool,
    /// Size of the set.
    pub replicas: Option<u32>,
    /// The size that the operator last gave it.
    pub brokers: Option<u32>,
    /// The number of brokers that replicas were last asked to be spread over.
    pub balanced: Option<u32>,
    /// How many replicas the brokers' own topics had before there were fewer brokers than that.
    pub lowered: Lowered,
    /// The broker whose lost disk is being replaced.
    pub healing: Option<Healing>,
    /// Why no broker that serves may be evicted now.
    pub evictions_held: Option<String>,
    /// What stands in the brokers' file of what they can be told while they run.
    pub file_config: Option<BTreeMap<&'static str, String>>,
    /// What the Cluster says of that, or said and is not back at its default yet, by the brokers' names.
    pub configured: BTreeSet<String>,
    default_image: Option<String>,
    template: Option<PodTemplateSpec>,
    claims: Option<Vec<PersistentVolumeClaim>>,
}

impl Existing {
    /// Reads it off the StatefulSet that was observed.
    #[must_use]
    pub fn of(set: Option<&Value>) -> Self {
        let Some(set) = set.and_then(|set| serde_json::from_value::<StatefulSet>(set.clone()).ok())
        else {
            return Self::default();
        };
        let annotation = |name: &str| {
            let annotations = set.metadata.annotations.as_ref()?;
            annotations.get(name).cloned()
        };
        let default_image = annotation(DEFAULT_IMAGE_ANNOTATION);
        let balanced = annotation(BALANCED_ANNOTATION).and_then(|number| number.parse().ok());
        let lowered = annotation(LOWERED_ANNOTATION).unwrap_or_default();
        let brokers = annotation(BROKERS_ANNOTATION).and_then(|number| number.parse().ok());
        let healing = annotation(HEALING_ANNOTATION).and_then(|text| Healing::parse(&text));
        let file_config = annotation(FILE_CONFIG_ANNOTATION).and_then(|text| file_config(&text));
        let configured = annotation(LIVE_CONFIG_ANNOTATION).unwrap_or_default();
        let configured = configured.split(',').filter(|name| !name.is_empty());
        let configured = configured.map(str::to_owned).collect();
        let levels = annotation(LEVELS_ANNOTATION).and_then(|text| Known::parse(&text));
        let spec = set.spec.unwrap_or_default();
        let pod = spec.template.spec.as_ref();
        let template_image = pod
            .and_then(|pod| pod.containers.first())
            .and_then(|container| container.image.clone());
        let mut claims = spec.volume_claim_templates;
        for claim in claims.iter_mut().flatten() {
            claim.status = None;
        }
        Self {
            replicas: spec
                .replicas
                .and_then(|replicas| u32::try_from(replicas).ok()),
            brokers,
            balanced,
            lowered: Lowered::parse(&lowered),
            healing,
            evictions_held: None,
            file_config,
            configured,
            default_image,
            claims,
            levels: levels.unwrap_or_default(),
            kept_image: None,
            template_image,
            keeps_template: false,
            template: Some(spec.template),
        }
    }

    /// The image that the brokers are to run.
    #[must_use]
    pub fn image<'a>(&'a self, cluster: &'a Cluster) -> &'a str {
        if let Some(kept) = &self.kept_image {
            return kept;
        }
        match &cluster.image {
            Image::Named(image) => image,
            Image::Default(image) => self.default_image.as_deref().unwrap_or(image),
        }
    }
}

/// Keys that there are no more were never told to a broker.
fn file_config(text: &str) -> Option<BTreeMap<&'static str, String>> {
    let file: BTreeMap<String, String> = serde_json::from_str(text).ok()?;
    let known = file
        .into_iter()
        .filter_map(|(key, value)| Some((live_key(&key)?, value)));
    Some(known.collect())
}

pub(super) fn build(cluster: &Cluster, brokers: u32, existing: &Existing) -> StatefulSet {
    let name = &cluster.key.name;
    let image = existing.image(cluster);
    let mut meta = metadata::named(cluster, names::brokers(name));
    let balanced = existing.balanced.unwrap_or(brokers);
    let mut annotations = BTreeMap::from([
        (BALANCED_ANNOTATION.to_owned(), balanced.to_string()),
        (BROKERS_ANNOTATION.to_owned(), brokers.to_string()),
    ]);
    if let Some(lowered) = existing.lowered.text() {
        annotations.insert(LOWERED_ANNOTATION.to_owned(), lowered);
    }
    if let Some(healing) = &existing.healing {
        annotations.insert(HEALING_ANNOTATION.to_owned(), healing.to_string());
    }
    if matches!(cluster.image, Image::Default(_)) {
        annotations.insert(DEFAULT_IMAGE_ANNOTATION.to_owned(), image.to_owned());
    }
    if let Some(levels) = existing.levels.text() {
        annotations.insert(LEVELS_ANNOTATION.to_owned(), levels);
    }
    if let Some(file) = &existing.file_config {
        // Maps of text are JSON; should one ever fail to serialise, the file is taken to be what the Cluster says.
        let file = serde_json::to_string(file).unwrap_or_default();
        annotations.insert(FILE_CONFIG_ANNOTATION.to_owned(), file);
    }
    if !existing.configured.is_empty() {
        let names: Vec<&str> = existing.configured.iter().map(String::as_str).collect();
        annotations.insert(LIVE_CONFIG_ANNOTATION.to_owned(), names.join(","));
    }
    meta.annotations = Some(annotations);
    let kept = existing.template.clone();
    let kept = kept.filter(|_| existing.keeps_template);
    StatefulSet {
        metadata: meta,
        spec: Some(StatefulSetSpec {
            replicas: i32::try_from(brokers).ok(),
            service_name: Some(names::headless_service(name)),
            selector: LabelSelector {
                match_labels: Some(names::selector(name)),
                ..LabelSelector::default()
            },
            pod_management_policy: Some("Parallel".to_owned()),
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("OnDelete".to_owned()),
                rolling_update: None,
            }),
            persistent_volume_claim_retention_policy: Some(
                StatefulSetPersistentVolumeClaimRetentionPolicy {
                    when_deleted: Some("Retain".to_owned()),
                    when_scaled: Some("Retain".to_owned()),
                },
            ),
            template: kept.unwrap_or_else(|| template(cluster, image)),
            volume_claim_templates: Some(
                existing
                    .claims
                    .clone()
                    .unwrap_or_else(|| vec![claim(cluster)]),
            ),
            ..StatefulSetSpec::default()
        }),
        status: None,
    }
}

fn template(cluster: &Cluster, image: &str) -> PodTemplateSpec {
    let mut labels = cluster.pod.labels.clone();
    labels.extend(names::labels(&cluster.key.name));
    let mut annotations = names::scraped();
    annotations.extend(cluster.pod.annotations.clone());
    annotations.insert(
        names::POD_HASH_ANNOTATION.to_owned(),
        pod_hash(cluster, image),
    );
    let secrets: Vec<LocalObjectReference> = cluster
        .image_pull_secrets
        .iter()
        .map(|name| LocalObjectReference { name: name.clone() })
        .collect();
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            service_account_name: Some(names::brokers(&cluster.key.name)),
            automount_service_account_token: Some(false),
            // The variables of Services would read as configuration of a broker when a Service's name begins with "weir".
            enable_service_links: Some(false),
            security_context: Some(pod_security()),
            termination_grace_period_seconds: Some(
                cluster
                    .pod
                    .termination_grace_period_seconds
                    .unwrap_or(GRACE_PERIOD_S),
            ),
            image_pull_secrets: some_unless_empty(secrets),
            node_selector: (!cluster.pod.node_selector.is_empty())
                .then(|| cluster.pod.node_selector.clone()),
            tolerations: some_unless_empty(cluster.pod.tolerations.clone()),
            affinity: Some(
                cluster
                    .pod
                    .affinity
                    .clone()
                    .unwrap_or_else(|| different_nodes(&cluster.key.name)),
            ),
            topology_spread_constraints: some_unless_empty(
                cluster.pod.topology_spread_constraints.clone(),
            ),
            priority_class_name: cluster.pod.priority_class_name.clone(),
            containers: vec![container(cluster, image)],
            volumes: Some(vec![
                Volume {
                    name: CONFIG.to_owned(),
                    config_map: Some(ConfigMapVolumeSource {
                        name: names::config_map(&cluster.key.name),
                        ..ConfigMapVolumeSource::default()
                    }),
                    ..Volume::default()
                },
                // The whole of it: single files of a Secret would not be renewed in a pod that runs.
                Volume {
                    name: TLS.to_owned(),
                    secret: Some(SecretVolumeSource {
                        secret_name: Some(names::brokers_secret(&cluster.key.name)),
                        default_mode: Some(KEYS_MODE),
                        ..SecretVolumeSource::default()
                    }),
                    ..Volume::default()
                },
            ]),
            ..PodSpec::default()
        }),
    }
}

fn container(cluster: &Cluster, image: &str) -> Container {
    let ports = [
        ("kafka", names::KAFKA_PORT),
        ("internal", names::INTERNAL_PORT),
        ("http", names::HTTP_PORT),
        ("grpc", names::GRPC_PORT),
    ];
    let variable = |name: &str, value: String| EnvVar {
        name: name.to_owned(),
        value: Some(value),
        value_from: None,
    };
    // An image that does not know it passes it over, as it would not pass over a field of the file. A person's word comes later, and counts.
    let listens = variable(GRPC_BIND, format!("0.0.0.0:{}", names::GRPC_PORT));
    let said = cluster.pod.env.iter();
    let said = said.map(|said| variable(&said.name, said.value.clone()));
    let traces = cluster.otlp_endpoint.clone();
    let traces = traces.map(|url| variable(OTLP_ENDPOINT, url));
    let env = std::iter::once(listens).chain(traces).chain(said);
    let env: Vec<EnvVar> = env.collect();
    let mount = |name: &str, path: &str, read_only: Option<bool>| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only,
        ..VolumeMount::default()
    };
    Container {
        name: "broker".to_owned(),
        image: Some(image.to_owned()),
        image_pull_policy: cluster.image_pull_policy.map(str::to_owned),
        args: Some(vec![
            "--config".to_owned(),
            format!("{CONFIG_DIR}/{}", config_map::FILE),
        ]),
        env: some_unless_empty(env),
        ports: Some(
            ports
                .into_iter()
                .map(|(name, port)| ContainerPort {
                    name: Some(name.to_owned()),
                    container_port: port.into(),
                    protocol: Some("TCP".to_owned()),
                    ..ContainerPort::default()
                })
                .collect(),
        ),
        resources: resources(cluster),
        volume_mounts: Some(vec![
            mount(DATA, DATA_DIR, None),
            mount(CONFIG, CONFIG_DIR, Some(true)),
            mount(TLS, TLS_DIR, Some(true)),
        ]),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                add: None,
            }),
            ..SecurityContext::default()
        }),
        // Liveness depends on nothing but the process; recovery of a large log is not its end.
        liveness_probe: Some(probe("/healthz", 10, 6)),
        readiness_probe: Some(probe("/readyz", 2, 2)),
        ..Container::default()
    }
}

fn resources(cluster: &Cluster) -> Option<ResourceRequirements> {
    let amounts = |map: &BTreeMap<String, weir_crds::ResourceQuantity>| {
        (!map.is_empty()).then(|| {
            map.iter()
                .map(|(name, amount)| (name.clone(), amount.to_quantity()))
                .collect()
        })
    };
    let requirements = ResourceRequirements {
        requests: amounts(&cluster.resources.requests),
        limits: amounts(&cluster.resources.limits),
        ..ResourceRequirements::default()
    };
    (requirements != ResourceRequirements::default()).then_some(requirements)
}

fn probe(path: &str, period_s: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("http".to_owned()),
            scheme: Some("HTTP".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_s),
        timeout_seconds: Some(period_s.min(5)),
        failure_threshold: Some(failures),
        success_threshold: Some(1),
        ..Probe::default()
    }
}

fn pod_security() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        fs_group: Some(USER),
        // A volume of many segments is not walked at each start.
        fs_group_change_policy: Some("OnRootMismatch".to_owned()),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            localhost_profile: None,
        }),
        ..PodSecurityContext::default()
    }
}

/// Brokers of one cluster prefer different nodes.
fn different_nodes(cluster: &str) -> Affinity {
    Affinity {
        pod_anti_affinity: Some(PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![
                WeightedPodAffinityTerm {
                    weight: 100,
                    pod_affinity_term: PodAffinityTerm {
                        topology_key: "kubernetes.io/hostname".to_owned(),
                        label_selector: Some(LabelSelector {
                            match_labels: Some(names::selector(cluster)),
                            ..LabelSelector::default()
                        }),
                        ..PodAffinityTerm::default()
                    },
                },
            ]),
            ..PodAntiAffinity::default()
        }),
        ..Affinity::default()
    }
}

fn claim(cluster: &Cluster) -> PersistentVolumeClaim {
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(DATA.to_owned()),
            labels: Some(names::selector(&cluster.key.name)),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: cluster.storage.class.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([(
                    "storage".to_owned(),
                    Quantity(cluster.storage.size.clone()),
                )])),
                limits: None,
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}

fn some_unless_empty<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}
