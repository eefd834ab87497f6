use std::time::Duration;

use super::world::{SESSION, World};
use crate::command::{
    AllocateProducerIds, Command, ConfigChange, ConfigChanges, ConfigOp, ConfigResource, Reply,
};
use crate::error::ErrorName;
use crate::ids::{BrokerEpoch, BrokerId, LeaderEpoch};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_broker_is_fenced_until_it_is_ready() {
    let mut world = World::of(0);
    let epoch = world.register(0, 1).unwrap();
    assert!(world.image.broker(BrokerId(0)).unwrap().fenced);
    world.heartbeat(0, epoch).unwrap();
    assert_eq!(world.image.live_brokers().count(), 1);
}

#[test]
fn a_registration_is_named_after_its_entry() {
    let mut world = World::of(0);
    let epoch = world.register(0, 1).unwrap();
    assert_eq!(epoch, BrokerEpoch(world.image.index()));
    assert_eq!(world.epoch(0), epoch);
}

#[test]
fn a_silent_broker_is_fenced_and_leads_again_when_it_is_back() {
    let mut world = World::of(3);
    world.create_one("t", 6);
    world.pass(SESSION - SECOND, &[0, 1, 2]);
    world.pass(SESSION, &[0, 1]);
    assert!(world.image.broker(BrokerId(2)).unwrap().fenced);
    assert_eq!((world.led_by(2), world.led_by(0)), (0, 2));
    let of_two: Vec<_> = world.image.partitions_on(BrokerId(2)).collect();
    assert!(of_two.iter().all(|(_, _, p)| p.leader.is_none()
        && p.isr.is_empty()
        && p.elr == [BrokerId(2)]
        && p.leader_epoch == LeaderEpoch(1)));

    let epoch = world.epoch(2);
    world.heartbeat(2, epoch).unwrap();
    assert_eq!(world.led_by(2), 2);
    assert!(
        world
            .image
            .partitions_led_by(BrokerId(2))
            .all(|(_, _, p)| p.leader_epoch == LeaderEpoch(2))
    );
}

#[test]
fn a_fresh_leader_fences_no_one_before_a_whole_session() {
    let mut world = World::of(2);
    // The leader before heard them last; this one has heard no one.
    world.now = crate::liveness::Now(Duration::from_secs(100));
    world.liveness = crate::liveness::Liveness::new(SESSION, world.now);
    world.pass(SESSION - SECOND, &[]);
    assert_eq!(world.image.live_brokers().count(), 2);
    world.pass(SECOND, &[]);
    assert_eq!(world.image.live_brokers().count(), 0);
}

#[test]
fn a_restarted_broker_gets_a_new_registration_and_leads_in_a_new_epoch() {
    let mut world = World::of(1);
    world.create_one("t", 1);
    let old = world.epoch(0);
    let new = world.register(0, 1).unwrap();
    assert!(new > old);
    assert_eq!(world.led_by(0), 0, "fenced until it is ready again");
    assert_eq!(
        world.heartbeat(0, old).unwrap_err().name,
        ErrorName::StaleBrokerEpoch
    );
    world.heartbeat(0, new).unwrap();
    assert_eq!(
        world.image.partition("t", 0).unwrap().leader_epoch,
        LeaderEpoch(2)
    );
}

#[test]
fn another_disk_under_the_id_of_a_live_broker_is_refused() {
    let mut world = World::of(1);
    let error = world.register(0, 2).unwrap_err();
    assert_eq!(error.name, ErrorName::DuplicateBrokerRegistration);
    assert!(error.message.contains("host0:9094"), "{error}");
    // Also one that is still starting.
    let mut world = World::of(0);
    world.register(0, 1).unwrap();
    assert!(world.register(0, 2).is_err());
}

