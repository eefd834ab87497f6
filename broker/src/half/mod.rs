//! Half messages: their coordinators' input and output, and the way to those of other brokers.
//!
//! Decides nothing about halves: that is [`weir_groups::half`], whose machines the broker's [`shards`](crate::shards) run, one for each partition of
//! `__half_messages` that this broker leads. Owns the carrying out of commits ([`commit`]), as transactions like any Kafka producer's. What always holds: a commit is
//! tried until it is known what came of it, or the shard is another broker's, which goes on.
//!
//! [`Halves`] is what the gRPC service for clients uses; [`Halves::follow`] is what `start` runs.

mod commit;
mod peers;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use weir_groups::half::{
    Action, Ask, Config, HALVES_TOPIC, HalfError, Halves as Machine, Measured, Request, Response,
};
use weir_groups::{Outcome, partition_for};
use weir_quorum::image::Image;
use weir_wire::PartitionIndex;

use crate::Broker;
use crate::gateway::Gateway;
use crate::host::Host;
use crate::partitions::Partitions;
use crate::quorum::Metadata;
use crate::quorum::net::Channels;
use crate::shards::{Acting, Refused, Shards};
use commit::Job;
pub use peers::HalvesService;

/// How long a coordinator that is away, or busy, is tried: about as long as a failover may take at worst.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long this broker may take to hear of the topic.
const LAG_PATIENCE: Duration = Duration::from_millis(500);
/// Before it is tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// Why a half is not as was wished.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum NotDone {
    /// Its coordinator says so.
    #[error(transparent)]
    Refused(#[from] HalfError),
    /// It cannot be asked; what was asked may have been done.
    #[error("{0}")]
    Away(String),
}

impl From<Refused> for NotDone {
    fn from(refused: Refused) -> Self {
        Self::Away(refused.to_string())
    }
}

/// A half to be kept.
#[derive(Clone, Debug)]
pub(crate) struct Half {
    /// A new one.
    pub(crate) id: Uuid,
    /// The group of its producer.
    pub(crate) group: String,
    /// When its producer is asked.
    pub(crate) check_after_ms: u64,
    /// How often.
    pub(crate) asks_max: u32,
    /// [`weir_proto::halves::v1::Messages`], encoded.
    pub(crate) messages: Bytes,
}

/// The coordinators of halves that this broker runs, and the way to others. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Halves {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    metadata: Metadata,
    shards: Shards<Machine>,
    channels: Channels,
    /// At most as many as all shards may commit at the same time lie in it.
    jobs: Mutex<Option<mpsc::UnboundedReceiver<Job>>>,
}

impl Halves {
    /// No shard is served before [`Halves::follow`] runs.
    #[must_use]
    pub fn new(
        metadata: Metadata,
        partitions: Arc<Partitions>,
        config: Config,
        host: Host,
    ) -> Self {
        let (wanted, jobs) = mpsc::unbounded_channel();
        let counted = Arc::clone(&partitions);
        let act = move |action: Action, acting: &Acting<Machine>| match action {
            Action::Commit(commit) => {
                let job = Job {
                    commit: *commit,
                    shard: acting.partition,
                    inbox: acting.inbox.clone(),
                    ended: acting.ended.clone(),
                };
                // When the broker stops, whoever leads next goes on.
                let _ = wanted.send(job);
            }
            Action::Count(event) => {
                let halves = &counted.metrics().half_messages;
                halves.with_label_values(&[event.name()]).inc();
            }
        };
        let channels = Channels::new(host.dialer.clone());
        let act = Arc::new(act);
        let shards = Shards::new(
            metadata.clone(),
            partitions,
            config,
            host,
            act,
            Arc::new(|| None),
        );
        Self {
            shared: Arc::new(Shared {
                metadata,
                shards,
                channels,
                jobs: Mutex::new(Some(jobs)),
            }),
        }
    }

