//! The operator's side of `weir.admin.v1`.
//!
//! Any broker answers; the addresses are tried in order, each with a deadline, and the one that answered is asked first the next time. Both
//! sides show certificates: whoever answers is a broker of the cluster, whatever its address.
//! One that hears from no controller may be cut off from the others, so somebody else is asked after it who does.
//! Everything is asked in batches: one call for all topics of a cluster, one for all groups.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tonic::transport::Channel;
use weir_proto::admin::v1 as proto;
use weir_proto::admin::v1::admin_client::AdminClient;
use weir_tls::{Pems, Tls};

use crate::decide::evictions::Availability;
use crate::world::{BrokerId, GroupSeen, Levels, ListenerAt, Look, Refusal};

mod connector;
mod disks;
mod groups;
mod seen;
mod topics;
pub use disks::disks;
pub use groups::is_passing;
use seen::{broker_seen, group_seen, topic_seen};
pub use topics::{NewTopic, TopicChange};

/// A broker with which no connection comes about for this long is passed over.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// Answers come from memory; a change waits for the quorum.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// Thousands of topics in one answer, each some hundred bytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// No broker answered.
#[derive(Debug, thiserror::Error)]
#[error("no broker answered: {0}")]
pub struct Unreachable(String);

/// What became of each topic of a call.
pub type Outcomes = BTreeMap<String, Result<(), Refusal>>;

/// What became of each broker of a call.
pub type BrokerOutcomes = BTreeMap<BrokerId, Result<(), Refusal>>;

/// How the brokers of a cluster are reached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Way {
    /// Where (`host:port`), in the order in which they are tried.
    pub addresses: Vec<String>,
    /// The same, by whose they are.
    pub brokers: Vec<Vec<String>>,
    /// The certificate that they are called with, once there is one.
    pub credentials: Option<Pems>,
}

/// Calls to the brokers of one cluster.
#[derive(Debug, Default)]
pub struct Admin {
    addresses: Vec<String>,
    /// Or why there is none.
    credentials: Option<Result<Arc<Tls>, String>>,
    answered: Option<(String, AdminClient<Channel>)>,
}

impl Way {
    /// To brokers at these addresses, of each in the order in which they are tried. The first ones of all come before the others of any.
    #[must_use]
    pub fn new(brokers: Vec<Vec<String>>, credentials: Option<Pems>) -> Self {
        let first = brokers.iter().filter_map(|addresses| addresses.first());
        let others = brokers
            .iter()
            .flat_map(|addresses| addresses.iter().skip(1));
        Self {
            addresses: first.chain(others).cloned().collect(),
            brokers,
            credentials,
        }
    }
}

impl Admin {
    /// For the brokers at the end of a way.
    #[must_use]
    pub fn new(way: Way) -> Self {
        let credentials = way.credentials.map(|pems| {
            Tls::from_pems(pems)
                .map(Arc::new)
                .map_err(|error| error.to_string())
        });
        Self {
            addresses: way.addresses,
            credentials,
            answered: None,
        }
    }

    /// Asks for the cluster and all of its topics; at one who hears from the controller, if anybody does.
    ///
    /// # Errors
    /// When no broker answers.
    pub async fn look(&mut self) -> Result<Look, Unreachable> {
        let mut cluster = self
            .call(
                proto::DescribeClusterRequest {},
                |mut client, request| async move { client.describe_cluster(request).await },
            )
            .await?;
        if cluster.controller_id.is_none()
            && let Some(confirmed) = self.confirmed().await
        {
            cluster = confirmed;
        }
        let topics = self
            .call(
                proto::DescribeTopicsRequest { names: Vec::new() },
                |mut client, request| async move { client.describe_topics(request).await },
            )
            .await?;
        let levels = match cluster.controller_id {
            Some(_) => self.levels().await,
            None => None,
        };
        Ok(Look {
            sets_listeners: cluster.sets_listeners,
            tls_listeners: cluster.tls_listeners,
            configures: cluster.configures_brokers,
            config: cluster.config.into_iter().collect(),
            levels,
            cluster_id: cluster.cluster_id,
            controller: cluster.controller_id.and_then(broker_id),
            brokers: cluster
                .brokers
                .into_iter()
                .filter_map(|broker| Some((broker_id(broker.id)?, broker_seen(broker))))
                .collect(),
            voters: cluster.voters.into_iter().filter_map(broker_id).collect(),
            topics: topics
                .topics
                .into_iter()
                .map(|topic| (topic.name.clone(), topic_seen(topic)))
                .collect(),
            feature_level: cluster.feature_level,
            rebalancing: cluster.rebalancing,
            moving_partitions: cluster.moving_partitions,
        })
    }

