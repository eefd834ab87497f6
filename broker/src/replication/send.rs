//! The leader's side of a stream: sends one broker what it is to have.
//!
//! One task for each broker that follows. It asks each partition that has something new for its next batches and sends them, some of
//! each in turn, so that one that is far behind holds up nobody: what has to be waited for at the disk is waited for aside. Batches go
//! out as soon as they are written here, while the disk syncs them: the follower's disk syncs at the same time. What always holds: a
//! partition's batches go out in order, each once for each beginning of its channel, and nothing of it before the follower has said where
//! its log ends; what was sent and not confirmed is bounded.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use weir_log::{Batches, ReadError};
use weir_replication::Ends;
use weir_wire::Offset;
use weir_wire::batch::{BatchHeader, filler};

use super::Shared;
use super::frames::{self, Begin, Channel, Position, ToFollower, ToLeader, Until};
use super::links::{Feed, Link};
use super::read;
use super::throttle::Throttle;
use super::write::write_all;
use crate::net::Stream;
use crate::partitions::Progress;

/// Bytes of one partition in its turn: what a disk and a network do within a millisecond.
const TURN_BYTES: usize = 256 << 10;

/// Bytes that are gathered into one write.
const WRITE_BYTES: usize = 512 << 10;

/// Bytes that were sent and not confirmed, of all partitions of a stream: what a fast network and a slow sync of 50 ms hold at
/// 500 MB/s.
const FLYING_BYTES_MAX: usize = 24 << 20;

/// Partitions that wait for the disk at once: enough to keep it busy.
const READS_MAX: usize = 4;

/// How long a follower waits for news of the watermark alone. Whatever is sent carries it too.
const MARK_AFTER: Duration = Duration::from_millis(5);

/// Something is sent at least so often.
pub(super) const PING_EVERY: Duration = Duration::from_millis(500);

/// Before a channel that was refused is begun again; it doubles: most reasons pass at once, and some only with a person.
const BEGIN_MIN: Duration = Duration::from_millis(20);
const BEGIN_MAX: Duration = Duration::from_secs(2);

/// Before it is begun again when the follower had no room: it begins well each time, and room does not come within milliseconds.
const BEGIN_ROOM: Duration = Duration::from_millis(500);

/// The pauses between attempts to connect.
const CONNECT_MIN: Duration = Duration::from_millis(20);
const CONNECT_MAX: Duration = Duration::from_millis(500);

/// One partition on a stream.
struct Sending {
    feed: Arc<Feed>,
    /// Of the last beginning, or of none yet.
    channel: Channel,
    stage: Stage,
    /// Before it is begun again if it is refused.
    pause: Duration,
    /// Whether it is among those that wait for their turn.
    is_waiting: bool,
    /// Its rate allows no more before then.
    held_until: Option<Instant>,
    /// What the follower was told last.
    told: Option<Position>,
    /// The batch within which the log began when a follower was to begin there, from its first offset to the one behind its last.
    first: Option<Range<Offset>>,
    /// Where what was sent ends, and its bytes, oldest first, until it is confirmed.
    flying: VecDeque<(Offset, usize)>,
}

impl Sending {
    /// Where a follower that has nothing begins: a batch within which the log begins is sent whole, and the follower lets go of its beginning as soon as it
    /// hears of the log's.
    fn begins_at(&self, log_start: Offset) -> Offset {
        match &self.first {
            Some(first) if first.contains(&log_start) => first.start,
            _ => log_start,
        }
    }

