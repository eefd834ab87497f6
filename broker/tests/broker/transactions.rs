//! Transactions, as clients of both versions speak of them.

use weir_wire::batch::{ControlRecord, batches};
use weir_wire::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use weir_wire::messages::describe_transactions_response::TransactionState;
use weir_wire::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use weir_wire::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use weir_wire::messages::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponseView, AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponseView, ApiVersionsRequest, ApiVersionsResponseView,
    DescribeTransactionsRequest, DescribeTransactionsResponseView, EndTxnRequest,
    EndTxnResponseView, ErrorCode, FindCoordinatorRequest, FindCoordinatorResponseView,
    InitProducerIdRequest, InitProducerIdResponseView, ListTransactionsRequest,
    ListTransactionsResponseView, OffsetFetchRequest, OffsetFetchResponseView,
    TxnOffsetCommitRequest, TxnOffsetCommitResponseView,
};
use weir_wire::{MessageView, RecordsPart};

use super::client::{Client, TestBroker, eventually};
use super::cluster::{cluster, knows};

const ID: &str = "payments";
const GROUP: &str = "shop";
const UNSTABLE: i16 = ErrorCode::UnstableOffsetCommit.code();

/// A producer: its id and epoch.
type Who = (i64, i16);

/// Errors on which every client comes back.
pub(crate) fn passes(code: i16) -> bool {
    [
        ErrorCode::CoordinatorLoadInProgress,
        ErrorCode::CoordinatorNotAvailable,
        ErrorCode::NotCoordinator,
        ErrorCode::ConcurrentTransactions,
        ErrorCode::LeaderNotAvailable,
    ]
    .map(ErrorCode::code)
    .contains(&code)
}

impl Client {
    /// Which broker coordinates a group (0) or a transactional id (1).
    async fn coordinator(&mut self, key_type: i8, key: &str) -> i32 {
        let request = FindCoordinatorRequest {
            key_type,
            coordinator_keys: vec![key.to_owned()],
            ..FindCoordinatorRequest::default()
        };
        eventually("there is a coordinator", async || {
            let body = self.call(6, &request).await;
            let found = FindCoordinatorResponseView::decode(&body, 6)
                .unwrap()
                .to_owned();
            let found = &found.coordinators[0];
            if passes(found.error_code) {
                return None;
            }
            assert_eq!(found.error_code, 0);
            Some(found.node_id)
        })
        .await
    }

    /// Waits until there are coordinators of the id and of the group.
    pub(crate) async fn find_transactions(&mut self) {
        for (key_type, key) in [(0, GROUP), (1, ID)] {
            assert_eq!(self.coordinator(key_type, key).await, 0);
        }
    }

    pub(crate) async fn init_once(
        &mut self,
        version: i16,
        expected: Option<Who>,
    ) -> Result<Who, i16> {
        let (producer_id, producer_epoch) = expected.unwrap_or((-1, -1));
        let request = InitProducerIdRequest {
            transactional_id: Some(ID.to_owned()),
            transaction_timeout_ms: 60_000,
            producer_id,
            producer_epoch,
            ..InitProducerIdRequest::default()
        };
        let body = self.call(version, &request).await;
        let answer = InitProducerIdResponseView::decode(&body, version).unwrap();
        match answer.error_code {
            0 => Ok((answer.producer_id, answer.producer_epoch)),
            code => Err(code),
        }
    }

    pub(crate) async fn init(&mut self) -> Who {
        eventually("a transactional id begins", async || {
            let begun = self.init_once(5, None).await;
            begun
                .inspect_err(|code| assert!(passes(*code), "{code}"))
                .ok()
        })
        .await
    }

