//! The configurations of topics: Kafka's, and Weir's `durability` and `weir.queue.*`.

use super::Allowed::{self, *};
use super::ConfigDef;
use super::ConfigKind::{self, *};
use super::{DEDUPLICATION_WINDOW, DELAY_MAX, TRACE_RATIO, VIEW_FILTER, VIEW_OF};

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

/// A list of replicas whose replication is throttled, as Kafka writes it.
fn is_throttled_replicas(value: &str) -> bool {
    let is_number = |text: &str| text.parse::<u32>().is_ok();
    value == "*"
        || super::list(value).all(|replica| {
            replica
                .split_once(':')
                .is_some_and(|(partition, broker)| is_number(partition) && is_number(broker))
        })
}

const THROTTLED: Allowed = Where(
    is_throttled_replicas,
    "'*', or a list of partition:broker,partition:broker,...",
);

const NOT_TIERED: Allowed = Where(
    |value| value.eq_ignore_ascii_case("false"),
    "false: there is no tiered storage",
);

/// In which order messages are handed out.
pub(super) const ORDER: &str = "weir.queue.order";
/// Whether messages have priorities.
pub(super) const PRIORITY: &str = "weir.queue.priority";
/// How old a message may be that is handed out.
pub(super) const MESSAGE_TTL: &str = "weir.queue.message.ttl.ms";

