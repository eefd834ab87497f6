//! What may be asked of a coordinator, and what it answers: Kafka's requests without their versions and encodings.
//!
//! Handlers translate to and from these and decide nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use weir_wire::{LeaderEpoch, Offset, PartitionIndex, TopicId};

use crate::error::GroupError;
use crate::machine::{Marker, Producer};
use crate::modern::{Epoch, Partitions, TopicPartition};
use crate::transactions::Version;
use crate::types::{CallId, Generation, GroupId, InstanceId, MemberId};

/// A request to the coordinator of its group.
#[derive(Clone, Debug)]
pub enum Request {
    /// JoinGroup.
    Join(JoinRequest),
    /// SyncGroup.
    Sync(SyncRequest),
    /// Heartbeat.
    Heartbeat(HeartbeatRequest),
    /// LeaveGroup.
    Leave(LeaveRequest),
    /// ConsumerGroupHeartbeat.
    ConsumerHeartbeat(ConsumerHeartbeatRequest),
    /// ShareGroupHeartbeat.
    ShareHeartbeat(ShareHeartbeatRequest),
    /// OffsetCommit.
    Commit(CommitRequest),
    /// TxnOffsetCommit.
    CommitInTransaction(CommitRequest, InTransaction),
    /// How many markers the shard has seen: to be asked before a transaction is verified.
    MarkersSeen,
    /// WriteTxnMarkers: a transaction has ended.
    EndTransaction(Marker, Version),
    /// OffsetFetch, for one group.
    Fetch(FetchRequest),
    /// OffsetDelete.
    DeleteOffsets(DeleteOffsetsRequest),
    /// The group's offsets are set from outside, while its members are fenced.
    Reset(ResetRequest),
    /// DeleteGroups, for one group.
    DeleteGroup(GroupId),
    /// What every type of group can tell, for one group.
    Describe(GroupId),
    /// ConsumerGroupDescribe, for one group.
    DescribeConsumer(GroupId),
    /// ShareGroupDescribe, for one group.
    DescribeShare(GroupId),
    /// Which partitions have a state, set from outside.
    ChangeShareStates(ChangeShareStates),
    /// ListGroups, for one shard.
    List(ListRequest),
    /// The topics are gone for ever: their offsets go too, so that topics of the same names begin anew.
    ForgetTopics(Vec<TopicRef>),
    /// As [`ForgetTopics`](Self::ForgetTopics), for all topics that the cluster does not have: what went while nobody
    /// coordinated the groups. Answered as that is.
    ForgetAbsentTopics,
}

/// The answer to the [`Request`] of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// Who the member is, in which generation.
    Join(Result<Joined, JoinRefused>),
    /// What the member owns.
    Sync(Result<Synced, GroupError>),
    /// Whether the member is still what it believes to be.
    Heartbeat(Result<(), GroupError>),
    /// For each member that was to leave.
    Leave(Result<Vec<Left>, GroupError>),
    /// What the member is to have.
    ConsumerHeartbeat(Result<Beat, GroupError>),
    /// What the member is to have.
    ShareHeartbeat(Result<Beat, GroupError>),
    /// For each partition.
    Commit(Vec<CommittedTopic>),
    /// How many markers the shard has seen.
    MarkersSeen(u64),
    /// Whether the marker is written.
    EndTransaction(Result<(), GroupError>),
    /// The group's offsets.
    Fetch(Result<Vec<FetchedTopic>, GroupError>),
    /// For each partition.
    DeleteOffsets(Result<Vec<CommittedTopic>, GroupError>),
    /// What has come of it.
    Reset(Result<ResetOutcome, GroupError>),
    /// Whether the group is gone.
    DeleteGroup(Result<(), GroupError>),
    /// The group as it is.
    Describe(Result<Description, GroupError>),
    /// The consumer group as it is.
    DescribeConsumer(Result<ConsumerDescription, GroupError>),
    /// The share group as it is.
    DescribeShare(Result<ShareDescription, GroupError>),
    /// Whether they may be changed, and are.
    ChangeShareStates(Result<(), GroupError>),
    /// The shard's groups.
    List(Vec<Listing>),
    /// How many offsets were dropped.
    ForgetTopics(usize),
}

/// A reply, due now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply<R = Response> {
    /// Whose.
    pub call: CallId,
    /// What.
    pub response: R,
}

