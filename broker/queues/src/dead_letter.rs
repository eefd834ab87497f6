//! Dead letters: why a message is one, where it came from, how often it was tried, and the way back (KIP-1191).

#[cfg(test)]
mod tests;

use thiserror::Error;
use weir_wire::{Offset, PartitionIndex};

/// Headers of a dead letter, by Kafka's names.
pub const TOPIC: &str = "__dlq.errors.topic";
/// The partition that it comes from.
pub const PARTITION: &str = "__dlq.errors.partition";
/// Its offset there.
pub const OFFSET: &str = "__dlq.errors.offset";
/// The group that gave it up.
pub const GROUP: &str = "__dlq.errors.group";
/// How often it was handed out.
pub const DELIVERY_COUNT: &str = "__dlq.errors.delivery.count";
/// Why it was given up, for people.
pub const MESSAGE: &str = "__dlq.errors.message";

/// Why a message was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A consumer has rejected it.
    Rejected,
    /// It was handed out as often as it may be.
    DeliveryLimit,
    /// It is older than messages of its topic may be.
    Expired,
}

impl Reason {
    /// For people.
    #[must_use]
    pub fn message(self) -> &'static str {
        match self {
            Self::Rejected => "a consumer has rejected the record",
            Self::DeliveryLimit => "the record was delivered as often as the group allows",
            Self::Expired => "the record is older than its topic allows",
        }
    }
}

/// Where a dead letter comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: PartitionIndex,
    /// The offset there.
    pub offset: Offset,
    /// Who gave it up.
    pub group: String,
    /// How often it was handed out.
    pub deliveries: i16,
}

impl Origin {
    /// The headers that a dead letter bears, whether or not it has the record's key and value
    /// (`errors.deadletterqueue.copy.record.enable`).
    #[must_use]
    pub fn headers(&self, reason: Reason) -> [(&'static str, String); 6] {
        [
            (TOPIC, self.topic.clone()),
            (PARTITION, self.partition.0.to_string()),
            (OFFSET, self.offset.0.to_string()),
            (GROUP, self.group.clone()),
            (DELIVERY_COUNT, self.deliveries.to_string()),
            (MESSAGE, reason.message().to_owned()),
        ]
    }

    /// Reads the headers again, for a redrive. Kafka leaves the count out where it does not know it. `None` when these are not a dead
    /// letter's.
    pub fn of_headers<'h>(headers: impl Iterator<Item = (&'h str, &'h [u8])>) -> Option<Self> {
        let (mut topic, mut partition, mut offset, mut group) = (None, None, None, None);
        let mut deliveries = 0;
        for (name, value) in headers {
            // A dead letter that became one again has both; the last ones count.
            let Ok(value) = std::str::from_utf8(value) else {
                continue;
            };
            match name {
                TOPIC => topic = Some(value.to_owned()),
                PARTITION => partition = value.parse().ok().filter(|index| *index >= 0),
                OFFSET => offset = value.parse().ok().filter(|offset| *offset >= 0),
                GROUP => group = Some(value.to_owned()),
                DELIVERY_COUNT => deliveries = value.parse().unwrap_or(0),
                _ => {}
            }
        }
        Some(Self {
            topic: topic?,
            partition: PartitionIndex(partition?),
            offset: Offset(offset?),
            group: group?,
            deliveries,
        })
    }
}

/// The partition that a dead letter goes to: by the one that it comes from, as in Kafka.
#[must_use]
pub fn destination(source: PartitionIndex, partitions: u32) -> PartitionIndex {
    let count = i32::try_from(partitions.max(1)).unwrap_or(i32::MAX);
    PartitionIndex(source.0.rem_euclid(count))
}

/// Why dead letters cannot go where a group says.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Misdirected {
    /// Topics of such names are the brokers' own.
    #[error("errors.deadletterqueue.topic.name is {0:?}; it must not begin with __")]
    Internal(String),
    /// The cluster asks for another name.
    #[error(
        "errors.deadletterqueue.topic.name is {name:?}; it must begin with {prefix:?}, as errors.deadletterqueue.topic.name.prefix says"
    )]
    Prefix {
        /// The name.
        name: String,
        /// What it has to begin with.
        prefix: String,
    },
    /// There is no such topic, and none is made.
    #[error(
        "there is no topic {0:?} for dead letters, and errors.deadletterqueue.auto.create.topics.enable is false"
    )]
    Missing(String),
    /// The topic is not meant for it.
    #[error("topic {0:?} takes no dead letters: its errors.deadletterqueue.group.enable is false")]
    NotEnabled(String),
    /// The group's own source: each dead letter would be one again.
    #[error("the group reads from {0:?} itself")]
    Source(String),
}

/// What is known of the topic that dead letters are to go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// There is none.
    None,
    /// There is one, which takes dead letters or does not.
    Topic {
        /// `errors.deadletterqueue.group.enable`.
        is_enabled: bool,
    },
}

/// Whether dead letters of records from `source` may go to a topic of this name. An existing topic that must be made first is `Ok` too.
///
/// # Errors
/// When they may not: why, in the names of the configurations.
pub fn check_topic(
    name: &str,
    source: &str,
    prefix: &str,
    found: Found,
    may_create: bool,
) -> Result<(), Misdirected> {
    if name.starts_with("__") {
        return Err(Misdirected::Internal(name.to_owned()));
    }
    if !name.starts_with(prefix) {
        return Err(Misdirected::Prefix {
            name: name.to_owned(),
            prefix: prefix.to_owned(),
        });
    }
    if name == source {
        return Err(Misdirected::Source(name.to_owned()));
    }
    match found {
        Found::None if !may_create => Err(Misdirected::Missing(name.to_owned())),
        Found::Topic { is_enabled: false } => Err(Misdirected::NotEnabled(name.to_owned())),
        Found::None | Found::Topic { is_enabled: true } => Ok(()),
    }
}
