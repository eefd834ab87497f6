//! One node of the quorum: opened on a directory, reached through a transport, asked to propose.
//!
//! Everything that waits is bounded by its caller. What is applied is published as images; who leads, as [`Status`].

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::error::RaftError;
use openraft::raft::{AppendEntriesRequest, VoteRequest};
use tokio::sync::watch;
use weir_log::storage::Storage;

use crate::ids::{BrokerId, NodeId};
use crate::image::Image;
use crate::members::{self, Change, Members};
use crate::raft::files;
use crate::raft::log_store::LogStore;
use crate::raft::network::{Network, SnapshotHeader};
use crate::raft::state_machine::StateMachine;
use crate::raft::types::{Applied, Batch, Peer, Raft, Snapshot, TypeConfig, Vote};
use crate::record::{self, Record};
use crate::transport::{Rpc, Transport};

mod errors;
mod options;
mod status;

pub use self::errors::{AnswerError, OpenError, ProposeError};
use self::errors::{reason, refused};
use self::options::config;
pub use self::options::{Compaction, Options, Timing};
pub use self::status::Status;
use self::status::{follow, members_of};
pub use crate::raft::blocking::Blocking;
pub use crate::raft::runtime::seed_thread;

/// How far a node may be behind and still be made a voter: it catches up within a message or two.
const NEAR_ENTRIES: u64 = 200;

/// How long stopping a node may hold up the end of the process: it has one write to finish at most.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(3);

/// How far apart two voters stand for election that learn of their leader's end at the same time, so that they do not split
/// the votes: longer than it takes to be voted for and say so.
const STAGGER: Duration = Duration::from_millis(100);

/// How often a voter stands because it knows that the leader is gone; afterwards it waits as everyone does.
const STAND_TIMES: usize = 3;

/// One node of the quorum. Clones are the same node.
#[derive(Clone)]
pub struct Quorum {
    raft: Raft,
    me: NodeId,
    /// How long after it has heard from a leader a node votes for nobody else.
    lease: Duration,
    address: String,
    image: watch::Receiver<Arc<Image>>,
    status: watch::Receiver<Status>,
}

impl fmt::Debug for Quorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quorum")
            .field("me", &self.me)
            .finish_non_exhaustive()
    }
}

impl Quorum {
    /// Opens the node in its directory and lets it take part. It does nothing by itself before it has formed a cluster
    /// or been taken into one.
    pub async fn open(
        options: Options,
        storage: Arc<dyn Storage>,
        transport: Arc<dyn Transport>,
    ) -> Result<Self, OpenError> {
        let dir = options.dir.clone();
        let failed = |reason: String| OpenError {
            dir: dir.display().to_string(),
            reason,
        };
        let config = config(&options)
            .validate()
            .map_err(|error| failed(error.to_string()))?;
        let (published, image) = watch::channel(Arc::default());
        let blocking = options.blocking;
        let opened = {
            let (storage, dir) = (storage, dir.clone());
            blocking.run(move || {
                files::make_dir(&*storage, &dir)?;
                let machine = StateMachine::open(storage.clone(), &dir, blocking, published)?;
                let log = LogStore::open(storage, &dir, blocking, machine.applied_index())
                    .map_err(std::io::Error::other)?;
                Ok::<_, std::io::Error>((machine, log))
            })
        };
        let (machine, log) = opened.await.map_err(|error| failed(error.to_string()))?;
        let file = log.file();
        let raft = Raft::new(
            options.node,
            Arc::new(config),
            Network(transport),
            log,
            machine,
        )
        .await
        .map_err(|error| failed(reason(&error)))?;
        let status = follow(
            raft.clone(),
            options.node,
            file,
            options.compaction.log_bytes_max,
        );
        Ok(Self {
            raft,
            me: options.node,
            lease: options.timing.election_max,
            address: options.address,
            image,
            status,
        })
    }

    /// Who this is.
    pub fn node(&self) -> NodeId {
        self.me
    }

