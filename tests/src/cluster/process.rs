//! One broker's process, within its network namespace and perhaps on a disk of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::disk;
use crate::given;

/// What a person reads of a broker's log when a test failed.
const LINES_SHOWN: usize = 25;

/// A broker: its files, and its process while it runs.
#[derive(Debug)]
pub(super) struct Process {
    number: usize,
    namespace: String,
    folder: PathBuf,
    /// The size of its disk, if it has one of its own.
    disk_bytes: Option<u64>,
    child: Option<Child>,
}

impl Process {
    /// A broker that does not run yet, with an empty disk and this configuration.
    pub(super) fn new(
        number: usize,
        namespace: String,
        folder: &Path,
        disk_bytes: Option<u64>,
        config: &str,
    ) -> Self {
        let folder = folder.to_owned();
        let process = Self {
            number,
            namespace,
            folder,
            disk_bytes,
            child: None,
        };
        fs::write(process.file("yaml"), config).expect("the configuration is written");
        process.wipe();
        process
    }

    fn file(&self, extension: &str) -> PathBuf {
        self.folder
            .join(format!("broker-{}.{extension}", self.number))
    }

    /// Where its data directory lies, as the process itself sees it.
    pub(super) fn data(folder: &Path, number: usize) -> PathBuf {
        folder.join(format!("broker-{number}/data"))
    }

    fn mounted(&self) -> PathBuf {
        self.folder.join(format!("broker-{}", self.number))
    }

    /// An empty disk in place of what it has. It must not run.
    pub(super) fn wipe(&self) {
        assert!(self.child.is_none(), "a running broker's disk");
        let mounted = self.mounted();
        if mounted.exists() {
            fs::remove_dir_all(&mounted).expect("the data is removed");
        }
        fs::create_dir_all(&mounted).expect("a folder for the data");
        if let Some(bytes) = self.disk_bytes {
            disk::make(&self.file("disk"), bytes);
        }
    }

    /// Starts it. It ends with the thread that starts it.
    pub(super) fn start(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.file("log"))
            .expect("a file to write to");
        let both = log.try_clone().expect("a second handle");
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace]).args([
            "setpriv",
            "--pdeathsig",
            "KILL",
            "--",
        ]);
        if self.disk_bytes.is_some() {
            command
                .args(["sh", "-c", disk::MOUNT_AND_BECOME, "sh"])
                .arg(self.file("disk"))
                .arg(self.mounted());
        }
        let child = command
            .arg(given::broker())
            .arg("--config")
            .arg(self.file("yaml"))
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(both)
            .spawn();
        self.child = Some(child.expect("the broker runs"));
    }

    /// Its process id, while it runs.
    pub(super) fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Sends it a signal, by its name.
    pub(super) fn signal(&self, signal: &str) {
        let id = self.id().expect("a running broker");
        let sent = Command::new("kill")
            .args(["-s", signal, &id.to_string()])
            .status();
        assert!(
            sent.is_ok_and(|status| status.success()),
            "kill -s {signal} {id}"
        );
    }

    /// `kill -9`; returns when it is gone.
    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it is our child");
            child.wait().expect("it is our child");
        }
    }

    /// Notices that it ended by itself.
    pub(super) fn has_ended(&mut self) -> bool {
        let ended = self
            .child
            .as_mut()
            .is_some_and(|child| child.try_wait().expect("it is our child").is_some());
        if ended {
            self.child = None;
        }
        self.child.is_none()
    }

    /// Takes all room on its disk.
    pub(super) fn fill_disk(&self) {
        disk::fill(self.id().expect("a running broker"), &self.mounted());
    }

    /// Gives it back.
    pub(super) fn make_room(&self) {
        if let Some(id) = self.id() {
            disk::make_room(id, &self.mounted());
        }
    }

    /// Bytes of memory that it has now.
    pub(super) fn memory_bytes(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()?)).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse().ok()?;
        Some(kib * 1024)
    }

    /// The last that it said.
    pub(super) fn last_words(&self) -> String {
        let said = fs::read(self.file("log")).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<_> = said.lines().collect();
        lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
