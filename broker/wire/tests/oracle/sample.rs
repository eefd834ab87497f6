//! Samples of messages, written by reading the schema at run time.
//!
//! Slow, simple and independent of the generator: it shares no code with it, so that an error in one is not an error in both.
//! Samples are canonical: a tagged field is there exactly when it differs from its default.

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::LazyLock;

use serde_json::Value;

/// Bytes to draw choices from; zeros when they run out, which is the smallest choice.
pub(crate) struct Entropy<'a>(&'a [u8]);

impl<'a> Entropy<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.byte()).collect()
    }

    /// A length: mostly small, sometimes one that takes two bytes as a varint.
    fn len(&mut self) -> usize {
        match self.byte() {
            byte @ ..=249 => usize::from(byte % 6),
            byte => usize::from(byte) * 2,
        }
    }
}

/// One message's definition.
pub(crate) struct Schema(Value);

impl Schema {
    /// The definitions of all messages.
    pub(crate) fn all() -> &'static [Self] {
        static ALL: LazyLock<Vec<Schema>> = LazyLock::new(|| {
            let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema");
            let mut paths: Vec<_> = std::fs::read_dir(directory)
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .collect();
            paths.sort();
            paths
                .iter()
                .filter(|path| path.file_stem().unwrap() != "errors")
                .map(|path| Schema(serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()))
                .collect()
        });
        &ALL
    }

    pub(crate) fn name(&self) -> &str {
        self.0["name"].as_str().unwrap()
    }

    pub(crate) fn versions(&self) -> RangeInclusive<i16> {
        versions(&self.0["validVersions"])
    }

    /// A message of this version, as bytes.
    pub(crate) fn sample(&self, version: i16, entropy: &mut Entropy<'_>) -> Vec<u8> {
        let flexible = versions(&self.0["flexibleVersions"]).contains(&version);
        let mut writer = Writer {
            schema: &self.0,
            version,
            flexible,
            out: Vec::new(),
        };
        writer.fields(&self.0, Some(entropy));
        writer.out
    }
}

/// `none`, `3`, `3-5`, `3+`, or nothing.
fn versions(value: &Value) -> RangeInclusive<i16> {
    let text = value.as_str().unwrap_or("none");
    if text == "none" {
        return RangeInclusive::new(1, 0);
    }
    match (text.strip_suffix('+'), text.split_once('-')) {
        (Some(min), _) => min.parse().unwrap()..=i16::MAX,
        (None, Some((min, max))) => min.parse().unwrap()..=max.parse().unwrap(),
        (None, None) => text.parse().unwrap()..=text.parse().unwrap(),
    }
}

struct Writer<'s> {
    schema: &'s Value,
    version: i16,
    flexible: bool,
    out: Vec<u8>,
}

impl<'s> Writer<'s> {
    /// Without entropy, every field has its default.
    fn fields(&mut self, item: &'s Value, mut entropy: Option<&mut Entropy<'_>>) {
        let mut tagged = Vec::new();
        for field in item["fields"].as_array().unwrap() {
            if !versions(&field["versions"]).contains(&self.version) {
                continue;
            }
            let Some(tag) = field["tag"].as_u64() else {
                self.field(field, entropy.as_deref_mut());
                continue;
            };
            let value = self.apart(|writer| writer.tagged(field, entropy.as_deref_mut()));
            if value != self.apart(|writer| writer.tagged(field, None)) {
                tagged.push((tag, value));
            }
        }
        if !self.flexible {
            return;
        }
        tagged.sort();
        self.varint(tagged.len());
        for (tag, value) in tagged {
            self.varint(usize::try_from(tag).unwrap());
            self.varint(value.len());
            self.out.extend(value);
        }
    }

    /// The content of a tagged field. A struct that may be null is marked by a varint there, and its default is the empty
    /// struct, whatever the schema says: so Kafka's generated code has it.
    fn tagged(&mut self, field: &'s Value, entropy: Option<&mut Entropy<'_>>) {
        let is_nullable = versions(&field["nullableVersions"]).contains(&self.version);
        let kind = field["type"].as_str().unwrap();
        if !is_nullable || !kind.starts_with(char::is_uppercase) {
            return self.field(field, entropy);
        }
        let item = self.item(field, kind);
        match entropy {
            Some(entropy) => {
                let is_null = entropy.byte() % 4 == 1;
                self.varint(usize::from(!is_null));
                if !is_null {
                    self.fields(item, Some(entropy));
                }
            }
            None => {
                self.varint(1);
                self.fields(item, None);
            }
        }
    }

