//! How brokers' gRPC is spoken: the one place where channels and servers between brokers are built.
//!
//! Both are plaintext. When brokers authenticate each other (mutual TLS, peers known by their certificates as broker id
//! and incarnation), it happens in [`channel`] and [`server`] and nowhere else.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::codegen::Service;
use tonic::codegen::http::Uri;
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint, Server};

use crate::net::{Dial, Dialer, Listener, Socket, Stream};

/// The largest message between brokers: a batch of the log with one very large entry, with room to spare.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// How many channels are kept: one for each broker, and some for addresses of the past.
const CHANNELS_MAX: usize = 2048;

/// A channel to the quorum listener at `address` (host:port). It connects when it is first used, and again when the
/// connection breaks.
pub fn channel(dialer: &Dialer, address: &str) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(Duration::from_secs(1))
        .tcp_nodelay(true)
        // A peer whose machine vanished sends no reset: notice within some seconds, and connect anew.
        .http2_keep_alive_interval(Duration::from_secs(2))
        .keep_alive_timeout(Duration::from_secs(5));
    Ok(match dialer {
        Dialer::Tcp => endpoint.connect_lazy(),
        Dialer::Other(dial) => endpoint.connect_with_connector_lazy(Connector(Arc::clone(dial))),
    })
}

/// [`Dial`] as tonic wants it.
struct Connector(Arc<dyn Dial>);

impl Service<Uri> for Connector {
    type Response = TokioIo<Box<dyn Stream>>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let address = uri.authority().map(ToString::to_string).unwrap_or_default();
        let dialled = self.0.dial(&address);
        Box::pin(async move { dialled.await.map(TokioIo::new) })
    }
}

/// An accepted connection as tonic wants it; who is at the other end is said by what it sends.
pub(crate) struct Accepted<S>(S);

impl<S> Connected for Accepted<S> {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl<S: Socket> AsyncRead for Accepted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: Socket> AsyncWrite for Accepted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}

/// The connections that come to the quorum listener.
pub(crate) fn incoming<L: Listener>(
    listener: L,
) -> impl futures::Stream<Item = io::Result<Accepted<L::Socket>>> {
    futures::stream::unfold(listener, |listener| async {
        let accepted = listener.accept().await.map(|(socket, _)| {
            // Slower when it fails, not wrong.
            let _ = socket.send_at_once();
            Accepted(socket)
        });
        Some((accepted, listener))
    })
}

/// The server for the quorum listener, to which the services are added.
pub fn server() -> Server {
    Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
}

/// The channels to other brokers, by address.
#[derive(Debug, Default)]
pub(crate) struct Channels {
    dialer: Dialer,
    by_address: Mutex<BTreeMap<String, Channel>>,
}

impl Channels {
    /// None yet.
    pub(crate) fn new(dialer: Dialer) -> Self {
        Self {
            dialer,
            by_address: Mutex::default(),
        }
    }

    /// The channel to an address.
    pub(crate) fn to(&self, address: &str) -> Result<Channel, tonic::transport::Error> {
        let mut channels = self
            .by_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(address) {
            return Ok(channel.clone());
        }
        if channels.len() >= CHANNELS_MAX {
            channels.clear();
        }
        let channel = channel(&self.dialer, address)?;
        channels.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }
}
