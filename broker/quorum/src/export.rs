//! The cluster's metadata as a file that people keep: cluster id, topics with their ids, configurations and partitions, quotas, configurations of
//! groups, brokers and client metrics.
//!
//! JSON with a version of its own around the same records as in a snapshot, so that nothing is forgotten and nothing is said in two ways. What is not
//! understood is refused by name, as everywhere.

use serde::{Deserialize, Serialize};

use crate::ids::ClusterId;
use crate::image::{ApplyError, Image};
use crate::record::Record;

/// The version that is written, and the newest that is read.
pub const VERSION: u32 = 1;

/// Metadata as of one entry of the quorum's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Export {
    weir_metadata: u32,
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The last entry of the quorum's log that is in here.
    pub index: u64,
    /// What makes the image from nothing.
    pub records: Vec<Record>,
}

/// Why a file is no export that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// Written by a newer Weir.
    #[error(
        "the export has version {0}, and this broker reads versions up to {VERSION}: use that Weir or a newer one"
    )]
    Version(u32),
    /// Not JSON, or with something that is not known here.
    #[error("the export is not understood: {0}; it may be cut off, or of a newer Weir")]
    Unknown(#[from] serde_json::Error),
    /// Its records contradict each other.
    #[error("the export contradicts itself: {0}")]
    Contradiction(#[from] ApplyError),
    /// Its records are another cluster's, or no cluster's.
    #[error("the export names cluster {0}, and its records do not")]
    OtherCluster(ClusterId),
}

#[derive(Deserialize)]
struct Version {
    weir_metadata: u32,
}

impl Export {
    /// Of an image; `None` before a cluster has formed.
    pub fn of(image: &Image) -> Option<Self> {
        Some(Self {
            weir_metadata: VERSION,
            cluster_id: image.cluster_id()?.clone(),
            index: image.index(),
            records: image.snapshot(),
        })
    }

    /// As text.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self)
            .expect("strings, numbers, and maps with string keys become JSON")
    }

    /// Reads what [`to_json`](Self::to_json) wrote, here or in an older Weir.
    pub fn parse(text: &str) -> Result<Self, ExportError> {
        let Version { weir_metadata } = serde_json::from_str(text)?;
        if weir_metadata > VERSION {
            return Err(ExportError::Version(weir_metadata));
        }
        let export: Self = serde_json::from_str(text)?;
        if export.image()?.cluster_id() != Some(&export.cluster_id) {
            return Err(ExportError::OtherCluster(export.cluster_id));
        }
        Ok(export)
    }

    /// The image that it is of.
    pub fn image(&self) -> Result<Image, ApplyError> {
        Image::from_snapshot(self.index, self.index, &self.records)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::controller::formed;

    fn export() -> Export {
        let records = formed(ClusterId("ours".into()), 1);
        Export::of(&Image::from_snapshot(7, 5, &records).unwrap()).unwrap()
    }

    #[test]
    fn an_export_survives_its_text() {
        let text = export().to_json();
        assert_eq!(Export::parse(&text).unwrap(), export());
        assert_eq!(Export::of(&Image::default()), None);
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        let text = export().to_json();
        for (from, to, part) in [
            ("\"weir_metadata\": 1", "\"weir_metadata\": 2", "version 2"),
            ("\"FeatureLevel\"", "\"FeatureLevels\"", "FeatureLevels"),
            ("\"index\"", "\"indexes\"", "indexes"),
            ("{\n  \"weir", "[\n  \"weir", "not understood"),
            (
                "\"cluster_id\": \"ours\",\n  \"index\"",
                "\"cluster_id\": \"theirs\",\n  \"index\"",
                "cluster theirs",
            ),
        ] {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text, "{from}");
            let error = Export::parse(&changed).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
