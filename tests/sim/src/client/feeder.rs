//! A producer of a queue: idempotent, with some batches on their way at once, that takes a refusal for an answer.
//!
//! Batches behind one that has to be sent again are sent again too, in their order, as Java's client and librdkafka do. What is behind a refused one
//! goes on in the same epoch, as franz-go does, or under another identity.

use std::collections::BTreeMap;

use bytes::Bytes;
use weir_wire::batch::{BatchBuilder, NewHeader, NewRecord};
use weir_wire::messages::ErrorCode;
use weir_wire::{ProducerEpoch, ProducerId};

use super::Client;
use super::producer::identify;
use crate::history::{Place, Shared};
use crate::queues::{Fate, Kind, Queue, Sent, TTL_MS, value};
use crate::shares::Shares;

/// A producer of a queue.
#[derive(Debug)]
pub struct Feeder {
    client: Client,
    history: Shared,
    queue: Queue,
    places: Vec<Place>,
    id: (i64, i16),
    sequences: BTreeMap<Place, i32>,
    written: u64,
}

/// What a record is.
#[derive(Clone, Copy, Debug)]
enum What {
    Message(usize),
    /// A message that was acknowledged before: it is not to come twice.
    Copy,
    /// The message of this number is not to come.
    Cancel(usize),
}

#[derive(Debug)]
struct Record {
    what: What,
    timestamp_ms: i64,
    key: Option<String>,
    value: String,
    headers: Vec<(&'static str, String)>,
}

#[derive(Debug)]
struct Batch {
    sequence: i32,
    records: Vec<Record>,
    /// Nobody knows what came of it when it was sent before.
    is_uncertain: bool,
}

impl Batch {
    fn len(&self) -> i32 {
        i32::try_from(self.records.len()).unwrap_or(0)
    }

    fn build(&self, (id, epoch): (i64, i16)) -> Bytes {
        let mut batch =
            BatchBuilder::new().producer(ProducerId(id), ProducerEpoch(epoch), self.sequence);
        for record in &self.records {
            let headers = record.headers.iter().map(|(key, value)| NewHeader {
                key,
                value: Some(value.as_bytes()),
            });
            // Far below a batch's bounds.
            let _ = batch.push(&NewRecord {
                timestamp_ms: record.timestamp_ms,
                key: record.key.as_ref().map(String::as_bytes),
                value: Some(record.value.as_bytes()),
                headers: &headers.collect::<Vec<_>>(),
            });
        }
        batch.build()
    }
}

impl Feeder {
    /// One that writes to a queue.
    #[must_use]
    pub fn new(client: Client, history: Shared, queue: Queue) -> Self {
        let places = queue.sources();
        Self {
            client,
            history,
            queue,
            places,
            id: (-1, -1),
            sequences: BTreeMap::new(),
            written: 0,
        }
    }

    /// Writes until the history says that it is enough.
    pub async fn run(mut self) {
        let (few_ms, many_ms) = match self.queue.kind {
            Kind::Bound | Kind::TopicBound | Kind::Throttle | Kind::Ranks => (10, 200),
            _ => (40, 500),
        };
        while self.history.is_open() {
            if self.id.0 < 0 || self.client.random.chance(1, 6) {
                self.renew().await;
            }
            let place = self.client.random.pick(&self.places).clone();
            let burst = *self.client.random.pick(&[1, 1, 2, 3]);
            let batches = (0..burst).map(|_| self.batch(&place)).collect();
            self.deliver(&place, batches).await;
            self.client.rest(few_ms..many_ms).await;
        }
        self.history.done();
    }

    /// Sends one message, and says whether it was taken.
    pub async fn sell(&mut self, place: &Place) -> bool {
        if self.id.0 < 0 {
            self.renew().await;
        }
        let record = self.record(place);
        let batch = self.numbered(place, vec![record]);
        self.deliver(place, vec![batch]).await > 0
    }

    /// Waits a little.
    pub async fn wait(&mut self) {
        self.client.pause().await;
    }

    async fn renew(&mut self) {
        self.id = identify(&mut self.client, &self.history).await;
        self.sequences.clear();
    }

    fn numbered(&mut self, place: &Place, records: Vec<Record>) -> Batch {
        let next = self.sequences.entry(place.clone()).or_default();
        let batch = Batch {
            sequence: *next,
            records,
            is_uncertain: false,
        };
        *next += batch.len();
        batch
    }

