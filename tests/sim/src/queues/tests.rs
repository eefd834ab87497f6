use super::books::{Fate, Seen, Sent};
use super::*;
use crate::broker::EPOCH_MS;

/// A life of a queue with one topic, and what its members said.
struct Story {
    net: Net,
    books: Books,
}

fn place(partition: i32) -> Place {
    Place("t".into(), partition)
}

impl Story {
    fn new() -> Self {
        let net = Net::new(Random::of(1), 1);
        let history = Shared::new(net.clone());
        let books = Books::new(net.clone(), history);
        Self { net, books }
    }

    fn at(&self, ms: u64) {
        self.net.advance_to(ms);
        self.books.clocks((0, 0));
    }

    fn send(&self, partition: i32, value: &str, due_ms: Option<u64>) -> usize {
        let due_ms = due_ms.map(|ms| EPOCH_MS + i64::try_from(ms).unwrap_or(0));
        self.books.sending(Sent {
            place: place(partition),
            value: value.to_owned(),
            id: due_ms.map(|_| value.to_owned()),
            due_ms,
            is_at: true,
            sent_ms: self.books.now_ms(),
            fate: Fate::Unknown,
            cancelled: None,
        })
    }

    fn sees(&self, at: &Place, offset: i64, value: &str, headers: &[(&str, String)]) {
        let headers = headers.iter();
        let headers = headers.map(|(name, value)| ((*name).to_owned(), value.clone()));
        self.books.seen(
            at,
            Seen {
                offset,
                value: value.to_owned(),
                headers: headers.collect(),
            },
        );
    }

    /// A message that was acknowledged at once, and lies there.
    fn takes(&self, partition: i32, offset: i64, value: &str) {
        let number = self.send(partition, value, None);
        self.books.acked(number, offset);
        self.sees(&place(partition), offset, value, &[]);
    }

    fn releases(&self, offset: i64, value: &str, (due_ms, at): (u64, i64)) {
        let from = format!("7,{},{at}", EPOCH_MS + i64::try_from(due_ms).unwrap_or(0));
        let headers = [
            ("weir-delayed-from", from),
            ("weir-message-id", value.to_owned()),
        ];
        self.sees(&place(0), offset, value, &headers);
    }

    fn wrongs(&self) -> usize {
        let places = [place(0), place(1)];
        self.books.judge(&places).len() + self.books.wrongs().len()
    }
}

#[test]
fn what_was_refused_is_not_there_and_what_was_taken_is() {
    let story = Story::new();
    story.takes(0, 0, "q/1/0/-/good");
    let refused = story.send(0, "q/1/1/-/good", None);
    story.books.refused(refused);
    assert_eq!(story.wrongs(), 0);
    story.sees(&place(0), 1, "q/1/1/-/good", &[]);
    assert_eq!(story.wrongs(), 1);
    let lost = story.send(0, "q/1/2/-/good", None);
    story.books.acked(lost, 2);
    assert_eq!(story.wrongs(), 2);
    story.sees(&place(0), 2, "q/1/0/-/good", &[]);
    // It is there twice, out of its producer's order, and not what was acknowledged.
    assert_eq!(story.wrongs(), 4);
}

#[test]
fn a_bound_is_passed_by_one_message() {
    for is_of_topic in [false, true] {
        let story = Story::new();
        for number in 0..=BOUND {
            story.at(10 * (number + 1));
            let partition = i32::from(is_of_topic && number % 2 == 1);
            let offset = if is_of_topic { number / 2 } else { number };
            let offset = i64::try_from(offset).unwrap_or(0);
            story.takes(partition, offset, &format!("q/{partition}/{offset}/-/good"));
        }
        let judge = |from_ms: Option<u64>| {
            let settled = |_: &Place, offset| from_ms.filter(|_| offset == 0);
            bounds::judge(&story.books, settled, is_of_topic).len()
        };
        assert_eq!(judge(None), 1);
        assert_eq!(judge(Some(10 * BOUND)), 0);
        assert_eq!(judge(Some(10 * BOUND + 11)), 1, "it was settled later");
    }
}

#[test]
fn a_delayed_message_comes_once_in_time_and_in_order() {
    let story = Story::new();
    story.at(10);
    for (value, due_ms) in [
        ("q/1/0/-/good", 500),
        ("q/1/1/-/good", 400),
        ("q/1/2/-/good", 900),
    ] {
        let number = story.send(0, value, Some(due_ms));
        story.books.acked(number, 7);
    }
    let missing = |ms| delays::missing(&story.books, ms).len();
    assert_eq!((missing(0), missing(395), missing(5_000)), (0, 1, 3));
    story.at(600);
    assert_eq!(missing(0), 2);
    story.releases(3, "q/1/1/-/good", (400, 2));
    story.releases(4, "q/1/0/-/good", (500, 1));
    assert_eq!(
        (
            missing(0),
            delays::judge(&story.books).len(),
            story.wrongs()
        ),
        (0, 0, 0)
    );
    // Before any clock showed that it is due.
    story.releases(5, "q/1/2/-/good", (900, 3));
    assert_eq!(story.wrongs(), 1);
    assert_eq!(delays::judge(&story.books).len(), 0);
    // Once more, and behind what is due later.
    story.releases(6, "q/1/1/-/good", (400, 2));
    assert_eq!(delays::judge(&story.books).len(), 2);
}

