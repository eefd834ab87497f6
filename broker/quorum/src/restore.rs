//! A quorum whose majority is lost for ever goes on from one disk, because a person says so: from what that disk has of the metadata, or from an
//! [`Export`]. The broker votes alone then, and the others join it, those that have their disks and those that have new ones.
//!
//! Nobody can say what the lost ones had agreed on without this disk. So what they may have given away is not given again: leader epochs, partition
//! epochs, entries of the log and producer ids all begin a good way beyond what is known here. That makes two histories of one cluster, so the lost
//! disks must never come back; the [`Statement`] says that, and what may be missing.
//!
//! The directory must be nobody's meanwhile. What is written is one snapshot, as if it had been received from a leader; a crash leaves what was, or
//! what is to be. Called by `weir-broker metadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use openraft::{CommittedLeaderId, EntryPayload};
use weir_log::storage::Storage;

use crate::export::Export;
use crate::identity::{Identity, IdentityError};
use crate::ids::{BrokerId, ClusterId, Incarnation, LeaderEpoch, NodeId, PartitionEpoch};
use crate::image::{ApplyError, Image};
use crate::raft::blocking::Blocking;
use crate::raft::log_store::LogStore;
use crate::raft::state_machine::StateMachine;
use crate::raft::types::{LogId, Membership, Peer, SnapshotMeta, StoredMembership, Vote};
use crate::raft::{files, log_store, snapshot_file};
use crate::record::{self, PartitionState, ProducerIdsAllocated, Record};

/// Where the quorum's files are in a data directory.
pub const DIR: &str = "metadata";

/// How many elections of one partition the lost ones may have held without this disk. One takes a second at the least.
const EPOCHS_AHEAD: i32 = 10_000;
/// How many entries they may have agreed on. An export may be some days old.
const ENTRIES_AHEAD: u64 = 10_000_000;
/// How many producer ids they may have given away, a thousand at a time.
const PRODUCER_IDS_AHEAD: i64 = 10_000_000;

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The directory is another broker's, or cannot be read.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The quorum's files cannot be read or written.
    #[error(
        "the quorum's files in {0} cannot be used: {1}. With an export (--from) they are not needed"
    )]
    Files(PathBuf, #[source] io::Error),
    /// The disk knows of no cluster, and there is no export.
    #[error("{0} knows of no cluster: there is nothing to go on from without an export (--from)")]
    Nothing(PathBuf),
    /// The export is another cluster's.
    #[error("{dir} belongs to cluster {found}, and the export is of cluster {wanted}")]
    OtherCluster {
        /// The directory.
        dir: PathBuf,
        /// Its cluster.
        found: ClusterId,
        /// The export's.
        wanted: ClusterId,
    },
    /// The export contradicts itself.
    #[error("the export contradicts itself: {0}")]
    Export(#[from] ApplyError),
}

/// What a person has to know before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The broker that will decide alone.
    pub broker: BrokerId,
    /// The last entry of the metadata that there is.
    pub index: u64,
    /// Its topics, and their partitions.
    pub topics: usize,
    /// All partitions of theirs.
    pub partitions: usize,
    /// The disk is empty: topics come back without what was in them.
    pub without_data: bool,
    /// Partitions that this disk has, and of which others may have had more that was acknowledged.
    pub behind: Vec<String>,
    /// Partitions that this disk has nothing of.
    pub elsewhere: Vec<String>,
    /// Other disks that voted.
    pub voters: Vec<NodeId>,
}

/// How many partitions a statement names.
const NAMED: usize = 10;

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |partitions: &[String]| {
            let more = if partitions.len() > NAMED { " …" } else { "" };
            let first: Vec<&str> = partitions.iter().take(NAMED).map(String::as_str).collect();
            format!("{}{more}", first.join(", "))
        };
        let Self {
            cluster_id, broker, ..
        } = self;
        writeln!(
            f,
            "Cluster {cluster_id} goes on from its metadata as of entry {}: {} topics with {} partitions. Broker {broker} decides alone, and the \
             others join it.",
            self.index, self.topics, self.partitions
        )?;
        writeln!(
            f,
            "Lost is whatever the quorum decided after that entry: topics that were made or deleted, configurations, quotas, moves of replicas."
        )?;
        if self.without_data {
            writeln!(
                f,
                "This disk is empty: the topics come back without any message that was in them."
            )?;
        }
        if !self.behind.is_empty() {
            writeln!(
                f,
                "Of {} partitions others may have had messages that were acknowledged and are not here: {}. They stay without a leader until one of those \
                 is back, or a person has this broker lead (kafka-leader-election.sh --election-type unclean), which gives those messages up.",
                self.behind.len(),
                named(&self.behind)
            )?;
        }
        if !self.elsewhere.is_empty() {
            writeln!(
                f,
                "{} partitions are on other brokers only; what they hold is there as far as those have their disks: {}.",
                self.elsewhere.len(),
                named(&self.elsewhere)
            )?;
        }
        if !self.voters.is_empty() {
            let voters: Vec<String> = self.voters.iter().map(|node| node.to_string()).collect();
            writeln!(
                f,
                "These disks voted, and must never be used again, since they would go on with a history of their own: {}.",
                voters.join(", ")
            )?;
        }
        Ok(())
    }
}

