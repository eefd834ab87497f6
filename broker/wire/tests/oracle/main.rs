//! The codec against two others: a slow one that writes samples by reading the schema at run time, and the
//! `kafka-protocol` crate.
//!
//! A sample is a message in its canonical bytes. Both codecs must decode it and encode the very same bytes again, in every
//! version that they have. `kafka-protocol` is the oracle for messages only: what it does with bytes that are no message is
//! its own affair.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so")]

mod dispatch;
mod sample;

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Encodable};
use proptest::prelude::*;
use weir_wire::array::Element;
use weir_wire::{DecodeError, Message, MessageView};

use sample::{Entropy, Schema};

/// Decodes a sample, encodes it again, and looks at what must hold for any sample on the way. The last byte is not part of it.
fn round_trip<'a, V: MessageView<'a> + Debug + PartialEq>(longer: &'a [u8], version: i16) -> Bytes {
    let name = <V as Element<'a>>::Owned::NAME;
    let bytes = &longer[..longer.len() - 1];
    let view =
        V::decode(bytes, version).unwrap_or_else(|error| panic!("{name} {version}: {error}"));
    let owned = view.into_owned();
    assert_eq!(
        owned.encoded_len(version),
        Ok(bytes.len()),
        "{name} {version}"
    );
    for cut in (0..bytes.len()).step_by(bytes.len() / 8 + 1) {
        assert!(
            V::decode(&bytes[..cut], version).is_err(),
            "{name} {version} cut at {cut}"
        );
    }
    let more = V::decode(longer, version);
    assert!(
        matches!(more, Err(DecodeError::Trailing { left: 1, .. })),
        "{name} {version}"
    );
    owned.to_bytes(version).unwrap()
}

/// Decodes a sample and encodes it again by the oracle, if that has the version.
fn their_round_trip<M: Decodable + Encodable + kafka_protocol::protocol::Message>(
    longer: &[u8],
    version: i16,
) -> Option<Bytes> {
    if version < M::VERSIONS.min || version > M::VERSIONS.max {
        return None;
    }
    let mut bytes = Bytes::copy_from_slice(&longer[..longer.len() - 1]);
    let message = M::decode(&mut bytes, version).unwrap();
    assert!(bytes.is_empty(), "the oracle leaves {} bytes", bytes.len());
    let mut encoded = BytesMut::new();
    message.encode(&mut encoded, version).unwrap();
    Some(encoded.freeze())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn both_codecs_give_back_every_message_in_every_version(
        entropy in proptest::collection::vec(any::<u8>(), 0..600),
    ) {
        for schema in Schema::all() {
            for version in schema.versions() {
                let name = schema.name();
                let mut sample = schema.sample(version, &mut Entropy::new(&entropy));
                sample.push(0);
                let expected = &sample[..sample.len() - 1];
                let ours = dispatch::ours(name, version, &sample);
                prop_assert_eq!(&ours, expected, "{} {}", name, version);
                if let Some(theirs) = dispatch::theirs(name, version, &sample) {
                    prop_assert_eq!(&theirs, expected, "{} {} by the oracle", name, version);
                }
            }
        }
    }
}

/// The others are of Kafka 4.2 and newer, and records of coordinators.
#[test]
fn the_oracle_knows_most_of_all_versions() {
    let (mut known, mut all) = (0, 0);
    for schema in Schema::all() {
        for version in schema.versions() {
            let mut sample = schema.sample(version, &mut Entropy::new(&[]));
            sample.push(0);
            all += 1;
            known += i32::from(dispatch::theirs(schema.name(), version, &sample).is_some());
        }
    }
    assert!(known * 100 >= all * 85, "{known} of {all}");
}
