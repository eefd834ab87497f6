//! Writes what is generated from the custom resources' types: manifests, chart templates, the cluster chart's value schema
//! and the field reference. With `--check` it writes nothing and fails, naming each file that is stale.
//!
//! The same types always give the same bytes: maps are written in the order of their keys.

mod manifests;
mod reference;
mod sorted;
mod values;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

/// A file and what belongs in it. The path is relative to the root of the repository.
struct Generated {
    path: PathBuf,
    contents: String,
}

fn main() -> ExitCode {
    let check = match env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => {
            eprintln!("usage: crdgen [--check]");
            return ExitCode::from(2);
        }
    };
    match run(check) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("crdgen: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(check: bool) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()?;
    let mut files = manifests::generate()?;
    files.push(values::generate()?);
    files.push(reference::generate());

    let mut stale = 0;
    for Generated { path, contents } in files {
        let target = root.join(&path);
        if fs::read_to_string(&target).is_ok_and(|present| present == contents) {
            continue;
        }
        if check {
            stale += 1;
            eprintln!(
                "stale: {} (write it anew with `cargo run -p weir-crds --bin crdgen`)",
                path.display()
            );
        } else {
            if let Some(folder) = target.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::write(&target, contents)?;
            writeln!(std::io::stdout(), "wrote {}", path.display())?;
        }
    }
    Ok(if stale == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
