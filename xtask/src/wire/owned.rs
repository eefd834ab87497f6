//! The owned form of a struct: what one builds and encodes.

use std::fmt::Write;

use super::schema::{Field, Kind, Message, Struct, Type};
use super::view::{docs, label};

/// The owned type, its defaults and its encoding.
pub(super) fn item(message: &Message, item: &Struct) -> String {
    let name = &item.name;
    let derived = item.fields.iter().all(has_trivial_default);
    let default = if derived { "Default, " } else { "" };
    let mut code = format!(
        "/// `{name}`, owned.\n#[derive(Clone, Debug, {default}PartialEq)]\npub struct {name} {{\n"
    );
    for field in &item.fields {
        let _ = writeln!(
            code,
            "{}pub {}: {},",
            docs(field),
            field.ident,
            field_type(field)
        );
    }
    code.push_str("}\n\n");
    if !derived {
        let fields: String = item
            .fields
            .iter()
            .map(|field| format!("{}: {},", field.ident, self::default(field)))
            .collect();
        let _ = write!(
            code,
            "impl Default for {name} {{ fn default() -> Self {{ Self {{ {fields} }} }} }}\n\n"
        );
    }
    let write = write(message, item);
    let version = if super::mentions(&write, "version") {
        "version"
    } else {
        "_"
    };
    let sink = if super::mentions(&write, "sink") {
        "sink"
    } else {
        "_"
    };
    let _ = write!(
        code,
        "impl Encode for {name} {{
            fn write<S: Sink>(&self, {sink}: &mut S, {version}: Version, _: &'static str) -> Result<(), EncodeError> {{
                {write} Ok(())
            }}
        }}\n\n"
    );
    code
}

/// What makes the struct a message.
pub(super) fn message(message: &Message) -> String {
    let name = &message.name;
    let flexible_from = match message.flexible.is_empty() {
        true => String::from("i16::MAX"),
        false => message.flexible.min.to_string(),
    };
    let lifetime = if message.root().borrows(message) {
        "<'a>"
    } else {
        ""
    };
    let mut code = format!(
        "impl Message for {name} {{
            const NAME: &'static str = \"{name}\";
            const VERSIONS: RangeInclusive<i16> = {}..={};
            const FLEXIBLE_FROM: i16 = {flexible_from};
        }}

        impl<'a> MessageView<'a> for {name}View{lifetime} {{}}\n\n",
        message.valid.min, message.valid.max,
    );
    let api = message.api();
    let _ = match (message.kind, message.key) {
        (Kind::Request, _) => write!(
            code,
            "impl Request for {name} {{
                const KEY: ApiKey = ApiKey::{api};
                type Response = super::{api}Response;
            }}\n"
        ),
        (Kind::Response, _) => {
            writeln!(code, "impl Response for {name} {{ const KEY: ApiKey = ApiKey::{api}; }}")
        }
        (Kind::Stored, Some(key)) => write!(
            code,
            "impl {name} {{
                /// The kind of record in `__consumer_offsets`: the two bytes before the key's fields.
                pub const RECORD_KIND: i16 = {key};
            }}\n"
        ),
        (Kind::Stored | Kind::Data, _) => Ok(()),
    };
    code
}

fn element_type(kind: &Type) -> String {
    match kind {
        Type::Number(rust, _, _) => String::from(*rust),
        Type::Uuid => String::from("Uuid"),
        Type::String => String::from("String"),
        Type::Bytes => String::from("Bytes"),
        Type::Records => String::from("Records"),
        Type::Struct(name) => name.clone(),
        Type::Array(element) => format!("Vec<{}>", element_type(element)),
    }
}

fn field_type(field: &Field) -> String {
    let kind = element_type(&field.kind);
    if field.is_nullable() {
        format!("Option<{kind}>")
    } else {
        kind
    }
}

/// Whether Rust's own default is the schema's.
pub(super) fn has_trivial_default(field: &Field) -> bool {
    match field.is_nullable() {
        true => field.is_null_by_default(),
        false => match &field.kind {
            Type::Number("bool", ..) => field.default().is_none_or(|default| default == "false"),
            Type::Number(..) => field.default().is_none_or(|default| default == "0"),
            _ => field.default().is_none(),
        },
    }
}

fn default(field: &Field) -> String {
    if field.is_null_by_default() {
        return String::from("None");
    }
    let value = match &field.kind {
        Type::Number("bool", ..) => String::from(field.default().unwrap_or("false")),
        Type::Number("f64", ..) => String::from(field.default().unwrap_or("0.0")),
        Type::Number(..) => String::from(field.default().unwrap_or("0")),
        Type::Uuid => String::from("Uuid::nil()"),
        Type::String => match field.default() {
            Some(default) => format!("String::from({default:?})"),
            None => String::from("String::new()"),
        },
        Type::Bytes => String::from("Bytes::new()"),
        Type::Records => String::from("Records::empty()"),
        Type::Struct(name) => format!("{name}::default()"),
        Type::Array(_) => String::from("Vec::new()"),
    };
    if field.is_nullable() {
        format!("Some({value})")
    } else {
        value
    }
}

