//! Shards that load, serve, fail and move.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use weir_groups::request::{JoinRequest, ListRequest, SyncRequest};
use weir_groups::{
    CallId, Effects, Entry, Generation, GroupError, Machine, MonoMs, Now, OFFSETS_TOPIC, Position,
    Replayed, Reply, StoredError, StoredRecord,
};
use weir_wire::{LeaderEpoch, PartitionIndex};

use super::{GROUP, House, PAUSE, TOPIC, join};
use crate::partitions::key_of;
use crate::shards::{Refused, Shards};

/// Far above what anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A machine that says what it is told to, and panics when it is told nothing.
#[derive(Debug, Default)]
struct Fragile(Effects<u32, Infallible>);

impl Machine for Fragile {
    const TOPIC: &'static str = OFFSETS_TOPIC;
    const DUTY: &'static str = "echoes";
    type Config = ();
    type Loader = ();
    type Request = Option<u32>;
    type Response = u32;
    type Action = Infallible;

    fn replay((): &mut (), _: Replayed<'_>) -> Result<(), StoredError> {
        Ok(())
    }

    fn load((): (), (): &(), _: LeaderEpoch, _: Now) -> Self {
        Self::default()
    }

    fn handle(&mut self, call: CallId, request: Option<u32>, _: Now) {
        let response = request.expect("a panic on purpose");
        self.0.replies.push(Reply { call, response });
    }

    fn durable(&mut self, _: Position) {}

    fn tick(&mut self, _: Now) {}

    fn next_deadline(&self) -> MonoMs {
        MonoMs(u64::MAX)
    }

    fn take_effects(&mut self) -> Effects<u32, Infallible> {
        std::mem::take(&mut self.0)
    }

    fn count(&self) -> usize {
        0
    }
}

/// Shards of a machine that wants nothing done, served until they are stopped.
fn serving<M>(house: &House) -> (Shards<M>, CancellationToken, tokio::task::JoinHandle<()>)
where
    M: Machine<Config = (), Action = Infallible>,
{
    let shards = Shards::<M>::new(
        house.metadata.clone(),
        Arc::clone(&house.partitions),
        (),
        crate::host::Host::system(),
        Arc::new(|never, _| match never {}),
        Arc::new(|| None),
    );
    let stop = CancellationToken::new();
    let serving = tokio::spawn(shards.clone().follow(stop.clone()));
    (shards, stop, serving)
}

