//! Where messages were, and when: what is seen of them at this broker, for those who ask and for a collector of spans.
//!
//! Owns nothing of a topic without `weir.queue.trace.ratio`: its partitions have no [`Trace`], and whoever passes by looks at one `Option`. Others tell it what they do, in passing:
//! Produce what was appended ([`Producing`]), the share-partitions' leaders what becomes of what they hand out. [`follow`] sees what is replicated. What always holds: nothing
//! waits for it, and what it remembers is bounded ([`weir_queues::trace`]). Which messages are traced is known from their offsets, or from what they
//! say themselves, so that a new leader traces the same; what happened under another leader is remembered there.

mod export;
mod otlp;
mod spans;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use weir_groups::share::{AckBatch, AckType, Acquired, Told};
use weir_groups::{GroupId, MemberId, MonoMs};
use weir_log::{Appended, Clock, PartitionKey};
use weir_queues::Millis;
use weir_queues::trace::{
    Event, MESSAGES_MAX, Message, Query, Ratio, Ring, Settled, What, mix, name,
};
use weir_quorum::configs::TRACE_RATIO;
use weir_quorum::image::Topic;
use weir_wire::batch::{RecordView, batches, only_batch};
use weir_wire::{LeaderEpoch, Offset};

pub use export::{Collector, Endpoint, Exporter};
pub use otlp::{proto, request};
pub use spans::{Attribute, Span};
use spans::{Ids, Kind};

use super::led;
use crate::Broker;
use crate::partitions::{Isolation, Partition};

/// What all partitions' traces have in common.
#[derive(Debug, Default)]
pub struct Tracing {
    clock: OnceLock<Arc<dyn Clock>>,
    exporter: OnceLock<Exporter>,
}

impl Tracing {
    /// By which clock, and where spans go; once, before there is any partition.
    pub fn begin(&self, clock: Arc<dyn Clock>, exporter: Option<Exporter>) {
        // Set once, by `start`.
        let _ = self.clock.set(clock);
        if let Some(exporter) = exporter {
            let _ = self.exporter.set(exporter);
        }
    }

    fn now(&self) -> Millis {
        let now = self.clock.get().map_or(0, |clock| clock.now_ms());
        Millis(u64::try_from(now).unwrap_or(0))
    }
}

/// One partition's. See the module.
#[derive(Debug)]
pub struct Trace {
    topic: Arc<str>,
    partition: i32,
    /// The bits of a ratio.
    ratio: AtomicU64,
    /// Of the partition, the same at every broker.
    seed: u64,
    tracing: Arc<Tracing>,
    state: Mutex<State>,
    /// Something waits to be replicated.
    appended: Notify,
}

#[derive(Debug, Default)]
struct State {
    ring: Ring,
    /// What is out: since when, and how often it was handed out.
    out: BTreeMap<(Offset, Arc<str>), (Millis, i16)>,
    /// When they were appended: those of which it is not known that they are replicated.
    unreplicated: BTreeMap<Offset, Millis>,
    /// The last that were too old, by group, so that each is told once.
    expired: BTreeSet<(Offset, Arc<str>)>,
}

/// A batch that is on its way into the log, as its producer sent it.
#[derive(Debug)]
pub struct Producing {
    trace: Arc<Trace>,
    client_id: Arc<str>,
    address: Arc<str>,
    at: Millis,
    producer_id: i64,
    /// By their numbers.
    messages: Vec<Message>,
    waits: Vec<(i32, Millis)>,
}

impl Trace {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(key: PartitionKey, topic: Arc<str>, ratio: f64, tracing: Arc<Tracing>) -> Self {
        let (high, low) = key.topic_id.0.as_u64_pair();
        Self {
            topic,
            partition: key.partition.0,
            ratio: AtomicU64::new(ratio.to_bits()),
            seed: mix(high ^ low, key.partition.0 as u64),
            tracing,
            state: Mutex::default(),
            appended: Notify::new(),
        }
    }

