use super::world::World;
use crate::command::{AlterQuotas, Command, QuotaChanges, Reply};
use crate::error::ErrorName;
use crate::image::Image;
use crate::quotas::{ENTITIES_MAX, QuotaEntity, Rate};

fn entity(pairs: &[(&str, Option<&str>)]) -> Result<QuotaEntity, ErrorName> {
    QuotaEntity::of(pairs.iter().copied()).map_err(|error| error.name)
}

fn alter(
    world: &mut World,
    entity: QuotaEntity,
    key: &str,
    value: Option<f64>,
) -> Option<ErrorName> {
    let changes = QuotaChanges {
        entity,
        ops: vec![(key.to_owned(), value.map(Rate))],
    };
    let command = Command::AlterQuotas(AlterQuotas {
        entries: vec![changes],
        validate_only: false,
    });
    match world.ask(command).unwrap() {
        Reply::Quotas(results) => results[0].as_ref().err().map(|error| error.name),
        other => panic!("{other:?}"),
    }
}

#[test]
fn quotas_are_set_and_unset_and_survive_a_snapshot() {
    let mut world = World::of(1);
    let user = entity(&[("user", Some("u"))]).unwrap();
    let all = entity(&[("user", None), ("client-id", Some("c"))]).unwrap();
    for (entity, key, value) in [
        (&user, "producer_byte_rate", 1000.0),
        (&all, "request_percentage", 12.5),
    ] {
        assert_eq!(
            alter(&mut world, entity.clone(), key, Some(value)),
            None,
            "{key}"
        );
    }
    let restored = Image::from_snapshot(
        world.image.index(),
        world.image.revision(),
        &crate::record::decode(&crate::record::encode(1, &world.image.snapshot()))
            .unwrap()
            .records,
    );
    assert_eq!(restored.as_ref(), Ok(&world.image));
    assert_eq!(world.image.client_quotas().len(), 2);
    assert_eq!(
        alter(&mut world, user.clone(), "producer_byte_rate", None),
        None
    );
    assert!(!world.image.client_quotas().contains_key(&user));
}

#[test]
fn what_is_no_entity_and_what_it_does_not_take_is_refused() {
    for pairs in [
        &[][..],
        &[("foo", Some("x"))],
        &[("user", Some(""))],
        &[("ip", Some("nohost.invalid"))],
        &[("ip", Some("1.2.3.4")), ("user", Some("u"))],
    ] {
        assert_eq!(entity(pairs), Err(ErrorName::InvalidRequest), "{pairs:?}");
    }
    let mut world = World::of(1);
    for (pair, key, value) in [
        (("user", Some("u")), "foo", 1.0),
        (("user", Some("u")), "connection_creation_rate", 1.0),
        (("ip", Some("::1")), "producer_byte_rate", 1.0),
        (("client-id", None), "request_percentage", 0.0),
        (("client-id", None), "request_percentage", f64::NAN),
        (("client-id", None), "consumer_byte_rate", 1000.5),
        (("client-id", None), "consumer_byte_rate", f64::INFINITY),
    ] {
        assert_eq!(
            alter(&mut world, entity(&[pair]).unwrap(), key, Some(value)),
            Some(ErrorName::InvalidRequest),
            "{pair:?} {key} {value}"
        );
    }
}

#[test]
fn how_many_entities_have_quotas_is_bounded() {
    let mut world = World::of(1);
    let entries = (0..=ENTITIES_MAX).map(|n| QuotaChanges {
        entity: entity(&[("user", Some(&n.to_string()))]).unwrap(),
        ops: vec![("producer_byte_rate".to_owned(), Some(Rate(1.0)))],
    });
    let command = Command::AlterQuotas(AlterQuotas {
        entries: entries.collect(),
        validate_only: false,
    });
    let Reply::Quotas(results) = world.ask(command).unwrap() else {
        panic!("of quotas")
    };
    assert_eq!(results.iter().filter(|result| result.is_err()).count(), 1);
    assert_eq!(world.image.client_quotas().len(), ENTITIES_MAX);
}
