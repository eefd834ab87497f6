//! Names, lives, and what is made when.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use crate::issue::{self, Pair};
use crate::life::seconds;
use crate::{
    AUTHORITY_LIFE, Due, Held, Identity, LEAF_LIFE, Life, Role, Seen, TlsError, directory, due,
    due_listeners, pems,
};

const MEMBERS: [Role; 3] = [Role::Broker(0), Role::Broker(1), Role::Operator];

fn made(now: SystemTime) -> Held {
    let mut held = Held::default();
    let all = due(&MEMBERS, &Seen::default(), seconds(now));
    held.issue("shop", &all, now).unwrap();
    held
}

fn life(pair: &Pair) -> Life {
    Life::of(&pems::certificate("", &pair.certificate).unwrap()).unwrap()
}

#[test]
fn a_certificate_says_who_its_owner_is() {
    let held = made(SystemTime::now());
    for role in MEMBERS {
        let text = &held.leaves.get(&role).unwrap().certificate;
        let identity = Identity::of(&pems::certificate("", text).unwrap()).unwrap();
        assert_eq!(identity, Identity::new("shop", role).unwrap());
    }
    let authority = &held.authority.as_ref().unwrap().certificate;
    assert!(Identity::of(&pems::certificate("", authority).unwrap()).is_err());
}

#[test]
fn names_are_read_in_one_way_only() {
    for good in [
        "weir://shop/broker/0",
        "weir://shop/broker/17",
        "weir://a.b_c-1/operator",
    ] {
        assert_eq!(good.parse::<Identity>().unwrap().to_string(), good);
    }
    for bad in [
        "",
        "weir://shop",
        "weir:///operator",
        "weir://shop/operator/",
        "weir://shop/broker/",
        "weir://shop/broker/01",
        "weir://shop/broker/+1",
        "weir://shop/broker/-1",
        "weir://shop/broker/1/2",
        "weir://shop/broker/99999999999",
        "weir://sh op/broker/1",
        "weir://shop%2fother/broker/1",
        "WEIR://shop/broker/1",
        "https://shop/broker/1",
    ] {
        assert!(bad.parse::<Identity>().is_err(), "{bad}");
    }
    assert!(Identity::new("", Role::Operator).is_err());
    assert!(Identity::new("shop/other", Role::Operator).is_err());
    assert!(Identity::new("shop", Role::Broker(-1)).is_err());
}

#[test]
fn lives_are_as_long_as_they_are_meant_to_be() {
    // To 2036 and beyond 2050, where certificates write years in another way.
    for now in [1_764_000_000_u64, 2_600_000_000] {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now);
        let held = made(now);
        let leaf = life(held.leaves.get(&Role::Operator).unwrap());
        assert_eq!(leaf.until - seconds(now), LEAF_LIFE.as_secs() as i64);
        assert_eq!(seconds(now) - leaf.from, 3600);
        let authority = life(held.authority.as_ref().unwrap());
        assert_eq!(
            authority.until - seconds(now),
            AUTHORITY_LIFE.as_secs() as i64
        );
    }
}

#[test]
fn what_is_no_certificate_has_no_life() {
    let held = made(SystemTime::now());
    let whole = pems::certificate("", &held.authority.unwrap().certificate).unwrap();
    for cut in 0..whole.len().min(200) {
        // Cut anywhere before its end it is not one, and reading it does no harm.
        let _ = Life::of(&whole[..cut].into());
    }
    assert_eq!(Life::of(&[].as_slice().into()), None);
    assert_eq!(
        Life::of(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff].as_slice().into()),
        None
    );
}

proptest! {
    #[test]
    fn reading_a_life_from_any_bytes_does_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        let _ = Life::of(&bytes.as_slice().into());
    }
}

