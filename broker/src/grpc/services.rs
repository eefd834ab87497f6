//! Two services on one port, told apart by their paths.

use std::convert::Infallible;
use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::NamedService;

/// What a generated server is, for every service.
type Answered = BoxFuture<http::Response<Body>, Infallible>;

/// Calls under `A`'s name go to it, all others to `B`, which says of what it does not know that it is not implemented.
#[derive(Clone, Debug)]
pub struct Services<A, B> {
    /// The first.
    pub first: A,
    /// The second.
    pub second: B,
}

impl<A, B> Service<http::Request<Body>> for Services<A, B>
where
    A: Service<
            http::Request<Body>,
            Response = http::Response<Body>,
            Error = Infallible,
            Future = Answered,
        > + NamedService,
    B: Service<
            http::Request<Body>,
            Response = http::Response<Body>,
            Error = Infallible,
            Future = Answered,
        >,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answered;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Generated servers always are.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Answered {
        let service = request
            .uri()
            .path()
            .strip_prefix('/')
            .and_then(|path| path.split('/').next());
        if service == Some(A::NAME) {
            self.first.call(request)
        } else {
            self.second.call(request)
        }
    }
}
