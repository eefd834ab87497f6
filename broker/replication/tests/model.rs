//! Every order in which three brokers and a controller may do what they do to one partition, within bounds on batches and faults.
//!
//! The cores are the real ones: leaders are [`Leadership`], followers cut their logs by [`agreed_end`], and what the controller
//! makes of brokers' coming and going and of leaders' wishes is [`decide`]. What is made up is what lies between them: logs that
//! lose what was not synced with the power, metadata that each broker learns late or not at all, reports that come late.
//! What must hold in every state that can be reached: whoever leads, or is counted in sync or eligible, has on its disk everything that any leader
//! ever called committed, and nobody is asked to cut that off. Each defect that is built in on purpose must be found.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::LazyLock;
use std::time::Duration;

use weir_quorum::command::{
    AlterInSync, CreateTopics, Goodbye, Heartbeat, InSyncChange, NewTopic, RegisterBroker,
};
use weir_quorum::configs::Settings;
use weir_quorum::controller::{self, FEATURE_LEVEL, View, decide};
use weir_quorum::ids::{ClusterId, Incarnation};
use weir_quorum::image::{Image, Partition};
use weir_quorum::liveness::{Liveness, Now};
use weir_quorum::record::HostPort;
use weir_quorum::{BrokerEpoch, Command, ErrorName, PartitionEpoch, Reply};
use weir_replication::agreement::{History, agreed_end};
use weir_replication::{Answer, Ends, Known, Leadership, Millis, Promise, Replica};
use weir_wire::{BrokerId, LeaderEpoch, Offset};

const BROKERS: usize = 3;
const TOPIC: &str = "t";

/// What is wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Defect {
    None,
    /// What was received counts as being on the disk.
    CountReceived,
    /// A follower cuts its log to its watermark.
    TruncateToWatermark,
    /// A leader takes a follower that is not in sync for one that has what it has itself.
    JoinEarly,
}

/// A batch: the epoch in which it was written, and its number among all that were.
type Batch = (i32, u8);

#[derive(Clone, Debug)]
struct Broker {
    is_up: bool,
    /// Its own, in this life of its process.
    registration: u64,
    log: Vec<Batch>,
    /// So many of them are on its disk.
    synced: usize,
    /// Everything below is committed, as far as it knows.
    high_watermark: usize,
    /// The metadata, as far as it knows.
    image: Image,
    role: Role,
}

#[derive(Clone, Debug, Hash)]
enum Role {
    Nothing,
    Leads(Box<Leadership>),
    Follows {
        leader: usize,
        epoch: i32,
        /// Its log was cut to where it agrees.
        agrees: bool,
    },
}

/// What may happen next.
#[derive(Clone, Copy, Debug)]
enum Act {
    Write(usize),
    Sync(usize),
    /// A follower gets the next batch, once its log agrees with its leader's.
    Replicate(usize, usize),
    /// A follower says how far it is.
    Report(usize, usize),
    /// A leader decides which in-sync set it wants; those who are behind leave it, or nobody leaves.
    Want(usize, bool),
    /// The controller hears of it, and the leader of the answer, or not.
    Alter(usize, bool),
    Learn(usize),
    /// The controller hears nothing any more.
    Fence(usize),
    /// The controller hears from it again.
    Beat(usize),
    PowerCut(usize),
    Start(usize),
}

#[derive(Clone)]
struct World {
    defect: Defect,
    image: Image,
    brokers: Vec<Broker>,
    /// What any leader has called committed.
    committed: Vec<Batch>,
    written: u8,
    faults: u8,
    /// Other in-sync sets that leaders wanted.
    wants: u8,
}

/// How much may happen.
struct Bounds {
    writes: u8,
    faults: u8,
    /// Without a bound in-sync sets could change for ever.
    wants: u8,
    /// Acts, one after the other.
    acts: usize,
}

fn broker_id(at: usize) -> weir_quorum::BrokerId {
    weir_quorum::BrokerId(i32::try_from(at).unwrap())
}

fn at(id: weir_quorum::BrokerId) -> usize {
    usize::try_from(id.0).unwrap()
}

fn offset(at: usize) -> Offset {
    Offset(i64::try_from(at).unwrap())
}

fn index(offset: Offset) -> usize {
    usize::try_from(offset.0).unwrap()
}

fn partition(image: &Image) -> &Partition {
    image.partition(TOPIC, 0).unwrap()
}

fn registration_of(image: &Image, broker: usize) -> u64 {
    image.broker(broker_id(broker)).unwrap().epoch.0
}

