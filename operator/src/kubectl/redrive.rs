//! Dead letters back to where they came from: all partitions of a topic for them, to the end that each had when it was begun.
//!
//! What a broker is asked is one call for some letters of one partition that it leads. [`Course`] says what to ask next, and does no I/O. What always holds:
//! letters that come of what was taken back are not gone after, so it ends also while consumers are still broken; what failed is said, with where to go on.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use clap::Args;
use weir_proto::admin::v1 as proto;
use weir_tls::Pems;

use super::ask::{Tunnel, credentials, door_of, ready_pod, topic_of};
use super::trace::place as partition_and_offset;
use super::{KubectlError, Place};
use crate::admin::Admin;
use crate::names;
use crate::world::BrokerId;

/// Letters of one call, which is answered well within its deadline.
const LETTERS: u32 = 500;
/// How often it is said how far a partition is, in letters.
const SAY_EVERY: u64 = 10_000;
/// How often one call is tried while nobody knows who leads, and how long it takes until then: longer than a leader takes to be elected.
const TRIES_MAX: u32 = 30;
const PAUSE: Duration = Duration::from_secs(1);

/// Which letters of which topic.
#[derive(Debug, Args)]
pub(super) struct Redrive {
    /// Name of the Topic for dead letters; with --cluster, the topic as Kafka's clients name it.
    topic: String,
    /// Name of the Cluster, for a topic that no Topic is of.
    #[arg(long)]
    cluster: Option<String>,
    /// Only letters for which this condition holds, such as "headers['__dlq.errors.group'] == 'workers'".
    #[arg(long, value_name = "CONDITION")]
    filter: Option<String>,
    /// Only this partition, from this offset on.
    #[arg(long, value_name = "PARTITION:OFFSET", value_parser = partition_and_offset)]
    from: Option<(i32, i64)>,
    /// Delete letters when they are back, with those among them that cannot go back.
    #[arg(long, conflicts_with = "filter")]
    remove: bool,
    /// Do it.
    #[arg(long)]
    execute: bool,
}

/// What is asked for, for all partitions alike.
#[derive(Debug, Clone)]
struct Wish {
    topic: String,
    filter: String,
    remove: bool,
    dry_run: bool,
}

/// What became of letters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    redriven: u64,
    passed_over: u64,
    unusable: u64,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.redriven += other.redriven;
        self.passed_over += other.passed_over;
        self.unusable += other.unusable;
    }

    fn of(answer: &proto::RedriveResponse) -> Self {
        Self {
            redriven: answer.redriven.into(),
            passed_over: answer.passed_over.into(),
            unusable: answer.unusable.into(),
        }
    }

    fn all(self) -> u64 {
        self.redriven + self.passed_over + self.unusable
    }

    fn text(self, wish: &Wish) -> String {
        let Self {
            redriven,
            passed_over,
            unusable,
        } = self;
        let went = match wish.dry_run {
            true => "would go back",
            false => "went back",
        };
        let mut text = format!("{redriven} {went}");
        if !wish.filter.is_empty() {
            text.push_str(&format!(", {passed_over} passed over"));
        }
        if unusable > 0 {
            text.push_str(&format!(", {unusable} cannot go back"));
        }
        text
    }
}

/// One partition on its way.
#[derive(Debug)]
struct Course {
    partition: i32,
    next: i64,
    /// Where it ended when it was begun; not known yet.
    end: Option<i64>,
    tries: u32,
    counts: Counts,
}

/// What follows from an answer.
#[derive(Debug, PartialEq, Eq)]
enum Then {
    /// Ask for the next ones.
    Again,
    /// Ask this broker.
    Elsewhere(BrokerId),
    /// Ask anyone, a moment later.
    Later,
    /// All that there was is looked at.
    Done,
}

impl Course {
    fn new(partition: i32, next: i64) -> Self {
        Self {
            partition,
            next,
            end: None,
            tries: 0,
            counts: Counts::default(),
        }
    }