    /// From now on this part of the messages is traced.
    pub fn trace(&self, ratio: f64) {
        self.ratio.store(ratio.to_bits(), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn takes(&self, offset: Offset, message: &Message) -> bool {
        let ratio = Ratio(f64::from_bits(self.ratio.load(Ordering::Relaxed)));
        message.is_sampled() || ratio.takes(self.seed, offset)
    }

    fn ids(&self, offset: Offset, message: Option<&Message>) -> Ids {
        Ids::of(self.seed, offset, message.and_then(|it| it.parent))
    }

    /// A producer has sent something.
    #[must_use]
    pub fn producing(self: &Arc<Self>, client_id: &str, address: &str) -> Box<Producing> {
        Box::new(Producing {
            trace: Arc::clone(self),
            client_id: name(client_id),
            address: name(address),
            at: self.tracing.now(),
            producer_id: -1,
            messages: Vec::new(),
            waits: Vec::new(),
        })
    }

    /// Batches that are being read for someone to whom something may happen with them: those of their messages that are traced are known from now on. May
    /// take long.
    pub fn note(&self, bytes: &Bytes) {
        let mut found = Vec::new();
        for batch in batches(bytes).flatten() {
            if batch.header().attributes.is_control() {
                continue;
            }
            let Ok(inflated) = batch.inflated() else {
                continue;
            };
            let records = inflated.iter().into_iter().flatten().flatten();
            found.extend(records.map(|record: RecordView<'_>| {
                let message = Message::of(&record);
                (record.offset, message)
            }));
        }
        found.retain(|(offset, message)| self.takes(*offset, message));
        let mut state = self.lock();
        for (offset, message) in found {
            if !state.ring.knows(offset) {
                state.ring.note(offset, message);
            }
        }
    }

    /// A message that was to come later, and had this receipt, lies here now.
    pub fn due(&self, offset: Offset, receipt: Offset, message: Message) {
        if !self.takes(offset, &message) {
            return;
        }
        let at = self.tracing.now();
        let mut state = self.lock();
        state.ring.note(offset, message);
        let what = What::Due { receipt };
        state.add(at, offset, what);
        self.waits_for_replication(&mut state, offset, at);
    }

    fn waits_for_replication(&self, state: &mut State, offset: Offset, at: Millis) {
        state.unreplicated.insert(offset, at);
        if state.unreplicated.len() > MESSAGES_MAX {
            state.unreplicated.pop_first();
        }
        self.appended.notify_one();
    }

    /// Everything below this offset is replicated.
    fn replicated(&self, up_to: Offset) {
        let now = self.tracing.now();
        let mut state = self.lock();
        let rest = state.unreplicated.split_off(&up_to);
        let done = std::mem::replace(&mut state.unreplicated, rest);
        for (offset, appended) in done {
            state.add(now, offset, What::Replicated);
            let message = state.message(offset);
            self.export(Kind::Append, offset, message.as_ref(), (appended, now), &[]);
        }
    }

    /// A member was handed these.
    pub fn delivered(&self, group: &GroupId, member: &MemberId, acquired: &[Acquired]) {
        // Nobody is handed what is not, though nobody may have seen it yet.
        if let Some(last) = acquired.last() {
            self.replicated(Offset(last.last.0 + 1));
        }
        let at = self.tracing.now();
        let (group, member) = (name(group.as_str()), name(member.as_str()));
        let mut state = self.lock();
        for range in acquired {
            let deliveries = range.deliveries;
            for offset in state.traced(range.first..=range.last) {
                let what = What::Delivered {
                    group: Arc::clone(&group),
                    member: Arc::clone(&member),
                    deliveries,
                };
                state.add(at, offset, what);
                let out = (offset, Arc::clone(&group));
                state.out.insert(out, (at, deliveries));
                if state.out.len() > MESSAGES_MAX {
                    state.out.pop_first();
                }
            }
        }
    }

    /// A member said something of these, which was taken.
    pub fn settled(&self, group: &GroupId, member: &MemberId, acks: &[AckBatch]) {
        let (group, member) = (name(group.as_str()), name(member.as_str()));
        let at = self.tracing.now();
        let mut state = self.lock();
        for ack in acks {
            for offset in state.traced(ack.first..=ack.last) {
                let number = usize::try_from(offset.0 - ack.first.0).unwrap_or(0);
                let how = match ack.types.get(number).or(ack.types.first()) {
                    Some(AckType::Accept) => Settled::Accepted,
                    Some(AckType::Release) => Settled::Released,
                    Some(AckType::Reject) => Settled::Rejected,
                    Some(AckType::Renew) => Settled::Renewed,
                    Some(AckType::Gap) | None => continue,
                };
                let what = What::Settled {
                    group: Arc::clone(&group),
                    member: Arc::clone(&member),
                    how,
                };
                state.add(at, offset, what);
                if how != Settled::Renewed {
                    self.came_back(&mut state, offset, &group, at, outcome(how));
                }
            }
        }
    }

    /// What the engine of a share-partition did by itself. `wall` turns its times into those of the clock.
    pub fn told(&self, group: &GroupId, told: &[Told], wall: impl Fn(MonoMs) -> Millis) {
        if told.is_empty() {
            return;
        }
        let at = self.tracing.now();
        let group = name(group.as_str());
        let mut state = self.lock();
        for one in told {
            let range = match *one {
                Told::Returned { first, last, .. }
                | Told::Parked { first, last, .. }
                | Told::GivenUp { first, last, .. } => first..=last,
            };
            for offset in state.traced(range) {
                let group = Arc::clone(&group);
                let what = match *one {
                    Told::Returned { deliveries, .. } => {
                        self.came_back(&mut state, offset, &group, at, "lock ended");
                        What::Returned { group, deliveries }
                    }
                    Told::Parked {
                        deliveries, until, ..
                    } => {
                        self.came_back(&mut state, offset, &group, at, "lock ended");
                        What::Parked {
                            group,
                            deliveries,
                            until: wall(until),
                        }
                    }
                    Told::GivenUp { deliveries, .. } => {
                        self.came_back(&mut state, offset, &group, at, "lock ended");
                        What::GivenUp { group, deliveries }
                    }
                };
                state.add(at, offset, what);
            }
        }
    }

    /// Its dead letter is written.
    pub fn dead_lettered(&self, group: &GroupId, offset: Offset, topic: &str, partition: i32) {
        let at = self.tracing.now();
        let mut state = self.lock();
        let what = What::DeadLettered {
            group: name(group.as_str()),
            topic: name(topic),
            partition,
        };
        state.add(at, offset, what);
        if let Some(message) = state.message(offset) {
            let group = Attribute::text("messaging.consumer.group.name", group.as_str());
            let to = Attribute::text("weir.dead_letter.topic", topic);
            self.export(
                Kind::DeadLetter,
                offset,
                Some(&message),
                (at, at),
                &[group, to],
            );
        }
    }

    /// A group was not given these, for they are too old.
    pub fn expired(&self, group: &GroupId, range: RangeInclusive<Offset>) {
        let at = self.tracing.now();
        let group = name(group.as_str());
        let mut state = self.lock();
        for offset in state.traced(range) {
            if state.expired.insert((offset, Arc::clone(&group))) {
                let group = Arc::clone(&group);
                state.add(at, offset, What::Expired { group });
            }
            if state.expired.len() > MESSAGES_MAX {
                state.expired.pop_first();
            }
        }
    }

    /// What is remembered of the messages that are asked for.
    #[must_use]
    pub fn find(&self, query: Query) -> Vec<Event> {
        self.lock().ring.find(query).cloned().collect()
    }

    /// A delivery is over.
    fn came_back(
        &self,
        state: &mut State,
        offset: Offset,
        group: &Arc<str>,
        now: Millis,
        outcome: &str,
    ) {
        let Some((since, deliveries)) = state.out.remove(&(offset, Arc::clone(group))) else {
            return;
        };
        let attributes = [
            Attribute::text("messaging.consumer.group.name", group),
            Attribute::text("weir.outcome", outcome),
            Attribute::number("weir.delivery_count", i64::from(deliveries)),
        ];
        let message = state.message(offset);
        let kind = Kind::Deliver(deliveries);
        self.export(kind, offset, message.as_ref(), (since, now), &attributes);
    }

    fn export(
        &self,
        kind: Kind,
        offset: Offset,
        message: Option<&Message>,
        time: (Millis, Millis),
        attributes: &[Attribute],
    ) {
        let Some(exporter) = self.tracing.exporter.get() else {
            return;
        };
        let mut all = vec![
            Attribute::text("messaging.system", "kafka"),
            Attribute::text("messaging.destination.name", &self.topic),
            Attribute::text(
                "messaging.destination.partition.id",
                &self.partition.to_string(),
            ),
            Attribute::number("messaging.kafka.offset", offset.0),
        ];
        all.extend_from_slice(attributes);
        let ids = self.ids(offset, message);
        exporter.send(ids.span(kind, &self.topic, time, all));
    }
}

fn outcome(how: Settled) -> &'static str {
    match how {
        Settled::Accepted => "accepted",
        Settled::Released => "released",
        Settled::Rejected => "rejected",
        Settled::Renewed => "renewed",
    }
}

