//! Bounds of whole topics: the ledgers that this broker keeps, and asking them, here or at another broker.
//!
//! A topic's ledger is kept by the leader of its partition 0, in memory (`weir_queues::bound::Ledger` says why that is safe). [`follow`] asks for
//! each bounded partition that is led here: at once when a batch did not fit, and from time to time while something is lacking or not used, so
//! that what one partition does not use another can have.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use uuid::Uuid;
use weir_log::mutants::Mutant;
use weir_proto::ledgers::v1 as proto;
use weir_proto::ledgers::v1::ledgers_client::LedgersClient;
use weir_proto::ledgers::v1::ledgers_server::{self, LedgersServer};
use weir_queues::bound::{Ask, Grant, Ledger, Limits};
use weir_quorum::configs::{QueueConfig, Scope};
use weir_quorum::image::Topic;
use weir_wire::{LeaderEpoch, PartitionIndex};

use super::bound::{Bound, Work};
use super::leads_in;
use super::leases::Unit;
use crate::Broker;
use crate::health::Health;
use crate::net::Dialer;
use crate::partitions::{Partition, key_of};
use crate::quorum::net::Channels;

/// How long a ledger may take: it looks into its memory.
const PATIENCE: Duration = Duration::from_secs(2);
/// How soon a ledger is asked again while something is lacking or not used.
const RESTLESS: Duration = Duration::from_millis(100);
/// And otherwise: a ledger that is new has to hear of everyone before it gives anything.
const AT_REST: Duration = Duration::from_secs(2);
/// Before the next question after one at least, so that many batches that do not fit ask together.
const GATHER: Duration = Duration::from_millis(1);
/// Partitions that may be asked for at once, each with two units.
const ASKS_MAX: usize = 20_000;

/// The ledgers that this broker keeps, and the ways to others'.
#[derive(Debug)]
pub struct Ledgers {
    channels: Channels,
    /// At most one for each topic whose partition 0 is led here.
    kept: Mutex<BTreeMap<Uuid, Kept>>,
}

#[derive(Debug)]
struct Kept {
    epoch: LeaderEpoch,
    bounds: Limits,
    units: [Option<Ledger>; 2],
}

impl Kept {
    fn new(epoch: LeaderEpoch, bounds: Limits) -> Self {
        Self {
            epoch,
            bounds,
            units: Unit::ALL.map(|unit| unit.limit(bounds).map(|bound| Ledger::new(epoch, bound))),
        }
    }
}

impl Ledgers {
    /// None yet.
    #[must_use]
    pub fn new(dialer: Dialer) -> Self {
        Self {
            channels: Channels::new(dialer),
            kept: Mutex::default(),
        }
    }

    /// Answers for a topic whose partition 0 this broker leads; nothing when it does not, or the bound is not the topic's.
    fn answer(&self, broker: &Broker, topic: Uuid, asks: &[(Unit, Ask)]) -> Vec<(Unit, Grant)> {
        let image = broker.metadata.image();
        let me = broker.metadata.broker_id();
        let found = image.topic_by_id(weir_quorum::TopicId(topic));
        let led = found.and_then(|topic| {
            let (epoch, leader) = keeper(topic)?;
            let config = bound_of(broker, topic)?;
            (leader == Some(me)).then_some((topic, epoch, config))
        });
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((known, epoch, bounds)) = led else {
            kept.remove(&topic);
            return Vec::new();
        };
        let is_other = |kept: &Kept| kept.epoch < epoch || kept.bounds != bounds;
        if kept.get(&topic).is_none_or(is_other) {
            // Those of topics that are gone, or led elsewhere, go with it.
            kept.retain(|topic, _| {
                let topic = image.topic_by_id(weir_quorum::TopicId(*topic));
                topic
                    .and_then(|topic| keeper(topic))
                    .is_some_and(|(_, leader)| leader == Some(me))
            });
            match kept.get_mut(&topic).filter(|kept| kept.epoch == epoch) {
                None => {
                    kept.insert(topic, Kept::new(epoch, bounds));
                }
                // What was leased goes on.
                Some(kept) => {
                    for (unit, ledger) in Unit::ALL.into_iter().zip(&mut kept.units) {
                        match (unit.limit(bounds), &mut *ledger) {
                            (Some(bound), Some(ledger)) => ledger.set_bound(bound),
                            (bound, _) => *ledger = bound.map(|bound| Ledger::new(epoch, bound)),
                        }
                    }
                    kept.bounds = bounds;
                }
            }
        }
        let Some(kept) = kept.get_mut(&topic).filter(|kept| kept.epoch == epoch) else {
            return Vec::new();
        };
        for ledger in kept.units.iter_mut().flatten() {
            for (index, partition) in (0..).zip(&known.partitions) {
                let asks = || asks.iter().any(|(_, ask)| ask.partition.0 == index);
                if Mutant::LeaseTwice.is_active() && !asks() {
                    continue;
                }
                let epoch = LeaderEpoch(partition.leader_epoch.0);
                ledger.epoch_is(PartitionIndex(index), epoch);
            }
        }
        let answered = asks.iter().filter_map(|(unit, ask)| {
            let ledger = kept.units[unit.index()].as_mut()?;
            Some((*unit, ledger.ask(*ask)?))
        });
        answered.collect()
    }