    /// The cluster as one has it who hears from the controller, after the one that answered last does not. All others are asked at the same time,
    /// so that many who do not answer take no longer than one; who was first is asked from then on.
    async fn confirmed(&mut self) -> Option<proto::DescribeClusterResponse> {
        let tls = self.tls().ok()?;
        let mut others = self.addresses.clone();
        others.retain(|address| self.answering() != Some(address));
        let asked = others.into_iter().map(|address| {
            let tls = &tls;
            async move {
                let (client, answer) = describe(tls, &address).await?;
                answer.controller_id?;
                Some((address, client, answer))
            }
        });
        let asked: FuturesUnordered<_> = asked.collect();
        let mut confirmed = asked.filter_map(std::future::ready);
        let found = tokio::time::timeout(CONNECT_TIMEOUT, confirmed.next()).await;
        let (address, client, answer) = found.ok().flatten()?;
        self.answered = Some((address, client));
        Some(answer)
    }

    /// Waits until brokers have gone or come back, or cannot be spared any more or can again, or no controller is heard any more; a while at most,
    /// and says what it is then. After one who hears from no controller another is asked the next time.
    ///
    /// # Errors
    /// When no broker answers, or all are too old to know.
    pub async fn availability(
        &mut self,
        known: &Availability,
    ) -> Result<Availability, Unreachable> {
        let alive: Vec<BrokerId> = known.alive.iter().copied().collect();
        let request = proto::AwaitAvailabilityRequest {
            known: Some(proto::Availability {
                alive: numbers(&alive),
                brokers_needed: known.brokers_needed,
                controller_unknown: known.controller_unknown,
            }),
        };
        let answer = self
            .call(request, |mut client, request| async move {
                client.await_availability(request).await
            })
            .await?;
        let now = answer.now.unwrap_or_default();
        if now.controller_unknown
            && let Some((known, _)) = self.answered.take()
        {
            self.addresses.sort_by_key(|address| *address == known);
        }
        Ok(Availability {
            alive: now.alive.into_iter().filter_map(broker_id).collect(),
            brokers_needed: now.brokers_needed,
            controller_unknown: now.controller_unknown,
        })
    }

    /// The address of the broker that answered last.
    #[must_use]
    pub fn answering(&self) -> Option<&str> {
        self.answered.as_ref().map(|(address, _)| address.as_str())
    }

    /// Has brokers emptied. The answer also says that the controller has agreed on it now: what is read from the same broker after it is no older.
    ///
    /// # Errors
    /// When no broker answers.
    pub async fn drain(&mut self, brokers: &[BrokerId]) -> Result<BrokerOutcomes, Unreachable> {
        let request = proto::DrainRequest {
            brokers: numbers(brokers),
        };
        let answer = self
            .call(request, |mut client, request| async move {
                client.drain(request).await
            })
            .await?;
        Ok(broker_results(answer))
    }

    /// Has brokers get new replicas again, and keep what they still have.
    ///
    /// # Errors
    /// When no broker answers.
    pub async fn cancel_drain(
        &mut self,
        brokers: &[BrokerId],
    ) -> Result<BrokerOutcomes, Unreachable> {
        self.cordon(brokers, false).await
    }

