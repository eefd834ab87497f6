//! Asking a coordinator: one function for each request.
//!
//! Each hands its request over when it is called, so in the order of the calls, and returns a future for the answer. A
//! request that no coordinator here can take is answered with where to go, or when to come back.

use std::sync::Arc;

use weir_groups::request::{
    Beat, ChangeShareStates, CommitRequest, CommittedTopic, ConsumerDescription,
    ConsumerHeartbeatRequest, DeleteOffsetsRequest, Description, FetchRequest, FetchedTopic,
    HeartbeatRequest, InTransaction, JoinRefused, JoinRequest, Joined, LeaveRequest, Left,
    ListRequest, Listing, ResetOutcome, ResetRequest, ShareDescription, ShareHeartbeatRequest,
    SyncRequest, Synced,
};
use weir_groups::transactions::Version;
use weir_groups::{Asked, GroupError, GroupId, Marker, Request, Response, TopicPartition};
use weir_quorum::image::Broker;
use weir_wire::{PartitionIndex, TopicId};

use super::Groups;
use super::cluster::Seen;
use crate::shards::Refused;

impl From<Refused> for GroupError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::NotHere => Self::NotCoordinator,
            Refused::Loading => Self::CoordinatorLoadInProgress,
            Refused::NotAvailable => Self::CoordinatorNotAvailable,
        }
    }
}

impl Groups {
    /// The broker that coordinates the group. Makes the offsets topic when there is none.
    ///
    /// # Errors
    /// [`GroupError::CoordinatorNotAvailable`] while there is no such broker alive; clients ask again.
    pub async fn find(&self, group: &str) -> Result<Arc<Broker>, GroupError> {
        Ok(self.shared.shards.find(group).await?)
    }

    /// Joins a group. The answer comes when the rebalance completes.
    pub fn join(
        &self,
        request: JoinRequest,
    ) -> impl Future<Output = Result<Joined, JoinRefused>> + Send + use<> {
        let member = request.member.clone();
        let asked = self.ask(&request.group.clone(), Request::Join(request));
        async move {
            match asked.await {
                Ok(Response::Join(outcome)) => outcome,
                Ok(other) => Err(JoinRefused {
                    error: unexpected(&other),
                    member,
                }),
                Err(error) => Err(JoinRefused { error, member }),
            }
        }
    }

    /// Asks for a member's assignment. The answer comes when the leader has brought it.
    pub fn sync(
        &self,
        request: SyncRequest,
    ) -> impl Future<Output = Result<Synced, GroupError>> + Send + use<> {
        let asked = self.ask(&request.group.clone(), Request::Sync(request));
        async move {
            match asked.await? {
                Response::Sync(outcome) => outcome,
                other => Err(unexpected(&other)),
            }
        }
    }

    /// Tells that a member is alive.
    pub fn heartbeat(
        &self,
        request: HeartbeatRequest,
    ) -> impl Future<Output = Result<(), GroupError>> + Send + use<> {
        let asked = self.ask(&request.group.clone(), Request::Heartbeat(request));
        async move {
            match asked.await? {
                Response::Heartbeat(outcome) => outcome,
                other => Err(unexpected(&other)),
            }
        }
    }

    /// The heartbeat of a member of a consumer group.
    pub fn heartbeat_consumer(
        &self,
        request: ConsumerHeartbeatRequest,
    ) -> impl Future<Output = Result<Beat, GroupError>> + Send + use<> {
        let asked = self.ask(&request.group.clone(), Request::ConsumerHeartbeat(request));
        async move {
            match asked.await? {
                Response::ConsumerHeartbeat(outcome) => outcome,
                other => Err(unexpected(&other)),
            }
        }
    }

    /// Takes members out of their group.
    pub fn leave(
        &self,
        request: LeaveRequest,
    ) -> impl Future<Output = Result<Vec<Left>, GroupError>> + Send + use<> {
        let asked = self.ask(&request.group.clone(), Request::Leave(request));
        async move {
            match asked.await? {
                Response::Leave(outcome) => outcome,
                other => Err(unexpected(&other)),
            }
        }
    }

    /// Keeps offsets once a transaction is committed.
    pub fn commit_in_transaction(
        &self,
        request: CommitRequest,
        transaction: InTransaction,
    ) -> impl Future<Output = Result<Vec<CommittedTopic>, GroupError>> + Send + use<> {
        let group = request.group.clone();
        let asked = self.ask(&group, Request::CommitInTransaction(request, transaction));
        async move {
            match asked.await? {
                Response::Commit(topics) => Ok(topics),
                other => Err(unexpected(&other)),
            }
        }
    }

