//! The follower's side of a stream: appends what a leader sends, and says how far it is.
//!
//! What always holds: a log is fed by one stream at a time, that of the leader in the epoch that the metadata has here; before the first
//! batch it was cut, durably, to where it agrees with the leader's (by epochs, never by a watermark), and it is never cut below
//! the high watermark; checksums are checked before anything is appended.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tracing::{debug, error, info, warn};
use weir_log::mutants::Mutant;
use weir_log::{AppendError, LaneError, PartitionHandle, lend_turns};
use weir_replication::Ends;
use weir_replication::agreement::{History, agreed_end};
use weir_wire::batch::batches;
use weir_wire::{BrokerId, Offset};

use super::Shared;
use super::frames::{self, Begin, Channel, ToFollower, ToLeader, Until};
use super::producers::known_to_leader;
use super::read;
use super::ready::{Mark, Marked, Ready};
use super::send::PING_EVERY;
use crate::net::Stream;
use crate::partitions::{NotFed, PartitionError, Replica, Wake};
use crate::quorum::net::Incoming;

/// How long a beginning waits for metadata that the leader has and this broker does not have yet.
const METADATA_PATIENCE: Duration = Duration::from_secs(5);

/// One partition that is fed by a stream.
#[derive(Debug)]
struct Inlet {
    this: Weak<Self>,
    /// The session's, which may be over.
    ready: Weak<Ready<Self>>,
    mark: Mark,
    channel: Channel,
    replica: Arc<Replica>,
    /// Why it cannot go on.
    failed: Mutex<Option<AppendError>>,
    /// What was told last.
    told: Mutex<Option<(Ends, Offset)>>,
}

impl Marked for Inlet {
    fn mark(&self) -> &Mark {
        &self.mark
    }
}

impl Wake for Inlet {
    fn wake(&self) {
        if let Some(this) = self.this.upgrade()
            && let Some(ready) = self.ready.upgrade()
        {
            ready.push(this);
        }
    }
}

impl Inlet {
    fn as_wake(&self) -> Option<Arc<dyn Wake>> {
        self.this.upgrade().map(|this| this as Arc<dyn Wake>)
    }
}

/// What a beginning came to.
type Begun = BoxFuture<'static, (Channel, Result<(Arc<Inlet>, Ends), NotFed>)>;

/// A stream that a leader has opened.
struct Session<'a> {
    shared: &'a Arc<Shared>,
    from: BrokerId,
    ready: Arc<Ready<Inlet>>,
    state: Mutex<State>,
    /// There is something to say.
    says: Notify,
}

#[derive(Default)]
struct State {
    inlets: BTreeMap<Channel, Arc<Inlet>>,
    /// To be said.
    out: BytesMut,
}

/// Serves one stream until it ends.
pub(super) async fn serve(shared: Arc<Shared>, incoming: Incoming) -> io::Result<()> {
    let Incoming { stream, peer } = incoming;
    let (mut reading, mut writing) = tokio::io::split(stream);
    let mut buffer = BytesMut::new();
    let hello = next(&mut reading, &mut buffer).await?;
    let from = shared.admit(&hello, peer.as_ref())?;
    let Some(registration) = shared.metadata.registration() else {
        return Err(io::Error::other("this broker has not registered yet"));
    };
    let registration = registration.0;
    let mut out = BytesMut::new();
    ToLeader::Welcome {
        from: shared.links.me(),
        registration,
    }
    .put(&mut out);
    writing.write_all(&out).await?;
    writing.flush().await?;
    info!(broker = %from, "a leader's stream");
    let session = Session {
        shared: &shared,
        from,
        ready: Arc::default(),
        state: Mutex::default(),
        says: Notify::new(),
    };
    let is_over = async {
        let mut images = shared.metadata.watch();
        while images.changed().await.is_ok() {
            if shared.metadata.registration().map(|now| now.0) != Some(registration) {
                break;
            }
        }
    };
    let ended = tokio::select! {
        // What is said is said in one registration.
        () = is_over => return Err(io::Error::other("this broker has registered anew")),
        ended = session.hear(&mut reading, buffer) => ended,
        ended = session.say(&mut writing) => ended,
    };
    // It has let go of the stream, or its process is gone; what fell silent says nothing of itself.
    let fell_silent = |error: &io::Error| error.kind() == io::ErrorKind::TimedOut;
    if !ended.as_ref().is_err_and(fell_silent) {
        shared.metadata_suspect(from);
    }
    ended
}