static SETTINGS: LazyLock<Settings> = LazyLock::new(|| {
    let values = [
        ("default.replication.factor", "3"),
        ("min.insync.replicas", "2"),
    ];
    let values = values.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Settings::new(values.into()).unwrap()
});

/// Asks the controller. Only registrations are given numbers, so that what differs in nothing else is one state.
fn ask(image: &mut Image, command: &Command) -> Option<Reply> {
    let liveness = Liveness::new(Duration::from_secs(2), Now::default());
    let view = View {
        image,
        liveness: &liveness,
        settings: &SETTINGS,
        now: Now::default(),
        entropy: 7,
    };
    let decision = decide(&view, command).ok()?;
    let registers = matches!(command, Command::RegisterBroker(_));
    let index = image.index() + u64::from(registers);
    *image = image.apply(index, &decision.records).unwrap();
    Some(decision.reply(index))
}

fn register(image: &mut Image, broker: usize) -> u64 {
    let request = RegisterBroker {
        id: broker_id(broker),
        incarnation: Incarnation(uuid::Uuid::from_u128(1)),
        kafka: HostPort {
            host: "host".into(),
            port: 9092,
        },
        quorum_address: "host:9094".into(),
        rack: None,
        version: "1".into(),
        feature_level: FEATURE_LEVEL,
    };
    match ask(image, &Command::RegisterBroker(request)) {
        Some(Reply::Registered { epoch }) => epoch.0,
        other => panic!("{other:?}"),
    }
}

fn beat(image: &mut Image, broker: usize, registration: u64) {
    let _ = ask(
        image,
        &Command::Heartbeat(Heartbeat {
            id: broker_id(broker),
            epoch: BrokerEpoch(registration),
            ready: true,
            stopping: false,
            full: false,
            feature_level: FEATURE_LEVEL,
            sizes: Vec::new(),
        }),
    );
}

fn known(image: &Image) -> Known {
    let partition = partition(image);
    let replica = |id: &weir_quorum::BrokerId| {
        let broker = image.broker(*id).unwrap();
        Replica {
            id: BrokerId(id.0),
            registration: broker.epoch.0,
            may_join: broker.can_lead(),
        }
    };
    Known {
        partition_epoch: partition.epoch.0,
        replicas: partition.replicas.iter().map(replica).collect(),
        isr: partition.isr.iter().map(|id| BrokerId(id.0)).collect(),
        in_sync_min: 2,
        promise: Promise::Synced,
    }
}

/// Where epochs begin in a log.
fn starts(log: &[Batch]) -> Vec<(LeaderEpoch, Offset)> {
    let mut starts: Vec<(LeaderEpoch, Offset)> = Vec::new();
    for (at, (epoch, _)) in log.iter().enumerate() {
        if starts.last().is_none_or(|(last, _)| last.0 != *epoch) {
            starts.push((LeaderEpoch(*epoch), offset(at)));
        }
    }
    starts
}

impl Broker {
    fn ends(&self, defect: Defect) -> Ends {
        let received = offset(self.log.len());
        Ends {
            received,
            synced: match defect {
                Defect::CountReceived => received,
                _ => offset(self.synced),
            },
        }
    }
}

impl World {
    /// All are alive and in sync, and know it.
    fn new(defect: Defect) -> Self {
        let formed = controller::formed(ClusterId("c".into()), FEATURE_LEVEL);
        let mut image = Image::default().apply(1, &formed).unwrap();
        let registrations: Vec<u64> = (0..BROKERS)
            .map(|broker| {
                let registration = register(&mut image, broker);
                beat(&mut image, broker, registration);
                registration
            })
            .collect();
        let topic = NewTopic {
            name: TOPIC.into(),
            partitions: Some(1),
            ..NewTopic::default()
        };
        let create = CreateTopics {
            topics: vec![topic],
            validate_only: false,
        };
        ask(&mut image, &Command::CreateTopics(create)).unwrap();
        let broker = |registration| Broker {
            is_up: true,
            registration,
            log: Vec::new(),
            synced: 0,
            high_watermark: 0,
            image: image.clone(),
            role: Role::Nothing,
        };
        let mut world = Self {
            defect,
            brokers: registrations.into_iter().map(broker).collect(),
            image,
            committed: Vec::new(),
            written: 0,
            faults: 0,
            wants: 0,
        };
        for broker in 0..BROKERS {
            world.learn(broker);
        }
        world
    }

