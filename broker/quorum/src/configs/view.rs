//! Views: topics that have what another topic has, as far as a filter lets it through.
//!
//! Whatever is said of one topic alone is checked by [`check`]; [`Views`] knows which topics are views of which, so that what is said of two of them is
//! checked when either is made or changed. Which comes first does not matter: a view may wait for its source.

use std::collections::BTreeMap;

use weir_queues::filter::Filter;

use super::{DEDUPLICATION_WINDOW, DELAY_MAX};
use crate::error::{ControlError, ErrorName};
use crate::image::Image;
use crate::topics::is_internal;

/// The topic's configuration that names what it is a view of.
pub const VIEW_OF: &str = "weir.queue.view.of";
/// The one that says which messages it has.
pub const VIEW_FILTER: &str = "weir.queue.view.filter";

/// What producers' batches are judged by, which a view has none of.
const FOR_PRODUCERS: [&str; 4] = [
    DEDUPLICATION_WINDOW,
    DELAY_MAX,
    "weir.queue.max.bytes",
    "weir.queue.max.messages",
];

/// What a view is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewConfig {
    /// `weir.queue.view.of`.
    pub of: String,
    /// `weir.queue.view.filter`, as it was written.
    pub filter: String,
}

/// What a topic is a view of, if it is one.
pub(crate) fn source_of(config: &BTreeMap<String, String>) -> Option<&str> {
    let source = config.get(VIEW_OF).map(|source| source.trim());
    source.filter(|source| !source.is_empty())
}

fn refused<T>(name: ErrorName, message: String) -> Result<T, ControlError> {
    Err(ControlError::new(name, message))
}

/// Whether what a view would have makes sense by itself.
pub(super) fn check(config: &BTreeMap<String, String>) -> Result<(), ControlError> {
    let value = |name: &str| config.get(name).map_or("", |value| value.trim());
    let invalid = |message| refused(ErrorName::InvalidConfig, message);
    if let Err(error) = Filter::parse("", value(VIEW_FILTER)) {
        return invalid(format!("{VIEW_FILTER}: {error}"));
    }
    if source_of(config).is_none() {
        if value(VIEW_FILTER).is_empty() {
            return Ok(());
        }
        return invalid(format!(
            "{VIEW_FILTER} is for views, and {VIEW_OF} is not set"
        ));
    }
    let is_set = |name: &&str| value(name).parse().is_ok_and(|number: i64| number >= 0);
    match FOR_PRODUCERS.into_iter().find(is_set) {
        Some(name) => invalid(format!(
            "{name} is not for a view ({VIEW_OF}), which no producer writes to"
        )),
        None => Ok(()),
    }
}

/// Which topics are views, by what they are of, and how many partitions they have. Of topics that are not there too.
#[derive(Debug, Default)]
pub(crate) struct Views(BTreeMap<String, BTreeMap<String, usize>>);

impl Views {
    pub(crate) fn of(image: &Image) -> Self {
        let mut views = Self::default();
        for topic in image.topics() {
            if let Some(source) = source_of(&topic.config) {
                views.add(source, &topic.name, topic.partitions.len());
            }
        }
        views
    }

    pub(crate) fn add(&mut self, source: &str, view: &str, partitions: usize) {
        let views = self.0.entry(source.to_owned()).or_default();
        views.insert(view.to_owned(), partitions);
    }

    /// The views of a topic.
    pub(crate) fn of_source(&self, source: &str) -> impl Iterator<Item = &String> {
        self.0.get(source).into_iter().flat_map(BTreeMap::keys)
    }

    /// Whether a topic that has this configuration and so many partitions fits with all others. There are no views of views, and so no circles.
    pub(crate) fn check(
        &self,
        image: &Image,
        name: &str,
        config: &BTreeMap<String, String>,
        partitions: usize,
    ) -> Result<(), ControlError> {
        let source = source_of(config);
        let own = self.0.get(name);
        if let Some(source) = source {
            check_source(image, name, source, partitions)?;
        }
        let first = own.and_then(BTreeMap::first_key_value);
        if let (Some(source), Some((view, _))) = (source, first) {
            return refused(
                ErrorName::InvalidConfig,
                format!(
                    "topic {name:?} cannot be a view of {source:?}: {view:?} is a view of it, and there are no views of views"
                ),
            );
        }
        let others = own.into_iter().flatten();
        match others.into_iter().find(|(_, count)| **count != partitions) {
            Some((view, count)) => refused(
                ErrorName::InvalidPartitions,
                format!(
                    "topic {name:?} is to have {partitions} partitions, and {view:?}, which is a view of it, has {count}: both need the same number"
                ),
            ),
            None => Ok(()),
        }
    }
}

/// Whether a topic may be a view of another.
fn check_source(
    image: &Image,
    name: &str,
    source: &str,
    partitions: usize,
) -> Result<(), ControlError> {
    let invalid = |message| refused(ErrorName::InvalidConfig, message);
    if source == name {
        return invalid(format!("topic {name:?} cannot be a view of itself"));
    }
    if is_internal(source) {
        return invalid(format!("{VIEW_OF}: topic {source:?} is the brokers' own"));
    }
    let Some(topic) = image.topic(source) else {
        return Ok(());
    };
    if let Some(of) = source_of(&topic.config) {
        return invalid(format!(
            "{VIEW_OF}: {source:?} is a view itself, of {of:?}, and there are no views of views: name that one"
        ));
    }
    let count = topic.partitions.len();
    if count != partitions {
        return refused(
            ErrorName::InvalidPartitions,
            format!(
                "topic {name:?} has {partitions} partitions, and {source:?}, which it is to be a view of, has {count}: both need the same number"
            ),
        );
    }
    Ok(())
}
