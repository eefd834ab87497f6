//! A member of a share group: is handed records, and accepts, releases or rejects them, or says nothing until their locks end.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;
use weir_wire::messages::describe_share_group_offsets_request::DescribeShareGroupOffsetsRequestGroup;
use weir_wire::messages::share_acknowledge_request as acknowledging;
use weir_wire::messages::share_fetch_request::{
    AcknowledgementBatch, FetchPartition, FetchTopic, ForgottenTopic,
};
use weir_wire::messages::share_fetch_response::PartitionData;
use weir_wire::messages::{
    DescribeShareGroupOffsetsRequest, DescribeShareGroupOffsetsResponseView, ErrorCode,
    ShareAcknowledgeRequest, ShareAcknowledgeResponseView, ShareFetchRequest,
    ShareFetchResponseView, ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponseView,
};
use weir_wire::{MessageView, RecordsPart};

use super::fetch::values;
use super::{Client, CoordinatorOf, Unanswered};
use crate::history::{Place, Shared};
use crate::shares::{Delivery, Heard, Said, Say, Shares};

/// With which epoch a session or a membership ends.
const LEAVES: i32 = -1;

/// A member.
#[derive(Debug)]
pub struct Sharer {
    /// For everything but its sessions.
    client: Client,
    /// For its sessions, each of which ends with its connection: nothing else is asked on these.
    fetcher: Client,
    history: Shared,
    shares: Shares,
    group: &'static str,
    topic: std::sync::Arc<str>,
    topic_id: Uuid,
    /// Its name, another each time that it joins.
    id: String,
    joined: u64,
    epoch: i32,
    /// Who coordinates the group, as far as it knows.
    coordinator: Option<i32>,
    partitions: BTreeSet<i32>,
    sessions: BTreeMap<i32, Session>,
}

/// A session with a broker.
#[derive(Debug, Default)]
struct Session {
    epoch: i32,
    partitions: BTreeSet<i32>,
    held: BTreeMap<(i32, i64), Held>,
}

/// A record that the member has.
#[derive(Clone, Copy, Debug)]
struct Held {
    count: i16,
    acquired_ms: u64,
    era: u64,
}

/// What is said of a partition's records.
type Sayings = BTreeMap<i32, Vec<Said>>;

/// The member is not one any more.
struct Lost;

impl Sharer {
    /// One of a group.
    #[must_use]
    pub fn new((client, fetcher): (Client, Client), history: Shared, shares: Shares) -> Self {
        let rules = shares.rules();
        Self {
            client,
            fetcher,
            history,
            shares,
            group: rules.group,
            topic: rules.topic.into(),
            topic_id: Uuid::nil(),
            id: String::new(),
            joined: 0,
            epoch: 0,
            coordinator: None,
            partitions: BTreeSet::new(),
            sessions: BTreeMap::new(),
        }
    }

    /// Takes part until everything is done with.
    pub async fn run(mut self) {
        while !self.shares.is_over() {
            if self.shares.rests() {
                self.rest().await;
                continue;
            }
            self.joined += 1;
            self.id = format!("{}-{}", self.client.host, self.joined);
            self.epoch = 0;
            if self.take_part().await.is_err() {
                self.vanish();
                self.client.pause().await;
            }
        }
        self.shares.gone();
        self.history.done();
    }

    /// Does nothing until it is to go on.
    async fn rest(&mut self) {
        self.shares.resting(true);
        while self.shares.rests() && !self.shares.is_over() {
            self.client.pause().await;
        }
        self.shares.resting(false);
    }