    /// Asks whoever keeps a topic's ledger.
    async fn ask(
        &self,
        broker: &Broker,
        topic: &Topic,
        asks: &[(Unit, Ask)],
    ) -> Option<Vec<(Unit, Grant)>> {
        let (_, leader) = keeper(topic)?;
        let leader = leader?;
        if leader == broker.metadata.broker_id() {
            return Some(self.answer(broker, topic.id.0, asks));
        }
        let image = broker.metadata.image();
        let address = &image.broker(leader)?.quorum_address;
        let channel = self.channels.to_broker(leader, address).ok()?;
        let mut message = Request::new(proto::AskRequest {
            topic_id: topic.id.0.as_bytes().to_vec(),
            asks: asks.iter().map(asked).collect(),
        });
        message.set_timeout(PATIENCE);
        match LedgersClient::new(channel).ask(message).await {
            Ok(answer) => {
                let grants = answer.into_inner().grants;
                Some(grants.iter().filter_map(granted).collect())
            }
            Err(status) => {
                tracing::debug!(topic = %topic.name, broker = %leader, %status, "a topic's ledger cannot be asked");
                None
            }
        }
    }
}

/// The epoch and the leader of the partition that keeps a topic's ledger.
fn keeper(topic: &Topic) -> Option<(LeaderEpoch, Option<weir_quorum::BrokerId>)> {
    let partition = topic.partition(0)?;
    Some((LeaderEpoch(partition.leader_epoch.0), partition.leader))
}

/// The bound of a whole topic, as its partition here has it.
fn bound_of(broker: &Broker, topic: &Topic) -> Option<Limits> {
    let partition = broker.partitions.get(key_of(topic, 0)).ok()?;
    let bound = partition.bound()?;
    let QueueConfig {
        max_messages,
        max_bytes,
        scope,
        ..
    } = bound.config();
    (*scope == Scope::Topic).then_some(Limits {
        messages: *max_messages,
        bytes: *max_bytes,
    })
}

