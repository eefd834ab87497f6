//! Dead letters: what a group gives up is written to its topic for them before it is done with (KIP-1191).
//!
//! Carries out what the engine says is to become a dead letter, beside the task that stores. What always holds: a record is done only
//! once its dead letter is committed, or nobody wants one; a letter that was perhaps written is sent again with its number, so that it is there
//! once; a failover in between may write it twice, and never loses it. What passes is tried again for as long as it takes, which holds up
//! nobody but through the window's bound. Where letters may not go where the group says (there is no such topic, it takes none), the record
//! is given up without one, as in Kafka, said in the log and counted.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tracing::{debug, warn};
use weir_groups::share::Dead;
use weir_log::ReadError;
use weir_log::mutants::Mutant;
use weir_queues::dead_letter::{Misdirected, Origin, Reason, destination};
use weir_quorum::command::{Command, CreateTopics, NewTopic, Reply};
use weir_quorum::configs::DeadLetterRules;
use weir_wire::batch::{BatchBuilder, NewHeader, NewRecord, RecordView, batches};
use weir_wire::{Offset, PartitionIndex, ProducerEpoch, ProducerId};

use super::leader::Leader;
use super::settings::Sharing;
use crate::Broker;
use crate::error::ErrorCode;
use crate::partitions::Isolation;
use crate::queue::append::{append, passes};

/// Letters of one batch: a read of the log and an append carry so many.
const AT_ONCE_MAX: i64 = 100;
/// Bytes of keys, values and headers in one batch, where it has more than one letter: what a topic takes by default, with room to spare.
const BYTES_MAX: usize = 512 << 10;
/// Bytes that are read at once.
const READ_BYTES: usize = 256 << 10;
/// After an attempt that failed.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How long a topic may be missing before records are given up without letters: this broker may hear of it later than whoever made it.
const MISSING_MAX: Duration = Duration::from_secs(10);
/// Between two looks whether it is there now.
const MISSING_PAUSE: Duration = Duration::from_millis(250);

/// A record that is given up.
struct Letter {
    offset: Offset,
    deliveries: i16,
    reason: Reason,
    /// What it was, where that is wanted and still there.
    copied: Option<Copied>,
}

#[derive(Default)]
struct Copied {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Copied {
    fn of(record: &RecordView<'_>) -> Self {
        let owned = |bytes: &[u8]| bytes.to_vec();
        let headers = record.headers.iter();
        Self {
            key: record.key.map(owned),
            value: record.value.map(owned),
            headers: headers
                .map(|header| (header.key.to_owned(), header.value.map(owned)))
                .collect(),
        }
    }

    fn len(&self) -> usize {
        let headers = self.headers.iter();
        let headers: usize = headers
            .map(|(name, value)| name.len() + value.as_ref().map_or(0, Vec::len))
            .sum();
        self.key.as_ref().map_or(0, Vec::len) + self.value.as_ref().map_or(0, Vec::len) + headers
    }
}

/// Who writes letters, and how many of them were written.
struct Writer {
    topic: weir_quorum::TopicId,
    partition: PartitionIndex,
    producer: ProducerId,
    sequence: i32,
}

/// What is remembered from batch to batch.
#[derive(Default)]
struct Memory {
    writer: Option<Writer>,
    /// Since when letters may not go where the group says.
    misdirected: Option<Instant>,
}

/// Where letters go.
enum Target {
    /// The group wants none.
    Nowhere,
    /// To this topic, which has so many partitions.
    Topic(String, weir_quorum::TopicId, u32),
    /// To a topic that is to be made.
    New(String),
}

impl Leader {
    /// Writes dead letters until it is dropped.
    pub(super) async fn bury(&self, broker: &Arc<Broker>) -> Infallible {
        let mut memory = Memory::default();
        loop {
            let dead = self.engine(|engine, _| engine.take_dead(AT_ONCE_MAX));
            let dead = dead.unwrap_or_default();
            if dead.is_empty() {
                self.dead.notified().await;
                continue;
            }
            let mut letters = letters(&dead);
            while !letters.is_empty() {
                let some = self.copy(&mut letters).await;
                self.bury_some(broker, &mut memory, some).await;
            }
        }
    }

