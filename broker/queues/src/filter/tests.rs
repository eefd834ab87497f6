use proptest::prelude::*;

use super::{Condition, Filter, FilterError, Message, Tags};

const HEADERS: &[(&str, &[u8])] = &[
    ("region", b"eu"),
    ("amount", b"120"),
    ("weir-tags", b"paid, express"),
    ("blob", b"\xff\xfe"),
];

fn message<'m>(headers: &'m [(&'m str, &'m [u8])]) -> Message<'m> {
    Message {
        headers,
        key: Some(b"customer-7"),
        timestamp_ms: 1_700_000_000_000,
    }
}

fn holds(condition: &str) -> bool {
    let condition = Condition::parse(condition).expect(condition);
    condition.matches(&message(HEADERS))
}

fn refused(condition: &str) -> FilterError {
    Condition::parse(condition).expect_err(condition)
}

#[test]
fn conditions_speak_of_headers_key_and_time() {
    assert!(holds(
        "headers.region == 'eu' && int(headers['amount']) > 100"
    ));
    assert!(holds(
        "key.startsWith('customer-') && timestamp > 1600000000000"
    ));
    assert!(holds("headers.region in ['eu', 'us'] || false"));
    assert!(holds("has(headers.region) && !('country' in headers)"));
    assert!(holds(
        "(int(headers.amount) + 5) % 25 == 0 ? true : headers.region == 'us'"
    ));
    assert!(!holds("headers.region == \"us\""));
}

#[test]
fn conditions_speak_of_tags() {
    for condition in [
        "'paid' in tags && 'express' in tags",
        "!('open' in tags) && size(tags) == 2",
        "tags.exists(t, t.startsWith('exp'))",
        "tags.exists(t, t in ['open', 'paid']) && tags.all(t, size(t) > 3)",
        "tags == ['paid', 'express'] && tags.contains('paid')",
        "headers.region in ['eu'] && tags.exists(t, t == 'paid' || t == \"open\")",
    ] {
        assert!(holds(condition), "{condition}");
    }
    for condition in [
        "'pai' in tags",
        "'paid, express' in tags",
        "tags.exists(t, t.startsWith('open'))",
        "tags.all(t, t.startsWith('p'))",
        "1 in tags",
    ] {
        assert!(!holds(condition), "{condition}");
    }
}

#[test]
fn a_message_without_tags_has_an_empty_list() {
    let tags = |value: Option<&[u8]>| {
        let headers: Vec<(&str, &[u8])> = value.into_iter().map(|it| ("weir-tags", it)).collect();
        (0..2_000).find(|count| {
            let condition = format!("size(tags) == {count}");
            let condition = Condition::parse(&condition).expect("a condition");
            condition.matches(&message(&headers))
        })
    };
    assert_eq!(tags(None), Some(0));
    for none in [b"".as_slice(), b" , ,", b"\xff,a"] {
        assert_eq!(tags(Some(none)), Some(0), "{none:?}");
    }
    assert_eq!(tags(Some(b"a,, b ,a")), Some(3));
    assert_eq!(tags(Some("a,".repeat(5_000).as_bytes())), Some(1_024));
    let of_two: &[(&str, &[u8])] = &[("weir-tags", b"open"), ("weir-tags", b"paid")];
    let condition = Condition::parse("tags == ['paid']").expect("a condition");
    assert!(condition.matches(&message(of_two)), "the last counts");
    let condition = Condition::parse("tags.all(t, t == 'x') && !tags.exists(t, true)");
    assert!(condition.expect("a condition").matches(&message(&[])));
}

#[test]
fn what_is_asked_of_tags_is_judged_when_it_is_written() {
    for (condition, column, part) in [
        ("tags", 1, "tags is a list"),
        ("true && tags", 6, "&& is for what is true or false"),
        ("key == 'x' || tags == 'red'", 15, "tags is a list"),
        ("tags.startsWith('eu-')", 1, "tags is a list"),
        ("tags > 'red'", 1, "tags is a list"),
        ("tags in ['red']", 1, "tags is a list"),
        ("tags[0] == 'red'", 5, "only headers has fields"),
        ("tags.red == 'red'", 6, "only headers has fields"),
        (
            "tag == 'red'",
            1,
            "\"tag\" is not known; there are headers, key, tags, timestamp",
        ),
        ("tags.map(t, t) == ['red']", 6, "only tags.exists(t, ...)"),
        (
            "tags.exists_one(t, t == 'red')",
            6,
            "only tags.exists(t, ...)",
        ),
        (
            "tags.exists(t, true) || ['a'].exists(t, t == 'red')",
            31,
            "only tags.exists(t, ...)",
        ),
        (
            "key == 'a' || tags.exists(t, t == key)",
            35,
            "there is only t",
        ),
        ("tags.exists(t, t == headers.team)", 21, "there is only t"),
        ("tags.exists(t, headers['x'] == t)", 16, "there is only t"),
        (
            "tags.exists(t, tags.exists(u, u == t))",
            21,
            "within each other",
        ),
        ("tags.exists(t, u == 'red')", 16, "\"u\" is not known"),
        ("tags.exists(key, key == 'red')", 13, "key is known already"),
        ("tags.exists(t, t)", 6, "true or false"),
        ("tags.exists(t, t + 'x' == 'redx')", 18, "+ is for numbers"),
        (
            "tags.exists(t, t == 'red') && t == 'red'",
            13,
            "\"t\" is not known",
        ),
    ] {
        let error = refused(condition);
        assert_eq!(
            (error.line, error.column),
            (1, column),
            "{condition}: {error}"
        );
        assert!(error.message.contains(part), "{condition}: {error}");
    }
}

