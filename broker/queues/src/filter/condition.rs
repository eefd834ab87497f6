//! Conditions in CEL.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use cel::common::ast::{Expr, IdedExpr, LiteralValue, operators as op};
use cel::objects::{Key, Map};
use cel::{Context, ParseErrors, Program, Value, functions};

use super::{FilterError, Message};

/// The longest condition, in bytes: what a person can still read.
const SOURCE_BYTES_MAX: usize = 1_024;
/// Brackets within brackets, and words and signs between two of `&&`, `||` and a comma. The parser and what comes after it go as deep
/// as these, and know no bound of their own that a thread's stack would outlast.
const NESTED_MAX: usize = 12;
const WORDS_MAX: usize = 48;
/// Parts of a condition: each may look at the whole message once.
const NODES_MAX: usize = 256;

/// What a condition may speak of.
const VARIABLES: [&str; 3] = ["headers", "key", "timestamp"];
/// What it may call, and what comes out.
const FUNCTIONS: [(&str, Kind); 7] = [
    ("startsWith", Kind::Truth),
    ("endsWith", Kind::Truth),
    ("contains", Kind::Truth),
    ("size", Kind::Number),
    ("int", Kind::Number),
    ("double", Kind::Number),
    ("string", Kind::Text),
];

/// What a part of a condition is, as far as that can be told before there is a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Truth,
    Number,
    Text,
    Other,
}

/// A condition that was judged.
pub struct Condition {
    source: String,
    program: Program,
    /// What it calls.
    root: Context<'static>,
    /// Which of [`VARIABLES`] it speaks of: the others are not made for each message.
    speaks_of: [bool; 3],
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Condition").field(&self.source).finish()
    }
}

impl Condition {
    /// Reads one.
    ///
    /// # Errors
    /// When it is none that is taken: where.
    pub fn parse(source: &str) -> Result<Self, FilterError> {
        if source.len() > SOURCE_BYTES_MAX {
            let message = format!(
                "{} bytes; at most {SOURCE_BYTES_MAX} are allowed",
                source.len()
            );
            return Err(at_start(message));
        }
        check_depth(source)?;
        let program = Program::compile(source).map_err(first_error)?;
        let mut judge = Judge { source, nodes: 0 };
        let kind = judge.kind(program.expression())?;
        if matches!(kind, Kind::Number | Kind::Text) {
            return Err(at_start(
                "a condition is true or false; compare this with something".into(),
            ));
        }
        let references = program.references();
        let speaks_of = VARIABLES.map(|name| references.has_variable(name));
        Ok(Self {
            source: source.to_owned(),
            program,
            root: root(),
            speaks_of,
        })
    }

    /// As it was written.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether it holds for a message.
    #[must_use]
    pub fn matches(&self, message: &Message<'_>) -> bool {
        let mut scope = self.root.new_inner_scope();
        let [headers, key, timestamp] = self.speaks_of;
        if headers {
            let headers = message.headers.iter();
            let map: HashMap<Key, Value> = headers
                .map(|(name, value)| (Key::String(Arc::new((*name).to_owned())), text(value)))
                .collect();
            scope.add_variable_from_value("headers", Value::Map(Map { map: Arc::new(map) }));
        }
        if key {
            scope.add_variable_from_value("key", message.key.map_or(Value::Null, text));
        }
        if timestamp {
            scope.add_variable_from_value("timestamp", Value::Int(message.timestamp_ms));
        }
        matches!(self.program.execute(&scope), Ok(Value::Bool(true)))
    }
}

