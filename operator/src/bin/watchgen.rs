//! Writes what is generated for watching: alert rules and their tests, dashboards, and the reference of the operator's metrics. With `--check` it
//! writes nothing and fails, naming each file that is stale.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::{env, fs};

use weir_operator::watching::{dashboards, reference, rules};

const RULES: &str = "charts/weir-operator/files/alerts.yaml";
const TESTS: &str = "operator/tests/alerts.yaml";

fn main() -> ExitCode {
    let check = match env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => return complain("usage: watchgen [--check]"),
    };
    match run(check) {
        Ok(stale) if stale.is_empty() => ExitCode::SUCCESS,
        Ok(stale) => complain(&format!(
            "stale: {} (write them anew with `cargo run -p weir-operator --bin watchgen`)",
            stale.join(", ")
        )),
        Err(error) => complain(&error.to_string()),
    }
}

fn complain(what: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "watchgen: {what}");
    ExitCode::FAILURE
}

fn run(check: bool) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()?;
    let mut files = vec![
        (RULES.to_owned(), rules::file()?),
        (TESTS.to_owned(), rules::tests(&format!("../../{RULES}"))?),
        ("docs/reference/operator-metrics.md".to_owned(), reference()),
    ];
    for dashboard in dashboards::ALL {
        let path = format!(
            "charts/weir-operator/files/dashboards/{}.json",
            dashboard.name
        );
        let text = serde_json::to_string_pretty(&dashboard.json())?;
        files.push((path, text + "\n"));
    }
    let mut stale = Vec::new();
    for (path, text) in files {
        let target = root.join(&path);
        if fs::read_to_string(&target).is_ok_and(|present| present == text) {
            continue;
        }
        if check {
            stale.push(path);
            continue;
        }
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&target, text)?;
        writeln!(std::io::stdout(), "wrote {path}")?;
    }
    Ok(stale)
}
