use std::time::Duration;

use super::world::World;
use crate::command::{AlterInSync, ChangeReplicas, Command, InSyncChange, NewTopic, Reply};
use crate::controller::{Sizes, moves};
use crate::error::ErrorName;
use crate::ids::BrokerId;
use crate::record::{FeatureLevel, Record};

fn topic(name: &str, partitions: i32, replicas: i32) -> NewTopic {
    NewTopic {
        name: name.into(),
        partitions: Some(partitions),
        replication_factor: Some(replicas),
        ..NewTopic::default()
    }
}

impl World {
    /// The controller's loop: begins what may be begun. Says whether there was anything.
    fn begin_moves(&mut self) -> bool {
        let records = moves(&self.view(), &Sizes::new());
        self.image = self.image.apply(self.image.index() + 1, &records).unwrap();
        !records.is_empty()
    }

    /// Leaders bring everyone up to date.
    fn catch_up(&mut self) {
        let states: Vec<_> = self
            .image
            .partitions()
            .filter(|(_, _, p)| p.isr.len() < p.replicas.len())
            .map(|(topic, index, p)| (topic.id, index, (**p).clone()))
            .collect();
        for (topic, index, partition) in states {
            let leader = partition.leader.unwrap();
            let change = InSyncChange {
                topic,
                index,
                leader_epoch: partition.leader_epoch,
                partition_epoch: partition.epoch,
                isr: partition
                    .replicas
                    .iter()
                    .map(|id| (*id, self.epoch(id.0)))
                    .collect(),
            };
            let alter = Command::AlterInSync(AlterInSync {
                id: leader,
                epoch: self.epoch(leader.0),
                partitions: vec![change],
            });
            match self.ask(alter).unwrap() {
                Reply::Partitions(results) => assert_eq!(results, [Ok(())]),
                other => panic!("{other:?}"),
            }
        }
    }

    fn most_at_once(&self) -> usize {
        let coming = |id: BrokerId| {
            self.image
                .partitions()
                .filter(|(_, _, p)| p.adding.contains(&id))
                .count()
        };
        self.image
            .brokers()
            .map(|broker| coming(broker.id))
            .max()
            .unwrap()
    }

    /// Until nothing is left to do. Gives how many moves to one broker there were at once at most.
    fn move_all(&mut self) -> usize {
        let mut most = 0;
        for _ in 0..1000 {
            let has_begun = self.begin_moves();
            most = most.max(self.most_at_once());
            let is_moving = self.image.partitions().any(|(_, _, p)| p.is_reassigning());
            if !has_begun && !is_moving {
                return most;
            }
            self.catch_up();
        }
        panic!("moves go on for ever: {:?}", self.image);
    }

    fn held_by(&self, id: i32) -> usize {
        self.image.partitions_on(BrokerId(id)).count()
    }
}

#[test]
fn a_broker_is_emptied_some_partitions_at_a_time_and_gets_nothing_new() {
    let mut world = World::of(4);
    world.create(vec![topic("t", 40, 3)]);
    world.ask(Command::Drain { id: BrokerId(1) }).unwrap();
    assert!(world.image.broker(BrokerId(1)).unwrap().cordoned);
    let most = world.move_all();
    assert!((1..=5).contains(&most), "{most} at once");
    assert_eq!((world.held_by(1), world.led_by(1)), (0, 0));
    assert!(
        world
            .image
            .partitions()
            .all(|(_, _, p)| p.replicas.len() == 3 && p.isr.len() == 3)
    );
    world.create(vec![topic("u", 4, 3)]);
    assert_eq!(world.held_by(1), 0);
    assert!(
        world.image.broker(BrokerId(1)).unwrap().draining,
        "until somebody says otherwise"
    );
}

#[test]
fn a_drain_that_is_asked_for_again_is_agreed_on_again() {
    let mut world = World::of(3);
    world.ask(Command::Drain { id: BrokerId(1) }).unwrap();
    let before = world.image.revision();
    world.ask(Command::Drain { id: BrokerId(1) }).unwrap();
    assert!(world.image.revision() > before);
}

#[test]
fn a_drain_survives_a_new_registration_and_a_snapshot() {
    let mut world = World::of(4);
    world.create(vec![topic("t", 8, 2)]);
    world.ask(Command::Drain { id: BrokerId(1) }).unwrap();
    world.begin_moves();
    let epoch = world.register(1, 1).unwrap();
    world.heartbeat(1, epoch).unwrap();
    let snapshot = world.image.snapshot();
    let (index, revision) = (world.image.index(), world.image.revision());
    world.image = crate::image::Image::from_snapshot(index, revision, &snapshot).unwrap();
    world.move_all();
    assert_eq!(world.held_by(1), 0);
}

#[test]
fn an_uncordoned_broker_keeps_what_it_still_has() {
    let mut world = World::of(3);
    world.create(vec![topic("t", 12, 1)]);
    world.ask(Command::Drain { id: BrokerId(1) }).unwrap();
    assert!(world.begin_moves());
    let before = world.held_by(1);
    world.cordon(1, false);
    let broker = world.image.broker(BrokerId(1)).unwrap();
    assert!(!broker.cordoned && !broker.draining);
    assert!(
        world
            .image
            .partitions()
            .all(|(_, _, p)| !p.is_reassigning())
    );
    assert!(!world.begin_moves());
    assert_eq!(world.held_by(1), before);
}

