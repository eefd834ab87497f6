//! The images that Weir is shipped in: from scratch, one static binary each, no shell, not root.

use crate::binaries::Binaries;
use crate::image::Image;
use crate::paths::{VERSION, target};
use crate::{Outcome, before, binaries};
use std::path::{Path, PathBuf};

/// The user that everything of Weir's runs as; `65532` is what the distroless images call `nonroot`.
pub(crate) const NONROOT: &str = "65532:65532";

/// Archives of one build.
pub(crate) struct Archives {
    /// `weir-broker`.
    pub(crate) broker: PathBuf,
    /// `weir-operator`.
    pub(crate) operator: PathBuf,
    /// `weir-broker` as an older version, which nobody ships.
    pub(crate) before: PathBuf,
    /// The commit that the older version is of, if it is not this build.
    pub(crate) before_is: Option<String>,
}

/// Builds the binaries and packs them.
pub(crate) fn write_all() -> Outcome<Archives> {
    let earlier = before::build()?;
    let Binaries { broker, operator } = binaries::build()?;
    Ok(Archives {
        before: write_before(earlier.as_ref().map_or(&broker, |it| &it.broker))?,
        before_is: earlier.map(|it| it.revision),
        broker: write(
            "weir-broker",
            VERSION,
            "The server of Weir, a message broker for Kubernetes",
            &broker,
            &[],
        )?,
        operator: write(
            "weir-operator",
            VERSION,
            "Turns Weir's custom resources into running clusters",
            &operator,
            &[],
        )?,
    })
}

/// Packs the broker that tests upgrade from: this build or an earlier one, told to know the first feature level alone, as a version before it did.
fn write_before(broker: &Path) -> Outcome<PathBuf> {
    write(
        "weir-broker",
        &format!("{VERSION}-before"),
        "The server of Weir as an older version of it, for tests of upgrades",
        broker,
        &[("WEIR_CLUSTER_FEATURE_LEVEL", "1")],
    )
}

/// Where archives are written.
pub(crate) fn folder() -> PathBuf {
    target().join("images")
}

fn write(
    name: &str,
    version: &str,
    description: &str,
    binary: &Path,
    environment: &[(&str, &str)],
) -> Outcome<PathBuf> {
    let mut image = Image::new(
        &format!("{name}:{version}"),
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
        ("version", version),
        ("licenses", "Apache-2.0"),
    ] {
        image.labels.insert(
            format!("org.opencontainers.image.{label}"),
            value.to_owned(),
        );
    }
    for (name, value) in environment {
        image
            .environment
            .insert((*name).to_owned(), (*value).to_owned());
    }
    let file = if version == VERSION {
        format!("{name}.tar")
    } else {
        format!("{name}-{version}.tar")
    };
    let archive = folder().join(file);
    image.write(&archive)?;
    let mebibytes = std::fs::metadata(&archive)?.len() as f64 / f64::from(1 << 20);
    println!(
        "{name}:{version}  {mebibytes:.1} MiB  {}",
        archive.display()
    );
    Ok(archive)
}
