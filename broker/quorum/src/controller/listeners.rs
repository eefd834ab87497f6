//! Listeners that a broker gets while it runs, and where clients reach them.

use super::{Decision, View};
use crate::command::Reply;
use crate::error::{ControlError, ErrorName};
use crate::ids::BrokerId;
use crate::listeners::{self, ADVERTISED, BOUND, LISTENERS_MAX, Listener};
use crate::record::{ConfigChanged, ConfigOf, Record};

/// Sets all listeners of a broker besides that of its file. What is so already changes nothing.
pub(super) fn set(
    view: &View<'_>,
    id: BrokerId,
    wanted: &[Listener],
) -> Result<Decision, ControlError> {
    if view.image.broker(id).is_none() {
        return Err(ControlError::new(
            ErrorName::BrokerIdNotRegistered,
            format!("broker {id} is not registered"),
        ));
    }
    check(wanted).map_err(|why| ControlError::new(ErrorName::InvalidRequest, why))?;
    let own = view.image.broker_config(id);
    let change = |key: &str, value: String| {
        let value = Some(value).filter(|value| !value.is_empty());
        let is_so = own.and_then(|own| own.get(key)) == value.as_ref();
        (!is_so).then(|| {
            Record::ConfigChanged(ConfigChanged {
                of: ConfigOf::Broker(id),
                key: key.to_owned(),
                value,
            })
        })
    };
    let records = [
        change(BOUND, listeners::bound(wanted)),
        change(ADVERTISED, listeners::advertised(wanted)),
    ];
    Ok(Decision::new(
        records.into_iter().flatten().collect(),
        Reply::Done,
    ))
}

fn check(wanted: &[Listener]) -> Result<(), String> {
    if wanted.len() > LISTENERS_MAX {
        return Err(format!(
            "{} listeners; allowed: {LISTENERS_MAX}",
            wanted.len()
        ));
    }
    for (at, listener) in wanted.iter().enumerate() {
        listener.check()?;
        let mut before = wanted[..at].iter();
        if let Some(other) =
            before.find(|other| other.name == listener.name || other.port == listener.port)
        {
            return Err(format!(
                "listeners {} (port {}) and {} (port {}): each has a name and a port of its own",
                other.name, other.port, listener.name, listener.port
            ));
        }
    }
    Ok(())
}
