//! The configurations of brokers that can be changed for a cluster that runs.

use super::Allowed::{self, *};
use super::ConfigDef;
use super::ConfigKind::{self, *};

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
        documentation,
    }
}

/// What brokers' configuration may hold, one broker's and all brokers', by name.
pub const BROKER: &[ConfigDef] = &[
    def(
        "auto.create.topics.enable",
        Boolean,
        "true",
        Any,
        None,
        "Whether a topic that a client asks for and that does not exist is created.",
    ),
    def(
        "compression.gzip.level",
        Int,
        "-1",
        Between(-1, 9),
        None,
        "For topics that do not set `compression.gzip.level`. The level at which gzip compresses when \
         `compression.type` is `gzip`; -1 is gzip's own default.",
    ),
    def(
        "compression.lz4.level",
        Int,
        "9",
        Between(1, 17),
        None,
        "For topics that do not set `compression.lz4.level`. The level at which lz4 compresses when \
         `compression.type` is `lz4`.",
    ),
    def(
        "compression.type",
        String,
        "producer",
        OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]),
        None,
        "For topics that do not set `compression.type`. How records are compressed on disk; `producer` keeps \
         what the producer chose.",
    ),
    def(
        "compression.zstd.level",
        Int,
        "3",
        Between(-131_072, 22),
        None,
        "For topics that do not set `compression.zstd.level`. The level at which zstd compresses when \
         `compression.type` is `zstd`.",
    ),
    def(
        "default.replication.factor",
        Int,
        "1",
        Between(1, 32_767),
        None,
        "How many replicas the partitions of a new topic get when its creator does not say.",
    ),
    def(
        "group.initial.rebalance.delay.ms",
        Int,
        "3000",
        Between(0, i64::MAX),
        None,
        "How long the first rebalance of an empty group waits for more members, in milliseconds.",
    ),
    def(
        "group.max.session.timeout.ms",
        Int,
        "1800000",
        Between(1, i64::MAX),
        None,
        "The longest session timeout that a group's member may ask for, in milliseconds.",
    ),
    def(
        "group.max.size",
        Int,
        "2147483647",
        Between(1, i64::MAX),
        None,
        "How many members a group may have.",
    ),
    def(
        "group.min.session.timeout.ms",
        Int,
        "6000",
        Between(1, i64::MAX),
        None,
        "The shortest session timeout that a group's member may ask for, in milliseconds.",
    ),
    def(
        "log.cleaner.delete.retention.ms",
        Long,
        "86400000",
        Between(0, i64::MAX),
        None,
        "For topics that do not set `delete.retention.ms`. How long tombstones of a compacted topic are kept, \
         in milliseconds.",
    ),
    def(
        "log.cleaner.max.compaction.lag.ms",
        Long,
        "9223372036854775807",
        Between(1, i64::MAX),
        None,
        "For topics that do not set `max.compaction.lag.ms`. How long a record of a compacted topic may stay \
         uncompacted, in milliseconds.",
    ),
    def(
        "log.cleaner.min.cleanable.ratio",
        Double,
        "0.5",
        Fraction(0.0, 1.0),
        None,
        "For topics that do not set `min.cleanable.dirty.ratio`. Which part of a compacted log must be \
         uncompacted before it is compacted again.",
    ),
    def(
        "log.cleaner.min.compaction.lag.ms",
        Long,
        "0",
        Between(0, i64::MAX),
        None,
        "For topics that do not set `min.compaction.lag.ms`. How long a record of a compacted topic stays as \
         it is, in milliseconds.",
    ),
    def(
        "log.cleanup.policy",
        List,
        "delete",
        OneOf(&["delete", "compact"]),
        None,
        "For topics that do not set `cleanup.policy`. What happens to old segments: `delete` removes them by \
         time and size, `compact` keeps the last record of each key; both may be named.",
    ),
    def(
        "log.durability",
        String,
        "fsync",
        OneOf(&["fsync", "replicated", "os"]),
        None,
        "For topics that do not set `durability`. What acknowledged means: `fsync`, on the disks of the \
         in-sync replicas; `replicated`, received by them and synced soon; `os`, received by them and left to \
         the kernel, as Kafka does.",
    ),
    def(
        "log.flush.interval.messages",
        Long,
        "9223372036854775807",
        Between(1, i64::MAX),
        None,
        "For topics that do not set `flush.messages`. Accepted for Kafka's sake; `durability` decides when \
         data is synced.",
    ),
    def(
        "log.flush.interval.ms",
        Long,
        "9223372036854775807",
        Between(0, i64::MAX),
        None,
        "For topics that do not set `flush.ms`. Accepted for Kafka's sake; `durability` decides when data is \
         synced.",
    ),
    def(
        "log.index.interval.bytes",
        Int,
        "4096",
        Between(0, i64::MAX),
        None,
        "For topics that do not set `index.interval.bytes`. How many bytes of log go between two entries of \
         the offset index.",
    ),
    def(
        "log.index.size.max.bytes",
        Int,
        "10485760",
        Between(4, i64::MAX),
        None,
        "For topics that do not set `segment.index.bytes`. How large a segment's index grows before the next \
         segment is begun, in bytes.",
    ),
    def(
        "log.message.timestamp.after.max.ms",
        Long,
        "3600000",
        Between(0, i64::MAX),
        None,
        "For topics that do not set `message.timestamp.after.max.ms`. How far in the future a record's \
         timestamp may lie, in milliseconds, when `message.timestamp.type` is `CreateTime`.",
    ),
    def(
        "log.message.timestamp.before.max.ms",
        Long,
        "9223372036854775807",
        Between(0, i64::MAX),
        None,
        "For topics that do not set `message.timestamp.before.max.ms`. How far in the past a record's \
         timestamp may lie, in milliseconds, when `message.timestamp.type` is `CreateTime`.",
    ),
    def(
        "log.message.timestamp.type",
        String,
        "CreateTime",
        OneOf(&["CreateTime", "LogAppendTime"]),
        None,
        "For topics that do not set `message.timestamp.type`. Whether a record's timestamp is the producer's \
         or the time at which it was appended.",
    ),
    def(
        "log.preallocate",
        Boolean,
        "false",
        Any,
        None,
        "For topics that do not set `preallocate`. Whether a segment's file takes its whole size when it is \
         made.",
    ),
    def(
        "log.retention.bytes",
        Long,
        "-1",
        Between(-1, i64::MAX),
        None,
        "For topics that do not set `retention.bytes`. How large a partition grows before its oldest segments \
         are removed, in bytes; -1: without bound.",
    ),
    def(
        "log.retention.ms",
        Long,
        "604800000",
        Between(-1, i64::MAX),
        None,
        "For topics that do not set `retention.ms`. How long records are kept, in milliseconds; -1: for ever.",
    ),
    def(
        "log.roll.jitter.ms",
        Long,
        "0",
        Between(0, i64::MAX),
        None,
        "For topics that do not set `segment.jitter.ms`. By how much `segment.ms` is shortened at random, in \
         milliseconds, so that not all partitions begin a segment at once.",
    ),
    def(
        "log.roll.ms",
        Long,
        "604800000",
        Between(1, i64::MAX),
        None,
        "For topics that do not set `segment.ms`. How long a segment is written to before the next is begun, \
         in milliseconds.",
    ),
    def(
        "log.segment.bytes",
        Int,
        "1073741824",
        Between(14, i64::MAX),
        None,
        "For topics that do not set `segment.bytes`. How large a segment's file grows before the next is \
         begun, in bytes.",
    ),
    def(
        "log.segment.delete.delay.ms",
        Long,
        "60000",
        Between(0, i64::MAX),
        None,
        "For topics that do not set `file.delete.delay.ms`. How long a removed segment's file stays, in \
         milliseconds.",
    ),
    def(
        "message.max.bytes",
        Int,
        "1048588",
        Between(0, i64::MAX),
        None,
        "For topics that do not set `max.message.bytes`. The largest record batch that is taken, in bytes, as \
         it was sent (compressed).",
    ),
    def(
        "min.insync.replicas",
        Int,
        "1",
        Between(1, i64::MAX),
        None,
        "For topics that do not set `min.insync.replicas`. How many replicas must hold a record before it is \
         acknowledged with acks=all.",
    ),
    def(
        "num.partitions",
        Int,
        "1",
        Between(1, 10_000),
        None,
        "How many partitions a new topic gets when its creator does not say.",
    ),
    def(
        "offset.metadata.max.bytes",
        Int,
        "4096",
        Between(0, i64::MAX),
        None,
        "The longest text that may be stored beside a committed offset, in bytes.",
    ),
    def(
        "offsets.retention.minutes",
        Int,
        "10080",
        Between(1, i64::MAX),
        None,
        "How long the offsets of an empty group are kept, in minutes.",
    ),
    def(
        "offsets.topic.num.partitions",
        Int,
        "50",
        Between(1, 10_000),
        None,
        "How many partitions `__consumer_offsets` is created with.",
    ),
    def(
        "share.coordinator.state.topic.num.partitions",
        Int,
        "50",
        Between(1, 10_000),
        None,
        "How many partitions `__share_group_state` is created with.",
    ),
    def(
        "transaction.state.log.num.partitions",
        Int,
        "50",
        Between(1, 10_000),
        None,
        "How many partitions `__transaction_state` is created with.",
    ),
    def(
        "unclean.leader.election.enable",
        Boolean,
        "false",
        Any,
        None,
        "For topics that do not set `unclean.leader.election.enable`. Whether a replica that may lack \
         acknowledged records may lead when no other can.",
    ),
];
