//! Reading one YAML document field by field.
//!
//! A [`Section`] is a mapping of the document; each field is taken from it exactly once, with the function that parses it. The
//! environment overrides every field: `broker.id` is `WEIR_BROKER_ID`. Whatever is left over when a section is finished is
//! refused, with the names that would have been right. Nothing here knows which fields there are.

use std::collections::BTreeMap;

use serde_json::Value;

/// What is wrong with the configuration: which field, what was there, and what is allowed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// The file is not there or cannot be read.
    #[error("the configuration file {path} cannot be read: {reason}")]
    Unreadable {
        /// The file's path.
        path: String,
        /// The operating system's error.
        reason: String,
    },
    /// The file is not YAML.
    #[error("the configuration is not valid YAML: {0}")]
    NotYaml(String),
    /// A field holds something that it may not.
    #[error("{field}: {found} is not allowed here; allowed: {allowed}")]
    Invalid {
        /// The field's path in the file, with the environment variable in brackets when the value came from there.
        field: String,
        /// What was found, quoted.
        found: String,
        /// What would have been right.
        allowed: String,
    },
    /// A field that has no default is absent.
    #[error("{field}: missing; needed: {allowed}")]
    Missing {
        /// The field's path in the file.
        field: String,
        /// What is to be written there.
        allowed: String,
    },
    /// A field that does not exist.
    #[error("{field}: there is no such field; the fields here are {known}")]
    Unknown {
        /// The field's path in the file.
        field: String,
        /// The names that exist in this section.
        known: String,
    },
}

/// Why one value is refused: what is allowed instead.
pub(crate) type Refusal = String;

/// The environment, as far as it concerns the configuration.
pub type Environment = BTreeMap<String, String>;

/// One mapping of the document, and the environment that overrides it.
#[derive(Debug)]
pub(crate) struct Section<'e> {
    path: String,
    fields: BTreeMap<String, Value>,
    known: Vec<String>,
    environment: &'e Environment,
}

impl<'e> Section<'e> {
    /// The whole document.
    pub(crate) fn document(yaml: &str, environment: &'e Environment) -> Result<Self, ConfigError> {
        let value = if yaml.trim().is_empty() {
            Value::Null
        } else {
            serde_yaml::from_str::<Value>(yaml)
                .map_err(|error| ConfigError::NotYaml(error.to_string()))?
        };
        Self::from_value(String::new(), value, environment)
    }

    fn from_value(
        path: String,
        value: Value,
        environment: &'e Environment,
    ) -> Result<Self, ConfigError> {
        let fields = match value {
            Value::Null => BTreeMap::new(),
            Value::Object(map) => map.into_iter().collect(),
            other => {
                return Err(ConfigError::Invalid {
                    field: if path.is_empty() {
                        "the document".into()
                    } else {
                        path
                    },
                    found: quoted(&other),
                    allowed: "a mapping of fields".into(),
                });
            }
        };
        Ok(Self {
            path,
            fields,
            known: Vec::new(),
            environment,
        })
    }

