//! AlterUserScramCredentials: sets and removes passwords (KIP-554). None can be set: no listener would ask for it, and a
//! credential that protects nothing should not look as if it did.

use std::collections::BTreeSet;
use std::sync::Arc;

use weir_wire::messages::alter_user_scram_credentials_response::AlterUserScramCredentialsResult;
use weir_wire::messages::{
    AlterUserScramCredentialsRequestView, AlterUserScramCredentialsResponse,
};

use super::{Answer, Refused, Request};
use crate::Broker;
use crate::error::ErrorCode;

pub(super) fn handle(_broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: AlterUserScramCredentialsRequestView<'_> = request.decode()?;
    let upserted: BTreeSet<&str> = view
        .upsertions
        .iter()
        .map(|upsertion| upsertion.name)
        .collect();
    let deleted = view.deletions.iter().map(|deletion| deletion.name);
    let users: BTreeSet<&str> = upserted.iter().copied().chain(deleted).collect();
    let results = users.into_iter().map(|user| {
        let (error, message) = if upserted.contains(user) {
            (
                ErrorCode::UnsupportedSaslMechanism,
                "no listener of this broker authenticates its clients",
            )
        } else {
            (
                ErrorCode::ResourceNotFound,
                "Attempt to delete a user credential that does not exist",
            )
        };
        AlterUserScramCredentialsResult {
            user: user.to_owned(),
            error_code: error.code(),
            error_message: Some(message.to_owned()),
        }
    });
    request.answer(&AlterUserScramCredentialsResponse {
        results: results.collect(),
        ..AlterUserScramCredentialsResponse::default()
    })
}
