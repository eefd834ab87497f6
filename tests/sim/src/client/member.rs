//! A member of a classic consumer group: joins, is assigned partitions, reads them from the last commit on, commits.

use std::time::Duration;

use bytes::Bytes;
use weir_wire::MessageView;
use weir_wire::messages::join_group_request::JoinGroupRequestProtocol;
use weir_wire::messages::leave_group_request::MemberIdentity;
use weir_wire::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use weir_wire::messages::offset_fetch_request::OffsetFetchRequestTopic;
use weir_wire::messages::sync_group_request::SyncGroupRequestAssignment;
use weir_wire::messages::{
    ErrorCode, HeartbeatRequest, HeartbeatResponseView, JoinGroupRequest, JoinGroupResponse,
    JoinGroupResponseView, LeaveGroupRequest, LeaveGroupResponseView, OffsetCommitRequest,
    OffsetCommitResponseView, OffsetFetchRequest, OffsetFetchResponseView, SyncGroupRequest,
    SyncGroupResponseView,
};

use super::fetch::{Fetched, Isolation, fetch};
use super::{Client, CoordinatorOf};
use crate::history::{Place, Shared};

const SESSION_MS: i32 = 6_000;

/// A member of a group.
#[derive(Debug)]
pub struct Member {
    client: Client,
    history: Shared,
    group: String,
    /// What the group reads.
    places: Vec<Place>,
    id: String,
    generation: i32,
    coordinator: Option<i32>,
}

/// Why a member does not go on as it did.
enum Lost {
    /// The group forms anew; the member keeps its name.
    Rebalance,
    /// The member is not known any more, or cannot tell what became of what it did.
    Member,
    /// The coordinator is elsewhere, or does not answer.
    Coordinator,
}

impl Member {
    /// One of a group that reads these partitions.
    #[must_use]
    pub fn new(client: Client, history: Shared, group: &str, places: Vec<Place>) -> Self {
        Self {
            client,
            history,
            group: group.to_owned(),
            places,
            id: String::new(),
            generation: -1,
            coordinator: None,
        }
    }

    /// Takes part until the history says that it is enough.
    pub async fn run(mut self) {
        while self.history.is_open() {
            match self.take_part().await {
                Ok(()) => {}
                Err(Lost::Rebalance) => {}
                Err(Lost::Member) => self.id.clear(),
                Err(Lost::Coordinator) => {
                    self.coordinator = None;
                    self.client.pause().await;
                }
            }
        }
        self.leave().await;
        self.history.done();
    }

    /// One generation.
    async fn take_part(&mut self) -> Result<(), Lost> {
        let joined = self.join().await?;
        let mine = self.sync(&joined).await?;
        self.history
            .owns(&self.group, self.generation, self.client.host, &mine);
        let mut positions = self.committed(&mine).await?;
        let mut rounds = self.client.random.within(3..40);
        loop {
            for (place, position) in &mut positions {
                let fetched = fetch(
                    &mut self.client,
                    place,
                    *position,
                    10,
                    Isolation::Uncommitted,
                );
                if let Fetched::Values(portion) = fetched.await {
                    for (offset, value) in portion.values {
                        self.history.seen(place, offset, &value);
                    }
                    *position = portion.next;
                }
            }
            self.commit(&positions).await?;
            self.heartbeat().await?;
            rounds -= 1;
            if rounds == 0 || !self.history.is_open() {
                if self.client.random.chance(1, 3) {
                    self.leave().await;
                }
                // Otherwise it vanishes without a word.
                return Err(Lost::Member);
            }
            self.client.pause().await;
        }
    }

    async fn coordinator(&mut self) -> Result<i32, Lost> {
        if let Some(coordinator) = self.coordinator {
            return Ok(coordinator);
        }
        let found = self.client.coordinator(&self.group, CoordinatorOf::Group);
        self.coordinator = found.await;
        self.coordinator.ok_or(Lost::Coordinator)
    }