    /// Adds partitions of a topic as a client of version 1 does.
    pub(crate) async fn add_once(&mut self, who: Who, topic: &str, partitions: &[i32]) -> Vec<i16> {
        let request = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: ID.to_owned(),
            v3_and_below_producer_id: who.0,
            v3_and_below_producer_epoch: who.1,
            v3_and_below_topics: vec![AddPartitionsToTxnTopic {
                name: topic.to_owned(),
                partitions: partitions.to_vec(),
            }],
            ..AddPartitionsToTxnRequest::default()
        };
        let body = self.call(3, &request).await;
        let answer = AddPartitionsToTxnResponseView::decode(&body, 3)
            .unwrap()
            .to_owned();
        let results = &answer.results_by_topic_v3_and_below[0].results_by_partition;
        results
            .iter()
            .map(|result| result.partition_error_code)
            .collect()
    }

    pub(crate) async fn add(&mut self, who: Who, topic: &str, partitions: &[i32]) {
        eventually("partitions are added", async || {
            let codes = self.add_once(who, topic, partitions).await;
            let are_added = codes.iter().all(|code| *code == 0);
            assert!(
                are_added || codes.iter().all(|code| passes(*code)),
                "{codes:?}"
            );
            are_added.then_some(())
        })
        .await;
    }

    pub(crate) async fn end_once(
        &mut self,
        version: i16,
        who: Who,
        committed: bool,
    ) -> Result<Who, i16> {
        let request = EndTxnRequest {
            transactional_id: ID.to_owned(),
            producer_id: who.0,
            producer_epoch: who.1,
            committed,
        };
        let body = self.call(version, &request).await;
        let answer = EndTxnResponseView::decode(&body, version).unwrap();
        match answer.error_code {
            0 => Ok((answer.producer_id, answer.producer_epoch)),
            code => Err(code),
        }
    }

    pub(crate) async fn end(&mut self, version: i16, who: Who, committed: bool) -> Who {
        eventually("the transaction ends", async || {
            let ended = self.end_once(version, who, committed).await;
            ended
                .inspect_err(|code| assert!(passes(*code), "{code}"))
                .ok()
        })
        .await
    }

    pub(crate) async fn describe_transaction(&mut self, id: &str) -> TransactionState {
        let request = DescribeTransactionsRequest {
            transactional_ids: vec![id.to_owned()],
        };
        eventually("the transaction is described", async || {
            let body = self.call(0, &request).await;
            let mut answer = DescribeTransactionsResponseView::decode(&body, 0)
                .unwrap()
                .to_owned();
            let state = answer.transaction_states.remove(0);
            (!passes(state.error_code)).then_some(state)
        })
        .await
    }

    /// Waits until the id is in this state.
    pub(crate) async fn transaction_is(&mut self, wanted: &str) {
        eventually(wanted, async || {
            let state = self.describe_transaction(ID).await.transaction_state;
            (state == wanted).then_some(())
        })
        .await;
    }

    pub(crate) async fn commit_offset_once(&mut self, version: i16, who: Who, offset: i64) -> i16 {
        self.commit_offset_of(GROUP, version, who, offset).await
    }

    async fn commit_offset_of(&mut self, group: &str, version: i16, who: Who, offset: i64) -> i16 {
        // The first is not there.
        let partition = |partition_index| TxnOffsetCommitRequestPartition {
            partition_index,
            committed_offset: offset,
            committed_leader_epoch: -1,
            committed_metadata: Some(String::new()),
        };
        let request = TxnOffsetCommitRequest {
            transactional_id: ID.to_owned(),
            group_id: group.to_owned(),
            producer_id: who.0,
            producer_epoch: who.1,
            generation_id_or_member_epoch: -1,
            topics: vec![TxnOffsetCommitRequestTopic {
                name: "orders".to_owned(),
                partitions: vec![partition(77), partition(0)],
                ..TxnOffsetCommitRequestTopic::default()
            }],
            ..TxnOffsetCommitRequest::default()
        };
        eventually("an offset is committed or refused", async || {
            let body = self.call(version, &request).await;
            let answer = TxnOffsetCommitResponseView::decode(&body, version)
                .unwrap()
                .to_owned();
            let partitions = &answer.topics[0].partitions;
            let missing = ErrorCode::UnknownTopicOrPartition.code();
            assert_eq!(partitions[0].error_code, missing);
            let code = partitions[1].error_code;
            (!passes(code)).then_some(code)
        })
        .await
    }

    pub(crate) async fn commit_offset(&mut self, version: i16, who: Who, offset: i64) {
        assert_eq!(self.commit_offset_once(version, who, offset).await, 0);
    }

    /// The group's offset, or why it is not told.
    pub(crate) async fn offset(&mut self, require_stable: bool) -> Result<i64, i16> {
        self.offset_of(GROUP, require_stable).await
    }

    async fn offset_of(&mut self, group: &str, require_stable: bool) -> Result<i64, i16> {
        let request = OffsetFetchRequest {
            groups: vec![OffsetFetchRequestGroup {
                group_id: group.to_owned(),
                member_epoch: -1,
                topics: Some(vec![OffsetFetchRequestTopics {
                    name: "orders".to_owned(),
                    partition_indexes: vec![0],
                    ..OffsetFetchRequestTopics::default()
                }]),
                ..OffsetFetchRequestGroup::default()
            }],
            require_stable,
            ..OffsetFetchRequest::default()
        };
        eventually("the group's offset is told", async || {
            let body = self.call(9, &request).await;
            let answer = OffsetFetchResponseView::decode(&body, 9)
                .unwrap()
                .to_owned();
            let group = &answer.groups[0];
            if passes(group.error_code) {
                return None;
            }
            assert_eq!(group.error_code, 0);
            let partition = &group.topics[0].partitions[0];
            Some(match partition.error_code {
                0 => Ok(partition.committed_offset),
                code => Err(code),
            })
        })
        .await
    }

    /// Waits until no transaction may change the group's offset.
    pub(crate) async fn stable(&mut self) {
        eventually("the group's offset is stable", async || {
            (self.offset(true).await != Err(UNSTABLE)).then_some(())
        })
        .await;
    }

    /// The markers of a partition: of which producer, and whether they commit.
    pub(crate) async fn markers(&mut self, topic: &str, partition: i32) -> Vec<(i64, i16, bool)> {
        let data = self.fetch_from(topic, partition, 0).await;
        let mut bytes = Vec::new();
        for part in data.records.iter().flat_map(|records| records.parts()) {
            let RecordsPart::Bytes(part) = part else {
                panic!("records in memory wanted")
            };
            bytes.extend_from_slice(part);
        }
        let controls = batches(&bytes).filter_map(|batch| {
            let batch = batch.unwrap();
            let header = *batch.header();
            let kind = batch.control().unwrap()?;
            Some((
                header.producer_id.0,
                header.producer_epoch.0,
                kind == ControlRecord::Commit,
            ))
        });
        controls.collect()
    }
}

