//! One share-partition led here: the engine, its task, and who waits for it.
//!
//! Decides nothing about records: that is [`Windows`]. What always holds: the engine is changed under its lock, which
//! is never held while anything waits; one task stores what the engine wants stored, in order, and wakes it at its deadline;
//! when the task ends, everyone who waits is told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weir_groups::share::state::{
    InitializeState, NO_START, ReadState, StateError, StateKey, WriteState,
};
use weir_groups::share::{Restored, Ticket, Windows, Write, Written};
use weir_groups::{MonoMs, share};
use weir_log::mutants::Mutant;
use weir_queues::Millis;
use weir_queues::priority::Choice;
use weir_quorum::configs::SharingConfig;
use weir_wire::{LeaderEpoch, Offset};

use super::levels::follow_all;
use super::persister::Persister;
use super::settings::{GroupSettings, Sharing, StartAt};
use crate::Broker;
use crate::error::{ApiError, ErrorCode};
use crate::host::Host;
use crate::partitions::Partition;
use crate::queue::Settled;

/// Between two attempts to reach a coordinator that is loading, or being looked for.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a coordinator is looked for before who waits is told: as long as clients wait for a response, about.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long the last write of a leader that has to end may take.
const LAST_WRITE: Duration = Duration::from_secs(2);

/// A share-partition led here.
#[derive(Debug)]
pub(super) struct Leader {
    pub(super) key: StateKey,
    pub(super) epoch: LeaderEpoch,
    pub(super) partition: Arc<Partition>,
    /// Whether records of one key go one at a time.
    pub(super) is_ordered: bool,
    /// Whether messages have priorities.
    priority: Option<Choice>,
    inner: Mutex<Inner>,
    /// Held by whoever reads the log for it, so that a crowd of members does not read the same.
    pub(super) reading: tokio::sync::Mutex<()>,
    /// The task has something to do.
    work: Notify,
    /// There are records that are to become dead letters.
    pub(super) dead: Notify,
    /// What the group asks beyond Kafka's.
    sharing: ArcSwapOption<Sharing>,
    end: CancellationToken,
    /// Somebody waits for its end, or leads by now.
    hurry: CancellationToken,
    /// Cancelled when its task has ended.
    over: CancellationToken,
    /// Why it ended, when nobody had it end.
    failure: OnceLock<ApiError>,
    pub(super) host: Host,
    /// The zero of the engine's clock.
    started: Instant,
}

#[derive(Debug)]
struct Inner {
    phase: Phase,
    /// Who waits for a write.
    waiting: BTreeMap<Ticket, Vec<oneshot::Sender<Result<(), ApiError>>>>,
    /// Who waits for records.
    readers: Vec<Weak<Notify>>,
    /// No session asks for it any more: it ends as soon as nothing of it waits.
    is_unused: bool,
}

#[derive(Debug)]
enum Phase {
    Loading,
    Ready(Box<Windows>),
    Ended(ApiError),
}

/// The outcome of acknowledgements: there already, or when they are stored.
pub(super) enum Acknowledged {
    Now(Result<(), ApiError>),
    Later(oneshot::Receiver<Result<(), ApiError>>),
}

impl Acknowledged {
    pub(super) async fn outcome(self) -> Result<(), ApiError> {
        match self {
            Self::Now(outcome) => outcome,
            Self::Later(outcome) => outcome
                .await
                .unwrap_or_else(|_| Err(ErrorCode::NotLeaderOrFollower.into())),
        }
    }
}

impl Leader {
    pub(super) fn new(
        key: StateKey,
        epoch: LeaderEpoch,
        partition: Arc<Partition>,
        host: Host,
    ) -> Self {
        Self {
            key,
            epoch,
            is_ordered: partition.config().is_ordered_by_key,
            priority: partition.config().priority,
            partition,
            inner: Mutex::new(Inner {
                phase: Phase::Loading,
                waiting: BTreeMap::new(),
                readers: Vec::new(),
                is_unused: false,
            }),
            reading: tokio::sync::Mutex::new(()),
            work: Notify::new(),
            dead: Notify::new(),
            sharing: ArcSwapOption::empty(),
            end: CancellationToken::new(),
            hurry: CancellationToken::new(),
            over: CancellationToken::new(),
            failure: OnceLock::new(),
            host,
            started: Instant::now(),
        }
    }

