//! Status of the custom resources: pure functions from what was decided and observed to what is written.
//!
//! Kubernetes' conventions (kstatus): `Ready`; `Reconciling` and `Stalled`, which are true when something is abnormal; further conditions
//! named after the gate that they report. Each carries the generation that it speaks of. A condition's time of transition
//! moves only when its status does, so that a status which says the same as before equals it and is not written.

pub mod cluster;
pub mod group;
pub mod topic;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// A condition's three values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Is {
    /// It holds.
    True,
    /// It does not.
    False,
    /// Nobody has looked yet, or could.
    Unknown,
}

impl Is {
    fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Is {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// A condition as it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    kind: &'static str,
    is: Is,
    reason: String,
    message: String,
}

impl Wanted {
    fn new(
        kind: &'static str,
        is: impl Into<Is>,
        reason: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            is: is.into(),
            reason: reason.into(),
            message: message.into(),
        }
    }
}

/// The longest message that a condition may have, by the API's own rule.
const MESSAGE_BYTES_MAX: usize = 32_768;

/// Conditions for one generation; those that keep their status keep their time.
fn conditions(
    previous: &[Condition],
    generation: Option<i64>,
    now: Timestamp,
    wanted: Vec<Wanted>,
) -> Vec<Condition> {
    wanted
        .into_iter()
        .map(|wanted| {
            let before = previous.iter().find(|condition| {
                condition.type_ == wanted.kind && condition.status == wanted.is.as_str()
            });
            Condition {
                type_: wanted.kind.to_owned(),
                status: wanted.is.as_str().to_owned(),
                reason: wanted.reason,
                message: truncated(wanted.message, MESSAGE_BYTES_MAX),
                observed_generation: generation,
                // The API keeps whole seconds.
                last_transition_time: before.map_or_else(
                    || Time(Timestamp::from_second(now.as_second()).unwrap_or(now)),
                    |condition| condition.last_transition_time.clone(),
                ),
            }
        })
        .collect()
}

/// At most so many bytes, cut at a character.
fn truncated(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        let end = (0..=bytes_max - '…'.len_utf8())
            .rev()
            .find(|at| text.is_char_boundary(*at))
            .unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

/// The condition, when it holds and did not before, or holds for another reason.
#[must_use]
pub fn newly<'a>(before: &[Condition], now: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    let holds = |conditions: &'_ [Condition]| {
        conditions
            .iter()
            .position(|condition| condition.type_ == kind && condition.status == "True")
    };
    let condition = &now[holds(now)?];
    match holds(before) {
        Some(at) if before[at].reason == condition.reason => None,
        _ => Some(condition),
    }
}

/// Whether a condition holds, for printing.
#[must_use]
pub fn holds(conditions: &[Condition], kind: &str) -> Option<bool> {
    let condition = conditions
        .iter()
        .find(|condition| condition.type_ == kind)?;
    match condition.status.as_str() {
        "True" => Some(true),
        "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