/// What is to be written, and what it means.
#[derive(Debug)]
pub struct Prepared {
    storage: Arc<dyn Storage>,
    data_dir: PathBuf,
    identity: Identity,
    meta: SnapshotMeta,
    data: Vec<u8>,
    /// What the disk has of the log is not gone on from.
    replaces_log: bool,
    statement: Statement,
}

/// What there is of a quorum.
struct Found {
    image: Image,
    last: LogId,
    membership: StoredMembership,
}

/// The metadata that a disk has, of a broker that does not run.
pub fn read(storage: &Arc<dyn Storage>, data_dir: &Path) -> Result<Export, RestoreError> {
    let found = own(storage, &data_dir.join(DIR))?;
    found
        .and_then(|found| Export::of(&found.image))
        .ok_or_else(|| RestoreError::Nothing(data_dir.to_owned()))
}

/// Finds out what there is to go on from. Nothing is written that would change anything.
pub fn prepare(
    storage: Arc<dyn Storage>,
    data_dir: &Path,
    broker: BrokerId,
    export: Option<&Export>,
    fresh: impl FnOnce() -> Incarnation,
) -> Result<Prepared, RestoreError> {
    let identity = Identity::read(&*storage, data_dir, broker, None)?;
    let without_data = identity
        .as_ref()
        .is_none_or(|identity| identity.cluster_id.is_none());
    let mut identity = identity.unwrap_or_else(|| Identity::fresh(broker, fresh()));
    let me = identity.node();
    let found = match export {
        Some(export) => Found {
            image: export.image()?,
            last: LogId::new(CommittedLeaderId::new(1, me), export.index),
            membership: StoredMembership::default(),
        },
        None => own(&storage, &data_dir.join(DIR))?
            .ok_or_else(|| RestoreError::Nothing(data_dir.to_owned()))?,
    };
    let Some(cluster_id) = found.image.cluster_id().cloned() else {
        return Err(RestoreError::Nothing(data_dir.to_owned()));
    };
    match &identity.cluster_id {
        Some(found) if *found != cluster_id => {
            return Err(RestoreError::OtherCluster {
                dir: data_dir.to_owned(),
                found: found.clone(),
                wanted: cluster_id,
            });
        }
        _ => identity.cluster_id = Some(cluster_id.clone()),
    }
    identity.forming = false;
    let statement = statement(&found, me, cluster_id, without_data);
    let index = found.last.index + ENTRIES_AHEAD;
    let last = LogId::new(found.last.leader_id, index);
    let membership = Membership::new(
        vec![BTreeSet::from([me])],
        BTreeMap::from([(me, address(&found, me))]),
    );
    let meta = SnapshotMeta {
        last_log_id: Some(last),
        last_membership: StoredMembership::new(Some(last), membership),
        snapshot_id: format!("{}-{index}", last.leader_id.term),
    };
    let records = renewed(&found.image, without_data);
    Ok(Prepared {
        storage,
        data_dir: data_dir.to_owned(),
        identity,
        meta,
        data: record::encode(index, &records).into_bytes(),
        replaces_log: export.is_some(),
        statement,
    })
}

impl Prepared {
    /// What a person has to know before.
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// Does it.
    pub fn carry_out(self) -> Result<(), RestoreError> {
        let dir = self.data_dir.join(DIR);
        self.write(&dir)
            .map_err(|error| RestoreError::Files(dir, error))?;
        // Last: with it the disk belongs to the cluster.
        Ok(self.identity.save(&*self.storage, &self.data_dir)?)
    }

    fn write(&self, dir: &Path) -> io::Result<()> {
        let storage = &*self.storage;
        files::make_dir(storage, dir)?;
        snapshot_file::write(storage, dir, &self.meta, &self.data)?;
        if self.replaces_log {
            // It may be damaged; and entries before a snapshot are nothing to anyone.
            log_store::remove(storage, dir)?;
        }
        log_store::vote_if_none(storage, dir, &Vote::new(1, self.identity.node()))
    }
}

