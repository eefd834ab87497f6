//! The controller's loop: while this broker leads the quorum, it decides, one command after the other.
//!
//! Each decision is made on the newest image and proposed as one entry; the next is made when that entry is applied. An
//! entry that was decided on an image that is not the newest any more changes nothing (leadership may have come and gone
//! in between), and the command is decided again.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use weir_quorum::configs::Settings;
use weir_quorum::controller::{View, admissible, decide, expired, formed};
use weir_quorum::liveness::{Liveness, Now};
use weir_quorum::quorum::{ProposeError, Quorum};
use weir_quorum::{BrokerId, ClusterId, Command, ControlError, ErrorName, NodeId, Record, Reply};

use super::entropy::Entropy;
use super::options::Pace;

/// How many commands wait for the controller: more than brokers times what each asks at once; beyond it askers wait.
const DESK_LEN: usize = 1024;

/// How often a decision is made again because the image had moved on. Only leadership that comes and goes does that.
const DECIDE_TIMES_MAX: usize = 8;

/// How often the leader looks whether a learner that should vote is near enough.
const SETTLE_EVERY: Duration = Duration::from_millis(50);

/// Why the controller of this broker did not carry out a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It does not lead; ask the leader.
    NotLeader,
    /// It said no.
    Control(ControlError),
}

/// A command that was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    /// What is answered.
    pub(crate) reply: Reply,
    /// The metadata's entry that holds what it came to.
    pub(crate) index: u64,
}

enum Ask {
    Command(Command, oneshot::Sender<Result<Done, Refusal>>),
    Join(NodeId, String, oneshot::Sender<Result<(), Refusal>>),
}

/// Where commands for this broker's controller are left.
#[derive(Clone, Debug)]
pub(crate) struct Desk(mpsc::Sender<Ask>);

impl Desk {
    /// A desk, and the asks that are left there.
    pub(crate) fn new() -> (Self, Asks) {
        let (sender, receiver) = mpsc::channel(DESK_LEN);
        (Self(sender), Asks(receiver))
    }

    /// Asks for a command to be carried out.
    pub(crate) async fn command(&self, command: Command) -> Result<Done, Refusal> {
        let (answer, answered) = oneshot::channel();
        // A closed desk or a dropped answer means that the loop has ended: this broker does not lead.
        self.0
            .send(Ask::Command(command, answer))
            .await
            .map_err(|_| Refusal::NotLeader)?;
        answered.await.unwrap_or(Err(Refusal::NotLeader))
    }

    /// Asks for a node to be taken into the quorum.
    pub(crate) async fn join(&self, node: NodeId, address: String) -> Result<(), Refusal> {
        let (answer, answered) = oneshot::channel();
        self.0
            .send(Ask::Join(node, address, answer))
            .await
            .map_err(|_| Refusal::NotLeader)?;
        answered.await.unwrap_or(Err(Refusal::NotLeader))
    }
}

/// What was left at the [`Desk`].
#[derive(Debug)]
pub(crate) struct Asks(mpsc::Receiver<Ask>);

/// The loop of one broker.
pub(crate) struct Controller {
    pub(crate) quorum: Quorum,
    pub(crate) settings: Arc<Settings>,
    pub(crate) pace: Pace,
    pub(crate) entropy: Entropy,
    /// The cluster that this broker belongs to, once it does.
    pub(crate) cluster_id: Box<dyn Fn() -> Option<ClusterId> + Send + Sync>,
}

impl Controller {
    /// Runs until the quorum's node has stopped or the desk is closed.
    pub(crate) async fn run(self, mut asks: Asks) {
        let mut status = self.quorum.status();
        loop {
            if status.borrow_and_update().is_leader {
                let term = status.borrow().term;
                match self.lead(&mut asks).await {
                    Ok(()) => return,
                    Err(error) => tracing::info!(term, %error, "no longer the controller"),
                }
                // Asked again at once when it is still the leader of a new term; a failed proposal must not spin.
                tokio::time::sleep(self.pace.retry_min).await;
                continue;
            }
            tokio::select! {
                changed = status.changed() => if changed.is_err() { return },
                ask = asks.0.recv() => match ask {
                    Some(Ask::Command(_, answer)) => drop(answer.send(Err(Refusal::NotLeader))),
                    Some(Ask::Join(_, _, answer)) => drop(answer.send(Err(Refusal::NotLeader))),
                    None => return,
                },
            }
        }
    }

    /// Carries out commands while this broker leads. Ends well when the desk is closed.
    async fn lead(&self, asks: &mut Asks) -> Result<(), ProposeError> {
        self.bounded(self.quorum.ensure_leading()).await?;
        let mut reign = Reign {
            controller: self,
            start: Instant::now(),
            liveness: Liveness::new(self.pace.session, Now::default()),
        };
        tracing::info!("this broker is the controller");
        let mut status = self.quorum.status();
        let term = status.borrow_and_update().term;
        if self.quorum.image().cluster_id().is_none()
            && let Some(cluster_id) = (self.cluster_id)()
        {
            tracing::info!(cluster = %cluster_id, "forming the cluster");
            self.bounded(
                self.quorum
                    .propose(self.quorum.image().revision(), &formed(cluster_id)),
            )
            .await?;
        }
        let mut settled = false;
        loop {
            let expiry = reign.next_expiry();
            tokio::select! {
                ask = asks.0.recv() => match ask {
                    // Whoever has given up must not be surprised by what he asked for later.
                    Some(Ask::Command(_, answer)) if answer.is_closed() => {}
                    Some(Ask::Join(_, _, answer)) if answer.is_closed() => {}
                    Some(Ask::Command(command, answer)) => drop(answer.send(reign.command(&command).await)),
                    Some(Ask::Join(node, address, answer)) => {
                        drop(answer.send(reign.join(node, &address).await));
                        settled = false;
                    }
                    None => return Ok(()),
                },
                () = tokio::time::sleep_until(expiry) => reign.fence_expired().await?,
                () = tokio::time::sleep(SETTLE_EVERY), if !settled => {
                    match self.bounded(self.quorum.settle()).await {
                        Ok(now) => settled = now,
                        Err(ProposeError::Stale) => {}
                        Err(error) => return Err(error),
                    }
                }
                changed = status.changed() => {
                    let now = status.borrow_and_update().clone();
                    if changed.is_err() || !now.is_leader || now.term != term {
                        return Err(ProposeError::NotLeader);
                    }
                }
            }
        }
    }

