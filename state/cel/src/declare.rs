//! What is known of data before there is any: its type, how it is read from JSON, and how large it can be.
//!
//! A [`Declaration`] is made from a schema. Sizes are upper bounds, for the estimate of what an expression can cost.

mod escape;

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use serde_json::Value as Json;

pub use escape::{escape, unescape};

use crate::types::Type;
use crate::value::{Key, List, Map, Merge, Moment, Value, text};

/// The size of the largest request, in bytes; what has no limit of its own is limited by it.
pub const REQUEST: u64 = 3 * 1024 * 1024;

/// What is known of a place in the data.
#[derive(Clone, Debug)]
pub struct Declaration {
    /// The type that expressions see.
    pub kind: Type,
    /// How JSON is read.
    pub shape: Shape,
    /// Whether `null` is a value.
    pub nullable: bool,
    /// The most items, entries, bytes or characters that a value can have.
    pub most: u64,
    /// The fewest bytes that a value takes as JSON.
    pub least_bytes: u64,
}

/// How JSON is read as a [`Value`].
#[derive(Clone, Debug)]
pub enum Shape {
    /// Text.
    String,
    /// Base64.
    Bytes,
    /// A span of time.
    Duration,
    /// A day.
    Date,
    /// A moment.
    DateTime,
    /// A whole number.
    Int,
    /// A number.
    Double,
    /// A boolean.
    Bool,
    /// A whole number or a text.
    IntOrString,
    /// A list.
    List(Arc<Declaration>, Merge),
    /// A map from strings.
    Map(Arc<Declaration>),
    /// An object with declared fields.
    Object(Arc<Record>),
}

/// An object's declared fields.
#[derive(Clone, Debug)]
pub struct Record {
    name: String,
    /// By their names as expressions write them.
    fields: BTreeMap<Box<str>, Field>,
}

/// A field of a [`Record`].
#[derive(Clone, Debug)]
pub struct Field {
    /// The property's name in JSON.
    pub property: Box<str>,
    /// What is known of its value.
    pub declaration: Arc<Declaration>,
    /// Whether it has to be there, and no default fills it in.
    pub required: bool,
}

impl PartialEq for Record {
    fn eq(&self, other: &Record) -> bool {
        self.name == other.name
    }
}

impl Record {
    /// Makes a record; its name tells it from others. Fields whose names cannot be escaped are left out.
    pub fn new(name: impl Into<String>, fields: impl IntoIterator<Item = Field>) -> Record {
        let fields = fields
            .into_iter()
            .filter_map(|field| Some((escape(&field.property)?.into(), field)));
        Record {
            name: name.into(),
            fields: fields.collect(),
        }
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns a field by its name as expressions write it.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.get(name)
    }
}

impl Declaration {
    fn new(kind: Type, shape: Shape, most: u64, least_bytes: u64) -> Declaration {
        Declaration {
            kind,
            shape,
            nullable: false,
            most,
            least_bytes,
        }
    }

    /// Declares text of at most so many characters.
    pub fn string(most: Option<u64>) -> Declaration {
        // A character has up to four bytes.
        let most = most.map_or(REQUEST - 2, |characters| characters.saturating_mul(4));
        Declaration::new(Type::String, Shape::String, most, 2)
    }

