//! Apache Kafka's own Java clients and tools: scenarios in `tests/conformance/java`, compiled here.

use weir_tests::broker::Broker;
use weir_tests::given;
use weir_tests::programs;
use weir_tests::suite;

#[test]
fn kafkas_own_java_clients_are_content() {
    let classes = tempfile::tempdir().expect("a temporary folder");
    let broker = Broker::start("");
    let mut clients = programs::java(
        "conformance/java",
        "Clients",
        &given::kafka(),
        classes.path(),
    );
    suite::scenarios("java", clients.arg(broker.address()));
}

#[test]
fn kafkas_own_tools_print_what_they_print_with_kafka() {
    let classes = tempfile::tempdir().expect("a temporary folder");
    let broker = Broker::start("");
    let mut tools = programs::java(
        "conformance/java",
        "Tools",
        &given::kafka_tools(),
        classes.path(),
    );
    suite::scenarios("kafka-tools", tools.arg(broker.address()));
}