    /// Where the batch that comes next is read, which is where the log begins if that lies within it.
    fn read_at(&self, next: Offset, log_start: Offset) -> Offset {
        match next == self.begins_at(log_start) {
            true => log_start,
            false => next,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The channel is to be begun, at that time.
    New(Instant),
    /// The follower has been asked where its log ends.
    Asked,
    /// This comes next.
    Live(Offset),
    /// The batches that come next are being read from the disk.
    Reading(Offset),
    /// The follower will not be fed in this epoch.
    Over,
}

/// A stream that is open.
struct Session<'a> {
    shared: &'a Shared,
    link: &'a Link,
    /// The follower's registration.
    registration: u64,
    state: Mutex<State>,
    /// There is more room, or a channel may go on.
    moved: Notify,
}

struct State {
    /// By the number of their feeds.
    sending: BTreeMap<u32, Sending>,
    flying_bytes: usize,
    /// Feeds that may have something to send.
    waiting: VecDeque<u32>,
    /// Feeds that are to be begun, or may have more than their rate allowed, and when.
    due: BTreeSet<(Instant, u32)>,
    throttle: Throttle,
}

/// A read that is over.
type Read = BoxFuture<'static, (u32, Result<Batches, ReadError>)>;

/// Keeps a stream to one broker, until `stop`.
pub(super) async fn run(shared: Arc<Shared>, link: Arc<Link>, stop: CancellationToken) {
    let mut feeds = BTreeMap::new();
    let mut pause = CONNECT_MIN;
    loop {
        let session = async {
            let stream = connect(&shared, &link).await?;
            pause = CONNECT_MIN;
            session(&shared, &link, stream, &mut feeds).await
        };
        let ended = tokio::select! {
            () = stop.cancelled() => return,
            ended = session => ended,
        };
        if let Err(error) = ended {
            if error.kind() == io::ErrorKind::ConnectionRefused {
                shared.metadata_suspect(link.to);
            }
            debug!(broker = %link.to, %error, "no stream to a follower");
        }
        // Also what came while there was no stream.
        while let Some(feed) = link.ready.pop() {
            feeds.insert(feed.id, feed);
        }
        // What this broker does not lead any more needs none.
        feeds.retain(|_, feed: &mut Arc<Feed>| feed.replica.leads(feed.epoch));
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(CONNECT_MAX);
        if feeds.is_empty() {
            // Nothing to do before something is led that is to be there.
            tokio::select! {
                () = stop.cancelled() => return,
                () = link.ready.pushed() => {}
            }
        }
    }
}

async fn connect(shared: &Shared, link: &Link) -> io::Result<Box<dyn Stream>> {
    let address = {
        let image = shared.metadata.image();
        let broker = image.broker(weir_quorum::BrokerId(link.to.0));
        broker.map(|broker| broker.quorum_address.clone())
    };
    let address = address
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the broker is not registered"))?;
    shared
        .channels
        .stream(weir_quorum::BrokerId(link.to.0), &address)
        .await
}

async fn session(
    shared: &Shared,
    link: &Link,
    stream: Box<dyn Stream>,
    feeds: &mut BTreeMap<u32, Arc<Feed>>,
) -> io::Result<()> {
    let (mut reading, mut writing) = tokio::io::split(stream);
    let mut out = BytesMut::new();
    let cluster = shared.metadata.cluster_id().map(|id| id.0);
    ToFollower::Hello {
        cluster: cluster.unwrap_or_default(),
        from: shared.links.me(),
        to: link.to,
    }
    .put(&mut out);
    writing.write_all(&out).await?;
    writing.flush().await?;
    let mut buffer = BytesMut::new();
    let registration = match next(&mut reading, &mut buffer).await? {
        ToLeader::Welcome { from, registration } if from == link.to => registration,
        other => {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{other:?} instead of a welcome"),
            ));
        }
    };
    info!(broker = %link.to, registration, "streaming to a follower");
    let session = Session {
        shared,
        link,
        registration,
        state: Mutex::new(State::new(shared.links.me(), link.to)),
        moved: Notify::new(),
    };
    {
        let mut state = session.lock();
        for feed in feeds.values() {
            state.add(Arc::clone(feed));
        }
    }
    let ended = tokio::select! {
        ended = session.hear(&mut reading, buffer) => ended,
        ended = session.send(&mut writing) => ended,
    };
    *feeds = session
        .lock()
        .sending
        .values()
        .map(|sending| (sending.feed.id, Arc::clone(&sending.feed)))
        .collect();
    ended
}

