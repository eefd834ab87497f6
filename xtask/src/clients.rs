//! Other people's clients, and the flights that the tests send through Weir.
//!
//! kcat is Debian's, the Python clients are PyPI's, KafkaJS and the flights are npm's, Kafka's own are Maven Central's. On this machine
//! they run as they are; for pods kcat and confluent-kafka go into an image with the libraries that they need, at the paths that they
//! have here.

use crate::image::Image;
use crate::{Outcome, images, maven, paths, process};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

/// The package that ships 200,000 flights.
const VEGA_DATASETS: &str = "vega-datasets@3.2.1";
/// The version in `tests/conformance/java/pom.xml`.
const KAFKA_TOOLS: &str = "4.3.1";
/// What the tests put into pods.
pub(crate) const IMAGE: &str = "weir-test-clients:1";

fn folder() -> Outcome<PathBuf> {
    let folder = paths::target().join("clients");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// A Python that has what `tests/conformance/python/requirements.txt` names.
pub(crate) fn python() -> Outcome<PathBuf> {
    let venv = folder()?.join("venv");
    let (python, installed) = (venv.join("bin/python"), venv.join("installed"));
    let requirements = paths::root().join("tests/conformance/python/requirements.txt");
    let wanted = fs::read_to_string(&requirements)?;
    if fs::read_to_string(&installed).is_ok_and(|what| what == wanted) {
        return Ok(python);
    }
    process::run(
        process::command("python3")
            .args(["-m", "venv", "--clear"])
            .arg(&venv),
    )?;
    process::run(
        process::command(&python)
            .args(["-m", "pip", "install", "--quiet", "-r"])
            .arg(requirements),
    )?;
    fs::write(installed, wanted)?;
    Ok(python)
}

/// The packages of `tests/conformance/node/package-lock.json`.
pub(crate) fn node_modules() -> Outcome<PathBuf> {
    let (sources, node) = (
        paths::root().join("tests/conformance/node"),
        folder()?.join("node"),
    );
    let (modules, installed) = (node.join("node_modules"), node.join("installed"));
    let wanted = fs::read_to_string(sources.join("package-lock.json"))?;
    if fs::read_to_string(&installed).is_ok_and(|what| what == wanted) {
        return Ok(modules);
    }
    fs::create_dir_all(&node)?;
    for file in ["package.json", "package-lock.json"] {
        fs::copy(sources.join(file), node.join(file))?;
    }
    process::run(
        process::command("npm")
            .args(["ci", "--silent"])
            .current_dir(&node),
    )?;
    fs::write(installed, wanted)?;
    Ok(modules)
}

/// The jars of Apache Kafka's command-line tools.
pub(crate) fn kafka_tools() -> Outcome<PathBuf> {
    let pom = paths::root().join("tests/conformance/java/pom.xml");
    maven::jars(&format!("kafka-tools-{KAFKA_TOOLS}"), &pom)
}

/// The flights, one a line: the delay, a tab, and the flight as the package has it.
pub(crate) fn flights() -> Outcome<PathBuf> {
    let lines = folder()?.join("flights.tsv");
    if lines.exists() {
        return Ok(lines);
    }
    let archive = process::output(
        process::command("npm")
            .args(["pack", "--silent", VEGA_DATASETS])
            .current_dir(folder()?),
    )?;
    let json = process::output(
        process::command("tar")
            .args([
                "-xzOf",
                archive.lines().last().unwrap_or_default(),
                "package/data/flights-200k.json",
            ])
            .current_dir(folder()?),
    )?;
    let inside = json.trim().trim_start_matches("[{").trim_end_matches("}]");
    let mut out = String::with_capacity(json.len() * 2);
    for flight in inside.split("},{") {
        let delay = flight
            .split([':', ','])
            .nth(1)
            .ok_or("a flight without a delay")?;
        out.push_str(&format!("{delay}\t{{{flight}}}\n"));
    }
    let partial = lines.with_extension("partial");
    fs::write(&partial, out)?;
    fs::rename(partial, &lines)?;
    Ok(lines)
}

/// Writes the image with kcat, Python with confluent-kafka, and a shell.
pub(crate) fn write_image() -> Outcome<PathBuf> {
    let mut image = Image::new(IMAGE, images::NONROOT, &["/bin/sleep", "2147483647"]);
    let busybox =
        paths::program("busybox").ok_or("no busybox: the package busybox-static brings it")?;
    image.copy(&busybox, "/bin/busybox")?;
    for applet in process::output(process::command(&busybox).arg("--list"))?.lines() {
        if applet != "busybox" {
            image.link(&format!("/bin/{applet}"), "busybox");
        }
    }

    let kcat = paths::program("kcat").ok_or("no kcat: the package kcat brings it")?;
    let mut linked = BTreeSet::from([kcat.clone()]);
    image.link("/bin/kcat", &kcat.to_string_lossy());

    let ask = "import sys, sysconfig, confluent_kafka, os\n\
        print(os.path.realpath(sys.executable))\n\
        print(sysconfig.get_path('stdlib'))\n\
        print(os.path.dirname(os.path.dirname(confluent_kafka.__file__)))";
    let said = process::output(process::command(python()?).args(["-c", ask]))?;
    let [python, library, packages] = said.lines().collect::<Vec<_>>()[..] else {
        return Err(format!("python says strange things about itself:\n{said}").into());
    };
    image.link("/bin/python", python);
    linked.insert(PathBuf::from(python));
    let mut found = Vec::new();
    walk(Path::new(library), &mut found)?;
    for entry in fs::read_dir(packages)? {
        let entry = entry?.path();
        if entry
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("confluent_kafka"))
        {
            walk(&entry, &mut found)?;
        }
    }
    for file in found {
        if file.to_string_lossy().contains(".so") {
            linked.insert(file);
        } else {
            image.copy(&file, &file.to_string_lossy())?;
        }
    }
    for library in libraries(&linked)?.union(&linked) {
        image.copy(library, &library.to_string_lossy())?;
    }
    image.text(
        "/etc/passwd",
        "nonroot:x:65532:65532:nonroot:/tmp:/bin/sh\n",
    );
    image.copy(&flights()?, "/flights.tsv")?;
    image.directory("/tmp", 0o1777);
    // Where the interpreter of a virtual environment would look by itself.
    image.link("/packages", packages);

    let archive = images::folder().join("weir-test-clients.tar");
    image.write(&archive)?;
    Ok(archive)
}

