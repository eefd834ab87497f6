//! What a consumer group saw, checked event by event.
//!
//! What must hold: a partition belongs to one member at a time, a member sees only partitions that it owns, offsets of a
//! partition follow one another without a gap, whoever takes a partition over begins at the last commit, so repeats lie
//! above it, and a repeated offset has the same bytes.

use crate::flights::Message;
use std::collections::{BTreeMap, BTreeSet};

/// A member of the group.
pub type Member = u32;

/// One line of `members.py`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The member owns these partitions from now on, with those that it owned before.
    Assigned(Member, Vec<i32>),
    /// The member gave these partitions up.
    Revoked(Member, Vec<i32>),
    /// The member found out that it had lost these partitions.
    Lost(Member, Vec<i32>),
    /// The member was handed a message.
    Got(Member, i32, i64, Message),
    /// The member is about to commit (partition, offset) pairs.
    Committing(Vec<(i32, i64)>),
    /// It did.
    Committed(Vec<(i32, i64)>),
    /// It cannot tell whether it did.
    Uncommitted,
    /// All members ended in good order.
    Stopped,
}

impl Event {
    /// Reads a line of `members.py`, without its line feed.
    #[must_use]
    pub fn of_line(line: &[u8]) -> Option<Self> {
        if line == b"stopped" {
            return Some(Self::Stopped);
        }
        let mut words = line.splitn(3, |byte| *byte == b' ');
        let member = number(words.next()?)?;
        let what = words.next()?;
        let rest = words.next().unwrap_or_default();
        let list = || {
            rest.split(|byte| *byte == b' ')
                .filter(|word| !word.is_empty())
        };
        let partitions = || list().map(number).collect::<Option<Vec<i32>>>();
        let offsets = || list().map(pair).collect::<Option<Vec<(i32, i64)>>>();
        Some(match what {
            b"assigned" => Self::Assigned(member, partitions()?),
            b"revoked" => Self::Revoked(member, partitions()?),
            b"lost" => Self::Lost(member, partitions()?),
            b"committing" => Self::Committing(offsets()?),
            b"committed" => Self::Committed(offsets()?),
            b"uncommitted" => Self::Uncommitted,
            b"got" => {
                let mut words = rest.splitn(3, |byte| *byte == b' ');
                let (partition, offset) = (number(words.next()?)?, number(words.next()?)?);
                Self::Got(member, partition, offset, Message::of_line(words.next()?)?)
            }
            _ => return None,
        })
    }
}

fn number<N: std::str::FromStr>(word: &[u8]) -> Option<N> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

fn pair(word: &[u8]) -> Option<(i32, i64)> {
    let colon = word.iter().position(|byte| *byte == b':')?;
    Some((number(&word[..colon])?, number(&word[colon + 1..])?))
}

/// Everything that a group saw so far.
#[derive(Debug, Default)]
pub struct History {
    owners: BTreeMap<i32, Member>,
    positions: BTreeMap<i32, i64>,
    commits: BTreeMap<i32, Commits>,
    seen: BTreeMap<(i32, i64), Message>,
    repeats: u64,
}

/// Where a partition's committed offset may be.
#[derive(Debug, Default)]
struct Commits {
    /// The last that the group was told is committed; 0 before the first, since members begin at the earliest.
    known: i64,
    /// Commits whose outcome nobody was told since then.
    possible: BTreeSet<i64>,
}

