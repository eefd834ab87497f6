//! A real Kubernetes on this machine: `tests/kube/cluster`, built from Go modules, no Docker engine needed.
//!
//! Someone who has a cluster uses theirs: the tests take `KUBECONFIG`, and `WEIR_IMAGE_LOAD` says how an image archive
//! gets into it (`kind load image-archive`, say).

use crate::image::Image;
use crate::{Outcome, paths, process};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One of the clusters that this machine may run side by side, each in network namespaces of its own.
pub(crate) struct Cluster {
    name: String,
    port: String,
}

fn sources() -> PathBuf {
    paths::root().join("tests/kube/cluster")
}

/// Builds Kubernetes, unless that was done before from the same sources. Minutes the first time.
pub(crate) fn build() -> Outcome<PathBuf> {
    let go = sources().join("go");
    let built = paths::cache().join(format!("kube-{}", key(&go)?));
    if built.join("images").exists() {
        return Ok(built);
    }
    let partial = built.with_extension("partial");
    let (bin, images) = (partial.join("bin"), partial.join("images"));
    fs::create_dir_all(&bin)?;

    let version = module_version(&go, "k8s.io/kubernetes")?;
    let minor = version.split('.').nth(1).unwrap_or_default().to_owned();
    let mut flags = String::from("-s -w");
    for package in [
        "k8s.io/component-base/version",
        "k8s.io/client-go/pkg/version",
    ] {
        for (name, value) in [
            ("gitVersion", version.as_str()),
            ("gitMajor", "1"),
            ("gitMinor", &minor),
            ("gitCommit", "module"),
            ("gitTreeState", "clean"),
            ("buildDate", "2026-01-01T00:00:00Z"),
        ] {
            flags.push_str(&format!(" -X {package}.{name}={value}"));
        }
    }
    let helm = module_version(&go, "helm.sh/helm/v3")?;
    let helm_flags = format!("-s -w -X helm.sh/helm/v3/internal/version.version={helm}");
    for (binary, package, flags) in [
        ("kube", ".", flags.as_str()),
        ("coredns", "./cmd/coredns", "-s -w"),
        ("pause", "./cmd/pause", "-s -w"),
        ("helm", "helm.sh/helm/v3/cmd/helm", &helm_flags),
    ] {
        println!("building {binary} ({package})");
        process::run(
            golang(&go)
                .args(["build", "-ldflags", flags, "-o"])
                .arg(bin.join(binary))
                .arg(package),
        )?;
    }
    std::os::unix::fs::symlink("kube", bin.join("kubectl")).or_else(already_there)?;

    for component in ["pause", "coredns"] {
        let mut image = Image::new(
            &format!("k8s.local/{component}:1"),
            "0:0",
            &[&format!("/{component}")],
        );
        image.copy(&bin.join(component), &format!("/{component}"))?;
        image.write(&partial.join("packing").join(format!("{component}.tar")))?;
    }
    fs::rename(partial.join("packing"), &images)?;
    fs::rename(&partial, &built)?;
    Ok(built)
}

impl Cluster {
    /// The one to work with, or as `NS` and `PORT` say.
    pub(crate) fn chosen() -> Self {
        Self {
            name: variable("NS", "k8s"),
            port: variable("PORT", "6443"),
        }
    }

    /// The tests' own, so that they leave the one to work with alone.
    pub(crate) fn of_tests() -> Self {
        Self {
            name: variable("NS", "weir-test"),
            port: variable("PORT", "16443"),
        }
    }

    /// Starts it.
    pub(crate) fn up(&self) -> Outcome {
        let built = build()?;
        process::run(self.script("up.sh").env("WEIR_KUBE_BUILT", built))
    }

    /// Stops it and forgets it.
    pub(crate) fn down(&self) -> Outcome {
        process::run(&mut self.script("down.sh"))
    }

    /// Imports image archives into every node.
    pub(crate) fn load(&self, archives: &[PathBuf]) -> Outcome {
        process::run(self.script("node.sh").arg("load").args(absolute(archives)?))
    }

    /// Whether there is anything to stop.
    pub(crate) fn is_up(&self) -> bool {
        self.state().exists()
    }

    /// What talks to the API server as its administrator.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.state().join("admin.kubeconfig")
    }

    /// `PATH` with its `kubectl` and `helm` first.
    pub(crate) fn path(&self) -> String {
        format!(
            "{}:{}",
            self.state().join("built/bin").display(),
            variable("PATH", "/usr/bin:/bin")
        )
    }

    /// What a shell evaluates to use the cluster.
    pub(crate) fn environment(&self) -> String {
        format!(
            "export KUBECONFIG={} PATH={}",
            self.kubeconfig().display(),
            self.path()
        )
    }

    fn state(&self) -> PathBuf {
        std::env::temp_dir().join("weir-kube").join(&self.name)
    }

    fn script(&self, name: &str) -> Command {
        let mut script = process::command(sources().join(name));
        script.env("NS", &self.name).env("PORT", &self.port);
        script
    }
}

/// Imports image archives into a cluster that is not ours, as `WEIR_IMAGE_LOAD` says.
pub(crate) fn load_elsewhere(archives: &[PathBuf]) -> Outcome {
    let command = std::env::var("WEIR_IMAGE_LOAD").map_err(|_| {
        "KUBECONFIG names a cluster, but WEIR_IMAGE_LOAD does not say which command loads an image archive into it \
         (for example WEIR_IMAGE_LOAD='kind load image-archive')"
    })?;
    let mut words = command.split_whitespace();
    let program = words.next().ok_or("WEIR_IMAGE_LOAD is empty")?;
    let words: Vec<&str> = words.collect();
    absolute(archives)?
        .iter()
        .try_for_each(|archive| process::run(process::command(program).args(&words).arg(archive)))
}

fn absolute(paths: &[PathBuf]) -> Outcome<Vec<PathBuf>> {
    Ok(paths
        .iter()
        .map(std::path::absolute)
        .collect::<Result<_, _>>()?)
}

fn variable(name: &str, otherwise: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| otherwise.to_owned())
}

fn golang(module: &Path) -> Command {
    let mut go = process::command("go");
    go.current_dir(module)
        .env("CGO_ENABLED", "0")
        .env("GOFLAGS", "-trimpath -buildvcs=false");
    go
}

fn module_version(module: &Path, path: &str) -> Outcome<String> {
    process::output(golang(module).args(["list", "-m", "-f", "{{.Version}}", path]))
}

/// A name for what the Go sources and this recipe make.
fn key(go: &Path) -> Outcome<String> {
    let mut files = Vec::new();
    collect(go, &mut files)?;
    files.sort();
    let mut hash = Sha256::new();
    hash.update(include_str!("kube.rs"));
    hash.update(include_str!("image.rs"));
    for file in files {
        hash.update(file.strip_prefix(go)?.to_string_lossy().as_bytes());
        hash.update(fs::read(&file)?);
    }
    Ok(hash.finalize()[..6]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Outcome {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?
        } else {
            files.push(path)
        }
    }
    Ok(())
}

fn already_there(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::AlreadyExists {
        Ok(())
    } else {
        Err(error)
    }
}
