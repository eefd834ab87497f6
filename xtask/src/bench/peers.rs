//! Brokers of other protocols, for the rows of queues: RabbitMQ and Redis, as Debian has them, and RocketMQ from Maven Central. Each has
//! what it acknowledged on disk.

use super::broker::{Kind, Ports};
use super::folder;
use crate::{Outcome, maven, paths, process};
use std::fs;
use std::path::{Path, PathBuf};

/// Where Debian keeps what `rabbitmq-server` starts; the command on `PATH` is a wrapper that becomes the user of the system's own broker.
const RABBITMQ: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

/// The version in `tests/bench/rocketmq/pom.xml`.
const ROCKETMQ: &str = "5.3.3";

/// Says what is missing of a broker that is to be measured.
pub(super) fn check(kind: Kind) -> Outcome {
    let (package, is_there) = match kind {
        Kind::RabbitMq => (
            "rabbitmq-server",
            Path::new(RABBITMQ).is_file() && paths::program("epmd").is_some(),
        ),
        Kind::Redis => ("redis-server", paths::program("redis-server").is_some()),
        _ => return Ok(()),
    };
    if is_there {
        Ok(())
    } else {
        Err(
            format!("no {kind}: Debian's package {package} brings it, or leave it out (--brokers)")
                .into(),
        )
    }
}

/// Which versions these are, for the report.
pub(super) fn version(kind: Kind) -> Option<String> {
    match kind {
        Kind::RabbitMq => {
            let releases = fs::read_dir("/usr/lib/rabbitmq/lib").ok()?;
            let names = releases.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
            let version = names
                .filter_map(|name| Some(name.strip_prefix("rabbitmq_server-")?.to_owned()))
                .max()?;
            Some(format!("RabbitMQ {version}"))
        }
        Kind::Redis => {
            let told = process::output(process::command("redis-server").arg("--version")).ok()?;
            let version = told
                .split_whitespace()
                .find_map(|word| word.strip_prefix("v="))?;
            Some(format!("Redis {version}"))
        }
        Kind::RocketMq => Some(format!("RocketMQ {ROCKETMQ}")),
        _ => None,
    }
}

/// RabbitMQ with its defaults, and the daemon by whose help Erlang's programs find each other, which it would leave behind if it
/// started it itself. A quorum queue's messages and acknowledgements are synced before they count.
pub(super) fn install_rabbitmq(own: &Path, ports: Ports) -> Outcome<Vec<Vec<String>>> {
    let config = own.join("rabbitmq.conf");
    fs::write(
        &config,
        format!(
            "listeners.tcp.1 = 127.0.0.1:{}\n\
             disk_free_limit.absolute = 1GB\n",
            ports.kafka
        ),
    )?;
    let plugins = own.join("enabled_plugins");
    fs::write(&plugins, "[].\n")?;
    let at = |name: &str| own.join(name).display().to_string();
    let environment = [
        // Its cookie goes there.
        ("HOME", own.display().to_string()),
        (
            "RABBITMQ_NODENAME",
            format!("bench-{}@localhost", ports.kafka),
        ),
        ("RABBITMQ_MNESIA_BASE", at("mnesia")),
        ("RABBITMQ_LOG_BASE", at("log")),
        ("RABBITMQ_CONFIG_FILE", config.display().to_string()),
        (
            "RABBITMQ_ENABLED_PLUGINS_FILE",
            plugins.display().to_string(),
        ),
        ("RABBITMQ_DIST_PORT", ports.internal.to_string()),
        ("ERL_EPMD_PORT", ports.http.to_string()),
        ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
        (
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            "-kernel inet_dist_use_interface {127,0,0,1}".to_owned(),
        ),
        // The script becomes the server then, so that what is started is what is measured and stopped.
        ("RUNNING_UNDER_SYSTEMD", "true".to_owned()),
    ];
    let epmd = paths::program("epmd").unwrap_or_else(|| PathBuf::from("epmd"));
    let daemon = [
        epmd.display().to_string(),
        "-address".to_owned(),
        "127.0.0.1".to_owned(),
        "-port".to_owned(),
        ports.http.to_string(),
    ];
    let server = environment
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .chain([RABBITMQ.to_owned()]);
    Ok(vec![
        daemon.to_vec(),
        ["env".to_owned()].into_iter().chain(server).collect(),
    ])
}

