//! The borrowed form of a struct: what decoding gives.

use std::fmt::Write;

use super::owned::has_trivial_default;
use super::schema::{Field, Message, Struct, Type};
use super::versions::Versions;

/// The view's type, its decoding, and its way to the owned form.
pub(super) fn item(message: &Message, item: &Struct) -> String {
    let name = &item.name;
    let view = view_type(message, name);
    let anonymous = if item.borrows(message) { "<'_>" } else { "" };
    let needs_default = needs_default(message, name);
    let derived = item.fields.iter().all(has_trivial_default);
    let default = if needs_default && derived {
        "Default, "
    } else {
        ""
    };
    let mut code = format!(
        "/// `{name}`, borrowed from a frame.\n#[derive(Clone, Copy, Debug, {default}PartialEq)]\npub struct {view} {{\n"
    );
    for field in &item.fields {
        let kind = field_type(message, field);
        let _ = writeln!(code, "{}pub {}: {kind},", docs(field), field.ident);
    }
    code.push_str("}\n\n");
    let read = read(message, item);
    let min_size = min_size(message, item);
    let version = if super::mentions(&read, "version") {
        "version"
    } else {
        "_"
    };
    let reader = if super::mentions(&read, "reader") {
        "reader"
    } else {
        "_"
    };
    let min_version = if super::mentions(&min_size, "version") {
        "version"
    } else {
        "_"
    };
    let _ = write!(
        code,
        "impl<'a> Element<'a> for {view} {{
            type Owned = {name};
            fn min_size({min_version}: Version) -> usize {{ {min_size} }}
            fn read({reader}: &mut Reader<'a>, {version}: Version, _: &'static str) -> Result<Self, DecodeError> {{ {read} }}
            fn into_owned(self) -> {name} {{ self.to_owned() }}
        }}\n\n"
    );
    let _ = write!(
        code,
        "impl {name}View{anonymous} {{
            /// Copies what it borrows.
            #[must_use]
            pub fn to_owned(self) -> {name} {{ {name} {{ {} }} }}
        }}\n\n",
        item.fields.iter().map(to_owned).collect::<String>(),
    );
    if needs_default && !derived {
        let fields: String = item
            .fields
            .iter()
            .map(|field| format!("{}: {},", field.ident, self::default(message, field)))
            .collect();
        let _ = write!(
            code,
            "impl Default for {name}View{anonymous} {{ fn default() -> Self {{ Self {{ {fields} }} }} }}\n\n"
        );
    }
    code
}

/// A field's documentation: what the schema says of it.
pub(super) fn docs(field: &Field) -> String {
    let mut docs = format!("/// `{}`, versions {}", field.name, field.versions.words());
    if field.is_nullable() {
        let _ = match field.nullable == field.versions {
            true => write!(docs, "; may be null"),
            false => write!(docs, "; may be null in {}", field.nullable.words()),
        };
    }
    if let Some(tag) = field.tag {
        let _ = write!(docs, "; tagged {tag}");
    }
    if let Some(default) = &field.default
        && !default.is_empty()
    {
        let _ = write!(docs, "; {default} unless set");
    }
    if field.ignorable {
        docs.push_str("; left out where a version lacks it");
    }
    docs + ".\n"
}

/// The view of a struct, with its lifetime where it borrows.
fn view_type(message: &Message, name: &str) -> String {
    let lifetime = if message.item(name).borrows(message) {
        "<'a>"
    } else {
        ""
    };
    format!("{name}View{lifetime}")
}

fn element_type(message: &Message, kind: &Type) -> String {
    match kind {
        Type::Number(rust, _, _) => String::from(*rust),
        Type::Uuid => String::from("Uuid"),
        Type::String => String::from("&'a str"),
        Type::Bytes | Type::Records => String::from("&'a [u8]"),
        Type::Struct(name) => view_type(message, name),
        Type::Array(element) => format!("Array<'a, {}>", element_type(message, element)),
    }
}

fn field_type(message: &Message, field: &Field) -> String {
    let kind = element_type(message, &field.kind);
    if field.is_nullable() {
        format!("Option<{kind}>")
    } else {
        kind
    }
}

/// What the field is when the bytes do not say.
fn default(message: &Message, field: &Field) -> String {
    if field.is_null_by_default() {
        return String::from("None");
    }
    let value = match &field.kind {
        Type::Number("bool", ..) => String::from(field.default().unwrap_or("false")),
        Type::Number("f64", ..) => String::from(field.default().unwrap_or("0.0")),
        Type::Number(..) => String::from(field.default().unwrap_or("0")),
        Type::Uuid => String::from("Uuid::nil()"),
        Type::String => format!("{:?}", field.default().unwrap_or_default()),
        Type::Bytes | Type::Records => String::from("&[]"),
        Type::Struct(name) => format!("{}View::default()", message.item(name).name),
        Type::Array(_) => String::from("Array::default()"),
    };
    if field.is_nullable() {
        format!("Some({value})")
    } else {
        value
    }
}

/// Whether a struct's view is ever made up because a version or the sender left it out.
fn needs_default(message: &Message, name: &str) -> bool {
    let mut fields = message.structs.iter().flat_map(|item| &item.fields);
    fields.any(|field| {
        let left_out = field.tag.is_some() || field.versions != message.valid;
        field.kind == Type::Struct(String::from(name)) && !field.is_null_by_default() && left_out
    })
}