#[tokio::test]
async fn a_transaction_is_begun_and_ended_in_version_1() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    client.create_topic("orders", 2, &[]).await;
    client.find_transactions().await;
    let who = client.init().await;
    for (committed, state) in [(true, "CompleteCommit"), (false, "CompleteAbort")] {
        client.add(who, "orders", &[0, 1]).await;
        assert_eq!(
            client.describe_transaction(ID).await.transaction_state,
            "Ongoing"
        );
        client.end(4, who, committed).await;
        client.transaction_is(state).await;
        client.end(4, who, committed).await;
        let again = client.end_once(4, who, !committed).await;
        assert_eq!(again, Err(ErrorCode::InvalidTxnState.code()));
    }
    for partition in [0, 1] {
        let markers = client.markers("orders", partition).await;
        assert_eq!(markers, [(who.0, who.1, true), (who.0, who.1, false)]);
    }
}

#[tokio::test]
async fn in_version_2_each_transaction_has_its_epoch_also_after_a_restart_at_each_step() {
    let mut broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    client.create_topic("orders", 1, &[]).await;
    client.find_transactions().await;
    let mut who = client.init().await;
    let mut expected = Vec::new();
    for committed in [true, false] {
        broker = broker.restart().await;
        client = broker.connect().await;
        client.add(who, "orders", &[0]).await;
        broker = broker.restart().await;
        client = broker.connect().await;
        let next = client.end(5, who, committed).await;
        assert_eq!(next, (who.0, who.1 + 1));
        broker = broker.restart().await;
        client = broker.connect().await;
        assert_eq!(client.end(5, who, committed).await, next, "asked again");
        client
            .transaction_is(if committed {
                "CompleteCommit"
            } else {
                "CompleteAbort"
            })
            .await;
        expected.push((next.0, next.1, committed));
        let mut found = client.markers("orders", 0).await;
        found.dedup();
        assert_eq!(found, expected);
        who = next;
    }
}

