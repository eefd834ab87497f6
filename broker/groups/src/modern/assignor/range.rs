//! `range`: each topic's partitions in one piece for each subscriber, the same piece of every topic.
//!
//! Members that subscribe to topics of as many partitions get the same numbers of each, so that they can join them.
//! Members are taken in an order that does not change with restarts: static ones first, by instance.

use weir_wire::PartitionIndex;

use super::{Assignment, Spec};
use crate::modern::TopicPartition;

/// Assigns by ranges.
pub(crate) fn range(spec: &Spec) -> Assignment {
    let mut assignment = spec.nothing();
    for (topic, partitions) in &spec.topics {
        let mut subscribers: Vec<_> = spec.subscribers(*topic).collect();
        subscribers.sort_by_key(|(id, member)| (member.instance.is_none(), &member.instance, *id));
        let Ok(count) = i32::try_from(subscribers.len()) else {
            continue;
        };
        if count == 0 {
            continue;
        }
        let (share, mut extra) = (partitions / count, partitions % count);
        let mut next = 0;
        for (id, _) in subscribers {
            let end = next + share + i32::from(extra > 0);
            extra -= i32::from(extra > 0);
            if let Some(own) = assignment.get_mut(id) {
                own.extend((next..end).map(|partition| TopicPartition {
                    topic: *topic,
                    partition: PartitionIndex(partition),
                }));
            }
            next = end;
        }
    }
    assignment
}
