//! What runs a shard, whatever it coordinates: the door between a coordinator and the broker's `shards` module.
//!
//! A [`Machine`] is a coordinator whose state is the log of one partition of an internal topic: groups in
//! `__consumer_offsets`, transactions in `__transaction_state`, and so on. It does no I/O: [`Effects`] are
//! what it wants done. What always holds: what a machine knows is what its log has, and what it has emitted since; so it
//! may be dropped at any moment and be made anew from its log, here or elsewhere.

use std::fmt::Debug;

use weir_wire::{LeaderEpoch, ProducerEpoch, ProducerId};

use crate::outbox::Effects;
use crate::stored::{StoredError, StoredRecord};
use crate::transactions::Version;
use crate::types::{CallId, MonoMs, Now, Position};

/// A coordinator as a state machine over the log of one partition.
///
/// The caller reads the log from its start into a `Loader`, and makes the machine of it. Then for each request
/// [`handle`](Self::handle), and after one or many [`take_effects`](Self::take_effects): append the entries in their order,
/// send the replies, carry out the actions. When an append is durable [`durable`](Self::durable), at
/// [`next_deadline`](Self::next_deadline) [`tick`](Self::tick), and after both the effects again. When an append fails, or
/// leadership goes, the machine is dropped, and the calls that are open with it: what was not durable was told to nobody.
pub trait Machine: Send + Sized + 'static {
    /// The internal topic that it is kept in.
    const TOPIC: &'static str;
    /// What it coordinates, in the plural, for people.
    const DUTY: &'static str;
    /// Whether [`forgettable`](Self::forgettable) ever tells anything.
    const LETS_GO: bool = false;
    /// Its settings.
    type Config: Clone + Debug + Send + Sync + 'static;
    /// The state while the log is read.
    type Loader: Default + Send;
    /// What may be asked.
    type Request: Debug + Send + 'static;
    /// What it answers.
    type Response: Debug + Send + 'static;
    /// What is to be done besides appends and replies.
    type Action: Send + 'static;

    /// Takes in the next entry of the log.
    ///
    /// # Errors
    /// When an entry of a known kind cannot be decoded: the shard must not be served.
    fn replay(loader: &mut Self::Loader, entry: Replayed<'_>) -> Result<(), StoredError>;

    /// The machine, ready for requests. `epoch` is that of the partition's leader, which runs it.
    fn load(loader: Self::Loader, config: &Self::Config, epoch: LeaderEpoch, now: Now) -> Self;

    /// Handles a request. The answer comes with some later [`take_effects`](Self::take_effects).
    fn handle(&mut self, call: CallId, request: Self::Request, now: Now);

    /// Everything up to `position` is durable.
    fn durable(&mut self, position: Position);

    /// Acts on every deadline that has passed.
    fn tick(&mut self, now: Now);

    /// When to call [`tick`](Self::tick) next.
    fn next_deadline(&self) -> MonoMs;

    /// What is to be done since the last time.
    fn take_effects(&mut self) -> Effects<Self::Response, Self::Action>;

    /// Up to where what was emitted, and all that was loaded, is not needed any more, when that has changed since it was last asked: what holds
    /// of it was said again and is durable. For a log that is not compacted.
    fn forgettable(&mut self) -> Option<Position> {
        None
    }

    /// How many of what it coordinates there are.
    fn count(&self) -> usize;
}

/// Who writes in a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Producer {
    /// The producer.
    pub id: ProducerId,
    /// Which incarnation of it.
    pub epoch: ProducerEpoch,
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// What was written in it holds.
    Commit,
    /// Nothing that was written in it holds.
    Abort,
}

/// The end of a producer's transaction in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// Whose.
    pub producer: Producer,
    /// How it ended.
    pub outcome: Outcome,
    /// Leader epoch of the transaction coordinator that says so.
    pub coordinator_epoch: i32,
}

/// One thing to append to the shard's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A record that holds once it is in the log.
    Record(StoredRecord),
    /// Records that hold together, or not at all: they are in one batch, if one can have them.
    Together(Vec<StoredRecord>),
    /// A record that holds once its producer's transaction is committed.
    Pending(Producer, StoredRecord),
    /// The end of a transaction whose producer spoke so.
    Marker(Marker, Version),
}

impl Entry {
    /// Bytes that it takes in a batch, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Record(record) | Self::Pending(_, record) => record.bytes(),
            Self::Together(records) => records.iter().map(StoredRecord::bytes).sum(),
            Self::Marker(..) => size_of::<Marker>(),
        }
    }
}

impl From<StoredRecord> for Entry {
    fn from(record: StoredRecord) -> Self {
        Self::Record(record)
    }
}

/// One thing read from the shard's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replayed<'a> {
    /// A record.
    Record {
        /// What it is about.
        key: &'a [u8],
        /// What holds from then on; absent when the key is no more.
        value: Option<&'a [u8]>,
        /// Whose transaction it is part of.
        pending: Option<Producer>,
    },
    /// The end of a transaction.
    Marker(Marker),
}

impl<'a> Replayed<'a> {
    fn record(record: &'a StoredRecord, pending: Option<Producer>) -> Self {
        Self::Record {
            key: &record.key,
            value: record.value.as_deref(),
            pending,
        }
    }
}

impl Entry {
    /// The entry as it will be read again.
    #[must_use]
    pub fn replayed(&self) -> Vec<Replayed<'_>> {
        let read = |record| Replayed::record(record, None);
        match self {
            Self::Record(record) => vec![read(record)],
            Self::Together(records) => records.iter().map(read).collect(),
            Self::Pending(producer, record) => vec![Replayed::record(record, Some(*producer))],
            Self::Marker(marker, _) => vec![Replayed::Marker(*marker)],
        }
    }
}
