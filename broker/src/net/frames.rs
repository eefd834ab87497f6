//! From a socket's bytes to frames.
//!
//! A frame is a length of four bytes and that many bytes after it. Frames up to [`SMALL_BYTES`] are cut out of the connection's
//! small read buffer by one copy, so that they pin nothing larger than themselves, however long a log or a coordinator keeps
//! them. A larger frame gets a buffer of its own, which grows as its bytes come, so that a length alone costs nothing; what is
//! read goes straight into it. An idle connection holds no buffer.

use std::io;

use bytes::{Bytes, BytesMut};
use weir_wire::ApiKey;

use super::Socket;
use super::memory::{RequestMemory, Share};

/// The connection's read buffer, and thereby the largest frame that is copied out of it: a copy of this size costs about a
/// microsecond, less than a second read from the socket would.
const SMALL_BYTES: usize = 16 << 10;

/// A larger frame's buffer begins with this and doubles when the bytes are there.
const LARGE_BEGIN_BYTES: usize = 128 << 10;

/// One frame, without the length before it.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// The bytes.
    pub(crate) frame: Bytes,
    /// Its share of the memory for requests.
    pub(crate) share: Share,
}

/// Why no further frame comes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    /// The socket failed.
    #[error(transparent)]
    Socket(#[from] io::Error),
    /// A length that is not allowed.
    #[error("a frame of {length} bytes; allowed: 8 to {max}")]
    Length {
        /// What the client announced.
        length: i32,
        /// The most that is allowed.
        max: u32,
    },
    /// The client closed in the middle of a frame.
    #[error("closed in the middle of a frame, with {missing} bytes to come")]
    Truncated {
        /// How many bytes were to come.
        missing: usize,
    },
}

/// Key, version and correlation id: no request is shorter.
const FRAME_BYTES_MIN: i32 = 8;

/// What carries records or the like, which are passed on as they are and never taken apart into something larger.
const BULK: [ApiKey; 2] = [ApiKey::Produce, ApiKey::PushTelemetry];

/// The largest frame of any other API: its lists are taken apart, and an element of few bytes becomes a value of a hundred.
/// The widest requests of real clients, commits of 100,000 partitions, have a quarter of this.
const OWNED_FRAME_BYTES_MAX: i32 = 16 << 20;

/// What such a frame may come to while it is answered, as a multiple of its length; that much of the memory for requests is
/// taken for it. Most come to less, see `broker/tests/broker/bounds.rs`.
const OWNED_TIMES: usize = 16;

/// What is being received.
#[derive(Debug)]
enum Receiving {
    /// The length, or a small frame behind it.
    Small,
    /// A frame whose length is known and whose share, of so many bytes, is not taken yet.
    Announced { length: usize, held: usize },
    /// A small frame that has its share.
    Shared { length: usize, share: Share },
    /// A frame with a buffer of its own.
    Large {
        buffer: BytesMut,
        length: usize,
        share: Share,
    },
}

/// The receiving half of a connection. Every `await` in it may be abandoned: what was read stays here.
#[derive(Debug)]
pub(crate) struct FrameReader {
    small: BytesMut,
    receiving: Receiving,
    frame_bytes_max: u32,
    memory: RequestMemory,
}

impl FrameReader {
    pub(crate) fn new(frame_bytes_max: u32, memory: RequestMemory) -> Self {
        Self {
            small: BytesMut::new(),
            receiving: Receiving::Small,
            frame_bytes_max,
            memory,
        }
    }

    /// The next frame; `None` when the client has closed between two of them.
    pub(crate) async fn next(
        &mut self,
        socket: &impl Socket,
    ) -> Result<Option<Incoming>, FrameError> {
        loop {
            if let Some(incoming) = self.next_buffered()? {
                return Ok(Some(incoming));
            }
            if let Receiving::Announced { length, held } = self.receiving {
                let share = self.memory.share(held).await;
                self.begin(length, share);
                continue;
            }
            if self.fill(socket).await? == 0 {
                return match self.missing() {
                    0 => Ok(None),
                    missing => Err(FrameError::Truncated { missing }),
                };
            }
        }
    }

    /// Whether the beginning of a further frame is here already.
    pub(crate) fn has_buffered(&self) -> bool {
        !self.small.is_empty() || !matches!(self.receiving, Receiving::Small)
    }

