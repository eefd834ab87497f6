//! Sessions and their cache, each against a naive model.
#![allow(clippy::unwrap_used, reason = "tests")]

use bytes::Bytes;
use proptest::prelude::*;
use weir_wire::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use weir_wire::messages::fetch_response::PartitionData;
use weir_wire::messages::{FetchRequest, FetchRequestView};
use weir_wire::{Message, MessageView, Records};

use super::cache::{Cache, EVICTION_MS, PARTITIONS_MAX};
use super::*;

const VERSION: i16 = 12;

/// A request as it comes from a socket.
fn frame(request: &FetchRequest) -> Bytes {
    request.to_bytes(VERSION).unwrap()
}

fn request(
    session: i32,
    epoch: i32,
    wanted: &[(usize, i32, i64)],
    forgotten: &[(usize, i32)],
) -> Bytes {
    let topics = wanted.iter().map(|(topic, partition, offset)| FetchTopic {
        topic: format!("t{topic}"),
        partitions: vec![FetchPartition {
            partition: *partition,
            fetch_offset: *offset,
            partition_max_bytes: 1 << 20,
            ..FetchPartition::default()
        }],
        ..FetchTopic::default()
    });
    let forgotten = forgotten.iter().map(|(topic, partition)| ForgottenTopic {
        topic: format!("t{topic}"),
        partitions: vec![*partition],
        ..ForgottenTopic::default()
    });
    frame(&FetchRequest {
        session_id: session,
        session_epoch: epoch,
        topics: topics.collect(),
        forgotten_topics_data: forgotten.collect(),
        ..FetchRequest::default()
    })
}

fn change(session: &mut Session, wanted: &[(usize, i32, i64)], forgotten: &[(usize, i32)]) {
    let bytes = request(1, 1, wanted, forgotten);
    let view = FetchRequestView::decode(&bytes, VERSION).unwrap();
    for topic in view.topics.iter() {
        session.want(&topic);
    }
    for topic in view.forgotten_topics_data.iter() {
        session.forget(&topic);
    }
}

fn data(high_watermark: i64, records: &'static [u8]) -> PartitionData {
    PartitionData {
        high_watermark,
        log_start_offset: 0,
        records: Some(Records::from(Bytes::from_static(records))),
        ..PartitionData::default()
    }
}

/// All partitions in the order of their turn: topic, partition, offset.
fn turns(session: &Session) -> Vec<(String, i32, i64)> {
    let mut turns = Vec::new();
    let mut place = session.first();
    while let Some(at) = place {
        let wanted = session.wanted(at);
        turns.push((
            session.topic(at).1.to_owned(),
            wanted.partition,
            wanted.fetch_offset,
        ));
        place = session.after(at);
    }
    turns
}

fn place_of(session: &Session, topic: usize, partition: i32) -> Option<Place> {
    let mut place = session.first();
    while let Some(at) = place {
        if session.topic(at).1 == format!("t{topic}") && session.wanted(at).partition == partition {
            return Some(at);
        }
        place = session.after(at);
    }
    None
}

