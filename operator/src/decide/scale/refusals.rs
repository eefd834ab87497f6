//! The gates of a scale-down and of a drain: why no broker is emptied, with the numbers and the remedy.

use super::{Case, remaining, shrinks};
use crate::names;
use crate::world::{BrokerId, MOVES_LEVEL, TopicSeen, VOTERS};

/// How many replicas a topic has or is to have, whichever is more.
fn factor(topic: &TopicSeen) -> u32 {
    let wanted = topic.wanted_replication_factor.unwrap_or(0);
    wanted.max(topic.replication_factor)
}

/// What a person changed, and could change back.
fn what(case: &Case<'_>) -> &'static str {
    if shrinks(case) {
        "spec.replicas"
    } else {
        names::DRAIN_ANNOTATION
    }
}

/// What is asked for, in words.
fn asked(case: &Case<'_>) -> String {
    let stay = case.drained.iter().filter(|broker| broker.0 < case.wanted);
    let drained: Vec<String> = stay.map(ToString::to_string).collect();
    if drained.is_empty() {
        return format!("spec.replicas is {}", case.wanted);
    }
    format!(
        "spec.replicas is {} and {} names {}",
        case.wanted,
        names::DRAIN_ANNOTATION,
        drained.join(",")
    )
}

/// Gate: with those that are to hold nothing too few would be left to vote.
pub(in crate::decide) fn too_few_vote(case: &Case<'_>) -> Option<String> {
    let left = remaining(case).len();
    let least = VOTERS.min(case.wanted as usize);
    (left < least).then(|| {
        format!(
            "{}, so {left} brokers would be left to vote in the quorum, which takes {least}. Nothing was changed. Set spec.replicas to {} or more, or \
             change {}",
            asked(case),
            case.wanted as usize + least - left,
            names::DRAIN_ANNOTATION
        )
    })
}

/// Gate: nothing is known of what the brokers hold.
pub(in crate::decide) fn not_seen(case: &Case<'_>) -> Option<String> {
    let why = match case.look {
        None => "no broker has answered",
        Some(look) if look.controller.is_none() => "no controller is elected",
        Some(_) => return None,
    };
    Some(format!(
        "{}, and {why}, so no broker can be emptied. It goes on by itself when that changes; nothing was removed",
        asked(case)
    ))
}

/// Gate: the brokers cannot move replicas by themselves yet.
pub(in crate::decide) fn level_too_low(case: &Case<'_>) -> Option<String> {
    let level = case.look?.feature_level;
    (level < MOVES_LEVEL).then(|| {
        format!(
            "{}, but brokers are emptied from feature level {MOVES_LEVEL} on and the cluster uses {level}: nothing was \
             removed. Upgrade the brokers, or set {} back",
            asked(case),
            what(case)
        )
    })
}

/// Gate: topics have more replicas than brokers would be left.
pub(in crate::decide) fn too_many_replicas(case: &Case<'_>) -> Option<String> {
    /// How many topics a message names.
    const NAMED: usize = 3;
    let room = u32::try_from(remaining(case).len()).unwrap_or(u32::MAX);
    // Before brokers leave for good the brokers' own topics get fewer by themselves.
    let factor = |topic: &TopicSeen| match topic.internal && shrinks(case) {
        true => factor(topic).min(case.wanted),
        false => factor(topic),
    };
    let topics = case.look?.topics.iter();
    let wide: Vec<(&String, u32)> = topics
        .map(|(name, topic)| (name, factor(topic)))
        .filter(|(_, factor)| *factor > room)
        .collect();
    let most = wide.iter().map(|(_, factor)| *factor).max()?;
    let named: Vec<String> = wide
        .iter()
        .take(NAMED)
        .map(|(name, factor)| format!("{name} ({factor})"))
        .collect();
    Some(format!(
        "{}, but {} topics have more replicas than brokers would take them: {}{}. Nothing was removed. Lower their replicationFactor to {room}, or \
         set spec.replicas to {} or more",
        asked(case),
        wide.len(),
        named.join(", "),
        if wide.len() > NAMED { " …" } else { "" },
        case.wanted + most - room,
    ))
}

/// Gate: of the brokers that would be left, some are not there.
pub(in crate::decide) fn some_are_missing(case: &Case<'_>) -> Option<String> {
    let look = case.look?;
    let is_alive = |broker: &BrokerId| look.brokers.get(broker).is_some_and(|seen| seen.alive);
    let stay = remaining(case);
    let missing: Vec<String> = stay
        .iter()
        .filter(|broker| !is_alive(broker))
        .map(|broker| format!("broker {broker}"))
        .collect();
    (!missing.is_empty()).then(|| {
        format!(
            "{}, but of the brokers that would be left {} of {} are alive: {} is missing, so there is no place for what the \
             others hold, or no majority in the quorum. It goes on by itself when they are back; nothing was removed",
            asked(case),
            stay.len() - missing.len(),
            stay.len(),
            missing.join(", "),
        )
    })
}
