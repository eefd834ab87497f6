//! The group coordinator as a [`Machine`].

use std::convert::Infallible;
use std::sync::Arc;

use weir_wire::LeaderEpoch;

use crate::cluster::Cluster;
use crate::config::Config;
use crate::coordinator::Coordinator;
use crate::loader::Loader;
use crate::machine::{Machine, Replayed};
use crate::outbox::Effects;
use crate::placement::OFFSETS_TOPIC;
use crate::request::{Request, Response};
use crate::stored::StoredError;
use crate::types::{CallId, MonoMs, Now, Position};

/// A request, and the cluster as it was when it was made.
#[derive(Debug)]
pub struct Asked {
    /// The request.
    pub request: Request,
    /// The newest image of the metadata.
    pub cluster: Arc<dyn Cluster>,
}

impl Machine for Coordinator {
    const TOPIC: &'static str = OFFSETS_TOPIC;
    const DUTY: &'static str = "groups";
    type Config = Config;
    type Loader = Loader;
    type Request = Asked;
    type Response = Response;
    type Action = Infallible;

    fn replay(loader: &mut Loader, entry: Replayed<'_>) -> Result<(), StoredError> {
        match entry {
            Replayed::Record {
                key,
                value,
                pending: None,
            } => loader.replay(key, value),
            Replayed::Record {
                key,
                value,
                pending: Some(producer),
            } => loader.replay_pending(key, value, producer),
            Replayed::Marker(marker) => {
                loader.replay_marker(&marker);
                Ok(())
            }
        }
    }

    fn load(loader: Loader, config: &Config, _epoch: LeaderEpoch, now: Now) -> Self {
        loader.finish(config.clone(), now)
    }

    fn handle(&mut self, call: CallId, asked: Asked, now: Now) {
        self.set_cluster(asked.cluster, now);
        Self::handle(self, call, asked.request, now);
    }

    fn durable(&mut self, position: Position) {
        Self::durable(self, position);
    }

    fn tick(&mut self, now: Now) {
        Self::tick(self, now);
    }

    fn next_deadline(&self) -> MonoMs {
        Self::next_deadline(self)
    }

    fn take_effects(&mut self) -> Effects {
        Self::take_effects(self)
    }

    fn count(&self) -> usize {
        self.group_count()
    }
}
