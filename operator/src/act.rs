//! Carries out the brokers' part of what was decided, the same in Kubernetes and on this machine: for Topics here, for the brokers
//! themselves in [`on_brokers`].
//!
//! Has no decisions of its own: steps for Topics become three batched calls, and answers go back to the resources that asked.

mod brokers;

use std::collections::{BTreeMap, BTreeSet};

#[cfg(test)]
pub(crate) use brokers::lost;
pub use brokers::on_brokers;

use crate::admin::{Admin, NewTopic, Outcomes, TopicChange, Unreachable};
use crate::decide::topic::Step;
use crate::world::{Key, Look, Refusal};

/// What became of the steps.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Acted {
    /// Resources whose topic was created, changed or deleted.
    pub changed: BTreeSet<Key>,
    /// Resources whose wish the brokers refused.
    pub refused: BTreeMap<Key, Refusal>,
}

/// Takes all steps that concern the brokers; those about finalizers are not touched.
///
/// # Errors
/// When no broker answers. What was done before then is seen with the next look.
pub async fn on_topics(admin: &mut Admin, steps: &[Step]) -> Result<Acted, Unreachable> {
    let mut acted = Acted::default();
    let mut owners: BTreeMap<&str, &Key> = BTreeMap::new();
    let (mut new, mut changes, mut gone) = (Vec::new(), Vec::new(), Vec::new());
    for step in steps {
        match step {
            Step::Create {
                resource,
                topic,
                partitions,
                replication_factor,
                config,
            } => {
                owners.insert(topic, resource);
                let (partitions, replication_factor) = (*partitions, *replication_factor);
                new.push(NewTopic {
                    name: topic.clone(),
                    partitions,
                    replication_factor,
                    config: config.clone(),
                });
            }
            Step::Alter {
                resource,
                topic,
                grow,
                replicas,
                set_config,
                unset_config,
            } => {
                owners.insert(topic, resource);
                changes.push(TopicChange {
                    name: topic.clone(),
                    partitions: grow.map(|(_, to)| to),
                    replication_factor: replicas.map(|(_, to)| to),
                    set_config: set_config.clone(),
                    unset_config: unset_config.clone(),
                });
            }
            Step::Delete { resource, topic } => {
                owners.insert(topic, resource);
                gone.push(topic.clone());
            }
            Step::TakeFinalizer { .. } | Step::ReleaseFinalizer { .. } => {}
        }
    }
    // Made already, by a call whose answer was lost, is as good as made; the next look says whether it is what was wanted.
    acted.take(&owners, admin.create(&new).await?, "TOPIC_ALREADY_EXISTS");
    acted.take(&owners, admin.alter(&changes).await?, "");
    acted.take(
        &owners,
        admin.delete(&gone).await?,
        "UNKNOWN_TOPIC_OR_PARTITION",
    );
    Ok(acted)
}

impl Acted {
    /// Leaves out alterations after which the topic is what it was: the brokers took them for nothing new, so there is nothing to tell, and
    /// nothing to look at again soon.
    pub fn leave_out_what_changed_nothing(&mut self, steps: &[Step], before: &Look, after: &Look) {
        for step in steps {
            if let Step::Alter {
                resource, topic, ..
            } = step
                && before.topics.get(topic) == after.topics.get(topic)
            {
                self.changed.remove(resource);
            }
        }
    }

    fn take(&mut self, owners: &BTreeMap<&str, &Key>, outcomes: Outcomes, as_good_as_done: &str) {
        for (topic, outcome) in outcomes {
            let Some(resource) = owners.get(topic.as_str()) else {
                continue;
            };
            match outcome {
                Err(refusal) if refusal.code != as_good_as_done => {
                    self.refused.insert((*resource).clone(), refusal);
                }
                Ok(()) | Err(_) => {
                    self.changed.insert((*resource).clone());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::Acted;
    use crate::decide::topic::Step;
    use crate::world::{Key, Look, TopicSeen};

    #[test]
    fn an_alteration_that_changed_nothing_is_no_change() {
        let alter = |topic: &str| Step::Alter {
            resource: Key::new("shop", topic),
            topic: topic.to_owned(),
            grow: None,
            replicas: None,
            set_config: BTreeMap::from([("cleanup.policy".to_owned(), "x".to_owned())]),
            unset_config: Default::default(),
        };
        let look = |partitions: u32| {
            let seen = TopicSeen {
                partitions,
                ..TopicSeen::default()
            };
            Look {
                topics: BTreeMap::from([
                    ("same".to_owned(), TopicSeen::default()),
                    ("grown".to_owned(), seen),
                ]),
                ..Look::default()
            }
        };
        let steps = [alter("same"), alter("grown")];
        let mut acted = Acted {
            changed: steps.iter().map(|step| step.resource().clone()).collect(),
            ..Acted::default()
        };
        acted.leave_out_what_changed_nothing(&steps, &look(1), &look(2));
        assert_eq!(acted.changed, [Key::new("shop", "grown")].into());
    }
}
