//! Apache Kafka's own Java clients and tools: scenarios in `tests/conformance/java`, compiled here.

use std::path::Path;
use std::process::Command;

use weir_tests::broker::Broker;
use weir_tests::given;
use weir_tests::suite;

/// A virtual machine that starts soon: nothing here runs long enough for better code to pay.
const JVM: [&str; 3] = ["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"];

/// Compiles a program of `tests/conformance/java` and returns the command that runs it.
fn program(main: &str, jars: &Path, classes: &Path) -> Command {
    let sources = given::root().join("tests/conformance/java");
    let jars = format!("{}/*", jars.display());
    let compiled = Command::new("javac")
        .args(["-Xlint:all,-classfile,-path", "-Werror", "-proc:none", "-d"])
        .arg(classes)
        .args(["-cp", &jars, "-sourcepath"])
        .arg(&sources)
        .arg(sources.join(format!("{main}.java")))
        .status();
    assert!(
        compiled.is_ok_and(|status| status.success()),
        "javac {main}.java"
    );
    let mut java = Command::new("java");
    java.args(JVM)
        .arg(format!(
            "-Dlog4j2.configurationFile={}",
            sources.join("log4j2.properties").display()
        ))
        .arg("-cp")
        .arg(format!("{}:{jars}", classes.display()))
        .arg(main);
    java
}

#[test]
fn kafkas_own_java_clients_are_content() {
    let classes = tempfile::tempdir().expect("a temporary folder");
    let broker = Broker::start("");
    let mut clients = program("Clients", &given::kafka(), classes.path());
    suite::scenarios("java", clients.arg(broker.address()));
}

#[test]
fn kafkas_own_tools_print_what_they_print_with_kafka() {
    let classes = tempfile::tempdir().expect("a temporary folder");
    let broker = Broker::start("");
    let mut tools = program("Tools", &given::kafka_tools(), classes.path());
    suite::scenarios("kafka-tools", tools.arg(broker.address()));
}
