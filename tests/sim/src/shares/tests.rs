use super::*;

const PLACE: i32 = 0;

/// What happens to the record at offset 0 of a partition, step by step; gives what is found wrong.
struct Story {
    books: Books,
    wrong: Vec<String>,
}

fn place() -> Place {
    Place("t".into(), PLACE)
}

impl Story {
    fn new() -> Self {
        Self {
            books: Books::default(),
            wrong: Vec::new(),
        }
    }

    /// A member asks at one time and has the answer at another.
    fn handed(&mut self, member: HostId, count: i16, sent_ms: u64, now_ms: u64) {
        let delivery = Delivery {
            member,
            broker: 0,
            place: place(),
            sent_ms,
            era: self.books.era,
            ranges: Vec::new(),
            values: BTreeMap::new(),
        };
        let wrong = self.books.delivered(&delivery, 0, count, now_ms);
        self.wrong.extend(wrong);
    }

    fn says(&mut self, member: HostId, say: Say, acquired_ms: u64, now_ms: u64, heard: Heard) {
        let said = Said {
            member,
            place: place(),
            offset: 0,
            count: 1,
            acquired_ms,
            era: self.books.era,
            say,
            sent_ms: now_ms,
            heard,
        };
        let wrong = self.books.said(&said, now_ms + 1);
        self.wrong.extend(wrong);
    }

    fn ends(&mut self) {
        let wrong = self.books.judge(&[(place(), 1)]);
        self.wrong.extend(wrong);
    }
}

#[test]
fn what_was_accepted_is_handed_to_nobody() {
    let mut story = Story::new();
    story.handed(1, 1, 10, 20);
    story.says(1, Say::Accept, 10, 30, Heard::Yes);
    // Asked for before the answer: it may have been handed out before.
    story.handed(2, 2, 25, 40);
    assert_eq!(story.wrong, Vec::<String>::new());
    story.handed(2, 3, 50, 60);
    let mut wrong = story.wrong.iter();
    assert!(wrong.any(|what| what.contains("was done with")));
}

#[test]
fn a_record_is_out_with_one_member_while_its_lock_lasts() {
    let mut story = Story::new();
    story.handed(1, 1, 10, 20);
    story.handed(2, 2, 30, 40);
    assert_eq!(story.wrong.len(), 1);
    // After the lock, and after another leader has come, it may be.
    for is_late in [true, false] {
        let mut story = Story::new();
        story.handed(1, 1, 10, 20);
        if !is_late {
            story.books.era += 1;
        }
        let at = if is_late { 10 + LOCK_MS } else { 30 };
        story.handed(2, 2, at, at + 1);
        assert_eq!(story.wrong, Vec::<String>::new());
    }
}

#[test]
fn who_has_a_record_is_not_told_otherwise() {
    let mut story = Story::new();
    story.handed(1, 1, 10, 20);
    story.says(1, Say::Accept, 10, 10 + LOCK_MS, Heard::NotHeld);
    assert_eq!(story.wrong, Vec::<String>::new());
    story.says(1, Say::Accept, 10, 30, Heard::NotHeld);
    assert_eq!(story.wrong.len(), 1);
}

#[test]
fn deliveries_are_counted_up() {
    let mut story = Story::new();
    story.handed(1, 1, 10, 20);
    story.says(1, Say::Release, 10, 30, Heard::Yes);
    story.handed(1, 1, 40, 50);
    // It was stored, and is not more than before.
    assert_eq!(story.wrong.len(), 2);
}

#[test]
fn what_nobody_was_done_with_is_not_done_with() {
    let mut story = Story::new();
    story.ends();
    assert_eq!(story.wrong.len(), 1);
    let mut story = Story::new();
    story.handed(1, 1, 10, 20);
    story.says(1, Say::Reject, 10, 30, Heard::Unknown);
    story.ends();
    assert_eq!(story.wrong, Vec::<String>::new());
    let mut story = Story::new();
    story.handed(1, DELIVERIES_MAX, 10, 20);
    story.ends();
    assert_eq!(story.wrong, Vec::<String>::new());
}

