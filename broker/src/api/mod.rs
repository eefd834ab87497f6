//! The Kafka APIs: one table of what is served, one file for each.
//!
//! A file `kNN_name.rs` is pure translation: decode, check, call, encode. What it calls decides.
//!
//! # How a handler waits
//!
//! A [`Handler`] is a plain function that is called on the connection's task, in the order in which the requests of that
//! connection came. It does what must happen in that order (hand an append to a lane, a join to a coordinator) and never
//! blocks. Then it returns [`Answer::Now`], or [`Answer::later`] with a future that waits for the outcome: acknowledgements,
//! the high watermark, the other members of a group. While that future waits the connection goes on reading, and the handlers
//! of later requests are called; only their responses queue up behind, since responses of one connection leave in the order of
//! its requests. No other connection is touched by any of it. A future is polled only once the responses before it have left,
//! so whatever shall run at the same time as earlier requests must have been begun by the handler, not by the future.
//!
//! A handler that returns `Err` closes the connection: for bytes that cannot be decoded, never for what a response can say.
//!
//! # Adding an API
//!
//! A file, a `mod` line, a line in [`APIS`].

mod features;
mod gap;
mod k00_produce;
mod k01_fetch;
mod k02_list_offsets;
mod k03_metadata;
mod k08_offset_commit;
mod k09_offset_fetch;
mod k10_find_coordinator;
mod k11_join_group;
mod k12_heartbeat;
mod k13_leave_group;
mod k14_sync_group;
mod k15_describe_groups;
mod k16_list_groups;
mod k18_api_versions;
mod k19_create_topics;
mod k20_delete_topics;
mod k21_delete_records;
mod k22_init_producer_id;
mod k23_offset_for_leader_epoch;
mod k24_add_partitions_to_txn;
mod k25_add_offsets_to_txn;
mod k26_end_txn;
mod k27_write_txn_markers;
mod k28_txn_offset_commit;
mod k29_describe_acls;
mod k30_create_acls;
mod k31_delete_acls;
mod k32_describe_configs;
mod k33_alter_configs;
mod k34_alter_replica_log_dirs;
mod k35_describe_log_dirs;
mod k37_create_partitions;
mod k42_delete_groups;
mod k43_elect_leaders;
mod k44_incremental_alter_configs;
mod k45_alter_partition_reassignments;
mod k46_list_partition_reassignments;
mod k47_offset_delete;
mod k48_describe_client_quotas;
mod k49_alter_client_quotas;
mod k50_describe_user_scram_credentials;
mod k51_alter_user_scram_credentials;
mod k55_describe_quorum;
mod k57_update_features;
mod k60_describe_cluster;
mod k61_describe_producers;
mod k64_unregister_broker;
mod k65_describe_transactions;
mod k66_list_transactions;
mod k68_consumer_group_heartbeat;
mod k69_consumer_group_describe;
mod k71_get_telemetry_subscriptions;
mod k72_push_telemetry;
mod k74_list_config_resources;
mod k75_describe_topic_partitions;
mod k76_share_group_heartbeat;
mod k77_share_group_describe;
mod k78_share_fetch;
mod k79_share_acknowledge;
mod k83_initialize_share_group_state;
mod k84_read_share_group_state;
mod k85_write_share_group_state;
mod k86_delete_share_group_state;
mod k87_read_share_group_state_summary;
mod k90_describe_share_group_offsets;
mod k91_alter_share_group_offsets;
mod k92_delete_share_group_offsets;
pub(crate) mod leaders;
mod mutations;
mod pipelined;
mod request;
mod share;
mod transactional;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
pub(crate) use k00_produce::offer;
pub use leaders::{Led, NotLed};
pub use request::{Answer, Peer, Refused, Reply, Request, Responder};
use weir_wire::ApiKey;
use weir_wire::frame::{FrameError, RequestFrame, refuse_api_versions};

use crate::Broker;
use crate::quotas::{self, ANONYMOUS, Limited};

/// Answers one request. See the module on how it waits.
pub type Handler = fn(&Arc<Broker>, Request) -> Result<Answer, Refused>;

/// Who may call an API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Anyone, before authentication too.
    Anyone,
    /// Whoever the listener has let in.
    Client,
}

/// One line of the table.
#[derive(Debug)]
pub struct Api {
    /// The API.
    pub key: ApiKey,
    /// The versions that are served.
    pub versions: RangeInclusive<i16>,
    /// Who may call it.
    pub caller: Caller,
    /// What answers it.
    pub handler: Handler,
}

const fn api(key: ApiKey, min: i16, max: i16, caller: Caller, handler: Handler) -> Api {
    Api {
        key,
        versions: min..=max,
        caller,
        handler,
    }
}

use Caller::{Anyone, Client};