    fn acts(&self, bounds: &Bounds) -> Vec<Act> {
        let mut acts = Vec::new();
        let may_fail = self.faults < bounds.faults;
        for (b, broker) in self.brokers.iter().enumerate() {
            let is_fenced = self.image.broker(broker_id(b)).unwrap().fenced;
            if !broker.is_up {
                acts.push(Act::Start(b));
                if !is_fenced {
                    acts.push(Act::Fence(b));
                }
                continue;
            }
            if may_fail {
                acts.push(Act::PowerCut(b));
            }
            match is_fenced {
                true => acts.push(Act::Beat(b)),
                false if may_fail => acts.push(Act::Fence(b)),
                false => {}
            }
            if broker.synced < broker.log.len() {
                acts.push(Act::Sync(b));
            }
            if broker.image != self.image {
                acts.push(Act::Learn(b));
            }
            match &broker.role {
                Role::Nothing => {}
                Role::Leads(leadership) => {
                    if self.written < bounds.writes {
                        acts.push(Act::Write(b));
                    }
                    match leadership.asked() {
                        Some(_) => acts.extend([Act::Alter(b, true), Act::Alter(b, false)]),
                        None if self.wants < bounds.wants => {
                            acts.extend([Act::Want(b, true), Act::Want(b, false)]);
                        }
                        None => {}
                    }
                }
                Role::Follows { leader, epoch, .. } => {
                    let leads =
                        |role: &Role| matches!(role, Role::Leads(it) if it.epoch().0 == *epoch);
                    let from = &self.brokers[*leader];
                    if from.is_up && leads(&from.role) {
                        acts.extend([Act::Replicate(*leader, b), Act::Report(*leader, b)]);
                    }
                }
            }
        }
        acts
    }

    /// What comes of it; an error when something was asked for that must never be.
    fn act(&mut self, act: Act) -> Result<(), String> {
        match act {
            Act::Write(b) => {
                let Role::Leads(leadership) = &self.brokers[b].role else {
                    return Ok(());
                };
                let batch = (leadership.epoch().0, self.written);
                self.written += 1;
                self.brokers[b].log.push(batch);
                self.own(b);
            }
            Act::Sync(b) => {
                self.brokers[b].synced = self.brokers[b].log.len();
                self.own(b);
            }
            Act::Replicate(from, to) => self.replicate(from, to)?,
            Act::Report(leader, b) => {
                let (own, registration) = (
                    self.brokers[leader].ends(self.defect),
                    self.brokers[b].registration,
                );
                let id = BrokerId(broker_id(b).0);
                let is_out = !partition(&self.brokers[leader].image)
                    .isr
                    .contains(&broker_id(b));
                let ends = match self.defect {
                    Defect::JoinEarly if is_out => own,
                    _ => self.brokers[b].ends(self.defect),
                };
                if let Role::Follows { agrees: true, .. } = self.brokers[b].role
                    && let Role::Leads(leadership) = &mut self.brokers[leader].role
                {
                    leadership.heard(id, registration, ends, Millis(0));
                }
            }
            Act::Want(b, drops) => {
                if let Role::Leads(leadership) = &mut self.brokers[b].role {
                    let lag_max_ms = if drops { 0 } else { u64::MAX };
                    let want = leadership.want(Millis(0), lag_max_ms);
                    self.wants += u8::from(want.is_some());
                }
            }
            Act::Alter(b, is_heard) => self.alter(b, is_heard),
            Act::Learn(b) => self.learn(b),
            Act::Fence(b) => {
                self.faults += u8::from(self.brokers[b].is_up);
                let epoch = BrokerEpoch(registration_of(&self.image, b));
                let id = broker_id(b);
                let _ = ask(&mut self.image, &Command::Goodbye(Goodbye { id, epoch }));
            }
            Act::Beat(b) => beat(&mut self.image, b, self.brokers[b].registration),
            Act::PowerCut(b) => {
                self.faults += 1;
                let broker = &mut self.brokers[b];
                broker.is_up = false;
                broker.log.truncate(broker.synced);
                // It is written down now and then.
                broker.high_watermark = 0;
                broker.role = Role::Nothing;
            }
            Act::Start(b) => {
                let registration = register(&mut self.image, b);
                let broker = &mut self.brokers[b];
                (broker.is_up, broker.registration) = (true, registration);
                self.learn(b);
            }
        }
        self.commit()
    }

    fn own(&mut self, b: usize) {
        let ends = self.brokers[b].ends(self.defect);
        if let Role::Leads(leadership) = &mut self.brokers[b].role {
            leadership.own(ends, Millis(0));
        }
    }

