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
            Self::Not(tree) => format!("!({})", tree.written()),
            Self::Both(one, other) => format!("({} && {})", one.written(), other.written()),
            Self::Either(one, other) => format!("({} || {})", one.written(), other.written()),
        }
    }

    fn holds(&self, headers: &[Option<u8>; 3], key: u8, time: i64) -> bool {
        match self {
            Self::Is(name, value) => headers[*name] == Some(*value),
            Self::Has(name) => headers[*name].is_some(),
            Self::Key(value) => key == *value,
            Self::After(than) => time >= *than,
            Self::Not(tree) => !tree.holds(headers, key, time),
            Self::Both(one, other) => {
                one.holds(headers, key, time) && other.holds(headers, key, time)
            }
            Self::Either(one, other) => {
                one.holds(headers, key, time) || other.holds(headers, key, time)
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
        messages in prop::collection::vec(([prop::option::of(0..3_u8), prop::option::of(0..3_u8), prop::option::of(0..3_u8)], 0..3_u8, 0..3_i64), 1..8),
    ) {
        let condition = Condition::parse(&tree.written()).expect("a condition");
        for (values, key, time) in messages {
            let texts = values.map(|value| value.map(|value| value.to_string()));
            let headers: Vec<(&str, &[u8])> = NAMES.iter().zip(&texts)
                .filter_map(|(name, text)| Some((*name, text.as_ref()?.as_bytes())))
                .collect();
            let key_text = key.to_string();
            let message = Message { headers: &headers, key: Some(key_text.as_bytes()), timestamp_ms: time };
            prop_assert_eq!(condition.matches(&message), tree.holds(&values, key, time), "{}", tree.written());
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
