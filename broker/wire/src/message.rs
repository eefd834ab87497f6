//! What every message has in common: its versions, and the doors to encode and decode it.

use std::fmt::Debug;
use std::ops::RangeInclusive;

use bytes::Bytes;

use crate::array::Element;
use crate::decode::{DecodeError, Reader};
use crate::encode::{Encode, EncodeError};
use crate::messages::ApiKey;
use crate::sink::{Frame, LengthSink, Sink};

/// The version that a part of a message is read or written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// The message's version.
    pub number: i16,
    /// Whether lengths are compact and structs end with tagged fields (KIP-482).
    pub flexible: bool,
}

/// A message that one builds and encodes.
pub trait Message: Encode + Default + Clone + Debug + PartialEq {
    /// Kafka's name for it.
    const NAME: &'static str;
    /// The versions that this crate can read and write.
    const VERSIONS: RangeInclusive<i16>;
    /// The least flexible version, `i16::MAX` when there is none.
    const FLEXIBLE_FROM: i16;

    /// The version as its parts need it.
    #[must_use]
    fn version(number: i16) -> Version {
        Version {
            number,
            flexible: number >= Self::FLEXIBLE_FROM,
        }
    }

    /// Writes the message.
    fn encode<S: Sink>(&self, version: i16, sink: &mut S) -> Result<(), EncodeError> {
        if !Self::VERSIONS.contains(&version) {
            let (min, max) = (*Self::VERSIONS.start(), *Self::VERSIONS.end());
            return Err(EncodeError::Version {
                message: Self::NAME,
                min,
                max,
                found: version,
            });
        }
        self.write(sink, Self::version(version), Self::NAME)
    }

    /// How many bytes [`encode`](Self::encode) would write.
    fn encoded_len(&self, version: i16) -> Result<usize, EncodeError> {
        let mut sink = LengthSink::default();
        self.encode(version, &mut sink)?;
        Ok(sink.0)
    }

    /// The message in one piece, for what is stored or sent within another.
    fn to_bytes(&self, version: i16) -> Result<Bytes, EncodeError> {
        let mut frame = Frame::new();
        self.encode(version, &mut frame)?;
        frame.try_into_bytes().map_err(|_| EncodeError::File {
            message: Self::NAME,
        })
    }
}

/// A message borrowed from the bytes it was decoded from.
pub trait MessageView<'a>: Element<'a, Owned: Message> {
    /// Decodes the message, which must fill `bytes` exactly. Allocates nothing.
    fn decode(bytes: &'a [u8], version: i16) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let message = Self::decode_prefix(&mut reader, version)?;
        if reader.left() > 0 {
            let (message, position) = (Self::Owned::NAME, reader.position());
            return Err(DecodeError::Trailing {
                message,
                position,
                left: reader.left(),
            });
        }
        Ok(message)
    }

    /// Decodes the message where the reader stands and leaves it right after, for what others follow.
    fn decode_prefix(reader: &mut Reader<'a>, version: i16) -> Result<Self, DecodeError> {
        let versions = Self::Owned::VERSIONS;
        if !versions.contains(&version) {
            let (min, max) = (*versions.start(), *versions.end());
            let message = Self::Owned::NAME;
            return Err(DecodeError::Version {
                message,
                min,
                max,
                found: version,
            });
        }
        Self::read(reader, Self::Owned::version(version), Self::Owned::NAME)
    }
}

/// A message that asks.
pub trait Request: Message {
    /// Which API it belongs to.
    const KEY: ApiKey;
    /// What answers it.
    type Response: Response;
}

/// A message that answers.
pub trait Response: Message {
    /// Which API it belongs to.
    const KEY: ApiKey;
}
