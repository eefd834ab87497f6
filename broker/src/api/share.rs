//! What requests of share groups have in common.

use weir_groups::share::state::NAME_BYTES_MAX;
use weir_groups::share::{AckBatch, AckType};
use weir_groups::{GroupId, MemberId};
use weir_wire::Offset;

use crate::error::{ApiError, ErrorCode};

/// A batch of acknowledgements as it came.
pub(super) struct Said {
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) types: Vec<i8>,
}

/// Who asks; both must be named, and by names that states can be kept under.
pub(super) fn member_of(
    group: Option<&str>,
    member: Option<&str>,
) -> Result<(GroupId, MemberId), ApiError> {
    let is_name = |name: &str| (1..=NAME_BYTES_MAX).contains(&name.len());
    match (group, member) {
        (Some(group), Some(member)) if is_name(group) && is_name(member) => {
            Ok((group.into(), member.into()))
        }
        _ => Err(ApiError::new(
            ErrorCode::InvalidRequest,
            format!("a group and a member id are wanted, each of at most {NAME_BYTES_MAX} bytes"),
        )),
    }
}

/// What is acknowledged, when it makes sense: ranges ascend, each with one type or one for each offset, of those that there are.
pub(super) fn said(
    batches: impl Iterator<Item = Said>,
    may_renew: bool,
) -> Result<Vec<AckBatch>, ApiError> {
    let invalid = |why: &str| ApiError::new(ErrorCode::InvalidRequest, why);
    let mut acknowledged = Vec::new();
    let mut before = -1;
    for batch in batches {
        if batch.first <= before || batch.last < batch.first {
            return Err(invalid("ranges of offsets must ascend"));
        }
        before = batch.last;
        let count = usize::try_from(batch.last - batch.first).ok();
        let count = count.and_then(|most| most.checked_add(1));
        if batch.types.len() != 1 && Some(batch.types.len()) != count {
            return Err(invalid(
                "one acknowledge type is wanted, or one for each offset",
            ));
        }
        let types: Option<Vec<_>> = batch.types.iter().map(|id| AckType::from_id(*id)).collect();
        let types = types.ok_or_else(|| invalid("acknowledge types are 0 to 4"))?;
        if !may_renew && types.contains(&AckType::Renew) {
            return Err(invalid("only a request that says so may renew"));
        }
        acknowledged.push(AckBatch {
            first: Offset(batch.first),
            last: Offset(batch.last),
            types,
        });
    }
    Ok(acknowledged)
}
