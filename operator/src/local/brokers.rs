//! The broker processes of one cluster: which run, which are ready, starting and stopping them.
//!
//! What the StatefulSet controller and the kubelet are in Kubernetes. A broker that ends by itself is started again, ever later while it
//! keeps ending.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, SystemTime};

use futures::FutureExt;
use tokio::time::Instant;

use super::directory::Directory;
use super::process::{self, Broker};
use super::say::Say;
use super::{LocalError, Options, ports};
use crate::broker_config::{BrokerConfig, Ports, Shared};
use crate::decide::certificates;
use crate::plan;
use crate::validate::Cluster;
use crate::world::{BrokerId, Process};

/// A broker that ended is started again after this, doubled each time up to the longest.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// A broker that catches up with new metadata for a moment is still ready.
const UNREADY: Duration = Duration::from_secs(1);

/// How often it is seen whether a certificate is to be renewed, which has months of time.
const CERTIFICATES: Duration = Duration::from_secs(3600);

/// The processes of a cluster.
pub(super) struct Brokers {
    name: String,
    slot: u16,
    port_base: u16,
    binary: PathBuf,
    directory: Directory,
    running: BTreeMap<BrokerId, Broker>,
    /// Brokers that ended: how often in a row, and when they are started again.
    waiting: BTreeMap<BrokerId, (u32, Instant)>,
    begun: BTreeMap<BrokerId, Instant>,
    /// For how many brokers certificates were looked at, and when.
    certified: Option<(u32, Instant)>,
}

impl Brokers {
    /// Takes the cluster's directory; starts nothing yet.
    pub(super) fn open(
        name: &str,
        slot: u16,
        options: &Options,
        binary: &Path,
    ) -> Result<Self, LocalError> {
        Ok(Self {
            name: name.to_owned(),
            slot,
            port_base: options.port_base,
            binary: binary.to_owned(),
            directory: Directory::take(&options.data_dir.join(name))?,
            running: BTreeMap::new(),
            waiting: BTreeMap::new(),
            begun: BTreeMap::new(),
            certified: None,
        })
    }

    pub(super) fn slot(&self) -> u16 {
        self.slot
    }

    pub(super) fn directory(&self) -> &Directory {
        &self.directory
    }

    pub(super) fn ports(&self, broker: BrokerId) -> Result<Ports, LocalError> {
        Ok(ports::of(self.port_base, self.slot, broker)?)
    }

    pub(super) fn none_runs(&self) -> bool {
        self.running.is_empty()
    }

    pub(super) fn is_ready(&self, broker: BrokerId) -> bool {
        self.running.get(&broker).is_some_and(|broker| broker.ready)
    }

    pub(super) fn any_is_ready(&self) -> bool {
        self.running.values().any(|broker| broker.ready)
    }

