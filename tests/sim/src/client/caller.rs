//! Who calls and waits for a reply, over gRPC, and who replies.

use std::time::Duration;

use tonic::{Code, Request, Status};
use weir_proto::queue::v1 as proto;

use super::Client;
use super::fetch::{Fetched, Isolation, fetch_records};
use super::grpc::{Queues, answer, message, value};
use crate::history::{Place, Shared};
use crate::queues::{Books, Fate, Queue, Seen, Sent};

/// What a reply is, before what it replies to.
const RE: &str = "re:";
/// How long a call may wait once nothing goes wrong any more, and in how long one must be answered.
const DEADLINE: Duration = Duration::from_secs(3);
const LATE_MS: i64 = 30_000;

/// Who calls.
#[derive(Debug)]
pub struct Caller {
    client: Client,
    history: Shared,
    books: Books,
    places: Vec<Place>,
    queues: Option<Queues>,
    written: u64,
}

impl Caller {
    /// One that calls at any of a queue's partitions.
    #[must_use]
    pub fn new(client: Client, history: Shared, queue: Queue) -> Self {
        let places = queue.places();
        Self {
            client,
            history,
            books: queue.books,
            places,
            queues: None,
            written: 0,
        }
    }

    /// Calls until the history says that it is enough.
    pub async fn run(mut self) {
        while self.history.is_open() {
            let mut queues = self.client.queues_or(&mut self.queues);
            let ms = *self.client.random.pick(&[100, 500, 2_000, 2_000]);
            let is_answered = self.call(&mut queues, Duration::from_millis(ms)).await;
            if is_answered && self.client.random.chance(9, 10) {
                self.queues = Some(queues);
            }
            self.client.rest(10..250).await;
        }
        self.history.done();
    }

    /// Calls at each broker until it is answered there.
    pub async fn is_answered(mut self) {
        let until_ms = self.books.time_ms() + LATE_MS;
        for broker in 0..self.client.brokers() {
            let mut queues = self.client.queues_of(broker);
            while !self.call(&mut queues, DEADLINE).await {
                if self.books.time_ms() >= until_ms {
                    let what = format!("no call at broker {broker} is answered");
                    return self.history.wrong(what);
                }
                self.client.pause().await;
            }
        }
    }

    /// Calls once. Whether it was answered.
    async fn call(&mut self, queues: &mut Queues, deadline: Duration) -> bool {
        let place = self.client.random.pick(&self.places).clone();
        let asked = format!("q/{}/{}/-/good", self.client.host, self.written);
        self.written += 1;
        let number = self.books.sending(Sent {
            place: place.clone(),
            value: asked.clone(),
            id: None,
            due_ms: None,
            is_at: false,
            sent_ms: self.books.now_ms(),
            fate: Fate::Unknown,
            cancelled: None,
        });
        let mut request = Request::new(proto::CallRequest {
            topic: place.0.to_string(),
            partition: Some(place.1),
            message: Some(message(&asked)),
        });
        request.set_timeout(deadline);
        match answer(queues.call(request)).await {
            Ok(answer) => {
                let reply = value(answer.message.as_ref());
                if reply.strip_prefix(RE) != Some(asked.as_str()) {
                    let what = format!("{place:?}: {asked} is answered with {reply:?}");
                    self.history.wrong(what);
                }
                // Where it is is not told.
                self.books.acked(number, -1);
                true
            }
            Err(Some(status)) => {
                self.check(&status);
                false
            }
            Err(None) => false,
        }
    }

    fn check(&self, status: &Status) {
        // The broker has not heard of the topic yet.
        if status.code() != Code::NotFound {
            self.history.wrong(format!("a call is refused: {status:?}"));
        }
    }
}

/// Who replies to what lies in the logs; not to everything, to some twice, and to some that nobody has asked.
#[derive(Debug)]
pub struct Replier {
    client: Client,
    history: Shared,
    books: Books,
    positions: Vec<(Place, i64)>,
    queues: Option<Queues>,
}

impl Replier {
    /// One that replies to what comes to a queue.
    #[must_use]
    pub fn new(client: Client, history: Shared, queue: Queue) -> Self {
        let places = queue.places().into_iter();
        Self {
            client,
            history,
            books: queue.books,
            positions: places.map(|place| (place, 0)).collect(),
            queues: None,
        }
    }

    /// Replies until everything is finished.
    pub async fn run(mut self) {
        while !self.books.is_over() {
            for index in 0..self.positions.len() {
                let (place, position) = self.positions[index].clone();
                let uncommitted = Isolation::Uncommitted;
                let fetched = fetch_records(&mut self.client, &place, position, 20, uncommitted);
                if let Fetched::Values(portion) = fetched.await {
                    self.positions[index].1 = portion.next;
                    for record in portion.values {
                        self.answer(&record).await;
                    }
                }
            }
            self.client.rest(5..100).await;
        }
        self.history.done();
    }

    async fn answer(&mut self, record: &Seen) {
        let header = |name: &str| record.headers.get(name).cloned().unwrap_or_default();
        let (reply_to, id) = (header("weir-reply-to"), header("weir-correlation-id"));
        if reply_to.is_empty() || id.is_empty() {
            let what = format!("a call does not say whom to answer: {record:?}");
            return self.history.wrong(what);
        }
        let reply = format!("{RE}{}", record.value);
        match self.client.random.within(0..10) {
            0 => {}
            1 => {
                self.reply(&reply_to, &id, &reply).await;
                self.reply(&reply_to, &id, &reply).await;
            }
            2 => {
                // An answer to a call that is over, or never was.
                self.reply(&reply_to, &format!("{id}-"), "nothing").await;
                self.reply(&reply_to, &id, &reply).await;
            }
            _ => self.reply(&reply_to, &id, &reply).await,
        }
    }

    /// Replies once; whether that comes nobody needs to know.
    async fn reply(&mut self, reply_to: &str, correlation_id: &str, reply: &str) {
        let mut queues = self.client.queues_or(&mut self.queues);
        let request = proto::ReplyRequest {
            reply_to: reply_to.to_owned(),
            correlation_id: correlation_id.to_owned(),
            message: Some(message(reply)),
        };
        match answer(queues.reply(request)).await {
            Ok(_) => self.queues = Some(queues),
            // The broker has not heard of the topic yet.
            Err(Some(status)) if status.code() == Code::NotFound => {}
            Err(Some(status)) => self
                .history
                .wrong(format!("a reply is refused: {status:?}")),
            Err(None) => {}
        }
    }
}
