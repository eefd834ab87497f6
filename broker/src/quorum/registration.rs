//! Registers this broker with the controller, keeps its session alive, and registers again when that is needed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weir_quorum::command::{Goodbye, Heartbeat, RegisterBroker};
use weir_quorum::controller::is_moving;
use weir_quorum::{BrokerEpoch, Command, ControlError, ErrorName, Reply, TopicId};

use super::client::ControllerClient;
use super::joining::{self, Joined};
use super::member::{Heard, Intent, Shared};
use super::options::Pauses;

/// How often the controller is told how large replicas are while it moves some: they grow more slowly than that matters.
const SIZES_EVERY: Duration = Duration::from_secs(10);

/// How many of the shortest pauses lie between two heartbeats of a broker that waits to stop.
const STOPPING_PAUSES: u32 = 5;

/// Keeps this broker registered until it is told to stop; then says goodbye.
pub(crate) async fn run(
    shared: Arc<Shared>,
    intent: watch::Receiver<Intent>,
    heard: watch::Sender<Heard>,
    stop: CancellationToken,
) {
    let registration = Registration {
        client: ControllerClient(shared.clone()),
        shared,
        intent,
        heard,
    };
    let mut epoch = None;
    let stopped = stop
        .run_until_cancelled(registration.keep(&mut epoch))
        .await;
    debug_assert!(
        stopped.is_none(),
        "registration only ends when it is stopped"
    );
    if let Some(epoch) = epoch {
        registration.goodbye(epoch).await;
    }
}

struct Registration {
    client: ControllerClient,
    shared: Arc<Shared>,
    intent: watch::Receiver<Intent>,
    heard: watch::Sender<Heard>,
}

impl Registration {
    /// Registers and heartbeats for ever. `registered` is the registration that goodbye has to be said to.
    async fn keep(&self, registered: &mut Option<BrokerEpoch>) {
        loop {
            self.join().await;
            let epoch = self.register().await;
            *registered = Some(epoch);
            self.shared
                .state
                .send_modify(|state| state.registration = Some(epoch));
            let error = self.heartbeat(epoch).await;
            tracing::warn!(%error, "this broker's registration is over; registering anew");
            *registered = None;
        }
    }

    /// Becomes a member of the quorum, or makes sure that its address is known.
    async fn join(&self) {
        let mut pauses = Pauses::new(&self.shared.options.pace);
        let mut last_reason = String::new();
        loop {
            match joining::join(&self.shared).await {
                Joined::Yes => return,
                Joined::NotYet => {}
                Joined::Refused(reason) => {
                    if reason != last_reason {
                        tracing::warn!(
                            reason,
                            "this broker is not let into the quorum; trying again"
                        );
                        last_reason = reason;
                    }
                }
            }
            pauses.pause().await;
        }
    }

    async fn register(&self) -> BrokerEpoch {
        let options = &self.shared.options;
        let node = self.shared.quorum.node();
        let command = Command::RegisterBroker(RegisterBroker {
            id: node.broker,
            incarnation: node.incarnation,
            kafka: options.kafka.clone(),
            quorum_address: options.quorum_address.clone(),
            rack: options.rack.clone(),
            version: options.version.clone(),
            feature_level: options.feature_level,
        });
        let mut pauses = Pauses::new(&options.pace);
        let mut last_error = None;
        loop {
            match self
                .client
                .control_within(command.clone(), options.pace.command)
                .await
            {
                Ok(Reply::Registered { epoch }) => return epoch,
                Ok(other) => tracing::error!(
                    ?other,
                    "the controller answered a registration with something else"
                ),
                Err(error) => {
                    if last_error.as_ref() != Some(&error) {
                        tracing::warn!(%error, "registration refused; trying again");
                        last_error = Some(error);
                    }
                }
            }
            pauses.pause().await;
        }
    }

    /// Tells the controller that this broker is alive, until the controller says that the registration is over.
    async fn heartbeat(&self, epoch: BrokerEpoch) -> ControlError {
        let pace = &self.shared.options.pace;
        let mut intent = self.intent.clone();
        let mut sized = None;
        loop {
            let Intent {
                ready,
                stopping,
                full,
            } = *intent.borrow_and_update();
            let sizes = self.sizes(&mut sized);
            let command = Command::Heartbeat(Heartbeat {
                id: self.shared.quorum.node().broker,
                epoch,
                ready,
                stopping,
                full,
                feature_level: self.shared.options.feature_level,
                sizes,
            });
            // A controller that hangs must not use up the session: another may lead by then.
            let attempt = (pace.session / 3).min(pace.proposal);
            let sent = Instant::now();
            match self.client.control_in(command, pace.session, attempt).await {
                Ok(Reply::Heartbeat { may_stop, .. }) => {
                    self.shared.lease.confirm(sent);
                    self.heard.send_modify(|heard| {
                        heard.answers += 1;
                        heard.may_stop = stopping && may_stop;
                    });
                }
                Ok(other) => tracing::error!(
                    ?other,
                    "the controller answered a heartbeat with something else"
                ),
                Err(error)
                    if matches!(
                        error.name,
                        ErrorName::StaleBrokerEpoch | ErrorName::BrokerIdNotRegistered
                    ) =>
                {
                    return error;
                }
                Err(error) => tracing::warn!(%error, "heartbeat failed"),
            }
            let pause = match stopping {
                true => pace.retry_min * STOPPING_PAUSES,
                // Nobody else could lead anything; the lease is half a session.
                false if self.is_alone() => (pace.session / 3).max(pace.heartbeat),
                false => pace.heartbeat,
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // The other end lives as long as this broker's part in the quorum.
                Ok(()) = intent.changed() => {}
            }
        }
    }

    fn is_alone(&self) -> bool {
        self.shared.quorum.image().brokers().count() == 1
    }

    /// How large the replicas here are, where that is wanted and has not been told for a while.
    fn sizes(&self, told: &mut Option<Instant>) -> Vec<(TopicId, i32, u64)> {
        let is_due = told.is_none_or(|told| told.elapsed() >= SIZES_EVERY);
        match self.shared.sizes.get() {
            Some(sizes) if is_due && is_moving(&self.shared.quorum.image()) => {
                *told = Some(Instant::now());
                sizes.sizes()
            }
            _ => Vec::new(),
        }
    }

    async fn goodbye(&self, epoch: BrokerEpoch) {
        let command = Command::Goodbye(Goodbye {
            id: self.shared.quorum.node().broker,
            epoch,
        });
        if let Err(error) = self
            .client
            .control_within(command, self.shared.options.pace.goodbye)
            .await
        {
            tracing::warn!(%error, "could not say goodbye; the controller will notice by itself");
        }
    }
}
