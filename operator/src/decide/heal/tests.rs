#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use super::{Case, HEALING, Heal, Healing, heal};
use crate::decide::cluster::{self, Step, decide};
use crate::objects::Existing;
use crate::testing::{cluster, converged};
use crate::world::{BrokerId, BrokerSeen, Home, Needed, NodeState};

const TWO: BrokerId = BrokerId(2);

fn on(state: NodeState) -> Home {
    Home::On {
        names: vec!["node3".into()],
        state,
    }
}

/// A cluster of three of which broker 2 is away, with its volume there.
fn without_two(home: Home) -> cluster::World {
    let mut world = converged(&cluster());
    away(&mut world, TWO, home);
    world
}

fn away(world: &mut cluster::World, broker: BrokerId, home: Home) {
    world.processes.get_mut(&broker).unwrap().ready = false;
    seen(world, broker).alive = false;
    world.homes.insert(broker, home);
}

fn seen(world: &mut cluster::World, broker: BrokerId) -> &mut BrokerSeen {
    let look = world.look.as_mut().unwrap();
    look.brokers.get_mut(&broker).unwrap()
}

fn healing(broker: u32) -> Healing {
    Healing {
        broker: BrokerId(broker),
        incarnation: format!("disk-{broker}"),
        claim_uid: format!("claim-{broker}"),
    }
}

fn healed(world: &cluster::World, healing: Option<&Healing>, declared: Option<&str>) -> Heal {
    heal(&Case {
        brokers: 3,
        declared,
        healing,
        claims: &world.claims,
        homes: &world.homes,
        processes: &world.processes,
        look: world.look.as_ref(),
    })
}

fn gates(heal: &Heal) -> Vec<&str> {
    heal.blocked.iter().map(|blocked| blocked.gate).collect()
}

/// The actions, in short.
fn actions(heal: &Heal) -> Vec<String> {
    let short = |step: &Step| match step {
        Step::DeleteLostVolume { claim, .. } => claim.clone(),
        Step::ProveLost { broker, .. } => format!("prove {broker}"),
        Step::DeleteLostPod { broker, at_once } => format!("pod {broker} at once: {at_once}"),
        other => format!("{other:?}"),
    };
    heal.steps.iter().map(short).collect()
}

#[test]
fn a_node_that_does_not_answer_is_no_proof_and_what_is_missing_is_said() {
    let world = without_two(on(NodeState::Unreachable));
    let waits = healed(&world, None, None);
    assert_eq!((waits.healing.clone(), actions(&waits)), (None, vec![]));
    assert_eq!(gates(&waits), ["LostProofMissing"]);
    let message = &waits.blocked[0].message;
    for part in [
        "node3",
        "kubectl delete node node3",
        "weir.dev/lost-disk=2@disk-2",
    ] {
        assert!(message.contains(part), "{message}");
    }
    // Of a broker that is starting where its volume is, or could anywhere, nothing is said.
    for home in [on(NodeState::Ready), Home::Anywhere] {
        assert_eq!(healed(&without_two(home), None, None), Heal::default());
    }
    let unread = |missed| Home::Unread {
        why: "forbidden".into(),
        missed,
    };
    let missed = healed(&without_two(unread(true)), None, None);
    assert_eq!(gates(&missed), ["LostProofMissing"]);
    assert!(missed.blocked[0].message.contains("forbidden"));
    // One that is restarted is no more than that, unless a person says so.
    let restarted = without_two(unread(false));
    assert_eq!(healed(&restarted, None, None), Heal::default());
    assert_eq!(
        healed(&restarted, None, Some("2@disk-2")).healing,
        Some(healing(2))
    );
}

#[test]
fn a_node_that_is_gone_is_proof_and_a_volume_goes_only_after_that_was_written_down() {
    let world = without_two(on(NodeState::Gone));
    let marked = healed(&world, None, None);
    assert_eq!(marked.healing, Some(healing(2)));
    assert_eq!(
        (actions(&marked), gates(&marked)),
        (vec![], vec![HEALING]),
        "not in the same pass"
    );
    let acted = healed(&world, marked.healing.as_ref(), None);
    assert_eq!(
        actions(&acted),
        ["prove 2", "data-shop-broker-2", "pod 2 at once: true"]
    );
    assert_eq!(acted.healing, marked.healing);
}