/// Reads the field where the reader stands, in a version that has it.
fn read_field(message: &Message, item: &Struct, field: &Field) -> String {
    let label = label(message, item, field);
    let flexible = field.flexible.condition(field.versions);
    let flexible = if flexible == "true" || flexible == "false" {
        flexible
    } else {
        String::from("version.flexible")
    };
    let nullable = field.nullable.condition(field.versions);
    match (&field.kind, field.is_nullable()) {
        (Type::Number(_, word, _), _) => format!("reader.{word}({label})?"),
        (Type::Uuid, _) => format!("reader.uuid({label})?"),
        (Type::String, false) => format!("reader.string({flexible}, {label})?"),
        (Type::String, true) => format!("reader.nullable_string({flexible}, {nullable}, {label})?"),
        (Type::Bytes | Type::Records, false) => format!("reader.bytes({flexible}, {label})?"),
        (Type::Bytes | Type::Records, true) => {
            format!("reader.nullable_bytes({flexible}, {nullable}, {label})?")
        }
        (Type::Array(_), false) => format!("reader.array(version, {label})?"),
        (Type::Array(_), true) => format!("reader.nullable_array(version, {nullable}, {label})?"),
        (Type::Struct(name), false) => format!("{name}View::read(reader, version, {label})?"),
        (Type::Struct(name), true) if field.is_tagged_nullable_struct() => format!(
            "if reader.unsigned_varint({label})? > 0 {{ Some({name}View::read(reader, version, {label})?) }} else {{ None }}"
        ),
        (Type::Struct(name), true) => format!(
            "if reader.is_present({nullable}, {label})? {{ Some({name}View::read(reader, version, {label})?) }} else {{ None }}"
        ),
    }
}

fn read(message: &Message, item: &Struct) -> String {
    let mut code = String::new();
    let mut arms = String::new();
    for field in &item.fields {
        let (ident, read) = (&field.ident, read_field(message, item, field));
        let condition = field.versions.condition(message.valid);
        if let Some(tag) = field.tag {
            let _ = writeln!(code, "let mut {ident} = {};", default(message, field));
            let guard = if condition == "true" {
                String::new()
            } else {
                format!("if {condition}")
            };
            let _ = writeln!(arms, "{tag} {guard} => {ident} = {read},");
        } else if condition == "true" {
            let _ = writeln!(code, "let {ident} = {read};");
        } else {
            let default = default(message, field);
            let _ = writeln!(
                code,
                "let {ident} = if {condition} {{ {read} }} else {{ {default} }};"
            );
        }
    }
    if !message.flexible.is_empty() {
        let label = format!("\"{} tagged fields\"", path(message, item));
        let tags = if arms.is_empty() {
            format!("reader.tagged_fields({label}, |_, _| Ok(false))?;")
        } else {
            format!(
                "reader.tagged_fields({label}, |tag, reader| {{ match tag {{ {arms} _ => return Ok(false), }} Ok(true) }})?;"
            )
        };
        match message.flexible == message.valid {
            true => code.push_str(&tags),
            false => {
                let _ = write!(code, "if version.flexible {{ {tags} }}");
            }
        }
    }
    let fields: String = item
        .fields
        .iter()
        .map(|field| format!("{},", field.ident))
        .collect();
    format!("{code} Ok(Self {{ {fields} }})")
}

/// The least size by version, as a match over runs of versions.
fn min_size(message: &Message, item: &Struct) -> String {
    let mut runs: Vec<(Versions, usize)> = Vec::new();
    for version in message.valid.min..=message.valid.max {
        let size = item.min_size(message, version);
        match runs.last_mut() {
            Some((run, last)) if *last == size => run.max = version,
            _ => runs.push((
                Versions {
                    min: version,
                    max: version,
                },
                size,
            )),
        }
    }
    let Some((_, last)) = runs.pop() else {
        return String::from("0");
    };
    if runs.is_empty() {
        return last.to_string();
    }
    let arms: String = runs
        .iter()
        .map(|(run, size)| match run.min == run.max {
            true => format!("{} => {size},", run.min),
            false => format!("{}..={} => {size},", run.min, run.max),
        })
        .collect();
    format!("match version.number {{ {arms} _ => {last}, }}")
}

fn to_owned(field: &Field) -> String {
    let ident = &field.ident;
    let here = format!("self.{ident}");
    let value = match (&field.kind, field.is_nullable()) {
        (Type::Number(..) | Type::Uuid, _) => here,
        (Type::String, false) => format!("{here}.to_owned()"),
        (Type::String, true) => format!("{here}.map(str::to_owned)"),
        (Type::Bytes, false) => format!("Bytes::copy_from_slice({here})"),
        (Type::Bytes, true) => format!("{here}.map(Bytes::copy_from_slice)"),
        (Type::Records, false) => format!("Records::from(Bytes::copy_from_slice({here}))"),
        (Type::Records, true) => {
            format!("{here}.map(|records| Records::from(Bytes::copy_from_slice(records)))")
        }
        (Type::Array(_), false) => format!("{here}.to_vec()"),
        (Type::Array(_), true) => format!("{here}.map(|array| array.to_vec())"),
        (Type::Struct(_), false) => format!("{here}.to_owned()"),
        (Type::Struct(name), true) => format!("{here}.map({name}View::to_owned)"),
    };
    format!("{ident}: {value},")
}

/// Message and struct, as errors name them.
fn path(message: &Message, item: &Struct) -> String {
    if item.name == message.name {
        message.name.clone()
    } else {
        format!("{}.{}", message.name, item.name)
    }
}

/// Message, struct and field, as errors name them: a string literal.
pub(super) fn label(message: &Message, item: &Struct, field: &Field) -> String {
    format!("\"{}.{}\"", path(message, item), field.name)
}