/// A topic by name, and by id where the request or the broker's metadata knows it ([`TopicId::ZERO`] otherwise).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopicRef {
    /// The name, under which offsets are kept.
    pub name: String,
    /// Tells a topic from an earlier one of the same name.
    pub id: TopicId,
}

/// One way to assign partitions that a member can follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// The assignor's name.
    pub name: String,
    /// The member's subscription, for the leader's eyes.
    pub metadata: Bytes,
}

/// A member that wants to be in the group's next generation.
#[derive(Clone, Debug)]
pub struct JoinRequest {
    /// The group.
    pub group: GroupId,
    /// Empty for a member that has none yet.
    pub member: MemberId,
    /// Set for static members.
    pub instance: Option<InstanceId>,
    /// The connection's client id, for descriptions and new member ids.
    pub client_id: String,
    /// The client's address, for descriptions.
    pub client_host: String,
    /// How long it may be silent.
    pub session_timeout_ms: i32,
    /// How long it may take to rejoin. Not bounded above: it is `max.poll.interval.ms`, which applications that work
    /// long on one poll set to hours. Negative (version 0): the session timeout.
    pub rebalance_timeout_ms: i32,
    /// `consumer`, `connect`, ...
    pub protocol_type: String,
    /// In the member's order of preference.
    pub protocols: Vec<Protocol>,
    /// Version 4 and later: a dynamic member gets its id first (KIP-394).
    pub member_id_required: bool,
    /// Version 9 and later: a static leader that came back may be told not to assign (KIP-814).
    pub can_skip_assignment: bool,
    /// Text that no other join carries, for the id of a new member.
    pub unique: String,
}

/// A member's place in a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The group's new generation.
    pub generation: Generation,
    /// The protocol type of the group.
    pub protocol_type: Option<String>,
    /// The assignor that all members know and most prefer.
    pub protocol: Option<String>,
    /// Who assigns.
    pub leader: MemberId,
    /// The leader need not assign: the last assignment stands.
    pub skip_assignment: bool,
    /// The member's own id.
    pub member: MemberId,
    /// All members, for the leader; none for the others.
    pub members: Vec<JoinedMember>,
}

/// A member as the leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    /// Its id.
    pub member: MemberId,
    /// Set for static members.
    pub instance: Option<InstanceId>,
    /// Its subscription under the chosen protocol.
    pub metadata: Bytes,
}

/// A join that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinRefused {
    /// Why.
    pub error: GroupError,
    /// The id that the member had, or is to come back with.
    pub member: MemberId,
}

/// A member that asks for its assignment; the leader brings everyone's.
#[derive(Clone, Debug)]
pub struct SyncRequest {
    /// The group.
    pub group: GroupId,
    /// The member.
    pub member: MemberId,
    /// Set for static members.
    pub instance: Option<InstanceId>,
    /// The generation that it joined.
    pub generation: Generation,
    /// Checked when given (version 5).
    pub protocol_type: Option<String>,
    /// Checked when given (version 5).
    pub protocol: Option<String>,
    /// From the leader; empty from others.
    pub assignments: Vec<(MemberId, Bytes)>,
}

/// What a member owns in the current generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synced {
    /// The protocol type of the group.
    pub protocol_type: Option<String>,
    /// The assignor in use.
    pub protocol: Option<String>,
    /// As the leader encoded it.
    pub assignment: Bytes,
}

/// A sign of life.
#[derive(Clone, Debug)]
pub struct HeartbeatRequest {
    /// The group.
    pub group: GroupId,
    /// The member.
    pub member: MemberId,
    /// Set for static members.
    pub instance: Option<InstanceId>,
    /// The generation that it believes to be in.
    pub generation: Generation,
}

/// A heartbeat of the consumer protocol. What is absent is as the member said last.
#[derive(Clone, Debug)]
pub struct ConsumerHeartbeatRequest {
    /// The group.
    pub group: GroupId,
    /// The member, which chooses its id itself.
    pub member: MemberId,
    /// Its epoch, or one of those that say that it joins or leaves.
    pub epoch: Epoch,
    /// Set for static members.
    pub instance: Option<InstanceId>,
    /// Where it runs.
    pub rack: Option<String>,
    /// How long it may take to give up partitions.
    pub rebalance_timeout_ms: Option<i32>,
    /// The connection's client id, for descriptions.
    pub client_id: String,
    /// The client's address, for descriptions.
    pub client_host: String,
    /// Topics that it subscribes to by name.
    pub topics: Option<BTreeSet<String>>,
    /// Matches further topics; empty for none.
    pub regex: Option<String>,
    /// The assignor that it prefers.
    pub assignor: Option<String>,
    /// What it owns now.
    pub owned: Option<Partitions>,
}

