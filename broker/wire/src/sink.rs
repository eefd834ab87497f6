//! Where messages are encoded to, and the frame that leaves on a socket.
//!
//! A response to Fetch is mostly record bytes that exist already, in memory or in a segment file. So a [`Sink`] takes
//! [`Records`] by reference, and a [`Frame`] is what a connection sends: one buffer with all the small fields, and between
//! its pieces the record parts as they are. The order of [`Frame::into_chunks`] is the order on the wire.

use std::fs::File;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use uuid::Uuid;

/// Parts of records shorter than this are copied into the frame's own buffer: one more piece of a gathered write costs
/// more than copying half a kilobyte, and a short part no longer pins the large buffer it was cut from.
const COPY_BELOW: usize = 512;

/// A piece of a file to be sent as it is. Holding it keeps the file open, even when its name is gone.
#[derive(Clone, Debug)]
pub struct FileRange {
    /// The open segment file.
    pub file: Arc<File>,
    /// Where the piece starts, in bytes from the start of the file.
    pub offset: u64,
    /// How many bytes.
    pub len: usize,
}

impl PartialEq for FileRange {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.file, &other.file) && self.offset == other.offset && self.len == other.len
    }
}

/// One part of a records field.
#[derive(Clone, Debug, PartialEq)]
pub enum RecordsPart {
    /// Bytes in memory, by reference count.
    Bytes(Bytes),
    /// Bytes still in a file.
    File(FileRange),
}

impl RecordsPart {
    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::File(range) => range.len,
        }
    }

    /// Whether there is not a byte in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The value of a records field: whole record batches one after another, in as many parts as they happen to be stored in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Records {
    parts: Vec<RecordsPart>,
}

impl Records {
    /// No records: length 0 on the wire, never null (librdkafka cannot parse null records).
    #[must_use]
    pub const fn empty() -> Self {
        Self { parts: Vec::new() }
    }

    /// Adds a part; an empty one is left out.
    pub fn push(&mut self, part: RecordsPart) {
        if !part.is_empty() {
            self.parts.push(part);
        }
    }

    /// The parts in their order.
    #[must_use]
    pub fn parts(&self) -> &[RecordsPart] {
        &self.parts
    }

    /// Length of all parts together, in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parts.iter().map(RecordsPart::len).sum()
    }

    /// Whether there is not a byte in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<Bytes> for Records {
    fn from(bytes: Bytes) -> Self {
        let mut records = Self::empty();
        records.push(RecordsPart::Bytes(bytes));
        records
    }
}

impl From<FileRange> for Records {
    fn from(range: FileRange) -> Self {
        let mut records = Self::empty();
        records.push(RecordsPart::File(range));
        records
    }
}

impl FromIterator<RecordsPart> for Records {
    fn from_iter<I: IntoIterator<Item = RecordsPart>>(parts: I) -> Self {
        let mut records = Self::empty();
        for part in parts {
            records.push(part);
        }
        records
    }
}

/// What a message is encoded to. Numbers are big-endian, as everywhere in Kafka's protocol.
pub trait Sink {
    /// Takes bytes as they are.
    fn put_slice(&mut self, bytes: &[u8]);

    /// Takes records, by reference where the sink can.
    fn put_records(&mut self, records: &Records);

    /// Takes shared bytes, by reference where the sink can.
    fn put_bytes(&mut self, bytes: &Bytes) {
        self.put_slice(bytes);
    }

    /// One unsigned byte.
    fn put_u8(&mut self, value: u8) {
        self.put_slice(&[value]);
    }

    /// One signed byte.
    fn put_i8(&mut self, value: i8) {
        self.put_slice(&value.to_be_bytes());
    }

    /// Two bytes, signed.
    fn put_i16(&mut self, value: i16) {
        self.put_slice(&value.to_be_bytes());
    }

    /// Two bytes, unsigned.
    fn put_u16(&mut self, value: u16) {
        self.put_slice(&value.to_be_bytes());
    }

    /// Four bytes, signed.
    fn put_i32(&mut self, value: i32) {
        self.put_slice(&value.to_be_bytes());
    }

    /// Eight bytes, signed.
    fn put_i64(&mut self, value: i64) {
        self.put_slice(&value.to_be_bytes());
    }

    /// Eight bytes, IEEE 754.
    fn put_f64(&mut self, value: f64) {
        self.put_slice(&value.to_be_bytes());
    }

