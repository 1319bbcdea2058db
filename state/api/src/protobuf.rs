//! Bodies of `application/vnd.kubernetes.protobuf` as JSON objects.
//!
//! Typed clients send such bodies; they always accept JSON in return, so that decoding is enough. The decoder is
//! generic: it walks the wire format along the table in `protobuf/fields.txt`, which holds the numbers, names and
//! types of every message. What is not in the table is skipped, as protobuf wants it.
//!
//! Kubernetes' encoder writes every non-pointer field, zero or not; its JSON leaves most zeros out. The table marks the
//! fields whose zero means something, the others' zeros are dropped here.

mod fields;
mod wire;

use base64::Engine as _;
use jiff::Timestamp;
use serde_json::{Map, Value};

pub(crate) use fields::Table;
use fields::{Field, Shape, Type};
use wire::{Reader, Wire};

const MAGIC: &[u8] = b"k8s\0";
const MAX_DEPTH: usize = 64;
/// An object of the largest accepted size has far fewer values; a body of empty list items could have millions.
const MAX_VALUES: usize = 1_000_000;
const SCHEMA: &str = "apiextensions.JSONSchemaProps";

/// Why a body could not be decoded.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The body does not start with the magic bytes.
    #[error("the protobuf body does not start with the Kubernetes prefix")]
    Magic,
    /// The body ends in the middle of a field.
    #[error("the protobuf body is truncated")]
    Truncated,
    /// A field has a number or wire type that cannot be.
    #[error("the protobuf body has a malformed field tag")]
    Tag,
    /// A field has another wire type than its type asks for.
    #[error("the protobuf field {0:?} has the wrong wire type")]
    WireType(String),
    /// A text is not UTF-8.
    #[error("the protobuf field {0:?} is not UTF-8")]
    Utf8(String),
    /// A field that holds JSON does not.
    #[error("the protobuf field {field:?} does not hold JSON")]
    Json {
        /// The field.
        field: String,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// The message has no apiVersion or kind.
    #[error("the protobuf body names no apiVersion and kind")]
    NoKind,
    /// The kind has no message in the table.
    #[error("no kind {kind:?} in version {api_version:?} can be read from protobuf; send it as JSON")]
    UnknownKind {
        /// The apiVersion of the envelope.
        api_version: String,
        /// The kind of the envelope.
        kind: String,
    },
    /// The envelope wraps something that is not protobuf.
    #[error("the protobuf envelope has the unsupported content {0:?}")]
    Content(String),
    /// Messages are nested too deep.
    #[error("the protobuf body is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// There are too many values.
    #[error("the protobuf body has more than {MAX_VALUES} values")]
    TooMany,
}

/// Returns whether a body starts as one in Kubernetes' protobuf does.
pub fn is_protobuf(body: &[u8]) -> bool {
    body.starts_with(MAGIC)
}

/// Decodes an enveloped body into the JSON object that the client could have sent instead.
pub fn decode(body: &[u8]) -> Result<Value, DecodeError> {
    let envelope = body.strip_prefix(MAGIC).ok_or(DecodeError::Magic)?;
    let (mut api_version, mut kind) = (String::new(), String::new());
    let (mut raw, mut encoding, mut content_type): (&[u8], _, _) = (&[], String::new(), String::new());
    let mut reader = Reader::new(envelope);
    while let Some((number, wire)) = reader.next()? {
        match (number, wire) {
            (1, Wire::Bytes(type_meta)) => {
                let mut reader = Reader::new(type_meta);
                while let Some((number, wire)) = reader.next()? {
                    match (number, wire) {
                        (1, wire) => api_version = text(wire, "apiVersion")?,
                        (2, wire) => kind = text(wire, "kind")?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            (3, wire) => encoding = text(wire, "contentEncoding")?,
            (4, wire) => content_type = text(wire, "contentType")?,
            _ => {}
        }
    }
    if !encoding.is_empty() {
        return Err(DecodeError::Content(encoding));
    }
    let mut object = match content_type.as_str() {
        "" | "application/vnd.kubernetes.protobuf" => {
            if api_version.is_empty() || kind.is_empty() {
                return Err(DecodeError::NoKind);
            }
            let message = Table::get()
                .kind(&api_version, &kind)
                .ok_or_else(|| DecodeError::UnknownKind {
                    api_version: api_version.clone(),
                    kind: kind.clone(),
                })?;
            let mut object = Map::new();
            Decoder {
                table: Table::get(),
                values: 0,
            }
            .message(message, raw, 0, &mut object)?;
            object
        }
        "application/json" => match serde_json::from_slice(raw) {
            Ok(Value::Object(object)) => object,
            Ok(_) => return Err(DecodeError::NoKind),
            Err(source) => {
                return Err(DecodeError::Json {
                    field: "raw".into(),
                    source,
                });
            }
        },
        _ => return Err(DecodeError::Content(content_type)),
    };
    if !kind.is_empty() {
        object.insert("kind".into(), kind.into());
    }
    if !api_version.is_empty() {
        object.insert("apiVersion".into(), api_version.into());
    }
    Ok(Value::Object(object))
}

fn text(wire: Wire<'_>, field: &str) -> Result<String, DecodeError> {
    match wire {
        Wire::Bytes(bytes) => {
            let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::Utf8(field.to_owned()))?;
            Ok(text.to_owned())
        }
        _ => Err(DecodeError::WireType(field.to_owned())),
    }
}

fn bytes_of<'a>(wire: Wire<'a>, field: &str) -> Result<&'a [u8], DecodeError> {
    match wire {
        Wire::Bytes(bytes) => Ok(bytes),
        _ => Err(DecodeError::WireType(field.to_owned())),
    }
}