/// What a topic's configuration may hold, by name.
pub const TOPIC: &[ConfigDef] = &[
    def(
        "cleanup.policy",
        List,
        "delete",
        OneOf(&["delete", "compact"]),
        Some("log.cleanup.policy"),
        "What happens to old segments: `delete` removes them by time and size, `compact` keeps the last \
         record of each key; both may be named.",
    ),
    def(
        "compression.gzip.level",
        Int,
        "-1",
        OneOrBetween(-1, 1, 9),
        Some("compression.gzip.level"),
        "The level at which gzip compresses when `compression.type` is `gzip`; -1 is gzip's own default.",
    ),
    def(
        "compression.lz4.level",
        Int,
        "9",
        Between(1, 17),
        Some("compression.lz4.level"),
        "The level at which lz4 compresses when `compression.type` is `lz4`.",
    ),
    def(
        "compression.type",
        String,
        "producer",
        OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]),
        Some("compression.type"),
        "How records are compressed on disk; `producer` keeps what the producer chose.",
    ),
    def(
        "compression.zstd.level",
        Int,
        "3",
        Between(-131_072, 22),
        Some("compression.zstd.level"),
        "The level at which zstd compresses when `compression.type` is `zstd`.",
    ),
    def(
        "delete.retention.ms",
        Long,
        "86400000",
        Between(0, i64::MAX),
        Some("log.cleaner.delete.retention.ms"),
        "How long tombstones of a compacted topic are kept, in milliseconds.",
    ),
    def(
        "durability",
        String,
        "fsync",
        OneOf(&["fsync", "replicated", "os"]),
        Some("log.durability"),
        "What acknowledged means: `fsync`, on the disks of the in-sync replicas; `replicated`, received by \
         them and synced soon; `os`, received by them and left to the kernel, as Kafka does.",
    ),
    def(
        "errors.deadletterqueue.group.enable",
        Boolean,
        "false",
        Any,
        None,
        "Whether share groups may write to this topic what they give up.",
    ),
    def(
        "file.delete.delay.ms",
        Long,
        "60000",
        Between(0, i64::MAX),
        Some("log.segment.delete.delay.ms"),
        "How long a removed segment's file stays, in milliseconds.",
    ),
    def(
        "flush.messages",
        Long,
        "9223372036854775807",
        Between(1, i64::MAX),
        Some("log.flush.interval.messages"),
        "Accepted for Kafka's sake; `durability` decides when data is synced.",
    ),
    def(
        "flush.ms",
        Long,
        "9223372036854775807",
        Between(0, i64::MAX),
        Some("log.flush.interval.ms"),
        "Accepted for Kafka's sake; `durability` decides when data is synced.",
    ),
    def(
        "follower.replication.throttled.replicas",
        List,
        "",
        THROTTLED,
        None,
        "Followers, as partition:broker, that take in no more than `follower.replication.throttled.rate` together; `*` is all.",
    ),
    def(
        "index.interval.bytes",
        Int,
        "4096",
        Between(0, i64::MAX),
        Some("log.index.interval.bytes"),
        "How many bytes of log go between two entries of the offset index.",
    ),
    def(
        "leader.replication.throttled.replicas",
        List,
        "",
        THROTTLED,
        None,
        "Leaders, as partition:broker, that give away no more than `leader.replication.throttled.rate` together; `*` is all.",
    ),
    def(
        "local.retention.bytes",
        Long,
        "-2",
        Between(-2, i64::MAX),
        Some("log.local.retention.bytes"),
        "How much of a tiered topic stays on this disk. Without effect: there is no tiered storage.",
    ),
    def(
        "local.retention.ms",
        Long,
        "-2",
        Between(-2, i64::MAX),
        Some("log.local.retention.ms"),
        "How long a tiered topic stays on this disk. Without effect: there is no tiered storage.",
    ),
    def(
        "max.compaction.lag.ms",
        Long,
        "9223372036854775807",
        Between(1, i64::MAX),
        Some("log.cleaner.max.compaction.lag.ms"),
        "How long a record of a compacted topic may stay uncompacted, in milliseconds.",
    ),
    def(
        "max.decompressed.message.bytes",
        Int,
        "2147483639",
        Between(1, 2_147_483_639),
        Some("max.decompressed.message.bytes"),
        "How large a compressed batch may become when it is inflated, in bytes.",
    ),
    def(
        "max.message.bytes",
        Int,
        "1048588",
        Between(0, i64::MAX),
        Some("message.max.bytes"),
        "The largest record batch that is taken, in bytes, as it was sent (compressed).",
    ),
    def(
        "message.timestamp.after.max.ms",
        Long,
        "3600000",
        Between(0, i64::MAX),
        Some("log.message.timestamp.after.max.ms"),
        "How far in the future a record's timestamp may lie, in milliseconds, when `message.timestamp.type` \
         is `CreateTime`.",
    ),
    def(
        "message.timestamp.before.max.ms",
        Long,
        "9223372036854775807",
        Between(0, i64::MAX),
        Some("log.message.timestamp.before.max.ms"),
        "How far in the past a record's timestamp may lie, in milliseconds, when `message.timestamp.type` is \
         `CreateTime`.",
    ),
    def(
        "message.timestamp.type",
        String,
        "CreateTime",
        OneOf(&["CreateTime", "LogAppendTime"]),
        Some("log.message.timestamp.type"),
        "Whether a record's timestamp is the producer's or the time at which it was appended.",
    ),
    def(
        "min.cleanable.dirty.ratio",
        Double,
        "0.5",
        Fraction(0.0, 1.0),
        Some("log.cleaner.min.cleanable.ratio"),
        "Which part of a compacted log must be uncompacted before it is compacted again.",
    ),
    def(
        "min.compaction.lag.ms",
        Long,
        "0",
        Between(0, i64::MAX),
        Some("log.cleaner.min.compaction.lag.ms"),
        "How long a record of a compacted topic stays as it is, in milliseconds.",
    ),
    def(
        "min.insync.replicas",
        Int,
        "1",
        Between(1, i64::MAX),
        Some("min.insync.replicas"),
        "How many replicas must hold a record before it is acknowledged with acks=all. Unset: 2 for topics of three \
         replicas and more, 1 for others.",
    ),
    def(
        "preallocate",
        Boolean,
        "false",
        Any,
        Some("log.preallocate"),
        "Whether a segment's file takes its whole size when it is made.",
    ),
    def(
        "remote.copy.lag.bytes",
        Long,
        "-1",
        Between(-1, i64::MAX),
        Some("log.remote.copy.lag.bytes"),
        "Without effect: there is no tiered storage.",
    ),
    def(
        "remote.copy.lag.ms",
        Long,
        "0",
        Between(-1, i64::MAX),
        Some("log.remote.copy.lag.ms"),
        "Without effect: there is no tiered storage.",
    ),
    def(
        "remote.log.copy.disable",
        Boolean,
        "false",
        Any,
        None,
        "Without effect: there is no tiered storage.",
    ),
    def(
        "remote.log.delete.on.disable",
        Boolean,
        "false",
        Any,
        None,
        "Without effect: there is no tiered storage.",
    ),
    def(
        "remote.storage.enable",
        Boolean,
        "false",
        NOT_TIERED,
        None,
        "Whether a topic is tiered; refused, since there is no tiered storage.",
    ),
    def(
        "retention.bytes",
        Long,
        "-1",
        Between(-1, i64::MAX),
        Some("log.retention.bytes"),
        "How large a partition grows before its oldest segments are removed, in bytes; -1: without bound.",
    ),
    def(
        "retention.ms",
        Long,
        "604800000",
        Between(-1, i64::MAX),
        Some("log.retention.ms"),
        "How long records are kept, in milliseconds; -1: for ever.",
    ),
    def(
        "segment.bytes",
        Int,
        "1073741824",
        Between(14, i64::MAX),
        Some("log.segment.bytes"),
        "How large a segment's file grows before the next is begun, in bytes.",
    ),
    def(
        "segment.index.bytes",
        Int,
        "10485760",
        Between(4, i64::MAX),
        Some("log.index.size.max.bytes"),
        "How large a segment's index grows before the next segment is begun, in bytes.",
    ),
    def(
        "segment.jitter.ms",
        Long,
        "0",
        Between(0, i64::MAX),
        Some("log.roll.jitter.ms"),
        "By how much `segment.ms` is shortened at random, in milliseconds, so that not all partitions begin a \
         segment at once.",
    ),
    def(
        "segment.ms",
        Long,
        "604800000",
        Between(1, i64::MAX),
        Some("log.roll.ms"),
        "How long a segment is written to before the next is begun, in milliseconds.",
    ),
    def(
        "unclean.leader.election.enable",
        Boolean,
        "false",
        Any,
        Some("unclean.leader.election.enable"),
        "Whether a replica that may lack acknowledged records may lead when no other can.",
    ),
    def(
        DEDUPLICATION_WINDOW,
        Long,
        "-1",
        // A week.
        OneOrBetween(-1, 1, 7 * 24 * 3_600_000),
        None,
        "For how long a message's id (its header `weir-message-id`) is remembered, in milliseconds, at most a week: a message that \
         comes with the same one again is not appended; -1: ids are not looked at.",
    ),
    def(
        DELAY_MAX,
        Long,
        "-1",
        // A year.
        OneOrBetween(-1, 0, 365 * 24 * 3_600_000),
        None,
        "How far ahead a message may be due that says so in its header `weir-deliver-at` (milliseconds since 1970) or \
         `weir-delay-ms`, in milliseconds, at most a year; 0: no further one is taken, and those that wait come when they are \
         due; -1: the headers are not heeded. Not for compacted topics.",
    ),
    def(
        "weir.queue.group",
        String,
        "",
        Any,
        None,
        "The share group whose unsettled messages are the topic's backlog, which `weir.queue.max.messages` and \
         `weir.queue.max.bytes` bound. Unset: the backlog is what retention has left.",
    ),
    def(
        "weir.queue.max.bytes",
        Long,
        "-1",
        OneOrBetween(-1, 1, i64::MAX),
        None,
        "How many bytes may be unsettled, as they were sent, of each partition or of the topic (`weir.queue.max.scope`); \
         -1: without bound.",
    ),
    def(
        "weir.queue.max.messages",
        Long,
        "-1",
        OneOrBetween(-1, 1, i64::MAX),
        None,
        "How many messages may be unsettled, of each partition or of the topic (`weir.queue.max.scope`); -1: without bound.",
    ),
    def(
        "weir.queue.max.scope",
        String,
        "partition",
        OneOf(&["partition", "topic"]),
        None,
        "What `weir.queue.max.messages` and `weir.queue.max.bytes` bound: each `partition` by itself, or the whole `topic`, \
         whose bound is leased to the partitions as they need it and never passed.",
    ),
    def(
        MESSAGE_TTL,
        Long,
        "-1",
        OneOrBetween(-1, 1, i64::MAX),
        None,
        "How old a message may be that is given to a share group, in milliseconds by its timestamp; older ones are passed over. -1: however old.",
    ),
    def(
        ORDER,
        String,
        "none",
        OneOf(&["none", "key"]),
        None,
        "Whether share groups are given the messages of one key one at a time, oldest first: `key`. What is tried again keeps those of its key behind it waiting.",
    ),
    def(
        "weir.queue.overflow",
        String,
        "reject",
        OneOf(&["reject", "throttle", "drop_oldest"]),
        None,
        "What becomes of a batch that does not fit: `reject` refuses it for good (POLICY_VIOLATION), with \
         `throttle` its producer waits for room, and for `drop_oldest` the oldest messages make room.",
    ),
    def(
        PRIORITY,
        String,
        "none",
        OneOf(&["none", "strict", "weighted"]),
        None,
        "Whether share groups are given messages by their header `weir-priority`, `0` to `9`, 4 where there is none: `strict` the greatest \
         first, over the whole backlog of each partition; `weighted` each with a share of (priority + 1) parts, so that none starves.",
    ),
    def(
        TRACE_RATIO,
        Double,
        "0",
        Fraction(0.0, 1.0),
        None,
        "Which part of messages is traced, from 0, none, to 1, all: brokers remember what happened to them, and send spans to a collector if there is one. Above 0, messages \
         whose header `traceparent` says that they are sampled are traced whatever the part is.",
    ),
    def(
        VIEW_FILTER,
        String,
        "",
        Any,
        None,
        "Which messages of `weir.queue.view.of` the view has: a condition in CEL over `headers`, `tags`, `key` and `timestamp`, as `weir.share.filter`. Unset: all. A \
         change holds for what is copied from then on.",
    ),
    def(
        VIEW_OF,
        String,
        "",
        Any,
        None,
        "The topic that this one is a view of: its partitions have what those of that topic have and `weir.queue.view.filter` lets through, once it is committed. Nobody else \
         writes to a view. Both have the same number of partitions. Unset: no view.",
    ),
];
