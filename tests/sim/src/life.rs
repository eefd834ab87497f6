//! One life: a cluster and its clients, from a seed to a verdict.
//!
//! Brokers start, topics are made, clients begin; then things go wrong as the seed says, for some seconds. Then nothing goes
//! wrong any more: everything is mended and started, and within a bound all clients must finish what they have begun, every
//! broker must serve, and all of them must say the same of the cluster. Everything is read once more, and judged.

use std::collections::BTreeMap;
use std::fmt;

use crate::broker::{Broker, DiskSpeed, Ended, Replica};
use crate::client::{
    Admin, Client, CommittedReader, Consumer, Member, Mover, Producer, Sharer, Transactor,
    finish_shares, metadata_of, read_all, read_all_committed,
};
use crate::faults::{self, Fault, Schedule};
use crate::history::{Counts, Place, Shared, Topic};
use crate::ledger::Ledger;
use crate::network::{FIRST_CLIENT, HostId, Net};
use crate::node::Node;
use crate::queues::{Kind, Queue, group_configs};
use crate::random::Random;
use crate::shares::{Rules, Shares};
use crate::watch;
use crate::wishes::Wishes;

/// How long a cluster may take to be back, and clients to finish, once nothing goes wrong any more.
const HEAL_MS: u64 = 60_000;
/// A broker that was asked for something and could not be heard may still try to have it done for so long: a little more than the patience of its
/// commands.
const LATE_WISH_MS: u64 = 12_000;

/// The topic that is written in transactions.
pub const TRANSACTED: &str = "payments";

/// What became of a life.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The seed that it came from.
    pub seed: u64,
    /// What must not be and was.
    pub wrong: Vec<String>,
    /// Its trace's hash.
    pub hash: u64,
    /// Events in the trace.
    pub events: u64,
    /// How long it was, by its own clock.
    pub virtual_ms: u64,
    /// Faults.
    pub faults: usize,
    /// What clients did.
    pub counts: Counts,
    /// Transactions whose commit was acknowledged.
    pub committed: usize,
    /// Records that a share group has done with.
    pub shared: usize,
    /// Its brokers.
    pub brokers: HostId,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.counts;
        write!(
            f,
            "{} brokers, {:.1} s, {} faults, {} batches acknowledged, {} records, {} transactions, {} shared, {} generations, {} topics, trace {:016x}",
            self.brokers,
            self.virtual_ms as f64 / 1000.0,
            self.faults,
            counts.acked,
            counts.seen,
            self.committed,
            self.shared,
            counts.generations,
            counts.topics,
            self.hash,
        )
    }
}

/// Lives it; with the kind of queue that is wanted, or the seed's own.
#[must_use]
pub fn live(seed: u64, queue: Option<Kind>) -> Verdict {
    let mut life = Life::begin(seed, queue);
    life.run();
    life.verdict()
}

/// The share group begins with the first record, and its locks and sessions are short.
async fn configure_sharing(admin: &mut Admin) {
    const BROKER: i8 = 4;
    const GROUP: i8 = 32;
    let bounds = [
        ("group.share.min.record.lock.duration.ms", 1_000.to_string()),
        ("group.share.min.session.timeout.ms", 1_000.to_string()),
        ("group.share.min.heartbeat.interval.ms", 100.to_string()),
    ];
    admin.configure((BROKER, ""), &bounds).await;
    let rules = Rules::default();
    let configs = group_configs(rules.deliveries_max);
    admin.configure((GROUP, rules.group), &configs).await;
}

/// What brokers know of the leaders of a topic's partitions; see [`Broker::leader_epochs`].
type Leaders = Vec<Option<(u64, Vec<i32>)>>;

struct Life {
    seed: u64,
    random: Random,
    net: Net,
    brokers: Vec<Broker>,
    clients: Node,
    history: Shared,
    places: Vec<Place>,
    /// What is written in transactions.
    transacted: Vec<Place>,
    ledger: Ledger,
    shares: Shares,
    queue: Option<Queue>,
    /// What brokers know of the leaders of what is shared, for each group.
    leaders: BTreeMap<&'static str, Leaders>,
    schedule: Schedule,
    wishes: Wishes,
    faults: usize,
    /// Brokers to be started, and when.
    starts: Vec<(HostId, u64)>,
    next_client: HostId,
}

