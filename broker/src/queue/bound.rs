//! The bound of one partition, asked by its lane.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::IntCounter;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use weir_log::mutants::Mutant;
use weir_log::{Admission, LogReader, NotAdmitted, Offered};
use weir_queues::bound::{Ask, Grant};
use weir_queues::bound::{Backlog, Limits, Size};
use weir_quorum::configs::{Overflow, QueueConfig, Scope};
use weir_wire::{LeaderEpoch, Offset, PartitionIndex};

use super::leases::{Leases, Unit};
use super::throttle::{Throttle, Waits};
use crate::partitions::Replica;

/// Bytes of a batch that was not offered here: the end of a transaction, by its coordinator.
const MARKER_BYTES: u64 = 78;

/// How far a group is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Everything before it is settled.
    pub start: Offset,
    /// Settled messages from there on.
    pub within: u64,
}

/// What is to be done for bounded partitions, and wakes the tasks that do it.
#[derive(Debug)]
pub struct Work {
    /// A backlog is to be counted, or room to be made.
    pub(super) look: Notify,
    /// The ledger of a topic is to be asked.
    pub(super) lease: Notify,
    /// Somebody waits for room.
    pub(super) waits: Waits,
    waiting: Mutex<Option<mpsc::UnboundedReceiver<Arc<Replica>>>>,
}

impl Default for Work {
    fn default() -> Self {
        // At most one for each partition lies in it.
        let (waits, waiting) = mpsc::unbounded_channel();
        Self {
            look: Notify::new(),
            lease: Notify::new(),
            waits,
            waiting: Mutex::new(Some(waiting)),
        }
    }
}

impl Work {
    /// Where those appear for which somebody waits; to be taken once.
    pub(super) fn waiting(&self) -> Option<mpsc::UnboundedReceiver<Arc<Replica>>> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.take()
    }
}

/// A bounded partition. Its lock is held for some instructions, by the lane, by the share-partition's task, and by the one that counts.
#[derive(Debug)]
pub struct Bound {
    config: QueueConfig,
    reader: LogReader,
    refusals: IntCounter,
    work: Arc<Work>,
    /// Who waits for room.
    throttle: Option<Arc<Throttle>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Since it was counted in this epoch.
    known: Option<(LeaderEpoch, Backlog)>,
    /// What this leader may have of the topic's bound, where it is the topic's.
    leases: Option<(LeaderEpoch, Leases)>,
    /// What was said last of how far the group is, perhaps while the backlog was being counted.
    said: Option<(LeaderEpoch, Settled)>,
    /// How many times in a row the group's coordinator said less than that.
    looks_behind: u32,
    /// The room that is to be made in an epoch.
    room: Option<(LeaderEpoch, Room)>,
}

/// What is to be left of a log: the oldest messages before it make room for what was appended.
#[derive(Clone, Copy, Debug)]
struct Room {
    start: Offset,
    end: Offset,
}

impl Bound {
    pub(crate) fn new(
        config: QueueConfig,
        reader: LogReader,
        refusals: IntCounter,
        work: Arc<Work>,
        throttle: Option<Arc<Throttle>>,
    ) -> Self {
        // There may be somebody who appends soon.
        work.look.notify_one();
        if config.scope == Scope::Topic {
            work.lease.notify_one();
        }
        Self {
            config,
            reader,
            refusals,
            work,
            throttle,
            state: Mutex::default(),
        }
    }

    /// What it was made for.
    #[must_use]
    pub fn config(&self) -> &QueueConfig {
        &self.config
    }

    /// Whose unsettled messages are the backlog; without anyone all that is there is.
    #[must_use]
    pub fn group(&self) -> Option<&str> {
        self.config.group.as_deref()
    }

    /// How much is not settled, as the leader of an epoch knows.
    #[must_use]
    pub fn backlog(&self) -> Option<(LeaderEpoch, Size)> {
        let mut state = self.lock();
        let (epoch, backlog) = state.known.as_mut()?;
        backlog.log_start_moved(self.reader.log_start());
        Some((*epoch, backlog.size()))
    }

    /// Where what is not settled begins, as the leader of an epoch knows.
    #[must_use]
    pub(crate) fn begins(&self) -> Option<(LeaderEpoch, Offset)> {
        let state = self.lock();
        let (epoch, backlog) = state.known.as_ref()?;
        Some((*epoch, backlog.start()))
    }

    /// The group's share-partition, led here in this epoch, has stored how far it is.
    pub(crate) fn settled(&self, group: &str, epoch: LeaderEpoch, settled: Settled) {
        if self.group() != Some(group) {
            return;
        }
        let mut state = self.lock();
        state.said = Some((epoch, settled));
        if let Some((known, backlog)) = &mut state.known
            && *known == epoch
        {
            backlog.settled(settled.start, settled.within);
            self.has_room();
        }
    }

