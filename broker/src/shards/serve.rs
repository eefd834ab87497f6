//! A loaded shard at work: calls in, records out to the log, answers when they are due.
//!
//! Owns the machine, its open calls and its appends. What always holds: records are appended in the order in which
//! they were emitted; everything emitted while appends are under way gathers into the next batch, so that many calls cost
//! one sync; an open call whose answer is dropped was answered by that; and nothing is answered from what another coordinator may
//! have gone beyond: without a lease ([`Metadata::holds_lease`](crate::quorum::Metadata::holds_lease)) an answer waits for an append that begins after it was found, which
//! only who still leads gets through.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::warn;
use weir_groups::{CallId, Entry, Machine, MonoMs, Now, Position, WallMs};
use weir_log::AppendError;
use weir_log::mutants::Mutant;
use weir_wire::Offset;
use weir_wire::encode::EncodeError;

use super::Acting;
use super::batches::Batch;
use super::shard::{Call, Inbox, Shard};
use crate::partitions::Partition;

/// Calls that are handled before effects are carried out: together they make one batch.
const TURN: usize = 256;
/// Appends under way at the same time. While the disk is busy with these, the next batch gathers.
const APPENDS: usize = 4;
/// Bytes of records that may wait for their append; above it no more calls are taken.
const PENDING_BYTES: usize = 8 << 20;
/// Entries between two of which it is known where in the log they are.
const PLACES: u64 = 1000;
/// Further than this nobody looks: a machine without deadlines is looked at once a day.
const DAY: Duration = Duration::from_secs(86_400);

/// Why a machine is to be dropped.
pub(super) enum Ended {
    /// The shard is another broker's, or the process ends.
    Stopped,
    /// What it emitted is not in the log.
    Failed(String),
}

/// What an append came to.
struct Appended {
    /// Of the last entry in it.
    position: Position,
    outcome: Result<(), AppendError>,
    /// How many-th append it was.
    number: u64,
    /// What was emitted from this position on is in the log from this offset on.
    began: Option<(Position, Offset)>,
}

type Appending = BoxFuture<'static, Appended>;

/// An answer that waits for an append.
struct Held<M: Machine> {
    answer: oneshot::Sender<M::Response>,
    response: M::Response,
    /// An append with a higher number will do.
    above: u64,
}

/// A loaded shard.
pub(super) struct Serving<'s, M: Machine> {
    shard: &'s Shard<M>,
    partition: Arc<Partition>,
    machine: M,
    acting: Acting<M>,
    /// What comes of that, in this life.
    own: mpsc::Receiver<Call<M>>,
    /// Ends what the machine has set about.
    _ended: DropGuard,
    calls: HashMap<CallId, oneshot::Sender<M::Response>>,
    calls_so_far: u64,
    /// Emitted, not yet on their way to the log.
    pending: Vec<Entry>,
    pending_bytes: usize,
    /// Of the last entry emitted, and of the last that is on its way to the log.
    position: Position,
    appended: Position,
    appends: FuturesOrdered<Appending>,
    appends_so_far: u64,
    /// Where in the log what was emitted is, for what will be let go of.
    places: VecDeque<(Position, Offset)>,
    /// In the order in which they were found.
    held: VecDeque<Held<M>>,
    /// The zero of the machine's clock.
    started: Instant,
}

impl<'s, M: Machine> Serving<'s, M> {
    pub(super) fn new(
        shard: &'s Shard<M>,
        partition: Arc<Partition>,
        loader: M::Loader,
        inbox: &Inbox<M>,
    ) -> Self {
        let started = Instant::now();
        let now = Now {
            mono: MonoMs(0),
            wall: WallMs(shard.shared.host.clock.now_ms()),
        };
        let ended = CancellationToken::new();
        let (inbox, own) = inbox.of_one_life();
        Self {
            shard,
            partition,
            machine: M::load(loader, &shard.shared.config, shard.epoch, now),
            acting: Acting {
                partition: shard.key.partition,
                inbox,
                ended: ended.clone(),
            },
            own,
            _ended: ended.drop_guard(),
            calls: HashMap::new(),
            calls_so_far: 0,
            pending: Vec::new(),
            pending_bytes: 0,
            position: Position::default(),
            appended: Position::default(),
            appends: FuturesOrdered::new(),
            appends_so_far: 0,
            places: VecDeque::new(),
            held: VecDeque::new(),
            started,
        }
    }

