//! Whether the brokers have a configuration value as a resource writes it.
//!
//! Brokers store values in a normal form: without spaces around them, `true` and `false` in small letters, each member of a list once and
//! without spaces. Which of these rules holds for a key is in the brokers' table alone; here every form that one of them could make counts,
//! which is exact as long as no key tells apart what only these rules make equal.

use std::collections::BTreeSet;

/// Whether `stored` is what a broker makes of `wanted`.
#[must_use]
pub fn is_stored_as(wanted: &str, stored: &str) -> bool {
    let wanted = wanted.trim();
    wanted == stored
        || (matches!(stored, "true" | "false") && wanted.eq_ignore_ascii_case(stored))
        || is_list_of(wanted, stored)
}

/// The first of each member, in order, with nothing but commas between them.
fn is_list_of(wanted: &str, stored: &str) -> bool {
    let mut seen = BTreeSet::new();
    let members: Vec<&str> = wanted
        .split(',')
        .map(str::trim)
        .filter(|member| !member.is_empty() && seen.insert(*member))
        .collect();
    members.join(",") == stored
}

#[cfg(test)]
mod tests {
    use super::is_stored_as;

    #[test]
    fn what_brokers_store_in_another_spelling_is_as_wanted() {
        for (wanted, stored) in [
            ("compact, delete", "compact,delete"),
            ("compact,delete,compact,", "compact,delete"),
            ("TRUE", "true"),
            (" 1000 ", "1000"),
            ("", ""),
            (" , ", ""),
            ("lz4", "lz4"),
        ] {
            assert!(is_stored_as(wanted, stored), "{wanted:?} as {stored:?}");
        }
    }

    #[test]
    fn what_says_something_else_differs() {
        for (wanted, stored) in [
            ("compact, delete", "delete,compact"),
            ("compact,delete", "compact"),
            ("TRUE", "false"),
            ("LogAppendTime", "logappendtime"),
            ("1000", "1001"),
            ("", "delete"),
        ] {
            assert!(!is_stored_as(wanted, stored), "{wanted:?} as {stored:?}");
        }
    }
}
