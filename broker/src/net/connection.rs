//! One client connection: frames in, handlers called in order, responses out in order.
//!
//! One task. Each turn first moves the responses that are ready to the outbox, then sends, then reads; so that what is ready leaves
//! in one write, and a client that does not read its responses is not read from. At most `limits.requests_in_flight` requests
//! are being answered; beyond that the client waits in its socket, as it does while its batches wait for room in a bounded queue.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use weir_log::lend_turns;
use weir_wire::Frame;

use super::frames::{FrameError, FrameReader, Incoming};
use super::memory::Share;
use super::outbox::{self, Outbox};
use super::{RequestMemory, Socket};
use crate::Broker;
use crate::api::{self, Answer, Peer, Refused, Reply};

/// Frames that are handled before anything else is looked at, so that one client's burst does not keep its responses waiting.
const FRAMES_PER_TURN: usize = 16;

/// How long a connection that is closed for a mistake may take to deliver earlier responses.
const LAST_WORDS: std::time::Duration = std::time::Duration::from_secs(1);

/// A request that is being answered.
struct Pending {
    answer: Answer,
    /// Which line of the table of APIs, for metrics.
    line: usize,
    received: Instant,
    _share: Share,
}

/// Why a connection ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The client closed it.
    ByClient,
    /// The broker stops, and everything is answered.
    Stopped,
    /// The broker stops, and waits no longer.
    Abandoned,
    /// Nothing was asked for too long.
    Idle,
    /// The socket failed.
    Socket(io::Error),
    /// What came was no TLS, or no keys were agreed on.
    Handshake(io::Error),
    /// What came was no frame.
    Frame(FrameError),
    /// A request that has no response.
    Refused(Refused),
}

impl Ended {
    /// A word for metrics, when it is worth a warning.
    pub(crate) fn reason(&self) -> Option<&'static str> {
        match self {
            Self::ByClient | Self::Stopped | Self::Abandoned | Self::Idle | Self::Socket(_) => None,
            Self::Frame(FrameError::Socket(_) | FrameError::Truncated { .. }) => None,
            Self::Frame(FrameError::Length { .. }) => Some("frame_length"),
            Self::Handshake(_) => Some("tls_handshake"),
            Self::Refused(Refused::Malformed(_)) => Some("malformed"),
            Self::Refused(Refused::Unsupported(_)) => Some("unsupported"),
            Self::Refused(Refused::Unacknowledged(_)) => Some("unacknowledged_error"),
            Self::Refused(Refused::Unanswerable(_)) => Some("unanswerable"),
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByClient => f.write_str("by the client"),
            Self::Stopped => f.write_str("the broker stops"),
            Self::Abandoned => f.write_str("the broker stops before everything is answered"),
            Self::Idle => f.write_str("idle for too long"),
            Self::Socket(error) | Self::Handshake(error) => write!(f, "{error}"),
            Self::Frame(error) => write!(f, "{error}"),
            Self::Refused(error) => write!(f, "{error}"),
        }
    }
}

/// One client's connection.
pub(crate) struct Connection<S> {
    broker: Arc<Broker>,
    socket: S,
    peer: Arc<Peer>,
    reader: FrameReader,
    pending: VecDeque<Pending>,
    /// Responses between `pending` and `outbox`; empty but within a turn.
    ready: Vec<Frame>,
    /// The client took more than its quota, and is not read from before this.
    throttled_until: Option<tokio::time::Instant>,
    outbox: Outbox,
}

impl<S: Socket> Connection<S> {
    pub(crate) fn new(
        broker: Arc<Broker>,
        socket: S,
        peer: Arc<Peer>,
        memory: RequestMemory,
    ) -> Self {
        // Slower when it fails, not wrong.
        let _ = socket.send_at_once();
        let reader = FrameReader::new(broker.config.limits.request_bytes, memory);
        Self {
            broker,
            socket,
            peer,
            reader,
            pending: VecDeque::new(),
            ready: Vec::new(),
            throttled_until: None,
            outbox: Outbox::default(),
        }
    }