/// What a disk has: its snapshot, and all entries after it. Those that nobody else may have count too, as they would if this broker were elected.
fn own(storage: &Arc<dyn Storage>, dir: &Path) -> Result<Option<Found>, RestoreError> {
    let failed = |error| RestoreError::Files(dir.to_owned(), error);
    if !storage.exists(dir).map_err(failed)? {
        return Ok(None);
    }
    replayed(storage, dir).map_err(failed)
}

fn replayed(storage: &Arc<dyn Storage>, dir: &Path) -> io::Result<Option<Found>> {
    let (mut image, mut last, mut membership) =
        (Image::default(), None, StoredMembership::default());
    if let Some(snapshot) = snapshot_file::read(&**storage, dir)? {
        image = StateMachine::image_of(&snapshot.meta, &snapshot.snapshot)?;
        last = snapshot.meta.last_log_id;
        membership = snapshot.meta.last_membership;
    }
    let after = last.map(|id: LogId| id.index);
    let log = LogStore::open(Arc::clone(storage), dir, Blocking::Inline, after)
        .map_err(io::Error::other)?;
    for entry in log.entries_after(after)? {
        let index = entry.log_id.index;
        match entry.payload {
            EntryPayload::Normal(batch) => {
                StateMachine::apply_batch(&mut image, index, &batch)?;
            }
            EntryPayload::Blank => image.apply_in_place(index, &[]).map_err(io::Error::other)?,
            EntryPayload::Membership(changed) => {
                membership = StoredMembership::new(Some(entry.log_id), changed);
                image.apply_in_place(index, &[]).map_err(io::Error::other)?;
            }
        }
        last = Some(entry.log_id);
    }
    Ok(last.map(|last| Found {
        image,
        last,
        membership,
    }))
}

/// Where this node was reached last; it says anew when it registers.
fn address(found: &Found, me: NodeId) -> Peer {
    let nodes = found.membership.membership();
    if let Some(peer) = nodes.get_node(&me) {
        return peer.clone();
    }
    let broker = found.image.broker(me.broker);
    Peer {
        address: broker.map_or_else(String::new, |broker| broker.quorum_address.clone()),
    }
}

fn statement(found: &Found, me: NodeId, cluster_id: ClusterId, without_data: bool) -> Statement {
    let image = &found.image;
    let (mut behind, mut elsewhere) = (Vec::new(), Vec::new());
    for (topic, index, partition) in image.partitions() {
        let name = || format!("{}-{index}", topic.name);
        // Who is eligible left when nothing was acknowledged any more, and may be elected without a loss.
        let has_all = partition.isr.contains(&me.broker) || partition.elr.contains(&me.broker);
        if without_data || has_all {
            continue;
        }
        if !partition.replicas.contains(&me.broker) {
            elsewhere.push(name());
        } else {
            behind.push(name());
        }
    }
    let voters = found.membership.membership().voter_ids();
    Statement {
        cluster_id,
        broker: me.broker,
        index: found.last.index,
        topics: image.topics().len(),
        partitions: image.partition_count(),
        without_data,
        behind,
        elsewhere,
        voters: voters.filter(|node| *node != me).collect(),
    }
}

/// The records of an image, with nothing in them that the lost ones may have given away. Without data partitions begin anew as well, and nobody has
/// registered.
fn renewed(image: &Image, without_data: bool) -> Vec<Record> {
    let mut records = Vec::new();
    for record in image.snapshot() {
        match record {
            Record::PartitionsSet(mut set) => {
                for partition in &mut set.partitions {
                    ahead(partition);
                    if without_data {
                        begun_anew(partition);
                    }
                }
                records.push(Record::PartitionsSet(set));
            }
            Record::ProducerIdsAllocated(_) => {}
            Record::BrokerRegistered(_) | Record::BrokerUnfenced(_) | Record::BrokerStopping(_)
                if without_data => {}
            other => records.push(other),
        }
    }
    records.push(Record::ProducerIdsAllocated(ProducerIdsAllocated {
        broker: BrokerId::default(),
        next: image.next_producer_id().saturating_add(PRODUCER_IDS_AHEAD),
    }));
    records
}

fn ahead(partition: &mut PartitionState) {
    let PartitionState {
        leader_epoch,
        epoch,
        ..
    } = partition;
    *leader_epoch = LeaderEpoch(leader_epoch.0.saturating_add(EPOCHS_AHEAD));
    *epoch = PartitionEpoch(epoch.0.saturating_add(EPOCHS_AHEAD));
}

/// There is nothing of it anywhere, so everyone has all of it.
fn begun_anew(partition: &mut PartitionState) {
    let goes = std::mem::take(&mut partition.removing);
    partition.replicas.retain(|id| !goes.contains(id));
    partition.adding.clear();
    partition.isr = partition.replicas.clone();
    partition.elr.clear();
    partition.last_known.clear();
    partition.leader = None;
    partition.unclean = None;
}
