//! The controller's loop: while this broker leads the quorum, it decides, one command after the other.
//!
//! Each decision is made on the newest image and proposed as one entry; the next is made when that entry is applied. An
//! entry that was decided on an image that is not the newest any more changes nothing (leadership may have come and gone
//! in between), and the command is decided again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use weir_quorum::configs::Settings;
use weir_quorum::controller::{
    Ends, Sizes, View, admissible, decide, expired, formed, settled, too_old, unreachable,
};
use weir_quorum::liveness::{Liveness, Now};
use weir_quorum::quorum::{ProposeError, Quorum};
use weir_quorum::{
    BrokerEpoch, BrokerId, ClusterId, Command, ControlError, ErrorName, Image, NodeId, Record,
    Reply,
};

use super::chores::Chores;
use super::entropy::Entropy;
use super::options::Pace;
use super::suspicion::refuses;
use crate::net::Dialer;

/// How many commands wait for the controller: more than brokers times what each asks at once; beyond it askers wait.
const DESK_LEN: usize = 1024;

/// How often a decision is made again because the image had moved on. Only leadership that comes and goes does that.
const DECIDE_TIMES_MAX: usize = 8;

/// Brokers whose heartbeats are remembered before they are read: more than a cluster has.
const ARRIVALS_MAX: usize = 10_000;

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

/// When heartbeats arrived, whenever they are read: a controller that waits for its disk must not take its brokers for
/// silent.
#[derive(Clone, Debug, Default)]
struct Arrivals(Arc<Mutex<BTreeMap<BrokerId, (BrokerEpoch, Instant)>>>);

impl Arrivals {
    fn note(&self, id: BrokerId, epoch: BrokerEpoch) {
        let mut arrived = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if arrived.len() >= ARRIVALS_MAX {
            arrived.clear();
        }
        arrived.insert(id, (epoch, Instant::now()));
    }

    fn forget(&self, id: BrokerId) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&id);
    }

    fn all(&self) -> BTreeMap<BrokerId, (BrokerEpoch, Instant)> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Where commands for this broker's controller are left.
#[derive(Clone, Debug)]
pub(crate) struct Desk {
    asks: mpsc::Sender<Ask>,
    arrivals: Arrivals,
}

impl Desk {
    /// A desk, and the asks that are left there.
    pub(crate) fn new() -> (Self, Asks) {
        let (sender, receiver) = mpsc::channel(DESK_LEN);
        let arrivals = Arrivals::default();
        let desk = Self {
            asks: sender,
            arrivals: arrivals.clone(),
        };
        (desk, Asks(receiver, arrivals))
    }

    /// Asks for a command to be carried out.
    pub(crate) async fn command(&self, command: Command) -> Result<Done, Refusal> {
        if let Command::Heartbeat(heartbeat) = &command {
            self.arrivals.note(heartbeat.id, heartbeat.epoch);
        }
        let (answer, answered) = oneshot::channel();
        // A closed desk or a dropped answer means that the loop has ended: this broker does not lead.
        self.asks
            .send(Ask::Command(command, answer))
            .await
            .map_err(|_| Refusal::NotLeader)?;
        answered.await.unwrap_or(Err(Refusal::NotLeader))
    }

    /// Asks for a node to be taken into the quorum.
    pub(crate) async fn join(&self, node: NodeId, address: String) -> Result<(), Refusal> {
        let (answer, answered) = oneshot::channel();
        self.asks
            .send(Ask::Join(node, address, answer))
            .await
            .map_err(|_| Refusal::NotLeader)?;
        answered.await.unwrap_or(Err(Refusal::NotLeader))
    }
}

/// What was left at the [`Desk`].
#[derive(Debug)]
pub(crate) struct Asks(mpsc::Receiver<Ask>, Arrivals);

/// The loop of one broker.
pub(crate) struct Controller {
    pub(crate) quorum: Quorum,
    pub(crate) settings: Arc<Settings>,
    pub(crate) pace: Pace,
    /// What a cluster is formed with.
    pub(crate) feature_level: u32,
    pub(crate) entropy: Entropy,
    pub(crate) dialer: Dialer,
    /// The cluster that this broker belongs to, once it does.
    pub(crate) cluster_id: Box<dyn Fn() -> Option<ClusterId> + Send + Sync>,
}

