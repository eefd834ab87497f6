//! A producer of half messages, and those who answer for it: it prepares, does its own work, which goes well or not, and commits or rolls back; or dies in
//! between, and then whoever of its group is there is asked.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::{Code, Status};
use weir_proto::queue::v1 as proto;
use weir_proto::queue::v1::check_back_request::Request as Said;
use weir_proto::queue::v1::check_back_response::Response as Told;

use super::Client;
use super::grpc::{Queues, answer, stream, to, value};
use crate::history::{Place, Shared};
use crate::queues::{Deal, Deals, Ending, Queue};

/// The groups of producers, which are kept in different partitions.
const GROUPS: [&str; 3] = ["shop", "bank", "post"];
/// Answers that wait for their stream to take them.
const UNSENT_MAX: usize = 64;
/// How much later than it might a half that nobody decides is given up once nothing goes wrong any more: each new coordinator begins to wait anew.
const GIVES_UP_MS: u64 = 15_000;

/// A producer of half messages.
#[derive(Debug)]
pub struct Dealer {
    client: Client,
    history: Shared,
    deals: Deals,
    places: Vec<Place>,
    /// The service of some broker; another one when that is not there any more.
    queues: Option<Queues>,
    written: u64,
}

impl Dealer {
    /// One that publishes to all of a queue's partitions.
    #[must_use]
    pub fn new(client: Client, history: Shared, queue: Queue) -> Self {
        let places = queue.places();
        Self {
            client,
            history,
            deals: queue.deals,
            places,
            queues: None,
            written: 0,
        }
    }

    /// Goes on until the history says that it is enough.
    pub async fn run(mut self) {
        while self.history.is_open() {
            self.deal().await;
            if self.client.random.chance(1, 6) {
                self.queues = None;
            }
            self.client.rest(10..250).await;
        }
        self.history.done();
    }

    /// Ends all that is open and has a name: as was decided; and of what nobody has decided it waits for the end.
    pub async fn settle_all(mut self) {
        let deals = self.deals.clone();
        for (number, deal) in deals.open() {
            if let Some(decision) = deal.decision {
                while deals.get(number).is_some_and(|deal| deal.ended.is_none()) {
                    self.end(number, decision).await;
                    self.client.pause().await;
                }
                continue;
            }
            let wait_ms = (deal.open_until_ms() + GIVES_UP_MS).saturating_sub(deals.now_ms());
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            // It is too late for that.
            while deals.get(number).is_some_and(|deal| deal.ended.is_none()) {
                self.end(number, Ending::Commit).await;
                self.client.pause().await;
            }
        }
    }

    fn messages(&mut self) -> Vec<(Place, String)> {
        let count = *self.client.random.pick(&[1, 1, 2, 3, 4]);
        let message = |_| {
            let place = self.client.random.pick(&self.places).clone();
            let value = format!("q/{}/{}/-/good", self.client.host, self.written);
            self.written += 1;
            (place, value)
        };
        (0..count).map(message).collect()
    }

    /// From preparing to the end, or to its death.
    async fn deal(&mut self) {
        // It dies before it decides, and never will.
        let dies = self.client.random.chance(1, 12);
        let random = &mut self.client.random;
        let (check_after_ms, asks_max) = match dies {
            true => (*random.pick(&[100, 400]), *random.pick(&[1, 2])),
            false => (
                *random.pick(&[100, 300, 1_000, 3_000]),
                *random.pick(&[1, 2, 15, 15]),
            ),
        };
        let messages = self.messages();
        let deal = Deal::new(messages, check_after_ms, asks_max);
        let number = self.deals.preparing(deal);
        if !self.prepare(number).await || dies {
            return;
        }
        // Some of it takes so long that it is asked for meanwhile.
        match self.client.random.within(0..8) {
            0 => self.client.rest(100..2_500).await,
            _ => self.client.rest(0..60).await,
        }
        let decision = match self.client.random.chance(2, 3) {
            true => Ending::Commit,
            false => Ending::Rollback,
        };
        self.deals.decide(number, decision);
        // As often as not it tries until it is heard.
        let mut tries = *self.client.random.pick(&[0, 1, 1, 2, 100, 100]);
        while tries > 0 && self.is_open(number) {
            self.end(number, decision).await;
            tries -= 1;
            if self.is_open(number) {
                self.client.pause().await;
            }
        }
        let ended = self.deals.get(number).and_then(|deal| deal.ended);
        if let Some((ending, _)) = ended
            && self.client.random.chance(1, 4)
        {
            // The same again changes nothing, and the other comes too late.
            self.end(number, ending).await;
            let other = match ending {
                Ending::Commit => Ending::Rollback,
                Ending::Rollback => Ending::Commit,
            };
            if self.say(number, other).await.is_ok() {
                let what = format!("has ended, and then in a {other:?}");
                self.deals.wrong(number, &what);
            }
        }
    }

    fn is_open(&self, number: usize) -> bool {
        let deal = self.deals.get(number);
        self.history.is_open() && deal.is_some_and(|deal| deal.ended.is_none())
    }

    /// Whether it is prepared, as far as its producer has heard. One that has not heard does nothing, and says so when it is asked.
    async fn prepare(&mut self, number: usize) -> bool {
        let Some(deal) = self.deals.get(number) else {
            return false;
        };
        let messages = deal.messages.iter();
        let request = proto::PrepareRequest {
            producer_group: (*self.client.random.pick(&GROUPS)).to_owned(),
            messages: messages.map(|(place, value)| to(place, value)).collect(),
            check_after_ms: i64::try_from(deal.check_after_ms).unwrap_or(0),
            asks_max: deal.asks_max,
        };
        let mut queues = self.client.queues_or(&mut self.queues);
        match answer(queues.prepare(request)).await {
            Ok(prepared) => {
                self.queues = Some(queues);
                self.deals.prepared(number, &prepared.transaction_id);
                return true;
            }
            // The broker has not heard of the topics yet.
            Err(Some(status)) if status.code() == Code::NotFound => {}
            Err(Some(status)) => self.deals.wrong(number, &format!("is refused: {status:?}")),
            Err(None) => {}
        }
        self.deals.decide(number, Ending::Rollback);
        false
    }

