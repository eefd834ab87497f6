//! CreateAcls: without an authorizer, Kafka says that security is disabled.

use std::sync::Arc;

use weir_wire::messages::create_acls_response::AclCreationResult;
use weir_wire::messages::{CreateAclsRequestView, CreateAclsResponse};

use super::k29_describe_acls::no_authorizer;
use super::{Answer, Refused, Request};
use crate::Broker;

pub(super) fn handle(_broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: CreateAclsRequestView<'_> = request.decode()?;
    let results = view.creations.iter().map(|_| {
        let error = no_authorizer();
        AclCreationResult {
            error_code: error.code.code(),
            error_message: error.message(),
        }
    });
    request.answer(&CreateAclsResponse {
        results: results.collect(),
        ..CreateAclsResponse::default()
    })
}