#[test]
fn what_was_written_down_is_forgotten_when_the_node_is_there_after_all() {
    let written = healing(2);
    for home in [on(NodeState::Ready), on(NodeState::Unreachable)] {
        let heal = healed(&without_two(home), Some(&written), None);
        assert_eq!((heal.healing.clone(), actions(&heal)), (None, vec![]));
    }
    let mut world = without_two(on(NodeState::Gone));
    seen(&mut world, TWO).alive = true;
    let heal = healed(&world, Some(&written), None);
    assert_eq!((heal.healing.clone(), actions(&heal)), (None, vec![]));
}

#[test]
fn a_person_names_broker_and_incarnation_and_nothing_else_will_do() {
    let world = without_two(on(NodeState::Unreachable));
    for (word, counts) in [
        ("2@disk-2", true),
        ("1@disk-1, 2@disk-2", true),
        ("2", false),
        ("2@", false),
        ("2@disk-1", false),
        ("disk-2", false),
    ] {
        let heal = healed(&world, None, Some(word));
        assert_eq!(heal.healing.is_some(), counts, "{word}");
        let heal = healed(&world, Some(&healing(2)), Some(word));
        assert_eq!(!heal.steps.is_empty(), counts, "{word}");
    }
    // It is told what the other word names.
    let heal = healed(&world, None, Some("2@older"));
    assert!(heal.blocked[0].message.contains("it names 2@older now"));
    // A disk may die where its node lives: then the pod is stopped in good order.
    let world = without_two(on(NodeState::Ready));
    let heal = healed(&world, Some(&healing(2)), Some("2@disk-2"));
    assert_eq!(
        actions(&heal),
        ["prove 2", "data-shop-broker-2", "pod 2 at once: false"]
    );
}

#[test]
fn a_volume_that_came_after_the_lost_one_is_never_taken_for_it() {
    let mut world = without_two(on(NodeState::Ready));
    let claim = world.claims.get_mut(&TWO).unwrap();
    claim.leaving = true;
    let heal = healed(&world, Some(&healing(2)), Some("2@disk-2"));
    assert_eq!(
        actions(&heal),
        ["pod 2 at once: false"],
        "its pod holds it up"
    );
    let claim = world.claims.get_mut(&TWO).unwrap();
    (claim.leaving, claim.uid) = (false, "newer".into());
    // The person's word still names what is registered.
    let heal = healed(&world, Some(&healing(2)), Some("2@disk-2"));
    assert_eq!(
        (heal.healing.clone(), actions(&heal)),
        (Some(healing(2)), vec![])
    );
    // But the new node may be lost too.
    world.homes.insert(TWO, on(NodeState::Gone));
    let heal = healed(&world, Some(&healing(2)), Some("2@disk-2"));
    let newer = Healing {
        claim_uid: "newer".into(),
        ..healing(2)
    };
    assert_eq!(
        (heal.healing.clone(), actions(&heal)),
        (Some(newer), vec![])
    );
}

#[test]
fn a_broker_counts_as_healed_when_it_has_everything_on_another_disk() {
    let mut world = converged(&cluster());
    let written = healing(2);
    world.claims.get_mut(&TWO).unwrap().uid = "newer".into();
    assert_eq!(
        healed(&world, Some(&written), None).healing,
        Some(written.clone())
    );
    seen(&mut world, TWO).incarnation = "another".into();
    seen(&mut world, TWO).out_of_sync = 4;
    let heal = healed(&world, Some(&written), None);
    assert_eq!(heal.healing, Some(written.clone()));
    assert!(heal.blocked[0].message.contains("4 of its replicas"));
    seen(&mut world, TWO).out_of_sync = 0;
    assert_eq!(healed(&world, Some(&written), None), Heal::default());
}