    fn replicate(&mut self, from: usize, to: usize) -> Result<(), String> {
        let log = self.brokers[from].log.clone();
        let high_watermark = self.brokers[from].high_watermark;
        let follower = &mut self.brokers[to];
        let Role::Follows { agrees, .. } = &mut follower.role else {
            return Ok(());
        };
        if !*agrees {
            let (leaders, own) = (starts(&log), starts(&follower.log));
            let leader = History {
                starts: &leaders,
                end: offset(log.len()),
            };
            let mine = History {
                starts: &own,
                end: offset(follower.log.len()),
            };
            let agreed = agreed_end(leader, Offset(0), mine).unwrap_or(Offset(0));
            let agreed = match self.defect {
                Defect::TruncateToWatermark => follower.high_watermark,
                _ => index(agreed),
            };
            if agreed < follower.high_watermark {
                return Err(format!("{to} is to cut off what is committed, to {agreed}"));
            }
            follower.log.truncate(agreed);
            follower.synced = follower.synced.min(agreed);
            *agrees = true;
        }
        follower.log.extend(log.get(follower.log.len()));
        let seen = high_watermark.min(follower.log.len());
        follower.high_watermark = follower.high_watermark.max(seen);
        Ok(())
    }

    fn alter(&mut self, b: usize, is_heard: bool) {
        let Role::Leads(leadership) = &self.brokers[b].role else {
            return;
        };
        let Some(want) = leadership.asked() else {
            return;
        };
        let topic = self.image.topic(TOPIC).unwrap().id;
        let isr = want.isr.iter();
        let command = Command::AlterInSync(AlterInSync {
            id: broker_id(b),
            epoch: BrokerEpoch(self.brokers[b].registration),
            partitions: vec![InSyncChange {
                topic,
                index: 0,
                leader_epoch: weir_quorum::LeaderEpoch(leadership.epoch().0),
                partition_epoch: PartitionEpoch(want.partition_epoch),
                isr: isr
                    .map(|(id, epoch)| (weir_quorum::BrokerId(id.0), BrokerEpoch(*epoch)))
                    .collect(),
            }],
        });
        // As the broker takes the answers.
        let answer = match ask(&mut self.image, &command) {
            Some(Reply::Partitions(results)) => match &results[0] {
                Err(error)
                    if matches!(
                        error.name,
                        ErrorName::IneligibleReplica | ErrorName::InvalidRequest
                    ) =>
                {
                    Answer::Refused
                }
                _ => Answer::Taken,
            },
            _ => Answer::Unknown,
        };
        if let Role::Leads(leadership) = &mut self.brokers[b].role
            && is_heard
        {
            leadership.answered(answer);
        }
    }

    /// A broker has the newest metadata, and takes its role from it.
    fn learn(&mut self, b: usize) {
        let broker = &mut self.brokers[b];
        broker.image = self.image.clone();
        let partition = partition(&broker.image);
        let epoch = partition.leader_epoch.0;
        match (partition.leader.map(at), &mut broker.role) {
            (Some(leader), Role::Leads(leadership))
                if leader == b && leadership.epoch().0 == epoch =>
            {
                leadership.learn(known(&broker.image), Millis(0));
            }
            (Some(leader), _) if leader == b => {
                let leadership = Leadership::new(
                    BrokerId(broker_id(b).0),
                    LeaderEpoch(epoch),
                    known(&broker.image),
                    broker.ends(self.defect),
                    offset(broker.high_watermark),
                    Millis(0),
                );
                broker.role = Role::Leads(Box::new(leadership));
            }
            (Some(_), Role::Follows { epoch: before, .. }) if *before == epoch => {}
            (Some(leader), _) => {
                broker.role = Role::Follows {
                    leader,
                    epoch,
                    agrees: false,
                };
            }
            (None, _) => broker.role = Role::Nothing,
        }
    }

    /// Whatever leaders call committed now.
    fn commit(&mut self) -> Result<(), String> {
        for (b, broker) in self.brokers.iter_mut().enumerate() {
            let Role::Leads(leadership) = &broker.role else {
                continue;
            };
            let high_watermark = index(leadership.high_watermark());
            broker.high_watermark = broker.high_watermark.max(high_watermark);
            let said = &broker.log[..high_watermark];
            let both = said.len().min(self.committed.len());
            if said[..both] != self.committed[..both] {
                return Err(format!("{b} calls something else committed: {said:?}"));
            }
            if said.len() > both {
                self.committed = said.to_vec();
            }
        }
        Ok(())
    }

