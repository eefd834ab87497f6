//! `Subscribe`: a stream that is a member of a share group.
//!
//! One task for each stream. It has a [`Member`] of the group at the coordinator, a [`Session`] at each broker that leads partitions which are
//! assigned to it, and a [`Ledger`] of what the client has. What always holds: no fetch asks for more records than there is credit for, one
//! fetch and one acknowledgement are under way at each broker at a time, and whatever ends the stream drops the sessions, which
//! releases at their leaders all that is out.

mod credit;
mod ledger;
mod measured;
mod member;
mod session;
mod settling;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};
use weir_groups::share::state::NAME_BYTES_MAX;
use weir_proto::queue::v1 as proto;
use weir_proto::queue::v1::subscribe_request::Request as Asked;
use weir_proto::queue::v1::subscribe_response::Response as Told;
use weir_quorum::BrokerId;

use super::status::Refused;
use super::stopping;
use crate::error::ApiError;
use crate::gateway::{AskError, Gateway, leader};
use credit::shares;
use ledger::{Ledger, SessionId};
use measured::Measured;
use member::{Assigned, Member, TopicPartition};
use session::{ACKNOWLEDGE, Ack, FETCH, RELEASE, Record, Session, acked, fetched};
use settling::Delayed;

/// Topics of one stream: their names are sent, and kept by the group.
const TOPICS_MAX: usize = 100;
/// Bytes of a member's id: a UUID, with room to spare.
const MEMBER_ID_MAX: usize = 64;
/// Credit of one stream: each message out takes about its own size here and at the client, and some hundred bytes at its leader.
const CREDIT_MAX: u32 = 10_000;
/// How long a client may take to say what it wants.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// How long settlements may take to be stored after the client has said that it has no more to say.
const DRAIN_PATIENCE: Duration = Duration::from_secs(10);

/// How long a fetch with nothing to fetch waits at its leader. Credit that it holds is of use to nobody else meanwhile.
const WAIT_MS: i32 = 500;
/// The same when others wait for the credit.
const WAIT_IN_TURN_MS: i32 = 20;
/// After something went wrong at a leader that passes by itself.
const PAUSE: Duration = Duration::from_millis(100);

/// Bytes of one message of the stream, about, unless one delivery is larger: well below what clients take by default (4 MiB).
const SEND_BYTES: usize = 1 << 20;
/// Messages of the stream that the client has not taken yet: with [`SEND_BYTES`], what a slow client holds here.
pub(super) const UNSENT_MAX: usize = 4;

pub(super) type Responses = mpsc::Sender<Result<proto::SubscribeResponse, Status>>;

/// What a request of the stream came to.
enum Event {
    Fetched {
        session: SessionId,
        reserved: u32,
        answer: Result<Bytes, AskError>,
    },
    Acknowledged {
        session: SessionId,
        said: Vec<Ack>,
        answer: Result<Bytes, AskError>,
    },
}

/// A stream.
struct Subscription {
    gateway: Gateway,
    client: SocketAddr,
    group: String,
    member: Member,
    out: Responses,
    ledger: Ledger,
    measured: Measured,
    sessions: BTreeMap<SessionId, Session>,
    last_session: SessionId,
    turn: u64,
    asking: FuturesUnordered<BoxFuture<'static, Event>>,
    /// Assignment, leaders or sessions have changed.
    is_stale: bool,
    /// No session is opened before this.
    open_after: Option<Instant>,
    delayed: Delayed,
    outcomes: Vec<proto::Outcome>,
    /// The client says nothing more; nothing more is sent to it but what became of what it said.
    ends_by: Option<Instant>,
}

/// Serves a stream until one side ends it.
pub(super) async fn serve(
    gateway: Gateway,
    client: SocketAddr,
    mut requests: Streaming<proto::SubscribeRequest>,
    out: Responses,
    stop: CancellationToken,
) {
    let serving = async {
        let first = tokio::time::timeout(START_PATIENCE, requests.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("nothing is said"))?;
        let start = match first? {
            None => return Ok(()),
            Some(proto::SubscribeRequest {
                request: Some(Asked::Start(start)),
            }) => start,
            Some(_) => {
                let why = "start has to come first";
                return Err(Status::invalid_argument(why));
            }
        };
        check(&start)?;
        let mut subscription = Subscription::new(gateway, client, start, out.clone());
        subscription.run(&mut requests).await
    };
    let ended = tokio::select! {
        ended = serving => ended,
        () = out.closed() => return,
        () = stop.cancelled() => Err(stopping()),
    };
    if let Err(status) = ended {
        // It may be gone already.
        let _ = out.send(Err(status)).await;
    }
}

