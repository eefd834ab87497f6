//! A controller in a test: applies what it decides.

use std::time::Duration;

use uuid::Uuid;

use crate::command::{
    Command, Cordon, CreateTopics, Goodbye, Heartbeat, NewTopic, RegisterBroker, Reply, TopicResult,
};
use crate::configs::Settings;
use crate::controller::{self, FEATURE_LEVEL, View, decide};
use crate::error::{ControlError, ErrorName};
use crate::ids::{BrokerEpoch, BrokerId, ClusterId, Incarnation};
use crate::image::Image;
use crate::liveness::{Liveness, Now};
use crate::record::HostPort;

pub(super) const SESSION: Duration = Duration::from_secs(3);

pub(super) struct World {
    pub(super) image: Image,
    pub(super) liveness: Liveness,
    pub(super) settings: Settings,
    pub(super) now: Now,
}

impl World {
    /// A cluster with so many brokers, all alive, whose topics have one replica unless they say otherwise.
    pub(super) fn of(brokers: i32) -> Self {
        let one = ("default.replication.factor".to_owned(), "1".to_owned());
        Self::with(brokers, Settings::new([one].into()).unwrap())
    }

    /// A cluster with so many brokers, all alive, and this configuration file.
    pub(super) fn with(brokers: i32, settings: Settings) -> Self {
        let image = Image::default()
            .apply(1, &controller::formed(ClusterId("c".into()), FEATURE_LEVEL))
            .unwrap();
        let mut world = Self {
            image,
            liveness: Liveness::new(SESSION, Now::default()),
            settings,
            now: Now::default(),
        };
        for id in 0..brokers {
            let epoch = world.register(id, 1).unwrap();
            world.heartbeat(id, epoch).unwrap();
        }
        world
    }

    pub(super) fn view(&self) -> View<'_> {
        View {
            image: &self.image,
            liveness: &self.liveness,
            settings: &self.settings,
            now: self.now,
            entropy: u128::from(self.image.index()) << 64 | 7,
        }
    }

    pub(super) fn ask(&mut self, command: Command) -> Result<Reply, ControlError> {
        let decision = decide(&self.view(), &command)?;
        let index = self.image.index() + 1;
        self.image = self.image.apply(index, &decision.records).unwrap();
        let reply = decision.reply(index);
        match (&command, &reply) {
            (Command::RegisterBroker(request), Reply::Registered { epoch }) => {
                self.liveness.heard(request.id, *epoch, self.now);
            }
            (Command::Heartbeat(request), _) => {
                self.liveness.heard(request.id, request.epoch, self.now);
                self.liveness
                    .knows(request.id, request.epoch, request.feature_level);
                self.liveness.fills(request.id, request.epoch, request.full);
            }
            (Command::Goodbye(request), _) => self.liveness.forget(request.id),
            _ => {}
        }
        Ok(reply)
    }

    pub(super) fn register(&mut self, id: i32, disk: u128) -> Result<BrokerEpoch, ControlError> {
        self.register_in(id, disk, None)
    }

    pub(super) fn register_in(
        &mut self,
        id: i32,
        disk: u128,
        rack: Option<&str>,
    ) -> Result<BrokerEpoch, ControlError> {
        let request = RegisterBroker {
            id: BrokerId(id),
            incarnation: Incarnation(Uuid::from_u128(disk)),
            kafka: HostPort {
                host: format!("host{id}"),
                port: 9092,
            },
            quorum_address: format!("host{id}:9094"),
            rack: rack.map(str::to_owned),
            version: "1".into(),
            feature_level: FEATURE_LEVEL,
        };
        match self.ask(Command::RegisterBroker(request))? {
            Reply::Registered { epoch } => Ok(epoch),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn heartbeat(&mut self, id: i32, epoch: BrokerEpoch) -> Result<Reply, ControlError> {
        self.ask(Command::Heartbeat(Heartbeat {
            id: BrokerId(id),
            epoch,
            ready: true,
            stopping: false,
            full: false,
            feature_level: FEATURE_LEVEL,
            sizes: Vec::new(),
        }))
    }

    pub(super) fn says_full(&mut self, id: i32, full: bool) {
        self.ask(Command::Heartbeat(Heartbeat {
            id: BrokerId(id),
            epoch: self.epoch(id),
            ready: true,
            stopping: false,
            full,
            feature_level: FEATURE_LEVEL,
            sizes: Vec::new(),
        }))
        .unwrap();
    }

    pub(super) fn goodbye(&mut self, id: i32) {
        let epoch = self.epoch(id);
        self.ask(Command::Goodbye(Goodbye {
            id: BrokerId(id),
            epoch,
        }))
        .unwrap();
    }

    pub(super) fn cordon(&mut self, id: i32, cordoned: bool) {
        let id = BrokerId(id);
        self.ask(Command::Cordon(Cordon { id, cordoned })).unwrap();
    }

    pub(super) fn epoch(&self, id: i32) -> BrokerEpoch {
        self.image.broker(BrokerId(id)).unwrap().epoch
    }

    /// Lets time pass, with heartbeats of these brokers alone, and fences whoever fell silent.
    pub(super) fn pass(&mut self, time: Duration, alive: &[i32]) {
        self.now = Now(self.now.0 + time);
        for id in alive {
            self.heartbeat(*id, self.epoch(*id)).unwrap();
        }
        while let Some((_, records)) = controller::expired(&self.view()) {
            self.image = self.image.apply(self.image.index() + 1, &records).unwrap();
        }
    }

    pub(super) fn create(&mut self, topics: Vec<NewTopic>) -> Vec<TopicResult> {
        self.topics(Command::CreateTopics(CreateTopics {
            topics,
            validate_only: false,
        }))
    }

    pub(super) fn create_one(&mut self, name: &str, partitions: i32) -> TopicResult {
        self.create(vec![NewTopic {
            name: name.into(),
            partitions: Some(partitions),
            ..NewTopic::default()
        }])
        .remove(0)
    }

    pub(super) fn topics(&mut self, command: Command) -> Vec<TopicResult> {
        match self.ask(command).unwrap() {
            Reply::Topics(results) => results,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn led_by(&self, id: i32) -> usize {
        self.image.partitions_led_by(BrokerId(id)).count()
    }
}

pub(super) fn error(result: &TopicResult) -> ErrorName {
    result.outcome.as_ref().unwrap_err().name
}
