//! One broker of a life: its disk, its clock, and the process that runs on them, if one does.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use weir_broker::config::{Config, Environment};
use weir_broker::host::{Host, Threads};
use weir_broker::net::Dialer;
use weir_broker::partitions::Partition;
use weir_broker::quorum::Entropy;
use weir_broker::start::{OnFatal, Running, start_on};
use weir_log::storage_sim::{SimStorage, Unsynced};
use weir_log::{Clock, PartitionKey};
use weir_quorum::{BrokerId, Command, Image};

use crate::network::{HostId, Net, host_name};
use crate::node::Node;
use crate::random::Random;
use crate::wishes::Granted;

/// Where clients connect.
pub const KAFKA_PORT: u16 = 9092;
/// Where brokers connect.
pub const QUORUM_PORT: u16 = 9094;
/// Where clients of gRPC connect.
pub const GRPC_PORT: u16 = 9096;
const HTTP_PORT: u16 = 9600;
/// How large disks are: larger than any life fills.
const DISK_BYTES: u64 = 1 << 40;

/// When a life begins, by its clocks.
pub const EPOCH_MS: i64 = 1_750_000_000_000;

/// A broker's machine.
#[derive(Debug)]
pub struct Broker {
    /// Its number, and its host's.
    pub id: HostId,
    net: Net,
    random: Random,
    config: Config,
    disk: SimStorage,
    clock: Arc<SkewedClock>,
    process: Option<Process>,
    /// Not run until then: a process that is stopped.
    stopped_until_ms: u64,
    /// Something was done to its disk for which it may end itself.
    troubled: bool,
    /// The disk has room again from then on.
    full_until_ms: Option<u64>,
    /// How long it is away after it has stopped in good order.
    away_ms: u64,
    /// How often it has lost power.
    boots: u64,
    /// How often a process was started.
    starts: u64,
    /// How long its disk takes.
    speed: DiskSpeed,
}

/// How long a disk takes to sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskSpeed {
    /// Mostly no time, now and then as long as one that is busy with something else.
    Usual,
    /// Long and longer: much is written, and known to others, that is not on disk.
    Slow,
}

impl DiskSpeed {
    fn sync_ms(self, random: &mut Random) -> u64 {
        let (short, medium) = match self {
            Self::Usual => (90, 99),
            Self::Slow => (10, 60),
        };
        let one_of_a_hundred = random.within(0..100);
        if one_of_a_hundred < short {
            random.within(1..4)
        } else if one_of_a_hundred < medium {
            random.within(4..30)
        } else {
            random.within(30..300)
        }
    }
}

#[derive(Debug)]
struct Process {
    node: Node,
    told: Arc<Mutex<Told>>,
}

/// What a process has said.
#[derive(Debug, Default)]
struct Told {
    running: Option<Running>,
    /// Why it did not come up.
    refused: Option<String>,
    /// Why it ended itself.
    fatal: Option<String>,
    has_stopped: bool,
}

/// A broker's replica of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Its first offset.
    pub start: i64,
    /// Its batches.
    pub batches: Vec<u8>,
    /// Whether all of it is below the high watermark, as this replica knows it.
    pub is_committed: bool,
    /// Whether all replicas are in sync, as its broker knows it.
    pub is_in_sync: bool,
}

/// The log that a broker has of a partition, if it has one.
fn partition_of(running: &Running, topic: &str, index: i32) -> Option<Arc<Partition>> {
    let broker = running.broker();
    let key = PartitionKey {
        topic_id: weir_wire::TopicId(broker.metadata.image().topic(topic)?.id.0),
        partition: weir_wire::PartitionIndex(index),
    };
    broker.partitions.get(key).ok()
}

/// How a process ended by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It could not start.
    Refused(String),
    /// Its disk failed, or so it thought.
    Fatal(String),
    /// It was told to.
    Stopped,
}

fn lock(told: &Mutex<Told>) -> MutexGuard<'_, Told> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The life's time, set wrong by so much.
#[derive(Debug)]
struct SkewedClock {
    net: Net,
    skew_ms: AtomicI64,
}

impl Clock for SkewedClock {
    fn now_ms(&self) -> i64 {
        let now_ms = i64::try_from(self.net.now_ms()).unwrap_or(0);
        EPOCH_MS + now_ms + self.skew_ms.load(Ordering::Relaxed)
    }
}

