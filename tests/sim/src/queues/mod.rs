//! Queues of a life: what is asked of their topics and groups, who works on them, and what must hold.
//!
//! A life has one kind of queue, or none. Its producers ([`Feeder`]) tell [`Books`] what they send and what they hear; what is in the logs in the end
//! is read once more, and each kind has its judge: [`delays`], [`bounds`], [`drops`], [`jobs`], [`views`], [`halves`], [`calls`], and of priorities the group's own.

mod books;
pub mod bounds;
pub mod calls;
pub mod delays;
pub mod drops;
pub mod halves;
pub mod jobs;
#[cfg(test)]
mod tests;
pub mod value;
pub mod views;

use crate::client::{
    Admin, Caller, Client, Dealer, Feeder, LogReader, Replier, Sharer, Teller, finish_queue,
};
use crate::history::{Place, Shared};
use crate::network::Net;
use crate::node::Node;
use crate::random::Random;
use crate::shares::{LOCK_MS, Rules, Shares};

pub use books::{Books, Fate, Seen, Sent};
pub use halves::{Deal, Deals, Ending};

/// How many messages of a partition may be unsettled, or of a topic.
pub const BOUND: u64 = 8;
/// How far messages may be delayed: further than any is, by a clock that is behind.
pub const DELAY_MAX_MS: u64 = 300_000;
/// Older messages than these expire; clocks are never that wrong.
pub const TTL_MS: i64 = 600_000;
/// For how long ids are remembered: longer than any life, with whatever clocks are wrong by.
const WINDOW_MS: u64 = 600_000;
/// How often members of a group are handed a message that may become a dead letter.
const DELIVERIES_MAX: i16 = 3;
/// How long such a message waits after its deliveries.
const BACKOFFS_MS: [u64; 2] = [400, 1_000];
/// Where halves have messages too.
const STOCK: &str = "stock";
/// Where dead letters go.
pub const DEAD: &str = "dlq.jobs";

/// What is asked of a life's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Messages that come later, some of which are cancelled, and messages that come twice.
    Delays,
    /// A bound for each partition.
    Bound,
    /// A bound of the whole topic.
    TopicBound,
    /// Backoffs, dead letters, a filter and a time to live.
    Jobs,
    /// The same, in the order of keys.
    OrderedJobs,
    /// Strict priorities.
    Ranks,
    /// Views, of a topic of the queue's own and of what transactions write.
    Views,
    /// A bound for each partition, for which producers wait.
    Throttle,
    /// A bound for each partition, within which the oldest make room; and maybe what a group has settled does not count.
    DropOldest,
    /// Half messages, by gRPC.
    Halves,
    /// Calls and their replies, by gRPC.
    Calls,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Delays,
        Self::Bound,
        Self::TopicBound,
        Self::Jobs,
        Self::OrderedJobs,
        Self::Ranks,
        Self::Views,
        Self::Throttle,
        Self::DropOldest,
        Self::Halves,
        Self::Calls,
    ];

    fn draw(random: &mut Random) -> Option<Self> {
        // In most lives there is none: one with a queue takes half as much time again.
        let which = random.within(0..20);
        Self::ALL.get(usize::try_from(which).unwrap_or(0)).copied()
    }

    fn topic(self) -> &'static str {
        match self {
            Self::Delays => "later",
            Self::Bound | Self::TopicBound | Self::Throttle => "tickets",
            Self::Jobs | Self::OrderedJobs => "jobs",
            Self::Ranks => "ranked",
            Self::Views => views::VIEWS[0].of,
            Self::DropOldest => "latest",
            Self::Halves => "sales",
            Self::Calls => "asks",
        }
    }

    fn topic_configs(self, has_group: bool) -> Vec<(&'static str, String)> {
        let bound = |scope: &str, overflow: &str| {
            vec![
                ("weir.queue.max.messages", BOUND.to_string()),
                ("weir.queue.max.scope", scope.to_owned()),
                ("weir.queue.overflow", overflow.to_owned()),
                ("weir.queue.group", "buyers".to_owned()),
            ]
        };
        match self {
            Self::Delays => vec![
                ("weir.queue.delay.max.ms", DELAY_MAX_MS.to_string()),
                ("weir.queue.deduplication.window.ms", WINDOW_MS.to_string()),
            ],
            Self::Bound => bound("partition", "reject"),
            Self::TopicBound => bound("topic", "reject"),
            Self::Throttle => bound("partition", "throttle"),
            Self::DropOldest if has_group => bound("partition", "drop_oldest"),
            Self::DropOldest => vec![
                ("weir.queue.max.messages", BOUND.to_string()),
                ("weir.queue.overflow", "drop_oldest".to_owned()),
            ],
            Self::Ranks => vec![("weir.queue.priority", "strict".to_owned())],
            Self::Views | Self::Halves | Self::Calls => Vec::new(),
            Self::Jobs => vec![("weir.queue.message.ttl.ms", TTL_MS.to_string())],
            Self::OrderedJobs => vec![
                ("weir.queue.message.ttl.ms", TTL_MS.to_string()),
                ("weir.queue.order", "key".to_owned()),
            ],
        }
    }

    /// Whether a share group works on it, where one may.
    fn has_group(self, random: &mut Random) -> bool {
        self != Self::DropOldest || random.chance(1, 2)
    }

    fn rules(self) -> Option<Rules> {
        match self {
            Self::Delays | Self::Views | Self::Halves | Self::Calls => None,
            Self::Bound | Self::TopicBound | Self::Throttle | Self::DropOldest => Some(Rules {
                group: "buyers",
                topic: self.topic(),
                ..Rules::default()
            }),
            Self::Ranks => Some(Rules {
                group: "sorters",
                topic: self.topic(),
                is_ranked: true,
                ..Rules::default()
            }),
            Self::Jobs | Self::OrderedJobs => Some(Rules {
                group: "workers",
                topic: self.topic(),
                deliveries_max: DELIVERIES_MAX,
                backoffs_ms: &BACKOFFS_MS,
                is_ordered: self == Self::OrderedJobs,
                ..Rules::default()
            }),
        }
    }

    /// Whether there is a bound at which messages are refused.
    #[must_use]
    pub fn refuses(self) -> bool {
        matches!(self, Self::Bound | Self::TopicBound)
    }

    /// Whether what is there is looked at while it comes.
    fn is_followed(self) -> bool {
        matches!(
            self,
            Self::Delays | Self::Views | Self::DropOldest | Self::Halves
        )
    }

    /// To how many partitions messages are sent.
    fn partitions(self) -> i32 {
        match self {
            // Where much waits there is much to choose from.
            Self::Ranks => 1,
            Self::TopicBound => 3,
            _ => 2,
        }
    }

    fn feeders(self) -> usize {
        match self {
            Self::Jobs | Self::OrderedJobs | Self::Ranks | Self::Views => 1,
            Self::Halves | Self::Calls => 0,
            _ => 2,
        }
    }

    /// How many ask for something by gRPC, and how many answer.
    fn callers(self) -> (usize, usize) {
        match self {
            Self::Halves => (2, 3),
            Self::Calls => (2, 1),
            _ => (0, 0),
        }
    }

    fn group_configs(self) -> Vec<(&'static str, String)> {
        let Some(rules) = self.rules() else {
            return Vec::new();
        };
        let mut configs = group_configs(rules.deliveries_max);
        if !rules.backoffs_ms.is_empty() {
            let backoffs = rules.backoffs_ms.iter().map(u64::to_string);
            let backoffs = backoffs.collect::<Vec<_>>().join(",");
            configs.extend([
                ("weir.share.retry.backoff.ms", backoffs),
                (
                    "weir.share.filter",
                    format!("headers.kind != '{}'", value::SKIP),
                ),
                ("errors.deadletterqueue.topic.name", DEAD.to_owned()),
                (
                    "errors.deadletterqueue.copy.record.enable",
                    "true".to_owned(),
                ),
            ]);
        }
        configs
    }
}

