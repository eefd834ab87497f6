//! Weir without Kubernetes: the same manifests and the same decisions, carried out on processes of this machine.
//!
//! Each broker is a process with its own directory below the data directory, reachable from this machine only. Whatever is done is said in
//! plain words as it is done. The files are followed: what they say is what runs. What Kubernetes or the operator would refuse is refused
//! here too, with the same words, and the version before it goes on.

mod brokers;
mod cluster;
mod directory;
mod follow;
mod groups;
mod ports;
mod process;
mod proof;
mod say;
mod topics;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use kube::ResourceExt;

use crate::manifests::{ManifestError, Manifests};
use cluster::LocalCluster;
use say::Say;

/// How local mode runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// Manifests.
    pub files: Vec<PathBuf>,
    /// Where all data is kept.
    pub data_dir: PathBuf,
    /// The broker's program; `None`: beside this one, or in `PATH`.
    pub broker_binary: Option<PathBuf>,
    /// Kafka port of the first broker.
    pub port_base: u16,
    /// Stop after the proof.
    pub once: bool,
}

/// Why local mode ended.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The manifests cannot be read.
    #[error(transparent)]
    Manifests(#[from] ManifestError),
    /// There is nothing to run.
    #[error(
        "there is no Cluster in {0}. Write one, for example as examples/quickstart.yaml has it"
    )]
    NoCluster(String),
    /// At least one resource was refused at the start.
    #[error("the manifests cannot be carried out: {0}")]
    Refused(String),
    /// No broker program.
    #[error(
        "the broker's program is not there: {0}. Build it with `cargo build -p weir-broker`, or name it with --broker-binary"
    )]
    NoBroker(String),
    /// A port is taken.
    #[error(transparent)]
    Ports(#[from] ports::Taken),
    /// A directory or file cannot be used.
    #[error("{0}: {1}")]
    Files(PathBuf, std::io::Error),
    /// Another process of the same kind uses the directory.
    #[error(
        "{0} is used by another `weir-operator local`: stop that one, or choose another --data-dir"
    )]
    InUse(PathBuf),
    /// The brokers' configuration cannot be written.
    #[error("the brokers' configuration cannot be written: {0}")]
    Configuration(String),
    /// There is no certificate for a broker.
    #[error("the brokers' certificates: {0}")]
    Certificates(#[from] weir_tls::TlsError),
    /// Messages did not come back.
    #[error("the proof failed: {0}")]
    Proof(String),
    /// Nobody takes the output.
    #[error("nothing can be said: {0}")]
    Output(#[from] std::io::Error),
}

/// While something is on its way, the world is looked at this often.
const UNDER_WAY: Duration = Duration::from_millis(50);
/// At rest, this often: for brokers that hang, drift of topics, and groups.
const AT_REST: Duration = Duration::from_secs(3);

/// Runs until `stop` completes, or after the proof with [`Options::once`].
///
/// # Errors
/// When the start fails or, with `once`, the proof does. Later failures are said and tried again.
pub async fn run(
    options: Options,
    stop: impl Future<Output = ()>,
    out: &mut (impl Write + Send),
) -> Result<(), LocalError> {
    let mut say = Say::new(out);
    let binary = process::find_binary(options.broker_binary.as_deref())?;
    let (mut manifests, refused) = Manifests::read(&options.files, NAMESPACE, None)?;
    if !refused.is_empty() {
        return Err(LocalError::Refused(refused.join("\n")));
    }
    if let Some(sentence) = named_twice(&manifests) {
        return Err(LocalError::Refused(sentence));
    }
    if manifests.clusters.is_empty() {
        let files: Vec<String> = options
            .files
            .iter()
            .map(|file| file.display().to_string())
            .collect();
        return Err(LocalError::NoCluster(files.join(", ")));
    }
    let mut changes = follow::files(&options.files);
    let mut clusters: BTreeMap<String, LocalCluster> = BTreeMap::new();
    let mut stop = std::pin::pin!(stop);
    let result = loop {
        if let Err(error) = open(&mut clusters, &manifests, &options, &binary, &mut say).await {
            break Err(error);
        }
        let mut busy = false;
        let mut failed = None;
        for cluster in clusters.values_mut() {
            match cluster.pass(&manifests, &mut say).await {
                Ok(more) => busy |= more,
                Err(error) => failed = Some(error),
            }
        }
        if let Some(error) = failed {
            break Err(error);
        }
        if options.once && clusters.values().all(LocalCluster::is_proven) {
            break Ok(());
        }
        // Whatever goes wrong, the brokers are stopped in good order below.
        if !busy
            && let Err(error) = cluster::introduce(&mut clusters, &options, &manifests, &mut say)
        {
            break Err(error);
        }
        tokio::select! {
            () = &mut stop => break Ok(()),
            () = changes.changed() => if let Err(error) = reread(&options, &mut manifests, &mut say) {
                break Err(error);
            },
            () = tokio::time::sleep(if busy { UNDER_WAY } else { AT_REST }) => {}
            () = cluster::any_ended(&mut clusters) => {}
        }
    };
    // Said whatever happened before: brokers are never left behind.
    let said = if clusters.is_empty() {
        Ok(())
    } else {
        say.line("Stopping the brokers; their data stays.")
    };
    futures::future::join_all(clusters.values_mut().map(LocalCluster::stop))
        .await
        .into_iter()
        .flatten()
        .try_for_each(|sentence| say.line(&sentence))?;
    said?;
    result
}

/// Manifests that name no namespace are in this one, as with kubectl.
const NAMESPACE: &str = "default";

/// Opens what is new in the files, closes what is no longer there.
async fn open<W: Write + Send>(
    clusters: &mut BTreeMap<String, LocalCluster>,
    manifests: &Manifests,
    options: &Options,
    binary: &std::path::Path,
    say: &mut Say<'_, W>,
) -> Result<(), LocalError> {
    for resource in &manifests.clusters {
        let name = resource.name_any();
        if !clusters.contains_key(&name) {
            let slots: Vec<u16> = clusters.values().map(LocalCluster::slot).collect();
            let slot = (0..).find(|slot| !slots.contains(slot)).unwrap_or(0);
            clusters.insert(
                name.clone(),
                LocalCluster::open(&name, slot, options, binary)?,
            );
        }
    }
    let gone: Vec<String> = clusters
        .keys()
        .filter(|name| {
            !manifests
                .clusters
                .iter()
                .any(|cluster| cluster.name_any() == **name)
        })
        .cloned()
        .collect();
    for name in gone {
        if let Some(mut cluster) = clusters.remove(&name) {
            say.line(&format!(
                "Cluster {name} is no longer in the files: its brokers stop, its data stays in {}.",
                cluster.directory().display()
            ))?;
            for sentence in cluster.stop().await {
                say.line(&sentence)?;
            }
        }
    }
    Ok(())
}

/// On this machine a cluster's name is that of its directory, so it may be there once, whatever the namespace.
fn named_twice(manifests: &Manifests) -> Option<String> {
    let mut seen = BTreeMap::new();
    manifests.clusters.iter().find_map(|cluster| {
        let (name, namespace) = (cluster.name_any(), cluster.namespace().unwrap_or_default());
        let before = seen.insert(name.clone(), namespace.clone())?;
        Some(format!(
            "there are two Clusters \"{name}\", in the namespaces \"{before}\" and \"{namespace}\". On this machine namespaces are no \
             separate worlds: give one of the two another name"
        ))
    })
}

/// Takes the files as they are now. What cannot be taken is said, and nothing changes.
fn reread<W: Write + Send>(
    options: &Options,
    manifests: &mut Manifests,
    say: &mut Say<'_, W>,
) -> Result<(), LocalError> {
    match Manifests::read(&options.files, NAMESPACE, Some(manifests)) {
        Ok((new, refused)) => {
            for sentence in refused {
                say.line(&format!("Refused, as Kubernetes would refuse it: {sentence}. What was there before goes on."))?;
            }
            if let Some(sentence) = named_twice(&new) {
                say.line(&format!(
                    "Refused: {sentence}. What was there before goes on."
                ))?;
            } else if new != *manifests {
                say.line("The files have changed.")?;
                *manifests = new;
            }
        }
        Err(error) => say.line(&format!("{error}. What was there before goes on."))?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::named_twice;
    use crate::manifests::Manifests;
    use crate::testing::resource;

    #[test]
    fn clusters_of_one_name_in_two_namespaces_are_refused_with_both_named() {
        let mut other = resource();
        other.metadata.namespace = Some("elsewhere".into());
        let mut manifests = Manifests::default();
        manifests.clusters.push(resource());
        assert_eq!(named_twice(&manifests), None);
        manifests.clusters.push(other);
        let sentence = named_twice(&manifests).unwrap_or_default();
        for part in ["\"shop\"", "\"market\"", "\"elsewhere\""] {
            assert!(sentence.contains(part), "{sentence}");
        }
    }
}