#[test]
fn what_makes_no_sense_for_a_message_does_not_match() {
    assert!(!holds("headers.country == 'de'"));
    assert!(!holds("int(headers.region) > 1"));
    assert!(!holds("headers.blob == 'x'"));
    assert!(!holds("1 / (int(headers.amount) - 120) > 0"));
    assert!(!holds("9223372036854775807 + int(headers.amount) > 0"));
}

#[test]
fn bad_expressions_are_refused_with_the_place() {
    let place = |condition| {
        let error = refused(condition);
        (error.line, error.column)
    };
    assert_eq!(
        place("headers.region ==\n  'eu' && country == 'de'"),
        (2, 11)
    );
    assert_eq!(place("'country' == country"), (1, 14));
    assert_eq!(place("headers.region.matches('a+')"), (1, 16));
    assert_eq!(place("[1].all(x, x > 0)"), (1, 5));
    assert_eq!(place("key + key == 'x'"), (1, 5));
    assert_eq!(place("true && key"), (1, 6));
    assert_eq!(place("headers.region"), (1, 1));
    assert_eq!(refused("headers.region == ").line, 1);
    assert!(
        refused("true && country")
            .to_string()
            .starts_with("line 1, column 9: \"country\" is not known")
    );
}

#[test]
fn conditions_that_could_cost_much_are_refused() {
    assert!(refused(&"x".repeat(1_025)).message.contains("1025 bytes"));
    assert!(
        refused(&vec!["true"; 140].join("&&"))
            .message
            .contains("parts")
    );
    let deep = |depth: usize| format!("{}true{}", "(".repeat(depth), ")".repeat(depth));
    assert_eq!(refused(&deep(400)).column, 13);
    assert!(holds(&deep(12)));
    for chain in ["1 == 1 ? ", "!", "1 + ", "key in ", "- "] {
        let _ = refused(&format!("{}1 == 1", chain.repeat(1_000 / chain.len())));
    }
    assert!(
        refused(&format!("key{}", ".a".repeat(400)))
            .message
            .contains("48 words")
    );
    assert!(
        refused(&format!("key{}", ".a()".repeat(200)))
            .message
            .contains("48 words")
    );
    // As deep as it may be, all at once.
    let most = format!(
        "{}headers.region{}",
        "(1 + 1 > 0) == ".repeat(3),
        " in [[[[[['eu']]]]]]"
    );
    let _ = Condition::parse(&most);
    let _ = refused("{'a': 1}.a == 1");
    let _ = refused("key.a.b == 1");
}

#[test]
fn a_condition_can_be_shared_by_threads() {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<Filter>();
}

#[test]
fn tags_are_those_of_rocketmq() {
    let matches = |tags: &str| Tags::parse(tags).expect(tags).match_headers(HEADERS);
    assert!(matches("*") && matches("") && matches("paid") && matches("open || express"));
    assert!(!matches("open") && !matches("pai"));
    assert!(!Tags::parse("paid").expect("tags").match_headers(&[]));
    let error = Tags::parse("paid ||  || open").expect_err("a tag is missing");
    assert_eq!(
        (error.column, error.message.as_str()),
        (10, "a tag is missing here")
    );
    assert!(Tags::parse("a,b").is_err());
}

#[test]
fn tags_and_condition_both_have_to_hold() {
    let matches = |tags: &str, condition: &str| {
        let filter = Filter::parse(tags, condition).expect("a filter");
        filter.matches(&message(HEADERS))
    };
    assert!(matches("paid", "headers.region == 'eu'"));
    assert!(!matches("paid", "headers.region == 'us'"));
    assert!(!matches("open", "headers.region == 'eu'"));
    assert!(matches("", " "));
}

