//! Finding a place in a partition, at whichever broker leads.

use std::time::Duration;

use tokio::time::Instant;
use weir_wire::MessageView;
use weir_wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use weir_wire::messages::{ListOffsetsRequest, ListOffsetsResponseView};

use super::link::protocol;
use super::{Gateway, Place, leader, passes, refused};
use crate::error::{ApiError, ErrorCode};

const LIST_OFFSETS: i16 = 7;
const READ_COMMITTED: i8 = 1;

/// As for an append.
const PATIENCE: Duration = Duration::from_secs(30);

/// A place in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// The first message that there is.
    Earliest,
    /// Behind everything that is decided.
    Latest,
    /// The first message of this time or later, in milliseconds since 1970; behind everything if there is none.
    Time(i64),
}

impl Gateway {
    /// The offset of a place, for one who reads what is committed.
    ///
    /// # Errors
    /// Kafka's; what passes by itself was tried for a while.
    pub(crate) async fn offset(&self, place: &Place, at: At) -> Result<i64, ApiError> {
        let found = self.look_up(place, at).await?;
        if found < 0 && matches!(at, At::Time(_)) {
            return self.look_up(place, At::Latest).await;
        }
        Ok(found)
    }

    async fn look_up(&self, place: &Place, at: At) -> Result<i64, ApiError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.look_up_once(place, at).await {
                Err(error) if passes(error.code) && Instant::now() < deadline => {
                    if self.image().topic_by_id(place.id).is_none() {
                        return Err(error);
                    }
                    self.pause().await;
                }
                found => return found,
            }
        }
    }

    async fn look_up_once(&self, place: &Place, at: At) -> Result<i64, ApiError> {
        let image = self.image();
        let topic = image.topic_by_id(place.id);
        let partition = topic
            .and_then(|topic| topic.partition(place.partition))
            .ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let led = leader(&image, partition).ok_or(ErrorCode::LeaderNotAvailable)?;
        let request = ListOffsetsRequest {
            replica_id: -1,
            isolation_level: READ_COMMITTED,
            topics: vec![ListOffsetsTopic {
                name: place.topic.to_string(),
                partitions: vec![ListOffsetsPartition {
                    partition_index: place.partition,
                    current_leader_epoch: led.1,
                    timestamp: match at {
                        At::Latest => -1,
                        At::Earliest => -2,
                        At::Time(ms) => ms,
                    },
                }],
            }],
            ..ListOffsetsRequest::default()
        };
        let link = self.link(led.0)?;
        let body = tokio::select! {
            body = link.ask(LIST_OFFSETS, &request) => body?,
            () = self.moved(place.id, place.partition, led) => return Err(ErrorCode::NotLeaderOrFollower.into()),
        };
        let response = ListOffsetsResponseView::decode(&body, LIST_OFFSETS).map_err(protocol)?;
        let answer = response
            .topics
            .iter()
            .flat_map(|topic| topic.partitions.iter())
            .next()
            .ok_or_else(|| protocol("an answer without the partition"))?;
        refused(answer.error_code, None)?;
        Ok(answer.offset)
    }
}