/// The next thing that the follower says.
async fn next(
    reading: &mut ReadHalf<Box<dyn Stream>>,
    buffer: &mut BytesMut,
) -> io::Result<ToLeader> {
    let (kind, body) = read::next(reading, buffer).await?;
    ToLeader::take(kind, body).map_err(read::bad)
}

impl State {
    fn new(leader: weir_wire::BrokerId, follower: weir_wire::BrokerId) -> Self {
        let of = |id: weir_wire::BrokerId| weir_quorum::BrokerId(id.0);
        Self {
            sending: BTreeMap::new(),
            flying_bytes: 0,
            waiting: VecDeque::new(),
            due: BTreeSet::new(),
            throttle: Throttle::new(of(leader), of(follower), Instant::now()),
        }
    }

    fn add(&mut self, feed: Arc<Feed>) {
        let (id, now) = (feed.id, Instant::now());
        let sending = Sending {
            channel: Channel { feed: id, turn: 0 },
            stage: Stage::New(now),
            pause: BEGIN_MIN,
            is_waiting: false,
            held_until: None,
            told: None,
            first: None,
            flying: VecDeque::new(),
            feed,
        };
        self.sending.insert(id, sending);
        self.due.insert((now, id));
    }

    /// It may have something to send.
    fn wait(&mut self, id: u32) {
        if let Some(sending) = self.sending.get_mut(&id)
            && !sending.is_waiting
        {
            sending.is_waiting = true;
            self.waiting.push_back(id);
        }
    }

    /// It is to be begun anew, after a pause.
    fn begin_later(&mut self, id: u32) {
        if let Some(sending) = self.sending.get_mut(&id) {
            let at = Instant::now() + sending.pause;
            sending.pause = (sending.pause * 2).min(BEGIN_MAX);
            sending.stage = Stage::New(at);
            sending.told = None;
            self.due.insert((at, id));
        }
        self.forget_flying(id);
    }

    /// The partition that was begun with this channel, and not again since.
    fn open(&mut self, channel: Channel) -> Option<&mut Sending> {
        let sending = self.sending.get_mut(&channel.feed)?;
        (sending.channel == channel).then_some(sending)
    }

    /// What was sent up to here is there.
    fn confirm(&mut self, id: u32, end: Offset) {
        let Some(sending) = self.sending.get_mut(&id) else {
            return;
        };
        while let Some((_, bytes)) = sending.flying.pop_front_if(|(sent, _)| *sent <= end) {
            self.flying_bytes -= bytes;
        }
    }

    /// Nobody will confirm what is under way.
    fn forget_flying(&mut self, id: u32) {
        if let Some(sending) = self.sending.get_mut(&id) {
            let bytes: usize = sending.flying.drain(..).map(|(_, bytes)| bytes).sum();
            self.flying_bytes -= bytes;
        }
    }

    /// Batches of this partition have gone out.
    fn flies(&mut self, id: u32) {
        let sending = self.sending.get(&id);
        let last = sending.and_then(|sending| sending.flying.back());
        self.flying_bytes += last.map_or(0, |(_, bytes)| *bytes);
    }
}