fn check(start: &proto::Start) -> Result<(), Refused> {
    if !(1..=NAME_BYTES_MAX).contains(&start.group.len()) {
        let why = format!("has to have 1 to {NAME_BYTES_MAX} bytes");
        return Err(Refused::invalid("start.group", why));
    }
    if !(1..=TOPICS_MAX).contains(&start.topics.len()) {
        let why = format!("has to have 1 to {TOPICS_MAX} topics");
        return Err(Refused::invalid("start.topics", why));
    }
    if start.topics.iter().any(String::is_empty) {
        return Err(Refused::invalid("start.topics", "has one without a name"));
    }
    if start.member_id.len() > MEMBER_ID_MAX {
        let why = format!("has more than {MEMBER_ID_MAX} bytes");
        return Err(Refused::invalid("start.member_id", why));
    }
    check_credit("start.credit", start.credit)
}

fn check_credit(field: &str, credit: u32) -> Result<(), Refused> {
    if credit > CREDIT_MAX {
        let why = format!("is {credit}; {CREDIT_MAX} are allowed at most");
        return Err(Refused::invalid(field, why));
    }
    Ok(())
}

impl Subscription {
    fn new(gateway: Gateway, client: SocketAddr, start: proto::Start, out: Responses) -> Self {
        let member = Member::join(
            gateway.clone(),
            client,
            start.group.clone(),
            start.topics.clone(),
            start.member_id.clone(),
        );
        let mut ledger = Ledger::default();
        ledger.credit.set(start.credit);
        let measured = Measured::new(gateway.broker().metrics.clone());
        Self {
            gateway,
            client,
            group: start.group,
            member,
            out,
            ledger,
            measured,
            sessions: BTreeMap::new(),
            last_session: 0,
            turn: 0,
            asking: FuturesUnordered::new(),
            is_stale: true,
            open_after: None,
            delayed: Delayed::default(),
            outcomes: Vec::new(),
            ends_by: None,
        }
    }

    async fn run(
        &mut self,
        requests: &mut Streaming<proto::SubscribeRequest>,
    ) -> Result<(), Status> {
        let mut images = self.gateway.broker().metadata.watch();
        let started = Told::Started(proto::Started {
            member_id: self.member.id.clone(),
        });
        self.tell(started).await?;
        loop {
            if self.is_stale {
                self.follow()?;
            }
            self.after_delays();
            self.acknowledge();
            if let Some(by) = self.ends_by {
                let is_done = self
                    .sessions
                    .values()
                    .all(|session| session.acks.is_empty() && !session.is_acknowledging);
                self.tell_outcomes().await?;
                if is_done || Instant::now() >= by {
                    return Ok(());
                }
            } else {
                self.fetch();
            }
            self.tell_outcomes().await?;
            self.measured.set(self.ledger.credit);
            let wake = self.wakes_at();
            tokio::select! {
                request = requests.message(), if self.ends_by.is_none() => match request? {
                    Some(request) => self.said(request)?,
                    None => self.ends_by = Some(Instant::now() + DRAIN_PATIENCE),
                },
                Some(event) = self.asking.next(), if !self.asking.is_empty() => self.heard(event).await?,
                changed = self.member.assigned.changed() => match changed {
                    Ok(()) => self.is_stale = true,
                    Err(_) => return Err(self.refused()),
                },
                changed = images.changed() => match changed {
                    Ok(()) => self.is_stale = true,
                    Err(_) => return Err(stopping()),
                },
                () = tokio::time::sleep_until(wake) => self.is_stale |= self.open_after.is_some(),
            }
        }
    }

    /// Why the group has no such member.
    fn refused(&self) -> Status {
        match &*self.member.assigned.borrow() {
            Assigned::Refused(refused) => refused.clone().into(),
            Assigned::Partitions(_) => Status::unavailable("the member has left the group"),
        }
    }

