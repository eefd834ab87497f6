//! The coordinator of one shard: all groups of one partition of `__consumer_offsets`.
//!
//! Owns the groups, the list of when each wants to be woken, and the replies that wait. Does no I/O: its caller appends
//! the records it emits in their order, tells it what is durable, wakes it at its deadline, and carries its replies.
//! What always holds: every call is answered exactly once while the coordinator lives; when it is dropped (the shard
//! moved, or an append failed) its caller answers those that are left.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weir_wire::TopicId;

mod consumer;
mod reset;
mod share;

use crate::classic::{nobody_left, refuse};
use crate::cluster::{Cluster, NoCluster};
use crate::config::Config;
use crate::error::GroupError;
use crate::group::{Group, Kind};
use crate::machine::{Entry, Marker};
use crate::offsets::{nothing_committed, refuse_commit};
use crate::outbox::{Effects, Outbox, Turn};
use crate::pending::Producers;
use crate::request::{
    CommitRequest, Description, InTransaction, JoinRequest, ListRequest, Request, Response,
    TopicRef,
};
use crate::transactions::Version;
use crate::types::{CallId, Generation, GroupId, InstanceId, MonoMs, Now, Position};

/// The groups of one shard, loaded and ready.
#[derive(Debug)]
pub struct Coordinator {
    config: Config,
    cluster: Arc<dyn Cluster>,
    knows_cluster: bool,
    groups: BTreeMap<GroupId, Group>,
    producers: Producers,
    wakes: BTreeSet<(MonoMs, GroupId)>,
    next_check: MonoMs,
    out: Outbox,
}

impl Coordinator {
    /// A coordinator with what was loaded; see [`Loader`](crate::Loader).
    pub(crate) fn with_groups(
        config: Config,
        groups: BTreeMap<GroupId, Group>,
        producers: Producers,
        now: Now,
    ) -> Self {
        let next_check = now.mono.after(config.offsets_check_interval_ms);
        Self {
            config,
            cluster: Arc::new(NoCluster),
            knows_cluster: false,
            groups,
            producers,
            wakes: BTreeSet::new(),
            next_check,
            out: Outbox::default(),
        }
    }

    /// What is known of the cluster from now on. Costs nothing: each request may bring it. With the first, groups that were loaded go on: it tells how
    /// long their members may be silent.
    pub fn set_cluster(&mut self, cluster: Arc<dyn Cluster>, now: Now) {
        // Requests that were made at the same time may come in another order.
        if cluster.revision() >= self.cluster.revision() {
            self.cluster = cluster;
        }
        if std::mem::replace(&mut self.knows_cluster, true) {
            return;
        }
        let ids: Vec<GroupId> = self.groups.keys().cloned().collect();
        for id in ids {
            self.with(&id, now, |group, turn| group.kind.resume(turn));
        }
    }

