//! A disk of a stated size: a file system in a file, mounted where only the broker's process sees it.
//!
//! The mount belongs to that process and ends with it, however it ends; the file keeps what was written.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{FallocateFlags, fallocate};

/// What fills a disk up.
const BALLAST: &str = "ballast";

/// How much is taken at once to fill a disk: in the end small, so that little is left.
const BALLAST_STEPS: [u64; 4] = [64 << 20, 1 << 20, 64 << 10, 4 << 10];

/// Makes an empty file system of so many bytes in a file, in place of what is there.
///
/// # Panics
/// When it cannot.
pub(super) fn make(image: &Path, bytes: u64) {
    let file = File::create(image).expect("a file for a disk");
    file.set_len(bytes).expect("a file with holes");
    let made = Command::new("mkfs.ext4")
        .args([
            "-q",
            "-F",
            "-m",
            "0",
            "-E",
            "lazy_itable_init=1,lazy_journal_init=1",
        ])
        .arg(image)
        .stdout(Stdio::null())
        .status();
    assert!(
        made.is_ok_and(|status| status.success()),
        "mkfs.ext4 {}",
        image.display()
    );
}

/// A script that mounts `$1` at `$2`, where there is room again, and becomes the rest of its arguments.
pub(super) const MOUNT_AND_BECOME: &str =
    r#"mount -o loop "$1" "$2" && rm -f "$2/ballast" && shift 2 && exec "$@""#;

/// Takes all room on the file system that this process has mounted at `mounted`.
///
/// # Panics
/// When it cannot be reached.
pub(super) fn fill(process: u32, mounted: &Path) {
    let path = seen_by(process, mounted);
    let ballast = File::create(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut taken = 0;
    for step in BALLAST_STEPS {
        // Reserved, not written: the file that holds the disk stays as small as what the broker wrote.
        while fallocate(&ballast, FallocateFlags::empty(), taken, step).is_ok() {
            taken += step;
        }
    }
}

/// Gives the room back.
pub(super) fn make_room(process: u32, mounted: &Path) {
    // A process that ended took its mount along; its next one makes room when it starts.
    let _ = fs::remove_file(seen_by(process, mounted));
}

fn seen_by(process: u32, mounted: &Path) -> PathBuf {
    let inside = mounted.strip_prefix("/").unwrap_or(mounted);
    Path::new(&format!("/proc/{process}/root"))
        .join(inside)
        .join(BALLAST)
}
