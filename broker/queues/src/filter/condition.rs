//! Conditions in CEL: read, and asked of messages. What may be written is for [`judge`](super::judge) to say.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use cel::objects::{Key, Map};
use cel::{Context, ParseErrors, Program, Value, functions};

use super::judge::{VARIABLES, judge};
use super::{FilterError, Message, tags};

/// The longest condition, in bytes: what a person can still read.
const SOURCE_BYTES_MAX: usize = 1_024;
/// Brackets within brackets, and words and signs between two of `&&`, `||` and a comma. The parser and what comes after it go as deep
/// as these, and know no bound of their own that a thread's stack would outlast.
const NESTED_MAX: usize = 12;
const WORDS_MAX: usize = 48;
/// A condition that was judged.
pub struct Condition {
    source: String,
    program: Program,
    /// What it calls.
    root: Context<'static>,
    /// Which of [`VARIABLES`] it speaks of: the others are not made for each message.
    speaks_of: [bool; 4],
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
        judge(source, program.expression())?;
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
        let [headers, key, tags, timestamp] = self.speaks_of;
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
        if tags {
            let tags = tags::of_headers(message.headers);
            let tags = tags.map(|tag| Value::String(Arc::new(tag.to_owned())));
            scope.add_variable_from_value("tags", Value::List(Arc::new(tags.collect())));
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

pub(super) fn at_start(message: String) -> FilterError {
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