#[test]
fn nothing_is_due_before_two_thirds_of_a_life_are_over() {
    let now = SystemTime::now();
    let seen = made(now).seen("shop").unwrap();
    let day = |days: i64| seconds(now) + days * 24 * 3600;
    assert_eq!(due(&MEMBERS, &seen, seconds(now)), []);
    assert_eq!(due(&MEMBERS, &seen, day(243)), []);
    assert_eq!(due(&MEMBERS, &seen, day(244)), MEMBERS.map(Due::Leaf));
    let mut later = seen.clone();
    for life in later.leaves.values_mut() {
        life.until = day(100_000);
        life.from = day(0);
    }
    assert_eq!(due(&MEMBERS, &later, day(2432)), []);
    assert_eq!(due(&MEMBERS, &later, day(2434)), [Due::AuthorityRenewal]);
}

#[test]
fn a_member_that_is_new_is_all_that_is_due() {
    let now = SystemTime::now();
    let seen = made(now).seen("shop").unwrap();
    let members = [Role::Broker(0), Role::Broker(1), Role::Broker(2)];
    assert_eq!(
        due(&members, &seen, seconds(now)),
        [Due::Leaf(Role::Broker(2))]
    );
}

#[test]
fn a_renewed_authority_is_trusted_for_what_the_old_one_issued() {
    let now = SystemTime::now();
    let mut held = made(now);
    let old = held.authority.clone().unwrap();
    let later = now + AUTHORITY_LIFE * 2 / 3 + Duration::from_secs(3600);
    held.issue("shop", &[Due::AuthorityRenewal], later).unwrap();
    let new = held.authority.clone().unwrap();
    assert_eq!(old.key, new.key);
    assert!(life(&new).until > life(&old).until);
    assert_eq!(held.seen("shop").unwrap().leaves.len(), MEMBERS.len());
}

#[test]
fn what_another_authority_issued_or_for_another_name_is_due() {
    let now = SystemTime::now();
    let mut held = made(now);
    held.leaves
        .insert(Role::Broker(1), made(now).leaves[&Role::Broker(1)].clone());
    let operator = held.leaves[&Role::Operator].clone();
    held.leaves.insert(Role::Broker(0), operator.clone());
    let seen = held.seen("shop").unwrap();
    assert_eq!(seen.leaves.keys().collect::<Vec<_>>(), [&Role::Operator]);
    assert!(held.seen("other").unwrap().leaves.is_empty());
    // A key that is another's.
    let key = held.authority.as_ref().unwrap().key.clone();
    held.leaves.insert(Role::Operator, Pair { key, ..operator });
    assert!(held.seen("shop").unwrap().leaves.is_empty());
}

#[test]
fn an_authority_that_cannot_be_used_is_left_to_a_person() {
    let mut held = made(SystemTime::now());
    held.authority.as_mut().unwrap().certificate = "nonsense".into();
    assert!(matches!(held.seen("shop"), Err(TlsError::Pem { .. })));
    // One whose name is not as ours are: what we would issue would be trusted by nobody.
    let now = SystemTime::now();
    let other = issue::authority("other", now).unwrap();
    held.authority = Some(other);
    let refused = held.issue("shop", &[Due::Leaf(Role::Broker(0))], now);
    assert!(matches!(refused, Err(TlsError::NotOfAuthority { .. })));
}

#[test]
fn a_directory_is_filled_once_and_renewed_in_time() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("tls");
    let now = SystemTime::now();
    let first = directory::ensure(&dir, "shop", &MEMBERS, now).unwrap();
    assert_eq!(first.len(), 4);
    for key in ["ca.key", "broker-0.key", "operator.key"] {
        let mode = std::fs::metadata(dir.join(key))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o077, 0, "{key} can be read by others");
    }
    let before = directory::files(&dir, Role::Broker(0)).read().unwrap();
    assert_eq!(directory::ensure(&dir, "shop", &MEMBERS, now).unwrap(), []);
    assert_eq!(
        directory::files(&dir, Role::Broker(0)).read().unwrap(),
        before
    );

    let later = now + LEAF_LIFE * 2 / 3 + Duration::from_secs(3600);
    let renewed = directory::ensure(&dir, "shop", &MEMBERS, later).unwrap();
    assert_eq!(renewed, MEMBERS.map(Due::Leaf));
    let after = directory::files(&dir, Role::Broker(0)).read().unwrap();
    assert_eq!(before.authorities, after.authorities);
    assert_ne!(before.certificate, after.certificate);

    // A person took the key away to a safe place.
    std::fs::remove_file(dir.join("ca.key")).unwrap();
    let refused = directory::ensure(&dir, "shop", &MEMBERS, later).unwrap_err();
    assert!(refused.to_string().contains("ca.key"), "{refused}");
}

