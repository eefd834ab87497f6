//! The images that Weir is shipped in: from scratch, one static binary each, no shell, not root.

use crate::binaries::Binaries;
use crate::image::Image;
use crate::paths::{VERSION, target};
use crate::{Outcome, binaries};
use std::path::{Path, PathBuf};

/// The user that everything of Weir's runs as; `65532` is what the distroless images call `nonroot`.
pub(crate) const NONROOT: &str = "65532:65532";

/// Archives of one build.
pub(crate) struct Archives {
    /// `weir-broker`.
    pub(crate) broker: PathBuf,
    /// `weir-operator`.
    pub(crate) operator: PathBuf,
}

/// Builds the binaries and packs them.
pub(crate) fn write_all() -> Outcome<Archives> {
    let Binaries { broker, operator } = binaries::build()?;
    Ok(Archives {
        broker: write(
            "weir-broker",
            "The server of Weir, a message broker for Kubernetes",
            &broker,
        )?,
        operator: write(
            "weir-operator",
            "Turns Weir's custom resources into running clusters",
            &operator,
        )?,
    })
}

/// Where archives are written.
pub(crate) fn folder() -> PathBuf {
    target().join("images")
}

fn write(name: &str, description: &str, binary: &Path) -> Outcome<PathBuf> {
    let mut image = Image::new(
        &format!("{name}:{VERSION}"),
        NONROOT,
        &[&format!("/{name}")],
    );
    image.copy(binary, &format!("/{name}"))?;
    image.text(
        "/etc/passwd",
        "nonroot:x:65532:65532:nonroot:/:/sbin/nologin\n",
    );
    image.text("/etc/group", "nonroot:x:65532:\n");
    // Names are looked up in the pod's hosts file first, then over DNS.
    image.text("/etc/nsswitch.conf", "hosts: files dns\n");
    for (label, value) in [
        ("title", name),
        ("description", description),
        ("version", VERSION),
        ("licenses", "Apache-2.0"),
    ] {
        image.labels.insert(
            format!("org.opencontainers.image.{label}"),
            value.to_owned(),
        );
    }
    let archive = folder().join(format!("{name}.tar"));
    image.write(&archive)?;
    let mebibytes = std::fs::metadata(&archive)?.len() as f64 / f64::from(1 << 20);
    println!(
        "{name}:{VERSION}  {mebibytes:.1} MiB  {}",
        archive.display()
    );
    Ok(archive)
}
