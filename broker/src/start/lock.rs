//! One process for each data directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// The data directory is this process's while it is held; the operating system lets go of it when the process ends, however it does.
#[derive(Debug)]
pub struct DirLock {
    _file: File,
}

/// Why the directory is not ours.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error(
        "the data directory {dir} is used by another process; stop it, or give this broker a directory of its own"
    )]
    Taken {
        /// Which.
        dir: PathBuf,
    },
    /// It cannot be made, or its lock cannot be opened.
    #[error("the data directory {dir} cannot be used: {source}")]
    Io {
        /// Which.
        dir: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

impl DirLock {
    /// Takes the directory, making it when it is not there.
    pub fn take(dir: &Path) -> Result<Self, LockError> {
        let io = |source| LockError::Io {
            dir: dir.to_owned(),
            source,
        };
        std::fs::create_dir_all(dir).map_err(io)?;
        let open = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(dir.join("lock"));
        let file = open.map_err(io)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(LockError::Taken {
                dir: dir.to_owned(),
            }),
            Err(TryLockError::Error(source)) => Err(io(source)),
        }
    }
}