/// Reads an integer: negative ones of 32 bits are sign-extended on the wire.
#[allow(clippy::cast_possible_wrap)]
fn int(raw: u64) -> i64 {
    raw as i64
}

struct Decoder {
    table: &'static Table,
    values: usize,
}

impl Decoder {
    fn message(
        &mut self,
        message: &str,
        bytes: &[u8],
        depth: usize,
        out: &mut Map<String, Value>,
    ) -> Result<(), DecodeError> {
        if depth > MAX_DEPTH {
            return Err(DecodeError::TooDeep);
        }
        let mut reader = Reader::new(bytes);
        while let Some((number, wire)) = reader.next()? {
            let Some(field) = self.table.field(message, number) else {
                continue;
            };
            self.values += 1;
            if self.values > MAX_VALUES {
                return Err(DecodeError::TooMany);
            }
            match (field.name, field.ty, field.shape) {
                (None, Type::Message(inner), _) => self.message(inner, bytes_of(wire, inner)?, depth + 1, out)?,
                (None, ..) => {}
                (Some(name), ty, Shape::List) => {
                    let list = list_mut(out, name);
                    match (ty, wire) {
                        (Type::Int, Wire::Bytes(packed)) => {
                            let mut reader = Reader::new(packed);
                            while !reader.is_empty() {
                                list.push(int(reader.varint()?).into());
                            }
                        }
                        _ => list.push(self.value(name, ty, wire, depth)?),
                    }
                }
                (Some(name), ty, Shape::Map) => {
                    let (key, value) = self.entry(name, ty, bytes_of(wire, name)?, depth)?;
                    crate::meta::map_mut(out, name).insert(key, value);
                }
                (Some(name), ty, Shape::Single) => {
                    let value = self.value(name, ty, wire, depth)?;
                    if value.is_null() || (!field.keep && is_zero(field, &value)) {
                        continue;
                    }
                    out.insert(name.to_owned(), value);
                }
            }
        }
        Ok(())
    }

    fn entry(&mut self, name: &str, ty: Type, bytes: &[u8], depth: usize) -> Result<(String, Value), DecodeError> {
        let (mut key, mut value) = (String::new(), None);
        let mut reader = Reader::new(bytes);
        while let Some((number, wire)) = reader.next()? {
            match number {
                1 => key = text(wire, name)?,
                2 => value = Some(self.value(name, ty, wire, depth)?),
                _ => {}
            }
        }
        let value = match value {
            Some(value) => value,
            // An absent value is the zero of its type; so is an empty one, whatever wire type it would have had.
            None if matches!(ty, Type::Int | Type::Bool | Type::Double) => Value::Null,
            None => self.value(name, ty, Wire::Bytes(&[]), depth)?,
        };
        Ok((key, value))
    }

    fn value(&mut self, name: &str, ty: Type, wire: Wire<'_>, depth: usize) -> Result<Value, DecodeError> {
        let wrong = || DecodeError::WireType(name.to_owned());
        Ok(match (ty, wire) {
            (Type::String, wire) => text(wire, name)?.into(),
            (Type::Int, Wire::Varint(raw)) => int(raw).into(),
            (Type::Bool, Wire::Varint(raw)) => (raw != 0).into(),
            (Type::Double, Wire::Fixed64(bits)) => f64::from_bits(bits).into(),
            (Type::Bytes, Wire::Bytes(bytes)) => base64::engine::general_purpose::STANDARD.encode(bytes).into(),
            (Type::Message(message), Wire::Bytes(bytes)) => {
                let mut object = Map::new();
                self.message(message, bytes, depth + 1, &mut object)?;
                Value::Object(object)
            }
            (Type::Quantity, Wire::Bytes(bytes)) => match first(bytes, 1)? {
                Some(wire) => text(wire, name)?.into(),
                None => "0".into(),
            },
            (Type::Time | Type::MicroTime, Wire::Bytes(bytes)) => time(bytes, ty == Type::MicroTime)?,
            (Type::Duration, Wire::Bytes(bytes)) => match first(bytes, 1)? {
                Some(Wire::Varint(nanoseconds)) => go_duration(int(nanoseconds)).into(),
                _ => "0s".into(),
            },
            (Type::IntOrString, Wire::Bytes(bytes)) => match first(bytes, 1)? {
                Some(Wire::Varint(1)) => match first(bytes, 3)? {
                    Some(wire) => text(wire, name)?.into(),
                    None => "".into(),
                },
                _ => match first(bytes, 2)? {
                    Some(Wire::Varint(raw)) => int(raw).into(),
                    _ => 0.into(),
                },
            },
            (Type::Json, Wire::Bytes(bytes)) => match first(bytes, 1)? {
                Some(Wire::Bytes([])) | None => Value::Null,
                Some(wire) => serde_json::from_slice(bytes_of(wire, name)?).map_err(|source| DecodeError::Json {
                    field: name.to_owned(),
                    source,
                })?,
            },
            (Type::Strings, Wire::Bytes(bytes)) => strings(bytes, 1, name)?,
            (Type::SchemaOrBool, Wire::Bytes(bytes)) => match first(bytes, 2)? {
                Some(wire) => self.value(name, Type::Message(SCHEMA), wire, depth)?,
                None => matches!(first(bytes, 1)?, Some(Wire::Varint(raw)) if raw != 0).into(),
            },
            (Type::SchemaOrArray, Wire::Bytes(bytes)) => match first(bytes, 1)? {
                Some(wire) => self.value(name, Type::Message(SCHEMA), wire, depth)?,
                None => {
                    let mut schemas = Vec::new();
                    let mut reader = Reader::new(bytes);
                    while let Some((number, wire)) = reader.next()? {
                        if number == 2 {
                            schemas.push(self.value(name, Type::Message(SCHEMA), wire, depth)?);
                        }
                    }
                    Value::Array(schemas)
                }
            },
            (Type::SchemaOrStrings, Wire::Bytes(bytes)) => match first(bytes, 1)? {
                Some(wire) => self.value(name, Type::Message(SCHEMA), wire, depth)?,
                None => strings(bytes, 2, name)?,
            },
            _ => return Err(wrong()),
        })
    }
}

