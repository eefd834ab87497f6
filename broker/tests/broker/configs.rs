//! Configurations of topics, brokers, groups and client metrics: described, altered, listed.

use weir_proto::admin::v1 as proto;
use weir_proto::admin::v1::admin_client::AdminClient;
use weir_tls::Role;
use weir_wire::MessageView;
use weir_wire::messages::describe_configs_request::DescribeConfigsResource;
use weir_wire::messages::describe_configs_response::DescribeConfigsResult;
use weir_wire::messages::{
    AlterConfigsRequest, AlterConfigsResponseView, DescribeConfigsRequest,
    DescribeConfigsResponseView, ErrorCode, ListConfigResourcesRequest,
    ListConfigResourcesResponseView,
};

use crate::client::{Client, TestBroker};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;

async fn describe(client: &mut Client, kind: i8, name: &str) -> DescribeConfigsResult {
    let resource = DescribeConfigsResource {
        resource_type: kind,
        resource_name: name.into(),
        configuration_keys: None,
    };
    let request = DescribeConfigsRequest {
        resources: vec![resource],
        include_synonyms: true,
        include_documentation: false,
    };
    let body = client.call(4, &request).await;
    let mut response = DescribeConfigsResponseView::decode(&body, 4)
        .unwrap()
        .to_owned();
    response.results.remove(0)
}

/// A configuration's value, source, and whether it is read-only.
fn found(result: &DescribeConfigsResult, name: &str) -> (String, i8, bool) {
    let config = result.configs.iter().find(|config| config.name == name);
    let config = config.unwrap_or_else(|| panic!("{name} among {:?}", result.configs));
    (
        config.value.clone().unwrap_or_default(),
        config.config_source,
        config.read_only,
    )
}

async fn listed(client: &mut Client, version: i16, types: &[i8]) -> Result<Vec<(i8, String)>, i16> {
    let request = ListConfigResourcesRequest {
        resource_types: types.to_vec(),
    };
    let body = client.call(version, &request).await;
    let response = ListConfigResourcesResponseView::decode(&body, version)
        .unwrap()
        .to_owned();
    if response.error_code != 0 {
        return Err(response.error_code);
    }
    let resources = response.config_resources.into_iter();
    Ok(resources
        .map(|resource| (resource.resource_type, resource.resource_name))
        .collect())
}

#[tokio::test]
async fn trap_16_groups_and_client_metrics_have_configurations() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    let group = describe(&mut client, GROUP, "g").await;
    assert_eq!(
        found(&group, "consumer.session.timeout.ms"),
        ("45000".into(), 5, false)
    );
    // And some of Weir's own.
    assert_eq!(found(&group, "weir.paused"), ("false".into(), 5, false));
    assert_eq!(
        group.configs.len(),
        21 + 4,
        "as many as Kafka 4.4 describes, and four of Weir's own"
    );
    let set = [(0, "consumer.session.timeout.ms", Some("50000"))];
    assert_eq!(client.alter_configs(GROUP, "g", &set).await, 0);
    let group = describe(&mut client, GROUP, "g").await;
    assert_eq!(
        found(&group, "consumer.session.timeout.ms"),
        ("50000".into(), 8, false)
    );

    let set = [
        (0, "interval.ms", Some("1000")),
        (0, "match", Some("client_id=a.*")),
    ];
    assert_eq!(client.alter_configs(CLIENT_METRICS, "m", &set).await, 0);
    let metrics = describe(&mut client, CLIENT_METRICS, "m").await;
    assert_eq!(found(&metrics, "interval.ms"), ("1000".into(), 7, false));
    assert_eq!(found(&metrics, "metrics"), (String::new(), 5, false));

    client.create_topic("t", 1, &[]).await;
    let all = listed(&mut client, 1, &[]).await.unwrap();
    for resource in [
        (TOPIC, "t".to_owned()),
        (BROKER, "0".to_owned()),
        (CLIENT_METRICS, "m".to_owned()),
        (GROUP, "g".to_owned()),
    ] {
        assert!(all.contains(&resource), "{resource:?} in {all:?}");
    }
    assert_eq!(
        listed(&mut client, 1, &[GROUP]).await,
        Ok(vec![(GROUP, "g".to_owned())])
    );
    assert_eq!(
        listed(&mut client, 0, &[]).await,
        Ok(vec![(CLIENT_METRICS, "m".to_owned())])
    );
    assert_eq!(
        listed(&mut client, 1, &[99]).await,
        Err(ErrorCode::UnsupportedVersion.code())
    );

    // They are the cluster's, not the process's.
    drop(client);
    let broker = broker.restart().await;
    let mut client = broker.connect().await;
    let group = describe(&mut client, GROUP, "g").await;
    assert_eq!(found(&group, "consumer.session.timeout.ms").0, "50000");
}

