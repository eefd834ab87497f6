//! What a topic's configuration means for one partition's log.

pub use weir_wire::batch::TimestampType;

/// What has to be true of a batch before [`Observer::durable`](crate::Observer::durable) covers it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Synced to disk: survives a power cut. The default.
    #[default]
    Fsync,
    /// Written to the operating system, and synced in the background within
    /// [`LogConfig::replicated_sync_ms`]: survives the process; a power cut takes at most that much time.
    Replicated,
    /// Written to the operating system, which syncs when it likes: Kafka's own promise.
    Os,
}

/// When and how a log is compacted (`cleanup.policy` has `compact`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compaction {
    /// The part of the closed segments' bytes that has to be dirty before a pass, in millionths
    /// (`min.cleanable.dirty.ratio`).
    pub dirty_ratio_min_ppm: u32,
    /// A record stays as it is for at least this long (`min.compaction.lag.ms`).
    pub lag_min_ms: i64,
    /// ... and at most about this long (`max.compaction.lag.ms`); segments are closed by then.
    pub lag_max_ms: i64,
    /// How long a tombstone stays once a pass has met it (`delete.retention.ms`).
    pub delete_retention_ms: i64,
}

impl Default for Compaction {
    fn default() -> Self {
        Self {
            dirty_ratio_min_ppm: 500_000,
            lag_min_ms: 0,
            lag_max_ms: i64::MAX,
            delete_retention_ms: 24 * 3_600_000,
        }
    }
}

/// Settings of one partition's log. All can change while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// What the log promises of an appended batch.
    pub durability: Durability,
    /// With [`Durability::Replicated`], how long an appended batch may stay unsynced, in milliseconds.
    pub replicated_sync_ms: i64,
    /// A segment is closed before it would grow beyond this (`segment.bytes`). A larger batch gets a segment of its own.
    pub segment_bytes: u64,
    /// A segment is closed when its first batch is older than this (`segment.ms`).
    pub segment_ms: i64,
    /// By up to how much that is shortened, for each segment otherwise (`segment.jitter.ms`).
    pub segment_jitter_ms: i64,
    /// Keeps only the last record of each key, where it is set.
    pub compaction: Option<Compaction>,
    /// Segments whose newest record is older are deleted (`retention.ms`); `None` keeps them for ever.
    pub retention_ms: Option<i64>,
    /// Oldest segments are deleted while the rest is at least this large (`retention.bytes`); `None` is without limit.
    pub retention_bytes: Option<u64>,
    /// One index entry for so many bytes of log (`index.interval.bytes`).
    pub index_interval_bytes: u64,
    /// Which time records carry (`message.timestamp.type`). With the log's, a batch's greatest timestamp, attributes and
    /// checksum are written anew.
    pub timestamp_type: TimestampType,
    /// A producer id that has been silent for this long is forgotten (`producer.id.expiration.ms`).
    pub producer_expiry_ms: i64,
    /// Producer ids remembered at once; the one silent for longest gives way. Each costs about 250 bytes, so the default
    /// bounds a partition's table at 5 MiB.
    pub producers_max: usize,
    /// Of a producer that is not known no batch is taken but its first, as its sequence says. Kafka takes any, since what is known of it may have
    /// expired; but where batches are refused for the moment, what was sent behind a new producer's first would be taken before it.
    pub begins_at_zero: bool,
    /// A state snapshot is written for each so many bytes of log, so that a start never reads more headers than that.
    pub snapshot_interval_bytes: u64,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            durability: Durability::Fsync,
            replicated_sync_ms: 1_000,
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 3_600_000,
            segment_jitter_ms: 0,
            compaction: None,
            retention_ms: Some(7 * 24 * 3_600_000),
            retention_bytes: None,
            index_interval_bytes: 4_096,
            timestamp_type: TimestampType::CreateTime,
            producer_expiry_ms: 24 * 3_600_000,
            producers_max: 20_000,
            begins_at_zero: false,
            snapshot_interval_bytes: 64 << 20,
        }
    }
}
