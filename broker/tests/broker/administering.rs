//! What administrators ask besides topics and configurations: elections, reassignments, features, the quorum, brokers, access.

use weir_wire::MessageView;
use weir_wire::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use weir_wire::messages::alter_user_scram_credentials_request::ScramCredentialUpsertion;
use weir_wire::messages::create_acls_request::AclCreation;
use weir_wire::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use weir_wire::messages::describe_quorum_request::{PartitionData, TopicData};
use weir_wire::messages::describe_user_scram_credentials_request::UserName;
use weir_wire::messages::elect_leaders_request::TopicPartitions;
use weir_wire::messages::metadata_request::MetadataRequestTopic;
use weir_wire::messages::update_features_request::FeatureUpdateKey;
use weir_wire::messages::*;

use crate::client::{Client, TestBroker};

/// Asks, and gives the response back.
macro_rules! ask {
    ($client:expr, $version:expr, $request:expr, $response:ident) => {{
        let body = $client.call($version, &$request).await;
        $response::decode(&body, $version).unwrap().to_owned()
    }};
}

async fn with_topic() -> (TestBroker, Client) {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    client.create_topic("t", 1, &[]).await;
    (broker, client)
}

#[tokio::test]
async fn elections_are_not_needed_where_the_leader_leads() {
    let (_broker, mut client) = with_topic().await;
    let partitions = |topic: &str, index| TopicPartitions {
        topic: topic.into(),
        partitions: vec![index],
    };
    for election_type in [0, 1] {
        let request = ElectLeadersRequest {
            election_type,
            topic_partitions: Some(vec![
                partitions("t", 0),
                partitions("t", 9),
                partitions("nope", 0),
            ]),
            ..ElectLeadersRequest::default()
        };
        let response = ask!(client, 2, request, ElectLeadersResponseView);
        let codes = response
            .replica_election_results
            .iter()
            .map(|result| result.partition_result[0].error_code);
        let unknown = ErrorCode::UnknownTopicOrPartition.code();
        assert_eq!(
            codes.collect::<Vec<_>>(),
            [ErrorCode::ElectionNotNeeded.code(), unknown, unknown]
        );
    }
    let all = ElectLeadersRequest {
        topic_partitions: None,
        ..ElectLeadersRequest::default()
    };
    let response = ask!(client, 2, all, ElectLeadersResponseView);
    assert_eq!(
        (response.error_code, response.replica_election_results.len()),
        (0, 0)
    );
    let strange = ElectLeadersRequest {
        election_type: 7,
        ..ElectLeadersRequest::default()
    };
    let response = ask!(client, 2, strange, ElectLeadersResponseView);
    assert_eq!(response.error_code, ErrorCode::InvalidRequest.code());
}

#[tokio::test]
async fn a_partition_stays_where_it_is_and_no_reassignment_is_listed() {
    let (_broker, mut client) = with_topic().await;
    let invalid = ErrorCode::InvalidReplicaAssignment;
    for (topic, replicas, wanted) in [
        ("t", Some(vec![0]), ErrorCode::None),
        ("t", Some(vec![0, 77]), invalid),
        ("t", Some(vec![0, 0]), invalid),
        ("t", Some(vec![]), invalid),
        ("t", None, ErrorCode::NoReassignmentInProgress),
        ("nope", Some(vec![0]), ErrorCode::UnknownTopicOrPartition),
    ] {
        let partition = ReassignablePartition {
            partition_index: 0,
            replicas: replicas.clone(),
        };
        let request = AlterPartitionReassignmentsRequest {
            topics: vec![ReassignableTopic {
                name: topic.into(),
                partitions: vec![partition],
            }],
            ..AlterPartitionReassignmentsRequest::default()
        };
        let response = ask!(client, 1, request, AlterPartitionReassignmentsResponseView);
        let found = response.responses[0].partitions[0].error_code;
        assert_eq!(found, wanted.code(), "{topic} {replicas:?}");
    }
    let request = ListPartitionReassignmentsRequest::default();
    let response = ask!(client, 0, request, ListPartitionReassignmentsResponseView);
    assert_eq!((response.error_code, response.topics.len()), (0, 0));
}

