//! DeleteShareGroupOffsets: a share group without members forgets topics.

use std::sync::Arc;

use weir_groups::GroupId;
use weir_wire::messages::delete_share_group_offsets_response::DeleteShareGroupOffsetsResponseTopic;
use weir_wire::messages::{DeleteShareGroupOffsetsRequestView, DeleteShareGroupOffsetsResponse};

use super::{Answer, Refused, Request};
use crate::Broker;

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: DeleteShareGroupOffsetsRequestView<'_> = request.decode()?;
    let group = GroupId::from(view.group_id);
    let topics = view.topics.iter().map(|topic| topic.topic_name.to_owned());
    let topics: Vec<_> = topics.collect();
    let (responder, broker) = (request.responder(), Arc::clone(broker));
    Ok(Answer::later(async move {
        let response = match broker.share.delete_offsets(&broker, &group, topics).await {
            Ok(topics) => {
                let topics = topics.into_iter().map(|(name, id, outcome)| {
                    let error = outcome.err();
                    DeleteShareGroupOffsetsResponseTopic {
                        topic_name: name,
                        topic_id: id.0,
                        error_code: error.as_ref().map_or(0, |error| error.code.code()),
                        error_message: error.and_then(|error| error.message()),
                    }
                });
                DeleteShareGroupOffsetsResponse {
                    responses: topics.collect(),
                    ..DeleteShareGroupOffsetsResponse::default()
                }
            }
            Err(error) => DeleteShareGroupOffsetsResponse {
                error_code: error.code.code(),
                error_message: error.message(),
                ..DeleteShareGroupOffsetsResponse::default()
            },
        };
        responder.reply(&response)
    }))
}