/// A condition, by itself and as it is written.
#[derive(Clone, Debug)]
enum Tree {
    Is(usize, u8),
    Has(usize),
    Key(u8),
    After(i64),
    Tagged(u8),
    SomeTag(u8),
    AllTags(u8),
    Not(Box<Tree>),
    Both(Box<Tree>, Box<Tree>),
    Either(Box<Tree>, Box<Tree>),
}

const NAMES: [&str; 3] = ["a", "b", "c"];

impl Tree {
    fn written(&self) -> String {
        match self {
            Self::Is(name, value) => {
                let name = NAMES[*name];
                format!("('{name}' in headers && headers.{name} == '{value}')")
            }
            Self::Has(name) => format!("has(headers.{})", NAMES[*name]),
            Self::Key(value) => format!("key == '{value}'"),
            Self::After(time) => format!("timestamp >= {time}"),
            Self::Tagged(tag) => format!("'{tag}' in tags"),
            Self::SomeTag(tag) => format!("tags.exists(t, int(t) > {tag})"),
            Self::AllTags(tag) => format!("tags.all(t, t != '{tag}')"),
            Self::Not(tree) => format!("!({})", tree.written()),
            Self::Both(one, other) => format!("({} && {})", one.written(), other.written()),
            Self::Either(one, other) => format!("({} || {})", one.written(), other.written()),
        }
    }

    fn holds(&self, headers: &[Option<u8>; 3], tags: &[u8], key: u8, time: i64) -> bool {
        match self {
            Self::Is(name, value) => headers[*name] == Some(*value),
            Self::Has(name) => headers[*name].is_some(),
            Self::Key(value) => key == *value,
            Self::After(than) => time >= *than,
            Self::Tagged(tag) => tags.contains(tag),
            Self::SomeTag(tag) => tags.iter().any(|one| one > tag),
            Self::AllTags(tag) => tags.iter().all(|one| one != tag),
            Self::Not(tree) => !tree.holds(headers, tags, key, time),
            Self::Both(one, other) => {
                one.holds(headers, tags, key, time) && other.holds(headers, tags, key, time)
            }
            Self::Either(one, other) => {
                one.holds(headers, tags, key, time) || other.holds(headers, tags, key, time)
            }
        }
    }
}

fn trees() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        (0..3_usize, 0..3_u8).prop_map(|(name, value)| Tree::Is(name, value)),
        (0..3_usize).prop_map(Tree::Has),
        (0..3_u8).prop_map(Tree::Key),
        (0..3_i64).prop_map(Tree::After),
        (0..3_u8).prop_map(Tree::Tagged),
        (0..3_u8).prop_map(Tree::SomeTag),
        (0..3_u8).prop_map(Tree::AllTags),
    ];
    leaf.prop_recursive(3, 10, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|tree| Tree::Not(Box::new(tree))),
            (inner.clone(), inner.clone())
                .prop_map(|(one, other)| Tree::Both(Box::new(one), Box::new(other))),
            (inner.clone(), inner)
                .prop_map(|(one, other)| Tree::Either(Box::new(one), Box::new(other))),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn conditions_say_what_they_mean(
        tree in trees(),
        messages in prop::collection::vec(([prop::option::of(0..3_u8), prop::option::of(0..3_u8), prop::option::of(0..3_u8)], prop::collection::vec(0..3_u8, 0..4), 0..3_u8, 0..3_i64), 1..8),
    ) {
        let condition = Condition::parse(&tree.written()).expect("a condition");
        for (values, tags, key, time) in messages {
            let tag_texts: Vec<String> = tags.iter().map(u8::to_string).collect();
            let tags_text = tag_texts.join(",");
            let texts = values.map(|value| value.map(|value| value.to_string()));
            let headers: Vec<(&str, &[u8])> = NAMES.iter().zip(&texts)
                .filter_map(|(name, text)| Some((*name, text.as_ref()?.as_bytes())))
                .chain((!tags.is_empty()).then_some(("weir-tags", tags_text.as_bytes())))
                .collect();
            let key_text = key.to_string();
            let message = Message { headers: &headers, key: Some(key_text.as_bytes()), timestamp_ms: time };
            prop_assert_eq!(condition.matches(&message), tree.holds(&values, &tags, key, time), "{}", tree.written());
        }
    }

    #[test]
    fn no_text_does_harm(source in "[a-z0-9 .()'\"&|!=<>+\\[\\],{}?:\n-]{0,60}") {
        if let Ok(condition) = Condition::parse(&source) {
            let _ = condition.matches(&message(HEADERS));
        }
        let _ = Tags::parse(&source);
    }
}
