//! Frames as clients send them, and the answers that must have no surprises.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so")]

use bytes::Bytes;

use super::*;
use crate::messages::{
    ApiVersionsRequest, ApiVersionsResponseView, FetchResponse, HeartbeatResponse,
    HeartbeatResponseView, MetadataRequest, MetadataRequestView, fetch_response,
};
use crate::sink::{Chunk, Records};

/// The frame without its length, which must be right.
fn sent(frame: Frame) -> Bytes {
    let mut bytes = frame.try_into_bytes().unwrap();
    let length = bytes.split_to(4);
    assert_eq!(
        length.as_ref(),
        u32::try_from(bytes.len()).unwrap().to_be_bytes()
    );
    bytes
}

#[test]
fn a_request_comes_back_as_it_was_sent() {
    let request = MetadataRequest {
        topics: Some(Vec::new()),
        ..MetadataRequest::default()
    };
    for version in ApiKey::Metadata.versions() {
        let request = if version == 0 {
            MetadataRequest {
                topics: Some(Vec::new()),
                ..request.clone()
            }
        } else {
            request.clone()
        };
        let bytes = sent(encode_request(version, 7, Some("kcat"), &request).unwrap());
        let frame = RequestFrame::parse(&bytes).unwrap();
        assert_eq!((frame.key, frame.version), (ApiKey::Metadata, version));
        assert_eq!((frame.correlation_id, frame.client_id), (7, Some("kcat")));
        assert_eq!(
            frame
                .decode_as::<MetadataRequestView<'_>>()
                .unwrap()
                .to_owned(),
            request
        );
        assert!(matches!(frame.decode(), Ok(RequestView::Metadata(_))));
    }
}

#[test]
fn the_client_id_is_not_compact_in_a_flexible_header() {
    // Key 18, version 3, correlation id 5, client id "ab" with two bytes of length, no tagged fields.
    let header = [0, 18, 0, 3, 0, 0, 0, 5, 0, 2, b'a', b'b', 0];
    // Compact strings "c" and "1", no tagged fields.
    let body = [2, b'c', 2, b'1', 0];
    let bytes = [header.as_slice(), &body].concat();
    let frame = RequestFrame::parse(&bytes).unwrap();
    assert_eq!(frame.client_id, Some("ab"));
    let RequestView::ApiVersions(request) = frame.decode().unwrap() else {
        panic!("ApiVersions wanted")
    };
    assert_eq!(
        (
            request.client_software_name,
            request.client_software_version
        ),
        ("c", "1")
    );
}

#[test]
fn unknown_tagged_fields_are_skipped_wherever_they_are() {
    let request = ApiVersionsRequest {
        client_software_name: String::from("c"),
        client_software_version: String::from("1"),
        ..ApiVersionsRequest::default()
    };
    let plain = sent(encode_request(3, 5, None, &request).unwrap());
    // One tagged field, number 9000, two bytes: in the header (after the null client id) and at the end of the body.
    let tagged = [1, 0xa8, 0x46, 2, 0xde, 0xad];
    let (header, body) = plain.split_at(11);
    let bytes = [&header[..10], &tagged, &body[..body.len() - 1], &tagged].concat();
    let frame = RequestFrame::parse(&bytes).unwrap();
    let RequestView::ApiVersions(view) = frame.decode().unwrap() else {
        panic!("ApiVersions wanted")
    };
    assert_eq!(view.to_owned(), request);
    // A size beyond the frame is refused.
    let mut beyond = bytes.clone();
    let size_at = bytes.len() - 3;
    beyond[size_at] = 3;
    let frame = RequestFrame::parse(&beyond).unwrap();
    assert!(matches!(
        frame.decode(),
        Err(DecodeError::Truncated {
            wanted: 3,
            left: 2,
            ..
        })
    ));
}

