#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::collections::BTreeSet;

use bytes::Bytes;
use weir_queues::Millis;
use weir_queues::dedup::{MessageId, Window};
use weir_queues::delay::{Entry, Waiting};
use weir_wire::batch::{
    Attributes, BatchBuilder, BatchView, Compression, NewHeader, NewRecord, PatchedHeader, batches,
    only_batch,
};
use weir_wire::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

use super::record::{Whence, holds_back};
use super::scan::Scan;
use super::split::{Split, Wish, split};
use super::stage::{Came, Found, NotEntered, Seen, Stage};
use super::{Heeds, look, without_held_back};

const NOW: i64 = 1_700_000_000_000;
const HEEDS: Heeds = Heeds {
    delay_max_ms: Some(3_600_000),
    window_ms: Some(60_000),
};
const EPOCH: LeaderEpoch = LeaderEpoch(3);

/// A batch of an idempotent producer, of records with a value and headers each.
fn batch(records: &[(&str, &[(&str, &str)])]) -> Bytes {
    let mut builder = BatchBuilder::new().producer(ProducerId(7), ProducerEpoch(1), 40);
    for (value, headers) in records {
        let headers: Vec<_> = headers
            .iter()
            .map(|(key, value)| NewHeader {
                key,
                value: Some(value.as_bytes()),
            })
            .collect();
        builder
            .push(&NewRecord {
                timestamp_ms: NOW - 5,
                key: Some(b"k"),
                value: Some(value.as_bytes()),
                headers: &headers,
            })
            .unwrap();
    }
    builder.build()
}

/// A mixed batch: of four records two wait, and one cancels.
fn mixed() -> Bytes {
    batch(&[
        ("due", &[]),
        ("later", &[("weir-delay-ms", "500"), ("a", "b")]),
        ("over", &[("weir-deliver-at", "1000")]),
        ("", &[("weir-cancel", "x")]),
        ("soon", &[("weir-delay-ms", "20"), ("weir-message-id", "y")]),
    ])
}

fn taken_apart(batch: &Bytes, floor: u64) -> Split {
    let wish = look(batch, HEEDS, NOW).unwrap().unwrap();
    split(batch, &wish, &BTreeSet::new(), Millis(floor), NOW, 1 << 20).unwrap()
}

/// As the log would have it from `base` on.
fn appended(bytes: &[u8], base: i64) -> Bytes {
    let (mut out, mut next) = (Vec::new(), Offset(base));
    for batch in batches(bytes) {
        let batch = batch.unwrap();
        let patched = PatchedHeader::assign(batch.header(), next, EPOCH);
        out.extend_from_slice(&patched.to_bytes());
        out.extend_from_slice(batch.after_patch());
        next = Offset(next.0 + i64::from(batch.header().last_offset_delta) + 1);
    }
    Bytes::from(out)
}

fn scan(log: &[u8]) -> Found {
    let mut scan = Scan::new(Millis(NOW as u64), HEEDS);
    for batch in batches(log) {
        scan.take(&batch.unwrap()).unwrap();
    }
    scan.found()
}

fn all(mut found: Found) -> Vec<(u64, i64)> {
    let taken = found.waiting.take_due(Millis(u64::MAX / 2), 100);
    taken
        .iter()
        .map(|entry| (entry.due.0 - NOW as u64, entry.at.0))
        .collect()
}

fn values(batch: &BatchView<'_>) -> Vec<(i64, String)> {
    let inflated = batch.inflated().unwrap();
    let records = inflated.iter().unwrap().map(|record| {
        let record = record.unwrap();
        let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
        (record.offset.0, value)
    });
    records.collect()
}

#[test]
fn a_batch_is_taken_apart_and_its_twin_keeps_what_its_producer_counts_on() {
    for codec in [Compression::None, Compression::Zstd] {
        let sent = mixed();
        let sent = only_batch(&sent).unwrap().inflated().unwrap();
        let sent = sent.recompress(codec, None).unwrap();
        let split = taken_apart(&sent, 0);
        assert_eq!(split.records, 4, "one that opens, and three");
        let log = appended(&split.bytes, 100);
        let (held_back, rest) = BatchView::split_first(&log).unwrap();
        let (twin, rest) = BatchView::split_first(rest).unwrap();
        assert!(rest.is_empty());
        held_back.check().unwrap();
        twin.check().unwrap();
        assert!(holds_back(held_back.header()));
        assert_eq!(held_back.end_transaction(), Ok(None), "it is no marker");
        let header = twin.header();
        assert_eq!(header.base_offset, Offset(104));
        assert_eq!(
            (header.producer_id, header.base_sequence),
            (ProducerId(7), 40)
        );
        assert_eq!((header.last_offset_delta, header.record_count), (4, 2));
        assert_eq!(values(&twin), [(104, "due".into()), (106, "over".into())]);
        let found = scan(&log);
        let cancelled: Vec<_> = found.cancelled.clone().into_iter().collect();
        assert_eq!(cancelled, [(MessageId::of(b"x"), Offset(102))]);
        assert_eq!(all(found), [(20, 103), (500, 101)]);
    }
}

