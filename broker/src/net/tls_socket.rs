//! A client's connection over TLS, as a [`Socket`] over another one.
//!
//! Bytes are encrypted where they are written and decrypted where they are read; nothing waits here, and what a client is sent from a file
//! is read from there a piece at a time. What always holds: bytes count as written when all that came of them was taken by the socket
//! below. Until then whoever writes is told to wait, and comes again with the same bytes first, which are not encrypted again.

use std::io::{self, BufRead, IoSlice, Read, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::BufMut;
use weir_tls::ServerConnection;
use weir_wire::FileRange;

use super::Socket;

/// What is read from a file at once: as much as is encrypted before it has to leave.
const PIECE_BYTES: usize = 64 << 10;

/// A socket below, and what is spoken over it. The lock is held by nobody but the connection's own task.
pub(crate) struct TlsSocket<S: Socket> {
    socket: S,
    state: Mutex<State>,
}

struct State {
    tls: ServerConnection,
    /// Bytes that were encrypted and have not left as a whole yet.
    under_way: usize,
}

impl<S: Socket> TlsSocket<S> {
    /// Shakes hands. Fails with `UnexpectedEof` for a client that went away, and with `InvalidData` for what is not TLS, or not as it is
    /// spoken here.
    pub(crate) async fn accept(socket: S, tls: ServerConnection) -> io::Result<Self> {
        let state = Mutex::new(State { tls, under_way: 0 });
        let this = Self { socket, state };
        loop {
            // What this side has to say comes first: the other one waits for it.
            while let Err(error) = this.flush() {
                if error.kind() != io::ErrorKind::WouldBlock {
                    return Err(error);
                }
                this.socket.writable().await?;
            }
            if !this.state().tls.is_handshaking() {
                return Ok(this);
            }
            this.socket.readable().await?;
            let received = this.state().receive(&this.socket);
            match received {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    // Why, as far as the socket takes it.
                    let _ = this.flush();
                    return Err(error);
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn flush(&self) -> io::Result<()> {
        self.state().flush(&self.socket)
    }
}

impl State {
    /// Takes what the socket has now; 0 when the client has closed.
    fn receive(&mut self, socket: &impl Socket) -> io::Result<usize> {
        let read = self.tls.read_tls(&mut Below(socket))?;
        self.tls
            .process_new_packets()
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(read)
    }

    /// Sends all that was encrypted.
    fn flush(&mut self, socket: &impl Socket) -> io::Result<()> {
        while self.tls.wants_write() {
            if self.tls.write_tls(&mut Below(socket))? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }

    /// Whether a read would not have to wait for the socket.
    fn is_readable(&mut self) -> bool {
        !matches!(self.tls.reader().fill_buf(), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Encrypts what `write` brings, unless something is under way already, which is the same then; and sends it.
    fn send(
        &mut self,
        socket: &impl Socket,
        write: impl FnOnce(&mut dyn Write) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if self.under_way == 0 {
            self.under_way = write(&mut self.tls.writer())?;
        }
        self.flush(socket)?;
        Ok(std::mem::take(&mut self.under_way))
    }
}

/// The socket below, as rustls reads and writes it.
struct Below<'s, S>(&'s S);

impl<S: Socket> Read for Below<'_, S> {
    fn read(&mut self, mut buf: &mut [u8]) -> io::Result<usize> {
        self.0.try_read_buf(&mut buf)
    }
}

impl<S: Socket> Write for Below<'_, S> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.try_write_vectored(&[IoSlice::new(buf)])
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<S: Socket> Socket for TlsSocket<S> {
    fn send_at_once(&self) -> io::Result<()> {
        self.socket.send_at_once()
    }

    async fn readable(&self) -> io::Result<()> {
        let is_here = self.state().is_readable();
        if is_here {
            return Ok(());
        }
        self.socket.readable().await
    }

    async fn writable(&self) -> io::Result<()> {
        self.socket.writable().await
    }

    fn try_read_buf<B: BufMut>(&self, buf: &mut B) -> io::Result<usize> {
        let mut state = self.state();
        loop {
            let mut reader = state.tls.reader();
            match reader.fill_buf() {
                Ok(here) => {
                    let read = here.len().min(buf.remaining_mut());
                    buf.put_slice(here.get(..read).unwrap_or_default());
                    reader.consume(read);
                    return Ok(read);
                }
                // Many clients close without saying so; frames have lengths, so that nothing can be cut off unseen.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            let received = state.receive(&self.socket);
            // An answer to what is TLS's own, or why this ends; if it cannot leave now, it leaves with the next response.
            let _ = state.flush(&self.socket);
            received?;
        }
    }

    fn try_write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.state()
            .send(&self.socket, |tls| tls.write_vectored(bufs))
    }

    fn try_send_file(&self, range: &FileRange) -> io::Result<usize> {
        self.state().send(&self.socket, |tls| {
            let mut piece = vec![0; range.len.min(PIECE_BYTES)];
            let read = rustix::io::pread(&*range.file, &mut piece, range.offset)?;
            match piece.get(..read) {
                Some(piece) if read > 0 => tls.write(piece),
                // Cut off below what was promised.
                _ => Ok(0),
            }
        })
    }
}

impl<S: Socket> Drop for TlsSocket<S> {
    fn drop(&mut self) {
        let mut state = self.state();
        state.tls.send_close_notify();
        // If the socket takes it.
        let _ = state.flush(&self.socket);
    }
}