#[tokio::test]
async fn a_second_producer_fences_the_first() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    client.create_topic("orders", 1, &[]).await;
    client.find_transactions().await;
    let first = client.init().await;
    client.add(first, "orders", &[0]).await;
    let second = client.init().await;
    assert_eq!(second, (first.0, first.1 + 2));
    let fenced = ErrorCode::ProducerFenced.code();
    assert_eq!(client.end_once(4, first, true).await, Err(fenced));
    assert_eq!(client.add_once(first, "orders", &[0]).await, [fenced]);
    assert_eq!(client.init_once(5, Some(first)).await, Err(fenced));
    // Older clients know another word for it.
    let older = ErrorCode::InvalidProducerEpoch.code();
    assert_eq!(client.end_once(1, first, true).await, Err(older));
    assert_eq!(client.init_once(3, Some(first)).await, Err(older));
    let markers = client.markers("orders", 0).await;
    assert_eq!(markers, [(first.0, first.1 + 1, false)]);
}

#[tokio::test]
async fn what_is_not_there_is_not_added_and_nothing_else_with_it() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    client.create_topic("orders", 1, &[]).await;
    client.find_transactions().await;
    let who = client.init().await;
    let codes = client.add_once(who, "orders", &[0, 7]).await;
    let expected = [
        ErrorCode::OperationNotAttempted,
        ErrorCode::UnknownTopicOrPartition,
    ];
    assert_eq!(codes, expected.map(ErrorCode::code));
    assert_eq!(
        client.describe_transaction(ID).await.transaction_state,
        "Empty"
    );
    let stranger = client.add_once((who.0 + 1, 0), "orders", &[0]).await;
    assert_eq!(stranger, [ErrorCode::InvalidProducerIdMapping.code()]);
    let missing = client.describe_transaction("nobody").await;
    assert_eq!(
        missing.error_code,
        ErrorCode::TransactionalIdNotFound.code()
    );
    assert_eq!(
        client.init_once(5, Some((7, -1))).await,
        Err(ErrorCode::InvalidRequest.code())
    );
}

#[tokio::test]
async fn brokers_add_and_verify_for_many_transactions_at_once() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    client.create_topic("orders", 2, &[]).await;
    client.find_transactions().await;
    let who = client.init().await;
    let transaction = |verify_only, partitions: &[i32]| AddPartitionsToTxnTransaction {
        transactional_id: ID.to_owned(),
        producer_id: who.0,
        producer_epoch: who.1,
        verify_only,
        topics: vec![AddPartitionsToTxnTopic {
            name: "orders".to_owned(),
            partitions: partitions.to_vec(),
        }],
    };
    let request = AddPartitionsToTxnRequest {
        transactions: vec![
            transaction(true, &[0]),
            transaction(false, &[0]),
            transaction(true, &[0, 1]),
        ],
        ..AddPartitionsToTxnRequest::default()
    };
    let body = client.call(5, &request).await;
    let answer = AddPartitionsToTxnResponseView::decode(&body, 5)
        .unwrap()
        .to_owned();
    let found: Vec<Vec<i16>> = answer
        .results_by_transaction
        .iter()
        .map(|result| {
            let partitions = &result.topic_results[0].results_by_partition;
            partitions
                .iter()
                .map(|result| result.partition_error_code)
                .collect()
        })
        .collect();
    let abortable = ErrorCode::TransactionAbortable.code();
    assert_eq!(found, [vec![abortable], vec![0], vec![0, abortable]]);
}