    /// Has brokers get no new replicas, or get some again. The answer also says that the controller has agreed on it now, as that of
    /// [`Admin::drain`] does.
    ///
    /// # Errors
    /// When no broker answers.
    pub async fn cordon(
        &mut self,
        brokers: &[BrokerId],
        cordoned: bool,
    ) -> Result<BrokerOutcomes, Unreachable> {
        let request = proto::CordonRequest {
            brokers: numbers(brokers),
            cordoned,
        };
        let answer = self
            .call(request, |mut client, request| async move {
                client.cordon(request).await
            })
            .await?;
        Ok(broker_results(answer))
    }

    /// Has the cluster use a newer feature level.
    ///
    /// # Errors
    /// When no broker answers.
    pub async fn raise_feature_level(
        &mut self,
        level: u32,
    ) -> Result<Result<(), Refusal>, Unreachable> {
        let request = proto::RaiseFeatureLevelRequest { level };
        let answer = self
            .call(request, |mut client, request| async move {
                client.raise_feature_level(request).await
            })
            .await?;
        Ok(answer.error.map_or(Ok(()), |error| Err(refusal(error))))
    }

    /// Which feature levels brokers know. `None` when the broker that answered last does not say: it is too old to, or the controller is away.
    async fn levels(&mut self) -> Option<Levels> {
        let (_, client) = self.answered.as_mut()?;
        let asked = client.describe_feature_levels(proto::DescribeFeatureLevelsRequest {});
        let answer = tokio::time::timeout(CALL_TIMEOUT, asked).await.ok()?.ok()?;
        let answer = answer.into_inner();
        if answer.error.is_some() {
            return None;
        }
        let by_broker = |levels: Vec<proto::BrokerLevel>| {
            let levels = levels.into_iter();
            levels
                .filter_map(|one| Some((broker_id(one.broker)?, one.level)))
                .collect()
        };
        Some(Levels {
            newest: by_broker(answer.newest),
            refused: by_broker(answer.refused),
        })
    }

    /// Has brokers have these listeners, besides that of their file, and no others.
    ///
    /// # Errors
    /// When no broker answers.
    pub async fn set_listeners(
        &mut self,
        brokers: &[(BrokerId, Vec<ListenerAt>)],
    ) -> Result<BrokerOutcomes, Unreachable> {
        let listener = |listener: &ListenerAt| proto::Listener {
            name: listener.name.clone(),
            port: if listener.tls {
                0
            } else {
                listener.port.into()
            },
            tls_port: if listener.tls {
                listener.port.into()
            } else {
                0
            },
            advertised: listener
                .advertised
                .as_ref()
                .map(|at| proto::AdvertisedAddress {
                    host: at.host.clone(),
                    port: at.port.into(),
                }),
        };
        let brokers = brokers.iter().filter_map(|(broker, listeners)| {
            Some(proto::BrokerListeners {
                broker: i32::try_from(broker.0).ok()?,
                listeners: listeners.iter().map(listener).collect(),
            })
        });
        let request = proto::SetListenersRequest {
            brokers: brokers.collect(),
        };
        let answer = self
            .call(request, |mut client, request| async move {
                client.set_listeners(request).await
            })
            .await?;
        Ok(broker_results(answer))
    }

    /// Has brokers forgotten that are gone.
    ///
    /// # Errors
    /// When no broker answers.
    pub async fn unregister(
        &mut self,
        brokers: &[BrokerId],
    ) -> Result<BrokerOutcomes, Unreachable> {
        let request = proto::UnregisterBrokersRequest {
            brokers: numbers(brokers),
        };
        let answer = self
            .call(request, |mut client, request| async move {
                client.unregister_brokers(request).await
            })
            .await?;
        Ok(broker_results(answer))
    }

