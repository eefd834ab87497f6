//! Volumes whose claims are gone, and that were kept (`persistentVolumeReclaimPolicy: Retain`): each still names the claim that it was bound to, with the
//! uid of that very object. Without the uid it waits for a claim of that name, which a Cluster that is applied anew makes.
//!
//! The operator has no part in it: it may not write PersistentVolumes, which are of no namespace. Whoever types this must.

use std::collections::BTreeMap;
use std::io::Write;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::{KubectlError, Place};
use crate::names;
use crate::world::BrokerId;

/// Prints which volumes there are of a cluster, and frees those that are kept for nobody.
pub(super) async fn adopt(
    place: &Place,
    cluster: &str,
    execute: bool,
    out: &mut impl Write,
) -> Result<(), KubectlError> {
    let volumes: Api<PersistentVolume> = Api::all(place.client.clone());
    let all = volumes.list(&Default::default()).await?.items;
    let kept = kept(&all, &place.namespace, cluster);
    if kept.is_empty() {
        return Err(KubectlError::Refused(format!(
            "no PersistentVolume that was kept is of Cluster {cluster} in namespace {}. Those whose claims are there still need nothing: apply the Cluster",
            place.namespace
        )));
    }
    let claims = place.api::<PersistentVolumeClaim>();
    for (broker, volumes_of) in &kept {
        let [volume] = volumes_of.as_slice() else {
            return Err(KubectlError::Refused(format!(
                "broker {broker} has had several volumes: {}. Nothing was changed. Delete those that are not to come back, or have them name no claim",
                volumes_of.join(", ")
            )));
        };
        let claim = names::claim(cluster, *broker);
        if claims.get_opt(&claim).await?.is_some() {
            return Err(KubectlError::Refused(format!(
                "PersistentVolumeClaim {claim} is there, with another volume than {volume}. Nothing was changed. Delete the Cluster and the claim first, if {volume} \
                 is what is wanted"
            )));
        }
        writeln!(out, "broker {broker}: PersistentVolume {volume}")?;
    }
    if !execute {
        writeln!(
            out,
            "Nothing was changed. With --execute each waits for the claim of its broker: then apply the Cluster with {} brokers or more",
            kept.keys().next_back().map_or(0, |last| last.0 + 1)
        )?;
        return Ok(());
    }
    for volume in kept.values().flatten() {
        // The name of the claim stays, so that nobody else gets it.
        let free = json!({"spec": {"claimRef": {"uid": null, "resourceVersion": null}}});
        volumes
            .patch(volume, &PatchParams::default(), &Patch::Merge(free))
            .await?;
    }
    writeln!(out, "They wait for the Cluster: apply it")?;
    Ok(())
}

/// The volumes of each broker that are bound to nothing any more and were kept.
fn kept(
    volumes: &[PersistentVolume],
    namespace: &str,
    cluster: &str,
) -> BTreeMap<BrokerId, Vec<String>> {
    let mut kept: BTreeMap<BrokerId, Vec<String>> = BTreeMap::new();
    for volume in volumes {
        let phase = volume
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        let claim = volume
            .spec
            .as_ref()
            .and_then(|spec| spec.claim_ref.as_ref());
        let (Some("Released"), Some(claim)) = (phase, claim) else {
            continue;
        };
        let name = claim.name.as_deref().unwrap_or_default();
        let number = name
            .strip_prefix(&format!("{}-", names::CLAIM_TEMPLATE))
            .and_then(|pod| pod.strip_prefix(&format!("{}-", names::brokers(cluster))))
            .and_then(|number| number.parse().ok());
        if let Some(number) = number
            && claim.namespace.as_deref() == Some(namespace)
        {
            kept.entry(BrokerId(number))
                .or_default()
                .push(volume.name_any());
        }
    }
    for volumes in kept.values_mut() {
        volumes.sort();
    }
    kept
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use k8s_openapi::api::core::v1::PersistentVolume;
    use serde_json::json;

    use super::kept;
    use crate::world::BrokerId;

    #[test]
    fn volumes_are_adopted_that_were_this_clusters_and_are_bound_to_nothing() {
        let volume = |name: &str, phase: &str, namespace: &str, claim: &str| -> PersistentVolume {
            serde_json::from_value(json!({
                "metadata": {"name": name},
                "spec": {"claimRef": {"namespace": namespace, "name": claim, "uid": "gone"}},
                "status": {"phase": phase},
            }))
            .unwrap()
        };
        let volumes = [
            volume("pv-b", "Released", "market", "data-shop-broker-1"),
            volume("pv-a", "Released", "market", "data-shop-broker-0"),
            volume("pv-c", "Released", "market", "data-shop-broker-1"),
            volume("bound", "Bound", "market", "data-shop-broker-2"),
            volume("elsewhere", "Released", "other", "data-shop-broker-2"),
            volume(
                "anothers",
                "Released",
                "market",
                "data-shop-broker-broker-2",
            ),
            volume("anothers-too", "Released", "market", "data-eshop-broker-2"),
        ];
        let expected = [
            (BrokerId(0), vec!["pv-a".to_owned()]),
            (BrokerId(1), vec!["pv-b".to_owned(), "pv-c".to_owned()]),
        ];
        assert_eq!(kept(&volumes, "market", "shop"), expected.into());
    }
}