    /// Gives up waiting after a while: a leader without a majority would wait for ever.
    async fn bounded<T>(
        &self,
        work: impl Future<Output = Result<T, ProposeError>>,
    ) -> Result<T, ProposeError> {
        match tokio::time::timeout(self.pace.proposal, work).await {
            Ok(result) => result,
            Err(_) => Err(ProposeError::Stopped(format!(
                "no majority answered within {:?}",
                self.pace.proposal
            ))),
        }
    }
}

/// One stretch of leadership, with what is only known in it.
struct Reign<'a> {
    controller: &'a Controller,
    start: Instant,
    liveness: Liveness,
}

impl Reign<'_> {
    fn now(&self) -> Now {
        Now(self.start.elapsed())
    }

    /// When the next broker's session ends, if nothing is heard from it until then.
    fn next_expiry(&self) -> Instant {
        let image = self.controller.quorum.image();
        let earliest = image
            .live_brokers()
            .map(|broker| self.liveness.expires(broker.id, broker.epoch).0)
            .min();
        // With no one to watch, looking once in a session is enough.
        self.start + earliest.unwrap_or(self.start.elapsed() + self.controller.pace.session)
    }

    async fn command(&mut self, command: &Command) -> Result<Done, Refusal> {
        for _ in 0..DECIDE_TIMES_MAX {
            let image = self.controller.quorum.image();
            let view = View {
                image: &image,
                liveness: &self.liveness,
                settings: &self.controller.settings,
                now: self.now(),
                entropy: self.controller.entropy.next(),
            };
            let decision = decide(&view, command).map_err(Refusal::Control)?;
            let index = match self.propose(image.revision(), &decision.records).await {
                Ok(index) => index.unwrap_or(image.index()),
                Err(ProposeError::Stale) => continue,
                Err(ProposeError::NotLeader) => return Err(Refusal::NotLeader),
                Err(ProposeError::Stopped(why)) => {
                    let message = format!(
                        "the controller does not know whether the command will be carried out: {why}"
                    );
                    return Err(Refusal::Control(ControlError::new(
                        ErrorName::RequestTimedOut,
                        message,
                    )));
                }
            };
            let reply = decision.reply(index);
            self.hear(command, &reply);
            return Ok(Done { reply, index });
        }
        Err(Refusal::NotLeader)
    }

    async fn propose(
        &self,
        revision: u64,
        records: &[Record],
    ) -> Result<Option<u64>, ProposeError> {
        if records.is_empty() {
            return Ok(None);
        }
        self.controller
            .bounded(self.controller.quorum.propose(revision, records))
            .await
            .map(Some)
    }

    /// Remembers who was heard from.
    fn hear(&mut self, command: &Command, reply: &Reply) {
        let now = self.now();
        match (command, reply) {
            (Command::RegisterBroker(request), Reply::Registered { epoch }) => {
                tracing::info!(broker = %request.id, disk = %request.incarnation, %epoch, kafka = %request.kafka, "broker registered");
                self.liveness.heard(request.id, *epoch, now);
            }
            (Command::Heartbeat(request), _) => self.liveness.heard(request.id, request.epoch, now),
            (Command::Goodbye(request), _) => {
                tracing::info!(broker = %request.id, "broker said goodbye");
                self.liveness.forget(request.id);
            }
            _ => {}
        }
    }

    async fn join(&self, node: NodeId, address: &str) -> Result<(), Refusal> {
        let image = self.controller.quorum.image();
        let view = View {
            image: &image,
            liveness: &self.liveness,
            settings: &self.controller.settings,
            now: self.now(),
            entropy: 0,
        };
        admissible(&view, node).map_err(Refusal::Control)?;
        match self
            .controller
            .bounded(self.controller.quorum.admit(node, address))
            .await
        {
            Ok(()) => Ok(()),
            // The joiner asks again, here or elsewhere.
            Err(ProposeError::NotLeader | ProposeError::Stale) => Err(Refusal::NotLeader),
            Err(ProposeError::Stopped(why)) => Err(Refusal::Control(ControlError::new(
                ErrorName::RequestTimedOut,
                why,
            ))),
        }
    }

    /// Fences the brokers whose sessions are over.
    async fn fence_expired(&mut self) -> Result<(), ProposeError> {
        while let Some((broker, epoch_records)) = self.next_expired() {
            let (revision, records) = epoch_records;
            match self.propose(revision, &records).await {
                Ok(_) => {
                    tracing::warn!(%broker, session = ?self.controller.pace.session, "broker fell silent and is fenced");
                    self.liveness.forget(broker);
                }
                Err(ProposeError::Stale) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn next_expired(&self) -> Option<(BrokerId, (u64, Vec<Record>))> {
        let image = self.controller.quorum.image();
        let view = View {
            image: &image,
            liveness: &self.liveness,
            settings: &self.controller.settings,
            now: self.now(),
            entropy: 0,
        };
        expired(&view).map(|(broker, records)| (broker, (image.revision(), records)))
    }
}
