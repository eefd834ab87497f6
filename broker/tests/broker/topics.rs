//! Topics come, grow, are configured and go; metadata tells.

use weir_wire::MessageView;
use weir_wire::messages::create_partitions_request::CreatePartitionsTopic;
use weir_wire::messages::create_topics_request::CreatableTopic;
use weir_wire::messages::delete_topics_request::DeleteTopicState;
use weir_wire::messages::describe_configs_request::DescribeConfigsResource;
use weir_wire::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use weir_wire::messages::metadata_request::MetadataRequestTopic;
use weir_wire::messages::{
    CreatePartitionsRequest, CreatePartitionsResponseView, CreateTopicsRequest,
    CreateTopicsResponseView, DeleteTopicsRequest, DeleteTopicsResponseView,
    DescribeConfigsRequest, DescribeConfigsResponseView, DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponseView, ErrorCode, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponseView, MetadataRequest,
};

use crate::client::{PATIENCE, TestBroker, batch};

fn named(names: &[&str]) -> MetadataRequest {
    let topics = names.iter().map(|name| MetadataRequestTopic {
        name: Some((*name).to_owned()),
        ..MetadataRequestTopic::default()
    });
    MetadataRequest {
        topics: Some(topics.collect()),
        ..MetadataRequest::default()
    }
}

#[tokio::test]
async fn trap_17_no_list_means_all_topics_and_an_empty_one_none() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    client.create_topic("a", 1, &[]).await;
    client.create_topic("b", 2, &[]).await;
    let count = |response: weir_wire::messages::MetadataResponse| response.topics.len();
    let all = MetadataRequest {
        topics: None,
        ..MetadataRequest::default()
    };
    assert_eq!(count(client.metadata(1, &all).await), 2);
    assert_eq!(count(client.metadata(1, &named(&[])).await), 0);
    assert_eq!(
        count(client.metadata(0, &named(&[])).await),
        2,
        "version 0 has no null"
    );
    assert_eq!(
        count(client.metadata(9, &named(&["a", "a"])).await),
        1,
        "a name that comes twice"
    );
    let response = client.metadata(12, &all).await;
    assert_eq!(
        (response.controller_id, response.brokers[0].node_id),
        (0, 0)
    );
    assert_eq!(
        i32::from(broker.running.addresses().kafka.port()),
        response.brokers[0].port
    );
}

#[tokio::test]
async fn trap_17_names_that_differ_in_dots_and_underscores_only_collide() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    client.create_topic("a.b", 1, &[]).await;
    let topic = CreatableTopic {
        name: "a_b".into(),
        num_partitions: 1,
        replication_factor: 1,
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest {
        topics: vec![topic],
        ..CreateTopicsRequest::default()
    };
    let body = client.call(7, &request).await;
    let response = CreateTopicsResponseView::decode(&body, 7)
        .unwrap()
        .to_owned();
    assert_eq!(
        response.topics[0].error_code,
        ErrorCode::InvalidTopicException.code()
    );
}

#[tokio::test]
async fn topics_are_created_on_request_only_where_that_is_configured() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    let mut request = named(&["t", "not a name"]);
    request.allow_auto_topic_creation = true;
    let response = client.metadata(9, &request).await;
    let errors: Vec<_> = response
        .topics
        .iter()
        .map(|topic| topic.error_code)
        .collect();
    assert_eq!(
        errors,
        [
            ErrorCode::InvalidTopicException.code(),
            ErrorCode::UnknownTopicOrPartition.code()
        ]
    );

    let broker =
        TestBroker::start_with("topics: { auto.create.topics.enable: true, num.partitions: 3 }")
            .await;
    let mut client = broker.connect().await;
    request.allow_auto_topic_creation = false;
    assert_ne!(client.metadata(9, &request).await.topics[1].error_code, 0);
    request.allow_auto_topic_creation = true;
    let response = client.metadata(9, &request).await;
    assert_eq!(
        (
            response.topics[1].error_code,
            response.topics[1].partitions.len()
        ),
        (0, 3)
    );
}

#[tokio::test]
async fn a_topic_that_cannot_be_is_refused_with_the_reason() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    client.create_topic("there", 1, &[]).await;
    let topic = |name: &str, partitions, replicas| CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: replicas,
        ..CreatableTopic::default()
    };
    for (topic, error) in [
        (topic("there", 1, 1), ErrorCode::TopicAlreadyExists),
        (topic("a b", 1, 1), ErrorCode::InvalidTopicException),
        (topic("none", 0, 1), ErrorCode::InvalidPartitions),
        (
            topic("replicated", 1, 2),
            ErrorCode::InvalidReplicationFactor,
        ),
    ] {
        let request = CreateTopicsRequest {
            topics: vec![topic],
            ..CreateTopicsRequest::default()
        };
        let body = client.call(5, &request).await;
        let response = CreateTopicsResponseView::decode(&body, 5)
            .unwrap()
            .to_owned();
        assert_eq!(
            response.topics[0].error_code,
            error.code(),
            "{:?}",
            response.topics[0].error_message
        );
        assert!(response.topics[0].error_message.is_some());
    }
    let request = CreateTopicsRequest {
        topics: vec![topic("twice", 1, 1); 2],
        ..CreateTopicsRequest::default()
    };
    let body = client.call(7, &request).await;
    let response = CreateTopicsResponseView::decode(&body, 7)
        .unwrap()
        .to_owned();
    let errors: Vec<_> = response
        .topics
        .iter()
        .map(|topic| topic.error_code)
        .collect();
    assert_eq!(errors, [ErrorCode::InvalidRequest.code()]);
}

