//! `weir.admin.v1.Admin`: what the operator asks.
//!
//! Pure translation, as the Kafka handlers are: changes go to the controller through the metadata facade, descriptions come from the
//! image.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use weir_proto::admin::v1 as proto;
use weir_proto::admin::v1::admin_server::Admin;
use weir_quorum::command::{
    AlterConfigs, ChangeReplicas, Command, ConfigChange, ConfigChanges, ConfigOp, ConfigResource,
    Cordon, CreatePartitions, CreateTopics, DeleteTopics, MorePartitions, NewTopic, TopicRef,
};
use weir_quorum::configs::PAUSED;
use weir_quorum::export::Export;
use weir_quorum::listeners::Listener;
use weir_quorum::record::HostPort;
use weir_quorum::{BrokerId, Reply};

use super::{availability, describe, trace};
use crate::Broker;
use crate::error::{ApiError, ErrorCode};
use crate::health::Health;
use crate::queue::redrive::redrive;

/// Brokers named in one request: as many as a cluster may have. Each is a decision of the controller's.
const BROKERS_MAX: usize = 1_000;
/// Groups named in one request: each is a record in one entry of the metadata.
const GROUPS_MAX: usize = 1_000;

/// Answers for the broker that `health` knows.
#[derive(Debug)]
pub struct AdminService {
    health: Arc<Health>,
    stop: CancellationToken,
}

impl AdminService {
    /// Answers as soon as the broker is assembled. Whoever waits here for something waits until `stop` at the latest.
    #[must_use]
    pub fn new(health: Arc<Health>, stop: CancellationToken) -> Self {
        Self { health, stop }
    }

