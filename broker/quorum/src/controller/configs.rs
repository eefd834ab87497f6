//! Configurations are changed key by key; all changes of one resource happen, or none.

use std::collections::{BTreeMap, BTreeSet};

use super::{Decision, View, elections};
use crate::command::{AlterConfigs, ConfigChange, ConfigChanges, ConfigOp, ConfigResource, Reply};
use crate::configs::{self, ConfigDef, ConfigKind, VIEW_OF, Views, check_group, list};
use crate::error::{ControlError, ErrorName};
use crate::image::Image;
use crate::listeners;
use crate::record::{ConfigChanged, ConfigOf, Record};
use crate::topics::check_name;

/// Set on a topic, it lets a replica that lacks acknowledged records lead where no other can: the person's consent, which
/// takes effect at once.
const UNCLEAN: &str = "unclean.leader.election.enable";

/// How many groups may have a configuration of their own: anyone may name a group, and every broker keeps all of them.
pub const CONFIGURED_GROUPS_MAX: usize = 10_000;

/// How many client metrics subscriptions there may be: each client's values are matched against all of them.
pub const CLIENT_METRICS_MAX: usize = 1_000;

/// The longest name of a group or subscription that may be configured, in bytes.
const NAME_BYTES_MAX: usize = 1_024;

pub(super) fn alter(view: &View<'_>, request: &AlterConfigs) -> Decision {
    let mut records = Vec::new();
    let mut count: BTreeMap<&ConfigResource, usize> = BTreeMap::new();
    for changes in &request.resources {
        *count.entry(&changes.resource).or_default() += 1;
    }
    let mut made = Made::default();
    let results = request
        .resources
        .iter()
        .map(|changes| {
            if count.get(&changes.resource).is_some_and(|count| *count > 1) {
                return Err(invalid("Each resource must appear at most once."));
            }
            records.extend(alter_one(view, changes, &mut made)?);
            Ok(())
        })
        .collect();
    if request.validate_only {
        records.clear();
    }
    Decision::new(records, Reply::Configs(results))
}

/// What the request has come to have a configuration so far, so that one request cannot pass the bounds either.
#[derive(Default)]
struct Made {
    groups: usize,
    client_metrics: usize,
}

fn alter_one(
    view: &View<'_>,
    changes: &ConfigChanges,
    made: &mut Made,
) -> Result<Vec<Record>, ControlError> {
    let of = resolve(view.image, &changes.resource)?;
    let mut seen = BTreeSet::new();
    let mut records = Vec::new();
    let mut accepted_loss = false;
    let mut after = own(view.image, &changes.resource)
        .cloned()
        .unwrap_or_default();
    for op in &changes.ops {
        if !seen.insert(op.key.as_str()) {
            return Err(invalid("Error due to duplicate config keys"));
        }
        let change = change_key(view, &changes.resource, op).map_err(|error| {
            // As Kafka names what is wrong with a broker's, and with a subscription's but for its patterns.
            let is_request = match &of {
                ConfigOf::Broker(_) | ConfigOf::Cluster => true,
                ConfigOf::ClientMetrics(_) => op.key != "match",
                ConfigOf::Topic(_) | ConfigOf::Group(_) => false,
            };
            if is_request && error.name == ErrorName::InvalidConfig {
                invalid(error.message)
            } else {
                error
            }
        })?;
        let Some(value) = change else { continue };
        if op.key == UNCLEAN && value.as_deref() == Some("true") {
            accepted_loss = true;
        }
        match &value {
            Some(value) => after.insert(op.key.clone(), value.clone()),
            None => after.remove(&op.key),
        };
        records.push(Record::ConfigChanged(ConfigChanged {
            of: of.clone(),
            key: op.key.clone(),
            value,
        }));
    }
    check_together(view, &changes.resource, &after)?;
    if changes.ops.iter().any(|op| op.key == VIEW_OF)
        && let ConfigResource::Topic(name) = &changes.resource
        && let Some(topic) = view.image.topic(name)
    {
        Views::of(view.image).check(view.image, name, &after, topic.partitions.len())?;
    }
    bound(view.image, &changes.resource, &after, made)?;
    if accepted_loss && let ConfigResource::Topic(name) = &changes.resource {
        let topic = view.image.topic(name);
        records.extend(
            topic
                .into_iter()
                .flat_map(|topic| elections::unclean(view, topic)),
        );
    }
    Ok(records)
}