    /// How many markers the group's shard has seen; see [`InTransaction::markers_seen`].
    pub fn markers_seen(
        &self,
        group: &GroupId,
    ) -> impl Future<Output = Result<u64, GroupError>> + Send + use<> {
        let asked = self.ask(group, Request::MarkersSeen);
        async move {
            match asked.await? {
                Response::MarkersSeen(seen) => Ok(seen),
                other => Err(unexpected(&other)),
            }
        }
    }

    /// Writes the end of a transaction to a partition of the offsets topic, whose coordinator takes over or drops what was
    /// committed in it.
    pub fn end_transaction(
        &self,
        partition: PartitionIndex,
        marker: Marker,
        version: Version,
    ) -> impl Future<Output = Result<(), GroupError>> + Send + use<> {
        let asked = self.shared.shards.ask_shard(
            partition,
            self.asked(Request::EndTransaction(marker, version)),
        );
        async move {
            match asked.await? {
                Response::EndTransaction(outcome) => outcome,
                other => Err(unexpected(&other)),
            }
        }
    }

    /// Keeps offsets.
    pub fn commit(
        &self,
        request: CommitRequest,
    ) -> impl Future<Output = Result<Vec<CommittedTopic>, GroupError>> + Send + use<> {
        let asked = self.ask(&request.group.clone(), Request::Commit(request));
        async move {
            match asked.await? {
                Response::Commit(topics) => Ok(topics),
                other => Err(unexpected(&other)),
            }
        }
    }

    /// Looks up a group's offsets. Those of topics that are gone are not told.
    pub fn fetch(
        &self,
        request: FetchRequest,
    ) -> impl Future<Output = Result<Vec<FetchedTopic>, GroupError>> + Send + use<> {
        let wants_all = request.topics.is_none();
        let metadata = self.shared.metadata.clone();
        let asked = self.ask(&request.group.clone(), Request::Fetch(request));
        async move {
            let mut topics = match asked.await? {
                Response::Fetch(topics) => topics?,
                other => return Err(unexpected(&other)),
            };
            if wants_all {
                let image = metadata.image();
                for topic in &mut topics {
                    if let Some(found) = image.topic(&topic.topic.name) {
                        topic.topic.id = TopicId(found.id.0);
                    }
                    let id = topic.topic.id;
                    topic.partitions.retain(|(_, offset)| {
                        offset.as_ref().is_some_and(|offset| {
                            offset.topic_id == TopicId::ZERO || offset.topic_id == id
                        })
                    });
                }
                topics.retain(|topic| !topic.partitions.is_empty());
            }
            Ok(topics)
        }
    }

    /// Drops offsets.
    pub fn delete_offsets(
        &self,
        request: DeleteOffsetsRequest,
    ) -> impl Future<Output = Result<Vec<CommittedTopic>, GroupError>> + Send + use<> {
        let asked = self.ask(&request.group.clone(), Request::DeleteOffsets(request));
        async move {
            match asked.await? {
                Response::DeleteOffsets(outcome) => outcome,
                other => Err(unexpected(&other)),
            }
        }
    }

    /// Sets offsets from outside, and fences members.
    pub(super) fn reset(
        &self,
        request: ResetRequest,
    ) -> impl Future<Output = Result<ResetOutcome, GroupError>> + Send + use<> {
        let asked = self.ask(&request.group.clone(), Request::Reset(request));
        async move {
            match asked.await? {
                Response::Reset(outcome) => outcome,
                other => Err(unexpected(&other)),
            }
        }
    }

    /// Drops a group without members, and its offsets.
    pub fn delete(
        &self,
        group: GroupId,
    ) -> impl Future<Output = Result<(), GroupError>> + Send + use<> {
        let asked = self.ask(&group.clone(), Request::DeleteGroup(group));
        async move {
            match asked.await? {
                Response::DeleteGroup(outcome) => outcome,
                other => Err(unexpected(&other)),
            }
        }
    }

    /// Describes a group.
    pub fn describe(
        &self,
        group: GroupId,
    ) -> impl Future<Output = Result<Description, GroupError>> + Send + use<> {
        let asked = self.ask(&group.clone(), Request::Describe(group));
        async move {
            match asked.await? {
                Response::Describe(outcome) => outcome,
                other => Err(unexpected(&other)),
            }
        }
    }

