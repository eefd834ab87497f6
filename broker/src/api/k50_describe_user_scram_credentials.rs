//! DescribeUserScramCredentials: whose passwords are known (KIP-554). None are: no listener asks for one yet.

use std::collections::BTreeSet;
use std::sync::Arc;

use weir_wire::messages::describe_user_scram_credentials_response::DescribeUserScramCredentialsResult;
use weir_wire::messages::{
    DescribeUserScramCredentialsRequestView, DescribeUserScramCredentialsResponse,
};

use super::{Answer, Refused, Request};
use crate::Broker;
use crate::error::ErrorCode;

pub(super) fn handle(_broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: DescribeUserScramCredentialsRequestView<'_> = request.decode()?;
    let mut seen = BTreeSet::new();
    let mut twice = BTreeSet::new();
    for user in view.users.iter().flat_map(|users| users.iter()) {
        if !seen.insert(user.name) {
            twice.insert(user.name);
        }
    }
    let results = seen.iter().map(|user| {
        let (error, message) = if twice.contains(user) {
            (
                ErrorCode::DuplicateResource,
                format!("Cannot describe SCRAM credentials for the same user twice in a single request: {user}"),
            )
        } else {
            (
                ErrorCode::ResourceNotFound,
                format!("Attempt to describe a user credential that does not exist: {user}"),
            )
        };
        DescribeUserScramCredentialsResult {
            user: (*user).to_owned(),
            error_code: error.code(),
            error_message: Some(message),
            credential_infos: Vec::new(),
        }
    });
    request.answer(&DescribeUserScramCredentialsResponse {
        results: results.collect(),
        ..DescribeUserScramCredentialsResponse::default()
    })
}
