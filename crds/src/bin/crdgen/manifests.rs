//! The CustomResourceDefinitions: plain ones for `kubectl apply`, and as templates of the operator's chart.
//!
//! They are templates, not files in the chart's `crds/` folder, because Helm never upgrades what is in that folder; and
//! they are kept when the release goes, because deleting a definition deletes every resource of its kind.

use weir_crds::crds;

use super::Generated;
use super::sorted::Sorted;

const HEADER: &str = "# Generated from the types in crds/src. Do not edit: `cargo run -p weir-crds --bin crdgen` writes it anew.\n";

pub(crate) fn generate() -> Result<Vec<Generated>, Box<dyn std::error::Error>> {
    let mut files = Vec::new();
    for crd in crds() {
        let name = format!("weir.dev_{}.yaml", crd.spec.names.plural);
        let spec = yaml(serde_json::to_value(&crd.spec)?)?;
        let head = format!(
            "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata:\n  name: {}\n",
            crd.metadata.name.unwrap_or_default()
        );
        files.push(Generated {
            path: format!("crds/manifests/{name}").into(),
            contents: format!("{HEADER}{head}spec:\n{}", indent(&spec)),
        });
        files.push(Generated {
            path: format!("charts/weir-operator/templates/crds/{name}").into(),
            contents: format!(
                "{HEADER}{{{{- if .Values.crds.enabled }}}}\n{head}  \
                 annotations:\n    helm.sh/resource-policy: keep\n  \
                 labels:\n    {{{{- include \"weir-operator.labels\" . | nindent 4 }}}}\n\
                 spec:\n{}{{{{- end }}}}\n",
                indent(&spec).replace("{{", "{{ \"{{\" }}")
            ),
        });
    }
    Ok(files)
}

fn yaml(value: serde_json::Value) -> Result<String, Box<dyn std::error::Error>> {
    Ok(serde_yaml::to_string(&Sorted::from(value))?)
}

/// Moves a block two columns to the right; empty lines (inside block scalars) stay empty.
fn indent(block: &str) -> String {
    block
        .lines()
        .map(|line| {
            if line.is_empty() {
                "\n".to_owned()
            } else {
                format!("  {line}\n")
            }
        })
        .collect()
}
