//! The way to the coordinator of a share-partition's state, here or at another broker.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use weir_groups::share::Restored;
use weir_groups::share::state::{
    InitializeState, ReadState, ShareStates, StateError, StateKey, StateRequest, StateResponse,
    StateSummary, WriteState,
};
use weir_quorum::image::Broker;

use super::peers::Peers;
use crate::quorum::Metadata;
use crate::shards::{Refused, Shards};

/// How long a coordinator that is coming up is waited for: less than clients wait for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Before the first time that it is asked again; loading an empty log takes milliseconds.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// Before later times.
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// Asks coordinators of share-partitions' states. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Persister {
    pub(super) metadata: Metadata,
    pub(super) states: Shards<ShareStates>,
    pub(super) peers: Arc<Peers>,
}

impl Persister {
    /// Begins a state, or begins it anew.
    ///
    /// # Errors
    /// As the coordinator says, or when it cannot be reached; the same for all that follow.
    pub async fn initialize(&self, request: InitializeState) -> Result<(), StateError> {
        let key = request.key.clone();
        match self.ask(&key, StateRequest::Initialize(request)).await? {
            StateResponse::Initialize(outcome) => outcome,
            other => Err(unexpected(&other)),
        }
    }

    /// Takes a state over.
    pub async fn read(&self, request: ReadState) -> Result<Restored, StateError> {
        let key = request.key.clone();
        match self.ask(&key, StateRequest::Read(request)).await? {
            StateResponse::Read(outcome) => outcome,
            other => Err(unexpected(&other)),
        }
    }

    /// Stores what has changed.
    pub async fn write(&self, request: WriteState) -> Result<(), StateError> {
        let key = request.key.clone();
        match self.ask(&key, StateRequest::Write(request)).await? {
            StateResponse::Write(outcome) => outcome,
            other => Err(unexpected(&other)),
        }
    }

    /// Looks at a state, if there is one.
    pub async fn summary(&self, key: StateKey) -> Result<Option<StateSummary>, StateError> {
        match self.ask(&key.clone(), StateRequest::Summary(key)).await? {
            StateResponse::Summary(summary) => Ok(summary),
            other => Err(unexpected(&other)),
        }
    }

    /// Ends a state.
    pub async fn delete(&self, key: StateKey) -> Result<(), StateError> {
        match self.ask(&key.clone(), StateRequest::Delete(key)).await? {
            StateResponse::Delete => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Who coordinates a key; makes the topic when there is none.
    pub(crate) async fn find(&self, key: &str) -> Result<Arc<Broker>, StateError> {
        self.states.find(key).await.map_err(refused)
    }

    /// Asks the coordinator in this process, which it may not be. The request is handed over when this is called.
    pub(crate) fn ask_here(
        &self,
        key: &StateKey,
        request: StateRequest,
    ) -> impl Future<Output = Result<StateResponse, StateError>> + Send + use<> {
        let asked = self.states.ask(&key.to_string(), request);
        async move { asked.await.map_err(refused) }
    }

    /// Asks the coordinator, and again while it is only coming up: the first to use share groups makes its topic.
    async fn ask(
        &self,
        key: &StateKey,
        request: StateRequest,
    ) -> Result<StateResponse, StateError> {
        let deadline = Instant::now() + PATIENCE;
        let mut pause = PAUSE_MIN;
        loop {
            match self.ask_once(key, request.clone()).await {
                Err(StateError::Loading | StateError::NotCoordinator)
                    if Instant::now() < deadline =>
                {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
                outcome => return outcome,
            }
        }
    }

    async fn ask_once(
        &self,
        key: &StateKey,
        request: StateRequest,
    ) -> Result<StateResponse, StateError> {
        let coordinator = self.find(&key.to_string()).await?;
        if coordinator.id == self.metadata.broker_id() {
            self.ask_here(key, request).await
        } else {
            self.peers.ask(&coordinator, request).await
        }
    }
}

fn refused(refused: Refused) -> StateError {
    match refused {
        Refused::NotHere => StateError::NotCoordinator,
        Refused::Loading => StateError::Loading,
        Refused::NotAvailable => StateError::NotAvailable,
    }
}

/// A coordinator answers each request with the response of its kind.
pub(super) fn unexpected(response: &StateResponse) -> StateError {
    tracing::error!(
        ?response,
        "a share coordinator has answered another question"
    );
    StateError::NotAvailable
}