impl Life {
    fn begin(seed: u64, queue: Option<Kind>) -> Self {
        let mut random = Random::of(seed);
        watch::begin();
        weir_quorum::quorum::seed_thread(random.draw());
        let delay_max_ms = *random.pick(&[1, 2, 5, 20]);
        let net = Net::new(random.fork(), delay_max_ms);
        // With a fourth broker there is somewhere to move partitions to.
        let count = *random.pick(&[1, 1, 3, 3, 3, 4]);
        let replicas = count.min(3);
        let speed = *random.pick(&[
            DiskSpeed::Usual,
            DiskSpeed::Usual,
            DiskSpeed::Usual,
            DiskSpeed::Slow,
        ]);
        // So slow that moves take seconds, in which everything else may happen.
        let throttle = match count {
            4 => *random.pick(&["", ", leader.replication.throttled.rate: 20000"]),
            _ => "",
        };
        // Small segments, so that logs have many; groups that form quickly.
        let segment_bytes = *random.pick(&[16_384, 65_536, 1 << 20]);
        let settings = format!(
            "topics: {{ segment.bytes: {segment_bytes}, default.replication.factor: {replicas}, share.coordinator.state.topic.num.partitions: 4, min.insync.replicas: {}{throttle} }}\ngroups: {{ initial_rebalance_delay: 200ms, session_timeout_min: 1s, \
             offsets_partitions: 4 }}\ntransactions: {{ state_partitions: 4 }}\nshutdown_timeout: 2s\n",
            if count == 1 { 1 } else { 2 }
        );
        let brokers = (0..count)
            .map(|id| Broker::new(id, count, &settings, &net, random.fork(), speed))
            .collect();
        let clients = Node::begin(0);
        let history = Shared::new(net.clone());
        let shares = Shares::new(net.clone(), history.clone(), Rules::default());
        let queue = Queue::draw(seed, queue, &net, &history);
        let mut starts: Vec<_> = (0..count).map(|id| (id, 1 + u64::from(id) * 20)).collect();
        if let Some((_, at)) = starts.get_mut(3) {
            // It is there from the beginning, or joins while much is going on.
            *at += *random.pick(&[0, 0, 3_000, 8_000]);
        }
        let wishes = Wishes::new(random.fork());
        Self {
            seed,
            random,
            net,
            brokers,
            clients,
            history,
            places: Vec::new(),
            transacted: Vec::new(),
            ledger: Ledger::default(),
            shares,
            queue,
            leaders: BTreeMap::new(),
            schedule: Vec::new(),
            wishes,
            faults: 0,
            starts,
            next_client: FIRST_CLIENT,
        }
    }

    fn run(&mut self) {
        let shared = Rules::default().topic;
        let topics = [(shared, 3), ("events", 2), (TRANSACTED, 2)];
        let mut admin = Admin::new(self.client(), self.history.clone());
        let (history, queue) = (self.history.clone(), self.queue.clone());
        self.clients.spawn(async move {
            for (name, partitions) in topics {
                admin.create(name, partitions, &[]).await;
            }
            configure_sharing(&mut admin).await;
            if let Some(queue) = queue {
                queue.make(&mut admin).await;
            }
            history.done();
        });
        if !self.until(HEAL_MS, 1) {
            return self.history.wrong("no cluster formed".into());
        }
        if self.is_wrong() {
            return;
        }
        for (name, partitions) in topics {
            let places = match name {
                TRANSACTED => &mut self.transacted,
                _ => &mut self.places,
            };
            places.extend((0..partitions).map(|partition| Place(name.into(), partition)));
        }
        let (mut clients, mut sharers) = (self.begin_clients(), self.begin_sharers());
        let mut finishing = 1;
        let queue = self.queue.clone();
        if let Some(queue) = &queue {
            let own = (0..queue.clients()).map(|_| self.client()).collect();
            let (more, members) = queue.begin(&self.clients, &self.history, own);
            clients += more;
            sharers += members;
            finishing += 1;
        }
        let (now_ms, calm_ms) = (self.net.now_ms(), self.random.within(200..2_000));
        let brokers = HostId::try_from(self.brokers.len()).unwrap_or(1);
        let end_ms = now_ms + calm_ms + self.random.within(4_000..20_000);
        self.schedule = faults::draw(&mut self.random, brokers, now_ms + calm_ms, end_ms);
        self.schedule.reverse();
        while self.net.now_ms() < end_ms && !self.is_wrong() {
            self.step();
        }
        if self.is_wrong() {
            return;
        }
        self.heal();
        self.history.close();
        if !self.until(HEAL_MS, 1 + clients) {
            let missing = 1 + clients - self.history.done_count();
            let ailing = self.brokers.iter().find_map(Broker::ailing);
            return self.history.wrong(format!(
                "{missing} of {clients} clients make no progress; partitions that ail: {ailing:?}"
            ));
        }
        if self.is_wrong() {
            return;
        }
        self.shares.close();
        let mut shared = self.places.clone();
        shared.retain(|place| *place.0 == *self.shares.rules().topic);
        let ends = self.history.acked_ends(&shared);
        let (history, shares) = (self.history.clone(), self.shares.clone());
        let finishing_shares = finish_shares(self.client(), history, shares, ends.clone());
        self.clients.spawn(finishing_shares);
        if let Some(queue) = &queue {
            let clients = (self.client(), self.client());
            queue.finish(&self.clients, &self.history, clients);
        }
        if !self.until(HEAL_MS, 1 + clients + sharers + finishing) {
            return self
                .history
                .wrong("a share group does not come to an end".into());
        }
        if self.is_wrong() {
            return;
        }
        let of_queue = queue.iter().flat_map(Queue::judge);
        for wrong in self.shares.judge(&ends).into_iter().chain(of_queue) {
            self.history.wrong(wrong);
        }
        if self.is_wrong() {
            return;
        }
        self.agree();
        if self.is_wrong() {
            return;
        }
        self.drains_end();
        if self.is_wrong() {
            return;
        }
        self.replicas_agree();
        if self.is_wrong() {
            return;
        }
        self.history.begin_final_read();
        let reader = read_all(self.client(), self.history.clone(), self.places.clone());
        self.clients.spawn(reader);
        let (history, ledger) = (self.history.clone(), self.ledger.clone());
        let reader = read_all_committed(self.client(), history, ledger, self.transacted.clone());
        self.clients.spawn(reader);
        if !self.until(HEAL_MS, 2) {
            return self.history.wrong("not everything can be read".into());
        }
        self.history.judge();
        for wrong in self.ledger.judge() {
            self.history.wrong(wrong);
        }
    }