/// How every share group of a life is configured.
#[must_use]
pub fn group_configs(deliveries_max: i16) -> Vec<(&'static str, String)> {
    vec![
        ("share.auto.offset.reset", "earliest".to_owned()),
        ("share.record.lock.duration.ms", LOCK_MS.to_string()),
        ("share.delivery.count.limit", deliveries_max.to_string()),
        ("share.heartbeat.interval.ms", 500.to_string()),
        ("share.session.timeout.ms", 3_000.to_string()),
    ]
}

/// The queue of a life. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Queue {
    /// What is asked of it.
    pub kind: Kind,
    /// What was sent, heard and seen.
    pub books: Books,
    /// Who works on it, if it has a group.
    pub shares: Option<Shares>,
    /// Half messages, if it has such.
    pub deals: Deals,
    sharers: usize,
    readers: usize,
    feeders: usize,
}

impl Queue {
    /// The queue of a seed, or of a kind that is wanted.
    #[must_use]
    pub fn draw(seed: u64, wanted: Option<Kind>, net: &Net, history: &Shared) -> Option<Self> {
        let mut random = Random::of(seed ^ 0x9ae5_71c3);
        let drawn = Kind::draw(&mut random);
        let kind = wanted.or(drawn)?;
        let books = Books::new(net.clone(), history.clone());
        let rules = kind.rules().filter(|_| kind.has_group(&mut random));
        let shares = rules.map(|rules| Shares::new(net.clone(), history.clone(), rules));
        let within =
            |random: &mut Random, range| usize::try_from(random.within(range)).unwrap_or(0);
        Some(Self {
            kind,
            sharers: shares.as_ref().map_or(0, |_| within(&mut random, 1..3)),
            readers: usize::from(kind.is_followed()),
            feeders: kind.feeders(),
            deals: Deals::new(books.clone()),
            books,
            shares,
        })
    }

