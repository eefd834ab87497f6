//! What a topic's log holds, read back from its beginning, and how it compares with what was sent.

use crate::flights::Message;
use crate::numbered;
use std::collections::{BTreeMap, HashMap};

/// A topic's log: the messages of each partition, the first at offset 0.
pub type Log = BTreeMap<i32, Vec<Message>>;

/// Reads lines of `PARTITION OFFSET KEY<tab>VALUE`, in which each partition begins at 0 and leaves no offset out.
///
/// # Errors
/// What is wrong, as a sentence.
pub fn read(lines: &[u8]) -> Result<Log, String> {
    let mut log = Log::new();
    for record in records(lines) {
        let (partition, offset, message) = record?;
        let partition_log = log.entry(partition).or_default();
        if i64::try_from(partition_log.len()) != Ok(offset) {
            return Err(format!(
                "partition {partition}: offset {offset} follows {} messages",
                partition_log.len()
            ));
        }
        partition_log.push(message);
    }
    Ok(log)
}

/// Holds what was acknowledged, each message by its number, against the log; those with offset -1 were acknowledged without one.
///
/// # Panics
/// When something is not where it was acknowledged.
pub fn holds_acknowledged(log: &Log, acknowledged: &BTreeMap<usize, (i32, i64)>) {
    for (number, (partition, offset)) in acknowledged {
        if *offset == -1 {
            continue;
        }
        let position = usize::try_from(*offset).expect("offsets are positive");
        let held = log
            .get(partition)
            .and_then(|messages| messages.get(position));
        let held = held.unwrap_or_else(|| {
            panic!("message {number}, acknowledged at {partition}:{offset}, is gone")
        });
        assert!(
            held.value.starts_with(format!("{number} ").as_bytes()),
            "another message is where {number} was acknowledged, {partition}:{offset}"
        );
    }
}

/// Holds all that `tests/clients/producer.py` has sent, so many messages, against the log.
///
/// # Panics
/// When a message is not there exactly once, or one is there that nobody sent.
pub fn holds_each_once(log: &Log, flights: &[Message], sent: usize) {
    holds_each_of(log, sent, |number| numbered::flight(flights, number));
}

/// Holds all that somebody has sent, so many messages, each known by its number, against the log.
///
/// # Panics
/// As there.
pub fn holds_each_of(log: &Log, sent: usize, message: impl Fn(usize) -> Message) {
    let mut times: BTreeMap<&[u8], u32> = BTreeMap::new();
    log.values()
        .flatten()
        .for_each(|message| *times.entry(&message.value).or_default() += 1);
    for number in 0..sent {
        assert_eq!(
            times.remove(message(number).value.as_slice()),
            Some(1),
            "times that message {number} is in the log"
        );
    }
    assert!(times.is_empty(), "messages that nobody sent: {times:?}");
}

/// Checks that each partition holds one producer's messages in the order in which they were sent.
///
/// # Panics
/// When it does not.
pub fn holds_in_order(log: &Log) {
    for (partition, messages) in log {
        let mut last = None;
        for message in messages {
            let number = numbered::number_of(message);
            assert!(
                number.is_some() && number > last,
                "partition {partition}: message {number:?} comes after {last:?}"
            );
            last = number;
        }
    }
}

/// A topic's log whose offsets need not follow one another: transactions have marks there, compaction and retention took some.
pub type Sparse = BTreeMap<i32, BTreeMap<i64, Message>>;

/// Reads lines as [`read`] does, in which offsets may be left out.
///
/// # Errors
/// What is wrong, as a sentence.
pub fn read_sparse(lines: &[u8]) -> Result<Sparse, String> {
    let mut log = Sparse::new();
    for record in records(lines) {
        let (partition, offset, message) = record?;
        let partition_log = log.entry(partition).or_default();
        if let Some((last, _)) = partition_log.last_key_value()
            && *last >= offset
        {
            return Err(format!(
                "partition {partition}: offset {offset} after {last}"
            ));
        }
        partition_log.insert(offset, message);
    }
    Ok(log)
}

/// Checks that a log is a copy of another: the same messages in each partition, in the same order.
///
/// # Panics
/// When it is not.
pub fn is_copy(copy: &Sparse, original: &Log) {
    for (partition, messages) in original {
        let empty = BTreeMap::new();
        let mut copied = copy.get(partition).unwrap_or(&empty).iter();
        for (position, message) in messages.iter().enumerate() {
            let (offset, there) = copied.next().unwrap_or_else(|| {
                panic!(
                    "partition {partition}: {position} are copied of {}",
                    messages.len()
                )
            });
            assert!(
                there == message,
                "partition {partition}: message {position} is {:?}, and its copy at offset {offset} is {:?}",
                text(&message.value),
                text(&there.value)
            );
        }
        let more = copied
            .next()
            .map(|(offset, message)| (offset, text(&message.value)));
        assert!(
            more.is_none(),
            "partition {partition}: more copies than {} messages: {more:?}",
            messages.len()
        );
    }
    assert!(
        copy.keys()
            .all(|partition| original.contains_key(partition)),
        "copies in partitions that have nothing"
    );
}

/// Partition, offset and message of each line, or what is not a record.
fn records(lines: &[u8]) -> impl Iterator<Item = Result<(i32, i64, Message), String>> {
    lines
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| {
            record(line).ok_or_else(|| format!("not a record: {:?}", String::from_utf8_lossy(line)))
        })
}

