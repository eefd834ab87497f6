//! A controller in this process, without a quorum and without a disk: for tests of everything that asks for metadata.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use weir_quorum::command::{Heartbeat, RegisterBroker};
use weir_quorum::configs::Settings;
use weir_quorum::controller::{FEATURE_LEVEL, View, decide, formed};
use weir_quorum::liveness::{Liveness, Now};
use weir_quorum::record::HostPort;
use weir_quorum::{
    BrokerId, ClusterId, Command, ControlError, ErrorName, Image, Incarnation, Reply,
};

use super::absences::Absences;
use super::lease::Lease;
use super::suspicion::Suspicions;
use super::{Controller, Metadata, State};

/// Decides on an image of its own and applies at once.
#[derive(Debug)]
struct Solitary {
    image: watch::Sender<Arc<Image>>,
    settings: Arc<Settings>,
    liveness: Liveness,
    commands: Mutex<u64>,
    // Kept so that the facade's receiver stays open.
    _state: watch::Sender<State>,
}

impl Metadata {
    /// The metadata of a cluster of this one broker, registered and alive, kept in memory: commands are decided as the
    /// controller decides them and applied at once.
    pub async fn solitary(
        me: BrokerId,
        kafka: HostPort,
        settings: Settings,
    ) -> Result<Self, ControlError> {
        let cluster_id = ClusterId("solitary".to_owned());
        let settings = Arc::new(settings);
        let image = Image::default()
            .apply(1, &formed(cluster_id.clone(), FEATURE_LEVEL))
            .map_err(|error| ControlError::new(ErrorName::UnknownServerError, error.to_string()))?;
        let (image, image_seen) = watch::channel(Arc::new(image));
        let state = State {
            cluster_id: Some(cluster_id),
            leader: Some(me),
            term: 1,
            voters: vec![me],
            registration: None,
        };
        let (state, state_seen) = watch::channel(state);
        let incarnation = Incarnation(uuid::Uuid::from_u128(1));
        let register = Command::RegisterBroker(RegisterBroker {
            id: me,
            incarnation,
            kafka,
            quorum_address: "localhost:0".to_owned(),
            rack: None,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            feature_level: FEATURE_LEVEL,
        });
        let controller = Solitary {
            image,
            settings: settings.clone(),
            liveness: Liveness::new(Duration::MAX / 2, Now::default()),
            commands: Mutex::new(0),
            _state: state.clone(),
        };
        if let Reply::Registered { epoch } = controller.control(register).await? {
            state.send_modify(|state| state.registration = Some(epoch));
            controller
                .control(Command::Heartbeat(Heartbeat {
                    id: me,
                    epoch,
                    ready: true,
                    stopping: false,
                    full: false,
                    feature_level: FEATURE_LEVEL,
                    sizes: Vec::new(),
                }))
                .await?;
        }
        Ok(Self {
            image: image_seen,
            state: state_seen,
            me,
            incarnation,
            settings,
            controller: Arc::new(controller),
            // Nobody is there to be suspected.
            suspicions: Suspicions::new().0,
            lease: Lease::endless(),
            absences: Absences::default(),
        })
    }
}

#[cfg(test)]
impl Metadata {
    /// The same, for a broker that has not heard from the controller for long.
    pub(crate) fn without_lease(mut self) -> Self {
        self.lease = Lease::new(Duration::ZERO);
        self
    }
}

#[async_trait]
impl Controller for Solitary {
    async fn control(&self, command: Command) -> Result<Reply, ControlError> {
        let mut commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        *commands += 1;
        let image = self.image.borrow().clone();
        let view = View {
            image: &image,
            liveness: &self.liveness,
            settings: &self.settings,
            now: Now::default(),
            entropy: u128::from(*commands),
        };
        let decision = decide(&view, &command)?;
        let index = image.index() + 1;
        let next = image
            .apply(index, &decision.records)
            .map_err(|error| ControlError::new(ErrorName::UnknownServerError, error.to_string()))?;
        self.image.send_replace(Arc::new(next));
        Ok(decision.reply(index))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use weir_quorum::command::{CreateTopics, NewTopic};

    use super::*;

    #[tokio::test]
    async fn a_solitary_broker_is_alive_and_creates_topics() {
        let kafka = HostPort {
            host: "localhost".into(),
            port: 9092,
        };
        let metadata = Metadata::solitary(BrokerId(0), kafka, Settings::default())
            .await
            .unwrap();
        assert!(metadata.is_active());
        assert_eq!(metadata.controller_id(), Some(BrokerId(0)));
        let topic = NewTopic {
            name: "t".into(),
            partitions: Some(3),
            ..NewTopic::default()
        };
        let create = Command::CreateTopics(CreateTopics {
            topics: vec![topic],
            validate_only: false,
        });
        metadata.control(create).await.unwrap();
        assert_eq!(metadata.image().partitions_led_by(BrokerId(0)).count(), 3);
    }
}
