//! `Publish` and `PublishStream`: messages to the brokers that lead.

use futures::future::{FutureExt, join_all};
use tonic::{Status, Streaming};
use weir_proto::queue::v1 as proto;
use weir_proto::queue::v1::publish_result::Result as Published;
use weir_quorum::image::Topic;

use super::Inner;
use super::message::Draft;
use super::placing;
use super::status::Refused;
use crate::error::{ApiError, ErrorCode};
use crate::gateway::{self, Place};

/// Messages of a stream that go out together: as many as are worth waiting for a disk together.
const TOGETHER_MAX: usize = 500;
/// Bytes of them in one batch, unless one message is larger: below what a topic takes by default (`max.message.bytes`, 1 MiB).
const BATCH_BYTES: usize = 512 << 10;

/// A message of a stream, and where its answer belongs.
type Numbered = (usize, Draft);

impl Inner {
    /// Appends one message.
    pub(super) async fn publish(
        &self,
        request: proto::PublishRequest,
    ) -> Result<proto::PublishResponse, Refused> {
        self.gateway
            .look_for([request.topic.as_str()].into_iter())
            .await;
        let (place, draft) = self.placed(request)?;
        self.publish_to(&place, &draft).await
    }

    pub(super) async fn publish_to(
        &self,
        place: &Place,
        draft: &Draft,
    ) -> Result<proto::PublishResponse, Refused> {
        let appended = self.gateway.append(place, |batch| draft.push(batch)).await;
        Ok(proto::PublishResponse {
            partition: place.partition,
            offset: appended?.0,
        })
    }

    fn placed(&self, request: proto::PublishRequest) -> Result<(Place, Draft), Refused> {
        let draft = Draft::of(request.message, self.now_ms())?;
        let place = self.place(&request.topic, request.partition, draft.key.as_deref())?;
        Ok((place, draft))
    }

    pub(super) fn now_ms(&self) -> i64 {
        self.gateway.broker().host.clock.now_ms()
    }

    /// Where a message goes.
    pub(super) fn place(
        &self,
        topic: &str,
        partition: Option<i32>,
        key: Option<&[u8]>,
    ) -> Result<Place, Refused> {
        let image = self.gateway.image();
        let topic = gateway::topic(&image, topic)?;
        let partition = match partition {
            Some(index) => checked(topic, index)?,
            None => {
                let count = topic.partitions.len();
                let index = match key {
                    Some(key) => placing::of_key(key, count),
                    None => self.turn() % count.max(1),
                };
                i32::try_from(index).unwrap_or(0)
            }
        };
        Ok(Place {
            topic: topic.name.clone(),
            id: topic.id,
            partition,
        })
    }

    /// The next messages of a stream and what becomes of them; `None` at its end.
    pub(super) async fn publish_next(
        &self,
        requests: &mut Streaming<proto::PublishRequest>,
    ) -> Result<Option<Vec<proto::PublishResult>>, Status> {
        let Some(first) = requests.message().await? else {
            return Ok(None);
        };
        let mut together = vec![first];
        let mut ended = None;
        let mut bytes = 0;
        while together.len() < TOGETHER_MAX && bytes < BATCH_BYTES {
            // What is there already; nobody waits for more.
            match requests.message().now_or_never() {
                Some(Ok(Some(next))) => {
                    let value = next
                        .message
                        .as_ref()
                        .and_then(|message| message.value.as_ref());
                    bytes += value.map_or(0, bytes::Bytes::len);
                    together.push(next);
                }
                Some(Err(status)) => {
                    ended = Some(status);
                    break;
                }
                Some(Ok(None)) | None => break,
            }
        }
        let results = self.publish_together(together).await;
        match ended {
            // The client is gone; what it sent is there.
            Some(status) => Err(status),
            None => Ok(Some(results)),
        }
    }