    /// From joining until it goes.
    async fn take_part(&mut self) -> Result<(), Lost> {
        let mut rounds = self.client.random.within(4..60);
        loop {
            // More often than it is asked to, and not each time.
            if self.epoch == 0 || self.client.random.chance(1, 3) {
                self.beat().await?;
            }
            for leader in self.leaders().await {
                self.fetch(leader).await;
                if self.client.random.chance(1, 3) {
                    self.acknowledge(leader, false).await;
                }
            }
            rounds -= 1;
            if rounds == 0 || self.shares.is_over() || self.shares.rests() {
                if self.client.random.chance(1, 2) {
                    self.leave().await;
                }
                return Err(Lost);
            }
            // Now and then for longer than its locks last.
            let ms = match self.client.random.within(0..40) {
                0 => 500..4_000,
                _ => 10..200,
            };
            self.client.rest(ms).await;
        }
    }

    async fn beat(&mut self) -> Result<(), Lost> {
        let Some(coordinator) = self.coordinator().await else {
            return self.unheard();
        };
        let is_joining = self.epoch == 0;
        let request = ShareGroupHeartbeatRequest {
            group_id: self.group.to_owned(),
            member_id: self.id.clone(),
            member_epoch: self.epoch,
            subscribed_topic_names: is_joining.then(|| vec![self.topic.to_string()]),
            ..ShareGroupHeartbeatRequest::default()
        };
        let answer = self.client.ask(coordinator, 1, &request, |body| {
            ShareGroupHeartbeatResponseView::decode(body, 1).map(|view| view.to_owned())
        });
        let Ok(answer) = answer.await else {
            return self.unheard();
        };
        match ErrorCode::from_code(answer.error_code) {
            Some(ErrorCode::None) => {}
            Some(ErrorCode::UnknownMemberId | ErrorCode::FencedMemberEpoch) => return Err(Lost),
            _ => return self.unheard(),
        }
        self.epoch = answer.member_epoch;
        if let Some(assignment) = answer.assignment {
            self.partitions.clear();
            for topic in assignment.topic_partitions {
                self.topic_id = topic.topic_id;
                self.partitions.extend(topic.partitions);
            }
        }
        Ok(())
    }

    async fn coordinator(&mut self) -> Option<i32> {
        if self.coordinator.is_none() {
            let found = self.client.coordinator(self.group, CoordinatorOf::Group);
            self.coordinator = found.await;
        }
        self.coordinator
    }

    /// A heartbeat came to nothing: who is a member works on.
    fn unheard(&mut self) -> Result<(), Lost> {
        self.coordinator = None;
        if self.epoch == 0 { Err(Lost) } else { Ok(()) }
    }

    /// The brokers to ask: who leads something that is the member's, and who did.
    async fn leaders(&mut self) -> BTreeSet<i32> {
        let mut leaders: BTreeSet<i32> = self.sessions.keys().copied().collect();
        for partition in self.partitions.clone() {
            leaders.extend(self.client.leader(&self.topic, partition).await);
        }
        leaders
    }

    fn place(&self, partition: i32) -> Place {
        Place(std::sync::Arc::clone(&self.topic), partition)
    }

    /// What of the member's partitions a broker leads, as far as the member knows.
    async fn led_by(&mut self, broker: i32) -> BTreeSet<i32> {
        let mut led = BTreeSet::new();
        for partition in self.partitions.clone() {
            if self.client.leader(&self.topic, partition).await == Some(broker) {
                led.insert(partition);
            }
        }
        led
    }

