//! The directories that partitions lie in.
//!
//! Which there are is remembered in the data directory: one that is not there any more, or that lost its mount, is not taken for
//! an empty one, on which all of its partitions would begin anew.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use weir_log::storage::Storage;
use weir_log::{DataDir, OpenError, read_small, replace_small};

use super::StartError;
use crate::config::Config;

/// Beside the metadata: one directory to a line.
const FILE: &str = "log-dirs";

/// Opens all of them.
pub(super) fn open(
    config: &Config,
    storage: &Arc<dyn Storage>,
    reserve_bytes: u64,
) -> Result<Vec<Arc<DataDir>>, StartError> {
    let wanted = config.partition_dirs();
    let logs = |dir: &Path| {
        let dir = dir.to_owned();
        move |source| StartError::Logs { dir, source }
    };
    let known = known(&**storage, &config.data_dir).map_err(logs(&config.data_dir))?;
    for dir in &known {
        let problem = if !wanted.contains(dir) {
            Some("partitions were put there, and the configuration does not name it any more")
        } else if !DataDir::was_used(&**storage, dir).map_err(logs(dir))? {
            Some("partitions were put there, and nothing is there any more; is its disk mounted?")
        } else {
            None
        };
        if let Some(problem) = problem {
            let found = format!(
                "{problem} (to go on without what was there, remove the line from {})",
                config.data_dir.join(FILE).display()
            );
            let path = dir.clone();
            return Err(logs(dir)(OpenError::Unreadable { path, found }));
        }
    }
    let mut dirs = Vec::with_capacity(wanted.len());
    for dir in &wanted {
        let opened = DataDir::open(Arc::clone(storage), dir, reserve_bytes);
        dirs.push(opened.map_err(logs(dir))?);
    }
    if known != wanted {
        let lines = wanted.iter().map(|dir| format!("{}\n", dir.display()));
        let lines: String = lines.collect();
        replace_small(&**storage, &config.data_dir, FILE, lines.as_bytes())
            .map_err(logs(&config.data_dir))?;
    }
    Ok(dirs)
}

fn known(storage: &dyn Storage, data_dir: &Path) -> Result<Vec<PathBuf>, OpenError> {
    let bytes = read_small(storage, &data_dir.join(FILE))?.unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.lines().map(PathBuf::from).collect())
}