impl History {
    /// Takes in the next event.
    ///
    /// # Errors
    /// The promise that it breaks.
    pub fn take(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Assigned(member, partitions) => {
                for partition in partitions {
                    if let Some(owner) = self.owners.insert(partition, member) {
                        return Err(format!(
                            "partition {partition} went to member {member} while member {owner} had it"
                        ));
                    }
                    self.positions.remove(&partition);
                }
            }
            Event::Revoked(member, partitions) | Event::Lost(member, partitions) => {
                for partition in partitions {
                    if self.owners.get(&partition) == Some(&member) {
                        self.owners.remove(&partition);
                    }
                }
            }
            Event::Committing(offsets) => {
                for (partition, offset) in offsets {
                    self.commits
                        .entry(partition)
                        .or_default()
                        .possible
                        .insert(offset);
                }
            }
            Event::Committed(offsets) => {
                for (partition, offset) in offsets {
                    let commits = self.commits.entry(partition).or_default();
                    *commits = Commits {
                        known: offset,
                        possible: BTreeSet::new(),
                    };
                }
            }
            Event::Got(member, partition, offset, message) => {
                return self.got(member, partition, offset, message);
            }
            Event::Uncommitted | Event::Stopped => {}
        }
        Ok(())
    }

    /// The process of all members ended without a word.
    pub fn crash(&mut self) {
        self.owners.clear();
        self.positions.clear();
    }

    fn got(
        &mut self,
        member: Member,
        partition: i32,
        offset: i64,
        message: Message,
    ) -> Result<(), String> {
        if self.owners.get(&partition) != Some(&member) {
            return Err(format!(
                "member {member} was handed partition {partition}, which it does not own"
            ));
        }
        match self.positions.insert(partition, offset + 1) {
            Some(position) if position != offset => {
                return Err(format!(
                    "partition {partition}: offset {offset} came where {position} was next"
                ));
            }
            Some(_) => {}
            None => {
                let commits = self.commits.entry(partition).or_default();
                if offset != commits.known && !commits.possible.contains(&offset) {
                    return Err(format!(
                        "partition {partition} went on at offset {offset}, and {} was committed",
                        commits.known
                    ));
                }
            }
        }
        match self.seen.insert((partition, offset), message.clone()) {
            None => Ok(()),
            Some(before) if before == message => {
                self.repeats += 1;
                Ok(())
            }
            Some(_) => Err(format!(
                "partition {partition} offset {offset} changed between two looks"
            )),
        }
    }

    /// Every message seen, by partition and offset.
    #[must_use]
    pub fn seen(&self) -> &BTreeMap<(i32, i64), Message> {
        &self.seen
    }

    /// How many messages came again.
    #[must_use]
    pub fn repeats(&self) -> u64 {
        self.repeats
    }

    /// How many partitions have an owner.
    #[must_use]
    pub fn owned(&self) -> usize {
        self.owners.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn play(lines: &str) -> Result<History, String> {
        let mut history = History::default();
        for line in lines.lines().map(str::trim) {
            if line == "crash" {
                history.crash();
            } else {
                history.take(Event::of_line(line.as_bytes()).ok_or(line)?)?;
            }
        }
        Ok(history)
    }

    #[test]
    fn repeats_above_the_last_commit_are_allowed() {
        let history = play(
            "0 assigned 3
             0 got 3 0 k\ta
             0 committing 3:1
             0 committed 3:1
             0 got 3 1 k\tb
             crash
             1 assigned 3
             1 got 3 1 k\tb
             1 got 3 2 k\tc",
        );
        let history = history.expect("nothing wrong");
        assert_eq!((history.seen().len(), history.repeats()), (3, 1));
    }

    #[test]
    fn a_commit_of_unknown_outcome_may_have_happened_or_not() {
        let start = "0 assigned 3\n0 got 3 0 k\ta\n0 committing 3:1\n0 uncommitted 3:1\n0 revoked 3\n1 assigned 3\n";
        assert!(play(&format!("{start}1 got 3 0 k\ta")).is_ok());
        assert!(play(&format!("{start}1 got 3 1 k\tb")).is_ok());
        assert!(play(&format!("{start}1 got 3 2 k\tc")).is_err());
    }

    #[test]
    fn going_on_below_or_above_the_commit_is_found() {
        let start = "0 assigned 3\n0 got 3 0 k\ta\n0 got 3 1 k\ta\n0 committing 3:2\n0 committed 3:2\ncrash\n1 assigned 3\n";
        assert!(play(&format!("{start}1 got 3 0 k\ta")).is_err());
        assert!(play(&format!("{start}1 got 3 3 k\ta")).is_err());
    }

    #[test]
    fn a_gap_a_change_and_two_owners_are_found() {
        assert!(play("0 assigned 3\n0 got 3 0 k\ta\n0 got 3 2 k\tb").is_err());
        assert!(play("0 assigned 3\n0 got 3 0 k\ta\ncrash\n0 assigned 3\n0 got 3 0 k\tb").is_err());
        assert!(play("0 assigned 3\n1 assigned 3").is_err());
        assert!(play("0 assigned 3\n1 got 3 0 k\ta").is_err());
    }
}
