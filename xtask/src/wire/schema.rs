//! Kafka's message definitions, as the generator needs them: every struct by itself, versions resolved.

use serde_json::Value;

use super::names;
use super::versions::Versions;

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Request,
    Response,
    /// A header, or what is stored or sent within another message.
    Data,
    /// Key or value of a record in a coordinator's log.
    Stored,
}

/// One message: one file of the schema, one module of the codec.
pub(super) struct Message {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// The API's key, or the kind of a stored record.
    pub(super) key: Option<i16>,
    pub(super) valid: Versions,
    /// Whether Kafka itself does not yet offer the last version.
    pub(super) unstable: bool,
    pub(super) flexible: Versions,
    /// The message itself, then the structs within it.
    pub(super) structs: Vec<Struct>,
}

pub(super) struct Struct {
    pub(super) name: String,
    pub(super) fields: Vec<Field>,
}

pub(super) struct Field {
    /// Kafka's name.
    pub(super) name: String,
    /// Rust's name.
    pub(super) ident: String,
    pub(super) kind: Type,
    pub(super) versions: Versions,
    /// Versions in which it may be null; the Rust type is an `Option` when there are any.
    pub(super) nullable: Versions,
    pub(super) tag: Option<u32>,
    /// Versions in which its lengths are compact.
    pub(super) flexible: Versions,
    pub(super) ignorable: bool,
    pub(super) default: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Type {
    /// A number: Rust's type, the reader's and the sink's word for it, bytes.
    Number(&'static str, &'static str, usize),
    Uuid,
    String,
    Bytes,
    Records,
    Struct(String),
    Array(Box<Type>),
}

impl Type {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(match text {
            "bool" => Self::Number("bool", "bool", 1),
            "int8" => Self::Number("i8", "i8", 1),
            "int16" => Self::Number("i16", "i16", 2),
            "uint16" => Self::Number("u16", "u16", 2),
            "int32" => Self::Number("i32", "i32", 4),
            "int64" => Self::Number("i64", "i64", 8),
            "float64" => Self::Number("f64", "f64", 8),
            "uuid" => Self::Uuid,
            "string" => Self::String,
            "bytes" => Self::Bytes,
            "records" => Self::Records,
            _ => match text.strip_prefix("[]") {
                Some(element) => Self::Array(Box::new(Self::parse(element)?)),
                None if text.starts_with(|letter: char| letter.is_ascii_uppercase()) => {
                    Self::Struct(String::from(text))
                }
                None => return Err(format!("type {text:?}")),
            },
        })
    }

    /// Whether its view borrows from the frame.
    pub(super) fn borrows(&self, message: &Message) -> bool {
        match self {
            Self::Number(..) | Self::Uuid => false,
            Self::String | Self::Bytes | Self::Records | Self::Array(_) => true,
            Self::Struct(name) => message.item(name).borrows(message),
        }
    }
}

impl Struct {
    pub(super) fn borrows(&self, message: &Message) -> bool {
        self.fields.iter().any(|field| field.kind.borrows(message))
    }

    /// The least bytes that it takes in a version.
    pub(super) fn min_size(&self, message: &Message, version: i16) -> usize {
        let fields: usize = self
            .fields
            .iter()
            .filter(|field| field.tag.is_none() && field.versions.contains(version))
            .map(|field| field.min_size(message, version))
            .sum();
        fields + usize::from(message.flexible.contains(version))
    }
}

impl Field {
    pub(super) fn is_nullable(&self) -> bool {
        !self.nullable.is_empty()
    }

    /// The default's text, `null` aside.
    pub(super) fn default(&self) -> Option<&str> {
        self.default
            .as_deref()
            .filter(|default| *default != "null" && !default.is_empty())
    }

    /// Whether it is a struct in a tagged field that may be null. Kafka's generator takes no notice of its default, so that
    /// an absent one is the empty struct, and marks null within the field, by a varint.
    pub(super) fn is_tagged_nullable_struct(&self) -> bool {
        self.tag.is_some() && self.is_nullable() && matches!(self.kind, Type::Struct(_))
    }

    /// Whether it is null unless set.
    pub(super) fn is_null_by_default(&self) -> bool {
        self.is_nullable()
            && !self.is_tagged_nullable_struct()
            && (self.default.as_deref() == Some("null") || self.kind == Type::Records)
    }

    fn min_size(&self, message: &Message, version: i16) -> usize {
        let flexible = self.flexible.contains(version);
        match &self.kind {
            Type::Number(_, _, size) => *size,
            Type::Uuid => 16,
            Type::Struct(_) if self.nullable.contains(version) => 1,
            Type::Struct(name) => message.item(name).min_size(message, version),
            _ if flexible => 1,
            Type::String => 2,
            Type::Bytes | Type::Records | Type::Array(_) => 4,
        }
    }
}

