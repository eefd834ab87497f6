//! The brokers of one cluster at a time: started on directories of their own, stopped, killed or frozen by their ids.
//!
//! The kernel kills them when this process ends (`setpriv --pdeathsig`), so that Ctrl-C leaves nothing behind.

use super::{folder, kafka, peers, remove, weir};
use crate::{Outcome, process};
use rustix::fs::{Advice, fadvise};
use rustix::process::{Pid, Signal, kill_process};
use std::fmt;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(super) enum Kind {
    /// Apache Kafka, which leaves syncing to the kernel.
    Kafka,
    /// Apache Kafka with `flush.messages=1`: a sync before each acknowledgement, for the one row where that decides.
    KafkaFlush,
    /// Weir with `durability: os`: the same promise as Kafka's.
    WeirOs,
    /// Weir with `durability: fsync`, its default.
    WeirFsync,
    /// The same by its gRPC API, in the rows of shared consumption.
    WeirGrpc,
    /// RabbitMQ, in the rows of queues.
    #[value(name = "rabbitmq")]
    RabbitMq,
    /// Redis, in the rows of queues.
    Redis,
    /// RocketMQ, in the rows of queues.
    #[value(name = "rocketmq")]
    RocketMq,
}

impl Kind {
    pub(super) const ALL: [Self; 8] = [
        Self::Kafka,
        Self::KafkaFlush,
        Self::WeirOs,
        Self::WeirFsync,
        Self::WeirGrpc,
        Self::RabbitMq,
        Self::Redis,
        Self::RocketMq,
    ];

    pub(super) fn is_kafka(self) -> bool {
        matches!(self, Self::Kafka | Self::KafkaFlush)
    }

    /// Weir, whoever speaks to it.
    pub(super) fn is_weir(self) -> bool {
        matches!(self, Self::WeirOs | Self::WeirFsync | Self::WeirGrpc)
    }

    /// Whether clients speak Kafka's protocol.
    pub(super) fn speaks_kafkas(self) -> bool {
        self.protocol() == "kafka"
    }

    /// As the client names it.
    pub(super) fn protocol(self) -> &'static str {
        match self {
            Self::WeirGrpc => "grpc",
            Self::RabbitMq => "amqp",
            Self::Redis => "redis",
            Self::RocketMq => "rocketmq",
            _ => "kafka",
        }
    }

    /// Whether it is what a person gets who sets nothing.
    pub(super) fn is_default(self) -> bool {
        matches!(self, Self::Kafka | Self::WeirFsync)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kafka => "kafka",
            Self::KafkaFlush => "kafka-flush",
            Self::WeirOs => "weir-os",
            Self::WeirFsync => "weir-fsync",
            Self::WeirGrpc => "weir-grpc",
            Self::RabbitMq => "rabbitmq",
            Self::Redis => "redis",
            Self::RocketMq => "rocketmq",
        })
    }
}

/// What brokers are started from.
#[derive(Default)]
pub(super) struct Programs {
    /// The folder of Kafka's jars.
    pub(super) kafka: PathBuf,
    /// The program `weir-broker`.
    pub(super) weir: PathBuf,
    /// The folder of RocketMQ's jars.
    pub(super) rocketmq: PathBuf,
}

impl Programs {
    /// Prepares so many brokers that have never run; those of one cluster are numbered from 0.
    pub(super) fn on_fresh_disks(&self, kind: Kind, brokers: usize) -> Outcome<Installed> {
        let home = folder().join("data").join(kind.to_string());
        remove(&home)?;
        // RocketMQ's name server and broker use ports beside those that they are given.
        let places = if kind == Kind::RocketMq { 2 } else { brokers };
        let ports = free_ports(places)?;
        let mut nodes = Vec::new();
        if kind.is_weir() {
            weir::certify(&self.weir, &home, brokers)?;
        }
        for node in 0..brokers {
            let own = home.join(node.to_string());
            fs::create_dir_all(&own)?;
            nodes.extend(match kind {
                Kind::Kafka => vec![kafka::install(&self.kafka, &own, &ports, node, "")?],
                Kind::KafkaFlush => {
                    let sync = "log.flush.interval.messages=1\n";
                    vec![kafka::install(&self.kafka, &own, &ports, node, sync)?]
                }
                Kind::WeirOs | Kind::WeirFsync | Kind::WeirGrpc => {
                    let durability = if kind == Kind::WeirOs { "os" } else { "fsync" };
                    let grpc = kind == Kind::WeirGrpc;
                    vec![weir::install(
                        &self.weir, &home, durability, grpc, &ports, node,
                    )?]
                }
                Kind::RabbitMq => peers::install_rabbitmq(&own, ports[node])?,
                Kind::Redis => vec![peers::install_redis(&own, ports[node])],
                Kind::RocketMq => peers::install_rocketmq(&self.rocketmq, &own, &ports)?,
            });
        }
        settle();
        let addresses = ports
            .iter()
            .take(brokers)
            .map(|ports| format!("127.0.0.1:{}", ports.kafka));
        Ok(Installed {
            kind,
            address: addresses.collect::<Vec<_>>().join(","),
            grpc: format!("127.0.0.1:{}", ports[0].grpc),
            home,
            nodes,
        })
    }
}

/// Brokers with directories of their own, which may be started again and again.
pub(super) struct Installed {
    /// Which ones.
    pub(super) kind: Kind,
    /// Where clients connect, separated by commas.
    pub(super) address: String,
    /// Where clients of Weir's gRPC API do.
    pub(super) grpc: String,
    home: PathBuf,
    /// The commands of each; a broker may be of more than one process.
    nodes: Vec<Vec<String>>,
}

