//! The way to other brokers.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tonic::codegen::Service;
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};

use weir_quorum::BrokerId;

use super::{HANDSHAKE_PATIENCE, STREAM_PREFACE};
use crate::net::{Dialer, Stream, in_time};

/// How many channels are kept: one for each broker, and some for addresses of the past.
const CHANNELS_MAX: usize = 2048;

/// A channel to the quorum listener at `address` (host:port), of this broker if one is given. It connects when it is first used,
/// and again when the connection breaks.
pub fn channel(
    dialer: &Dialer,
    broker: Option<BrokerId>,
    address: &str,
) -> Result<Channel, tonic::transport::Error> {
    // What the channel writes and reads is HTTP/2 from its first byte; certificates are below it.
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(HANDSHAKE_PATIENCE)
        // A peer whose machine vanished sends no reset: notice within some seconds, and connect anew.
        .http2_keep_alive_interval(Duration::from_secs(2))
        .keep_alive_timeout(Duration::from_secs(5));
    let dialer = dialer.clone();
    Ok(endpoint.connect_with_connector_lazy(Connector { dialer, broker }))
}

/// [`Dialer`] as tonic wants it.
struct Connector {
    dialer: Dialer,
    broker: Option<BrokerId>,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Box<dyn Stream>>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let address = uri.authority().map(ToString::to_string).unwrap_or_default();
        let (dialer, broker) = (self.dialer.clone(), self.broker);
        Box::pin(async move { dialer.dial(&address, broker).await.map(TokioIo::new) })
    }
}

/// The ways to other brokers: channels for gRPC, which are kept, and streams.
#[derive(Debug, Default)]
pub(crate) struct Channels {
    dialer: Dialer,
    kept: Mutex<BTreeMap<(String, Option<BrokerId>), Channel>>,
}

impl Channels {
    /// None yet.
    pub(crate) fn new(dialer: Dialer) -> Self {
        Self {
            dialer,
            kept: Mutex::default(),
        }
    }

    /// The channel to an address, whichever broker of this cluster is there.
    pub(crate) fn to(&self, address: &str) -> Result<Channel, tonic::transport::Error> {
        self.find(None, address)
    }

    /// The channel to a broker, which is at this address.
    pub(crate) fn to_broker(
        &self,
        broker: BrokerId,
        address: &str,
    ) -> Result<Channel, tonic::transport::Error> {
        self.find(Some(broker), address)
    }

    fn find(
        &self,
        broker: Option<BrokerId>,
        address: &str,
    ) -> Result<Channel, tonic::transport::Error> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (address.to_owned(), broker);
        if let Some(channel) = kept.get(&key) {
            return Ok(channel.clone());
        }
        if kept.len() >= CHANNELS_MAX {
            kept.clear();
        }
        let channel = channel(&self.dialer, broker, address)?;
        kept.insert(key, channel.clone());
        Ok(channel)
    }

    /// A new stream of replication to a broker, which is at `address` (host:port), which its [`incoming`](super::incoming()) hands over
    /// there. Of a broker whose process is gone this says [`io::ErrorKind::ConnectionRefused`], at once.
    pub(crate) async fn stream(
        &self,
        broker: BrokerId,
        address: &str,
    ) -> io::Result<Box<dyn Stream>> {
        let connecting = async {
            let mut stream = self.dialer.dial(address, Some(broker)).await?;
            stream.write_all(&STREAM_PREFACE).await?;
            stream.flush().await?;
            Ok(stream)
        };
        in_time(HANDSHAKE_PATIENCE, address, connecting).await
    }
}