    async fn join(&mut self) -> Result<JoinGroupResponse, Lost> {
        loop {
            let coordinator = self.coordinator().await?;
            let request = JoinGroupRequest {
                group_id: self.group.clone(),
                session_timeout_ms: SESSION_MS,
                rebalance_timeout_ms: SESSION_MS,
                member_id: self.id.clone(),
                protocol_type: "sim".to_owned(),
                protocols: vec![JoinGroupRequestProtocol {
                    name: "round".to_owned(),
                    metadata: Bytes::new(),
                }],
                ..JoinGroupRequest::default()
            };
            // The answer comes when the group is whole.
            let patience = Duration::from_secs(15);
            let answer = self
                .client
                .ask_within(patience, coordinator, 7, &request, |body| {
                    JoinGroupResponseView::decode(body, 7).map(|view| view.to_owned())
                });
            let answer = answer.await.map_err(|_| Lost::Coordinator)?;
            if answer.error_code == ErrorCode::MemberIdRequired.code() {
                self.id = answer.member_id;
                continue;
            }
            judge(answer.error_code)?;
            self.id.clone_from(&answer.member_id);
            self.generation = answer.generation_id;
            return Ok(answer);
        }
    }

    async fn sync(&mut self, joined: &JoinGroupResponse) -> Result<Vec<Place>, Lost> {
        let coordinator = self.coordinator().await?;
        let mut assignments = Vec::new();
        if joined.leader == self.id {
            let mut members: Vec<&str> = joined
                .members
                .iter()
                .map(|member| member.member_id.as_str())
                .collect();
            members.sort_unstable();
            for (index, member) in members.iter().enumerate() {
                let theirs = self.places.iter().skip(index).step_by(members.len());
                let lines: String = theirs
                    .map(|place| format!("{} {}\n", place.0, place.1))
                    .collect();
                assignments.push(SyncGroupRequestAssignment {
                    member_id: (*member).to_owned(),
                    assignment: Bytes::from(lines),
                });
            }
        }
        let request = SyncGroupRequest {
            group_id: self.group.clone(),
            generation_id: self.generation,
            member_id: self.id.clone(),
            protocol_type: Some("sim".to_owned()),
            protocol_name: Some("round".to_owned()),
            assignments,
            ..SyncGroupRequest::default()
        };
        let patience = Duration::from_secs(15);
        let answer = self
            .client
            .ask_within(patience, coordinator, 5, &request, |body| {
                SyncGroupResponseView::decode(body, 5).map(|view| view.to_owned())
            });
        let answer = answer.await.map_err(|_| Lost::Coordinator)?;
        judge(answer.error_code)?;
        let lines = String::from_utf8_lossy(&answer.assignment).into_owned();
        let places = lines.lines().filter_map(|line| {
            let (topic, partition) = line.split_once(' ')?;
            Some(Place(topic.into(), partition.parse().ok()?))
        });
        Ok(places.collect())
    }

    /// Where the group stands in each of the partitions.
    async fn committed(&mut self, places: &[Place]) -> Result<Vec<(Place, i64)>, Lost> {
        let mut positions = Vec::new();
        for place in places {
            let coordinator = self.coordinator().await?;
            let request = OffsetFetchRequest {
                group_id: self.group.clone(),
                topics: Some(vec![OffsetFetchRequestTopic {
                    name: place.0.to_string(),
                    partition_indexes: vec![place.1],
                }]),
                ..OffsetFetchRequest::default()
            };
            let known = self.history.committed(&self.group, place);
            let answer = self.client.ask(coordinator, 7, &request, |body| {
                OffsetFetchResponseView::decode(body, 7).map(|view| view.to_owned())
            });
            let mut answer = answer.await.map_err(|_| Lost::Coordinator)?;
            judge(answer.error_code)?;
            let partition = answer
                .topics
                .pop()
                .and_then(|mut topic| topic.partitions.pop())
                .ok_or(Lost::Coordinator)?;
            judge(partition.error_code)?;
            self.history
                .found_committed(&self.group, place, known, partition.committed_offset);
            positions.push((place.clone(), partition.committed_offset.max(0)));
        }
        Ok(positions)
    }

