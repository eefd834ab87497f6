//! Sends spans to a collector, over HTTP in protocol buffers (`POST /v1/traces` of OTLP).
//!
//! What always holds: nobody waits for it. Spans wait in a queue that is bounded, and what finds it full, or no collector, is dropped and counted.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use prometheus::IntCounter;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::otlp::request;
use super::spans::Span;
use crate::net::Dialer;

/// Spans that wait, of about half a kilobyte each: what a second of 8,000 traced events brings.
const WAITING_MAX: usize = 8_192;
/// Spans of one request.
const AT_ONCE_MAX: usize = 512;
/// How long the first of them waits for others.
const GATHER: Duration = Duration::from_millis(500);
/// How long a collector may take for one request: OpenTelemetry's default.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same for the last one, of a broker that stops.
const LAST_PATIENCE: Duration = Duration::from_secs(1);
/// After a request that failed.
const PAUSE: Duration = Duration::from_secs(1);
/// OTLP over HTTP.
const DEFAULT_PORT: u16 = 4318;

/// Where a collector is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// host:port.
    authority: String,
    /// Of the request.
    path: String,
}

impl Endpoint {
    /// Reads `http://host:port/path`, to which `/v1/traces` is added.
    ///
    /// # Errors
    /// What is allowed.
    pub fn parse(url: &str) -> Result<Self, String> {
        let allowed = || "http://HOST[:PORT][/PATH], without TLS".to_owned();
        let rest = url.trim().strip_prefix("http://").ok_or_else(allowed)?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let uri: hyper::Uri = url.trim().parse().map_err(|_| allowed())?;
        // Of an address in brackets the last part is none.
        let port = authority.rsplit_once(':').map(|(_, port)| port);
        let port = port.filter(|port| !port.ends_with(']'));
        let is_port = port.is_none() || uri.port_u16().is_some();
        let is_whole = uri.query().is_none() && !authority.contains('@') && is_port;
        let host = uri.host().filter(|host| !host.is_empty() && is_whole);
        let host = host.ok_or_else(allowed)?;
        let path = path.trim_end_matches('/');
        let path = match path {
            "" => "/v1/traces".to_owned(),
            path => format!("/{path}/v1/traces"),
        };
        Ok(Self {
            authority: format!("{host}:{}", uri.port_u16().unwrap_or(DEFAULT_PORT)),
            path,
        })
    }
}

/// Takes spans.
#[derive(Clone, Debug)]
pub struct Exporter {
    spans: mpsc::Sender<Span>,
    dropped: IntCounter,
}

impl Exporter {
    pub(super) fn send(&self, span: Span) {
        if self.spans.try_send(span).is_err() {
            self.dropped.inc();
        }
    }
}

/// Sends them.
#[derive(Debug)]
pub struct Collector {
    endpoint: Endpoint,
    spans: mpsc::Receiver<Span>,
    sent: IntCounter,
    dropped: IntCounter,
    dialer: Dialer,
    /// What the spans are said to be of.
    service: String,
    instance: String,
}

impl Collector {
    /// With what takes spans for it.
    #[must_use]
    pub fn new(
        endpoint: Endpoint,
        (sent, dropped): (IntCounter, IntCounter),
        dialer: Dialer,
        (service, instance): (String, String),
    ) -> (Exporter, Self) {
        let (spans, waiting) = mpsc::channel(WAITING_MAX);
        let exporter = Exporter {
            spans,
            dropped: dropped.clone(),
        };
        let collector = Self {
            endpoint,
            spans: waiting,
            sent,
            dropped,
            dialer,
            service,
            instance,
        };
        (exporter, collector)
    }

    /// Sends until `stop`, and then what is left, once.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut is_away = false;
        loop {
            let gathered = tokio::select! {
                () = stop.cancelled() => break,
                gathered = self.gather() => gathered,
            };
            let Some(gathered) = gathered else { return };
            let sent = tokio::select! {
                () = stop.cancelled() => self.send(&gathered, LAST_PATIENCE).await,
                sent = self.send(&gathered, PATIENCE) => sent,
            };
            match (sent, is_away) {
                (true, _) => is_away = false,
                (false, false) => {
                    is_away = true;
                    warn!(collector = %self.endpoint.authority, "spans are not taken, and dropped until they are");
                }
                (false, true) => {}
            }
            if is_away {
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = tokio::time::sleep(PAUSE) => {}
                }
            }
        }
        let mut left = Vec::new();
        while let Ok(span) = self.spans.try_recv() {
            left.push(span);
        }
        if !left.is_empty() {
            self.send(&left, LAST_PATIENCE).await;
        }
    }

    /// The next spans; `None`: there will be none.
    async fn gather(&mut self) -> Option<Vec<Span>> {
        let mut gathered = Vec::new();
        if self.spans.recv_many(&mut gathered, 1).await == 0 {
            return None;
        }
        let until = tokio::time::Instant::now() + GATHER;
        while gathered.len() < AT_ONCE_MAX {
            let more = AT_ONCE_MAX - gathered.len();
            let received = self.spans.recv_many(&mut gathered, more);
            match tokio::time::timeout_at(until, received).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
        Some(gathered)
    }

    /// Sends some, once. Whether they were taken.
    async fn send(&self, spans: &[Span], patience: Duration) -> bool {
        let body = request(&self.service, &self.instance, spans);
        let outcome = tokio::time::timeout(patience, self.post(body.into())).await;
        let failed = match outcome {
            Ok(Ok(())) => None,
            Ok(Err(why)) => Some(why),
            Err(_) => Some(format!("no answer within {patience:?}")),
        };
        let count = spans.len() as u64;
        if let Some(why) = failed {
            debug!(collector = %self.endpoint.authority, why, "spans are dropped");
            self.dropped.inc_by(count);
            return false;
        }
        self.sent.inc_by(count);
        true
    }

    async fn post(&self, body: Bytes) -> Result<(), String> {
        let said = |error: &dyn std::fmt::Display| error.to_string();
        let authority = &self.endpoint.authority;
        let dialed = self.dialer.dial_plain(authority).await;
        let stream = TokioIo::new(dialed.map_err(|error| said(&error))?);
        let handshake = hyper::client::conn::http1::handshake(stream).await;
        let (mut sender, connection) = handshake.map_err(|error| said(&error))?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(&self.endpoint.path)
            .header(HOST, authority)
            .header(CONTENT_TYPE, "application/x-protobuf")
            .body(Full::new(body))
            .map_err(|error| said(&error))?;
        let asking = async {
            let answer = sender.send_request(request).await;
            let answer = answer.map_err(|error| said(&error))?;
            let status = answer.status();
            // Read to its end, so that the collector sees no broken connection.
            let _ = answer.into_body().collect().await;
            match status.is_success() {
                true => Ok(()),
                false => Err(format!("it answered {status}")),
            }
        };
        tokio::pin!(asking);
        tokio::select! {
            asked = &mut asking => asked,
            // The connection has ended; what was answered is there.
            _ = connection => asking.await,
        }
    }
}