    async fn publish_together(
        &self,
        requests: Vec<proto::PublishRequest>,
    ) -> Vec<proto::PublishResult> {
        let topics = requests.iter().map(|request| request.topic.as_str());
        self.gateway.look_for(topics).await;
        let mut results = vec![proto::PublishResult::default(); requests.len()];
        let mut groups: Vec<(Place, Vec<Numbered>)> = Vec::new();
        for (number, request) in requests.into_iter().enumerate() {
            match self.placed(request) {
                Ok((place, draft)) => match groups.iter_mut().find(|(other, _)| *other == place) {
                    Some((_, group)) => group.push((number, draft)),
                    None => groups.push((place, vec![(number, draft)])),
                },
                Err(refused) => results[number].result = Some(Published::Refused(refused.into())),
            }
        }
        let groups = groups
            .iter()
            .map(|(place, group)| self.publish_group(place, group));
        for (number, result) in join_all(groups).await.into_iter().flatten() {
            results[number].result = Some(match result {
                Ok(published) => Published::Published(published),
                Err(refused) => Published::Refused(refused.into()),
            });
        }
        results
    }

    /// Messages to one partition, in their order.
    async fn publish_group(
        &self,
        place: &Place,
        group: &[Numbered],
    ) -> Vec<(usize, Result<proto::PublishResponse, Refused>)> {
        let mut results = Vec::with_capacity(group.len());
        for batch in batches(group) {
            let appended = self.append_all(place, batch).await;
            match appended {
                // A batch is taken or refused as a whole; which of its messages fit is found out by sending each alone.
                Err(error)
                    if batch.len() > 1
                        && matches!(
                            error.code,
                            ErrorCode::PolicyViolation
                                | ErrorCode::MessageTooLarge
                                | ErrorCode::RecordListTooLarge
                                | ErrorCode::InvalidRecord
                        ) =>
                {
                    for (number, draft) in batch {
                        results.push((*number, self.publish_to(place, draft).await));
                    }
                }
                Err(error) => {
                    let refused = Refused::from(error);
                    let all = batch.iter();
                    results.extend(all.map(|(number, _)| (*number, Err(refused.clone()))));
                }
                Ok(first) => {
                    let offsets = first..;
                    results.extend(batch.iter().zip(offsets).map(|((number, _), offset)| {
                        let published = proto::PublishResponse {
                            partition: place.partition,
                            offset,
                        };
                        (*number, Ok(published))
                    }));
                }
            }
        }
        results
    }

    async fn append_all(&self, place: &Place, batch: &[Numbered]) -> Result<i64, ApiError> {
        let fill = |builder: &mut weir_wire::batch::BatchBuilder| {
            batch.iter().try_for_each(|(_, draft)| draft.push(builder))
        };
        Ok(self.gateway.append(place, fill).await?.0)
    }
}

fn checked(topic: &Topic, index: i32) -> Result<i32, Refused> {
    if topic.partition(index).is_none() {
        let (name, count) = (&topic.name, topic.partitions.len());
        let why = format!("topic {name} has no partition {index}, but {count}");
        return Err(Refused::new(tonic::Code::NotFound, why));
    }
    Ok(index)
}

/// Cuts messages into batches within the bound.
fn batches(group: &[Numbered]) -> Vec<&[Numbered]> {
    let (mut batches, mut rest) = (Vec::new(), group);
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = rest.iter().take_while(|(_, draft)| {
            bytes += draft.bytes();
            bytes <= BATCH_BYTES
        });
        let (batch, after) = rest.split_at(fits.count().max(1));
        batches.push(batch);
        rest = after;
    }
    batches
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn batches_have_all_messages_in_order_and_keep_to_the_bound() {
        let draft = |bytes: usize| {
            let message = proto::Message {
                value: Some(vec![0; bytes].into()),
                ..proto::Message::default()
            };
            Draft::of(Some(message), 1).unwrap()
        };
        let sizes = [10, BATCH_BYTES - 100, 200, BATCH_BYTES * 2, 1, 1];
        let group: Vec<_> = sizes.into_iter().map(draft).enumerate().collect();
        let batches = batches(&group);
        let numbers: Vec<Vec<_>> = batches
            .iter()
            .map(|batch| batch.iter().map(|(number, _)| *number).collect())
            .collect();
        assert_eq!(numbers, [vec![0, 1], vec![2], vec![3], vec![4, 5]]);
    }
}
