//! This broker's part in the quorum, from opening its disk to saying goodbye.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir_log::storage::Storage;
use weir_proto::quorum::v1::quorum_server::QuorumServer;
use weir_quorum::configs::Settings;
use weir_quorum::forming::FormingError;
use weir_quorum::identity::{Identity, IdentityError};
use weir_quorum::quorum::{OpenError, ProposeError, Quorum};
use weir_quorum::{ClusterId, Incarnation};

use super::client::ControllerClient;
use super::controller::{Asks, Controller, Desk};
use super::joining;
use super::net::{Channels, MESSAGE_BYTES_MAX};
use super::options::Options;
use super::registration;
use super::service::Service;
use super::transport::GrpcTransport;
use super::{Metadata, State};

/// Why this broker cannot take part in a quorum.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// Its data directory is not one that it can use.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// What the quorum keeps on disk cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Its peers are not of its cluster.
    #[error(transparent)]
    Forming(#[from] FormingError),
    /// The quorum's node has stopped.
    #[error(transparent)]
    Stopped(#[from] ProposeError),
}

/// What the parts of a member share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) quorum: Quorum,
    pub(crate) desk: Desk,
    pub(crate) channels: Arc<Channels>,
    pub(crate) state: watch::Sender<State>,
}

impl Shared {
    /// The cluster that this broker belongs to.
    pub(crate) fn cluster_id(&self) -> Option<ClusterId> {
        self.state.borrow().cluster_id.clone()
    }

    /// Where the leader is reached, if one is known: as the configuration says, or else as the quorum does.
    pub(crate) fn leader_address(&self) -> Option<String> {
        let status = self.quorum.status();
        let status = status.borrow();
        let leader = status.leader?.broker;
        self.options
            .peers
            .get(&leader)
            .cloned()
            .or_else(|| status.leader_address().map(str::to_owned))
    }
}

/// This broker's part in the quorum. Opened, its service answers; started, it takes part.
#[derive(Debug)]
pub struct Member {
    shared: Arc<Shared>,
    storage: Arc<dyn Storage>,
    identity: Mutex<Identity>,
    settings: Arc<Settings>,
    ready: watch::Sender<bool>,
    asks: Mutex<Option<Asks>>,
    tasks: TaskTracker,
    registering: TaskTracker,
    stop_registration: CancellationToken,
    stop: CancellationToken,
}

impl Member {
    /// Opens the data directory: reads who this is, or decides it for an empty one, and what the quorum keeps there.
    pub async fn open(options: Options, storage: Arc<dyn Storage>) -> Result<Self, MemberError> {
        let identity = {
            let (storage, options) = (storage.clone(), options.clone());
            options.blocking.run(move || {
                let fresh = || Incarnation(options.entropy.uuid());
                let cluster_id = options.cluster_id.as_ref();
                Identity::open(
                    &*storage,
                    &options.data_dir,
                    options.broker_id,
                    cluster_id,
                    fresh,
                )
            })
        }
        .await?;
        let (state, state_seen) = watch::channel(State {
            cluster_id: identity.cluster_id.clone(),
            ..State::default()
        });
        let channels = Arc::new(Channels::new(options.dialer.clone()));
        let transport = GrpcTransport {
            channels: channels.clone(),
            peers: options.peers.clone(),
            state: state_seen,
        };
        let quorum_options = weir_quorum::quorum::Options {
            node: identity.node(),
            address: options.quorum_address.clone(),
            dir: options.data_dir.join("metadata"),
            timing: options.timing,
            compaction: options.compaction,
            blocking: options.blocking,
        };
        let quorum = Quorum::open(quorum_options, storage.clone(), Arc::new(transport)).await?;
        let (desk, asks) = Desk::new();
        let settings = Arc::new(options.settings.clone());
        Ok(Self {
            shared: Arc::new(Shared {
                options,
                quorum,
                desk,
                channels,
                state,
            }),
            storage,
            identity: Mutex::new(identity),
            settings,
            ready: watch::channel(false).0,
            asks: Mutex::new(Some(asks)),
            tasks: TaskTracker::new(),
            registering: TaskTracker::new(),
            stop_registration: CancellationToken::new(),
            stop: CancellationToken::new(),
        })
    }