    async fn commit(&mut self, positions: &[(Place, i64)]) -> Result<(), Lost> {
        if positions.is_empty() {
            return Ok(());
        }
        let coordinator = self.coordinator().await?;
        let mut topics: Vec<OffsetCommitRequestTopic> = Vec::new();
        for (place, position) in positions {
            self.history.committing(&self.group, place, *position);
            let partition = OffsetCommitRequestPartition {
                partition_index: place.1,
                committed_offset: *position,
                committed_leader_epoch: -1,
                ..OffsetCommitRequestPartition::default()
            };
            match topics.iter_mut().find(|topic| *topic.name == *place.0) {
                Some(topic) => topic.partitions.push(partition),
                None => topics.push(OffsetCommitRequestTopic {
                    name: place.0.to_string(),
                    partitions: vec![partition],
                    ..OffsetCommitRequestTopic::default()
                }),
            }
        }
        let request = OffsetCommitRequest {
            group_id: self.group.clone(),
            generation_id_or_member_epoch: self.generation,
            member_id: self.id.clone(),
            topics,
            ..OffsetCommitRequest::default()
        };
        let answer = self.client.ask(coordinator, 8, &request, |body| {
            OffsetCommitResponseView::decode(body, 8).map(|view| view.to_owned())
        });
        // What was not answered may still be on its way, and must not come after a later commit: so under this name no
        // other is made.
        let Ok(answer) = answer.await else {
            self.leave().await;
            return Err(Lost::Member);
        };
        let mut worst = Ok(());
        for topic in &answer.topics {
            for partition in &topic.partitions {
                let place = Place(topic.name.as_str().into(), partition.partition_index);
                match judge(partition.error_code) {
                    Ok(()) => {
                        if let Some((_, position)) = positions.iter().find(|(at, _)| *at == place) {
                            self.history.committed_to(&self.group, &place, *position);
                        }
                    }
                    Err(lost) => worst = Err(lost),
                }
            }
        }
        worst
    }

    async fn heartbeat(&mut self) -> Result<(), Lost> {
        let coordinator = self.coordinator().await?;
        let request = HeartbeatRequest {
            group_id: self.group.clone(),
            generation_id: self.generation,
            member_id: self.id.clone(),
            group_instance_id: None,
        };
        let answer = self.client.ask(coordinator, 4, &request, |body| {
            HeartbeatResponseView::decode(body, 4).map(|view| view.to_owned())
        });
        judge(answer.await.map_err(|_| Lost::Coordinator)?.error_code)
    }

    /// Says goodbye, once, whether it is heard or not.
    async fn leave(&mut self) {
        let Ok(coordinator) = self.coordinator().await else {
            return;
        };
        let request = LeaveGroupRequest {
            group_id: self.group.clone(),
            members: vec![MemberIdentity {
                member_id: self.id.clone(),
                ..MemberIdentity::default()
            }],
            ..LeaveGroupRequest::default()
        };
        let _ = self
            .client
            .ask(coordinator, 4, &request, |body| {
                LeaveGroupResponseView::decode(body, 4).map(|view| view.to_owned())
            })
            .await;
    }
}

fn judge(code: i16) -> Result<(), Lost> {
    match ErrorCode::from_code(code) {
        Some(ErrorCode::None) => Ok(()),
        Some(ErrorCode::RebalanceInProgress) => Err(Lost::Rebalance),
        Some(
            ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration | ErrorCode::FencedInstanceId,
        ) => Err(Lost::Member),
        _ => Err(Lost::Coordinator),
    }
}
