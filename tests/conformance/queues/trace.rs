//! Brokers tell where a message was: appended, replicated, delivered, and settled, by whom.

use std::panic::resume_unwind;
use std::thread;

use weir_proto::admin::v1::trace_request::Of;
use weir_proto::admin::v1::{TraceEvent, TracePlace};
use weir_tests::puppet::{Kind, New, Record};
use weir_tests::wait;

use super::clients::{Client, EVERYONE, KAFKAS, SHARERS};
use super::stage::{LIMIT, Stage, number_of};

const TOPIC: &str = "trace";
const PARTITIONS: usize = 3;

/// Records of each client, before a broker is killed and when it is back.
const ROUND: usize = 6;

pub(super) fn brokers_tell_where_a_message_was(stage: &Stage) {
    stage.topic(TOPIC, PARTITIONS, &[("weir.queue.trace.ratio", "1")]);
    for client in SHARERS {
        stage.group(&group_of(client), &[]);
    }
    // What the broker knew that was killed is gone with it.
    for round in 0..2 {
        follow(stage, round);
        if round == 0 {
            stage.under_way();
            stage.wait_until_mended();
        }
    }
}

fn group_of(client: Client) -> String {
    format!("traced-{}", client.name())
}

/// Everybody sends, a group of each kind of members settles, and of each message is told what happened to it.
fn follow(stage: &Stage, round: usize) {
    let numbers = round * ROUND..(round + 1) * ROUND;
    let mut sent = Vec::new();
    for client in EVERYONE {
        let records = numbers.clone().map(|number| {
            let id = format!("{}-{number}", client.name());
            New::of(id.clone())
                .key(format!("key of {id}"))
                .header("weir-message-id", id)
        });
        let records: Vec<_> = records.collect();
        stage.send(client, TOPIC, &records);
        sent.extend(records.into_iter().map(|one| (client, one.value)));
    }
    let values: Vec<_> = sent.iter().map(|(_, value)| value.clone()).collect();
    let settled = thread::scope(|scope| {
        let settling = SHARERS.map(|client| {
            let values = &values;
            scope.spawn(move || settle(stage, client, values))
        });
        settling.map(|one| one.join().unwrap_or_else(|why| resume_unwind(why)))
    });
    for (sender, value) in &sent {
        let events = told(stage, value);
        was_appended(*sender, value, &events);
        for (client, records) in SHARERS.into_iter().zip(&settled) {
            let at = records.iter().find(|one| one.value == *value);
            let at = at.expect("it was settled");
            was_settled(client, at, &events);
        }
    }
    // By its place and its key it is the same.
    for record in &settled[0][..2] {
        let place = Of::Place(TracePlace {
            partition: i32::try_from(record.partition).expect("small"),
            offset: record.offset,
        });
        let key = record.key.clone().unwrap_or_default();
        let by_id = told(stage, &record.value);
        for of in [place, Of::Key(key.into_bytes())] {
            assert_eq!(stage.trace(TOPIC, of).events, by_id, "{record:?}");
        }
    }
}

/// What becomes of a message, and what is told of it then, in this order.
fn fate(value: &str) -> (&'static [Kind], &'static [&'static str]) {
    match number_of(value) % 3 {
        0 => (&[Kind::Accept], &["delivered", "accepted"]),
        1 => (&[Kind::Reject], &["delivered", "rejected", "given up"]),
        _ => (
            &[Kind::Release, Kind::Accept],
            &["delivered", "released", "delivered", "accepted"],
        ),
    }
}

/// One member settles all of them, and returns them as they came the last time.
fn settle(stage: &Stage, client: Client, values: &[String]) -> Vec<Record> {
    let member = stage.member(client, &group_of(client), TOPIC, None);
    let mut settled = Vec::<Record>::new();
    let found = wait::poll(LIMIT, || {
        for record in member.poll() {
            let (kinds, _) = fate(&record.value);
            let time = usize::try_from(record.deliveries - 1).expect("it counts from 1");
            let kind = kinds.get(time).copied();
            let kind = kind.unwrap_or_else(|| panic!("{record:?} came too often"));
            let stored = member.settle([(&record, kind)]);
            assert_eq!(stored, [true], "{record:?}");
            if time + 1 == kinds.len() {
                settled.push(record);
            }
        }
        let is_there = |value: &String| settled.iter().any(|one| one.value == *value);
        values.iter().all(is_there).then_some(())
    });
    let name = client.name();
    assert!(found.is_some(), "{name} has settled {settled:?}");
    settled
}

/// What is told of a message, when all brokers answer.
fn told(stage: &Stage, id: &str) -> Vec<TraceEvent> {
    let answer = stage.trace(TOPIC, Of::Id(id.as_bytes().to_vec()));
    assert_eq!(answer.unheard, Vec::<i32>::new(), "{id}");
    answer.events
}

fn was_appended(sender: Client, id: &str, events: &[TraceEvent]) {
    let of = |what: &str| {
        let alike = events.iter().filter(move |event| event.what == what);
        alike.collect::<Vec<_>>()
    };
    let (appended, replicated) = (of("appended"), of("replicated"));
    assert_eq!(
        (appended.len(), replicated.len()),
        (1, 1),
        "{id}: {events:?}"
    );
    if KAFKAS.contains(&sender) {
        let event = appended[0];
        let is_known = !event.client_id.is_empty()
            && event.address.starts_with("127.0.0.1")
            && event.producer_id.is_some();
        assert!(is_known, "{id}: {event:?}");
    }
    assert_eq!(events[0].what, "appended", "{id}: {events:?}");
    assert!(
        events.is_sorted_by_key(|event| event.time_ms),
        "{id}: {events:?}"
    );
}

fn was_settled(client: Client, record: &Record, events: &[TraceEvent]) {
    let group = group_of(client);
    let of_group: Vec<_> = events.iter().filter(|event| event.group == group).collect();
    let what: Vec<_> = of_group.iter().map(|event| event.what.as_str()).collect();
    let (_, wanted) = fate(&record.value);
    assert_eq!(what, wanted, "{group}: {record:?}: {events:?}");
    let mut deliveries = 0;
    for event in of_group {
        assert_eq!(
            (i64::from(event.partition), event.offset),
            record.place(),
            "{group}: {event:?}"
        );
        let has_member = !event.member.is_empty() || event.what == "given up";
        assert!(has_member, "{group}: {event:?}");
        if event.what == "delivered" {
            deliveries += 1;
            assert_eq!(event.deliveries, Some(deliveries), "{group}: {event:?}");
        }
    }
}
