//! What a coordinator wants done, and the replies that wait for it.
//!
//! Owns the order between records and replies. What always holds: a reply that tells of stored state leaves only after
//! every record emitted before it is durable, so nobody is told what a crash could take back.

use std::collections::VecDeque;
use std::convert::Infallible;

use weir_wire::encode::EncodeError;

use crate::cluster::{Cluster, GroupSettings};
use crate::config::Config;
use crate::machine::Entry;
use crate::request::{Reply, Response};
use crate::stored::StoredRecord;
use crate::types::{CallId, GroupId, Now, Position};

/// What is to be carried out since the last time it was asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Effects<R = Response, A = Infallible> {
    /// To append in this order. Tell [`Machine::durable`](crate::Machine::durable) with `position` when the last of them
    /// is durable; if they cannot be appended, unload the shard and load it again.
    pub entries: Vec<Entry>,
    /// The position after the last entry that the coordinator has emitted.
    pub position: Position,
    /// To send now.
    pub replies: Vec<Reply<R>>,
    /// To carry out now.
    pub actions: Vec<A>,
    /// A record could not be written in the stored format. To be treated as an append that failed: nothing emitted from
    /// there on will ever be durable.
    pub broken: Option<EncodeError>,
}

impl<R, A> Default for Effects<R, A> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            position: Position::default(),
            replies: Vec::new(),
            actions: Vec::new(),
            broken: None,
        }
    }
}

/// What waits for the disk.
#[derive(Debug)]
enum Deferred<R, A> {
    Reply(Reply<R>),
    Action(A),
}

/// Collects effects.
#[derive(Debug)]
pub(crate) struct Outbox<R = Response, A = Infallible> {
    durable: Position,
    effects: Effects<R, A>,
    /// In order of position, for nothing is queued behind less than was emitted when the one before it was.
    deferred: VecDeque<(Position, Deferred<R, A>)>,
}

impl<R, A> Default for Outbox<R, A> {
    fn default() -> Self {
        Self {
            durable: Position::default(),
            effects: Effects::default(),
            deferred: VecDeque::new(),
        }
    }
}

impl<R, A> Outbox<R, A> {
    /// Appends `entry` to the shard's log.
    pub(crate) fn emit(&mut self, entry: Result<impl Into<Entry>, EncodeError>) {
        self.effects.position.0 += 1;
        match entry {
            Ok(entry) => self.effects.entries.push(entry.into()),
            Err(error) => self.effects.broken = Some(error),
        }
    }

    /// How many entries wait to be taken.
    pub(crate) fn pending(&self) -> usize {
        self.effects.entries.len()
    }

    /// After the last entry that was emitted.
    pub(crate) fn position(&self) -> Position {
        self.effects.position
    }

    /// Up to where everything is durable.
    pub(crate) fn durable_to(&self) -> Position {
        self.durable
    }

    /// Records that were emitted since there were `from` entries hold together: none of them is durable without the
    /// others.
    pub(crate) fn together(&mut self, from: usize) {
        let entries = &mut self.effects.entries;
        let are_records = |entries: &[Entry]| {
            let mut entries = entries.iter();
            entries.all(|entry| matches!(entry, Entry::Record(_)))
        };
        if entries.len() < from + 2 || !are_records(&entries[from..]) {
            return;
        }
        let records = entries.drain(from..).filter_map(|entry| match entry {
            Entry::Record(record) => Some(record),
            _ => None,
        });
        let records = records.collect();
        entries.push(Entry::Together(records));
    }

    /// Replies without regard to what is stored: for what no crash can make untrue.
    pub(crate) fn reply(&mut self, call: CallId, response: R) {
        self.effects.replies.push(Reply { call, response });
    }

    /// Replies once everything emitted so far is durable.
    pub(crate) fn reply_when_durable(&mut self, call: CallId, response: R) {
        self.when_durable(Deferred::Reply(Reply { call, response }));
    }

    /// Acts once everything emitted so far is durable.
    pub(crate) fn act_when_durable(&mut self, action: A) {
        self.when_durable(Deferred::Action(action));
    }

    fn when_durable(&mut self, what: Deferred<R, A>) {
        if self.effects.position <= self.durable {
            self.release(what);
        } else {
            self.deferred.push_back((self.effects.position, what));
        }
    }

    fn release(&mut self, what: Deferred<R, A>) {
        match what {
            Deferred::Reply(reply) => self.effects.replies.push(reply),
            Deferred::Action(action) => self.effects.actions.push(action),
        }
    }

    /// Everything up to `position` is durable: what waited for it goes out.
    pub(crate) fn durable(&mut self, position: Position) {
        debug_assert!(
            position <= self.effects.position,
            "only what was emitted can be durable"
        );
        self.durable = self.durable.max(position);
        while self
            .deferred
            .front()
            .is_some_and(|(needed, _)| *needed <= self.durable)
        {
            if let Some((_, what)) = self.deferred.pop_front() {
                self.release(what);
            }
        }
    }

    /// How many replies wait for the disk.
    #[cfg(test)]
    pub(crate) fn deferred(&self) -> usize {
        self.deferred.len()
    }

    /// Hands over what has gathered.
    pub(crate) fn take(&mut self) -> Effects<R, A> {
        let position = self.effects.position;
        std::mem::replace(
            &mut self.effects,
            Effects {
                position,
                ..Effects::default()
            },
        )
    }
}

/// What a group needs to know and may do while it handles one request or one timer.
pub(crate) struct Turn<'a> {
    pub(crate) config: &'a Config,
    pub(crate) cluster: &'a dyn Cluster,
    pub(crate) now: Now,
    pub(crate) out: &'a mut Outbox,
}

impl Turn<'_> {
    /// The group's settings.
    pub(crate) fn group_settings(&self, group: &GroupId) -> GroupSettings {
        self.cluster.group_settings(group.as_str())
    }
}

/// Whether the record can be stored in one batch.
pub(crate) fn fits(record: &Result<StoredRecord, EncodeError>, config: &Config) -> bool {
    record
        .as_ref()
        .is_ok_and(|record| record.bytes() <= config.record_bytes_max)
}