    async fn fetch(&mut self, broker: i32) {
        let wanted = self.led_by(broker).await;
        let mut session = self.sessions.remove(&broker).unwrap_or_default();
        let forgotten: Vec<i32> = session.partitions.difference(&wanted).copied().collect();
        for partition in &forgotten {
            let place = self.place(*partition);
            self.shares.forgetting(self.client.host, broker, &place);
            session.held.retain(|(of, _), _| of != partition);
        }
        let says_something = session.epoch > 0 && self.client.random.chance(1, 2);
        let sayings = match says_something {
            true => self.sayings(&mut session),
            false => BTreeMap::new(),
        };
        let named = wanted.iter().filter(|partition| {
            !session.partitions.contains(partition) || sayings.contains_key(partition)
        });
        let partitions: Vec<_> = named
            .map(|partition| FetchPartition {
                partition_index: *partition,
                acknowledgement_batches: sayings
                    .get(partition)
                    .map_or_else(Vec::new, |said| acknowledgements(said)),
            })
            .collect();
        let topic_id = self.topic_id;
        let forgotten = Some(forgotten).filter(|forgotten| !forgotten.is_empty());
        let random = &mut self.client.random;
        let request = ShareFetchRequest {
            group_id: Some(self.group.to_owned()),
            member_id: Some(self.id.clone()),
            share_session_epoch: session.epoch,
            max_wait_ms: i32::try_from(random.within(0..400)).unwrap_or(0),
            max_bytes: *random.pick(&[500, 4_000, 1 << 20]),
            max_records: *random.pick(&[1, 5, 50, 500]),
            batch_size: *random.pick(&[1, 10, 500]),
            share_acquire_mode: *random.pick(&[0, 1]),
            topics: Vec::from_iter((!partitions.is_empty()).then_some(FetchTopic {
                topic_id,
                partitions,
            })),
            forgotten_topics_data: Vec::from_iter(forgotten.map(|partitions| ForgottenTopic {
                topic_id,
                partitions,
            })),
            ..ShareFetchRequest::default()
        };
        let (sent_ms, era) = (self.shares.now_ms(), self.shares.era());
        let answer = self.fetcher.ask(broker, 2, &request, |body| {
            ShareFetchResponseView::decode(body, 2).map(|view| view.to_owned())
        });
        let answer = answer.await;
        if answer.is_err() {
            self.shares.unheard(broker, sent_ms);
        }
        let Some(answer) = self.goes_on(broker, answer, |answer| answer.error_code) else {
            return self.over(broker, sayings);
        };
        session.epoch += 1;
        session.partitions = wanted;
        let answered = answer.responses.into_iter().flat_map(|it| it.partitions);
        let answered: Vec<PartitionData> = answered.collect();
        let codes = answered
            .iter()
            .map(|data| (data.partition_index, data.acknowledge_error_code));
        self.heard(sayings, &codes.collect());
        for data in answered {
            if data.error_code != 0 {
                self.client.forget_leader(&self.topic, data.partition_index);
            }
            let delivery = Delivery {
                member: self.client.host,
                broker,
                place: self.place(data.partition_index),
                sent_ms,
                era,
                ranges: data
                    .acquired_records
                    .iter()
                    .map(|range| (range.first_offset, range.last_offset, range.delivery_count))
                    .collect(),
                values: records(&data),
            };
            self.shares.delivered(&delivery);
            for (first, last, count) in delivery.ranges {
                let held = Held {
                    count,
                    acquired_ms: sent_ms,
                    era,
                };
                let offsets = first..=last;
                let held = offsets.map(|offset| ((data.partition_index, offset), held));
                session.held.extend(held);
            }
        }
        self.sessions.insert(broker, session);
    }

    /// Says something of what it has from a broker; with `leaves` it ends the session with that.
    async fn acknowledge(&mut self, broker: i32, leaves: bool) {
        let Some(mut session) = self.sessions.remove(&broker) else {
            return;
        };
        let sayings = self.sayings(&mut session);
        if sayings.is_empty() && !leaves {
            self.sessions.insert(broker, session);
            return;
        }
        if leaves {
            self.shares.leaving(self.client.host, broker);
        }
        let partitions = sayings.iter().map(|(partition, said)| {
            let batches = acknowledgements(said).into_iter();
            let batches = batches.map(|batch| acknowledging::AcknowledgementBatch {
                first_offset: batch.first_offset,
                last_offset: batch.last_offset,
                acknowledge_types: batch.acknowledge_types,
            });
            acknowledging::AcknowledgePartition {
                partition_index: *partition,
                acknowledgement_batches: batches.collect(),
            }
        });
        let partitions: Vec<_> = partitions.collect();
        let topic_id = self.topic_id;
        let request = ShareAcknowledgeRequest {
            group_id: Some(self.group.to_owned()),
            member_id: Some(self.id.clone()),
            share_session_epoch: if leaves { LEAVES } else { session.epoch },
            topics: Vec::from_iter((!partitions.is_empty()).then_some(
                acknowledging::AcknowledgeTopic {
                    topic_id,
                    partitions,
                },
            )),
            ..ShareAcknowledgeRequest::default()
        };
        let answer = self.fetcher.ask(broker, 2, &request, |body| {
            ShareAcknowledgeResponseView::decode(body, 2).map(|view| view.to_owned())
        });
        let answer = answer.await;
        let Some(answer) = self.goes_on(broker, answer, |answer| answer.error_code) else {
            return self.over(broker, sayings);
        };
        let answered = answer.responses.iter().flat_map(|it| &it.partitions);
        let codes = answered.map(|data| (data.partition_index, data.error_code));
        let codes: BTreeMap<_, _> = codes.collect();
        self.heard(sayings, &codes);
        if !leaves {
            session.epoch += 1;
            self.sessions.insert(broker, session);
        }
    }