impl Message {
    pub(super) fn parse(json: &Value) -> Result<Self, String> {
        let kind = match text(json, "type")? {
            "request" => Kind::Request,
            "response" => Kind::Response,
            "header" | "data" => Kind::Data,
            "coordinator-key" | "coordinator-value" => Kind::Stored,
            other => return Err(format!("type {other:?}")),
        };
        let valid = Versions::parse(text(json, "validVersions")?)?;
        let mut message = Self {
            name: String::from(text(json, "name")?),
            kind,
            key: json["apiKey"]
                .as_i64()
                .map(i16::try_from)
                .transpose()
                .map_err(|e| e.to_string())?,
            valid,
            unstable: json["latestVersionUnstable"].as_bool().unwrap_or_default(),
            flexible: Versions::parse(text(json, "flexibleVersions")?)?.and(valid),
            structs: Vec::new(),
        };
        let name = message.name.clone();
        message.add(&name, json)?;
        for common in list(json, "commonStructs") {
            message.add(text(common, "name")?, common)?;
        }
        message.check()?;
        Ok(message)
    }

    /// The struct of that name; the parser has seen that it is there.
    pub(super) fn item(&self, name: &str) -> &Struct {
        self.structs
            .iter()
            .find(|item| item.name == name)
            .unwrap_or(&self.structs[0])
    }

    /// The message's own struct.
    pub(super) fn root(&self) -> &Struct {
        &self.structs[0]
    }

    /// Without `Request` or `Response`.
    pub(super) fn api(&self) -> &str {
        self.name
            .strip_suffix("Request")
            .or(self.name.strip_suffix("Response"))
            .unwrap_or(&self.name)
    }

    fn add(&mut self, name: &str, json: &Value) -> Result<(), String> {
        let at = self.structs.len();
        self.structs.push(Struct {
            name: String::from(name),
            fields: Vec::new(),
        });
        let mut fields = Vec::new();
        for json in list(json, "fields") {
            let field = self
                .field(json)
                .map_err(|error| format!("{name}.{}: {error}", json["name"]))?;
            if field.versions.is_empty() {
                continue;
            }
            if json.get("fields").is_some() {
                self.add(text(json, "type")?.trim_start_matches("[]"), json)?;
            }
            fields.push(field);
        }
        self.structs[at].fields = fields;
        Ok(())
    }

    fn field(&self, json: &Value) -> Result<Field, String> {
        let range = |key: &str| match json[key].as_str() {
            Some(text) => Versions::parse(text).map(Some),
            None => Ok(None),
        };
        let tagged = range("taggedVersions")?.map(|tagged| tagged.and(self.valid));
        // Some say of tagged fields only in which versions they are tagged.
        let versions = range("versions")?.map(|versions| versions.and(self.valid));
        let versions = versions.or(tagged).ok_or("no versions")?;
        if tagged.is_some_and(|tagged| tagged != versions) {
            return Err(String::from("tagged in some versions only"));
        }
        let name = text(json, "name")?;
        Ok(Field {
            name: String::from(name),
            ident: names::field(name),
            kind: Type::parse(text(json, "type")?)?,
            versions,
            nullable: range("nullableVersions")?
                .unwrap_or(Versions::NONE)
                .and(versions),
            tag: match json["tag"].as_u64() {
                Some(tag) => Some(u32::try_from(tag).map_err(|error| error.to_string())?),
                None => None,
            },
            flexible: range("flexibleVersions")?
                .unwrap_or(self.flexible)
                .and(self.flexible),
            ignorable: json["ignorable"].as_bool().unwrap_or_default(),
            default: json["default"].as_str().map(String::from),
        })
    }

    /// What the generated code relies on.
    fn check(&self) -> Result<(), String> {
        self.check_depth(self.root(), 0)?;
        for item in &self.structs {
            for field in &item.fields {
                let wrong = |what: &str| Err(format!("{}.{}: {what}", item.name, field.name));
                let (inner, is_array) = match &field.kind {
                    Type::Array(element) => (element.as_ref(), true),
                    kind => (kind, false),
                };
                if let Type::Struct(name) = inner {
                    let Some(inner) = self.structs.iter().find(|item| item.name == *name) else {
                        return wrong("no such struct");
                    };
                    let free = |version| {
                        field.versions.contains(version) && inner.min_size(self, version) == 0
                    };
                    if is_array && (self.valid.min..=self.valid.max).any(free) {
                        return wrong("an element that takes no bytes");
                    }
                }
                if field.tag.is_some() && *inner == Type::Records {
                    return wrong("records in a tagged field");
                }
            }
        }
        Ok(())
    }

    /// Structs within structs end somewhere, and soon: this bounds the decoder's recursion.
    fn check_depth(&self, item: &Struct, depth: usize) -> Result<(), String> {
        if depth > 8 {
            return Err(format!("{}: structs lie more than 8 deep", item.name));
        }
        for field in &item.fields {
            let inner = match &field.kind {
                Type::Array(element) => element,
                kind => kind,
            };
            if let Type::Struct(name) = inner {
                self.check_depth(self.item(name), depth + 1)?;
            }
        }
        Ok(())
    }
}

fn text<'a>(json: &'a Value, key: &str) -> Result<&'a str, String> {
    json[key]
        .as_str()
        .ok_or_else(|| format!("{key} is missing"))
}

fn list<'a>(json: &'a Value, key: &str) -> &'a [Value] {
    json[key].as_array().map(Vec::as_slice).unwrap_or_default()
}
