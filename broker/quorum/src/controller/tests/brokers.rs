use std::time::Duration;

use super::world::{SESSION, World};
use crate::command::{
    AllocateProducerIds, Command, ConfigChange, ConfigChanges, ConfigOp, ConfigResource,
    RegisterBroker, Reply,
};
use crate::error::ErrorName;
use crate::ids::{BrokerEpoch, BrokerId, Incarnation, LeaderEpoch};
use crate::record::HostPort;

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

fn replicated(world: &mut World, name: &str, replicas: i32) {
    let topic = crate::command::NewTopic {
        name: name.into(),
        partitions: Some(3),
        replication_factor: Some(replicas),
        ..crate::command::NewTopic::default()
    };
    world.create(vec![topic])[0].outcome.as_ref().unwrap();
}

fn stopping(world: &mut World, id: i32) -> bool {
    let command = Command::Heartbeat(crate::command::Heartbeat {
        id: BrokerId(id),
        epoch: world.epoch(id),
        ready: true,
        stopping: true,
        full: false,
        feature_level: crate::controller::FEATURE_LEVEL,
        sizes: Vec::new(),
    });
    match world.ask(command).unwrap() {
        Reply::Heartbeat { may_stop, .. } => may_stop,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_broker_that_is_about_to_stop_hands_over_what_others_can_lead_and_may_stop_at_once() {
    let mut world = World::of(3);
    replicated(&mut world, "t", 3);
    assert!(stopping(&mut world, 1), "all are in sync");
    assert_eq!(world.led_by(1), 0);
    assert!(
        world.image.partitions().all(|(_, _, p)| p.isr.len() == 3),
        "it still counts"
    );
}

#[test]
fn a_broker_that_alone_can_lead_waits_for_no_one() {
    let mut world = World::of(3);
    replicated(&mut world, "alone", 1);
    assert!(stopping(&mut world, 1), "nobody else ever can");
    let mut world = World::of(2);
    replicated(&mut world, "t", 2);
    assert!(stopping(&mut world, 0));
    assert!(stopping(&mut world, 1), "the other goes too");
}

#[test]
fn a_broker_waits_for_another_to_catch_up_before_it_stops() {
    let mut world = World::of(2);
    replicated(&mut world, "t", 2);
    world.goodbye(1);
    let epoch = world.register(1, 1).unwrap();
    world.heartbeat(1, epoch).unwrap();
    assert_eq!(world.led_by(0), 3);
    assert!(
        !stopping(&mut world, 0),
        "the other is there, and not in sync yet"
    );
    assert_eq!(world.led_by(0), 3);
}

#[test]
fn a_broker_without_room_hands_over_what_others_can_lead_and_gets_it_back_when_it_has_some() {
    let mut world = World::of(3);
    replicated(&mut world, "t", 3);
    replicated(&mut world, "alone", 1);
    let alone = |world: &World, id| {
        let led = world.image.partitions_led_by(BrokerId(id));
        led.filter(|(topic, ..)| &*topic.name == "alone").count()
    };
    let only_it_has = alone(&world, 1);
    assert!(only_it_has > 0);
    world.says_full(1, true);
    assert_eq!(
        world.led_by(1),
        only_it_has,
        "what nobody else has, it still leads"
    );
    let all_in_sync = |world: &World| {
        let mut of_t = world
            .image
            .partitions()
            .filter(|(topic, ..)| &*topic.name == "t");
        of_t.all(|(_, _, partition)| partition.isr.len() == 3)
    };
    assert!(all_in_sync(&world), "it has everything still");
    assert!(
        crate::controller::balance_leaders(&world.view()).is_empty(),
        "nor is it given back while there is no room"
    );
    assert!(!crate::controller::awaits_leaders(&world.view()));

    world.says_full(2, true);
    assert_eq!(
        (world.led_by(0), world.led_by(1)),
        (3 + alone(&world, 0), only_it_has)
    );
    world.says_full(0, true);
    assert_eq!(
        world.led_by(0),
        3 + alone(&world, 0),
        "nobody has more room"
    );

    world.says_full(1, false);
    let back = crate::controller::balance_leaders(&world.view());
    world.image = world.image.apply(world.image.index() + 1, &back).unwrap();
    assert!(world.led_by(1) > only_it_has);
}

#[test]
fn a_suspicion_alone_fences_no_one_and_a_closed_port_does_in_that_registration_only() {
    let mut world = World::of(3);
    replicated(&mut world, "t", 3);
    let epoch = world.epoch(1);
    let suspect = |epoch| {
        Command::Suspect(crate::command::Suspect {
            reporter: BrokerId(0),
            id: BrokerId(1),
            epoch,
        })
    };
    assert_eq!(world.ask(suspect(epoch)).unwrap(), Reply::Done);
    assert!(!world.image.broker(BrokerId(1)).unwrap().fenced);
    assert_eq!(
        world.ask(suspect(BrokerEpoch(1))).unwrap_err().name,
        ErrorName::StaleBrokerEpoch
    );
    let gone =
        |world: &World, epoch| crate::controller::unreachable(&world.view(), BrokerId(1), epoch);
    assert_eq!(gone(&world, BrokerEpoch(1)), None, "it has come back since");
    let records = gone(&world, epoch).unwrap();
    world.image = world
        .image
        .apply(world.image.index() + 1, &records)
        .unwrap();
    assert!(world.image.broker(BrokerId(1)).unwrap().fenced);
    assert_eq!(world.led_by(1), 0);
    assert_eq!(gone(&world, epoch), None);
}

#[test]
fn a_reported_loss_takes_a_replica_out_of_what_may_be_elected_unless_it_is_the_only_one() {
    let mut world = World::of(3);
    replicated(&mut world, "t", 3);
    replicated(&mut world, "alone", 1);
    for id in 0..3 {
        world.goodbye(id);
    }
    let epoch = world.register(2, 1).unwrap();
    let partitions = world.image.partitions_on(BrokerId(2));
    let partitions = partitions
        .map(|(topic, index, _)| (topic.id, index))
        .collect();
    let report = Command::ReportLost(crate::command::ReportLost {
        id: BrokerId(2),
        epoch,
        partitions,
        ends: Vec::new(),
    });
    world.ask(report).unwrap();
    world.heartbeat(2, epoch).unwrap();
    let led: Vec<_> = world
        .image
        .partitions_led_by(BrokerId(2))
        .map(|(topic, ..)| topic.name.to_string())
        .collect();
    assert_eq!(led, ["alone"]);
    assert!((0..3).all(|index| {
        world
            .image
            .partition("t", index)
            .unwrap()
            .last_known
            .contains(&BrokerId(2))
    }));
}

#[test]
fn after_a_power_cut_of_all_a_topic_that_does_not_sync_is_led_by_whoever_has_the_most_left() {
    let mut world = World::of(3);
    let topic = |name: &str, durability: &str| crate::command::NewTopic {
        name: name.into(),
        partitions: Some(1),
        replication_factor: Some(3),
        config: [("durability".to_owned(), durability.to_owned())].into(),
        ..crate::command::NewTopic::default()
    };
    world.create(vec![topic("os", "os"), topic("synced", "fsync")]);
    for id in 0..3 {
        world.goodbye(id);
    }
    let mut ends = crate::controller::Ends::new();
    for id in 0..3 {
        let epoch = world.register(id, 1).unwrap();
        let held: Vec<_> = world
            .image
            .partitions_on(BrokerId(id))
            .map(|(topic, index, _)| (topic.id, index))
            .collect();
        for (topic, index) in &held {
            ends.insert(
                (*topic, *index, BrokerId(id)),
                (LeaderEpoch(0), i64::from(100 + id)),
            );
        }
        let report = Command::ReportLost(crate::command::ReportLost {
            id: BrokerId(id),
            epoch,
            partitions: held.into_iter().collect(),
            ends: Vec::new(),
        });
        world.ask(report).unwrap();
        let recovered = |world: &World| crate::controller::recover(&world.view(), &ends);
        world.heartbeat(id, epoch).unwrap();
        let records = recovered(&world);
        assert_eq!(
            !records.is_empty(),
            id == 2,
            "not before all are back who may have the most"
        );
        world.image = world
            .image
            .apply(world.image.index() + 1, &records)
            .unwrap();
    }
    let partition = world.image.partition("os", 0).unwrap();
    assert_eq!(
        (partition.leader, partition.isr.len()),
        (Some(BrokerId(2)), 1)
    );
    assert_eq!(
        world.image.partition("synced", 0).unwrap().leader,
        None,
        "that takes a person"
    );
}

#[test]
fn the_feature_level_is_raised_when_every_broker_knows_it() {
    let mut world = World::of(2);
    let record = crate::record::FeatureLevel { level: 1 };
    let record = crate::record::Record::FeatureLevel(record);
    world.image = world
        .image
        .apply(world.image.index() + 1, &[record])
        .unwrap();
    let raise = |world: &mut World, level| {
        let asked = world.ask(Command::RaiseFeatureLevel { level });
        asked
            .map(|_| world.image.feature_level())
            .map_err(|error| error.message)
    };
    let older = world.register(2, 1).unwrap();
    let refused = raise(&mut world, 2).unwrap_err();
    assert!(
        refused.contains("broker 2 has not been heard from"),
        "{refused}"
    );
    world.liveness.knows(BrokerId(2), older, 1);
    let refused = raise(&mut world, 2).unwrap_err();
    assert!(
        refused.contains("broker 2") && refused.contains("level 1"),
        "{refused}"
    );
    world.liveness.knows(BrokerId(2), older, 2);
    assert_eq!(raise(&mut world, 2), Ok(2));
    assert_eq!(raise(&mut world, 1), Ok(2), "there is no way back");
    assert!(raise(&mut world, 9).is_err());
}

#[test]
fn a_broker_that_knows_less_than_the_cluster_uses_is_not_let_in() {
    let mut world = World::of(1);
    let request = |level| RegisterBroker {
        id: BrokerId(5),
        incarnation: Incarnation(uuid::Uuid::from_u128(55)),
        kafka: HostPort {
            host: "h".into(),
            port: 9092,
        },
        quorum_address: "h:9094".into(),
        rack: None,
        version: "0".into(),
        feature_level: level,
    };
    let old = request(world.image.feature_level() - 1);
    assert!(crate::controller::too_old(&world.image, &old));
    let refused = world.ask(Command::RegisterBroker(old)).unwrap_err();
    assert!(refused.message.contains("run a newer version"), "{refused}");
    world.liveness.refuse(BrokerId(5), 1);
    let levels = |world: &mut World| match world.ask(Command::DescribeLevels) {
        Ok(Reply::Levels(levels)) => levels.refused,
        other => panic!("{other:?}"),
    };
    assert_eq!(levels(&mut world), [(BrokerId(5), 1)]);
    // A newer one takes its place.
    let newer = request(world.image.feature_level());
    let registered = world.ask(Command::RegisterBroker(newer));
    let Ok(Reply::Registered { epoch }) = registered else {
        panic!("{registered:?}")
    };
    world.heartbeat(5, epoch).unwrap();
    assert_eq!(levels(&mut world), []);
}

#[test]
fn listeners_are_kept_until_their_broker_is_forgotten() {
    let mut world = World::of(2);
    let listener = crate::listeners::Listener {
        tls: false,
        name: "lb".into(),
        port: 9100,
        advertised: Some(HostPort {
            host: "lb.example.com".into(),
            port: 9092,
        }),
    };
    let set = |world: &mut World, listeners: Vec<crate::listeners::Listener>| {
        let id = BrokerId(1);
        let before = world.image.revision();
        world
            .ask(Command::SetListeners { id, listeners })
            .map(|_| world.image.revision() != before)
    };
    assert_eq!(set(&mut world, vec![listener.clone()]), Ok(true));
    assert_eq!(
        set(&mut world, vec![listener.clone()]),
        Ok(false),
        "no news"
    );
    let broker = world.image.broker(BrokerId(1)).unwrap().clone();
    assert_eq!(world.image.address(&broker, "lb"), listener.advertised);
    assert_eq!(world.image.address(&broker, "other"), None);
    assert_eq!(
        world.image.address(&broker, "kafka"),
        Some(broker.kafka.clone())
    );
    // A new registration has the same listeners.
    let epoch = world.register(1, 1).unwrap();
    world.heartbeat(1, epoch).unwrap();
    assert_eq!(world.image.listeners(BrokerId(1)), [listener]);
    assert_eq!(set(&mut world, Vec::new()), Ok(true));
    assert_eq!(world.image.listeners(BrokerId(1)), []);
}
