//! Jars from Maven Central, kept between checkouts.

use crate::{Outcome, paths, process};
use std::fs;
use std::path::{Path, PathBuf};

/// The folder with the jars that this pom depends on; fetches them unless they are those of the same pom already.
pub(crate) fn jars(name: &str, pom: &Path) -> Outcome<PathBuf> {
    let jars = paths::cache().join("maven").join(name);
    let (wanted, fetched) = (fs::read_to_string(pom)?, jars.join("pom.xml"));
    if fs::read_to_string(&fetched).is_ok_and(|fetched| fetched == wanted) {
        return Ok(jars);
    }
    println!("fetching {name} from Maven Central");
    if jars.exists() {
        fs::remove_dir_all(&jars)?;
    }
    process::run(
        process::command("mvn")
            .args(["-q", "-B", "-f"])
            .arg(pom)
            .arg("dependency:copy-dependencies")
            .arg(format!("-DoutputDirectory={}", jars.display())),
    )?;
    fs::write(fetched, wanted)?;
    Ok(jars)
}
