//! Every setting of a broker that a Cluster may name: Kafka's names, where it stands in the brokers' file, and what it may hold.

#[derive(Debug, Clone, Copy)]
pub(super) enum Section {
    Topics,
    Groups,
    Limits,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// A whole number within bounds, with the unit that the brokers' file wants after it.
    Number(i64, i64, &'static str),
    /// `true` or `false`.
    Truth,
    /// One of a few words.
    Word(&'static [&'static str]),
    /// Some of a few words, with commas between.
    Words(&'static [&'static str]),
    /// A number from 0 to 1.
    Fraction,
}

pub(super) struct Row {
    /// Kafka's names for it; the first one is shown.
    pub(super) kafka: &'static [&'static str],
    pub(super) section: Section,
    pub(super) field: &'static str,
    pub(super) kind: Kind,
}

const fn row(
    kafka: &'static [&'static str],
    section: Section,
    field: &'static str,
    kind: Kind,
) -> Row {
    Row {
        kafka,
        section,
        field,
        kind,
    }
}

const ANY: i64 = i64::MAX;
const INT: i64 = i32::MAX as i64;

/// All there is. Bounds are the brokers' own.
pub(super) const TABLE: &[Row] = &[
    row(
        &["num.partitions"],
        Section::Topics,
        "num.partitions",
        Kind::Number(1, 10_000, ""),
    ),
    row(
        &["default.replication.factor"],
        Section::Topics,
        "default.replication.factor",
        Kind::Number(1, 9, ""),
    ),
    row(
        &["auto.leader.rebalance.enable"],
        Section::Topics,
        "auto.leader.rebalance.enable",
        Kind::Truth,
    ),
    row(
        &["follower.replication.throttled.rate"],
        Section::Topics,
        "follower.replication.throttled.rate",
        Kind::Number(0, ANY, ""),
    ),
    row(
        &["leader.replication.throttled.rate"],
        Section::Topics,
        "leader.replication.throttled.rate",
        Kind::Number(0, ANY, ""),
    ),
    row(
        &["leader.imbalance.check.interval.seconds"],
        Section::Topics,
        "leader.imbalance.check.interval.seconds",
        Kind::Number(1, ANY, ""),
    ),
    row(
        &["offsets.topic.replication.factor"],
        Section::Topics,
        "offsets.topic.replication.factor",
        Kind::Number(1, 32_767, ""),
    ),
    row(
        &["share.coordinator.state.topic.min.isr"],
        Section::Topics,
        "share.coordinator.state.topic.min.isr",
        Kind::Number(1, INT, ""),
    ),
    row(
        &["share.coordinator.state.topic.replication.factor"],
        Section::Topics,
        "share.coordinator.state.topic.replication.factor",
        Kind::Number(1, 32_767, ""),
    ),
    row(
        &["transaction.state.log.min.isr"],
        Section::Topics,
        "transaction.state.log.min.isr",
        Kind::Number(1, INT, ""),
    ),
    row(
        &["transaction.state.log.replication.factor"],
        Section::Topics,
        "transaction.state.log.replication.factor",
        Kind::Number(1, 32_767, ""),
    ),
    row(
        &["auto.create.topics.enable"],
        Section::Topics,
        "auto.create.topics.enable",
        Kind::Truth,
    ),
    row(
        &["cleanup.policy", "log.cleanup.policy"],
        Section::Topics,
        "cleanup.policy",
        Kind::Words(&["delete", "compact"]),
    ),
    row(
        &["compression.gzip.level"],
        Section::Topics,
        "compression.gzip.level",
        Kind::Number(-1, 9, ""),
    ),
    row(
        &["compression.lz4.level"],
        Section::Topics,
        "compression.lz4.level",
        Kind::Number(1, 17, ""),
    ),
    row(
        &["compression.type"],
        Section::Topics,
        "compression.type",
        Kind::Word(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]),
    ),
    row(
        &["compression.zstd.level"],
        Section::Topics,
        "compression.zstd.level",
        Kind::Number(-131_072, 22, ""),
    ),
    row(
        &["delete.retention.ms", "log.cleaner.delete.retention.ms"],
        Section::Topics,
        "delete.retention.ms",
        Kind::Number(0, ANY, ""),
    ),
    row(
        &["durability", "log.durability"],
        Section::Topics,
        "durability",
        Kind::Word(&["fsync", "replicated", "os"]),
    ),
    row(
        &["file.delete.delay.ms", "log.segment.delete.delay.ms"],
        Section::Topics,
        "file.delete.delay.ms",
        Kind::Number(0, ANY, ""),
    ),
    row(
        &["flush.messages", "log.flush.interval.messages"],
        Section::Topics,
        "flush.messages",
        Kind::Number(1, ANY, ""),
    ),
    row(
        &["flush.ms", "log.flush.interval.ms"],
        Section::Topics,
        "flush.ms",
        Kind::Number(0, ANY, ""),
    ),
    row(
        &["index.interval.bytes", "log.index.interval.bytes"],
        Section::Topics,
        "index.interval.bytes",
        Kind::Number(0, INT, ""),
    ),
    row(
        &["max.compaction.lag.ms", "log.cleaner.max.compaction.lag.ms"],
        Section::Topics,
        "max.compaction.lag.ms",
        Kind::Number(1, ANY, ""),
    ),
    row(
        &["max.message.bytes", "message.max.bytes"],
        Section::Topics,
        "max.message.bytes",
        Kind::Number(0, INT, ""),
    ),
    row(
        &[
            "message.timestamp.after.max.ms",
            "log.message.timestamp.after.max.ms",
        ],
        Section::Topics,
        "message.timestamp.after.max.ms",
        Kind::Number(0, ANY, ""),
    ),
    row(
        &[
            "message.timestamp.before.max.ms",
            "log.message.timestamp.before.max.ms",
        ],
        Section::Topics,
        "message.timestamp.before.max.ms",
        Kind::Number(0, ANY, ""),
    ),
    row(
        &["message.timestamp.type", "log.message.timestamp.type"],
        Section::Topics,
        "message.timestamp.type",
        Kind::Word(&["CreateTime", "LogAppendTime"]),
    ),
    row(
        &[
            "min.cleanable.dirty.ratio",
            "log.cleaner.min.cleanable.ratio",
        ],
        Section::Topics,
        "min.cleanable.dirty.ratio",
        Kind::Fraction,
    ),
    row(
        &["min.compaction.lag.ms", "log.cleaner.min.compaction.lag.ms"],
        Section::Topics,
        "min.compaction.lag.ms",
        Kind::Number(0, ANY, ""),
    ),
    row(
        &["min.insync.replicas"],
        Section::Topics,
        "min.insync.replicas",
        Kind::Number(1, INT, ""),
    ),
    row(
        &["preallocate", "log.preallocate"],
        Section::Topics,
        "preallocate",
        Kind::Truth,
    ),
    row(
        &["retention.bytes", "log.retention.bytes"],
        Section::Topics,
        "retention.bytes",
        Kind::Number(-1, ANY, ""),
    ),
    row(
        &["retention.ms", "log.retention.ms"],
        Section::Topics,
        "retention.ms",
        Kind::Number(-1, ANY, ""),
    ),
    row(
        &["segment.bytes", "log.segment.bytes"],
        Section::Topics,
        "segment.bytes",
        Kind::Number(14, INT, ""),
    ),
    row(
        &["segment.index.bytes", "log.index.size.max.bytes"],
        Section::Topics,
        "segment.index.bytes",
        Kind::Number(4, INT, ""),
    ),
    row(
        &["segment.jitter.ms", "log.roll.jitter.ms"],
        Section::Topics,
        "segment.jitter.ms",
        Kind::Number(0, ANY, ""),
    ),
    row(
        &["segment.ms", "log.roll.ms"],
        Section::Topics,
        "segment.ms",
        Kind::Number(1, ANY, ""),
    ),
    row(
        &["unclean.leader.election.enable"],
        Section::Topics,
        "unclean.leader.election.enable",
        Kind::Truth,
    ),
    row(
        &["group.initial.rebalance.delay.ms"],
        Section::Groups,
        "initial_rebalance_delay",
        Kind::Number(0, 300_000, "ms"),
    ),
    row(
        &["group.min.session.timeout.ms"],
        Section::Groups,
        "session_timeout_min",
        Kind::Number(1_000, 1_800_000, "ms"),
    ),
    row(
        &["group.max.session.timeout.ms"],
        Section::Groups,
        "session_timeout_max",
        Kind::Number(1_000, 86_400_000, "ms"),
    ),
    row(
        &["group.max.size"],
        Section::Groups,
        "members_max",
        Kind::Number(1, 100_000, ""),
    ),
    row(
        &["offsets.retention.minutes"],
        Section::Groups,
        "offsets_retention",
        Kind::Number(1, 52_560_000, "m"),
    ),
    row(
        &["offsets.topic.num.partitions"],
        Section::Groups,
        "offsets_partitions",
        Kind::Number(1, 1_000, ""),
    ),
    row(
        &["max.connections"],
        Section::Limits,
        "connections",
        Kind::Number(1, 1_000_000, ""),
    ),
    row(
        &["socket.request.max.bytes"],
        Section::Limits,
        "request_bytes",
        Kind::Number(64 << 10, 1 << 30, ""),
    ),
    row(
        &["fetch.max.bytes"],
        Section::Limits,
        "fetch_bytes",
        Kind::Number(1 << 10, 1 << 30, ""),
    ),
    row(
        &["connections.max.idle.ms"],
        Section::Limits,
        "idle",
        Kind::Number(1_000, 31_536_000_000, "ms"),
    ),
];

