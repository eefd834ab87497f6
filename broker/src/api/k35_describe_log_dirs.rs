//! DescribeLogDirs: how much each partition takes on this broker's disk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weir_wire::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use weir_wire::messages::{DescribeLogDirsRequestView, DescribeLogDirsResponse};

use super::{Answer, Refused, Request};
use crate::Broker;

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
    let mut topics: BTreeMap<String, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    for partition in broker.partitions.all() {
        let (topic, index) = (partition.topic().to_string(), partition.key().partition.0);
        if wanted
            .as_ref()
            .is_none_or(|wanted| wanted.contains(&(topic.clone(), index)))
        {
            topics
                .entry(topic)
                .or_default()
                .push(DescribeLogDirsPartition {
                    partition_index: index,
                    partition_size: i64::try_from(partition.reader().size_bytes())
                        .unwrap_or(i64::MAX),
                    offset_lag: 0,
                    is_future_key: false,
                });
        }
    }
    let (responder, broker) = (request.responder(), Arc::clone(broker));
    Ok(Answer::later(async move {
        let space = broker.disk_space().await;
        let bytes = |bytes: Option<u64>| {
            bytes
                .and_then(|bytes| i64::try_from(bytes).ok())
                .unwrap_or(-1)
        };
        let result = DescribeLogDirsResult {
            log_dir: broker.partitions.dir().display().to_string(),
            topics: topics
                .into_iter()
                .map(|(name, partitions)| DescribeLogDirsTopic { name, partitions })
                .collect(),
            total_bytes: bytes(space.map(|space| space.total_bytes)),
            usable_bytes: bytes(space.map(|space| space.available_bytes)),
            ..DescribeLogDirsResult::default()
        };
        responder.reply(&DescribeLogDirsResponse {
            results: vec![result],
            ..DescribeLogDirsResponse::default()
        })
    }))
}