    /// Ends it: what is out is handed back, that is stored if it can be soon, and whoever waits is told.
    pub(super) fn end(&self) {
        self.end.cancel();
        self.hurry.cancel();
    }

    /// No session asks for it any more. It ends as soon as everything is stored, however long that takes, no member has anything of it, which those who are
    /// assigned other partitions may until their locks end, and nothing waits for its time or to become a dead letter: it alone knows until when. Who comes
    /// meanwhile goes on with it.
    pub(super) fn leave_unused(&self) {
        self.lock().is_unused = true;
        self.work.notify_one();
    }

    /// Somebody takes part. False when it is over, or about to be.
    pub(super) fn is_taken_up(&self) -> bool {
        let mut inner = self.lock();
        let is_over = self.end.is_cancelled() || matches!(inner.phase, Phase::Ended(_));
        inner.is_unused &= is_over;
        !is_over
    }

    /// What to store next.
    fn next_write(&self) -> Option<Write> {
        let mut inner = self.lock();
        let Phase::Ready(engine) = &mut inner.phase else {
            return None;
        };
        let write = engine.take_write();
        self.wake_who_waits(&mut inner);
        write
    }

    /// Ends it when no session asks for it and it is not needed. Everything must be stored.
    fn ends_unused(&self) -> bool {
        let inner = self.lock();
        let Phase::Ready(engine) = &inner.phase else {
            return false;
        };
        let ends = inner.is_unused && !engine.is_needed();
        if ends {
            // Within the lock: who takes part from now on finds it over.
            self.end.cancel();
        }
        ends
    }

    /// Why it ended by itself, if it did: whoever waited for it is told that, since another one would fare no better at once.
    pub(super) fn failure(&self) -> Option<ApiError> {
        self.failure.get().cloned()
    }

    /// Whether its topic asks for another order now: it ends, and the next one goes on as that is.
    pub(super) fn is_out_of_order(&self) -> bool {
        let config = self.partition.config();
        config.is_ordered_by_key != self.is_ordered || config.priority != self.priority
    }

    /// What the group asks beyond Kafka's, if it asks for anything.
    pub(super) fn sharing(&self) -> Option<Arc<Sharing>> {
        self.sharing.load_full()
    }

    /// What the group asks from now on.
    pub(super) fn share_as(&self, config: Option<SharingConfig>) {
        let before = self.sharing.load();
        if before.as_ref().map(|before| &before.config) == config.as_ref() {
            return;
        }
        let mut inner = self.lock();
        self.sharing.store(config.map(Sharing::of));
        if let Phase::Ready(engine) = &mut inner.phase {
            self.tell(engine);
        }
        self.after(inner);
    }

    /// Tells the engine what the group asks. Within the lock, so that the last word is the last.
    fn tell(&self, engine: &mut Windows) {
        let retry = self.sharing.load().as_ref().and_then(|it| it.retry());
        engine.retry_as(retry.as_ref(), self.now());
    }

    /// Lets `act` change the engine; `None` while it is loading.
    pub(super) fn with<T>(
        &self,
        act: impl FnOnce(&mut Windows, MonoMs) -> T,
    ) -> Result<Option<T>, ApiError> {
        let mut inner = self.lock();
        let result = match &mut inner.phase {
            Phase::Loading => return Ok(None),
            Phase::Ended(error) => return Err(error.clone()),
            Phase::Ready(engine) => act(engine, self.now()),
        };
        self.after(inner);
        Ok(Some(result))
    }