    /// Serves the client until one side ends it.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Ended {
        match self.serve(&stop).await {
            Ok(ended) => ended,
            Err(ended) => {
                // What was answered before the mistake still leaves, if the socket takes it.
                let _ = tokio::time::timeout(LAST_WORDS, self.send_all()).await;
                ended
            }
        }
    }

    async fn send_all(&mut self) -> io::Result<()> {
        while !self.outbox.is_empty() {
            self.outbox.send(&self.socket).await?;
        }
        Ok(())
    }

    async fn serve(&mut self, stop: &CancellationToken) -> Result<Ended, Ended> {
        let idle = self.broker.config.limits.idle;
        let in_flight_max = self.broker.config.limits.requests_in_flight;
        let mut active = tokio::time::Instant::now();
        let timer = tokio::time::sleep_until(active + idle);
        tokio::pin!(timer);
        loop {
            let stopping = stop.is_cancelled();
            if stopping && self.pending.is_empty() && self.outbox.is_empty() {
                return Ok(Ended::Stopped);
            }
            let reads = !stopping
                && self.throttled_until.is_none()
                && !self.peer.held.is_enough()
                && self.pending.len() < in_flight_max
                && !self.outbox.is_full();
            let mut throttle = None;
            tokio::select! {
                biased;
                ready = poll_fn(|cx| poll_answers(&mut self.pending, &mut self.ready, &mut throttle, &self.broker, cx)),
                    if !self.pending.is_empty() && !self.outbox.is_full() => {
                        self.outbox.extend(self.ready.drain(..));
                        ready?;
                        if let Some(wait) = throttle {
                            let until = tokio::time::Instant::now() + wait;
                            let until = self.throttled_until.map_or(until, |other| other.max(until));
                            self.throttled_until = Some(until);
                            timer.as_mut().reset(until);
                        }
                    }
                sent = self.outbox.send(&self.socket), if !self.outbox.is_empty() => sent.map_err(Ended::Socket)?,
                incoming = self.reader.next(&self.socket), if reads => {
                    active = tokio::time::Instant::now();
                    let first = match incoming {
                        Ok(Some(incoming)) => incoming,
                        Ok(None) => return Ok(Ended::ByClient),
                        Err(error) => return Err(Ended::Frame(error)),
                    };
                    // Nothing is locked here, so what is to be written may be written here.
                    lend_turns(|| {
                        self.handle(first)?;
                        self.handle_buffered(in_flight_max)
                    })?;
                }
                () = stop.cancelled(), if !stopping => {}
                () = &mut timer => {
                    if self.throttled_until.take().is_some() {
                        // Its silence was not its own.
                        active = tokio::time::Instant::now();
                        timer.as_mut().reset(active + idle);
                        continue;
                    }
                    if self.pending.is_empty() && active.elapsed() >= idle {
                        return Ok(Ended::Idle);
                    }
                    let next = if self.pending.is_empty() { active + idle } else { tokio::time::Instant::now() + idle };
                    timer.as_mut().reset(next);
                }
            }
        }
    }

    /// Handles the frames that were read together with the last one, as far as they are whole.
    fn handle_buffered(&mut self, in_flight_max: usize) -> Result<(), Ended> {
        for _ in 1..FRAMES_PER_TURN {
            if !self.reader.has_buffered()
                || self.pending.len() >= in_flight_max
                || self.peer.held.is_enough()
            {
                return Ok(());
            }
            match self.reader.next_buffered() {
                Ok(Some(incoming)) => self.handle(incoming)?,
                Ok(None) => return Ok(()),
                Err(error) => return Err(Ended::Frame(error)),
            }
        }
        Ok(())
    }

    fn handle(&mut self, Incoming { frame, share }: Incoming) -> Result<(), Ended> {
        let received = Instant::now();
        let peer = &self.peer;
        let (line, answer) =
            api::dispatch(&self.broker, peer, frame, received).map_err(Ended::Refused)?;
        self.pending.push_back(Pending {
            answer,
            line,
            received,
            _share: share,
        });
        Ok(())
    }
}

impl<S> Drop for Connection<S> {
    fn drop(&mut self) {
        self.peer.closed.cancel();
    }
}

/// Takes the responses that are ready, in order, up to what the outbox should hold; ready itself when anything was taken.
fn poll_answers(
    pending: &mut VecDeque<Pending>,
    ready: &mut Vec<Frame>,
    throttle: &mut Option<Duration>,
    broker: &Broker,
    cx: &mut Context<'_>,
) -> Poll<Result<(), Ended>> {
    let mut moved = false;
    let mut bytes = 0;
    while let Some(first) = pending.front_mut()
        && bytes < outbox::QUEUED_BYTES_MAX
    {
        let reply = match &mut first.answer {
            Answer::Now(reply) => std::mem::replace(reply, Reply::Nothing),
            Answer::Later(future) => match future.as_mut().poll(cx) {
                Poll::Ready(reply) => reply,
                Poll::Pending => break,
            },
        };
        if let Some(histogram) = broker.metrics.request_duration(first.line) {
            histogram.observe(first.received.elapsed().as_secs_f64());
        }
        pending.pop_front();
        moved = true;
        let mut reply = reply;
        while let Reply::Throttled(inner, wait) = reply {
            *throttle = Some(throttle.unwrap_or_default().max(wait));
            reply = *inner;
        }
        match reply {
            Reply::Send(frame) => {
                bytes += frame.len();
                ready.push(frame);
            }
            Reply::Nothing | Reply::Throttled(..) => {}
            Reply::Close(refused) => return Poll::Ready(Err(Ended::Refused(refused))),
        }
    }
    if moved {
        Poll::Ready(Ok(()))
    } else {
        Poll::Pending
    }
}