    /// Brokers that ended by themselves.
    pub(super) fn reap<W: Write>(&mut self, say: &mut Say<'_, W>) -> Result<(), LocalError> {
        let ended: Vec<(BrokerId, ExitStatus)> = self
            .running
            .iter_mut()
            .filter_map(|(id, broker)| Some((*id, broker.ended()?)))
            .collect();
        for (id, status) in ended {
            self.running.remove(&id);
            self.directory.forget_process(id);
            let failures = self.waiting.get(&id).map_or(0, |(failures, _)| *failures);
            let delay = BACKOFF_MIN
                .saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX))
                .min(BACKOFF_MAX);
            self.waiting
                .insert(id, (failures.saturating_add(1), Instant::now() + delay));
            let log = self.directory.file(id, "log");
            say.line(&format!("Broker {id} ended by itself ({status}); it is started again in {} s. Its last words, from {}:", delay.as_secs(), log.display()))?;
            for line in last_lines(&log) {
                say.line(&format!("    {line}"))?;
            }
        }
        Ok(())
    }

    pub(super) async fn find_ready<W: Write + Send>(
        &mut self,
        say: &mut Say<'_, W>,
    ) -> Result<(), LocalError> {
        let mut probes = Vec::new();
        for id in self.running.keys() {
            let (id, port) = (*id, self.ports(*id)?.http);
            probes.push(async move { (id, process::is_ready(port).await) });
        }
        for (id, ready) in futures::future::join_all(probes).await {
            let kafka = self.ports(id)?.kafka;
            let Some(broker) = self.running.get_mut(&id) else {
                continue;
            };
            if ready && !broker.ready {
                let took = self
                    .begun
                    .get(&id)
                    .map_or(0.0, |begun| begun.elapsed().as_secs_f64());
                say.line(&format!(
                    "Broker {id} is ready on 127.0.0.1:{kafka} ({took:.1} s after its start)."
                ))?;
                self.waiting.remove(&id);
                broker.ready = true;
            } else if !ready && broker.ready {
                let since = *broker.unready_since.get_or_insert_with(Instant::now);
                if since.elapsed() < UNREADY {
                    continue;
                }
                broker.ready = false;
                let log = self.directory.file(id, "log");
                say.line(&format!(
                    "Broker {id} is not ready any more; see {}.",
                    log.display()
                ))?;
            }
            broker.unready_since = None;
        }
        Ok(())
    }

    pub(super) fn processes(&self) -> BTreeMap<BrokerId, Process> {
        let process = |broker: &Broker| Process {
            hash: Some(broker.hash.clone()),
            ready: broker.ready,
            leaving: false,
        };
        self.running
            .iter()
            .map(|(id, broker)| (*id, process(broker)))
            .collect()
    }

    /// Makes the certificates that are missing, and renews those that are due; `true` when there are new ones. Brokers that run read them by
    /// themselves.
    pub(super) fn certify<W: Write>(
        &mut self,
        size: u32,
        say: &mut Say<'_, W>,
    ) -> Result<bool, LocalError> {
        let now = Instant::now();
        if self
            .certified
            .is_some_and(|(of, at)| of == size && at + CERTIFICATES > now)
        {
            return Ok(false);
        }
        let dir = self.directory.certificates();
        let members = certificates::members(size);
        let made = weir_tls::directory::ensure(&dir, &self.name, &members, SystemTime::now())?;
        self.certified = Some((size, now));
        if made.is_empty() {
            return Ok(false);
        }
        say.line(&format!(
            "Made certificates for cluster {}: {} ({}).",
            self.name,
            plan::names_of(&made),
            dir.display()
        ))?;
        Ok(true)
    }

    /// Writes each broker's configuration where it differs; a running broker reads it when it is started again.
    pub(super) fn configure(&self, cluster: &Cluster, size: u32) -> Result<(), LocalError> {
        // All ports exist, or none is used.
        let ports = (0..size)
            .map(|id| self.ports(BrokerId(id)))
            .collect::<Result<Vec<Ports>, LocalError>>()?;
        let id = self.directory.cluster_id();
        let shared = Shared {
            name: &self.name,
            id: id.as_deref(),
            brokers: size,
            settings: &cluster.settings,
        };
        for broker in (0..size).map(BrokerId) {
            let data = self.directory.data(broker).display().to_string();
            let of = |broker: BrokerId| {
                ports.get(broker.0 as usize).copied().unwrap_or(Ports {
                    kafka: 0,
                    internal: 0,
                    http: 0,
                    grpc: 0,
                })
            };
            let tls = self.directory.certificates().display().to_string();
            let text = BrokerConfig::on_this_machine(shared, broker, data, &tls, of)
                .with_otlp_endpoint(cluster.otlp_endpoint.clone())
                .to_yaml()
                .map_err(|error| LocalError::Configuration(error.to_string()))?;
            let path = self.directory.file(broker, "yaml");
            if std::fs::read_to_string(&path).ok().as_ref() != Some(&text) {
                self.directory.write(&path, &text)?;
            }
        }
        Ok(())
    }

    pub(super) async fn start_missing<W: Write + Send>(
        &mut self,
        cluster: &Cluster,
        size: u32,
        hash: &str,
        say: &mut Say<'_, W>,
    ) -> Result<(), LocalError> {
        let now = Instant::now();
        let missing: Vec<BrokerId> = (0..size)
            .map(BrokerId)
            .filter(|id| {
                !self.running.contains_key(id)
                    && self.waiting.get(id).is_none_or(|(_, until)| *until <= now)
            })
            .collect();
        // All of the ports, before the first broker is started.
        for id in &missing {
            if let Some(pid) = process::stop_leftover(&self.directory, *id).await {
                say.line(&format!(
                    "Broker {id} still ran from an earlier start (process {pid}); it was stopped."
                ))?;
            }
            if let Err(taken) = ports::check(self.ports(*id)?, *id, self.port_base) {
                if self.running.is_empty() && self.begun.is_empty() {
                    return Err(taken.into());
                }
                say.standing(
                    &format!("ports of {id}"),
                    Some(&format!(
                        "Broker {id} of cluster {} cannot start: {taken}.",
                        self.name
                    )),
                )?;
                self.waiting.insert(*id, (0, now + BACKOFF_MIN));
            }
        }
        for id in missing {
            if self.waiting.get(&id).is_some_and(|(_, until)| *until > now) {
                continue;
            }
            let data = self.directory.data(id);
            let known = data.is_dir();
            std::fs::create_dir_all(&data)
                .map_err(|error| LocalError::Files(data.clone(), error))?;
            self.start(cluster, id, hash)?;
            let state = if known { "its data is there" } else { "new" };
            say.line(&format!(
                "Starting broker {id} of cluster {} on 127.0.0.1:{} ({}, {state}).",
                self.name,
                self.ports(id)?.kafka,
                data.display()
            ))?;
        }
        Ok(())
    }

    fn start(&mut self, cluster: &Cluster, id: BrokerId, hash: &str) -> Result<(), LocalError> {
        let env: Vec<(String, String)> = cluster
            .pod
            .env
            .iter()
            .map(|variable| (variable.name.clone(), variable.value.clone()))
            .collect();
        let broker = Broker::start(&self.binary, &self.directory, id, hash.to_owned(), &env)?;
        self.running.insert(id, broker);
        self.begun.insert(id, Instant::now());
        Ok(())
    }

    pub(super) async fn restart<W: Write + Send>(
        &mut self,
        cluster: &Cluster,
        id: BrokerId,
        hash: &str,
        say: &mut Say<'_, W>,
    ) -> Result<(), LocalError> {
        say.line(&format!(
            "Restarting broker {id} of cluster {}: what it was started with has changed.",
            self.name
        ))?;
        if let Some(mut broker) = self.running.remove(&id)
            && !broker.stop().await
        {
            say.line(&format!("Broker {id} did not stop in time and was killed."))?;
        }
        self.start(cluster, id, hash)
    }

    /// Stops the brokers that are not among the first `size`.
    pub(super) async fn stop_beyond<W: Write + Send>(
        &mut self,
        size: u32,
        say: &mut Say<'_, W>,
    ) -> Result<(), LocalError> {
        let beyond: Vec<BrokerId> = self
            .running
            .keys()
            .copied()
            .filter(|broker| broker.0 >= size)
            .collect();
        for id in beyond {
            say.line(&format!(
                "Stopping broker {id} of cluster {}: it has been emptied.",
                self.name
            ))?;
            if let Some(mut broker) = self.running.remove(&id)
                && !broker.stop().await
            {
                say.line(&format!("Broker {id} did not stop in time and was killed."))?;
            }
            self.directory.forget_process(id);
            self.waiting.remove(&id);
        }
        Ok(())
    }

    /// Stops all brokers at the same time; returns what there is to say of it.
    pub(super) async fn stop(&mut self) -> Vec<String> {
        let name = self.name.clone();
        let stops = self
            .running
            .iter_mut()
            .map(|(id, broker)| broker.stop().map(|by_itself| (*id, by_itself)));
        let stopped = futures::future::join_all(stops).await;
        self.running.clear();
        let mut sentences = Vec::new();
        for (id, by_itself) in stopped {
            self.directory.forget_process(id);
            let how = if by_itself {
                "stopped"
            } else {
                "did not stop in time and was killed"
            };
            sentences.push(format!("Broker {id} of cluster {name} {how}."));
        }
        sentences
    }
}

/// Completes when one of these brokers has ended.
pub(super) async fn any_ended(brokers: impl Iterator<Item = &mut Brokers>) {
    let waits: Vec<_> = brokers
        .flat_map(|brokers| brokers.running.values_mut())
        .map(|broker| broker.wait().boxed())
        .collect();
    if waits.is_empty() {
        return std::future::pending().await;
    }
    futures::future::select_all(waits).await;
}

/// The end of a log, for a person.
fn last_lines(path: &Path) -> Vec<String> {
    /// What a panic or a configuration error needs.
    const LINES: usize = 5;
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..]
        .iter()
        .map(|line| (*line).to_owned())
        .collect()
}
