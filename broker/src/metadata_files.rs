//! `weir-broker metadata`: what the disk of a broker that does not run has of the cluster's metadata, as a file, and the way on when the quorum is
//! lost. `docs/disaster.md` says when and how.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use weir_log::storage::Storage;
use weir_log::storage_os::OsStorage;
use weir_quorum::export::{Export, ExportError};
use weir_quorum::restore::{self, RestoreError};
use weir_quorum::{BrokerId, Incarnation};

use crate::start::{DirLock, LockError};

/// An export of a million partitions has some hundred megabytes.
const EXPORT_BYTES_MAX: u64 = 1 << 30;

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub enum MetadataCommand {
    /// Prints the metadata that a disk has, as JSON.
    Export {
        /// The data directory of a broker that does not run.
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
    },
    /// Has the cluster go on from this disk, whose broker then decides alone: when the disks of most of those that voted are lost for ever. Says what may
    /// be lost, and does it with --accept-loss.
    Restore {
        /// The data directory of a broker that does not run.
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
        /// The broker's number.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
        broker_id: i32,
        /// Go on from this export rather than from what the disk has; - is standard input.
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
        /// Do it.
        #[arg(long)]
        accept_loss: bool,
    },
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// The directory is in use.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// There is nothing to go on from.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The export cannot be used.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// A file cannot be read, or nobody takes the output.
    #[error("{0}: {1}")]
    Io(PathBuf, #[source] io::Error),
    /// A person has to say so.
    #[error("nothing was changed: this takes --accept-loss")]
    NotAccepted,
}

/// Does it.
///
/// # Errors
/// Says what was wrong, in words.
pub fn run(command: &MetadataCommand, out: &mut impl Write) -> Result<(), MetadataError> {
    let storage: Arc<dyn Storage> = Arc::new(OsStorage::new());
    let printed = |error| MetadataError::Io(PathBuf::from("standard output"), error);
    match command {
        MetadataCommand::Export { data_dir } => {
            let _lock = existing(data_dir)?;
            let export = restore::read(&storage, data_dir)?;
            writeln!(out, "{}", export.to_json()).map_err(printed)
        }
        MetadataCommand::Restore {
            data_dir,
            broker_id,
            from,
            accept_loss,
        } => {
            let _lock = existing(data_dir)?;
            let export = from.as_deref().map(read).transpose()?;
            let prepared = restore::prepare(
                storage,
                data_dir,
                BrokerId(*broker_id),
                export.as_ref(),
                || Incarnation(uuid::Uuid::new_v4()),
            )?;
            write!(out, "{}", prepared.statement()).map_err(printed)?;
            if !accept_loss {
                return Err(MetadataError::NotAccepted);
            }
            prepared.carry_out()?;
            writeln!(out, "Done: start broker {broker_id}.").map_err(printed)
        }
    }
}

/// Takes a directory that is there: a wrong path is told rather than made.
fn existing(data_dir: &Path) -> Result<DirLock, MetadataError> {
    fs::metadata(data_dir).map_err(|error| MetadataError::Io(data_dir.to_owned(), error))?;
    Ok(DirLock::take(data_dir)?)
}

fn read(path: &Path) -> Result<Export, MetadataError> {
    let failed = |error| MetadataError::Io(path.to_owned(), error);
    let mut text = String::new();
    if path == Path::new("-") {
        let input = io::stdin().lock();
        input.take(EXPORT_BYTES_MAX).read_to_string(&mut text)
    } else {
        let file = fs::File::open(path).map_err(failed)?;
        file.take(EXPORT_BYTES_MAX).read_to_string(&mut text)
    }
    .map_err(failed)?;
    Ok(Export::parse(&text)?)
}