    /// Acknowledges. The ticket's outcome is known when it is stored.
    pub(super) fn acknowledge(
        &self,
        member: &weir_groups::MemberId,
        batches: &[share::AckBatch],
    ) -> Acknowledged {
        let mut inner = self.lock();
        let now = self.now();
        let acked = match &mut inner.phase {
            Phase::Loading => {
                let why = "the share-partition is being loaded: nothing of it is acquired";
                Err(ApiError::new(ErrorCode::InvalidRecordState, why))
            }
            Phase::Ended(error) => Err(error.clone()),
            Phase::Ready(engine) => engine
                .acknowledge(member, batches, now)
                .map_err(|error| ApiError::new(error.code(), error.to_string())),
        };
        if acked.is_ok()
            && let Some(trace) = self.partition.trace()
        {
            trace.settled(&self.key.group, member, batches);
        }
        let outcome = match acked {
            Err(error) => Acknowledged::Now(Err(error)),
            Ok(None) => Acknowledged::Now(Ok(())),
            Ok(Some(_)) if Mutant::AcknowledgeUnstored.is_active() => Acknowledged::Now(Ok(())),
            Ok(Some(ticket)) => {
                let (sender, receiver) = oneshot::channel();
                inner.waiting.entry(ticket).or_default().push(sender);
                Acknowledged::Later(receiver)
            }
        };
        self.after(inner);
        outcome
    }

    /// Wakes `wake` when there may be more to hand out, for as long as it exists.
    pub(super) fn wake_when_freed(&self, wake: &Arc<Notify>) {
        let mut inner = self.lock();
        let wake = Arc::downgrade(wake);
        inner
            .readers
            .retain(|reader| reader.strong_count() > 0 && !reader.ptr_eq(&wake));
        inner.readers.push(wake);
    }

    /// The share-partition's life: it is loaded, once the leader before it has ended, then kept until it ends.
    pub(super) async fn run(
        self: Arc<Self>,
        before: Option<Arc<Self>>,
        broker: &Arc<Broker>,
        persister: Persister,
        settings: GroupSettings,
    ) {
        if let Some(before) = before {
            before.over.cancelled().await;
        }
        let loaded = tokio::select! {
            () = self.end.cancelled() => Err(ErrorCode::NotLeaderOrFollower.into()),
            loaded = self.load(&persister, settings) => loaded,
        };
        let error = match loaded {
            Ok(mut engine) => {
                if let Some(bound) = self.partition.bound() {
                    let (start, within) = engine.standing();
                    let settled = Settled {
                        start,
                        within: u64::try_from(within).unwrap_or(0),
                    };
                    bound.begins_at(self.key.group.as_str(), self.epoch, settled);
                }
                self.enter(Phase::Ready(Box::new(engine)));
                tokio::select! {
                    error = self.keep(&persister) => error,
                    never = self.bury(broker) => match never {},
                }
            }
            Err(error) => error,
        };
        if !self.end.is_cancelled() {
            // Before anyone is woken, who then looks for it. It is set once.
            let _ = self.failure.set(error.clone());
        }
        self.end.cancel();
        self.enter(Phase::Ended(error));
        self.over.cancel();
    }

    async fn load(
        &self,
        persister: &Persister,
        settings: GroupSettings,
    ) -> Result<Windows, ApiError> {
        let mut restored = self.read_state(persister).await?;
        if Mutant::ForgetLevels.is_active() {
            restored.levels.clear();
        }
        if restored.start != NO_START && !Mutant::ForgetShared.is_active() {
            return self.restore(persister, settings, restored).await;
        }
        let start = self.first_start(settings.start_at).await?;
        let restored = Restored {
            start,
            batches: Vec::new(),
            levels: Vec::new(),
            ..restored
        };
        let mut engine = self.restore(persister, settings, restored).await?;
        // Stored before anything is handed out: whoever takes over must not begin somewhere else.
        engine.store_starts();
        Ok(engine)
    }