    /// There may be room for who waits.
    fn has_room(&self) {
        if let Some(throttle) = &self.throttle {
            throttle.poke();
        }
    }

    /// How far the group is, as its coordinator says. False when the backlog has to be counted: it is not known in this epoch, or the
    /// group was set back.
    pub(super) fn look(&self, epoch: LeaderEpoch, settled: Settled) -> bool {
        let mut state = self.lock();
        let State {
            known,
            said,
            looks_behind,
            ..
        } = &mut *state;
        let is_behind =
            said.is_some_and(|(told, said)| told == epoch && settled.start < said.start);
        *looks_behind = if is_behind { *looks_behind + 1 } else { 0 };
        if *looks_behind > 1 {
            // One look may have been asked for before the share-partition stored what it said then; two in a row may not.
            (*known, *said, *looks_behind) = (None, None, 0);
        }
        let known = known.as_mut().filter(|(known, _)| *known == epoch);
        let Some((_, backlog)) = known else {
            return false;
        };
        if !is_behind {
            *said = Some((epoch, settled));
            backlog.settled(settled.start, settled.within);
            self.has_room();
        }
        true
    }

    /// Whether the bound is the whole topic's.
    pub(super) fn is_of_topic(&self) -> bool {
        self.config.scope == Scope::Topic
    }

    /// The backlog is known in this epoch, and whose the ledger is: from here on there is a lease, with what there is. One that there is in this
    /// epoch already goes on.
    pub(super) fn lease(
        &self,
        partition: PartitionIndex,
        epoch: LeaderEpoch,
        ledger: LeaderEpoch,
        partitions: usize,
    ) {
        let mut state = self.lock();
        let State { known, leases, .. } = &mut *state;
        let is_led = |(of, _): &&(LeaderEpoch, Leases)| *of == epoch;
        if leases.as_ref().filter(is_led).is_some() {
            return;
        }
        if let Some((of, backlog)) = known
            && *of == epoch
        {
            let begun = Leases::new(
                (partition, epoch),
                (ledger, partitions),
                self.limits(),
                backlog.size(),
            );
            *leases = Some((epoch, begun));
            self.work.lease.notify_one();
            self.has_room();
        }
    }

    /// What to ask the ledger that is kept in this epoch; with `true` soon again.
    pub(super) fn asks(&self, epoch: LeaderEpoch, ledger: LeaderEpoch) -> (Vec<(Unit, Ask)>, bool) {
        let mut state = self.lock();
        let State { known, leases, .. } = &mut *state;
        match (known, leases) {
            (Some((known, backlog)), Some((leased, leases)))
                if *known == epoch && *leased == epoch =>
            {
                backlog.log_start_moved(self.reader.log_start());
                let size = backlog.size();
                let asks = leases.asks(ledger, size, Instant::now());
                (asks, leases.is_restless(size))
            }
            _ => (Vec::new(), true),
        }
    }

    /// The ledger has answered this epoch's leader.
    pub(super) fn granted(&self, epoch: LeaderEpoch, unit: Unit, grant: Grant) {
        if let Some((leased, leases)) = &mut self.lock().leases
            && *leased == epoch
        {
            let before = leases.limits();
            leases.granted(unit, grant, Instant::now());
            // Otherwise asking and being refused would go round and round.
            if leases.limits() != before {
                self.has_room();
            }
        }
    }

    pub(super) fn counts_bytes(&self) -> bool {
        self.config.max_bytes.is_some()
    }

    /// The backlog was counted: it has so many bytes between two offsets.
    pub(super) fn begin(
        &self,
        epoch: LeaderEpoch,
        settled: Settled,
        (start, end): (Offset, Offset),
        bytes: u64,
    ) {
        let mut backlog = Backlog::new(start, end, bytes);
        backlog.settled(settled.start, settled.within);
        let mut state = self.lock();
        if let Some((told, settled)) = state.said
            && told == epoch
        {
            backlog.settled(settled.start, settled.within);
        }
        if self.config.overflow == Overflow::DropOldest && !self.is_of_topic() {
            // Whoever led before may have ended between an append and the room for it; or there may be less than there was. What is settled stays to be read
            // while there is room.
            let begins = backlog.room_for(Size::default(), self.limits());
            let begins = begins.filter(|start| *start > backlog.start());
            state.room = begins.map(|start| (epoch, Room { start, end }));
            if let Some(start) = begins {
                backlog.log_start_moved(start);
                self.work.look.notify_one();
            }
        }
        state.known = Some((epoch, backlog));
        self.has_room();
        if self.is_of_topic() {
            self.work.lease.notify_one();
        }
    }