/// The brokers' own name of what stands in the section `topics` of their file, all of which they can change while they run.
#[must_use]
pub fn live_name(key: &str) -> &str {
    let named = topics().find(|row| row.field == key);
    let name = named.and_then(|row| row.kafka.last().copied());
    name.unwrap_or(key)
}

/// A key of that section, if there is such.
#[must_use]
pub fn live_key(key: &str) -> Option<&'static str> {
    topics().map(|row| row.field).find(|field| *field == key)
}

fn topics() -> impl Iterator<Item = &'static Row> {
    TABLE
        .iter()
        .filter(|row| matches!(row.section, Section::Topics))
}

impl Kind {
    /// The value as the brokers' file has it, or what would be allowed.
    pub(super) fn read(self, value: &str) -> Result<String, String> {
        match self {
            Self::Number(min, max, unit) => match value.trim().parse::<i64>() {
                Ok(number) if (min..=max).contains(&number) => Ok(format!("{number}{unit}")),
                _ => Err(format!("a whole number from {min} to {max}")),
            },
            Self::Truth if matches!(value, "true" | "false") => Ok(value.to_owned()),
            Self::Truth => Err("\"true\" or \"false\"".to_owned()),
            Self::Word(words) if words.contains(&value) => Ok(value.to_owned()),
            Self::Word(words) => Err(words.join(" or ")),
            Self::Words(words) if value.split(',').all(|word| words.contains(&word.trim())) => {
                Ok(value.to_owned())
            }
            Self::Words(words) => Err(format!("some of {}, with commas between", words.join(", "))),
            Self::Fraction
                if value
                    .trim()
                    .parse::<f64>()
                    .is_ok_and(|number| (0.0..=1.0).contains(&number)) =>
            {
                Ok(value.to_owned())
            }
            Self::Fraction => Err("a number from 0 to 1".to_owned()),
        }
    }
}
