//! The topics in a consumer's subscription: the only thing that the broker reads of what members tell each other.
//!
//! Kafka's `ConsumerProtocolSubscription` begins, in every version, with a version number and the list of topics; what
//! follows is for the assignors.

use std::collections::BTreeSet;

/// The topics, or `None` when the bytes are not a subscription.
pub(crate) fn topics(metadata: &[u8]) -> Option<BTreeSet<&str>> {
    let (version, rest) = metadata.split_first_chunk::<2>()?;
    if i16::from_be_bytes(*version) < 0 {
        return None;
    }
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    let count = i32::from_be_bytes(*count).max(0);
    let mut topics = BTreeSet::new();
    for _ in 0..count {
        let (length, after) = rest.split_first_chunk::<2>()?;
        let length = usize::try_from(i16::from_be_bytes(*length)).ok()?;
        let (name, after) = after.split_at_checked(length)?;
        topics.insert(std::str::from_utf8(name).ok()?);
        rest = after;
    }
    Some(topics)
}

#[cfg(test)]
pub(crate) fn encode(topics: &[&str]) -> bytes::Bytes {
    let mut bytes = vec![0, 1];
    bytes.extend_from_slice(&(topics.len() as i32).to_be_bytes());
    for topic in topics {
        bytes.extend_from_slice(&(topic.len() as i16).to_be_bytes());
        bytes.extend_from_slice(topic.as_bytes());
    }
    bytes.extend_from_slice(&(-1i32).to_be_bytes());
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::{encode, topics};

    #[test]
    fn the_topics_of_a_subscription_are_read() {
        let bytes = encode(&["orders", "flights"]);
        assert_eq!(topics(&bytes), Some(["flights", "orders"].into()));
    }

    #[test]
    fn bytes_that_are_no_subscription_have_no_topics() {
        let whole = encode(&["orders"]);
        for cut in 0..whole.len() - 4 {
            assert_eq!(topics(&whole[..cut]), None, "cut at {cut}");
        }
        assert_eq!(topics(&[0, 0, 0x7f, 0xff, 0xff, 0xff]), None);
        assert_eq!(topics(&[0xff, 0xff, 0, 0, 0, 0]), None);
    }
}
