//! Share groups (KIP-932): their input and output.
//!
//! Decides nothing about records: that is [`weir_groups::share`]. Owns the share-partitions that this broker leads, which are
//! those of partitions that it leads and that some session asks for, the sessions of members, and the coordinators of
//! share-partitions' states. What always holds:
//!
//! - A share-partition has one leader at a time that writes: a later one begins after the one before has ended here, and
//!   fences those of other brokers by the partition's leader epoch.
//! - Taking acknowledgements does not wait: what waits is the answer, which comes when they are stored.
//! - A fetch with nothing to hand out waits for the high watermark, or for records that are given back; nothing polls.
//!
//! [`Share::fetch`] and [`Share::acknowledge`] are for handlers, [`Share::persister`] for whoever looks at states,
//! [`Share::follow`] for `start`.

mod bury;
mod fetch;
mod leader;
mod levels;
mod measure;
mod offsets;
mod peers;
mod persister;
mod select;
mod serve;
mod sessions;
mod settings;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir_groups::GroupId;
use weir_groups::request::TopicRef;
use weir_groups::share::state::{StateConfig, StateKey, StateRequest};
use weir_quorum::configs::{SharingConfig, group_config};
use weir_quorum::image::Image;
use weir_wire::{PartitionIndex, TopicId};

pub use measure::{Measured, Measures};
pub use offsets::{Altered, Forgotten, Place, Standing};
pub use peers::StatesService;
pub use persister::Persister;
pub use serve::{AckOutcome, AcknowledgeCall, FetchAnswer, FetchCall, Named, PartitionAnswer};
pub use settings::{GroupSettings, ShareSettings, Sharing, StartAt};

use crate::Broker;
use crate::api::{Led, NotLed, Peer, leaders};
use crate::host::Host;
use crate::partitions::Partitions;
use crate::quorum::Metadata;
use crate::shards::Shards;
use leader::Leader;
use peers::Peers;
use sessions::{Sessions, TopicPartition};

/// The share-partitions, sessions and states of this broker. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Share {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    metadata: Metadata,
    persister: Persister,
    host: Host,
    sessions: Mutex<Sessions>,
    leaders: Mutex<BTreeMap<StateKey, Arc<Leader>>>,
    tasks: TaskTracker,
}

impl Share {
    /// No state is served before [`Share::follow`] runs.
    #[must_use]
    pub fn new(
        metadata: Metadata,
        partitions: Arc<Partitions>,
        settings: ShareSettings,
        host: Host,
    ) -> Self {
        let states = Shards::new(
            metadata.clone(),
            partitions,
            StateConfig::default(),
            host.clone(),
            Arc::new(|action, _| match action {}),
            Arc::new({
                let metadata = metadata.clone();
                move || Some(keep_what_there_is(&metadata.image()))
            }),
        );
        let persister = Persister {
            metadata: metadata.clone(),
            states,
            peers: Arc::new(Peers::new(host.dialer.clone())),
        };
        Self {
            shared: Arc::new(Shared {
                metadata,
                persister,
                sessions: Mutex::new(Sessions::new(settings.sessions_max)),
                host,
                leaders: Mutex::new(BTreeMap::new()),
                tasks: TaskTracker::new(),
            }),
        }
    }

    /// The way to the coordinators of states.
    #[must_use]
    pub fn persister(&self) -> &Persister {
        &self.shared.persister
    }

    /// What holds for a group.
    #[must_use]
    pub fn settings_of(&self, group: &GroupId) -> GroupSettings {
        let metadata = &self.shared.metadata;
        let image = metadata.image();
        GroupSettings::of(&group_config(&image, metadata.settings(), group.as_str()))
    }

    /// Runs the coordinators of states, and ends share-partitions that are not led here any more, until `stop`. Ends when all
    /// have ended: first the share-partitions, which store what they know.
    pub async fn follow(self, stop: CancellationToken) {
        let states_stop = CancellationToken::new();
        let states = self.shared.persister.states.clone();
        let serving = tokio::spawn(states.clone().follow(states_stop.clone()));
        let ending = async {
            let mut images = self.shared.metadata.watch();
            loop {
                let image = Arc::clone(&images.borrow_and_update());
                self.end_not_led(&image);
                self.follow_configs(&image);
                tokio::select! {
                    () = stop.cancelled() => break,
                    changed = images.changed() => if changed.is_err() { break },
                }
            }
        };
        let forget =
            |gone: &[TopicRef]| StateRequest::Forget(gone.iter().map(|topic| topic.id).collect());
        tokio::join!(ending, states.tell_of_deleted(&stop, forget));
        self.end_not_led(&Image::default());
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
        states_stop.cancel();
        // A task that panicked has said so itself.
        let _ = serving.await;
    }

