//! One cluster on this machine: its processes, and one pass over them.
//!
//! A pass does here what the operator's pass and Kubernetes do together: it finds out which brokers run and are ready, decides with the same
//! functions, starts, restarts, and goes on to topics and groups once all brokers are ready. A broker that ends by itself is started again,
//! ever later while it keeps ending.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::FutureExt;
use kube::ResourceExt;
use tokio::time::Instant;

use super::directory::Directory;
use super::process::{self, Broker};
use super::say::Say;
use super::topics::Topics;
use super::{LocalError, Options, ports, proof};
use crate::admin::Admin;
use crate::broker_config::{BrokerConfig, Ports, Shared};
use crate::decide::{roll, scale};
use crate::manifests::Manifests;
use crate::objects;
use crate::validate::{Cluster, Defaults};
use crate::world::{BrokerId, Look, Process};

/// A broker that ended is started again after this, doubled each time up to the longest.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// With `--once`, a cluster that is not proven by then has failed.
const ONCE_TIMEOUT: Duration = Duration::from_secs(120);

/// A cluster, and the processes that are it.
pub(super) struct LocalCluster {
    name: String,
    slot: u16,
    port_base: u16,
    once: bool,
    binary: PathBuf,
    directory: Directory,
    brokers: BTreeMap<BrokerId, Broker>,
    /// Brokers that ended: how often in a row, and when they are started again.
    waiting: BTreeMap<BrokerId, (u32, Instant)>,
    begun: BTreeMap<BrokerId, Instant>,
    admin: (u32, Admin),
    look: Option<Look>,
    topics: Topics,
    opened: Instant,
    proven: bool,
    introduced: bool,
}

