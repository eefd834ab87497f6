//! Client quotas are set and unset; all changes of one entity happen, or none.

use super::{Decision, View};
use crate::command::{AlterQuotas, QuotaChanges, Reply};
use crate::error::{ControlError, ErrorName};
use crate::quotas::{ENTITIES_MAX, check_key, check_value};
use crate::record::{ClientQuotaChanged, Record};

pub(super) fn alter(view: &View<'_>, request: &AlterQuotas) -> Decision {
    let mut records = Vec::new();
    let mut made = 0;
    let results = request
        .entries
        .iter()
        .map(|changes| {
            records.extend(alter_one(view, changes, &mut made)?);
            Ok(())
        })
        .collect();
    if request.validate_only {
        records.clear();
    }
    Decision::new(records, Reply::Quotas(results))
}

fn alter_one(
    view: &View<'_>,
    changes: &QuotaChanges,
    made: &mut usize,
) -> Result<Vec<Record>, ControlError> {
    let mut records = Vec::new();
    for (key, value) in &changes.ops {
        check_key(&changes.entity, key)?;
        if let Some(value) = value {
            check_value(key, *value)?;
        }
        records.push(Record::ClientQuotaChanged(ClientQuotaChanged {
            entity: changes.entity.clone(),
            key: key.clone(),
            value: *value,
        }));
    }
    let quotas = view.image.client_quotas();
    let is_set = changes.ops.iter().any(|(_, value)| value.is_some());
    if is_set && !quotas.contains_key(&changes.entity) {
        *made += 1;
        if quotas.len() + *made > ENTITIES_MAX {
            return Err(ControlError::new(
                ErrorName::PolicyViolation,
                format!("at most {ENTITIES_MAX} entities may have quotas"),
            ));
        }
    }
    Ok(records)
}
