//! Asks the controller for the in-sync sets that this broker, as a leader, sees.
//!
//! One request at a time, with all partitions that have something to ask.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{debug, info};
use weir_quorum::command::{AlterInSync, InSyncChange};
use weir_quorum::{BrokerEpoch, BrokerId, Command, ErrorName, PartitionEpoch, Reply, TopicId};
use weir_replication::{Answer, Want};
use weir_wire::LeaderEpoch;

use super::Shared;
use crate::partitions::Partition;

/// How often it is looked who has fallen behind. A replica that has caught up is noticed at once.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How often where nothing that is led here has followers, so that nobody can fall behind.
const LOOK_ALONE_EVERY: Duration = Duration::from_millis(2_500);

/// How long it is waited for more of them then.
const GATHER: Duration = Duration::from_millis(10);

/// How long a replica may be behind and stay in sync. Kafka's default is 30 seconds; a broker that is gone is noticed by its
/// heartbeats long before, so this is for one that is alive and cannot keep up, or cannot be reached by the leader alone.
const LAG_MAX_MS: u64 = 10_000;

/// Partitions of one request: a record of the metadata's log for each topic, within one entry.
const ASKED_AT_ONCE: usize = 2_000;

/// Keeps asking until `stop`.
pub(super) async fn keep(shared: Arc<Shared>, stop: CancellationToken) {
    let mut pause = LOOK_EVERY;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            // Others that catch up at the same time are asked for together.
            () = shared.in_sync.notified() => tokio::time::sleep(GATHER).await,
            () = tokio::time::sleep(pause) => {}
        }
        match stop.run_until_cancelled(ask(&shared)).await {
            Some(true) => pause = LOOK_EVERY,
            Some(false) => pause = LOOK_ALONE_EVERY,
            None => return,
        }
    }
}

/// Whether anything that is led here has followers.
async fn ask(shared: &Shared) -> bool {
    let Some(registration) = shared.metadata.registration() else {
        return true;
    };
    let mut has_followers = false;
    let mut wants: Vec<(Arc<Partition>, LeaderEpoch, Want)> = Vec::new();
    for partition in shared.partitions.all() {
        let replica = partition.replica();
        has_followers = has_followers || replica.has_followers();
        if let Some((epoch, want)) = replica.want(LAG_MAX_MS) {
            wants.push((partition, epoch, want));
        }
    }
    for some in wants.chunks(ASKED_AT_ONCE) {
        ask_for(shared, registration, some).await;
    }
    has_followers
}

async fn ask_for(
    shared: &Shared,
    registration: BrokerEpoch,
    wants: &[(Arc<Partition>, LeaderEpoch, Want)],
) {
    let changes = wants.iter().map(|(partition, epoch, want)| {
        let key = partition.key();
        InSyncChange {
            topic: TopicId(key.topic_id.0),
            index: key.partition.0,
            leader_epoch: weir_quorum::LeaderEpoch(epoch.0),
            partition_epoch: PartitionEpoch(want.partition_epoch),
            isr: want
                .isr
                .iter()
                .map(|(id, registration)| (BrokerId(id.0), BrokerEpoch(*registration)))
                .collect(),
        }
    });
    let command = Command::AlterInSync(AlterInSync {
        id: shared.metadata.broker_id(),
        epoch: registration,
        partitions: changes.collect(),
    });
    let answers: Vec<Answer> = match shared.metadata.control(command).await {
        Ok(Reply::Partitions(results)) if results.len() == wants.len() => results
            .into_iter()
            .zip(wants)
            .map(|(result, (partition, _, want))| told(partition, want, result))
            .collect(),
        Ok(other) => {
            tracing::error!(?other, "the controller answered with something else");
            vec![Answer::Unknown; wants.len()]
        }
        // Also a refusal may come after an attempt that was carried out and whose answer was lost.
        Err(error) => {
            debug!(%error, "nobody knows whether in-sync sets have changed");
            vec![Answer::Unknown; wants.len()]
        }
    };
    for ((partition, epoch, _), answer) in wants.iter().zip(answers) {
        partition.replica().answered(*epoch, answer);
    }
}

fn told(
    partition: &Partition,
    want: &Want,
    result: Result<(), weir_quorum::ControlError>,
) -> Answer {
    let isr: Vec<i32> = want.isr.iter().map(|(id, _)| id.0).collect();
    let (topic, index) = (partition.topic(), partition.key().partition);
    match result {
        Ok(()) => {
            info!(%topic, partition = %index, ?isr, "in sync");
            Answer::Taken
        }
        Err(error) => {
            debug!(%topic, partition = %index, ?isr, %error, "the in-sync set is not changed");
            match error.name {
                // Judged after the state that the change was to be made to, which was the newest: so it was not made before either.
                ErrorName::IneligibleReplica | ErrorName::InvalidRequest => Answer::Refused,
                // An earlier attempt may have made just this change; the metadata tells when it comes.
                _ => Answer::Taken,
            }
        }
    }
}
