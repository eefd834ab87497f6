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