/// What was set for a resource.
fn own<'i>(image: &'i Image, resource: &ConfigResource) -> Option<&'i BTreeMap<String, String>> {
    match resource {
        ConfigResource::Topic(name) => image.topic(name).map(|topic| &topic.config),
        ConfigResource::Broker(id) => image.broker_config(*id),
        ConfigResource::Cluster => Some(image.cluster_config()),
        ConfigResource::Group(id) => image.group_config(id),
        ConfigResource::ClientMetrics(name) => image.client_metrics_config(name),
    }
}

fn resolve(image: &Image, resource: &ConfigResource) -> Result<ConfigOf, ControlError> {
    let named = |what: &str, name: &str| match name.len() {
        0 => Err(invalid(format!("{what} name must not be empty"))),
        length if length > NAME_BYTES_MAX => Err(invalid(format!(
            "{what} name has {length} bytes; allowed: {NAME_BYTES_MAX}"
        ))),
        _ => Ok(name.to_owned()),
    };
    match resource {
        ConfigResource::Topic(name) if name.is_empty() => {
            Err(invalid("Default topic resources are not allowed."))
        }
        ConfigResource::Topic(name) => match image.topic(name) {
            Some(topic) => Ok(ConfigOf::Topic(topic.id)),
            None => {
                check_name(name)?;
                Err(ControlError::new(
                    ErrorName::UnknownTopicOrPartition,
                    format!("The topic '{name}' does not exist."),
                ))
            }
        },
        ConfigResource::Broker(id) if image.broker(*id).is_none() => Err(ControlError::new(
            // As Kafka has it, whose brokers know but themselves there.
            ErrorName::InvalidRequest,
            format!("broker {id} is not registered"),
        )),
        ConfigResource::Broker(id) => Ok(ConfigOf::Broker(*id)),
        ConfigResource::Cluster => Ok(ConfigOf::Cluster),
        ConfigResource::Group(id) => named("Group", id).map(ConfigOf::Group),
        ConfigResource::ClientMetrics(name) => {
            named("Subscription", name).map(ConfigOf::ClientMetrics)
        }
    }
}

/// What an operation makes of a key: `None`: nothing changes; otherwise the value, or the default.
fn change_key(
    view: &View<'_>,
    resource: &ConfigResource,
    op: &ConfigOp,
) -> Result<Option<Option<String>>, ControlError> {
    let found = match resource {
        ConfigResource::Topic(_) => configs::topic_def(&op.key),
        ConfigResource::Broker(_) | ConfigResource::Cluster => configs::broker_def(&op.key),
        ConfigResource::Group(_) => configs::group_def(&op.key),
        ConfigResource::ClientMetrics(_) => configs::client_metrics_def(&op.key),
    };
    let def = match found {
        Ok(def) => def,
        // What is not there can be taken away: tools clean up after other versions so.
        Err(_) if op.change == ConfigChange::Delete => {
            let is_set = own(view.image, resource).is_some_and(|own| own.contains_key(&op.key));
            return Ok(is_set.then_some(None));
        }
        Err(error) => return Err(error),
    };
    let is_kept = |key: &str| {
        own(view.image, resource).is_some_and(|own| own.contains_key(key))
            && matches!(resource, ConfigResource::Broker(_))
    };
    // Listeners are the operator's: without one, clients that it does not concern would be cut off.
    let is_of_listeners = [listeners::BOUND, listeners::ADVERTISED].contains(&def.name);
    if def.read_only && (op.change != ConfigChange::Delete || is_of_listeners && is_kept(def.name))
    {
        return Err(invalid(format!(
            "Cannot update these configs dynamically: [{}]",
            def.name
        )));
    }
    changed(def, op, || current(view, resource, def)).map(Some)
}

