//! A loaded shard at work: calls in, records out to the log, answers when they are due.
//!
//! Owns the machine, its open calls and its appends. What always holds: records are appended in the order in which
//! they were emitted; everything emitted while appends are under way gathers into the next batch, so that many calls cost
//! one sync; an open call whose answer is dropped was answered by that.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use weir_groups::{CallId, Entry, Machine, MonoMs, Now, Position, WallMs};
use weir_log::AppendError;
use weir_log::mutants::Mutant;
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
/// Further than this nobody looks: a machine without deadlines is looked at once a day.
const DAY: Duration = Duration::from_secs(86_400);

/// Why a machine is to be dropped.
pub(super) enum Ended {
    /// The shard is another broker's, or the process ends.
    Stopped,
    /// What it emitted is not in the log.
    Failed(String),
}

type Appending = BoxFuture<'static, (Position, Result<(), AppendError>)>;

/// A loaded shard.
pub(super) struct Serving<'s, M: Machine> {
    shard: &'s Shard<M>,
    partition: Arc<Partition>,
    machine: M,
    acting: Acting<M>,
    /// Ends what the machine has set about.
    _ended: DropGuard,
    calls: HashMap<CallId, oneshot::Sender<M::Response>>,
    calls_so_far: u64,
    /// Emitted, not yet on their way to the log.
    pending: Vec<Entry>,
    pending_bytes: usize,
    /// Of the last entry emitted.
    position: Position,
    appends: FuturesOrdered<Appending>,
    /// The zero of the machine's clock.
    started: Instant,
}

impl<'s, M: Machine> Serving<'s, M> {
    pub(super) fn new(
        shard: &'s Shard<M>,
        partition: Arc<Partition>,
        loader: M::Loader,
        inbox: Inbox<M>,
    ) -> Self {
        let started = Instant::now();
        let now = Now {
            mono: MonoMs(0),
            wall: WallMs(shard.shared.host.clock.now_ms()),
        };
        let ended = CancellationToken::new();
        Self {
            shard,
            partition,
            machine: M::load(loader, &shard.shared.config, shard.epoch, now),
            acting: Acting {
                inbox,
                ended: ended.clone(),
            },
            _ended: ended.drop_guard(),
            calls: HashMap::new(),
            calls_so_far: 0,
            pending: Vec::new(),
            pending_bytes: 0,
            position: Position::default(),
            appends: FuturesOrdered::new(),
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
                Some((position, appended)) = self.appends.next() => match appended {
                    Ok(()) => self.machine.durable(position),
                    Err(error) => return Ended::Failed(error.to_string()),
                },
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
        while let Some((position, appended)) = self.appends.next().await {
            is_whole &= appended.is_ok();
            if is_whole {
                self.machine.durable(position);
            }
        }
        self.reply();
    }

    /// Waits until nothing that was handed to the log is under way any more. Everyone is let go; the machine is not asked.
    pub(super) async fn abandon(mut self) {
        self.calls.clear();
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
        if !self.pending.is_empty() && self.appends.len() < APPENDS {
            self.append().map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Sends the answers and begins the actions that are due, and takes over the entries to append. Tells when one of those cannot be written.
    fn reply(&mut self) -> Option<EncodeError> {
        let effects = self.machine.take_effects();
        for reply in effects.replies {
            if let Some(answer) = self.calls.remove(&reply.call) {
                // The client may have gone.
                let _ = answer.send(reply.response);
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

    /// Hands everything that waits to the log, in order, and follows what becomes of it.
    fn append(&mut self) -> Result<(), weir_wire::batch::BatchError> {
        let bytes_max =
            usize::try_from(self.partition.config().max_message_bytes).unwrap_or(usize::MAX);
        let batches = super::batches::batches(
            &self.pending,
            self.shard.shared.host.clock.now_ms(),
            bytes_max,
        )?;
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
        let position = self.position;
        if Mutant::AnswerBeforeDurable.is_active() {
            self.machine.durable(position);
        }
        self.appends.push_back(Box::pin(async move {
            let mut outcome = Ok(());
            // All are waited for, the ones behind a failure too: nothing may be under way when this is over.
            for appended in queued {
                outcome = outcome.and(appended.await.map(|_| ()));
            }
            (position, outcome)
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