#[test]
fn what_was_cut_off_from_its_twin_counts_for_nothing() {
    let split = taken_apart(&mixed(), 0);
    let log = appended(&split.bytes, 0);
    let (held_back, twin) = BatchView::split_first(&log).unwrap();
    assert_eq!(all(scan(held_back.bytes())), []);
    // Nor when something else lies behind it, such as the same batch when all of it is due.
    let other = appended(&mixed(), 4);
    let log = [held_back.bytes(), &other].concat();
    assert_eq!(all(scan(&log)), []);
    let again = [held_back.bytes(), held_back.bytes(), twin].concat();
    assert_eq!(all(scan(&again)).len(), 2, "once, though it is there twice");
}

#[test]
fn consumers_are_given_nothing_of_what_waits() {
    let split = taken_apart(&mixed(), 0);
    let plain = batch(&[("plain", &[])]);
    let log = Bytes::from([plain.as_ref(), &split.bytes].concat());
    let log = appended(&log, 10);
    let given = without_held_back(log.clone());
    let text = String::from_utf8_lossy(&given);
    assert!(text.contains("plain") && text.contains("due"));
    assert!(!text.contains("later") && !text.contains("soon"), "{text}");
    let mut next = Offset(10);
    for batch in batches(&given) {
        let batch = batch.unwrap();
        batch.check().unwrap();
        assert_eq!(batch.header().base_offset, next, "no hole");
        assert!(!batch.header().attributes.is_control());
        next = batch.header().next_offset();
    }
    assert_eq!(next, Offset(20));
    let plain = appended(&plain, 0);
    assert_eq!(
        without_held_back(plain.clone()).as_ptr(),
        plain.as_ptr(),
        "what has nothing of it is not copied"
    );
}

#[test]
fn what_cannot_be_is_refused_with_the_reason() {
    for (headers, part) in [
        (
            &[("weir-delay-ms", "3600001")][..],
            "is due in 3600001 ms; weir.queue.delay.max.ms is 3600000",
        ),
        (
            &[("weir-delay-ms", "soon")],
            "weir-delay-ms is \"soon\"; wanted: a number",
        ),
        (&[("weir-delay-ms", "-1")], "wanted: a number"),
        (&[("weir-deliver-at", "")], "wanted: a number"),
        (
            &[("weir-deliver-at", "99999999999999999")],
            "weir.queue.delay.max.ms",
        ),
        (
            &[("weir-deliver-at", "1"), ("weir-delay-ms", "1")],
            "both there",
        ),
        (
            &[("weir-delay-ms", "1"), ("weir-delay-ms", "2")],
            "there twice",
        ),
        (&[("weir-cancel", "")], "names nothing"),
        (
            &[("weir-cancel", "a"), ("weir-delay-ms", "2")],
            "takes no delay",
        ),
    ] {
        let unfit = look(&batch(&[("good", &[]), ("bad", headers)]), HEEDS, NOW).unwrap_err();
        assert_eq!(unfit.records.len(), 1);
        assert_eq!(unfit.records[0].0, 1);
        let message = unfit.error.message;
        assert!(message.contains(part), "{message}");
    }
    for headers in [&[("weir-delay-ms", "0")][..], &[("weir-deliver-at", "5")]] {
        assert_eq!(look(&batch(&[("due", headers)]), HEEDS, NOW).unwrap(), None);
    }
    let headers = [NewHeader {
        key: "weir-delay-ms",
        value: Some(b"9"),
    }];
    let mut builder = BatchBuilder::new()
        .producer(ProducerId(7), ProducerEpoch(1), 0)
        .attributes(Attributes::default().with_transactional(true));
    let record = NewRecord {
        headers: &headers,
        ..NewRecord::default()
    };
    builder.push(&record).unwrap();
    let unfit = look(&builder.build(), HEEDS, NOW).unwrap_err();
    assert!(unfit.error.message.contains("transaction"));
}

