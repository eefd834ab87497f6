//! Groups of a cluster on this machine: decided and carried out as in Kubernetes, and said instead of written as status. There is nothing to scale.

use std::collections::BTreeMap;
use std::io::Write;

use jiff::Timestamp;
use weir_crds::{BEGIN_CONFIG, ConsumerGroupStatus, SHARING_CONFIGS};

use super::say::Say;
use crate::admin::{Admin, is_passing};
use crate::decide::group;
use crate::decide::group_steps::{self, Asked, Step};
use crate::decide::reset::{DONE, REFUSED};
use crate::manifests::Manifests;
use crate::status::group::{
    Begun, config_keys_of, is_begin_configured_by, is_configured_by, is_paused_by,
};
use crate::status::topic::refused;
use crate::validate::{Group, Reset};
use crate::world::{Consumption, GroupSeen, Key, Refusal, ResetSeen};

/// What would be in the status of each resource. The brokers remember which resets were carried out; this is so as not to ask them all the time.
#[derive(Debug, Default)]
pub(super) struct Groups {
    statuses: BTreeMap<Key, ConsumerGroupStatus>,
}

impl Groups {
    /// One pass. `true`: something was asked for, so look again soon.
    pub(super) async fn pass<W: Write + Send>(
        &mut self,
        manifests: &Manifests,
        cluster: &str,
        paused: bool,
        admin: &mut Admin,
        say: &mut Say<'_, W>,
    ) -> std::io::Result<bool> {
        let groups: Vec<Group> = manifests
            .groups
            .iter()
            .filter(|group| group.spec.cluster_ref.name == cluster)
            .filter_map(|group| Group::validate(group).ok())
            .collect();
        let ids = groups.iter().map(|group| group.id.clone()).collect();
        let answers = match admin.groups(ids).await {
            Ok(answers) => answers,
            Err(error) => {
                tracing::debug!(%error, "groups could not be looked at");
                return Ok(false);
            }
        };
        for group in &groups {
            if let Some(Ok(seen)) = answers.get(&group.id) {
                standing(group, seen, say)?;
                let status = self.statuses.entry(group.key.clone()).or_default();
                status.paused = is_paused_by(group, status.paused, seen.consumption);
                let is_set = SHARING_CONFIGS
                    .iter()
                    .any(|name| seen.config.contains_key(*name));
                status.configured = is_configured_by(group, status.configured, is_set);
                let mut before = std::mem::take(&mut status.config_keys);
                before.retain(|name| seen.config.contains_key(name));
                status.config_keys = config_keys_of(group, &before, true);
                let is_set = seen.config.contains_key(BEGIN_CONFIG);
                status.begin_configured =
                    is_begin_configured_by(group, status.begin_configured, is_set);
            }
        }
        let nothing = ConsumerGroupStatus::default();
        let asked: Vec<Asked<'_>> = groups
            .iter()
            .map(|group| Asked {
                group,
                created: None,
                generation: None,
                status: self.statuses.get(&group.key).unwrap_or(&nothing),
            })
            .collect();
        let plan = group_steps::plan(paused, &asked, &answers);
        let is_acting = !plan.steps.is_empty();
        for step in plan.steps {
            match step {
                Step::Pause { group, paused, .. } => pause(&group, paused, admin, say).await?,
                Step::Configure { group, changes, .. } => {
                    configure(&group, &changes, admin, say).await?;
                }
                Step::Begin {
                    group, at, topics, ..
                } => match admin
                    .begin_group(&group, at, &topics, Timestamp::now())
                    .await
                {
                    Ok(topics) => begun(&group, &Begun::Asked(topics), say)?,
                    Err(error) => tracing::debug!(%error, "a group has not begun yet"),
                },
                Step::Reset {
                    resource,
                    group,
                    reset,
                } => self.reset(resource, &group, &reset, admin, say).await?,
            }
        }
        Ok(is_acting)
    }

    async fn reset<W: Write + Send>(
        &mut self,
        resource: Key,
        group: &str,
        reset: &Reset,
        admin: &mut Admin,
        say: &mut Say<'_, W>,
    ) -> std::io::Result<()> {
        let outcome = match admin.reset_offsets(group, reset).await {
            Ok(Err(refusal)) if is_passing(&refusal) => {
                tracing::debug!(%refusal, "a reset is not done yet");
                return Ok(());
            }
            Ok(outcome) => outcome,
            Err(error) => {
                tracing::debug!(%error, "a reset is not done yet");
                return Ok(());
            }
        };
        say.line(&sentence(group, reset, &outcome))?;
        let status = self.statuses.entry(resource).or_default();
        status.last_reset = Some(weir_crds::LastReset {
            request_id: reset.id.clone(),
            state: if outcome.is_ok() { DONE } else { REFUSED }.to_owned(),
            dry_run: reset.dry_run && !outcome.is_ok_and(|seen| seen.before),
            ..weir_crds::LastReset::default()
        });
        Ok(())
    }
}