    /// The heartbeat of a member of a share group.
    pub fn heartbeat_share(
        &self,
        request: ShareHeartbeatRequest,
    ) -> impl Future<Output = Result<Beat, GroupError>> + Send + use<> {
        let asked = self.ask(&request.group.clone(), Request::ShareHeartbeat(request));
        async move {
            match asked.await? {
                Response::ShareHeartbeat(outcome) => outcome,
                other => Err(unexpected(&other)),
            }
        }
    }

    /// Describes a share group.
    pub fn describe_share(
        &self,
        group: GroupId,
    ) -> impl Future<Output = Result<ShareDescription, GroupError>> + Send + use<> {
        let asked = self.ask(&group.clone(), Request::DescribeShare(group));
        async move {
            match asked.await? {
                Response::DescribeShare(outcome) => outcome,
                other => Err(unexpected(&other)),
            }
        }
    }

    /// Changes which partitions of a share group have a state; also asks whether that may be.
    pub fn change_share_states(
        &self,
        group: GroupId,
        add: Vec<TopicPartition>,
        remove: Vec<TopicId>,
    ) -> impl Future<Output = Result<(), GroupError>> + Send + use<> {
        let change = ChangeShareStates {
            group: group.clone(),
            add,
            remove,
        };
        let asked = self.ask(&group, Request::ChangeShareStates(change));
        async move {
            match asked.await? {
                Response::ChangeShareStates(outcome) => outcome,
                other => Err(unexpected(&other)),
            }
        }
    }

    /// Describes a consumer group.
    pub fn describe_consumer(
        &self,
        group: GroupId,
    ) -> impl Future<Output = Result<ConsumerDescription, GroupError>> + Send + use<> {
        let asked = self.ask(&group.clone(), Request::DescribeConsumer(group));
        async move {
            match asked.await? {
                Response::DescribeConsumer(outcome) => outcome,
                other => Err(unexpected(&other)),
            }
        }
    }

    /// Lists the groups of all shards that this broker coordinates.
    ///
    /// # Errors
    /// When one of them is loading: the list would be short of its groups.
    pub fn list(
        &self,
        request: &ListRequest,
    ) -> impl Future<Output = Result<Vec<Listing>, GroupError>> + Send + use<> {
        let asked = self
            .shared
            .shards
            .ask_own(&|| self.asked(Request::List(request.clone())));
        async move {
            let mut groups = Vec::new();
            for answer in asked.await? {
                match answer {
                    Response::List(listed) => groups.extend(listed),
                    other => return Err(unexpected(&other)),
                }
            }
            Ok(groups)
        }
    }

    /// As [`list`](Self::list), with a future for what each shard says for itself: what one of them cannot say now hides nothing of
    /// the others.
    pub(crate) fn list_each(
        &self,
    ) -> Vec<(
        PartitionIndex,
        impl Future<Output = Result<Vec<Listing>, GroupError>> + Send + use<>,
    )> {
        let list = || self.asked(Request::List(ListRequest::default()));
        let asked = self.shared.shards.ask_each_own(&list).into_iter();
        let listed = asked.map(|(shard, asked)| {
            let listed = async move {
                match asked.await? {
                    Response::List(listed) => Ok(listed),
                    other => Err(unexpected(&other)),
                }
            };
            (shard, listed)
        });
        listed.collect()
    }

    /// The shard that keeps a group, wherever it is.
    pub(crate) fn shard_of(&self, group: &str) -> Option<PartitionIndex> {
        self.shared.shards.place_of(group)
    }

    /// The request, with what is known of the cluster when it is made.
    pub(super) fn asked(&self, request: Request) -> Asked {
        Asked {
            request,
            cluster: Arc::new(Seen::newest(&self.shared.metadata)),
        }
    }

    fn ask(
        &self,
        group: &GroupId,
        request: Request,
    ) -> impl Future<Output = Result<Response, GroupError>> + Send + use<> {
        let asked = self.shared.shards.ask(group.as_str(), self.asked(request));
        async move { Ok(asked.await?) }
    }
}

/// A coordinator answers each request with the response of its kind.
fn unexpected(response: &Response) -> GroupError {
    tracing::error!(?response, "a coordinator has answered another question");
    GroupError::Unknown
}
