//! The seam to the network: sockets, and where they are accepted.
//!
//! Two implementations: [`Tcp`], the operating system's, and the simulation's (`tests/sim`). What serves clients is generic
//! over [`Socket`], so that in production nothing stands between it and the system calls, but for clients that speak TLS
//! (`tls_socket.rs`).

use std::fmt::Debug;
use std::future::Future;
use std::io::{self, IoSlice};
use std::net::SocketAddr;

use bytes::BufMut;
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::{TcpListener, TcpStream};
use weir_wire::FileRange;

use super::Dialer;
use crate::config::HostPort;

/// A connected stream of bytes. Everything `try_` fails with [`io::ErrorKind::WouldBlock`] instead of waiting.
pub trait Socket: Unpin + Send + Sync + 'static {
    /// A small response must not wait for the acknowledgement of the one before it.
    fn send_at_once(&self) -> io::Result<()>;
    /// Waits until there may be something to read.
    fn readable(&self) -> impl Future<Output = io::Result<()>> + Send;
    /// Waits until something may be written.
    fn writable(&self) -> impl Future<Output = io::Result<()>> + Send;
    /// Reads what is there, at most what `buf` has room for.
    fn try_read_buf<B: BufMut>(&self, buf: &mut B) -> io::Result<usize>;
    /// Writes as much of `bufs`, one after the other, as is taken now. When that is nothing, the same bytes come first with the next call.
    fn try_write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize>;
    /// Sends as much of a part of a file as is taken now. When that is nothing, the same part comes with the next call.
    fn try_send_file(&self, range: &FileRange) -> io::Result<usize>;
}

/// A bound address.
pub trait Listener: Debug + Send + Sync + 'static {
    /// What is accepted.
    type Socket: Socket + AsyncRead + AsyncWrite;
    /// The address that was bound.
    fn address(&self) -> SocketAddr;
    /// Waits for the next connection.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Socket, SocketAddr)>> + Send;
}

/// A network that a broker is attached to.
pub trait Network: Clone + Debug + Send + Sync + 'static {
    /// What is bound on it.
    type Listener: Listener;
    /// Binds an address.
    fn bind(&self, address: &HostPort) -> impl Future<Output = io::Result<Self::Listener>> + Send;
    /// How other brokers are reached.
    fn dialer(&self) -> Dialer;
}

/// The operating system's network.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tcp;

/// A bound TCP port.
#[derive(Debug)]
pub struct TcpPort {
    socket: TcpListener,
    address: SocketAddr,
}

impl Network for Tcp {
    type Listener = TcpPort;

    async fn bind(&self, address: &HostPort) -> io::Result<TcpPort> {
        let socket = TcpListener::bind((address.host.as_str(), address.port)).await?;
        let address = socket.local_addr()?;
        Ok(TcpPort { socket, address })
    }

    fn dialer(&self) -> Dialer {
        Dialer::Tcp
    }
}

impl Listener for TcpPort {
    type Socket = TcpStream;

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn accept(&self) -> impl Future<Output = io::Result<(TcpStream, SocketAddr)>> + Send {
        self.socket.accept()
    }
}

impl Socket for TcpStream {
    fn send_at_once(&self) -> io::Result<()> {
        self.set_nodelay(true)
    }

    fn readable(&self) -> impl Future<Output = io::Result<()>> + Send {
        TcpStream::readable(self)
    }

    fn writable(&self) -> impl Future<Output = io::Result<()>> + Send {
        TcpStream::writable(self)
    }

    fn try_read_buf<B: BufMut>(&self, buf: &mut B) -> io::Result<usize> {
        TcpStream::try_read_buf(self, buf)
    }

    fn try_write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        TcpStream::try_write_vectored(self, bufs)
    }

    fn try_send_file(&self, range: &FileRange) -> io::Result<usize> {
        self.try_io(Interest::WRITABLE, || {
            let mut offset = range.offset;
            let sent = rustix::fs::sendfile(self, &*range.file, Some(&mut offset), range.len)?;
            Ok(sent)
        })
    }
}