impl Controller {
    /// Runs until the quorum's node has stopped or the desk is closed.
    pub(crate) async fn run(self, mut asks: Asks) {
        let mut status = self.quorum.status();
        let me = self.quorum.node();
        let mut deposed = None;
        loop {
            let (leads, leader) = {
                let status = status.borrow_and_update();
                (status.is_leader, status.leader)
            };
            deposed = leader.filter(|leader| *leader != me).or(deposed);
            if leads {
                let term = status.borrow().term;
                match self.lead(&mut asks, deposed.take()).await {
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

    /// Carries out commands while this broker leads. Ends well when the desk is closed. `deposed` led before, if that is
    /// known.
    async fn lead(&self, asks: &mut Asks, deposed: Option<NodeId>) -> Result<(), ProposeError> {
        self.bounded(self.quorum.ensure_leading()).await?;
        let mut reign = Reign::new(self, asks.1.clone());
        if let Some(deposed) = deposed {
            // It was silent long enough to be deposed. One that lives tells its new leader so within a heartbeat or two.
            reign.liveness.doubt(deposed.broker, self.pace.session / 2);
        }
        tracing::info!("this broker is the controller");
        let mut status = self.quorum.status();
        let term = status.borrow_and_update().term;
        if self.quorum.image().cluster_id().is_none()
            && let Some(cluster_id) = (self.cluster_id)()
        {
            tracing::info!(cluster = %cluster_id, "forming the cluster");
            self.bounded(self.quorum.propose(
                self.quorum.image().revision(),
                &formed(cluster_id, self.feature_level),
            ))
            .await?;
        }
        reign.put_right().await?;
        // Whoever died together with the leader before need not be waited for.
        let image = self.quorum.image();
        for broker in image.live_brokers() {
            reign.look_for(&image, broker.id);
        }
        let (mut settled, mut settle_at) = (false, Instant::now() + SETTLE_EVERY);
        let mut chores = Chores::new(self.quorum.image());
        loop {
            // Who votes depends on who is leaving.
            settled &= !chores.notice(self.quorum.image());
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
                Some(looked) = reign.looking.join_next() => reign.found(looked).await?,
                () = tokio::time::sleep_until(expiry) => reign.fence_expired(expiry).await?,
                () = tokio::time::sleep_until(chores.due()) => chores.run(&reign).await?,
                // At a time, not after a pause: what else there is to do must not put it off for ever.
                () = tokio::time::sleep_until(settle_at), if !settled => {
                    settle_at = Instant::now() + SETTLE_EVERY;
                    let image = self.quorum.image();
                    let is_leaving = |id| image.broker(id).is_some_and(|broker| broker.draining);
                    let settling = self.quorum.settle(is_leaving, |node| is_there(&image, node));
                    match self.bounded(settling).await {
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

/// What came of looking for a broker.
struct Looked {
    id: BrokerId,
    epoch: BrokerEpoch,
    began: Now,
    is_refused: bool,
}

/// One stretch of leadership, with what is only known in it.
pub(super) struct Reign<'a> {
    pub(super) controller: &'a Controller,
    start: Instant,
    liveness: Liveness,
    arrivals: Arrivals,
    /// Brokers whose ports are being tried; one attempt at a time for each.
    looking: JoinSet<Looked>,
    looked_for: BTreeSet<BrokerId>,
    /// How large partitions are, as brokers told.
    pub(super) sizes: Sizes,
    /// How far replicas reach that have lost something, as their brokers told.
    pub(super) ends: Ends,
}

impl<'a> Reign<'a> {
    fn new(controller: &'a Controller, arrivals: Arrivals) -> Self {
        Self {
            controller,
            start: Instant::now(),
            liveness: Liveness::new(controller.pace.session, Now::default()),
            arrivals,
            looking: JoinSet::new(),
            looked_for: BTreeSet::new(),
            sizes: Sizes::new(),
            ends: Ends::new(),
        }
    }

    fn now(&self) -> Now {
        Now(self.start.elapsed())
    }

    fn view<'v>(&'v self, image: &'v Image) -> View<'v> {
        View {
            image,
            liveness: &self.liveness,
            settings: &self.controller.settings,
            now: self.now(),
            entropy: self.controller.entropy.next(),
        }
    }

    /// Takes over which heartbeats have arrived, read or not.
    fn listen(&mut self, image: &Image) {
        for (id, (epoch, at)) in self.arrivals.all() {
            let is_current = image.broker(id).is_some_and(|broker| broker.epoch == epoch);
            if let Some(at) = at.checked_duration_since(self.start)
                && is_current
            {
                self.liveness.heard(id, epoch, Now(at));
            }
        }
    }

    /// A broker is gone, and was not heard from before it is heard from again.
    fn forget(&mut self, id: BrokerId) {
        self.arrivals.forget(id);
        self.liveness.forget(id);
    }

    /// When the next broker's session ends, if nothing is heard from it until then.
    fn next_expiry(&mut self) -> Instant {
        let image = self.controller.quorum.image();
        self.listen(&image);
        let earliest = image
            .live_brokers()
            .map(|broker| self.liveness.expires(broker.id, broker.epoch).0)
            .min();
        // With no one to watch, looking once in a session is enough.
        self.start + earliest.unwrap_or(self.start.elapsed() + self.controller.pace.session)
    }

    /// Proposes what is decided on the newest image, again when that has moved on. Says whether there was anything.
    pub(super) async fn act(
        &self,
        decide: impl Fn(&View<'_>) -> Vec<Record>,
    ) -> Result<bool, ProposeError> {
        for _ in 0..DECIDE_TIMES_MAX {
            let image = self.controller.quorum.image();
            let records = decide(&self.view(&image));
            match self.propose(image.revision(), &records).await {
                Ok(index) => return Ok(index.is_some()),
                Err(ProposeError::Stale) => {}
                Err(error) => return Err(error),
            }
        }
        Err(ProposeError::Stale)
    }

    /// What the newest metadata say.
    pub(super) fn ask<T>(&self, what: impl Fn(&View<'_>) -> T) -> T {
        let image = self.controller.quorum.image();
        what(&self.view(&image))
    }

    /// What this controller's configuration file makes of what the one before has left.
    async fn put_right(&self) -> Result<(), ProposeError> {
        self.act(settled).await.map(drop)
    }

    /// Tries the port of a broker, unless that is being done.
    fn look_for(&mut self, image: &Image, id: BrokerId) {
        let me = self.controller.quorum.node().broker;
        let Some(broker) = image.broker(id).filter(|broker| id != me && !broker.fenced) else {
            return;
        };
        if self.looked_for.insert(id) {
            let (epoch, address) = (broker.epoch, broker.quorum_address.clone());
            let (began, dialer) = (self.now(), self.controller.dialer.clone());
            self.looking.spawn(async move {
                let is_refused = refuses(&dialer, &address).await;
                Looked {
                    id,
                    epoch,
                    began,
                    is_refused,
                }
            });
        }
    }

    /// Fences a broker on whose port nobody listens, unless it has been heard from since.
    async fn found(
        &mut self,
        looked: Result<Looked, tokio::task::JoinError>,
    ) -> Result<(), ProposeError> {
        let Ok(looked) = looked else {
            // Only a panic ends it so, and then nobody is looked for any more before the next reign.
            return Ok(());
        };
        let Looked {
            id,
            epoch,
            began,
            is_refused,
        } = looked;
        self.looked_for.remove(&id);
        self.listen(&self.controller.quorum.image());
        if !is_refused || self.liveness.is_heard_since(id, epoch, began) {
            return Ok(());
        }
        let gone = |view: &View<'_>| unreachable(view, id, epoch).unwrap_or_default();
        if self.act(gone).await? {
            tracing::warn!(broker = %id, "nobody listens on the broker's port; it is fenced");
            self.forget(id);
        }
        Ok(())
    }

    async fn command(&mut self, command: &Command) -> Result<Done, Refusal> {
        if matches!(command, Command::Heartbeat(_)) && !self.controller.quorum.is_followed() {
            // The answer would confirm that what the broker knows is the newest.
            return Err(Refusal::NotLeader);
        }
        for _ in 0..DECIDE_TIMES_MAX {
            let image = self.controller.quorum.image();
            self.listen(&image);
            if let Command::RegisterBroker(request) = command
                && too_old(&image, request)
            {
                self.liveness.refuse(request.id, request.feature_level);
            }
            let decision = decide(&self.view(&image), command).map_err(Refusal::Control)?;
            if let Command::UnregisterBroker { id } = command {
                // Whoever is gone for good neither votes nor is sent anything any more.
                let expelling = self
                    .controller
                    .quorum
                    .expel(*id, |node| is_there(&image, node));
                match self.controller.bounded(expelling).await {
                    Ok(true) => {}
                    Ok(false) => {
                        let why = format!(
                            "who would vote without broker {id} has not answered the controller; try again when all other brokers are alive"
                        );
                        let error = ControlError::new(ErrorName::InvalidRequest, why);
                        return Err(Refusal::Control(error));
                    }
                    Err(ProposeError::Stale) => continue,
                    Err(_) => return Err(Refusal::NotLeader),
                }
            }
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
            if let Command::Suspect(suspect) = command {
                self.look_for(&image, suspect.id);
            }
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
            (Command::Heartbeat(request), _) => {
                self.liveness
                    .knows(request.id, request.epoch, request.feature_level);
                self.liveness.fills(request.id, request.epoch, request.full);
                if request.sizes.is_empty() {
                    return;
                }
                let sizes = request.sizes.iter();
                self.sizes
                    .extend(sizes.map(|(topic, index, bytes)| ((*topic, *index), *bytes)));
                let image = self.controller.quorum.image();
                self.sizes.retain(|(topic, index), _| {
                    image
                        .topic_by_id(*topic)
                        .is_some_and(|topic| topic.partition(*index).is_some())
                });
            }
            (Command::ReportLost(request), _) => {
                let image = self.controller.quorum.image();
                self.ends
                    .retain(|(topic, _, _), _| image.topic_by_id(*topic).is_some());
                let held = request
                    .ends
                    .iter()
                    .filter(|end| request.partitions.contains(&(end.topic, end.index)));
                self.ends.extend(held.map(|end| {
                    (
                        (end.topic, end.index, request.id),
                        (end.leader_epoch, end.end),
                    )
                }));
            }
            (Command::Goodbye(request), _) => {
                tracing::info!(broker = %request.id, "broker said goodbye");
                self.forget(request.id);
            }
            _ => {}
        }
    }

    async fn join(&mut self, node: NodeId, address: &str) -> Result<(), Refusal> {
        let image = self.controller.quorum.image();
        self.listen(&image);
        admissible(&self.view(&image), node).map_err(Refusal::Control)?;
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

    /// Fences the brokers whose sessions are over. It was to happen at `due`.
    async fn fence_expired(&mut self, due: Instant) -> Result<(), ProposeError> {
        let late = Instant::now().saturating_duration_since(due);
        if late > self.controller.pace.heartbeat {
            // This process was stopped, or its disk was slow: what was sent meanwhile may not even have been received.
            tracing::info!(?late, "the controller was held up; sessions are extended");
            self.liveness.forgive(late);
            return Ok(());
        }
        while let Some((broker, revision, records)) = self.next_expired() {
            match self.propose(revision, &records).await {
                Ok(_) => {
                    tracing::warn!(%broker, session = ?self.controller.pace.session, "broker fell silent and is fenced");
                    self.forget(broker);
                }
                Err(ProposeError::Stale) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn next_expired(&mut self) -> Option<(BrokerId, u64, Vec<Record>)> {
        let image = self.controller.quorum.image();
        self.listen(&image);
        let (broker, records) = expired(&self.view(&image))?;
        Some((broker, image.revision(), records))
    }
}

/// Whether a node is alive: registered with this disk, and not fenced.
fn is_there(image: &Image, node: NodeId) -> bool {
    let broker = image.broker(node.broker);
    broker.is_some_and(|broker| !broker.fenced && broker.incarnation == node.incarnation)
}