/// The next thing that the leader says.
async fn next(
    reading: &mut ReadHalf<Box<dyn Stream>>,
    buffer: &mut BytesMut,
) -> io::Result<ToFollower> {
    let (kind, body) = read::next(reading, buffer).await?;
    ToFollower::take(kind, body).map_err(read::bad)
}

impl Session<'_> {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing that can panic runs while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say_one(&self, frame: &ToLeader) {
        frame.put(&mut self.lock().out);
        self.says.notify_one();
    }

    async fn hear(
        &self,
        reading: &mut ReadHalf<Box<dyn Stream>>,
        mut buffer: BytesMut,
    ) -> io::Result<()> {
        let mut beginning: FuturesUnordered<Begun> = FuturesUnordered::new();
        loop {
            let said = tokio::select! {
                said = next(reading, &mut buffer) => said?,
                Some((channel, begun)) = beginning.next(), if !beginning.is_empty() => {
                    self.begun(channel, begun);
                    continue;
                }
            };
            match said {
                ToFollower::Hello { .. } => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "a second hello"));
                }
                ToFollower::Ping => self.say_one(&ToLeader::Pong),
                ToFollower::End(channel) => drop(self.lock().inlets.remove(&channel)),
                ToFollower::Begin(begin) => {
                    let (shared, ready) = (Arc::clone(self.shared), Arc::clone(&self.ready));
                    let (from, channel) = (self.from, begin.channel);
                    // Of an earlier turn.
                    self.lock()
                        .inlets
                        .retain(|open, _| open.feed != channel.feed);
                    beginning.push(Box::pin(async move {
                        (channel, begin_one(&shared, from, ready, begin).await)
                    }));
                }
                ToFollower::Mark { channel, at } => {
                    if let Some(inlet) = self.inlet(channel)
                        && let Some(wake) = inlet.as_wake()
                        && let Err(why) = inlet.replica.told(&wake, at.high_watermark, at.log_start)
                    {
                        self.refuse(channel, &why);
                    }
                }
                ToFollower::Batches {
                    channel,
                    at,
                    batches,
                } => {
                    let Some(inlet) = self.inlet(channel) else {
                        continue;
                    };
                    if let Err(error) = check(&batches) {
                        // Not to be asked for again without end: the stream is closed, and the next begins after a pause.
                        error!(broker = %self.from, partition = %inlet.replica.reader().key(), %error, "a leader has sent a damaged batch");
                        return Err(io::Error::new(io::ErrorKind::InvalidData, error));
                    }
                    self.shared.received(batches.len());
                    if let Err(why) = receive(&inlet, batches, at) {
                        self.refuse(channel, &why);
                    }
                }
            }
        }
    }

    fn inlet(&self, channel: Channel) -> Option<Arc<Inlet>> {
        self.lock().inlets.get(&channel).cloned()
    }

    fn begun(&self, channel: Channel, begun: Result<(Arc<Inlet>, Ends), NotFed>) {
        match begun {
            Ok((inlet, ends)) => {
                {
                    let mut state = self.lock();
                    state.inlets.insert(channel, Arc::clone(&inlet));
                    let log_start = inlet.replica.reader().log_start();
                    have(channel, (ends, log_start), true).put(&mut state.out);
                }
                self.says.notify_one();
                // It may have got further before anybody listened.
                inlet.wake();
            }
            Err(why) => self.refuse(channel, &why),
        }
    }

    fn refuse(&self, channel: Channel, why: &NotFed) {
        self.lock().inlets.remove(&channel);
        self.say_one(&ToLeader::Refused {
            channel,
            why: why.to_string(),
            until: match why {
                NotFed::Over(_) | NotFed::BelowWatermark { .. } => Until::NextEpoch,
                NotFed::Append(AppendError::NoSpace { .. }) => Until::Room,
                _ => Until::Later,
            },
        });
    }

    /// Says how far the partitions are, as they get further.
    async fn say(&self, writing: &mut WriteHalf<Box<dyn Stream>>) -> io::Result<()> {
        let mut last_said = Instant::now();
        loop {
            while let Some(inlet) = self.ready.pop() {
                self.say_of(&inlet);
            }
            let out = self.lock().out.split().freeze();
            if !out.is_empty() {
                last_said = Instant::now();
                writing.write_all(&out).await?;
                writing.flush().await?;
                continue;
            }
            tokio::select! {
                () = self.ready.pushed() => {}
                () = self.says.notified() => {}
                () = tokio::time::sleep_until(last_said + PING_EVERY) => ToLeader::Pong.put(&mut self.lock().out),
            }
        }
    }

    fn say_of(&self, inlet: &Arc<Inlet>) {
        let channel = inlet.channel;
        let is_open = self
            .lock()
            .inlets
            .get(&channel)
            .is_some_and(|open| Arc::ptr_eq(open, inlet));
        let Some(wake) = inlet.as_wake().filter(|_| is_open) else {
            return;
        };
        let failed = inlet
            .failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(error) = failed {
            warn!(broker = %self.from, partition = %inlet.replica.reader().key(), %error, "what a leader has sent cannot be appended");
            self.refuse(channel, &NotFed::Append(error));
            return;
        }
        match inlet.replica.fed(&wake) {
            Some(ends) => {
                let has = (ends, inlet.replica.reader().log_start());
                let told = inlet
                    .told
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .replace(has);
                if told != Some(has) {
                    have(channel, has, false).put(&mut self.lock().out);
                }
            }
            None => self.refuse(channel, &NotFed::Another),
        }
    }
}