impl ConsumerHeartbeatRequest {
    /// Whether it says everything, and so wants to hear everything.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let subscribes = self.topics.is_some() || self.regex.is_some();
        self.rebalance_timeout_ms.is_some() && subscribes && self.owned.is_some()
    }
}

/// A heartbeat of the share protocol. What is absent is as the member said last.
#[derive(Clone, Debug)]
pub struct ShareHeartbeatRequest {
    /// The group.
    pub group: GroupId,
    /// The member, which chooses its id itself.
    pub member: MemberId,
    /// Its epoch, or one of those that say that it joins or leaves.
    pub epoch: Epoch,
    /// Where it runs.
    pub rack: Option<String>,
    /// The connection's client id, for descriptions.
    pub client_id: String,
    /// The client's address, for descriptions.
    pub client_host: String,
    /// Topics that it subscribes to.
    pub topics: Option<BTreeSet<String>>,
}

/// Partitions whose states come or go, of a share group that nobody is a member of.
#[derive(Clone, Debug)]
pub struct ChangeShareStates {
    /// The group.
    pub group: GroupId,
    /// These come.
    pub add: Vec<TopicPartition>,
    /// All of these topics go.
    pub remove: Vec<TopicId>,
}

/// The answer to a heartbeat of the consumer or the share protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    /// The member.
    pub member: MemberId,
    /// Its epoch from now on.
    pub epoch: Epoch,
    /// How soon the next heartbeat is due.
    pub interval_ms: i32,
    /// What it may have; absent when that has not changed.
    pub assignment: Option<Partitions>,
}

/// Members that leave.
#[derive(Clone, Debug)]
pub struct LeaveRequest {
    /// The group.
    pub group: GroupId,
    /// Who leaves.
    pub members: Vec<Leaving>,
}

/// One member that leaves: by id, or a static one by instance alone (an administrator removes it).
#[derive(Clone, Debug)]
pub struct Leaving {
    /// May be empty when `instance` is set.
    pub member: MemberId,
    /// Set for static members.
    pub instance: Option<InstanceId>,
}

/// What came of one member's leaving.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// As requested.
    pub member: MemberId,
    /// As requested.
    pub instance: Option<InstanceId>,
    /// Whether it has left.
    pub outcome: Result<(), GroupError>,
}

/// Offsets to keep.
#[derive(Clone, Debug)]
pub struct CommitRequest {
    /// The group.
    pub group: GroupId,
    /// Empty when no member commits.
    pub member: MemberId,
    /// Set for static members.
    pub instance: Option<InstanceId>,
    /// [`Generation::NONE`] when no member commits.
    pub generation: Generation,
    /// Versions 2 to 4 may say for how long, in milliseconds.
    pub retention_ms: Option<i64>,
    /// What to say when the group does not exist: version 9 and later tell that apart from a wrong generation.
    pub tells_missing_group: bool,
    /// The offsets.
    pub topics: Vec<CommitTopic>,
}

/// The transaction that offsets are committed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InTransaction {
    /// Whose. Its coordinator has said that the group's partition is part of it.
    pub producer: Producer,
    /// How the producer speaks.
    pub version: Version,
    /// The answer to [`Request::MarkersSeen`] from before the coordinator was asked.
    pub markers_seen: u64,
}

/// Offsets of one topic to keep.
#[derive(Clone, Debug)]
pub struct CommitTopic {
    /// The topic.
    pub topic: TopicRef,
    /// Its partitions.
    pub partitions: Vec<CommitPartition>,
}

/// One offset to keep.
#[derive(Clone, Debug)]
pub struct CommitPartition {
    /// The partition.
    pub partition: PartitionIndex,
    /// The next offset that the group will read.
    pub offset: Offset,
    /// Of the last record read.
    pub leader_epoch: LeaderEpoch,
    /// Anything that the client wants to find again.
    pub metadata: String,
}

/// What came of each partition of a commit or a deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedTopic {
    /// The topic.
    pub topic: TopicRef,
    /// In the order of the request.
    pub partitions: Vec<(PartitionIndex, Result<(), GroupError>)>,
}

