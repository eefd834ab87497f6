#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

use super::*;

fn parse(yaml: &str) -> Result<Config, ConfigError> {
    Config::parse(yaml, &Environment::new(), "shop-2")
}

fn refusal(yaml: &str) -> String {
    parse(yaml).unwrap_err().to_string()
}

#[test]
fn a_data_directory_is_all_that_must_be_said() {
    let config = parse("data_dir: /tmp/weir").unwrap();
    assert_eq!(config.broker_id, 0);
    assert_eq!(config.kafka.bind.to_string(), "0.0.0.0:9092");
    assert_eq!(config.kafka.advertised.to_string(), "localhost:9092");
    assert_eq!(config.topics.replication_factor, None);
    assert!(!config.topics.auto_create);
    assert_eq!(config.cluster.brokers, 1);
}

#[test]
fn the_broker_id_comes_from_the_host_name_and_numbers_addresses() {
    let yaml = r#"
broker: { id: hostname }
data_dir: /data/{id}
listeners:
  kafka: { advertised: "shop-{id}.shop-brokers:9092" }
peers: ["shop-0:9094", "shop-1:9094", "shop-2:9094"]
"#;
    let config = parse(yaml).unwrap();
    assert_eq!(config.broker_id, 2);
    assert_eq!(config.data_dir, PathBuf::from("/data/2"));
    assert_eq!(
        config.kafka.advertised.to_string(),
        "shop-2.shop-brokers:9092"
    );
    assert_eq!(config.cluster.brokers, 3);
    let error = Config::parse(yaml, &Environment::new(), "laptop")
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("broker.id: \"hostname\" is not allowed here"),
        "{error}"
    );
    assert!(error.contains("\"laptop\""), "{error}");
}

#[test]
fn the_environment_overrides_every_field() {
    let environment = Environment::from([
        ("WEIR_BROKER_ID".into(), "7".into()),
        ("WEIR_DATA_DIR".into(), "/elsewhere".into()),
        ("WEIR_PEERS".into(), "a:1, b:2".into()),
        ("WEIR_TOPICS_NUM_PARTITIONS".into(), "12".into()),
        ("WEIR_TOPICS_RETENTION_MS".into(), "1000".into()),
    ]);
    let config = Config::parse("data_dir: /here\nbroker: { id: 1 }", &environment, "h").unwrap();
    assert_eq!(config.broker_id, 7);
    assert_eq!(config.data_dir, PathBuf::from("/elsewhere"));
    assert_eq!(config.peers.len(), 2);
    assert_eq!(config.topics.num_partitions, 12);
    assert_eq!(
        config.topics.config.get("retention.ms").map(String::as_str),
        Some("1000")
    );
}

#[test]
fn a_collector_is_named_by_the_file_or_by_opentelemetrys_own_variable() {
    let variable = "OTEL_EXPORTER_OTLP_ENDPOINT";
    let parse = |yaml: &str, url: &str| {
        let environment = Environment::from([(variable.into(), url.into())]);
        let config = Config::parse(&format!("data_dir: /d\n{yaml}"), &environment, "h");
        config.map(|config| config.otlp_endpoint)
    };
    let endpoint = |url: &str| Some(Endpoint::parse(url).unwrap());
    let said = "tracing: { otlp_endpoint: \"http://file:1\" }";
    assert_eq!(
        parse(said, "http://env:2").unwrap(),
        endpoint("http://file:1")
    );
    assert_eq!(parse("", "http://env:2").unwrap(), endpoint("http://env:2"));
    assert_eq!(parse("", " ").unwrap(), None);
    let error = parse("", "https://env").unwrap_err().to_string();
    assert!(
        error.contains(variable) && error.contains("http://HOST"),
        "{error}"
    );
}

#[test]
fn an_error_names_the_field_what_was_there_and_what_is_allowed() {
    assert_eq!(
        refusal(""),
        "data_dir: missing; needed: the path of a directory"
    );
    assert_eq!(
        refusal("data_dir: /d\nlimits: { connections: many }"),
        "limits.connections: \"many\" is not allowed here; allowed: a whole number from 1 to 1000000"
    );
    assert_eq!(
        refusal("data_dir: /d\nlimits: { idle: 10 }"),
        "limits.idle: 10 is not allowed here; allowed: a duration from 1s to 31536000s, such as 500ms, 30s, 10m, 2h or 7d"
    );
    assert_eq!(
        refusal("data_dir: /d\nlisteners: { kafka: { bind: here } }"),
        "listeners.kafka.bind: \"here\" is not allowed here; allowed: host:port, such as 0.0.0.0:9092, \
         broker-0.example:9092 or [::1]:9092"
    );
    let environment = Environment::from([("WEIR_BROKER_ID".into(), "x".into())]);
    let error = Config::parse("data_dir: /d", &environment, "h")
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("broker.id (environment variable WEIR_BROKER_ID): \"x\""),
        "{error}"
    );
}

