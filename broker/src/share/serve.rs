//! ShareFetch and ShareAcknowledge: sessions, acknowledgements, and waiting for records.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use weir_groups::share::{AckBatch, AcquireMode, Acquired, Departure};
use weir_groups::{GroupId, MemberId};
use weir_wire::Records;

use super::fetch::{Wanted, acquire};
use super::leader::{Acknowledged, Leader};
use super::sessions::{Change, SessionKey, Step, TopicPartition};
use super::{Share, state_key};
use crate::Broker;
use crate::api::{NotLed, Peer};
use crate::error::{ApiError, ErrorCode};
use crate::partitions::{Isolation, WakeGuard};

/// Bytes of records in one response: they are held in memory until they have left.
const RESPONSE_BYTES_MAX: usize = 16 << 20;
/// How long a fetch waits at most, whatever it asks for: far longer than clients wait for an answer. An answer without records is always right.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// What a member says of one partition.
#[derive(Debug)]
pub struct Named {
    /// Which.
    pub partition: TopicPartition,
    /// What it acknowledges; an error when that makes no sense.
    pub acknowledges: Result<Vec<AckBatch>, ApiError>,
}

impl Named {
    fn has_acks(&self) -> bool {
        self.acknowledges
            .as_ref()
            .map_or(true, |acks| !acks.is_empty())
    }
}

/// A ShareFetch.
#[derive(Debug)]
pub struct FetchCall {
    /// The group.
    pub group: GroupId,
    /// Who asks.
    pub member: MemberId,
    /// The session's epoch.
    pub epoch: i32,
    /// How long it may take until there is something.
    pub wait: Duration,
    /// How many bytes of records, about.
    pub bytes_max: usize,
    /// How many records.
    pub records_max: i64,
    /// How many records make one range of what was acquired.
    pub batch_size: i64,
    /// How strictly `records_max` is meant.
    pub mode: AcquireMode,
    /// Nothing is to be fetched: locks are renewed.
    pub is_renew: bool,
    /// Partitions that are new to the session, or have something acknowledged.
    pub named: Vec<Named>,
    /// Partitions that leave the session.
    pub forgotten: Vec<TopicPartition>,
}

/// A ShareAcknowledge.
#[derive(Debug)]
pub struct AcknowledgeCall {
    /// The group.
    pub group: GroupId,
    /// Who acknowledges.
    pub member: MemberId,
    /// The session's epoch.
    pub epoch: i32,
    /// Some of it renews locks.
    pub is_renew: bool,
    /// What.
    pub named: Vec<Named>,
}

/// What became of acknowledgements of one partition.
pub type AckOutcome = (TopicPartition, Result<(), NotLed>);

/// The answer to a fetch.
#[derive(Debug, Default)]
pub struct FetchAnswer {
    /// How long records that were acquired are locked.
    pub lock_ms: i32,
    /// Of each partition that there is something to say of.
    pub partitions: Vec<PartitionAnswer>,
}

/// What there is to say of one partition.
#[derive(Debug)]
pub struct PartitionAnswer {
    /// Which.
    pub partition: TopicPartition,
    /// Why nothing could be fetched.
    pub error: Option<NotLed>,
    /// Why acknowledgements were refused.
    pub ack_error: Option<ApiError>,
    /// Whole batches that have what was acquired.
    pub records: Records,
    /// What was acquired.
    pub acquired: Vec<Acquired>,
}

impl PartitionAnswer {
    fn of(partition: TopicPartition) -> Self {
        Self {
            partition,
            error: None,
            ack_error: None,
            records: Records::empty(),
            acquired: Vec::new(),
        }
    }

    fn says_something(&self) -> bool {
        self.error.is_some() || !self.acquired.is_empty()
    }
}

/// Acknowledgements under way.
type Acking = Vec<(TopicPartition, Result<Acknowledged, NotLed>)>;

impl Share {
    /// Fetches. The session's step and the acknowledgements are taken when this is called; the future waits for their being
    /// stored, and for records.
    pub fn fetch(
        &self,
        broker: &Arc<Broker>,
        peer: &Arc<Peer>,
        call: FetchCall,
    ) -> impl Future<Output = Result<FetchAnswer, ApiError>> + Send + use<> {
        let begun = self.begin(broker, peer, &call);
        let (share, broker, peer) = (self.clone(), Arc::clone(broker), Arc::clone(peer));
        async move {
            let (step, acking) = begun?;
            let settings = share.settings_of(&call.group);
            let lock_ms = i32::try_from(settings.engine.lock_ms).unwrap_or(i32::MAX);
            let acked = outcomes(acking).await;
            let (partitions, is_full) = match step {
                Step::Opened { partitions, .. } => (partitions, true),
                Step::Continued(partitions) => (partitions, false),
                Step::Closed(_) => (Vec::new(), false),
            };
            let mut answers = if call.is_renew {
                Vec::new()
            } else {
                share
                    .wait(&broker, &peer, &call, &partitions, settings.isolation)
                    .await
            };
            let said: BTreeMap<_, _> = acked.into_iter().collect();
            answers.retain(|answer| {
                is_full || answer.says_something() || said.contains_key(&answer.partition)
            });
            merge(&mut answers, said);
            Ok(FetchAnswer {
                lock_ms,
                partitions: answers,
            })
        }
    }