#[tokio::test]
async fn features_are_told_and_stay_where_they_are() {
    let (_broker, mut client) = with_topic().await;
    let versions = |version| ApiVersionsRequest {
        client_software_name: "test".into(),
        client_software_version: format!("{version}"),
        ..ApiVersionsRequest::default()
    };
    let response = ask!(client, 4, versions(4), ApiVersionsResponseView);
    let of = |name: &str| {
        let found = response.finalized_features.iter();
        let mut found = found.filter(|feature| feature.name == name);
        found.next().map(|feature| feature.max_version_level)
    };
    assert_eq!(of("transaction.version"), Some(2));
    assert!(response.finalized_features_epoch >= 0);
    let older = ask!(client, 3, versions(3), ApiVersionsResponseView);
    assert!(
        older
            .supported_features
            .iter()
            .all(|feature| feature.min_version > 0)
    );
    let oldest = ask!(
        client,
        2,
        ApiVersionsRequest::default(),
        ApiVersionsResponseView
    );
    assert_eq!((oldest.error_code, oldest.supported_features.len()), (0, 0));

    let invalid = ErrorCode::InvalidUpdateVersion;
    for (feature, level, upgrade_type, wanted) in [
        ("transaction.version", 2, 1, ErrorCode::None),
        ("transaction.version", 1, 1, invalid),
        ("transaction.version", 1, 2, invalid),
        ("transaction.version", 9, 1, invalid),
        ("foo", 1, 1, invalid),
    ] {
        let update = FeatureUpdateKey {
            feature: feature.into(),
            max_version_level: level,
            upgrade_type,
            ..FeatureUpdateKey::default()
        };
        let request = UpdateFeaturesRequest {
            feature_updates: vec![update],
            ..UpdateFeaturesRequest::default()
        };
        let response = ask!(client, 2, request, UpdateFeaturesResponseView);
        assert_eq!(response.error_code, wanted.code(), "{feature} {level}");
        // Older clients are told of each feature, when all are granted.
        let response = ask!(client, 1, request, UpdateFeaturesResponseView);
        assert_eq!(response.error_code, wanted.code(), "{feature} {level}");
        let granted: Vec<_> = response.results.iter().map(|one| one.error_code).collect();
        assert_eq!(granted, vec![0; usize::from(wanted == ErrorCode::None)]);
    }
}

#[tokio::test]
async fn the_quorum_is_described_and_unknown_brokers_are_not_forgotten() {
    let (_broker, mut client) = with_topic().await;
    let of = |topic: &str| DescribeQuorumRequest {
        topics: vec![TopicData {
            topic_name: topic.into(),
            partitions: vec![PartitionData { partition_index: 0 }],
        }],
    };
    let response = ask!(
        client,
        2,
        of("__cluster_metadata"),
        DescribeQuorumResponseView
    );
    let partition = &response.topics[0].partitions[0];
    assert_eq!(
        (
            response.error_code,
            partition.leader_id,
            partition.current_voters.len()
        ),
        (0, 0, 1)
    );
    assert!(partition.high_watermark > 0 && partition.leader_epoch > 0);
    assert_eq!(response.nodes[0].node_id, 0);
    let response = ask!(client, 2, of("t"), DescribeQuorumResponseView);
    let refused = &response.topics[0].partitions[0];
    assert_eq!(
        (response.error_code, refused.error_code),
        (0, ErrorCode::UnknownTopicOrPartition.code())
    );

    for (broker_id, wanted) in [
        (77, ErrorCode::BrokerIdNotRegistered),
        (0, ErrorCode::InvalidRequest),
    ] {
        let request = UnregisterBrokerRequest { broker_id };
        let response = ask!(client, 0, request, UnregisterBrokerResponseView);
        assert_eq!(response.error_code, wanted.code());
    }
    for (endpoint_type, wanted) in [
        (1, ErrorCode::None),
        (2, ErrorCode::MismatchedEndpointType),
        (3, ErrorCode::UnsupportedEndpointType),
    ] {
        let request = DescribeClusterRequest {
            endpoint_type,
            ..DescribeClusterRequest::default()
        };
        let response = ask!(client, 2, request, DescribeClusterResponseView);
        assert_eq!(response.error_code, wanted.code());
    }
}

