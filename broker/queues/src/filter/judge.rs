//! Which part of CEL is taken, and where what is not taken stands.
//!
//! What always holds of a condition that passed: each part looks at the message at most once, and what is asked of each tag looks at that tag only; so what
//! a message costs is bounded by the condition's length and the message's.

use std::collections::BTreeMap;

use cel::common::ast::{ComprehensionExpr, Expr, IdedExpr, LiteralValue, operators as op};

use super::FilterError;
use super::condition::at_start;

/// Parts of a condition: each may look at the whole message once.
const NODES_MAX: usize = 256;

/// What a condition may speak of.
pub(super) const VARIABLES: [&str; 4] = ["headers", "key", "tags", "timestamp"];
/// What to write in place of what is refused of `tags`.
const OF_TAGS: &str =
    "tags is a list: 'red' in tags, or tags.exists(t, t.startsWith('eu-')), or tags.all(...)";
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
    Tags,
    Other,
}

/// Judges a condition that was parsed from `source`.
///
/// # Errors
/// Which part is not taken, or makes no sense.
pub(super) fn judge(source: &str, expression: &IdedExpr) -> Result<(), FilterError> {
    let mut judge = Judge {
        source,
        nodes: 0,
        asked: 0,
        each: None,
    };
    match judge.kind(expression)? {
        Kind::Truth | Kind::Other => Ok(()),
        Kind::Tags => Err(judge.at("tags", OF_TAGS.into())),
        Kind::Number | Kind::Text => Err(at_start(
            "a condition is true or false; compare this with something".into(),
        )),
    }
}

/// Looks at each part once.
struct Judge<'s> {
    source: &'s str,
    nodes: usize,
    /// How many of [`OF_EACH`] there were.
    asked: usize,
    /// Inside one of them.
    each: Option<Each>,
}

/// What is asked of each tag. It may speak of nothing else, so that it costs as much as the tags are long, and not as much as the message for each.
struct Each {
    /// What a tag is called.
    tag: String,
    /// Where it begins.
    place: (usize, usize),
}

/// What may be asked of tags, and of nothing else.
const OF_EACH: [&str; 2] = ["exists", "all"];

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
            Expr::Ident(name) => self.variable(name),
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
            Expr::Comprehension(of) => self.each(of),
            Expr::Map(_) | Expr::Struct(_) => {
                Err(self.refused(&["{"], "maps and structs are not taken"))
            }
            Expr::Unspecified => Err(at_start("no condition".into())),
        }
    }

    fn variable(&self, name: &str) -> Result<Kind, FilterError> {
        match (name, &self.each) {
            (name, Some(each)) if name == each.tag => Ok(Kind::Text),
            (name, Some(each)) if VARIABLES.contains(&name) => {
                let message = format!(
                    "within exists and all there is only {}: more could cost too much",
                    each.tag
                );
                Err(self.at(name, message))
            }
            ("headers", None) => Ok(Kind::Other),
            ("key", None) => Ok(Kind::Text),
            ("tags", None) => Ok(Kind::Tags),
            ("timestamp", None) => Ok(Kind::Number),
            (other, _) => {
                let message = format!("{other:?} is not known; there are {}", VARIABLES.join(", "));
                Err(self.at(other, message))
            }
        }
    }

    /// `tags.exists(t, ...)` and `tags.all(t, ...)`, as the parser writes them.
    fn each(&mut self, of: &ComprehensionExpr) -> Result<Kind, FilterError> {
        let (names, body) = match (&of.accu_init.expr, &of.loop_step.expr) {
            (Expr::Literal(LiteralValue::Boolean(_)), Expr::Call(step)) => {
                (OF_EACH.as_slice(), step.args.get(1))
            }
            _ => (["exists_one", "map", "filter"].as_slice(), None),
        };
        let is_of_tags = matches!(&of.iter_range.expr, Expr::Ident(name) if name == "tags");
        let place = self.place(names, self.asked);
        let Some(body) = body.filter(|_| is_of_tags && self.each.is_none()) else {
            let message = "of what is done with lists only tags.exists(t, ...) and tags.all(t, ...) are taken, not within each other: others could cost too much";
            return Err(refused_at(place, message));
        };
        if VARIABLES.contains(&of.iter_var.as_str()) {
            let message = format!("{} is known already; t would be a name", of.iter_var);
            return Err(self.at(&of.iter_var, message));
        }
        self.asked += 1;
        let tag = of.iter_var.clone();
        self.each = Some(Each { tag, place });
        let kind = self.kind(body)?;
        if matches!(kind, Kind::Number | Kind::Text) {
            let message = "what is asked of each tag is true or false; compare it with something";
            return Err(refused_at(place, message));
        }
        self.each = None;
        Ok(Kind::Truth)
    }

    /// Only headers have fields.
    fn headers(&mut self, operand: &IdedExpr, field: &str) -> Result<(), FilterError> {
        match &operand.expr {
            Expr::Ident(name) if name == "headers" => self.variable(name).map(drop),
            _ => {
                self.kind(operand)?;
                let message = "only headers has fields: headers.name, or headers['name']";
                Err(self.at(field, message.into()))
            }
        }
    }

    fn call(&self, name: &str, kinds: &[Kind]) -> Result<Kind, FilterError> {
        let is_of_tags = match name {
            op::EQUALS | op::NOT_EQUALS => {
                kinds.contains(&Kind::Tags)
                    && kinds
                        .iter()
                        .any(|kind| matches!(kind, Kind::Truth | Kind::Number | Kind::Text))
            }
            op::LESS | op::LESS_EQUALS | op::GREATER | op::GREATER_EQUALS => {
                kinds.contains(&Kind::Tags)
            }
            op::IN | "startsWith" | "endsWith" | "int" | "double" | "string" => {
                kinds.first() == Some(&Kind::Tags)
            }
            _ => false,
        };
        if is_of_tags {
            return Err(self.at("tags", OF_TAGS.into()));
        }
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
                let is_wrong = |kind: &Kind| matches!(kind, Kind::Number | Kind::Text | Kind::Tags);
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
        refused_at(self.place(words, 0), message)
    }

    fn at(&self, word: &str, message: String) -> FilterError {
        self.refused(&[word], &message)
    }

    /// Where one of these words stands, so many of them passed over: within what is asked of each tag, if it is there.
    fn place(&self, words: &[&str], passed: usize) -> (usize, usize) {
        let mut all: Vec<_> = words
            .iter()
            .flat_map(|word| places(self.source, word))
            .collect();
        all.sort_unstable();
        let found = match &self.each {
            Some(each) => all.iter().find(|at| **at > each.place),
            None => all.get(passed),
        };
        *found.or(all.first()).unwrap_or(&(1, 1))
    }
}

fn refused_at((line, column): (usize, usize), message: &str) -> FilterError {
    FilterError {
        line,
        column,
        message: message.to_owned(),
    }
}

/// Where a word, or a sign, stands in a condition, texts in quotes left out.
fn places(source: &str, word: &str) -> Vec<(usize, usize)> {
    let is_of_word = |at: char| at.is_alphanumeric() || at == '_';
    let is_name = word.starts_with(is_of_word);
    let mut found = Vec::new();
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
                    found.push((line, column));
                }
            }
        }
        before = next;
        column += 1;
        if next == '\n' {
            (line, column) = (line + 1, 1);
        }
    }
    found
}
