//! One frame of the quorum's log file.
//!
//! ```text
//! payload length u32 | crc32c of the rest u32 | index u64 | synced u64 | kind u8 | payload
//! ```
//!
//! All numbers are little-endian. `synced` is how much of the file was certainly on disk when the frame was written. It
//! is what tells a torn tail from damage: a frame that does not read, although a later one says that it had been synced,
//! has been damaged, and what it held may have been acknowledged.

use super::files::crc32c;

/// The bytes before the payload.
pub(crate) const HEADER_LEN: usize = 25;
/// A payload is one entry: at most what one command's records come to, far below this. A longer length is no frame.
pub(crate) const PAYLOAD_MAX: usize = 256 << 20;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The first frame of a file: what was before the file's first entry. Its index is that of the first entry, and its
    /// `synced` the length that the file was written with as a whole.
    Head,
    /// An entry of the log.
    Entry,
}

/// A frame that was read and whose checksum fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) index: u64,
    pub(crate) synced: u64,
    pub(crate) kind: Kind,
    pub(crate) payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The whole frame's length in bytes.
    pub(crate) fn len(&self) -> usize {
        HEADER_LEN + self.payload.len()
    }

    /// Appends the frame to `out`.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        // Payloads are far below 4 GiB.
        out.extend_from_slice(&(self.payload.len() as u32).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.index.to_le_bytes());
        out.extend_from_slice(&self.synced.to_le_bytes());
        out.push(match self.kind {
            Kind::Head => 0,
            Kind::Entry => 1,
        });
        out.extend_from_slice(self.payload);
        let crc = crc32c(&out[start + 8..]);
        out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    }

    /// The frame that `bytes` begin with, if there is a whole and undamaged one.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let (header, rest) = bytes.split_first_chunk::<HEADER_LEN>()?;
        let len = u32::from_le_bytes(*header.first_chunk()?) as usize;
        if len > PAYLOAD_MAX {
            return None;
        }
        let payload = rest.get(..len)?;
        let kind = match header[24] {
            0 => Kind::Head,
            1 => Kind::Entry,
            _ => return None,
        };
        let number = |at: usize| {
            header[at..]
                .first_chunk::<8>()
                .map(|bytes| u64::from_le_bytes(*bytes))
        };
        let crc = u32::from_le_bytes(*header[4..].first_chunk()?);
        if crc32c(&bytes[8..HEADER_LEN + len]) != crc {
            return None;
        }
        Some(Self {
            index: number(8)?,
            synced: number(16)?,
            kind,
            payload,
        })
    }
}
