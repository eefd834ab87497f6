//! Carries out what was decided for the brokers of a cluster, the same in Kubernetes and on this machine.

use std::collections::{BTreeMap, BTreeSet};

use crate::admin::{Admin, BrokerOutcomes, TopicChange};
use crate::decide::cluster::Step;
use crate::world::{BrokerId, Look};

/// What asks something of the brokers, in their own words where they refuse.
///
/// # Errors
/// When no broker answers, or one refuses. What was done before then is seen with the next look.
pub async fn on_brokers(admin: &mut Admin, step: &Step) -> Result<(), String> {
    match step {
        Step::Drain { brokers } => all_done(admin.drain(brokers).await, "drained", &[]),
        Step::CancelDrain { brokers } => all_done(admin.cancel_drain(brokers).await, "kept", &[]),
        // Forgotten already, by a call whose answer was lost, is as good.
        Step::Unregister { brokers } => all_done(
            admin.unregister(brokers).await,
            "forgotten",
            &["BROKER_ID_NOT_REGISTERED"],
        ),
        // Deleted meanwhile is as good: it comes again with what fits.
        Step::Replicate { topics, replicas } => {
            let change = |name: &String| TopicChange {
                name: name.clone(),
                partitions: None,
                replication_factor: Some(*replicas),
                set_config: BTreeMap::new(),
                unset_config: BTreeSet::new(),
            };
            let changes: Vec<TopicChange> = topics.iter().map(change).collect();
            let told = admin.alter(&changes).await;
            let refused = told
                .map_err(|error| error.to_string())?
                .into_iter()
                .find_map(|(name, outcome)| {
                    let refusal = outcome.err()?;
                    let is_gone = refusal.code == "UNKNOWN_TOPIC_OR_PARTITION";
                    (!is_gone).then(|| {
                        format!("topic {name} does not get {replicas} replicas: {refusal}")
                    })
                });
            refused.map_or(Ok(()), Err)
        }
        Step::Rebalance { .. } => match admin.rebalance().await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(refusal)) => Err(format!("replicas are not spread: {refusal}")),
            Err(error) => Err(error.to_string()),
        },
        Step::RaiseFeatureLevel { level } => match admin.raise_feature_level(*level).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(refusal)) => Err(format!("feature level {level} is not used: {refusal}")),
            Err(error) => Err(error.to_string()),
        },
        Step::Configure { set, unset } => match admin.configure(set, unset).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(refusal)) => Err(format!("spec.config: the brokers refuse it: {refusal}")),
            Err(error) => Err(error.to_string()),
        },
        // One that has been forgotten meanwhile needs none.
        Step::SetListeners { brokers } => all_done(
            admin.set_listeners(brokers).await,
            "told of its listeners",
            &["BROKER_ID_NOT_REGISTERED"],
        ),
        Step::ProveEmpty { brokers } => prove_empty(admin, brokers).await,
        Step::ProveLost {
            broker,
            incarnation,
            cordoned,
            gives_up,
        } => {
            // Is as it was, and is decided anew.
            let told = admin.cordon(&[*broker], *cordoned).await;
            let look = look_after(admin, told, "away").await?;
            lost(&look, *broker, incarnation, *gives_up)
        }
        Step::GrowVolume { .. }
        | Step::Issue { .. }
        | Step::Apply { .. }
        | Step::RestartBroker { .. }
        | Step::MarkVolume { .. }
        | Step::KeepVolume { .. }
        | Step::DeleteVolume { .. }
        | Step::DeleteService { .. }
        | Step::DeleteLostVolume { .. }
        | Step::DeleteLostPod { .. } => Ok(()),
    }
}

/// Asks the controller to drain brokers once more, and looks again.
async fn prove_empty(admin: &mut Admin, brokers: &[BrokerId]) -> Result<(), String> {
    let told = admin.drain(brokers).await;
    let look = look_after(admin, told, "drained").await?;
    proven(&look, brokers)
}