    /// Runs a task for each shard that this broker coordinates, and for each commit, until `stop`. Ends when they have.
    pub async fn follow(self, broker: Arc<Broker>, stop: CancellationToken) {
        let jobs = self.shared.jobs.lock();
        let jobs = jobs.unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut jobs) = jobs else {
            return;
        };
        let gateway = Gateway::new(broker);
        let carrying = async {
            let mut commits = JoinSet::new();
            loop {
                tokio::select! {
                    Some(job) = jobs.recv() => {
                        commits.spawn(commit::carry_out(gateway.clone(), job));
                    }
                    Some(_) = commits.join_next() => {}
                }
            }
        };
        let shards = self.shared.shards.clone().follow(stop);
        tokio::select! {
            () = shards => {}
            never = carrying => never,
        }
    }

    /// What is not decided, of all shards that this broker coordinates; nothing while one is loading.
    pub(crate) async fn measure(&self) -> Option<Measured> {
        let answers = self.shared.shards.ask_own(&|| Request::Measure).await;
        let mut all = Measured::default();
        for answer in answers.ok()? {
            if let Response::Measure(measured) = answer {
                all.undecided += measured.undecided;
                all.oldest_at_ms = all
                    .oldest_at_ms
                    .into_iter()
                    .chain(measured.oldest_at_ms)
                    .min();
            }
        }
        Some(all)
    }

    /// Keeps a half. The partition of the topic of halves that it belongs to.
    pub(crate) async fn prepare(&self, half: Half) -> Result<PartitionIndex, NotDone> {
        let deadline = Instant::now() + PATIENCE;
        let mut is_again = false;
        loop {
            let prepared = self.prepare_once(&half).await;
            match prepared {
                // An earlier attempt was carried out.
                Err((at, NotDone::Refused(HalfError::Exists(_)))) if is_again => return Ok(at),
                Err((_, NotDone::Away(_))) if Instant::now() < deadline => {
                    is_again = true;
                    tokio::time::sleep(PAUSE).await;
                }
                Err((_, error)) => return Err(error),
                Ok(at) => return Ok(at),
            }
        }
    }

    async fn prepare_once(&self, half: &Half) -> Result<PartitionIndex, (PartitionIndex, NotDone)> {
        let at = self.of_group(&half.group).await;
        let at = at.map_err(|error| (PartitionIndex(-1), error))?;
        let request = Request::Prepare {
            id: half.id,
            group: half.group.clone(),
            check_after_ms: half.check_after_ms,
            asks_max: half.asks_max,
            messages: half.messages.clone(),
        };
        match self.ask(at, request).await {
            Ok(Response::Prepare(prepared)) => {
                prepared.map(|()| at).map_err(|error| (at, error.into()))
            }
            Ok(other) => Err((at, unexpected(&other))),
            Err(error) => Err((at, error)),
        }
    }

    /// Commits or rolls back.
    pub(crate) async fn end(
        &self,
        at: PartitionIndex,
        id: Uuid,
        outcome: Outcome,
    ) -> Result<(), NotDone> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ended = tokio::time::timeout_at(deadline, self.end_once(at, id, outcome)).await;
            match ended {
                Ok(Err(NotDone::Away(_))) if Instant::now() < deadline => {
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(ended) => return ended,
                Err(_) => {
                    let why = format!("transaction {id} is still being ended; ask again");
                    return Err(NotDone::Away(why));
                }
            }
        }
    }

    async fn end_once(
        &self,
        at: PartitionIndex,
        id: Uuid,
        outcome: Outcome,
    ) -> Result<(), NotDone> {
        match self.ask(at, Request::End { id, outcome }).await? {
            Response::End(ended) => Ok(ended?),
            other => Err(unexpected(&other)),
        }
    }

    /// What a producer of a group is to be asked, and where it belongs; waits for it, but no longer than that.
    pub(crate) async fn next_asks(
        &self,
        group: &str,
        wait: Duration,
    ) -> Result<(PartitionIndex, Vec<Ask>), NotDone> {
        let at = self.of_group(group).await?;
        let request = Request::NextAsks {
            group: group.to_owned(),
            wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
        };
        match self.ask(at, request).await? {
            Response::NextAsks(asks) => Ok((at, asks)),
            other => Err(unexpected(&other)),
        }
    }

    /// Where a group's halves are. Makes the topic when there is none.
    async fn of_group(&self, group: &str) -> Result<PartitionIndex, NotDone> {
        self.shared.shards.find(group).await?;
        let image = self.shared.metadata.image();
        let topic = image.topic(HALVES_TOPIC).ok_or(Refused::NotAvailable)?;
        let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        Ok(partition_for(group, count))
    }

    /// Asks the shard, wherever it is served.
    async fn ask(&self, at: PartitionIndex, request: Request) -> Result<Response, NotDone> {
        let is_known = |image: &Arc<Image>| image.topic(HALVES_TOPIC).is_some();
        let metadata = &self.shared.metadata;
        // It may have been made a moment ago, at another broker.
        if metadata.wait_for(LAG_PATIENCE, is_known).await.is_none() {
            // Whether this broker is behind, or nothing was ever prepared, the controller knows: it makes the topic if there is none.
            self.shared.shards.find("").await?;
        }
        let image = metadata.image();
        let topic = image.topic(HALVES_TOPIC).ok_or(Refused::NotAvailable)?;
        let Some(partition) = topic.partition(at.0) else {
            // Nothing was ever prepared there.
            return match request {
                Request::End { id, .. } => Ok(Response::End(Err(HalfError::Unknown(id)))),
                _ => Err(Refused::NotAvailable.into()),
            };
        };
        let leader = partition.leader.and_then(|leader| image.broker(leader));
        let leader = leader.filter(|leader| !leader.fenced);
        let leader = leader.ok_or(Refused::NotAvailable)?;
        if leader.id == self.shared.metadata.broker_id() {
            return self.ask_here(at, request).await;
        }
        self.ask_leader(leader, at, request).await
    }

    pub(in crate::half) async fn ask_here(
        &self,
        at: PartitionIndex,
        request: Request,
    ) -> Result<Response, NotDone> {
        Ok(self.shared.shards.ask_shard(at, request).await?)
    }
}

/// A coordinator answers each request with the response of its kind.
fn unexpected(response: &Response) -> NotDone {
    tracing::error!(
        ?response,
        "a coordinator of half messages has answered another question"
    );
    NotDone::Away("the coordinator has answered another question".to_owned())
}