#[test]
fn what_was_cancelled_in_time_does_not_come() {
    for (at_ms, wrong) in [(300, 1), (600, 0)] {
        let story = Story::new();
        story.at(10);
        let number = story.send(0, "q/1/0/-/good", Some(500));
        story.books.acked(number, 7);
        story.at(at_ms);
        story.books.cancelling(number, false);
        story.books.cancelling(number, true);
        assert_eq!(delays::missing(&story.books, 5_000).len(), 0);
        story.at(700);
        story.releases(1, "q/1/0/-/good", (500, 0));
        assert_eq!(delays::judge(&story.books).len(), wrong);
    }
}

#[test]
fn what_was_not_accepted_becomes_a_dead_letter_and_nothing_else_does() {
    let story = Story::new();
    let kind = |mark: &str| [("kind", mark.to_owned())];
    for (offset, mark) in [(0, value::GOOD), (1, value::GOOD), (2, value::SKIP)] {
        let value = format!("q/1/{offset}/k1/{mark}");
        story.sees(&place(0), offset, &value, &kind(mark));
    }
    let dead = Place(DEAD.into(), 0);
    let letter = |offset: i64, of: i64, value: &str| {
        let headers = [
            ("kind", value::GOOD.to_owned()),
            ("__dlq.errors.topic", "t".to_owned()),
            ("__dlq.errors.partition", "0".to_owned()),
            ("__dlq.errors.offset", of.to_string()),
            ("__dlq.errors.group", "workers".to_owned()),
            ("__dlq.errors.delivery.count", "3".to_owned()),
            ("__dlq.errors.message", "why".to_owned()),
        ];
        story.sees(&dead, offset, value, &headers);
    };
    let judge = |accepted: Option<i64>| {
        let acceptance = |_: &Place, offset| (accepted == Some(offset), accepted == Some(offset));
        jobs::judge(&story.books, &[place(0)], &dead, acceptance).len()
    };
    assert_eq!((judge(None), judge(Some(0))), (2, 1));
    letter(0, 1, "q/1/1/k1/good");
    assert_eq!((judge(None), judge(Some(0)), judge(Some(1))), (1, 0, 2));
    // Without its record, of what is for nobody, and of nothing.
    letter(1, 1, "");
    letter(2, 2, "q/1/2/k1/skip");
    letter(3, 9, "");
    // The second of them says another kind than its record, besides.
    assert_eq!(judge(Some(0)), 4);
}

#[test]
fn a_view_has_what_its_filter_lets_through_in_order_and_once() {
    let (story, [view, _]) = (Story::new(), views::VIEWS);
    let (source, copy) = (Place(view.of.into(), 0), Place(view.name.into(), 0));
    let kind = |mark: &str| [("kind", mark.to_owned())];
    story.sees(&source, 0, "a", &kind(value::GOOD));
    story.sees(&source, 1, "b", &kind(value::SKIP));
    story.sees(&source, 2, "c", &kind(value::GOOD));
    let judge = || views::judge(&story.books, 1).len();
    assert_eq!(judge(), 1);
    story.sees(&copy, 1, "a", &kind(value::GOOD));
    story.sees(&copy, 3, "c", &kind(value::GOOD));
    assert_eq!(judge(), 0);
    story.sees(&copy, 5, "c", &kind(value::GOOD));
    assert_eq!(judge(), 1);
}

#[test]
fn of_what_makes_room_as_much_is_left_as_is_allowed() {
    let story = Story::new();
    let judge = || drops::judge(&story.books, &place(0), 20);
    assert_eq!(judge(), Ok(false));
    story.books.begins(&place(0), 20 - BOUND.cast_signed());
    assert_eq!(judge(), Ok(true));
    story.books.begins(&place(0), 21 - BOUND.cast_signed());
    assert!(judge().is_err());
}

#[test]
fn of_what_fits_nothing_makes_room() {
    let story = Story::new();
    let judge = |end| drops::judge(&story.books, &place(0), end);
    assert_eq!(judge(3), Ok(true));
    story.books.begins(&place(0), 1);
    assert!(judge(3).is_err());
    // Somebody who leads next and does not know that yet takes nothing back.
    story.books.begins(&place(0), 0);
    assert!(judge(3).is_err());
    assert_eq!(judge(1 + BOUND.cast_signed()), Ok(true));
}

/// A half of two messages, in two partitions, that was decided so.
fn half(deals: &Deals, name: &str, decision: Option<Ending>) -> usize {
    let messages = (0..2).map(|partition| (place(partition), format!("q/1/{name}{partition}")));
    let number = deals.preparing(Deal::new(messages.collect(), 100, 2));
    deals.prepared(number, name);
    if let Some(decision) = decision {
        deals.decide(number, decision);
    }
    number
}

