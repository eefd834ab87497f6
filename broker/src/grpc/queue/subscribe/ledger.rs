//! What is with the client, by token. Pure.

use std::collections::BTreeMap;

use super::credit::Credit;
use super::member::TopicPartition;

/// Names a share session, each once in the life of a stream.
pub(super) type SessionId = u64;

/// A record that is leased to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    /// In whose name the record was acquired.
    pub(super) session: SessionId,
    pub(super) partition: TopicPartition,
    pub(super) offset: i64,
    /// An answer to its settlement is on its way.
    pub(super) is_settling: bool,
}

/// Everything that was handed out and not settled. What always holds: a record has one token at a time, and each token takes one credit.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) credit: Credit,
    last: u64,
    leases: BTreeMap<u64, Lease>,
    tokens: BTreeMap<(TopicPartition, i64), u64>,
}

impl Ledger {
    /// A fetch that reserved credit has brought these records; their tokens. What the client had of the same record is void.
    pub(super) fn hand_out(
        &mut self,
        session: SessionId,
        reserved: u32,
        records: impl ExactSizeIterator<Item = (TopicPartition, i64)>,
    ) -> Vec<u64> {
        let count = u32::try_from(records.len()).unwrap_or(u32::MAX);
        self.credit.fetched(reserved, count);
        let tokens = records.map(|(partition, offset)| {
            self.last += 1;
            let token = self.last;
            let lease = Lease {
                session,
                partition,
                offset,
                is_settling: false,
            };
            if let Some(before) = self.tokens.insert((partition, offset), token)
                && self.leases.remove(&before).is_some()
            {
                self.credit.settled();
            }
            self.leases.insert(token, lease);
            token
        });
        tokens.collect()
    }

    pub(super) fn get_mut(&mut self, token: u64) -> Option<&mut Lease> {
        self.leases.get_mut(&token)
    }

    /// The client does not have it any more.
    pub(super) fn remove(&mut self, token: u64) -> Option<Lease> {
        let lease = self.leases.remove(&token)?;
        self.tokens.remove(&(lease.partition, lease.offset));
        self.credit.settled();
        Some(lease)
    }

    /// Whether something is out that was acquired in the name of a session.
    pub(super) fn has_of(&self, session: SessionId) -> bool {
        self.leases.values().any(|lease| lease.session == session)
    }
}

#[cfg(test)]
mod tests {
    use weir_quorum::TopicId;

    use super::*;

    fn place(offset: i64) -> (TopicPartition, i64) {
        ((TopicId(uuid::Uuid::nil()), 0), offset)
    }

    #[test]
    fn a_record_that_comes_again_voids_the_token_that_it_had() {
        let mut ledger = Ledger::default();
        ledger.credit.set(2);
        ledger.credit.reserve(1);
        let first = ledger.hand_out(1, 1, [place(7)].into_iter());
        ledger.credit.reserve(1);
        let again = ledger.hand_out(2, 1, [place(7)].into_iter());
        assert_eq!(ledger.credit.free(), 1, "it takes one credit, not two");
        assert!(ledger.remove(first[0]).is_none());
        assert!(ledger.has_of(2) && !ledger.has_of(1));
        assert_eq!(ledger.remove(again[0]).map(|lease| lease.offset), Some(7));
        assert!(ledger.remove(again[0]).is_none(), "only once");
        assert_eq!(ledger.credit.free(), 2);
    }
}