    async fn read_state(&self, persister: &Persister) -> Result<Restored, ApiError> {
        let read = || {
            persister.read(ReadState {
                key: self.key.clone(),
                leader_epoch: self.epoch,
            })
        };
        let patience = Instant::now() + PATIENCE;
        loop {
            let failed = match read().await {
                Ok(restored) => return Ok(restored),
                Err(StateError::Uninitialized) => {
                    let begin = InitializeState {
                        key: self.key.clone(),
                        state_epoch: 0,
                        start: NO_START,
                    };
                    match persister.initialize(begin).await {
                        Ok(()) => continue,
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            if !passes(failed) || Instant::now() >= patience {
                return Err(told(failed));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn restore(
        &self,
        persister: &Persister,
        settings: GroupSettings,
        restored: Restored,
    ) -> Result<Windows, ApiError> {
        let log_start = self.partition.reader().log_start();
        if self.priority.is_none() && restored.levels.is_empty() {
            let mut engine = Windows::plain(settings.engine, restored, self.is_ordered);
            engine.log_start_moved(log_start);
            return Ok(engine);
        }
        let mut engine =
            Windows::by_level(settings.engine, &restored, self.is_ordered, self.priority);
        engine.log_start_moved(log_start);
        follow_all(self, &mut engine).await?;
        if self.priority.is_some() || !engine.is_settled() {
            return Ok(engine);
        }
        // Nothing is left of when messages had priorities. The epoch fences what may still be on its way from then.
        let begin = InitializeState {
            key: self.key.clone(),
            state_epoch: restored.state_epoch.saturating_add(1),
            start: engine.standing().0,
        };
        persister.initialize(begin).await.map_err(told)?;
        let restored = self.read_state(persister).await?;
        Ok(Windows::plain(settings.engine, restored, self.is_ordered))
    }

    /// Where a group begins that was never here.
    async fn first_start(&self, at: StartAt) -> Result<Offset, ApiError> {
        let reader = self.partition.reader();
        match at {
            StartAt::Earliest => Ok(reader.log_start()),
            StartAt::Latest => Ok(self.partition.high_watermark()),
            StartAt::Ago(ago) => {
                let ago = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
                let since = self.host.clock.now_ms().saturating_sub(ago);
                let (partition, up_to) =
                    (Arc::clone(&self.partition), self.partition.high_watermark());
                let look = move || partition.reader().offset_for_timestamp(since, up_to);
                let found = self.host.blocking(look).await?;
                Ok(found.map_or(up_to, |found| found.offset))
            }
        }
    }

    /// Stores and wakes until the end; gives what those are told who come after it.
    async fn keep(&self, persister: &Persister) -> ApiError {
        loop {
            if let Some(write) = self.next_write() {
                if let Err(error) = self.store(persister, write).await {
                    return error;
                }
                continue;
            }
            if self.ends_unused() {
                break;
            }
            let deadline = self.engine(|engine, _| engine.next_deadline()).flatten();
            let wait = async {
                match deadline {
                    Some(MonoMs(ms)) => {
                        let at = self.started.checked_add(Duration::from_millis(ms));
                        tokio::time::sleep_until(at.unwrap_or_else(Instant::now)).await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.end.cancelled() => break,
                () = self.work.notified() => {}
                () = wait => {
                    self.engine(|engine, now| engine.tick(now));
                }
            }
        }
        // What is out is handed back, and its delivery counts: whoever leads next begins from there.
        self.engine(|engine, now| engine.release_all(now));
        if let Some(write) = self.take_write() {
            let too_late = async {
                self.hurry.cancelled().await;
                tokio::time::sleep(LAST_WRITE).await;
            };
            tokio::select! {
                _ = self.store(persister, write) => {}
                () = too_late => {}
            }
        }
        ErrorCode::NotLeaderOrFollower.into()
    }

    fn take_write(&self) -> Option<Write> {
        self.engine(|engine, _| engine.take_write()).flatten()
    }

    /// For the task itself, which need not be told that there is something to do.
    pub(super) fn engine<T>(&self, act: impl FnOnce(&mut Windows, MonoMs) -> T) -> Option<T> {
        let mut inner = self.lock();
        let result = match &mut inner.phase {
            Phase::Ready(engine) => act(engine, self.now()),
            Phase::Loading | Phase::Ended(_) => return None,
        };
        self.wake_who_waits(&mut inner);
        Some(result)
    }

    /// Stores, and tells who waits for it. Fails when this leader is not the one any more.
    async fn store(&self, persister: &Persister, write: Write) -> Result<(), ApiError> {
        let ticket = write.ticket;
        let request = WriteState {
            key: self.key.clone(),
            state_epoch: write.state_epoch,
            leader_epoch: self.epoch,
            start: write.start,
            complete_count: write.complete_count,
            batches: write.batches,
            levels: write.levels,
        };
        let patience = Instant::now() + PATIENCE;
        let stored = loop {
            match persister.write(request.clone()).await {
                Err(error) if passes(error) && Instant::now() < patience => {
                    tokio::time::sleep(PAUSE).await;
                }
                stored => break stored,
            }
        };
        if stored.is_ok()
            && let Some(bound) = self.partition.bound()
        {
            let settled = Settled {
                start: request.start,
                within: u64::try_from(request.complete_count).unwrap_or(0),
            };
            bound.settled(self.key.group.as_str(), self.epoch, settled);
        }
        let mut inner = self.lock();
        if let Phase::Ready(engine) = &mut inner.phase {
            engine.written(match stored {
                Ok(()) => Written::Stored,
                Err(_) => Written::Failed,
            });
        }
        for waits in inner.waiting.remove(&ticket).unwrap_or_default() {
            // Who asked may be gone.
            let _ = waits.send(stored.map_err(told));
        }
        self.after(inner);
        match stored {
            Err(error) if !passes(error) => Err(told(error)),
            _ => Ok(()),
        }
    }

    fn enter(&self, phase: Phase) {
        let mut inner = self.lock();
        if let Phase::Ended(error) = &phase {
            for waits in std::mem::take(&mut inner.waiting).into_values().flatten() {
                let _ = waits.send(Err(error.clone()));
            }
        }
        inner.phase = phase;
        if let Phase::Ready(engine) = &mut inner.phase {
            self.tell(engine);
            self.trace(engine);
        }
        wake(&mut inner);
    }

    /// After each change of the engine: its task looks at it, and who waits when there is something for them.
    fn after(&self, mut inner: MutexGuard<'_, Inner>) {
        self.wake_who_waits(&mut inner);
        drop(inner);
        self.work.notify_one();
    }

    /// Before what everything is settled, and how many records wait for their time; `None` while it is loading or has ended.
    pub(super) fn standing(&self) -> Option<(Offset, u64)> {
        match &mut self.lock().phase {
            Phase::Ready(engine) => Some((engine.standing().0, engine.parked() as u64)),
            Phase::Loading | Phase::Ended(_) => None,
        }
    }

    /// The task has something to store, or another deadline.
    pub(super) fn has_work(&self) {
        self.work.notify_one();
    }

    fn wake_who_waits(&self, inner: &mut Inner) {
        let Phase::Ready(engine) = &mut inner.phase else {
            return;
        };
        self.trace(engine);
        if engine.has_dead() {
            self.dead.notify_one();
        }
        if engine.take_freed() {
            wake(inner);
        }
    }

    /// Tells what the engine has done by itself, of a topic that is traced.
    fn trace(&self, engine: &mut Windows) {
        let Some(trace) = self.partition.trace() else {
            return;
        };
        let told = engine.take_told(true);
        let (now, wall) = (self.now(), self.host.clock.now_ms());
        trace.told(&self.key.group, &told, |until| {
            let wall = u64::try_from(wall).unwrap_or(0);
            Millis(wall.saturating_add(until.0.saturating_sub(now.0)))
        });
    }

    fn now(&self) -> MonoMs {
        MonoMs(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing that can panic runs while it is held.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(inner: &mut Inner) {
    for reader in inner.readers.iter().filter_map(Weak::upgrade) {
        reader.notify_one();
    }
}

/// Whether it passes by itself.
fn passes(error: StateError) -> bool {
    matches!(
        error,
        StateError::Loading | StateError::NotCoordinator | StateError::NotAvailable
    )
}

/// As members are told it.
fn told(error: StateError) -> ApiError {
    let code = match error {
        StateError::FencedLeaderEpoch => ErrorCode::NotLeaderOrFollower,
        StateError::FencedStateEpoch | StateError::Uninitialized => ErrorCode::FencedStateEpoch,
        StateError::Loading | StateError::NotCoordinator | StateError::NotAvailable => {
            ErrorCode::CoordinatorNotAvailable
        }
        StateError::InvalidRequest | StateError::BoundReached => ErrorCode::UnknownServerError,
    };
    ApiError::new(code, error.to_string())
}