    /// Handles a request. The answer comes with some later [`Coordinator::take_effects`].
    pub fn handle(&mut self, call: CallId, request: Request, now: Now) {
        match request {
            Request::Join(request) => self.join(call, request, now),
            Request::Commit(request) => self.commit(call, request, None, now),
            Request::CommitInTransaction(request, transaction) => {
                self.commit(call, request, Some(transaction), now);
            }
            Request::MarkersSeen => {
                let seen = Response::MarkersSeen(self.producers.markers());
                self.out.reply(call, seen);
            }
            Request::EndTransaction(marker, version) => {
                self.end_transaction(call, marker, version, now);
            }
            Request::Sync(request) => {
                let known = |group: &mut Group, turn: &mut Turn<'_>, request| {
                    group.sync(turn, call, request)
                };
                self.of_member(&request.group.clone(), now, request, known, |error| {
                    (call, Response::Sync(Err(error)))
                });
            }
            Request::Heartbeat(request) => {
                let known = |group: &mut Group, turn: &mut Turn<'_>, request| {
                    group.heartbeat(turn, call, &request)
                };
                self.of_member(&request.group.clone(), now, request, known, |error| {
                    (call, Response::Heartbeat(Err(error)))
                });
            }
            Request::Leave(request) if request.group.is_empty() => {
                self.out
                    .reply(call, Response::Leave(Err(GroupError::InvalidGroupId)));
            }
            Request::Leave(request) => match self.groups.contains_key(&request.group) {
                true => self.with(&request.group.clone(), now, |group, turn| {
                    group.leave(turn, call, request)
                }),
                false => self.out.reply(call, nobody_left(request)),
            },
            Request::ConsumerHeartbeat(request) => self.heartbeat_consumer(call, &request, now),
            Request::ShareHeartbeat(request) => self.heartbeat_share(call, &request, now),
            Request::Fetch(request) => match self.groups.contains_key(&request.group) {
                true => self.with(&request.group.clone(), now, |group, turn| {
                    group.fetch(turn, call, request)
                }),
                false => self
                    .out
                    .reply_when_durable(call, nothing_committed(request)),
            },
            Request::DeleteOffsets(request) => match self.groups.contains_key(&request.group) {
                true => self.with(&request.group.clone(), now, |group, turn| {
                    group.delete_offsets(turn, call, request)
                }),
                false => {
                    let missing = Response::DeleteOffsets(Err(GroupError::GroupIdNotFound));
                    self.out.reply_when_durable(call, missing);
                }
            },
            Request::Reset(request) => self.reset(call, &request, now),
            Request::DeleteGroup(id) => self.delete_group(call, &id, now),
            Request::Describe(id) => {
                let found = self
                    .groups
                    .get(&id)
                    .map(|group| {
                        let settings = self.cluster.group_settings(id.as_str());
                        Description {
                            consumption: group.kind.consumption(settings.is_paused),
                            ..group.kind.describe()
                        }
                    })
                    .ok_or(GroupError::GroupIdNotFound);
                self.out.reply_when_durable(call, Response::Describe(found));
            }
            Request::DescribeConsumer(id) => self.describe_consumer(call, &id),
            Request::DescribeShare(id) => self.describe_share(call, &id),
            Request::ChangeShareStates(request) => self.change_share_states(call, &request, now),
            Request::List(request) => self.list(call, &request),
            Request::ForgetTopics(topics) => self.forget_topics(call, &topics, now),
            Request::ForgetAbsentTopics => {
                let absent = self.absent_topics();
                self.forget_topics(call, &absent, now);
            }
        }
    }

    /// Everything up to `position` is durable.
    pub fn durable(&mut self, position: Position) {
        self.out.durable(position);
    }

    /// Acts on every deadline that has passed.
    pub fn tick(&mut self, now: Now) {
        while let Some((at, id)) = self.wakes.first().cloned() {
            if at > now.mono {
                break;
            }
            self.wakes.pop_first();
            if let Some(group) = self.groups.get_mut(&id) {
                group.listed_at = None;
            }
            self.with(&id, now, |group, turn| group.tick(turn));
        }
        if self.next_check <= now.mono {
            self.expire(now);
        }
    }

    /// When to call [`Coordinator::tick`] next. Never later than the true next deadline, sometimes earlier.
    #[must_use]
    pub fn next_deadline(&self) -> MonoMs {
        self.wakes
            .first()
            .map_or(self.next_check, |(at, _)| self.next_check.min(*at))
    }

    /// What is to be done since the last time.
    pub fn take_effects(&mut self) -> Effects {
        self.out.take()
    }

    /// How many groups there are.
    #[must_use]
    pub fn group_count(&self) -> usize {
        self.groups.len()
    }

    /// How many replies wait for the disk.
    #[cfg(test)]
    pub(crate) fn deferred(&self) -> usize {
        self.out.deferred()
    }

    /// The groups, for tests that compare them.
    #[cfg(test)]
    pub(crate) fn groups_for_tests(&self) -> &BTreeMap<GroupId, Group> {
        &self.groups
    }

    fn join(&mut self, call: CallId, request: JoinRequest, now: Now) {
        let id = request.group.clone();
        let allowed = self.config.session_timeout_ms_min..=self.config.session_timeout_ms_max;
        let problem = if id.is_empty() || id.len() > self.config.name_bytes_max {
            Some(GroupError::InvalidGroupId)
        } else if has_long_names(&request, self.config.name_bytes_max) {
            Some(GroupError::InvalidRequest)
        } else if !allowed.contains(&request.session_timeout_ms) {
            Some(GroupError::InvalidSessionTimeout)
        } else if self.groups.contains_key(&id) {
            None
        } else if !request.member.is_empty() {
            Some(GroupError::UnknownMember)
        } else {
            self.create(&id).err()
        };
        match problem {
            Some(error) => refuse(&mut self.out, call, request.member, error),
            None => self.with(&id, now, |group, turn| group.join(turn, call, request)),
        }
    }

    fn commit(
        &mut self,
        call: CallId,
        request: CommitRequest,
        transaction: Option<InTransaction>,
        now: Now,
    ) {
        let id = request.group.clone();
        let fenced = transaction.and_then(|wanted| self.producers.check_batch(&wanted).err());
        let problem = if fenced.is_some() {
            fenced
        } else if id.len() > self.config.name_bytes_max {
            Some(GroupError::InvalidGroupId)
        } else if self.groups.contains_key(&id) {
            None
        } else if request.generation < Generation(0) {
            self.create(&id).err()
        } else if request.tells_missing_group {
            Some(GroupError::GroupIdNotFound)
        } else {
            Some(GroupError::IllegalGeneration)
        };
        match problem {
            Some(error) => self.out.reply(call, refuse_commit(request, error)),
            None => {
                let producer = transaction.map(|transaction| transaction.producer);
                self.with(&id, now, |group, turn| {
                    group.commit(turn, call, request, producer);
                });
                let is_pending = self
                    .groups
                    .get(&id)
                    .is_some_and(|group| !group.pending.is_empty());
                if let Some(producer) = producer.filter(|_| is_pending) {
                    self.producers.wrote(producer, &id);
                }
            }
        }
    }

    fn end_transaction(&mut self, call: CallId, marker: Marker, version: Version, now: Now) {
        let outcome = self.producers.check_marker(&marker, version);
        if outcome.is_ok() {
            self.out.emit(Ok(Entry::Marker(marker, version)));
            for id in self.producers.ended(&marker) {
                self.with(&id, now, |group, _| {
                    group.end_transaction(marker.producer.id, marker.outcome);
                });
            }
        }
        self.out
            .reply_when_durable(call, Response::EndTransaction(outcome));
    }

    fn create(&mut self, id: &GroupId) -> Result<(), GroupError> {
        if self.groups.len() >= self.config.groups_max {
            return Err(GroupError::BoundReached);
        }
        self.groups.insert(id.clone(), Group::new(id.clone()));
        Ok(())
    }

    fn delete_group(&mut self, call: CallId, id: &GroupId, now: Now) {
        let mut outcome = Err(GroupError::GroupIdNotFound);
        self.with(id, now, |group, turn| outcome = group.delete(turn));
        if outcome.is_ok() {
            self.forget(id);
        }
        self.out
            .reply_when_durable(call, Response::DeleteGroup(outcome));
    }

    fn list(&mut self, call: CallId, request: &ListRequest) {
        let listed = self
            .groups
            .values()
            .filter_map(|group| group.list(request))
            .collect();
        self.out.reply_when_durable(call, Response::List(listed));
    }

    /// Topics that groups know and the cluster does not have. An image that is behind the one on which they were stored must
    /// not come here: who leads a shard has seen all that its leaders before it had seen.
    fn absent_topics(&self) -> Vec<TopicRef> {
        let known = self.groups.values().flat_map(Group::topics);
        let known: BTreeSet<TopicRef> = known.collect();
        let is_absent = |topic: &TopicRef| match topic.id {
            TopicId::ZERO => self.cluster.topic(&topic.name).is_none(),
            id => self.cluster.topic_by_id(id).is_none(),
        };
        known.into_iter().filter(is_absent).collect()
    }

    fn forget_topics(&mut self, call: CallId, topics: &[TopicRef], now: Now) {
        let ids: Vec<GroupId> = self.groups.keys().cloned().collect();
        let mut dropped = 0;
        for id in ids {
            self.with(&id, now, |group, turn| {
                if let Kind::Share(share) = &mut group.kind {
                    for topic in topics {
                        share.forget_topic(turn, topic.id);
                    }
                }
                dropped += topics
                    .iter()
                    .map(|topic| group.forget_topic(turn, topic))
                    .sum::<usize>();
            });
        }
        self.out
            .reply_when_durable(call, Response::ForgetTopics(dropped));
    }

    fn expire(&mut self, now: Now) {
        let mut budget = self.config.expired_per_check_max;
        let ids: Vec<GroupId> = self.groups.keys().cloned().collect();
        for id in ids {
            let mut is_over = false;
            self.with(&id, now, |group, turn| {
                is_over = group.expire(turn, &mut budget)
            });
            if is_over {
                self.forget(&id);
            }
        }
        // With the budget used up there may be more: the next turn goes on, after whoever waits.
        let wait_ms = if budget == 0 {
            0
        } else {
            self.config.offsets_check_interval_ms
        };
        self.next_check = now.mono.after(wait_ms);
    }

    /// A request that only members of an existing group may make.
    fn of_member<R>(
        &mut self,
        id: &GroupId,
        now: Now,
        request: R,
        known: impl FnOnce(&mut Group, &mut Turn<'_>, R),
        refused: impl FnOnce(GroupError) -> (CallId, Response),
    ) {
        let error = if id.is_empty() {
            GroupError::InvalidGroupId
        } else {
            GroupError::UnknownMember
        };
        if self.groups.contains_key(id) && !id.is_empty() {
            self.with(id, now, |group, turn| {
                known(group, turn, request);
            });
        } else {
            let (call, response) = refused(error);
            self.out.reply(call, response);
        }
    }

    /// Lets `act` change a group, then lists its next deadline, or forgets it if nothing is left of it.
    fn with(&mut self, id: &GroupId, now: Now, act: impl FnOnce(&mut Group, &mut Turn<'_>)) {
        let Some(group) = self.groups.get_mut(id) else {
            return;
        };
        let pending = self.out.pending();
        act(
            group,
            &mut Turn {
                config: &self.config,
                cluster: &*self.cluster,
                now,
                out: &mut self.out,
            },
        );
        // One decision is one change, also to who loads the log after a crash.
        self.out.together(pending);
        if group.is_blank() {
            return self.forget(id);
        }
        let wake_at = group.kind.wake_at();
        if group.listed_at != wake_at {
            if let Some(at) = group.listed_at {
                self.wakes.remove(&(at, id.clone()));
            }
            if let Some(at) = wake_at {
                self.wakes.insert((at, id.clone()));
            }
            group.listed_at = wake_at;
        }
    }

    fn forget(&mut self, id: &GroupId) {
        if let Some(group) = self.groups.remove(id)
            && let Some(at) = group.listed_at
        {
            self.wakes.remove(&(at, id.clone()));
        }
    }
}

/// Whether a name of the request is longer than the stored format allows.
fn has_long_names(request: &JoinRequest, bytes_max: usize) -> bool {
    let protocols = request.protocols.iter().map(|protocol| protocol.name.len());
    let names = [
        request.client_id.len(),
        request.client_host.len(),
        request.protocol_type.len(),
    ];
    let instance = request.instance.as_ref().map_or(0, InstanceId::len);
    names
        .into_iter()
        .chain(protocols)
        .chain([instance])
        .any(|bytes| bytes > bytes_max)
}
