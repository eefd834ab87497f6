//! Frames out of a stream, however they arrive.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::frames::{self, FrameError};

/// A stream on which nothing has come for so long is given up. The time is for each part of a frame: a large one may take long
/// over a slow link.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// The least that is asked of the stream at once.
const READ_MIN: usize = 16 << 10;

/// The most that is reserved on a frame's word: what one mostly has at most, so that it is not moved while it arrives.
const READ_MAX: usize = 1 << 20;

/// The kind and the rest of the next frame. What was read of it stays in the buffer when this is dropped.
pub(super) async fn next(
    reading: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
) -> io::Result<(u8, Bytes)> {
    loop {
        if let Some(frame) = frames::split(buffer).map_err(bad)? {
            return Ok(frame);
        }
        // The rest of a large frame goes where it is to be.
        buffer.reserve(frames::missing(buffer).clamp(READ_MIN, READ_MAX.max(buffer.len())));
        if tokio::time::timeout(SILENCE_MAX, reading.read_buf(buffer)).await?? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// What the other side says makes no sense.
pub(super) fn bad(error: FrameError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