    fn broker(&self) -> Result<&Arc<Broker>, Status> {
        self.health.assembled_broker()
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn describe_cluster(
        &self,
        _request: Request<proto::DescribeClusterRequest>,
    ) -> Result<Response<proto::DescribeClusterResponse>, Status> {
        Ok(Response::new(describe::cluster(self.broker()?).await))
    }

    async fn await_availability(
        &self,
        request: Request<proto::AwaitAvailabilityRequest>,
    ) -> Result<Response<proto::AwaitAvailabilityResponse>, Status> {
        let known = request.into_inner().known;
        let waited = availability::wait(self.broker()?, known.as_ref());
        let now = self.stop.run_until_cancelled(waited).await.flatten();
        let now = now.ok_or_else(|| Status::unavailable("the broker is stopping"))?;
        Ok(Response::new(proto::AwaitAvailabilityResponse {
            now: Some(now),
        }))
    }

    async fn export_metadata(
        &self,
        _request: Request<proto::ExportMetadataRequest>,
    ) -> Result<Response<proto::ExportMetadataResponse>, Status> {
        let export = Export::of(&self.broker()?.metadata.image());
        let export = export.ok_or_else(|| Status::unavailable("no cluster has formed yet"))?;
        Ok(Response::new(proto::ExportMetadataResponse {
            json: export.to_json(),
        }))
    }

    async fn describe_topics(
        &self,
        request: Request<proto::DescribeTopicsRequest>,
    ) -> Result<Response<proto::DescribeTopicsResponse>, Status> {
        Ok(Response::new(describe::topics(
            self.broker()?,
            &request.into_inner().names,
        )))
    }

    async fn create_topics(
        &self,
        request: Request<proto::CreateTopicsRequest>,
    ) -> Result<Response<proto::TopicResultsResponse>, Status> {
        let request = request.into_inner();
        let names = request
            .topics
            .iter()
            .map(|topic| topic.name.clone())
            .collect();
        let topics = request.topics.into_iter().map(|topic| NewTopic {
            name: topic.name,
            partitions: topic.partitions.map(saturating),
            replication_factor: topic.replication_factor.map(saturating),
            config: topic.config.into_iter().collect(),
            ..NewTopic::default()
        });
        let command = CreateTopics {
            topics: topics.collect(),
            validate_only: request.validate_only,
        };
        let errors = topic_errors(self.broker()?, Command::CreateTopics(command)).await;
        Ok(results(names, errors))
    }

    async fn alter_topics(
        &self,
        request: Request<proto::AlterTopicsRequest>,
    ) -> Result<Response<proto::TopicResultsResponse>, Status> {
        let broker = self.broker()?;
        let proto::AlterTopicsRequest {
            changes,
            validate_only,
        } = request.into_inner();
        let names: Vec<String> = changes.iter().map(|change| change.name.clone()).collect();
        let mut failed = grow(broker, &changes, validate_only).await;
        failed.extend(replicate(broker, &changes, validate_only).await);
        // What could not grow keeps its configuration: a change happens as a whole or not at all, as far as two commands can see to it.
        let rest: Vec<_> = changes
            .into_iter()
            .filter(|change| !failed.contains_key(&change.name))
            .collect();
        failed.extend(configure(broker, rest, validate_only).await);
        let errors = names.iter().map(|name| failed.get(name).cloned()).collect();
        Ok(results(names, errors))
    }

    async fn delete_topics(
        &self,
        request: Request<proto::DeleteTopicsRequest>,
    ) -> Result<Response<proto::TopicResultsResponse>, Status> {
        let names = request.into_inner().names;
        let topics = names.iter().cloned().map(TopicRef::Name).collect();
        let errors = topic_errors(
            self.broker()?,
            Command::DeleteTopics(DeleteTopics { topics }),
        )
        .await;
        Ok(results(names, errors))
    }

    async fn cordon(
        &self,
        request: Request<proto::CordonRequest>,
    ) -> Result<Response<proto::BrokerResultsResponse>, Status> {
        let proto::CordonRequest { brokers, cordoned } = request.into_inner();
        let command = |id| Command::Cordon(Cordon { id, cordoned });
        each_broker(self.broker()?, brokers, command).await
    }

    async fn drain(
        &self,
        request: Request<proto::DrainRequest>,
    ) -> Result<Response<proto::BrokerResultsResponse>, Status> {
        let brokers = request.into_inner().brokers;
        each_broker(self.broker()?, brokers, |id| Command::Drain { id }).await
    }

    async fn rebalance(
        &self,
        request: Request<proto::RebalanceRequest>,
    ) -> Result<Response<proto::RebalanceResponse>, Status> {
        let active = request.into_inner().active;
        let error = refusal(self.broker()?, Command::Rebalance { active }).await;
        Ok(Response::new(proto::RebalanceResponse { error }))
    }

    async fn raise_feature_level(
        &self,
        request: Request<proto::RaiseFeatureLevelRequest>,
    ) -> Result<Response<proto::RaiseFeatureLevelResponse>, Status> {
        let level = request.into_inner().level;
        let error = refusal(self.broker()?, Command::RaiseFeatureLevel { level }).await;
        Ok(Response::new(proto::RaiseFeatureLevelResponse { error }))
    }

    async fn describe_feature_levels(
        &self,
        _request: Request<proto::DescribeFeatureLevelsRequest>,
    ) -> Result<Response<proto::DescribeFeatureLevelsResponse>, Status> {
        let broker = self.broker()?;
        let mut answer = proto::DescribeFeatureLevelsResponse {
            level: broker.metadata.image().feature_level(),
            ..proto::DescribeFeatureLevelsResponse::default()
        };
        match broker.metadata.control(Command::DescribeLevels).await {
            Ok(Reply::Levels(levels)) => {
                answer.newest = levels.newest.into_iter().map(broker_level).collect();
                answer.refused = levels.refused.into_iter().map(broker_level).collect();
            }
            Ok(_) => answer.error = Some(ApiError::from(ErrorCode::UnknownServerError).into()),
            Err(error) => answer.error = Some(ApiError::from(error).into()),
        }
        Ok(Response::new(answer))
    }

    async fn set_listeners(
        &self,
        request: Request<proto::SetListenersRequest>,
    ) -> Result<Response<proto::BrokerResultsResponse>, Status> {
        let brokers = request.into_inner().brokers;
        at_most_all(brokers.len())?;
        let mut results = Vec::with_capacity(brokers.len());
        for proto::BrokerListeners { broker, listeners } in brokers {
            results.push(proto::BrokerResult {
                broker,
                error: match listeners.into_iter().map(listener).collect() {
                    Ok(listeners) => {
                        let id = BrokerId(broker);
                        refusal(self.broker()?, Command::SetListeners { id, listeners }).await
                    }
                    Err(error) => Some(error.into()),
                },
            });
        }
        Ok(Response::new(proto::BrokerResultsResponse { results }))
    }

    async fn unregister_brokers(
        &self,
        request: Request<proto::UnregisterBrokersRequest>,
    ) -> Result<Response<proto::BrokerResultsResponse>, Status> {
        let brokers = request.into_inner().brokers;
        each_broker(self.broker()?, brokers, |id| Command::UnregisterBroker {
            id,
        })
        .await
    }

    async fn describe_groups(
        &self,
        request: Request<proto::DescribeGroupsRequest>,
    ) -> Result<Response<proto::DescribeGroupsResponse>, Status> {
        let described = self
            .broker()?
            .groups
            .describe_with_lag(&request.into_inner().ids)
            .await;
        let groups = described.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(Response::new(proto::DescribeGroupsResponse { groups }))
    }

    async fn reset_offsets(
        &self,
        request: Request<proto::ResetOffsetsRequest>,
    ) -> Result<Response<proto::ResetOffsetsResponse>, Status> {
        let groups = &self.broker()?.groups;
        Ok(Response::new(
            groups.reset_offsets(request.into_inner()).await,
        ))
    }

    async fn pause_groups(
        &self,
        request: Request<proto::PauseGroupsRequest>,
    ) -> Result<Response<proto::GroupResultsResponse>, Status> {
        let proto::PauseGroupsRequest { ids, paused } = request.into_inner();
        let change = || match paused {
            true => ConfigChange::Set("true".to_owned()),
            false => ConfigChange::Delete,
        };
        let changes = ids.into_iter().map(|id| {
            let key = PAUSED.to_owned();
            let change = change();
            (id, vec![ConfigOp { key, change }])
        });
        configure_groups(self.broker()?, changes.collect()).await
    }

    async fn configure_groups(
        &self,
        request: Request<proto::ConfigureGroupsRequest>,
    ) -> Result<Response<proto::GroupResultsResponse>, Status> {
        let groups = request.into_inner().groups.into_iter();
        let changes = groups.map(|group| (group.id, config_ops(group.set, group.unset)));
        configure_groups(self.broker()?, changes.collect()).await
    }

    async fn configure_brokers(
        &self,
        request: Request<proto::ConfigureBrokersRequest>,
    ) -> Result<Response<proto::ConfigureBrokersResponse>, Status> {
        let request = request.into_inner();
        let command = AlterConfigs {
            resources: vec![ConfigChanges {
                resource: ConfigResource::Cluster,
                ops: config_ops(request.set, request.unset),
            }],
            validate_only: false,
        };
        let errors = config_errors(self.broker()?, command).await;
        let error = errors.into_iter().flatten().next().map(Into::into);
        Ok(Response::new(proto::ConfigureBrokersResponse { error }))
    }

    async fn trace(
        &self,
        request: Request<proto::TraceRequest>,
    ) -> Result<Response<proto::TraceResponse>, Status> {
        let traced = trace::trace(self.broker()?, request.into_inner()).await?;
        Ok(Response::new(traced))
    }

    async fn redrive(
        &self,
        request: Request<proto::RedriveRequest>,
    ) -> Result<Response<proto::RedriveResponse>, Status> {
        let broker = self.broker()?;
        Ok(Response::new(redrive(broker, request.into_inner()).await))
    }
}

fn config_ops(
    set: impl IntoIterator<Item = (String, String)>,
    unset: Vec<String>,
) -> Vec<ConfigOp> {
    let set = set.into_iter().map(|(key, value)| ConfigOp {
        key,
        change: ConfigChange::Set(value),
    });
    let unset = unset.into_iter().map(|key| ConfigOp {
        key,
        change: ConfigChange::Delete,
    });
    set.chain(unset).collect()
}

/// Changes the configuration of each of these groups; each succeeds or fails alone.
async fn configure_groups(
    broker: &Broker,
    changes: Vec<(String, Vec<ConfigOp>)>,
) -> Result<Response<proto::GroupResultsResponse>, Status> {
    if changes.len() > GROUPS_MAX {
        return Err(Status::invalid_argument(format!(
            "{} groups in one request; allowed: {GROUPS_MAX}",
            changes.len()
        )));
    }
    let ids: Vec<String> = changes.iter().map(|(id, _)| id.clone()).collect();
    let resources = changes.into_iter().map(|(id, ops)| ConfigChanges {
        resource: ConfigResource::Group(id),
        ops,
    });
    let command = AlterConfigs {
        resources: resources.collect(),
        validate_only: false,
    };
    let errors = config_errors(broker, command).await;
    let results = ids.into_iter().zip(errors).map(|(id, error)| {
        let error = error.map(Into::into);
        proto::GroupResult { id, error }
    });
    let results = results.collect();
    Ok(Response::new(proto::GroupResultsResponse { results }))
}

fn at_most_all(brokers: usize) -> Result<(), Status> {
    if brokers <= BROKERS_MAX {
        return Ok(());
    }
    Err(Status::invalid_argument(format!(
        "{brokers} brokers in one request; allowed: {BROKERS_MAX}"
    )))
}

fn broker_level((broker, level): (BrokerId, u32)) -> proto::BrokerLevel {
    let broker = broker.0;
    proto::BrokerLevel { broker, level }
}

/// A listener whose numbers are ports; whether it may be, the controller judges.
fn listener(listener: proto::Listener) -> Result<Listener, ApiError> {
    let port = |number: u32| {
        u16::try_from(number).map_err(|_| {
            let message = format!("port {number}; allowed: 1 to 65535");
            ApiError::new(ErrorCode::InvalidRequest, message)
        })
    };
    let advertised = listener.advertised.map(|address| {
        let (host, port) = (address.host, port(address.port)?);
        Ok::<_, ApiError>(HostPort { host, port })
    });
    let tls = listener.tls_port != 0;
    if tls && listener.port != 0 {
        let message = format!(
            "listener {}: a port and a TLS port; allowed: one of them",
            listener.name
        );
        return Err(ApiError::new(ErrorCode::InvalidRequest, message));
    }
    Ok(Listener {
        name: listener.name,
        port: port(if tls {
            listener.tls_port
        } else {
            listener.port
        })?,
        tls,
        advertised: advertised.transpose()?,
    })
}

/// A command for each of these brokers; each succeeds or fails alone.
async fn each_broker(
    broker: &Broker,
    brokers: Vec<i32>,
    command: impl Fn(BrokerId) -> Command,
) -> Result<Response<proto::BrokerResultsResponse>, Status> {
    at_most_all(brokers.len())?;
    let mut results = Vec::with_capacity(brokers.len());
    for id in brokers {
        results.push(proto::BrokerResult {
            broker: id,
            error: refusal(broker, command(BrokerId(id))).await,
        });
    }
    Ok(Response::new(proto::BrokerResultsResponse { results }))
}

/// Gives a command; says why it was refused, if it was.
async fn refusal(broker: &Broker, command: Command) -> Option<proto::Error> {
    let asked = broker.metadata.control(command).await;
    asked.err().map(|error| ApiError::from(error).into())
}

/// A command about these topics; the errors of those for which it failed.
async fn failed(
    broker: &Broker,
    names: Vec<String>,
    command: Command,
) -> HashMap<String, ApiError> {
    let errors = topic_errors(broker, command).await;
    names
        .into_iter()
        .zip(errors)
        .filter_map(|(name, error)| Some((name, error?)))
        .collect()
}

/// Errors by topic; those that are not in it get the replicas that they are to have, or did not have to.
async fn replicate(
    broker: &Broker,
    changes: &[proto::TopicChange],
    validate_only: bool,
) -> HashMap<String, ApiError> {
    let wanted = changes.iter().filter_map(|change| {
        let replicas = saturating(change.replication_factor?);
        Some((change.name.clone(), replicas))
    });
    let topics: Vec<(String, i32)> = wanted.collect();
    if topics.is_empty() {
        return HashMap::new();
    }
    let names: Vec<String> = topics.iter().map(|(name, _)| name.clone()).collect();
    let command = Command::ChangeReplicas(ChangeReplicas {
        topics,
        validate_only,
    });
    failed(broker, names, command).await
}

/// Errors by topic; those that are not in it have grown, or did not have to.
async fn grow(
    broker: &Broker,
    changes: &[proto::TopicChange],
    validate_only: bool,
) -> HashMap<String, ApiError> {
    let image = broker.metadata.image();
    let grows = changes.iter().filter_map(|change| {
        let count = saturating(change.partitions?);
        let has = image
            .topic(&change.name)
            .map(|topic| topic.partitions.len());
        // Asking for what there is is no change; the controller would refuse it.
        (has != usize::try_from(count).ok()).then(|| MorePartitions {
            name: change.name.clone(),
            count,
            assignments: None,
        })
    });
    let topics: Vec<_> = grows.collect();
    if topics.is_empty() {
        return HashMap::new();
    }
    let names: Vec<String> = topics.iter().map(|topic| topic.name.clone()).collect();
    let command = Command::CreatePartitions(CreatePartitions {
        topics,
        validate_only,
    });
    failed(broker, names, command).await
}

/// Errors by topic; those that are not in it are configured.
async fn configure(
    broker: &Broker,
    changes: Vec<proto::TopicChange>,
    validate_only: bool,
) -> HashMap<String, ApiError> {
    let mut names = Vec::new();
    let mut resources = Vec::new();
    for change in changes {
        let set = change.set_config.into_iter().map(|(key, value)| ConfigOp {
            key,
            change: ConfigChange::Set(value),
        });
        let unset = change.unset_config.into_iter().map(|key| ConfigOp {
            key,
            change: ConfigChange::Delete,
        });
        let mut ops: Vec<_> = set.chain(unset).collect();
        // The order of a protobuf map is anyone's.
        ops.sort_by(|a, b| a.key.cmp(&b.key));
        resources.push(ConfigChanges {
            resource: ConfigResource::Topic(change.name.clone()),
            ops,
        });
        names.push(change.name);
    }
    if names.is_empty() {
        return HashMap::new();
    }
    let command = AlterConfigs {
        resources,
        validate_only,
    };
    let errors = config_errors(broker, command).await;
    names
        .into_iter()
        .zip(errors)
        .filter_map(|(name, error)| Some((name, error?)))
        .collect()
}

/// What became of each resource of a change of configurations, in its order.
async fn config_errors(broker: &Broker, command: AlterConfigs) -> Vec<Option<ApiError>> {
    let asked = command.resources.len();
    match broker
        .metadata
        .control(Command::AlterConfigs(command))
        .await
    {
        Ok(Reply::Configs(outcomes)) => outcomes
            .into_iter()
            .map(|outcome| outcome.map_err(ApiError::from).err())
            .collect(),
        Ok(_) => vec![Some(ErrorCode::UnknownServerError.into()); asked],
        Err(error) => vec![Some(error.into()); asked],
    }
}

/// What became of each topic of a command, in its order.
async fn topic_errors(broker: &Broker, command: Command) -> Vec<Option<ApiError>> {
    let asked = match &command {
        Command::CreateTopics(command) => command.topics.len(),
        Command::CreatePartitions(command) => command.topics.len(),
        Command::DeleteTopics(command) => command.topics.len(),
        Command::ChangeReplicas(command) => command.topics.len(),
        _ => 0,
    };
    match broker.metadata.control(command).await {
        Ok(Reply::Topics(results)) => results
            .into_iter()
            .map(|result| result.outcome.map_err(ApiError::from).err())
            .collect(),
        Ok(_) => vec![Some(ErrorCode::UnknownServerError.into()); asked],
        Err(error) => vec![Some(error.into()); asked],
    }
}

fn results(
    names: Vec<String>,
    errors: Vec<Option<ApiError>>,
) -> Response<proto::TopicResultsResponse> {
    let results = names.into_iter().zip(errors).map(|(name, error)| {
        let error = error.map(Into::into);
        proto::TopicResult { name, error }
    });
    Response::new(proto::TopicResultsResponse {
        results: results.collect(),
    })
}

/// A count that does not fit is larger than anything that is allowed, and is refused as such.
fn saturating(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