impl Session<'_> {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what the follower says.
    async fn hear(
        &self,
        reading: &mut ReadHalf<Box<dyn Stream>>,
        mut buffer: BytesMut,
    ) -> io::Result<()> {
        loop {
            match next(reading, &mut buffer).await? {
                ToLeader::Pong => {}
                ToLeader::Welcome { .. } => {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "a second welcome",
                    ));
                }
                ToLeader::Have {
                    channel,
                    received,
                    synced,
                    log_start,
                    begins,
                } => self.confirmed(channel, Ends { received, synced }, log_start, begins),
                ToLeader::Refused {
                    channel,
                    why,
                    until,
                } => self.refused(channel, &why, until),
            }
        }
    }

    fn confirmed(&self, channel: Channel, ends: Ends, log_start: Offset, begins: bool) {
        let feed = {
            let mut state = self.lock();
            let Some(sending) = state.open(channel) else {
                return;
            };
            match (begins, sending.stage) {
                (true, Stage::Asked) => {
                    sending.stage = Stage::Live(ends.received);
                    sending.pause = BEGIN_MIN;
                }
                (false, Stage::Live(_) | Stage::Reading(_)) => {}
                _ => return,
            }
            let feed = Arc::clone(&sending.feed);
            state.confirm(channel.feed, ends.received);
            state.wait(channel.feed);
            feed
        };
        self.moved.notify_one();
        let replica = &feed.replica;
        let has = (log_start, ends);
        if replica.heard(feed.epoch, self.link.to, self.registration, has) {
            self.shared.in_sync.notify_one();
        }
    }

    fn refused(&self, channel: Channel, why: &str, until: Until) {
        let feed = {
            let mut state = self.lock();
            let Some(sending) = state.open(channel) else {
                return;
            };
            let feed = Arc::clone(&sending.feed);
            let key = feed.replica.reader().key();
            if until == Until::NextEpoch {
                warn!(broker = %self.link.to, partition = %key, why, "a follower cannot be fed");
                sending.stage = Stage::Over;
                state.forget_flying(channel.feed);
            } else {
                debug!(broker = %self.link.to, partition = %key, why, "a follower cannot be fed yet");
                if until == Until::Room {
                    sending.pause = BEGIN_ROOM;
                }
                state.begin_later(channel.feed);
            }
            feed
        };
        self.moved.notify_one();
        let (to, registration) = (self.link.to, self.registration);
        if until == Until::Room && feed.replica.takes_nothing(feed.epoch, to, registration) {
            self.shared.in_sync.notify_one();
        }
    }

    /// Sends what there is, for ever.
    async fn send(&self, writing: &mut WriteHalf<Box<dyn Stream>>) -> io::Result<()> {
        let mut reads: FuturesUnordered<Read> = FuturesUnordered::new();
        let mut out = Out::default();
        // Feeds whose follower is to hear of the watermark alone, and when the first of them is.
        let mut marks: BTreeSet<u32> = BTreeSet::new();
        let mut marks_due: Option<Instant> = None;
        let mut last_sent = Instant::now();
        loop {
            self.gather(&mut out, &mut reads, &mut marks);
            let now = Instant::now();
            if marks_due.is_some_and(|due| due <= now) {
                self.tell(&mut out, &mut marks);
            }
            marks_due = match marks.is_empty() {
                true => None,
                false => marks_due
                    .filter(|due| *due > now)
                    .or(Some(now + MARK_AFTER)),
            };
            if out.is_empty() && now.duration_since(last_sent) >= PING_EVERY {
                ToFollower::Ping.put(&mut out.head);
            }
            if !out.is_empty() {
                last_sent = now;
                let bytes = out.take();
                self.shared.sent(bytes.iter().map(Bytes::len).sum());
                write_all(writing, bytes).await?;
                continue;
            }
            let next_due = self.lock().due.first().map(|(at, _)| *at);
            let wake = [marks_due, next_due, Some(last_sent + PING_EVERY)];
            let wake = wake.into_iter().flatten().min().unwrap_or(now);
            tokio::select! {
                () = self.link.ready.pushed() => {}
                () = self.moved.notified() => {}
                Some((id, read)) = reads.next(), if !reads.is_empty() => {
                    self.was_read(id, read, &mut out);
                }
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    /// Puts together what goes out now.
    fn gather(&self, out: &mut Out, reads: &mut FuturesUnordered<Read>, marks: &mut BTreeSet<u32>) {
        let mut state = self.lock();
        while let Some(feed) = self.link.ready.pop() {
            if state.sending.contains_key(&feed.id) {
                state.wait(feed.id);
            } else {
                state.add(feed);
            }
        }
        let now = Instant::now();
        state.throttle.heed(
            self.shared.metadata.image(),
            self.shared.metadata.settings(),
        );
        while let Some((at, id)) = state.due.first().copied()
            && at <= now
        {
            state.due.remove(&(at, id));
            state.wait(id);
        }
        let mut turns = state.waiting.len();
        while turns > 0 && out.bytes < WRITE_BYTES {
            let Some(id) = state.waiting.pop_front() else {
                break;
            };
            turns -= 1;
            if let Some(sending) = state.sending.get_mut(&id) {
                sending.is_waiting = false;
            }
            if self.turn(&mut state, id, out, reads, marks) == More::Yes {
                state.wait(id);
            }
        }
    }

    /// One partition's turn.
    fn turn(
        &self,
        state: &mut State,
        id: u32,
        out: &mut Out,
        reads: &mut FuturesUnordered<Read>,
        marks: &mut BTreeSet<u32>,
    ) -> More {
        let is_full = state.flying_bytes >= FLYING_BYTES_MAX;
        let Some(sending) = state.sending.get_mut(&id) else {
            return More::No;
        };
        let feed = Arc::clone(&sending.feed);
        let Some(progress) = feed.replica.progress(feed.epoch, self.link.to) else {
            if sending.channel.turn > 0 {
                ToFollower::End(sending.channel).put(&mut out.head);
            }
            state.forget_flying(id);
            state.sending.remove(&id);
            return More::No;
        };
        let at = position(progress);
        match sending.stage {
            Stage::New(due) if due <= Instant::now() => {
                let (epochs, end) = feed.replica.reader().history();
                let log_start = sending.begins_at(at.log_start);
                let at = Position { log_start, ..at };
                sending.channel.turn += 1;
                sending.stage = Stage::Asked;
                sending.told = Some(at);
                ToFollower::Begin(Begin {
                    channel: sending.channel,
                    key: feed.replica.reader().key(),
                    epoch: feed.epoch,
                    at,
                    epochs,
                    end,
                })
                .put(&mut out.head);
                More::No
            }
            // They go on when something else has happened.
            Stage::New(_) | Stage::Asked | Stage::Reading(_) | Stage::Over => More::No,
            Stage::Live(next) if next >= progress.log_end => {
                if sending.told != Some(at) {
                    marks.insert(id);
                }
                More::No
            }
            // `moved` tells when there is room.
            Stage::Live(_) if is_full => More::Yes,
            Stage::Live(next) => {
                let reader = feed.replica.reader();
                let now = Instant::now();
                if sending.held_until.is_some_and(|until| until > now) {
                    return More::No;
                }
                let debt = &self.shared.debt;
                sending.held_until = state.throttle.until(reader.key(), debt, now);
                if let Some(until) = sending.held_until {
                    state.due.insert((until, id));
                    return More::No;
                }
                let from = sending.read_at(next, at.log_start);
                match reader.try_read(from, progress.log_end, TURN_BYTES, true) {
                    Err(ReadError::WouldBlock) if reads.len() >= READS_MAX => More::Yes,
                    Err(ReadError::WouldBlock) => {
                        sending.stage = Stage::Reading(next);
                        let (reader, host) = (reader.clone(), self.shared.host.clone());
                        let end = progress.log_end;
                        reads.push(Box::pin(async move {
                            let read = move || reader.read(from, end, TURN_BYTES, true);
                            (id, host.blocking(read).await)
                        }));
                        More::No
                    }
                    read => self.put(state, id, (next, read), at, out),
                }
            }
        }
    }

    /// Puts batches out. [`More::Yes`] when some were.
    fn put(
        &self,
        state: &mut State,
        id: u32,
        (next, read): (Offset, Result<Batches, ReadError>),
        at: Position,
        out: &mut Out,
    ) -> More {
        let Some(sending) = state.sending.get_mut(&id) else {
            return More::No;
        };
        if let Some(first) = read.as_ref().ok().and_then(|read| cut_batch(next, read)) {
            sending.first = Some(first);
            state.begin_later(id);
            return More::No;
        }
        let read = read.and_then(|batches| {
            let next_offset = batches.next_offset;
            Ok((from(next, batches)?, next_offset))
        });
        match read {
            Ok((bytes, _)) if bytes.is_empty() => More::No,
            Ok((bytes, next_offset)) => {
                sending.stage = Stage::Live(next_offset);
                sending.told = Some(at);
                let len = bytes.iter().map(Bytes::len).sum();
                sending.flying.push_back((next_offset, len));
                let key = sending.feed.replica.reader().key();
                state.throttle.sent(key, &self.shared.debt, len);
                out.batches(sending.channel, at, bytes);
                state.flies(id);
                More::Yes
            }
            Err(error) => {
                // Retention may have passed it; then the follower begins where the log does.
                let key = sending.feed.replica.reader().key();
                warn!(broker = %self.link.to, partition = %key, %error, "a follower's next batches cannot be read");
                state.begin_later(id);
                More::No
            }
        }
    }

    fn was_read(&self, id: u32, read: Result<Batches, ReadError>, out: &mut Out) {
        let mut state = self.lock();
        let Some(sending) = state.sending.get_mut(&id) else {
            return;
        };
        let Stage::Reading(next) = sending.stage else {
            return;
        };
        sending.stage = Stage::Live(next);
        let feed = Arc::clone(&sending.feed);
        if let Some(progress) = feed.replica.progress(feed.epoch, self.link.to) {
            self.put(&mut state, id, (next, read), position(progress), out);
        }
        state.wait(id);
    }

    /// Tells followers of the watermark alone.
    fn tell(&self, out: &mut Out, marks: &mut BTreeSet<u32>) {
        let mut state = self.lock();
        for id in std::mem::take(marks) {
            let Some(sending) = state.sending.get_mut(&id) else {
                continue;
            };
            let feed = Arc::clone(&sending.feed);
            let Some(progress) = feed.replica.progress(feed.epoch, self.link.to) else {
                state.wait(id);
                continue;
            };
            let at = position(progress);
            if matches!(sending.stage, Stage::Live(_)) && sending.told != Some(at) {
                sending.told = Some(at);
                let channel = sending.channel;
                ToFollower::Mark { channel, at }.put(&mut out.head);
            }
        }
    }
}

/// The first batch of what was read, if its records begin before `next`: the log begins within it.
fn cut_batch(next: Offset, read: &Batches) -> Option<Range<Offset>> {
    if read.base_offset >= next {
        return None;
    }
    let header = BatchHeader::parse(&read.bytes).ok()?;
    (header.record_count > 0).then(|| header.base_offset..header.next_offset())
}

/// What was read, from `next` on. Where compaction has left nothing of a run of batches, one empty batch stands for all of them,
/// and may begin before `next`: then a shorter one goes out in its place.
fn from(next: Offset, read: Batches) -> Result<Vec<Bytes>, ReadError> {
    if read.bytes.is_empty() {
        return Ok(Vec::new());
    }
    if read.base_offset >= next {
        return Ok(vec![read.bytes]);
    }
    let mut header = BatchHeader::parse(&read.bytes).map_err(|_| ReadError::Gone)?;
    if header.record_count != 0 || read.bytes.len() < header.total_len() {
        return Err(ReadError::Gone);
    }
    let last = header.last_offset();
    header.base_offset = next;
    let rest = read.bytes.slice(header.total_len()..);
    Ok(vec![filler(&header, last), rest])
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum More {
    Yes,
    No,
}

fn position(progress: Progress) -> Position {
    Position {
        high_watermark: progress.high_watermark,
        log_start: progress.log_start,
    }
}

/// What goes out with the next write.
#[derive(Default)]
struct Out {
    done: VecDeque<Bytes>,
    /// Frames that follow what is done.
    head: BytesMut,
    bytes: usize,
}

impl Out {
    fn is_empty(&self) -> bool {
        self.done.is_empty() && self.head.is_empty()
    }

    fn batches(&mut self, channel: Channel, at: Position, batches: Vec<Bytes>) {
        let len = batches.iter().map(Bytes::len).sum();
        frames::put_batches(channel, at, len, &mut self.head);
        self.bytes += len;
        self.done.push_back(self.head.split().freeze());
        self.done
            .extend(batches.into_iter().filter(|bytes| !bytes.is_empty()));
    }

    fn take(&mut self) -> VecDeque<Bytes> {
        self.bytes = 0;
        if !self.head.is_empty() {
            self.done.push_back(self.head.split().freeze());
        }
        std::mem::take(&mut self.done)
    }
}
