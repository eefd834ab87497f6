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
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(failed(text(&output.stderr)))
    }
}
