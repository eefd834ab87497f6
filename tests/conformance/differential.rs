//! The same protocol calls to Apache Kafka and to Weir, and their answers compared: `tests/conformance/differential`.

use std::process::Command;

use weir_tests::broker::Broker;
use weir_tests::given;
use weir_tests::kafka::Kafka;
use weir_tests::suite;

#[test]
fn kafka_and_weir_answer_alike() {
    let (kafka, broker) = (
        Kafka::start("auto.create.topics.enable=false"),
        Broker::start(""),
    );
    let mut compare = Command::new(given::python());
    compare
        .arg(given::root().join("tests/conformance/differential/compare.py"))
        .args([kafka.address(), broker.address()]);
    suite::scenarios("differential", &mut compare);
}
