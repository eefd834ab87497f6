//! Releases what is due, of each partition that this broker leads.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use weir_log::mutants::Mutant;
use weir_log::{AppendError, LaneError, LogReader, Origin, PartitionKey, ReadError};
use weir_queues::Millis;
use weir_queues::dedup::MessageId;
use weir_queues::delay::Entry;
use weir_queues::trace::Message;
use weir_quorum::configs::{DEDUPLICATION_WINDOW, DELAY_MAX};
use weir_quorum::image::Topic;
use weir_wire::batch::{BatchBuilder, BatchError, NewHeader, NewRecord, batches, only_batch};
use weir_wire::{LeaderEpoch, Offset, ProducerEpoch};

use super::record::{FROM, RELEASER, Said, Whence, holds_back};
use super::scan::{Scan, Unread};
use super::split::{Heeds, MESSAGE_ID};
use crate::Broker;
use crate::partitions::Partition;
use crate::queue::led;
use crate::queue::trace::Trace;

/// Messages that are taken at once: some milliseconds' work.
const RELEASED_AT_ONCE: usize = 4_096;
/// Bytes of one batch of them, unless a message is longer; less where the topic's batches are shorter.
const BATCH_BYTES: usize = 1 << 20;
/// Bytes that are read for a message, with whatever lies behind it: it may be due too.
const READ_BYTES: usize = 32 << 10;
/// The longest sleep: a clock that was set forward makes nothing late for longer.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// Runs a task for each partition of which messages may wait and that this broker leads, as the metadata says, until `stop`.
pub async fn follow(broker: Arc<Broker>, stop: CancellationToken) {
    led::follow(broker, stop, may_wait, |broker, key, epoch| {
        Releasing { broker, key, epoch }.run()
    })
    .await;
}

fn may_wait(topic: &Topic) -> bool {
    [DELAY_MAX, DEDUPLICATION_WINDOW].into_iter().any(|name| {
        let ms = topic.config.get(name);
        ms.is_some_and(|ms| ms.trim().parse().is_ok_and(|ms: i64| ms >= 0))
    })
}

/// One partition in one epoch.
struct Releasing {
    broker: Arc<Broker>,
    key: PartitionKey,
    epoch: LeaderEpoch,
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Unread(#[from] Unread),
    #[error(transparent)]
    Log(#[from] ReadError),
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Lane(#[from] LaneError),
}

/// A message on its way out.
struct Waited {
    entry: Entry,
    receipt: Offset,
    key: Option<Bytes>,
    value: Option<Bytes>,
    headers: Vec<(String, Option<Bytes>)>,
}

/// Nothing is known any more when it is dropped, whyever.
struct Life<'a> {
    partition: &'a Partition,
    number: u64,
}

impl Drop for Life<'_> {
    fn drop(&mut self) {
        self.partition.delays().begin();
    }
}

impl Releasing {
    /// Until it is dropped.
    async fn run(self) {
        let task = led::Task {
            key: self.key,
            epoch: self.epoch,
            is_of_kind: |partition| partition.heeds().is_some(),
            what: "what is delayed is not released",
        };
        let this = &self;
        let live = |partition| async move { this.live(&partition).await };
        task.keep(&this.broker.partitions, live).await;
    }

    fn now(&self) -> Millis {
        let now = Millis(u64::try_from(self.broker.host.clock.now_ms()).unwrap_or(0));
        match Mutant::ReleaseEarly.is_active() {
            true => now.after(1_000),
            false => now,
        }
    }

    /// One life of what is known of the partition.
    async fn live(&self, partition: &Arc<Partition>) -> Result<(), Failed> {
        let stage = partition.delays();
        let life = Life {
            partition,
            number: stage.begin(),
        };
        // What was handed over before is written then.
        let end = partition.ends().await?.log_end;
        let Some(heeds) = partition.heeds() else {
            return Ok(());
        };
        let found = self.read(partition, heeds, end).await?.found();
        stage.learn(life.number, self.epoch, found);
        loop {
            if partition.heeds() != Some(heeds) {
                // Another window, or delays where there were none: what is known is not all.
                return Ok(());
            }
            let now = self.now();
            let mut chosen = stage.choose(life.number, now, RELEASED_AT_ONCE);
            if let [first, second, ..] = &mut chosen[..]
                && Mutant::ReleaseOutOfOrder.is_active()
            {
                std::mem::swap(first, second);
            }
            if !chosen.is_empty() {
                self.release(partition, life.number, chosen).await?;
                stage.released(life.number);
                continue;
            }
            let wake = stage.next_wake(life.number, now);
            let sleep = wake.map_or(SLEEP_MAX, |wake| {
                Duration::from_millis(wake.0.saturating_sub(now.0)).min(SLEEP_MAX)
            });
            tokio::select! {
                () = stage.news.notified() => {}
                () = tokio::time::sleep(sleep) => {}
            }
        }
    }

    async fn read(&self, partition: &Partition, heeds: Heeds, end: Offset) -> Result<Scan, Unread> {
        let log = partition.reader();
        let now = self.now();
        let mut scan = Scan::new(now, heeds);
        let mut at = log.log_start();
        if let (None, Some(window_ms)) = (heeds.delay_max_ms, heeds.window_ms) {
            let since = i64::try_from(now.0.saturating_sub(window_ms)).unwrap_or(i64::MAX);
            let log = log.clone();
            let find = move || log.offset_for_timestamp(since, end);
            let found = self.broker.host.blocking(find).await?;
            at = found.map_or(end, |found| found.offset);
        }
        while at < end {
            let log = log.clone();
            let part = move || {
                let next = scan.read(&log, at, end);
                (scan, next)
            };
            let (read, next) = self.broker.host.blocking(part).await;
            scan = read;
            at = next?;
        }
        Ok(scan)
    }

