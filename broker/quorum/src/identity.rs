//! What a data directory is: whose, and of which cluster.
//!
//! The file `meta.json` is written when the directory is first used, and again when the broker joins or forms a cluster;
//! always as a whole, and synced. It never changes otherwise: a directory without it is another disk.

use std::path::Path;

use serde::{Deserialize, Serialize};
use weir_log::storage::Storage;

use crate::ids::{BrokerId, ClusterId, Incarnation, NodeId};
use crate::raft::files;

const NAME: &str = "meta.json";
const VERSION: u32 = 1;

/// What a data directory is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    version: u32,
    /// The broker that it is of.
    pub broker_id: BrokerId,
    /// The directory itself.
    pub incarnation: Incarnation,
    /// The cluster that it belongs to; `None` while it is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<ClusterId>,
    /// Whether this broker was about to form that cluster. It goes on with that, and joins no one, when it is found so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forming: bool,
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The disk failed.
    #[error("cannot use {path}: {error}")]
    Io {
        /// The file.
        path: String,
        /// Why.
        #[source]
        error: std::io::Error,
    },
    /// The file is not one of ours, or of a newer Weir.
    #[error("cannot understand {path}: {reason}; it may be damaged, or of a newer Weir")]
    Malformed {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// The directory is another broker's.
    #[error(
        "the data directory {dir} belongs to broker {found}, and this is broker {wanted}: give it its own directory"
    )]
    OtherBroker {
        /// The directory.
        dir: String,
        /// Whose it is.
        found: BrokerId,
        /// Who asked.
        wanted: BrokerId,
    },
    /// The directory is another cluster's.
    #[error(
        "the data directory {dir} belongs to cluster {found}, and the configuration names cluster {wanted}: use another \
         directory, or correct the configuration"
    )]
    OtherCluster {
        /// The directory.
        dir: String,
        /// Whose it is.
        found: ClusterId,
        /// Who asked.
        wanted: ClusterId,
    },
}

impl Identity {
    /// The name of this disk in the quorum.
    pub fn node(&self) -> NodeId {
        NodeId {
            broker: self.broker_id,
            incarnation: self.incarnation,
        }
    }

    /// Reads a directory's identity, and gives it one if it has none. Checks that it is the broker's and, when the
    /// configuration names one, the cluster's.
    pub fn open(
        storage: &dyn Storage,
        dir: &Path,
        broker_id: BrokerId,
        cluster_id: Option<&ClusterId>,
        fresh: impl FnOnce() -> Incarnation,
    ) -> Result<Self, IdentityError> {
        files::make_dir(storage, dir).map_err(|error| IdentityError::Io {
            path: dir.display().to_string(),
            error,
        })?;
        if let Some(identity) = Self::read(storage, dir, broker_id, cluster_id)? {
            return Ok(identity);
        }
        let identity = Self::fresh(broker_id, fresh());
        identity.save(storage, dir)?;
        Ok(identity)
    }

    /// What a directory is that nothing was ever written to.
    pub(crate) fn fresh(broker_id: BrokerId, incarnation: Incarnation) -> Self {
        Self {
            version: VERSION,
            broker_id,
            incarnation,
            cluster_id: None,
            forming: false,
        }
    }

    /// As [`open`](Self::open), of a directory that may have none and is left as it is.
    pub(crate) fn read(
        storage: &dyn Storage,
        dir: &Path,
        broker_id: BrokerId,
        cluster_id: Option<&ClusterId>,
    ) -> Result<Option<Self>, IdentityError> {
        let path = dir.join(NAME);
        let io = |error| IdentityError::Io {
            path: path.display().to_string(),
            error,
        };
        let malformed = |reason: String| IdentityError::Malformed {
            path: path.display().to_string(),
            reason,
        };
        let Some(bytes) = files::read(storage, &path).map_err(io)? else {
            return Ok(None);
        };
        let identity: Self =
            serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
        if identity.version > VERSION {
            return Err(malformed(format!(
                "its version is {}, and this broker knows {VERSION}",
                identity.version
            )));
        }
        if identity.broker_id != broker_id {
            return Err(IdentityError::OtherBroker {
                dir: dir.display().to_string(),
                found: identity.broker_id,
                wanted: broker_id,
            });
        }
        match (&identity.cluster_id, cluster_id) {
            (Some(found), Some(wanted)) if found != wanted => Err(IdentityError::OtherCluster {
                dir: dir.display().to_string(),
                found: found.clone(),
                wanted: wanted.clone(),
            }),
            _ => Ok(Some(identity)),
        }
    }

    /// Writes it, durably.
    pub fn save(&self, storage: &dyn Storage, dir: &Path) -> Result<(), IdentityError> {
        let io = |error| IdentityError::Io {
            path: dir.join(NAME).display().to_string(),
            error,
        };
        let text = serde_json::to_vec_pretty(self).map_err(|error| io(error.into()))?;
        files::replace(storage, dir, NAME, &text).map_err(io)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use uuid::Uuid;
    use weir_log::storage_sim::{SimStorage, Unsynced};

    use super::*;

    fn open(
        storage: &SimStorage,
        broker: i32,
        cluster: Option<&str>,
        fresh: u128,
    ) -> Result<Identity, IdentityError> {
        let cluster = cluster.map(|id| ClusterId(id.into()));
        let fresh = || Incarnation(Uuid::from_u128(fresh));
        Identity::open(
            storage,
            Path::new("/data"),
            BrokerId(broker),
            cluster.as_ref(),
            fresh,
        )
    }

    #[test]
    fn a_directory_keeps_its_incarnation_through_a_power_cut() {
        let storage = SimStorage::new();
        let first = open(&storage, 1, None, 7).unwrap();
        let storage = storage.power_cut(Unsynced::Lost);
        assert_eq!(open(&storage, 1, None, 8).unwrap(), first);
        assert_eq!(
            open(&SimStorage::new(), 1, None, 8).unwrap().incarnation,
            Incarnation(Uuid::from_u128(8))
        );
    }

    #[test]
    fn another_brokers_and_another_clusters_directory_are_refused() {
        let storage = SimStorage::new();
        let mut identity = open(&storage, 1, None, 7).unwrap();
        assert!(matches!(
            open(&storage, 2, None, 7),
            Err(IdentityError::OtherBroker { .. })
        ));
        identity.cluster_id = Some(ClusterId("ours".into()));
        identity.save(&storage, Path::new("/data")).unwrap();
        assert_eq!(open(&storage, 1, Some("ours"), 7).unwrap(), identity);
        let error = open(&storage, 1, Some("theirs"), 7)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("ours") && error.contains("theirs"),
            "{error}"
        );
    }
}