    fn is_wrong(&self) -> bool {
        !self.history.wrongs().is_empty()
    }

    fn client(&mut self) -> Client {
        let host = self.next_client;
        self.next_client += 1;
        let brokers = HostId::try_from(self.brokers.len()).unwrap_or(1);
        Client::new(host, &self.net, brokers, self.random.fork())
    }

    fn all_places(&self) -> Vec<Place> {
        self.places
            .iter()
            .chain(&self.transacted)
            .cloned()
            .chain(self.queue.iter().flat_map(Queue::places))
            .collect()
    }

    fn begin_clients(&mut self) -> usize {
        let mut count = 0;
        for _ in 0..self.random.within(1..4) {
            let producer = Producer::new(self.client(), self.history.clone(), self.places.clone());
            self.clients.spawn(producer.run());
            count += 1;
        }
        for _ in 0..2 {
            let consumer = Consumer::new(self.client(), self.history.clone(), &self.places);
            self.clients.spawn(consumer.run());
            count += 1;
        }
        for _ in 0..self.random.within(1..4) {
            let history = self.history.clone();
            let member = Member::new(self.client(), history, "readers", self.places.clone());
            self.clients.spawn(member.run());
            count += 1;
        }
        let admin = Admin::new(self.client(), self.history.clone());
        self.clients.spawn(admin.run());
        let mover = Mover::new(self.client(), self.history.clone(), self.all_places());
        self.clients.spawn(mover.run());
        for _ in 0..self.random.within(0..3) {
            let (history, ledger) = (self.history.clone(), self.ledger.clone());
            let transactor =
                Transactor::new(self.client(), history, ledger, self.transacted.clone());
            self.clients.spawn(transactor.run());
            count += 1;
        }
        let (history, ledger) = (self.history.clone(), self.ledger.clone());
        let reader = CommittedReader::new(self.client(), history, ledger, &self.transacted);
        self.clients.spawn(reader.run());
        count + 3
    }

    fn begin_sharers(&mut self) -> usize {
        let count = self.random.within(1..4);
        for _ in 0..count {
            let clients = (self.client(), self.client());
            let (history, shares) = (self.history.clone(), self.shares.clone());
            let sharer = Sharer::new(clients, history, shares);
            self.clients.spawn(sharer.run());
        }
        usize::try_from(count).unwrap_or(0)
    }