#[tokio::test]
async fn trap_16_what_cannot_be_set_is_refused_with_kafkas_code() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    client.create_topic("t", 1, &[]).await;
    let (invalid_request, invalid_config) = (
        ErrorCode::InvalidRequest.code(),
        ErrorCode::InvalidConfig.code(),
    );
    for (kind, name, change, wanted) in [
        (TOPIC, "t", (0, "foo.bar", Some("1")), invalid_config),
        (TOPIC, "t", (0, "retention.ms", Some("x")), invalid_config),
        (TOPIC, "t", (0, "retention.ms", None), invalid_request),
        (TOPIC, "t", (2, "retention.ms", Some("1")), invalid_config),
        (TOPIC, "t", (1, "foo.bar", None), 0),
        (
            TOPIC,
            "nope",
            (0, "retention.ms", Some("1")),
            ErrorCode::UnknownTopicOrPartition.code(),
        ),
        (
            TOPIC,
            "a b",
            (0, "retention.ms", Some("1")),
            ErrorCode::InvalidTopicException.code(),
        ),
        (TOPIC, "", (0, "retention.ms", Some("1")), invalid_request),
        (BROKER, "0", (0, "node.id", Some("3")), invalid_request),
        (
            BROKER,
            "x",
            (0, "log.retention.ms", Some("1")),
            invalid_request,
        ),
        (
            GROUP,
            "",
            (0, "share.isolation.level", Some("read_committed")),
            invalid_request,
        ),
        (
            GROUP,
            "g",
            (0, "consumer.session.timeout.ms", Some("1")),
            invalid_config,
        ),
        (
            CLIENT_METRICS,
            "",
            (0, "interval.ms", Some("1000")),
            invalid_request,
        ),
        (
            CLIENT_METRICS,
            "m",
            (0, "match", Some("client_id=(")),
            invalid_config,
        ),
        (0, "x", (0, "a", Some("b")), invalid_request),
    ] {
        assert_eq!(
            client.alter_configs(kind, name, &[change]).await,
            wanted,
            "{kind} {name:?} {change:?}"
        );
    }
    let twice = [
        (0, "retention.ms", Some("1")),
        (0, "retention.ms", Some("2")),
    ];
    assert_eq!(
        client.alter_configs(TOPIC, "t", &twice).await,
        invalid_request
    );
    for (kind, name, wanted) in [
        (TOPIC, "nope", ErrorCode::UnknownTopicOrPartition),
        (TOPIC, "a b", ErrorCode::InvalidTopicException),
        (BROKER, "77", ErrorCode::InvalidRequest),
        (GROUP, "", ErrorCode::InvalidRequest),
        (CLIENT_METRICS, "", ErrorCode::InvalidRequest),
        (0, "x", ErrorCode::InvalidRequest),
    ] {
        let result = describe(&mut client, kind, name).await;
        assert_eq!(result.error_code, wanted.code(), "{kind} {name:?}");
    }
}

