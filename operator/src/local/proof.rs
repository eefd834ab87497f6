//! The proof that a cluster works: the broker's own probe writes messages through the Kafka protocol and reads them back.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use super::LocalError;

/// A topic of its own, so that nothing is added to a topic of the person's.
pub(super) const TOPIC: &str = "weir-probe";

/// Enough to see batches, few enough to take no time.
const MESSAGES: u32 = 1000;

/// Writes and reads back; returns the probe's own summary.
pub(super) async fn run(binary: &Path, bootstrap: &str) -> Result<String, LocalError> {
    let failed = |error: String| LocalError::Proof(error);
    let output = Command::new(binary)
        .args([
            "probe",
            "--bootstrap",
            bootstrap,
            "--topic",
            TOPIC,
            "--messages",
            &MESSAGES.to_string(),
        ])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| failed(error.to_string()))?;
    let last = |bytes: &[u8]| {
        String::from_utf8_lossy(bytes)
            .lines()
            .last()
            .map(|line| line.trim().to_owned())
    };
    let said = last(&output.stdout)
        .or_else(|| last(&output.stderr))
        .unwrap_or_default();
    if output.status.success() {
        Ok(said.trim_start_matches("weir-broker: ").to_owned())
    } else {
        Err(failed(said))
    }
}
