//! What a topic asks of its batches beyond their headers: records with keys, timestamps within bounds, a codec of its own.
//!
//! A plain topic asks for none of it, and its batches are never looked into. For the others a batch is inflated, within a
//! bound, checked record by record, and compressed anew. Where that may take long it is done on a thread that may wait, a few
//! batches at a time over the whole broker; batches of one partition stay in the order in which they came all the same.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Semaphore;
use weir_log::AppendError;
use weir_quorum::configs::{TimestampType, TopicConfig};
use weir_wire::batch::{
    BatchHeader, BatchView, Compression, CompressionError, RecordView, RewriteError, only_batch,
};

use crate::error::{ApiError, ErrorCode};
use crate::host::Host;

/// Record errors told of one batch; the message says how many there were.
const RECORD_ERRORS_MAX: usize = 1_000;

/// An uncompressed batch up to this long is checked where it came in: it takes some tens of microseconds.
const BRIEF_BYTES_MAX: usize = 64 << 10;

/// Why a batch is not appended.
#[derive(Clone, Debug)]
pub struct Unfit {
    /// What the client is told.
    pub error: ApiError,
    /// What of single records, by their number in the batch.
    pub records: Vec<(i32, String)>,
}

impl From<ApiError> for Unfit {
    fn from(error: ApiError) -> Self {
        Self {
            error,
            records: Vec::new(),
        }
    }
}

impl From<AppendError> for Unfit {
    fn from(error: AppendError) -> Self {
        ApiError::from(error).into()
    }
}

impl From<RewriteError> for Unfit {
    fn from(error: RewriteError) -> Self {
        let code = match &error {
            RewriteError::Compression(CompressionError::TooLarge { .. }) => {
                ErrorCode::MessageTooLarge
            }
            _ => ErrorCode::InvalidRecord,
        };
        ApiError::new(code, error.to_string()).into()
    }
}

/// What is to be done with a batch before it is appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Nothing.
    None,
    /// So little that it is done at once.
    Brief,
    /// Enough for a thread of its own.
    Long,
}

/// What a topic asks of a batch.
#[must_use]
pub fn effort(config: &TopicConfig, header: &BatchHeader) -> Effort {
    let codec = header.attributes.compression();
    let recompresses = target(config).is_some_and(|(target, _)| target != codec);
    if recompresses {
        return Effort::Long;
    }
    if !looks_at_records(config) && !heeds_headers(config) {
        return Effort::None;
    }
    if codec == Compression::None && header.total_len() <= BRIEF_BYTES_MAX {
        Effort::Brief
    } else {
        Effort::Long
    }
}

/// The topic's own codec and its level; `None` when the producer's stays.
pub(crate) fn target(config: &TopicConfig) -> Option<(Compression, Option<i32>)> {
    match config.compression_type.as_str() {
        "uncompressed" => Some((Compression::None, None)),
        "gzip" => Some((Compression::Gzip, Some(config.compression_gzip_level))),
        "snappy" => Some((Compression::Snappy, None)),
        "lz4" => Some((Compression::Lz4, Some(config.compression_lz4_level))),
        "zstd" => Some((Compression::Zstd, Some(config.compression_zstd_level))),
        _ => None,
    }
}

fn looks_at_records(config: &TopicConfig) -> bool {
    config.cleanup_policy.compact || checks_times(config)
}

/// Whether records may ask for something with their headers, which [`crate::queue::delay`] and [`crate::queue::trace`] look for.
fn heeds_headers(config: &TopicConfig) -> bool {
    let queue = config.queue.as_ref();
    queue.is_some_and(|queue| {
        let heeds = queue.delay_max_ms.or(queue.deduplication_window_ms);
        heeds.is_some() || queue.trace_ratio.is_some()
    })
}

/// Whether each record's time counts. How far the latest lies ahead the header says.
fn checks_times(config: &TopicConfig) -> bool {
    config.message_timestamp_type == TimestampType::CreateTime
        && config.message_timestamp_before_max_ms < i64::MAX
}

