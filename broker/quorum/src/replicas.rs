//! What becomes of one partition's replicas when brokers come, go, fall behind and are moved.
//!
//! A [`Step`] takes a partition, is told what happened, and says what the partition is from there on. One rule for every
//! event, so that none forgets what another takes care of. What always holds after a step:
//!
//! - The leader is in the in-sync set and may lead; without one that may, there is no leader.
//! - Whoever is elected held everything acknowledged: it was in the in-sync set, or in the eligible set, whose members left
//!   it when it had already shrunk below its minimum, so that nothing was acknowledged without them (KIP-966).
//! - A leader that changes comes with a new leader epoch; so does a replica that is dropped, so that what it still sends is
//!   refused.
//! - In-sync, eligible and last known replicas are replicas, in the same order, each in one of the sets.
//!
//! Pure, and without a clock.

use weir_log::mutants::Mutant;

use crate::ids::BrokerId;
use crate::image::Partition;

/// What is to be known of the cluster to decide about a partition.
#[derive(Clone, Copy)]
pub struct Rules<'a> {
    /// How many replicas must be in sync for something to be acknowledged (`min.insync.replicas`).
    pub in_sync_min: usize,
    /// Whether a broker may lead: it is registered, ready, and not about to stop.
    pub can_lead: &'a dyn Fn(BrokerId) -> bool,
}

impl std::fmt::Debug for Rules<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rules")
            .field("in_sync_min", &self.in_sync_min)
            .finish_non_exhaustive()
    }
}

/// A partition on its way from one state to the next.
#[derive(Clone, Debug)]
pub struct Step<'a> {
    before: &'a Partition,
    rules: Rules<'a>,
    replicas: Vec<BrokerId>,
    isr: Vec<BrokerId>,
    adding: Vec<BrokerId>,
    removing: Vec<BrokerId>,
    /// Replicas that may have lost some of what they had.
    lost: Vec<BrokerId>,
    /// Replicas that have nothing of what they had.
    wiped: Vec<BrokerId>,
    leader: Option<BrokerId>,
    /// Elect anew even if the leader may go on.
    is_election: bool,
    /// The leader leads at the price of what it lacks.
    is_unclean: bool,
}

impl<'a> Step<'a> {
    /// Nothing has happened yet.
    pub fn new(before: &'a Partition, rules: Rules<'a>) -> Self {
        Self {
            before,
            rules,
            replicas: before.replicas.clone(),
            isr: before.isr.clone(),
            adding: before.adding.clone(),
            removing: before.removing.clone(),
            lost: Vec::new(),
            wiped: Vec::new(),
            leader: before.leader,
            is_election: false,
            is_unclean: false,
        }
    }

    /// A broker is gone: it is in sync with nothing any more, and leads nothing.
    #[must_use]
    pub fn gone(mut self, broker: BrokerId) -> Self {
        self.isr.retain(|id| *id != broker);
        if self.leader == Some(broker) {
            self.leader = None;
        }
        self
    }

    /// A broker is back, and may lack some of what it had.
    #[must_use]
    pub fn lost(mut self, broker: BrokerId) -> Self {
        self.lost.push(broker);
        self.gone(broker)
    }

    /// A broker is back with another disk.
    #[must_use]
    pub fn wiped(mut self, broker: BrokerId) -> Self {
        self.wiped.push(broker);
        self.lost(broker)
    }

    /// The leader says who is in sync.
    #[must_use]
    pub fn in_sync(mut self, isr: &[BrokerId]) -> Self {
        self.isr = isr.to_vec();
        self
    }

    /// The first replica that may is to lead, whoever does now.
    #[must_use]
    pub fn elect(mut self) -> Self {
        self.is_election = true;
        self
    }

    /// A replica is to lead at the price of what it lacks.
    #[must_use]
    pub fn accept_loss(mut self, leader: BrokerId) -> Self {
        self.isr = vec![leader];
        self.leader = Some(leader);
        self.lost = self.replicas.clone();
        self.is_unclean = true;
        self
    }

    /// The partition is to be on these brokers, the preferred leader first; until they have everything the others stay too.
    #[must_use]
    pub fn reassign(mut self, target: &[BrokerId]) -> Self {
        let stable: Vec<BrokerId> = self.stable();
        self.adding = target
            .iter()
            .copied()
            .filter(|id| !stable.contains(id))
            .collect();
        self.removing = stable
            .iter()
            .copied()
            .filter(|id| !target.contains(id))
            .collect();
        self.replicas = target.iter().chain(&self.removing).copied().collect();
        self
    }

    /// The partition stays where it was before it was reassigned.
    #[must_use]
    pub fn cancel(mut self) -> Self {
        self.replicas = self.stable();
        self.adding.clear();
        self.removing.clear();
        self
    }

    /// The replicas as they were before the reassignment that is under way.
    fn stable(&self) -> Vec<BrokerId> {
        let old = |id: &BrokerId| !self.before.adding.contains(id);
        self.before.replicas.iter().copied().filter(old).collect()
    }

