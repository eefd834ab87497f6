//! The assignor of share groups: partitions may be with many members.
//!
//! What always holds: every partition has a member that subscribes to it, if there is one; every member has a partition, if
//! it subscribes to a topic that there is; and members that read the same topics share evenly, so that each partition has about
//! as many members as any other.

use std::collections::{BTreeMap, BTreeSet};

use weir_wire::{PartitionIndex, TopicId};

use super::{Assignment, Spec};
use crate::modern::TopicPartition;
use crate::types::MemberId;

/// Goes round partitions and members together, as long as the longer list is: those who subscribe to the same topics share all
/// partitions of these.
pub(crate) fn simple(spec: &Spec) -> Assignment {
    let mut assignment = spec.nothing();
    // Members by what they subscribe to: mostly all to the same.
    let mut alike: BTreeMap<&BTreeSet<TopicId>, Vec<&MemberId>> = BTreeMap::new();
    for (id, member) in &spec.members {
        alike.entry(&member.topics).or_default().push(id);
    }
    for (topics, members) in alike {
        let partitions = topics.iter().flat_map(|topic| {
            let count = spec.topics.get(topic).copied().unwrap_or(0);
            (0..count).map(|partition| TopicPartition {
                topic: *topic,
                partition: PartitionIndex(partition),
            })
        });
        let partitions: Vec<_> = partitions.collect();
        if partitions.is_empty() {
            continue;
        }
        let rounds = partitions.len().max(members.len());
        let places = partitions.iter().cycle().zip(members.iter().cycle());
        for (partition, member) in places.take(rounds) {
            if let Some(share) = assignment.get_mut(*member) {
                share.insert(*partition);
            }
        }
    }
    assignment
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modern::assignor::MemberSpec;

    fn spec(members: &[(&str, &[u128])], topics: &[(u128, i32)]) -> Spec {
        let id = |number: &u128| TopicId(uuid::Uuid::from_u128(*number));
        let members = members.iter().map(|(name, topics)| {
            let member = MemberSpec {
                topics: topics.iter().map(id).collect(),
                ..MemberSpec::default()
            };
            (MemberId::from(*name), member)
        });
        Spec {
            members: members.collect(),
            topics: topics
                .iter()
                .map(|(topic, count)| (id(topic), *count))
                .collect(),
        }
    }

    fn counts(assignment: &Assignment) -> Vec<usize> {
        assignment.values().map(BTreeSet::len).collect()
    }

    #[test]
    fn more_partitions_than_members_are_shared_out() {
        let assignment = simple(&spec(&[("a", &[1, 2]), ("b", &[1, 2])], &[(1, 3), (2, 2)]));
        assert_eq!(counts(&assignment), [3, 2]);
        let all: BTreeSet<_> = assignment.values().flatten().collect();
        assert_eq!(all.len(), 5);
    }

    #[test]
    fn more_members_than_partitions_read_the_same_ones() {
        let members: [(&str, &[u128]); 5] = [
            ("a", &[1]),
            ("b", &[1]),
            ("c", &[1]),
            ("d", &[1]),
            ("e", &[1]),
        ];
        let assignment = simple(&spec(&members, &[(1, 2)]));
        assert_eq!(counts(&assignment), [1; 5]);
        let first = assignment
            .values()
            .flatten()
            .filter(|at| at.partition.0 == 0);
        assert_eq!(first.count(), 3);
    }

    #[test]
    fn a_partition_goes_to_who_subscribes_to_it() {
        let members: [(&str, &[u128]); 3] = [("a", &[1]), ("b", &[2]), ("c", &[])];
        let assignment = simple(&spec(&members, &[(1, 2), (2, 1)]));
        assert_eq!(counts(&assignment), [2, 1, 0]);
    }
}
