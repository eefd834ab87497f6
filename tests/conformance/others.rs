//! Clients of other people in other languages, each with the same scenarios: `tests/conformance/{python,node,sarama}`.

use std::path::PathBuf;
use std::process::Command;

use weir_tests::broker::Broker;
use weir_tests::given;
use weir_tests::programs;
use weir_tests::suite;

fn folder(name: &str) -> PathBuf {
    given::root().join("tests/conformance").join(name)
}

fn python(suite: &str, script: &str) {
    let broker = Broker::start("");
    let mut python = Command::new(given::python());
    python.arg(folder("python").join(script));
    suite::scenarios(suite, python.arg(broker.address()));
}

#[test]
fn librdkafka_is_content() {
    python("librdkafka", "librdkafka.py");
}

#[test]
fn aiokafka_is_content() {
    python("aiokafka", "aiokafka_clients.py");
}

#[test]
fn kafka_python_is_content() {
    python("kafka-python", "kafka_python.py");
}

#[test]
fn kafkajs_is_content() {
    let broker = Broker::start("");
    let mut node = Command::new("node");
    node.env("NODE_PATH", given::node_modules())
        .env("KAFKAJS_NO_PARTITIONER_WARNING", "1")
        .arg(folder("node").join("kafkajs.js"));
    suite::scenarios("kafkajs", node.arg(broker.address()));
}

#[test]
fn sarama_is_content() {
    let broker = Broker::start("");
    let built = tempfile::tempdir().expect("a temporary folder");
    let program = programs::go("conformance/sarama", built.path());
    suite::scenarios("sarama", Command::new(program).arg(broker.address()));
}
