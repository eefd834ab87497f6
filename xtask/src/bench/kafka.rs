//! Apache Kafka: its jars from Maven Central, and one node that is broker and controller.

use super::broker::mortal;
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

/// Formats a directory and returns the command that starts a broker on it; `more` are further settings.
pub(super) fn install(
    jars: &Path,
    home: &Path,
    port: u16,
    controller_port: u16,
    more: &str,
) -> Outcome<Vec<String>> {
    let properties = home.join("server.properties");
    let filled = fs::read_to_string(sources().join("server.properties"))?
        .replace("{port}", &port.to_string())
        .replace("{controller_port}", &controller_port.to_string())
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
