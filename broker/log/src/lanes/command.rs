//! What a lane can be told.

use std::sync::Arc;

use weir_wire::Offset;

use super::background::JobDone;
use super::{Admission, Append, Ends, OpenPartition, Opened, Replicate};
use crate::config::LogConfig;
use crate::error::{AppendError, LaneError, OpenError};
use crate::producers::{KnownProducers, ProducerState};

/// A partition's number in its lane, for as long as it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slot(pub(crate) u64);

/// Called with the result of a command, on the lane's thread.
pub(crate) type Done<T, E = LaneError> = Box<dyn FnOnce(Result<T, E>) + Send>;

/// One command.
pub(crate) enum Command {
    Open(Box<OpenPartition>, Done<Opened, OpenError>),
    Append(Slot, Append),
    Replicate(Slot, Replicate),
    UpdateConfig(Slot, Box<LogConfig>),
    SetAdmission(Slot, Option<Arc<dyn Admission>>),
    TruncateTo(Slot, Offset, Done<Offset>),
    Reset(Slot, Offset, Box<KnownProducers>, Done<Offset>),
    Ends(Slot, Done<Ends>),
    DeleteRecords(Slot, Offset, Done<Offset>),
    Retain(Slot, Offset),
    Producers(Slot, Done<Vec<ProducerState>>),
    ProducersBefore(Slot, Offset, Done<KnownProducers>),
    Clean(Slot, Offset),
    Close(Slot, Done<()>),
    Delete(Slot, Done<()>),
    /// Background work of the lane's own came to an end.
    JobDone(Slot, JobDone),
    /// Close everything and stop.
    Shutdown(Done<()>),
}

impl Command {
    /// Bytes of batches that it holds.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Append(_, append) => append.batch.len(),
            Self::Replicate(_, replicate) => replicate.batches.len(),
            _ => 0,
        }
    }

    /// Tells whoever waits that it will not be done.
    pub(crate) fn refuse(self, why: Refusal) {
        match self {
            Self::Append(_, append) => (append.done)(Err(why.into())),
            Self::Replicate(_, replicate) => (replicate.done)(Err(why.into())),
            Self::Open(_, done) => done(Err(OpenError::Stopped)),
            Self::TruncateTo(_, _, done)
            | Self::Reset(_, _, _, done)
            | Self::DeleteRecords(_, _, done) => done(Err(why.into())),
            Self::Ends(_, done) => done(Err(why.into())),
            Self::Producers(_, done) => done(Err(why.into())),
            Self::ProducersBefore(_, _, done) => done(Err(why.into())),
            Self::Close(_, done) | Self::Delete(_, done) | Self::Shutdown(done) => {
                done(Err(why.into()))
            }
            Self::UpdateConfig(..)
            | Self::SetAdmission(..)
            | Self::Retain(..)
            | Self::Clean(..)
            | Self::JobDone(..) => {}
        }
    }
}

/// Why a command is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Busy,
    Closed,
    Stopped,
}

impl From<Refusal> for AppendError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Busy => Self::Busy,
            Refusal::Closed => Self::Closed,
            Refusal::Stopped => Self::Stopped,
        }
    }
}

impl From<Refusal> for LaneError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Busy => Self::Busy,
            Refusal::Closed => Self::Closed,
            Refusal::Stopped => Self::Stopped,
        }
    }
}
