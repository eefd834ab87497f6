//! Which partition of `__consumer_offsets` keeps a group.

use weir_wire::PartitionIndex;

/// The internal topic in which groups and their offsets are kept.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// The partition of [`OFFSETS_TOPIC`] that keeps `group`, as Kafka computes it: Java's `String.hashCode`, its sign bit
/// cleared, modulo the number of partitions. Clients never compute it, but tools that read the topic do.
///
/// `partitions` is at least 1.
#[must_use]
pub fn partition_for(group: &str, partitions: i32) -> PartitionIndex {
    debug_assert!(partitions > 0, "the offsets topic has partitions");
    let hash = group.encode_utf16().fold(0i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    PartitionIndex((hash & i32::MAX) % partitions.max(1))
}

#[cfg(test)]
mod tests {
    use super::{PartitionIndex, partition_for};

    #[test]
    fn groups_are_placed_as_kafka_places_them() {
        assert_eq!(partition_for("", 50), PartitionIndex(0));
        assert_eq!(partition_for("a", 50), PartitionIndex(97 % 50));
        assert_eq!(partition_for("ab", 50), PartitionIndex((97 * 31 + 98) % 50));
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
