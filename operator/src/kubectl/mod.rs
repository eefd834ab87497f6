//! `kubectl weir`: what a person types beside a cluster.
//!
//! What always holds: nothing is done past the operator. What is to change is changed in resources, as with `kubectl edit`, and the operator does the rest
//! behind its gates. Only what resources do not say (lag of groups without one, messages, dead letters that are to go back) is asked of brokers, through the
//! API server.

mod adopt;
mod ask;
mod edit;
mod messages;
mod redrive;
mod show;
mod trace;

use std::io::Write;

use clap::{Args, Subcommand};
use kube::config::KubeConfigOptions;
use kube::{Api, Client, Config};
use weir_crds::{Cluster, ConsumerGroup, Topic};

/// What to do, and where.
#[derive(Debug, Args)]
pub struct Kubectl {
    /// Namespace [default: the kubeconfig's].
    #[arg(short, long, global = true)]
    namespace: Option<String>,
    /// Context of the kubeconfig [default: the current one].
    #[arg(long, global = true)]
    context: Option<String>,
    #[command(subcommand)]
    command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Command {
    /// How clusters, topics and groups stand.
    Status {
        /// Name of a Cluster [default: all of the namespace].
        cluster: Option<String>,
    },
    /// What the operator is about to do, and what holds it.
    Plan {
        /// Name of a Cluster [default: all of the namespace].
        cluster: Option<String>,
    },
    /// Has a broker emptied that stays and holds nothing until it is uncordoned, by the annotation weir.dev/drain.
    Drain {
        /// Name of the Cluster.
        cluster: String,
        /// Number of the broker.
        broker: u32,
        /// Have it removed as well, by lowering spec.replicas: the last broker only.
        #[arg(long)]
        remove: bool,
    },
    /// Has a broker that was drained take its share again.
    Uncordon {
        /// Name of the Cluster.
        cluster: String,
        /// Number of the broker.
        broker: u32,
    },
    /// Has all brokers restarted one at a time, by an annotation of spec.pod.
    Restart {
        /// Name of the Cluster.
        cluster: String,
    },
    /// Prints a cluster's metadata (topics, configurations, quotas, where partitions lie) as a file to keep for a disaster.
    Export {
        /// Name of the Cluster.
        cluster: String,
    },
    /// Has volumes that were kept when their claims were deleted bound again by a Cluster that is applied anew. Says which; does it with --execute.
    Adopt {
        /// Name that the Cluster had, and will have.
        cluster: String,
        /// Do it.
        #[arg(long)]
        execute: bool,
    },
    /// How far groups are behind.
    Lag {
        /// Name of a ConsumerGroup [default: all of the namespace].
        group: Option<String>,
        /// Ask the brokers of this Cluster instead, for all of its groups.
        #[arg(long, conflicts_with = "group")]
        cluster: Option<String>,
    },
    /// Sets a group's offsets by spec.reset of its ConsumerGroup; says first what would change.
    ResetOffsets(edit::Reset),
    /// Writes each line of standard input as a message.
    Produce {
        /// Name of the Cluster.
        cluster: String,
        /// The topic, which must be there.
        topic: String,
    },
    /// Prints messages of a topic, a line each, as they come.
    Consume(messages::Consume),
    /// Where messages of a traced topic were, and when.
    Trace(trace::Trace),
    /// Takes dead letters back to the topics that they came from. Says how many; does it with --execute.
    Redrive(redrive::Redrive),
}

/// Why it could not be done.
#[derive(Debug, thiserror::Error)]
pub enum KubectlError {
    /// There is no way to the API server.
    #[error("Kubernetes cannot be reached: {0}")]
    Config(String),
    /// The API server said no.
    #[error("{0}")]
    Api(String),
    /// What was asked for makes no sense as things are.
    #[error("{0}")]
    Refused(String),
    /// The brokers did not answer.
    #[error("{0}")]
    Brokers(String),
    /// Nobody takes the output, or gives input.
    #[error("standard input or output: {0}")]
    Output(#[from] std::io::Error),
}

impl From<kube::Error> for KubectlError {
    fn from(error: kube::Error) -> Self {
        Self::Api(match error {
            kube::Error::Api(status) if !status.message.is_empty() => status.message,
            other => other.to_string(),
        })
    }
}

/// A namespace, and the way there.
pub(crate) struct Place {
    client: Client,
    namespace: String,
}

impl Place {
    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// One by its name, or all.
    async fn found<K>(&self, name: Option<&str>) -> Result<Vec<K>, KubectlError>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        match name {
            Some(name) => Ok(vec![self.api::<K>().get(name).await?]),
            None => {
                let mut all = self.api::<K>().list(&Default::default()).await?.items;
                all.sort_by_key(|one| one.meta().name.clone());
                Ok(all)
            }
        }
    }
}

/// Does it.
///
/// # Errors
/// Says what was wrong, in words.
pub async fn run(asked: Kubectl, out: &mut (impl Write + Send)) -> Result<(), KubectlError> {
    let options = KubeConfigOptions {
        context: asked.context,
        ..KubeConfigOptions::default()
    };
    let config = match options.context {
        Some(_) => Config::from_kubeconfig(&options)
            .await
            .map_err(|error| error.to_string()),
        None => Config::infer().await.map_err(|error| error.to_string()),
    };
    let mut config = config.map_err(KubectlError::Config)?;
    // A stream of messages may be silent for as long as it likes.
    config.read_timeout = None;
    let client =
        Client::try_from(config).map_err(|error| KubectlError::Config(error.to_string()))?;
    let namespace = asked
        .namespace
        .unwrap_or_else(|| client.default_namespace().to_owned());
    let place = Place { client, namespace };
    match asked.command {
        Command::Status { cluster } => status(&place, cluster.as_deref(), out).await,
        Command::Plan { cluster } => {
            for cluster in place.found::<Cluster>(cluster.as_deref()).await? {
                out.write_all(show::plan(&cluster).as_bytes())?;
            }
            Ok(())
        }
        Command::Drain {
            cluster,
            broker,
            remove: true,
        } => edit::remove(&place, &cluster, broker, out).await,
        Command::Drain {
            cluster, broker, ..
        } => edit::drain(&place, &cluster, broker, out).await,
        Command::Uncordon { cluster, broker } => {
            edit::uncordon(&place, &cluster, broker, out).await
        }
        Command::Restart { cluster } => edit::restart(&place, &cluster, out).await,
        Command::Export { cluster } => ask::export(&place, &cluster, out).await,
        Command::Adopt { cluster, execute } => adopt::adopt(&place, &cluster, execute, out).await,
        Command::Lag {
            cluster: Some(cluster),
            ..
        } => ask::lag(&place, &cluster, out).await,
        Command::Lag { group, .. } => {
            let groups = place.found::<ConsumerGroup>(group.as_deref()).await?;
            out.write_all(show::lag(&groups, jiff::Timestamp::now()).as_bytes())?;
            Ok(())
        }
        Command::ResetOffsets(reset) => edit::reset(&place, &reset, out).await,
        Command::Produce { cluster, topic } => messages::produce(&place, &cluster, &topic).await,
        Command::Consume(consume) => messages::consume(&place, &consume).await,
        Command::Trace(asked) => trace::trace(&place, asked, out).await,
        Command::Redrive(asked) => redrive::redrive(&place, asked, out).await,
    }
}

async fn status(
    place: &Place,
    cluster: Option<&str>,
    out: &mut impl Write,
) -> Result<(), KubectlError> {
    let clusters = place.found::<Cluster>(cluster).await?;
    if clusters.is_empty() {
        writeln!(out, "There is no Cluster in namespace {}.", place.namespace)?;
    }
    let topics = place.found::<Topic>(None).await?;
    let groups = place.found::<ConsumerGroup>(None).await?;
    for cluster in clusters {
        out.write_all(show::status(&cluster, &topics, &groups).as_bytes())?;
    }
    Ok(())
}