/// Looks again after the controller has agreed to something: what is seen then is no older than its answer.
async fn look_after<E: std::fmt::Display>(
    admin: &mut Admin,
    told: Result<BrokerOutcomes, E>,
    what: &str,
) -> Result<Look, String> {
    // One that is not registered holds nothing; whether it is the look says.
    all_done(told, what, &["BROKER_ID_NOT_REGISTERED"])?;
    let asked = admin.answering().map(str::to_owned);
    let look = admin.look().await.map_err(|error| error.to_string())?;
    if asked.as_deref() != admin.answering() {
        return Err("the broker that was asked is gone; it is asked again".to_owned());
    }
    Ok(look)
}

/// Whether a broker is away with the disk that is lost, and others have what was on it.
pub(crate) fn lost(
    look: &Look,
    broker: BrokerId,
    incarnation: &str,
    gives_up: bool,
) -> Result<(), String> {
    let Some(seen) = look.brokers.get(&broker) else {
        return Ok(());
    };
    if seen.alive || seen.incarnation != incarnation {
        return Err(format!("the disk of broker {broker} is kept: it is back"));
    }
    let has_nothing_alone = seen
        .last_copies
        .as_ref()
        .is_some_and(|last| last.partitions == 0);
    if has_nothing_alone || gives_up {
        Ok(())
    } else {
        Err(format!(
            "the disk of broker {broker} is kept: nobody else has all of what is on it"
        ))
    }
}

fn proven(look: &Look, brokers: &[BrokerId]) -> Result<(), String> {
    match brokers.iter().find(|broker| !look.is_empty(**broker)) {
        None => Ok(()),
        Some(broker) => Err(format!(
            "broker {broker} is not removed: it is not drained and empty after all"
        )),
    }
}

fn all_done<E: std::fmt::Display>(
    outcomes: Result<BrokerOutcomes, E>,
    what: &str,
    as_good_as_done: &[&str],
) -> Result<(), String> {
    let outcomes = outcomes.map_err(|error| error.to_string())?;
    let refused = outcomes.into_iter().find_map(|(broker, outcome)| {
        let refusal = outcome.err()?;
        let is_done = as_good_as_done.contains(&refusal.code.as_str());
        (!is_done).then(|| format!("broker {broker} is not {what}: {refusal}"))
    });
    refused.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::{lost, proven};
    use crate::testing::{cluster, converged};
    use crate::world::BrokerId;

    #[test]
    fn a_disk_is_thrown_away_only_when_the_fresh_look_has_its_broker_away_and_others_with_its_data()
    {
        let mut look = converged(&cluster()).look.unwrap_or_default();
        let two = BrokerId(2);
        let is_lost = |look: &crate::world::Look, gives_up| lost(look, two, "disk-2", gives_up);
        assert!(is_lost(&look, true).is_err(), "it is alive");
        if let Some(broker) = look.brokers.get_mut(&two) {
            broker.alive = false;
        }
        assert_eq!(is_lost(&look, false), Ok(()));
        assert!(lost(&look, two, "older", true).is_err(), "another disk");
        if let Some(last) = look
            .brokers
            .get_mut(&two)
            .and_then(|broker| broker.last_copies.as_mut())
        {
            last.partitions = 1;
        }
        assert!(is_lost(&look, false).is_err(), "the last copy");
        assert_eq!(is_lost(&look, true), Ok(()), "which is given up");
    }

    #[test]
    fn a_broker_is_removed_only_when_the_fresh_look_has_it_drained_empty_and_without_a_vote() {
        let mut look = converged(&cluster()).look.unwrap_or_default();
        let two = [BrokerId(2)];
        assert!(proven(&look, &two).is_err(), "nobody drains it");
        if let Some(broker) = look.brokers.get_mut(&two[0]) {
            broker.draining = true;
        }
        assert!(proven(&look, &two).is_err(), "it votes");
        look.voters.retain(|voter| *voter != two[0]);
        assert_eq!(proven(&look, &two), Ok(()));
        if let Some(broker) = look.brokers.get_mut(&two[0]) {
            broker.replicas = 1;
        }
        assert!(proven(&look, &two).is_err(), "it holds a replica");
    }
}
