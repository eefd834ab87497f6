//! Accepting connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::connection::{Connection, Ended};
use super::{Listener, Network};
use crate::Broker;
use crate::api::Peer;
use crate::config::HostPort;

/// After an `accept` that failed, usually for want of file descriptors, trying again at once would only fail again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound address on which nobody is served yet.
#[derive(Debug)]
pub struct KafkaListener<L> {
    socket: L,
    name: Arc<str>,
}

impl<L: Listener> KafkaListener<L> {
    /// Binds; connections queue up from now on. Clients that come here are told of addresses of the listener of this name.
    pub async fn bind<N: Network<Listener = L>>(
        network: &N,
        address: &HostPort,
        name: &str,
    ) -> std::io::Result<Self> {
        let socket = network.bind(address).await?;
        let name = name.into();
        Ok(Self { socket, name })
    }

    /// The address that was bound.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.socket.address()
    }

    /// Serves until `stop`; returns when every connection is closed. Connections finish the requests that they have; whoever stops
    /// the listener bounds the time for that by dropping this future.
    pub async fn serve(self, broker: Arc<Broker>, stop: CancellationToken) {
        // One number of places over all listeners.
        let places = Arc::clone(&broker.connection_places);
        let memory = broker.request_memory.clone();
        let connections = TaskTracker::new();
        // Dropped with this future, so that no connection outlives it.
        let abandoned = CancellationToken::new();
        let _abandon = abandoned.clone().drop_guard();
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                accepted = self.socket.accept() => accepted,
            };
            let (socket, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(%error, "accepting a connection failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                broker.metrics.connections_refused.inc();
                warn!(%address, limit = broker.config.limits.connections, "connection refused: too many");
                continue;
            };
            broker.metrics.connections_opened.inc();
            broker.metrics.connections.inc();
            let wait = broker
                .quotas
                .connect(&broker.metadata.image(), address.ip());
            if !wait.is_zero() {
                // Closed at once it would be opened again at once; in its place it is one of those that there may be.
                let (broker, stop) = (Arc::clone(&broker), stop.clone());
                connections.spawn(async move {
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = stop.cancelled() => {}
                    }
                    broker.metrics.connections.dec();
                    drop((socket, place));
                });
                continue;
            }
            let peer = Arc::new(Peer::new(address, Arc::clone(&self.name)));
            let connection = Connection::new(Arc::clone(&broker), socket, peer, memory.clone());
            let (stop, abandoned) = (stop.clone(), abandoned.clone());
            connections.spawn(async move {
                let broker = Arc::clone(connection.broker());
                let ended = tokio::select! {
                    ended = connection.run(stop) => ended,
                    () = abandoned.cancelled() => Ended::Abandoned,
                };
                report(&broker, address, &ended);
                broker.metrics.connections.dec();
                drop(place);
            });
        }
        drop(self.socket);
        connections.close();
        info!(
            connections = connections.len(),
            "no further connections are accepted"
        );
        connections.wait().await;
    }
}

fn report(broker: &Broker, address: SocketAddr, ended: &Ended) {
    if let Some(reason) = ended.reason() {
        broker
            .metrics
            .connections_aborted
            .with_label_values(&[reason])
            .inc();
        warn!(%address, reason, "connection closed: {ended}");
    } else {
        tracing::debug!(%address, "connection closed: {ended}");
    }
}
