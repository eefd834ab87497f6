//! Coordinators over the partitions of an internal topic: their input and output, whatever it is that they coordinate.
//!
//! Decides nothing: that is a [`Machine`]'s. Owns which shards (partitions of the machine's topic) this broker serves, which
//! follows from the metadata, and one task for each. What always holds:
//!
//! - A shard is served by one task at a time, and only after its whole log was read: a task that takes over waits for the
//!   end of the one before, whose appends have then come to an end too.
//! - Every call is answered once, whatever becomes of its shard.
//! - Handing a request to its shard does not wait: what waits is the answer.
//!
//! The modules of each kind of coordinator (`groups`, ...) put their requests and their errors over it: [`Shards::ask`] for
//! handlers, [`Shards::find`] for FindCoordinator, [`Shards::follow`] for `start` to run.

mod batches;
mod deleted;
mod find;
mod follow;
mod load;
mod serve;
mod shard;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::{Mutex, oneshot};
use tokio_util::sync::CancellationToken;
use weir_groups::{Machine, partition_for};
use weir_quorum::image::Topic;
use weir_wire::PartitionIndex;

use crate::host::Host;
use crate::partitions::Partitions;
use crate::quorum::Metadata;
pub use shard::{Call, Inbox};

/// Why a request was not handed to its shard, or was let go by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Another broker serves the shard, as far as is known here.
    #[error("this is not the coordinator")]
    NotHere,
    /// The shard is loading, or has too much to do.
    #[error("the coordinator is loading")]
    Loading,
    /// There is no broker that serves the shard.
    #[error("the coordinator is not available")]
    NotAvailable,
}

/// Carries out what a machine wants besides appends and replies. It is called on the shard's task, so it must not block.
pub type Act<M> = Arc<dyn Fn(<M as Machine>::Action, &Acting<M>) + Send + Sync>;

/// What a machine is asked first in each of its lives, before anything that clients ask, and on what the metadata is then.
pub type First<M> = Arc<dyn Fn() -> Option<<M as Machine>::Request> + Send + Sync>;

/// Who wants something done: a machine, in one of its lives.
#[derive(Debug)]
pub struct Acting<M: Machine> {
    /// Of which shard.
    pub partition: PartitionIndex,
    /// The way back to it, in this life: what comes later is let go of.
    pub inbox: Inbox<M>,
    /// Cancelled when this life is over: the next begins with what the log has.
    pub ended: CancellationToken,
}

/// The shards of one kind that this broker serves. Cheap to clone.
pub struct Shards<M: Machine> {
    shared: Arc<Shared<M>>,
}

struct Shared<M: Machine> {
    metadata: Metadata,
    partitions: Arc<Partitions>,
    config: M::Config,
    host: Host,
    act: Act<M>,
    first: First<M>,
    inboxes: RwLock<BTreeMap<PartitionIndex, Inbox<M>>>,
    /// Held by whoever makes the topic, so that a crowd of clients asks the controller once.
    creating: Mutex<()>,
}

