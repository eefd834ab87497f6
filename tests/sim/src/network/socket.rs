//! Sockets of the simulated network, as programs see them.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes};
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use weir_broker::config::HostPort;
use weir_broker::net::{Dial, Dialer, Listener, Network, Socket, Stream};
use weir_wire::FileRange;

use super::{Conn, End, HostId, Net, Piece, Port, WINDOW_BYTES, address, host_of};

/// A host's place on the network.
#[derive(Clone, Debug)]
pub struct HostNet {
    net: Net,
    host: HostId,
}

impl Net {
    /// The place of a host.
    #[must_use]
    pub fn place(&self, host: HostId) -> HostNet {
        HostNet {
            net: self.clone(),
            host,
        }
    }
}

/// One end of a connection.
#[derive(Debug)]
pub struct SimSocket {
    net: Net,
    conn: u64,
    end: usize,
}

/// A bound port.
#[derive(Debug)]
pub struct SimListener {
    net: Net,
    host: HostId,
    port: u16,
}

impl HostNet {
    /// Connects to `name:port`.
    pub fn connect(
        &self,
        to: &str,
    ) -> impl Future<Output = io::Result<SimSocket>> + Send + 'static {
        let target = to
            .rsplit_once(':')
            .and_then(|(name, port)| Some((host_of(name)?, port.parse::<u16>().ok()?)));
        let socket = target.map(|(host, port)| self.dial(host, port));
        async move {
            let socket = socket.ok_or(io::ErrorKind::AddrNotAvailable)?;
            poll_fn(|cx| {
                socket.with(|end| -> Poll<io::Result<()>> {
                    match end {
                        None => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                        Some(end) if end.broken => {
                            Poll::Ready(Err(io::ErrorKind::ConnectionRefused.into()))
                        }
                        Some(end) if end.established => Poll::Ready(Ok(())),
                        Some(end) => {
                            end.writer = Some(cx.waker().clone());
                            Poll::Pending
                        }
                    }
                })
            })
            .await?;
            Ok(socket)
        }
    }

    fn dial(&self, host: HostId, port: u16) -> SimSocket {
        let mut state = self.net.lock();
        let id = state.next_conn;
        state.next_conn += 1;
        let ends = [End::of(self.host), End::of(host)];
        state.conns.insert(id, Conn { port, ends });
        state.send(id, 0, Piece::Syn);
        SimSocket {
            net: self.net.clone(),
            conn: id,
            end: 0,
        }
    }
}

impl Dial for HostNet {
    fn dial(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> {
        let connecting = self.connect(address);
        Box::pin(async move {
            let socket: Box<dyn Stream> = Box::new(connecting.await?);
            Ok(socket)
        })
    }
}

impl Network for HostNet {
    type Listener = SimListener;

    fn dialer(&self) -> Dialer {
        Dialer::Other(Arc::new(self.clone()))
    }

    async fn bind(&self, address: &HostPort) -> io::Result<SimListener> {
        let mut state = self.net.lock();
        let key = (self.host, address.port);
        if state.listeners.contains_key(&key) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        state.listeners.insert(key, Port::default());
        Ok(SimListener {
            net: self.net.clone(),
            host: self.host,
            port: address.port,
        })
    }
}

impl Listener for SimListener {
    type Socket = SimSocket;

    fn address(&self) -> SocketAddr {
        address(self.host, self.port)
    }

