//! The metadata facade: what the rest of the broker sees of the quorum, and the network below it.
//!
//! [`Metadata`] is all that handlers need: the newest image, commands to the controller wherever it is, and who leads.
//! [`Member`] is this broker's part in the quorum, owned by whoever starts the broker: it is opened first (its gRPC
//! service answers from then on), then started (it forms a cluster or joins one), and in the end shut down.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use weir_quorum::command::Reassign;
use weir_quorum::configs::Settings;
use weir_quorum::image::Broker;
use weir_quorum::{
    BrokerEpoch, BrokerId, ClusterId, Command, ControlError, ErrorName, Image, Incarnation, Reply,
};
use weir_wire::ErrorCode;

mod absences;
mod chores;
mod client;
mod controller;
mod entropy;
mod joining;
mod lease;
mod member;
pub mod net;
mod options;
mod registration;
mod service;
mod solitary;
mod suspicion;
#[cfg(test)]
mod tests;
mod transport;

pub use entropy::Entropy;
pub use member::{Member, MemberError};
pub use options::{Options, Pace};

/// The cluster's metadata, as handlers see it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metadata {
    image: watch::Receiver<Arc<Image>>,
    state: watch::Receiver<State>,
    me: BrokerId,
    incarnation: Incarnation,
    settings: Arc<Settings>,
    controller: Arc<dyn Controller>,
    suspicions: suspicion::Suspicions,
    lease: lease::Lease,
    absences: absences::Absences,
}

/// What is known about this broker's place in the quorum, besides the image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// The cluster that this disk belongs to.
    pub(crate) cluster_id: Option<ClusterId>,
    /// Who leads the quorum, as far as is known here.
    pub(crate) leader: Option<BrokerId>,
    /// The leader's term.
    pub(crate) term: u64,
    /// Who votes, as far as is known here.
    pub(crate) voters: Vec<BrokerId>,
    /// This broker's registration in this life.
    pub(crate) registration: Option<BrokerEpoch>,
}

/// The quorum, as far as a broker knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumState {
    /// The leader.
    pub leader: Option<BrokerId>,
    /// Its term.
    pub term: u64,
    /// Who votes, by id.
    pub voters: Vec<BrokerId>,
}

/// Carries commands to the controller: over the network, or, in tests, to one in this process.
#[async_trait]
pub(crate) trait Controller: std::fmt::Debug + Send + Sync {
    /// Asks, finds the leader, asks again; gives up after a bounded time.
    async fn control(&self, command: Command) -> Result<Reply, ControlError>;
}

impl Metadata {
    /// The newest metadata that this broker has applied. Take it once for each request, so that the request sees one
    /// state of the cluster.
    pub fn image(&self) -> Arc<Image> {
        self.image.borrow().clone()
    }

    /// Whether any client has a quota.
    pub fn has_quotas(&self) -> bool {
        !self.image.borrow().client_quotas().is_empty()
    }

    /// Who leads the quorum and who votes in it, as far as is known here.
    pub fn quorum(&self) -> QuorumState {
        let state = self.state.borrow();
        QuorumState {
            leader: state.leader,
            term: state.term,
            voters: state.voters.clone(),
        }
    }

    /// Follows the metadata: changes whenever a newer image is there.
    pub fn watch(&self) -> watch::Receiver<Arc<Image>> {
        self.image.clone()
    }

    /// Asks the controller, wherever it is. When it answers, this broker has applied what it came to.
    ///
    /// Fails with [`ErrorName::RequestTimedOut`] when no controller could be reached in time; the command may have been
    /// carried out all the same.
    pub async fn control(&self, command: Command) -> Result<Reply, ControlError> {
        self.controller.control(command).await
    }

    /// What the controller knows: for answers that must not be a moment behind. A command that asks for nothing is answered when this broker is where the
    /// controller is.
    ///
    /// Fails as [`control`](Self::control) does.
    pub async fn up_to_date(&self) -> Result<Arc<Image>, ControlError> {
        let nothing = Command::Reassign(Reassign {
            partitions: Vec::new(),
            allow_replication_factor_change: true,
        });
        self.control(nothing).await?;
        Ok(self.image())
    }

    /// A broker's port has refused a connection, so its process may be gone: the controller looks, and fences it at once if
    /// it is. Returns at once; may be called as often as connecting is tried.
    pub fn suspect(&self, broker: BrokerId) {
        self.absences.doubt(broker);
        self.suspicions.voice(broker);
    }

    /// Waits for a moment while one of those who lead, as `leaders` finds in the newest image, may just have gone: until another
    /// leads, or the moment is over.
    pub async fn settled(&self, leaders: impl Fn(&Image) -> BTreeSet<BrokerId>) -> Arc<Image> {
        let is_settled = |image: &Arc<Image>| {
            let mut leaders = leaders(image).into_iter();
            !leaders.any(|leader| self.absences.is_in_doubt(leader))
        };
        let settled = self.wait_for(absences::DOUBT, is_settled).await;
        settled.unwrap_or_else(|| self.image())
    }