    /// A section within this one; an absent section is an empty one.
    pub(crate) fn section(&mut self, name: &str) -> Result<Section<'e>, ConfigError> {
        self.known.push(name.to_owned());
        let value = self.fields.remove(name).unwrap_or(Value::Null);
        Section::from_value(self.path_of(name), value, self.environment)
    }

    /// A field that may be absent.
    pub(crate) fn optional<T>(
        &mut self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, Refusal>,
    ) -> Result<Option<T>, ConfigError> {
        self.known.push(name.to_owned());
        let path = self.path_of(name);
        let variable = variable_of(&path);
        let from_file = self.fields.remove(name);
        if let Some(text) = self.environment.get(&variable) {
            return parse(text)
                .map(Some)
                .map_err(|allowed| ConfigError::Invalid {
                    field: format!("{path} (environment variable {variable})"),
                    found: format!("{text:?}"),
                    allowed,
                });
        }
        let Some(value) = from_file.filter(|value| !value.is_null()) else {
            return Ok(None);
        };
        let invalid = |allowed| ConfigError::Invalid {
            field: path.clone(),
            found: quoted(&value),
            allowed,
        };
        let Some(text) = scalar(&value) else {
            return Err(invalid("a single value".into()));
        };
        parse(&text).map(Some).map_err(invalid)
    }

    /// A field with a default.
    pub(crate) fn or<T>(
        &mut self,
        name: &str,
        default: T,
        parse: impl Fn(&str) -> Result<T, Refusal>,
    ) -> Result<T, ConfigError> {
        Ok(self.optional(name, parse)?.unwrap_or(default))
    }

    /// A field that must be there.
    pub(crate) fn required<T>(
        &mut self,
        name: &str,
        needed: &str,
        parse: impl Fn(&str) -> Result<T, Refusal>,
    ) -> Result<T, ConfigError> {
        let field = self.path_of(name);
        self.optional(name, parse)?
            .ok_or_else(|| ConfigError::Missing {
                field,
                allowed: needed.to_owned(),
            })
    }

    /// A list of single values; in the environment they are separated by commas.
    pub(crate) fn list<T>(
        &mut self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, Refusal>,
    ) -> Result<Vec<T>, ConfigError> {
        self.known.push(name.to_owned());
        let path = self.path_of(name);
        let variable = variable_of(&path);
        let from_file = self.fields.remove(name);
        let (label, items) = match (self.environment.get(&variable), from_file) {
            (Some(text), _) => {
                let items = text
                    .split(',')
                    .map(str::trim)
                    .filter(|item| !item.is_empty());
                (
                    format!("{path} (environment variable {variable})"),
                    items.map(str::to_owned).collect(),
                )
            }
            (None, None | Some(Value::Null)) => return Ok(Vec::new()),
            (None, Some(Value::Array(values))) => {
                let mut items = Vec::with_capacity(values.len());
                for (index, value) in values.iter().enumerate() {
                    items.push(scalar(value).ok_or_else(|| ConfigError::Invalid {
                        field: format!("{path}[{index}]"),
                        found: quoted(value),
                        allowed: "a single value".into(),
                    })?);
                }
                (path, items)
            }
            (None, Some(other)) => {
                return Err(ConfigError::Invalid {
                    field: path,
                    found: quoted(&other),
                    allowed: "a list".into(),
                });
            }
        };
        let parse_item = |(index, item): (usize, &String)| {
            parse(item).map_err(|allowed| ConfigError::Invalid {
                field: format!("{label}[{index}]"),
                found: format!("{item:?}"),
                allowed,
            })
        };
        items.iter().enumerate().map(parse_item).collect()
    }

    /// Takes every field that is left whose name `is_known` accepts, with the environment's overrides of `names`.
    pub(crate) fn rest(
        &mut self,
        names: &[&str],
        check: impl Fn(&str, &str) -> Result<(), Refusal>,
    ) -> Result<BTreeMap<String, String>, ConfigError> {
        let mut taken = BTreeMap::new();
        for name in names {
            if let Some(text) =
                self.optional(name, |text| check(name, text).map(|()| text.to_owned()))?
            {
                taken.insert((*name).to_owned(), text);
            }
        }
        Ok(taken)
    }

    /// Refuses whatever was not taken.
    pub(crate) fn finish(self) -> Result<(), ConfigError> {
        match self.fields.keys().next() {
            None => Ok(()),
            Some(name) => Err(ConfigError::Unknown {
                field: self.path_of(name),
                known: self.known.join(", "),
            }),
        }
    }

    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }
}

/// `topics.num.partitions` is `WEIR_TOPICS_NUM_PARTITIONS`.
fn variable_of(path: &str) -> String {
    let letters = path.chars().map(|c| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_uppercase()
        } else {
            '_'
        }
    });
    "WEIR_".chars().chain(letters).collect()
}

/// The text of a scalar, whichever way YAML read it: `12`, `"12"` and `true` are all texts to be parsed by their field.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn quoted(value: &Value) -> String {
    match value {
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "a mapping".into(),
        Value::Null => "nothing".into(),
        Value::String(text) => format!("{text:?}"),
        Value::Number(_) | Value::Bool(_) => value.to_string(),
    }
}
