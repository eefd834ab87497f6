//! Several buffers in few writes.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// Buffers in one system call; Linux takes 1,024, and more than some dozens gain nothing.
const SLICES_MAX: usize = 64;

/// Writes all of them, in order, and sees to it that they leave.
pub(super) async fn write_all(
    stream: &mut (impl AsyncWrite + Unpin),
    mut bytes: VecDeque<Bytes>,
) -> io::Result<()> {
    while !bytes.is_empty() {
        let slices: Vec<IoSlice<'_>> = bytes
            .iter()
            .take(SLICES_MAX)
            .map(|bytes| IoSlice::new(bytes))
            .collect();
        let mut written = stream.write_vectored(&slices).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while let Some(first) = bytes.front_mut() {
            let part = first.len().min(written);
            first.advance(part);
            written -= part;
            if !first.is_empty() {
                break;
            }
            bytes.pop_front();
        }
    }
    stream.flush().await
}
