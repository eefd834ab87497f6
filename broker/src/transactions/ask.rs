//! Asking a coordinator that is here: one function for each request.
//!
//! Each hands its request over when it is called, so in the order of the calls, and returns a future for the answer. A
//! request that no coordinator here can take is answered with where to go, or when to come back.

use std::sync::Arc;

use weir_groups::transactions::request::{
    AddRequest, Description, EndRequest, InitRequest, ListRequest, Listing, Verdict, VerifyRequest,
};
use weir_groups::transactions::{Request, Response, TransactionError};
use weir_groups::{Producer, TransactionalId};
use weir_quorum::image::Broker;
use weir_wire::ProducerId;

use super::TransactionCoordinators;
use crate::shards::Refused;

impl From<Refused> for TransactionError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::NotHere => Self::NotCoordinator,
            Refused::Loading => Self::CoordinatorLoadInProgress,
            Refused::NotAvailable => Self::CoordinatorNotAvailable,
        }
    }
}

impl TransactionCoordinators {
    /// The broker that coordinates the id. Makes the topic in which transactions are kept when there is none.
    ///
    /// # Errors
    /// [`TransactionError::CoordinatorNotAvailable`] while there is no such broker alive; clients ask again.
    pub async fn find(&self, id: &str) -> Result<Arc<Broker>, TransactionError> {
        Ok(self.shared.shards.find(id).await?)
    }

    /// Gives the id to a producer.
    pub fn init(
        &self,
        request: InitRequest,
    ) -> impl Future<Output = Result<Producer, TransactionError>> + Send + use<> {
        let this = self.clone();
        let asked = self.ask(&request.id, Request::Init(request.clone()));
        async move {
            match asked.await? {
                Response::Init(Err(TransactionError::ProducerIdWanted)) => {
                    let fresh = this.fresh().await?;
                    let request = InitRequest {
                        fresh: Some(fresh),
                        ..request
                    };
                    match this
                        .ask(&request.id.clone(), Request::Init(request))
                        .await?
                    {
                        Response::Init(outcome) => outcome,
                        other => Err(unexpected(&other)),
                    }
                }
                Response::Init(outcome) => outcome,
                other => Err(unexpected(&other)),
            }
        }
    }

    /// Adds partitions to a transaction.
    pub fn add(
        &self,
        request: AddRequest,
    ) -> impl Future<Output = Result<(), TransactionError>> + Send + use<> {
        let asked = self.ask(&request.id.clone(), Request::Add(request));
        async move {
            match asked.await? {
                Response::Add(outcome) => outcome,
                other => Err(unexpected(&other)),
            }
        }
    }

    /// Whether partitions are part of a transaction.
    pub fn verify(
        &self,
        request: VerifyRequest,
    ) -> impl Future<Output = Result<Vec<Verdict>, TransactionError>> + Send + use<> {
        let asked = self.ask(&request.id.clone(), Request::Verify(request));
        async move {
            match asked.await? {
                Response::Verify(outcome) => outcome,
                other => Err(unexpected(&other)),
            }
        }
    }

    /// Ends a transaction. Answers when the outcome is decided; markers follow.
    pub fn end(
        &self,
        request: EndRequest,
    ) -> impl Future<Output = Result<Producer, TransactionError>> + Send + use<> {
        let this = self.clone();
        let asked = self.ask(&request.id, Request::End(request.clone()));
        async move {
            match asked.await? {
                Response::End(Err(TransactionError::ProducerIdWanted)) => {
                    let fresh = this.fresh().await?;
                    let request = EndRequest {
                        fresh: Some(fresh),
                        ..request
                    };
                    match this.ask(&request.id.clone(), Request::End(request)).await? {
                        Response::End(outcome) => outcome,
                        other => Err(unexpected(&other)),
                    }
                }
                Response::End(outcome) => outcome,
                other => Err(unexpected(&other)),
            }
        }
    }

    /// Describes an id.
    pub fn describe(
        &self,
        id: TransactionalId,
    ) -> impl Future<Output = Result<Description, TransactionError>> + Send + use<> {
        let asked = self.ask(&id.clone(), Request::Describe(id));
        async move {
            match asked.await? {
                Response::Describe(outcome) => outcome,
                other => Err(unexpected(&other)),
            }
        }
    }

    /// Lists the ids of all shards that this broker coordinates.
    ///
    /// # Errors
    /// When one of them is loading: the list would be short of its ids.
    pub fn list(
        &self,
        request: &ListRequest,
    ) -> impl Future<Output = Result<Vec<Listing>, TransactionError>> + Send + use<> {
        let shards = &self.shared.shards;
        let asked = shards.ask_own(&|| Request::List(request.clone()));
        async move {
            let mut listed = Vec::new();
            for answer in asked.await? {
                match answer {
                    Response::List(ids) => listed.extend(ids),
                    other => return Err(unexpected(&other)),
                }
            }
            Ok(listed)
        }
    }

    async fn fresh(&self) -> Result<ProducerId, TransactionError> {
        let shared = &self.shared;
        let fresh = shared.producer_ids.next(&shared.metadata).await;
        fresh.map_err(|error| {
            tracing::warn!(%error, "no producer id for a transactional producer");
            // The controller is away; clients ask again.
            TransactionError::CoordinatorNotAvailable
        })
    }

    fn ask(
        &self,
        id: &TransactionalId,
        request: Request,
    ) -> impl Future<Output = Result<Response, TransactionError>> + Send + use<> {
        let asked = self.shared.shards.ask(id.as_str(), request);
        async move { Ok(asked.await?) }
    }
}

/// A coordinator answers each request with the response of its kind.
fn unexpected(response: &Response) -> TransactionError {
    tracing::error!(?response, "a coordinator has answered another question");
    TransactionError::Unknown
}
