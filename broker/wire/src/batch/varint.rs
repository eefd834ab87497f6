//! Variable-length integers of records: zigzag, seven bits a byte, least significant first, at most ten bytes.

/// Appends a zigzag varint.
pub(super) fn put(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// How many bytes [`put`] would append.
pub(super) fn len(value: i64) -> usize {
    let zigzag = ((value << 1) ^ (value >> 63)) as u64;
    // Seven bits to a byte, and zero still takes one.
    ((64 - (zigzag | 1).leading_zeros()) as usize).div_ceil(7)
}

/// The varint at the start of `bytes` and how many bytes it takes. `None` when it does not end within ten bytes or within
/// `bytes`, or has more than 64 bits.
pub(super) fn get(bytes: &[u8]) -> Option<(i64, usize)> {
    let mut zigzag = 0u64;
    for (index, &byte) in bytes.iter().take(10).enumerate() {
        if index == 9 && byte > 1 {
            return None;
        }
        zigzag |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some(((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64), index + 1));
        }
    }
    None
}

/// How many bytes [`put_nullable`] would append.
pub(super) fn nullable_len(bytes: Option<&[u8]>) -> usize {
    match bytes {
        None => len(-1),
        Some(bytes) => len(bytes.len() as i64) + bytes.len(),
    }
}

/// Appends bytes behind their length, or -1 for none.
pub(super) fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => put(out, -1),
        Some(bytes) => {
            put(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
    }
}