#[tokio::test]
async fn every_topic_configuration_of_kafka_is_known_and_altering_the_old_way_replaces_all() {
    use weir_wire::messages::alter_configs_request::{AlterConfigsResource, AlterableConfig};
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    client
        .create_topic("t", 1, &[("retention.ms", "1000"), ("preallocate", "TRUE")])
        .await;
    let topic = describe(&mut client, TOPIC, "t").await;
    assert_eq!(
        topic.configs.len(),
        37 + 1 + 13,
        "Kafka 4.4's, durability, and those of queues"
    );
    assert_eq!(found(&topic, "preallocate"), ("true".into(), 1, false));
    let set = AlterableConfig {
        name: "segment.ms".into(),
        value: Some("5000".into()),
    };
    let resource = AlterConfigsResource {
        resource_type: TOPIC,
        resource_name: "t".into(),
        configs: vec![set],
    };
    let request = AlterConfigsRequest {
        resources: vec![resource],
        validate_only: false,
    };
    let body = client.call(2, &request).await;
    let response = AlterConfigsResponseView::decode(&body, 2)
        .unwrap()
        .to_owned();
    assert_eq!(response.responses[0].error_code, 0);
    let topic = describe(&mut client, TOPIC, "t").await;
    assert_eq!(found(&topic, "segment.ms"), ("5000".into(), 1, false));
    assert_eq!(found(&topic, "retention.ms").1, 5);
    let broker = describe(&mut client, BROKER, "0").await;
    assert_eq!(found(&broker, "node.id"), ("0".into(), 4, true));
}

#[tokio::test]
async fn a_request_that_names_one_resource_many_times_is_answered_once() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    let resource = |name: String| DescribeConfigsResource {
        resource_type: GROUP,
        resource_name: name,
        configuration_keys: None,
    };
    let request = DescribeConfigsRequest {
        resources: (0..10_000)
            .map(|n| resource((n % 2_000).to_string()))
            .collect(),
        include_synonyms: true,
        include_documentation: true,
    };
    let body = client.call(4, &request).await;
    let response = DescribeConfigsResponseView::decode(&body, 4)
        .unwrap()
        .to_owned();
    assert_eq!(response.results.len(), 2_000);
    let refused = response.results.iter().filter(|result| {
        result.error_code == ErrorCode::InvalidRequest.code() && result.configs.is_empty()
    });
    assert_eq!(refused.count(), 1_000);
}

#[tokio::test]
async fn the_operator_configures_all_brokers_while_they_run_and_takes_it_back() {
    /// Of Kafka's sources of a configuration.
    const DYNAMIC_FOR_ALL: i8 = 3;
    let broker = TestBroker::start().await;
    let mut admin = AdminClient::new(broker.channel(Role::Operator));
    let mut client = broker.connect().await;
    let request = |set: &[(&str, &str)], unset: &[&str]| proto::ConfigureBrokersRequest {
        set: set
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        unset: unset.iter().map(|key| (*key).to_owned()).collect(),
    };
    let set = [("log.retention.ms", "1000"), ("num.partitions", "6")];
    let answer = admin.configure_brokers(request(&set, &[])).await.unwrap();
    assert_eq!(answer.into_inner().error, None);
    let describe_cluster = || proto::DescribeClusterRequest {};
    let described = admin
        .describe_cluster(describe_cluster())
        .await
        .unwrap()
        .into_inner();
    assert!(described.configures_brokers);
    let told = |config: std::collections::HashMap<String, String>| {
        let mut told: Vec<(String, String)> = config.into_iter().collect();
        told.sort();
        told
    };
    let expected = set.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(told(described.config), expected);
    let is = found(&describe(&mut client, BROKER, "0").await, "num.partitions");
    assert_eq!(is, ("6".to_owned(), DYNAMIC_FOR_ALL, false));

    // All or nothing: one that there is not, and one that only the file says.
    for wrong in ["no.such.config", "fetch.max.bytes"] {
        let wrong = request(&[("num.partitions", "7"), (wrong, "2048")], &[]);
        let answer = admin.configure_brokers(wrong).await.unwrap();
        assert!(answer.into_inner().error.is_some());
    }
    let unset = request(&[], &["num.partitions", "log.retention.ms"]);
    let is = found(&describe(&mut client, BROKER, "0").await, "num.partitions");
    assert_eq!(is.0, "6");
    let answer = admin.configure_brokers(unset).await.unwrap();
    assert_eq!(answer.into_inner().error, None);
    let described = admin
        .describe_cluster(describe_cluster())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(told(described.config), []);
    broker.stop().await;
}
