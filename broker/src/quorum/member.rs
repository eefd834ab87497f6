//! This broker's part in the quorum, from opening its disk to saying goodbye.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir_log::storage::Storage;
use weir_proto::quorum::v1::quorum_server::QuorumServer;
use weir_quorum::command::{LogEnd, ReportLost};
use weir_quorum::configs::Settings;
use weir_quorum::forming::FormingError;
use weir_quorum::identity::{Identity, IdentityError};
use weir_quorum::quorum::{OpenError, ProposeError, Quorum};
use weir_quorum::{ClusterId, Command, Incarnation, TopicId};

use super::absences::Absences;
use super::client::ControllerClient;
use super::controller::{Asks, Controller, Desk};
use super::joining;
use super::lease::Lease;
use super::net::{Channels, MESSAGE_BYTES_MAX};
use super::options::{Options, Pauses};
use super::registration;
use super::service::Service;
use super::suspicion::{self, Suspected, Suspicions};
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
    pub(crate) suspicions: Suspicions,
    pub(crate) sizes: OnceLock<Tell>,
    pub(crate) lease: Lease,
    pub(crate) absences: Absences,
}

/// Tells how large the replicas of this broker are: partition and bytes.
#[derive(Clone)]
pub(crate) struct Tell(Arc<dyn Fn() -> Vec<(TopicId, i32, u64)> + Send + Sync>);

impl std::fmt::Debug for Tell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tell")
    }
}

impl Tell {
    pub(crate) fn sizes(&self) -> Vec<(TopicId, i32, u64)> {
        (self.0)()
    }
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

/// What this broker tells the controller with each heartbeat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Intent {
    /// It is ready to lead and serve.
    pub(crate) ready: bool,
    /// It is about to stop.
    pub(crate) stopping: bool,
    /// Its disk has no room for what it leads.
    pub(crate) full: bool,
}

/// What the controller has answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    /// How many heartbeats.
    pub(crate) answers: u64,
    /// This broker may stop: what it led, others lead, as far as they can.
    pub(crate) may_stop: bool,
}