/// A record that is handed out again so long after a release, where one that is released waits.
fn redelivered(after_ms: u64, change: impl FnOnce(&mut Story)) -> usize {
    let mut story = Story::new();
    story.books.rules = Rules {
        backoffs_ms: &[400, 1_000],
        ..Rules::default()
    };
    story.handed(1, 1, 100, 120);
    story.says(1, Say::Release, 100, 200, Heard::Yes);
    change(&mut story);
    let delivery = Delivery {
        member: 2,
        broker: 0,
        place: place(),
        sent_ms: 300,
        era: story.books.era,
        ranges: vec![(0, 0, 2)],
        values: BTreeMap::new(),
    };
    story.books.turn(&delivery, 0, "", 200 + after_ms).len()
}

#[test]
fn a_released_record_is_handed_out_no_earlier_than_its_backoff() {
    assert_eq!(redelivered(390, |_| {}), 1);
    assert_eq!(redelivered(400, |_| {}), 0);
    // Who leads next does not know of it.
    assert_eq!(redelivered(100, |story| story.books.era += 1), 0);
}

#[test]
fn records_of_one_key_go_one_at_a_time_and_in_order() {
    let mut story = Story::new();
    story.books.rules.is_ordered = true;
    let delivery = |offset: i64, sent_ms: u64| Delivery {
        member: 2,
        broker: 0,
        place: place(),
        sent_ms,
        era: 0,
        ranges: vec![(offset, offset, 1)],
        values: BTreeMap::from([
            (0, "q/1/0/k1/good".to_owned()),
            (1, "q/1/1/k2/good".to_owned()),
            (2, "q/1/2/k1/good".to_owned()),
            (3, "q/1/3/k2/skip".to_owned()),
            (4, "q/1/4/k2/good".to_owned()),
        ]),
    };
    story.books.shown(&delivery(0, 10));
    let turn = |story: &Story, offset, key: &str, now_ms| {
        let value = format!("q/1/{offset}/{key}/good");
        let delivery = delivery(offset, now_ms - 10);
        story.books.turn(&delivery, offset, &value, now_ms).len()
    };
    assert_eq!(turn(&story, 0, "k1", 100), 0);
    assert_eq!(turn(&story, 2, "k1", 100), 1, "0 was never handed out");
    story.handed(1, 1, 110, 120);
    assert_eq!(turn(&story, 2, "k1", 200), 1, "0 is out");
    assert_eq!(turn(&story, 1, "k2", 200), 0);
    let record = story.books.records.get_mut(&(place(), 0));
    let record = record.map(|record| {
        record.held = None;
        record.end_asked_ms = Some(150);
    });
    assert!(record.is_some());
    assert_eq!(turn(&story, 2, "k1", 300), 0);
    assert_eq!(
        turn(&story, 4, "k2", 300),
        1,
        "1 is not done with, and 3 is for nobody"
    );
}

/// A message of a level is asked for, which comes.
fn asked_for(offset: i64, level: u8, sent_ms: u64) -> Delivery {
    Delivery {
        member: 1,
        broker: 0,
        place: place(),
        sent_ms,
        era: 0,
        ranges: vec![(offset, offset, 1)],
        values: BTreeMap::from([(offset, format!("q/1/{offset}/-/good/{level}"))]),
    }
}

#[test]
fn the_greatest_level_that_waits_is_next() {
    let at = |broker| At { broker, era: 0 };
    // The message of level 9 was acknowledged by a broker, and asked for first, and somebody did not hear of what he asked for.
    let judge = |broker: i32, asked_ms: u64, unheard_ms: u64| {
        let mut ranks = Ranks::default();
        let place = place();
        ranks.taken((&place, 0), 4, at(0), 10);
        ranks.taken((&place, 1), 9, at(broker), 20);
        ranks.started(0, 8);
        ranks.unheard(0, unheard_ms, unheard_ms + 5);
        assert_eq!(ranks.given(&asked_for(0, 4, 30), 0, 40), None);
        assert_eq!(ranks.given(&asked_for(1, 9, asked_ms), 0, 60), None);
        ranks.judge().len()
    };
    assert_eq!(judge(0, 50, 45), 1);
    assert_eq!(judge(1, 50, 45), 0, "it may not be known there yet");
    assert_eq!(judge(0, 35, 45), 0, "it may have been with who asked then");
    assert_eq!(judge(0, 50, 5), 0, "who knows what came of that");
    assert_eq!(judge(0, 50, 2), 1, "a broker that has started since");
    let mut both = asked_for(0, 4, 30);
    both.ranges.push((1, 1, 1));
    both.values.extend(asked_for(1, 9, 30).values);
    let wrong = Ranks::default().given(&both, 0, 40);
    assert!(wrong.is_some_and(|what| what.contains("several levels")));
}
