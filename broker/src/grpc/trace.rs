//! `Trace` of the `Admin` service: what brokers remember of messages.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tonic::{Request, Status};
use weir_proto::admin::v1 as proto;
use weir_proto::admin::v1::admin_client::AdminClient;
use weir_proto::admin::v1::trace_request::Of;
use weir_queues::dedup::MessageId;
use weir_queues::order::KeyHash;
use weir_queues::trace::{Event, Query, Settled, What};
use weir_quorum::image::Broker as Peer;
use weir_wire::Offset;

use crate::Broker;
use crate::partitions::key_of;
use crate::quorum::net::{MESSAGE_BYTES_MAX, channel};

/// How long another broker may take: it answers from memory.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is remembered here, and, unless it is only that which is asked for, elsewhere.
pub(super) async fn trace(
    broker: &Arc<Broker>,
    request: proto::TraceRequest,
) -> Result<proto::TraceResponse, Status> {
    let mut events = here(broker, &request)?;
    let mut unheard = Vec::new();
    if !request.here {
        let image = broker.metadata.image();
        let me = broker.metadata.broker_id();
        let others = image.brokers().filter(|other| other.id != me);
        let asked = others.map(|other| {
            let request = proto::TraceRequest {
                here: true,
                ..request.clone()
            };
            async move { (other.id.0, elsewhere(broker, other, request).await) }
        });
        for (id, answer) in join_all(asked).await {
            match answer {
                Ok(answer) => events.extend(answer.events),
                Err(status) => {
                    tracing::debug!(broker = id, %status, "a broker does not say what it remembers of messages");
                    unheard.push(id);
                }
            }
        }
    }
    events.sort_by_key(|event| (event.time_ms, rank(&event.what)));
    Ok(proto::TraceResponse { events, unheard })
}

/// Which of two things comes first that happened to a message in the same millisecond. Others stay in the order in which they were told.
fn rank(what: &str) -> u8 {
    match what {
        "appended" | "due" => 0,
        "delayed" => 1,
        "replicated" => 2,
        _ => 3,
    }
}

async fn elsewhere(
    broker: &Broker,
    other: &Peer,
    request: proto::TraceRequest,
) -> Result<proto::TraceResponse, Status> {
    let channel = channel(&broker.host.dialer, Some(other.id), &other.quorum_address);
    let channel = channel.map_err(|error| Status::unavailable(error.to_string()))?;
    let mut client = AdminClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let mut request = Request::new(request);
    request.set_timeout(PATIENCE);
    let asked = tokio::time::timeout(PATIENCE, client.trace(request)).await;
    let answer = asked.map_err(|_| Status::deadline_exceeded("no answer"))?;
    Ok(answer?.into_inner())
}

fn here(broker: &Broker, request: &proto::TraceRequest) -> Result<Vec<proto::TraceEvent>, Status> {
    let image = broker.metadata.image();
    let name = &request.topic;
    let topic = image
        .topic(name)
        .ok_or_else(|| Status::not_found(format!("there is no topic {name:?}")))?;
    let of = request.of.as_ref();
    let of =
        of.ok_or_else(|| Status::invalid_argument("of: an offset, a key or an id is needed"))?;
    let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
    let (query, partitions) = match of {
        Of::Place(place) if !(0..count).contains(&place.partition) => {
            let why = format!(
                "topic {name:?} has {count} partitions, and {} was asked for",
                place.partition
            );
            return Err(Status::not_found(why));
        }
        Of::Place(place) => {
            let query = Query::Offset(Offset(place.offset));
            (query, place.partition..place.partition.saturating_add(1))
        }
        Of::Key(key) => (Query::Key(KeyHash::of(key)), 0..count),
        Of::Id(id) => (Query::Id(MessageId::of(id)), 0..count),
    };
    let me = broker.metadata.broker_id().0;
    let mut events = Vec::new();
    let mut is_traced = false;
    for index in partitions {
        let Ok(partition) = broker.partitions.get(key_of(topic, index)) else {
            continue;
        };
        if let Some(trace) = partition.trace() {
            is_traced = true;
            let found = trace.find(query).into_iter();
            events.extend(found.map(|event| told(me, index, &event)));
        }
    }
    let ratio = topic.config.get(weir_quorum::configs::TRACE_RATIO);
    if !is_traced && ratio.is_none() {
        return Err(Status::failed_precondition(format!(
            "topic {name:?} is not traced: weir.queue.trace.ratio is not set"
        )));
    }
    Ok(events)
}

fn told(broker: i32, partition: i32, event: &Event) -> proto::TraceEvent {
    let mut told = proto::TraceEvent {
        time_ms: i64::try_from(event.at.0).unwrap_or(i64::MAX),
        broker,
        partition,
        offset: event.offset.0,
        ..proto::TraceEvent::default()
    };
    let text = |text: &Arc<str>| text.to_string();
    let ms = |at: weir_queues::Millis| Some(i64::try_from(at.0).unwrap_or(i64::MAX));
    let what = match &event.what {
        What::Appended {
            client_id,
            address,
            producer_id,
        } => {
            told.client_id = text(client_id);
            told.address = text(address);
            told.producer_id = Some(*producer_id).filter(|id| *id >= 0);
            "appended"
        }
        What::Replicated => "replicated",
        What::Delayed { until } => {
            told.until_ms = ms(*until);
            "delayed"
        }
        What::Due { receipt } => {
            told.receipt = Some(receipt.0);
            "due"
        }
        What::Delivered {
            group,
            member,
            deliveries,
        } => {
            (told.group, told.member) = (text(group), text(member));
            told.deliveries = Some((*deliveries).into());
            "delivered"
        }
        What::Settled { group, member, how } => {
            (told.group, told.member) = (text(group), text(member));
            match how {
                Settled::Accepted => "accepted",
                Settled::Released => "released",
                Settled::Rejected => "rejected",
                Settled::Renewed => "renewed",
            }
        }
        What::Returned { group, deliveries } => {
            told.group = text(group);
            told.deliveries = Some((*deliveries).into());
            "returned"
        }
        What::Parked {
            group,
            deliveries,
            until,
        } => {
            told.group = text(group);
            told.deliveries = Some((*deliveries).into());
            told.until_ms = ms(*until);
            "parked"
        }
        What::GivenUp { group, deliveries } => {
            told.group = text(group);
            told.deliveries = Some((*deliveries).into());
            "given up"
        }
        What::DeadLettered {
            group,
            topic,
            partition,
        } => {
            told.group = text(group);
            told.to_topic = text(topic);
            told.to_partition = Some(*partition);
            "dead-lettered"
        }
        What::Expired { group } => {
            told.group = text(group);
            "expired"
        }
    };
    told.what = what.to_owned();
    told
}