    /// One byte: 0 or 1.
    fn put_bool(&mut self, value: bool) {
        self.put_u8(u8::from(value));
    }

    /// Sixteen bytes.
    fn put_uuid(&mut self, value: Uuid) {
        self.put_slice(value.as_bytes());
    }

    /// An unsigned varint: seven bits a byte, least significant first.
    fn put_unsigned_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.put_u8((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.put_u8(value as u8);
    }
}

/// One piece of a frame, in the order of the wire.
#[derive(Clone, Debug, PartialEq)]
pub enum Chunk {
    /// Bytes in memory.
    Bytes(Bytes),
    /// Bytes still in a file, for `sendfile` or a read just before sending.
    File(FileRange),
}

impl Chunk {
    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::File(range) => range.len,
        }
    }

    /// Whether there is not a byte in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A part that lies between two pieces of the frame's own buffer.
#[derive(Debug)]
struct Inset {
    /// How much of the frame's own buffer goes before it.
    at: usize,
    part: RecordsPart,
}

/// A whole message on its way to a socket: small fields in one buffer, records by reference.
#[derive(Debug, Default)]
pub struct Frame {
    small: BytesMut,
    insets: Vec<Inset>,
    inset_len: usize,
}

impl Frame {
    /// A frame with nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A frame that takes `small` bytes, records not counted, before its buffer grows.
    #[must_use]
    pub fn with_capacity(small: usize) -> Self {
        Self {
            small: BytesMut::with_capacity(small),
            ..Self::default()
        }
    }

    /// Length of everything, in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.small.len() + self.inset_len
    }

    /// Whether there is not a byte in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Overwrites four bytes of the frame's own buffer that were put before: for the length prefix, which is known last.
    pub(crate) fn patch_i32(&mut self, at: usize, value: i32) {
        self.small[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }

    /// The pieces in the order of the wire; none is empty.
    #[must_use]
    pub fn into_chunks(self) -> Vec<Chunk> {
        let mut small = self.small.freeze();
        let mut taken = 0;
        let mut chunks = Vec::with_capacity(self.insets.len() * 2 + 1);
        for Inset { at, part } in self.insets {
            if at > taken {
                chunks.push(Chunk::Bytes(small.split_to(at - taken)));
                taken = at;
            }
            chunks.push(match part {
                RecordsPart::Bytes(bytes) => Chunk::Bytes(bytes),
                RecordsPart::File(range) => Chunk::File(range),
            });
        }
        if !small.is_empty() {
            chunks.push(Chunk::Bytes(small));
        }
        chunks
    }

    /// Everything in one piece; the frame itself when parts of it are in files.
    pub fn try_into_bytes(self) -> Result<Bytes, Self> {
        if self
            .insets
            .iter()
            .any(|inset| matches!(inset.part, RecordsPart::File(_)))
        {
            return Err(self);
        }
        let len = self.len();
        let chunks = self.into_chunks();
        if let [Chunk::Bytes(bytes)] = chunks.as_slice() {
            return Ok(bytes.clone());
        }
        let mut whole = BytesMut::with_capacity(len);
        for chunk in chunks {
            if let Chunk::Bytes(bytes) = chunk {
                whole.put_slice(&bytes);
            }
        }
        Ok(whole.freeze())
    }

    fn inset(&mut self, part: RecordsPart) {
        self.inset_len += part.len();
        self.insets.push(Inset {
            at: self.small.len(),
            part,
        });
    }
}

impl Sink for Frame {
    fn put_slice(&mut self, bytes: &[u8]) {
        self.small.put_slice(bytes);
    }

    fn put_bytes(&mut self, bytes: &Bytes) {
        if bytes.len() < COPY_BELOW {
            self.small.put_slice(bytes);
        } else {
            self.inset(RecordsPart::Bytes(bytes.clone()));
        }
    }

    fn put_records(&mut self, records: &Records) {
        for part in records.parts() {
            match part {
                RecordsPart::Bytes(bytes) => self.put_bytes(bytes),
                RecordsPart::File(_) => self.inset(part.clone()),
            }
        }
    }
}

/// Counts what would be written.
#[derive(Debug, Default)]
pub(crate) struct LengthSink(pub(crate) usize);

impl Sink for LengthSink {
    fn put_slice(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }

    fn put_records(&mut self, records: &Records) {
        self.0 += records.len();
    }
}
