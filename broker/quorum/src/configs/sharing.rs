//! What a share group asks beyond delivery as Kafka has it: backoffs, a filter, dead letters (KIP-1191).
//!
//! A group that asks for none of it has no [`SharingConfig`]: one look into the group's own configuration tells.

use std::collections::BTreeMap;

use weir_queues::dead_letter::{Found, Misdirected, check_topic};
use weir_queues::filter::Filter;
use weir_queues::retry::Backoffs;

use super::{Settings, broker_def, effective_broker, effective_topic, topic_def};
use crate::error::{ControlError, ErrorName};
use crate::image::Image;

pub(super) const RETRY_BACKOFF: &str = "weir.share.retry.backoff.ms";
pub(super) const FILTER: &str = "weir.share.filter";
pub(super) const DEAD_LETTER_RATE_MAX: &str = "weir.share.deadletter.rate.max";
pub(super) const DEAD_LETTERS_CREATE: &str = "errors.deadletterqueue.auto.create.topics.enable";
pub(super) const DEAD_LETTERS_PREFIX: &str = "errors.deadletterqueue.topic.name.prefix";
const DEAD_LETTER_TOPIC: &str = "errors.deadletterqueue.topic.name";
const COPY_RECORD: &str = "errors.deadletterqueue.copy.record.enable";
const TAKES_DEAD_LETTERS: &str = "errors.deadletterqueue.group.enable";

/// What a share group asks, as it was written: whoever acts on it reads the texts once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SharingConfig {
    /// `weir.share.retry.backoff.ms`.
    pub retry_backoff: String,
    /// `weir.share.filter`.
    pub filter: String,
    /// `weir.share.deadletter.rate.max`, if there is a bound.
    pub dead_letter_rate_max: Option<u64>,
    /// `errors.deadletterqueue.topic.name`, if there is one.
    pub dead_letter_topic: Option<String>,
    /// `errors.deadletterqueue.copy.record.enable`.
    pub copies_record: bool,
}

impl SharingConfig {
    /// Of a group, if it asks for anything.
    #[must_use]
    pub fn of(image: &Image, group: &str) -> Option<Self> {
        let config = image.group_config(group)?;
        let text = |name: &str| config.get(name).map(|value| value.trim().to_owned());
        let asked = Self {
            retry_backoff: text(RETRY_BACKOFF).unwrap_or_default(),
            filter: text(FILTER).unwrap_or_default(),
            dead_letter_rate_max: text(DEAD_LETTER_RATE_MAX).and_then(|rate| rate.parse().ok()),
            dead_letter_topic: text(DEAD_LETTER_TOPIC).filter(|name| !name.is_empty()),
            copies_record: text(COPY_RECORD).is_some_and(|value| value == "true"),
        };
        let nothing = Self {
            copies_record: asked.copies_record,
            ..Self::default()
        };
        (asked != nothing).then_some(asked)
    }
}

/// Whether what a group would have can be read: bad expressions are refused where they are written.
pub(super) fn check(config: &BTreeMap<String, String>) -> Result<(), ControlError> {
    let text = |name: &str| config.get(name).map_or("", |value| value.as_str());
    let invalid = |name: &str, why: String| {
        ControlError::new(ErrorName::InvalidConfig, format!("{name}: {why}"))
    };
    Backoffs::parse(text(RETRY_BACKOFF)).map_err(|why| invalid(RETRY_BACKOFF, why.to_string()))?;
    Filter::parse("", text(FILTER)).map_err(|why| invalid(FILTER, why.to_string()))?;
    Ok(())
}

/// What the cluster says of topics for dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterRules {
    prefix: String,
    /// Whether one that is not there is made.
    pub may_create: bool,
}

impl DeadLetterRules {
    /// As it is now.
    #[must_use]
    pub fn of(image: &Image, settings: &Settings) -> Self {
        let text = |name| {
            let def = broker_def(name).ok();
            let value = def.map(|def| effective_broker(image, settings, None, def));
            value.map_or_else(String::new, |value| value.value().trim().to_owned())
        };
        Self {
            prefix: text(DEAD_LETTERS_PREFIX),
            may_create: text(DEAD_LETTERS_CREATE) == "true",
        }
    }

    /// Whether dead letters of records from `source` may go to a topic; true when it is there already.
    ///
    /// # Errors
    /// When they may not.
    pub fn check(
        &self,
        image: &Image,
        settings: &Settings,
        name: &str,
        source: &str,
    ) -> Result<bool, Misdirected> {
        let found = match (image.topic(name), topic_def(TAKES_DEAD_LETTERS)) {
            (Some(topic), Ok(def)) => Found::Topic {
                is_enabled: effective_topic(image, settings, topic, def).value().trim() == "true",
            },
            _ => Found::None,
        };
        check_topic(name, source, &self.prefix, found, self.may_create)?;
        Ok(found != Found::None)
    }

    /// What a topic for dead letters is made with.
    #[must_use]
    pub fn config_of_new() -> BTreeMap<String, String> {
        BTreeMap::from([(TAKES_DEAD_LETTERS.to_owned(), "true".to_owned())])
    }
}