/// Checks a batch record by record, and gives the one that is to be appended. May take long.
pub fn prepare(
    batch: &Bytes,
    topic: &str,
    partition: i32,
    config: &TopicConfig,
    now_ms: i64,
) -> Result<Bytes, Unfit> {
    let view = only_batch(batch).map_err(ApiError::from)?;
    let target = target(config).filter(|(codec, _)| *codec != codec_of(&view));
    if target.is_none() && !looks_at_records(config) {
        return Ok(batch.clone());
    }
    let inflated = view.inflated().map_err(RewriteError::from)?;
    let mut errors = RecordErrors::default();
    for (number, record) in (0..).zip(inflated.iter().map_err(ApiError::from)?) {
        let record = record.map_err(ApiError::from)?;
        if config.cleanup_policy.compact && record.key.is_none() {
            errors.add(ErrorCode::InvalidRecord, number, || {
                format!("Compacted topic cannot accept message without key in topic partition {topic}-{partition}.")
            });
        } else if checks_times(config) {
            check_time(&record, number, config, now_ms, &mut errors);
        }
    }
    errors.into_result()?;
    let Some((codec, level)) = target else {
        return Ok(batch.clone());
    };
    let bytes = inflated.recompress(codec, level)?;
    let bytes_max = usize::try_from(config.max_message_bytes).unwrap_or(0);
    if bytes.len() > bytes_max {
        let message = format!(
            "a batch of {} bytes once it is compressed as the topic says; max.message.bytes is {bytes_max}",
            bytes.len()
        );
        return Err(ApiError::new(ErrorCode::MessageTooLarge, message).into());
    }
    Ok(bytes)
}

fn codec_of(batch: &BatchView<'_>) -> Compression {
    batch.header().attributes.compression()
}

fn check_time(
    record: &RecordView<'_>,
    number: i32,
    config: &TopicConfig,
    now_ms: i64,
    errors: &mut RecordErrors,
) {
    let earliest = now_ms.saturating_sub(config.message_timestamp_before_max_ms);
    let latest = now_ms.saturating_add(config.message_timestamp_after_max_ms);
    let time = record.timestamp_ms;
    // -1 is "no timestamp".
    if time >= 0 && !(earliest..=latest).contains(&time) {
        errors.add(ErrorCode::InvalidTimestamp, number, || {
            format!(
                "Timestamp {time} of message with offset {number} is out of range. The timestamp should be within [{earliest}, {latest}]"
            )
        });
    }
}

/// What is wrong with single records.
#[derive(Debug, Default)]
struct RecordErrors {
    code: Option<ErrorCode>,
    count: usize,
    told: Vec<(i32, String)>,
}

impl RecordErrors {
    fn add(&mut self, code: ErrorCode, number: i32, message: impl FnOnce() -> String) {
        self.code.get_or_insert(code);
        self.count += 1;
        if self.told.len() < RECORD_ERRORS_MAX {
            self.told.push((number, message()));
        }
    }

    fn into_result(self) -> Result<(), Unfit> {
        let Some(code) = self.code else {
            return Ok(());
        };
        let first: Vec<&str> = self
            .told
            .iter()
            .take(3)
            .map(|(_, message)| message.as_str())
            .collect();
        // Kafka's words: people search for them.
        let message = format!(
            "One or more records have been rejected due to {} record errors in total, and only showing the first three errors at most: {}",
            self.count,
            first.join("; ")
        );
        Err(Unfit {
            error: ApiError::new(code, message),
            records: self.told,
        })
    }
}

/// How many batches are prepared at the same time over the whole broker: as many as there are cores, and so at most that many
/// times what one may inflate to.
#[must_use]
pub fn permits() -> Arc<Semaphore> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Arc::new(Semaphore::new(cores))
}

type Job = Box<dyn FnOnce() + Send>;

/// The batches of one partition that wait to be prepared, in the order in which they came. Bounded by what requests may hold.
#[derive(Default)]
pub(super) struct Queue {
    /// There while somebody works through it.
    waiting: Mutex<Option<VecDeque<Job>>>,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Option<VecDeque<Job>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does the job after all that came before it: here and now when that is done and it is not long.
    pub(super) fn run(
        self: &Arc<Self>,
        host: &Host,
        permits: &Arc<Semaphore>,
        is_long: bool,
        job: impl FnOnce() + Send + 'static,
    ) {
        {
            let mut waiting = self.lock();
            match &mut *waiting {
                Some(waiting) => return waiting.push_back(Box::new(job)),
                None if is_long => *waiting = Some(VecDeque::from([Box::new(job) as Job])),
                None => {
                    drop(waiting);
                    return job();
                }
            }
        }
        let (queue, host, permits) = (Arc::clone(self), host.clone(), Arc::clone(permits));
        // Ends when nothing waits any more.
        tokio::spawn(async move {
            let _working = Working(Arc::clone(&queue));
            while let Some(job) = queue.next() {
                let permit = permits.acquire().await;
                host.blocking(job).await;
                drop(permit);
            }
        });
    }

    /// The next job; with none left nobody works through the queue any more.
    fn next(&self) -> Option<Job> {
        let mut waiting = self.lock();
        let job = waiting.as_mut().and_then(VecDeque::pop_front);
        if job.is_none() {
            *waiting = None;
        }
        job
    }
}

/// Whoever works through a queue. A job that panics, which is a defect, takes those behind it along and not all that come later.
struct Working(Arc<Queue>);

impl Drop for Working {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let left = self.0.lock().take();
            drop(left);
        }
    }
}