    fn batch(&mut self, place: &Place) -> Batch {
        let count = 1 + self.client.random.within(0..3);
        let mut records: Vec<_> = (0..count).map(|_| self.record(place)).collect();
        if self.queue.kind == Kind::Delays {
            records.extend(self.copy(place));
            records.extend(self.cancel(place));
        }
        self.numbered(place, records)
    }

    /// A message, which is taken down.
    fn record(&mut self, place: &Place) -> Record {
        let books = &self.queue.books;
        let (now_ms, random) = (books.time_ms(), &mut self.client.random);
        let mut sent = Sent {
            place: place.clone(),
            value: String::new(),
            id: None,
            due_ms: None,
            is_at: false,
            sent_ms: books.now_ms(),
            fate: Fate::Unknown,
            cancelled: None,
        };
        let (mut key, mut mark, mut timestamp_ms) = (None, value::GOOD, now_ms);
        let mut level = String::new();
        let mut headers = Vec::new();
        match self.queue.kind {
            Kind::Bound | Kind::TopicBound | Kind::Throttle | Kind::DropOldest => {}
            // These have producers of their own.
            Kind::Halves | Kind::Calls => {}
            Kind::Ranks => {
                let of = random.pick(&["0", "4", "5", "9"]);
                level = format!("/{of}");
                // That is what those have that do not say.
                if *of != "4" {
                    headers.push(("weir-priority", (*of).to_owned()));
                }
            }
            Kind::Views => {
                if random.chance(1, 3) {
                    mark = value::SKIP;
                }
                headers.push(("kind", mark.to_owned()));
            }
            Kind::Jobs | Kind::OrderedJobs => {
                key = Some(format!("k{}", random.within(0..4)));
                match random.within(0..8) {
                    0 => {
                        mark = value::OLD;
                        timestamp_ms -= 2 * TTL_MS;
                    }
                    1 => mark = value::SKIP,
                    _ => {}
                }
                headers.push(("kind", mark.to_owned()));
            }
            Kind::Delays => {
                let delay_ms = match random.within(0..10) {
                    0..4 => None,
                    4..7 => Some(random.within(1..500)),
                    _ => Some(random.within(200..2_500)),
                };
                if let Some(delay_ms) = delay_ms {
                    let due_ms = now_ms + i64::try_from(delay_ms).unwrap_or(0);
                    sent.due_ms = Some(due_ms);
                    sent.is_at = random.chance(1, 2);
                    headers.push(match sent.is_at {
                        true => ("weir-deliver-at", due_ms.to_string()),
                        false => ("weir-delay-ms", delay_ms.to_string()),
                    });
                } else if random.chance(1, 5) {
                    sent.id = Some(books.common_id());
                }
            }
        }
        let named = key.as_deref().unwrap_or("-");
        let value = format!(
            "q/{}/{}/{named}/{mark}{level}",
            self.client.host, self.written
        );
        self.written += 1;
        sent.value.clone_from(&value);
        if self.queue.kind == Kind::Delays {
            let id = sent.id.get_or_insert_with(|| value.clone()).clone();
            headers.push(("weir-message-id", id));
        }
        Record {
            what: What::Message(books.sending(sent)),
            timestamp_ms,
            key,
            value,
            headers,
        }
    }

    /// Now and then a message that came before.
    fn copy(&mut self, place: &Place) -> Option<Record> {
        if !self.client.random.chance(1, 3) {
            return None;
        }
        let (books, draw) = (&self.queue.books, self.client.random.draw());
        let (_, sent) = books.find(place, draw, |sent| sent.id.as_ref() == Some(&sent.value))?;
        Some(Record {
            what: What::Copy,
            timestamp_ms: books.time_ms(),
            key: None,
            headers: vec![("weir-message-id", sent.value.clone())],
            value: sent.value,
        })
    }

    /// Now and then a message is not to come any more.
    fn cancel(&mut self, place: &Place) -> Option<Record> {
        if !self.client.random.chance(1, 5) {
            return None;
        }
        let (books, draw) = (&self.queue.books, self.client.random.draw());
        let soon_ms = books.time_ms() + 300;
        let (number, sent) = books.find(place, draw, |sent| {
            sent.cancelled.is_none() && sent.due_ms.is_some_and(|due_ms| due_ms > soon_ms)
        })?;
        books.cancelling(number, false);
        Some(Record {
            what: What::Cancel(number),
            timestamp_ms: books.time_ms(),
            key: None,
            value: String::new(),
            headers: vec![("weir-cancel", sent.value)],
        })
    }