    /// The newest image.
    pub fn image(&self) -> Arc<Image> {
        self.image.borrow().clone()
    }

    /// Follows the image.
    pub fn watch(&self) -> watch::Receiver<Arc<Image>> {
        self.image.clone()
    }

    /// Follows who leads.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Whether this node leads, and has been heard by a majority so lately that nobody else can lead: voters give no vote to
    /// another for some time after they have heard from a leader.
    pub fn is_followed(&self) -> bool {
        let status = self.status.borrow();
        let heard = status.heard_by_majority;
        status.is_alone() || status.is_leader && heard.is_some_and(|at| at.elapsed() < self.lease)
    }

    /// Whether this node is part of a cluster, as its log says.
    pub async fn is_formed(&self) -> Result<bool, ProposeError> {
        self.raft
            .is_initialized()
            .await
            .map_err(|error| ProposeError::Stopped(reason(&error)))
    }

    /// Forms a cluster in which this node votes alone. Does nothing when its log says that it is in one.
    pub async fn form(&self) -> Result<(), ProposeError> {
        if self.is_formed().await? {
            return Ok(());
        }
        let members = BTreeMap::from([(
            self.me,
            Peer {
                address: self.address.clone(),
            },
        )]);
        match self.raft.initialize(members).await {
            Ok(()) | Err(RaftError::APIError(_)) => Ok(()),
            Err(RaftError::Fatal(fatal)) => Err(ProposeError::Stopped(reason(&fatal))),
        }
    }

    /// Stands for election at once if this node votes alone, and so need not wait for anyone.
    pub async fn stand_if_alone(&self) -> Result<(), ProposeError> {
        if self.members().await?.voters.iter().eq([&self.me]) {
            self.raft
                .trigger()
                .elect()
                .await
                .map_err(|error| ProposeError::Stopped(reason(&error)))?;
        }
        Ok(())
    }