fn hosts(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn a_listener_s_certificate_is_due_until_it_names_all_that_clients_look_for_and_when_it_grows_old()
{
    let now = SystemTime::now();
    let mut held = made(now);
    let of = |names: &[&str]| BTreeMap::from([("outside".to_owned(), hosts(names))]);
    let names = ["broker-0.example.com", "10.0.0.7", "2001:db8::7"];
    let due = due_listeners(&of(&names), &held, seconds(now));
    let expected = Due::Listener {
        name: "outside".into(),
        hosts: hosts(&names),
    };
    assert_eq!(due, [expected]);
    held.issue("shop", &due, now).unwrap();
    let is_due = |held: &Held, names: &[&str], after: Duration| {
        !due_listeners(&of(names), held, seconds(now + after)).is_empty()
    };
    let none = Duration::ZERO;
    assert!(!is_due(&held, &names, none));
    assert!(
        !is_due(&held, &names[..1], none),
        "that it names more is nothing to mend"
    );
    assert!(is_due(&held, &["10.0.0.8"], none));
    assert!(is_due(&held, &["broker-1.example.com"], none));
    assert!(is_due(&held, &names, LEAF_LIFE / 10 * 9));
    // The authority renewed is the same; another one is another.
    held.issue("shop", &[Due::AuthorityRenewal], now).unwrap();
    assert!(!is_due(&held, &names, none));
    held.issue("shop", &[Due::Authority], now).unwrap();
    assert!(is_due(&held, &names, none));
    // A member's certificate is no listener's.
    let member = held.leaves.get(&Role::Broker(0)).unwrap().clone();
    held.listeners.insert("outside".into(), member);
    assert!(is_due(&held, &[], none));
}

#[test]
fn a_pair_has_a_life_if_its_halves_belong_together() {
    let held = made(SystemTime::now());
    let of = |role| held.leaves.get(&role).unwrap();
    let (one, other) = (of(Role::Broker(0)), of(Role::Broker(1)));
    assert_eq!(one.life().unwrap(), life(one));
    let mixed = Pair {
        certificate: one.certificate.clone(),
        key: other.key.clone(),
    };
    assert!(mixed.life().is_err());
}

proptest! {
    #[test]
    fn what_counts_as_a_host_a_certificate_can_name(host in "[a-zA-Z0-9._:-]{1,20}|[0-9.]{1,15}|[a-z_-]{1,3}(\\.[a-z0-9_-]{1,4}){1,3}") {
        prop_assume!(crate::is_host(&host));
        let now = SystemTime::now();
        let mut held = Held::default();
        held.issue("shop", &[Due::Authority], now).unwrap();
        let hosts = hosts(&[&host]);
        let name = || "outside".to_owned();
        held.issue("shop", &[Due::Listener { name: name(), hosts: hosts.clone() }], now).unwrap();
        prop_assert!(held.seen_listener(&name(), &hosts).is_some(), "{host}");
    }
}

#[test]
fn names_that_no_certificate_can_have_are_no_hosts() {
    for host in [
        "",
        "a.",
        ".a",
        "a..b",
        "-a.b",
        "a-.b",
        "a b",
        "1.2.3",
        "1.2.3.4.5",
        "{id}.b",
    ] {
        assert!(!crate::is_host(host), "{host}");
    }
    for host in ["a", "broker-0.example.com", "10.0.0.1", "::1", "a_b.c"] {
        assert!(crate::is_host(host), "{host}");
    }
}
