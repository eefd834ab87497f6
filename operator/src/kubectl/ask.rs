//! What is asked of brokers from outside Kubernetes: through the API server's port-forward, with the certificate that the operator has.

use std::io::Write;

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use weir_crds::Topic;
use weir_tls::Pems;

use super::{KubectlError, Place, show};
use crate::admin::{Admin, Way};
use crate::kubernetes::observe;
use crate::names;
use crate::world::{GroupSeen, Key, Refusal};

/// Prints how far all groups of a cluster are behind, as its brokers say.
pub(super) async fn lag(
    place: &Place,
    cluster: &str,
    out: &mut impl Write,
) -> Result<(), KubectlError> {
    let (mut admin, _tunnel) = door(place, cluster).await?;
    let groups = admin
        .every_group()
        .await
        .map_err(|error| KubectlError::Brokers(error.to_string()))?;
    out.write_all(text(&groups).as_bytes())?;
    Ok(())
}

/// Prints the metadata of a cluster as a file to keep.
pub(super) async fn export(
    place: &Place,
    cluster: &str,
    out: &mut impl Write,
) -> Result<(), KubectlError> {
    let (mut admin, _tunnel) = door(place, cluster).await?;
    let json = admin
        .export()
        .await
        .map_err(|error| KubectlError::Brokers(error.to_string()))?;
    writeln!(out, "{json}")?;
    Ok(())
}

/// The way to a broker's `Admin`, as long as the tunnel is held.
pub(super) async fn door(place: &Place, cluster: &str) -> Result<(Admin, Tunnel), KubectlError> {
    let credentials = credentials(place, cluster).await?;
    let pod = ready_pod(place, cluster).await?;
    door_of(place, &pod, credentials).await
}

/// The certificate that a cluster's brokers are called with.
pub(super) async fn credentials(place: &Place, cluster: &str) -> Result<Pems, KubectlError> {
    let key = Key::new(place.namespace.clone(), cluster);
    let way = observe::way_to(&place.client, &key).await?;
    way.credentials.ok_or_else(|| {
        KubectlError::Refused(format!(
            "Secret {} in namespace {}, with which brokers are called, is not there or may not be read. Without it, kubectl weir lag shows what ConsumerGroups say, without --cluster",
            names::operator_secret(cluster),
            place.namespace
        ))
    })
}

/// The way to the `Admin` of the broker in one pod.
pub(super) async fn door_of(
    place: &Place,
    pod: &str,
    credentials: Pems,
) -> Result<(Admin, Tunnel), KubectlError> {
    let tunnel = Tunnel::open(place.api(), pod).await?;
    let addresses = vec![vec![tunnel.address.clone()]];
    let admin = Admin::new(Way::new(addresses, Some(credentials)));
    Ok((admin, tunnel))
}

/// The cluster and Kafka's name of a topic: of a Topic, or as it is where a cluster is named.
pub(super) async fn topic_of(
    place: &Place,
    cluster: Option<String>,
    topic: String,
) -> Result<(String, String), KubectlError> {
    if let Some(cluster) = cluster {
        return Ok((cluster, topic));
    }
    let topic: Topic = place.api().get(&topic).await?;
    let name = topic.kafka_name().to_owned();
    Ok((topic.spec.cluster_ref.name, name))
}

/// The first broker's pod that is ready.
pub(super) async fn ready_pod(place: &Place, cluster: &str) -> Result<String, KubectlError> {
    let selector = names::selector_string(cluster);
    let parameters = kube::api::ListParams::default().labels(&selector);
    let mut pods = place.api::<Pod>().list(&parameters).await?.items;
    pods.sort_by_key(ResourceExt::name_any);
    let ready = pods.iter().find(|pod| observe::is_ready(pod));
    ready.map(ResourceExt::name_any).ok_or_else(|| {
        KubectlError::Refused(format!(
            "no broker of Cluster {cluster} in namespace {} is ready",
            place.namespace
        ))
    })
}

/// A port of this machine that leads to a broker's `Admin`, while it is held.
pub(super) struct Tunnel {
    address: String,
    carrying: JoinHandle<()>,
}

impl Tunnel {
    async fn open(pods: Api<Pod>, pod: &str) -> Result<Self, KubectlError> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?.to_string();
        let pod = pod.to_owned();
        let carrying = tokio::spawn(async move {
            // One connection after the other: the caller keeps one open.
            while let Ok((mut near, _)) = listener.accept().await {
                match pods.portforward(&pod, &[names::INTERNAL_PORT]).await {
                    Ok(mut forward) => {
                        let Some(mut far) = forward.take_stream(names::INTERNAL_PORT) else {
                            continue;
                        };
                        // Either end may go at any time; the caller sees it.
                        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                    }
                    Err(error) => tracing::warn!(%error, pod, "no port is forwarded"),
                }
            }
        });
        Ok(Self { address, carrying })
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.carrying.abort();
    }
}

/// A line for each group and topic.
fn text(groups: &[(String, Result<GroupSeen, Refusal>)]) -> String {
    let mut rows = vec![show::row([
        "GROUP", "STATE", "MEMBERS", "TOPIC", "LAG", "SECONDS",
    ])];
    let mut failed = String::new();
    for (id, seen) in groups {
        let seen = match seen {
            Ok(seen) => seen,
            Err(refusal) => {
                failed.push_str(&format!("{id}: {refusal}\n"));
                continue;
            }
        };
        let mut topics: std::collections::BTreeMap<&str, (i64, i64)> = Default::default();
        for partition in &seen.lag {
            let (records, age_ms) = topics.entry(&partition.topic).or_default();
            *records = records.saturating_add(partition.records);
            *age_ms = (*age_ms).max(partition.age_ms);
        }
        let members = seen.members.to_string();
        if topics.is_empty() {
            rows.push(show::row([id, &seen.state, &members, "-", "-", "-"]));
        }
        for (topic, (records, age_ms)) in topics {
            rows.push(show::row([
                id,
                &seen.state,
                &members,
                topic,
                &records.to_string(),
                &age_ms.div_euclid(1_000).to_string(),
            ]));
        }
    }
    show::table(&rows) + &failed
}

#[cfg(test)]
mod tests {
    use super::text;
    use crate::world::{GroupSeen, PartitionLag, Refusal};

    #[test]
    fn lag_is_summed_by_topic_and_what_failed_is_said() {
        let lag = |topic: &str, records, age_ms| PartitionLag {
            topic: topic.into(),
            partition: 0,
            committed_offset: 0,
            records,
            age_ms,
            topic_partitions: 2,
        };
        let seen = GroupSeen {
            state: "Stable".into(),
            members: 2,
            lag: vec![lag("orders", 5, 1_500), lag("orders", 7, 4_000)],
            consumption: None,
            config: Default::default(),
        };
        let refusal = Refusal {
            code: "LEADER_NOT_AVAILABLE".into(),
            message: "later".into(),
        };
        let text = text(&[("a".into(), Ok(seen)), ("b".into(), Err(refusal))]);
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(lines[1], ["a", "Stable", "2", "orders", "12", "4"]);
        assert_eq!(lines[2], ["b:", "LEADER_NOT_AVAILABLE:", "later"]);
    }
}
