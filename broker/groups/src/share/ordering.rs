//! Order by key, where a topic asks for it: of one key's records one is out at a time, oldest first ([`weir_queues::order`] decides).
//!
//! A record that has to wait for an older one of its key is in the window, available to nobody, until that one is done with: acknowledged,
//! given up, passed over, or gone from the log. Records come into the order as they are first read, which is in the order of the log, also after
//! a failover. Where messages have priorities each level has an order of its own, and a record waits also while another of its key is out of another level. Waiting records take room in the window: a key whose oldest record stays out for long can fill it.

use weir_queues::order::{HeldKeys, KeyHash, KeyOrder};
use weir_wire::Offset;

use super::acquire::Fetched;
use super::partition::SharePartition;
use super::runs::State;

impl SharePartition {
    /// Records of one key are handed out one at a time from the beginning of this share-partition's life on.
    #[must_use]
    pub fn in_order_of_keys(mut self) -> Self {
        self.order = Some(Box::default());
        self
    }

    /// Whether a record that is new in the window, or available there, may be handed out; all of its offsets, where it is a part of a batch
    /// without a key.
    pub(super) fn may_go(&mut self, fetched: &Fetched) -> bool {
        let (Some(order), Some(key)) = (&mut self.order, fetched.key) else {
            return true;
        };
        let may_go = |held: &HeldKeys| held.may_go(key, fetched.base);
        order.offer(key, fetched.base) && self.held.as_deref().is_none_or(may_go)
    }

    /// What might go is handed out.
    pub(super) fn hold(&mut self, fetched: &Fetched) {
        if let (Some(held), Some(key)) = (&mut self.held, fetched.key) {
            held.hold(key, fetched.base);
        }
    }

    /// Nobody holds these keys any more: of each the oldest record may be handed out.
    pub(super) fn let_oldest_go(&mut self, keys: &[KeyHash]) {
        let Some(order) = &self.order else { return };
        let oldest = keys.iter().filter_map(|key| order.oldest(*key));
        let oldest: Vec<Offset> = oldest.collect();
        self.unblock(&oldest);
    }

    /// Records are done with, or were none: those that waited for them may be handed out.
    pub(super) fn let_next_go(&mut self, first: i64, last: i64) {
        let Some(order) = &mut self.order else {
            return;
        };
        if let Some(held) = &mut self.held {
            (first..=last).for_each(|offset| held.settled(Offset(offset)));
        }
        let next: Vec<Offset> = (first..=last)
            .filter_map(|offset| order.settled(Offset(offset)))
            .collect();
        self.unblock(&next);
    }

    /// The log begins later.
    pub(super) fn forget_order_below(&mut self, start: i64) {
        if let Some(held) = &mut self.held {
            held.drop_below(Offset(start));
        }
        if let Some(order) = &mut self.order {
            let next = order.drop_below(Offset(start));
            self.unblock(&next);
        }
    }

    fn unblock(&mut self, ready: &[Offset]) {
        for offset in ready {
            for run in self.runs.within(offset.0..=offset.0) {
                if let State::Blocked { deliveries } = run.state {
                    self.runs
                        .set(run.first, run.last, State::Available { deliveries });
                    self.hint = self.hint.min(run.first);
                    self.freed = true;
                }
            }
        }
    }
}

/// What a share-partition remembers of the order of keys.
pub(super) type Order = Option<Box<KeyOrder>>;