    /// Has sessions where partitions that are assigned are led, and no others.
    fn follow(&mut self) -> Result<(), Status> {
        self.is_stale = false;
        let assigned = match &*self.member.assigned.borrow_and_update() {
            Assigned::Partitions(assigned) => assigned.clone(),
            Assigned::Refused(refused) => return Err(refused.clone().into()),
        };
        let image = self.gateway.image();
        let mut led: BTreeMap<BrokerId, BTreeSet<TopicPartition>> = BTreeMap::new();
        for (topic, index) in assigned {
            let found = image.topic_by_id(topic);
            let partition = found.and_then(|found| found.partition(index));
            // One without a leader comes back when there is one, with the metadata.
            if let Some((leader, _)) = partition.and_then(|partition| leader(&image, partition)) {
                led.entry(leader).or_default().insert((topic, index));
            }
        }
        let mut over = Vec::new();
        for (id, session) in &mut self.sessions {
            session.wanted = led.remove(&session.broker).unwrap_or_default();
            let is_alive = image
                .broker(session.broker)
                .is_some_and(|broker| !broker.fenced);
            let is_unused = session.is_unused() && !self.ledger.has_of(*id);
            if session.link.is_lost() || !is_alive || is_unused {
                over.push(*id);
            }
        }
        for id in over {
            self.lose(id);
        }
        if self.open_after.is_some_and(|after| Instant::now() < after) {
            return Ok(());
        }
        self.open_after = None;
        for (broker, wanted) in led {
            match self.gateway.open(broker, self.client) {
                Ok(link) => {
                    let name = self.gateway.broker().host.entropy.uuid();
                    let mut session = Session::new(broker, link, self.group.clone(), name);
                    session.wanted = wanted;
                    self.last_session += 1;
                    self.sessions.insert(self.last_session, session);
                }
                Err(_) => self.open_after = Some(Instant::now() + PAUSE),
            }
        }
        Ok(())
    }

    /// A session is over. What the client has of it is counted as out until it says something of it.
    fn lose(&mut self, id: SessionId) {
        let Some(session) = self.sessions.remove(&id) else {
            return;
        };
        for ack in session.acks {
            self.conclude(ack, Err(lease_over()));
        }
        self.delayed.forget(id);
        if !session.wanted.is_empty() {
            self.open_after = Some(Instant::now() + PAUSE);
            self.is_stale = true;
        }
    }

    /// Fetches wherever that may bring something, as far as there is credit.
    fn fetch(&mut self) {
        let now = Instant::now();
        for session in self.sessions.values_mut() {
            session.not_before = session.not_before.filter(|before| *before > now);
        }
        let sessions = self.sessions.iter();
        let sessions =
            sessions.filter(|(_, session)| session.not_before.is_none() && !session.is_fetching);
        let (mut may, mut forgetful) = (Vec::new(), Vec::new());
        for (id, session) in sessions {
            if !session.wanted.is_empty() {
                may.push((session.turn, *id, session.was_busy));
            } else if session.only_forgets() && session.is_open() {
                forgetful.push(*id);
            }
        }
        for id in forgetful {
            self.fetch_from(id, 0, 0);
        }
        may.sort_unstable();
        let was_busy: Vec<_> = may.iter().map(|(_, _, was_busy)| *was_busy).collect();
        let shares = shares(self.ledger.credit.free(), &was_busy);
        let wait_ms = if shares.contains(&0) {
            WAIT_IN_TURN_MS
        } else {
            WAIT_MS
        };
        for ((_, id, _), share) in may.into_iter().zip(shares) {
            if share > 0 {
                self.fetch_from(id, share, wait_ms);
            }
        }
    }

