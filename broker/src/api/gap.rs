//! What the producer of a batch is told that does not follow on what a leader has.

use weir_quorum::configs::{Overflow, QueueConfig};

use crate::error::ErrorCode;

/// What a batch lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gap {
    /// The one before it of a producer that is known.
    Known,
    /// The first of a producer that is not known.
    Unknown,
    /// The first of a producer that is not known, and the batch is of a transaction.
    OfTransaction,
}

impl Gap {
    /// What a producer is told. What a leader lacks that has only just taken over may have been refused by its predecessor, and is on its way: see
    /// [`super::pipelined`]. Where a bound refuses for good it is told that it is missing at once: there producers leave such batches out, and begin anew with
    /// the next leader.
    pub(super) fn told(self, may_lack: bool, queue: Option<&QueueConfig>) -> ErrorCode {
        let refuses =
            queue.is_some_and(|queue| queue.is_bounded() && queue.overflow == Overflow::Reject);
        match self {
            // The transaction is aborted, which costs its producer nothing; it would be fenced while it waits.
            Self::OfTransaction => ErrorCode::UnknownProducerId,
            Self::Known | Self::Unknown if may_lack && refuses => {
                ErrorCode::OutOfOrderSequenceNumber
            }
            Self::Known | Self::Unknown if may_lack => ErrorCode::NotLeaderOrFollower,
            Self::Known => ErrorCode::OutOfOrderSequenceNumber,
            Self::Unknown if queue.is_some() => ErrorCode::UnknownProducerId,
            // By now anything is taken of it. Of one that sends again librdkafka makes a fatal error that it is not known.
            Self::Unknown => ErrorCode::NotLeaderOrFollower,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(overflow: Overflow) -> QueueConfig {
        QueueConfig {
            group: None,
            max_messages: Some(10),
            max_bytes: None,
            scope: weir_quorum::configs::Scope::Partition,
            overflow,
            delay_max_ms: None,
            deduplication_window_ms: None,
            trace_ratio: None,
            view: None,
        }
    }

    #[test]
    fn a_plain_topic_never_tells_a_producer_that_it_is_not_known() {
        for may_lack in [true, false] {
            let told = Gap::Unknown.told(may_lack, None);
            assert_eq!(told, ErrorCode::NotLeaderOrFollower);
        }
        assert_eq!(Gap::Known.told(true, None), ErrorCode::NotLeaderOrFollower);
        assert_eq!(
            Gap::Known.told(false, None),
            ErrorCode::OutOfOrderSequenceNumber
        );
    }

    #[test]
    fn a_transaction_is_aborted_at_once_rather_than_fenced_in_the_end() {
        let throttled = queue(Overflow::Throttle);
        for may_lack in [true, false] {
            for queue in [None, Some(&throttled)] {
                let told = Gap::OfTransaction.told(may_lack, queue);
                assert_eq!(told, ErrorCode::UnknownProducerId);
            }
        }
    }

    #[test]
    fn only_where_a_bound_refuses_for_good_a_gap_is_told_at_once() {
        let told = |overflow| Gap::Known.told(true, Some(&queue(overflow)));
        assert_eq!(told(Overflow::Reject), ErrorCode::OutOfOrderSequenceNumber);
        assert_eq!(told(Overflow::Throttle), ErrorCode::NotLeaderOrFollower);
        assert_eq!(told(Overflow::DropOldest), ErrorCode::NotLeaderOrFollower);
        let mut unbounded = queue(Overflow::Reject);
        unbounded.max_messages = None;
        assert_eq!(
            Gap::Known.told(true, Some(&unbounded)),
            ErrorCode::NotLeaderOrFollower
        );
    }
}