    /// Whoever may lead has everything.
    fn check(&self) -> Result<(), String> {
        let partition = partition(&self.image);
        for id in partition.isr.iter().chain(&partition.elr) {
            let broker = &self.brokers[at(*id)];
            if !broker.log[..broker.synced].starts_with(&self.committed) {
                return Err(format!(
                    "{id} counts, and has {:?} of {:?} on its disk, {:?}",
                    &broker.log[..broker.synced],
                    self.committed,
                    partition,
                ));
            }
        }
        Ok(())
    }

    /// Tells states apart.
    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        hash_metadata(&self.image, &mut hasher);
        (&self.committed, self.written, self.faults, self.wants).hash(&mut hasher);
        for broker in &self.brokers {
            let Broker {
                is_up,
                registration,
                log,
                synced,
                high_watermark,
                image,
                role,
            } = broker;
            (is_up, registration, log, synced, high_watermark).hash(&mut hasher);
            hash_metadata(image, &mut hasher);
            role.hash(&mut hasher);
        }
        hasher.finish()
    }
}

fn hash_metadata(image: &Image, hasher: &mut DefaultHasher) {
    let partition = partition(image);
    let ids = [&partition.isr, &partition.elr, &partition.last_known];
    for id in ids
        .into_iter()
        .flat_map(|ids| ids.iter().map(|id| id.0).chain([-1]))
    {
        id.hash(hasher);
    }
    let leader = partition.leader.map(|id| id.0);
    (leader, partition.leader_epoch.0, partition.epoch.0).hash(hasher);
    for broker in image.brokers() {
        (broker.epoch.0, broker.fenced).hash(hasher);
    }
}

/// A batch is committed, and followers do not know yet that it is.
const COMMITTED: [Act; 8] = [
    Act::Write(0),
    Act::Sync(0),
    Act::Replicate(0, 1),
    Act::Replicate(0, 2),
    Act::Sync(1),
    Act::Sync(2),
    Act::Report(0, 1),
    Act::Report(0, 2),
];

/// And then one of them was away.
const AWAY: [Act; 3] = [Act::Fence(2), Act::Beat(2), Act::Learn(0)];

/// What was found after `before`: how many states there are, or what is wrong and how it comes about.
fn explore(defect: Defect, before: &[Act], bounds: &Bounds) -> Result<usize, String> {
    let mut first = World::new(defect);
    for act in before {
        first.act(*act)?;
        first.check()?;
    }
    let mut seen = HashSet::from([first.fingerprint()]);
    // By which act each state came from which one, to tell the story.
    let mut story: Vec<(usize, Option<Act>)> = vec![(0, None)];
    let mut open = VecDeque::from([(0, 0, first)]);
    while let Some((number, acts, world)) = open.pop_front() {
        if acts == bounds.acts {
            continue;
        }
        for act in world.acts(bounds) {
            let mut next = world.clone();
            let judged = next.act(act).and_then(|()| next.check());
            if let Err(wrong) = judged {
                let mut story_of = vec![act];
                let mut at = number;
                while let (before, Some(act)) = story[at] {
                    story_of.push(act);
                    at = before;
                }
                story_of.reverse();
                return Err(format!("{wrong}, after {story_of:?}"));
            }
            if seen.insert(next.fingerprint()) {
                story.push((number, Some(act)));
                open.push_back((story.len() - 1, acts + 1, next));
            }
        }
    }
    Ok(seen.len())
}

#[test]
fn whoever_may_lead_has_everything_in_every_order_of_things() {
    let away = [&COMMITTED[..], &AWAY].concat();
    for (before, acts) in [(&[][..], 6), (&COMMITTED[..], 6), (&away[..], 6)] {
        let bounds = Bounds {
            writes: 2,
            faults: 3,
            wants: 2,
            acts,
        };
        let found = explore(Defect::None, before, &bounds);
        let states = found.unwrap_or_else(|wrong| panic!("{wrong}"));
        // That it was not cut short.
        assert!(states > 10_000, "{states} states after {before:?}");
    }
}

#[test]
fn defects_are_found() {
    let away = [&COMMITTED[..], &AWAY].concat();
    for (defect, before) in [
        (Defect::CountReceived, &[][..]),
        (Defect::TruncateToWatermark, &COMMITTED[..]),
        (Defect::JoinEarly, &away[..]),
    ] {
        let bounds = Bounds {
            writes: 2,
            faults: 1,
            wants: 1,
            acts: 9,
        };
        let wrong = explore(defect, before, &bounds).expect_err("it is there");
        assert!(wrong.contains("on its disk"), "{defect:?}: {wrong}");
    }
}
