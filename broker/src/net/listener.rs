//! Accepting connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};
use weir_tls::Served;

use super::connection::{Connection, Ended};
use super::tls_socket::TlsSocket;
use super::{Listener, Network, RequestMemory, Socket, in_time};
use crate::Broker;
use crate::api::Peer;
use crate::config::HostPort;

/// After an `accept` that failed, usually for want of file descriptors, trying again at once would only fail again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a client may take to agree on keys: some round trips, and a slow machine's arithmetic.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);

/// A bound address on which nobody is served yet.
#[derive(Debug)]
pub struct KafkaListener<L> {
    socket: L,
    name: Arc<str>,
    /// What clients are shown, where they speak TLS.
    tls: Option<Arc<Served>>,
}

impl<L: Listener> KafkaListener<L> {
    /// Binds; connections queue up from now on. Clients that come here are told of addresses of the listener of this name.
    pub async fn bind<N: Network<Listener = L>>(
        network: &N,
        address: &HostPort,
        name: &str,
    ) -> std::io::Result<Self> {
        let socket = network.bind(address).await?;
        Ok(Self {
            socket,
            name: name.into(),
            tls: None,
        })
    }

    /// Has clients speak TLS, and no other way.
    pub(super) fn over(self, tls: Arc<Served>) -> Self {
        let tls = Some(tls);
        Self { tls, ..self }
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
            let client = Client {
                broker: Arc::clone(&broker),
                address,
                peer,
                memory: memory.clone(),
                _place: place,
            };
            let (stop, abandoned) = (stop.clone(), abandoned.clone());
            // Two kinds of tasks, so that a connection without TLS takes no more memory than it needs.
            match self.tls.clone() {
                None => connections.spawn(client.serve(socket, stop, abandoned)),
                Some(tls) => connections.spawn(client.serve_over(tls, socket, stop, abandoned)),
            };
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

/// A client that was accepted.
struct Client {
    broker: Arc<Broker>,
    address: SocketAddr,
    peer: Arc<Peer>,
    memory: RequestMemory,
    _place: OwnedSemaphorePermit,
}

impl Client {
    /// Serves it until one side ends it.
    async fn serve<S: Socket>(
        self,
        socket: S,
        stop: CancellationToken,
        abandoned: CancellationToken,
    ) {
        let peer = Arc::clone(&self.peer);
        let connection =
            Connection::new(Arc::clone(&self.broker), socket, peer, self.memory.clone());
        let ended = tokio::select! {
            ended = connection.run(stop) => ended,
            () = abandoned.cancelled() => Ended::Abandoned,
        };
        self.end(&ended);
    }

    /// Shakes hands first.
    async fn serve_over<S: Socket>(
        self,
        tls: Arc<Served>,
        socket: S,
        stop: CancellationToken,
        abandoned: CancellationToken,
    ) {
        let hands = async {
            let session = tls.session().map_err(io::Error::other)?;
            TlsSocket::accept(socket, session).await
        };
        let address = self.address.to_string();
        let socket = tokio::select! {
            socket = in_time(HANDSHAKE_PATIENCE, &address, hands) => socket,
            () = stop.cancelled() => return self.end(&Ended::Stopped),
            () = abandoned.cancelled() => return self.end(&Ended::Abandoned),
        };
        match socket {
            Ok(socket) => self.serve(socket, stop, abandoned).await,
            // Who only looks whether the port is open says nothing.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.end(&Ended::ByClient);
            }
            Err(error) => self.end(&Ended::Handshake(error)),
        }
    }

    fn end(self, ended: &Ended) {
        report(&self.broker, self.address, ended);
        self.broker.metrics.connections.dec();
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