    /// What `write` writes, not yet part of the message.
    fn apart(&mut self, write: impl FnOnce(&mut Self)) -> Vec<u8> {
        let before = std::mem::take(&mut self.out);
        write(self);
        std::mem::replace(&mut self.out, before)
    }

    fn field(&mut self, field: &'s Value, entropy: Option<&mut Entropy<'_>>) {
        let is_nullable = versions(&field["nullableVersions"]).contains(&self.version);
        let default = field["default"].as_str().unwrap_or_default();
        let flexible = self.flexible && field["flexibleVersions"].as_str() != Some("none");
        let kind = field["type"].as_str().unwrap();
        let item = self.item(field, kind);
        match entropy {
            Some(entropy) => {
                if is_nullable && entropy.byte() % 4 == 1 {
                    self.null(kind, flexible);
                } else {
                    self.value(kind, item, is_nullable, flexible, entropy);
                }
            }
            None if is_nullable && (default == "null" || kind == "records") => {
                self.null(kind, flexible)
            }
            None => self.default(kind, item, is_nullable, flexible, default),
        }
    }

    /// The struct that the field is, or is an array of: its own fields, or those of a common struct.
    fn item(&self, field: &'s Value, kind: &str) -> &'s Value {
        if !field["fields"].is_null() {
            return field;
        }
        let name = kind.trim_start_matches("[]");
        let common = self.schema["commonStructs"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        common
            .iter()
            .find(|item| item["name"] == name)
            .unwrap_or(&Value::Null)
    }

    fn null(&mut self, kind: &str, flexible: bool) {
        match kind {
            _ if kind.starts_with(char::is_uppercase) => self.out.push(0xff),
            _ if flexible => self.out.push(0),
            "string" => self.out.extend([0xff; 2]),
            _ => self.out.extend([0xff; 4]),
        }
    }

    fn value(
        &mut self,
        kind: &str,
        item: &'s Value,
        is_nullable: bool,
        flexible: bool,
        entropy: &mut Entropy<'_>,
    ) {
        match kind {
            "bool" => self.out.push(entropy.byte() & 1),
            "int8" => self.out.push(entropy.byte()),
            "int16" | "uint16" => self.out.extend(entropy.bytes(2)),
            "int32" => self.out.extend(entropy.bytes(4)),
            "int64" | "float64" => self.out.extend(entropy.bytes(8)),
            "uuid" => self.out.extend(entropy.bytes(16)),
            "string" => {
                let string: String = (0..entropy.len())
                    .map(|_| char::from(entropy.byte()))
                    .collect();
                self.length(string.len(), 2, flexible);
                self.out.extend(string.into_bytes());
            }
            "bytes" | "records" => {
                let bytes = entropy.len();
                let bytes = entropy.bytes(bytes);
                self.length(bytes.len(), 4, flexible);
                self.out.extend(bytes);
            }
            _ => match kind.strip_prefix("[]") {
                Some(element) => {
                    let count = usize::from(entropy.byte() % 4);
                    self.length(count, 4, flexible);
                    for _ in 0..count {
                        self.value(element, item, false, flexible, entropy);
                    }
                }
                None => {
                    if is_nullable {
                        self.out.push(1);
                    }
                    self.fields(item, Some(entropy));
                }
            },
        }
    }

    fn default(
        &mut self,
        kind: &str,
        item: &'s Value,
        is_nullable: bool,
        flexible: bool,
        default: &str,
    ) {
        let number = |default: &str| {
            if default.is_empty() {
                0
            } else {
                default.parse::<i64>().unwrap()
            }
        };
        match kind {
            "bool" => self.out.push(u8::from(default == "true")),
            "int8" => self.out.push(number(default) as u8),
            "int16" | "uint16" => self.out.extend((number(default) as i16).to_be_bytes()),
            "int32" => self.out.extend((number(default) as i32).to_be_bytes()),
            "int64" => self.out.extend(number(default).to_be_bytes()),
            "float64" => self.out.extend((number(default) as f64).to_be_bytes()),
            "uuid" => self.out.extend([0; 16]),
            "string" => {
                self.length(default.len(), 2, flexible);
                self.out.extend(default.as_bytes());
            }
            _ if kind.starts_with(char::is_uppercase) => {
                if is_nullable {
                    self.out.push(1);
                }
                self.fields(item, None);
            }
            _ => self.length(0, 4, flexible),
        }
    }

    /// A length: compact, or in as many bytes as its kind has.
    fn length(&mut self, len: usize, wide: usize, flexible: bool) {
        if flexible {
            self.varint(len + 1);
        } else {
            self.out
                .extend(&u32::try_from(len).unwrap().to_be_bytes()[4 - wide..]);
        }
    }

    fn varint(&mut self, mut value: usize) {
        while value > 0x7f {
            self.out.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }
}
