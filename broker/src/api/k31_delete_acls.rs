//! DeleteAcls: without an authorizer, Kafka says that security is disabled.

use std::sync::Arc;

use weir_wire::messages::delete_acls_response::DeleteAclsFilterResult;
use weir_wire::messages::{DeleteAclsRequestView, DeleteAclsResponse};

use super::k29_describe_acls::no_authorizer;
use super::{Answer, Refused, Request};
use crate::Broker;

pub(super) fn handle(_broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: DeleteAclsRequestView<'_> = request.decode()?;
    let filter_results = view.filters.iter().map(|_| {
        let error = no_authorizer();
        DeleteAclsFilterResult {
            error_code: error.code.code(),
            error_message: error.message(),
            ..DeleteAclsFilterResult::default()
        }
    });
    request.answer(&DeleteAclsResponse {
        filter_results: filter_results.collect(),
        ..DeleteAclsResponse::default()
    })
}
