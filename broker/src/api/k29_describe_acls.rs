//! DescribeAcls: without an authorizer, Kafka says that security is disabled.

use std::sync::Arc;

use weir_wire::messages::{DescribeAclsRequestView, DescribeAclsResponse};

use super::{Answer, Refused, Request};
use crate::Broker;
use crate::error::{ApiError, ErrorCode};

/// What anyone is told who asks for access control lists.
pub(super) fn no_authorizer() -> ApiError {
    ApiError::new(
        ErrorCode::SecurityDisabled,
        "No Authorizer is configured on the broker",
    )
}

pub(super) fn handle(_broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let _: DescribeAclsRequestView<'_> = request.decode()?;
    let error = no_authorizer();
    request.answer(&DescribeAclsResponse {
        error_code: error.code.code(),
        error_message: error.message(),
        ..DescribeAclsResponse::default()
    })
}
