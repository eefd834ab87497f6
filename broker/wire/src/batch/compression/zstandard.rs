//! Zstandard: whole frames into a buffer that grows, so that a frame's header, which may claim a window of gigabytes, decides
//! about no memory.

use zstd::zstd_safe;

use super::CompressionError;
use crate::batch::header::Compression;

const CODEC: Compression = Compression::Zstd;
/// `ZSTD_error_dstSize_tooSmall`, negated as the library returns it.
const TOO_SMALL: usize = 70_usize.wrapping_neg();
/// The first guess at what comes out, in times of what goes in.
const RATIO_GUESS: usize = 4;
/// Below this, a first guess costs nothing.
const BUFFER_BYTES_MIN: usize = 4 << 10;

pub(super) fn inflate(bytes: &[u8], bytes_max: usize) -> Result<Vec<u8>, CompressionError> {
    let mut capacity = bytes
        .len()
        .saturating_mul(RATIO_GUESS)
        .max(BUFFER_BYTES_MIN)
        .min(bytes_max);
    loop {
        // One try costs at most what all before it did.
        let mut inflated = Vec::with_capacity(capacity);
        match zstd_safe::decompress(&mut inflated, bytes) {
            Ok(_) if inflated.len() > bytes_max => {}
            Ok(_) => return Ok(inflated),
            Err(TOO_SMALL) if capacity < bytes_max => {
                capacity = capacity.saturating_mul(4).min(bytes_max);
                continue;
            }
            Err(TOO_SMALL) => {}
            Err(code) => {
                return Err(CompressionError::garbage(CODEC)(
                    &zstd_safe::get_error_name(code),
                ));
            }
        }
        return Err(CompressionError::TooLarge {
            codec: CODEC,
            bytes_max,
        });
    }
}

pub(super) fn deflate(level: Option<i32>, bytes: &[u8]) -> Result<Vec<u8>, CompressionError> {
    let level = level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL);
    zstd::bulk::compress(bytes, level).map_err(|error| CompressionError::garbage(CODEC)(&error))
}
