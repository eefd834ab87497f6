//! How share groups stand in the partitions that this broker leads, for metrics.
//!
//! Known of share-partitions that are led here, which they are for as long as some member asks for them; and of queues with a bound, whose group is
//! followed with or without members. What nobody here knows is left out, not guessed.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_wire::Offset;

use super::Share;
use crate::groups::oldest_unread;
use crate::partitions::Partition;

/// What a group has to do in a topic's partitions that are led here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// Messages that failed and wait for their next delivery.
    pub parked: u64,
    /// Age of the oldest message that is not settled, in milliseconds; 0 when all are.
    pub oldest_ms: u64,
}

/// By group and topic.
pub type Measures = BTreeMap<(String, Arc<str>), Measured>;

impl Share {
    /// Measures, with a look at the log for each partition in which something is not settled.
    pub async fn measure(&self, partitions: &[Arc<Partition>]) -> Measures {
        let mut measures = Measures::new();
        let mut places: Vec<(String, Arc<Partition>, Offset)> = Vec::new();
        let leaders: Vec<_> = self.leaders().values().cloned().collect();
        for leader in leaders {
            let standing = leader.standing();
            let Some((start, parked)) = standing.filter(|_| leader.partition.leads(leader.epoch))
            else {
                continue;
            };
            let group = leader.key.group.as_str().to_owned();
            let topic = Arc::clone(leader.partition.topic());
            measures.entry((group.clone(), topic)).or_default().parked += parked;
            places.push((group, Arc::clone(&leader.partition), start));
        }
        for partition in partitions {
            let Some(bound) = partition.bound() else {
                continue;
            };
            if let Some(group) = bound.group()
                && let Some((epoch, start)) = bound.begins()
                && partition.leads(epoch)
            {
                places.push((group.to_owned(), Arc::clone(partition), start));
            }
        }
        let now_ms = self.shared.host.clock.now_ms();
        let ages = self.shared.host.blocking(move || {
            let age = |(group, partition, start): (String, Arc<Partition>, Offset)| {
                let age_ms = age_ms(&partition, start, now_ms);
                ((group, Arc::clone(partition.topic())), age_ms)
            };
            places.into_iter().map(age).collect::<Vec<_>>()
        });
        for (of, age_ms) in ages.await {
            let measured = measures.entry(of).or_default();
            measured.oldest_ms = measured.oldest_ms.max(age_ms);
        }
        measures
    }
}

/// How old the first message from there on is; 0 for none, and for what cannot be read now.
fn age_ms(partition: &Partition, start: Offset, now_ms: i64) -> u64 {
    let (from, end) = (
        start.max(partition.reader().log_start()),
        partition.high_watermark(),
    );
    if from >= end {
        return 0;
    }
    let at = oldest_unread(partition, from, end).ok().flatten();
    at.map_or(0, |at| {
        u64::try_from(now_ms.saturating_sub(at)).unwrap_or(0)
    })
}
