//! Snappy as Kafka has it: Java's clients frame it (snappy-java's own framing: a magic, two versions, then blocks behind their
//! lengths), others write one bare block. Both are read; the framing is written, which every client reads.

use snap::raw::{Decoder, Encoder, decompress_len};

use super::CompressionError;
use crate::batch::header::Compression;

const MAGIC: &[u8; 8] = b"\x82SNAPPY\0";
/// Magic, version 1, oldest version that can read it 1.
const FRAMING_LEN: usize = 16;
/// What Java's clients put into one block.
const BLOCK_BYTES: usize = 32 << 10;
/// One byte of snappy cannot say more than this: three bytes copy 64.
const RATIO_MAX: usize = 32;

const CODEC: Compression = Compression::Snappy;

pub(super) fn inflate(bytes: &[u8], bytes_max: usize) -> Result<Vec<u8>, CompressionError> {
    let mut inflated = Vec::new();
    let mut decoder = Decoder::new();
    if !bytes.starts_with(MAGIC) {
        block(&mut decoder, bytes, bytes_max, &mut inflated)?;
        return Ok(inflated);
    }
    let ends_early = || CompressionError::garbage(CODEC)(&"the framing ends early");
    let mut rest = bytes.get(FRAMING_LEN..).ok_or_else(ends_early)?;
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let length = usize::try_from(i32::from_be_bytes(*length)).map_err(|_| ends_early())?;
        let (one, behind) = behind.split_at_checked(length).ok_or_else(ends_early)?;
        block(&mut decoder, one, bytes_max, &mut inflated)?;
        rest = behind;
    }
    if rest.is_empty() {
        Ok(inflated)
    } else {
        Err(ends_early())
    }
}

fn block(
    decoder: &mut Decoder,
    block: &[u8],
    bytes_max: usize,
    inflated: &mut Vec<u8>,
) -> Result<(), CompressionError> {
    let failed = CompressionError::garbage(CODEC);
    let claimed = decompress_len(block).map_err(|error| failed(&error))?;
    // The length is only a claim: what the block cannot hold is not allocated.
    if claimed / RATIO_MAX > block.len() {
        return Err(failed(&format_args!(
            "a block of {} bytes claims {claimed}",
            block.len()
        )));
    }
    let from = inflated.len();
    let until = from.saturating_add(claimed);
    if until > bytes_max {
        return Err(CompressionError::TooLarge {
            codec: CODEC,
            bytes_max,
        });
    }
    inflated.resize(until, 0);
    let written = decoder
        .decompress(block, &mut inflated[from..])
        .map_err(|error| failed(&error))?;
    inflated.truncate(from + written);
    Ok(())
}

pub(super) fn deflate(bytes: &[u8]) -> Result<Vec<u8>, CompressionError> {
    let failed = CompressionError::garbage(CODEC);
    let mut out = Vec::with_capacity(FRAMING_LEN + bytes.len() / 2);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&1_i32.to_be_bytes());
    out.extend_from_slice(&1_i32.to_be_bytes());
    let mut encoder = Encoder::new();
    for chunk in bytes.chunks(BLOCK_BYTES) {
        let block = encoder
            .compress_vec(chunk)
            .map_err(|error| failed(&error))?;
        // At most a sixth more than 32 KiB.
        out.extend_from_slice(&(block.len() as i32).to_be_bytes());
        out.extend_from_slice(&block);
    }
    Ok(out)
}
