//! The member of the share group that a stream is: it joins, is alive, and leaves, at whichever broker coordinates the group.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use weir_groups::Epoch;
use weir_quorum::{BrokerId, TopicId};
use weir_wire::MessageView;
use weir_wire::messages::{ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponseView};

use super::super::status::Refused;
use crate::error::{ApiError, ErrorCode};
use crate::gateway::{Gateway, Link, passes, refused};

const HEARTBEAT: i16 = 1;

/// How long one heartbeat may take; then the coordinator is looked for again.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long saying goodbye may take; the coordinator notices by itself, later.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// One partition of one topic.
pub(super) type TopicPartition = (TopicId, i32);

/// What the group says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Assigned {
    /// These are the member's, none before it has joined.
    Partitions(BTreeSet<TopicPartition>),
    /// It cannot be a member.
    Refused(Refused),
}

/// A member; it leaves when this is dropped.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: String,
    pub(super) assigned: watch::Receiver<Assigned>,
    _leave: DropGuard,
}

impl Member {
    /// Joins; `before` is the member's id, if it was there before.
    pub(super) fn join(
        gateway: Gateway,
        client: SocketAddr,
        group: String,
        topics: Vec<String>,
        before: String,
    ) -> Self {
        let id = if before.is_empty() {
            gateway.broker().host.entropy.uuid().to_string()
        } else {
            before
        };
        let (tell, assigned) = watch::channel(Assigned::Partitions(BTreeSet::new()));
        let leave = CancellationToken::new();
        let mut beating = Beating {
            gateway,
            client,
            group,
            topics,
            id: id.clone(),
            epoch: Epoch::JOINING.0,
            link: None,
        };
        let left = leave.clone();
        tokio::spawn(async move {
            left.run_until_cancelled(beating.live(&tell)).await;
            // Also when it has not heard that it has joined. Whether this is heard or not, nobody waits for it.
            beating.epoch = Epoch::LEAVING.0;
            let _ = tokio::time::timeout(LAST_WORDS, beating.beat()).await;
        });
        Self {
            id,
            assigned,
            _leave: leave.drop_guard(),
        }
    }
}

/// A member's heart.
struct Beating {
    gateway: Gateway,
    client: SocketAddr,
    group: String,
    topics: Vec<String>,
    id: String,
    epoch: i32,
    link: Option<(BrokerId, Link)>,
}

/// What a heartbeat came to.
struct Beat {
    interval: Duration,
    assigned: Option<BTreeSet<TopicPartition>>,
}

impl Beating {
    /// Ends when the group refuses the member for good.
    async fn live(&mut self, tell: &watch::Sender<Assigned>) {
        loop {
            let beat = tokio::time::timeout(PATIENCE, self.beat()).await;
            match beat.unwrap_or_else(|_| Err(ErrorCode::RequestTimedOut.into())) {
                Ok(beat) => {
                    if let Some(assigned) = beat.assigned {
                        tell.send_replace(Assigned::Partitions(assigned));
                    }
                    tokio::time::sleep(beat.interval).await;
                }
                Err(error) => match error.code {
                    // It was silent for too long, or the group began anew.
                    ErrorCode::UnknownMemberId | ErrorCode::FencedMemberEpoch => {
                        self.epoch = Epoch::JOINING.0;
                        tell.send_replace(Assigned::Partitions(BTreeSet::new()));
                        self.gateway.pause().await;
                    }
                    code if passes(code) => {
                        self.link = None;
                        self.gateway.pause().await;
                    }
                    _ => {
                        tell.send_replace(Assigned::Refused(error.into()));
                        return;
                    }
                },
            }
        }
    }

    async fn beat(&mut self) -> Result<Beat, ApiError> {
        let found = self.gateway.broker().groups.find(&self.group).await;
        let coordinator = found.map_err(ApiError::from)?.id;
        let link = match &mut self.link {
            Some((broker, link)) if *broker == coordinator && !link.is_lost() => link,
            link => {
                let opened = self.gateway.open(coordinator, self.client)?;
                &mut link.insert((coordinator, opened)).1
            }
        };
        let is_joining = self.epoch == Epoch::JOINING.0;
        let request = ShareGroupHeartbeatRequest {
            group_id: self.group.clone(),
            member_id: self.id.clone(),
            member_epoch: self.epoch,
            rack_id: None,
            subscribed_topic_names: is_joining.then(|| self.topics.clone()),
        };
        let body = link.ask(HEARTBEAT, &request).await?;
        let response = ShareGroupHeartbeatResponseView::decode(&body, HEARTBEAT)
            .map_err(|error| ApiError::new(ErrorCode::UnknownServerError, error.to_string()))?;
        refused(response.error_code, response.error_message)?;
        self.epoch = response.member_epoch;
        let assigned = response.assignment.map(|assignment| {
            let topics = assignment.topic_partitions.iter();
            let partitions = topics.flat_map(|topic| {
                let id = TopicId(topic.topic_id);
                topic.partitions.iter().map(move |index| (id, index))
            });
            partitions.collect()
        });
        let interval = u64::try_from(response.heartbeat_interval_ms).unwrap_or(0);
        Ok(Beat {
            // Never in a loop, whatever is said.
            interval: Duration::from_millis(interval.max(100)),
            assigned,
        })
    }
}