    /// Its topic.
    #[must_use]
    pub fn topic(&self) -> &'static str {
        self.kind.topic()
    }

    /// Its partitions.
    #[must_use]
    pub fn places(&self) -> Vec<Place> {
        let places = |topic: &'static str, count| {
            (0..count).map(move |partition| Place(topic.into(), partition))
        };
        let own = places(self.topic(), self.kind.partitions());
        match self.kind {
            Kind::Jobs | Kind::OrderedJobs => own.chain(places(DEAD, 1)).collect(),
            Kind::Halves => own.chain(places(STOCK, 1)).collect(),
            Kind::Views => {
                let views = views::VIEWS.iter();
                let views = views.flat_map(|view| places(view.name, self.kind.partitions()));
                own.chain(views).collect()
            }
            _ => own.collect(),
        }
    }

    /// Those that messages are sent to.
    #[must_use]
    pub fn sources(&self) -> Vec<Place> {
        let mut places = self.places();
        places.retain(|place| *place.0 == *self.topic());
        places
    }

    /// Makes its topics, and sets what its group asks for.
    pub async fn make(&self, admin: &mut Admin) {
        const GROUP: i8 = 32;
        let partitions = i32::try_from(self.sources().len()).unwrap_or(1);
        let configs = self.kind.topic_configs(self.shares.is_some());
        admin.create(self.topic(), partitions, &configs).await;
        if self.kind == Kind::Halves {
            admin.create(STOCK, 1, &[]).await;
        }
        if self.kind == Kind::Views {
            for view in views::VIEWS {
                admin.create(view.name, partitions, &view.configs()).await;
            }
        }
        if let Some(shares) = &self.shares {
            if self.places().len() > self.sources().len() {
                let takes = [("errors.deadletterqueue.group.enable", "true".to_owned())];
                admin.create(DEAD, 1, &takes).await;
            }
            let configs = self.kind.group_configs();
            admin
                .configure((GROUP, shares.rules().group), &configs)
                .await;
        }
    }

    /// How many clients that takes which [`Queue::begin`] begins.
    #[must_use]
    pub fn clients(&self) -> usize {
        let (callers, answerers) = self.kind.callers();
        self.feeders + self.readers + callers + answerers + 2 * self.sharers
    }

    /// Begins who works on it: how many are done once the history is closed, and how many once the group has finished.
    pub fn begin(&self, node: &Node, history: &Shared, clients: Vec<Client>) -> (usize, usize) {
        let mut clients = clients.into_iter();
        for client in clients.by_ref().take(self.feeders) {
            let feeder = Feeder::new(client, history.clone(), self.clone());
            node.spawn(feeder.run());
        }
        for client in clients.by_ref().take(self.readers) {
            let reader = LogReader::new(client, self, self.places());
            node.spawn(reader.follow(history.clone()));
        }
        for shares in self.shares.iter().cycle().take(self.sharers) {
            let (Some(client), Some(fetcher)) = (clients.next(), clients.next()) else {
                break;
            };
            let clients = (client, fetcher);
            let sharer = Sharer::new(clients, history.clone(), shares.clone());
            node.spawn(sharer.run());
        }
        let (callers, answerers) = self.kind.callers();
        for client in clients.by_ref().take(callers) {
            let (history, queue) = (history.clone(), self.clone());
            match self.kind {
                Kind::Halves => node.spawn(Dealer::new(client, history, queue).run()),
                _ => node.spawn(Caller::new(client, history, queue).run()),
            };
        }
        for client in clients.take(answerers) {
            let (history, queue) = (history.clone(), self.clone());
            match self.kind {
                Kind::Halves => node.spawn(Teller::new(client, history, queue).run()),
                _ => node.spawn(Replier::new(client, history, queue).run()),
            };
        }
        (
            self.feeders + self.readers + callers,
            self.sharers + answerers,
        )
    }

    /// Begins who waits until everything has come, is done with, or sold; then reads all of it. That is one more who is done.
    pub fn finish(&self, node: &Node, history: &Shared, clients: (Client, Client)) {
        if let Some(shares) = &self.shares {
            shares.close();
        }
        let finishing = finish_queue(clients, history.clone(), self.clone(), self.sharers);
        node.spawn(finishing);
    }

    /// What must not be and is, once everything was read.
    #[must_use]
    pub fn judge(&self) -> Vec<String> {
        match self.kind {
            // Neither comes in its producers' order.
            Kind::Halves => return self.deals.judge(),
            Kind::Calls => return calls::judge(&self.books),
            _ => {}
        }
        let mut wrong = self.books.judge(&self.sources());
        match (self.kind, &self.shares) {
            (Kind::Bound | Kind::TopicBound | Kind::Throttle, Some(shares)) => {
                let is_of_topic = self.kind == Kind::TopicBound;
                let settled = |place: &Place, offset| shares.settled_from(place, offset);
                wrong.extend(bounds::judge(&self.books, settled, is_of_topic));
            }
            (Kind::Jobs | Kind::OrderedJobs, Some(shares)) => {
                let acceptance = |place: &Place, offset| shares.acceptance(place, offset);
                let letters = Place(DEAD.into(), 0);
                wrong.extend(jobs::judge(
                    &self.books,
                    &self.sources(),
                    &letters,
                    acceptance,
                ));
            }
            (Kind::Delays, _) => wrong.extend(delays::judge(&self.books)),
            (Kind::Views, _) => wrong.extend(views::judge(&self.books, self.kind.partitions())),
            _ => {}
        }
        wrong
    }
}
