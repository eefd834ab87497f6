//! A connection to a broker, on which both sides have shown certificates.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic::codegen::Service;
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint, Error};
use weir_tls::{Tls, client::TlsStream};

/// While a call is under way it is asked this often whether anybody is there still. A machine that is cut off and a process that stands still close no
/// connection, and a call would wait for its whole deadline.
const ARE_YOU_THERE_EVERY: Duration = Duration::from_secs(1);

/// Who does not answer that for so long is passed over.
const SILENCE: Duration = Duration::from_secs(3);

pub(super) async fn connect(tls: &Arc<Tls>, address: &str) -> Result<Channel, Error> {
    // What the channel writes and reads is HTTP/2 from its first byte; certificates are below it.
    Endpoint::from_shared(format!("http://{address}"))?
        .http2_keep_alive_interval(ARE_YOU_THERE_EVERY)
        .keep_alive_timeout(SILENCE)
        .connect_with_connector(Connector(Arc::clone(tls)))
        .await
}

struct Connector(Arc<Tls>);

impl Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let address = uri.authority().map(ToString::to_string).unwrap_or_default();
        let tls = Arc::clone(&self.0);
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            tls.connect(stream, None).await.map(TokioIo::new)
        })
    }
}
