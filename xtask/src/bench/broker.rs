//! One broker process at a time: started on a directory, stopped or killed by its id.
//!
//! The kernel kills it when this process ends (`setpriv --pdeathsig`), so that Ctrl-C leaves nothing behind.

use super::{folder, kafka, remove, weir};
use crate::{Outcome, process};
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
}

impl Kind {
    pub(super) const ALL: [Self; 4] =
        [Self::Kafka, Self::KafkaFlush, Self::WeirOs, Self::WeirFsync];

    pub(super) fn is_kafka(self) -> bool {
        matches!(self, Self::Kafka | Self::KafkaFlush)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kafka => "kafka",
            Self::KafkaFlush => "kafka-flush",
            Self::WeirOs => "weir-os",
            Self::WeirFsync => "weir-fsync",
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
}

impl Programs {
    /// Prepares a broker that has never run.
    pub(super) fn on_fresh_disk(&self, kind: Kind) -> Outcome<Installed> {
        let home = folder().join("data").join(kind.to_string());
        remove(&home)?;
        fs::create_dir_all(&home)?;
        let [port, second, third] = free_ports()?;
        let command = match kind {
            Kind::Kafka => kafka::install(&self.kafka, &home, port, second, "")?,
            Kind::KafkaFlush => {
                let sync = "log.flush.interval.messages=1\n";
                kafka::install(&self.kafka, &home, port, second, sync)?
            }
            Kind::WeirOs => weir::install(&self.weir, &home, "os", [port, second, third])?,
            Kind::WeirFsync => weir::install(&self.weir, &home, "fsync", [port, second, third])?,
        };
        settle();
        Ok(Installed {
            kind,
            command,
            address: format!("127.0.0.1:{port}"),
        })
    }
}

/// A broker with a directory of its own, which may be started again and again.
pub(super) struct Installed {
    /// Which one.
    pub(super) kind: Kind,
    /// Where clients connect.
    pub(super) address: String,
    command: Vec<String>,
}

impl Installed {
    /// Starts the process, and does not wait until it serves.
    pub(super) fn start(&self) -> Outcome<Running> {
        let logs = folder().join("logs");
        fs::create_dir_all(&logs)?;
        let log = File::create(logs.join(format!("{}.log", self.kind)))?;
        let child = mortal(&self.command[0])
            .args(&self.command[1..])
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok(Running { child })
    }
}

/// A broker's process.
pub(super) struct Running {
    child: Child,
}

impl Running {
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop and waits until it has.
    pub(super) fn stop(mut self) -> Outcome<Duration> {
        // Kafka with 10,000 partitions takes some of it.
        const PATIENCE: Duration = Duration::from_secs(90);
        let asked = Instant::now();
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        while self.child.try_wait()?.is_none() {
            if asked.elapsed() > PATIENCE {
                return Err(format!("a broker did not stop within {PATIENCE:?}").into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(asked.elapsed())
    }

    /// `kill -9`.
    pub(super) fn kill(mut self) -> Outcome {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Resident memory in MiB.
    pub(super) fn resident_mib(&self) -> Outcome<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<f64>().ok());
        Ok(kib.ok_or("a broker's process has no memory")? / 1024.0)
    }

    /// CPU seconds so far, user and system.
    pub(super) fn cpu_seconds(&self) -> Outcome<f64> {
        // USER_HZ of Linux's interface to programs, whatever the kernel ticks with.
        const TICKS_PER_SECOND: f64 = 100.0;
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        // The program's name may hold spaces and ends with the last parenthesis.
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let ticks = fields.split_whitespace().skip(11).take(2);
        Ok(ticks
            .filter_map(|ticks| ticks.parse::<f64>().ok())
            .sum::<f64>()
            / TICKS_PER_SECOND)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Only after an error: both fail harmlessly when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
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

fn free_ports() -> Outcome<[u16; 3]> {
    let mut ports = [0; 3];
    // Held until all are known, so that they differ.
    let mut held = Vec::new();
    for port in &mut ports {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}