    /// Appends what was chosen, in its order.
    async fn release(
        &self,
        partition: &Arc<Partition>,
        life: u64,
        chosen: Vec<Entry>,
    ) -> Result<(), Failed> {
        let log = partition.reader().clone();
        let of = Arc::clone(partition);
        let bytes_max = usize::try_from(partition.config().max_message_bytes).unwrap_or(0);
        let build = move || -> Result<Vec<Bytes>, Failed> {
            let mut messages = find(&log, &chosen)?;
            messages.retain(|message| {
                let ids = message
                    .headers
                    .iter()
                    .filter(|(name, _)| name == MESSAGE_ID);
                let mut ids = ids.filter_map(|(_, id)| id.as_deref());
                Mutant::CancelIgnored.is_active()
                    || !ids.any(|id| {
                        of.delays()
                            .is_cancelled(life, MessageId::of(id), message.entry.at)
                    })
            });
            Ok(build(&messages, bytes_max.min(BATCH_BYTES))?)
        };
        let built = self.broker.host.blocking(build).await?;
        // One after the other: the last released message says that all before it were.
        for batch in built {
            let appended = partition
                .append_as_and_wait(batch.clone(), self.epoch, Origin::Coordinator, None)
                .await?;
            if let Some(trace) = partition.trace() {
                tell(&trace, &batch, appended.base_offset)?;
            }
        }
        Ok(())
    }
}

/// Tells where messages that have come lie now.
fn tell(trace: &Trace, batch: &Bytes, base: Offset) -> Result<(), BatchError> {
    for (number, record) in (0..).zip(only_batch(batch)?.records()?) {
        let record = record?;
        if let Some(whence) = Whence::of(&record) {
            let offset = Offset(base.0 + number);
            trace.due(offset, whence.receipt, Message::of(&record));
        }
    }
    Ok(())
}

/// Reads messages, and gives them in the order in which they are named. Those that were deleted from the log are left out.
fn find(log: &LogReader, chosen: &[Entry]) -> Result<Vec<Waited>, Failed> {
    let mut by_place: Vec<usize> = (0..chosen.len()).collect();
    by_place.sort_unstable_by_key(|number| chosen[*number].at);
    let mut found: Vec<Option<Waited>> = Vec::new();
    found.resize_with(chosen.len(), || None);
    let mut wanted = by_place.into_iter().peekable();
    while let Some(first) = wanted.peek().map(|number| chosen[*number].at) {
        let read = match log.read(first, log.log_end(), READ_BYTES, true) {
            Err(ReadError::OffsetOutOfRange { start, .. }) if first < start => {
                while wanted
                    .next_if(|number| chosen[*number].at < start)
                    .is_some()
                {}
                continue;
            }
            read => read?,
        };
        for batch in batches(&read.bytes) {
            let batch = batch?;
            let header = batch.header();
            if wanted
                .peek()
                .is_none_or(|number| chosen[*number].at > header.last_offset())
                || !holds_back(header)
            {
                continue;
            }
            for record in batch.records()? {
                let record = record?;
                let Some(number) = wanted.next_if(|number| chosen[*number].at == record.offset)
                else {
                    continue;
                };
                let Some(Said::Waits(kept)) = Said::decode(&record) else {
                    continue;
                };
                let headers = record.headers.iter().map(|header| {
                    let value = header.value.map(Bytes::copy_from_slice);
                    (header.key.to_owned(), value)
                });
                found[number] = Some(Waited {
                    entry: chosen[number],
                    receipt: Offset(header.next_offset().0 + i64::from(kept.number)),
                    key: kept.key.map(Bytes::copy_from_slice),
                    value: kept.value.map(Bytes::copy_from_slice),
                    headers: headers.collect(),
                });
            }
        }
        // What was to be there and is not would be looked for for ever.
        let end = read.next_offset.max(Offset(first.0 + 1));
        while wanted.next_if(|number| chosen[*number].at < end).is_some() {}
    }
    Ok(found.into_iter().flatten().collect())
}

/// Batches of at most `bytes_max` each, one message at least.
fn build(messages: &[Waited], bytes_max: usize) -> Result<Vec<Bytes>, BatchError> {
    let new = || BatchBuilder::new().producer(RELEASER, ProducerEpoch(0), -1);
    let (mut built, mut batch) = (Vec::new(), new());
    for message in messages {
        let whence = Whence {
            receipt: message.receipt,
            entry: message.entry,
        };
        let whence = whence.to_string();
        let headers = message.headers.iter().map(|(name, value)| NewHeader {
            key: name,
            value: value.as_deref(),
        });
        let mut headers: Vec<_> = headers.collect();
        headers.push(NewHeader {
            key: FROM,
            value: Some(whence.as_bytes()),
        });
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let more: usize = headers
            .iter()
            .map(|header| header.key.len() + header.value.map_or(0, <[u8]>::len) + 10)
            .sum();
        let more = more + length(&message.key) + length(&message.value) + 32;
        if !batch.is_empty() && batch.len() + more > bytes_max {
            built.push(std::mem::replace(&mut batch, new()).build());
        }
        batch.push(&NewRecord {
            // From when on it was there: retention counts from then.
            timestamp_ms: i64::try_from(message.entry.due.0).unwrap_or(i64::MAX),
            key: message.key.as_deref(),
            value: message.value.as_deref(),
            headers: &headers,
        })?;
    }
    if !batch.is_empty() {
        built.push(batch.build());
    }
    Ok(built)
}
