//! A cluster's directory: `broker-N/` (data), `broker-N.yaml` (configuration), `broker-N.log`, `broker-N.pid`, `tls/` (certificates),
//! `cluster-id`, `size` (how many brokers are to run, and over how many replicas were last spread) and `lock`.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::LocalError;
use crate::decide::scale::Lowered;
use crate::world::BrokerId;

/// A directory that is used by this process alone.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Makes the directory if needed, and takes it.
    pub(super) fn take(path: &Path) -> Result<Self, LocalError> {
        let failed = |error| LocalError::Files(path.to_owned(), error);
        fs::create_dir_all(path).map_err(failed)?;
        // Brokers are given absolute paths, whatever directory they are started in.
        let path = path.canonicalize().map_err(failed)?;
        let lock = File::create(path.join("lock")).map_err(failed)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(LocalError::InUse(path)),
            Err(error) => Err(LocalError::Files(path, error.into())),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn data(&self, broker: BrokerId) -> PathBuf {
        self.path.join(format!("broker-{broker}"))
    }

    /// Where certificates lie.
    pub(super) fn certificates(&self) -> PathBuf {
        self.path.join("tls")
    }

    pub(super) fn file(&self, broker: BrokerId, extension: &str) -> PathBuf {
        self.path.join(format!("broker-{broker}.{extension}"))
    }

    /// How many brokers run, over how many replicas were last spread, and how many replicas the brokers' own topics had before there were fewer brokers;
    /// the first is counted from their data when it was never written down.
    pub(super) fn size(&self) -> (Option<u32>, Option<u32>, Lowered) {
        let text = fs::read_to_string(self.path.join("size")).unwrap_or_default();
        let mut words = text.split_whitespace();
        let mut number = || words.next().and_then(|number| number.parse().ok());
        let (size, balanced) = (number(), number());
        let lowered = words.next().map(Lowered::parse).unwrap_or_default();
        (size.or_else(|| self.with_data()), balanced, lowered)
    }

    /// Remembers all of it.
    pub(super) fn keep_size(
        &self,
        brokers: u32,
        balanced: u32,
        lowered: &Lowered,
    ) -> Result<(), LocalError> {
        let lowered = lowered.text();
        let lowered = lowered.map_or_else(String::new, |lowered| format!(" {lowered}"));
        self.write(
            &self.path.join("size"),
            &format!("{brokers} {balanced}{lowered}\n"),
        )
    }

    /// Deletes the data of a broker that is gone.
    pub(super) fn delete_data(&self, broker: BrokerId) -> Result<(), LocalError> {
        let data = self.data(broker);
        match fs::remove_dir_all(&data) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(LocalError::Files(data, error))
            }
            _ => Ok(()),
        }
    }

    /// How many brokers have data here.
    fn with_data(&self) -> Option<u32> {
        let ids = fs::read_dir(&self.path).ok()?.filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name();
            let id: u32 = name.to_str()?.strip_prefix("broker-")?.parse().ok()?;
            entry.path().is_dir().then_some(id)
        });
        ids.max().map(|highest| highest.saturating_add(1))
    }

    /// The cluster id that was seen before.
    pub(super) fn cluster_id(&self) -> Option<String> {
        fs::read_to_string(self.path.join("cluster-id"))
            .ok()
            .map(|id| id.trim().to_owned())
            .filter(|id| !id.is_empty())
    }

    /// Remembers the cluster id.
    pub(super) fn keep_cluster_id(&self, id: &str) -> Result<(), LocalError> {
        self.write(&self.path.join("cluster-id"), id)
    }

    /// Writes a file beside, and moves it into place.
    pub(super) fn write(&self, path: &Path, text: &str) -> Result<(), LocalError> {
        let failed = |error| LocalError::Files(path.to_owned(), error);
        let beside = path.with_extension("new");
        fs::write(&beside, text).map_err(failed)?;
        fs::rename(&beside, path).map_err(failed)
    }

    /// Forgets the process of a broker.
    pub(super) fn forget_process(&self, broker: BrokerId) {
        let path = self.file(broker, "pid");
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "not removed");
        }
    }
}
