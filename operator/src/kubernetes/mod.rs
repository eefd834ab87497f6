//! The operator in Kubernetes: watches the custom resources, and keeps the world as they say.
//!
//! Work is queued by cluster, in three queues: the cluster's own objects, its topics, its groups. All Topics of a cluster are one piece of
//! work, so thousands of them cost one call to the brokers. A piece of work reads, decides, acts and writes status; it starts when something
//! that was asked for changes, as soon as brokers say that they have become fewer or are needed ([`listening`]), and once a minute to find
//! drift. Status is not something that was asked for: writing it starts nothing.
//!
//! Only the holder of the lease works. Losing the lease ends the process.

mod apply;
pub mod by_name;
mod clusters;
mod context;
mod disks;
mod groups;
mod homes;
mod http;
mod lease;
mod listening;
pub(crate) mod metrics;
pub mod observe;
mod patience;
mod queue;
mod scaling;
mod topics;
mod watch;

use std::net::SocketAddr;
use std::sync::Arc;

use kube::{Api, Client};

use crate::validate::Defaults;
use context::Context;
use lease::Lease;
pub use lease::Lost;

/// How the operator runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// Namespaces to work in; empty: all.
    pub namespaces: Vec<String>,
    /// Image of the brokers when a Cluster names none.
    pub broker_image: String,
    /// Where metrics and health are served.
    pub http: SocketAddr,
    /// Namespace of the lease; `None`: the client's own.
    pub lease_namespace: Option<String>,
    /// Unique to this process: the pod's name where there is one.
    pub identity: String,
}

/// Why the operator stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No way to reach Kubernetes.
    #[error(
        "Kubernetes cannot be reached: {0}. Is KUBECONFIG set, or does this run in a pod with a ServiceAccount?"
    )]
    Client(String),
    /// The CRDs are missing, or may not be read.
    #[error(
        "{0}. Are Weir's CRDs installed (charts/weir-operator), and may this account read them?"
    )]
    Resources(String),
    /// The port for metrics is taken.
    #[error("metrics and health cannot be served on {0}: {1}")]
    Http(SocketAddr, std::io::Error),
    /// Another process leads now.
    #[error("leadership is lost: {0}")]
    Lease(#[from] Lost),
    /// A watch ended, which it never does.
    #[error("a watch ended")]
    Watch,
}

/// Name of the lease: one operator for each namespace that it is installed in.
const LEASE: &str = "weir-operator";

/// Runs until `stop` completes, or until leadership is lost.
///
/// # Errors
/// When there is no configuration by which to reach Kubernetes, the CRDs are not there or may not be read, or leadership is lost.
pub async fn run(options: Options, stop: impl Future<Output = ()> + Send) -> Result<(), RunError> {
    let client = Client::try_default()
        .await
        .map_err(|error| RunError::Client(error.to_string()))?;
    let namespace = options
        .lease_namespace
        .clone()
        .unwrap_or_else(|| client.default_namespace().to_owned());
    let lease = Arc::new(Lease::new(
        Api::namespaced(client.clone(), &namespace),
        LEASE,
        options.identity.clone(),
    ));
    let metrics = Arc::new(metrics::Metrics::default());
    let server = http::bind(options.http)
        .await
        .map_err(|error| RunError::Http(options.http, error))?;
    let serve = http::serve(server, Arc::clone(&metrics));
    let defaults = Defaults {
        broker_image: options.broker_image.clone(),
    };
    let context = Arc::new(Context::new(
        client,
        defaults,
        Arc::clone(&lease),
        Arc::clone(&metrics),
        &options,
    ));

    let lead = async {
        // While metrics and health are served: who waits for an API server is well.
        watch::check_resources(&context.client, &options.namespaces).await?;
        tracing::info!(lease = LEASE, %namespace, identity = %options.identity, "waiting for the lease");
        lease.acquire().await;
        tracing::info!("leading");
        metrics.leading(true);
        let watching = watch::run(&context, &options.namespaces);
        let work = async {
            context.watched.until_listed().await;
            tokio::join!(
                clusters::work(&context),
                topics::work(&context),
                groups::work(&context)
            )
        };
        tokio::select! {
            lost = lease.keep() => Err(RunError::from(lost)),
            () = watching => Err(RunError::Watch),
            _ = work => Err(RunError::Watch),
        }
    };
    let result = tokio::select! {
        result = lead => result,
        () = serve => Err(RunError::Watch),
        () = stop => Ok(()),
    };
    if result.is_ok() {
        tracing::info!("stopping");
        lease.release().await;
    }
    result
}