    /// What the partition is from here on; `None` when nothing changes.
    pub fn finish(mut self) -> Option<Partition> {
        let order = self.replicas.clone();
        self.isr = order
            .into_iter()
            .filter(|id| self.isr.contains(id))
            .collect();
        self.complete();
        let mut elr = self.eligible();
        let leader = self.leader.filter(|id| self.isr.contains(id));
        let stays = leader.filter(|id| (self.rules.can_lead)(*id) && !self.is_election);
        // A leader that is about to stop goes on where no other replica in sync can: what only it has is not given up.
        self.leader = stays
            .or_else(|| self.first_that_can_lead(&self.isr))
            .or(leader);
        if Mutant::ElectAnybody.is_active()
            && stays.is_none()
            && let Some(any) =
                (self.replicas.iter().rev().copied()).find(|id| (self.rules.can_lead)(*id))
        {
            self.leader = Some(any);
            self.isr.push(any);
            self.isr.dedup();
        }
        if self.leader.is_none()
            && let Some(last) = self.first_that_can_lead(&elr)
        {
            // Only now one that is eligible: it held everything acknowledged when it left, and is alone in sync.
            self.leader = Some(last);
            self.isr = vec![last];
            elr = self.eligible();
        }
        let last_known = self.last_known(&elr);
        self.into_next(elr, last_known)
    }

    /// A reassignment is over when all that are to stay and were added have everything, and enough of those that stay do.
    fn complete(&mut self) {
        if self.adding.is_empty() && self.removing.is_empty() {
            return;
        }
        let stays = |id: &BrokerId| !self.removing.contains(id);
        let isr: Vec<BrokerId> = self.isr.iter().copied().filter(stays).collect();
        let target: Vec<BrokerId> = self.replicas.iter().copied().filter(stays).collect();
        let enough = isr.len() >= self.rules.in_sync_min.clamp(1, target.len().max(1));
        if enough && self.adding.iter().all(|id| isr.contains(id)) {
            self.isr = isr;
            self.replicas = target;
            self.adding.clear();
            self.removing.clear();
        }
    }

    /// Who may be elected though not in sync: those that left when the set was below its minimum.
    fn eligible(&self) -> Vec<BrokerId> {
        if self.isr.len() >= self.in_sync_min() {
            return Vec::new();
        }
        let was = |id: &BrokerId| self.before.isr.contains(id) || self.before.elr.contains(id);
        let is = |id: &BrokerId| was(id) && !self.isr.contains(id) && !self.lost.contains(id);
        self.replicas.iter().copied().filter(is).collect()
    }

    /// Who else may hold as much, though not for certain: those that have lost something since the set fell below its
    /// minimum. Nobody is elected from among them by itself.
    fn last_known(&self, elr: &[BrokerId]) -> Vec<BrokerId> {
        if self.isr.len() >= self.in_sync_min() {
            return Vec::new();
        }
        let before = self.before;
        let was = |id: &BrokerId| {
            before.isr.contains(id) || before.elr.contains(id) || before.last_known.contains(id)
        };
        let is_certain = |id: &BrokerId| self.isr.contains(id) || elr.contains(id);
        let may = |id: &BrokerId| was(id) && !is_certain(id) && !self.wiped.contains(id);
        self.replicas.iter().copied().filter(may).collect()
    }

    /// The minimum, which no partition can be asked to exceed its replicas by.
    fn in_sync_min(&self) -> usize {
        self.rules.in_sync_min.clamp(1, self.replicas.len().max(1))
    }

    fn first_that_can_lead(&self, among: &[BrokerId]) -> Option<BrokerId> {
        let can = |id: &BrokerId| among.contains(id) && (self.rules.can_lead)(*id);
        let staying = |id: &BrokerId| !self.removing.contains(id);
        let preferred = self.replicas.iter().copied().filter(staying).find(can);
        preferred.or_else(|| self.replicas.iter().copied().find(can))
    }

    fn into_next(self, elr: Vec<BrokerId>, last_known: Vec<BrokerId>) -> Option<Partition> {
        let before = self.before;
        let dropped = before.replicas.iter().any(|id| !self.replicas.contains(id));
        let leads_anew = self.leader != before.leader || dropped;
        let leader_epoch = match leads_anew {
            true => before.leader_epoch.next(),
            false => before.leader_epoch,
        };
        let next = Partition {
            replicas: self.replicas,
            isr: self.isr,
            leader: self.leader,
            leader_epoch,
            unclean: match self.is_unclean {
                true => Some(leader_epoch),
                false => before.unclean,
            },
            epoch: before.epoch,
            elr,
            last_known,
            adding: self.adding,
            removing: self.removing,
        };
        (next != *before).then(|| Partition {
            epoch: before.epoch.next(),
            ..next
        })
    }
}

#[cfg(test)]
mod tests;