#[test]
fn what_nobody_else_has_is_given_up_only_by_a_person() {
    let mut world = without_two(on(NodeState::Gone));
    seen(&mut world, TWO).last_copies = Some(Needed {
        partitions: 5,
        named: vec!["orders-1".into()],
    });
    for written in [None, Some(healing(2))] {
        let heal = healed(&world, written.as_ref(), None);
        assert_eq!((heal.healing.clone(), actions(&heal)), (None, vec![]));
        assert_eq!(gates(&heal), ["LostLastCopy"]);
        for part in ["5 partitions", "orders-1 …", "weir.dev/lost-disk=2@disk-2"] {
            assert!(heal.blocked[0].message.contains(part));
        }
    }
    let heal = healed(&world, Some(&healing(2)), Some("2@disk-2"));
    let Some(Step::DeleteLostVolume { why, .. }) = heal.steps.get(1) else {
        unreachable!("{heal:?}")
    };
    assert!(why.contains("the last copy of 5 partitions"), "{why}");
    // Who does not say is taken for one who has.
    seen(&mut world, TWO).last_copies = None;
    assert_eq!(gates(&healed(&world, None, None)), ["LostLastCopy"]);
    // Before it says a word, a person is told what it would cost.
    world.homes.insert(TWO, on(NodeState::Unreachable));
    let message = &healed(&world, None, None).blocked[0].message;
    assert!(message.contains("do not say"), "{message}");
}

#[test]
fn nothing_is_done_while_nobody_says_what_the_others_have() {
    for unseen in [true, false] {
        let mut world = without_two(on(NodeState::Gone));
        if unseen {
            world.look = None;
        } else {
            world.look.as_mut().unwrap().controller = None;
        }
        for written in [None, Some(healing(2))] {
            let heal = healed(&world, written.as_ref(), Some("2@disk-2"));
            assert_eq!((heal.healing.clone(), actions(&heal)), (None, vec![]));
            assert_eq!(gates(&heal), ["LostBrokersNotSeen"]);
        }
    }
}

#[test]
fn one_broker_at_a_time() {
    let one = BrokerId(1);
    let mut world = without_two(on(NodeState::Gone));
    away(&mut world, one, on(NodeState::Gone));
    let heal = healed(&world, None, None);
    assert_eq!(
        (heal.healing.clone(), gates(&heal)),
        (Some(healing(1)), vec![HEALING, "LostOneAtATime"])
    );
    // It is back, and copies.
    world.claims.get_mut(&one).unwrap().uid = "newer".into();
    world.processes.get_mut(&one).unwrap().ready = true;
    world.homes.remove(&one);
    let broker = seen(&mut world, one);
    (broker.alive, broker.incarnation) = (true, "another".into());
    broker.out_of_sync = 1;
    let heal = healed(&world, Some(&healing(1)), None);
    assert_eq!(
        (heal.healing.clone(), gates(&heal)),
        (Some(healing(1)), vec![HEALING, "LostOneAtATime"])
    );
    // What it copies may be on the other disk: whoever says that this one is lost need not wait.
    let heal = healed(&world, Some(&healing(1)), Some("2@disk-2"));
    assert_eq!(
        (heal.healing.clone(), gates(&heal)),
        (Some(healing(2)), vec![HEALING])
    );
    seen(&mut world, one).out_of_sync = 0;
    assert_eq!(
        healed(&world, Some(&healing(1)), None).healing,
        Some(healing(2))
    );
}

#[test]
fn the_set_remembers_before_anything_is_deleted_and_forgets_in_the_end() {
    let cluster = cluster();
    let mut world = without_two(on(NodeState::Gone));
    let apply = |world: &mut cluster::World| {
        let plan = decide(&cluster, world).unwrap().plan;
        let mut deleted = 0;
        for step in plan.steps {
            match step {
                Step::Apply { child, .. } => {
                    let at = (child.resource.kind.clone(), child.name.clone());
                    world.objects.insert(at, child.content);
                }
                Step::ProveLost { .. } => {}
                Step::DeleteLostVolume { .. } | Step::DeleteLostPod { .. } => deleted += 1,
                other => unreachable!("{other:?}"),
            }
        }
        deleted
    };
    let remembers = |world: &cluster::World| {
        let at = ("StatefulSet".to_owned(), "shop-broker".to_owned());
        Existing::of(world.objects.get(&at)).healing
    };
    assert_eq!(apply(&mut world), 0);
    assert_eq!(remembers(&world), Some(healing(2)));
    assert_eq!(apply(&mut world), 2);
    world.claims.get_mut(&TWO).unwrap().uid = "newer".into();
    world.processes.get_mut(&TWO).unwrap().ready = true;
    let broker = seen(&mut world, TWO);
    (broker.alive, broker.incarnation) = (true, "another".into());
    assert_eq!(apply(&mut world), 0);
    assert_eq!(remembers(&world), None);
    assert!(decide(&cluster, &world).unwrap().plan.is_empty());
}
