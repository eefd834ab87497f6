//! Dead letters go back to where they came from: brokers' administration, asked as the operator asks.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic::codegen::Service;
use tonic::codegen::http::Uri;
use tonic::transport::Endpoint;
use weir_proto::admin::v1::admin_client::AdminClient;
use weir_proto::admin::v1::{RedriveRequest, RedriveResponse};
use weir_tests::local::Local;
use weir_tls::client::TlsStream;
use weir_tls::{Role, Tls, directory};

/// Takes all letters of one partition back, and says how many there were.
pub(super) fn redrive(local: &Local, cluster: &str, topic: &str, partition: usize) -> u32 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let files = directory::files(&local.data().join(cluster).join("tls"), Role::Operator);
        let tls = Arc::new(Tls::from_files(files).expect("the operator's certificate"));
        for address in local.internal(3) {
            let answer = ask(&tls, &address, topic, partition).await;
            if answer.leader.is_none() {
                assert!(answer.error.is_none() && answer.at_end, "{answer:?}");
                assert_eq!(answer.unusable, 0, "{answer:?}");
                return answer.redriven;
            }
        }
        panic!("nobody leads {topic}-{partition}")
    })
}

async fn ask(tls: &Arc<Tls>, address: &str, topic: &str, partition: usize) -> RedriveResponse {
    let channel = Endpoint::from_shared(format!("http://{address}"))
        .expect("an address")
        .connect_with_connector(Connector(Arc::clone(tls)))
        .await;
    let request = RedriveRequest {
        topic: topic.to_owned(),
        partition: i32::try_from(partition).expect("small"),
        ..RedriveRequest::default()
    };
    let mut admin = AdminClient::new(channel.expect("a broker that runs"));
    let answer = admin.redrive(request).await;
    answer.expect("it answers").into_inner()
}

/// TLS below what a channel writes and reads.
struct Connector(Arc<Tls>);

impl Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let address = uri.authority().map(ToString::to_string).unwrap_or_default();
        let tls = Arc::clone(&self.0);
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            tls.connect(stream, None).await.map(TokioIo::new)
        })
    }
}
