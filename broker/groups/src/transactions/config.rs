//! The bounds and timeouts of a transaction coordinator, named after Kafka's broker settings where Kafka has them.

/// Settings of one coordinator. The defaults are Kafka's; where Kafka has no bound, the reason for ours is with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `transaction.max.timeout.ms`: an open transaction holds back every reader of what is committed.
    pub timeout_ms_max: i32,
    /// `transactional.id.expiration.ms`: how long an id is remembered that nobody uses.
    pub id_expiration_ms: i64,
    /// `transaction.remove.expired.transaction.cleanup.interval.ms`.
    pub expiration_check_interval_ms: u64,
    /// Ids that one check may expire before other requests have their turn.
    pub expired_per_check_max: usize,
    /// Transactional ids of one shard: each costs some hundred bytes, and anyone who may write may make one. With 50 shards
    /// this is more than three million.
    pub ids_max: usize,
    /// Bytes of a transactional id: the stored format has 16 bits for a length, and the id is the key of each record.
    pub id_bytes_max: usize,
    /// Bytes that the partitions of one transaction take when they are stored: the record must fit `max.message.bytes`
    /// (1 MiB by default) of the topic.
    pub partition_bytes_max: usize,
    /// How long a request may wait for an earlier transaction of its producer to be completed before the client is told to
    /// come back: longer than markers take, shorter than anyone would miss an answer
    /// (`add.partitions.to.txn.retry.backoff.max.ms`).
    pub patience_ms: u64,
    /// Requests that wait so for one transaction: a producer has a few requests in flight to each of the brokers that it
    /// writes to. Others are told to come back at once.
    pub waiting_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            timeout_ms_max: 900_000,
            id_expiration_ms: 7 * 24 * 60 * 60 * 1_000,
            expiration_check_interval_ms: 3_600_000,
            expired_per_check_max: 10_000,
            ids_max: 65_536,
            id_bytes_max: 16_384,
            partition_bytes_max: 900_000,
            patience_ms: 100,
            waiting_max: 64,
        }
    }
}
