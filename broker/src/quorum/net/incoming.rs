//! The connections that come to the quorum listener, told apart by their first bytes.
//!
//! What always holds: nobody who is slow or silent holds up another, since each connection is prepared by a task of its own,
//! within a time; unfinished ones are few, since beyond a number of them nothing is accepted; and where there are certificates,
//! no byte of a stranger is looked at.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream as AsyncStream;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::transport::server::Connected;
use tracing::{debug, warn};
use weir_tls::Tls;

use super::{HANDSHAKE_PATIENCE, Peer, STREAM_PREFACE};
use crate::net::{Listener, Socket, Stream};

/// Connections that have not yet said what they speak. More than brokers of one cluster that come up at once; each has one
/// packet in memory, or the state of one handshake.
const UNPREPARED_MAX: usize = 1024;

/// A pause after accepting failed, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Connections that are refused are told of no more often than this, whoever knocks how often.
const REFUSALS_PAUSE: Duration = Duration::from_secs(10);

/// A stream of replication that another broker began.
pub(crate) struct Incoming {
    /// What comes after the preface, and the way back.
    pub(crate) stream: Box<dyn Stream>,
    /// Who began it, as the certificate says; `None` where there are none, as in the simulation.
    pub(crate) peer: Option<Peer>,
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Incoming")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

/// The connections to the listener that speak gRPC. Streams of replication go to `replication`; one that is not taken from
/// there in time is closed. Ends with whoever drops it, and every connection that is being prepared with it.
pub(crate) fn incoming<L: Listener>(
    listener: L,
    tls: Option<Arc<Tls>>,
    replication: mpsc::Sender<Incoming>,
) -> impl AsyncStream<Item = io::Result<Accepted>> {
    incoming_within(HANDSHAKE_PATIENCE, listener, tls, replication)
}

/// As [`incoming`], with another patience for those who are slow.
pub(super) fn incoming_within<L: Listener>(
    patience: Duration,
    listener: L,
    tls: Option<Arc<Tls>>,
    replication: mpsc::Sender<Incoming>,
) -> impl AsyncStream<Item = io::Result<Accepted>> {
    let acceptor = Acceptor {
        patience,
        listener,
        tls,
        replication,
        preparing: JoinSet::new(),
        refusals: Refusals::default(),
    };
    futures::stream::unfold(acceptor, |mut acceptor| async {
        let accepted = acceptor.next().await;
        Some((Ok(accepted), acceptor))
    })
}

struct Acceptor<L> {
    patience: Duration,
    listener: L,
    tls: Option<Arc<Tls>>,
    replication: mpsc::Sender<Incoming>,
    /// Each comes to a connection that speaks gRPC, to none, or to one that is refused.
    preparing: JoinSet<(SocketAddr, io::Result<Option<Accepted>>)>,
    refusals: Refusals,
}

impl<L: Listener> Acceptor<L> {
    /// The next connection that speaks gRPC.
    async fn next(&mut self) -> Accepted {
        loop {
            tokio::select! {
                Some(prepared) = self.preparing.join_next() => match prepared {
                    Ok((_, Ok(Some(accepted)))) => return accepted,
                    Ok((_, Ok(None))) => {}
                    Ok((address, Err(error))) => self.refusals.tell(address, &error),
                    Err(error) => warn!(%error, "preparing a connection to the port for brokers"),
                },
                accepted = self.listener.accept(), if self.preparing.len() < UNPREPARED_MAX => match accepted {
                    Ok((socket, address)) => self.prepare(socket, address),
                    Err(error) => {
                        warn!(%error, "accepting a connection to the port for brokers failed");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }

    fn prepare(&mut self, socket: L::Socket, address: SocketAddr) {
        // Slower when it fails, not wrong.
        let _ = socket.send_at_once();
        let prepared = prepare(socket, self.tls.clone(), self.replication.clone());
        let prepared = tokio::time::timeout(self.patience, prepared);
        self.preparing.spawn(async move {
            let prepared = prepared.await;
            (
                address,
                prepared.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
            )
        });
    }
}

/// Finds out who is at the other end of an accepted connection, and what it speaks. Returns it when that is gRPC.
async fn prepare<S: Socket + Stream>(
    socket: S,
    tls: Option<Arc<Tls>>,
    replication: mpsc::Sender<Incoming>,
) -> io::Result<Option<Accepted>> {
    let (mut stream, peer): (Box<dyn Stream>, Option<Peer>) = match tls {
        None => (Box::new(socket), None),
        Some(tls) => {
            let (stream, role) = tls.accept(socket).await?;
            (Box::new(stream), Some(role.into()))
        }
    };
    let mut first = [0; STREAM_PREFACE.len()];
    stream.read_exact(&mut first).await?;
    if first != STREAM_PREFACE {
        return Ok(Some(Accepted {
            stream,
            first,
            replayed: 0,
            peer,
        }));
    }
    if peer == Some(Peer::Operator) {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "the operator takes no part in replication",
        ));
    }
    if replication.send(Incoming { stream, peer }).await.is_err() {
        debug!("a stream of replication comes to a broker that stops");
    }
    Ok(None)
}

/// What is told of connections that were refused.
#[derive(Debug, Default)]
struct Refusals {
    told: Option<Instant>,
    untold: u64,
}

impl Refusals {
    fn tell(&mut self, address: SocketAddr, error: &io::Error) {
        // Whoever only looks whether the port is open.
        if error.kind() == io::ErrorKind::UnexpectedEof {
            debug!(%address, "a connection to the port for brokers without a word");
            return;
        }
        if self
            .told
            .is_some_and(|told| told.elapsed() < REFUSALS_PAUSE)
        {
            self.untold += 1;
            return;
        }
        self.told = Some(Instant::now());
        let more = std::mem::take(&mut self.untold);
        warn!(%address, %error, more, "a connection to the port for brokers is refused");
    }
}

/// A connection that speaks gRPC, as tonic wants it.
pub(crate) struct Accepted {
    stream: Box<dyn Stream>,
    /// What was read to find out.
    first: [u8; STREAM_PREFACE.len()],
    /// How much of it was read again.
    replayed: usize,
    peer: Option<Peer>,
}

impl Connected for Accepted {
    type ConnectInfo = Option<Peer>;

    fn connect_info(&self) -> Option<Peer> {
        self.peer
    }
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let rest = &self.first[self.replayed..];
        if rest.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let taken = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..taken]);
        self.replayed += taken;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