    pub(super) fn count(&self) -> usize {
        self.machine.count()
    }

    /// Serves until the shard is stopped or an append fails.
    pub(super) async fn run(&mut self, inbox: &mut mpsc::Receiver<Call<M>>) -> Ended {
        loop {
            if let Err(why) = self.carry() {
                return Ended::Failed(why);
            }
            let deadline = self.deadline();
            let has_room = self.pending_bytes < PENDING_BYTES;
            tokio::select! {
                biased;
                () = self.shard.stop.cancelled() => return Ended::Stopped,
                Some(appended) = self.appends.next() => match appended.outcome {
                    Ok(()) => {
                        self.remember(appended.began);
                        self.machine.durable(appended.position);
                        self.release(appended.number);
                        self.forget();
                    }
                    Err(error) => return Ended::Failed(error.to_string()),
                },
                // There is always a sender.
                Some(call) = self.own.recv(), if has_room => self.hand(call, self.now()),
                call = inbox.recv(), if has_room => match call {
                    Some(call) => self.take(call, inbox),
                    None => return Ended::Stopped,
                },
                () = tokio::time::sleep_until(deadline) => {}
            }
            let now = self.now();
            if self.machine.next_deadline() <= now.mono {
                self.machine.tick(now);
            }
        }
    }

    /// Waits until nothing that was handed to the log is under way any more. Who waited for that, and it went well, is
    /// answered; everyone else is let go.
    pub(super) async fn settle(&mut self) {
        let mut is_whole = true;
        while let Some(appended) = self.appends.next().await {
            is_whole &= appended.outcome.is_ok();
            if is_whole {
                self.machine.durable(appended.position);
                self.release(appended.number);
            }
        }
        self.reply();
        self.held.clear();
    }

    /// Waits until nothing that was handed to the log is under way any more. Everyone is let go; the machine is not asked.
    pub(super) async fn abandon(mut self) {
        self.calls.clear();
        self.held.clear();
        while self.appends.next().await.is_some() {}
    }

    /// What is asked first in each life.
    pub(super) fn begin(&mut self) {
        if let Some(request) = (self.shard.shared.first)() {
            let (answer, _) = oneshot::channel();
            self.hand(Call { request, answer }, self.now());
        }
    }

    fn hand(&mut self, Call { request, answer }: Call<M>, now: Now) {
        self.calls_so_far += 1;
        let call = CallId(self.calls_so_far);
        self.calls.insert(call, answer);
        self.machine.handle(call, request, now);
    }

    /// Handles a call, and those that wait behind it.
    fn take(&mut self, first: Call<M>, inbox: &mut mpsc::Receiver<Call<M>>) {
        let now = self.now();
        let mut next = Some(first);
        for _ in 0..TURN {
            let Some(call) = next.take().or_else(|| inbox.try_recv().ok()) else {
                return;
            };
            self.hand(call, now);
        }
    }

