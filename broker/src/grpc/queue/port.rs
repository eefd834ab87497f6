//! The port for clients of gRPC.
//!
//! What always holds: there are no more clients than `limits.connections` says, those of Kafka counted.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tracing::{error, warn};
use weir_proto::queue::v1::queue_server::QueueServer;

use super::{MESSAGE_BYTES_MAX, QueueService};
use crate::Broker;
use crate::config::HostPort;
use crate::net::{Listener, Network, Socket as _};

/// After an `accept` that failed, usually for want of file descriptors, trying again at once would only fail again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A client whose machine vanished is noticed, and what it had released, within two of these.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// Calls of one connection at the same time: a caller that waits for many replies needs no second one, and what each has here is small.
const STREAMS_MAX: u32 = 10_000;

/// A bound address on which nobody is served yet.
#[derive(Debug)]
pub struct QueueListener<L> {
    socket: L,
}

impl<L: Listener> QueueListener<L> {
    /// Binds; connections queue up from now on.
    pub async fn bind<N: Network<Listener = L>>(
        network: &N,
        address: &HostPort,
    ) -> io::Result<Self> {
        let socket = network.bind(address).await?;
        Ok(Self { socket })
    }

    /// The address that was bound.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.socket.address()
    }

    /// Serves until `stop`; returns when every call is answered. Streams end with `stop`.
    pub async fn serve(self, broker: Arc<Broker>, stop: CancellationToken) {
        let service = QueueServer::new(QueueService::new(Arc::clone(&broker), stop.clone()))
            .max_decoding_message_size(MESSAGE_BYTES_MAX);
        let server = Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .max_concurrent_streams(STREAMS_MAX);
        let served = server.serve_with_incoming_shutdown(
            service,
            Box::pin(incoming(self.socket, broker)),
            stop.cancelled_owned(),
        );
        if let Err(error) = served.await {
            error!(%error, "the listener for clients of gRPC ended");
        }
    }
}

fn incoming<L: Listener>(
    listener: L,
    broker: Arc<Broker>,
) -> impl Stream<Item = io::Result<Accepted<L::Socket>>> {
    futures::stream::unfold((listener, broker), |(listener, broker)| async move {
        let accepted = accept(&listener, &broker).await;
        Some((Ok(accepted), (listener, broker)))
    })
}

async fn accept<L: Listener>(listener: &L, broker: &Arc<Broker>) -> Accepted<L::Socket> {
    loop {
        let (socket, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "accepting a connection of gRPC failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&broker.connection_places).try_acquire_owned() else {
            broker.metrics.connections_refused.inc();
            warn!(%address, limit = broker.config.limits.connections, "connection refused: too many");
            continue;
        };
        // Slower when it fails, not wrong.
        let _ = socket.send_at_once();
        broker.metrics.connections_opened.inc();
        broker.metrics.connections.inc();
        return Accepted {
            socket,
            address,
            broker: Arc::clone(broker),
            _place: place,
        };
    }
}

/// Where a client is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client(pub(super) SocketAddr);

/// A client's connection.
struct Accepted<S> {
    socket: S,
    address: SocketAddr,
    broker: Arc<Broker>,
    _place: OwnedSemaphorePermit,
}

impl<S> Drop for Accepted<S> {
    fn drop(&mut self) {
        self.broker.metrics.connections.dec();
    }
}

impl<S> Connected for Accepted<S> {
    type ConnectInfo = Client;

    fn connect_info(&self) -> Client {
        Client(self.address)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Accepted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Accepted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}