    /// Acknowledges. What is acknowledged is taken when this is called; the future waits for its being stored.
    pub fn acknowledge(
        &self,
        broker: &Arc<Broker>,
        call: AcknowledgeCall,
    ) -> impl Future<Output = Result<(i32, Vec<AckOutcome>), ApiError>> + Send + use<> {
        let begun = self.begin_acknowledge(broker, &call);
        let lock_ms = self.settings_of(&call.group).engine.lock_ms;
        async move {
            let lock_ms = i32::try_from(lock_ms).unwrap_or(i32::MAX);
            Ok((lock_ms, outcomes(begun?).await))
        }
    }

    fn begin_acknowledge(
        &self,
        broker: &Arc<Broker>,
        call: &AcknowledgeCall,
    ) -> Result<Acking, ApiError> {
        self.check_renewal(&call.group, call.is_renew)?;
        let key = session_key(&call.group, &call.member);
        let stepped = self.sessions().acknowledge(&key, call.epoch);
        let step = stepped.map_err(|error| ApiError::new(error.code(), error.to_string()))?;
        let acking = self.begin_acks(broker, &call.group, &call.member, &call.named);
        if let Step::Closed(partitions) = step {
            self.part(&key, &partitions, Departure::Orderly);
        }
        Ok(acking)
    }

    /// Whether the group's members may renew, if they want to.
    fn check_renewal(&self, group: &GroupId, is_renew: bool) -> Result<(), ApiError> {
        if is_renew && !self.settings_of(group).may_renew {
            let why = "share.renew.acknowledge.enable is false for this group";
            return Err(ApiError::new(ErrorCode::InvalidRequest, why));
        }
        Ok(())
    }

    /// A connection is gone, and with it its sessions: what their members had is handed back.
    pub(super) fn connection_lost(&self, connection: u64) {
        let lost = self.sessions().lost(connection);
        for (key, partitions) in lost {
            self.part(&key, &partitions, Departure::Lost);
        }
    }

    fn begin(
        &self,
        broker: &Arc<Broker>,
        peer: &Arc<Peer>,
        call: &FetchCall,
    ) -> Result<(Step, Acking), ApiError> {
        self.check_renewal(&call.group, call.is_renew)?;
        let key = session_key(&call.group, &call.member);
        let add: Vec<_> = call.named.iter().map(|named| named.partition).collect();
        let change = Change {
            epoch: call.epoch,
            add: &add,
            forget: &call.forgotten,
            acknowledges: call.named.iter().any(Named::has_acks),
            connection: peer.id,
        };
        let stepped = self.sessions().fetch(&key, &change);
        let step = stepped.map_err(|error| ApiError::new(error.code(), error.to_string()))?;
        let acking = self.begin_acks(broker, &call.group, &call.member, &call.named);
        match &step {
            // What the member had of those that it leaves may still be acknowledged, until its locks end.
            Step::Opened { left, .. } => {
                self.watch(peer);
                self.leave_unused(&call.group, left);
            }
            Step::Continued(_) => {
                self.watch(peer);
                self.leave_unused(&call.group, &call.forgotten);
            }
            Step::Closed(partitions) => self.part(&key, partitions, Departure::Orderly),
        }
        Ok((step, acking))
    }

    fn begin_acks(
        &self,
        broker: &Arc<Broker>,
        group: &GroupId,
        member: &MemberId,
        named: &[Named],
    ) -> Acking {
        let acking = named.iter().filter(|named| named.has_acks()).map(|named| {
            let outcome = match &named.acknowledges {
                Err(error) => Err(error.clone().into()),
                Ok(batches) => self.led(broker, named.partition).map(|led| {
                    match self.leader_of(&led, group, named.partition) {
                        Some(leader) => leader.acknowledge(member, batches),
                        None => Acknowledged::Now(Err(ApiError::new(
                            ErrorCode::InvalidRecordState,
                            "nothing of this partition is acquired",
                        ))),
                    }
                }),
            };
            (named.partition, outcome)
        });
        acking.collect()
    }

    /// A session is over: what its member has of its partitions is handed back.
    fn part(&self, key: &SessionKey, partitions: &[TopicPartition], departure: Departure) {
        for partition in partitions {
            let state = state_key(&key.group, *partition);
            if let Some(leader) = self.leaders().get(&state).cloned() {
                // One that has ended has nothing out.
                let _ = leader.with(|engine, now| engine.release(&key.member, departure, now));
            }
        }
        self.leave_unused(&key.group, partitions);
    }

    /// What was taken for a member that cannot be told is there for others, as if it had never been out.
    fn take_back(&self, key: &SessionKey, answers: &[PartitionAnswer]) {
        for answer in answers {
            let state = state_key(&key.group, answer.partition);
            if let Some(leader) = self.leaders().get(&state).cloned() {
                for acquired in &answer.acquired {
                    let (first, last) = (acquired.first, acquired.last);
                    // One that has ended has nothing out.
                    let _ =
                        leader.with(|engine, now| engine.take_back(&key.member, first, last, now));
                }
            }
        }
        let partitions = answers.iter().map(|answer| answer.partition);
        self.leave_unused(&key.group, &partitions.collect::<Vec<_>>());
    }