fn record(line: &[u8]) -> Option<(i32, i64, Message)> {
    let mut words = line.splitn(3, |byte| *byte == b' ');
    let mut number = || std::str::from_utf8(words.next()?).ok()?.parse::<i64>().ok();
    let (partition, offset) = (number()?, number()?);
    Some((
        i32::try_from(partition).ok()?,
        offset,
        Message::of_line(words.next()?)?,
    ))
}

/// Checks that the log holds each message sent exactly once, every key in one partition, and each partition's messages
/// in the order in which they were sent.
///
/// # Errors
/// The first thing that is not so.
pub fn holds_exactly(log: &Log, sent: &[Message]) -> Result<(), String> {
    let mut partition_of: HashMap<&[u8], i32> = HashMap::new();
    for (partition, messages) in log {
        for message in messages {
            let first = partition_of.entry(&message.key).or_insert(*partition);
            if first != partition {
                return Err(format!(
                    "key {:?} is in partitions {first} and {partition}",
                    text(&message.key)
                ));
            }
        }
    }
    let mut next: HashMap<i32, usize> = HashMap::new();
    for (line, message) in sent.iter().enumerate() {
        let Some(partition) = partition_of.get(message.key.as_slice()) else {
            return Err(format!(
                "line {line}, key {:?}, is nowhere",
                text(&message.key)
            ));
        };
        let position = next.entry(*partition).or_default();
        match log[partition].get(*position) {
            Some(there) if there == message => *position += 1,
            Some(there) => {
                let (wanted, there) = (text(&message.value), text(&there.value));
                return Err(format!(
                    "partition {partition} offset {position}: line {line} {wanted:?} belongs here, and {there:?} is"
                ));
            }
            None => {
                return Err(format!(
                    "line {line} is missing at the end of partition {partition}, offset {position}"
                ));
            }
        }
    }
    let held: usize = log.values().map(Vec::len).sum();
    if held == sent.len() {
        Ok(())
    } else {
        Err(format!("{} were sent and the log holds {held}", sent.len()))
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(of: &[(&str, &str)]) -> Vec<Message> {
        of.iter()
            .map(|(key, value)| Message {
                key: (*key).into(),
                value: (*value).into(),
            })
            .collect()
    }

    fn log(lines: &str) -> Log {
        read(lines.as_bytes()).expect("a log")
    }

    #[test]
    fn a_log_that_holds_what_was_sent_is_accepted() {
        let sent = messages(&[("a", "1"), ("b", "2"), ("a", "3"), ("a", "3")]);
        assert_eq!(
            holds_exactly(&log("0 0 a\t1\n0 1 a\t3\n0 2 a\t3\n7 0 b\t2\n"), &sent),
            Ok(())
        );
    }

    #[test]
    fn a_message_that_is_lost_doubled_moved_or_changed_is_found() {
        let sent = messages(&[("a", "1"), ("b", "2"), ("a", "3")]);
        for wrong in [
            "0 0 a\t1\n7 0 b\t2\n",
            "0 0 a\t1\n0 1 a\t3\n",
            "0 0 a\t1\n0 1 a\t3\n0 2 a\t3\n7 0 b\t2\n",
            "0 0 a\t1\n0 1 a\t1\n0 2 a\t3\n7 0 b\t2\n",
            "0 0 a\t3\n0 1 a\t1\n7 0 b\t2\n",
            "0 0 a\t1\n7 0 b\t2\n7 1 a\t3\n",
            "0 0 a\t1\n0 1 a\t4\n7 0 b\t2\n",
        ] {
            assert!(holds_exactly(&log(wrong), &sent).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_copy_that_lacks_one_has_one_twice_or_out_of_order_is_found() {
        let original = log("0 0 a\t1\n0 1 a\t2\n3 0 b\t3\n");
        let judge = |lines: &str| {
            let copy = read_sparse(lines.as_bytes()).expect("a log");
            std::panic::catch_unwind(|| is_copy(&copy, &original)).is_ok()
        };
        assert!(judge("0 0 a\t1\n0 2 a\t2\n3 5 b\t3\n"));
        assert!(!judge("0 0 a\t1\n3 5 b\t3\n"));
        assert!(!judge("0 0 a\t1\n0 2 a\t2\n0 3 a\t2\n3 5 b\t3\n"));
        assert!(!judge("0 0 a\t2\n0 2 a\t1\n3 5 b\t3\n"));
        assert!(!judge("0 0 a\t1\n0 2 a\t2\n3 5 b\t3\n4 0 b\t3\n"));
    }

    #[test]
    fn messages_out_of_order_are_found() {
        let judge = |lines: &str| {
            let log = log(lines);
            std::panic::catch_unwind(|| holds_in_order(&log)).is_ok()
        };
        assert!(judge("0 0 a\t1 x\n0 1 a\t7 x\n1 0 b\t2 x\n"));
        assert!(!judge("0 0 a\t7 x\n0 1 a\t1 x\n1 0 b\t2 x\n"));
        assert!(!judge("0 0 a\t7 x\n0 1 a\t7 x\n"));
    }

    #[test]
    fn a_gap_between_offsets_is_found() {
        assert!(read(b"0 0 a\t1\n0 2 a\t3\n").is_err());
        assert!(read(b"0 1 a\t1\n").is_err());
    }
}
