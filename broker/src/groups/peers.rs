//! What brokers ask each other about groups, over gRPC on the quorum's port: both ends.

use std::sync::Arc;
use std::time::Duration;

use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use weir_proto::admin::v1 as admin;
use weir_proto::groups::v1 as proto;
use weir_proto::groups::v1::groups_client::GroupsClient;
use weir_proto::groups::v1::groups_server::{self, GroupsServer};
use weir_quorum::BrokerId;

use super::Groups;
use crate::health::Health;
use crate::quorum::net::MESSAGE_BYTES_MAX;

/// How long another broker may take: a question is answered from memory, or after some reads.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long a reset may take: the coordinator asks leaders first, and then writes.
const RESET_PATIENCE: Duration = Duration::from_secs(8);

/// A broker that could not be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("broker {broker} cannot be asked about groups: {why}")]
pub struct Unreachable {
    /// Which.
    pub broker: BrokerId,
    /// What was wrong.
    pub why: String,
}

impl Groups {
    /// Groups that another broker coordinates: those named, or all.
    pub(super) async fn ask_groups(
        &self,
        broker: BrokerId,
        ids: Vec<String>,
    ) -> Result<Vec<proto::Group>, Unreachable> {
        let mut client = self.client(broker)?;
        let answer = client
            .describe(request(proto::DescribeRequest { ids }))
            .await;
        Ok(answer
            .map_err(|status| unreachable(broker, &status))?
            .into_inner()
            .groups)
    }

    /// Where partitions that another broker leads stand.
    pub(super) async fn ask_standings(
        &self,
        broker: BrokerId,
        committed: Vec<proto::Committed>,
    ) -> Result<Vec<proto::StandingResult>, Unreachable> {
        let mut client = self.client(broker)?;
        let answer = client
            .standings(request(proto::StandingsRequest { committed }))
            .await;
        Ok(answer
            .map_err(|status| unreachable(broker, &status))?
            .into_inner()
            .results)
    }

    /// Where partitions that another broker leads begin and end.
    pub(super) async fn ask_places(
        &self,
        broker: BrokerId,
        wanted: proto::PlacesRequest,
    ) -> Result<Vec<proto::PlaceResult>, Unreachable> {
        let mut client = self.client(broker)?;
        let answer = client.places(request(wanted)).await;
        Ok(answer
            .map_err(|status| unreachable(broker, &status))?
            .into_inner()
            .results)
    }

    /// Has another broker set the offsets of a group that it coordinates.
    pub(super) async fn ask_reset(
        &self,
        broker: BrokerId,
        wanted: admin::ResetOffsetsRequest,
    ) -> Result<admin::ResetOffsetsResponse, Unreachable> {
        let mut client = self.client(broker)?;
        let mut wanted = Request::new(wanted);
        wanted.set_timeout(RESET_PATIENCE);
        let answer = client.reset_offsets(wanted).await;
        Ok(answer
            .map_err(|status| unreachable(broker, &status))?
            .into_inner())
    }

    fn client(&self, broker: BrokerId) -> Result<GroupsClient<Channel>, Unreachable> {
        let image = self.shared.metadata.image();
        let known = image
            .broker(broker)
            .ok_or_else(|| unreachable(broker, &"it has never registered"))?;
        let channel = self
            .shared
            .channels
            .to_broker(broker, &known.quorum_address)
            .map_err(|error| unreachable(broker, &error))?;
        Ok(GroupsClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX))
    }
}

fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(PATIENCE);
    request
}

fn unreachable(broker: BrokerId, why: &dyn std::fmt::Display) -> Unreachable {
    Unreachable {
        broker,
        why: why.to_string(),
    }
}

/// Answers other brokers for the groups and partitions of this one.
#[derive(Debug)]
pub struct PeersService {
    health: Arc<Health>,
}

impl PeersService {
    /// The service, which answers as soon as the broker is assembled.
    #[must_use]
    pub fn server(health: Arc<Health>) -> GroupsServer<Self> {
        GroupsServer::new(Self { health })
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    fn groups(&self) -> Result<&Groups, Status> {
        let broker = self.health.assembled_broker()?;
        Ok(&broker.groups)
    }
}

#[tonic::async_trait]
impl groups_server::Groups for PeersService {
    async fn describe(
        &self,
        request: Request<proto::DescribeRequest>,
    ) -> Result<Response<proto::DescribeResponse>, Status> {
        let groups = self.groups()?.own_groups(request.into_inner().ids).await;
        let groups = groups.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(Response::new(proto::DescribeResponse { groups }))
    }

    async fn standings(
        &self,
        request: Request<proto::StandingsRequest>,
    ) -> Result<Response<proto::StandingsResponse>, Status> {
        let results = self
            .groups()?
            .standings(request.into_inner().committed)
            .await;
        Ok(Response::new(proto::StandingsResponse { results }))
    }

    async fn places(
        &self,
        request: Request<proto::PlacesRequest>,
    ) -> Result<Response<proto::PlacesResponse>, Status> {
        let results = self.groups()?.places(request.into_inner()).await;
        Ok(Response::new(proto::PlacesResponse { results }))
    }

    async fn reset_offsets(
        &self,
        request: Request<admin::ResetOffsetsRequest>,
    ) -> Result<Response<admin::ResetOffsetsResponse>, Status> {
        let response = self.groups()?.reset_here(request.into_inner()).await;
        Ok(Response::new(response))
    }
}