/// How far a replica is, and where it begins.
fn have(channel: Channel, (ends, log_start): (Ends, Offset), begins: bool) -> ToLeader {
    ToLeader::Have {
        channel,
        received: ends.received,
        synced: ends.synced,
        log_start,
        begins,
    }
}

fn receive(inlet: &Arc<Inlet>, batches: Bytes, at: frames::Position) -> Result<(), NotFed> {
    let wake = inlet.as_wake().ok_or(NotFed::Another)?;
    let failing = Arc::clone(inlet);
    let failed = move |error| {
        *failing
            .failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(error);
        failing.wake();
    };
    lend_turns(|| inlet.replica.receive(&wake, batches, failed))?;
    inlet.replica.told(&wake, at.high_watermark, at.log_start)
}

fn check(bytes: &Bytes) -> Result<(), weir_wire::batch::BatchError> {
    for batch in batches(bytes) {
        batch?.check()?;
    }
    Ok(())
}

/// Makes a partition ready to be fed: its log agrees with the leader's as far as it goes.
async fn begin_one(
    shared: &Shared,
    from: BrokerId,
    ready: Arc<Ready<Inlet>>,
    begin: Begin,
) -> Result<(Arc<Inlet>, Ends), NotFed> {
    let (inlet, wake) = claim(shared, from, ready, &begin).await?;
    let replica = &inlet.replica;
    // What earlier streams have queued comes first.
    ask(replica, &wake, |handle, done| handle.ends(done)).await?;
    let reader = replica.reader();
    let (starts, end) = reader.history();
    let (log_start, high_watermark) = (reader.log_start(), replica.high_watermark());
    let is_damaged = reader.damage().is_some();
    let leader = History {
        starts: &begin.epochs,
        end: begin.end,
    };
    let mine = History {
        starts: &starts,
        end,
    };
    let agreed = agreed_end(leader, begin.at.log_start, mine).filter(|agreed| *agreed >= log_start);
    let agreed = match Mutant::TruncateToWatermark.is_active() {
        true => Some(high_watermark.clamp(log_start, end)),
        false => agreed,
    };
    // What this replica has is from before somebody accepted the loss of what the leader of then did not have.
    let newest = starts.last().map(|(epoch, _)| *epoch);
    let unclean = shared.unclean_epoch(&reader.key());
    let is_given_up = unclean.is_some_and(|unclean| newest.is_none_or(|newest| newest < unclean));
    let high_watermark = match agreed {
        _ if !is_given_up => high_watermark,
        Some(agreed) => high_watermark.min(agreed),
        None => log_start,
    };
    if high_watermark < replica.high_watermark() {
        let known = replica.high_watermark();
        warn!(partition = %reader.key(), leader = %from, from = %known, to = %high_watermark, "giving up what was committed: the loss was accepted");
        replica.give_up_above(high_watermark);
    }
    match agreed.filter(|_| !is_damaged) {
        Some(agreed) if agreed < high_watermark => {
            let (agreed, high_watermark) = (agreed.0, high_watermark.0);
            error!(partition = %reader.key(), leader = %from, agreed, high_watermark, "the leader lacks what consumers may have seen; this replica keeps it and is not fed");
            return Err(NotFed::BelowWatermark {
                agreed,
                high_watermark,
            });
        }
        Some(agreed) if agreed < end => {
            info!(partition = %reader.key(), leader = %from, from = %end, to = %agreed, "cutting what the leader does not have");
            ask(replica, &wake, move |handle, done| {
                handle.truncate_to(agreed, done);
            })
            .await?;
        }
        // Nothing is here that could say anything of producers: as after a power cut while it was begun anew.
        Some(start) if end == log_start && start == begin.at.log_start && start > Offset::ZERO => {
            let producers = ask(replica, &wake, |handle, done| handle.producers(done)).await?;
            if producers.is_empty() {
                let known = known_to_leader(shared, from, &begin).await?;
                if !known.is_empty() {
                    ask(replica, &wake, move |handle, done| {
                        handle.reset(start, known, done);
                    })
                    .await?;
                }
            }
        }
        Some(_) => {}
        // The same below the watermark: what is thrown away must be at the leader, or gone there by retention.
        None if !is_damaged
            && high_watermark > log_start
            && high_watermark > begin.at.log_start =>
        {
            return Err(NotFed::BelowWatermark {
                agreed: begin.at.log_start.0,
                high_watermark: high_watermark.0,
            });
        }
        None => {
            if end > log_start && shared.counts_as_in_sync(&reader.key()) {
                return Err(NotFed::CountsAsInSync);
            }
            let start = begin.at.log_start;
            let known = known_to_leader(shared, from, &begin).await?;
            info!(partition = %reader.key(), leader = %from, %start, is_damaged, "beginning anew from the leader's log");
            ask(replica, &wake, move |handle, done| {
                handle.reset(start, known, done)
            })
            .await?;
            // It has nothing to keep any more, or the leader would seem to lack it when the stream begins once more before all has come.
            replica.give_up_above(start);
        }
    }
    ask(replica, &wake, |handle, done| handle.ends(done)).await?;
    let ends = replica.fed(&wake).ok_or(NotFed::Another)?;
    replica.told(&wake, begin.at.high_watermark, begin.at.log_start)?;
    debug!(partition = %reader.key(), leader = %from, end = %ends.received, "fed from here on");
    Ok((inlet, ends))
}