/// The condition that the field says something other than its default.
fn is_set(field: &Field) -> String {
    let here = format!("self.{}", field.ident);
    if field.is_null_by_default() {
        return format!("{here}.is_some()");
    }
    match (&field.kind, field.is_nullable()) {
        (Type::Number("bool", ..), _) if field.default() == Some("true") => format!("!{here}"),
        (Type::Number("bool", ..), _) => here,
        (Type::Number(..), _) => format!("{here} != {}", default(field)),
        (Type::Uuid, _) => format!("!{here}.is_nil()"),
        (Type::String, false) if field.default().is_some() => {
            format!("{here} != {:?}", field.default().unwrap_or_default())
        }
        (Type::String | Type::Bytes | Type::Records | Type::Array(_), false) => {
            format!("!{here}.is_empty()")
        }
        (Type::String | Type::Bytes | Type::Records | Type::Array(_), true) => {
            format!("{here}.as_ref().is_none_or(|value| !value.is_empty())")
        }
        (Type::Struct(_), _) => format!("{here} != {}", default(field)),
    }
}

/// Writes the field, in a version that has it.
fn write_field(message: &Message, item: &Struct, field: &Field, sink: &str) -> String {
    let label = label(message, item, field);
    let here = format!("self.{}", field.ident);
    let flexible = field.flexible.condition(field.versions);
    let flexible = if flexible == "true" || flexible == "false" {
        flexible
    } else {
        String::from("version.flexible")
    };
    let nullable = field.nullable.condition(field.versions);
    let kind = match &field.kind {
        Type::Number(_, word, _) => return format!("{sink}.put_{word}({here});"),
        Type::Uuid => return format!("{sink}.put_uuid({here});"),
        Type::Struct(_) if !field.is_nullable() => {
            return format!("{here}.write({sink}, version, {label})?;");
        }
        kind => kind,
    };
    let is_nullable = field.is_nullable();
    let some = |optional: &str, plain: &str| match is_nullable {
        true => format!("{here}{optional}"),
        false => format!("Some({plain})"),
    };
    match kind {
        Type::String => {
            let value = some(".as_deref()", &format!("&{here}"));
            format!("put_string({sink}, {flexible}, {nullable}, {value}, {label})?;")
        }
        Type::Bytes | Type::Records => {
            let word = if *kind == Type::Bytes {
                "bytes"
            } else {
                "records"
            };
            let value = some(".as_ref()", &format!("&{here}"));
            format!("put_{word}({sink}, {flexible}, {nullable}, {value}, {label})?;")
        }
        Type::Array(_) => {
            let value = some(".as_deref()", &format!("{here}.as_slice()"));
            format!("put_array({sink}, version, {nullable}, {value}, {label})?;")
        }
        _ if field.is_tagged_nullable_struct() => {
            format!("put_tagged_struct({sink}, version, {here}.as_ref(), {label})?;")
        }
        _ => {
            format!("put_nullable_struct({sink}, version, {nullable}, {here}.as_ref(), {label})?;")
        }
    }
}

fn write(message: &Message, item: &Struct) -> String {
    let mut code = String::new();
    for field in &item.fields {
        let condition = field.versions.condition(message.valid);
        let write = write_field(message, item, field, "sink");
        let refusal = format!(
            "return Err(EncodeError::NotInVersion {{ field: {}, version: version.number }});",
            label(message, item, field)
        );
        let set = is_set(field);
        let _ = match (field.tag.is_some(), condition.as_str(), field.ignorable) {
            (true, "true", _) | (true, _, true) => Ok(()),
            (true, _, false) => {
                let lacking = field.versions.lacking(message.valid);
                writeln!(code, "if {lacking} && {set} {{ {refusal} }}")
            }
            (false, "true", _) => writeln!(code, "{write}"),
            (false, _, true) => writeln!(code, "if {condition} {{ {write} }}"),
            (false, _, false) => {
                writeln!(
                    code,
                    "if {condition} {{ {write} }} else if {set} {{ {refusal} }}"
                )
            }
        };
    }
    if message.flexible.is_empty() {
        return code;
    }
    let tags = write_tags(message, item);
    match message.flexible == message.valid {
        true => code.push_str(&tags),
        false => {
            let _ = write!(code, "if version.flexible {{ {tags} }}");
        }
    }
    code
}

/// Writes the tagged fields that are set, by ascending tag.
fn write_tags(message: &Message, item: &Struct) -> String {
    let mut tagged: Vec<_> = item
        .fields
        .iter()
        .filter_map(|field| field.tag.map(|tag| (tag, field)))
        .collect();
    tagged.sort_by_key(|(tag, _)| *tag);
    if tagged.is_empty() {
        return String::from("sink.put_unsigned_varint(0);");
    }
    let mut code = String::new();
    let mut count = Vec::new();
    let mut contents = String::new();
    for (tag, field) in tagged {
        let has = format!("has_{}", field.ident.trim_start_matches("r#"));
        let condition = match field.versions.condition(message.flexible).as_str() {
            "true" => String::new(),
            condition => format!("{condition} && "),
        };
        let _ = writeln!(code, "let {has} = {condition}{};", is_set(field));
        count.push(format!("u32::from({has})"));
        let content =
            write_field(message, item, field, "content").replace("(content,", "(&mut content,");
        let _ = writeln!(
            contents,
            "if {has} {{ let mut content = TagContent::default(); {content} content.put(sink, {tag}, {})?; }}",
            label(message, item, field)
        );
    }
    format!(
        "{code} sink.put_unsigned_varint({});\n{contents}",
        count.join(" + ")
    )
}