#[test]
fn an_api_versions_request_from_the_future_is_told_what_there_is() {
    let mut bytes =
        sent(encode_request(3, 77, Some("new"), &ApiVersionsRequest::default()).unwrap()).to_vec();
    bytes[3] = 99;
    bytes.truncate(9);
    let Err(FrameError::UnsupportedVersion {
        key: ApiKey::ApiVersions,
        version: 99,
        correlation_id,
    }) = RequestFrame::parse(&bytes)
    else {
        panic!("an unsupported version wanted")
    };
    let answer = sent(refuse_api_versions(correlation_id, &(0..=4)).unwrap());
    let answer = ResponseFrame::parse(ApiKey::ApiVersions, 0, &answer).unwrap();
    let view = ApiVersionsResponseView::decode(answer.body, 0).unwrap();
    assert_eq!((answer.correlation_id, view.error_code), (77, 35));
    let keys: Vec<_> = view
        .api_keys
        .iter()
        .map(|api| (api.api_key, api.min_version, api.max_version))
        .collect();
    assert_eq!(keys, [(18, 0, 4)]);
}

#[test]
fn the_header_of_an_api_versions_response_is_always_version_0() {
    for version in ApiKey::ApiVersions.versions() {
        assert_eq!(ApiKey::ApiVersions.response_header_version(version), 0);
    }
    assert_eq!(ApiKey::Metadata.response_header_version(8), 0);
    assert_eq!(ApiKey::Metadata.response_header_version(9), 1);
    assert_eq!(ApiKey::OffsetDelete.request_header_version(0), 1);
    assert_eq!(ApiKey::WriteTxnMarkers.request_header_version(1), 2);
}

#[test]
fn what_no_client_calls_is_named_in_the_error() {
    let bytes = [0, 4, 0, 7, 0, 0, 0, 1, 0xff, 0xff];
    let error = RequestFrame::parse(&bytes).unwrap_err();
    assert_eq!(
        error,
        FrameError::UnknownKey {
            key: 4,
            version: 7,
            correlation_id: 1
        }
    );
    assert_eq!(error.to_string(), "request 1: no API has key 4");
    let short = RequestFrame::parse(&bytes[..5]).unwrap_err();
    assert_eq!(
        short.to_string(),
        "request header: RequestHeader.CorrelationId at byte 4: 4 bytes wanted, 1 left"
    );
}

#[test]
fn a_version_that_kafka_does_not_offer_yet_is_not_offered() {
    assert_eq!(ApiKey::InitProducerId.versions(), 0..=5);
}

#[test]
fn what_a_version_cannot_say_is_an_error_unless_it_may_be_left_out() {
    let response = FetchResponse {
        session_id: 5,
        ..FetchResponse::default()
    };
    let error = response.encoded_len(6).unwrap_err();
    assert_eq!(
        error,
        EncodeError::NotInVersion {
            field: "FetchResponse.SessionId",
            version: 6
        }
    );
    assert_eq!(
        error.to_string(),
        "FetchResponse.SessionId is set, version 6 has no such field"
    );
    assert!(response.encoded_len(7).is_ok());
    let ignorable = HeartbeatResponse {
        throttle_time_ms: 9,
        error_code: 0,
    };
    assert_eq!(ignorable.encoded_len(0), Ok(2));
    assert!(matches!(
        ignorable.encoded_len(5),
        Err(EncodeError::Version {
            max: 4,
            found: 5,
            ..
        })
    ));
    let nothing = MetadataRequest {
        topics: None,
        ..MetadataRequest::default()
    };
    assert_eq!(
        nothing.encoded_len(0),
        Err(EncodeError::Null {
            field: "MetadataRequest.Topics"
        })
    );
}

