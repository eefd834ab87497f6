//! Who may call which service on the port for brokers, and in whose name.

use std::convert::Infallible;
use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::{Request, Status};
use weir_quorum::BrokerId;

use super::Peer;

/// Who may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    /// Brokers of the cluster.
    Brokers,
    /// These, and the operator.
    BrokersAndOperator,
}

/// Every service on the port. One that is not named here is refused to everyone.
const MAY_CALL: [(&str, Who); 10] = [
    ("weir.admin.v1.Admin", Who::BrokersAndOperator),
    ("weir.appends.v1.Appends", Who::Brokers),
    ("weir.gateway.v1.Gateway", Who::Brokers),
    ("weir.groups.v1.Groups", Who::Brokers),
    ("weir.halves.v1.Halves", Who::Brokers),
    ("weir.ledgers.v1.Ledgers", Who::Brokers),
    ("weir.quorum.v1.Quorum", Who::Brokers),
    ("weir.replication.v1.Replication", Who::Brokers),
    ("weir.share.v1.ShareStates", Who::Brokers),
    ("weir.transactions.v1.Transactions", Who::Brokers),
];

fn may_call(service: &str, peer: Peer) -> bool {
    let found = MAY_CALL.iter().find(|(name, _)| *name == service);
    match found {
        None => false,
        Some((_, Who::Brokers)) => matches!(peer, Peer::Broker(_)),
        Some((_, Who::BrokersAndOperator)) => true,
    }
}

/// Passes on what may be called by who is at the other end of the connection.
#[derive(Clone, Debug)]
pub(crate) struct Callers<S>(pub(crate) S);

impl<S> Service<http::Request<Body>> for Callers<S>
where
    S: Service<
            http::Request<Body>,
            Response = http::Response<Body>,
            Error = Infallible,
            Future = BoxFuture<http::Response<Body>, Infallible>,
        >,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<http::Response<Body>, Infallible>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = request.uri().path().trim_start_matches('/');
        let service = service.split('/').next().unwrap_or_default();
        let refused = match request.extensions().get::<Option<Peer>>() {
            // There are no certificates.
            Some(None) => None,
            Some(Some(peer)) if may_call(service, *peer) => None,
            Some(Some(peer)) => Some(format!("{peer} may not call {service}")),
            // A connection that did not come by `incoming`.
            None => Some("nobody knows who calls".to_owned()),
        };
        match refused {
            None => self.0.call(request),
            Some(why) => {
                tracing::warn!(why, "a call is refused");
                let response = Status::permission_denied(why).into_http();
                Box::pin(std::future::ready(Ok(response)))
            }
        }
    }
}

/// Refuses a message in which a broker speaks, unless it comes from that broker.
pub(crate) fn speaks_for<T>(request: &Request<T>, broker: BrokerId) -> Result<(), Status> {
    match request.extensions().get::<Option<Peer>>() {
        Some(Some(peer)) if !peer.is_broker(broker.0) => {
            let why = format!("{peer} may not speak for broker {broker}");
            tracing::warn!(why, "a call is refused");
            Err(Status::permission_denied(why))
        }
        // Without certificates everyone is believed; and no call without this comes past `Callers`.
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use tonic::server::NamedService;
    use weir_proto::admin::v1::admin_server::AdminServer;
    use weir_proto::appends::v1::appends_server::AppendsServer;
    use weir_proto::gateway::v1::gateway_server::GatewayServer;
    use weir_proto::groups::v1::groups_server::GroupsServer;
    use weir_proto::halves::v1::halves_server::HalvesServer;
    use weir_proto::ledgers::v1::ledgers_server::LedgersServer;
    use weir_proto::quorum::v1::quorum_server::QuorumServer;
    use weir_proto::replication::v1::replication_server::ReplicationServer;
    use weir_proto::share::v1::share_states_server::ShareStatesServer;
    use weir_proto::transactions::v1::transactions_server::TransactionsServer;

    use super::*;

    #[test]
    fn brokers_may_call_everything_and_the_operator_administration_only() {
        let brokers_only = [
            AppendsServer::<()>::NAME,
            GatewayServer::<()>::NAME,
            GroupsServer::<()>::NAME,
            HalvesServer::<()>::NAME,
            LedgersServer::<()>::NAME,
            QuorumServer::<()>::NAME,
            ReplicationServer::<()>::NAME,
            ShareStatesServer::<()>::NAME,
            TransactionsServer::<()>::NAME,
        ];
        let broker = Peer::Broker(BrokerId(1));
        for service in brokers_only {
            assert!(may_call(service, broker), "{service}");
            assert!(!may_call(service, Peer::Operator), "{service}");
        }
        assert!(may_call(AdminServer::<()>::NAME, broker));
        assert!(may_call(AdminServer::<()>::NAME, Peer::Operator));
        assert_eq!(MAY_CALL.len(), brokers_only.len() + 1);
        assert!(!may_call("weir.new.v1.Service", broker));
        assert!(!may_call("", broker));
    }

    #[test]
    fn nobody_speaks_for_another() {
        let from = |peer: Option<Peer>| {
            let mut request = Request::new(());
            request.extensions_mut().insert(peer);
            request
        };
        let one = BrokerId(1);
        assert!(speaks_for(&from(Some(Peer::Broker(one))), one).is_ok());
        for other in [Peer::Broker(BrokerId(2)), Peer::Operator] {
            let refused = speaks_for(&from(Some(other)), one).map_err(|status| status.code());
            assert_eq!(refused, Err(tonic::Code::PermissionDenied));
        }
        assert!(speaks_for(&from(None), one).is_ok());
    }
}
