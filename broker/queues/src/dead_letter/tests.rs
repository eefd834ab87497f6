use proptest::prelude::*;
use weir_wire::{Offset, PartitionIndex};

use super::{Found, Misdirected, Origin, Reason, check_topic, destination};

#[test]
fn a_dead_letter_says_why_where_from_and_how_often() {
    let origin = Origin {
        topic: "orders".into(),
        partition: PartitionIndex(3),
        offset: Offset(41),
        group: "shop".into(),
        deliveries: 5,
    };
    let headers = origin.headers(Reason::DeliveryLimit);
    let expected = [
        ("__dlq.errors.topic", "orders"),
        ("__dlq.errors.partition", "3"),
        ("__dlq.errors.offset", "41"),
        ("__dlq.errors.group", "shop"),
        ("__dlq.errors.delivery.count", "5"),
    ];
    for ((name, value), (is_name, is)) in expected.iter().zip(&headers) {
        assert_eq!((name, *value), (is_name, is.as_str()));
    }
    assert!(headers[5].1.contains("as often as the group allows"));
}

#[test]
fn dead_letters_go_only_where_they_may() {
    let check = |name, found| check_topic(name, "orders", "dlq.", found, false);
    let there = Found::Topic { is_enabled: true };
    assert_eq!(check("dlq.orders", there), Ok(()));
    assert!(matches!(
        check("__orders", there),
        Err(Misdirected::Internal(_))
    ));
    assert!(matches!(
        check("orders-dlq", there),
        Err(Misdirected::Prefix { .. })
    ));
    assert!(matches!(
        check("dlq.orders", Found::None),
        Err(Misdirected::Missing(_))
    ));
    let plain = Found::Topic { is_enabled: false };
    assert!(matches!(
        check("dlq.orders", plain),
        Err(Misdirected::NotEnabled(_))
    ));
    let own = check_topic("orders", "orders", "", there, true);
    assert!(matches!(own, Err(Misdirected::Source(_))));
}

proptest! {
    #[test]
    fn a_redrive_finds_the_way_back(
        topic in "[a-z.]{1,20}",
        partition in 0..10_000_i32,
        offset in 0..i64::MAX,
        group in ".{0,20}",
        deliveries in 0..i16::MAX,
    ) {
        let origin = Origin { topic, partition: PartitionIndex(partition), offset: Offset(offset), group, deliveries };
        let headers = origin.headers(Reason::Rejected);
        let read = Origin::of_headers(headers.iter().map(|(name, value)| (*name, value.as_bytes())));
        prop_assert_eq!(read, Some(origin));
    }

    #[test]
    fn headers_of_anyone_do_no_harm(headers in prop::collection::vec(("__dlq.errors.(topic|partition|offset|group|delivery.count)", prop::collection::vec(any::<u8>(), 0..8)), 0..8)) {
        let _ = Origin::of_headers(headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())));
    }

    #[test]
    fn a_dead_letter_s_partition_exists(source in 0..i32::MAX, partitions in 1..10_000_u32) {
        let to = destination(PartitionIndex(source), partitions).0;
        prop_assert!((0..partitions as i32).contains(&to));
    }
}