impl LocalCluster {
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
            once: options.once,
            binary: binary.to_owned(),
            directory: Directory::take(&options.data_dir.join(name))?,
            brokers: BTreeMap::new(),
            waiting: BTreeMap::new(),
            begun: BTreeMap::new(),
            admin: (0, Admin::default()),
            look: None,
            topics: Topics::default(),
            opened: Instant::now(),
            proven: false,
            introduced: false,
        })
    }

    pub(super) fn slot(&self) -> u16 {
        self.slot
    }

    pub(super) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Messages have been written and read back.
    pub(super) fn is_proven(&self) -> bool {
        self.proven
    }

    fn ports(&self, broker: BrokerId) -> Result<Ports, LocalError> {
        Ok(ports::of(self.port_base, self.slot, broker)?)
    }

    fn bootstrap(&self) -> Result<String, LocalError> {
        Ok(format!("127.0.0.1:{}", self.ports(BrokerId(0))?.kafka))
    }

    /// Looks, decides and acts once. `true`: something is on its way, come back soon.
    pub(super) async fn pass<W: Write + Send>(
        &mut self,
        manifests: &Manifests,
        say: &mut Say<'_, W>,
    ) -> Result<bool, LocalError> {
        let Some(resource) = manifests
            .clusters
            .iter()
            .find(|cluster| cluster.name_any() == self.name)
        else {
            return Ok(false);
        };
        let about = format!("cluster {}", self.name);
        let cluster = match Cluster::validate(
            resource,
            &Defaults {
                broker_image: String::new(),
            },
        ) {
            Ok(cluster) => cluster,
            Err(invalid) if self.brokers.is_empty() => {
                return Err(LocalError::Refused(invalid.to_string()));
            }
            Err(invalid) => {
                say.standing(
                    &about,
                    Some(&format!(
                        "Cluster {} cannot be carried out: {invalid}. It stays as it is.",
                        self.name
                    )),
                )?;
                return Ok(false);
            }
        };
        self.reap(say)?;
        self.find_ready(say).await?;
        self.find_out().await?;

        let present = self.directory.brokers();
        let wanted = if cluster.paused {
            present.unwrap_or(0)
        } else {
            cluster.replicas
        };
        let size = scale::size(wanted, present, self.look.as_ref());
        self.configure(&cluster, size.brokers)?;
        let hash = objects::pod_hash(&cluster, "");
        self.start_missing(&cluster, size.brokers, &hash, say)
            .await?;
        let roll = roll::next(size.brokers, &hash, &self.processes(), self.look.as_ref());
        let mut blocked = size.blocked;
        if cluster.paused {
            say.standing(
                &about,
                Some(&format!(
                    "Cluster {} is paused (spec.paused): nothing is changed.",
                    self.name
                )),
            )?;
        } else {
            if let Some(broker) = roll.restart {
                self.restart(&cluster, broker, &hash, say).await?;
            }
            blocked = blocked.or(roll.blocked);
            let sentence = blocked.map(|blocked| {
                format!(
                    "Cluster {} is blocked ({}): {}.",
                    self.name, blocked.gate, blocked.message
                )
            });
            say.standing(&about, sentence.as_deref())?;
        }

        if !self.all_ready(size.brokers) {
            return self.in_time().map(|()| true);
        }
        let busy = self
            .topics
            .pass(
                manifests,
                &self.name,
                cluster.paused,
                self.look.as_ref(),
                &mut self.admin.1,
                say,
            )
            .await?;
        if !busy && !self.proven {
            self.prove(say).await?;
        }
        Ok(busy || !roll.outdated.is_empty() || !self.proven)
    }

    fn in_time(&self) -> Result<(), LocalError> {
        if self.once && self.opened.elapsed() > ONCE_TIMEOUT {
            return Err(LocalError::Proof(format!(
                "cluster {} was not ready within {} s; see the logs in {}",
                self.name,
                ONCE_TIMEOUT.as_secs(),
                self.directory.path().display()
            )));
        }
        Ok(())
    }

    /// Brokers that ended by themselves.
    fn reap<W: Write>(&mut self, say: &mut Say<'_, W>) -> Result<(), LocalError> {
        let ended: Vec<(BrokerId, std::process::ExitStatus)> = self
            .brokers
            .iter_mut()
            .filter_map(|(id, broker)| Some((*id, broker.ended()?)))
            .collect();
        for (id, status) in ended {
            self.brokers.remove(&id);
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

    async fn find_ready<W: Write + Send>(
        &mut self,
        say: &mut Say<'_, W>,
    ) -> Result<(), LocalError> {
        let mut probes = Vec::new();
        for id in self.brokers.keys() {
            let (id, port) = (*id, self.ports(*id)?.http);
            probes.push(async move { (id, process::is_ready(port).await) });
        }
        for (id, ready) in futures::future::join_all(probes).await {
            let kafka = self.ports(id)?.kafka;
            let Some(broker) = self.brokers.get_mut(&id) else {
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
            } else if !ready && broker.ready {
                say.line(&format!(
                    "Broker {id} is not ready any more; see {}.",
                    self.directory.file(id, "log").display()
                ))?;
            }
            broker.ready = ready;
        }
        Ok(())
    }

    /// Asks the brokers what there is, once one is ready.
    async fn find_out(&mut self) -> Result<(), LocalError> {
        let size = self.directory.brokers().unwrap_or(0);
        if self.admin.0 != size {
            let addresses: Result<Vec<String>, LocalError> = (0..size)
                .map(|id| Ok(format!("127.0.0.1:{}", self.ports(BrokerId(id))?.internal)))
                .collect();
            self.admin = (size, Admin::new(addresses?));
        }
        self.look = None;
        if self.brokers.values().any(|broker| broker.ready) {
            match self.admin.1.look().await {
                Ok(look) => {
                    if !look.cluster_id.is_empty()
                        && self.directory.cluster_id().as_ref() != Some(&look.cluster_id)
                    {
                        self.directory.keep_cluster_id(&look.cluster_id)?;
                    }
                    self.look = Some(look);
                }
                Err(error) => {
                    tracing::debug!(%error, cluster = self.name, "the brokers do not answer")
                }
            }
        }
        Ok(())
    }

    fn processes(&self) -> BTreeMap<BrokerId, Process> {
        let process = |broker: &Broker| Process {
            hash: Some(broker.hash.clone()),
            ready: broker.ready,
            leaving: false,
        };
        self.brokers
            .iter()
            .map(|(id, broker)| (*id, process(broker)))
            .collect()
    }

    fn all_ready(&self, size: u32) -> bool {
        let ready = |id: BrokerId| self.brokers.get(&id).is_some_and(|broker| broker.ready);
        let alive = |id: BrokerId| {
            self.look
                .as_ref()
                .and_then(|look| look.brokers.get(&id))
                .is_some_and(|broker| broker.alive)
        };
        (0..size).map(BrokerId).all(|id| ready(id) && alive(id))
    }

    /// Writes each broker's configuration where it differs; a running broker reads it when it is started again.
    fn configure(&self, cluster: &Cluster, size: u32) -> Result<(), LocalError> {
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
                })
            };
            let text = BrokerConfig::on_this_machine(shared, broker, data, of)
                .to_yaml()
                .map_err(|error| LocalError::Configuration(error.to_string()))?;
            let path = self.directory.file(broker, "yaml");
            if std::fs::read_to_string(&path).ok().as_ref() != Some(&text) {
                self.directory.write(&path, &text)?;
            }
        }
        Ok(())
    }

    async fn start_missing<W: Write + Send>(
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
                !self.brokers.contains_key(id)
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
                if self.brokers.is_empty() && self.begun.is_empty() {
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
        self.brokers.insert(id, broker);
        self.begun.insert(id, Instant::now());
        Ok(())
    }

    async fn restart<W: Write + Send>(
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
        if let Some(mut broker) = self.brokers.remove(&id)
            && !broker.stop().await
        {
            say.line(&format!("Broker {id} did not stop in time and was killed."))?;
        }
        self.start(cluster, id, hash)
    }

    async fn prove<W: Write + Send>(&mut self, say: &mut Say<'_, W>) -> Result<(), LocalError> {
        let bootstrap = self.bootstrap()?;
        say.line(&format!(
            "Cluster {} is up. Writing messages and reading them back through Kafka's protocol …",
            self.name
        ))?;
        match proof::run(&self.binary, &bootstrap).await {
            Ok(summary) => {
                say.line(&format!("Proven: {summary}"))?;
                if let Err(error) = self.admin.1.delete(&[proof::TOPIC.to_owned()]).await {
                    tracing::warn!(%error, topic = proof::TOPIC, "the probe's topic was not deleted");
                }
                self.proven = true;
                Ok(())
            }
            // A cluster that stays up can be looked at.
            Err(error) if !self.once => {
                say.line(&format!(
                    "{error}. The cluster stays up, so that you can look: logs are in {}.",
                    self.directory.path().display()
                ))?;
                self.proven = true;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Stops all brokers at the same time; returns what there is to say of it.
    pub(super) async fn stop(&mut self) -> Vec<String> {
        let name = self.name.clone();
        let stops = self
            .brokers
            .iter_mut()
            .map(|(id, broker)| broker.stop().map(|by_itself| (*id, by_itself)));
        let stopped = futures::future::join_all(stops).await;
        self.brokers.clear();
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

/// Completes when a broker of any cluster has ended.
pub(super) async fn any_ended(clusters: &mut BTreeMap<String, LocalCluster>) {
    let waits: Vec<_> = clusters
        .values_mut()
        .flat_map(|cluster| cluster.brokers.values_mut())
        .map(|broker| broker.wait().boxed())
        .collect();
    if waits.is_empty() {
        return std::future::pending().await;
    }
    futures::future::select_all(waits).await;
}

/// Says where the clusters are and what to try, once for each.
pub(super) fn introduce<W: Write>(
    clusters: &mut BTreeMap<String, LocalCluster>,
    options: &Options,
    manifests: &Manifests,
    say: &mut Say<'_, W>,
) -> Result<(), LocalError> {
    for cluster in clusters
        .values_mut()
        .filter(|cluster| cluster.proven && !cluster.introduced)
    {
        cluster.introduced = true;
        let bootstrap = cluster.bootstrap()?;
        let topic = manifests
            .topics
            .iter()
            .find(|topic| topic.spec.cluster_ref.name == cluster.name)
            .map_or("hello", weir_crds::Topic::kafka_name);
        let group = manifests
            .groups
            .iter()
            .find(|group| group.spec.cluster_ref.name == cluster.name)
            .map_or("readers", weir_crds::ConsumerGroup::group_id);
        let file = options
            .files
            .first()
            .map_or_else(String::new, |file| file.display().to_string());
        say.line(&format!(
            "\nWeir is running: cluster {name}, bootstrap address {bootstrap}\n\n\
             Try in another terminal:\n\
             \x20 echo hello | kcat -P -b {bootstrap} -t {topic}                      write a message\n\
             \x20 kcat -C -b {bootstrap} -t {topic} -o beginning -e                   read all messages\n\
             \x20 kcat -b {bootstrap} -G {group} {topic}                              read as a member of group {group}\n\
             \x20 kafka-consumer-groups.sh --bootstrap-server {bootstrap} --describe --group {group}\n\
             \x20 kcat -L -b {bootstrap}                                          brokers, topics and partitions\n\
             Edit {file}: a new topic, more partitions or another broker are there when you save.\n\
             Logs and data are in {directory}. Ctrl-C stops the brokers; the data stays.\n",
            name = cluster.name,
            directory = cluster.directory.path().display(),
        ))?;
    }
    Ok(())
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