/// Files below `folder` that a program may need: no tests, no windows, no caches.
fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> Outcome {
    const NOT_NEEDED: [&str; 10] = [
        "__pycache__",
        "site-packages",
        "dist-packages",
        "test",
        "tests",
        "idlelib",
        "tkinter",
        "turtledemo",
        "ensurepip",
        "lib2to3",
    ];
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            if !NOT_NEEDED.contains(&name.as_str()) && !name.starts_with("config-") {
                walk(&path, found)?;
            }
        } else if !name.ends_with(".a") {
            found.push(path);
        }
    }
    Ok(())
}

/// The shared libraries that these programs and libraries load, as the loader of this machine finds them.
fn libraries(of: &BTreeSet<PathBuf>) -> Outcome<BTreeSet<PathBuf>> {
    let said = Command::new("ldd").args(of).output()?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let paths = said
        .lines()
        .filter(|line| line.starts_with(char::is_whitespace))
        .filter_map(|line| {
            let path = line.split_once("=> ").map_or(line, |(_, path)| path).trim();
            let path = path.split_once(" (").map_or(path, |(path, _)| path);
            path.starts_with('/').then(|| without_dots(Path::new(path)))
        });
    Ok(paths.collect())
}

fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            part => plain.push(part),
        }
    }
    plain
}