    fn fetch_from(&mut self, id: SessionId, records: u32, wait_ms: i32) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        self.turn += 1;
        session.turn = self.turn;
        session.is_fetching = true;
        session.not_before = None;
        self.ledger.credit.reserve(records);
        let request = session.fetch(records, wait_ms);
        let answer = session.link.ask(FETCH, &request);
        self.asking.push(Box::pin(async move {
            Event::Fetched {
                session: id,
                reserved: records,
                answer: answer.await,
            }
        }));
    }

    /// Sends what is to be said of records.
    fn acknowledge(&mut self) {
        for (id, session) in &mut self.sessions {
            if session.acks.is_empty() || session.is_acknowledging {
                continue;
            }
            session.is_acknowledging = true;
            let (request, said) = session.acknowledge();
            let answer = session.link.ask(ACKNOWLEDGE, &request);
            let id = *id;
            self.asking.push(Box::pin(async move {
                Event::Acknowledged {
                    session: id,
                    said,
                    answer: answer.await,
                }
            }));
        }
    }

    async fn heard(&mut self, event: Event) -> Result<(), Status> {
        match event {
            Event::Fetched {
                session,
                reserved,
                answer,
            } => {
                let answer = answer
                    .map_err(ApiError::from)
                    .and_then(|body| fetched(&body));
                self.fetched(session, reserved, answer).await
            }
            Event::Acknowledged {
                session,
                said,
                answer,
            } => {
                let answer = answer.map_err(ApiError::from).and_then(|body| acked(&body));
                self.acknowledged(session, said, answer);
                Ok(())
            }
        }
    }

    async fn fetched(
        &mut self,
        id: SessionId,
        reserved: u32,
        answer: Result<session::Fetched, ApiError>,
    ) -> Result<(), Status> {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                self.ledger.credit.fetched(reserved, 0);
                let refused = Refused::from(error);
                if refused.code == Code::ResourceExhausted {
                    return Err(refused.into());
                }
                tracing::debug!(error = refused.message, "a share session is over");
                self.lose(id);
                return Ok(());
            }
        };
        let Some(session) = self.sessions.get_mut(&id) else {
            // What it brought is released: the session is over.
            self.ledger.credit.fetched(reserved, 0);
            return Ok(());
        };
        session.is_fetching = false;
        session.was_busy = !answer.records.is_empty();
        if answer.has_errors {
            session.not_before = Some(Instant::now() + PAUSE);
        }
        self.delayed.lease_ms = answer.lease_ms;
        for (partition, offset, kind) in answer.unreadable {
            session.acks.push(Ack {
                partition,
                offset,
                kind,
                token: None,
                is_alone: false,
            });
        }
        if self.ends_by.is_some() {
            // It will not be sent; it goes to others at once.
            self.ledger.credit.fetched(reserved, 0);
            session.acks.extend(answer.records.iter().map(|record| Ack {
                partition: record.partition,
                offset: record.offset,
                kind: RELEASE,
                token: None,
                is_alone: false,
            }));
            return Ok(());
        }
        let places = answer.records.iter();
        let places = places.map(|record| (record.partition, record.offset));
        let tokens = self.ledger.hand_out(id, reserved, places);
        self.deliver(answer.records, &tokens, answer.lease_ms).await
    }

    /// Sends messages, some at a time.
    async fn deliver(
        &mut self,
        records: Vec<Record>,
        tokens: &[u64],
        lease_ms: i64,
    ) -> Result<(), Status> {
        let image = self.gateway.image();
        let (mut deliveries, mut bytes) = (Vec::new(), 0);
        for (record, token) in records.into_iter().zip(tokens) {
            let (topic, partition) = record.partition;
            let topic = image.topic_by_id(topic);
            let delivery = proto::Delivery {
                token: *token,
                topic: topic.map_or_else(String::new, |topic| topic.name.to_string()),
                partition,
                offset: record.offset,
                delivery_count: record.deliveries,
                lease_ms,
                message: Some(record.message),
            };
            let more = delivery.encoded_len();
            if bytes > 0 && bytes + more > SEND_BYTES {
                let deliveries = std::mem::take(&mut deliveries);
                let told = Told::Deliveries(proto::Deliveries { deliveries });
                self.tell(told).await?;
                bytes = 0;
            }
            bytes += more;
            deliveries.push(delivery);
        }
        if deliveries.is_empty() {
            return Ok(());
        }
        self.tell(Told::Deliveries(proto::Deliveries { deliveries }))
            .await
    }

    async fn tell_outcomes(&mut self) -> Result<(), Status> {
        if self.outcomes.is_empty() {
            return Ok(());
        }
        let outcomes = std::mem::take(&mut self.outcomes);
        self.tell(Told::Settled(proto::Settled { outcomes })).await
    }

    async fn tell(&mut self, told: Told) -> Result<(), Status> {
        let response = proto::SubscribeResponse {
            response: Some(told),
        };
        let sent = self.out.send(Ok(response)).await;
        sent.map_err(|_| Status::cancelled("the client is gone"))
    }

    /// When there is something to do though nothing happens.
    fn wakes_at(&self) -> Instant {
        /// Nothing to do; looked at again all the same.
        const AT_LEAST: Duration = Duration::from_secs(60);
        let pauses = self
            .sessions
            .values()
            .filter(|session| !session.is_fetching)
            .filter_map(|session| session.not_before);
        let others = [self.open_after, self.ends_by, self.delayed.next()];
        let all = pauses.chain(others.into_iter().flatten());
        all.min().unwrap_or_else(|| Instant::now() + AT_LEAST)
    }
}

/// What a client is told of what it does not have any more.
fn lease_over() -> Refused {
    let why = "the lease is over: somebody else may get the message, or have got it";
    Refused::new(Code::FailedPrecondition, why)
}
