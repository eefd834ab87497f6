//! `weir-operator local`: a cluster of processes on this machine, made from the same manifests as on Kubernetes.

use crate::given;
use crate::wait;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// How long a cluster may take to serve, or to end.
const LIMIT: Duration = Duration::from_secs(60);

/// Beside the ports of a cluster that somebody runs by hand. Brokers also use those 5,000, 10,000 and 20,000 above, which have to
/// stay below 32,768, where the kernel gives ports to clients.
const PORT_BASE: &str = "10192";

/// What brokers' ports for gRPC are above Kafka's, and those for brokers.
const GRPC_STEP: u16 = 5_000;
const INTERNAL_STEP: u16 = 10_000;

/// A local cluster; its processes end with it, its data too.
#[derive(Debug)]
pub struct Local {
    child: Child,
    folder: TempDir,
}

impl Local {
    /// Starts what the manifests describe and waits until it says where to connect.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn start(manifests: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("weir.yaml"), manifests).expect("the manifests are written");
        let child = spawn(folder.path(), false);
        let mut local = Self { child, folder };
        local.wait_for_bootstrap();
        local
    }

    /// Runs it with `ONCE=1` until it has proven itself, and returns how it ended and what it said.
    ///
    /// # Panics
    /// When it cannot run.
    #[must_use]
    pub fn once(manifests: &str) -> (ExitStatus, String) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("weir.yaml"), manifests).expect("the manifests are written");
        let status = spawn(folder.path(), true).wait().expect("it ends");
        (status, said(folder.path()))
    }

    /// The address that it told people to connect to.
    ///
    /// # Panics
    /// When it told none.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        bootstrap(&said(self.folder.path())).expect("a bootstrap address was said")
    }

    /// Where clients of gRPC connect, at each of so many brokers: 5,000 above Kafka's ports.
    ///
    /// # Panics
    /// When no bootstrap address was told.
    #[must_use]
    pub fn grpc(&self, brokers: u16) -> Vec<String> {
        self.ports(GRPC_STEP, brokers)
    }

    /// Where brokers and the operator connect to each of so many brokers.
    ///
    /// # Panics
    /// When no bootstrap address was told.
    #[must_use]
    pub fn internal(&self, brokers: u16) -> Vec<String> {
        self.ports(INTERNAL_STEP, brokers)
    }

    /// Where clusters keep what they have, each in a directory of its name.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn ports(&self, step: u16, brokers: u16) -> Vec<String> {
        let bootstrap = self.bootstrap();
        let (host, port) = bootstrap.rsplit_once(':').expect("an address");
        let first: u16 = port.parse().expect("a port");
        let ports = (0..brokers).map(|broker| first + step + broker);
        ports.map(|port| format!("{host}:{port}")).collect()
    }

    /// Replaces the manifests while it runs, as an editor would.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn edit(&self, manifests: &str) {
        let file = self.manifests();
        let next = file.with_extension("next");
        fs::write(&next, manifests)
            .and_then(|()| fs::rename(&next, &file))
            .expect("the manifests are written");
    }

    /// Process ids of the brokers.
    ///
    /// # Panics
    /// When /proc cannot be read.
    #[must_use]
    pub fn brokers(&self) -> Vec<u32> {
        brokers_of(self.child.id())
    }

    /// `kill -9` of these processes, all at once.
    ///
    /// # Panics
    /// When they are not there.
    pub fn kill(&self, processes: &[u32]) {
        assert!(kill(processes), "kill -9 {processes:?}");
    }

    /// `kill -9` of the operator and all brokers, then a new start on the same data.
    ///
    /// # Panics
    /// When it does not come back.
    pub fn crash_and_start_again(&mut self) {
        let brokers = self.brokers();
        let mut all = vec![self.child.id()];
        all.extend(&brokers);
        self.kill(&all);
        self.child.wait().expect("it is dead");
        wait::until("killed brokers are gone", LIMIT, || {
            brokers
                .iter()
                .all(|broker| !Path::new(&format!("/proc/{broker}")).exists())
                .then_some(())
        });
        self.child = spawn(self.folder.path(), false);
        self.wait_for_bootstrap();
    }

    /// Ctrl-C, and a new start on the same data.
    ///
    /// # Panics
    /// When it does not end with status 0 or come back.
    pub fn stop_and_start_again(&mut self) {
        let interrupted = Command::new("kill")
            .args(["-INT", &self.child.id().to_string()])
            .status();
        assert!(interrupted.is_ok_and(|status| status.success()), "Ctrl-C");
        let ended = wait::until("it ends after Ctrl-C", LIMIT, || {
            self.child.try_wait().expect("it is our child")
        });
        assert!(
            ended.success(),
            "it ended with {ended} after Ctrl-C; it said:\n{}",
            said(self.folder.path())
        );
        self.child = spawn(self.folder.path(), false);
        self.wait_for_bootstrap();
    }

    fn manifests(&self) -> PathBuf {
        self.folder.path().join("weir.yaml")
    }

    fn wait_for_bootstrap(&mut self) {
        wait::until("weir-operator local says where to connect", LIMIT, || {
            let ended = self.child.try_wait().expect("it is our child");
            let text = said(self.folder.path());
            assert!(
                ended.is_none(),
                "weir-operator local ended with {ended:?}; it said:\n{text}"
            );
            bootstrap(&text)
        });
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "---- weir-operator local said:\n{}",
                said(self.folder.path())
            );
        }
        let mut all = self.brokers();
        all.push(self.child.id());
        // Those that have ended by themselves are why a test fails, if it does.
        let _ = kill(&all);
        let _ = self.child.wait();
    }
}

