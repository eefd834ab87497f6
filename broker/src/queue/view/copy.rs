//! The copier of one partition of a view.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use tracing::{debug, warn};
use weir_log::mutants::Mutant;
use weir_log::{AppendError, LaneError, Origin, PartitionKey};
use weir_queues::filter::{Filter, FilterError};
use weir_quorum::configs::ViewConfig;
use weir_quorum::image::Topic;
use weir_quorum::{BrokerId, TopicId};
use weir_wire::batch::RewriteError;
use weir_wire::messages::fetch_request::{FetchPartition, FetchTopic};
use weir_wire::messages::{FetchRequest, FetchResponseView};
use weir_wire::{LeaderEpoch, MessageView, Offset};

use super::build::{Built, Rules};
use super::find::{Unread, last_word};
use super::word::Word;
use crate::Broker;
use crate::error::{ApiError, ErrorCode};
use crate::gateway::{At, Gateway, Link, Place, leader, refused};
use crate::partitions::{Partition, prepare};
use crate::queue::led;

/// The first version that names topics by their ids: another topic of the same name is never read.
const FETCH: i16 = 13;
const READ_UNCOMMITTED: i8 = 0;
const READ_COMMITTED: i8 = 1;

/// Bytes of one fetch, and of one batch, about.
const FETCH_BYTES: i32 = 1 << 20;
const BATCH_BYTES: usize = 1 << 20;
/// How long a fetch with nothing to fetch waits at the source's leader.
const WAIT_MS: i32 = 500;
/// Messages that are passed over before that is written down: a new leader looks at so many once more.
const PASSED_MAX: i64 = 10_000;

