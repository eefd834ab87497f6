//! Feature levels: which the cluster uses, who knows which, and the step to the next.

use super::{Decision, FEATURE_LEVEL, View};
use crate::command::{Levels, RegisterBroker, Reply};
use crate::error::{ControlError, ErrorName};
use crate::image::Image;
use crate::record::{FeatureLevel, Record};

/// Whether a broker knows less than the cluster uses, so that it cannot be let in.
#[must_use]
pub fn too_old(image: &Image, request: &RegisterBroker) -> bool {
    request.feature_level < image.feature_level()
}

/// Who knows which level. Changes nothing.
pub(super) fn describe(view: &View<'_>) -> Decision {
    let brokers = view.image.brokers();
    let newest = brokers.filter_map(|broker| {
        let level = view.liveness.level(broker.id, broker.epoch)?;
        Some((broker.id, level))
    });
    let levels = Levels {
        newest: newest.collect(),
        refused: view.liveness.refused().collect(),
    };
    Decision::new(Vec::new(), Reply::Levels(levels))
}

/// The cluster uses newer features, if every broker that there is knows them: one that is away may come back as what it was.
pub(super) fn raise(view: &View<'_>, level: u32) -> Result<Decision, ControlError> {
    let refuse = |why: String| Err(ControlError::new(ErrorName::UnsupportedVersion, why));
    if level > FEATURE_LEVEL {
        return refuse(format!(
            "feature level {level}; this controller knows levels up to {FEATURE_LEVEL}: run a newer version"
        ));
    }
    for broker in view.image.brokers() {
        match view.liveness.level(broker.id, broker.epoch) {
            Some(known) if known >= level => {}
            Some(known) => {
                return refuse(format!(
                    "broker {} (version {}) knows features up to level {known}: run a newer version there first",
                    broker.id, broker.version
                ));
            }
            None => {
                return refuse(format!(
                    "broker {} has not been heard from, so it is not known what it knows: start it, or unregister it",
                    broker.id
                ));
            }
        }
    }
    let is_new = level > view.image.feature_level();
    let record = is_new.then_some(Record::FeatureLevel(FeatureLevel { level }));
    Ok(Decision::new(record.into_iter().collect(), Reply::Done))
}