    /// Sends until each batch is acknowledged or refused; how many were acknowledged.
    async fn deliver(&mut self, place: &Place, mut batches: Vec<Batch>) -> usize {
        let mut taken = 0;
        loop {
            if let Some(leader) = self.client.leader(&place.0, place.1).await {
                let shares = self.queue.shares.as_ref();
                let at = (leader, shares.map_or(0, Shares::era));
                let built = batches.iter().map(|batch| batch.build(self.id)).collect();
                let to = (&*place.0, place.1);
                let answers = self.client.produce_all(leader, 9, to, built).await;
                let mut left: Vec<Batch> = Vec::new();
                let mut is_lost = false;
                for (number, mut batch) in batches.into_iter().enumerate() {
                    let answer = answers
                        .get(number)
                        .map(|it| (it.error_code, it.base_offset));
                    match answer.map(|(code, at)| (ErrorCode::from_code(code), at)) {
                        Some((Some(ErrorCode::None), base_offset)) => {
                            taken += 1;
                            self.acked(place, &batch, base_offset, at);
                        }
                        Some((Some(ErrorCode::PolicyViolation), _)) => self.refused(place, &batch),
                        Some((
                            Some(
                                ErrorCode::OutOfOrderSequenceNumber | ErrorCode::UnknownProducerId,
                            ),
                            _,
                        )) if left.is_empty() => {
                            is_lost = true;
                            self.lost(place, batch);
                        }
                        Some((code, _)) => {
                            self.check_passes(place, code);
                            left.push(batch);
                        }
                        None => {
                            batch.is_uncertain = true;
                            left.push(batch);
                        }
                    }
                }
                batches = left;
                if is_lost {
                    self.renew().await;
                    for batch in &mut batches {
                        let next = self.sequences.entry(place.clone()).or_default();
                        batch.sequence = *next;
                        *next += batch.len();
                    }
                }
                if batches.is_empty() {
                    return taken;
                }
                self.client.forget_leader(&place.0, place.1);
            }
            self.client.pause().await;
        }
    }

    fn acked(&self, place: &Place, batch: &Batch, base_offset: i64, at: (i32, u64)) {
        let books = &self.queue.books;
        for (offset, record) in (base_offset..).zip(&batch.records) {
            if let (Some(shares), Some(level)) = (&self.queue.shares, value::level(&record.value)) {
                shares.taken((place, offset), level, at);
            }
            match record.what {
                What::Message(number) => books.acked(number, offset),
                What::Cancel(number) => books.cancelling(number, true),
                What::Copy => {}
            }
        }
    }

    fn refused(&mut self, place: &Place, batch: &Batch) {
        if !self.queue.kind.refuses() {
            self.history.wrong(format!(
                "{place:?}: a queue is full that refuses nothing for good"
            ));
        }
        for record in &batch.records {
            if let What::Message(number) = record.what {
                self.queue.books.refused(number);
            }
        }
    }

    /// A batch in its turn is out of order: the one before it was refused, or it itself was, and this leader does not know of that; or all that came before it has
    /// made room, and with it what this leader, which has it from another, could know of its producer. It is given up.
    fn lost(&mut self, place: &Place, batch: Batch) {
        let may_be = match self.queue.kind {
            Kind::Bound | Kind::TopicBound => batch.is_uncertain || batch.sequence > 0,
            Kind::DropOldest => batch.sequence > 0,
            _ => false,
        };
        if !may_be {
            self.history.wrong(format!(
                "{place:?}: a batch in its turn is out of order: {batch:?}"
            ));
        }
    }

    fn check_passes(&self, place: &Place, code: Option<ErrorCode>) {
        let passes = matches!(
            code,
            Some(
                ErrorCode::NotLeaderOrFollower
                    | ErrorCode::LeaderNotAvailable
                    | ErrorCode::UnknownTopicOrPartition
                    | ErrorCode::RequestTimedOut
                    | ErrorCode::NotEnoughReplicas
                    | ErrorCode::NotEnoughReplicasAfterAppend
                    | ErrorCode::FencedLeaderEpoch
                    | ErrorCode::KafkaStorageError
                    // Behind one that is sent again.
                    | ErrorCode::OutOfOrderSequenceNumber
                    | ErrorCode::UnknownProducerId
            )
        );
        if !passes {
            self.history.wrong(format!(
                "{place:?}: a batch of a queue was refused: {code:?}"
            ));
        }
    }
}
