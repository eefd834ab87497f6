//! Carries out what was decided for the brokers of a cluster, the same in Kubernetes and on this machine.

use crate::admin::{Admin, BrokerOutcomes};
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
        Step::Rebalance { .. } => match admin.rebalance().await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(refusal)) => Err(format!("replicas are not spread: {refusal}")),
            Err(error) => Err(error.to_string()),
        },
        Step::ProveEmpty { brokers } => prove_empty(admin, brokers).await,
        Step::GrowVolume { .. }
        | Step::Issue { .. }
        | Step::Apply { .. }
        | Step::RestartBroker { .. }
        | Step::MarkVolume { .. }
        | Step::KeepVolume { .. }
        | Step::DeleteVolume { .. } => Ok(()),
    }
}

/// Asks the controller to drain brokers once more, and looks again: what is seen then is no older than its answer.
async fn prove_empty(admin: &mut Admin, brokers: &[BrokerId]) -> Result<(), String> {
    // One that is not registered holds nothing; whether it is the look says.
    let unknown = ["BROKER_ID_NOT_REGISTERED"];
    all_done(admin.drain(brokers).await, "drained", &unknown)?;
    let asked = admin.answering().map(str::to_owned);
    let look = admin.look().await.map_err(|error| error.to_string())?;
    if asked.as_deref() != admin.answering() {
        return Err("the broker that was asked is gone; it is asked again".to_owned());
    }
    proven(&look, brokers)
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
    use super::proven;
    use crate::testing::{cluster, converged};
    use crate::world::BrokerId;

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