/// Asks for what is led here, until `stop`.
pub async fn follow(broker: Arc<Broker>, work: Arc<Work>, stop: CancellationToken) {
    loop {
        let pause = tokio::select! {
            () = stop.cancelled() => return,
            pause = ask_for_all(&broker) => pause,
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = work.lease.notified() => tokio::time::sleep(GATHER).await,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// A partition that asks.
struct Asking {
    bound: Arc<Bound>,
    epoch: LeaderEpoch,
}

/// How long to wait before the next time, unless there is work before.
async fn ask_for_all(broker: &Arc<Broker>) -> Duration {
    let mut topics: BTreeMap<Uuid, Vec<Arc<Partition>>> = BTreeMap::new();
    for partition in broker.partitions.all() {
        if partition.bound().is_some_and(|bound| bound.is_of_topic()) {
            let of = topics.entry(partition.key().topic_id.0).or_default();
            of.push(partition);
        }
    }
    if topics.is_empty() {
        return Duration::MAX;
    }
    let mut asking = JoinSet::new();
    for (topic, partitions) in topics {
        let broker = Arc::clone(broker);
        asking.spawn(async move { ask_for_topic(&broker, topic, &partitions).await });
    }
    let mut is_restless = false;
    while let Some(asked) = asking.join_next().await {
        // A task that panicked has said so itself.
        is_restless |= asked.unwrap_or(true);
    }
    if is_restless { RESTLESS } else { AT_REST }
}

async fn ask_for_topic(broker: &Broker, topic: Uuid, partitions: &[Arc<Partition>]) -> bool {
    let image = broker.metadata.image();
    let Some(topic) = image.topic_by_id(weir_quorum::TopicId(topic)) else {
        return false;
    };
    let Some((ledger, _)) = keeper(topic) else {
        return false;
    };
    let mut is_restless = false;
    let mut askers: BTreeMap<PartitionIndex, Asking> = BTreeMap::new();
    let mut asks = Vec::new();
    for partition in partitions {
        let (Some(bound), Some(epoch)) = (partition.bound(), leads_in(&broker.metadata, partition))
        else {
            continue;
        };
        let index = partition.key().partition;
        bound.lease(index, epoch, ledger, topic.partitions.len());
        let (of_it, soon) = bound.asks(epoch, ledger);
        asks.extend(of_it);
        is_restless |= soon;
        askers.insert(index, Asking { bound, epoch });
    }
    if asks.is_empty() {
        return is_restless;
    }
    let Some(grants) = broker.ledgers.ask(broker, topic, &asks).await else {
        return true;
    };
    for (unit, grant) in grants {
        if let Some(Asking { bound, epoch }) = askers.get(&grant.partition) {
            bound.granted(*epoch, unit, grant);
        }
    }
    is_restless
}

/// Answers other brokers from the ledgers that this one keeps.
#[derive(Debug)]
pub struct LedgersService {
    health: Arc<Health>,
}

impl LedgersService {
    /// The service, which answers as soon as the broker is assembled.
    #[must_use]
    pub fn server(health: Arc<Health>) -> LedgersServer<Self> {
        LedgersServer::new(Self { health })
    }
}

#[tonic::async_trait]
impl ledgers_server::Ledgers for LedgersService {
    async fn ask(
        &self,
        request: Request<proto::AskRequest>,
    ) -> Result<Response<proto::AskResponse>, Status> {
        let broker = self.health.assembled_broker()?;
        let request = request.into_inner();
        let topic = Uuid::from_slice(&request.topic_id)
            .map_err(|_| Status::invalid_argument("topic_id: 16 bytes are wanted"))?;
        if request.asks.len() > ASKS_MAX {
            return Err(Status::invalid_argument(format!(
                "asks: at most {ASKS_MAX} are allowed"
            )));
        }
        let asks: Vec<_> = request.asks.iter().filter_map(question).collect();
        let grants = broker.ledgers.answer(broker, topic, &asks);
        Ok(Response::new(proto::AskResponse {
            grants: grants.iter().map(answered).collect(),
        }))
    }
}

fn unit(unit: Unit) -> proto::Unit {
    match unit {
        Unit::Messages => proto::Unit::Messages,
        Unit::Bytes => proto::Unit::Bytes,
    }
}

/// One that nobody knows is passed over.
fn unit_of(unit: proto::Unit) -> Option<Unit> {
    match unit {
        proto::Unit::Messages => Some(Unit::Messages),
        proto::Unit::Bytes => Some(Unit::Bytes),
        proto::Unit::Unspecified => None,
    }
}

fn asked((of, ask): &(Unit, Ask)) -> proto::Ask {
    proto::Ask {
        unit: unit(*of).into(),
        partition: ask.partition.0,
        leader_epoch: ask.epoch.0,
        ledger_epoch: ask.ledger.0,
        grant: ask.grant,
        limit: ask.limit,
        used: ask.used,
        want: ask.want,
        need: ask.need,
    }
}

fn question(ask: &proto::Ask) -> Option<(Unit, Ask)> {
    let of = unit_of(ask.unit())?;
    let ask = Ask {
        partition: PartitionIndex(ask.partition),
        epoch: LeaderEpoch(ask.leader_epoch),
        ledger: LeaderEpoch(ask.ledger_epoch),
        grant: ask.grant,
        limit: ask.limit,
        used: ask.used,
        want: ask.want,
        need: ask.need,
    };
    Some((of, ask))
}

fn answered((of, grant): &(Unit, Grant)) -> proto::Grant {
    proto::Grant {
        unit: unit(*of).into(),
        partition: grant.partition.0,
        leader_epoch: grant.epoch.0,
        ledger_epoch: grant.ledger.0,
        grant: grant.grant,
        limit: grant.limit,
        recalled: grant.is_recalled,
        all: grant.is_all,
    }
}

fn granted(grant: &proto::Grant) -> Option<(Unit, Grant)> {
    let of = unit_of(grant.unit())?;
    let grant = Grant {
        partition: PartitionIndex(grant.partition),
        epoch: LeaderEpoch(grant.leader_epoch),
        ledger: LeaderEpoch(grant.ledger_epoch),
        grant: grant.grant,
        limit: grant.limit,
        is_recalled: grant.recalled,
        is_all: grant.all,
    };
    Some((of, grant))
}