    /// Says once how a half is to end, and takes down what came of it.
    async fn end(&mut self, number: usize, ending: Ending) {
        match self.say(number, ending).await {
            Ok(()) => self.deals.ended(number, ending),
            Err(Some(status)) => refused(&self.deals, number, ending, &status),
            Err(None) => {}
        }
    }

    async fn say(&mut self, number: usize, ending: Ending) -> Result<(), Option<Status>> {
        let id = self.deals.get(number).and_then(|deal| deal.id);
        let transaction_id = id.ok_or(None)?;
        let mut queues = self.client.queues_or(&mut self.queues);
        let ended = match ending {
            Ending::Commit => {
                let request = proto::CommitRequest { transaction_id };
                answer(queues.commit(request)).await.map(drop)
            }
            Ending::Rollback => {
                let request = proto::RollbackRequest { transaction_id };
                answer(queues.rollback(request)).await.map(drop)
            }
        };
        if !matches!(ended, Err(None)) {
            self.queues = Some(queues);
        }
        ended
    }
}

/// A half was not to end in this way.
fn refused(deals: &Deals, number: usize, ending: Ending, status: &Status) {
    match status.code() {
        Code::FailedPrecondition => deals.contradicted(number, ending),
        _ => deals.wrong(number, &format!("cannot end: {status:?}")),
    }
}

/// Somebody of the producers' groups who can be asked: it knows what each of them has decided.
#[derive(Debug)]
pub struct Teller {
    client: Client,
    history: Shared,
    queue: Queue,
}

impl Teller {
    /// One that knows of a queue's halves.
    #[must_use]
    pub fn new(client: Client, history: Shared, queue: Queue) -> Self {
        Self {
            client,
            history,
            queue,
        }
    }

    /// Answers until everything is finished.
    pub async fn run(mut self) {
        while !self.queue.books.is_over() {
            self.listen().await;
            self.client.pause().await;
        }
        self.history.done();
    }

    /// One stream, until it ends or is left, with whatever was on its way.
    async fn listen(&mut self) {
        let deals = self.queue.deals.clone();
        let stream_ms = deals.now_ms();
        let (say, requests) = mpsc::channel(UNSENT_MAX);
        let start = proto::CheckBackStart {
            producer_group: (*self.client.random.pick(&GROUPS)).to_owned(),
        };
        if say.send(said(Said::Start(start))).await.is_err() {
            return;
        }
        let mut queues = self.client.queues();
        let Ok(mut told) = answer(queues.check_back(stream(requests))).await else {
            return;
        };
        let lasts_ms = self.client.random.within(300..2_500);
        let until = Instant::now() + Duration::from_millis(lasts_ms);
        let mut answered: BTreeMap<String, (usize, Option<Ending>)> = BTreeMap::new();
        while let Ok(Ok(Some(next))) = tokio::time::timeout_at(until, told.message()).await {
            match next.response {
                Some(Told::Ask(ask)) => {
                    let Some(number) = asked(&deals, &ask, stream_ms) else {
                        return;
                    };
                    // As one that dies.
                    if self.client.random.chance(1, 8) {
                        continue;
                    }
                    let decision = deals.get(number).and_then(|deal| deal.decision);
                    let id = ask.transaction_id;
                    answered.insert(id.clone(), (number, decision));
                    let answer = proto::CheckBackAnswer {
                        transaction_id: id,
                        decision: match decision {
                            Some(Ending::Commit) => proto::Decision::Commit,
                            Some(Ending::Rollback) => proto::Decision::Rollback,
                            None => proto::Decision::Unknown,
                        }
                        .into(),
                    };
                    if say.try_send(said(Said::Answer(answer))).is_err() {
                        return;
                    }
                }
                Some(Told::Ended(ended)) => {
                    let id = &ended.transaction_id;
                    match answered.get(id) {
                        Some((number, said)) => heard(&deals, *number, *said, ended.refused),
                        None => {
                            let what = format!("{id} has ended, of which nothing was said");
                            self.history.wrong(what);
                        }
                    }
                }
                None => {}
            }
        }
    }
}

fn said(request: Said) -> proto::CheckBackRequest {
    proto::CheckBackRequest {
        request: Some(request),
    }
}

/// Which half is asked for.
fn asked(deals: &Deals, ask: &proto::CheckBackAsk, stream_ms: u64) -> Option<usize> {
    let messages = ask.messages.iter().map(|of| {
        let place = Place(of.topic.as_str().into(), of.partition.unwrap_or(-1));
        (place, value(of.message.as_ref()))
    });
    let messages: Vec<_> = messages.collect();
    deals.asked((&ask.transaction_id, ask.asked), &messages, stream_ms)
}

/// What came of an answer.
fn heard(deals: &Deals, number: usize, said: Option<Ending>, refused: Option<proto::Refusal>) {
    let Some(ending) = said else {
        if let Some(refusal) = refused {
            deals.wrong(number, &format!("may not be unknown: {refusal:?}"));
        }
        return;
    };
    match refused {
        None => deals.ended(number, ending),
        Some(refusal) => match Code::from(refusal.code) {
            Code::Unavailable => {}
            code => self::refused(deals, number, ending, &Status::new(code, refusal.message)),
        },
    }
}