    /// The gRPC service for the quorum listener. It answers from now on: peers ask who this is before any cluster exists.
    pub fn service(
        &self,
    ) -> QuorumServer<impl weir_proto::quorum::v1::quorum_server::Quorum + use<>> {
        QuorumServer::new(Service(self.shared.clone())).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// The ways to other brokers.
    pub(crate) fn channels(&self) -> &Arc<Channels> {
        &self.shared.channels
    }

    /// The metadata facade. Empty until this broker has joined its cluster, and never stale by more than the quorum is
    /// away.
    pub fn metadata(&self) -> Metadata {
        let node = self.shared.quorum.node();
        Metadata {
            image: self.shared.quorum.watch(),
            state: self.shared.state.subscribe(),
            me: node.broker,
            incarnation: node.incarnation,
            settings: self.settings.clone(),
            controller: Arc::new(ControllerClient(self.shared.clone())),
        }
    }

    /// Forms a cluster or finds the one to join, and begins to take part: from here on this broker registers, keeps its
    /// session alive and, when it leads, is the controller. An empty disk waits here until its peers have answered; one
    /// that belongs to a cluster does not wait. Call it once.
    pub async fn start(&self) -> Result<(), MemberError> {
        let mut identity = self
            .identity
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if identity.cluster_id.is_none() {
            let found = joining::find_cluster(&self.shared).await?;
            identity.forming = found.is_none();
            let cluster_id =
                found.unwrap_or_else(|| ClusterId::from_uuid(self.shared.options.entropy.uuid()));
            tracing::info!(cluster = %cluster_id, forming = identity.forming, "this broker's cluster");
            identity.cluster_id = Some(cluster_id);
            self.save(&identity).await?;
            self.shared
                .state
                .send_modify(|state| state.cluster_id.clone_from(&identity.cluster_id));
        }
        self.spawn_followers();
        if identity.forming {
            self.shared.quorum.form().await?;
            // Only when the cluster's first record is on disk is the cluster formed.
            let mut image = self.shared.quorum.watch();
            let mut status = self.shared.quorum.status();
            tokio::select! {
                _ = image.wait_for(|image| image.cluster_id().is_some()) => {}
                failed = status.wait_for(|status| status.failed.is_some()) => {
                    let reason = failed.ok().and_then(|status| status.failed.clone()).unwrap_or_default();
                    return Err(ProposeError::Stopped(reason).into());
                }
            }
            identity.forming = false;
            self.save(&identity).await?;
        } else {
            self.shared.quorum.stand_if_alone().await?;
        }
        let (ready, stop) = (self.ready.subscribe(), self.stop_registration.clone());
        self.registering
            .spawn(registration::run(self.shared.clone(), ready, stop));
        Ok(())
    }

    fn spawn_followers(&self) {
        let shared = self.shared.clone();
        let controller = Controller {
            quorum: shared.quorum.clone(),
            settings: self.settings.clone(),
            pace: shared.options.pace,
            entropy: shared.options.entropy.clone(),
            cluster_id: Box::new(move || shared.cluster_id()),
        };
        if let Some(asks) = self
            .asks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            let stop = self.stop.clone();
            self.tasks
                .spawn(async move { stop.run_until_cancelled(controller.run(asks)).await });
        }
        let (shared, stop) = (self.shared.clone(), self.stop.clone());
        self.tasks
            .spawn(async move { stop.run_until_cancelled(follow_status(shared)).await });
    }

    async fn save(&self, identity: &Identity) -> Result<(), MemberError> {
        let (storage, dir, saved) = (
            self.storage.clone(),
            self.shared.options.data_dir.clone(),
            identity.clone(),
        );
        self.shared
            .options
            .blocking
            .run(move || saved.save(&*storage, &dir))
            .await?;
        *self.identity.lock().unwrap_or_else(PoisonError::into_inner) = identity.clone();
        Ok(())
    }

    /// Says whether this broker is ready to lead and serve: its logs are recovered. The controller hears of it at once.
    pub fn set_ready(&self, ready: bool) {
        self.ready.send_replace(ready);
    }

    /// Waits until the quorum's node has stopped for good, and says why: its disk failed, or it met metadata that this
    /// version does not understand. The process has to end then.
    pub async fn failed(&self) -> String {
        let mut status = self.shared.quorum.status();
        let failed = status.wait_for(|status| status.failed.is_some()).await;
        match failed.map(|status| status.failed.clone().unwrap_or_default()) {
            Ok(reason) => reason,
            // Stopped in good order, which is no failure.
            Err(_) => std::future::pending().await,
        }
    }

    /// Stops without a goodbye, as a process that is killed.
    #[cfg(test)]
    pub(crate) async fn shutdown_at_once(&self) {
        self.stop.cancel();
        self.shared.quorum.shutdown().await;
    }

    /// Who leads and votes, in the quorum's own words.
    #[cfg(test)]
    pub(crate) fn quorum_status(&self) -> watch::Receiver<weir_quorum::quorum::Status> {
        self.shared.quorum.status()
    }

    /// Says goodbye to the controller, which moves leadership away, and stops. What was promised is on disk.
    pub async fn shutdown(&self) {
        self.stop_registration.cancel();
        self.registering.close();
        self.registering.wait().await;
        // Goodbye was said by way of the controller's loop, if that is here, so it went on until now.
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.shared.quorum.shutdown().await;
    }
}

/// Keeps the facade's view of the quorum up to date.
async fn follow_status(shared: Arc<Shared>) {
    let mut status = shared.quorum.status();
    loop {
        {
            let status = status.borrow_and_update();
            shared.state.send_if_modified(|state| {
                let leader = status.leader.map(|node| node.broker);
                let voters: Vec<_> = status
                    .members
                    .voters
                    .iter()
                    .map(|node| node.broker)
                    .collect();
                let changed =
                    state.leader != leader || state.voters != voters || state.term != status.term;
                (state.leader, state.term, state.voters) = (leader, status.term, voters);
                changed
            });
        }
        if status.changed().await.is_err() {
            return;
        }
    }
}
