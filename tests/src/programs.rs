//! Programs on other people's clients that are built here: Java by `javac`, Go by `go build`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::given;

/// A virtual machine that starts soon: nothing here runs long enough for better code to pay.
const JVM: [&str; 3] = ["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"];

/// Compiles a program of a folder below `tests` into `classes` and returns the command that runs it.
///
/// # Panics
/// When it does not compile.
#[must_use]
pub fn java(folder: &str, main: &str, jars: &Path, classes: &Path) -> Command {
    let sources = given::root().join("tests").join(folder);
    let jars = format!("{}/*", jars.display());
    let compiled = Command::new("javac")
        .args(["-Xlint:all,-classfile,-path", "-Werror", "-proc:none", "-d"])
        .arg(classes)
        .args(["-cp", &jars, "-sourcepath"])
        .arg(&sources)
        .arg(sources.join(format!("{main}.java")))
        .status();
    assert!(
        compiled.is_ok_and(|status| status.success()),
        "javac {main}.java"
    );
    let logging = given::root().join("tests/conformance/java/log4j2.properties");
    let mut java = Command::new("java");
    java.args(JVM)
        .arg(format!("-Dlog4j2.configurationFile={}", logging.display()))
        .arg("-cp")
        .arg(format!("{}:{jars}", classes.display()))
        .arg(main);
    java
}

/// Builds the program in a folder below `tests` into `built` and returns where it is.
///
/// # Panics
/// When it does not build.
#[must_use]
pub fn go(folder: &str, built: &Path) -> PathBuf {
    let program = built.join(folder.rsplit('/').next().unwrap_or(folder));
    let status = Command::new("go")
        .current_dir(given::root().join("tests").join(folder))
        .args(["build", "-o"])
        .arg(&program)
        .arg(".")
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "go build in {folder}"
    );
    program
}