#[derive(Clone, Debug)]
enum Step {
    Want(usize, i32, i64),
    Forget(usize, i32),
    /// A partition is told this high watermark, with or without records.
    Tell(usize, i32, i64, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let (topic, partition) = (0..3_usize, 0..4_i32);
    prop_oneof![
        (topic.clone(), partition.clone(), 0..9_i64).prop_map(|(t, p, o)| Step::Want(t, p, o)),
        (topic.clone(), partition.clone()).prop_map(|(t, p)| Step::Forget(t, p)),
        (topic, partition, 0..3_i64, any::<bool>())
            .prop_map(|(t, p, hw, records)| Step::Tell(t, p, hw, records)),
    ]
}

/// A session as a list: topic, partition, offset, and the high watermark that was told.
type Model = Vec<(usize, i32, i64, Option<i64>)>;

proptest! {
    #[test]
    fn a_session_is_what_a_list_would_be(steps in prop::collection::vec(step(), 1..80)) {
        let mut session = Session::new(false);
        let mut model: Model = Vec::new();
        for step in steps {
            match step {
                Step::Want(topic, partition, offset) => {
                    change(&mut session, &[(topic, partition, offset)], &[]);
                    match model.iter_mut().find(|known| (known.0, known.1) == (topic, partition)) {
                        Some(known) => known.2 = offset,
                        None => model.push((topic, partition, offset, None)),
                    }
                }
                Step::Forget(topic, partition) => {
                    change(&mut session, &[], &[(topic, partition)]);
                    model.retain(|known| (known.0, known.1) != (topic, partition));
                }
                Step::Tell(topic, partition, high_watermark, with_records) => {
                    let at = model.iter().position(|known| (known.0, known.1) == (topic, partition));
                    let place = place_of(&session, topic, partition);
                    prop_assert_eq!(at.is_some(), place.is_some());
                    let (Some(at), Some(place)) = (at, place) else { continue };
                    let told = data(high_watermark, if with_records { b"records" } else { b"" });
                    let is_news = with_records || model[at].3 != Some(high_watermark);
                    prop_assert_eq!(session.is_news(place, &told), is_news);
                    session.told(place, &told);
                    model[at].3 = Some(high_watermark);
                    if with_records {
                        let known = model.remove(at);
                        model.push(known);
                    }
                }
            }
            let wanted: Vec<_> = model.iter().map(|(t, p, o, _)| (format!("t{t}"), *p, *o)).collect();
            prop_assert_eq!(turns(&session), wanted);
            prop_assert_eq!(session.len(), model.len());
        }
    }

    #[test]
    fn the_cache_never_has_more_than_its_slots(
        steps in prop::collection::vec((0..3_u8, 1..20_i32, 1..50_usize, 0..EVICTION_MS), 1..200),
    ) {
        const SLOTS: usize = 5;
        let mut cache = Cache::default();
        let (mut now, mut drawn) = (0, 0);
        let mut kept = std::collections::BTreeMap::new();
        for (what, id, size, passed) in steps {
            now += passed / 4;
            match what {
                0 => {
                    let draw = || { drawn += 1; drawn };
                    let before: Vec<_> = kept.keys().copied().collect();
                    match cache.insert((), size, SLOTS, now, draw) {
                        Some(id) => {
                            kept.retain(|known, _| cache.get(SessionId(*known)).is_some());
                            kept.insert(id.0, (size, now, now));
                            // One had to go, and only when all places were taken.
                            prop_assert_eq!(kept.len(), SLOTS.min(before.len() + 1));
                        }
                        None => {
                            prop_assert_eq!(before.len(), SLOTS);
                            for (other, created, used) in kept.values() {
                                let idle = now - used > EVICTION_MS;
                                let smaller = now.min(*used) - created > EVICTION_MS && *other <= size;
                                prop_assert!(!idle && !smaller, "someone could have gone");
                            }
                        }
                    }
                }
                1 => {
                    cache.touch(SessionId(id), size, now);
                    if let Some(known) = kept.get_mut(&id) {
                        (known.0, known.2) = (size, now);
                    }
                }
                _ => prop_assert_eq!(cache.remove(SessionId(id)).is_some(), kept.remove(&id).is_some()),
            }
            prop_assert_eq!(cache.len(), kept.len());
            prop_assert_eq!(cache.partitions(), kept.values().map(|known| known.0).sum::<usize>());
        }
    }
}

#[test]
fn partitions_of_all_sessions_are_bounded() {
    let mut cache = Cache::default();
    let mut drawn = 0;
    let mut insert = |cache: &mut Cache<()>, size| {
        cache.insert((), size, 1_000, 0, || {
            drawn += 1;
            drawn
        })
    };
    assert!(insert(&mut cache, PARTITIONS_MAX + 1).is_none());
    assert!(insert(&mut cache, PARTITIONS_MAX).is_some());
    assert!(insert(&mut cache, 1).is_none(), "nobody has had his time");
}

#[tokio::test]
async fn a_session_goes_through_its_epochs() {
    let sessions = FetchSessions::default();
    let first = request(0, 0, &[(0, 0, 0), (0, 1, 0)], &[]);
    let first = FetchRequestView::decode(&first, VERSION).unwrap();
    let Fetching::Begun(session) = sessions.enter(&first, VERSION).await.unwrap() else {
        panic!("a session begins");
    };
    let id = sessions.keep(*session, 10, &Entropy::seeded(7));
    assert!(id > 0);
    let enter = async |epoch, wanted: &[(usize, i32, i64)], forgotten: &[(usize, i32)], version| {
        let bytes = request(id, epoch, wanted, forgotten);
        let view = FetchRequestView::decode(&bytes, VERSION).unwrap();
        sessions
            .enter(&view, version)
            .await
            .map(|fetching| match fetching {
                Fetching::Going(_, session) => session.len(),
                other => panic!("{other:?}"),
            })
    };
    assert_eq!(enter(1, &[], &[], VERSION).await, Ok(2));
    assert_eq!(
        enter(1, &[], &[], VERSION).await,
        Err(ErrorCode::InvalidFetchSessionEpoch)
    );
    assert_eq!(
        enter(2, &[], &[], 13).await,
        Err(ErrorCode::FetchSessionTopicIdError)
    );
    assert_eq!(enter(2, &[(1, 0, 0)], &[(0, 0)], VERSION).await, Ok(2));
    // With its last partition the session goes.
    assert_eq!(enter(3, &[], &[(1, 0), (0, 1)], VERSION).await, Ok(0));
    assert_eq!(
        enter(4, &[], &[], VERSION).await,
        Err(ErrorCode::FetchSessionIdNotFound)
    );
    assert_eq!(sessions.kept().sessions, 0);
}

#[test]
fn epochs_begin_again_at_one() {
    let mut session = Session::new(false);
    session.epoch = i32::MAX;
    session.advance();
    assert_eq!(session.epoch(), 1);
}
