//! Configurations are changed key by key; all changes of one resource happen, or none.

use std::collections::BTreeSet;

use super::{Decision, View, elections};
use crate::command::{AlterConfigs, ConfigChange, ConfigChanges, ConfigOp, ConfigResource, Reply};
use crate::configs::{self, ConfigDef, ConfigKind, list};
use crate::error::{ControlError, ErrorName};
use crate::image::Image;
use crate::record::{ConfigChanged, ConfigOf, Record};

/// Set on a topic, it lets a replica that lacks acknowledged records lead where no other can: the person's consent, which
/// takes effect at once.
const UNCLEAN: &str = "unclean.leader.election.enable";

pub(super) fn alter(view: &View<'_>, request: &AlterConfigs) -> Decision {
    let mut records = Vec::new();
    let mut seen = BTreeSet::new();
    let results = request
        .resources
        .iter()
        .map(|changes| {
            if !seen.insert(&changes.resource) {
                return Err(invalid("each resource may be named once in a request"));
            }
            records.extend(alter_one(view, changes)?);
            Ok(())
        })
        .collect();
    if request.validate_only {
        records.clear();
    }
    Decision::new(records, Reply::Configs(results))
}

fn alter_one(view: &View<'_>, changes: &ConfigChanges) -> Result<Vec<Record>, ControlError> {
    let of = resolve(view.image, &changes.resource)?;
    let mut seen = BTreeSet::new();
    let mut records = Vec::new();
    let mut accepted_loss = false;
    for op in &changes.ops {
        if !seen.insert(op.key.as_str()) {
            return Err(invalid(format!(
                "configuration {} is changed twice in one request",
                op.key
            )));
        }
        let def = match of {
            ConfigOf::Topic(_) => configs::topic_def(&op.key)?,
            ConfigOf::Broker(_) | ConfigOf::Cluster => configs::broker_def(&op.key)?,
        };
        let value = changed(def, op, || current(view, &changes.resource, def))?;
        if op.key == UNCLEAN && value.as_deref() == Some("true") {
            accepted_loss = true;
        }
        records.push(Record::ConfigChanged(ConfigChanged {
            of: of.clone(),
            key: op.key.clone(),
            value,
        }));
    }
    if accepted_loss && let ConfigResource::Topic(name) = &changes.resource {
        records.extend(
            view.image
                .topic(name)
                .into_iter()
                .flat_map(|topic| elections::unclean(view.image, topic)),
        );
    }
    Ok(records)
}

fn resolve(image: &Image, resource: &ConfigResource) -> Result<ConfigOf, ControlError> {
    match resource {
        ConfigResource::Topic(name) => match image.topic(name) {
            Some(topic) => Ok(ConfigOf::Topic(topic.id)),
            None => Err(ControlError::new(
                ErrorName::UnknownTopicOrPartition,
                format!("topic {name:?} does not exist"),
            )),
        },
        ConfigResource::Broker(id) if image.broker(*id).is_none() => Err(ControlError::new(
            ErrorName::BrokerIdNotRegistered,
            format!("broker {id} is not registered"),
        )),
        ConfigResource::Broker(id) => Ok(ConfigOf::Broker(*id)),
        ConfigResource::Cluster => Ok(ConfigOf::Cluster),
    }
}

/// The value that an operation leaves; `None`: the default.
fn changed(
    def: &'static ConfigDef,
    op: &ConfigOp,
    current: impl Fn() -> String,
) -> Result<Option<String>, ControlError> {
    let value = match &op.change {
        ConfigChange::Delete => return Ok(None),
        ConfigChange::Set(value) => value.trim().to_owned(),
        ConfigChange::Append(_) | ConfigChange::Subtract(_) if def.kind != ConfigKind::List => {
            return Err(ControlError::new(
                ErrorName::InvalidConfig,
                format!(
                    "configuration {} is no list: nothing can be appended to it or subtracted from it",
                    def.name
                ),
            ));
        }
        ConfigChange::Append(members) => {
            let current = current();
            let mut joined: Vec<&str> = list(&current).collect();
            for member in list(members) {
                if !joined.contains(&member) {
                    joined.push(member);
                }
            }
            joined.join(",")
        }
        ConfigChange::Subtract(members) => {
            let gone: Vec<&str> = list(members).collect();
            list(&current())
                .filter(|member| !gone.contains(member))
                .collect::<Vec<_>>()
                .join(",")
        }
    };
    def.check(&value)?;
    Ok(Some(value))
}

/// The value that a resource has now, for operations on lists.
fn current(view: &View<'_>, resource: &ConfigResource, def: &'static ConfigDef) -> String {
    let effective = match resource {
        ConfigResource::Topic(name) => match view.image.topic(name) {
            Some(topic) => configs::effective_topic(view.image, view.settings, topic, def),
            None => return def.default.to_owned(),
        },
        ConfigResource::Broker(id) => {
            configs::effective_broker(view.image, view.settings, Some(*id), def)
        }
        ConfigResource::Cluster => configs::effective_broker(view.image, view.settings, None, def),
    };
    effective.value().to_owned()
}

fn invalid(message: impl Into<String>) -> ControlError {
    ControlError::new(ErrorName::InvalidRequest, message)
}