    fn accept(&self) -> impl Future<Output = io::Result<(SimSocket, SocketAddr)>> + Send {
        poll_fn(|cx| {
            let mut state = self.net.lock();
            let Some(port) = state.listeners.get_mut(&(self.host, self.port)) else {
                // The process has ended; it only does not know yet.
                return Poll::Pending;
            };
            let Some(conn) = port.backlog.pop_front() else {
                port.waker = Some(cx.waker().clone());
                return Poll::Pending;
            };
            let peer = state.conns.get(&conn).map_or(0, |conn| conn.ends[0].host);
            let socket = SimSocket {
                net: self.net.clone(),
                conn,
                end: 1,
            };
            Poll::Ready(Ok((socket, address(peer, 40_000))))
        })
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        let mut state = self.net.lock();
        let Some(port) = state.listeners.remove(&(self.host, self.port)) else {
            return;
        };
        for conn in port.backlog {
            state.end_of_process(conn, 1, self.host, true);
        }
    }
}

impl SimSocket {
    /// Runs `act` on this end, if the connection is still known.
    fn with<T>(&self, act: impl FnOnce(Option<&mut End>) -> T) -> T {
        let mut state = self.net.lock();
        act(state
            .conns
            .get_mut(&self.conn)
            .map(|conn| &mut conn.ends[self.end]))
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.with(|end| match end {
            Some(end) if end.inbox.is_empty() && !end.broken && !end.finished && !end.gone => {
                end.reader = Some(cx.waker().clone());
                Poll::Pending
            }
            _ => Poll::Ready(()),
        })
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.net.lock();
        let Some(conn) = state.conns.get_mut(&self.conn) else {
            return Poll::Ready(());
        };
        let under_way = conn.ends[self.end].sent_bytes + conn.ends[1 - self.end].inbox_bytes;
        let end = &mut conn.ends[self.end];
        if under_way >= WINDOW_BYTES && !end.broken && !end.gone {
            end.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    fn try_read(&self, buf: &mut impl BufMut) -> io::Result<usize> {
        let mut state = self.net.lock();
        let Some(conn) = state.conns.get_mut(&self.conn) else {
            return Err(io::ErrorKind::ConnectionReset.into());
        };
        let end = &mut conn.ends[self.end];
        if end.broken || end.gone {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let mut read = 0;
        while buf.has_remaining_mut()
            && let Some(first) = end.inbox.front_mut()
        {
            let step = first.len().min(buf.remaining_mut());
            buf.put_slice(&first[..step]);
            first.advance(step);
            if first.is_empty() {
                end.inbox.pop_front();
            }
            read += step;
        }
        if read == 0 && !end.finished {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        end.inbox_bytes -= read;
        if let Some(waker) = conn.ends[1 - self.end].writer.take() {
            waker.wake();
        }
        Ok(read)
    }

    fn try_write(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.net.lock();
        let Some(conn) = state.conns.get_mut(&self.conn) else {
            return Err(io::ErrorKind::ConnectionReset.into());
        };
        let under_way = conn.ends[self.end].sent_bytes + conn.ends[1 - self.end].inbox_bytes;
        let end = &conn.ends[self.end];
        if end.broken || end.gone {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if under_way >= WINDOW_BYTES {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut room = WINDOW_BYTES - under_way;
        let mut bytes = Vec::with_capacity(room.min(bufs.iter().map(|buf| buf.len()).sum()));
        for buf in bufs {
            let step = buf.len().min(room);
            bytes.extend_from_slice(&buf[..step]);
            room -= step;
        }
        let written = bytes.len();
        if written > 0 {
            state.send(self.conn, self.end, Piece::Data(Bytes::from(bytes)));
        }
        Ok(written)
    }
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        let mut state = self.net.lock();
        let Some(conn) = state.conns.get_mut(&self.conn) else {
            return;
        };
        let end = &mut conn.ends[self.end];
        if end.gone {
            return;
        }
        end.gone = true;
        let (unread, broken) = (!end.inbox.is_empty(), end.broken);
        end.inbox.clear();
        end.inbox_bytes = 0;
        if !broken {
            let piece = if unread { Piece::Reset } else { Piece::Fin };
            state.send(self.conn, self.end, piece);
        }
        state.tidy(self.conn);
    }
}

impl Socket for SimSocket {
    fn send_at_once(&self) -> io::Result<()> {
        Ok(())
    }

    async fn readable(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_readable(cx)).await;
        Ok(())
    }

    async fn writable(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_writable(cx)).await;
        Ok(())
    }

    fn try_read_buf<B: BufMut>(&self, buf: &mut B) -> io::Result<usize> {
        self.try_read(buf)
    }

    fn try_write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.try_write(bufs)
    }

    fn try_send_file(&self, _: &FileRange) -> io::Result<usize> {
        // A simulated disk has no file of the operating system's, so none is ever sent.
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl AsyncRead for SimSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match self.try_read(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.poll_readable(cx).is_pending() {
                        return Poll::Pending;
                    }
                }
                read => return Poll::Ready(read.map(|_| ())),
            }
        }
    }
}

impl AsyncWrite for SimSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            match self.try_write(bufs) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.poll_writable(cx).is_pending() {
                        return Poll::Pending;
                    }
                }
                written => return Poll::Ready(written),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.net.lock();
        let open = state
            .conns
            .get(&self.conn)
            .is_some_and(|conn| !conn.ends[self.end].gone && !conn.ends[self.end].broken);
        if open {
            state.send(self.conn, self.end, Piece::Fin);
        }
        Poll::Ready(Ok(()))
    }
}