    /// Sets and unsets configurations of all brokers while they run.
    ///
    /// # Errors
    /// When no broker answers.
    pub async fn configure(
        &mut self,
        set: &BTreeMap<String, String>,
        unset: &BTreeSet<String>,
    ) -> Result<Result<(), Refusal>, Unreachable> {
        let request = proto::ConfigureBrokersRequest {
            set: set.clone().into_iter().collect(),
            unset: unset.iter().cloned().collect(),
        };
        let answer = self
            .call(request, |mut client, request| async move {
                client.configure_brokers(request).await
            })
            .await?;
        Ok(answer.error.map_or(Ok(()), |error| Err(refusal(error))))
    }

    /// Has replicas spread evenly over the brokers.
    ///
    /// # Errors
    /// When no broker answers.
    pub async fn rebalance(&mut self) -> Result<Result<(), Refusal>, Unreachable> {
        let request = proto::RebalanceRequest { active: true };
        let answer = self
            .call(request, |mut client, request| async move {
                client.rebalance(request).await
            })
            .await?;
        Ok(answer.error.map_or(Ok(()), |error| Err(refusal(error))))
    }

    /// The cluster's metadata as a file that people keep.
    ///
    /// # Errors
    /// When no broker answers.
    pub async fn export(&mut self) -> Result<String, Unreachable> {
        let request = proto::ExportMetadataRequest {};
        let answer = self
            .call(request, |mut client, request| async move {
                client.export_metadata(request).await
            })
            .await?;
        Ok(answer.json)
    }

    /// Where messages were, and when, as far as any broker remembers.
    ///
    /// # Errors
    /// When no broker answers, or none knows the topic or traces it: what they say.
    pub async fn trace(
        &mut self,
        request: proto::TraceRequest,
    ) -> Result<proto::TraceResponse, Unreachable> {
        self.call(request, |mut client, request| async move {
            client.trace(request).await
        })
        .await
    }

    /// Takes some dead letters of one partition back. Asked of one broker, and once: who does not answer may have done it, and asked again would do it again.
    ///
    /// # Errors
    /// When the broker does not answer; some may have gone back then.
    pub async fn redrive(
        &mut self,
        request: proto::RedriveRequest,
    ) -> Result<proto::RedriveResponse, Unreachable> {
        let tls = self.tls()?;
        let address = match (&self.answered, self.addresses.first()) {
            (Some((known, _)), _) => known.clone(),
            (None, Some(first)) => first.clone(),
            (None, None) => return Err(no_address()),
        };
        let invoke = |mut client: AdminClient<Channel>, request| async move {
            client.redrive(request).await
        };
        let asked = match self.answered.take() {
            Some((_, client)) => ask_by(client, request, &invoke).await,
            None => ask(&tls, &address, request, &invoke).await,
        };
        let (client, answer) = asked.map_err(|error| Unreachable(format!("{address}: {error}")))?;
        self.answered = Some((address, client));
        Ok(answer)
    }

    /// Asks for groups by their ids; one that could not be described comes with the reason.
    ///
    /// # Errors
    /// When no broker answers.
    pub async fn groups(
        &mut self,
        ids: Vec<String>,
    ) -> Result<BTreeMap<String, Result<GroupSeen, Refusal>>, Unreachable> {
        if ids.is_empty() {
            return Ok(BTreeMap::new());
        }
        let answer = self
            .call(
                proto::DescribeGroupsRequest { ids },
                |mut client, request| async move { client.describe_groups(request).await },
            )
            .await?;
        Ok(answer
            .groups
            .into_iter()
            .map(|group| (group.id.clone(), group_seen(group)))
            .collect())
    }

