//! The targets: each decodes its input as the broker would, and then looks at every last part of what it got.

use std::hint::black_box;

use weir_wire::batch::{BatchView, Batches, batches, only_batch};
use weir_wire::frame::RequestFrame;
use weir_wire::messages::{
    ConsumerProtocolAssignmentView, ConsumerProtocolSubscriptionView, GroupMetadataKeyView,
    GroupMetadataValueView, OffsetCommitKeyView, OffsetCommitValueView, ProduceRequestView,
    RequestHeaderView, ResponseHeaderView,
};
use weir_wire::{ApiKey, MessageView, RequestView, ResponseView};

/// What a connection sends: frames of four bytes of length, header and body, one after another.
pub fn frames(mut input: &[u8]) {
    while let Some((length, rest)) = input.split_first_chunk() {
        let length = u32::from_be_bytes(*length) as usize;
        let Some((frame, rest)) = rest.split_at_checked(length) else {
            return;
        };
        input = rest;
        let Ok(frame) = RequestFrame::parse(frame) else {
            continue;
        };
        let Ok(request) = frame.decode() else {
            continue;
        };
        iterate(request);
        if let RequestView::Produce(request) = request {
            produced(request);
        }
    }
}

/// The batches within a Produce request, as its handler reads them.
fn produced(request: ProduceRequestView<'_>) {
    for topic in request.topic_data {
        for partition in topic.partition_data {
            if let Ok(batch) = only_batch(partition.records.unwrap_or_default()) {
                records(&batch);
            }
        }
    }
}

/// One message: a byte for the API (responses with the high bit, other messages from 112 on), a byte for the version, then
/// the message.
pub fn messages(input: &[u8]) {
    let Some((&[api, version], body)) = input.split_first_chunk() else {
        return;
    };
    let Some(key) = ApiKey::from_key(i16::from(api & 0x7f)) else {
        return others(api, version, body);
    };
    // Every byte gives a version that there is, the one that Kafka does not offer yet included.
    let (min, max) = (*key.versions().start(), *key.versions().end() + 1);
    let version = min + i16::from(version) % (max - min + 1);
    if api & 0x80 == 0 {
        let _ = RequestView::decode(key, version, body).map(iterate);
    } else {
        let _ = ResponseView::decode(key, version, body).map(iterate);
    }
}

/// Headers, and what is stored or sent within other messages.
fn others(message: u8, version: u8, body: &[u8]) {
    fn one<'a, V: MessageView<'a> + PartialEq>(version: u8, body: &'a [u8]) {
        let _ = V::decode(body, i16::from(version % 5)).map(iterate);
    }
    match message & 0x7f {
        112 => one::<RequestHeaderView<'_>>(version, body),
        113 => one::<ResponseHeaderView>(version, body),
        114 => one::<ConsumerProtocolSubscriptionView<'_>>(version, body),
        115 => one::<ConsumerProtocolAssignmentView<'_>>(version, body),
        116 => one::<OffsetCommitKeyView<'_>>(version, body),
        117 => one::<OffsetCommitValueView<'_>>(version, body),
        118 => one::<GroupMetadataKeyView<'_>>(version, body),
        119 => one::<GroupMetadataValueView<'_>>(version, body),
        _ => {}
    }
}

/// Decodes every element of every array again: that is what comparing does.
fn iterate<V: PartialEq>(view: V) {
    black_box(black_box(&view) == black_box(&view));
}

/// The value of a records field.
pub fn record_batches(input: &[u8]) {
    let _ = only_batch(input);
    let all: Batches<'_> = batches(input);
    for batch in all.map_while(Result::ok) {
        records(&batch);
    }
}

/// Checks a batch and reads all of its records, whether or not the checks pass.
fn records(batch: &BatchView<'_>) {
    let _ = black_box(batch.check_produced());
    let _ = black_box(batch.control());
    let Ok(records) = batch.records() else { return };
    for record in records.map_while(Result::ok) {
        let headers = record
            .headers
            .iter()
            .map(|header| black_box(header))
            .count();
        assert_eq!(
            headers,
            record.headers.len(),
            "headers that were walked decode again"
        );
        black_box(record);
    }
}
