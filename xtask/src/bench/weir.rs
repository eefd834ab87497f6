//! Weir: one broker with its defaults, but for where it listens and what `durability` promises.

use crate::Outcome;
use std::fs;
use std::path::Path;

/// Writes the configuration and returns the command that starts a broker with it.
pub(super) fn install(
    program: &Path,
    home: &Path,
    durability: &str,
    [kafka, quorum, http]: [u16; 3],
) -> Outcome<Vec<String>> {
    let file = home.join("broker.yaml");
    let data = home.join("data");
    fs::write(
        &file,
        format!(
            "cluster: {{ name: bench, brokers: 1 }}\n\
             data_dir: {}\n\
             listeners:\n\
             \x20 kafka: {{ bind: \"127.0.0.1:{kafka}\" }}\n\
             \x20 quorum: {{ bind: \"127.0.0.1:{quorum}\" }}\n\
             \x20 http: {{ bind: \"127.0.0.1:{http}\" }}\n\
             topics: {{ durability: {durability} }}\n",
            data.display()
        ),
    )?;
    Ok(vec![
        program.display().to_string(),
        "--config".to_owned(),
        file.display().to_string(),
    ])
}
