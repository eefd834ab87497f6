//! Registers this broker with the controller, keeps its session alive, and registers again when that is needed.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use weir_quorum::command::{Goodbye, Heartbeat, RegisterBroker};
use weir_quorum::controller::FEATURE_LEVEL;
use weir_quorum::{BrokerEpoch, Command, ControlError, ErrorName, Reply};

use super::client::ControllerClient;
use super::joining::{self, Joined};
use super::member::Shared;
use super::options::Pauses;

/// Keeps this broker registered until it is told to stop; then says goodbye.
pub(crate) async fn run(
    shared: Arc<Shared>,
    ready: watch::Receiver<bool>,
    stop: CancellationToken,
) {
    let registration = Registration {
        client: ControllerClient(shared.clone()),
        shared,
        ready,
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
    ready: watch::Receiver<bool>,
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
            feature_level: FEATURE_LEVEL,
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
        let mut ready = self.ready.clone();
        loop {
            let is_ready = *ready.borrow_and_update();
            let command = Command::Heartbeat(Heartbeat {
                id: self.shared.quorum.node().broker,
                epoch,
                ready: is_ready,
                stopping: false,
            });
            match self.client.control_within(command, pace.session).await {
                Ok(_) => {}
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
            tokio::select! {
                () = tokio::time::sleep(pace.heartbeat) => {}
                // The other end lives as long as this broker's part in the quorum.
                Ok(()) = ready.changed() => {}
            }
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
