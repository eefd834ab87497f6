//! `Call`: a request, and the wait for its reply.
//!
//! One topic of replies for each broker that was ever called at, read by that broker from the moment of its first call on; which call a
//! reply is for its correlation id says. So calls cost no topics, however many there are, and whoever can append a record can
//! answer. A reply that nobody waits for is dropped.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OnceCell, Semaphore, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use weir_proto::queue::v1 as proto;
use weir_quorum::ErrorName;
use weir_quorum::command::{Command, CreateTopics, NewTopic, Reply};

use super::counted::{Counted, EXPIRED, REFUSED, REPLIED, UNAVAILABLE};
use super::message::{CORRELATION_ID, Draft, REPLY_TO};
use super::read::Reading;
use super::status::Refused;
use super::{Inner, stopping};
use crate::error::ApiError;
use crate::gateway::Gateway;

/// The topic of replies of a broker is this and its id.
const TOPIC: &str = "weir-replies-";
/// Calls that wait at the same time: each is a stream of HTTP/2 and some hundred bytes here, about a kilobyte in all.
const CALLS_MAX: usize = 100_000;
/// The longest deadline: replies are kept as long, whoever reads them.
const DEADLINE_MAX: Duration = Duration::from_secs(3_600);
/// How much sooner than the caller a call gives up.
const MARGIN: Duration = Duration::from_millis(10);
/// How long the topic of replies may take to be made and found.
const BEGIN_PATIENCE: Duration = Duration::from_secs(30);
/// After something went wrong with it.
const PAUSE: Duration = Duration::from_millis(200);

/// The calls that wait at this broker.
#[derive(Debug)]
pub(super) struct Calls {
    places: Semaphore,
    waiting: Arc<Waiting>,
    /// Whether replies are read; set up with the first call.
    reading: OnceCell<watch::Receiver<bool>>,
}

#[derive(Debug, Default)]
struct Waiting(Mutex<BTreeMap<String, oneshot::Sender<proto::Message>>>);

impl Waiting {
    fn begin(&self, id: &str) -> oneshot::Receiver<proto::Message> {
        let (answer, waits) = oneshot::channel();
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.insert(id.to_owned(), answer);
        waits
    }

    fn take(&self, id: &str) -> Option<oneshot::Sender<proto::Message>> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.remove(id)
    }
}

/// A call that waits; dropped, it does not any more.
struct Wait<'w> {
    waiting: &'w Waiting,
    id: String,
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.waiting.take(&self.id);
    }
}

impl Default for Calls {
    fn default() -> Self {
        Self {
            places: Semaphore::new(CALLS_MAX),
            waiting: Arc::default(),
            reading: OnceCell::new(),
        }
    }
}

impl Inner {
    pub(super) async fn call(
        &self,
        metadata: &MetadataMap,
        request: proto::CallRequest,
    ) -> Result<proto::CallResponse, Status> {
        let mut counted = Counted::new(Arc::clone(&self.gateway.broker().metrics));
        let deadline = deadline(metadata).inspect_err(|_| counted.came_to = REFUSED)?;
        let calling = self.call_within(request);
        tokio::select! {
            answered = tokio::time::timeout(deadline, calling) => match answered {
                Ok(answered) => {
                    counted.came_to = match &answered {
                        Ok(_) => REPLIED,
                        Err(refused) if refused.code == Code::Unavailable => UNAVAILABLE,
                        Err(_) => REFUSED,
                    };
                    Ok(answered?)
                }
                Err(_) => {
                    counted.came_to = EXPIRED;
                    Err(Status::deadline_exceeded(format!("no reply within {deadline:?}")))
                }
            },
            () = self.stop.cancelled() => {
                counted.came_to = UNAVAILABLE;
                Err(stopping())
            }
        }
    }