    /// What to ask. At first what lies at the greatest offset, which is nothing: where the partition ends, and whether brokers know what a dry run is.
    fn request(&self, wish: &Wish) -> proto::RedriveRequest {
        let is_begun = self.end.is_some();
        proto::RedriveRequest {
            topic: wish.topic.clone(),
            partition: self.partition,
            from_offset: if is_begun { self.next } else { i64::MAX },
            letters_max: LETTERS,
            filter: wish.filter.clone(),
            remove: wish.remove && is_begun,
            dry_run: wish.dry_run || !is_begun,
        }
    }

    /// What to do next.
    ///
    /// # Errors
    /// What was wrong: nothing more is to be asked of this partition.
    fn heard(
        &mut self,
        wish: &Wish,
        answer: &proto::RedriveResponse,
    ) -> Result<Then, proto::Error> {
        self.counts.add(Counts::of(answer));
        if self.end.is_some() {
            self.next = self.next.max(answer.next_offset);
        }
        if let Some(error) = &answer.error {
            self.tries += 1;
            let leader = answer.leader.and_then(|leader| u32::try_from(leader).ok());
            return match leader {
                _ if self.tries >= TRIES_MAX => Err(error.clone()),
                Some(leader) => Ok(Then::Elsewhere(BrokerId(leader))),
                None if is_of_leader(&error.code) => Ok(Then::Later),
                None => Err(error.clone()),
            };
        }
        self.tries = 0;
        let end = match (self.end, answer.end_offset) {
            (Some(end), _) | (None, Some(end)) => end,
            (None, None) if wish.dry_run => {
                return Err(proto::Error {
                    code: "UNSUPPORTED_VERSION".to_owned(),
                    message: "this broker knows no dry run; nothing was done".to_owned(),
                });
            }
            (None, None) => i64::MAX,
        };
        let was_begun = self.end.replace(end).is_some();
        let is_at_end = was_begun && answer.at_end;
        Ok(match is_at_end || self.next >= end {
            true => Then::Done,
            false => Then::Again,
        })
    }
}

/// Another broker leads, or will in a moment.
fn is_of_leader(code: &str) -> bool {
    matches!(code, "NOT_LEADER_OR_FOLLOWER" | "LEADER_NOT_AVAILABLE")
}

/// Ways to brokers, as they are wanted: each is a port-forward of its own.
struct Brokers<'p> {
    place: &'p Place,
    cluster: String,
    credentials: Pems,
    doors: BTreeMap<String, (Admin, Tunnel)>,
    /// The pod of whoever is asked where nobody is named.
    any: Option<String>,
}

impl Brokers<'_> {
    /// The one that is named, or any.
    async fn admin(&mut self, broker: Option<BrokerId>) -> Result<&mut Admin, KubectlError> {
        let pod = match (broker, &self.any) {
            (Some(broker), _) => names::pod(&self.cluster, broker),
            (None, Some(any)) => any.clone(),
            (None, None) => {
                let any = ready_pod(self.place, &self.cluster).await?;
                self.any.insert(any).clone()
            }
        };
        if !self.doors.contains_key(&pod) {
            let door = door_of(self.place, &pod, self.credentials.clone()).await?;
            self.doors.insert(pod.clone(), door);
        }
        match self.doors.get_mut(&pod) {
            Some((admin, _)) => Ok(admin),
            None => Err(KubectlError::Brokers(format!("there is no way to {pod}"))),
        }
    }

    /// How many partitions a topic has.
    async fn partitions(&mut self, topic: &str) -> Result<i32, KubectlError> {
        let look = self.admin(None).await?.look().await;
        let look = look.map_err(|error| KubectlError::Brokers(error.to_string()))?;
        let seen = look.topics.get(topic).ok_or_else(|| {
            KubectlError::Refused(format!(
                "Cluster {} has no topic {topic} for dead letters",
                self.cluster
            ))
        })?;
        Ok(i32::try_from(seen.partitions).unwrap_or(i32::MAX))
    }
}