impl<M: Machine> Shards<M> {
    /// No shard is served before [`Shards::follow`] runs.
    #[must_use]
    pub fn new(
        metadata: Metadata,
        partitions: Arc<Partitions>,
        config: M::Config,
        host: Host,
        act: Act<M>,
        first: First<M>,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                metadata,
                partitions,
                config,
                host,
                act,
                first,
                inboxes: RwLock::default(),
                creating: Mutex::new(()),
            }),
        }
    }

    /// Hands a request to the shard that keeps `key`, in the order of the calls, and returns a future for the answer.
    pub fn ask(
        &self,
        key: &str,
        request: M::Request,
    ) -> impl Future<Output = Result<M::Response, Refused>> + Send + use<M> {
        hand(self.shard_of(key), request)
    }

    /// As [`ask`](Self::ask), for a request to the shard itself.
    pub fn ask_shard(
        &self,
        partition: PartitionIndex,
        request: M::Request,
    ) -> impl Future<Output = Result<M::Response, Refused>> + Send + use<M> {
        let image = self.shared.metadata.image();
        let topic = image.topic(M::TOPIC);
        hand(
            topic
                .ok_or(Refused::NotHere)
                .and_then(|topic| self.shard(topic, partition)),
            request,
        )
    }

    /// Asks every shard that this broker is to serve. Those that have become another broker's meanwhile are left out.
    ///
    /// # Errors
    /// When one of them is loading: the answers would be short of what it keeps.
    pub fn ask_own(
        &self,
        request: &dyn Fn() -> M::Request,
    ) -> impl Future<Output = Result<Vec<M::Response>, Refused>> + Send + use<M> {
        let asked = self.ask_each_own(request);
        async move {
            let mut answers = Vec::new();
            for (_, asked) in asked {
                match asked.await {
                    Ok(answer) => answers.push(answer),
                    Err(Refused::NotHere) => {}
                    Err(refused) => return Err(refused),
                }
            }
            Ok(answers)
        }
    }

    /// As [`ask_own`](Self::ask_own), with a future for what each shard says for itself.
    pub fn ask_each_own(
        &self,
        request: &dyn Fn() -> M::Request,
    ) -> Vec<(
        PartitionIndex,
        impl Future<Output = Result<M::Response, Refused>> + Send + use<M>,
    )> {
        let led = self.led(&self.shared.metadata.image());
        let asked = led.into_keys().map(|key| {
            let inbox = self.inbox(key.partition).ok_or(Refused::Loading);
            (key.partition, hand(inbox, request()))
        });
        asked.collect()
    }

    /// The shard that keeps `key`, wherever it is; `None` while there are none.
    #[must_use]
    pub fn place_of(&self, key: &str) -> Option<PartitionIndex> {
        let image = self.shared.metadata.image();
        let count = image.topic(M::TOPIC)?.partitions.len();
        Some(partition_for(key, i32::try_from(count).unwrap_or(i32::MAX)))
    }

    /// Hands a request to every shard whose task runs, loaded or not, as each has room. Nobody waits for the answers.
    async fn tell_all(&self, request: impl Fn() -> M::Request) {
        for inbox in self.running() {
            let (answer, _) = oneshot::channel();
            inbox
                .send(Call {
                    request: request(),
                    answer,
                })
                .await;
        }
    }

    /// The way to the shard that keeps `key`, if that is here.
    fn shard_of(&self, key: &str) -> Result<Inbox<M>, Refused> {
        let image = self.shared.metadata.image();
        let topic = image.topic(M::TOPIC).ok_or(Refused::NotHere)?;
        let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        self.shard(topic, partition_for(key, count))
    }

    fn shard(&self, topic: &Topic, partition: PartitionIndex) -> Result<Inbox<M>, Refused> {
        let leader = topic
            .partition(partition.0)
            .and_then(|partition| partition.leader);
        self.inbox(partition).ok_or({
            if leader == Some(self.shared.metadata.broker_id()) {
                // Its task is about to start.
                Refused::Loading
            } else {
                Refused::NotHere
            }
        })
    }

    fn inbox(&self, partition: PartitionIndex) -> Option<Inbox<M>> {
        self.shared
            .inboxes
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&partition)
            .cloned()
    }

    fn running(&self) -> Vec<Inbox<M>> {
        self.shared
            .inboxes
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }
}

fn hand<M: Machine>(
    inbox: Result<Inbox<M>, Refused>,
    request: M::Request,
) -> impl Future<Output = Result<M::Response, Refused>> + Send + use<M> {
    let (answer, answered) = oneshot::channel();
    let handed = inbox.and_then(|inbox| inbox.try_send(Call { request, answer }));
    async move {
        handed?;
        answered.await.map_err(|_| Refused::NotHere)
    }
}

impl<M: Machine> Clone for Shards<M> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<M: Machine> fmt::Debug for Shards<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shards")
            .field("topic", &M::TOPIC)
            .field("config", &self.shared.config)
            .finish_non_exhaustive()
    }
}
