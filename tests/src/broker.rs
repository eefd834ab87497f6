//! One `weir-broker` on this machine, without an operator: what other people's test suites run against.

use crate::given;
use crate::wait;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// How long a broker may take until it serves.
const LIMIT: Duration = Duration::from_secs(60);

/// A broker on a disk of its own; both end with it.
#[derive(Debug)]
pub struct Broker {
    child: Child,
    folder: TempDir,
    address: String,
}

impl Broker {
    /// Starts a broker with these further lines of configuration and waits until it serves.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn start(settings: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (config, log) = (folder.path().join("broker.yaml"), folder.path().join("log"));
        let data = folder.path().join("data");
        let text = format!(
            "cluster: {{ name: conformance, brokers: 1 }}\n\
             data_dir: {}\n\
             listeners:\n\
             \x20 kafka: {{ bind: \"127.0.0.1:0\" }}\n\
             \x20 quorum: {{ bind: \"127.0.0.1:0\" }}\n\
             \x20 http: {{ bind: \"127.0.0.1:0\" }}\n\
             {settings}",
            data.display()
        );
        fs::write(&config, text).expect("the configuration is written");
        let out = fs::File::create(&log).expect("a file to write to");
        let both = out.try_clone().expect("a second handle");
        let mut child = mortal(&given::broker())
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(both)
            .spawn()
            .expect("weir-broker runs");
        let address = wait::until("the broker says where it serves", LIMIT, || {
            let said = fs::read_to_string(&log).unwrap_or_default();
            let ended = child.try_wait().expect("it is our child");
            assert!(
                ended.is_none(),
                "weir-broker ended with {ended:?}; it said:\n{said}"
            );
            let (_, after) = said.split_once(" serving kafka=")?;
            let (address, _) = after.split_once(char::is_whitespace)?;
            Some(address.to_owned())
        });
        Self {
            child,
            folder,
            address,
        }
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let said = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            let last: Vec<_> = said.lines().rev().take(LINES_SHOWN).collect();
            eprintln!("---- the broker's last words:");
            last.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}

/// What a person reads of a broker's log when a suite failed.
const LINES_SHOWN: usize = 40;

/// A command that does not outlive the thread that starts it: Ctrl-C leaves no server behind.
#[must_use]
pub fn mortal(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--"])
        .arg(program.as_os_str());
    command
}