/// Redis with its append-only file, synced before anything is answered.
pub(super) fn install_redis(own: &Path, ports: Ports) -> Vec<String> {
    let settings = [
        ("--bind", "127.0.0.1".to_owned()),
        ("--port", ports.kafka.to_string()),
        ("--dir", own.display().to_string()),
        ("--appendonly", "yes".to_owned()),
        ("--appendfsync", "always".to_owned()),
        // No snapshots beside it.
        ("--save", String::new()),
    ];
    let settings = settings
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value]);
    ["redis-server".to_owned()]
        .into_iter()
        .chain(settings)
        .collect()
}

fn rocketmqs_sources() -> PathBuf {
    paths::root().join("tests/bench/rocketmq")
}

/// Fetches RocketMQ's jars unless they are there, and returns their folder.
pub(super) fn fetch_rocketmq() -> Outcome<PathBuf> {
    maven::jars(
        &format!("rocketmq-{ROCKETMQ}"),
        &rocketmqs_sources().join("pom.xml"),
    )
}

/// The client for RocketMQ, which is of the brokers' language: the command that takes kbench's flags.
pub(super) fn build_rocketmqs_client(jars: &Path) -> Outcome<Vec<String>> {
    let classes = folder().join("rocketmq-client");
    let library = format!("{}/*", jars.display());
    process::run(
        process::command("javac")
            .args(["-cp", &library, "-d"])
            .arg(&classes)
            .arg(rocketmqs_sources().join("RocketBench.java")),
    )?;
    let path = format!("{}:{library}", classes.display());
    // Workers look for their queues every 20 s as they come, which would be most of what is measured.
    let often = "-Drocketmq.client.rebalance.waitInterval=1000";
    Ok(["java", "-Xmx1g", often, "-cp", &path, "RocketBench"]
        .map(str::to_owned)
        .to_vec())
}

/// RocketMQ's name server and broker: synced before it confirms, and with timers of the finest grain that it has.
pub(super) fn install_rocketmq(
    jars: &Path,
    own: &Path,
    ports: &[Ports],
) -> Outcome<Vec<Vec<String>>> {
    let (names, broker) = (ports[0].kafka, ports[1].http);
    fs::write(
        own.join("names.conf"),
        format!("listenPort={names}\nbindAddress=127.0.0.1\n"),
    )?;
    let store = own.join("store");
    fs::create_dir_all(&store)?;
    fs::write(
        own.join("broker.conf"),
        format!(
            "brokerClusterName=bench\n\
             brokerName=bench\n\
             brokerId=0\n\
             brokerIP1=127.0.0.1\n\
             bindAddress=127.0.0.1\n\
             listenPort={broker}\n\
             namesrvAddr=127.0.0.1:{names}\n\
             storePathRootDir={store}\n\
             storePathCommitLog={store}/commitlog\n\
             autoCreateTopicEnable=true\n\
             flushDiskType=SYNC_FLUSH\n\
             brokerRole=ASYNC_MASTER\n\
             timerPrecisionMs=100\n",
            store = store.display()
        ),
    )?;
    let start = |class: &str, file: &str, memory: [&str; 2]| {
        let opened = [
            "--add-exports=java.base/jdk.internal.ref=ALL-UNNAMED",
            "--add-exports=java.base/sun.nio.ch=ALL-UNNAMED",
            "--add-opens=java.base/java.nio=ALL-UNNAMED",
            "--add-opens=java.base/jdk.internal.ref=ALL-UNNAMED",
        ];
        let own = own.display();
        ["java"]
            .into_iter()
            .chain(memory)
            .chain(opened)
            .map(str::to_owned)
            .chain([
                // Logs go below the one, keys and scripts are looked for below the other.
                format!("-Duser.home={own}"),
                format!("-Drocketmq.home.dir={own}"),
                "-cp".to_owned(),
                format!("{}/*", jars.display()),
                class.to_owned(),
                "-c".to_owned(),
                format!("{own}/{file}"),
            ])
            .collect()
    };
    Ok(vec![
        start(
            "org.apache.rocketmq.namesrv.NamesrvStartup",
            "names.conf",
            ["-Xms256m", "-Xmx256m"],
        ),
        start(
            "org.apache.rocketmq.broker.BrokerStartup",
            "broker.conf",
            ["-Xms2g", "-Xmx2g"],
        ),
    ])
}
