#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;

use futures::FutureExt;
use futures::future::join_all;
use weir_wire::PartitionIndex;

use super::known::{Group, Known, Look, Place};
use super::series::Series;
use crate::metrics::Metrics;

/// When all looks are.
const NOW_MS: i64 = 1_000_000;

/// What a scrape would see.
struct Watched {
    metrics: Metrics,
    known: Known,
    series: Series,
}

impl Watched {
    fn new(series_max: usize) -> Self {
        Self {
            metrics: Metrics::new().unwrap(),
            known: Known::default(),
            series: Series::new(series_max),
        }
    }

    /// After another look, `seconds` after [`NOW_MS`].
    fn after(&mut self, look: Look, seconds: i64) -> BTreeSet<String> {
        // Groups with an `a` are kept by shard 0, others by shard 1.
        let shard_of = |group: &str| Some(PartitionIndex(i32::from(!group.contains('a'))));
        self.known.take(look, shard_of);
        let now_ms = NOW_MS + seconds * 1_000;
        self.series.publish(&self.metrics, &self.known, now_ms);
        let text = String::from_utf8(self.metrics.encode().unwrap()).unwrap();
        let ours = text.lines().filter_map(|line| {
            let line = line.strip_prefix("weir_group_")?;
            Some(line.replace('"', ""))
        });
        ours.collect()
    }
}

/// With each topic's places, by partition.
fn group(members: usize, topics: &[(&str, &[Option<Place>])]) -> Group {
    let topics = topics.iter().map(|(topic, places)| {
        let places = (0..).zip(places.iter().copied());
        ((*topic).to_owned(), places.collect())
    });
    Group {
        members,
        topics: topics.collect(),
    }
}

fn behind(records: i64, seconds: i64) -> Option<Place> {
    Some(Place {
        records,
        oldest_ms: Some(NOW_MS - seconds * 1_000),
    })
}

const AT_END: Option<Place> = Some(Place {
    records: 0,
    oldest_ms: None,
});

fn look<const N: usize>(groups: [(&str, Option<Group>); N]) -> Look {
    let groups = groups.map(|(id, group)| (id.to_owned(), group));
    Look {
        groups: groups.into(),
        silent: BTreeSet::new(),
    }
}

fn lines<const N: usize>(lines: [&str; N]) -> BTreeSet<String> {
    lines.map(str::to_owned).into()
}

#[test]
fn a_topics_lag_is_the_sum_of_its_partitions_and_the_age_of_the_oldest_record() {
    let mut watched = Watched::new(10);
    let places = [behind(3, 7), AT_END, behind(4, 90)];
    let shop = group(2, &[("orders", &places), ("payments", &[AT_END])]);
    let seen = watched.after(look([("shop", Some(shop))]), 0);
    let expected = lines([
        "lag_records{group=shop,topic=orders} 7",
        "lag_seconds{group=shop,topic=orders} 90",
        "lag_records{group=shop,topic=payments} 0",
        "lag_seconds{group=shop,topic=payments} 0",
        "members{group=shop} 2",
    ]);
    assert_eq!(seen, expected);
}

#[test]
fn groups_and_topics_that_are_gone_have_no_series() {
    let mut watched = Watched::new(10);
    let both = group(0, &[("orders", &[AT_END]), ("payments", &[AT_END])]);
    let seen = watched.after(look([("a", Some(both.clone())), ("b", Some(both))]), 0);
    assert_eq!(seen.len(), 10);
    let one = group(0, &[("payments", &[AT_END])]);
    let seen = watched.after(look([("b", Some(one))]), 0);
    let expected = lines([
        "lag_records{group=b,topic=payments} 0",
        "lag_seconds{group=b,topic=payments} 0",
        "members{group=b} 0",
    ]);
    assert_eq!(seen, expected);
}

#[test]
fn a_partition_whose_leader_is_away_stands_where_it_stood_and_grows_older() {
    let mut watched = Watched::new(10);
    let shop = |places: &[Option<Place>]| look([("shop", Some(group(1, &[("orders", places)])))]);
    watched.after(shop(&[behind(100, 5), behind(1, 1)]), 0);
    for (minutes, here) in [(1, 2), (2, 3)] {
        let seconds = minutes * 60;
        let seen = watched.after(shop(&[None, behind(here, 0)]), seconds);
        let records = format!("lag_records{{group=shop,topic=orders}} {}", 100 + here);
        let oldest = format!("lag_seconds{{group=shop,topic=orders}} {}", 5 + seconds);
        assert!(seen.contains(&records), "{seen:?}");
        assert!(seen.contains(&oldest), "{seen:?}");
    }
    // It has no offset there any more.
    let nowhere = look([("shop", Some(group(1, &[])))]);
    let seen = watched.after(nowhere, 180);
    assert_eq!(seen, lines(["members{group=shop} 1"]));
    // Nor is what was known then remembered.
    let seen = watched.after(shop(&[None]), 180);
    assert_eq!(seen, lines(["members{group=shop} 1"]));
}

