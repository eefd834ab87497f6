//! How other brokers are reached.

use std::fmt::Debug;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use weir_quorum::BrokerId;
use weir_tls::Tls;

/// How long the other machine may take to say that the port is open.
const CONNECT_PATIENCE: Duration = Duration::from_secs(1);

/// How other brokers are reached.
#[derive(Clone, Debug, Default)]
pub enum Dialer {
    /// Over the operating system's TCP, with nobody proving who he is: parts of a broker that are tested by themselves.
    #[default]
    Tcp,
    /// Over TCP, both sides with certificates. A broker that is started has no other way.
    Tls(Arc<Tls>),
    /// In some other way.
    Other(Arc<dyn Dial>),
}

/// Another way than TCP.
pub trait Dial: Debug + Send + Sync {
    /// Connects to host:port.
    fn dial(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Stream>>>;
}

/// Bytes both ways.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl Dialer {
    /// Connects to host:port, where the broker of this id has to be if one is given and there are certificates that say so.
    pub(crate) async fn dial(
        &self,
        address: &str,
        broker: Option<BrokerId>,
    ) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Tcp => Box::new(connect(address).await?),
            Self::Tls(tls) => {
                let stream = connect(address).await?;
                Box::new(tls.connect(stream, broker.map(|id| id.0)).await?)
            }
            Self::Other(dial) => in_time(CONNECT_PATIENCE, address, dial.dial(address)).await?,
        })
    }

    /// Connects to host:port, which is no broker, with no certificates.
    pub(crate) async fn dial_plain(&self, address: &str) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Tcp | Self::Tls(_) => Box::new(connect(address).await?),
            Self::Other(dial) => in_time(CONNECT_PATIENCE, address, dial.dial(address)).await?,
        })
    }

    /// The certificates, which accepted connections need too.
    pub(crate) fn tls(&self) -> Option<&Arc<Tls>> {
        match self {
            Self::Tls(tls) => Some(tls),
            Self::Tcp | Self::Other(_) => None,
        }
    }
}

async fn connect(address: &str) -> io::Result<TcpStream> {
    let stream = in_time(CONNECT_PATIENCE, address, TcpStream::connect(address)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// What comes of something at an address that may take this long.
pub(crate) async fn in_time<T>(
    patience: Duration,
    address: &str,
    something: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    tokio::time::timeout(patience, something)
        .await
        .unwrap_or_else(|_| {
            Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("{address} did not answer within {patience:?}"),
            ))
        })
}