impl Broker {
    /// A machine with an empty disk, one of `brokers`.
    #[must_use]
    pub fn new(
        id: HostId,
        brokers: HostId,
        settings: &str,
        net: &Net,
        random: Random,
        speed: DiskSpeed,
    ) -> Self {
        let voters = if brokers < 3 { 1 } else { 3 };
        let peers: Vec<String> = (0..voters)
            .map(|id| format!("{}:{QUORUM_PORT}", host_name(id)))
            .collect();
        let name = host_name(id);
        let yaml = format!(
            "broker: {{ id: {id} }}\ncluster: {{ brokers: {brokers} }}\ndata_dir: /data\npeers: [{}]\nlisteners:\n  \
             kafka: {{ bind: \"{name}:{KAFKA_PORT}\" }}\n  quorum: {{ bind: \"{name}:{QUORUM_PORT}\" }}\n  \
             http: {{ bind: \"{name}:{HTTP_PORT}\" }}\n  grpc: {{ bind: \"{name}:{GRPC_PORT}\" }}\nthreads: {{ lanes: 2 }}\n{settings}",
            peers.join(", "),
        );
        #[allow(clippy::expect_used, reason = "a text of this file")]
        let config = Config::parse(&yaml, &Environment::new(), "sim")
            .and_then(Config::checked)
            .expect("the simulation's own configuration");
        Self {
            id,
            net: net.clone(),
            random,
            config,
            disk: SimStorage::new(),
            clock: Arc::new(SkewedClock {
                net: net.clone(),
                skew_ms: AtomicI64::new(0),
            }),
            process: None,
            stopped_until_ms: 0,
            troubled: false,
            full_until_ms: None,
            away_ms: 0,
            boots: 0,
            starts: 0,
            speed,
        }
    }

    /// Its disk, for faults.
    #[must_use]
    pub fn disk(&self) -> &SimStorage {
        &self.disk
    }

    /// Sets its clock wrong.
    pub fn skew(&self, ms: i64) {
        self.clock.skew_ms.store(ms, Ordering::Relaxed);
    }

    /// How wrong its clock is.
    #[must_use]
    pub fn skew_ms(&self) -> i64 {
        self.clock.skew_ms.load(Ordering::Relaxed)
    }