    /// Looks for records, and waits for some as long as may be.
    async fn wait(
        &self,
        broker: &Arc<Broker>,
        peer: &Peer,
        call: &FetchCall,
        partitions: &[TopicPartition],
        isolation: Isolation,
    ) -> Vec<PartitionAnswer> {
        let until = Instant::now() + call.wait.min(WAIT_MAX);
        let mut waiting = Waiting::default();
        let key = session_key(&call.group, &call.member);
        loop {
            let mut wanted = Wanted {
                member: &call.member,
                records: call.records_max,
                batch_size: call.batch_size,
                mode: call.mode,
                bytes: call.bytes_max.min(RESPONSE_BYTES_MAX),
                is_first: true,
                isolation,
            };
            let mut answers = Vec::with_capacity(partitions.len());
            waiting.places.clear();
            for partition in partitions {
                let answer = self
                    .look(broker, &call.group, *partition, &mut wanted, &mut waiting)
                    .await;
                answers.push(answer);
            }
            // A member that has gone meanwhile never hears of what was just taken for it. What it had before was seen to when it went, or
            // waits for what it said of it to be stored.
            if !self.sessions().has(&key) {
                self.take_back(&key, &answers);
                return Vec::new();
            }
            let is_over = Instant::now() >= until || peer.closed.is_cancelled();
            if is_over || answers.iter().any(PartitionAnswer::says_something) {
                return answers;
            }
            tokio::select! {
                () = waiting.wake.notified() => {}
                () = tokio::time::sleep_until(until) => {}
                () = peer.closed.cancelled() => {}
            }
        }
    }

    async fn look(
        &self,
        broker: &Arc<Broker>,
        group: &GroupId,
        partition: TopicPartition,
        wanted: &mut Wanted<'_>,
        waiting: &mut Waiting,
    ) -> PartitionAnswer {
        let mut answer = PartitionAnswer::of(partition);
        let led = match self.led(broker, partition) {
            Ok(led) => led,
            Err(not_led) => {
                answer.error = Some(not_led);
                return answer;
            }
        };
        // Another may lead by now, and what would be handed out here be done with there.
        if !broker.metadata.holds_lease() {
            answer.error = Some(ErrorCode::NotLeaderOrFollower.into());
            return answer;
        }
        // A leader that this fetch waited for and that failed is not begun anew for it: that would go on as fast as it fails.
        let begun = waiting.leaders.get(&partition);
        let failure = begun
            .filter(|leader| leader.epoch == led.epoch)
            .and_then(|leader| leader.failure());
        if let Some(error) = failure {
            answer.error = Some(error.into());
            return answer;
        }
        let leader = self.lead(broker, &led, group, partition);
        waiting.leaders.insert(partition, Arc::clone(&leader));
        // Before the look: what is freed while it lasts wakes too.
        leader.wake_when_freed(&waiting.wake);
        match acquire(&leader, wanted).await {
            Ok(portion) => {
                answer.records = portion.records;
                answer.acquired = portion.acquired;
                if let Some(above) = portion.waits_above {
                    let wake = &waiting.wake;
                    let place = leader
                        .partition
                        .wake_readable(above, wanted.isolation, wake);
                    waiting.places.push(place);
                }
            }
            Err(error) => answer.error = Some(error.into()),
        }
        answer
    }
}

/// What a fetch that waits holds on to.
#[derive(Debug, Default)]
struct Waiting {
    wake: Arc<Notify>,
    /// Its places in the lists of partitions, for as long as it waits.
    places: Vec<WakeGuard>,
    /// The share-partitions that it waits for.
    leaders: BTreeMap<TopicPartition, Arc<Leader>>,
}

fn session_key(group: &GroupId, member: &MemberId) -> SessionKey {
    SessionKey {
        group: group.clone(),
        member: member.clone(),
    }
}

async fn outcomes(acking: Acking) -> Vec<AckOutcome> {
    let mut outcomes = Vec::with_capacity(acking.len());
    for (partition, acking) in acking {
        let outcome = match acking {
            Ok(acknowledged) => acknowledged.outcome().await.map_err(NotLed::from),
            Err(not_led) => Err(not_led),
        };
        outcomes.push((partition, outcome));
    }
    outcomes
}

/// Puts what became of acknowledgements beside what was fetched.
fn merge(
    answers: &mut Vec<PartitionAnswer>,
    mut acked: BTreeMap<TopicPartition, Result<(), NotLed>>,
) {
    for answer in answers.iter_mut() {
        if let Some(Err(refused)) = acked.remove(&answer.partition) {
            answer.ack_error = Some(refused.error);
        }
    }
    for (partition, outcome) in acked {
        let ack_error = outcome.err().map(|refused| refused.error);
        answers.push(PartitionAnswer {
            ack_error,
            ..PartitionAnswer::of(partition)
        });
    }
}