#[tokio::test]
async fn a_shard_whose_machine_panics_is_loaded_again_and_that_is_counted() {
    let house = House::new().await;
    let (shards, stop, serving) = serving::<Fragile>(&house);
    let echoed = async |number: u32| {
        let asking = async {
            while shards.ask_shard(PartitionIndex(0), Some(number)).await != Ok(number) {
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::time::timeout(PATIENCE, asking).await.unwrap();
    };
    echoed(1).await;
    for panics in 1..=2 {
        let answer = shards.ask_shard(PartitionIndex(0), None).await;
        assert_eq!(answer, Err(Refused::NotHere), "the call is let go");
        echoed(2).await;
        let counted = &house.metrics.coordinator_panics;
        assert_eq!(counted.with_label_values(&["echoes"]).get(), panics);
    }
    stop.cancel();
    serving.await.unwrap();
}

/// A machine that writes so many entries as it is told to, and then needs only so many of them.
#[derive(Debug, Default)]
struct Forgetful {
    effects: Effects<(), Infallible>,
    emitted: u64,
    waiting: Option<(CallId, u64)>,
    forgettable: Option<Position>,
}

impl Machine for Forgetful {
    const TOPIC: &'static str = OFFSETS_TOPIC;
    const DUTY: &'static str = "heaps";
    const LETS_GO: bool = true;
    type Config = ();
    type Loader = ();
    type Request = (u64, u64);
    type Response = ();
    type Action = Infallible;

    fn replay((): &mut (), _: Replayed<'_>) -> Result<(), StoredError> {
        Ok(())
    }

    fn load((): (), (): &(), _: LeaderEpoch, _: Now) -> Self {
        Self::default()
    }

    fn handle(&mut self, call: CallId, (writes, keeps): (u64, u64), _: Now) {
        let record = StoredRecord {
            key: Bytes::from_static(b"key"),
            value: None,
        };
        let entries = (0..writes).map(|_| Entry::Record(record.clone()));
        self.effects.entries.extend(entries);
        self.emitted += writes;
        self.waiting = Some((call, self.emitted - keeps));
    }

    fn durable(&mut self, position: Position) {
        if position.0 == self.emitted
            && let Some((call, gone)) = self.waiting.take()
        {
            self.forgettable = Some(Position(gone));
            let response = ();
            self.effects.replies.push(Reply { call, response });
        }
    }

    fn tick(&mut self, _: Now) {}

    fn next_deadline(&self) -> MonoMs {
        MonoMs(u64::MAX)
    }

    fn take_effects(&mut self) -> Effects<(), Infallible> {
        self.effects.position = Position(self.emitted);
        let next = Effects {
            position: Position(self.emitted),
            ..Effects::default()
        };
        std::mem::replace(&mut self.effects, next)
    }

    fn forgettable(&mut self) -> Option<Position> {
        self.forgettable.take()
    }

    fn count(&self) -> usize {
        0
    }
}

#[tokio::test]
async fn what_a_machine_lets_go_of_leaves_the_log_and_nothing_else_does() {
    let house = House::new().await;
    let (shards, stop, serving) = serving::<Forgetful>(&house);
    let topic = house.image().topic(OFFSETS_TOPIC).cloned().unwrap();
    let partition = house.partitions.get(key_of(&topic, 0)).unwrap();
    let mut written = 0;
    for keeps in [300, 200, 5000, 300] {
        let asking = async {
            while shards
                .ask_shard(PartitionIndex(0), (700, keeps.min(written)))
                .await
                .is_err()
            {
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::time::timeout(PATIENCE, asking).await.unwrap();
        written += 700;
        let needed = i64::try_from(written - keeps.min(written - 700)).unwrap();
        // It knows where one of a thousand is, and asks the log without waiting for it.
        assert!(partition.reader().log_start().0 <= needed);
    }
    let gone = async {
        while partition.reader().log_start().0 < 4 * 700 - 300 - 1000 - 700 {
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
    assert!(partition.reader().log_start().0 <= 4 * 700 - 300);
    assert_eq!(partition.reader().log_end().0, 4 * 700);
    stop.cancel();
    serving.await.unwrap();
}

#[tokio::test]
async fn committed_offsets_survive_a_coordinator_reload() {
    let mut house = House::new().await;
    for offset in 1..=5 {
        house.commit(offset).await.unwrap();
        house.reload().await;
        assert_eq!(house.committed().await, Some(offset));
    }
}

#[tokio::test]
async fn an_append_that_fails_loads_the_shard_anew_and_callers_come_back() {
    let house = House::new().await;
    house.commit(7).await.unwrap();
    house.storage.fill_up_after(0);
    assert_eq!(house.commit(8).await, Err(GroupError::NotCoordinator));
    assert_eq!(
        house.committed().await,
        Some(7),
        "what was not written is not known"
    );
    house.storage.set_capacity(u64::MAX);
    let committing = async {
        while house.commit(9).await.is_err() {
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(PATIENCE, committing).await.unwrap();
    assert_eq!(house.committed().await, Some(9));
}

#[tokio::test]
async fn who_waits_in_a_group_is_let_go_when_its_coordinator_ends() {
    let mut house = House::new().await;
    house.commit(1).await.unwrap();
    house.groups.join(join("")).await.unwrap();
    // The first is to join again, and does not.
    let waiting = house.groups.join(JoinRequest {
        unique: "2".to_owned(),
        ..join("")
    });
    house.reload().await;
    assert_eq!(waiting.await.unwrap_err().error, GroupError::NotCoordinator);
}

#[tokio::test]
async fn a_group_lives_through_a_reload_with_its_members_and_assignments() {
    let mut house = House::new().await;
    house.commit(1).await.unwrap();
    let joined = house.groups.join(join("")).await.unwrap();
    let sync = SyncRequest {
        group: GROUP.into(),
        member: joined.member.clone(),
        instance: None,
        generation: joined.generation,
        protocol_type: None,
        protocol: None,
        assignments: vec![(joined.member.clone(), "all".into())],
    };
    assert_eq!(
        house.groups.sync(sync.clone()).await.unwrap().assignment,
        "all"
    );
    house.reload().await;
    house.committed().await;
    let again = SyncRequest {
        assignments: Vec::new(),
        ..sync
    };
    assert_eq!(house.groups.sync(again).await.unwrap().assignment, "all");
    assert_eq!(joined.generation, Generation(1));
}

#[tokio::test]
async fn a_topic_made_anew_has_no_offsets() {
    let house = House::new().await;
    house.commit(41).await.unwrap();
    house.delete(TOPIC).await;
    house.create(TOPIC, 1).await;
    assert_eq!(house.committed().await, None);
    // The old ones are not only hidden: the group had nothing else, and is gone.
    let gone = async {
        while !house
            .groups
            .list(&ListRequest::default())
            .await
            .is_ok_and(|groups| groups.is_empty())
        {
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
}

#[tokio::test]
async fn the_offsets_topic_is_made_when_someone_asks_for_a_coordinator() {
    let house = House::new().await;
    let topic = house.image().topic(OFFSETS_TOPIC).cloned().unwrap();
    assert_eq!(topic.partitions.len(), 3);
    assert_eq!(house.groups.find("any").await.unwrap().id.0, 0);
}

#[tokio::test]
async fn many_commits_at_once_are_all_answered() {
    let house = House::new().await;
    house.commit(0).await.unwrap();
    let commits = (1..=200).map(|offset| house.commit(offset));
    for outcome in futures::future::join_all(commits).await {
        outcome.unwrap();
    }
    assert!(house.committed().await.is_some());
}

#[tokio::test]
async fn without_a_lease_a_coordinator_proves_that_it_leads_before_it_answers() {
    let mut house = House::new().await;
    house.commit(7).await.unwrap();
    // The ends of all shards' logs together.
    let written = |house: &House| -> i64 {
        let topic = house.image().topic(OFFSETS_TOPIC).unwrap().clone();
        let ends = (0..topic.partitions.len()).map(|index| {
            let key = key_of(&topic, i32::try_from(index).unwrap());
            house.partitions.get(key).unwrap().reader().log_end().0
        });
        ends.sum()
    };
    let before = written(&house);
    assert_eq!(house.committed().await, Some(7));
    assert_eq!(
        written(&house),
        before,
        "with a lease there is nothing to prove"
    );

    house.metadata = house.metadata.clone().without_lease();
    house.reload().await;
    let before = written(&house);
    assert_eq!(house.committed().await, Some(7));
    assert!(written(&house) > before);
    house.commit(8).await.unwrap();
    // What says nothing is passed over when the log is read again.
    house.reload().await;
    assert_eq!(house.committed().await, Some(8));
}