/// `kill -9`; whether all of them were there.
fn kill(processes: &[u32]) -> bool {
    let killed = Command::new("kill")
        .arg("-9")
        .args(processes.iter().map(u32::to_string))
        .stderr(Stdio::null())
        .status();
    killed.is_ok_and(|status| status.success())
}

/// Starts the operator; what it says goes to a file in the folder, from its beginning.
fn spawn(folder: &Path, once: bool) -> Child {
    let out = fs::File::create(folder.join("said")).expect("a file to write to");
    let both = out.try_clone().expect("a second handle");
    let mut local = Command::new(given::operator());
    local
        .args(["local", "-f"])
        .arg(folder.join("weir.yaml"))
        .env("WEIR_BROKER_BINARY", given::broker())
        .env("WEIR_LOCAL_DATA", folder.join("data"))
        .env("WEIR_PORT_BASE", PORT_BASE)
        .env_remove("ONCE")
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(both);
    if once {
        local.env("ONCE", "1");
    }
    local.spawn().expect("weir-operator runs")
}

fn said(folder: &Path) -> String {
    fs::read_to_string(folder.join("said")).unwrap_or_default()
}

/// The address in a line that speaks of bootstrap.
fn bootstrap(said: &str) -> Option<String> {
    let line = said
        .lines()
        .rfind(|line| line.to_lowercase().contains("bootstrap"))?;
    let mut words = line.split_whitespace();
    words
        .find(|word| word.starts_with("127.0.0.1:"))
        .map(str::to_owned)
}

/// Brokers that this process started, by its entry in /proc: children of any of its threads that were given a
/// configuration, which tells them from the probe.
fn brokers_of(operator: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{operator}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let listed =
        threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let children: Vec<u32> = listed
        .flat_map(|line| {
            line.split_whitespace()
                .filter_map(|id| id.parse().ok())
                .collect::<Vec<_>>()
        })
        .collect();
    let given = |child: &u32| fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
    let mut brokers: Vec<u32> = children
        .into_iter()
        .filter(|child| {
            given(child)
                .split(|byte| *byte == 0)
                .any(|word| word == b"--config")
        })
        .collect();
    brokers.sort_unstable();
    brokers
}