/// Refuses what would go too deep, before it is parsed.
fn check_depth(source: &str) -> Result<(), FilterError> {
    let (mut nested, mut words, mut is_in_word) = (0_usize, 0, false);
    let mut quote = None;
    let (mut line, mut column, mut before) = (1, 0, ' ');
    for next in source.chars() {
        column += 1;
        let was_in_word = std::mem::take(&mut is_in_word);
        match quote {
            Some(open) if next == open && before != '\\' => quote = None,
            Some(_) => {}
            None => match next {
                '"' | '\'' => {
                    quote = Some(next);
                    words += 1;
                }
                '(' | '[' | '{' => nested += 1,
                ')' | ']' | '}' => nested = nested.saturating_sub(1),
                '&' | '|' | ',' => words = 0,
                '\n' => (line, column) = (line + 1, 0),
                next if next.is_whitespace() => {}
                next => {
                    is_in_word = next.is_alphanumeric() || next == '_';
                    words += usize::from(!(is_in_word && was_in_word));
                }
            },
        }
        before = next;
        let message = if nested > NESTED_MAX {
            format!("more than {NESTED_MAX} brackets within each other")
        } else if words > WORDS_MAX {
            format!("more than {WORDS_MAX} words and signs without && or || between")
        } else {
            continue;
        };
        return Err(FilterError {
            line,
            column,
            message,
        });
    }
    Ok(())
}

/// Text where it is text; other bytes can be compared with other bytes only.
fn text(value: &[u8]) -> Value {
    match std::str::from_utf8(value) {
        Ok(text) => Value::String(Arc::new(text.to_owned())),
        Err(_) => Value::Bytes(Arc::new(value.to_owned())),
    }
}

fn root() -> Context<'static> {
    let mut root = Context::empty();
    root.add_function("startsWith", functions::starts_with);
    root.add_function("endsWith", functions::ends_with);
    root.add_function("contains", functions::contains);
    root.add_function("size", functions::size);
    root.add_function("int", functions::int);
    root.add_function("double", functions::double);
    root.add_function("string", functions::string);
    root
}

fn at_start(message: String) -> FilterError {
    FilterError {
        line: 1,
        column: 1,
        message,
    }
}

fn first_error(errors: ParseErrors) -> FilterError {
    let Some(error) = errors.errors.into_iter().next() else {
        return at_start("no condition".into());
    };
    FilterError {
        line: usize::try_from(error.pos.0).unwrap_or(1).max(1),
        column: usize::try_from(error.pos.1).unwrap_or(1).max(1),
        message: error.msg,
    }
}

/// Looks at each part once.
struct Judge<'s> {
    source: &'s str,
    nodes: usize,
}