    /// One millisecond.
    fn step(&mut self) {
        let now_ms = self.net.now_ms() + 1;
        self.net.advance_to(now_ms);
        watch::at(now_ms, None);
        while let Some((_, fault)) = self.schedule.pop_if(|(at, _)| *at <= now_ms) {
            self.happen(&fault);
        }
        let mut due = Vec::new();
        self.starts.retain(|(id, at)| {
            let is_due = *at <= now_ms;
            if is_due {
                due.push(*id);
            }
            !is_due
        });
        for id in due {
            if let Some(broker) = self.brokers.get_mut(usize::from(id))
                && !broker.is_running()
            {
                broker.start();
                if let Some(shares) = self.queue.as_ref().and_then(|queue| queue.shares.as_ref()) {
                    shares.started(id);
                }
            }
        }
        for index in 0..self.brokers.len() {
            let broker = &mut self.brokers[index];
            watch::at(now_ms, Some(broker.id));
            if let Some(ended) = broker.run_until(now_ms) {
                self.ended(index, ended, now_ms);
            }
        }
        watch::at(now_ms, None);
        self.wishes.step(now_ms, &self.brokers);
        let of_queue = self.queue.as_ref().and_then(|queue| queue.shares.as_ref());
        for shares in of_queue.into_iter().chain([&self.shares]) {
            let topic = shares.rules().topic;
            let leaders = self.brokers.iter().map(|it| it.leader_epochs(topic));
            let leaders: Leaders = leaders.collect();
            if self.leaders.get(topic) != Some(&leaders) {
                self.leaders.insert(topic, leaders);
                shares.new_era();
            }
        }
        if let Some(queue) = self
            .queue
            .as_ref()
            .filter(|queue| queue.kind == Kind::Delays)
        {
            let wrong_ms = || self.brokers.iter().map(Broker::skew_ms);
            let (least, most) = (wrong_ms().min(), wrong_ms().max());
            queue.books.clocks((least.unwrap_or(0), most.unwrap_or(0)));
        }
        self.clients.run_until(now_ms);
        for panic in watch::panics() {
            self.history.wrong(panic);
        }
    }

    fn happen(&mut self, fault: &Fault) {
        self.faults += 1;
        watch::say(&format!("{fault:?}"));
        self.net.note("fault", &[self.faults as u64]);
        if let Fault::Wish(wish) = fault {
            self.wishes.add(*wish);
        }
        let starts = fault.happen(&self.net, &mut self.brokers);
        self.starts.extend(starts);
    }

    fn ended(&mut self, index: usize, ended: Ended, now_ms: u64) {
        watch::say(&format!("broker {index} has ended: {ended:?}"));
        let broker = &mut self.brokers[index];
        let id = broker.id;
        let (away_ms, expected) = match ended {
            Ended::Stopped => (broker.away_ms(), true),
            // What is restarted at once by whatever keeps it alive.
            Ended::Fatal(_) | Ended::Refused(_) => (200, broker.was_troubled()),
        };
        if !expected {
            self.history
                .wrong(format!("broker {id} ended itself: {ended:?}"));
        }
        self.starts.push((id, now_ms + away_ms));
    }

    /// From here on nothing goes wrong.
    fn heal(&mut self) {
        watch::say("healing");
        self.schedule.clear();
        self.conclude();
        self.net.mend();
        let now_ms = self.net.now_ms();
        for broker in &mut self.brokers {
            broker.relieve();
            // A disk that has died is noticed by whoever waits for it, and maybe nobody does: then the process goes on.
            if broker.is_running() && broker.disk().is_dead() {
                broker.kill();
            }
            // One that was to die later does not.
            broker.disk().die_after(u64::MAX / 2);
            if !broker.is_running() {
                self.starts.push((broker.id, now_ms + 1));
            }
        }
    }

    /// Goes on until so many clients are done; `false` when they are not within the time.
    fn until(&mut self, ms: u64, done: usize) -> bool {
        let end_ms = self.net.now_ms() + ms;
        while self.net.now_ms() < end_ms {
            if self.history.done_count() >= done {
                return true;
            }
            if self.is_wrong() {
                return true;
            }
            self.step();
        }
        false
    }

    /// All brokers must come to serve, and to say the same.
    fn agree(&mut self) {
        let end_ms = self.net.now_ms() + HEAL_MS;
        let count = i32::try_from(self.brokers.len()).unwrap_or(1);
        loop {
            let mut client = self.client();
            let views = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
            let asked = std::sync::Arc::clone(&views);
            let asking = self.clients.spawn(async move {
                for broker in 0..count {
                    let view = metadata_of(&mut client, broker).await;
                    if let Ok(mut asked) = asked.lock() {
                        asked.push(view);
                    }
                }
            });
            while !asking.is_finished() && self.net.now_ms() < end_ms {
                self.step();
            }
            let views = views.lock().map(|views| views.clone()).unwrap_or_default();
            let first = views.first().cloned().flatten();
            let is_whole = first.is_some()
                && self.brokers.iter().all(Broker::is_serving)
                && views.iter().all(|view| *view == first)
                && first
                    .as_ref()
                    .is_some_and(|view| view.brokers.len() == self.brokers.len());
            if is_whole {
                let view = first.unwrap_or_default();
                for (name, topic) in self.history.topics() {
                    let found = view.topics.get(&name).map(|leaders| leaders.len());
                    let wanted = match topic {
                        Topic::There(partitions) => usize::try_from(partitions).ok(),
                        Topic::Gone => None,
                        Topic::Perhaps => found,
                    };
                    if found != wanted {
                        let what = format!("topic {name} has {found:?} partitions, not {wanted:?}");
                        self.history.wrong(what);
                    }
                }
                return;
            }
            if self.net.now_ms() >= end_ms {
                self.history
                    .wrong(format!("brokers do not agree in the end: {views:?}"));
                return;
            }
        }
    }

