//! Messages that are known by their number, so that a test knows what a client sent without having been told.
//!
//! Every value begins with the number and a space. The programs of `tests/clients` make the same messages.

use crate::flights::Message;

/// Keys that `keyed` messages are written to, over and over.
pub const KEYS: u64 = 400;

/// Message `number` of `producer.py`: the flights, again and again.
#[must_use]
pub fn flight(flights: &[Message], number: usize) -> Message {
    let Message { key, value } = &flights[number % flights.len()];
    Message {
        key: key.clone(),
        value: [number.to_string().as_bytes(), b" ", value].concat(),
    }
}

/// Message `number` of the programs in Java and Go.
#[must_use]
pub fn plain(number: usize) -> Message {
    Message {
        key: format!("k{}", number % 997).into_bytes(),
        value: filled(number),
    }
}

/// Message `number` of those that overwrite one another: one of few keys, and one in eight deletes what was there (an empty value
/// here).
#[must_use]
pub fn keyed(number: usize) -> Message {
    let mixed = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    let deletes = (mixed / KEYS).is_multiple_of(8);
    Message {
        key: format!("k{}", mixed % KEYS).into_bytes(),
        value: if deletes { Vec::new() } else { filled(number) },
    }
}

fn filled(number: usize) -> Vec<u8> {
    format!("{number} {}", "x".repeat(number % 100)).into_bytes()
}

/// The number that a message's value begins with.
#[must_use]
pub fn number_of(message: &Message) -> Option<usize> {
    let digits = message.value.split(|byte| *byte == b' ').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_its_number() {
        assert_eq!(number_of(&plain(12_345)), Some(12_345));
        assert_eq!(number_of(&flight(&[plain(3)], 7)), Some(7));
    }

    #[test]
    fn keyed_messages_use_all_keys_and_delete_some() {
        let all: Vec<_> = (0..10_000).map(keyed).collect();
        let keys: std::collections::BTreeSet<_> = all.iter().map(|one| &one.key).collect();
        assert_eq!(keys.len() as u64, KEYS);
        let deletes = all.iter().filter(|one| one.value.is_empty()).count();
        assert!((1_000..1_500).contains(&deletes), "{deletes}");
    }
}