impl Judge<'_> {
    fn kind(&mut self, expr: &IdedExpr) -> Result<Kind, FilterError> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(at_start(format!("more than {NODES_MAX} parts")));
        }
        match &expr.expr {
            Expr::Literal(literal) => Ok(match literal {
                LiteralValue::Boolean(_) => Kind::Truth,
                LiteralValue::Int(_) | LiteralValue::UInt(_) | LiteralValue::Double(_) => {
                    Kind::Number
                }
                LiteralValue::String(_) => Kind::Text,
                _ => Kind::Other,
            }),
            Expr::Ident(name) => match name.as_str() {
                "headers" => Ok(Kind::Other),
                "key" => Ok(Kind::Text),
                "timestamp" => Ok(Kind::Number),
                other => {
                    let message =
                        format!("{other:?} is not known; there are {}", VARIABLES.join(", "));
                    Err(self.at(other, message))
                }
            },
            Expr::Select(select) => {
                self.headers(&select.operand, &select.field)?;
                Ok(if select.test { Kind::Truth } else { Kind::Text })
            }
            Expr::List(list) => {
                for element in &list.elements {
                    self.kind(element)?;
                }
                Ok(Kind::Other)
            }
            Expr::Call(call) => {
                let mut kinds = Vec::with_capacity(call.args.len());
                if call.func_name == op::INDEX
                    && let Some(operand) = call.args.first()
                {
                    self.headers(operand, "[")?;
                }
                for part in call.target.as_deref().into_iter().chain(&call.args) {
                    kinds.push(self.kind(part)?);
                }
                self.call(&call.func_name, &kinds)
            }
            Expr::Comprehension(_) => Err(self.refused(
                &["all", "exists", "exists_one", "map", "filter"],
                "all, exists, exists_one, map and filter are not taken: they could cost too much",
            )),
            Expr::Map(_) | Expr::Struct(_) => {
                Err(self.refused(&["{"], "maps and structs are not taken"))
            }
            Expr::Unspecified => Err(at_start("no condition".into())),
        }
    }

    /// Only headers have fields.
    fn headers(&mut self, operand: &IdedExpr, field: &str) -> Result<(), FilterError> {
        match &operand.expr {
            Expr::Ident(name) if name == "headers" => Ok(()),
            _ => {
                self.kind(operand)?;
                let message = "only headers has fields: headers.name, or headers['name']";
                Err(self.at(field, message.into()))
            }
        }
    }

    fn call(&self, name: &str, kinds: &[Kind]) -> Result<Kind, FilterError> {
        if let Some((_, kind)) = FUNCTIONS.iter().find(|(function, _)| *function == name) {
            return Ok(*kind);
        }
        let arithmetic = BTreeMap::from([
            (op::ADD, "+"),
            (op::SUBSTRACT, "-"),
            (op::MULTIPLY, "*"),
            (op::DIVIDE, "/"),
            (op::MODULO, "%"),
            (op::NEGATE, "-"),
        ]);
        if let Some(sign) = arithmetic.get(name) {
            // Texts that are put together could grow beyond all bounds.
            return if kinds.iter().all(|kind| *kind == Kind::Number) {
                Ok(Kind::Number)
            } else {
                Err(self.at(
                    sign,
                    format!("{sign} is for numbers; int(...) makes one of a text"),
                ))
            };
        }
        match name {
            op::LOGICAL_AND | op::LOGICAL_OR | op::LOGICAL_NOT => {
                let is_wrong = |kind: &Kind| matches!(kind, Kind::Number | Kind::Text);
                if kinds.iter().any(is_wrong) {
                    let sign = name.trim_matches('_');
                    return Err(self.at(sign, format!("{sign} is for what is true or false")));
                }
                Ok(Kind::Truth)
            }
            op::EQUALS
            | op::NOT_EQUALS
            | op::LESS
            | op::LESS_EQUALS
            | op::GREATER
            | op::GREATER_EQUALS
            | op::IN => Ok(Kind::Truth),
            op::INDEX => Ok(Kind::Text),
            op::CONDITIONAL => match kinds {
                [_, one, other] if one == other => Ok(*one),
                _ => Ok(Kind::Other),
            },
            other => {
                let known = FUNCTIONS.map(|(name, _)| name).join(", ");
                Err(self.at(other, format!("{other:?} is not known; there are {known}")))
            }
        }
    }

    fn refused(&self, words: &[&str], message: &str) -> FilterError {
        let found = words.iter().find_map(|word| place(self.source, word));
        let (line, column) = found.unwrap_or((1, 1));
        FilterError {
            line,
            column,
            message: message.to_owned(),
        }
    }

    fn at(&self, word: &str, message: String) -> FilterError {
        self.refused(&[word], &message)
    }
}

/// Where a word, or a sign, stands in a condition for the first time, texts in quotes left out.
fn place(source: &str, word: &str) -> Option<(usize, usize)> {
    let is_of_word = |at: char| at.is_alphanumeric() || at == '_';
    let is_name = word.starts_with(is_of_word);
    let (mut line, mut column) = (1, 1);
    let mut quote = None;
    let mut before = ' ';
    for (at, next) in source.char_indices() {
        match quote {
            Some(open) if next == open && before != '\\' => quote = None,
            Some(_) => {}
            None if next == '"' || next == '\'' => quote = Some(next),
            None => {
                let rest = &source[at..];
                let ends = |after: Option<char>| !after.is_some_and(is_of_word);
                let stands = rest.strip_prefix(word).is_some_and(|after| {
                    !is_name || (!is_of_word(before) && ends(after.chars().next()))
                });
                if stands {
                    return Some((line, column));
                }
            }
        }
        before = next;
        column += 1;
        if next == '\n' {
            (line, column) = (line + 1, 1);
        }
    }
    None
}
