//! Carries out the brokers' part of what was decided for Topics, the same in Kubernetes and on this machine.
//!
//! Has no decisions of its own: steps become three batched calls, and answers go back to the resources that asked.

use std::collections::{BTreeMap, BTreeSet};

use crate::admin::{Admin, NewTopic, Outcomes, TopicChange, Unreachable};
use crate::decide::topic::Step;
use crate::world::{Key, Refusal};

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
                set_config,
            } => {
                owners.insert(topic, resource);
                changes.push(TopicChange {
                    name: topic.clone(),
                    partitions: grow.map(|(_, to)| to),
                    set_config: set_config.clone(),
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