/// Every API that is served, by key. ApiVersions answers from it.
#[rustfmt::skip]
pub static APIS: &[Api] = &[
    api(ApiKey::Produce,                 3, 13, Client, k00_produce::handle),
    api(ApiKey::Fetch,                   4, 18, Client, k01_fetch::handle),
    api(ApiKey::ListOffsets,             1, 11, Client, k02_list_offsets::handle),
    api(ApiKey::Metadata,                0, 13, Client, k03_metadata::handle),
    api(ApiKey::OffsetCommit,            2, 10, Client, k08_offset_commit::handle),
    api(ApiKey::OffsetFetch,             1, 10, Client, k09_offset_fetch::handle),
    api(ApiKey::FindCoordinator,         0,  6, Client, k10_find_coordinator::handle),
    api(ApiKey::JoinGroup,               0,  9, Client, k11_join_group::handle),
    api(ApiKey::Heartbeat,               0,  4, Client, k12_heartbeat::handle),
    api(ApiKey::LeaveGroup,              0,  5, Client, k13_leave_group::handle),
    api(ApiKey::SyncGroup,               0,  5, Client, k14_sync_group::handle),
    api(ApiKey::DescribeGroups,          0,  6, Client, k15_describe_groups::handle),
    api(ApiKey::ListGroups,              0,  5, Client, k16_list_groups::handle),
    api(ApiKey::ApiVersions,             0,  5, Anyone, k18_api_versions::handle),
    api(ApiKey::CreateTopics,            2,  7, Client, k19_create_topics::handle),
    api(ApiKey::DeleteTopics,            1,  6, Client, k20_delete_topics::handle),
    api(ApiKey::DeleteRecords,           0,  2, Client, k21_delete_records::handle),
    api(ApiKey::InitProducerId,          0,  5, Client, k22_init_producer_id::handle),
    api(ApiKey::OffsetForLeaderEpoch,    2,  4, Client, k23_offset_for_leader_epoch::handle),
    api(ApiKey::AddPartitionsToTxn,      0,  5, Client, k24_add_partitions_to_txn::handle),
    api(ApiKey::AddOffsetsToTxn,         0,  4, Client, k25_add_offsets_to_txn::handle),
    api(ApiKey::EndTxn,                  0,  5, Client, k26_end_txn::handle),
    api(ApiKey::WriteTxnMarkers,         1,  2, Client, k27_write_txn_markers::handle),
    api(ApiKey::TxnOffsetCommit,         0,  6, Client, k28_txn_offset_commit::handle),
    api(ApiKey::DescribeAcls,            1,  3, Client, k29_describe_acls::handle),
    api(ApiKey::CreateAcls,              1,  3, Client, k30_create_acls::handle),
    api(ApiKey::DeleteAcls,              1,  3, Client, k31_delete_acls::handle),
    api(ApiKey::DescribeConfigs,         1,  4, Client, k32_describe_configs::handle),
    api(ApiKey::AlterConfigs,            0,  2, Client, k33_alter_configs::handle),
    api(ApiKey::AlterReplicaLogDirs,     1,  2, Client, k34_alter_replica_log_dirs::handle),
    api(ApiKey::DescribeLogDirs,         1,  5, Client, k35_describe_log_dirs::handle),
    api(ApiKey::CreatePartitions,        0,  3, Client, k37_create_partitions::handle),
    api(ApiKey::DeleteGroups,            0,  3, Client, k42_delete_groups::handle),
    api(ApiKey::ElectLeaders,            0,  2, Client, k43_elect_leaders::handle),
    api(ApiKey::IncrementalAlterConfigs, 0,  1, Client, k44_incremental_alter_configs::handle),
    api(ApiKey::AlterPartitionReassignments, 0,  1, Client, k45_alter_partition_reassignments::handle),
    api(ApiKey::ListPartitionReassignments, 0,  0, Client, k46_list_partition_reassignments::handle),
    api(ApiKey::OffsetDelete,            0,  0, Client, k47_offset_delete::handle),
    api(ApiKey::DescribeClientQuotas,    0,  1, Client, k48_describe_client_quotas::handle),
    api(ApiKey::AlterClientQuotas,       0,  1, Client, k49_alter_client_quotas::handle),
    api(ApiKey::DescribeUserScramCredentials, 0,  0, Client, k50_describe_user_scram_credentials::handle),
    api(ApiKey::AlterUserScramCredentials, 0,  0, Client, k51_alter_user_scram_credentials::handle),
    api(ApiKey::DescribeQuorum,          0,  2, Client, k55_describe_quorum::handle),
    api(ApiKey::UpdateFeatures,          0,  2, Client, k57_update_features::handle),
    api(ApiKey::DescribeCluster,         0,  2, Client, k60_describe_cluster::handle),
    api(ApiKey::DescribeProducers,       0,  0, Client, k61_describe_producers::handle),
    api(ApiKey::UnregisterBroker,        0,  0, Client, k64_unregister_broker::handle),
    api(ApiKey::DescribeTransactions,    0,  0, Client, k65_describe_transactions::handle),
    api(ApiKey::ListTransactions,        0,  2, Client, k66_list_transactions::handle),
    api(ApiKey::ConsumerGroupHeartbeat,  0,  1, Client, k68_consumer_group_heartbeat::handle),
    api(ApiKey::ConsumerGroupDescribe,   0,  1, Client, k69_consumer_group_describe::handle),
    api(ApiKey::GetTelemetrySubscriptions, 0,  0, Client, k71_get_telemetry_subscriptions::handle),
    api(ApiKey::PushTelemetry,           0,  0, Client, k72_push_telemetry::handle),
    api(ApiKey::ListConfigResources,     0,  1, Client, k74_list_config_resources::handle),
    api(ApiKey::DescribeTopicPartitions, 0,  0, Client, k75_describe_topic_partitions::handle),
    api(ApiKey::ShareGroupHeartbeat,     1,  1, Client, k76_share_group_heartbeat::handle),
    api(ApiKey::ShareGroupDescribe,      1,  1, Client, k77_share_group_describe::handle),
    api(ApiKey::ShareFetch,              1,  2, Client, k78_share_fetch::handle),
    api(ApiKey::ShareAcknowledge,        1,  2, Client, k79_share_acknowledge::handle),
    api(ApiKey::InitializeShareGroupState, 0, 0, Client, k83_initialize_share_group_state::handle),
    api(ApiKey::ReadShareGroupState,     0,  0, Client, k84_read_share_group_state::handle),
    api(ApiKey::WriteShareGroupState,    0,  1, Client, k85_write_share_group_state::handle),
    api(ApiKey::DeleteShareGroupState,   0,  0, Client, k86_delete_share_group_state::handle),
    api(ApiKey::ReadShareGroupStateSummary, 0, 1, Client, k87_read_share_group_state_summary::handle),
    api(ApiKey::DescribeShareGroupOffsets, 0, 1, Client, k90_describe_share_group_offsets::handle),
    api(ApiKey::AlterShareGroupOffsets,  0,  0, Client, k91_alter_share_group_offsets::handle),
    api(ApiKey::DeleteShareGroupOffsets, 0,  0, Client, k92_delete_share_group_offsets::handle),
];

