#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::Path;

use crate::testing::{cluster, yaml};

/// Compares with the file, or writes it when `WEIR_GOLDEN=write`.
fn golden(file: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(file);
    if std::env::var("WEIR_GOLDEN").is_ok_and(|wish| wish == "write") {
        fs::write(&path, text).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        text,
        expected,
        "{} differs; if that is meant, run the tests with WEIR_GOLDEN=write and look at the difference",
        path.display()
    );
}

#[test]
fn objects_are_what_they_were() {
    for (kind, name) in [
        ("ServiceAccount", "shop-broker"),
        ("ConfigMap", "shop-config"),
        ("Service", "shop-brokers"),
        ("Service", "shop-bootstrap"),
        ("PodDisruptionBudget", "shop-broker"),
        ("StatefulSet", "shop-broker"),
    ] {
        golden(
            &format!("{}.{name}.yaml", kind.to_lowercase()),
            &yaml(&cluster(), kind, name),
        );
    }
}

#[test]
fn listeners_have_services_and_leave_the_pods_as_they_are() {
    let mut resource = serde_json::to_value(crate::testing::resource()).unwrap();
    resource["spec"]["listeners"] = serde_json::json!([{
        "name": "nodes", "port": 9100, "type": "nodePort", "bootstrapNodePort": 31000, "brokers": [{"id": 1, "nodePort": 31001}],
    }, {
        "name": "lb", "port": 9101, "type": "loadBalancer", "loadBalancerSourceRanges": ["203.0.113.0/24"],
        "annotations": {"external-dns.alpha.kubernetes.io/hostname": "broker-{id}.example.com"},
    }]);
    let defaults = crate::validate::Defaults {
        broker_image: "weir-broker:0.1.0".into(),
    };
    let resource = serde_json::from_value(resource).unwrap();
    let with = crate::validate::Cluster::validate(&resource, &defaults).unwrap();
    for name in [
        "shop-listener-nodes",
        "shop-listener-nodes-1",
        "shop-listener-lb-0",
    ] {
        golden(
            &format!("service.{name}.yaml"),
            &yaml(&with, "Service", name),
        );
    }
    for (kind, name) in [
        ("StatefulSet", "shop-broker"),
        ("ConfigMap", "shop-config"),
        ("Service", "shop-brokers"),
    ] {
        assert_eq!(yaml(&with, kind, name), yaml(&cluster(), kind, name));
    }
}

/// Another hash restarts every cluster that there is: it changes for nothing that a Cluster does not say.
#[test]
fn the_hash_of_the_pods_is_what_it_was() {
    let hash = super::pod_hash(&cluster(), "weir-broker:0.1.0");
    assert_eq!(hash, "6ee3588afb1f661b");
}

#[test]
fn where_spans_go_is_in_the_environment_of_pods_and_rolls_them() {
    let traced = |url: &str| {
        let mut cluster = cluster();
        cluster.otlp_endpoint = Some(url.to_owned());
        cluster
    };
    let one = traced("http://collector:4318");
    let text = yaml(&one, "StatefulSet", "shop-broker");
    assert!(
        text.contains(
            "- name: WEIR_TRACING_OTLP_ENDPOINT\n          value: http://collector:4318\n"
        ),
        "{text}"
    );
    // An image that does not know the field would refuse the file.
    let file = |cluster: &crate::validate::Cluster| yaml(cluster, "ConfigMap", "shop-config");
    assert_eq!(file(&one), file(&cluster()));
    let hash = |cluster: &crate::validate::Cluster| super::pod_hash(cluster, "weir-broker:0.1.0");
    assert_ne!(hash(&one), hash(&cluster()));
    assert_ne!(hash(&one), hash(&traced("http://elsewhere:4318")));
}

#[test]
fn pods_keep_to_the_restricted_security_profile() {
    let text = yaml(&cluster(), "StatefulSet", "shop-broker");
    for part in [
        "runAsNonRoot: true",
        "readOnlyRootFilesystem: true",
        "allowPrivilegeEscalation: false",
        "- ALL",
        "type: RuntimeDefault",
        "automountServiceAccountToken: false",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
}

#[test]
fn each_secret_holds_what_its_readers_need_and_no_more() {
    use crate::testing::certificates;
    let held = certificates();
    let secrets = super::secrets(&cluster(), held).unwrap();
    let files = |at: usize| -> Vec<&str> {
        let data = secrets[at].content["data"].as_object().unwrap();
        data.keys().map(String::as_str).collect()
    };
    let names: Vec<&str> = secrets.iter().map(|child| child.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "shop-ca",
            "shop-broker-tls",
            "shop-operator-tls",
            "shop-ca-cert"
        ]
    );
    assert_eq!(files(0), ["ca.crt", "ca.key"]);
    assert_eq!(
        files(1)[..3],
        ["broker-0.crt", "broker-0.key", "broker-1.crt"]
    );
    assert!(!files(1).contains(&"ca.key") && !files(1).contains(&"operator.key"));
    assert_eq!(files(2), ["ca.crt", "operator.crt", "operator.key"]);
    assert_eq!(files(3), ["ca.crt"]);
    for secret in &secrets {
        assert_eq!(
            secret.content["metadata"]["ownerReferences"][0]["name"],
            "shop"
        );
    }
    // And read again they are what they were.
    let read = super::held("shop", |name| {
        let found = secrets.iter().find(|child| child.name == name);
        found.map(|child| &child.content)
    });
    assert_eq!(&read, held);
    assert_eq!(
        super::credentials(&secrets[2].content),
        held.pems(weir_tls::Role::Operator)
    );
}
