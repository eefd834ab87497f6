//! UpdateFeatures: raises or lowers what the cluster uses (KIP-584, KIP-1022). Everything is at its newest level and stays
//! there, so only what changes nothing is granted.

use std::sync::Arc;

use weir_wire::messages::update_features_request::FeatureUpdateKeyView;
use weir_wire::messages::update_features_response::UpdatableFeatureResult;
use weir_wire::messages::{UpdateFeaturesRequestView, UpdateFeaturesResponse};

use super::features;
use super::{Answer, Refused, Request};
use crate::Broker;
use crate::error::{ApiError, ErrorCode};

/// Up to here what was granted is told for each feature. What was refused is told once for all: all features are updated or none.
const RESULTS_UNTIL: i16 = 1;

pub(super) fn handle(_broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: UpdateFeaturesRequestView<'_> = request.decode()?;
    let mut updates = view.feature_updates.iter();
    let error = updates.find_map(|update| check(&update, request.version).err());
    let granted = view
        .feature_updates
        .iter()
        .filter(|_| error.is_none() && request.version <= RESULTS_UNTIL);
    let results = granted.map(|update| UpdatableFeatureResult {
        feature: update.feature.to_owned(),
        ..UpdatableFeatureResult::default()
    });
    request.answer(&UpdateFeaturesResponse {
        results: results.collect(),
        error_code: error.as_ref().map_or(0, |error| error.code.code()),
        error_message: error.map(|error| {
            let message = error.message;
            format!("The update failed for all features since the following feature had an error: {message}")
        }),
        ..UpdateFeaturesResponse::default()
    })
}

fn check(update: &FeatureUpdateKeyView<'_>, version: i16) -> Result<(), ApiError> {
    let (name, level) = (update.feature, update.max_version_level);
    let refuse = |why: String| {
        let message = format!("Invalid update version {level} for feature {name}. {why}");
        Err(ApiError::new(ErrorCode::InvalidUpdateVersion, message))
    };
    let Some(feature) = features::served().find(|feature| feature.name == name) else {
        return refuse("No broker supports this feature.".to_owned());
    };
    if !(feature.min..=feature.max).contains(&level) {
        return refuse(format!(
            "Brokers only support versions {}-{}",
            feature.min, feature.max
        ));
    }
    if level == feature.finalized {
        return Ok(());
    }
    // 1 is an upgrade; version 0 has a yes or no instead.
    let is_upgrade = if version == 0 {
        !update.allow_downgrade
    } else {
        update.upgrade_type == 1
    };
    if is_upgrade {
        return refuse(
            "Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe downgrade."
                .to_owned(),
        );
    }
    refuse(format!(
        "This cluster stays at version {}.",
        feature.finalized
    ))
}