/// Takes them back, or says how many would go.
pub(super) async fn redrive(
    place: &Place,
    asked: Redrive,
    out: &mut impl Write,
) -> Result<(), KubectlError> {
    let (cluster, topic) = topic_of(place, asked.cluster, asked.topic).await?;
    let mut brokers = Brokers {
        place,
        credentials: credentials(place, &cluster).await?,
        cluster,
        doors: BTreeMap::new(),
        any: None,
    };
    let courses: Vec<Course> = match asked.from {
        Some((partition, offset)) => vec![Course::new(partition, offset)],
        None => {
            let count = brokers.partitions(&topic).await?;
            (0..count).map(|index| Course::new(index, 0)).collect()
        }
    };
    let wish = Wish {
        topic,
        filter: asked.filter.unwrap_or_default(),
        remove: asked.remove,
        dry_run: !asked.execute,
    };
    let mut total = Counts::default();
    let mut failed = Vec::new();
    for mut course in courses {
        let ended = take(&mut brokers, &wish, &mut course, out).await;
        total.add(course.counts);
        if ended.is_err() {
            // It may be that very broker.
            brokers.any = None;
        }
        match ended {
            Ok(()) => {}
            // Of this topic, or this condition, each partition would say the same.
            Err(Failed {
                code: Some(code),
                why,
            }) if code == "INVALID_REQUEST" => return Err(KubectlError::Brokers(why)),
            Err(Failed { why, .. }) => failed.push(format!(
                "partition {}: {why}. To go on there: --from {}:{}",
                course.partition, course.partition, course.next
            )),
        }
    }
    out.write_all(summary(&wish, total).as_bytes())?;
    match failed.is_empty() {
        true => Ok(()),
        false => Err(KubectlError::Brokers(failed.join("\n"))),
    }
}

/// Why a partition came to no end.
struct Failed {
    /// Kafka's name of it, where a broker said it.
    code: Option<String>,
    why: String,
}

impl<E: std::error::Error> From<E> for Failed {
    fn from(error: E) -> Self {
        Self {
            code: None,
            why: error.to_string(),
        }
    }
}

/// One partition.
async fn take(
    brokers: &mut Brokers<'_>,
    wish: &Wish,
    course: &mut Course,
    out: &mut impl Write,
) -> Result<(), Failed> {
    let mut broker = None;
    let mut said = 0;
    loop {
        let request = course.request(wish);
        let answer = brokers.admin(broker).await?.redrive(request).await?;
        let then = course.heard(wish, &answer).map_err(|error| Failed {
            why: format!("{}: {}", error.code, error.message),
            code: Some(error.code),
        })?;
        match then {
            Then::Again => {}
            Then::Elsewhere(leader) => {
                if broker.replace(leader).is_some() {
                    tokio::time::sleep(PAUSE).await;
                }
            }
            Then::Later => {
                broker = None;
                brokers.any = None;
                tokio::time::sleep(PAUSE).await;
            }
            Then::Done => {
                if course.counts.all() > 0 {
                    let text = course.counts.text(wish);
                    writeln!(out, "Partition {}: {text}", course.partition)?;
                }
                return Ok(());
            }
        }
        if course.counts.all() >= said + SAY_EVERY {
            said = course.counts.all();
            writeln!(
                out,
                "Partition {}: {} so far, at offset {}",
                course.partition,
                course.counts.text(wish),
                course.next
            )?;
            out.flush()?;
        }
    }
}

fn summary(wish: &Wish, total: Counts) -> String {
    let mut text = format!("Topic {}: {}.\n", wish.topic, total.text(wish));
    if total.unusable > 0 {
        text.push_str(
            "What cannot go back has no copy of its message (errors.deadletterqueue.copy.record.enable of the group), or is no dead letter.\n",
        );
    }
    text.push_str(match (wish.dry_run, wish.remove) {
        (true, _) => "Nothing was changed: this is what would be. To do it: --execute\n",
        (false, true) => "",
        (false, false) => {
            "The letters are still there, and would go back once more: --remove deletes them.\n"
        }
    });
    text
}