    /// Declares text that is one of some texts.
    pub fn words<'a>(words: impl Iterator<Item = &'a str>) -> Declaration {
        let most = words.map(str::len).max().unwrap_or(0) as u64;
        Declaration::new(Type::String, Shape::String, most, 2)
    }

    /// Declares base64 of at most so many characters.
    pub fn bytes(most: Option<u64>) -> Declaration {
        Declaration::new(Type::Bytes, Shape::Bytes, most.unwrap_or(REQUEST - 2), 2)
    }

    /// Declares a span of time.
    pub fn duration() -> Declaration {
        Declaration::new(Type::Duration, Shape::Duration, 32, 3)
    }

    /// Declares a day.
    pub fn date() -> Declaration {
        Declaration::new(Type::Timestamp, Shape::Date, 12, 12)
    }

    /// Declares a moment.
    pub fn date_time() -> Declaration {
        Declaration::new(Type::Timestamp, Shape::DateTime, 32, 21)
    }

    /// Declares a whole number.
    pub fn int() -> Declaration {
        Declaration::new(Type::Int, Shape::Int, 0, 1)
    }

    /// Declares a number.
    pub fn double() -> Declaration {
        Declaration::new(Type::Double, Shape::Double, 0, 1)
    }

    /// Declares a boolean.
    pub fn bool() -> Declaration {
        Declaration::new(Type::Bool, Shape::Bool, 0, 4)
    }

    /// Declares a whole number or a text of at most so many characters.
    pub fn int_or_string(most: Option<u64>) -> Declaration {
        let most = most.map_or(REQUEST - 2, |characters| characters.saturating_mul(4));
        Declaration::new(Type::Dyn, Shape::IntOrString, most, 1)
    }

    /// Declares a list of at most so many items.
    pub fn list(items: Arc<Declaration>, merge: Merge, most: Option<u64>) -> Declaration {
        let most = most.unwrap_or((REQUEST - 2) / (items.least_bytes + 1));
        let kind = Type::list(items.kind.clone());
        Declaration::new(kind, Shape::List(items, merge), most, 2)
    }

    /// Declares a map from strings with at most so many entries.
    pub fn map(values: Arc<Declaration>, most: Option<u64>) -> Declaration {
        let most = most.unwrap_or((REQUEST - 2) / (values.least_bytes + 6));
        let kind = Type::map(Type::String, values.kind.clone());
        Declaration::new(kind, Shape::Map(values), most, 2)
    }

    /// Declares an object.
    pub fn object(record: Record) -> Declaration {
        let required = record.fields.values().filter(|field| field.required);
        let bytes = required.map(|field| field.property.len() as u64 + field.declaration.least_bytes + 4);
        let least = bytes.fold(2, u64::saturating_add);
        let record = Arc::new(record);
        Declaration::new(Type::Object(record.clone()), Shape::Object(record), 0, least)
    }

    /// Declares that `null` is a value, or is none.
    pub fn nullable(mut self, nullable: bool) -> Declaration {
        self.nullable = nullable;
        self
    }

    /// Reads a value; what does not fit becomes [`Value::Broken`].
    pub fn read(&self, json: &Json) -> Value {
        match self.read_checked(json) {
            Ok(value) => value,
            Err(problem) => Value::Broken(problem.into()),
        }
    }

    fn read_checked(&self, json: &Json) -> Result<Value, String> {
        if json.is_null() {
            return if self.nullable {
                Ok(Value::Null)
            } else {
                Err("invalid data, got null for schema with nullable=false".to_owned())
            };
        }
        let text = |wanted: &str| {
            json.as_str()
                .ok_or_else(|| format!("invalid data, expected {wanted}, got {}", go_type(json)))
        };
        match &self.shape {
            Shape::String => text("string").map(Value::from),
            Shape::Bytes => {
                let source = text("string")?;
                let decoded = base64::engine::general_purpose::STANDARD.decode(source);
                let bytes = decoded.map_err(|error| format!("Invalid byte formatted string {source}: {error}"))?;
                Ok(Value::Bytes(bytes.into()))
            }
            Shape::Duration => {
                let source = text("string")?;
                let nanos = text::parse_duration(source)
                    .ok_or_else(|| format!("Invalid duration {source}: unable to parse"))?;
                Ok(Value::Duration(nanos))
            }
            Shape::Date => {
                let source = text("string")?;
                let moment = Moment::parse(&format!("{source}T00:00:00Z"));
                moment
                    .map(Value::Timestamp)
                    .ok_or_else(|| format!("Invalid date formatted string {source}: cannot parse"))
            }
            Shape::DateTime => {
                let source = text("string")?;
                let moment = Moment::parse(source);
                moment
                    .map(Value::Timestamp)
                    .ok_or_else(|| format!("Invalid date-time formatted string {source}: cannot parse"))
            }
            Shape::Int => whole(json)
                .map(Value::Int)
                .ok_or_else(|| format!("invalid data, expected int, got {}", go_type(json))),
            Shape::Double => json
                .as_f64()
                .map(Value::Double)
                .ok_or_else(|| format!("invalid data, expected float, got {}", go_type(json))),
            Shape::Bool => json
                .as_bool()
                .map(Value::Bool)
                .ok_or_else(|| format!("invalid data, expected bool, got {}", go_type(json))),
            Shape::IntOrString => match json {
                Json::String(text) => Ok(Value::from(text.as_str())),
                other => whole(other).map(Value::Int).ok_or_else(|| {
                    "invalid data, expected XIntOrString value to be either a string or integer".to_owned()
                }),
            },
            Shape::List(items, merge) => {
                let Json::Array(found) = json else {
                    return Err("invalid data, expected an array for the provided schema with type=array".to_owned());
                };
                Ok(Value::List(Arc::new(List {
                    items: found.iter().map(|item| items.read(item)).collect(),
                    merge: merge.clone(),
                })))
            }
            Shape::Map(values) => {
                let found = members(json)?;
                let entries = found
                    .iter()
                    .map(|(key, value)| (Key::String(key.as_str().into()), values.read(value)));
                Ok(Value::map(entries.collect()))
            }
            Shape::Object(record) => Ok(record.read(members(json)?)),
        }
    }
}

impl Record {
    fn read(&self, found: &serde_json::Map<String, Json>) -> Value {
        let mut map = Map::default();
        let mut hidden = serde_json::Map::new();
        for (property, value) in found {
            let name = escape(property);
            match name.as_deref().and_then(|name| self.fields.get_key_value(name)) {
                // An object's field that is null is absent.
                Some(_) if value.is_null() => {}
                Some((name, field)) => {
                    map.entries
                        .insert(Key::String((**name).into()), field.declaration.read(value));
                }
                None => {
                    hidden.insert(property.clone(), value.clone());
                }
            }
        }
        if !hidden.is_empty() {
            map.hidden = Some(Arc::new(hidden));
        }
        Value::Map(Arc::new(map))
    }
}

fn members(json: &Json) -> Result<&serde_json::Map<String, Json>, String> {
    json.as_object()
        .ok_or_else(|| "invalid data, expected a map for the provided schema with type=object".to_owned())
}

/// Reads a whole number; `1.0` is one.
#[allow(clippy::cast_possible_truncation)]
fn whole(json: &Json) -> Option<i64> {
    let exact = |number: f64| (number.fract() == 0.0 && number.abs() < 9.0e15).then_some(number as i64);
    json.as_i64().or_else(|| json.as_f64().and_then(exact))
}

fn go_type(json: &Json) -> &'static str {
    match json {
        Json::Null => "<nil>",
        Json::Bool(_) => "bool",
        Json::Number(number) if number.is_f64() => "float64",
        Json::Number(_) => "int64",
        Json::String(_) => "string",
        Json::Array(_) => "[]interface {}",
        Json::Object(_) => "map[string]interface {}",
    }
}