#[tokio::test]
async fn transactions_are_listed_by_state_producer_duration_and_pattern() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    client.create_topic("orders", 1, &[]).await;
    client.find_transactions().await;
    let who = client.init().await;
    client.add(who, "orders", &[0]).await;
    let mut list = async |request: ListTransactionsRequest| {
        eventually("transactions are listed", async || {
            let body = client.call(2, &request).await;
            let answer = ListTransactionsResponseView::decode(&body, 2)
                .unwrap()
                .to_owned();
            (!passes(answer.error_code)).then_some(answer)
        })
        .await
    };
    let any = ListTransactionsRequest {
        duration_filter: -1,
        ..ListTransactionsRequest::default()
    };
    let all = list(any.clone()).await;
    assert_eq!(all.transaction_states.len(), 1);
    assert_eq!(all.transaction_states[0].transactional_id, ID);
    assert_eq!(all.transaction_states[0].producer_id, who.0);
    assert_eq!(all.transaction_states[0].transaction_state, "Ongoing");
    let by_state = list(ListTransactionsRequest {
        state_filters: vec!["Ongoing".into(), "Asleep".into()],
        ..any.clone()
    })
    .await;
    assert_eq!(by_state.unknown_state_filters, ["Asleep"]);
    assert_eq!(by_state.transaction_states.len(), 1);
    for (pattern, expected) in [("pay.*", 1), ("pay", 0), (".*ments", 1)] {
        let matched = list(ListTransactionsRequest {
            transactional_id_pattern: Some(pattern.into()),
            ..any.clone()
        })
        .await;
        assert_eq!(matched.transaction_states.len(), expected, "{pattern}");
    }
    let wrong = list(ListTransactionsRequest {
        transactional_id_pattern: Some("(".into()),
        ..any.clone()
    })
    .await;
    assert_eq!(wrong.error_code, ErrorCode::InvalidRegularExpression.code());
    let long = list(ListTransactionsRequest {
        duration_filter: 3_600_000,
        ..any
    })
    .await;
    assert!(long.transaction_states.is_empty());
}

/// Consume, transform, produce: the offsets of what was read are part of the transaction.
#[tokio::test]
async fn offsets_hold_with_their_transaction_also_after_a_restart_at_each_step() {
    let mut broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    client.create_topic("orders", 1, &[]).await;
    client.find_transactions().await;
    let mut who = client.init().await;
    let mut held = -1;
    for (offset, committed) in [(10, true), (20, false), (30, true)] {
        // As clients of version 2 do: no partition is named before.
        client.commit_offset(5, who, offset).await;
        assert_eq!(client.offset(true).await, Err(UNSTABLE));
        assert_eq!(client.offset(false).await, Ok(held));
        broker = broker.restart().await;
        client = broker.connect().await;
        assert_eq!(client.offset(true).await, Err(UNSTABLE));
        who = client.end(5, who, committed).await;
        broker = broker.restart().await;
        client = broker.connect().await;
        if committed {
            held = offset;
        }
        client.stable().await;
        assert_eq!(client.offset(true).await, Ok(held));
        broker = broker.restart().await;
        client = broker.connect().await;
        assert_eq!(client.offset(true).await, Ok(held));
    }
}

#[tokio::test]
async fn older_clients_name_the_group_before_they_commit_its_offsets() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    client.create_topic("orders", 1, &[]).await;
    client.find_transactions().await;
    let who = client.init().await;
    let unknown = client.commit_offset_once(3, who, 10).await;
    assert_eq!(unknown, ErrorCode::InvalidTxnState.code());
    let unknown = client.commit_offset_once(4, who, 10).await;
    assert_eq!(unknown, ErrorCode::TransactionAbortable.code());
    let request = AddOffsetsToTxnRequest {
        transactional_id: ID.to_owned(),
        producer_id: who.0,
        producer_epoch: who.1,
        group_id: GROUP.to_owned(),
    };
    let body = client.call(3, &request).await;
    let answer = AddOffsetsToTxnResponseView::decode(&body, 3).unwrap();
    assert_eq!(answer.error_code, 0);
    client.commit_offset(3, who, 10).await;
    assert_eq!(client.offset(true).await, Err(UNSTABLE));
    client.end(4, who, true).await;
    client.stable().await;
    assert_eq!(client.offset(true).await, Ok(10));
    let fenced = client.commit_offset_once(3, (who.0, who.1 - 1), 11).await;
    assert_eq!(fenced, ErrorCode::InvalidProducerEpoch.code());
}

