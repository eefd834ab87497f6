//! Which messages a consumer, a share group or a view is given: by tags, and by a condition over headers, tags, key and time.
//!
//! Tags are RocketMQ's: the header `weir-tags` has some, with commas between, and a filter names some, with `||` between, of which one has to
//! be there; a condition has them as a list. A condition is in CEL, the language of Kubernetes' own rules, of which a part is taken: comparisons, logic, arithmetic, `in`,
//! `has`, a few functions, and `exists` and `all` of tags. It is judged when it is written; afterwards a message that it makes no sense for (a header is not there, a text is no
//! number) does not match, and nothing else can happen. What one message costs is bounded by the condition's length and the message's.

mod condition;
mod judge;
mod tags;
#[cfg(test)]
mod tests;

use thiserror::Error;
use weir_wire::batch::RecordView;

pub use condition::Condition;
pub use tags::Tags;

/// The header that has a message's tags.
pub const TAGS_HEADER: &str = "weir-tags";

/// What is wrong with an expression, and where.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("line {line}, column {column}: {message}")]
pub struct FilterError {
    /// From 1 on.
    pub line: usize,
    /// From 1 on.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

/// A message, as far as filters go.
#[derive(Clone, Copy, Debug)]
pub struct Message<'m> {
    /// Its headers. Of two of one name the last counts.
    pub headers: &'m [(&'m str, &'m [u8])],
    /// Its key.
    pub key: Option<&'m [u8]>,
    /// Its time, in milliseconds since 1970.
    pub timestamp_ms: i64,
}

/// Tags and a condition, both of which have to hold.
#[derive(Debug, Default)]
pub struct Filter {
    tags: Tags,
    condition: Option<Condition>,
}

impl Filter {
    /// Reads both; an empty text asks for nothing.
    ///
    /// # Errors
    /// When one makes no sense: where.
    pub fn parse(tags: &str, condition: &str) -> Result<Self, FilterError> {
        let is_there = !condition.trim().is_empty();
        Ok(Self {
            tags: Tags::parse(tags)?,
            condition: is_there.then(|| Condition::parse(condition)).transpose()?,
        })
    }

    /// Whether a message is to be given.
    #[must_use]
    pub fn matches(&self, message: &Message<'_>) -> bool {
        self.tags.match_headers(message.headers)
            && self
                .condition
                .as_ref()
                .is_none_or(|condition| condition.matches(message))
    }

    /// The same of a record, as far as its first headers say.
    #[must_use]
    pub fn matches_record(&self, record: &RecordView<'_>, headers_max: usize) -> bool {
        let headers = record.headers.iter().take(headers_max);
        let headers: Vec<(&str, &[u8])> = headers
            .map(|header| (header.key, header.value.unwrap_or_default()))
            .collect();
        self.matches(&Message {
            headers: &headers,
            key: record.key,
            timestamp_ms: record.timestamp_ms,
        })
    }
}