#[tokio::test]
async fn without_an_authorizer_there_are_no_access_control_lists() {
    let (_broker, mut client) = with_topic().await;
    let disabled = ErrorCode::SecurityDisabled.code();
    let response = ask!(
        client,
        3,
        DescribeAclsRequest::default(),
        DescribeAclsResponseView
    );
    assert_eq!(response.error_code, disabled);
    let request = CreateAclsRequest {
        creations: vec![AclCreation::default()],
    };
    let response = ask!(client, 3, request, CreateAclsResponseView);
    assert_eq!(response.results[0].error_code, disabled);
    let request = DeleteAclsRequest {
        filters: vec![Default::default()],
    };
    let response = ask!(client, 3, request, DeleteAclsResponseView);
    assert_eq!(response.filter_results[0].error_code, disabled);

    let request = DescribeUserScramCredentialsRequest { users: None };
    let response = ask!(client, 0, request, DescribeUserScramCredentialsResponseView);
    assert_eq!((response.error_code, response.results.len()), (0, 0));
    let request = DescribeUserScramCredentialsRequest {
        users: Some(vec![UserName { name: "u".into() }]),
    };
    let response = ask!(client, 0, request, DescribeUserScramCredentialsResponseView);
    assert_eq!(
        response.results[0].error_code,
        ErrorCode::ResourceNotFound.code()
    );
    let request = AlterUserScramCredentialsRequest {
        upsertions: vec![ScramCredentialUpsertion {
            name: "u".into(),
            ..ScramCredentialUpsertion::default()
        }],
        ..AlterUserScramCredentialsRequest::default()
    };
    let response = ask!(client, 0, request, AlterUserScramCredentialsResponseView);
    assert_eq!(
        response.results[0].error_code,
        ErrorCode::UnsupportedSaslMechanism.code()
    );
}

#[tokio::test]
async fn topics_are_created_on_request_and_what_cannot_be_is_said() {
    let broker = TestBroker::start_with("topics: { auto.create.topics.enable: true }").await;
    let mut client = broker.connect().await;
    client.create_topic("a.b", 1, &[]).await;
    let names = ["new", "a_b", "__consumer_offsets"];
    let topics = names.iter().map(|name| MetadataRequestTopic {
        name: Some((*name).to_owned()),
        ..MetadataRequestTopic::default()
    });
    let request = MetadataRequest {
        topics: Some(topics.collect()),
        allow_auto_topic_creation: true,
        ..MetadataRequest::default()
    };
    let response = client.metadata(12, &request).await;
    let of = |name: &str| {
        let mut found = response
            .topics
            .iter()
            .filter(|topic| topic.name.as_deref() == Some(name));
        let topic = found.next().unwrap();
        (topic.error_code, topic.partitions.len())
    };
    assert_eq!(of("new"), (0, 1));
    assert_eq!(of("a_b").0, ErrorCode::InvalidTopicException.code());
    let (error, partitions) = of("__consumer_offsets");
    assert!(
        error == 0 && partitions > 1,
        "with the partitions that it has to have"
    );
}

#[tokio::test]
async fn a_topic_is_not_created_with_a_configuration_of_nothing() {
    let (_broker, mut client) = with_topic().await;
    let topic = CreatableTopic {
        name: "n".into(),
        num_partitions: -1,
        replication_factor: -1,
        configs: vec![CreatableTopicConfig {
            name: "retention.ms".into(),
            value: None,
        }],
        ..CreatableTopic::default()
    };
    let mut request = CreateTopicsRequest {
        topics: vec![topic],
        ..CreateTopicsRequest::default()
    };
    let response = ask!(client, 7, request, CreateTopicsResponseView);
    assert_eq!(
        response.topics[0].error_code,
        ErrorCode::InvalidConfig.code()
    );
    request.topics[0].configs[0].value = Some(" 7000 ".into());
    request.validate_only = true;
    let response = ask!(client, 7, request, CreateTopicsResponseView);
    assert_eq!(response.topics[0].error_code, 0);
    let configs = response.topics[0].configs.as_ref().unwrap();
    let retention = configs.iter().find(|config| config.name == "retention.ms");
    assert_eq!(
        retention.and_then(|config| config.value.as_deref()),
        Some("7000")
    );
    let all = client
        .metadata(
            12,
            &MetadataRequest {
                topics: None,
                ..MetadataRequest::default()
            },
        )
        .await;
    assert_eq!(all.topics.len(), 1, "validated only");
}