#[test]
fn what_has_nowhere_to_go_stays_and_the_rest_goes() {
    let mut world = World::of(3);
    world.create(vec![topic("three", 2, 3), topic("two", 4, 2)]);
    world.ask(Command::Drain { id: BrokerId(2) }).unwrap();
    world.move_all();
    let held: Vec<_> = world
        .image
        .partitions_on(BrokerId(2))
        .map(|(topic, ..)| topic.name.to_string())
        .collect();
    assert_eq!(held, ["three", "three"]);
}

#[test]
fn a_new_broker_takes_its_share_when_that_is_asked_for() {
    let mut world = World::of(3);
    world.create(vec![topic("t", 12, 3)]);
    let epoch = world.register(3, 1).unwrap();
    world.heartbeat(3, epoch).unwrap();
    assert!(!world.begin_moves(), "not unasked");
    world.ask(Command::Rebalance { active: true }).unwrap();
    world.move_all();
    assert!(!world.image.is_rebalancing(), "it is done");
    assert_eq!(
        (0..4).map(|id| world.held_by(id)).collect::<Vec<_>>(),
        [9; 4]
    );
}

#[test]
fn a_new_broker_that_is_away_for_a_moment_takes_its_share_when_it_is_back() {
    let mut world = World::of(3);
    world.create(vec![topic("t", 12, 3)]);
    let epoch = world.register(3, 1).unwrap();
    world.heartbeat(3, epoch).unwrap();
    world.ask(Command::Rebalance { active: true }).unwrap();
    world.goodbye(3);
    world.move_all();
    assert!(world.image.is_rebalancing(), "it is waited for");
    let epoch = world.register(3, 1).unwrap();
    world.heartbeat(3, epoch).unwrap();
    world.move_all();
    assert!(!world.image.is_rebalancing(), "it is done");
    assert_eq!(world.held_by(3), 9);

    // One that is to have nothing is not waited for.
    world.goodbye(3);
    world.cordon(3, true);
    world.ask(Command::Rebalance { active: true }).unwrap();
    world.begin_moves();
    assert!(!world.image.is_rebalancing());
}

#[test]
fn a_broker_that_does_not_come_back_is_waited_for_for_ten_minutes() {
    let mut world = World::of(3);
    world.create(vec![topic("t", 12, 3)]);
    let minutes = |count: u64| Duration::from_secs(60 * count);
    world.now.0 += minutes(60);
    for id in 0..3 {
        world.heartbeat(id, world.epoch(id)).unwrap();
    }
    // It is there and reads what it has, and is not ready yet.
    let epoch = world.register(3, 1).unwrap();
    world.ask(Command::Rebalance { active: true }).unwrap();
    world.now.0 += minutes(20);
    world.liveness.heard(BrokerId(3), epoch, world.now);
    world.move_all();
    assert!(world.image.is_rebalancing(), "it is there");

    world.goodbye(3);
    world.now.0 += minutes(10) - Duration::from_secs(1);
    assert!(!world.begin_moves());
    assert!(world.image.is_rebalancing(), "it is waited for");
    world.now.0 += Duration::from_secs(1);
    assert!(world.begin_moves());
    assert!(!world.image.is_rebalancing(), "not any more");

    let epoch = world.register(3, 1).unwrap();
    world.heartbeat(3, epoch).unwrap();
    assert!(!world.begin_moves(), "not unasked");
    assert_eq!(world.held_by(3), 0);
}

#[test]
fn a_topic_gets_more_replicas_and_fewer_and_nobody_is_asked_for_more_than_there_are() {
    let mut world = World::of(3);
    world.create(vec![topic("t", 10, 1)]);
    let change = |world: &mut World, replicas| {
        let command = Command::ChangeReplicas(ChangeReplicas {
            topics: vec![("t".into(), replicas), ("none".into(), 1)],
            validate_only: false,
        });
        let results = world.topics(command);
        assert_eq!(
            results[1].outcome.as_ref().unwrap_err().name,
            ErrorName::UnknownTopicOrPartition
        );
        results[0]
            .outcome
            .clone()
            .map(|_| ())
            .map_err(|error| error.name)
    };
    assert_eq!(
        change(&mut world, 4),
        Err(ErrorName::InvalidReplicationFactor)
    );
    assert_eq!(
        change(&mut world, 0),
        Err(ErrorName::InvalidReplicationFactor)
    );
    for replicas in [3, 2, 1] {
        change(&mut world, replicas).unwrap();
        world.move_all();
        let topic = world.image.topic("t").unwrap();
        assert_eq!(topic.replicas_wanted, None, "it is done");
        let count = replicas as usize;
        assert!(
            topic
                .partitions
                .iter()
                .all(|p| p.replicas.len() == count && p.isr.len() == count)
        );
    }
}

#[test]
fn a_cluster_that_older_versions_may_be_part_of_does_not_move_by_itself() {
    let mut world = World::of(2);
    world.image = world
        .image
        .apply(
            world.image.index() + 1,
            &[Record::FeatureLevel(FeatureLevel { level: 1 })],
        )
        .unwrap();
    for command in [
        Command::Drain { id: BrokerId(1) },
        Command::Rebalance { active: true },
    ] {
        assert_eq!(
            world.ask(command).unwrap_err().name,
            ErrorName::UnsupportedVersion
        );
    }
}