    /// The first of these letters, as many as fit into one batch, with what they are to have of their records.
    async fn copy(&self, letters: &mut Vec<Letter>) -> Vec<Letter> {
        let copies = self
            .sharing()
            .is_some_and(|sharing| sharing.config.copies_record);
        if !copies {
            return std::mem::take(letters);
        }
        let (mut bytes, mut next) = (0, 0);
        while next < letters.len() {
            let from = letters[next].offset;
            let found = self.records(from).await;
            let (mut is_full, before) = (false, next);
            for record in owned_records(&found, from) {
                while next < letters.len() && letters[next].offset < record.0 {
                    // It is in the log no more.
                    next += 1;
                }
                if next < letters.len() && letters[next].offset == record.0 {
                    let len = record.1.len();
                    is_full = next > 0 && bytes + len > BYTES_MAX;
                    if is_full {
                        break;
                    }
                    bytes += len;
                    letters[next].copied = Some(record.1);
                    next += 1;
                }
            }
            if is_full {
                break;
            }
            if next == before {
                next += 1;
            }
        }
        let rest = letters.split_off(next);
        std::mem::replace(letters, rest)
    }

    /// Batches of the log from an offset on; none when it is there no more. What cannot be read for the moment is read again.
    async fn records(&self, from: Offset) -> Bytes {
        let mut pause = PAUSE_MIN;
        loop {
            let partition = Arc::clone(&self.partition);
            let read =
                move || partition.read_as(from, Isolation::ReadUncommitted, READ_BYTES, true);
            let read = self.host.blocking(read).await.map(|read| read.bytes);
            match found(read, from, self.partition.reader().log_end()) {
                Found::There(bytes) => return bytes,
                Found::Gone => return Bytes::new(),
                Found::NotNow(why) => {
                    debug!(why, %from, "a record that is given up cannot be copied yet");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    /// Writes letters, for as long as it takes, and lets go of their records.
    async fn bury_some(&self, broker: &Arc<Broker>, memory: &mut Memory, letters: Vec<Letter>) {
        let mut pause = PAUSE_MIN;
        // Those that are too large for one batch are divided; the first are written first.
        let mut left = vec![letters];
        while let Some(mut letters) = left.pop() {
            let count = letters.len();
            if Mutant::BuryLate.is_active() {
                self.let_go(&letters);
            }
            let attempt = self.attempt(broker, &mut memory.writer, &letters).await;
            if !matches!(attempt, Attempt::Misdirected(_)) {
                memory.misdirected = None;
            }
            match attempt {
                Attempt::Done(written_to) => {
                    if let Some((topic, partition)) = written_to {
                        let counters = self.partition.counters();
                        counters.dead_letters.inc_by(count as u64);
                        self.trace_letters(&letters, &topic, partition);
                    }
                    self.let_go(&letters);
                    pause = PAUSE_MIN;
                    continue;
                }
                Attempt::TooLarge if count > 1 => left.push(letters.split_off(count / 2)),
                // Where its record lies a letter says; what that was does not fit.
                Attempt::TooLarge if letters.iter().any(|letter| letter.copied.is_some()) => {
                    letters.iter_mut().for_each(|letter| letter.copied = None);
                }
                Attempt::TooLarge => {
                    self.drop_all(&letters, "the topic takes no batch as small as this");
                    continue;
                }
                Attempt::Misdirected(why) => {
                    let since = *memory.misdirected.get_or_insert_with(Instant::now);
                    if since.elapsed() >= MISSING_MAX {
                        self.drop_all(&letters, &why.to_string());
                        continue;
                    }
                    tokio::time::sleep(MISSING_PAUSE).await;
                }
                Attempt::Failed => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
            left.push(letters);
        }
    }

    async fn attempt(
        &self,
        broker: &Arc<Broker>,
        writer: &mut Option<Writer>,
        letters: &[Letter],
    ) -> Attempt {
        let target = match self.target(broker) {
            Ok(Target::New(name)) => {
                create(broker, name).await;
                self.target(broker)
            }
            target => target,
        };
        let (name, topic, partitions) = match target {
            Err(why) => return Attempt::Misdirected(why),
            Ok(Target::Nowhere) => return Attempt::Done(None),
            Ok(Target::New(_)) => return Attempt::Failed,
            Ok(Target::Topic(name, topic, partitions)) => (name, topic, partitions),
        };
        let partition = destination(self.key.partition, partitions);
        if writer
            .as_ref()
            .is_none_or(|writer| (writer.topic, writer.partition) != (topic, partition))
        {
            match broker.producer_ids.next(&broker.metadata).await {
                Ok(producer) => {
                    *writer = Some(Writer {
                        topic,
                        partition,
                        producer,
                        sequence: 0,
                    });
                }
                Err(error) => {
                    debug!(%error, "dead letters wait for a producer id");
                    return Attempt::Failed;
                }
            }
        }
        let Some(numbered) = writer else {
            return Attempt::Failed;
        };
        let Some(batch) = self.batch(numbered, letters) else {
            return Attempt::TooLarge;
        };
        match append(broker, &name, partition, batch).await {
            Ok(_) => {
                // As sequences go on behind the greatest.
                let count = i32::try_from(letters.len()).unwrap_or(i32::MAX);
                let next = i64::from(numbered.sequence) + i64::from(count);
                numbered.sequence = i32::try_from(next % (1 << 31)).unwrap_or(0);
                Attempt::Done(Some((name, partition)))
            }
            Err(error) if error.code == ErrorCode::MessageTooLarge => Attempt::TooLarge,
            Err(error) => {
                debug!(topic = %name, %error, "dead letters are not written yet");
                if !passes(error.code) {
                    // Whatever became of its numbers, new ones are good; at worst the letters are there twice.
                    *writer = None;
                }
                Attempt::Failed
            }
        }
    }

    fn target(&self, broker: &Broker) -> Result<Target, Misdirected> {
        let Some(name) = self.dead_letter_topic() else {
            return Ok(Target::Nowhere);
        };
        let image = broker.metadata.image();
        let settings = broker.metadata.settings();
        let rules = DeadLetterRules::of(&image, settings);
        rules.check(&image, settings, &name, self.partition.topic())?;
        Ok(match image.topic(&name) {
            None => Target::New(name),
            Some(topic) => {
                let partitions = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
                Target::Topic(name, topic.id, partitions)
            }
        })
    }

    fn dead_letter_topic(&self) -> Option<String> {
        let sharing: Option<Arc<Sharing>> = self.sharing();
        sharing?.config.dead_letter_topic.clone()
    }

    fn batch(&self, writer: &Writer, letters: &[Letter]) -> Option<Bytes> {
        let mut builder =
            BatchBuilder::new().producer(writer.producer, ProducerEpoch(0), writer.sequence);
        let timestamp_ms = self.host.clock.now_ms();
        for letter in letters {
            let origin = Origin {
                topic: self.partition.topic().to_string(),
                partition: self.key.partition,
                offset: letter.offset,
                group: self.key.group.to_string(),
                deliveries: letter.deliveries,
            };
            let own = origin.headers(letter.reason);
            let copied = letter.copied.as_ref();
            let headers = copied.map_or(&[][..], |copied| &copied.headers);
            let headers = headers.iter().map(|(key, value)| NewHeader {
                key,
                value: value.as_deref(),
            });
            let own = own.iter().map(|(key, value)| NewHeader {
                key,
                value: Some(value.as_bytes()),
            });
            // Of two of one name the last counts: those of a letter that became one again are behind.
            let headers: Vec<NewHeader<'_>> = headers.chain(own).collect();
            let record = NewRecord {
                timestamp_ms,
                key: copied.and_then(|copied| copied.key.as_deref()),
                value: copied.and_then(|copied| copied.value.as_deref()),
                headers: &headers,
            };
            builder.push(&record).ok()?;
        }
        Some(builder.build())
    }

    fn trace_letters(&self, letters: &[Letter], topic: &str, partition: PartitionIndex) {
        if let Some(trace) = self.partition.trace() {
            for letter in letters {
                trace.dead_lettered(&self.key.group, letter.offset, topic, partition.0);
            }
        }
    }

    fn let_go(&self, letters: &[Letter]) {
        self.engine(|engine, _| {
            for letter in letters {
                engine.buried(letter.offset, letter.offset);
            }
        });
        self.has_work();
    }

    fn drop_all(&self, letters: &[Letter], why: &str) {
        let counters = self.partition.counters();
        counters.dead_letters_dropped.inc_by(letters.len() as u64);
        warn!(
            group = %self.key.group, topic = %self.partition.topic(), partition = %self.key.partition,
            from = ?letters.first().map(|letter| letter.offset), count = letters.len(), why,
            "records are given up without dead letters"
        );
        self.let_go(letters);
    }
}

enum Attempt {
    /// Their records may go; where letters were written, if any were.
    Done(Option<(String, PartitionIndex)>),
    Misdirected(Misdirected),
    TooLarge,
    Failed,
}

fn letters(dead: &[Dead]) -> Vec<Letter> {
    let each = dead.iter().flat_map(|range| {
        (range.first.0..=range.last.0).map(|offset| Letter {
            offset: Offset(offset),
            deliveries: range.deliveries,
            reason: range.reason,
            copied: None,
        })
    });
    each.collect()
}

/// What a read of a record has come to.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    There(Bytes),
    /// Retention was faster, or the log was cut.
    Gone,
    NotNow(String),
}

fn found(read: Result<Bytes, ReadError>, from: Offset, log_end: Offset) -> Found {
    match read {
        Err(ReadError::OffsetOutOfRange { start, .. }) if from < start => Found::Gone,
        _ if from >= log_end => Found::Gone,
        // It was handed out, and so committed; a new leader may not know that yet.
        Ok(bytes) if bytes.is_empty() => Found::NotNow("it is not known to be committed".into()),
        Ok(bytes) => Found::There(bytes),
        Err(error) => Found::NotNow(error.to_string()),
    }
}

/// The records of batches from an offset on. What cannot be read ends it: its letter is written without.
fn owned_records(bytes: &Bytes, from: Offset) -> Vec<(Offset, Copied)> {
    let mut records = Vec::new();
    for batch in batches(bytes).flatten() {
        let Ok(inflated) = batch.inflated() else {
            continue;
        };
        let Ok(found) = inflated.iter() else {
            continue;
        };
        let found = found.flatten().filter(|record| record.offset >= from);
        records.extend(found.map(|record| (record.offset, Copied::of(&record))));
    }
    records
}

/// Has the topic made; what comes of it the metadata says.
async fn create(broker: &Broker, name: String) {
    let topic = NewTopic {
        name,
        config: DeadLetterRules::config_of_new(),
        ..NewTopic::default()
    };
    let command = Command::CreateTopics(CreateTopics {
        topics: vec![topic],
        validate_only: false,
    });
    let refused = match broker.metadata.control(command).await {
        Ok(Reply::Topics(results)) => results.into_iter().find_map(|result| result.outcome.err()),
        Ok(_) => None,
        Err(error) => Some(error),
    };
    if let Some(error) = refused {
        warn!(%error, "a topic for dead letters could not be made");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_again_unless_it_is_gone() {
        let (start, end) = (Offset(5), Offset(20));
        let out_of_range = || ReadError::OffsetOutOfRange {
            wanted: Offset(4),
            start,
            end,
        };
        let bytes = Bytes::from_static(b"batches");
        assert_eq!(
            found(Ok(bytes.clone()), Offset(7), end),
            Found::There(bytes)
        );
        assert_eq!(found(Err(out_of_range()), Offset(4), end), Found::Gone);
        assert_eq!(found(Ok(Bytes::new()), Offset(20), end), Found::Gone);
        for read in [Ok(Bytes::new()), Err(ReadError::WouldBlock)] {
            let found = found(read, Offset(7), end);
            assert!(matches!(found, Found::NotNow(_)), "{found:?}");
        }
    }
}