    /// Chooses what to say, which it then does not have any more.
    fn sayings(&mut self, session: &mut Session) -> Sayings {
        let mut sayings = Sayings::new();
        let is_closed = self.shares.is_closed();
        let now_ms = self.shares.now_ms();
        let keeps = self.client.random.chance(1, 4);
        for ((partition, offset), held) in std::mem::take(&mut session.held) {
            if keeps && self.client.random.chance(1, 3) {
                session.held.insert((partition, offset), held);
                continue;
            }
            let say = match self.client.random.within(0..10) {
                0..2 if !is_closed => Say::Release,
                2 => Say::Reject,
                _ => Say::Accept,
            };
            let place = self.place(partition);
            self.shares.saying(self.client.host, &place, offset, say);
            sayings.entry(partition).or_default().push(Said {
                member: self.client.host,
                place,
                offset,
                count: held.count,
                acquired_ms: held.acquired_ms,
                era: held.era,
                say,
                sent_ms: now_ms,
                heard: Heard::Unknown,
            });
        }
        sayings
    }

    /// The answer, if the session goes on with it.
    fn goes_on<T>(
        &self,
        broker: i32,
        answer: Result<T, Unanswered>,
        code: impl Fn(&T) -> i16,
    ) -> Option<T> {
        let answer = answer.ok()?;
        match ErrorCode::from_code(code(&answer)) {
            Some(ErrorCode::None) => Some(answer),
            Some(ErrorCode::ShareSessionNotFound | ErrorCode::InvalidShareSessionEpoch) => None,
            other => {
                self.history
                    .wrong(format!("a share session with {broker} ends with {other:?}"));
                None
            }
        }
    }

    /// A session is over, and nobody knows what came of what was said last.
    fn over(&mut self, broker: i32, sayings: Sayings) {
        self.shares.lost(self.client.host, broker);
        for said in sayings.into_values().flatten() {
            self.shares.said(&said);
        }
        for partition in self.partitions.clone() {
            self.client.forget_leader(&self.topic, partition);
        }
    }

    /// Takes down what came of what was said, by the partitions' error codes.
    fn heard(&self, sayings: Sayings, codes: &BTreeMap<i32, i16>) {
        for (partition, said) in sayings {
            let code = codes.get(&partition).copied();
            let heard = match code.map(ErrorCode::from_code) {
                Some(Some(ErrorCode::None)) => Heard::Yes,
                Some(Some(ErrorCode::InvalidRecordState)) => Heard::NotHeld,
                Some(_) => Heard::Unknown,
                None => {
                    let place = self.place(partition);
                    self.history
                        .wrong(format!("{place:?}: acknowledgements were not answered"));
                    Heard::Unknown
                }
            };
            // All or nothing: one lock that has ended is enough for all to be refused.
            let heard = match heard {
                Heard::NotHeld if !said.iter().all(|said| self.shares.is_live(said)) => {
                    Heard::Nothing
                }
                heard => heard,
            };
            for mut said in said {
                said.heard = heard;
                self.shares.said(&said);
            }
        }
    }

