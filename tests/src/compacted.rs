//! What must be left of a compacted topic: of each key the last that was written, unless that deleted it.

use std::collections::BTreeMap;

use crate::load::Acknowledged;
use crate::log::Sparse;
use crate::numbered;

/// Holds what is left of a topic of `keyed` messages against all that was written to it; says how many records are left.
///
/// # Errors
/// The first thing that is not so.
pub fn holds_the_last(log: &Sparse, acknowledged: &Acknowledged) -> Result<usize, String> {
    let written: BTreeMap<(i32, i64), usize> = acknowledged
        .iter()
        .map(|(number, place)| (*place, *number))
        .collect();
    let mut left = BTreeMap::new();
    let mut count = 0;
    for (partition, records) in log {
        for (offset, record) in records {
            let place = (*partition, *offset);
            let number = written
                .get(&place)
                .ok_or_else(|| format!("nobody wrote what is at {place:?}"))?;
            if *record != numbered::keyed(*number) {
                return Err(format!(
                    "at {place:?} is not message {number}, which was acknowledged there"
                ));
            }
            left.insert((*partition, record.key.clone()), place);
            count += 1;
        }
    }
    // In the order of offsets, so that the last one stays.
    let mut last = BTreeMap::new();
    for (place, number) in &written {
        let message = numbered::keyed(*number);
        last.insert((place.0, message.key), (*place, message.value.is_empty()));
    }
    for (key, (place, deletes)) in last {
        let name = String::from_utf8_lossy(&key.1).into_owned();
        match left.remove(&key) {
            Some(there) if there == place => {}
            None if deletes => {}
            Some(there) => {
                return Err(format!(
                    "key {name}: the last is at {there:?}, and {place:?} was written later"
                ));
            }
            None => return Err(format!("key {name}: its last value, at {place:?}, is gone")),
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything in one partition, each at the offset of its number.
    fn written(count: usize) -> Acknowledged {
        let offset = |number| i64::try_from(number).expect("small");
        (0..count)
            .map(|number| (number, (0, offset(number))))
            .collect()
    }

    fn log(numbers: impl Iterator<Item = usize>) -> Sparse {
        let records = numbers.map(|number| {
            (
                i64::try_from(number).expect("small"),
                numbered::keyed(number),
            )
        });
        Sparse::from([(0, records.collect())])
    }

    /// The numbers whose messages are the last of their keys.
    fn last(count: usize) -> Vec<usize> {
        let mut last = BTreeMap::new();
        for number in 0..count {
            last.insert(numbered::keyed(number).key, number);
        }
        let mut numbers: Vec<_> = last.into_values().collect();
        numbers.sort_unstable();
        numbers
    }

    #[test]
    fn all_of_it_and_only_the_last_are_both_right() {
        let acknowledged = written(5_000);
        assert_eq!(holds_the_last(&log(0..5_000), &acknowledged), Ok(5_000));
        let kept = last(5_000);
        assert_eq!(
            holds_the_last(&log(kept.iter().copied()), &acknowledged),
            Ok(kept.len())
        );
        let living = kept
            .iter()
            .filter(|number| !numbered::keyed(**number).value.is_empty());
        assert!(holds_the_last(&log(living.copied()), &acknowledged).is_ok());
    }

    #[test]
    fn a_last_value_that_is_gone_and_one_that_came_back_are_found() {
        let acknowledged = written(5_000);
        let kept = last(5_000);
        let (mut gone, mut older) = (kept.clone(), kept);
        let living = gone
            .iter()
            .rposition(|number| !numbered::keyed(*number).value.is_empty());
        gone.remove(living.expect("a key that lives"));
        assert!(holds_the_last(&log(gone.into_iter()), &acknowledged).is_err());
        // A key's deletion is gone, and an older value of it is not.
        let deleted = older
            .iter()
            .position(|number| numbered::keyed(*number).value.is_empty());
        let deletion = older.remove(deleted.expect("a key that is deleted"));
        let key = numbered::keyed(deletion).key;
        let before = (0..deletion).rev().find(|number| {
            let message = numbered::keyed(*number);
            message.key == key && !message.value.is_empty()
        });
        older.push(before.expect("an older value"));
        older.sort_unstable();
        assert!(holds_the_last(&log(older.into_iter()), &acknowledged).is_err());
    }
}