async fn configure<W: Write + Send>(
    group: &str,
    changes: &BTreeMap<String, Option<String>>,
    admin: &mut Admin,
    say: &mut Say<'_, W>,
) -> std::io::Result<()> {
    let outcomes = match admin.configure_group(group, changes).await {
        Ok(outcomes) => outcomes,
        Err(error) => {
            tracing::debug!(%error, "a group could not be configured");
            return Ok(());
        }
    };
    let about = format!("configuration of group {group}");
    let sentence = match outcomes.into_values().find_map(Result::err) {
        None => format!("Done: group {group} is configured as asked."),
        Some(refusal) => format!("Group {group}: {}.", refused(&refusal)),
    };
    // A refusal is said once, not with every look.
    say.changed(&about, &format!("{changes:?}"), &sentence)
}

fn begun<W: Write + Send>(group: &str, begun: &Begun, say: &mut Say<'_, W>) -> std::io::Result<()> {
    for (topic, partitions) in begun.topics() {
        say.line(&format!(
            "Done: group {group} begins in topic {topic} as asked, in {partitions} partitions."
        ))?;
    }
    let Begun::Asked(topics) = begun else {
        return Ok(());
    };
    for (topic, outcome) in topics {
        if let Err(refusal) = outcome {
            // A refusal is said once, not with every look.
            let about = format!("beginning of group {group} in topic {topic}");
            let sentence = format!(
                "Group {group} has not begun in topic {topic}: {}.",
                refused(refusal)
            );
            say.changed(&about, &refusal.code, &sentence)?;
        }
    }
    Ok(())
}

async fn pause<W: Write + Send>(
    group: &str,
    paused: bool,
    admin: &mut Admin,
    say: &mut Say<'_, W>,
) -> std::io::Result<()> {
    let outcomes = match admin.pause_groups(vec![group.to_owned()], paused).await {
        Ok(outcomes) => outcomes,
        Err(error) => {
            tracing::debug!(%error, "a group could not be paused, or go on");
            return Ok(());
        }
    };
    let what = if paused { "is paused" } else { "goes on" };
    say.line(&match outcomes.into_values().find_map(Result::err) {
        None => format!("Done: group {group} {what}."),
        Some(refusal) => format!("Group {group}: {}.", refused(&refusal)),
    })
}

fn sentence(group: &str, reset: &Reset, outcome: &Result<ResetSeen, Refusal>) -> String {
    let id = &reset.id;
    match outcome {
        Err(refusal) => format!(
            "Reset {id} of group {group} is refused: {}.",
            refused(refusal)
        ),
        Ok(seen) if seen.before => {
            format!("Reset {id} of group {group} was carried out before.")
        }
        Ok(seen) => {
            let moved = seen.partitions.iter().filter(|(.., to)| to.is_some());
            let moved = moved.count();
            let what = if reset.dry_run {
                "would set"
            } else {
                "has set"
            };
            format!(
                "Reset {id} of group {group} {what} {moved} offsets and fence{} {} members.",
                if reset.dry_run { "" } else { "d" },
                seen.fenced
            )
        }
    }
}

/// Says how a group stands, when that changes.
fn standing<W: Write>(
    group: &Group,
    seen: &GroupSeen,
    say: &mut Say<'_, W>,
) -> std::io::Result<()> {
    let report = group::report(group, seen);
    // Lag itself changes all the time; what is said is who reads, and whether the objective is met.
    let sentence = match (seen.state.as_str(), seen.consumption, &report.objective) {
        ("Dead", ..) => format!(
            "Group {} does not exist yet; it does when its first consumer joins.",
            group.id
        ),
        (_, Some(Consumption::Paused), _) => {
            format!(
                "Group {} is paused, with {} members.",
                group.id, seen.members
            )
        }
        (state, _, Some((false, numbers))) => format!(
            "Group {} is {state} with {} members, behind its objective: {numbers}.",
            group.id, seen.members
        ),
        (state, ..) => format!(
            "Group {} is {state} with {} members.",
            group.id, seen.members
        ),
    };
    let about = format!("group {}", group.id);
    // The numbers of a missed objective are said once, not each time that they change.
    let key = format!(
        "{} {} {:?} {:?}",
        seen.state,
        seen.members,
        seen.consumption,
        report.objective.as_ref().map(|(met, _)| *met)
    );
    say.changed(&about, &key, &sentence)
}