    /// Ends the share-partitions of partitions that this broker does not lead in the epoch in which they began.
    fn end_not_led(&self, image: &Image) {
        let me = self.shared.metadata.broker_id();
        let leaders: Vec<_> = self.leaders().values().cloned().collect();
        for leader in leaders {
            let topic = image.topic_by_id(weir_quorum::TopicId(leader.key.topic.0));
            let partition = topic.and_then(|topic| topic.partition(leader.key.partition.0));
            let is_led = partition.is_some_and(|partition| {
                partition.leader == Some(me) && partition.leader_epoch.0 == leader.epoch.0
            });
            if !is_led {
                leader.end();
            }
        }
    }

    /// Has share-partitions do as their groups ask now.
    fn follow_configs(&self, image: &Image) {
        let leaders: Vec<_> = self.leaders().values().cloned().collect();
        for leader in leaders {
            leader.share_as(SharingConfig::of(image, leader.key.group.as_str()));
        }
    }

    /// The share-partition, which begins when there is none.
    fn lead(
        &self,
        broker: &Arc<Broker>,
        led: &Led,
        group: &GroupId,
        partition: TopicPartition,
    ) -> Arc<Leader> {
        let key = state_key(group, partition);
        let sharing = SharingConfig::of(&self.shared.metadata.image(), group.as_str());
        let mut leaders = self.leaders();
        let before = leaders.get(&key).cloned();
        if let Some(leader) = &before {
            if leader.epoch == led.epoch && !leader.is_out_of_order() && leader.is_taken_up() {
                leader.share_as(sharing);
                return Arc::clone(leader);
            }
            // One that nobody used is storing what was out.
            if leader.epoch != led.epoch || leader.is_out_of_order() {
                leader.end();
            }
        }
        let host = self.shared.host.clone();
        let leader = Leader::new(key.clone(), led.epoch, Arc::clone(&led.partition), host);
        let leader = Arc::new(leader);
        leader.share_as(sharing);
        leaders.insert(key, Arc::clone(&leader));
        drop(leaders);
        let broker = Arc::clone(broker);
        let settings = self.settings_of(group);
        let (share, running) = (self.clone(), Arc::clone(&leader));
        self.shared.tasks.spawn(async move {
            let persister = share.shared.persister.clone();
            Arc::clone(&running)
                .run(before, &broker, persister, settings)
                .await;
            let mut leaders = share.leaders();
            let is_last = leaders
                .get(&running.key)
                .is_some_and(|last| Arc::ptr_eq(last, &running));
            if is_last {
                leaders.remove(&running.key);
            }
        });
        leader
    }

    /// The share-partition, if it is there in this epoch.
    fn leader_of(
        &self,
        led: &Led,
        group: &GroupId,
        partition: TopicPartition,
    ) -> Option<Arc<Leader>> {
        let leader = self.leaders().get(&state_key(group, partition)).cloned()?;
        (leader.epoch == led.epoch).then_some(leader)
    }

    /// Lets share-partitions end that no session of the group asks for any more.
    fn leave_unused(&self, group: &GroupId, partitions: &[TopicPartition]) {
        for partition in partitions {
            let is_used = self.sessions().uses(group, *partition);
            if !is_used && let Some(leader) = self.leaders().get(&state_key(group, *partition)) {
                leader.leave_unused();
            }
        }
    }

    /// Notices the end of a connection, from its first session on.
    fn watch(&self, peer: &Arc<Peer>) {
        if peer.has_share_session.swap(true, Ordering::Relaxed) {
            return;
        }
        let (share, closed, id) = (self.clone(), peer.closed.clone(), peer.id);
        tokio::spawn(async move {
            closed.cancelled().await;
            share.connection_lost(id);
        });
    }

    fn led(&self, broker: &Broker, (topic, partition): TopicPartition) -> Result<Led, NotLed> {
        let image = self.shared.metadata.image();
        let topic = leaders::topic(&image, "", topic.0)?;
        leaders::led(broker, topic, partition.0, -1)
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        // Nothing that can panic runs while it is held; the same for the others.
        self.shared
            .sessions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn leaders(&self) -> MutexGuard<'_, BTreeMap<StateKey, Arc<Leader>>> {
        self.shared
            .leaders
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// States of topics that went while nobody coordinated them go too.
fn keep_what_there_is(image: &Image) -> StateRequest {
    StateRequest::KeepOnly(image.topics().map(|topic| TopicId(topic.id.0)).collect())
}

fn state_key(group: &GroupId, (topic, partition): (TopicId, PartitionIndex)) -> StateKey {
    StateKey {
        group: group.clone(),
        topic,
        partition,
    }
}
