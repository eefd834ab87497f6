//! How much a client may have, and who may fetch how much of it. Pure.

/// A client's credit. What always holds: so much as is out and under way together is never raised above the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Credit {
    limit: u32,
    /// With the client, and not settled.
    out: u32,
    /// What fetches under way may bring.
    reserved: u32,
}

impl Credit {
    /// The client says what it takes.
    pub(super) fn set(&mut self, limit: u32) {
        self.limit = limit;
    }

    pub(super) fn limit(&self) -> u32 {
        self.limit
    }

    /// With the client, and not settled.
    pub(super) fn out(&self) -> u32 {
        self.out
    }

    /// What may still be fetched.
    pub(super) fn free(&self) -> u32 {
        self.limit
            .saturating_sub(self.out.saturating_add(self.reserved))
    }

    /// A fetch begins that may bring so much.
    pub(super) fn reserve(&mut self, count: u32) {
        debug_assert!(count <= self.free(), "more than there is credit for");
        self.reserved += count;
    }

    /// A fetch has ended that might have brought `reserved`, and has brought `count`.
    pub(super) fn fetched(&mut self, reserved: u32, count: u32) {
        debug_assert!(count <= reserved, "more than was asked for");
        self.reserved = self.reserved.saturating_sub(reserved);
        self.out = self.out.saturating_add(count);
    }

    /// Something is not with the client any more.
    pub(super) fn settled(&mut self) {
        self.out = self.out.saturating_sub(1);
    }
}

/// What each of those who could fetch now may fetch, in the order in which they shall come to it; `was_busy` says of whom the last fetch
/// brought something. A quiet one gets 1, which it holds while it waits, and the busy ones the rest; who is alone gets all.
pub(super) fn shares(free: u32, was_busy: &[bool]) -> Vec<u32> {
    let count = u32::try_from(was_busy.len()).unwrap_or(u32::MAX);
    if count == 1 {
        return vec![free];
    }
    if free <= count {
        return (0..count).map(|place| u32::from(place < free)).collect();
    }
    let busy = u32::try_from(was_busy.iter().filter(|busy| **busy).count()).unwrap_or(u32::MAX);
    let rest = free - (count - busy);
    let mut place = 0;
    let shares = was_busy.iter().map(|is_busy| {
        if !is_busy {
            return 1;
        }
        let share = rest / busy + u32::from(place < rest % busy);
        place += 1;
        share
    });
    shares.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_busy_have_what_the_quiet_do_not_need() {
        assert_eq!(shares(10, &[false]), [10]);
        assert_eq!(shares(10, &[true, false, true]), [5, 1, 4]);
        assert_eq!(shares(10, &[false, false, false]), [1, 1, 1]);
        assert_eq!(shares(2, &[false, true, true]), [1, 1, 0]);
        assert_eq!(shares(0, &[true, true]), [0, 0]);
        assert!(shares(5, &[]).is_empty());
    }

    #[test]
    fn a_credit_that_was_lowered_lets_nothing_through_before_enough_is_settled() {
        let mut credit = Credit::default();
        credit.set(3);
        credit.reserve(3);
        credit.fetched(3, 3);
        credit.set(1);
        assert_eq!(credit.free(), 0);
        for _ in 0..2 {
            credit.settled();
            assert_eq!(credit.free(), 0);
        }
        credit.settled();
        assert_eq!(credit.free(), 1);
    }

    proptest! {
        #[test]
        fn no_more_is_shared_than_is_free_and_nobody_is_left_out_while_there_is_enough(
            free in 0u32..200, was_busy in prop::collection::vec(any::<bool>(), 0..20)
        ) {
            let shares = shares(free, &was_busy);
            prop_assert_eq!(shares.len(), was_busy.len());
            prop_assert!(shares.iter().sum::<u32>() <= free);
            if free as usize >= was_busy.len() {
                prop_assert!(shares.iter().all(|share| *share > 0));
            }
        }

        #[test]
        fn what_is_out_and_under_way_never_passes_the_credit(
            steps in prop::collection::vec((0u8..4, 0u32..12), 0..200)
        ) {
            let mut credit = Credit::default();
            let mut limit = 0;
            let mut under_way = Vec::new();
            let mut out = 0;
            for (step, number) in steps {
                match step {
                    0 => {
                        limit = number;
                        credit.set(number);
                    }
                    1 => {
                        let taken = number.min(credit.free());
                        let sum: u32 = under_way.iter().sum();
                        prop_assert!(taken == 0 || out + sum + taken <= limit);
                        credit.reserve(taken);
                        under_way.push(taken);
                    }
                    2 => if let Some(reserved) = under_way.pop() {
                        let count = number.min(reserved);
                        credit.fetched(reserved, count);
                        out += count;
                    },
                    _ => if out > 0 {
                        credit.settled();
                        out -= 1;
                    },
                }
            }
        }
    }
}