#[tokio::test]
async fn a_producer_that_takes_over_drops_the_offsets_of_the_one_before() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    client.create_topic("orders", 1, &[]).await;
    client.find_transactions().await;
    let first = client.init().await;
    client.commit_offset(5, first, 10).await;
    let second = client.init().await;
    client.stable().await;
    assert_eq!(client.offset(true).await, Ok(-1));
    let late = client.commit_offset_once(5, first, 10).await;
    assert_eq!(late, ErrorCode::InvalidProducerEpoch.code());
    client.commit_offset(5, second, 12).await;
    client.end(5, second, true).await;
    client.stable().await;
    assert_eq!(client.offset(true).await, Ok(12));
}

/// Coordinators and the leaders of partitions are on different brokers.
#[tokio::test]
async fn a_transaction_spans_brokers() {
    let (brokers, _dir) = cluster().await;
    let mut clients = Vec::new();
    for broker in &brokers {
        clients.push(Client::connect(broker.addresses().kafka).await);
    }
    clients[0].create_topic("orders", 6, &[]).await;
    let leaders = knows(&mut clients[0], 6).await;
    let at = usize::try_from(clients[0].coordinator(1, ID).await).unwrap();
    // A group whose coordinator is another broker.
    let mut numbers = 0..;
    let (group, of_group) = loop {
        let group = format!("shop-{}", numbers.next().unwrap());
        let of_group = usize::try_from(clients[0].coordinator(0, &group).await).unwrap();
        if of_group != at {
            break (group, of_group);
        }
    };
    let mut who = clients[at].init().await;
    let mut expected = Vec::new();
    for committed in [true, false] {
        clients[at].add(who, "orders", &[0, 1, 2, 3, 4, 5]).await;
        let commit = clients[of_group].commit_offset_of(&group, 5, who, 10).await;
        assert_eq!(commit, 0);
        let pending = clients[of_group].offset_of(&group, true).await;
        assert_eq!(pending, Err(UNSTABLE));
        who = clients[at].end(5, who, committed).await;
        expected.push((who.0, who.1, committed));
        clients[at]
            .transaction_is(if committed {
                "CompleteCommit"
            } else {
                "CompleteAbort"
            })
            .await;
        for (partition, leader) in &leaders {
            let leader = &mut clients[usize::try_from(*leader).unwrap()];
            assert_eq!(leader.markers("orders", *partition).await, expected);
        }
        assert_eq!(clients[of_group].offset_of(&group, true).await, Ok(10));
    }
    for broker in brokers {
        broker.stop().await;
    }
}

/// Clients speak version 2 of transactions only to brokers that have finalized the feature (trap 12).
#[tokio::test]
async fn the_feature_that_clients_ask_for_is_told_in_every_version_that_has_room() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    for (version, min) in [(3, 1), (4, 0)] {
        let request = ApiVersionsRequest {
            client_software_name: "test".to_owned(),
            client_software_version: "1".to_owned(),
            ..ApiVersionsRequest::default()
        };
        let number = client.send(version, &request).await;
        let frame = client.receive().await.unwrap();
        assert_eq!(frame[..4], number.to_be_bytes());
        let answer = ApiVersionsResponseView::decode(&frame[4..], version)
            .unwrap()
            .to_owned();
        let supported = answer
            .supported_features
            .iter()
            .find(|feature| feature.name == "transaction.version")
            .unwrap();
        assert_eq!((supported.min_version, supported.max_version), (min, 2));
        let finalized = answer
            .finalized_features
            .iter()
            .find(|feature| feature.name == "transaction.version")
            .unwrap();
        assert_eq!(finalized.max_version_level, 2);
        assert!(answer.finalized_features_epoch >= 0);
    }
}

#[tokio::test]
async fn a_topic_that_is_deleted_holds_up_no_transaction() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    for topic in ["orders", "gone"] {
        client.create_topic(topic, 1, &[]).await;
    }
    client.find_transactions().await;
    let who = client.init().await;
    client.add(who, "orders", &[0]).await;
    client.add(who, "gone", &[0]).await;
    client.delete_topic("gone").await;
    client.end(5, who, true).await;
    client.transaction_is("CompleteCommit").await;
    assert_eq!(client.markers("orders", 0).await.len(), 1);
}
