//! One cluster on this machine, and one pass over it.
//!
//! A pass decides with the functions that the operator uses, and goes on to topics and groups once all brokers are ready. When they are for the
//! first time, messages are written and read back.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use tokio::time::Instant;
use weir_tls::Role;

use super::brokers::{self, Brokers};
use super::say::Say;
use super::topics::Topics;
use super::{LocalError, Options, proof};
use crate::act;
use crate::admin::{Admin, Way};
use crate::decide::cluster::Step;
use crate::decide::upgrade::{self, Healthy};
use crate::decide::{roll, scale};
use crate::manifests::Manifests;
use crate::objects;
use crate::plan;
use crate::validate::{Cluster, Defaults};
use crate::world::{BrokerId, Look};

/// With `--once`, a cluster that is not proven by then has failed.
const ONCE_TIMEOUT: Duration = Duration::from_secs(120);

/// A cluster, and the processes that are it.
pub(super) struct LocalCluster {
    name: String,
    once: bool,
    binary: PathBuf,
    brokers: Brokers,
    admin: (u32, Admin),
    look: Option<Look>,
    topics: Topics,
    /// Since when all has been well while a newer feature level waits.
    healthy: Option<Healthy>,
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
            once: options.once,
            binary: binary.to_owned(),
            brokers: Brokers::open(name, slot, options, binary)?,
            admin: (0, Admin::default()),
            look: None,
            topics: Topics::default(),
            healthy: None,
            opened: Instant::now(),
            proven: false,
            introduced: false,
        })
    }

    pub(super) fn slot(&self) -> u16 {
        self.brokers.slot()
    }

    pub(super) fn directory(&self) -> &Path {
        self.brokers.directory().path()
    }

    /// Messages have been written and read back.
    pub(super) fn is_proven(&self) -> bool {
        self.proven
    }

    fn bootstrap(&self) -> Result<String, LocalError> {
        Ok(format!(
            "127.0.0.1:{}",
            self.brokers.ports(BrokerId(0))?.kafka
        ))
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
            Err(invalid) if self.brokers.none_runs() => {
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
        let doors = (!cluster.listeners.is_empty()).then_some(
            "spec.listeners is for Kubernetes: on this machine brokers have the one listener each that they always have.",
        );
        say.standing(&format!("listeners of {about}"), doors)?;
        self.brokers.reap(say)?;
        self.brokers.find_ready(say).await?;
        self.find_out().await?;

        let (present, balanced, lowered) = self.brokers.directory().size();
        let wanted = if cluster.paused {
            present.unwrap_or(0)
        } else {
            cluster.replicas
        };
        let mut size = scale::scale(&scale::Case {
            wanted,
            set: present,
            // Nobody else changes that.
            remembered: None,
            balanced,
            lowered: &lowered,
            drained: &cluster.drained,
            drained_unread: cluster.drained_unread.as_ref(),
            processes: &self.brokers.processes(),
            look: self.look.as_ref(),
        });
        if !cluster.paused && !self.ask(&size.before, say).await? {
            // As it was, until the brokers agree.
            size.brokers = size.brokers.max(present.unwrap_or(0));
            size.balanced = balanced.unwrap_or(size.balanced);
            size.lowered = lowered.clone();
        }
        if self.brokers.certify(size.brokers, say)? {
            // Called with the new one from now on.
            self.admin = (0, Admin::default());
        }
        let kept = (
            Some(size.brokers),
            Some(size.balanced),
            size.lowered.clone(),
        );
        if kept != (present, balanced, lowered) {
            self.brokers
                .directory()
                .keep_size(size.brokers, size.balanced, &size.lowered)?;
        }
        self.brokers.stop_beyond(size.brokers, say).await?;
        if !cluster.paused && self.ask(&size.after, say).await? {
            self.release(&cluster, &size.after, say)?;
        }
        self.brokers.configure(&cluster, size.brokers)?;
        let hash = objects::pod_hash(&cluster, "");
        self.brokers
            .start_missing(&cluster, size.brokers, &hash, say)
            .await?;
        let roll = roll::next(
            size.brokers,
            &hash,
            &self.brokers.processes(),
            self.look.as_ref(),
            &size.leaving,
        );
        let is_scaling = size
            .blocked
            .iter()
            .any(|blocked| matches!(blocked.gate, scale::DRAINING | scale::SPREAD_WAITS))
            || size.brokers != cluster.replicas && size.blocked.is_empty();
        let mut blocked = size.blocked.into_iter().next();
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
                self.brokers.restart(&cluster, broker, &hash, say).await?;
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

        if !cluster.paused {
            self.finalize(&cluster, size.brokers, &roll.outdated, say)
                .await?;
        }
        if !self.all_up(size.brokers, say)? {
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
        Ok(busy || is_scaling || !roll.outdated.is_empty() || !self.proven)
    }

    /// Has the brokers use a newer feature level when it is time.
    async fn finalize<W: Write + Send>(
        &mut self,
        cluster: &Cluster,
        brokers: u32,
        outdated: &[BrokerId],
        say: &mut Say<'_, W>,
    ) -> Result<(), LocalError> {
        let finalize = upgrade::finalize(&upgrade::Case {
            brokers,
            processes: &self.brokers.processes(),
            outdated,
            look: self.look.as_ref(),
            healthy: self.healthy,
            finalize_after_s: cluster.finalize_after_s,
            now_s: Timestamp::now().as_second(),
        });
        self.healthy = finalize.healthy;
        let steps: Vec<Step> = finalize.step().into_iter().collect();
        self.ask(&steps, say).await.map(drop)
    }

    /// Asks the brokers what was decided. `false` when one of it was not done; then nothing that depends on it may be.
    async fn ask<W: Write + Send>(
        &mut self,
        steps: &[Step],
        say: &mut Say<'_, W>,
    ) -> Result<bool, LocalError> {
        for step in steps {
            if let Err(error) = act::on_brokers(&mut self.admin.1, step).await {
                tracing::debug!(%error, cluster = self.name, "not done");
                return Ok(false);
            }
            say.line(&format!("Done: {}.", plan::cluster_sentence(step)))?;
        }
        Ok(true)
    }

    /// Deletes the data of brokers that have just been forgotten, if that is wanted.
    fn release<W: Write>(
        &self,
        cluster: &Cluster,
        steps: &[Step],
        say: &mut Say<'_, W>,
    ) -> Result<(), LocalError> {
        let forgotten = steps.iter().filter_map(|step| match step {
            Step::Unregister { brokers } => Some(brokers),
            _ => None,
        });
        for broker in forgotten.flatten() {
            if cluster.storage.deletes_on_scale_down {
                self.brokers.directory().delete_data(*broker)?;
                say.line(&format!(
                    "The data of broker {broker} is deleted (spec.storage.onScaleDown)."
                ))?;
            }
        }
        Ok(())
    }

    fn in_time(&self) -> Result<(), LocalError> {
        if self.once && self.opened.elapsed() > ONCE_TIMEOUT {
            return Err(LocalError::Proof(format!(
                "cluster {} was not ready within {} s; see the logs in {}",
                self.name,
                ONCE_TIMEOUT.as_secs(),
                self.directory().display()
            )));
        }
        Ok(())
    }

    /// Asks the brokers what there is, once one is ready.
    async fn find_out(&mut self) -> Result<(), LocalError> {
        let size = self.brokers.directory().size().0.unwrap_or(0);
        if self.admin.0 != size {
            let addresses: Result<Vec<Vec<String>>, LocalError> = (0..size)
                .map(|id| {
                    let port = self.brokers.ports(BrokerId(id))?.internal;
                    Ok(vec![format!("127.0.0.1:{port}")])
                })
                .collect();
            let certificates = self.brokers.directory().certificates();
            let own = weir_tls::directory::files(&certificates, Role::Operator);
            // Not before they are made.
            let credentials = own.read().ok();
            self.admin = (size, Admin::new(Way::new(addresses?, credentials)));
        }
        self.look = None;
        if self.brokers.any_is_ready() {
            match self.admin.1.look().await {
                Ok(look) => {
                    if !look.cluster_id.is_empty()
                        && self.brokers.directory().cluster_id().as_ref() != Some(&look.cluster_id)
                    {
                        self.brokers.directory().keep_cluster_id(&look.cluster_id)?;
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

    fn is_alive(&self, broker: BrokerId) -> bool {
        let look = self.look.as_ref();
        look.and_then(|look| look.brokers.get(&broker))
            .is_some_and(|broker| broker.alive)
    }

    /// All brokers are ready, and the others see them alive.
    fn all_up<W: Write>(&self, size: u32, say: &mut Say<'_, W>) -> std::io::Result<bool> {
        let all_ready = (0..size)
            .map(BrokerId)
            .all(|broker| self.brokers.is_ready(broker));
        let unseen = (0..size)
            .map(BrokerId)
            .find(|broker| !self.is_alive(*broker))
            .filter(|_| all_ready && self.look.is_some());
        let sentence = unseen.map(|broker| {
            format!("Broker {broker} is ready; waiting until the controller hears from it.")
        });
        say.standing(
            &format!("life of cluster {}", self.name),
            sentence.as_deref(),
        )?;
        Ok(all_ready && self.look.is_some() && unseen.is_none())
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
                    self.directory().display()
                ))?;
                self.proven = true;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Stops all brokers at the same time; returns what there is to say of it.
    pub(super) async fn stop(&mut self) -> Vec<String> {
        self.brokers.stop().await
    }
}

/// Completes when a broker of any cluster has ended.
pub(super) async fn any_ended(clusters: &mut BTreeMap<String, LocalCluster>) {
    brokers::any_ended(clusters.values_mut().map(|cluster| &mut cluster.brokers)).await;
}

/// Whether it is declared as a share group, which an ordinary consumer cannot be a member of.
fn is_shared(group: &weir_crds::ConsumerGroup) -> bool {
    let spec = &group.spec;
    spec.begin.as_ref().is_some_and(|begin| begin.share_group)
        || spec.lease.is_some()
        || spec.isolation.is_some()
        || !spec.sharing_config().is_empty()
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
            .find(|group| group.spec.cluster_ref.name == cluster.name && !is_shared(group))
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
            directory = cluster.directory().display(),
        ))?;
    }
    Ok(())
}
