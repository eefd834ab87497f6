//! What the members of a consumer group subscribe to, by name and by regular expression.
//!
//! Expressions are matched with the names of all topics by the coordinator, so that all members mean the same topics. The
//! `regex` crate takes time linear in its input, as RE2 does, which Kafka uses; an expression matches the whole name.

use std::collections::BTreeSet;

use regex::bytes::{Regex, RegexBuilder};

use super::stored::{ConsumerKey, ConsumerRecord};
use super::{Consumer, Profile};
use crate::error::GroupError;
use crate::outbox::Turn;
use crate::types::MemberId;

/// Between two matchings of a group's expressions with all topics: a cluster in which topics come and go all the time
/// should not be busy with that.
const REGEX_PAUSE_MS: u64 = 1_000;

/// Bytes that a compiled expression may take: ten thousand of them are as much as the names of many topics.
const REGEX_BYTES_MAX: usize = 256 * 1024;

/// The topics that match an expression.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) topics: BTreeSet<String>,
    /// The revision of the metadata in which they matched.
    pub(crate) version: i64,
    /// When, in milliseconds since 1970.
    pub(crate) at_ms: i64,
}

impl Consumer {
    /// Whether a member may have this profile.
    pub(super) fn check_profile(
        &self,
        turn: &Turn<'_>,
        id: &MemberId,
        profile: &Profile,
    ) -> Result<(), GroupError> {
        let before = self.members.get(id).map(|member| &member.profile);
        if let Some(regex) = &profile.regex
            && before.is_none_or(|before| before.regex.as_ref() != Some(regex))
            && !self.regexes.contains_key(regex)
        {
            compile(regex)?;
        }
        if before == Some(profile) {
            return Ok(());
        }
        if profile.longest() > turn.config.name_bytes_max {
            return Err(GroupError::InvalidRequest);
        }
        let bytes = profile.bytes();
        let others = self.bytes - before.map_or(0, Profile::bytes);
        // A record has two more bytes or so for each topic's name.
        let record_bytes = bytes + 4 * profile.topics.len();
        if record_bytes > turn.config.record_bytes_max
            || others + bytes > turn.config.consumer_group_bytes_max
        {
            return Err(GroupError::GroupMaxSizeReached);
        }
        Ok(())
    }

    /// Every name that some member subscribes to, in order, each once.
    pub(super) fn subscribed(&self) -> BTreeSet<&str> {
        let members = self.members.values();
        let names = members.flat_map(|member| &member.profile.topics);
        let matched = self.regexes.values().flat_map(|resolved| &resolved.topics);
        names.chain(matched).map(String::as_str).collect()
    }

    /// The names that a member subscribes to.
    pub(super) fn subscribed_by<'a>(
        &'a self,
        profile: &'a Profile,
    ) -> impl Iterator<Item = &'a str> {
        let matched = profile
            .regex
            .as_ref()
            .and_then(|regex| self.regexes.get(regex));
        let matched = matched.into_iter().flat_map(|resolved| &resolved.topics);
        profile.topics.iter().chain(matched).map(String::as_str)
    }

    /// Whether some member reads `topic`.
    pub(crate) fn is_subscribed_to(&self, topic: &str) -> bool {
        let by_name = |profile: &Profile| profile.topics.contains(topic);
        self.members.values().any(|member| by_name(&member.profile))
            || self
                .regexes
                .values()
                .any(|resolved| resolved.topics.contains(topic))
    }

    /// Forgets the expressions that nobody subscribes with any more.
    pub(super) fn drop_unused_regexes(&mut self, turn: &mut Turn<'_>) {
        let members = self.members.values();
        let used: BTreeSet<&String> = members
            .filter_map(|member| member.profile.regex.as_ref())
            .collect();
        let unused = self.regexes.keys().filter(|regex| !used.contains(regex));
        for regex in unused.cloned().collect::<Vec<_>>() {
            turn.out
                .emit(ConsumerKey::Regex(regex.clone()).tombstone(&self.id));
            self.regexes.remove(&regex);
        }
    }

    /// Matches the expressions with all topics, where that is due: a new one at once, all when topics have changed. Tells
    /// whether any matches other topics than before.
    pub(super) fn match_regexes(&mut self, turn: &mut Turn<'_>) -> bool {
        let members = self.members.values();
        let used: BTreeSet<&String> = members
            .filter_map(|member| member.profile.regex.as_ref())
            .collect();
        if used.is_empty() {
            return false;
        }
        let is_new = used.iter().any(|regex| !self.regexes.contains_key(*regex));
        let version = i64::try_from(turn.cluster.revision()).unwrap_or(i64::MAX);
        let is_old = self
            .regexes
            .values()
            .any(|resolved| resolved.version != version)
            && turn.now.mono >= self.regexes_checked.after(REGEX_PAUSE_MS);
        if !is_new && !is_old {
            return false;
        }
        // An expression that was valid once and is not now (another version of the crate) matches nothing.
        let compiled = used
            .into_iter()
            .map(|regex| (regex.clone(), compile(regex).ok()));
        let compiled: Vec<(String, Option<Regex>)> = compiled.collect();
        let mut matched = vec![BTreeSet::new(); compiled.len()];
        turn.cluster.each_name(&mut |name| {
            for ((_, regex), topics) in compiled.iter().zip(&mut matched) {
                if regex
                    .as_ref()
                    .is_some_and(|regex| regex.is_match(name.as_bytes()))
                {
                    topics.insert(name.to_owned());
                }
            }
        });
        self.regexes_checked = turn.now.mono;
        let mut has_changed = false;
        for ((regex, _), topics) in compiled.into_iter().zip(matched) {
            let before = self.regexes.get(&regex);
            let is_same = before.is_some_and(|before| before.topics == topics);
            let resolved = Resolved {
                topics,
                version,
                at_ms: turn.now.wall.0,
            };
            if !is_same {
                has_changed = true;
                let record = ConsumerRecord::Regex(resolved.clone());
                turn.out
                    .emit(record.store(&self.id, &ConsumerKey::Regex(regex.clone())));
            }
            self.regexes.insert(regex, resolved);
        }
        has_changed
    }
}

/// The expression, to be matched with whole names.
fn compile(regex: &str) -> Result<Regex, GroupError> {
    // On its own first: what is put around it must not make up for what it lacks.
    // Names are ASCII, and so are RE2's classes.
    let build = |text: &str| {
        let mut builder = RegexBuilder::new(text);
        builder.unicode(false).size_limit(REGEX_BYTES_MAX).build()
    };
    build(regex).map_err(|_| GroupError::InvalidRegularExpression)?;
    build(&format!(r"\A(?:{regex})\z")).map_err(|_| GroupError::InvalidRegularExpression)
}