#[test]
fn a_released_record_says_where_it_comes_from() {
    let whence = Whence {
        receipt: Offset(12),
        entry: Entry {
            due: Millis(NOW as u64),
            at: Offset(9),
        },
    };
    assert_eq!(whence.to_string(), "12,1700000000000,9");
    assert_eq!(Whence::parse(whence.to_string().as_bytes()), Some(whence));
    for bad in ["", "1", "1,2", "1,2,x", "1,-2,3"] {
        assert_eq!(Whence::parse(bad.as_bytes()), None);
    }
}

fn stage(epoch: LeaderEpoch) -> (Stage, u64) {
    let stage = Stage::default();
    let life = stage.begin();
    let found = Found {
        waiting: Waiting::new(Millis(NOW as u64)),
        cancelled: Default::default(),
        ids: Some(Window::new(60_000)),
        knows_delays: true,
    };
    assert_eq!(floor(&stage, epoch), None, "not before the log was read");
    assert_eq!(stage.oldest(), None, "and the log is not cut");
    stage.learn(life, epoch, found);
    (stage, life)
}

fn wish(batch: &Bytes) -> Wish {
    look(batch, HEEDS, NOW).unwrap().unwrap()
}

fn floor(stage: &Stage, epoch: LeaderEpoch) -> Option<Millis> {
    match stage.look(epoch, &wish(&later(5)), NOW)? {
        Seen::Known { floor, .. } => Some(floor),
        Seen::Uncertain => panic!("it has no id"),
    }
}

fn later(ms: u64) -> Bytes {
    batch(&[("later", &[("weir-delay-ms", &ms.to_string())])])
}

/// Enters what waits for so long; it is then at `base`.
fn come(stage: &Stage, ms: u64, base: i64) {
    let split = taken_apart(&later(ms), 0);
    let entered = stage.enter(EPOCH, Millis(0), &split, Offset(0)).unwrap();
    let ticket = entered.ticket();
    drop(entered);
    let came = Came {
        base: Offset(base),
        waits: split.waits,
        cancels: split.cancels,
        told: Offset(base + split.records),
        ids: split.ids,
        now_ms: NOW,
    };
    stage.leave(ticket, Some(came));
}

#[test]
fn nothing_is_released_behind_which_something_may_still_turn_up() {
    let (stage, life) = stage(EPOCH);
    let now = |ms: u64| Millis(NOW as u64 + ms);
    assert_eq!(floor(&stage, LeaderEpoch(4)), None, "of another epoch");
    let early = taken_apart(&later(10), 0);
    let on_its_way = stage
        .enter(EPOCH, Millis(0), &early, Offset(55))
        .unwrap()
        .ticket();
    come(&stage, 5, 100);
    come(&stage, 10, 102);
    assert_eq!(stage.oldest(), Some(Offset(55)));
    let chosen = stage.choose(life, now(50), 9);
    assert_eq!(
        chosen.iter().map(|entry| entry.at.0).collect::<Vec<_>>(),
        [101]
    );
    assert_eq!(stage.next_wake(life, now(50)), None, "there will be news");
    assert_eq!(stage.choose(life, now(50), 9), []);
    // It failed: nothing of it is in the log.
    stage.leave(on_its_way, None);
    let chosen = stage.choose(life, now(50), 9);
    assert_eq!(
        chosen.iter().map(|entry| entry.at.0).collect::<Vec<_>>(),
        [103]
    );
    assert_eq!(
        stage.oldest(),
        Some(Offset(103)),
        "it is not in the log again yet"
    );
    stage.released(life);
    assert_eq!(stage.oldest(), Some(Offset(i64::MAX)));
}

#[test]
fn nothing_is_appended_that_is_due_before_what_was_released() {
    let (stage, life) = stage(EPOCH);
    come(&stage, 500, 0);
    let before = floor(&stage, EPOCH).unwrap();
    let early = taken_apart(&later(100), before.0);
    assert_eq!(stage.choose(life, Millis(NOW as u64 + 600), 9).len(), 1);
    let late = stage.enter(EPOCH, before, &early, Offset(0));
    assert!(matches!(late, Err(NotEntered::Late)));
    drop(late);
    let floor = floor(&stage, EPOCH).unwrap();
    let bumped = taken_apart(&later(100), floor.0);
    assert_eq!(bumped.first_due(), Some(Millis(NOW as u64 + 500)));
    assert!(stage.enter(EPOCH, floor, &bumped, Offset(0)).is_ok());
}