    /// Goes in order: sessions first, then the membership.
    async fn leave(&mut self) {
        for broker in self.sessions.keys().copied().collect::<Vec<_>>() {
            self.acknowledge(broker, true).await;
        }
        let Some(coordinator) = self.coordinator().await else {
            return;
        };
        let request = ShareGroupHeartbeatRequest {
            group_id: self.group.to_owned(),
            member_id: self.id.clone(),
            member_epoch: LEAVES,
            ..ShareGroupHeartbeatRequest::default()
        };
        let asked = self.client.ask(coordinator, 1, &request, |body| {
            ShareGroupHeartbeatResponseView::decode(body, 1).map(|view| view.to_owned())
        });
        let _ = asked.await;
    }

    /// Goes without a word.
    fn vanish(&mut self) {
        self.fetcher.hang_up();
        for broker in std::mem::take(&mut self.sessions).into_keys() {
            self.shares.lost(self.client.host, broker);
        }
        self.partitions.clear();
    }
}

/// Ranges of what is said, with one type for each record.
fn acknowledgements(said: &[Said]) -> Vec<AcknowledgementBatch> {
    let mut batches: Vec<AcknowledgementBatch> = Vec::new();
    for said in said {
        let kind = said.say as i8;
        match batches.last_mut() {
            Some(batch) if batch.last_offset + 1 == said.offset => {
                batch.last_offset = said.offset;
                batch.acknowledge_types.push(kind);
            }
            _ => batches.push(AcknowledgementBatch {
                first_offset: said.offset,
                last_offset: said.offset,
                acknowledge_types: vec![kind],
            }),
        }
    }
    batches
}

/// The records of an answer, acquired or not.
fn records(data: &PartitionData) -> BTreeMap<i64, String> {
    let mut bytes = Vec::new();
    for part in data.records.parts() {
        if let RecordsPart::Bytes(part) = part {
            bytes.extend_from_slice(part);
        }
    }
    values(&bytes, 0, Vec::new()).0.into_iter().collect()
}

/// Waits until the group is done with everything below `ends`, by its coordinator's word, and ends its work.
pub async fn finish_shares(
    client: Client,
    history: Shared,
    shares: Shares,
    ends: Vec<(Place, i64)>,
) {
    let mut client = client;
    end_shares(&mut client, &shares, &ends).await;
    history.done();
}

/// The same, telling nobody.
pub(super) async fn end_shares(client: &mut Client, shares: &Shares, ends: &[(Place, i64)]) {
    await_shares(client, shares, ends).await;
    shares.end();
}

/// Waits until the group is done with everything below `ends`.
pub(super) async fn await_shares(client: &mut Client, shares: &Shares, ends: &[(Place, i64)]) {
    while !is_done(client, shares.rules().group, ends).await {
        client.pause().await;
    }
}

async fn is_done(client: &mut Client, group: &str, ends: &[(Place, i64)]) -> bool {
    let coordinator = client.coordinator(group, CoordinatorOf::Group).await;
    let Some(coordinator) = coordinator else {
        return false;
    };
    let request = DescribeShareGroupOffsetsRequest {
        groups: vec![DescribeShareGroupOffsetsRequestGroup {
            group_id: group.to_owned(),
            topics: None,
        }],
    };
    let answer = client.ask(coordinator, 1, &request, |body| {
        DescribeShareGroupOffsetsResponseView::decode(body, 1).map(|view| view.to_owned())
    });
    let Ok(answer) = answer.await else {
        return false;
    };
    let mut starts = BTreeMap::new();
    for topic in answer.groups.into_iter().flat_map(|group| group.topics) {
        for partition in topic.partitions.iter().filter(|it| it.error_code == 0) {
            let place = Place(topic.topic_name.as_str().into(), partition.partition_index);
            starts.insert(place, partition.start_offset);
        }
    }
    ends.iter()
        .all(|(place, end)| *end == 0 || starts.get(place).is_some_and(|start| start >= end))
}