impl State {
    fn add(&mut self, at: Millis, offset: Offset, what: What) {
        self.ring.add(Event { at, offset, what });
    }

    fn message(&self, offset: Offset) -> Option<Message> {
        let mut found = self.ring.within(offset..=offset);
        found.next().map(|(_, message)| *message)
    }

    fn traced(&self, range: RangeInclusive<Offset>) -> Vec<Offset> {
        self.ring.within(range).map(|(offset, _)| offset).collect()
    }
}

impl Producing {
    /// Looks into the batch, which a client has sent and which was checked. May take long. `waits`: those of its records that are to come later.
    #[must_use]
    pub fn look(mut self: Box<Self>, batch: &Bytes, waits: Vec<(i32, Millis)>) -> Box<Self> {
        if let Ok(view) = only_batch(batch)
            && let Ok(inflated) = view.inflated()
        {
            self.producer_id = view.header().producer_id.0;
            let records = inflated.iter().into_iter().flatten().flatten();
            self.messages = records.map(|record| Message::of(&record)).collect();
        }
        self.waits = waits;
        self
    }

    /// It is in the log.
    pub fn appended(&self, appended: &Appended) {
        if appended.duplicate {
            return;
        }
        let trace = &self.trace;
        let mut state = trace.lock();
        for (number, message) in (0..).zip(&self.messages) {
            let offset = Offset(appended.base_offset.0 + i64::from(number));
            if !trace.takes(offset, message) {
                continue;
            }
            state.ring.note(offset, *message);
            let what = What::Appended {
                client_id: Arc::clone(&self.client_id),
                address: Arc::clone(&self.address),
                producer_id: self.producer_id,
            };
            state.add(self.at, offset, what);
            let waits = self.waits.iter().find(|(waits, _)| *waits == number);
            if let Some((_, until)) = waits {
                state.add(self.at, offset, What::Delayed { until: *until });
            }
            trace.waits_for_replication(&mut state, offset, self.at);
        }
    }
}

