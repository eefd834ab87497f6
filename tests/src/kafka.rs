//! One Apache Kafka on this machine, to compare with: broker and controller in one process, with the same number as Weir's first broker.

use crate::broker::mortal;
use crate::given;
use crate::wait;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// How long it may take until it serves; 4 seconds on two idle cores.
const LIMIT: Duration = Duration::from_secs(120);

/// Kafka's cluster ids are 16 bytes in base64; which ones does not matter here.
const CLUSTER_ID: &str = "V2VpckRpZmZlcmVudGlhbA";

/// A Kafka on a disk of its own; both end with it.
#[derive(Debug)]
pub struct Kafka {
    child: Child,
    address: String,
    _folder: TempDir,
}

impl Kafka {
    /// Starts it with these further lines of `server.properties` and waits until it serves.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn start(settings: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let bench = given::root().join("tests/bench/kafka");
        let ports = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
        let [port, controller] = ports.map(|one| one.local_addr().expect("its address").port());
        let template = fs::read_to_string(bench.join("server.properties")).expect("the template");
        let properties = template
            .replace("{id}", "0")
            .replace("{voters}", "0@127.0.0.1:{controller_port}")
            .replace("{replicas}", "1")
            .replace("{in_sync}", "1")
            .replace("{port}", &port.to_string())
            .replace("{controller_port}", &controller.to_string())
            .replace(
                "{log_dir}",
                &folder.path().join("log").display().to_string(),
            );
        let file = folder.path().join("server.properties");
        fs::write(&file, format!("{properties}\n{settings}")).expect("properties are written");
        let formatted = java(Command::new("java"), &bench)
            .args(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"])
            .arg(&file)
            .stdout(Stdio::null())
            .status();
        assert!(
            formatted.is_ok_and(|status| status.success()),
            "Kafka formats its disk"
        );
        let said = folder.path().join("said");
        let out = fs::File::create(&said).expect("a file to write to");
        let mut child = java(mortal(Path::new("java")), &bench)
            .arg("kafka.Kafka")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(out)
            .spawn()
            .expect("java runs");
        wait::until("Kafka serves", LIMIT, || {
            let ended = child.try_wait().expect("it is our child");
            let said = fs::read_to_string(&said).unwrap_or_default();
            assert!(
                ended.is_none(),
                "Kafka ended with {ended:?}; it said:\n{said}"
            );
            said.contains("Kafka Server started").then_some(())
        });
        Self {
            child,
            address: format!("127.0.0.1:{port}"),
            _folder: folder,
        }
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn java(mut java: Command, bench: &Path) -> Command {
    java.args(["-Xmx768m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
        .arg(format!(
            "-Dlog4j2.configurationFile={}",
            bench.join("log4j2.properties").display()
        ))
        .arg("-cp")
        .arg(format!("{}/*", given::kafka().display()));
    java
}
