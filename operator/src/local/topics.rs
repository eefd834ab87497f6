//! Topics of a cluster on this machine, and after them its groups: decided and carried out as in Kubernetes, and said instead of written as status.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use kube::ResourceExt;

use super::groups::Groups;
use super::say::Say;
use crate::act;
use crate::admin::Admin;
use crate::decide::topic::{self, ClusterView};
use crate::manifests::Manifests;
use crate::plan;
use crate::status::topic::refused;
use crate::validate::{Deletion, Topic};
use crate::world::{Key, Look};

/// What was in the files before, to know what left them.
#[derive(Debug, Default)]
pub(super) struct Topics {
    known: BTreeMap<Key, Topic>,
    groups: Groups,
}

impl Topics {
    /// One pass. `true`: something was changed, so look again soon.
    pub(super) async fn pass<W: Write + Send>(
        &mut self,
        manifests: &Manifests,
        cluster: &str,
        paused: bool,
        look: Option<&Look>,
        admin: &mut Admin,
        say: &mut Say<'_, W>,
    ) -> std::io::Result<bool> {
        let Some(look) = look else { return Ok(true) };
        let topics = self.wanted(manifests, cluster, say)?;
        let plan = topic::plan(ClusterView::Seen { paused, look }, &topics);
        for topic in &topics {
            let blocked = plan.blocked.get(&topic.key);
            let sentence = blocked.map(|blocked| {
                format!(
                    "Topic {} is blocked ({}): {}.",
                    topic.key.name, blocked.gate, blocked.message
                )
            });
            let drifted = plan
                .drifted
                .get(&topic.key)
                .map(|drift| format!("Topic {} was changed: {drift}.", topic.key.name));
            let sentence = sentence.or(drifted);
            say.standing(&format!("gate of topic {}", topic.key), sentence.as_deref())?;
        }
        let busy = match act::on_topics(admin, &plan.steps).await {
            Ok(mut acted) => {
                if !acted.changed.is_empty()
                    && let Ok(after) = admin.look().await
                {
                    acted.leave_out_what_changed_nothing(&plan.steps, look, &after);
                }
                for step in plan
                    .steps
                    .iter()
                    .filter(|step| acted.changed.contains(step.resource()))
                {
                    // There are no finalizers without a Kubernetes.
                    if !matches!(
                        step,
                        topic::Step::TakeFinalizer { .. } | topic::Step::ReleaseFinalizer { .. }
                    ) {
                        say.line(&format!("Done: {}.", plan::sentence(step)))?;
                    }
                    if matches!(step, topic::Step::Delete { .. }) {
                        self.known.remove(step.resource());
                    }
                }
                for topic in &topics {
                    let sentence = acted.refused.get(&topic.key).map(|refusal| {
                        format!("Topic {} is refused: {}.", topic.key.name, refused(refusal))
                    });
                    say.standing(
                        &format!("refusal of topic {}", topic.key),
                        sentence.as_deref(),
                    )?;
                }
                !acted.changed.is_empty()
            }
            Err(error) => {
                tracing::debug!(%error, "topics could not be changed");
                true
            }
        };
        let is_acting = self
            .groups
            .pass(manifests, cluster, paused, admin, say)
            .await?;
        Ok(busy || is_acting)
    }

    /// The topics in the files, and those that left them and are to be deleted.
    fn wanted<W: Write>(
        &mut self,
        manifests: &Manifests,
        cluster: &str,
        say: &mut Say<'_, W>,
    ) -> std::io::Result<Vec<Topic>> {
        let mut present = BTreeSet::new();
        for resource in manifests
            .topics
            .iter()
            .filter(|topic| topic.spec.cluster_ref.name == cluster)
        {
            let verdict = Topic::validate(resource);
            let sentence = verdict.as_ref().err().map(|invalid| {
                format!(
                    "Topic {} cannot be carried out: {invalid}.",
                    resource.name_any()
                )
            });
            say.standing(
                &format!("verdict on topic {}", resource.name_any()),
                sentence.as_deref(),
            )?;
            if let Ok(topic) = verdict {
                present.insert(topic.key.clone());
                self.known.insert(topic.key.clone(), topic);
            }
        }
        let left: Vec<Key> = self
            .known
            .keys()
            .filter(|key| !present.contains(key))
            .cloned()
            .collect();
        for key in left {
            let Some(topic) = self.known.get_mut(&key) else {
                continue;
            };
            if topic.deletion == Deletion::Retain {
                say.line(&format!(
                    "Topic {} left the files; its policy is to keep the topic {} and its data.",
                    key.name, topic.name
                ))?;
                self.known.remove(&key);
            } else {
                topic.deleting = true;
                topic.finalizer = true;
            }
        }
        Ok(self.known.values().cloned().collect())
    }
}