    /// Stands for election because the leader's process is known to be gone, as soon as the others may vote for someone
    /// else. Does nothing when this node does not vote, and gives way to whoever was elected meanwhile. Safe also if it is
    /// not gone: it steps down as for any election.
    pub async fn replace_leader(&self, gone: NodeId) -> Result<(), ProposeError> {
        let mut status = self.status();
        let is_replaced = |status: &Status| status.leader.is_some_and(|leader| leader != gone);
        for _ in 0..STAND_TIMES {
            let members = self.members().await?;
            let mut others = members.voters.iter().filter(|node| **node != gone);
            let Some(rank) = others.position(|node| *node == self.me) else {
                return Ok(());
            };
            let heard = self
                .raft
                .with_raft_state(|state| state.vote_last_modified());
            let heard = heard
                .await
                .map_err(|error| ProposeError::Stopped(reason(&error)))?;
            let rank = u32::try_from(rank).unwrap_or(u32::MAX);
            // The others heard from it a moment later, perhaps.
            let wait = self.lease + STAGGER / 2 + STAGGER * rank;
            let at = heard.unwrap_or_else(tokio::time::Instant::now) + wait;
            if tokio::time::timeout_at(at, status.wait_for(is_replaced))
                .await
                .is_ok()
            {
                return Ok(());
            }
            tracing::info!(%gone, "standing for election: the leader's port refuses connections");
            self.raft
                .trigger()
                .elect()
                .await
                .map_err(|error| ProposeError::Stopped(reason(&error)))?;
            if tokio::time::timeout(STAGGER * 2, status.wait_for(is_replaced))
                .await
                .is_ok()
            {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Waits until this node certainly leads and has applied everything that was committed before it did.
    pub async fn ensure_leading(&self) -> Result<(), ProposeError> {
        match self.raft.ensure_linearizable().await {
            Ok(_) => Ok(()),
            Err(RaftError::APIError(_)) => Err(ProposeError::NotLeader),
            Err(RaftError::Fatal(fatal)) => Err(ProposeError::Stopped(reason(&fatal))),
        }
    }

    /// Proposes records that were decided on the image of `revision`, waits until they are applied here, and returns
    /// their entry's index.
    pub async fn propose(&self, revision: u64, records: &[Record]) -> Result<u64, ProposeError> {
        match self
            .raft
            .client_write(Batch(record::encode(revision, records)))
            .await
        {
            Ok(response) if response.data == Applied::Yes => Ok(response.log_id.index),
            Ok(_) => Err(ProposeError::Stale),
            Err(error) => Err(refused(error)),
        }
    }

    /// Takes a node into the quorum, or finds it at its new address; a node of the same broker with another disk is
    /// removed. Only the leader can. The caller has made sure that the other disk is not in use.
    pub async fn admit(&self, node: NodeId, address: &str) -> Result<(), ProposeError> {
        loop {
            let members = self.members().await?;
            match members::admit(&members, node, address) {
                Some(change) => self.change(change).await?,
                None => return Ok(()),
            }
        }
    }

    /// Takes a broker out of the quorum, under all of its names. Only the leader can. The caller has made sure that it is gone
    /// for good; where nobody could vote in its place it stays. False, and it stays too, as long as one that would vote without it is not there, as
    /// `is_alive` and this leader know.
    pub async fn expel(
        &self,
        broker: BrokerId,
        is_alive: impl Fn(NodeId) -> bool,
    ) -> Result<bool, ProposeError> {
        loop {
            let members = self.members().await?;
            let Some(change) = members::expel(&members, broker) else {
                return Ok(true);
            };
            let is_near = self.near();
            if !self.step(&members, change, is_near, &is_alive).await? {
                return Ok(false);
            }
        }
    }

    /// Takes the next step towards the right voters, if it can be taken now; says whether those vote that should. Only
    /// the leader can. `is_leaving` says whether a broker is about to leave the cluster, `is_alive` whether a node is there.
    pub async fn settle(
        &self,
        is_leaving: impl Fn(BrokerId) -> bool,
        is_alive: impl Fn(NodeId) -> bool,
    ) -> Result<bool, ProposeError> {
        let members = self.members().await?;
        let is_near = self.near();
        if let Some(change) = members::settle(&members, &is_leaving, &is_near) {
            self.step(&members, change, is_near, is_alive).await?;
        }
        Ok(members::is_settled(&self.members().await?, is_leaving))
    }

    /// Takes a step, if it is safe; says whether it was.
    async fn step(
        &self,
        members: &Members,
        change: Change,
        is_near: impl Fn(NodeId) -> bool,
        is_alive: impl Fn(NodeId) -> bool,
    ) -> Result<bool, ProposeError> {
        // It has answered this leader: of a broker that came back with another disk the old name may count as alive for a while.
        let is_here = |node| node == self.me || (is_near(node) && is_alive(node));
        let is_safe = members::is_safe(members, &change, is_here);
        if is_safe {
            self.change(change).await?;
        }
        Ok(is_safe)
    }

    /// Whether a node has nearly all of the log, as far as it has told this leader.
    fn near(&self) -> impl Fn(NodeId) -> bool + use<> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let last = metrics.last_log_index.unwrap_or(0);
        let matched = metrics.replication.clone().unwrap_or_default();
        move |node| {
            let index = matched.get(&node).and_then(|id| id.map(|id| id.index));
            index.is_some_and(|index| index + NEAR_ENTRIES >= last)
        }
    }

    async fn members(&self) -> Result<Members, ProposeError> {
        self.raft
            .with_raft_state(|state| members_of(state.membership_state.effective().membership()))
            .await
            .map_err(|error| ProposeError::Stopped(reason(&error)))
    }

    async fn change(&self, change: Change) -> Result<(), ProposeError> {
        tracing::info!(?change, "changing the quorum's members");
        let peer = |address| Peer { address };
        let changed = match change {
            Change::Add(node, address) => {
                self.raft
                    .change_membership(
                        ChangeMembers::AddNodes(BTreeMap::from([(node, peer(address))])),
                        true,
                    )
                    .await
            }
            // The same node under the same name: only its address is another, and messages carry the name.
            Change::Move(node, address) => {
                self.raft
                    .change_membership(
                        ChangeMembers::SetNodes(BTreeMap::from([(node, peer(address))])),
                        true,
                    )
                    .await
            }
            Change::Vote(voters) => {
                self.raft
                    .change_membership(ChangeMembers::ReplaceAllVoters(voters), false)
                    .await
            }
            Change::Yield(voters) => {
                self.raft
                    .change_membership(ChangeMembers::ReplaceAllVoters(voters), true)
                    .await
            }
            Change::Remove(nodes) => {
                self.raft
                    .change_membership(ChangeMembers::RemoveNodes(nodes), true)
                    .await
            }
        };
        changed.map(|_| ()).map_err(refused)
    }

    /// Answers a message that another node sent through its transport. Where it is known which broker `sender` is, nothing in
    /// another's name is answered.
    pub async fn answer(
        &self,
        wanted: NodeId,
        rpc: Rpc,
        request: &[u8],
        sender: Option<BrokerId>,
    ) -> Result<Vec<u8>, AnswerError> {
        if wanted != self.me {
            return Err(AnswerError::NotMe {
                me: self.me,
                wanted,
            });
        }
        let malformed = |error: serde_json::Error| AnswerError::Malformed(error.to_string());
        // Every message names who leads, or wants to.
        let check = |vote: &Vote| match (sender, vote.leader_id().voted_for()) {
            (Some(sender), Some(claimed)) if claimed.broker != sender => {
                let claimed = claimed.broker;
                Err(AnswerError::NotTheSender { sender, claimed })
            }
            _ => Ok(()),
        };
        let answer = match rpc {
            Rpc::AppendEntries => {
                let request: AppendEntriesRequest<TypeConfig> =
                    serde_json::from_slice(request).map_err(malformed)?;
                check(&request.vote)?;
                let answer = self.raft.append_entries(request).await;
                serde_json::to_vec(
                    &answer.map_err(|error| AnswerError::Stopped(error.to_string()))?,
                )
            }
            Rpc::Vote => {
                let request: VoteRequest<NodeId> =
                    serde_json::from_slice(request).map_err(malformed)?;
                check(&request.vote)?;
                let answer = self.raft.vote(request).await;
                serde_json::to_vec(
                    &answer.map_err(|error| AnswerError::Stopped(error.to_string()))?,
                )
            }
            Rpc::InstallSnapshot => {
                let newline = request.iter().position(|byte| *byte == b'\n');
                let (header, data) = newline
                    .and_then(|at| Some((request.get(..at)?, request.get(at + 1..)?)))
                    .ok_or_else(|| {
                        AnswerError::Malformed("a snapshot without a header".to_owned())
                    })?;
                let SnapshotHeader { vote, meta } =
                    serde_json::from_slice(header).map_err(malformed)?;
                check(&vote)?;
                let snapshot = Snapshot {
                    meta,
                    snapshot: Box::new(data.to_vec()),
                };
                let answer = self.raft.install_full_snapshot(vote, snapshot).await;
                serde_json::to_vec(&answer.map_err(|error| AnswerError::Stopped(reason(&error)))?)
            }
        };
        answer.map_err(malformed)
    }

    /// Stops the node. What it has promised is on its disk, so one that does not stop in time is left behind.
    pub async fn shutdown(&self) {
        match tokio::time::timeout(SHUTDOWN_PATIENCE, self.raft.shutdown()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(%error, "the quorum's node did not stop in good order")
            }
            Err(_) => {
                tracing::error!("the quorum's node did not stop within {SHUTDOWN_PATIENCE:?}")
            }
        }
    }

    /// Makes a snapshot now, and forgets the entries before it.
    #[cfg(test)]
    pub(crate) async fn compact(&self) {
        let _ = self.raft.trigger().snapshot().await;
    }
}

#[cfg(test)]
mod tests;