#[tokio::test]
async fn a_topic_grows_and_its_new_partitions_take_records() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    client.create_topic("t", 1, &[]).await;
    let grow = |count| {
        let topic = CreatePartitionsTopic {
            name: "t".into(),
            count,
            assignments: None,
        };
        CreatePartitionsRequest {
            topics: vec![topic],
            ..CreatePartitionsRequest::default()
        }
    };
    let body = client.call(3, &grow(3)).await;
    assert_eq!(
        CreatePartitionsResponseView::decode(&body, 3)
            .unwrap()
            .to_owned()
            .results[0]
            .error_code,
        0
    );
    assert_eq!(client.produce("t", 2, batch(&["a"])).await.error_code, 0);
    let body = client.call(3, &grow(2)).await;
    let response = CreatePartitionsResponseView::decode(&body, 3)
        .unwrap()
        .to_owned();
    assert_eq!(
        response.results[0].error_code,
        ErrorCode::InvalidPartitions.code()
    );
}

#[tokio::test]
async fn a_deleted_topics_data_is_gone_and_a_topic_made_anew_is_empty() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    let id = client.create_topic("t", 1, &[]).await;
    client.produce("t", 0, batch(&["old"])).await;
    let state = DeleteTopicState {
        name: None,
        topic_id: id,
    };
    let request = DeleteTopicsRequest {
        topics: vec![state],
        ..DeleteTopicsRequest::default()
    };
    let body = client.call(6, &request).await;
    assert_eq!(
        DeleteTopicsResponseView::decode(&body, 6)
            .unwrap()
            .to_owned()
            .responses[0]
            .error_code,
        0
    );
    let anew = client.create_topic("t", 1, &[]).await;
    assert_ne!(id, anew);
    assert_eq!(client.produce("t", 0, batch(&["new"])).await.base_offset, 0);
    let directory = broker.dir.path().join("log").join(format!("{id}-0"));
    let gone = async {
        while directory.exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
}

#[tokio::test]
async fn trap_16_configurations_are_described_with_their_sources_and_synonyms() {
    let broker = TestBroker::start_with("topics: { retention.ms: 5000 }").await;
    let mut client = broker.connect().await;
    client.create_topic("t", 1, &[]).await;
    let describe = |kind, name: &str, keys: &[&str]| {
        let resource = DescribeConfigsResource {
            resource_type: kind,
            resource_name: name.into(),
            configuration_keys: Some(keys.iter().map(|key| (*key).to_owned()).collect()),
        };
        let resources = vec![resource];
        DescribeConfigsRequest {
            resources,
            include_synonyms: true,
            include_documentation: true,
        }
    };
    let request = describe(2, "t", &["retention.ms"]);
    let body = client.call(4, &request).await;
    let response = DescribeConfigsResponseView::decode(&body, 4)
        .unwrap()
        .to_owned();
    let found = &response.results[0].configs[0];
    assert_eq!(
        (
            found.value.as_deref(),
            found.config_source,
            found.config_type
        ),
        (Some("5000"), 4, 5)
    );
    let sources: Vec<_> = found
        .synonyms
        .iter()
        .map(|synonym| (synonym.name.as_str(), synonym.source))
        .collect();
    assert_eq!(sources, [("log.retention.ms", 4), ("log.retention.ms", 5)]);
    assert!(found.documentation.is_some());

    let set = AlterableConfig {
        name: "retention.ms".into(),
        config_operation: 0,
        value: Some("7000".into()),
    };
    let resource = AlterConfigsResource {
        resource_type: 2,
        resource_name: "t".into(),
        configs: vec![set],
    };
    let alter = IncrementalAlterConfigsRequest {
        resources: vec![resource],
        validate_only: false,
    };
    let body = client.call(1, &alter).await;
    assert_eq!(
        IncrementalAlterConfigsResponseView::decode(&body, 1)
            .unwrap()
            .to_owned()
            .responses[0]
            .error_code,
        0
    );
    let body = client.call(4, &request).await;
    let response = DescribeConfigsResponseView::decode(&body, 4)
        .unwrap()
        .to_owned();
    let found = &response.results[0].configs[0];
    assert_eq!(
        (found.value.as_deref(), found.config_source),
        (Some("7000"), 1)
    );

    let body = client.call(4, &describe(4, "0", &["num.partitions"])).await;
    let response = DescribeConfigsResponseView::decode(&body, 4)
        .unwrap()
        .to_owned();
    assert_eq!(response.results[0].configs[0].value.as_deref(), Some("1"));
}

#[tokio::test]
async fn partitions_are_described_page_by_page() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    client.create_topic("a", 3, &[]).await;
    client.create_topic("b", 2, &[]).await;
    let mut request = DescribeTopicPartitionsRequest {
        response_partition_limit: 2,
        ..DescribeTopicPartitionsRequest::default()
    };
    let mut seen = Vec::new();
    loop {
        let body = client.call(0, &request).await;
        let response = DescribeTopicPartitionsResponseView::decode(&body, 0)
            .unwrap()
            .to_owned();
        for topic in &response.topics {
            let name = topic.name.clone().unwrap();
            seen.extend(
                topic
                    .partitions
                    .iter()
                    .map(|partition| (name.clone(), partition.partition_index)),
            );
        }
        let Some(next) = response.next_cursor else {
            break;
        };
        request.cursor = Some(
            weir_wire::messages::describe_topic_partitions_request::Cursor {
                topic_name: next.topic_name,
                partition_index: next.partition_index,
            },
        );
    }
    let seen: Vec<_> = seen
        .iter()
        .map(|(name, index)| (name.as_str(), *index))
        .collect();
    assert_eq!(seen, [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1)]);
}
