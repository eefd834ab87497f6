//! One broker's process.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use http_body_util::Empty;
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::LocalError;
use super::directory::Directory;
use crate::world::BrokerId;

/// A broker that is asked to stop flushes and says goodbye; its own limit for that is 20 seconds.
const STOP_TIMEOUT: Duration = Duration::from_secs(25);
/// A readiness probe on this machine answers at once or not.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// A running broker.
#[derive(Debug)]
pub(super) struct Broker {
    child: Child,
    /// Of what it was started with.
    pub(super) hash: String,
    /// It has answered that it is ready, and not otherwise since.
    pub(super) ready: bool,
    /// It was ready, and has not said so since then.
    pub(super) unready_since: Option<Instant>,
}

/// The broker's program.
pub(super) fn find_binary(named: Option<&Path>) -> Result<PathBuf, LocalError> {
    const NAME: &str = "weir-broker";
    if let Some(path) = named {
        return if path.is_file() {
            Ok(path.to_owned())
        } else {
            Err(LocalError::NoBroker(path.display().to_string()))
        };
    }
    let beside = std::env::current_exe()
        .ok()
        .and_then(|own| Some(own.parent()?.join(NAME)))
        .filter(|path| path.is_file());
    let in_path = || {
        std::env::split_paths(&std::env::var_os("PATH")?)
            .map(|directory| directory.join(NAME))
            .find(|path| path.is_file())
    };
    beside
        .or_else(in_path)
        .ok_or_else(|| LocalError::NoBroker(format!("no {NAME} beside this program nor in PATH")))
}

impl Broker {
    /// Starts a broker with the configuration that lies in the directory.
    pub(super) fn start(
        binary: &Path,
        directory: &Directory,
        broker: BrokerId,
        hash: String,
        env: &[(String, String)],
    ) -> Result<Self, LocalError> {
        let log_path = directory.file(broker, "log");
        let log = File::options()
            .create(true)
            .append(true)
            .open(&log_path)
            .map_err(|error| LocalError::Files(log_path.clone(), error))?;
        let both = log
            .try_clone()
            .map_err(|error| LocalError::Files(log_path, error))?;
        let child = Command::new(binary)
            .arg("--config")
            .arg(directory.file(broker, "yaml"))
            .envs(env.iter().map(|(name, value)| (name, value)))
            // Its output is a file.
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::from(both))
            .stderr(Stdio::from(log))
            // Ctrl-C in a terminal goes to the whole group: brokers are stopped by us, in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| LocalError::Files(binary.to_owned(), error))?;
        if let Some(pid) = child.id() {
            directory.write(&directory.file(broker, "pid"), &pid.to_string())?;
        }
        Ok(Self {
            child,
            hash,
            ready: false,
            unready_since: None,
        })
    }

    /// How it ended, if it did.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Completes when it has ended.
    pub(super) async fn wait(&mut self) {
        // An error means that there is nothing to wait for.
        let _ = self.child.wait().await;
    }

    /// Asks it to stop and waits; a broker that does not is killed. `true`: it stopped by itself.
    pub(super) async fn stop(&mut self) -> bool {
        let Some(pid) = self
            .child
            .id()
            .and_then(|pid| i32::try_from(pid).ok())
            .and_then(Pid::from_raw)
        else {
            return true;
        };
        if kill_process(pid, Signal::TERM).is_err()
            || tokio::time::timeout(STOP_TIMEOUT, self.child.wait())
                .await
                .is_ok()
        {
            return true;
        }
        let _ = self.child.kill().await;
        false
    }
}

/// Whether a broker says that it is ready.
pub(super) async fn is_ready(http_port: u16) -> bool {
    tokio::time::timeout(PROBE_TIMEOUT, ask(http_port))
        .await
        .ok()
        .flatten()
        .unwrap_or(false)
}

async fn ask(port: u16) -> Option<bool> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .ok()?;
    let request = Request::get("/readyz")
        .header("host", "localhost")
        .body(Empty::<Bytes>::new())
        .ok()?;
    tokio::select! {
        answer = sender.send_request(request) => Some(answer.ok()?.status().is_success()),
        _ = connection => None,
    }
}

/// Stops a broker that an earlier run left behind: a process whose command line names this very configuration.
pub(super) async fn stop_leftover(directory: &Directory, broker: BrokerId) -> Option<u32> {
    let pid: u32 = fs::read_to_string(directory.file(broker, "pid"))
        .ok()?
        .trim()
        .parse()
        .ok()?;
    let config = directory.file(broker, "yaml");
    let is_it = || {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0)
            .any(|argument| argument == config.as_os_str().as_encoded_bytes())
    };
    if !is_it() {
        return None;
    }
    let target = Pid::from_raw(i32::try_from(pid).ok()?)?;
    let _ = kill_process(target, Signal::TERM);
    let gone = async {
        while is_it() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(STOP_TIMEOUT, gone).await.is_err() {
        let _ = kill_process(target, Signal::KILL);
    }
    Some(pid)
}