    /// The group was set to another place, or is another: the backlog is counted anew.
    pub(crate) fn begins_at(&self, group: &str, epoch: LeaderEpoch, settled: Settled) {
        if self.group() != Some(group) {
            return;
        }
        let mut state = self.lock();
        state.said = Some((epoch, settled));
        if let Some((known, backlog)) = &mut state.known {
            if *known == epoch && settled.start >= backlog.start() {
                backlog.settled(settled.start, settled.within);
                self.has_room();
            } else {
                state.known = None;
                self.work.look.notify_one();
            }
        }
    }

    /// Where the leader of an epoch is to let the log begin, if later than it does, and whether more is to go once more is committed: nothing makes room for what
    /// is not.
    pub(super) fn room_to_make(
        &self,
        epoch: LeaderEpoch,
        high_watermark: Offset,
    ) -> (Option<Offset>, bool) {
        let Some((_, room)) = self.lock().room.filter(|(of, _)| *of == epoch) else {
            return (None, false);
        };
        let uncommitted = (room.end.0 - high_watermark.0).max(0);
        let start = Offset(room.start.0 - uncommitted).min(high_watermark);
        let is_later = start > self.reader.log_start();
        (is_later.then_some(start), start < room.start)
    }

    fn limits(&self) -> Limits {
        Limits {
            messages: self.config.max_messages,
            bytes: self.config.max_bytes,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admission for Bound {
    fn admit(&self, offered: Offered) -> Result<(), NotAdmitted> {
        let log_start = self.reader.log_start();
        let mut state = self.lock();
        let State {
            known,
            leases,
            room,
            ..
        } = &mut *state;
        let known = known
            .as_mut()
            .filter(|(epoch, _)| *epoch == offered.leader_epoch);
        let Some((_, backlog)) = known else {
            self.work.look.notify_one();
            return Err(NotAdmitted::ForNow(
                "what is not settled yet is being counted".into(),
            ));
        };
        backlog.truncated(offered.end);
        if offered.end > backlog.end() {
            backlog.appended(offered.end, MARKER_BYTES);
        }
        backlog.log_start_moved(log_start);
        let more = Size {
            messages: offered.records,
            bytes: offered.bytes,
        };
        let mut leased = match self.config.scope {
            Scope::Partition => None,
            Scope::Topic => match leases {
                Some((epoch, leases)) if *epoch == offered.leader_epoch => Some(leases),
                _ => {
                    self.work.lease.notify_one();
                    return Err(NotAdmitted::ForNow(
                        "what this partition may have of the topic's bound is being asked for"
                            .into(),
                    ));
                }
            },
        };
        let records = i64::try_from(offered.records).unwrap_or(i64::MAX);
        let end = Offset(offered.end.0.saturating_add(records));
        let bounds = self.limits();
        let limits = leased.as_ref().map_or(bounds, |leases| leases.limits());
        let is_asked_late = Mutant::BoundLate.is_active() && offered.end > self.reader.log_end();
        let checked = backlog.check(more, limits);
        if let Err(full) = checked.or_else(|full| if is_asked_late { Ok(()) } else { Err(full) }) {
            let why = match &mut leased {
                None => full.to_string(),
                Some(leases) => {
                    let is_full = leases.lacks(backlog.size(), more, Instant::now());
                    self.work.lease.notify_one();
                    if !is_full && bounds.hold(more) {
                        return Err(NotAdmitted::ForNow(
                            "more of the topic's bound is being asked for".into(),
                        ));
                    }
                    full.of_topic(bounds)
                }
            };
            let begins = match self.config.overflow {
                Overflow::DropOldest if Mutant::DropAll.is_active() => Some(backlog.end()),
                Overflow::DropOldest => backlog.room_for(more, limits),
                Overflow::Reject | Overflow::Throttle => None,
            };
            let Some(start) = begins else {
                let why = match self.group() {
                    Some(group) => format!("{why} (share group {group})"),
                    None => why,
                };
                // What never fits may as well be given up at once.
                let never_fits = !bounds.hold(more);
                return Err(match self.config.overflow {
                    // It waits, and is counted when it has waited in vain.
                    Overflow::Throttle if !never_fits && !Mutant::RefuseWaiting.is_active() => {
                        NotAdmitted::ForNow(why)
                    }
                    _ => {
                        self.refusals.inc();
                        NotAdmitted::ForGood(why)
                    }
                });
            };
            backlog.log_start_moved(start);
            *room = Some((offered.leader_epoch, Room { start, end }));
            self.work.look.notify_one();
        }
        backlog.appended(end, offered.bytes);
        if leased.is_some_and(|leases| leases.run_low(backlog.size())) {
            self.work.lease.notify_one();
        }
        Ok(())
    }
}