#[test]
fn what_was_handed_over_in_an_earlier_life_is_found_in_the_log_only() {
    let (stage, life) = stage(EPOCH);
    let split = taken_apart(&later(100), 0);
    let ticket = stage
        .enter(EPOCH, Millis(0), &split, Offset(0))
        .unwrap()
        .ticket();
    let next = stage.begin();
    let found = scan(&appended(&split.bytes, 0));
    stage.learn(next, EPOCH, found);
    let came = Came {
        base: Offset(0),
        waits: split.waits,
        cancels: Vec::new(),
        told: Offset(2),
        ids: Vec::new(),
        now_ms: NOW,
    };
    stage.leave(ticket, Some(came));
    assert_eq!(stage.size().unwrap().messages, 1);
    assert_eq!(
        stage.choose(life, Millis(u64::MAX / 2), 9),
        [],
        "of the old life"
    );
    assert_eq!(stage.choose(next, Millis(u64::MAX / 2), 9).len(), 1);
}

/// Messages with these ids, of no producer.
fn with_ids(ids: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new();
    for id in ids {
        let headers = [NewHeader {
            key: "weir-message-id",
            value: Some(id.as_bytes()),
        }];
        let record = NewRecord {
            timestamp_ms: NOW - 5,
            value: Some(id.as_bytes()),
            headers: &headers,
            ..NewRecord::default()
        };
        builder.push(&record).unwrap();
    }
    builder.build()
}

/// Which of these came before, and where; `None`: that is not certain.
fn before(stage: &Stage, ids: &[&str], now_ms: i64) -> Option<Vec<(i32, i64)>> {
    match stage.look(EPOCH, &wish(&with_ids(ids)), now_ms).unwrap() {
        Seen::Uncertain => None,
        Seen::Known { before, .. } => {
            Some(before.iter().map(|(number, at)| (*number, at.0)).collect())
        }
    }
}

#[test]
fn an_id_is_known_from_when_it_comes_until_the_window_is_over() {
    let (stage, _) = stage(EPOCH);
    let sent = with_ids(&["a", "b"]);
    let wanted = wish(&sent);
    let split = split(&sent, &wanted, &BTreeSet::new(), Millis(0), NOW, 1 << 20).unwrap();
    assert_eq!(
        split.bytes.as_ptr(),
        sent.as_ptr(),
        "nothing is to be left out"
    );
    let ticket = stage
        .enter(EPOCH, Millis(0), &split, Offset(0))
        .unwrap()
        .ticket();
    assert_eq!(before(&stage, &["b"], NOW), None, "it may fail");
    let twice = stage.enter(EPOCH, Millis(0), &split, Offset(0));
    assert!(matches!(twice, Err(NotEntered::Late)));
    drop(twice);
    let came = Came {
        base: Offset(70),
        waits: Vec::new(),
        cancels: Vec::new(),
        told: Offset(70),
        ids: split.ids,
        now_ms: NOW,
    };
    stage.leave(ticket, Some(came));
    assert_eq!(
        before(&stage, &["c", "b", "a"], NOW),
        Some(vec![(1, 71), (2, 70)])
    );
    assert_eq!(
        before(&stage, &["c", "c"], NOW),
        Some(vec![(1, -1)]),
        "twice in one batch"
    );
    assert_eq!(before(&stage, &["a"], NOW + 60_000), Some(vec![]));
    assert_eq!(before(&stage, &["b"], NOW + 60_000), Some(vec![]));
}

#[test]
fn what_came_before_is_left_out_and_the_others_keep_their_offsets() {
    let sent = with_ids(&["a", "b", "c"]);
    let left_out = BTreeSet::from([0, 2]);
    let split = split(&sent, &wish(&sent), &left_out, Millis(0), NOW, 1 << 20).unwrap();
    assert_eq!(split.records, 0);
    assert_eq!(split.ids, [(1, MessageId::of(b"b"))]);
    let log = appended(&split.bytes, 10);
    let batch = only_batch(&log).unwrap();
    batch.check().unwrap();
    assert_eq!(values(&batch), [(11, "b".into())]);
    assert_eq!(batch.header().next_offset(), Offset(13));
}

#[test]
fn ids_are_known_again_from_the_log_those_of_what_waits_included() {
    let waits = batch(&[("x", &[("weir-delay-ms", "500"), ("weir-message-id", "w")])]);
    let log = [
        with_ids(&["a"]),
        taken_apart(&waits, 0).bytes,
        with_ids(&["b"]),
    ]
    .concat();
    let log = appended(&log, 0);
    let mut window = scan(&log).ids.unwrap();
    let now = Millis(NOW as u64);
    let mut find = |id: &[u8]| window.find(MessageId::of(id), now).map(|at| at.0);
    assert_eq!(find(b"a"), Some(0));
    assert_eq!(find(b"w"), Some(3), "its receipt");
    assert_eq!(find(b"b"), Some(4));
    assert_eq!(find(b"c"), None);
}
