//! How many partitions a client may create and delete (KIP-599).

use std::time::Duration;

use weir_quorum::image::Image;

use super::Request;
use crate::Broker;
use crate::error::{ApiError, ErrorCode};
use crate::quotas::Limited;

/// Takes so many partitions from what the client may change: how long it has to wait afterwards. From a version on in which
/// clients understand that, the request is refused while the client owes, with how long it has to wait before it.
pub(super) fn take(
    broker: &Broker,
    image: &Image,
    request: &Request,
    strict_from: i16,
    partitions: usize,
) -> Result<Duration, Duration> {
    let (quotas, client) = (&broker.quotas, request.client());
    let amount = partitions as f64;
    if request.version < strict_from {
        return Ok(quotas.take(image, client, Limited::Mutations, amount));
    }
    quotas
        .try_take(image, client, Limited::Mutations, amount)
        .map(|()| Duration::ZERO)
}

/// What is told of each topic of a request that was refused so.
pub(super) fn exceeded() -> ApiError {
    ApiError::new(
        ErrorCode::ThrottlingQuotaExceeded,
        "The throttling quota has been exceeded.",
    )
}
