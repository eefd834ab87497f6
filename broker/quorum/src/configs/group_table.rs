//! The configurations of groups, consumer and share.

use super::Allowed::{self, *};
use super::ConfigDef;
use super::ConfigKind::{self, *};
use super::group::{OffsetReset, PAUSED};
use super::sharing::{DEAD_LETTER_RATE_MAX, FILTER, RETRY_BACKOFF};

const fn def(
    name: &'static str,
    kind: ConfigKind,
    default: &'static str,
    allowed: Allowed,
    cluster_name: Option<&'static str>,
    documentation: &'static str,
) -> ConfigDef {
    ConfigDef {
        name,
        kind,
        default,
        allowed,
        cluster_name,
        read_only: false,
        documentation,
    }
}

const OFFSET_RESET: Allowed = Where(
    |value| OffsetReset::parse(value).is_some(),
    "'earliest', 'latest' or 'by_duration:' and an ISO 8601 duration such as PT1H",
);

/// What a group's configuration may hold, by name. Numbers are bounded by the broker's configurations too
/// ([`super::check_group`]).
pub const GROUP: &[ConfigDef] = &[
    def(
        "consumer.assignment.interval.ms",
        Int,
        "1000",
        Between(0, i64::MAX),
        Some("group.consumer.assignment.interval.ms"),
        "How long at least lies between two assignments of a consumer group, in milliseconds.",
    ),
    def(
        "consumer.heartbeat.interval.ms",
        Int,
        "5000",
        Between(1, i64::MAX),
        Some("group.consumer.heartbeat.interval.ms"),
        "How often members of a consumer group send heartbeats, in milliseconds.",
    ),
    def(
        "consumer.session.timeout.ms",
        Int,
        "45000",
        Between(1, i64::MAX),
        Some("group.consumer.session.timeout.ms"),
        "How long a member of a consumer group may be silent before it is taken for gone, in milliseconds.",
    ),
    def(
        "errors.deadletterqueue.copy.record.enable",
        Boolean,
        "false",
        Any,
        None,
        "Whether a dead letter has the key, the value and the headers of its record; without, it has only what it says of itself (KIP-1191).",
    ),
    def(
        "errors.deadletterqueue.topic.name",
        String,
        "",
        Where(
            |value| !value.starts_with("__"),
            "a topic's name that does not begin with __",
        ),
        None,
        "Where records go that a share group gives up, because a member rejected them or they were delivered as often as they may be. Empty: nowhere. The topic must have `errors.deadletterqueue.group.enable`.",
    ),
    def(
        "share.assignment.interval.ms",
        Int,
        "1000",
        Between(0, i64::MAX),
        Some("group.share.assignment.interval.ms"),
        "How long at least lies between two assignments of a share group, in milliseconds.",
    ),
    def(
        "share.auto.offset.reset",
        String,
        "latest",
        OFFSET_RESET,
        None,
        "Where a share group begins that has read nothing yet: `latest`, `earliest`, or `by_duration:` and an ISO 8601 duration before now.",
    ),
    def(
        "share.delivery.count.limit",
        Int,
        "5",
        Between(2, i64::MAX),
        Some("group.share.delivery.count.limit"),
        "How often a record is delivered to a share group at most.",
    ),
    def(
        "share.heartbeat.interval.ms",
        Int,
        "5000",
        Between(1, i64::MAX),
        Some("group.share.heartbeat.interval.ms"),
        "How often members of a share group send heartbeats, in milliseconds.",
    ),
    def(
        "share.isolation.level",
        String,
        "read_uncommitted",
        OneOf(&["read_committed", "read_uncommitted"]),
        None,
        "Whether a share group is given records of transactions that are open or aborted.",
    ),
    def(
        "share.partition.max.record.locks",
        Int,
        "2000",
        Between(100, i64::MAX),
        Some("group.share.partition.max.record.locks"),
        "How many records of one partition may be locked for a share group at once.",
    ),
    def(
        "share.record.lock.duration.ms",
        Int,
        "30000",
        Between(1_000, i64::MAX),
        Some("group.share.record.lock.duration.ms"),
        "How long a record that was delivered to a share group's member is locked, in milliseconds.",
    ),
    def(
        "share.renew.acknowledge.enable",
        Boolean,
        "true",
        Any,
        None,
        "Whether members may renew the lock on a record.",
    ),
    def(
        "share.session.timeout.ms",
        Int,
        "45000",
        Between(1, i64::MAX),
        Some("group.share.session.timeout.ms"),
        "How long a member of a share group may be silent before it is taken for gone, in milliseconds.",
    ),
    def(
        "streams.assignment.interval.ms",
        Int,
        "1000",
        Between(0, i64::MAX),
        None,
        "Accepted for Kafka's sake; streams groups are not served.",
    ),
    def(
        "streams.assignor.name",
        String,
        "sticky",
        Any,
        None,
        "Accepted for Kafka's sake; streams groups are not served.",
    ),
    def(
        "streams.heartbeat.interval.ms",
        Int,
        "5000",
        Between(5_000, 15_000),
        None,
        "Accepted for Kafka's sake; streams groups are not served.",
    ),
    def(
        "streams.initial.rebalance.delay.ms",
        Int,
        "3000",
        Between(0, i64::MAX),
        None,
        "Accepted for Kafka's sake; streams groups are not served.",
    ),
    def(
        "streams.num.standby.replicas",
        Int,
        "0",
        Between(0, 2),
        None,
        "Accepted for Kafka's sake; streams groups are not served.",
    ),
    def(
        "streams.rack.aware.assignment.tags",
        List,
        "",
        Any,
        None,
        "Accepted for Kafka's sake; streams groups are not served.",
    ),
    def(
        "streams.session.timeout.ms",
        Int,
        "45000",
        Between(45_000, 60_000),
        None,
        "Accepted for Kafka's sake; streams groups are not served.",
    ),
    def(
        PAUSED,
        Boolean,
        "false",
        Any,
        None,
        "Whether the group is paused: its members stay, and have no partitions. Weir's own.",
    ),
    def(
        DEAD_LETTER_RATE_MAX,
        Long,
        "-1",
        OneOrBetween(-1, 0, 1_000_000_000),
        None,
        "How many records of one partition a share group gives up in a minute at most; more are delivered again, after their backoff. -1: without bound. Weir's own.",
    ),
    def(
        FILTER,
        String,
        "",
        Any,
        None,
        "A condition in CEL over headers, tags, key and timestamp: a share group is given only the records for which it holds, and passes over the others. Weir's own.",
    ),
    def(
        RETRY_BACKOFF,
        String,
        "",
        Any,
        None,
        "How long a record waits after each delivery that failed before it is delivered to a share group again, in milliseconds, with commas between; the last goes on. Empty: not at all. Weir's own.",
    ),
];