#[test]
fn a_directory_that_is_said_twice_is_refused_by_its_field() {
    for (dirs, twice) in [
        ("[/a, /b, /a/]", "/a/"),
        ("[/a, /d]", "/d"),
        ("[/d/.]", "/d/."),
    ] {
        let config = parse(&format!("data_dir: /d\nlog_dirs: {dirs}")).unwrap();
        let error = config.checked().unwrap_err().to_string();
        assert!(error.starts_with(&format!("log_dirs: {twice}")), "{error}");
    }
    let config = parse("data_dir: /d\nlog_dirs: [/d/log, /e]").unwrap();
    assert!(config.checked().is_ok());
}

#[test]
fn a_field_that_does_not_exist_is_refused_with_those_that_do() {
    let error = refusal("data_dir: /d\nlimits: { conections: 5 }");
    assert!(
        error.starts_with("limits.conections: there is no such field; the fields here are "),
        "{error}"
    );
    assert!(error.contains(" connections,"), "{error}");
    let error = refusal("data_dir: /d\ntopics: { retention.m: 5 }");
    assert!(
        error.starts_with("topics.retention.m: there is no such field"),
        "{error}"
    );
}

#[test]
fn what_is_not_yaml_is_refused() {
    assert!(matches!(
        parse("data_dir: [").unwrap_err(),
        ConfigError::NotYaml(_)
    ));
    assert!(matches!(
        parse("- a list").unwrap_err(),
        ConfigError::Invalid { .. }
    ));
}

#[test]
fn sizes_and_durations_are_written_for_people() {
    let config =
        parse("data_dir: /d\nlimits: { request_bytes: 1MiB, request_memory: 64Mi, idle: 5m }")
            .unwrap();
    assert_eq!(config.limits.request_bytes, 1 << 20);
    assert_eq!(config.limits.request_memory_bytes, 64 << 20);
    assert_eq!(config.limits.idle, Duration::from_secs(300));
}

#[test]
fn certificates_are_named_all_three_or_not_at_all() {
    let files = |tls: &str| {
        parse(&format!(
            "data_dir: /d\nbroker: {{ id: 4 }}\nlisteners: {{ quorum: {{ tls: {{ {tls} }} }} }}"
        ))
    };
    assert_eq!(files("").unwrap().quorum_tls, None);
    let all = files("ca: /t/ca.crt, certificate: '/t/{id}.crt', key: '/t/{id}.key'").unwrap();
    assert_eq!(
        all.quorum_tls,
        Some(weir_tls::Files {
            authorities: "/t/ca.crt".into(),
            certificate: "/t/4.crt".into(),
            key: "/t/4.key".into(),
        })
    );
    for (some, missing) in [
        ("ca: a", "certificate"),
        ("ca: a, certificate: b", "key"),
        ("key: a", "ca"),
    ] {
        let error = files(some).unwrap_err().to_string();
        let expected = format!("listeners.quorum.tls.{missing}: missing");
        assert!(error.starts_with(&expected), "{error}");
    }
}

#[test]
fn what_the_controller_heeds_is_read_by_kafkas_names_and_checked() {
    let config = parse(
        "data_dir: /d\ncluster: { brokers: 5 }\ntopics: { transaction.state.log.min.isr: 2, auto.leader.rebalance.enable: false }",
    );
    let settings = config.unwrap().settings().unwrap();
    assert_eq!(settings.get("transaction.state.log.min.isr"), Some("2"));
    assert_eq!(settings.get("auto.leader.rebalance.enable"), Some("false"));
    assert_eq!(
        settings.get("default.replication.factor"),
        None,
        "the cluster's size decides"
    );
    assert_eq!(settings.cluster_brokers(), 5);
    let refused = refusal("data_dir: /d\ntopics: { offsets.topic.replication.factor: 0 }");
    assert!(
        refused.contains("offsets.topic.replication.factor"),
        "{refused}"
    );
}

#[test]
fn a_broker_may_be_told_to_know_less_and_not_more() {
    let level = |yaml: &str, environment: &[(&str, &str)]| {
        let environment = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Config::parse(yaml, &environment, "broker-0").map(|config| config.cluster.feature_level)
    };
    let newest = weir_quorum::controller::FEATURE_LEVEL;
    assert_eq!(level("data_dir: /d", &[]), Ok(newest));
    assert_eq!(
        level("data_dir: /d\ncluster: { feature_level: 1 }", &[]),
        Ok(1)
    );
    let told = [("WEIR_CLUSTER_FEATURE_LEVEL", "1")];
    assert_eq!(level("data_dir: /d", &told), Ok(1));
    let more = format!("data_dir: /d\ncluster: {{ feature_level: {} }}", newest + 1);
    assert!(level(&more, &[]).is_err());
}

#[test]
fn grpc_is_served_only_where_that_is_said_and_pods_say_it_in_their_environment() {
    let yaml = "data_dir: /tmp/weir";
    assert_eq!(parse(yaml).unwrap().grpc, None);
    let environment = Environment::from([(
        "WEIR_LISTENERS_GRPC_BIND".to_owned(),
        "0.0.0.0:9096".to_owned(),
    )]);
    let config = Config::parse(yaml, &environment, "shop-2").unwrap();
    assert_eq!(config.grpc.unwrap().to_string(), "0.0.0.0:9096");
}
