//! Manifests from files: the same that Kubernetes takes, judged as its API server would.
//!
//! What is not Weir's is left out, so that a file may hold a Namespace or a Deployment beside it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use weir_crds::admission;

/// Resources of one kind of document, by kind, namespace and name, in a stable order.
type Documents = BTreeMap<(String, String, String), Value>;

/// All of Weir's resources in some files.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Manifests {
    documents: Documents,
    /// `Cluster`s, in the order of the files.
    pub clusters: Vec<weir_crds::Cluster>,
    /// `Topic`s.
    pub topics: Vec<weir_crds::Topic>,
    /// `ConsumerGroup`s.
    pub groups: Vec<weir_crds::ConsumerGroup>,
}

/// Files that cannot be taken as a whole.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not there, or not readable.
    #[error("{0}: {1}")]
    Unreadable(PathBuf, std::io::Error),
    /// Not YAML.
    #[error("{0} is not YAML: {1}")]
    NotYaml(PathBuf, String),
    /// Two documents for one resource.
    #[error("{0}: there are two of {1}. Keep one")]
    Twice(PathBuf, String),
}

impl Manifests {
    /// Reads files; `-` is standard input. What is refused comes back in sentences, and the version before it, if there was one, stays.
    ///
    /// # Errors
    /// When a file cannot be read at all.
    pub fn read(
        files: &[PathBuf],
        namespace: &str,
        before: Option<&Self>,
    ) -> Result<(Self, Vec<String>), ManifestError> {
        let mut found = Vec::new();
        for file in files {
            let text =
                read(file).map_err(|error| ManifestError::Unreadable(file.clone(), error))?;
            found.push((file.as_path(), text));
        }
        Self::parse(
            found.iter().map(|(file, text)| (*file, text.as_str())),
            namespace,
            before,
        )
    }

    /// Reads texts; see [`Self::read`].
    ///
    /// # Errors
    /// When a text is not YAML, or has one resource twice.
    pub fn parse<'a>(
        texts: impl Iterator<Item = (&'a Path, &'a str)>,
        namespace: &str,
        before: Option<&Self>,
    ) -> Result<(Self, Vec<String>), ManifestError> {
        let mut manifests = Self::default();
        let mut refused = Vec::new();
        for (file, text) in texts {
            let documents: Vec<Value> = serde_yaml::from_multiple(text)
                .map_err(|error| ManifestError::NotYaml(file.to_owned(), error.to_string()))?;
            for mut document in documents.into_iter().filter(admission::is_ours) {
                let key = place(&mut document, namespace);
                let old = before.and_then(|before| before.documents.get(&key));
                let admitted = match admission::admit(&document, old) {
                    Ok(admitted) => admitted,
                    Err(refusal) => {
                        refused.push(refusal.to_string());
                        let Some(old) = old else { continue };
                        old.clone()
                    }
                };
                if let Err(error) = manifests.take(key.clone(), admitted) {
                    refused.push(format!("{} \"{}\": {error}", key.0, key.2));
                } else if manifests.count() != manifests.documents.len() {
                    return Err(ManifestError::Twice(
                        file.to_owned(),
                        format!("{} \"{}\"", key.0, key.2),
                    ));
                }
            }
        }
        Ok((manifests, refused))
    }

    fn take(
        &mut self,
        key: (String, String, String),
        document: Value,
    ) -> Result<(), serde_json::Error> {
        match key.0.as_str() {
            "Cluster" => self
                .clusters
                .push(serde_json::from_value(document.clone())?),
            "Topic" => self.topics.push(serde_json::from_value(document.clone())?),
            // Admission knows no other kind.
            _ => self.groups.push(serde_json::from_value(document.clone())?),
        }
        self.documents.insert(key, document);
        Ok(())
    }

    fn count(&self) -> usize {
        self.clusters.len() + self.topics.len() + self.groups.len()
    }
}

fn read(file: &Path) -> std::io::Result<String> {
    if file == Path::new("-") {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(file)
    }
}

/// Gives a document a namespace when it has none, and returns what it is.
fn place(document: &mut Value, namespace: &str) -> (String, String, String) {
    let kind = document
        .get("kind")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let Some(metadata) = document.get_mut("metadata").and_then(Value::as_object_mut) else {
        return (kind, namespace.to_owned(), String::new());
    };
    let namespace = metadata
        .entry("namespace")
        .or_insert_with(|| namespace.into())
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let name = metadata
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    (kind, namespace, name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use std::path::Path;

    use super::{ManifestError, Manifests};

    const CLUSTER: &str = "apiVersion: weir.dev/v1alpha1\nkind: Cluster\nmetadata: {name: shop}\nspec: {storage: {size: 1Gi}}\n";

    fn topic(partitions: i32) -> String {
        format!(
            "---\napiVersion: weir.dev/v1alpha1\nkind: Topic\nmetadata: {{name: orders}}\nspec: {{clusterRef: {{name: shop}}, partitions: {partitions}}}\n"
        )
    }

    fn parse(
        text: &str,
        before: Option<&Manifests>,
    ) -> Result<(Manifests, Vec<String>), ManifestError> {
        Manifests::parse(
            [(Path::new("test.yaml"), text)].into_iter(),
            "default",
            before,
        )
    }

    #[test]
    fn what_is_not_weirs_is_left_out_and_defaults_are_set() {
        let text = format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: x}}\n---\n{CLUSTER}{}",
            topic(3)
        );
        let (manifests, refused) = parse(&text, None).unwrap();
        assert_eq!(refused, Vec::<String>::new());
        assert_eq!(
            (
                manifests.clusters.len(),
                manifests.topics.len(),
                manifests.groups.len()
            ),
            (1, 1, 0)
        );
        assert_eq!(manifests.clusters[0].spec.replicas, 3);
        assert_eq!(
            manifests.clusters[0].metadata.namespace.as_deref(),
            Some("default")
        );
    }

    #[test]
    fn an_edit_that_kubernetes_would_refuse_leaves_the_version_before_it() {
        let (before, _) = parse(&topic(6), None).unwrap();
        let (after, refused) = parse(&topic(3), Some(&before)).unwrap();
        assert_eq!(refused.len(), 1);
        assert!(
            refused[0].contains("partitions cannot shrink"),
            "{refused:?}"
        );
        assert_eq!(after, before);
    }

    #[test]
    fn a_resource_that_is_there_twice_is_an_error() {
        let error = parse(&format!("{}{}", topic(3), topic(4)), None).unwrap_err();
        assert!(
            error.to_string().contains("two of Topic \"orders\""),
            "{error}"
        );
    }

    #[test]
    fn what_is_not_yaml_names_its_file() {
        let error = parse("kind: [", None).unwrap_err();
        assert!(
            error.to_string().contains("test.yaml is not YAML"),
            "{error}"
        );
    }
}