/// The value that an operation leaves; `None`: the default.
fn changed(
    def: &'static ConfigDef,
    op: &ConfigOp,
    current: impl Fn() -> String,
) -> Result<Option<String>, ControlError> {
    let value = match &op.change {
        ConfigChange::Delete => return Ok(None),
        ConfigChange::Set(value) => value.clone(),
        ConfigChange::Append(_) | ConfigChange::Subtract(_) if def.kind != ConfigKind::List => {
            let operation = match op.change {
                ConfigChange::Append(_) => "APPEND",
                _ => "SUBTRACT",
            };
            return Err(ControlError::new(
                ErrorName::InvalidConfig,
                format!(
                    "Can't {operation} to key {} because its type is not LIST.",
                    def.name
                ),
            ));
        }
        // What is said twice is taken once.
        ConfigChange::Append(members) => format!("{},{members}", current()),
        ConfigChange::Subtract(members) => {
            let gone: BTreeSet<&str> = list(members).collect();
            list(&current())
                .filter(|member| !gone.contains(member))
                .collect::<Vec<_>>()
                .join(",")
        }
    };
    let value = def.normal(&value);
    def.check(&value)?;
    Ok(Some(value))
}

/// The value that a resource has now, for operations on lists.
fn current(view: &View<'_>, resource: &ConfigResource, def: &'static ConfigDef) -> String {
    let (image, settings) = (view.image, view.settings);
    let effective = match resource {
        ConfigResource::Topic(name) => match image.topic(name) {
            Some(topic) => configs::effective_topic(image, settings, topic, def),
            None => return def.default.to_owned(),
        },
        ConfigResource::Broker(id) => configs::effective_broker(image, settings, Some(*id), def),
        ConfigResource::Cluster => configs::effective_broker(image, settings, None, def),
        ConfigResource::Group(id) => configs::effective_group(image, settings, id, def),
        ConfigResource::ClientMetrics(name) => configs::effective_client_metrics(image, name, def),
    };
    effective.value().to_owned()
}

/// Whether what a resource would have makes sense together.
fn check_together(
    view: &View<'_>,
    resource: &ConfigResource,
    after: &BTreeMap<String, String>,
) -> Result<(), ControlError> {
    match resource {
        ConfigResource::Topic(_) => configs::check_topic(after),
        ConfigResource::Group(_) => check_group(view.image, view.settings, after),
        _ => Ok(()),
    }
}

/// Whether there may be one more resource with a configuration of its own.
fn bound(
    image: &Image,
    resource: &ConfigResource,
    after: &BTreeMap<String, String>,
    made: &mut Made,
) -> Result<(), ControlError> {
    if after.is_empty() || own(image, resource).is_some() {
        return Ok(());
    }
    let (what, now, max) = match resource {
        ConfigResource::Group(_) => {
            made.groups += 1;
            let now = image.configured_groups().len() + made.groups;
            ("groups", now, CONFIGURED_GROUPS_MAX)
        }
        ConfigResource::ClientMetrics(_) => {
            made.client_metrics += 1;
            let now = image.client_metrics_subscriptions().len() + made.client_metrics;
            ("client metrics subscriptions", now, CLIENT_METRICS_MAX)
        }
        _ => return Ok(()),
    };
    if now <= max {
        return Ok(());
    }
    Err(ControlError::new(
        ErrorName::PolicyViolation,
        format!("at most {max} {what} may have a configuration of their own"),
    ))
}

fn invalid(message: impl Into<String>) -> ControlError {
    ControlError::new(ErrorName::InvalidRequest, message)
}
