//! Values that several tests begin with.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

pub(crate) mod api;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;
use weir_tls::{Held, Seen, due};

use crate::decide::certificates::members;
use crate::decide::cluster::World;
use crate::decide::upgrade::Known;
use crate::decide::volumes::Claim;
use crate::names;
use crate::objects::{self, Existing};
use crate::validate::{Cluster, Defaults};
use crate::world::{BrokerId, BrokerSeen, Look, MOVES_LEVEL, Needed, Process};

/// A Cluster of three brokers, as the API server has it.
pub(crate) fn resource() -> weir_crds::Cluster {
    serde_json::from_value(json!({
        "apiVersion": "weir.dev/v1alpha1",
        "kind": "Cluster",
        "metadata": {"name": "shop", "namespace": "market", "uid": "6f1c", "generation": 1},
        "spec": {
            "replicas": 3,
            "storage": {"size": "10Gi"},
            "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"memory": "1Gi"}},
            "config": {"retention.ms": 604_800_000_u64},
        },
    }))
    .unwrap()
}

/// The same, judged.
pub(crate) fn cluster() -> Cluster {
    Cluster::validate(
        &resource(),
        &Defaults {
            broker_image: "weir-broker:0.1.0".into(),
        },
    )
    .unwrap()
}

/// As many brokers as any of the tests' worlds has.
const BROKERS: u32 = 8;

/// When the tests' certificates were made.
pub(crate) fn made_at() -> SystemTime {
    static AT: OnceLock<SystemTime> = OnceLock::new();
    *AT.get_or_init(SystemTime::now)
}

/// The same in seconds since 1970.
pub(crate) fn made_at_s() -> i64 {
    i64::try_from(made_at().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// Certificates of the cluster.
pub(crate) fn certificates() -> &'static Held {
    static HELD: OnceLock<Held> = OnceLock::new();
    HELD.get_or_init(|| {
        let mut held = Held::default();
        let all = due(&members(BROKERS), &Seen::default(), 0);
        held.issue("shop", &all, made_at()).unwrap();
        held
    })
}

/// A world in which all is as the cluster wants it.
pub(crate) fn converged(cluster: &Cluster) -> World {
    let mut existing = Existing::default();
    existing.file_config = Some(cluster.settings.topics.clone());
    existing.configured = cluster
        .settings
        .topics
        .keys()
        .map(|key| crate::broker_config::live_name(key).to_owned())
        .collect();
    let image = existing.image(cluster).to_owned();
    existing.levels = Known {
        level: MOVES_LEVEL,
        images: vec![(image, MOVES_LEVEL)],
    };
    let mut children = objects::desired(cluster, cluster.replicas, &existing).unwrap();
    children.extend(objects::secrets(cluster, certificates()).unwrap());
    children.extend(objects::listeners(cluster, cluster.replicas).unwrap());
    let hash = objects::pod_hash(cluster, existing.image(cluster));
    let brokers = || (0..cluster.replicas).map(BrokerId);
    World {
        objects: children
            .into_iter()
            .map(|child| ((child.resource.kind, child.name), child.content))
            .collect(),
        taken: BTreeSet::new(),
        claims: brokers()
            .map(|broker| {
                let claim = Claim {
                    name: names::claim(&cluster.key.name, broker),
                    bound: true,
                    requested: cluster.storage.size.clone(),
                    capacity: cluster.storage.size.clone(),
                    uid: format!("claim-{broker}"),
                    ..Claim::default()
                };
                (broker, claim)
            })
            .collect(),
        processes: brokers()
            .map(|broker| {
                (
                    broker,
                    Process {
                        hash: Some(hash.clone()),
                        ready: true,
                        leaving: false,
                    },
                )
            })
            .collect(),
        look: Some(Look {
            cluster_id: "5rKf0lVNQ5u0zV2mR1n8cg".into(),
            controller: Some(BrokerId(0)),
            brokers: brokers()
                .map(|broker| {
                    (
                        broker,
                        BrokerSeen {
                            alive: true,
                            version: "0.1.0".into(),
                            incarnation: format!("disk-{broker}"),
                            needed: Some(Needed::default()),
                            last_copies: Some(Needed::default()),
                            ..BrokerSeen::default()
                        },
                    )
                })
                .collect(),
            voters: brokers().take(3).collect(),
            topics: BTreeMap::new(),
            feature_level: MOVES_LEVEL,
            rebalancing: false,
            moving_partitions: 0,
            sets_listeners: true,
            tls_listeners: true,
            configures: true,
            config: BTreeMap::new(),
            levels: Some(crate::world::Levels {
                newest: brokers().map(|broker| (broker, MOVES_LEVEL)).collect(),
                ..Default::default()
            }),
        }),
        disks: BTreeMap::new(),
        homes: BTreeMap::new(),
        hosts: BTreeMap::new(),
        now_s: made_at_s(),
        healthy: None,
    }
}

/// Any object of a cluster by kind, as YAML.
pub(crate) fn yaml(cluster: &Cluster, kind: &str, name: &str) -> String {
    let mut children = objects::desired(cluster, cluster.replicas, &Existing::default()).unwrap();
    children.extend(objects::listeners(cluster, cluster.replicas).unwrap());
    let child = children
        .into_iter()
        .find(|child| child.resource.kind == kind && child.name == name)
        .unwrap();
    assert_eq!(
        child.content["metadata"]["labels"][names::CLUSTER_LABEL],
        json!(cluster.key.name)
    );
    serde_yaml::to_string(&child.content).unwrap()
}