/// One partition of a view, in one epoch.
pub(super) struct Copying {
    broker: Arc<Broker>,
    gateway: Gateway,
    key: PartitionKey,
    epoch: LeaderEpoch,
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Unread(#[from] Unread),
    #[error(transparent)]
    Lane(#[from] LaneError),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error("weir.queue.view.filter: {0}")]
    Filter(#[from] FilterError),
    #[error("a batch of the source: {0}")]
    Batch(#[from] RewriteError),
    #[error("the source: {}", .0.message)]
    Asked(ApiError),
}

impl From<ApiError> for Failed {
    fn from(error: ApiError) -> Self {
        Self::Asked(error)
    }
}

/// Where a source is read.
struct Source {
    topic: Arc<Topic>,
    leader: BrokerId,
    epoch: LeaderEpoch,
}

/// How far one is.
struct Position {
    source: TopicId,
    next: i64,
    /// The greatest timestamp of what was looked at.
    timestamp_ms: i64,
}

/// The last word is not known any more when it is dropped, whyever.
struct Life<'a>(&'a Partition);

impl Drop for Life<'_> {
    fn drop(&mut self) {
        self.0.kept().forget();
    }
}

impl Copying {
    pub(super) fn new(
        broker: Arc<Broker>,
        gateway: Gateway,
        key: PartitionKey,
        epoch: LeaderEpoch,
    ) -> Self {
        Self {
            broker,
            gateway,
            key,
            epoch,
        }
    }

    /// Until it is dropped.
    pub(super) async fn run(self) {
        let task = led::Task {
            key: self.key,
            epoch: self.epoch,
            is_of_kind: |partition| partition.view().is_some(),
            what: "a view is not filled",
        };
        let this = &self;
        let live = |partition| async move { this.live(&partition).await };
        task.keep(&this.broker.partitions, live).await;
    }

    /// From the log as it is now until something goes wrong, or it is to be a view of something else.
    async fn live(&self, partition: &Arc<Partition>) -> Result<(), Failed> {
        let now_ms = self.broker.host.clock.now_ms();
        partition.view_progress().begins(self.epoch, now_ms);
        // What was handed over before is written then.
        let end = partition.ends().await?.log_end;
        let log = partition.reader().clone();
        let find = move || last_word(&log, end);
        let found = self.broker.host.blocking(find).await?;
        let _life = Life(partition);
        partition.kept().set(found.map(|(_, at)| at));
        let mut word = found.map(|(word, _)| word);
        let Some(mut view) = partition.view() else {
            return Ok(());
        };
        let mut filter = Arc::new(Filter::parse("", &view.filter)?);
        let mut position: Option<Position> = None;
        let mut link: Option<(BrokerId, Link)> = None;
        let mut images = self.broker.metadata.watch();
        loop {
            images.mark_unchanged();
            match partition.view() {
                Some(now) if now == view => {}
                Some(now) if now.of == view.of => {
                    // What was passed over is not looked at again.
                    if let Some(position) = &position {
                        self.note(partition, &mut word, position).await?;
                    }
                    filter = Arc::new(Filter::parse("", &now.filter)?);
                    view = now;
                }
                _ => return Ok(()),
            }
            let Some(from) = self.source(&view, word) else {
                // Whatever is missing comes with the metadata; what follows from them here, some milliseconds later.
                let _ = tokio::time::timeout(led::PAUSE_MAX, images.changed()).await;
                continue;
            };
            let at = match position.take().filter(|at| at.source == from.topic.id) {
                Some(position) => position,
                None => match self.begin(&from, word).await {
                    Ok(position) => position,
                    Err(error) => {
                        debug!(topic = %partition.topic(), %error, "the source of a view has no place to begin at");
                        self.gateway.pause().await;
                        continue;
                    }
                },
            };
            let rules = self.rules(partition, &filter);
            match self.fetch(&mut link, &from, &rules, &at).await? {
                Some(built) => {
                    let (epoch, source_end) = (from.epoch, built.source_end);
                    let at = self.append(partition, &mut word, at, epoch, built).await?;
                    let now_ms = self.broker.host.clock.now_ms();
                    partition
                        .view_progress()
                        .looked(at.next, source_end, now_ms);
                    position = Some(at);
                }
                None => {
                    position = Some(at);
                    self.gateway.pause().await;
                }
            }
        }
    }

    fn rules(&self, partition: &Partition, filter: &Arc<Filter>) -> Rules {
        let config = partition.config();
        let bytes_max = usize::try_from(config.max_message_bytes).unwrap_or(0);
        Rules {
            filter: Arc::clone(filter),
            needs_keys: config.cleanup_policy.compact,
            bytes_max: bytes_max.min(BATCH_BYTES),
            codec: prepare::target(&config),
        }
    }

    /// The source, if it is there, someone leads it, and knows as much as whoever was asked before.
    fn source(&self, view: &ViewConfig, word: Option<Word>) -> Option<Source> {
        let image = self.gateway.image();
        let topic = image.topic(&view.of)?;
        let led = leader(&image, topic.partition(self.key.partition.0)?)?;
        let epoch = LeaderEpoch(led.1);
        let is_old = word.is_some_and(|word| word.source == topic.id && epoch < word.epoch);
        (!is_old).then(|| Source {
            topic: Arc::clone(topic),
            leader: led.0,
            epoch,
        })
    }

    fn place(&self, topic: &Topic) -> Place {
        Place {
            topic: Arc::clone(&topic.name),
            id: topic.id,
            partition: self.key.partition.0,
        }
    }

    async fn begin(&self, from: &Source, word: Option<Word>) -> Result<Position, ApiError> {
        let known = word.filter(|word| word.source == from.topic.id);
        let next = match known {
            Some(word) => word.next.0,
            None => {
                let place = self.place(&from.topic);
                self.gateway.offset(&place, At::Earliest).await?
            }
        };
        Ok(Position {
            source: from.topic.id,
            next,
            timestamp_ms: -1,
        })
    }

    /// What comes next of the source; `None`: nothing for the moment, for a reason that passes by itself.
    async fn fetch(
        &self,
        link: &mut Option<(BrokerId, Link)>,
        from: &Source,
        rules: &Rules,
        at: &Position,
    ) -> Result<Option<Built>, Failed> {
        if link
            .as_ref()
            .is_some_and(|(to, link)| *to != from.leader || link.is_lost())
        {
            *link = None;
        }
        let body = match self.ask(link, from, at.next).await {
            Ok(body) => body,
            Err(error) => {
                debug!(topic = %from.topic.name, %error, "the source of a view does not answer");
                *link = None;
                return Ok(None);
            }
        };
        let (rules, next, timestamp_ms) = (rules.clone(), at.next, at.timestamp_ms);
        let build = move || -> Result<Result<Built, ApiError>, Failed> {
            let response = FetchResponseView::decode(&body, FETCH)
                .map_err(|error| ApiError::new(ErrorCode::UnknownServerError, error.to_string()))?;
            if let Err(error) = refused(response.error_code, None) {
                return Ok(Err(error));
            }
            let partitions = response.responses.iter();
            let mut partitions = partitions.flat_map(|topic| topic.partitions.iter());
            let Some(data) = partitions.next() else {
                return Ok(Err(ErrorCode::UnknownTopicOrPartition.into()));
            };
            if let Err(error) = refused(data.error_code, None) {
                return Ok(Err(error));
            }
            let mut built = rules.build(&data, next)?;
            built.timestamp_ms = built.timestamp_ms.max(timestamp_ms);
            Ok(Ok(built))
        };
        match self.broker.host.blocking(build).await? {
            Ok(built) => Ok(Some(built)),
            Err(error) if error.code == ErrorCode::OffsetOutOfRange => {
                Ok(self.find_again(from, at).await?)
            }
            Err(error) => {
                debug!(topic = %from.topic.name, code = ?error.code, "the source of a view cannot be read for the moment");
                Ok(None)
            }
        }
    }

    async fn ask(
        &self,
        link: &mut Option<(BrokerId, Link)>,
        from: &Source,
        next: i64,
    ) -> Result<Bytes, ApiError> {
        let (_, link) = match link {
            Some(link) => link,
            None => {
                let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
                let opened = self.gateway.open(from.leader, nobody)?;
                link.insert((from.leader, opened))
            }
        };
        let request = FetchRequest {
            replica_id: -1,
            max_wait_ms: WAIT_MS,
            min_bytes: 1,
            max_bytes: FETCH_BYTES,
            isolation_level: match Mutant::CopyUndecided.is_active() {
                true => READ_UNCOMMITTED,
                false => READ_COMMITTED,
            },
            session_epoch: -1,
            topics: vec![FetchTopic {
                topic_id: from.topic.id.0,
                partitions: vec![FetchPartition {
                    partition: self.key.partition.0,
                    current_leader_epoch: from.epoch.0,
                    fetch_offset: next,
                    last_fetched_epoch: -1,
                    log_start_offset: -1,
                    partition_max_bytes: FETCH_BYTES,
                    ..FetchPartition::default()
                }],
                ..FetchTopic::default()
            }],
            ..FetchRequest::default()
        };
        let led = (from.leader, from.epoch.0);
        tokio::select! {
            body = link.ask(FETCH, &request) => Ok(body?),
            // A leader that hangs answers nothing, while another leads already.
            () = self.gateway.moved(from.topic.id, self.key.partition.0, led) => {
                Err(ErrorCode::NotLeaderOrFollower.into())
            }
        }
    }

    /// The position is not in the source's log: retention was faster, or what was there is lost.
    async fn find_again(&self, from: &Source, at: &Position) -> Result<Option<Built>, Failed> {
        let place = self.place(&from.topic);
        let start = self.gateway.offset(&place, At::Earliest).await;
        let end = self.gateway.offset(&place, At::Latest).await;
        let (Ok(start), Ok(end)) = (start, end) else {
            return Ok(None);
        };
        let next = if at.next < start {
            start
        } else if at.next > end {
            // Whoever leads knows of no more: nothing that was acknowledged is lost but by an unclean election.
            end
        } else {
            return Ok(None);
        };
        let (source, partition) = (&from.topic.name, self.key.partition);
        warn!(%source, %partition, was = at.next, next, "a view goes on at another place of its source, where the log begins or ends");
        Ok(Some(Built {
            parts: Vec::new(),
            next,
            timestamp_ms: at.timestamp_ms,
            source_end: end,
        }))
    }

    /// Appends what a fetch came to, and says how far that is.
    async fn append(
        &self,
        partition: &Arc<Partition>,
        word: &mut Option<Word>,
        at: Position,
        epoch: LeaderEpoch,
        built: Built,
    ) -> Result<Position, Failed> {
        let source = at.source;
        let before = word.filter(|word| word.source == source);
        let has_some = !built.parts.is_empty();
        // One after the other: what lies behind a part that was refused would say that it had been copied.
        let mut next = at.next;
        for part in built.parts {
            let before = std::mem::replace(&mut next, part.next);
            let now = Word {
                source,
                epoch,
                next: Offset(match Mutant::CopyTwice.is_active() {
                    true => before,
                    false => part.next,
                }),
            };
            let both = now.before(part.timestamp_ms, Some(part.batch))?;
            let appended = partition
                .append_as_and_wait(both, self.epoch, Origin::Noted, None)
                .await?;
            partition
                .kept()
                .set(Some(Offset(appended.base_offset.0 - 1)));
            *word = Some(now);
        }
        let position = Position {
            source,
            next: built.next,
            timestamp_ms: built.timestamp_ms,
        };
        if has_some {
            return Ok(position);
        }
        let passed = before.map_or(position.next, |before| position.next - before.next.0);
        if passed >= PASSED_MAX {
            let now = Word {
                source,
                epoch,
                next: Offset(position.next),
            };
            self.write(partition, now, position.timestamp_ms).await?;
            *word = Some(now);
        }
        Ok(position)
    }

    /// Writes down how far it is, if that is further than was written.
    async fn note(
        &self,
        partition: &Arc<Partition>,
        word: &mut Option<Word>,
        position: &Position,
    ) -> Result<(), Failed> {
        let before = word.filter(|word| word.source == position.source);
        if before.is_some_and(|before| before.next.0 >= position.next) {
            return Ok(());
        }
        let now = Word {
            source: position.source,
            epoch: before.map_or(LeaderEpoch(0), |before| before.epoch),
            next: Offset(position.next),
        };
        self.write(partition, now, position.timestamp_ms).await?;
        *word = Some(now);
        Ok(())
    }

    async fn write(
        &self,
        partition: &Arc<Partition>,
        word: Word,
        timestamp_ms: i64,
    ) -> Result<(), Failed> {
        let alone = word.before(timestamp_ms, None)?;
        let appended = partition
            .append_as_and_wait(alone, self.epoch, Origin::Noted, None)
            .await?;
        partition
            .kept()
            .set(Some(Offset(appended.base_offset.0 - 1)));
        Ok(())
    }
}
