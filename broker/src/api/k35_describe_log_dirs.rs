//! DescribeLogDirs: how much each partition takes on this broker's disks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weir_wire::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use weir_wire::messages::{DescribeLogDirsRequestView, DescribeLogDirsResponse};

use super::{Answer, Refused, Request};
use crate::Broker;
use crate::partitions::Partition;

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: DescribeLogDirsRequestView<'_> = request.decode()?;
    // `None`: everything.
    let wanted = view.topics.map(|topics| {
        let pairs = topics.iter().flat_map(|topic| {
            topic
                .partitions
                .iter()
                .map(move |index| (topic.topic, index))
        });
        pairs
            .map(|(topic, index)| (topic.to_owned(), index))
            .collect::<BTreeSet<_>>()
    });
    let is_wanted = |partition: &Arc<Partition>| {
        wanted.as_ref().is_none_or(|wanted| {
            wanted.contains(&(partition.topic().to_string(), partition.key().partition.0))
        })
    };
    let all: Vec<_> = broker
        .partitions
        .all()
        .into_iter()
        .filter(is_wanted)
        .collect();
    let mut results: Vec<_> = broker
        .partitions
        .dirs()
        .iter()
        .map(|dir| DescribeLogDirsResult {
            log_dir: dir.path().display().to_string(),
            topics: topics(all.iter().filter(|it| Arc::ptr_eq(it.dir(), dir))),
            ..DescribeLogDirsResult::default()
        })
        .collect();
    let (responder, broker) = (request.responder(), Arc::clone(broker));
    Ok(Answer::later(async move {
        let bytes = |bytes: Option<u64>| {
            bytes
                .and_then(|bytes| i64::try_from(bytes).ok())
                .unwrap_or(-1)
        };
        for (result, dir) in results.iter_mut().zip(broker.partitions.dirs()) {
            let space = broker.space_of(dir.path()).await;
            result.total_bytes = bytes(space.map(|space| space.total_bytes));
            result.usable_bytes = bytes(space.map(|space| space.available_bytes));
        }
        responder.reply(&DescribeLogDirsResponse {
            results,
            ..DescribeLogDirsResponse::default()
        })
    }))
}

fn topics<'a>(partitions: impl Iterator<Item = &'a Arc<Partition>>) -> Vec<DescribeLogDirsTopic> {
    let mut topics: BTreeMap<String, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    for partition in partitions {
        let of_topic = topics.entry(partition.topic().to_string());
        of_topic.or_default().push(DescribeLogDirsPartition {
            partition_index: partition.key().partition.0,
            partition_size: i64::try_from(partition.reader().size_bytes()).unwrap_or(i64::MAX),
            offset_lag: 0,
            is_future_key: false,
        });
    }
    topics
        .into_iter()
        .map(|(name, partitions)| DescribeLogDirsTopic { name, partitions })
        .collect()
}
