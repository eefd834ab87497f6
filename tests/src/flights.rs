//! The input of the main job: 200,000 flights, each a message whose key is its delay.

use crate::given;
use std::path::Path;

/// How many there are.
pub const COUNT: usize = 200_000;

/// One message as it is produced.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Message {
    /// The key.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
}

/// All flights, in the order of the file.
///
/// # Panics
/// When the file is not what `cargo xtask test` writes.
#[must_use]
pub fn all() -> Vec<Message> {
    let flights = read(&given::flights());
    assert_eq!(
        flights.len(),
        COUNT,
        "flights in {}",
        given::flights().display()
    );
    flights
}

fn read(file: &Path) -> Vec<Message> {
    let content = std::fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let lines = content
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty());
    lines
        .map(|line| Message::of_line(line).expect("a line of flights has a key, a tab and a value"))
        .collect()
}

impl Message {
    /// Reads `KEY<tab>VALUE`.
    #[must_use]
    pub fn of_line(line: &[u8]) -> Option<Self> {
        let tab = line.iter().position(|byte| *byte == b'\t')?;
        Some(Self {
            key: line[..tab].to_vec(),
            value: line[tab + 1..].to_vec(),
        })
    }

    /// Writes `KEY<tab>VALUE` and a line feed.
    pub fn write_line(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.key);
        to.push(b'\t');
        to.extend_from_slice(&self.value);
        to.push(b'\n');
    }
}
