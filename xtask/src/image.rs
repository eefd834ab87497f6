//! Writes a container image of one layer, as the archive that `docker save` writes.
//!
//! containerd, Docker and Podman load it. The same files make the same bytes: names are in order, and no clock, user
//! or host leaks in.

use crate::Outcome;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tar::{Builder, EntryType, Header};

/// An image being put together.
pub(crate) struct Image {
    /// Name and tag, as pods say it.
    pub(crate) name: String,
    /// What runs; the arguments of the pod follow it.
    pub(crate) entrypoint: Vec<String>,
    /// Who runs it: `user:group`.
    pub(crate) user: String,
    /// Labels, by `org.opencontainers.image` names.
    pub(crate) labels: BTreeMap<String, String>,
    /// Variables of what runs, besides `PATH`.
    pub(crate) environment: BTreeMap<String, String>,
    entries: BTreeMap<String, Entry>,
}

enum Entry {
    Directory { mode: u32 },
    File { mode: u32, content: Vec<u8> },
    Link { target: String },
}

impl Image {
    /// An empty image.
    pub(crate) fn new(name: &str, user: &str, entrypoint: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            entrypoint: entrypoint.iter().map(|word| (*word).to_owned()).collect(),
            user: user.to_owned(),
            labels: BTreeMap::new(),
            environment: BTreeMap::new(),
            entries: BTreeMap::new(),
        }
    }

    /// Adds a file of this machine, with its permissions.
    pub(crate) fn copy(&mut self, from: &Path, to: &str) -> Outcome {
        let content =
            fs::read(from).map_err(|error| format!("cannot read {}: {error}", from.display()))?;
        let mode = fs::metadata(from)?.permissions().mode() & 0o7777;
        self.put(to, Entry::File { mode, content });
        Ok(())
    }

    /// Adds a readable file.
    pub(crate) fn text(&mut self, to: &str, content: &str) {
        self.put(
            to,
            Entry::File {
                mode: 0o644,
                content: content.as_bytes().to_vec(),
            },
        );
    }

    /// Adds a directory.
    pub(crate) fn directory(&mut self, path: &str, mode: u32) {
        self.put(path, Entry::Directory { mode });
    }

    /// Adds a symbolic link.
    pub(crate) fn link(&mut self, path: &str, target: &str) {
        self.put(
            path,
            Entry::Link {
                target: target.to_owned(),
            },
        );
    }

    fn put(&mut self, path: &str, entry: Entry) {
        let path = path.trim_start_matches('/');
        for (end, _) in path.match_indices('/') {
            let parent = path[..end].to_owned();
            self.entries
                .entry(parent)
                .or_insert(Entry::Directory { mode: 0o755 });
        }
        self.entries.insert(path.to_owned(), entry);
    }

    /// Writes the archive.
    pub(crate) fn write(&self, to: &Path) -> Outcome {
        let layer = self.layer()?;
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let path = "PATH=/usr/local/bin:/usr/bin:/bin".to_owned();
        let others = self.environment.iter();
        let environment: Vec<String> = [path]
            .into_iter()
            .chain(others.map(|(name, value)| format!("{name}={value}")))
            .collect();
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": {
                "Entrypoint": self.entrypoint,
                "User": self.user,
                "WorkingDir": "/",
                "Env": environment,
                "Labels": self.labels,
            },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", digest(&layer))] },
            "history": [{ "created": "1970-01-01T00:00:00Z", "created_by": "cargo xtask images" }],
        });
        let config = serde_json::to_vec(&config)?;
        let config_name = format!("{}.json", digest(&config));
        let manifest =
            json!([{ "Config": config_name, "RepoTags": [self.name], "Layers": ["layer.tar"] }]);

        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut archive = Builder::new(fs::File::create(to)?);
        for (name, content) in [
            (config_name.as_str(), config.as_slice()),
            ("layer.tar", &layer),
            ("manifest.json", &serde_json::to_vec(&manifest)?),
        ] {
            archive.append_data(
                &mut header(EntryType::Regular, 0o644, content.len()),
                name,
                content,
            )?;
        }
        archive.into_inner()?.sync_all()?;
        Ok(())
    }

    fn layer(&self) -> Outcome<Vec<u8>> {
        let mut layer = Builder::new(Vec::new());
        for (path, entry) in &self.entries {
            match entry {
                Entry::Directory { mode } => {
                    let mut header = header(EntryType::Directory, *mode, 0);
                    layer.append_data(&mut header, format!("{path}/"), std::io::empty())?;
                }
                Entry::File { mode, content } => {
                    let mut header = header(EntryType::Regular, *mode, content.len());
                    layer.append_data(&mut header, path, content.as_slice())?;
                }
                Entry::Link { target } => {
                    layer.append_link(&mut header(EntryType::Symlink, 0o777, 0), path, target)?;
                }
            }
        }
        Ok(layer.into_inner()?)
    }
}

fn header(kind: EntryType, mode: u32, bytes: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(bytes as u64);
    header
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use std::io::Read;

    fn example() -> Image {
        let mut image = Image::new("example:1", "65532:65532", &["/bin/tool"]);
        image.text("/etc/passwd", "nonroot");
        image.directory("/tmp", 0o1777);
        image.link("/bin/sh", "tool");
        image
    }

    #[test]
    fn the_same_files_make_the_same_bytes() {
        let folder = std::env::temp_dir().join(format!("weir-image-{}", std::process::id()));
        let (one, two) = (folder.join("one.tar"), folder.join("two.tar"));
        example().write(&one).unwrap();
        example().write(&two).unwrap();
        assert_eq!(fs::read(&one).unwrap(), fs::read(&two).unwrap());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn parents_come_before_what_they_hold() {
        let layer = example().layer().unwrap();
        let mut archive = tar::Archive::new(layer.as_slice());
        let names: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(names, ["bin/", "bin/sh", "etc/", "etc/passwd", "tmp/"]);
    }

    #[test]
    fn the_config_names_the_layer_by_its_digest() {
        let file = std::env::temp_dir().join(format!("weir-config-{}.tar", std::process::id()));
        example().write(&file).unwrap();
        let mut archive = tar::Archive::new(fs::File::open(&file).unwrap());
        let mut files = BTreeMap::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let (name, mut content) = (entry.path().unwrap().display().to_string(), Vec::new());
            entry.read_to_end(&mut content).unwrap();
            files.insert(name, content);
        }
        let manifest: serde_json::Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
        let config = manifest[0]["Config"].as_str().unwrap();
        let config: serde_json::Value = serde_json::from_slice(&files[config]).unwrap();
        assert_eq!(
            config["rootfs"]["diff_ids"][0],
            format!("sha256:{}", digest(&files["layer.tar"]))
        );
        fs::remove_file(file).unwrap();
    }
}