    /// Carries out what the machine wants.
    fn carry(&mut self) -> Result<(), String> {
        if let Some(error) = self.reply() {
            return Err(error.to_string());
        }
        let last = self.held.back();
        let is_to_prove = last.is_some_and(|last| last.above == self.appends_so_far);
        let has_some = is_to_prove || !self.pending.is_empty();
        if has_some && self.appends.len() < APPENDS {
            self.append().map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Sends the answers and begins the actions that are due, and takes over the entries to append. Tells when one of those cannot be written.
    fn reply(&mut self) -> Option<EncodeError> {
        let effects = self.machine.take_effects();
        let is_newest = self.shard.shared.metadata.holds_lease() && self.held.is_empty();
        for reply in effects.replies {
            let Some(answer) = self.calls.remove(&reply.call) else {
                continue;
            };
            if is_newest {
                // The client may have gone.
                let _ = answer.send(reply.response);
            } else {
                self.held.push_back(Held {
                    answer,
                    response: reply.response,
                    above: self.appends_so_far,
                });
            }
        }
        for action in effects.actions {
            (self.shard.shared.act)(action, &self.acting);
        }
        self.position = effects.position;
        self.pending_bytes += effects.entries.iter().map(Entry::bytes).sum::<usize>();
        self.pending.extend(effects.entries);
        effects.broken
    }

    /// Sends the answers that waited for this append: what they were found in was the newest there was.
    fn release(&mut self, number: u64) {
        while let Some(held) = self.held.pop_front_if(|held| held.above < number) {
            let _ = held.answer.send(held.response);
        }
    }

    /// Knows where in the log something is: one place of every [`PLACES`] entries will do.
    fn remember(&mut self, began: Option<(Position, Offset)>) {
        if !M::LETS_GO {
            return;
        }
        let last = self.places.back().map(|(position, _)| position.0 + PLACES);
        self.places
            .extend(began.filter(|(position, _)| last.is_none_or(|next| next <= position.0)));
    }

    /// Lets go of what the machine does not need any more.
    fn forget(&mut self) {
        let Some(position) = self.machine.forgettable() else {
            return;
        };
        let mut below = None;
        while let Some((_, offset)) = self.places.pop_front_if(|(began, _)| *began <= position) {
            below = Some(offset);
        }
        let Some(offset) = below else {
            return;
        };
        let key = self.partition.key();
        self.partition.delete_records(offset, move |result| {
            if let Err(error) = result {
                warn!(%key, %offset, %error, "what is not needed any more stays in the log");
            }
        });
    }

    /// Hands everything that waits to the log, in order, and follows what becomes of it. Where nothing waits but answers, a record
    /// that says nothing: that it gets through is what they wait for.
    fn append(&mut self) -> Result<(), weir_wire::batch::BatchError> {
        let bytes_max =
            usize::try_from(self.partition.config().max_message_bytes).unwrap_or(usize::MAX);
        let now_ms = self.shard.shared.host.clock.now_ms();
        let batches = match self.pending.is_empty() {
            true => vec![super::batches::nothing(now_ms)?],
            false => super::batches::batches(&self.pending, now_ms, bytes_max)?,
        };
        self.pending.clear();
        self.pending_bytes = 0;
        let epoch = self.shard.epoch;
        let queued = batches.into_iter().map(|batch| {
            let Batch {
                bytes,
                origin,
                verified,
            } = batch;
            self.partition
                .append_as_and_wait(bytes, epoch, origin, verified)
        });
        let queued: Vec<_> = queued.collect();
        self.appends_so_far += 1;
        let (position, number) = (self.position, self.appends_so_far);
        let from = std::mem::replace(&mut self.appended, position);
        if Mutant::AnswerBeforeDurable.is_active() {
            self.machine.durable(position);
        }
        self.appends.push_back(Box::pin(async move {
            let (mut outcome, mut began) = (Ok(()), None);
            // All are waited for, the ones behind a failure too: nothing may be under way when this is over.
            for appended in queued {
                let appended = appended.await;
                if let (None, Ok(first)) = (&began, &appended) {
                    began = Some((from, first.base_offset));
                }
                outcome = outcome.and(appended.map(|_| ()));
            }
            Appended {
                position,
                outcome,
                number,
                began,
            }
        }));
        Ok(())
    }

    fn now(&self) -> Now {
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Now {
            mono: MonoMs(elapsed),
            wall: WallMs(self.shard.shared.host.clock.now_ms()),
        }
    }

    fn deadline(&self) -> Instant {
        let MonoMs(ms) = self.machine.next_deadline();
        self.started
            .checked_add(Duration::from_millis(ms))
            .unwrap_or_else(|| Instant::now() + DAY)
    }
}