/// Offsets to look up.
#[derive(Clone, Debug)]
pub struct FetchRequest {
    /// The group.
    pub group: GroupId,
    /// The member of a consumer group that asks, when one does.
    pub member: Option<MemberId>,
    /// Its epoch; [`Epoch::LEAVING`] when no member asks.
    pub epoch: Epoch,
    /// Absent: all that the group has.
    pub topics: Option<Vec<(TopicRef, Vec<PartitionIndex>)>>,
}

/// Offsets of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedTopic {
    /// The topic, as in the request.
    pub topic: TopicRef,
    /// `None` where nothing is committed.
    pub partitions: Vec<(PartitionIndex, Option<CommittedOffset>)>,
    /// Those that a transaction which has not ended yet may change.
    pub unstable: BTreeSet<PartitionIndex>,
}

/// A group's place in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next offset that the group will read.
    pub offset: Offset,
    /// Of the last record read, or [`LeaderEpoch::NONE`].
    pub leader_epoch: LeaderEpoch,
    /// What the client left with it.
    pub metadata: Box<str>,
    /// When it was committed, milliseconds since 1970.
    pub committed_at_ms: i64,
    /// When it goes, for the few clients that say so.
    pub expires_at_ms: Option<i64>,
    /// The topic's id at that time, or [`TopicId::ZERO`].
    pub topic_id: TopicId,
}

/// Offsets to drop.
#[derive(Clone, Debug)]
pub struct DeleteOffsetsRequest {
    /// The group.
    pub group: GroupId,
    /// The partitions.
    pub topics: Vec<(TopicRef, Vec<PartitionIndex>)>,
}

/// Offsets to set from outside.
#[derive(Clone, Debug)]
pub struct ResetRequest {
    /// The group; it is made when there is none.
    pub group: GroupId,
    /// What keeps it from being carried out twice.
    pub once: Once,
    /// Tell what would come of it, and change nothing.
    pub dry_run: bool,
    /// What is to be set, each partition once.
    pub partitions: Vec<ResetPartition>,
}

/// What keeps offsets from being set twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Once {
    /// The request's name: one of the same name is carried out once, and members are fenced.
    Named(String),
    /// What is there: the group begins in topics that it has no offset of, while it has no members. Others stay as they are, and so do topics that an
    /// open transaction would commit an offset of.
    WhereNew,
}

/// One offset to set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResetPartition {
    /// The topic.
    pub topic: TopicRef,
    /// The partition.
    pub partition: PartitionIndex,
    /// Where the group goes.
    pub to: ResetTo,
}

/// Where a group goes in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetTo {
    /// To this offset.
    Offset(Offset),
    /// So many offsets from where it is, within the partition.
    Shift {
        /// How far; back when negative.
        by: i64,
        /// The partition's first offset.
        start: Offset,
        /// One past its last.
        end: Offset,
    },
}

/// What has come of a request to set offsets, or would.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResetOutcome {
    /// It was carried out before, at that time in milliseconds since 1970. Nothing has changed now.
    Before {
        /// When.
        at_ms: i64,
    },
    /// It is carried out, or may be.
    Done {
        /// When, in milliseconds since 1970.
        at_ms: i64,
        /// How many members were fenced.
        members: u32,
        /// In the order of the request.
        places: Vec<ResetPlace>,
    },
}

/// A group's place in one partition, before and after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResetPlace {
    /// The topic.
    pub topic: TopicRef,
    /// The partition.
    pub partition: PartitionIndex,
    /// Absent where nothing was committed.
    pub before: Option<Offset>,
    /// Absent where there is nothing to go from.
    pub after: Option<Offset>,
}

/// Which groups to list. Empty lists filter nothing.
#[derive(Clone, Debug, Default)]
pub struct ListRequest {
    /// Names of states, in any case.
    pub states: Vec<String>,
    /// Names of types, in any case.
    pub types: Vec<String>,
}

/// The protocol that a group's members follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupType {
    /// Members assign; also of a group that only keeps offsets.
    Classic,
    /// The coordinator assigns (KIP-848).
    Consumer,
    /// Members share partitions (KIP-932).
    Share,
}

impl GroupType {
    /// Kafka's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Consumer => "consumer",
            Self::Share => "share",
        }
    }
}