/// Waits for the metadata if need be, and takes the partition from whatever stream fed it before.
async fn claim(
    shared: &Shared,
    from: BrokerId,
    ready: Arc<Ready<Inlet>>,
    begin: &Begin,
) -> Result<(Arc<Inlet>, Arc<dyn Wake>), NotFed> {
    let deadline = Instant::now() + METADATA_PATIENCE;
    let mut images = shared.metadata.watch();
    loop {
        images.mark_unchanged();
        let refused = match shared.partitions.get(begin.key) {
            Ok(partition) => {
                let replica = Arc::clone(partition.replica());
                let inlet = Arc::new_cyclic(|this| Inlet {
                    this: Weak::clone(this),
                    ready: Arc::downgrade(&ready),
                    mark: Mark::default(),
                    channel: begin.channel,
                    replica: Arc::clone(&replica),
                    failed: Mutex::default(),
                    told: Mutex::default(),
                });
                let wake: Arc<dyn Wake> = Arc::clone(&inlet) as Arc<dyn Wake>;
                match replica.feed(from, begin.epoch, &wake) {
                    Ok(()) => return Ok((inlet, wake)),
                    Err(refused) => refused,
                }
            }
            Err(PartitionError::NotYet | PartitionError::NotHere) => NotFed::NotYet(begin.epoch.0),
            Err(PartitionError::Failed(why)) => {
                return Err(NotFed::Unusable(why));
            }
        };
        if !matches!(refused, NotFed::NotYet(_)) || Instant::now() >= deadline {
            return Err(refused);
        }
        // The metadata comes by itself; a log is opened some milliseconds after it.
        tokio::select! {
            Ok(()) = images.changed() => {}
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
        }
    }
}

/// Asks the lane for something, as long as this stream feeds the partition.
async fn ask<T: Send + 'static>(
    replica: &Replica,
    wake: &Arc<dyn Wake>,
    act: impl FnOnce(&PartitionHandle, Box<dyn FnOnce(Result<T, LaneError>) + Send>),
) -> Result<T, NotFed> {
    let (sender, receiver) = oneshot::channel();
    let done = Box::new(move |result| {
        // The stream may be over.
        let _ = sender.send(result);
    });
    replica.while_fed(wake, |handle| act(handle, done))?;
    Ok(receiver.await.unwrap_or(Err(LaneError::Closed))?)
}