    /// All replicas of every partition must come to be in sync, and be the same byte for byte.
    fn replicas_agree(&mut self) {
        let end_ms = self.net.now_ms() + HEAL_MS;
        for Place(topic, index) in self.all_places() {
            loop {
                let known = self.brokers.first();
                let holders = known.and_then(|broker| broker.holders(&topic, index));
                let is_holder = |broker: &&Broker| {
                    let holders = holders.as_ref();
                    holders.is_some_and(|holders| holders.contains(&broker.id))
                };
                let replicas: Vec<_> = self
                    .brokers
                    .iter()
                    .filter(is_holder)
                    .map(|broker| broker.replica(&topic, index))
                    .collect();
                let mut others = self.brokers.iter().filter(|broker| !is_holder(broker));
                let is_left = others.any(|broker| broker.has(&topic, index));
                let first = replicas.first().cloned().flatten();
                let is_whole = |replica: &Option<Replica>| {
                    replica
                        .as_ref()
                        .is_some_and(|replica| replica.is_in_sync && replica.is_committed)
                        && *replica == first
                };
                if !replicas.is_empty() && !is_left && replicas.iter().all(is_whole) {
                    break;
                }
                if self.net.now_ms() >= end_ms {
                    let what: Vec<_> = replicas
                        .iter()
                        .map(|replica| {
                            replica.as_ref().map(|replica| {
                                let hash = crate::trace::hash(&replica.batches);
                                (
                                    replica.start,
                                    replica.batches.len(),
                                    hash,
                                    replica.is_committed,
                                    replica.is_in_sync,
                                )
                            })
                        })
                        .collect();
                    self.history.wrong(format!(
                        "{topic}-{index}: replicas of {holders:?} do not agree in the end (left elsewhere: {is_left}): {what:?}"
                    ));
                    return;
                }
                self.step();
            }
        }
    }

    fn conclude(&mut self) {
        let brokers = HostId::try_from(self.brokers.len()).unwrap_or(HostId::MAX);
        self.wishes.conclude(brokers);
    }

    /// Who was to be emptied must come to be empty.
    fn drains_end(&mut self) {
        let now_ms = self.net.now_ms();
        let (mut again_ms, end_ms) = (Some(now_ms + LATE_WISH_MS), now_ms + HEAL_MS);
        loop {
            if again_ms.take_if(|at| self.net.now_ms() >= *at).is_some() {
                self.conclude();
            }
            let is_empty = |id: HostId| {
                let mut counts = self.brokers.iter().map(|broker| broker.count_on(id));
                let logs = self.brokers.get(usize::from(id)).map(Broker::log_count);
                counts.all(|count| count == Some(0)) && logs == Some(Some(0))
            };
            if self.wishes.are_granted() && self.wishes.drained().is_none_or(is_empty) {
                return;
            }
            if self.net.now_ms() >= end_ms {
                let counts = self.wishes.drained().map(|id| {
                    let known = self.brokers.iter().map(|broker| broker.count_on(id));
                    let logs = self.brokers.get(usize::from(id)).map(Broker::log_count);
                    let said = self.brokers.iter().find_map(|broker| broker.describe(id));
                    (id, known.collect::<Vec<_>>(), logs, said)
                });
                return self.history.wrong(format!(
                    "a drain does not end: {counts:?}, {:?}",
                    self.wishes
                ));
            }
            self.step();
        }
    }

    fn verdict(self) -> Verdict {
        let trace = self.net.trace();
        let mut wrong = self.history.wrongs();
        wrong.truncate(20);
        Verdict {
            seed: self.seed,
            wrong,
            hash: trace.hash(),
            events: trace.events(),
            virtual_ms: self.net.now_ms(),
            faults: self.faults,
            counts: self.history.counts(),
            committed: self.ledger.committed_count(),
            shared: self.shares.settled_count(),
            brokers: HostId::try_from(self.brokers.len()).unwrap_or(0),
        }
    }
}