/// State of a group, as Kafka names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupState {
    /// No members; offsets may be there.
    Empty,
    /// Waiting for members to join.
    PreparingRebalance,
    /// Waiting for the leader's assignment.
    CompletingRebalance,
    /// The coordinator is to compute an assignment.
    Assigning,
    /// Members are on their way to their assignment.
    Reconciling,
    /// Every member can know what it owns.
    Stable,
    /// There is no such group.
    Dead,
}

impl GroupState {
    /// Kafka's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Assigning => "Assigning",
            Self::Reconciling => "Reconciling",
            Self::Stable => "Stable",
            Self::Dead => "Dead",
        }
    }
}

/// A group as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The group.
    pub group: GroupId,
    /// Its type.
    pub kind: GroupType,
    /// Its state.
    pub state: GroupState,
    /// Empty for a group that only keeps offsets.
    pub protocol_type: String,
    /// The assignor in use, while the group is stable.
    pub protocol: String,
    /// The members.
    pub members: Vec<MemberDescription>,
    /// Whether they read.
    pub consumption: Consumption,
}

/// Whether the members of a group read, as far as the coordinator has a say in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consumption {
    /// Nothing keeps them from it.
    #[default]
    Running,
    /// The group is paused, and members still have partitions to give up.
    Pausing,
    /// The group is paused, and no member has a partition.
    Paused,
    /// The group is to be paused, and its members' protocol cannot be spoken for.
    NotPausable,
}

impl Consumption {
    /// As the operator reads it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "Running",
            Self::Pausing => "Pausing",
            Self::Paused => "Paused",
            Self::NotPausable => "NotPausable",
        }
    }
}

/// A member as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberDescription {
    /// Its id.
    pub member: MemberId,
    /// Set for static members.
    pub instance: Option<InstanceId>,
    /// The client id of its connection.
    pub client_id: String,
    /// Its address.
    pub client_host: String,
    /// Its subscription, while the group is stable.
    pub metadata: Bytes,
    /// What it owns, while the group is stable.
    pub assignment: Bytes,
}

/// A consumer group as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerDescription {
    /// The group.
    pub group: GroupId,
    /// Its state.
    pub state: GroupState,
    /// Its epoch.
    pub epoch: Epoch,
    /// The epoch of the target assignment.
    pub assignment_epoch: Epoch,
    /// The assignor in use.
    pub assignor: String,
    /// The members.
    pub members: Vec<ConsumerMemberDescription>,
}

/// A member of a consumer group as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerMemberDescription {
    /// Its id.
    pub member: MemberId,
    /// Set for static members.
    pub instance: Option<InstanceId>,
    /// Where it runs.
    pub rack: Option<String>,
    /// Its epoch.
    pub epoch: Epoch,
    /// The client id of its connection.
    pub client_id: String,
    /// Its address.
    pub client_host: String,
    /// Topics that it subscribes to by name.
    pub topics: Vec<String>,
    /// Matches further topics.
    pub regex: Option<String>,
    /// What it has.
    pub assignment: Vec<AssignedTopic>,
    /// What it is to have.
    pub target: Vec<AssignedTopic>,
    /// It speaks the classic protocol.
    pub is_classic: bool,
}

/// A share group as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareDescription {
    /// The group.
    pub group: GroupId,
    /// Its state.
    pub state: GroupState,
    /// Its epoch.
    pub epoch: Epoch,
    /// The epoch of the target assignment.
    pub assignment_epoch: Epoch,
    /// The assignor in use.
    pub assignor: String,
    /// The members.
    pub members: Vec<ShareMemberDescription>,
    /// Partitions that have a state.
    pub states: Vec<AssignedTopic>,
}

/// A member of a share group as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareMemberDescription {
    /// Its id.
    pub member: MemberId,
    /// Where it runs.
    pub rack: Option<String>,
    /// Its epoch.
    pub epoch: Epoch,
    /// The client id of its connection.
    pub client_id: String,
    /// Its address.
    pub client_host: String,
    /// Topics that it subscribes to.
    pub topics: Vec<String>,
    /// What it reads.
    pub assignment: Vec<AssignedTopic>,
}

/// Partitions of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssignedTopic {
    /// The topic's id.
    pub id: TopicId,
    /// Its name.
    pub name: Arc<str>,
    /// The partitions.
    pub partitions: Vec<i32>,
}

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The group.
    pub group: GroupId,
    /// Its type.
    pub kind: GroupType,
    /// Empty for a group that only keeps offsets.
    pub protocol_type: String,
    /// Its state.
    pub state: GroupState,
}