/// This broker's part in the quorum. Opened, its service answers; started, it takes part.
#[derive(Debug)]
pub struct Member {
    shared: Arc<Shared>,
    storage: Arc<dyn Storage>,
    identity: Mutex<Identity>,
    settings: Arc<Settings>,
    intent: watch::Sender<Intent>,
    heard: watch::Sender<Heard>,
    asks: Mutex<Option<Asks>>,
    suspected: Mutex<Option<Suspected>>,
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
        let (suspicions, suspected) = Suspicions::new();
        let transport = GrpcTransport {
            suspicions: suspicions.clone(),
            channels: channels.clone(),
            peers: options.peers.clone(),
            state: state_seen,
        };
        let quorum_options = weir_quorum::quorum::Options {
            node: identity.node(),
            address: options.quorum_address.clone(),
            dir: options.data_dir.join(weir_quorum::restore::DIR),
            timing: options.timing,
            compaction: options.compaction,
            blocking: options.blocking,
        };
        let quorum = Quorum::open(quorum_options, storage.clone(), Arc::new(transport)).await?;
        let (desk, asks) = Desk::new();
        let settings = Arc::new(options.settings.clone());
        let lease = Lease::new(options.pace.session);
        Ok(Self {
            shared: Arc::new(Shared {
                options,
                quorum,
                desk,
                channels,
                state,
                suspicions,
                sizes: OnceLock::new(),
                lease,
                absences: Absences::default(),
            }),
            storage,
            identity: Mutex::new(identity),
            settings,
            intent: watch::Sender::default(),
            heard: watch::Sender::default(),
            asks: Mutex::new(Some(asks)),
            suspected: Mutex::new(Some(suspected)),
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
            suspicions: self.shared.suspicions.clone(),
            lease: self.shared.lease.clone(),
            absences: self.shared.absences.clone(),
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
        self.registering.spawn(registration::run(
            self.shared.clone(),
            self.intent.subscribe(),
            self.heard.clone(),
            self.stop_registration.clone(),
        ));
        Ok(())
    }

    fn spawn_followers(&self) {
        let shared = self.shared.clone();
        let controller = Controller {
            quorum: shared.quorum.clone(),
            settings: self.settings.clone(),
            pace: shared.options.pace,
            feature_level: shared.options.feature_level,
            entropy: shared.options.entropy.clone(),
            dialer: shared.options.dialer.clone(),
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
        let absences = self.shared.absences.clone();
        let (images, stop) = (self.shared.quorum.watch(), self.stop.clone());
        self.tasks
            .spawn(async move { stop.run_until_cancelled(absences.follow(images)).await });
        let suspected = self
            .suspected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(suspected) = suspected {
            let (shared, stop) = (self.shared.clone(), self.stop.clone());
            self.tasks.spawn(async move {
                stop.run_until_cancelled(suspicion::run(shared, suspected))
                    .await
            });
        }
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
        self.intent.send_modify(|intent| intent.ready = ready);
    }

    /// Says whether this broker's disk has no room for what it leads. The controller hears of it at once.
    pub fn set_full(&self, full: bool) {
        self.intent.send_if_modified(|intent| {
            let before = std::mem::replace(&mut intent.full, full);
            before != full
        });
    }

    /// Says how the sizes of this broker's replicas are found out. Once in a process's life.
    pub fn measure(&self, sizes: impl Fn() -> Vec<(TopicId, i32, u64)> + Send + Sync + 'static) {
        let _ = self.shared.sizes.set(Tell(Arc::new(sizes)));
    }

    /// Tells the controller which partitions of this broker may lack what was promised for them: until they have caught up
    /// with their leaders they are in sync with nothing. Returns when the controller knows, which must be before this broker
    /// says that it is ready: one that is ready may be elected.
    ///
    /// `ends` says how far their logs reach all the same: where everyone has lost something, the one with the most left leads.
    pub async fn report_lost(&self, partitions: BTreeSet<(TopicId, i32)>, ends: Vec<LogEnd>) {
        if partitions.is_empty() {
            return;
        }
        tracing::warn!(
            partitions = partitions.len(),
            "replicas on this broker may have lost records; their leaders will make up for it"
        );
        let client = ControllerClient(self.shared.clone());
        let options = &self.shared.options;
        let mut state = self.shared.state.subscribe();
        let mut pauses = Pauses::new(&options.pace);
        loop {
            let registered = state.wait_for(|state| state.registration.is_some()).await;
            let Some(epoch) = registered.ok().and_then(|state| state.registration) else {
                // The sender is this member's own.
                return;
            };
            let command = Command::ReportLost(ReportLost {
                id: self.shared.quorum.node().broker,
                epoch,
                partitions: partitions.clone(),
                ends: ends.clone(),
            });
            match client.control_within(command, options.pace.command).await {
                Ok(_) => return,
                Err(error) => {
                    tracing::warn!(%error, "the controller does not know yet what was lost here")
                }
            }
            pauses.pause().await;
        }
    }

    /// Tells the controller that this broker is about to stop, and waits until it leads nothing that others can lead: at most
    /// for so long, and no longer than the controller answers. Clients are best served meanwhile: they are told who leads now.
    pub async fn retire(&self, patience: Duration) {
        if self.shared.state.borrow().registration.is_none() {
            return;
        }
        self.intent.send_modify(|intent| intent.stopping = true);
        let mut heard = self.heard.subscribe();
        let silence = self.shared.options.pace.goodbye;
        let retired = async {
            loop {
                if heard.borrow_and_update().may_stop {
                    return true;
                }
                if !matches!(
                    tokio::time::timeout(silence, heard.changed()).await,
                    Ok(Ok(()))
                ) {
                    return false;
                }
            }
        };
        if !tokio::time::timeout(patience, retired)
            .await
            .unwrap_or(false)
        {
            tracing::warn!("this broker stops though it leads partitions");
        }
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
