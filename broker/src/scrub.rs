//! Looks for bytes on disk that are not what was written, before a reader or a new leader meets them.
//!
//! Slowly: every partition's synced bytes are read once in a while and their checksums compared. A replica that is found damaged
//! refuses to be written; where there are others it is given up: the controller is told, another replica leads, and this one is
//! fetched again from there. With one replica the rest stays readable, and a person has to decide.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{error, warn};
use weir_log::ReadError;
use weir_quorum::command::ReportLost;
use weir_quorum::{Command, TopicId};

use crate::Broker;
use crate::partitions::Partition;

/// Between two looks at everything, and before the first: a day's worth of small faults is found within the hour.
const EVERY: Duration = Duration::from_secs(3_600);

/// How often it is looked whether a damaged replica still counts.
const REPORT_EVERY: Duration = Duration::from_secs(2);

/// Bytes of one read, and the pause after it: 20 MB/s, a small part of what any disk gives.
const READ_BYTES: usize = 1 << 20;
const PAUSE: Duration = Duration::from_millis(50);

/// Scrubs until `stop`.
pub(crate) async fn keep(broker: Arc<Broker>, stop: CancellationToken) {
    let reading = async {
        loop {
            tokio::time::sleep(EVERY).await;
            round(&broker).await;
        }
    };
    let reporting = async {
        loop {
            tokio::time::sleep(REPORT_EVERY).await;
            report(&broker).await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = reading => {}
        () = reporting => {}
    }
}

/// Looks at every partition once.
pub async fn round(broker: &Broker) {
    for partition in broker.partitions.all() {
        scrub(broker, &partition).await;
    }
}

async fn scrub(broker: &Broker, partition: &Arc<Partition>) {
    let mut next = partition.reader().log_start();
    loop {
        let reader = partition.reader().clone();
        let end = reader.synced_end();
        if next >= end || reader.damage().is_some() {
            return;
        }
        let scrubbed = broker
            .host
            .blocking(move || reader.scrub(next, end, READ_BYTES));
        match scrubbed.await {
            Ok(read_to) if read_to > next => next = read_to,
            Ok(_) => return,
            Err(ReadError::Corrupt(damage)) => {
                error!(topic = %partition.topic(), partition = %partition.key().partition, from = %damage.offsets.start, to = %damage.offsets.end,
                    found = damage.found, "a replica is not what was written");
                return;
            }
            // Deleted, or begun anew, meanwhile.
            Err(error) => {
                warn!(topic = %partition.topic(), partition = %partition.key().partition, %error, "scrubbing");
                return;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Tells the controller of damaged replicas that still count.
pub async fn report(broker: &Broker) {
    let (metadata, me) = (&broker.metadata, broker.metadata.broker_id());
    let image = metadata.image();
    let mut damaged = broker.partitions.all();
    damaged.retain(|partition| partition.is_damaged());
    let damaged = damaged.into_iter().filter_map(|partition| {
        let key = partition.key();
        let topic = TopicId(key.topic_id.0);
        let known = image.topic_by_id(topic)?.partition(key.partition.0)?;
        let counts = known.isr.contains(&me) || known.elr.contains(&me);
        (counts && known.replicas.len() > 1).then_some((topic, key.partition.0))
    });
    let partitions: BTreeSet<(TopicId, i32)> = damaged.collect();
    let Some(epoch) = metadata.registration().filter(|_| !partitions.is_empty()) else {
        return;
    };
    let command = Command::ReportLost(ReportLost {
        id: me,
        epoch,
        partitions,
        ends: Vec::new(),
    });
    if let Err(error) = metadata.control(command).await {
        warn!(%error, "damaged replicas still count");
    }
}