#[test]
fn a_topic_of_which_a_partition_was_never_known_has_no_lag_yet() {
    let mut watched = Watched::new(10);
    let places = [None, behind(4, 1)];
    let shop = group(1, &[("orders", &places), ("payments", &[AT_END])]);
    let seen = watched.after(look([("shop", Some(shop))]), 0);
    let expected = lines([
        "lag_records{group=shop,topic=payments} 0",
        "lag_seconds{group=shop,topic=payments} 0",
        "members{group=shop} 1",
    ]);
    assert_eq!(seen, expected);
}

#[test]
fn groups_that_cannot_be_asked_stay_as_they_were_while_they_are_coordinated_here() {
    let mut watched = Watched::new(10);
    let lag = group(1, &[("orders", &[behind(5, 1)])]);
    let all = ["a", "b"].map(|id| (id, Some(lag.clone())));
    let before = watched.after(look(all), 0);
    assert_eq!(before.len(), 6);
    // One does not answer, and the other's shard is loading.
    let silent = Look {
        silent: BTreeSet::from([PartitionIndex(1)]),
        ..look([("a", None)])
    };
    assert_eq!(watched.after(silent, 0), before);
    // One that was never known has nothing to show; both shards are another broker's.
    assert_eq!(watched.after(look([("c", None)]), 0), lines([]));
}

#[test]
fn what_is_beyond_the_bound_is_counted_together_until_there_is_room() {
    let mut watched = Watched::new(2);
    let lag = |records| Some(group(1, &[("t", &[behind(records, records)])]));
    let all = [("b", lag(1)), ("c", lag(2)), ("d", lag(4)), ("e", lag(8))];
    let seen = watched.after(look(all), 0);
    let expected = lines([
        "lag_records{group=_other,topic=_other} 12",
        "lag_records{group=b,topic=t} 1",
        "lag_records{group=c,topic=t} 2",
        "lag_seconds{group=_other,topic=_other} 8",
        "lag_seconds{group=b,topic=t} 1",
        "lag_seconds{group=c,topic=t} 2",
        "members{group=_other} 2",
        "members{group=b} 1",
        "members{group=c} 1",
    ]);
    assert_eq!(seen, expected);
    // Who has series of its own keeps them, though another would come first.
    let seen = watched.after(look([("a", lag(16)), ("c", lag(2)), ("d", lag(4))]), 0);
    let expected = lines([
        "lag_records{group=_other,topic=_other} 4",
        "lag_records{group=a,topic=t} 16",
        "lag_records{group=c,topic=t} 2",
        "lag_seconds{group=_other,topic=_other} 4",
        "lag_seconds{group=a,topic=t} 16",
        "lag_seconds{group=c,topic=t} 2",
        "members{group=_other} 1",
        "members{group=a} 1",
        "members{group=c} 1",
    ]);
    assert_eq!(seen, expected);
    let seen = watched.after(look([("c", lag(2)), ("d", lag(4))]), 0);
    assert!(seen.iter().all(|line| !line.contains("_other")), "{seen:?}");
    assert_eq!(seen.len(), 6);
}

#[tokio::test]
async fn a_scrape_goes_on_without_a_look_that_does_not_come_and_needs_none_while_the_last_is_new() {
    let lag = super::GroupLag::default();
    // Nobody looks.
    lag.refresh().await;
    let look = async {
        lag.wanted.notified().await;
        let rested = tokio::time::Instant::now() + super::REST_MAX;
        lag.rested.send_replace(Some(rested));
    };
    let mut waiting = [lag.refresh().boxed(), lag.refresh().boxed()];
    for scrape in &mut waiting {
        assert!(scrape.now_or_never().is_none());
    }
    tokio::join!(look, join_all(waiting));
    assert!(lag.refresh().now_or_never().is_some());
}

#[test]
fn after_a_long_look_there_is_a_long_rest() {
    let rests = [0, 100, 1_000, 100_000].map(|ms| {
        let took = std::time::Duration::from_millis(ms);
        super::rest(took).as_secs()
    });
    assert_eq!(rests, [5, 5, 20, 60]);
}
