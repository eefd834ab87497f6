//! From the bytes of a frame to a request, and from a response to the bytes of a frame.
//!
//! On the wire a frame is four bytes of length, a header, a body. The listener has read the length and checked it against
//! its limit before it buffered anything; what comes here is what follows.

use std::ops::RangeInclusive;

use crate::array::Element;
use crate::decode::{DecodeError, Reader};
use crate::encode::EncodeError;
use crate::message::{Message, MessageView, Request, Response};
use crate::messages::api_versions_response::ApiVersion;
use crate::messages::{
    ApiKey, ApiVersionsResponse, ErrorCode, RequestHeader, RequestHeaderView, RequestView,
    ResponseHeader, ResponseHeaderView,
};
use crate::sink::{Frame, Sink};

/// Why a frame is not a request that could be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The header does not decode: there is nothing to answer, the connection ends.
    #[error("request header: {0}")]
    Header(#[from] DecodeError),
    /// No API that clients call has this key: there is no answer that the client could read, the connection ends.
    #[error("request {correlation_id}: no API has key {key}")]
    UnknownKey {
        /// The key.
        key: i16,
        /// The version asked for.
        version: i16,
        /// The request's number on its connection.
        correlation_id: i32,
    },
    /// The API has no such version. For ApiVersions the answer is [`refuse_api_versions`], never the end of the connection.
    #[error("request {correlation_id}: {} has no version {version}", key.name())]
    UnsupportedVersion {
        /// The API.
        key: ApiKey,
        /// The version asked for.
        version: i16,
        /// The request's number on its connection.
        correlation_id: i32,
    },
}

/// A request whose header is decoded and whose body is not: enough to decide whether to decode it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RequestFrame<'a> {
    /// The API.
    pub key: ApiKey,
    /// The version, which the API has.
    pub version: i16,
    /// The request's number on its connection, which its response repeats.
    pub correlation_id: i32,
    /// What the client calls itself.
    pub client_id: Option<&'a str>,
    /// What follows the header.
    pub body: &'a [u8],
}

impl<'a> RequestFrame<'a> {
    /// Decodes the header. `frame` is what follows the four bytes of length.
    pub fn parse(frame: &'a [u8]) -> Result<Self, FrameError> {
        // These three come first in every header version, so that an answer is possible whatever follows.
        let mut start = Reader::new(frame);
        let key = start.i16("RequestHeader.RequestApiKey")?;
        let version = start.i16("RequestHeader.RequestApiVersion")?;
        let correlation_id = start.i32("RequestHeader.CorrelationId")?;
        let Some(key) = ApiKey::from_key(key) else {
            return Err(FrameError::UnknownKey {
                key,
                version,
                correlation_id,
            });
        };
        if !key.versions().contains(&version) {
            return Err(FrameError::UnsupportedVersion {
                key,
                version,
                correlation_id,
            });
        }
        let mut reader = Reader::new(frame);
        let header =
            RequestHeaderView::decode_prefix(&mut reader, key.request_header_version(version))?;
        let client_id = header.client_id;
        Ok(Self {
            key,
            version,
            correlation_id,
            client_id,
            body: reader.rest(),
        })
    }

    /// Decodes the body, whatever the API.
    pub fn decode(&self) -> Result<RequestView<'a>, DecodeError> {
        RequestView::decode(self.key, self.version, self.body)
    }

    /// Decodes the body of an API that one knows. The key must be the message's.
    pub fn decode_as<V: MessageView<'a>>(&self) -> Result<V, DecodeError>
    where
        <V as Element<'a>>::Owned: Request,
    {
        debug_assert_eq!(
            <V as Element<'a>>::Owned::KEY,
            self.key,
            "a body is decoded as its own API"
        );
        V::decode(self.body, self.version)
    }
}

/// A response whose header is decoded and whose body is not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ResponseFrame<'a> {
    /// The number of the request that it answers.
    pub correlation_id: i32,
    /// What follows the header.
    pub body: &'a [u8],
}

impl<'a> ResponseFrame<'a> {
    /// Decodes the header of the answer to a request of this API and version. `frame` is what follows the four bytes of length.
    pub fn parse(key: ApiKey, version: i16, frame: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(frame);
        let header =
            ResponseHeaderView::decode_prefix(&mut reader, key.response_header_version(version))?;
        Ok(Self {
            correlation_id: header.correlation_id,
            body: reader.rest(),
        })
    }
}

/// A response as it leaves: length, header, body.
pub fn encode_response<R: Response>(
    version: i16,
    correlation_id: i32,
    response: &R,
) -> Result<Frame, EncodeError> {
    let header = ResponseHeader { correlation_id };
    encode(
        &header,
        R::KEY.response_header_version(version),
        response,
        version,
    )
}

/// A request as it leaves: length, header, body.
pub fn encode_request<R: Request>(
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
    request: &R,
) -> Result<Frame, EncodeError> {
    let header = RequestHeader {
        request_api_key: R::KEY.key(),
        request_api_version: version,
        correlation_id,
        client_id: client_id.map(str::to_owned),
    };
    encode(
        &header,
        R::KEY.request_header_version(version),
        request,
        version,
    )
}

/// The answer to an ApiVersions request of a version that is not `served`: version 0, UNSUPPORTED_VERSION, and the range for
/// ApiVersions itself, so that the client asks again within it (KIP-511).
pub fn refuse_api_versions(
    correlation_id: i32,
    served: &RangeInclusive<i16>,
) -> Result<Frame, EncodeError> {
    let response = ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion.code(),
        api_keys: vec![ApiVersion {
            api_key: ApiKey::ApiVersions.key(),
            min_version: *served.start(),
            max_version: *served.end(),
        }],
        ..ApiVersionsResponse::default()
    };
    encode_response(0, correlation_id, &response)
}

fn encode<H: Message, B: Message>(
    header: &H,
    header_version: i16,
    body: &B,
    version: i16,
) -> Result<Frame, EncodeError> {
    let mut frame = Frame::new();
    frame.put_i32(0);
    header.encode(header_version, &mut frame)?;
    body.encode(version, &mut frame)?;
    let len = frame.len() - 4;
    let Ok(short) = i32::try_from(len) else {
        return Err(EncodeError::TooLong {
            field: B::NAME,
            len,
            max: i32::MAX as usize,
        });
    };
    frame.patch_i32(0, short);
    Ok(frame)
}

#[cfg(test)]
mod tests;