/// Sees what is replicated, of each traced partition that this broker leads, until `stop`.
pub async fn follow(broker: Arc<Broker>, stop: CancellationToken) {
    led::follow(broker, stop, is_traced, see).await;
}

fn is_traced(topic: &Topic) -> bool {
    let ratio = topic.config.get(TRACE_RATIO);
    ratio.is_some_and(|ratio| ratio.trim().parse().is_ok_and(|ratio: f64| ratio > 0.0))
}

async fn see(broker: Arc<Broker>, key: PartitionKey, epoch: LeaderEpoch) {
    loop {
        let led = broker.partitions.get(key);
        let led = led.ok().filter(|partition| partition.leads(epoch));
        let traced = led.and_then(|partition| Some((partition.trace()?, partition)));
        match traced {
            Some((trace, partition)) => trace.watch(&partition).await,
            // Some milliseconds later it is, or this is stopped.
            None => tokio::time::sleep(led::LOOK_AGAIN).await,
        }
    }
}

impl Trace {
    /// Sees what is replicated for some time.
    async fn watch(&self, partition: &Partition) {
        let first = self.lock().unreplicated.keys().next().copied();
        let Some(first) = first else {
            tokio::select! {
                () = self.appended.notified() => {}
                // The partition may have another trace by then.
                () = tokio::time::sleep(led::LOOK_EVERY) => {}
            }
            return;
        };
        let wake = Arc::new(Notify::new());
        let _place = partition.wake_readable(first, Isolation::ReadUncommitted, &wake);
        let end = partition.high_watermark();
        if end > first {
            self.replicated(end);
            return;
        }
        tokio::select! {
            () = wake.notified() => {}
            () = tokio::time::sleep(led::LOOK_EVERY) => {}
        }
    }
}
