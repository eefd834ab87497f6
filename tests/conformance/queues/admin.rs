//! Brokers' administration, asked as the operator asks: dead letters go back to where they came from, and what brokers remember of messages.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic::codegen::Service;
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};
use weir_proto::admin::v1::admin_client::AdminClient;
use weir_proto::admin::v1::trace_request::Of;
use weir_proto::admin::v1::{RedriveRequest, TraceRequest, TraceResponse};
use weir_tests::local::Local;
use weir_tls::client::TlsStream;
use weir_tls::{Role, Tls, directory};

type Admin = AdminClient<Channel>;

/// Takes the letters of one partition back for which a condition holds, all where it is empty. How many these were, and how many stayed.
pub(super) fn redrive(
    local: &Local,
    cluster: &str,
    topic: &str,
    partition: usize,
    filter: &str,
) -> (u32, u32) {
    let request = RedriveRequest {
        topic: topic.to_owned(),
        partition: i32::try_from(partition).expect("small"),
        filter: filter.to_owned(),
        ..RedriveRequest::default()
    };
    let redriven = at_each(local, cluster, async |mut admin| {
        let answer = admin.redrive(request.clone()).await;
        let answer = answer.expect("it answers").into_inner();
        if answer.leader.is_some() {
            return None;
        }
        assert!(answer.error.is_none() && answer.at_end, "{answer:?}");
        assert_eq!(answer.unusable, 0, "{answer:?}");
        Some((answer.redriven, answer.passed_over))
    });
    redriven.unwrap_or_else(|| panic!("nobody leads {topic}-{partition}"))
}

/// What all brokers remember of messages, as one of them tells.
pub(super) fn trace(local: &Local, cluster: &str, topic: &str, of: Of) -> TraceResponse {
    let request = TraceRequest {
        topic: topic.to_owned(),
        of: Some(of),
        here: false,
    };
    let told = at_each(local, cluster, async |mut admin| {
        let answer = admin.trace(request.clone()).await;
        Some(answer.expect("it answers").into_inner())
    });
    told.expect("there are brokers")
}

/// Asks brokers one by one, until one has the answer.
fn at_each<T>(local: &Local, cluster: &str, ask: impl AsyncFn(Admin) -> Option<T>) -> Option<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let files = directory::files(&local.data().join(cluster).join("tls"), Role::Operator);
        let tls = Arc::new(Tls::from_files(files).expect("the operator's certificate"));
        for address in local.internal(3) {
            let channel = Endpoint::from_shared(format!("http://{address}"))
                .expect("an address")
                .connect_with_connector(Connector(Arc::clone(&tls)))
                .await;
            let answer = ask(AdminClient::new(channel.expect("a broker that runs"))).await;
            if answer.is_some() {
                return answer;
            }
        }
        None
    })
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