    /// Whether a broker may have gone a moment ago, though the controller has not said so.
    pub fn is_in_doubt(&self, broker: BrokerId) -> bool {
        self.absences.is_in_doubt(broker)
    }

    /// The brokers that clients are told of, by id: those that are alive, and those that have gone lately.
    pub fn known_to_clients<'i>(&self, image: &'i Image) -> impl Iterator<Item = &'i Arc<Broker>> {
        let brokers = image.brokers();
        brokers.filter(|broker| !broker.fenced || self.absences.is_lately_gone(broker.id))
    }

    /// The broker that leads the quorum, if that is known here and the broker is alive: clients are told only live ones.
    pub fn controller_id(&self) -> Option<BrokerId> {
        let leader = self.state.borrow().leader?;
        self.image
            .borrow()
            .broker(leader)
            .filter(|broker| !broker.fenced)
            .map(|broker| broker.id)
    }

    /// The same, as long as what is known here is the newest: without a lease another may lead by now, and brokers may have come and gone
    /// that this one has not heard of. The only voter needs none, since nobody else can have been elected.
    pub fn confirmed_controller(&self) -> Option<BrokerId> {
        let controller = self.controller_id()?;
        let is_only_voter = controller == self.me && self.state.borrow().voters == [self.me];
        (is_only_voter || self.holds_lease()).then_some(controller)
    }

    /// The brokers that vote in the quorum, by id.
    pub fn voters(&self) -> Vec<BrokerId> {
        self.state.borrow().voters.clone()
    }

    /// The cluster that this broker belongs to; `None` before it has formed or joined one.
    pub fn cluster_id(&self) -> Option<ClusterId> {
        self.state.borrow().cluster_id.clone()
    }

    /// This broker.
    pub fn broker_id(&self) -> BrokerId {
        self.me
    }

    /// This broker's disk.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// This broker's registration; `None` before it has registered in this life.
    pub fn registration(&self) -> Option<BrokerEpoch> {
        self.state.borrow().registration
    }

    /// The configuration file's part of brokers' and topics' configuration, for
    /// [`effective_topic`](weir_quorum::configs::effective_topic) and its like.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether this broker has registered in this life and has applied everything up to its registration.
    pub fn caught_up(&self) -> bool {
        let Some(epoch) = self.state.borrow().registration else {
            return false;
        };
        self.image
            .borrow()
            .broker(self.me)
            .is_some_and(|broker| broker.epoch >= epoch)
    }

    /// Whether the cluster counts this broker among the living: it is registered and not fenced.
    pub fn is_active(&self) -> bool {
        self.caught_up()
            && self
                .image
                .borrow()
                .broker(self.me)
                .is_some_and(|broker| !broker.fenced)
    }

    /// Whether the controller has confirmed so lately that this broker knows the newest that no other can lead what it leads.
    /// Who has no lease must not deny what another leader may have acknowledged: see [`deny`](Self::deny).
    pub fn holds_lease(&self) -> bool {
        self.lease.holds()
    }

    /// What a client is told that this broker, a leader as far as it knows, would refuse with `code` for what it lacks. Without a
    /// lease another may have it: the client is to look for the leader and ask again.
    pub fn deny(&self, code: ErrorCode) -> ErrorCode {
        let is_denial = matches!(
            code,
            ErrorCode::OffsetOutOfRange
                | ErrorCode::OutOfOrderSequenceNumber
                | ErrorCode::UnknownProducerId
                | ErrorCode::InvalidProducerEpoch
                | ErrorCode::InvalidTxnState
        );
        match is_denial && !self.holds_lease() {
            true => ErrorCode::NotLeaderOrFollower,
            false => code,
        }
    }

    /// Waits until this broker's place in the cluster is so, as the image and what is known of the quorum have it.
    pub async fn until(&self, is_so: impl Fn(&Self) -> bool) {
        let (mut images, mut states) = (self.image.clone(), self.state.clone());
        loop {
            images.mark_unchanged();
            states.mark_unchanged();
            if is_so(self) {
                return;
            }
            // Either may be the last to change: what a registration comes to is often applied before it is answered.
            let changed = tokio::select! {
                changed = images.changed() => changed,
                changed = states.changed() => changed,
            };
            if changed.is_err() {
                // The quorum's node has stopped, and with it soon this process.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until the image satisfies `condition`, and returns that image; `None` after `patience`.
    pub async fn wait_for(
        &self,
        patience: Duration,
        condition: impl FnMut(&Arc<Image>) -> bool,
    ) -> Option<Arc<Image>> {
        let mut image = self.image.clone();
        tokio::time::timeout(patience, image.wait_for(condition))
            .await
            .ok()
            .and_then(|image| image.ok().map(|image| Arc::clone(&image)))
    }
}

/// The refusal of a broker that could not reach the controller in time.
fn no_controller(patience: Duration) -> ControlError {
    ControlError::new(
        ErrorName::RequestTimedOut,
        format!(
            "no controller answered within {patience:?}; is a majority of the quorum's voters alive?"
        ),
    )
}