    async fn call_within(
        &self,
        request: proto::CallRequest,
    ) -> Result<proto::CallResponse, Refused> {
        let full = || Refused::bound(format!("{CALLS_MAX} calls wait at this broker already"));
        let _place = self.calls.places.try_acquire().map_err(|_| full())?;
        if let Some(message) = &request.message
            && !(message.reply_to.is_empty() && message.correlation_id.is_empty())
        {
            let why = "has reply_to or correlation_id, which the broker sets";
            return Err(Refused::invalid("message", why));
        }
        let mut draft = Draft::of(request.message, self.now_ms())?;
        self.gateway
            .look_for([request.topic.as_str()].into_iter())
            .await;
        let place = self.place(&request.topic, request.partition, draft.key.as_deref())?;
        let id = self.gateway.broker().host.entropy.uuid().to_string();
        draft.set(REPLY_TO, topic_of(&self.gateway));
        draft.set(CORRELATION_ID, id.clone());
        self.replies_are_read().await?;
        let reply = self.calls.waiting.begin(&id);
        let _wait = Wait {
            waiting: &self.calls.waiting,
            id,
        };
        self.publish_to(&place, &draft).await?;
        match reply.await {
            Ok(message) => Ok(proto::CallResponse {
                message: Some(message),
            }),
            Err(_) => Err(Refused::new(Code::Unavailable, "the broker is stopping")),
        }
    }

    /// Answers a request.
    pub(super) async fn reply(
        &self,
        request: proto::ReplyRequest,
    ) -> Result<proto::ReplyResponse, Refused> {
        for (field, value) in [
            ("reply_to", &request.reply_to),
            ("correlation_id", &request.correlation_id),
        ] {
            if value.is_empty() {
                return Err(Refused::invalid(field, "is missing"));
            }
        }
        if let Some(message) = &request.message
            && !(message.reply_to.is_empty() && message.correlation_id.is_empty())
        {
            let why = "has reply_to or correlation_id, which are the request's";
            return Err(Refused::invalid("message", why));
        }
        let mut draft = Draft::of(request.message, self.now_ms())?;
        draft.set(CORRELATION_ID, request.correlation_id);
        self.gateway
            .look_for([request.reply_to.as_str()].into_iter())
            .await;
        let place = self.place(&request.reply_to, None, draft.key.as_deref())?;
        self.publish_to(&place, &draft).await?;
        Ok(proto::ReplyResponse {})
    }

    /// Returns when whatever is replied from now on is seen.
    async fn replies_are_read(&self) -> Result<(), Refused> {
        let begin = || async {
            let (tell, reading) = watch::channel(false);
            let follow = follow(
                self.gateway.clone(),
                Arc::clone(&self.calls.waiting),
                tell,
                self.stop.clone(),
            );
            tokio::spawn(follow);
            reading
        };
        let mut reading = self.calls.reading.get_or_init(begin).await.clone();
        let waits = reading.wait_for(|is_read| *is_read);
        match tokio::time::timeout(BEGIN_PATIENCE, waits).await {
            Ok(Ok(_)) => Ok(()),
            _ => {
                let why = "the topic of replies cannot be read";
                Err(Refused::new(Code::Unavailable, why))
            }
        }
    }
}

/// How long a caller waits, as gRPC's metadata have it: up to eight digits and a unit.
fn deadline(metadata: &MetadataMap) -> Result<Duration, Refused> {
    let none = || Refused::invalid("the call", "has no deadline; an hour is allowed at most");
    let text = metadata.get("grpc-timeout").ok_or_else(none)?;
    let text = text.to_str().map_err(|_| none())?;
    let (number, unit) = text
        .split_at_checked(text.len().saturating_sub(1))
        .ok_or_else(none)?;
    let number: u64 = number.parse().map_err(|_| none())?;
    let deadline = match unit {
        "H" => Duration::from_secs(number.saturating_mul(3_600)),
        "M" => Duration::from_secs(number.saturating_mul(60)),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return Err(none()),
    };
    if deadline > DEADLINE_MAX {
        return Err(none());
    }
    // The answer that it has passed is to be there by then.
    Ok(deadline.saturating_sub(MARGIN.min(deadline / 2)))
}

