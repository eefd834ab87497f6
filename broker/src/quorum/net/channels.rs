//! The way to other brokers.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tonic::codegen::Service;
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};

use super::{HANDSHAKE_PATIENCE, STREAM_PREFACE};
use crate::net::{Dial, Dialer, Stream};

/// How many channels are kept: one for each broker, and some for addresses of the past.
const CHANNELS_MAX: usize = 2048;

/// How long the other machine may take to say that the port is open.
const CONNECT_PATIENCE: Duration = Duration::from_secs(1);

/// A channel to the quorum listener at `address` (host:port). It connects when it is first used, and again when the
/// connection breaks.
pub fn channel(dialer: &Dialer, address: &str) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(CONNECT_PATIENCE)
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

/// The ways to other brokers: channels for gRPC, kept by address, and streams.
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

    /// A new stream of replication to the broker at `address` (host:port), which its [`incoming`](super::incoming) hands over
    /// there. Of a broker whose process is gone this says [`io::ErrorKind::ConnectionRefused`], at once.
    #[allow(dead_code, reason = "replication calls it")]
    pub(crate) async fn stream(&self, address: &str) -> io::Result<Box<dyn Stream>> {
        let connecting = async {
            let mut stream: Box<dyn Stream> = match &self.dialer {
                Dialer::Tcp => Box::new(connect(address).await?),
                Dialer::Other(dial) => dial.dial(address).await?,
            };
            stream.write_all(&STREAM_PREFACE).await?;
            stream.flush().await?;
            Ok(stream)
        };
        in_time(HANDSHAKE_PATIENCE, address, connecting).await
    }
}

/// A TCP connection to host:port.
async fn connect(address: &str) -> io::Result<TcpStream> {
    let stream = in_time(CONNECT_PATIENCE, address, TcpStream::connect(address)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn in_time<T>(
    patience: Duration,
    address: &str,
    connecting: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    tokio::time::timeout(patience, connecting)
        .await
        .unwrap_or_else(|_| {
            Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("{address} did not answer within {patience:?}"),
            ))
        })
}
