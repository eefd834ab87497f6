//! Kafka's features: which levels this broker supports, and which the cluster uses.
//!
//! Kafka raises them one by one while it is upgraded. Weir has one level for all that brokers do among themselves
//! ([`weir_quorum::controller::FEATURE_LEVEL`]); to clients it is a Kafka with everything at the newest level that is served.

use weir_wire::ApiKey;
use weir_wire::messages::ApiVersionsResponse;
use weir_wire::messages::api_versions_response::{FinalizedFeatureKey, SupportedFeatureKey};

use super::APIS;
use crate::Broker;

/// One feature.
pub(super) struct Feature {
    /// Kafka's name for it (KIP-584), which clients ask for before they speak a newer protocol.
    pub(super) name: &'static str,
    /// The API without which this broker has none of it.
    needs: ApiKey,
    /// The least and the greatest level that is supported.
    pub(super) min: i16,
    pub(super) max: i16,
    /// What the cluster uses.
    pub(super) finalized: i16,
}

/// Every feature that clients may ask about, by name.
static FEATURES: [Feature; 4] = [
    Feature {
        name: "group.version",
        needs: ApiKey::ConsumerGroupHeartbeat,
        min: 0,
        max: 1,
        finalized: 1,
    },
    // Kafka 4.4's.
    Feature {
        name: "metadata.version",
        needs: ApiKey::ApiVersions,
        min: 7,
        max: 33,
        finalized: 33,
    },
    Feature {
        name: "share.version",
        needs: ApiKey::ShareFetch,
        min: 0,
        max: 1,
        finalized: 1,
    },
    Feature {
        name: "transaction.version",
        needs: ApiKey::EndTxn,
        min: 0,
        max: 2,
        finalized: 2,
    },
];

/// Every feature of which this broker has something.
pub(super) fn served() -> impl Iterator<Item = &'static Feature> + Clone {
    let is_served = |feature: &&Feature| APIS.iter().any(|api| api.key == feature.needs);
    FEATURES.iter().filter(is_served)
}

/// The first version whose clients can read that a feature's least level is 0.
const LEVEL_0_FROM: i16 = 4;

/// Tells of all features.
pub(super) fn tell(broker: &Broker, version: i16, response: &mut ApiVersionsResponse) {
    let supported = served().map(|feature| SupportedFeatureKey {
        name: feature.name.to_owned(),
        min_version: if version < LEVEL_0_FROM {
            feature.min.max(1)
        } else {
            feature.min
        },
        max_version: feature.max,
    });
    let finalized = served().map(|feature| FinalizedFeatureKey {
        name: feature.name.to_owned(),
        max_version_level: feature.finalized,
        min_version_level: feature.finalized,
    });
    response.supported_features = supported.collect();
    response.finalized_features = finalized.collect();
    let epoch = broker.metadata.image().revision();
    response.finalized_features_epoch = i64::try_from(epoch).unwrap_or(i64::MAX);
}