    /// Whether a process runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Whether it serves clients.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.process
            .as_ref()
            .is_some_and(|process| lock(&process.told).running.is_some())
    }

    /// The metadata that its process has, when it runs.
    fn image(&self) -> Option<Arc<Image>> {
        let told = lock(&self.process.as_ref()?.told);
        Some(told.running.as_ref()?.broker().metadata.image())
    }

    /// The epochs of a topic's leaders, as this broker's process knows them, and which process that is: what leaders have in
    /// memory lasts as long as all of this is the same.
    #[must_use]
    pub fn leader_epochs(&self, topic: &str) -> Option<(u64, Vec<i32>)> {
        let image = self.image()?;
        let partitions = &image.topic(topic)?.partitions;
        let epochs = partitions.iter().map(|partition| partition.leader_epoch.0);
        Some((self.starts, epochs.collect()))
    }

    /// Partitions that nobody leads or that are short of replicas in sync, as this broker's process knows them; `None` when it does not run.
    #[must_use]
    pub fn ailing(&self) -> Option<Vec<String>> {
        let image = self.image()?;
        let each = image.topics().flat_map(|topic| {
            let partitions = topic.partitions.iter().enumerate();
            partitions.map(|(index, partition)| (topic.name.clone(), index, partition))
        });
        let ailing = each.filter(|(_, _, partition)| {
            partition.leader.is_none() || partition.isr.len() < partition.replicas.len()
        });
        let told =
            ailing.map(|(topic, index, partition)| format!("{topic}-{index}: {partition:?}"));
        Some(told.collect())
    }

    /// Who has the partition's replicas, as this broker knows it; `None` while that changes, or when it is not known.
    #[must_use]
    pub fn holders(&self, topic: &str, index: i32) -> Option<Vec<HostId>> {
        let image = self.image()?;
        let metadata = image.partition(topic, index)?;
        let is_settled = metadata.adding.is_empty() && metadata.removing.is_empty();
        let ids = metadata
            .replicas
            .iter()
            .map(|id| HostId::try_from(id.0).ok());
        ids.collect::<Option<Vec<_>>>().filter(|_| is_settled)
    }

    /// Asks the controller for something, at this broker, as an operator does.
    #[must_use]
    pub fn control(&self, command: Command) -> Granted {
        let granted = Granted::default();
        let Some(process) = &self.process else {
            return granted;
        };
        let broker = lock(&process.told)
            .running
            .as_ref()
            .map(|running| Arc::clone(running.broker()));
        if let Some(broker) = broker {
            let says = Arc::clone(&granted);
            process.node.spawn(async move {
                let outcome = broker.metadata.control(command).await;
                *says.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome.is_ok());
            });
        }
        granted
    }

    /// How many replicas the broker `id` has, and is to have, as this one knows it.
    #[must_use]
    pub fn count_on(&self, id: HostId) -> Option<usize> {
        let image = self.image()?;
        Some(image.partitions_on(BrokerId(i32::from(id))).count())
    }

    /// Whether a broker votes in the quorum with fewer than two others, as far as this one knows; nothing while it does not run.
    #[must_use]
    pub fn says_few_vote_with(&self, id: HostId) -> Option<bool> {
        let told = lock(&self.process.as_ref()?.told);
        let voters = told.running.as_ref()?.broker().metadata.voters();
        Some(voters.len() < 3 && voters.contains(&BrokerId(i32::from(id))))
    }

    /// Whether nobody but a broker has all of some partition for certain, as far as this one knows; nothing while it does not run.
    #[must_use]
    pub fn says_alone_has(&self, id: HostId) -> Option<bool> {
        let image = self.image()?;
        let id = BrokerId(i32::from(id));
        let mut held = image.partitions_on(id);
        let alone = held.any(|(_, _, partition)| {
            let mut others = partition.isr.iter().chain(&partition.elr);
            partition.replicas.len() > 1 && others.all(|other| *other == id)
        });
        Some(alone)
    }

    /// What it says of the partitions on a broker, and of all brokers: for whoever wants to know why one is not empty.
    #[must_use]
    pub fn describe(&self, id: HostId) -> Option<String> {
        let image = self.image()?;
        let mut out = String::new();
        for (topic, index, partition) in image.partitions_on(BrokerId(i32::from(id))) {
            out += &format!("{}-{index}: {partition:?}; ", topic.name);
        }
        for broker in image.brokers() {
            let (id, cordoned, draining) = (broker.id, broker.cordoned, broker.draining);
            out += &format!("broker {id}: cordoned {cordoned}, draining {draining}; ");
        }
        Some(out)
    }

    /// How many logs it has.
    #[must_use]
    pub fn log_count(&self) -> Option<usize> {
        let process = self.process.as_ref()?;
        let told = lock(&process.told);
        Some(told.running.as_ref()?.broker().partitions.all().len())
    }

    /// Whether it has a log of the partition.
    #[must_use]
    pub fn has(&self, topic: &str, index: i32) -> bool {
        let of = |process: &Process| {
            let told = lock(&process.told);
            partition_of(told.running.as_ref()?, topic, index).map(drop)
        };
        self.process.as_ref().and_then(of).is_some()
    }

    /// What its replica of a partition has: where it begins, its batches as they stand in the log, and whether all replicas are in sync
    /// as this broker knows it. `None` when it has none, or it cannot be read now.
    #[must_use]
    pub fn replica(&self, topic: &str, index: i32) -> Option<Replica> {
        let process = self.process.as_ref()?;
        let told = lock(&process.told);
        let running = told.running.as_ref()?;
        let image = running.broker().metadata.image();
        let metadata = image.partition(topic, index)?;
        let partition = partition_of(running, topic, index)?;
        let reader = partition.reader();
        let (start, end) = (reader.log_start(), reader.log_end());
        let (mut next, mut batches) = (start, Vec::new());
        while next < end {
            let read = reader.read(next, end, 1 << 20, true).ok()?;
            batches.extend_from_slice(&read.bytes);
            next = read.next_offset;
        }
        Some(Replica {
            start: start.0,
            is_committed: partition.high_watermark() == end,
            batches,
            is_in_sync: metadata.isr.len() == metadata.replicas.len(),
        })
    }

    /// Starts a process.
    pub fn start(&mut self) {
        self.net.power_back(self.id);
        self.net.note("start", &[u64::from(self.id)]);
        self.starts += 1;
        let place = self.net.place(self.id);
        let (syncs, speed) = (self.random.draw(), self.speed);
        let drawn = AtomicU64::new(0);
        let host = Host {
            storage: Arc::new(self.disk.clone()),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            entropy: Entropy::seeded(self.random.draw()),
            threads: Threads::One {
                sync_takes: Arc::new(move || {
                    let number = drawn.fetch_add(1, Ordering::Relaxed);
                    let mut random = Random::of(syncs.wrapping_add(number));
                    Duration::from_millis(speed.sync_ms(&mut random))
                }),
            },
            dialer: Dialer::Other(Arc::new(place.clone())),
            boot_id: self.boots.to_string(),
        };
        let told = Arc::new(Mutex::new(Told::default()));
        let node = Node::begin(self.net.now_ms());
        let on_fatal: OnFatal = {
            let (told, net, id) = (Arc::clone(&told), self.net.clone(), self.id);
            let exit = node.exit();
            Arc::new(move |what| {
                // As by `exit`: nothing that this process does from here on reaches anyone.
                net.process_ended(id);
                lock(&told).fatal.get_or_insert_with(|| what.to_owned());
                exit.notify_one();
            })
        };
        let (config, says) = (self.config.clone(), Arc::clone(&told));
        node.spawn(async move {
            match start_on(config, host, &place, on_fatal).await {
                Ok(running) => lock(&says).running = Some(running),
                Err(error) => lock(&says).refused = Some(error.to_string()),
            }
        });
        self.process = Some(Process { node, told });
    }

    /// Lives until then, unless it is stopped or nothing runs. Says how its process ended, if it did.
    pub fn run_until(&mut self, now_ms: u64) -> Option<Ended> {
        if self.full_until_ms.is_some_and(|until| until <= now_ms) {
            self.disk.set_capacity(DISK_BYTES);
            self.full_until_ms = None;
        }
        if now_ms < self.stopped_until_ms {
            return None;
        }
        let process = self.process.as_mut()?;
        process.node.run_until(now_ms);
        let ended = {
            let told = lock(&process.told);
            let fatal = told.fatal.clone().map(Ended::Fatal);
            fatal
                .or_else(|| told.refused.clone().map(Ended::Refused))
                .or(told.has_stopped.then_some(Ended::Stopped))?
        };
        self.net.note("ended", &[u64::from(self.id)]);
        if self.troubled && self.random.chance(1, 2) {
            // What made the disk fail took the machine with it.
            let unsynced = Unsynced::Mixed(self.random.draw());
            self.cut_power(unsynced);
        } else {
            self.end();
        }
        Some(ended)
    }

    /// Stops the process for so long, as SIGSTOP does.
    pub fn pause(&mut self, ms: u64) {
        self.stopped_until_ms = self.net.now_ms() + ms;
    }

    /// Something is done to its disk for which it may end itself.
    pub fn trouble(&mut self) {
        self.troubled = true;
    }

    /// Whether something was done to its disk since it was last asked.
    pub fn was_troubled(&mut self) -> bool {
        std::mem::take(&mut self.troubled)
    }

    /// Its disk has no room until then.
    pub fn full_until(&mut self, ms: u64) {
        self.full_until_ms = Some(ms);
    }

    /// All that was done to it is over.
    pub fn relieve(&mut self) {
        self.disk.set_capacity(DISK_BYTES);
        self.full_until_ms = None;
        self.stopped_until_ms = 0;
        self.skew(0);
    }

    /// How long it is away after it has stopped in good order.
    #[must_use]
    pub fn away_ms(&self) -> u64 {
        self.away_ms
    }

    /// Asks the process to stop in good order, to be away for so long.
    pub fn stop(&mut self, away_ms: u64) {
        self.away_ms = away_ms;
        let Some(process) = &self.process else { return };
        let running = lock(&process.told).running.take();
        if let Some(running) = running {
            let told = Arc::clone(&process.told);
            process.node.spawn(async move {
                running.stop().await;
                lock(&told).has_stopped = true;
            });
        }
    }

    /// Kills the process: what it wrote is still there.
    pub fn kill(&mut self) {
        self.net.note("kill", &[u64::from(self.id)]);
        self.end();
    }

    fn end(&mut self) {
        self.net.process_ended(self.id);
        let disk = self.disk.process_killed();
        self.bury(disk);
    }

    /// Takes the power away: what was not synced is gone, or torn.
    pub fn cut_power(&mut self, unsynced: Unsynced) {
        self.net.note("power", &[u64::from(self.id)]);
        self.net.power_lost(self.id);
        let disk = self.disk.power_cut(unsynced);
        self.boots += 1;
        self.bury(disk);
    }

    /// Takes the machine away for ever. Another has its name, and an empty disk.
    pub fn wipe(&mut self) {
        self.net.note("wipe", &[u64::from(self.id)]);
        self.net.power_lost(self.id);
        self.boots += 1;
        // What was to happen to the old disk is over with it.
        self.full_until_ms = None;
        self.bury(SimStorage::new());
    }

    fn bury(&mut self, disk: SimStorage) {
        self.disk = disk;
        self.stopped_until_ms = 0;
        // The broker's handle goes with its runtime, so that nothing of it is left.
        if let Some(Process { node, told }) = self.process.take() {
            let running = lock(&told).running.take();
            drop(node);
            drop(running);
        }
    }
}
