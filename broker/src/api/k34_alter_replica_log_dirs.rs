//! AlterReplicaLogDirs: on which of this broker's directories partitions lie.
//!
//! A partition that lies where it is to lie is answered with success. Moving one that lies elsewhere is not built yet, and is
//! refused by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_wire::messages::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult,
};
use weir_wire::messages::{AlterReplicaLogDirsRequestView, AlterReplicaLogDirsResponse};

use super::{Answer, Refused, Request, leaders};
use crate::Broker;
use crate::error::ErrorCode;

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: AlterReplicaLogDirsRequestView<'_> = request.decode()?;
    let mut results: BTreeMap<String, Vec<AlterReplicaLogDirPartitionResult>> = BTreeMap::new();
    for dir in view.dirs {
        for topic in dir.topics {
            for index in topic.partitions {
                let result = AlterReplicaLogDirPartitionResult {
                    partition_index: index,
                    error_code: place(broker, dir.path, topic.name, index).code(),
                };
                let of_topic = results.entry(topic.name.to_owned());
                of_topic.or_default().push(result);
            }
        }
    }
    let results =
        results
            .into_iter()
            .map(|(topic_name, partitions)| AlterReplicaLogDirTopicResult {
                topic_name,
                partitions,
            });
    request.answer(&AlterReplicaLogDirsResponse {
        results: results.collect(),
        ..AlterReplicaLogDirsResponse::default()
    })
}

fn place(broker: &Broker, path: &str, topic: &str, index: i32) -> ErrorCode {
    let dirs = broker.partitions.dirs();
    let Some(wanted) = dirs.iter().find(|dir| dir.path().as_os_str() == path) else {
        return ErrorCode::LogDirNotFound;
    };
    let image = broker.metadata.image();
    let found = leaders::topic(&image, topic, uuid::Uuid::nil())
        .ok()
        .and_then(|topic| leaders::led(broker, topic, index, -1).ok());
    match found {
        None => ErrorCode::ReplicaNotAvailable,
        Some(led) if Arc::ptr_eq(led.partition.dir(), wanted) => ErrorCode::None,
        Some(_) => ErrorCode::KafkaStorageError,
    }
}
