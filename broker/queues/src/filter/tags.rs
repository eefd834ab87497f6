//! Tags.

use std::collections::BTreeSet;

use super::{FilterError, TAGS_HEADER};

/// Tags of one filter: a long list is no filter but a table.
const TAGS_MAX: usize = 64;

/// Tags of one message: with more it would cost a condition many times its own size. What is beyond is not looked at.
const OF_MESSAGE_MAX: usize = 1_024;

/// The tags of a message with these headers. None where the header is not there, or is no text.
pub(super) fn of_headers<'m>(headers: &[(&str, &'m [u8])]) -> impl Iterator<Item = &'m str> {
    let last = headers.iter().rev().find(|(name, _)| *name == TAGS_HEADER);
    let tags = last.and_then(|(_, value)| std::str::from_utf8(value).ok());
    let tags = tags.into_iter().flat_map(|tags| tags.split(','));
    let tags = tags.map(str::trim).filter(|tag| !tag.is_empty());
    tags.take(OF_MESSAGE_MAX)
}

/// Which tags are asked for; without any, all messages are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags(BTreeSet<String>);

impl Tags {
    /// Reads tags with `||` between; `*`, or nothing, asks for all messages.
    ///
    /// # Errors
    /// When a tag is missing between two bars, has a comma, or there are too many.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        if matches!(text.trim(), "" | "*") {
            return Ok(Self::default());
        }
        let mut tags = BTreeSet::new();
        let mut column = 1;
        for part in text.split("||") {
            let tag = part.trim();
            let wrong = |message: &str| FilterError {
                line: 1,
                column: column + part.chars().take_while(|at| at.is_whitespace()).count(),
                message: message.to_owned(),
            };
            if tag.is_empty() {
                return Err(wrong("a tag is missing here"));
            }
            if tag.contains([',', '|']) {
                return Err(wrong("a tag has no ',' and no '|'; tags have '||' between"));
            }
            tags.insert(tag.to_owned());
            if tags.len() > TAGS_MAX {
                return Err(wrong("more than 64 tags"));
            }
            column += part.chars().count() + 2;
        }
        Ok(Self(tags))
    }

    /// Whether a message with these headers is asked for.
    #[must_use]
    pub fn match_headers(&self, headers: &[(&str, &[u8])]) -> bool {
        self.0.is_empty() || of_headers(headers).any(|tag| self.0.contains(tag))
    }
}