    /// The next frame, when all of it is here and its share of the memory is free. An error comes again with
    /// [`next`](Self::next).
    pub(crate) fn next_buffered(&mut self) -> Result<Option<Incoming>, FrameError> {
        loop {
            match &mut self.receiving {
                Receiving::Small => {
                    let Some(prefix) = self.small.first_chunk::<4>() else {
                        return Ok(None);
                    };
                    let length = i32::from_be_bytes(*prefix);
                    let allowed =
                        length >= FRAME_BYTES_MIN && length.unsigned_abs() <= self.frame_bytes_max;
                    if !allowed {
                        return Err(FrameError::Length {
                            length,
                            max: self.frame_bytes_max,
                        });
                    }
                    // The API's key is the first that a frame has.
                    let Some([.., first, second]) = self.small.first_chunk::<6>() else {
                        return Ok(None);
                    };
                    let key = i16::from_be_bytes([*first, *second]);
                    let is_bulk = BULK.iter().any(|bulk| bulk.key() == key);
                    if !is_bulk && length > OWNED_FRAME_BYTES_MAX {
                        let max = OWNED_FRAME_BYTES_MAX.unsigned_abs();
                        return Err(FrameError::Length { length, max });
                    }
                    let _ = self.small.split_to(4);
                    let length = length.unsigned_abs() as usize;
                    let held = if is_bulk {
                        length
                    } else {
                        length * OWNED_TIMES
                    };
                    self.receiving = Receiving::Announced { length, held };
                }
                Receiving::Announced { length, held } => {
                    let length = *length;
                    let Some(share) = self.memory.try_share(*held) else {
                        return Ok(None);
                    };
                    self.begin(length, share);
                }
                Receiving::Shared { length, .. } if self.small.len() < *length => return Ok(None),
                Receiving::Large { buffer, length, .. } if buffer.len() < *length => {
                    return Ok(None);
                }
                Receiving::Shared { .. } | Receiving::Large { .. } => {
                    let (frame, share) =
                        match std::mem::replace(&mut self.receiving, Receiving::Small) {
                            Receiving::Shared { length, share } => {
                                (Bytes::copy_from_slice(&self.small.split_to(length)), share)
                            }
                            Receiving::Large { buffer, share, .. } => (buffer.freeze(), share),
                            Receiving::Small | Receiving::Announced { .. } => {
                                unreachable!("matched above")
                            }
                        };
                    if self.small.is_empty() {
                        // An idle connection holds no buffer; a busy one gets it back by `reserve`.
                        self.small = BytesMut::new();
                    }
                    return Ok(Some(Incoming { frame, share }));
                }
            }
        }
    }

    fn begin(&mut self, length: usize, share: Share) {
        self.receiving = if length <= SMALL_BYTES {
            Receiving::Shared { length, share }
        } else {
            let mut buffer = BytesMut::with_capacity(length.min(LARGE_BEGIN_BYTES));
            let here = self.small.len().min(length);
            buffer.extend_from_slice(&self.small.split_to(here));
            Receiving::Large {
                buffer,
                length,
                share,
            }
        };
    }

    /// Reads what the socket has into wherever it belongs.
    async fn fill(&mut self, socket: &impl Socket) -> io::Result<usize> {
        loop {
            socket.readable().await?;
            let read = match &mut self.receiving {
                Receiving::Large { buffer, length, .. } => {
                    let missing = *length - buffer.len();
                    if buffer.capacity() == buffer.len() {
                        buffer.reserve(missing.min(buffer.len()));
                    }
                    // Never beyond the frame: what follows it belongs into the small buffer.
                    let mut limited = bytes::BufMut::limit(buffer, missing);
                    socket.try_read_buf(&mut limited)
                }
                _ => {
                    // Behind a frame that is nearly whole there must be room for all of it.
                    let room = SMALL_BYTES + 4 - self.small.len();
                    self.small.reserve(room);
                    let mut limited = bytes::BufMut::limit(&mut self.small, room);
                    socket.try_read_buf(&mut limited)
                }
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    fn missing(&self) -> usize {
        match &self.receiving {
            Receiving::Small if self.small.is_empty() => 0,
            Receiving::Small => 4 - self.small.len().min(3),
            Receiving::Announced { length, .. } | Receiving::Shared { length, .. } => {
                length - self.small.len()
            }
            Receiving::Large { buffer, length, .. } => length - buffer.len(),
        }
    }
}
