//! The bounds and timeouts of a coordinator, named after Kafka's broker settings where Kafka has them.

/// Settings of one coordinator. The defaults are Kafka's; where Kafka has no bound, the reason for ours is with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `group.initial.rebalance.delay.ms`: how long the first rebalance of an empty group waits for more members.
    pub initial_rebalance_delay_ms: u64,
    /// `group.min.session.timeout.ms`: shorter ones would take a busy client for a dead one.
    pub session_timeout_ms_min: i32,
    /// `group.max.session.timeout.ms`: longer ones would leave partitions of a dead client unread.
    pub session_timeout_ms_max: i32,
    /// How long a member that has never had an answer may wait for its first rebalance: it cannot send heartbeats yet.
    pub new_member_join_timeout_ms: u64,
    /// Bytes of a name (group, member, instance, client, protocol): the stored format has 16 bits for a length, and a
    /// member's id is longer than the client's or instance's by what makes it unique.
    pub name_bytes_max: usize,
    /// `group.max.size`. Kafka's default is no bound; this one keeps the join response of a leader, which carries every
    /// member, and the quadratic work of a rebalance within what one broker does in well under a second.
    pub group_size_max: usize,
    /// `group.share.max.size`: members of one share group, each of which is told of with every description.
    pub share_group_size_max: usize,
    /// Bytes of all members' subscriptions in one group: they go into one stored record, beside as many bytes of
    /// assignment, and the record into one batch.
    pub group_bytes_max: usize,
    /// Groups of one shard: each costs about a kilobyte while it exists, and anyone who may join may make one. With 50
    /// shards this is more than three million groups.
    pub groups_max: usize,
    /// Committed partitions of one group: about 200 bytes each, and OffsetFetch answers all of them in one response.
    pub offsets_max: usize,
    /// `offset.metadata.max.bytes`: what a client may store beside each offset.
    pub offset_metadata_bytes_max: usize,
    /// Bytes of one stored record: a batch must fit `max.message.bytes` (1 MiB by default) of the offsets topic.
    pub record_bytes_max: usize,
    /// Bytes of all members' subscriptions in one consumer group. Each is a record of its own; all are in memory, and
    /// each heartbeat that changes one looks at all.
    pub consumer_group_bytes_max: usize,
    /// Partitions that are assigned to one consumer group: a member may have all of them, and be giving up as many, in
    /// one stored record, 8 bytes each. Topics beyond are not assigned.
    pub assigned_partitions_max: usize,
    /// `offsets.retention.minutes`, in milliseconds: how long offsets outlive the group's last member.
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`.
    pub offsets_check_interval_ms: u64,
    /// Offsets that one check may expire before other requests have their turn: a shard is one task, and a check over a
    /// large backlog would hold everyone's heartbeats.
    pub expired_per_check_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            initial_rebalance_delay_ms: 3_000,
            session_timeout_ms_min: 6_000,
            session_timeout_ms_max: 1_800_000,
            new_member_join_timeout_ms: 300_000,
            name_bytes_max: 16_384,
            group_size_max: 2_000,
            share_group_size_max: 200,
            group_bytes_max: 480 * 1024,
            groups_max: 65_536,
            offsets_max: 200_000,
            offset_metadata_bytes_max: 4_096,
            record_bytes_max: 1_000_000,
            consumer_group_bytes_max: 16 << 20,
            assigned_partitions_max: 60_000,
            offsets_retention_ms: 7 * 24 * 60 * 60 * 1_000,
            offsets_check_interval_ms: 600_000,
            expired_per_check_max: 10_000,
        }
    }
}