#[test]
fn a_half_is_there_as_a_whole_and_once_or_not_at_all() {
    let story = Story::new();
    let deals = Deals::new(story.books.clone());
    half(&deals, "a", Some(Ending::Commit));
    let judge = || deals.judge().len();
    assert_eq!(judge(), 0, "nobody has heard that it is committed");
    deals.ended(0, Ending::Commit);
    assert_eq!(judge(), 1);
    story.sees(&place(0), 0, "q/1/a0", &[]);
    assert_eq!(judge(), 1);
    story.sees(&place(1), 0, "q/1/a1", &[]);
    assert_eq!(judge(), 0);
    story.sees(&place(1), 2, "q/1/a1", &[]);
    assert_eq!(judge(), 1);
    // Of a half that there is, in a partition that it does not name; and of one that there is not.
    half(&deals, "b", Some(Ending::Commit));
    story.sees(&place(1), 3, "q/1/b0", &[]);
    story.sees(&place(1), 4, "q/1/b1", &[]);
    assert_eq!(judge(), 2);
    story.sees(&place(1), 5, "q/1/c0", &[]);
    assert_eq!(judge(), 3);
    assert_eq!(story.books.wrongs().len(), 0);
}

#[test]
fn a_half_s_messages_are_in_its_order() {
    let story = Story::new();
    let deals = Deals::new(story.books.clone());
    let messages = ["x", "y"].map(|value| (place(0), value.to_owned()));
    let number = deals.preparing(Deal::new(messages.into(), 100, 2));
    deals.decide(number, Ending::Commit);
    story.sees(&place(0), 7, "y", &[]);
    story.sees(&place(0), 8, "x", &[]);
    assert_eq!(deals.judge().len(), 1);
}

#[test]
fn a_half_that_nobody_has_committed_is_nowhere() {
    for decision in [None, Some(Ending::Rollback)] {
        let story = Story::new();
        let deals = Deals::new(story.books.clone());
        half(&deals, "a", decision);
        story.sees(&place(0), 0, "q/1/a0", &[]);
        story.sees(&place(1), 0, "q/1/a1", &[]);
        assert_eq!(deals.judge().len(), 1);
        deals.ended(0, Ending::Rollback);
        assert_eq!(deals.judge().len(), 1);
        // And it has one end.
        deals.ended(0, Ending::Commit);
        assert_eq!(story.books.wrongs().len(), 1);
    }
}

#[test]
fn a_half_is_given_up_when_it_was_asked_for_often_enough() {
    // Two times, and after the second as long again.
    for (at_ms, wrong) in [(290, 1), (300, 0)] {
        let story = Story::new();
        let deals = Deals::new(story.books.clone());
        half(&deals, "a", Some(Ending::Commit));
        story.at(at_ms);
        deals.contradicted(0, Ending::Commit);
        assert_eq!(story.books.wrongs().len(), wrong, "at {at_ms}");
        assert_eq!(deals.judge().len(), 0);
    }
    let story = Story::new();
    let deals = Deals::new(story.books.clone());
    half(&deals, "a", Some(Ending::Rollback));
    story.at(1_000);
    deals.contradicted(0, Ending::Rollback);
    assert_eq!(story.books.wrongs().len(), 1, "nobody has committed it");
}

#[test]
fn what_is_asked_for_was_prepared_so_and_is_open() {
    let story = Story::new();
    let deals = Deals::new(story.books.clone());
    half(&deals, "a", None);
    let messages = deals.get(0).map_or_else(Vec::new, |deal| deal.messages);
    let wrongs = || story.books.wrongs().len();
    assert_eq!(deals.asked(("a", 2), &messages, 0), Some(0));
    assert_eq!(wrongs(), 0);
    assert_eq!(deals.asked(("a", 3), &messages, 0), Some(0));
    assert_eq!(wrongs(), 1, "more often than it may");
    assert_eq!(deals.asked(("a", 1), &messages[..1], 0), None);
    assert_eq!(wrongs(), 2);
    assert_eq!(deals.asked(("b", 1), &messages, 0), Some(0));
    assert_eq!(wrongs(), 3, "it is another's name");
    story.at(10);
    deals.decide(0, Ending::Rollback);
    deals.ended(0, Ending::Rollback);
    // Over a stream from before that it may still be on its way.
    assert_eq!(deals.asked(("a", 1), &messages, 10), Some(0));
    assert_eq!(wrongs(), 3);
    assert_eq!(deals.asked(("a", 1), &messages, 11), Some(0));
    assert_eq!(wrongs(), 4);
}

#[test]
fn a_call_is_there_once_at_most_and_where_it_was_answered() {
    let story = Story::new();
    let judge = || calls::judge(&story.books).len();
    let number = story.send(0, "q/1/0/-/good", None);
    assert_eq!(judge(), 0);
    story.books.acked(number, -1);
    assert_eq!(judge(), 1);
    story.sees(&place(0), 3, "q/1/0/-/good", &[]);
    assert_eq!(judge(), 0);
    story.sees(&place(0), 4, "q/1/0/-/good", &[]);
    assert_eq!(judge(), 1);
    story.sees(&place(0), 5, "q/1/1/-/good", &[]);
    assert_eq!(judge(), 2);
}
