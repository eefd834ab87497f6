//! ListPartitionReassignments: no partition is ever on its way to another broker yet, so none is listed (KIP-455).

use std::sync::Arc;

use weir_wire::messages::{
    ListPartitionReassignmentsRequestView, ListPartitionReassignmentsResponse,
};

use super::{Answer, Refused, Request};
use crate::Broker;

pub(super) fn handle(_broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let _: ListPartitionReassignmentsRequestView<'_> = request.decode()?;
    request.answer(&ListPartitionReassignmentsResponse::default())
}