#[test]
fn counts_that_the_bytes_left_cannot_hold_are_refused_at_once() {
    // 2^31 - 1 topics in 4 bytes.
    let error = MetadataRequestView::decode(&[0x7f, 0xff, 0xff, 0xff, 0, 1, b'a'], 1).unwrap_err();
    assert!(
        matches!(
            error,
            DecodeError::Count {
                count: 0x7fff_ffff,
                left: 3,
                ..
            }
        ),
        "{error}"
    );
    let compact = MetadataRequestView::decode(&[0xff, 0xff, 0xff, 0xff, 0x0f, 1], 9).unwrap_err();
    assert!(
        matches!(compact, DecodeError::Count { left: 1, .. }),
        "{compact}"
    );
    let varint = MetadataRequestView::decode(&[0xff, 0xff, 0xff, 0xff, 0x1f, 1], 9).unwrap_err();
    assert!(
        matches!(varint, DecodeError::Varint { position: 0, .. }),
        "{varint}"
    );
}

#[test]
fn record_bytes_leave_by_reference_between_the_fields() {
    let large = Bytes::from(vec![7; 4096]);
    let partition = |records: Records| fetch_response::PartitionData {
        records: Some(records),
        ..fetch_response::PartitionData::default()
    };
    let response = FetchResponse {
        responses: vec![fetch_response::FetchableTopicResponse {
            partitions: vec![
                partition(large.clone().into()),
                partition(Bytes::from_static(b"few").into()),
            ],
            ..fetch_response::FetchableTopicResponse::default()
        }],
        ..FetchResponse::default()
    };
    let frame = encode_response(12, 3, &response).unwrap();
    let len = frame.len();
    let chunks = frame.into_chunks();
    assert_eq!(chunks.iter().map(Chunk::len).sum::<usize>(), len);
    assert_eq!(chunks.len(), 3);
    let Chunk::Bytes(middle) = &chunks[1] else {
        panic!("bytes wanted")
    };
    assert_eq!(middle.as_ptr(), large.as_ptr());
    let whole = sent(encode_response(12, 3, &response).unwrap());
    assert_eq!(whole.len() + 4, len);
}

#[test]
fn empty_records_have_length_0_and_are_not_null() {
    let with = |records| {
        let partition = fetch_response::PartitionData {
            records,
            ..fetch_response::PartitionData::default()
        };
        partition_bytes(partition)
    };
    let empty = with(Some(Records::empty()));
    let null = with(None);
    assert_eq!(&empty[empty.len() - 4..], [0, 0, 0, 0]);
    assert_eq!(&null[null.len() - 4..], [0xff; 4]);
}

fn partition_bytes(partition: fetch_response::PartitionData) -> Bytes {
    let topic = fetch_response::FetchableTopicResponse {
        partitions: vec![partition],
        ..Default::default()
    };
    FetchResponse {
        responses: vec![topic],
        ..FetchResponse::default()
    }
    .to_bytes(4)
    .unwrap()
}

#[test]
fn a_response_comes_back_as_it_was_sent() {
    let response = HeartbeatResponse {
        throttle_time_ms: 0,
        error_code: 27,
    };
    for version in ApiKey::Heartbeat.versions() {
        let bytes = sent(encode_response(version, 6, &response).unwrap());
        let frame = ResponseFrame::parse(ApiKey::Heartbeat, version, &bytes).unwrap();
        assert_eq!(frame.correlation_id, 6);
        assert_eq!(
            HeartbeatResponseView::decode(frame.body, version)
                .unwrap()
                .to_owned(),
            response
        );
    }
}

#[test]
fn every_api_and_every_error_is_found_by_its_number() {
    for &key in ApiKey::ALL {
        assert_eq!(ApiKey::from_key(key.key()), Some(key));
        assert!(!key.versions().is_empty(), "{}", key.name());
    }
    for &error in ErrorCode::ALL {
        assert_eq!(ErrorCode::from_code(error.code()), Some(error));
    }
    assert_eq!(
        (ApiKey::from_key(4), ErrorCode::from_code(9999)),
        (None, None)
    );
    assert_eq!(
        ErrorCode::UnknownTopicOrPartition.to_string(),
        "UNKNOWN_TOPIC_OR_PARTITION (3)"
    );
    assert!(ErrorCode::NotLeaderOrFollower.is_retriable());
    assert!(!ErrorCode::MessageTooLarge.is_retriable());
}
