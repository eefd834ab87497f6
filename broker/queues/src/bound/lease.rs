//! A partition's part of its topic's bound.

use weir_wire::{LeaderEpoch, PartitionIndex};

/// What a partition's leader asks of the ledger, and tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Which partition.
    pub partition: PartitionIndex,
    /// The epoch in which the asking broker leads it.
    pub epoch: LeaderEpoch,
    /// Which ledger is asked: the epoch of the partition that keeps it.
    pub ledger: LeaderEpoch,
    /// The last grant of this ledger that was taken.
    pub grant: u64,
    /// What the partition keeps to, whatever comes, until a later grant.
    pub limit: u64,
    /// How much of that it uses.
    pub used: u64,
    /// How much more it would like.
    pub want: u64,
    /// How much of that a batch needs that waits for it: less is of no use.
    pub need: u64,
}

/// What the ledger answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Which partition.
    pub partition: PartitionIndex,
    /// For which epoch of it.
    pub epoch: LeaderEpoch,
    /// Whose grant.
    pub ledger: LeaderEpoch,
    /// Its number; of two grants of a ledger the later counts.
    pub grant: u64,
    /// What the partition may have now.
    pub limit: u64,
    /// A batch of somebody needs more than there was: who has what it does not use is to give it back.
    pub is_recalled: bool,
    /// There is not what was needed, and nobody has what it does not use, as far as the ledger was told: the queue is full.
    pub is_all: bool,
}

/// What one partition may have, as its leader in one epoch knows it. A leader of a later epoch begins with what there is; what its predecessor had
/// not used is nobody's then, since nothing that it still appends can be committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    partition: PartitionIndex,
    epoch: LeaderEpoch,
    ledger: LeaderEpoch,
    grant: u64,
    limit: u64,
}

impl Lease {
    /// Begins with the backlog that is in the log. `ledger`: the epoch of the partition that keeps it, in the metadata that made this broker
    /// leader, or later.
    #[must_use]
    pub fn new(
        partition: PartitionIndex,
        epoch: LeaderEpoch,
        ledger: LeaderEpoch,
        backlog: u64,
    ) -> Self {
        Self {
            partition,
            epoch,
            ledger,
            grant: 0,
            limit: backlog,
        }
    }

    /// How much the backlog may be.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Gives back what is beyond `limit`, which must not be below the backlog.
    pub fn give_back(&mut self, limit: u64) {
        self.limit = self.limit.min(limit);
    }

    /// The metadata says who keeps the ledger now. Grants of an earlier one are not taken any more.
    pub fn ledger_is(&mut self, ledger: LeaderEpoch) {
        if ledger > self.ledger {
            self.ledger = ledger;
            self.grant = 0;
        }
    }

    /// What to say to the ledger: how much is used, how much more is wanted, and how much of that a batch needs.
    #[must_use]
    pub fn ask(&self, used: u64, want: u64, need: u64) -> Ask {
        Ask {
            partition: self.partition,
            epoch: self.epoch,
            ledger: self.ledger,
            grant: self.grant,
            limit: self.limit,
            used,
            want,
            need,
        }
    }

    /// Whether this is an answer to this leader by the ledger that it asks.
    #[must_use]
    pub fn is_answered_by(&self, grant: &Grant) -> bool {
        grant.partition == self.partition
            && grant.epoch == self.epoch
            && grant.ledger == self.ledger
    }

    /// The ledger has answered. `true` when there is more room than before.
    pub fn granted(&mut self, grant: Grant) -> bool {
        if !self.is_answered_by(&grant) || grant.grant <= self.grant {
            return false;
        }
        let grows = grant.limit > self.limit;
        self.grant = grant.grant;
        self.limit = grant.limit;
        grows
    }
}
