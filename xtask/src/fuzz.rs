//! `cargo xtask fuzz`: the fuzz targets of broker/wire, guided by coverage, on stable Rust.
//!
//! The compiler's own pass puts in the counters that libFuzzer reads; it is asked for by flags that stable accepts, and only
//! for the target, so that build scripts stay as they are. What is found goes to a folder below the target directory; with
//! `keep`, the inputs that add coverage are merged into the committed corpus. That is one file for each target, its inputs
//! one after another with four bytes of length each: they are thousands and tiny, too many to be files of a repository.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::paths::{root, target};
use crate::process::{cargo, command, run as go};
use crate::{Outcome, binaries};

/// The targets, by the names of their binaries.
const TARGETS: [&str; 3] = ["frames", "messages", "batches"];
/// Longer inputs say nothing that these do not: counts and lengths of both kinds pass their 16 bit limits.
const INPUT_LEN_MAX: u32 = 70_000;
/// What one run of a target may take before it counts as hanging, in seconds.
const RUN_SECONDS_MAX: u32 = 10;
/// Instrumentation: a counter for each edge, the operands of comparisons, and the table that maps counters to code.
const INSTRUMENTATION: &str = "-Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";

/// Fuzzes each target for so many seconds. With `keep`, the committed corpus grows by what was found.
pub(crate) fn run(seconds: u64, keep: bool) -> Outcome {
    let package = root().join("broker/wire/fuzz");
    let manifest = package.join("Cargo.toml");
    let built = target().join("fuzz");
    let triple = binaries::host()?;
    let mut build = cargo("build");
    build.args([
        "--locked",
        "--quiet",
        "--release",
        "--bins",
        "--target",
        &triple,
        "--manifest-path",
    ]);
    build
        .arg(&manifest)
        .env("CARGO_TARGET_DIR", &built)
        .env("RUSTFLAGS", INSTRUMENTATION);
    go(&mut build)?;
    let release = built.join(&triple).join("release");
    the_allocation_check_can_fail(&release.join("overdraft"), &built)?;
    for name in TARGETS {
        let binary = release.join(name);
        let corpus = package.join("corpus").join(name);
        let seeds = built.join("seeds").join(name);
        let found = built.join("found").join(name);
        unpack(&corpus, &seeds)?;
        fs::create_dir_all(&found)?;
        println!("-- fuzzing {name} for {seconds} s");
        let mut fuzz = libfuzzer(&binary, &built);
        fuzz.arg(format!("-max_total_time={seconds}"))
            .arg("-print_final_stats=1")
            .args([&found, &seeds]);
        println!("   {}", watched(&mut fuzz)?);
        if keep {
            let merged = built.join("merged");
            empty(&merged)?;
            let mut merge = libfuzzer(&binary, &built);
            // The least inputs that reach every edge; how often each is reached is for the run to find out again.
            merge
                .args(["-set_cover_merge=1", "-use_counters=0"])
                .args([&merged, &seeds, &found]);
            watched(&mut merge)?;
            pack(&merged, &corpus)?;
        }
    }
    Ok(())
}

/// A target that allocates more than it may must be stopped for it, or the others prove nothing.
fn the_allocation_check_can_fail(overdraft: &Path, built: &Path) -> Outcome {
    let output = libfuzzer(overdraft, built).arg("-runs=1").output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() || !said.contains("bytes allocated for") {
        return Err(format!("a target that allocates too much was not stopped:\n{said}").into());
    }
    Ok(())
}

fn libfuzzer(binary: &Path, built: &Path) -> Command {
    let mut fuzz = command(binary);
    fuzz.arg(format!("-max_len={INPUT_LEN_MAX}"))
        .arg(format!("-timeout={RUN_SECONDS_MAX}"))
        .arg(format!("-artifact_prefix={}/", built.display()))
        .arg("-verbosity=0")
        // Leaks would need a sanitizer, which is not there.
        .arg("-detect_leaks=0");
    fuzz
}

/// Runs the fuzzer; what it says is shown when it stops early, and otherwise becomes one line.
fn watched(fuzz: &mut Command) -> Outcome<String> {
    let output = fuzz.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("stopped at an input that it has written down:\n{said}").into());
    }
    let last = |start: &str| said.lines().rev().find_map(|line| line.strip_prefix(start));
    let runs = last("stat::number_of_executed_units:")
        .unwrap_or_default()
        .trim();
    let allocation = last("allocation after ").unwrap_or("too few runs to tell");
    Ok(format!("{runs} runs; allocation after {allocation}"))
}

/// Writes the inputs of a corpus to a directory, one file each.
fn unpack(corpus: &Path, directory: &Path) -> Outcome {
    empty(directory)?;
    let packed = fs::read(corpus)?;
    let mut rest = packed.as_slice();
    let mut number = 0;
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = u32::from_be_bytes(*length) as usize;
        let Some((input, after)) = after.split_at_checked(length) else {
            return Err(format!("{} ends within an input", corpus.display()).into());
        };
        fs::write(directory.join(format!("{number:05}")), input)?;
        number += 1;
        rest = after;
    }
    Ok(())
}

/// Writes a directory's inputs as a corpus, in an order that depends on nothing but them.
fn pack(directory: &Path, corpus: &Path) -> Outcome {
    let mut inputs = Vec::new();
    for entry in fs::read_dir(directory)? {
        inputs.push(fs::read(entry?.path())?);
    }
    inputs.sort();
    let mut packed = Vec::new();
    for input in inputs {
        packed.extend(u32::try_from(input.len())?.to_be_bytes());
        packed.extend(input);
    }
    Ok(fs::write(corpus, packed)?)
}

/// A directory with nothing in it.
fn empty(directory: &Path) -> Outcome {
    if directory.exists() {
        fs::remove_dir_all(directory)?;
    }
    Ok(fs::create_dir_all(directory)?)
}