    /// One call to the broker that answered last, else to the first that answers.
    async fn call<Q, A, F>(
        &mut self,
        request: Q,
        invoke: impl Fn(AdminClient<Channel>, Q) -> F,
    ) -> Result<A, Unreachable>
    where
        Q: Clone,
        F: Future<Output = Result<tonic::Response<A>, tonic::Status>>,
    {
        let mut errors = Vec::new();
        let mut addresses = self.addresses.clone();
        if addresses.is_empty() {
            return Err(no_address());
        }
        let tls = self.tls()?;
        if let Some((known, client)) = self.answered.take() {
            match ask_by(client, request.clone(), &invoke).await {
                Ok((client, answer)) => {
                    self.answered = Some((known, client));
                    return Ok(answer);
                }
                Err(error) => errors.push(format!("{known}: {error}")),
            }
            // The same one last: it has just failed.
            addresses.sort_by_key(|address| *address == known);
        }
        for address in addresses {
            match ask(&tls, &address, request.clone(), &invoke).await {
                Ok((client, answer)) => {
                    self.answered = Some((address, client));
                    return Ok(answer);
                }
                Err(error) => errors.push(format!("{address}: {error}")),
            }
        }
        Err(Unreachable(errors.join("; ")))
    }

    fn tls(&self) -> Result<Arc<Tls>, Unreachable> {
        match &self.credentials {
            Some(Ok(tls)) => Ok(Arc::clone(tls)),
            Some(Err(error)) => Err(Unreachable(error.clone())),
            None => Err(Unreachable(
                "there is no certificate to call the brokers with yet".to_owned(),
            )),
        }
    }
}

fn no_address() -> Unreachable {
    Unreachable("there is no address to ask".to_owned())
}

async fn ask<Q, A, F>(
    tls: &Arc<Tls>,
    address: &str,
    request: Q,
    invoke: &impl Fn(AdminClient<Channel>, Q) -> F,
) -> Result<(AdminClient<Channel>, A), String>
where
    F: Future<Output = Result<tonic::Response<A>, tonic::Status>>,
{
    // A name that does not resolve counts as much as a port that does not answer.
    let channel = tokio::time::timeout(CONNECT_TIMEOUT, connector::connect(tls, address))
        .await
        .map_err(|_| "no connection in time".to_owned())?
        .map_err(|error| source_of(&error))?;
    let client = AdminClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
    ask_by(client, request, invoke).await
}

/// What the broker at an address says of its cluster, if it answers.
async fn describe(
    tls: &Arc<Tls>,
    address: &str,
) -> Option<(AdminClient<Channel>, proto::DescribeClusterResponse)> {
    let describe =
        async |mut client: AdminClient<Channel>, request| client.describe_cluster(request).await;
    let request = proto::DescribeClusterRequest {};
    ask(tls, address, request, &describe).await.ok()
}

async fn ask_by<Q, A, F>(
    client: AdminClient<Channel>,
    request: Q,
    invoke: &impl Fn(AdminClient<Channel>, Q) -> F,
) -> Result<(AdminClient<Channel>, A), String>
where
    F: Future<Output = Result<tonic::Response<A>, tonic::Status>>,
{
    let answer = tokio::time::timeout(CALL_TIMEOUT, invoke(client.clone(), request))
        .await
        .map_err(|_| format!("no answer within {} s", CALL_TIMEOUT.as_secs()))?
        .map_err(|status| status.message().to_owned())?;
    Ok((client, answer.into_inner()))
}

/// The innermost cause: the outer ones say "transport error".
fn source_of(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

fn refusal(error: proto::Error) -> Refusal {
    Refusal {
        code: error.code,
        message: error.message,
    }
}

fn broker_id(id: i32) -> Option<BrokerId> {
    u32::try_from(id).ok().map(BrokerId)
}

fn numbers(brokers: &[BrokerId]) -> Vec<i32> {
    let number = |broker: &BrokerId| i32::try_from(broker.0).ok();
    brokers.iter().filter_map(number).collect()
}

fn broker_results(answer: proto::BrokerResultsResponse) -> BrokerOutcomes {
    let results = answer.results.into_iter().filter_map(|result| {
        let outcome = result.error.map_or(Ok(()), |error| Err(refusal(error)));
        Some((broker_id(result.broker)?, outcome))
    });
    results.collect()
}

#[cfg(test)]
mod tests;
