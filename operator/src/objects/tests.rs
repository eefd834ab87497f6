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