// Traps, losing data, 9.
#[test]
fn a_wiped_disk_under_its_old_id_is_in_sync_with_nothing() {
    let mut world = World::of(2);
    world.create_one("t", 4);
    world.pass(SESSION, &[0]);
    let epoch = world.register(1, 2).unwrap();
    world.heartbeat(1, epoch).unwrap();
    assert_eq!(world.led_by(1), 0);
    let lost: Vec<_> = world.image.partitions_on(BrokerId(1)).collect();
    assert_eq!(lost.len(), 2);
    assert!(
        lost.iter()
            .all(|(_, _, p)| p.isr.is_empty() && p.leader.is_none())
    );
    assert_eq!(world.led_by(0), 2);
}

#[test]
fn a_person_may_accept_the_loss_of_a_wiped_disk() {
    let mut world = World::of(1);
    world.create_one("t", 1);
    world.goodbye(0);
    let epoch = world.register(0, 2).unwrap();
    world.heartbeat(0, epoch).unwrap();
    assert_eq!(world.led_by(0), 0);
    let unclean = ConfigOp {
        key: "unclean.leader.election.enable".into(),
        change: ConfigChange::Set("true".into()),
    };
    let resources = vec![ConfigChanges {
        resource: ConfigResource::Topic("t".into()),
        ops: vec![unclean],
    }];
    let command = Command::AlterConfigs(crate::command::AlterConfigs {
        resources,
        validate_only: false,
    });
    assert_eq!(world.ask(command).unwrap(), Reply::Configs(vec![Ok(())]));
    let partition = world.image.partition("t", 0).unwrap();
    assert_eq!(
        (partition.leader, partition.isr.as_slice()),
        (Some(BrokerId(0)), [BrokerId(0)].as_slice())
    );
}

#[test]
fn a_broker_that_said_goodbye_is_gone_at_once_and_may_be_replaced() {
    let mut world = World::of(2);
    world.create_one("t", 2);
    world.goodbye(1);
    assert!(world.image.broker(BrokerId(1)).unwrap().fenced);
    assert_eq!(world.led_by(1), 0);
    assert!(world.register(1, 2).is_ok());
}

#[test]
fn a_broker_that_knows_less_than_the_cluster_uses_is_refused() {
    let mut world = World::of(0);
    let level = crate::record::Record::FeatureLevel(crate::record::FeatureLevel { level: 9 });
    world.image = world.image.apply(5, &[level]).unwrap();
    let error = world.register(0, 1).unwrap_err();
    assert!(error.message.contains("level 9"), "{error}");
}

#[test]
fn producer_ids_are_given_once() {
    let mut world = World::of(2);
    let mut block = |id| {
        let epoch = world.epoch(id);
        match world
            .ask(Command::AllocateProducerIds(AllocateProducerIds {
                id: BrokerId(id),
                epoch,
            }))
            .unwrap()
        {
            Reply::ProducerIds { first, count } => first..first + i64::from(count),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        [block(0), block(1), block(0)],
        [0..1000, 1000..2000, 2000..3000]
    );
    let stale = Command::AllocateProducerIds(AllocateProducerIds {
        id: BrokerId(0),
        epoch: BrokerEpoch(1),
    });
    assert_eq!(
        world.ask(stale).unwrap_err().name,
        ErrorName::StaleBrokerEpoch
    );
}

#[test]
fn only_a_broker_that_is_gone_and_holds_nothing_is_forgotten() {
    let mut world = World::of(2);
    let unregister = |world: &mut World, id| {
        let asked = world.ask(Command::UnregisterBroker { id: BrokerId(id) });
        asked.err().map(|error| error.name)
    };
    assert_eq!(
        unregister(&mut world, 7),
        Some(ErrorName::BrokerIdNotRegistered)
    );
    assert_eq!(unregister(&mut world, 1), Some(ErrorName::InvalidRequest));
    world.create_one("t", 2);
    world.goodbye(1);
    world.pass(super::world::SESSION * 2, &[0]);
    assert_eq!(
        unregister(&mut world, 1),
        Some(ErrorName::InvalidRequest),
        "it holds a partition"
    );
    let topics = vec![crate::command::TopicRef::Name("t".into())];
    world.topics(Command::DeleteTopics(crate::command::DeleteTopics {
        topics,
    }));
    assert_eq!(unregister(&mut world, 1), None);
    assert!(world.image.broker(BrokerId(1)).is_none());
}
