//! What is to leave on a socket.
//!
//! Responses queue up here as pieces and leave with as few calls as possible: one gathered write for all that is in memory,
//! `sendfile` for what lies in a file. Nothing is copied.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::Buf;
use weir_wire::{Chunk, Frame};

use super::Socket;

/// Pieces of one gathered write: more fill a socket's buffer anyway.
const SLICES_MAX: usize = 64;

/// A connection whose client does not take what it asked for gets no further responses made beyond this.
pub(crate) const QUEUED_BYTES_MAX: usize = 1 << 20;

/// The sending half of a connection.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    chunks: VecDeque<Chunk>,
    bytes: usize,
}

impl Outbox {
    /// Whether everything has left.
    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Whether further responses should wait.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes >= QUEUED_BYTES_MAX
    }

    /// Queues responses.
    pub(crate) fn extend(&mut self, frames: impl Iterator<Item = Frame>) {
        for chunk in frames.flat_map(Frame::into_chunks) {
            self.bytes += chunk.len();
            self.chunks.push_back(chunk);
        }
    }

    /// Sends what the socket takes now, at least something; waits until it takes anything. May be abandoned.
    pub(crate) async fn send(&mut self, socket: &impl Socket) -> io::Result<()> {
        loop {
            match self.try_send(socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    socket.writable().await?
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(()) => return Ok(()),
            }
        }
    }

    fn try_send(&mut self, socket: &impl Socket) -> io::Result<()> {
        let sent = match self.chunks.front() {
            None => return Ok(()),
            Some(Chunk::Bytes(_)) => {
                let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                let mut used = 0;
                for (slice, chunk) in slices.iter_mut().zip(&self.chunks) {
                    let Chunk::Bytes(bytes) = chunk else { break };
                    *slice = IoSlice::new(bytes);
                    used += 1;
                }
                socket.try_write_vectored(&slices[..used])?
            }
            Some(Chunk::File(range)) => socket.try_send_file(range)?,
        };
        if sent == 0 {
            // A file that was cut below a range that was promised: the response can no longer be completed.
            return Err(io::Error::from(io::ErrorKind::WriteZero));
        }
        self.advance(sent);
        Ok(())
    }

    fn advance(&mut self, mut sent: usize) {
        self.bytes -= sent;
        while sent > 0 {
            let Some(chunk) = self.chunks.front_mut() else {
                return;
            };
            let step = sent.min(chunk.len());
            match chunk {
                Chunk::Bytes(bytes) => bytes.advance(step),
                Chunk::File(range) => {
                    range.offset += step as u64;
                    range.len -= step;
                }
            }
            sent -= step;
            if chunk.is_empty() {
                self.chunks.pop_front();
            }
        }
    }
}