fn topic_of(gateway: &Gateway) -> String {
    format!("{TOPIC}{}", gateway.broker().metadata.broker_id())
}

/// Reads replies until `stop`.
async fn follow(
    gateway: Gateway,
    waiting: Arc<Waiting>,
    is_read: watch::Sender<bool>,
    stop: CancellationToken,
) {
    let reading = async {
        loop {
            let ended = read(&gateway, &waiting, &is_read).await;
            is_read.send_replace(false);
            tracing::warn!(
                reason = ended.message(),
                "replies are not read; trying again"
            );
            tokio::time::sleep(PAUSE).await;
        }
    };
    stop.run_until_cancelled(reading).await;
}

/// Reads replies until that fails; why it did.
async fn read(gateway: &Gateway, waiting: &Waiting, is_read: &watch::Sender<bool>) -> Status {
    let topic = topic_of(gateway);
    if let Err(error) = make(gateway, &topic).await {
        return Refused::from(error).into();
    }
    let request = proto::ReadRequest {
        topic,
        ..proto::ReadRequest::default()
    };
    let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut reading = match Reading::of(gateway.clone(), nobody, request) {
        Ok(reading) => reading,
        Err(refused) => return refused.into(),
    };
    if let Err(status) = reading.begin().await {
        return status;
    }
    is_read.send_replace(true);
    loop {
        let replies = match reading.next().await {
            Ok(replies) => replies,
            Err(status) => return status,
        };
        for reply in replies
            .messages
            .into_iter()
            .filter_map(|reply| reply.message)
        {
            if let Some(waits) = waiting.take(&reply.correlation_id) {
                // It may have given up this moment.
                let _ = waits.send(reply);
            }
        }
    }
}

/// Has the topic made, unless it is there. One partition: what is replied is small, and read by one.
async fn make(gateway: &Gateway, topic: &str) -> Result<(), ApiError> {
    if gateway.image().topic(topic).is_some() {
        return Ok(());
    }
    let retention = DEADLINE_MAX.as_millis().to_string();
    let create = Command::CreateTopics(CreateTopics {
        topics: vec![NewTopic {
            name: topic.to_owned(),
            partitions: Some(1),
            replication_factor: None,
            assignments: BTreeMap::new(),
            config: BTreeMap::from([("retention.ms".to_owned(), retention)]),
        }],
        validate_only: false,
    });
    match gateway.broker().metadata.control(create).await? {
        Reply::Topics(results) => {
            let error = results.into_iter().find_map(|result| result.outcome.err());
            match error.filter(|error| error.name != ErrorName::TopicAlreadyExists) {
                Some(error) => Err(error.into()),
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn of(text: &str) -> Option<Duration> {
        let mut metadata = MetadataMap::new();
        metadata.insert("grpc-timeout", text.parse().unwrap());
        deadline(&metadata).ok()
    }

    #[test]
    fn a_deadline_is_read_as_grpc_writes_it() {
        assert_eq!(of("1H"), Some(DEADLINE_MAX - MARGIN));
        assert_eq!(of("2M"), Some(Duration::from_secs(120) - MARGIN));
        assert_eq!(of("3S"), Some(Duration::from_secs(3) - MARGIN));
        assert_eq!(of("40m"), Some(Duration::from_millis(30)));
        assert_eq!(of("50u"), Some(Duration::from_micros(25)));
        assert_eq!(of("60n"), Some(Duration::from_nanos(30)));
        for wrong in ["2H", "99999999H", "5", "S", "x5S"] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
        assert!(
            deadline(&MetadataMap::new()).is_err(),
            "there has to be one"
        );
    }

    #[test]
    fn a_call_that_is_over_waits_for_nothing() {
        let waiting = Waiting::default();
        let reply = waiting.begin("a");
        drop(Wait {
            waiting: &waiting,
            id: "a".into(),
        });
        drop(reply);
        assert!(waiting.take("a").is_none());
    }
}
