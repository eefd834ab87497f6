//! Which partition of an internal topic keeps a group, a transactional id and so on.

use weir_wire::PartitionIndex;

/// The internal topic in which groups and their offsets are kept.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// The partition that keeps what has this key, as Kafka computes it: the absolute value of Java's `String.hashCode`, which
/// is 0 for the number that has none, modulo the number of partitions. Clients never compute it, but tools that read the
/// topic do.
///
/// `partitions` is at least 1.
#[must_use]
pub fn partition_for(key: &str, partitions: i32) -> PartitionIndex {
    debug_assert!(partitions > 0, "an internal topic has partitions");
    let hash = key.encode_utf16().fold(0i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    PartitionIndex(hash.checked_abs().unwrap_or(0) % partitions.max(1))
}

#[cfg(test)]
mod tests {
    use super::{PartitionIndex, partition_for};

    #[test]
    fn groups_are_placed_as_kafka_places_them() {
        assert_eq!(partition_for("", 50), PartitionIndex(0));
        assert_eq!(partition_for("a", 50), PartitionIndex(97 % 50));
        assert_eq!(partition_for("ab", 50), PartitionIndex((97 * 31 + 98) % 50));
        // Hashes below zero, and the one whose absolute value is none.
        assert_eq!(partition_for("my-group", 50), PartitionIndex(12));
        assert_eq!(partition_for("kafka-txn-0", 50), PartitionIndex(30));
        assert_eq!(partition_for("polygenelubricants", 50), PartitionIndex(0));
        // Characters outside the basic plane are two UTF-16 units each, as in Java.
        let clef = "\u{1d11e}";
        let hash = 0xd834i32.wrapping_mul(31).wrapping_add(0xdd1e);
        assert_eq!(
            partition_for(clef, 50),
            PartitionIndex((hash & i32::MAX) % 50)
        );
    }

    #[test]
    fn every_group_has_a_partition() {
        for text in [
            "polygenelubricants",
            "a-very-long-group-name-that-overflows",
            "ü",
        ] {
            assert!((0..7).contains(&partition_for(text, 7).0));
        }
    }
}
