//! Apache Kafka: its jars from Maven Central, and nodes that are broker and controller.

use super::broker::{Ports, mortal};
use crate::{Outcome, maven, paths, process};
use std::fs;
use std::path::{Path, PathBuf};

/// The version in `tests/bench/kafka/pom.xml`.
pub(super) const VERSION: &str = "4.4.0";

/// Kafka's cluster ids are 16 bytes in base64; which ones does not matter here.
const CLUSTER_ID: &str = "V2VpckJlbmNobWFya3MhIQ";

/// What `kafka-server-start.sh` gives the virtual machine.
const JVM: [&str; 8] = [
    "-Xms1G",
    "-Xmx1G",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-Djava.awt.headless=true",
];

fn sources() -> PathBuf {
    paths::root().join("tests/bench/kafka")
}

/// Fetches the jars unless they are there, and returns their folder.
pub(crate) fn fetch() -> Outcome<PathBuf> {
    maven::jars(&format!("kafka-{VERSION}"), &sources().join("pom.xml"))
}

/// Formats a node's directory and returns the command that starts it; `more` are further settings.
pub(super) fn install(
    jars: &Path,
    home: &Path,
    ports: &[Ports],
    node: usize,
    more: &str,
) -> Outcome<Vec<String>> {
    let voters = ports.iter().enumerate();
    let voters = voters.map(|(id, ports)| format!("{id}@127.0.0.1:{}", ports.internal));
    // What its documentation recommends for three, and all that one can have.
    let (replicas, in_sync) = if ports.len() == 1 { (1, 1) } else { (3, 2) };
    let properties = home.join("server.properties");
    let filled = fs::read_to_string(sources().join("server.properties"))?
        .replace("{id}", &node.to_string())
        .replace("{port}", &ports[node].kafka.to_string())
        .replace("{controller_port}", &ports[node].internal.to_string())
        .replace("{voters}", &voters.collect::<Vec<_>>().join(","))
        .replace("{replicas}", &replicas.to_string())
        .replace("{in_sync}", &in_sync.to_string())
        .replace("{log_dir}", &home.join("log").display().to_string());
    fs::write(&properties, filled + more)?;
    let properties = properties.display().to_string();
    let common = [
        format!(
            "-Dlog4j2.configurationFile={}",
            sources().join("log4j2.properties").display()
        ),
        "-cp".to_owned(),
        format!("{}/*", jars.display()),
    ];
    process::output(
        mortal("java")
            .args(&common)
            .args(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"])
            .arg(&properties),
    )?;
    let start = ["kafka.Kafka".to_owned(), properties];
    Ok(["java"]
        .into_iter()
        .chain(JVM)
        .map(str::to_owned)
        .chain(common)
        .chain(start)
        .collect())
}