impl Installed {
    /// Starts the processes, and does not wait until they serve.
    pub(super) fn start(&self) -> Outcome<Running> {
        let children = (0..self.nodes.len()).map(|node| self.start_one(node));
        Ok(Running {
            children: children.collect::<Outcome<_>>()?,
        })
    }

    fn start_one(&self, node: usize) -> Outcome<Child> {
        let logs = folder().join("logs");
        fs::create_dir_all(&logs)?;
        let log = File::create(logs.join(format!("{}-{node}.log", self.kind)))?;
        let command = &self.nodes[node];
        Ok(mortal(&command[0])
            .args(&command[1..])
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?)
    }

    /// Has the kernel drop what it caches of these brokers' files, once it is written: the next reader reads from the disk.
    pub(super) fn forget_cached(&self) -> Outcome {
        settle();
        let mut folders = vec![self.home.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    folders.push(entry.path());
                } else if let Ok(file) = File::open(entry.path()) {
                    // A file may be gone by now.
                    fadvise(&file, 0, None, Advice::DontNeed)?;
                }
            }
        }
        Ok(())
    }
}

/// Brokers' processes, in the order of their ids.
pub(super) struct Running {
    children: Vec<Child>,
}

impl Running {
    /// Of all processes, separated by commas.
    pub(super) fn pids(&self) -> String {
        let pids = self.children.iter().map(|child| child.id().to_string());
        pids.collect::<Vec<_>>().join(",")
    }

    /// Asks them to stop and waits until they have.
    pub(super) fn stop(mut self) -> Outcome<Duration> {
        // Kafka with 10,000 partitions takes some of it.
        const PATIENCE: Duration = Duration::from_secs(90);
        let asked = Instant::now();
        for child in &self.children {
            kill_process(Pid::from_child(child), Signal::TERM)?;
        }
        for child in &mut self.children {
            while child.try_wait()?.is_none() {
                if asked.elapsed() > PATIENCE {
                    return Err(format!("a broker did not stop within {PATIENCE:?}").into());
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(asked.elapsed())
    }

    /// `kill -9` of all.
    pub(super) fn kill(mut self) -> Outcome {
        for child in &mut self.children {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// `kill -9` of one.
    pub(super) fn kill_one(&mut self, node: usize) -> Outcome {
        self.children[node].kill()?;
        self.children[node].wait()?;
        Ok(())
    }

    /// Sends one a signal.
    pub(super) fn signal(&self, node: usize, signal: Signal) -> Outcome {
        Ok(kill_process(Pid::from_child(&self.children[node]), signal)?)
    }

    /// Starts one again that was killed.
    pub(super) fn start_again(&mut self, brokers: &Installed, node: usize) -> Outcome {
        self.children[node] = brokers.start_one(node)?;
        Ok(())
    }

    /// Resident memory of all, in MiB.
    pub(super) fn resident_mib(&self) -> Outcome<f64> {
        let mut all = 0.0;
        for child in &self.children {
            let status = fs::read_to_string(format!("/proc/{}/status", child.id()))?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let kib = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<f64>().ok());
            all += kib.ok_or("a broker's process has no memory")? / 1024.0;
        }
        Ok(all)
    }

    /// CPU seconds of all so far, user and system.
    pub(super) fn cpu_seconds(&self) -> Outcome<f64> {
        // USER_HZ of Linux's interface to programs, whatever the kernel ticks with.
        const TICKS_PER_SECOND: f64 = 100.0;
        let mut all = 0.0;
        for child in &self.children {
            let stat = fs::read_to_string(format!("/proc/{}/stat", child.id()))?;
            // The program's name may hold spaces and ends with the last parenthesis.
            let fields = stat.rsplit(')').next().unwrap_or_default();
            let ticks = fields.split_whitespace().skip(11).take(2);
            all += ticks
                .filter_map(|ticks| ticks.parse::<f64>().ok())
                .sum::<f64>();
        }
        Ok(all / TICKS_PER_SECOND)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Only after an error: both fail harmlessly when they have ended already.
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A command that does not outlive this process.
pub(super) fn mortal(program: impl AsRef<Path>) -> Command {
    let mut command = process::command("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--"])
        .arg(program.as_ref());
    command
}

/// Writes what the last one left in the page cache, so that the next one does not pay for it.
pub(super) fn settle() {
    rustix::fs::sync();
}

/// Where one broker listens.
#[derive(Clone, Copy)]
pub(super) struct Ports {
    /// For clients.
    pub(super) kafka: u16,
    /// For other brokers: Kafka's controller, Weir's quorum and replication.
    pub(super) internal: u16,
    /// For metrics.
    pub(super) http: u16,
    /// For clients of Weir's gRPC API.
    pub(super) grpc: u16,
}

/// Below those that the kernel gives to clients: a client that looks for a killed broker might be given its port and speak to
/// itself.
fn free_ports(brokers: usize) -> Outcome<Vec<Ports>> {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 10_000;
    // Two runs at the same time begin at different places.
    let begin = (std::process::id() % u32::from(COUNT)) as u16;
    let mut free = (0..COUNT)
        .map(|step| FIRST + (begin + step) % COUNT)
        .filter(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok());
    let mut next = || free.next().ok_or("no free ports");
    let mut all = Vec::new();
    for _ in 0..brokers {
        all.push(Ports {
            kafka: next()?,
            internal: next()?,
            http: next()?,
            grpc: next()?,
        });
    }
    Ok(all)
}