fn list_mut<'a>(out: &'a mut Map<String, Value>, name: &str) -> &'a mut Vec<Value> {
    let entry = out.entry(name).or_insert_with(|| Value::Array(Vec::new()));
    if !entry.is_array() {
        *entry = Value::Array(Vec::new());
    }
    match entry {
        Value::Array(list) => list,
        // The lines above made it a list.
        _ => unreachable!("a value that was just made a list"),
    }
}

/// Whether Kubernetes' JSON would leave the value out.
fn is_zero(field: &Field, value: &Value) -> bool {
    match (field.ty, value) {
        (Type::Quantity, _) => false,
        (_, Value::String(text)) => text.is_empty(),
        (_, Value::Number(number)) => number.as_f64() == Some(0.0),
        (_, Value::Bool(set)) => !set,
        (_, Value::Object(object)) => object.is_empty(),
        (_, Value::Array(list)) => list.is_empty(),
        (_, Value::Null) => true,
    }
}

/// Returns the last occurrence of a field, as protobuf wants it for what occurs once.
fn first(bytes: &[u8], wanted: u32) -> Result<Option<Wire<'_>>, DecodeError> {
    let mut found = None;
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.next()? {
        if number == wanted {
            found = Some(wire);
        }
    }
    Ok(found)
}

fn strings(bytes: &[u8], wanted: u32, name: &str) -> Result<Value, DecodeError> {
    let mut list = Vec::new();
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.next()? {
        if number == wanted {
            list.push(Value::String(text(wire, name)?));
        }
    }
    Ok(Value::Array(list))
}

/// Decodes a time; an empty message is the zero time, which JSON knows as null.
fn time(bytes: &[u8], micro: bool) -> Result<Value, DecodeError> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let number = |wire: Option<Wire<'_>>| match wire {
        Some(Wire::Varint(raw)) => int(raw),
        _ => 0,
    };
    let seconds = number(first(bytes, 1)?);
    let nanoseconds = if micro {
        i32::try_from(number(first(bytes, 2)?)).unwrap_or(0)
    } else {
        0
    };
    let Ok(time) = Timestamp::new(seconds, nanoseconds) else {
        return Ok(Value::Null);
    };
    Ok(if micro {
        crate::meta::format_micro_time(time)
    } else {
        crate::meta::format_time(time)
    }
    .into())
}

/// Formats nanoseconds as Go's `time.Duration` does: `1h2m3.5s`, `250ms`.
fn go_duration(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let total = nanoseconds.unsigned_abs();
    let fraction = |value: u64, unit: u64| {
        let digits = unit.ilog10() as usize;
        let text = format!("{}.{:0digits$}", value / unit, value % unit);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    let body = match total {
        0 => "0s".to_owned(),
        1..1_000 => format!("{total}ns"),
        1_000..1_000_000 => format!("{}µs", fraction(total, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", fraction(total, 1_000_000)),
        _ => {
            let seconds = total / 1_000_000_000;
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            let rest = fraction(total % 60_000_000_000, 1_000_000_000);
            match (hours, minutes) {
                (0, 0) => format!("{rest}s"),
                (0, minutes) => format!("{minutes}m{rest}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{rest}s"),
            }
        }
    };
    format!("{sign}{body}")
}

/// Returns whether a kind can be sent in this form.
#[cfg(test)]
pub(crate) fn knows(api_version: &str, kind: &str) -> bool {
    fields::Table::get().kind(api_version, kind).is_some()
}

#[cfg(test)]
mod tests;