/// The place of an API in the table.
fn line_of(key: ApiKey) -> Option<usize> {
    APIS.binary_search_by_key(&key, |api| api.key).ok()
}

/// Reads a frame's header and hands it to its handler; also says which line of the table it was.
pub(crate) fn dispatch(
    broker: &Arc<Broker>,
    peer: &Arc<Peer>,
    frame: Bytes,
    received: Instant,
) -> Result<(usize, Answer), Refused> {
    let parsed = match RequestFrame::parse(&frame) {
        Ok(parsed) => parsed,
        Err(FrameError::UnsupportedVersion {
            key: ApiKey::ApiVersions,
            correlation_id,
            ..
        }) => {
            let line = line_of(ApiKey::ApiVersions).unwrap_or_default();
            return Ok((line, unknown_api_versions(&APIS[line], correlation_id)?));
        }
        Err(error @ FrameError::Header(_)) => return Err(Refused::Malformed(error.to_string())),
        Err(error) => return Err(Refused::Unsupported(error.to_string())),
    };
    let (key, version, correlation_id) = (parsed.key, parsed.version, parsed.correlation_id);
    let not_served = || Refused::Unsupported(format!("{} version {version}", key.name()));
    let line = line_of(key).ok_or_else(not_served)?;
    let api = &APIS[line];
    if !api.versions.contains(&version) {
        if key == ApiKey::ApiVersions {
            return Ok((line, unknown_api_versions(api, correlation_id)?));
        }
        return Err(not_served());
    }
    let body_start = frame.len() - parsed.body.len();
    let client_id = parsed
        .client_id
        .map(|name| frame.slice_ref(name.as_bytes()))
        .unwrap_or_default();
    let peer = Arc::clone(peer);
    let request = Request {
        key,
        version,
        correlation_id,
        client_id,
        body_start,
        frame,
        peer,
        received,
    };
    if !broker.metadata.has_quotas() {
        return Ok((line, (api.handler)(broker, request)?));
    }
    let (client_id, began) = (request.client_id.clone(), Instant::now());
    let answer = (api.handler)(broker, request)?;
    let client = quotas::Client {
        user: ANONYMOUS,
        client_id: std::str::from_utf8(&client_id).unwrap_or_default(),
    };
    let percent = began.elapsed().as_secs_f64() * 100.0;
    let image = broker.metadata.image();
    let wait = broker
        .quotas
        .take(&image, client, Limited::Requests, percent);
    Ok((line, answer.throttled(wait)))
}

/// A client that speaks a newer ApiVersions than this broker is told so in version 0, never by closing (KIP-511).
fn unknown_api_versions(api: &Api, correlation_id: i32) -> Result<Answer, Refused> {
    let frame = refuse_api_versions(correlation_id, &api.versions)
        .map_err(|error| Refused::Unanswerable(error.to_string()))?;
    Ok(Answer::Now(Reply::Send(frame)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_within_what_the_codec_knows() {
        assert!(APIS.is_sorted_by(|a, b| a.key < b.key));
        for api in APIS {
            let known = api.key.versions();
            assert!(
                known.contains(api.versions.start()) && known.contains(api.versions.end()),
                "{:?}",
                api.key
            );
        }
    }
}
