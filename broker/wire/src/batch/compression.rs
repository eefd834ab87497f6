//! Inflates and deflates what follows a batch's header.
//!
//! What inflating may give is bounded by the caller, and memory grows with what really comes out, never with what the bytes
//! claim: a batch of a kilobyte cannot ask for a gigabyte. Called where records have to be seen: compacted topics, topics
//! with a codec of their own, look-ups by time. Never on the way of a plain topic.

mod snappy;
#[cfg(test)]
mod tests;
mod zstandard;

use std::io::{Read, Write};

use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

use super::header::Compression;

/// What one batch's records may inflate to, in bytes: as much as the largest request could carry uncompressed.
pub const INFLATED_BYTES_MAX: usize = 100 << 20;

/// Why bytes could not be inflated or deflated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompressionError {
    /// They are not what the codec writes.
    #[error("{codec:?}: {found}")]
    Garbage {
        /// The codec.
        codec: Compression,
        /// What it said.
        found: String,
    },
    /// They would become larger than is allowed.
    #[error("{codec:?}: inflates to more than {bytes_max} bytes")]
    TooLarge {
        /// The codec.
        codec: Compression,
        /// What is allowed.
        bytes_max: usize,
    },
}

impl CompressionError {
    fn garbage(codec: Compression) -> impl Fn(&dyn std::fmt::Display) -> Self {
        move |found| Self::Garbage {
            codec,
            found: found.to_string(),
        }
    }
}

/// Inflates records; fails rather than give more than `bytes_max`.
pub fn inflate(
    codec: Compression,
    bytes: &[u8],
    bytes_max: usize,
) -> Result<Vec<u8>, CompressionError> {
    match codec {
        Compression::None if bytes.len() > bytes_max => {
            Err(CompressionError::TooLarge { codec, bytes_max })
        }
        Compression::None => Ok(bytes.to_vec()),
        Compression::Gzip => read_all(codec, MultiGzDecoder::new(bytes), bytes_max),
        Compression::Lz4 => read_all(codec, FrameDecoder::new(bytes), bytes_max),
        Compression::Snappy => snappy::inflate(bytes, bytes_max),
        Compression::Zstd => zstandard::inflate(bytes, bytes_max),
    }
}

/// Deflates records. `level` is the codec's own where it has levels; without one, and for the levels that gzip calls -1, the
/// codec's default. Snappy has none, and lz4 is written at one speed.
pub fn deflate(
    codec: Compression,
    level: Option<i32>,
    bytes: &[u8],
) -> Result<Vec<u8>, CompressionError> {
    let failed = CompressionError::garbage(codec);
    match codec {
        Compression::None => Ok(bytes.to_vec()),
        Compression::Gzip => {
            let level = level
                .and_then(|level| u32::try_from(level).ok())
                .map_or_else(flate2::Compression::default, |level| {
                    flate2::Compression::new(level.min(9))
                });
            let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 2), level);
            encoder.write_all(bytes).map_err(|error| failed(&error))?;
            encoder.finish().map_err(|error| failed(&error))
        }
        Compression::Lz4 => {
            // As Kafka's own clients write it, and the only form that all of them read.
            let info = FrameInfo::new()
                .block_size(BlockSize::Max64KB)
                .block_mode(BlockMode::Independent);
            let mut encoder =
                FrameEncoder::with_frame_info(info, Vec::with_capacity(bytes.len() / 2));
            encoder.write_all(bytes).map_err(|error| failed(&error))?;
            encoder.finish().map_err(|error| failed(&error))
        }
        Compression::Snappy => snappy::deflate(bytes),
        Compression::Zstd => zstandard::deflate(level, bytes),
    }
}

fn read_all(
    codec: Compression,
    reader: impl Read,
    bytes_max: usize,
) -> Result<Vec<u8>, CompressionError> {
    let mut inflated = Vec::new();
    reader
        .take(bytes_max as u64 + 1)
        .read_to_end(&mut inflated)
        .map_err(|error| CompressionError::garbage(codec)(&error))?;
    if inflated.len() > bytes_max {
        return Err(CompressionError::TooLarge { codec, bytes_max });
    }
    Ok(inflated)
}
