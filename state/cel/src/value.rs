//! The values that expressions compute with.

mod equal;
mod moment;
pub(crate) mod text;

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

pub use moment::Moment;

use crate::functions::{NamedFormat, Semver, Url};
use crate::quantity::Quantity;
use crate::types::Type;

/// One value. Cloning one is cheap: what is large is shared.
#[derive(Clone, Debug)]
pub enum Value {
    /// `null`.
    Null,
    /// A boolean.
    Bool(bool),
    /// An integer with a sign.
    Int(i64),
    /// An integer without a sign.
    Uint(u64),
    /// A floating-point number.
    Double(f64),
    /// Text.
    String(Arc<str>),
    /// Octets.
    Bytes(Arc<[u8]>),
    /// A moment, in UTC.
    Timestamp(Moment),
    /// A span of time, in nanoseconds.
    Duration(i64),
    /// A list.
    List(Arc<List>),
    /// A map or an object.
    Map(Arc<Map>),
    /// A value that may be absent.
    Optional(Option<Arc<Value>>),
    /// A type, by its name.
    Type(Arc<str>),
    /// A URL.
    Url(Arc<Url>),
    /// An IP address.
    Ip(IpAddr),
    /// A range of IP addresses: an address and how many bits of it count.
    Cidr(IpAddr, u8),
    /// A quantity.
    Quantity(Quantity),
    /// A semantic version.
    Semver(Arc<Semver>),
    /// A named format of strings.
    Format(&'static NamedFormat),
    /// Data that does not fit its schema: whoever touches it gets the error.
    Broken(Arc<str>),
}

/// What makes lists equal, and what `+` does to them.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Merge {
    /// The items in their order.
    #[default]
    Atomic,
    /// The items, whatever their order.
    Set,
    /// The items of the same keys, whatever their order.
    Keys(Arc<[Box<str>]>),
}

/// A list.
#[derive(Clone, Debug, Default)]
pub struct List {
    /// The items.
    pub items: Vec<Value>,
    /// What makes it equal to another.
    pub merge: Merge,
}

/// A map, or an object whose keys are its fields' names as expressions write them.
#[derive(Clone, Debug, Default)]
pub struct Map {
    /// The entries.
    pub entries: BTreeMap<Key, Value>,
    /// What an object has beside its declared fields: no expression sees it, but equal objects have the same.
    pub hidden: Option<Arc<serde_json::Map<String, serde_json::Value>>>,
}

/// A key of a map. Numbers are the same key when they are the same number.
#[derive(Clone, Debug)]
pub enum Key {
    /// A boolean.
    Bool(bool),
    /// An integer with a sign.
    Int(i64),
    /// An integer without a sign.
    Uint(u64),
    /// Text.
    String(Arc<str>),
}

impl Key {
    fn rank(&self) -> (u8, i128, &str) {
        match self {
            Key::Bool(value) => (0, i128::from(*value), ""),
            Key::Int(value) => (1, i128::from(*value), ""),
            Key::Uint(value) => (1, i128::from(*value), ""),
            Key::String(text) => (2, 0, text),
        }
    }

    /// Returns the key as a value.
    pub fn value(&self) -> Value {
        match self {
            Key::Bool(value) => Value::Bool(*value),
            Key::Int(value) => Value::Int(*value),
            Key::Uint(value) => Value::Uint(*value),
            Key::String(text) => Value::String(text.clone()),
        }
    }

    /// Returns the key that a value is; a double is one if it is whole.
    #[allow(clippy::cast_possible_truncation)]
    pub fn of(value: &Value) -> Option<Key> {
        Some(match value {
            Value::Bool(value) => Key::Bool(*value),
            Value::Int(value) => Key::Int(*value),
            Value::Uint(value) => Key::Uint(*value),
            Value::String(text) => Key::String(text.clone()),
            // Exact in this range.
            Value::Double(number) if number.fract() == 0.0 && number.abs() < 9.0e15 => Key::Int(*number as i64),
            _ => return None,
        })
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.rank() == other.rank()
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Key) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Key) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::String(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::String(text.into())
    }
}

impl Value {
    /// Makes an ordinary list.
    pub fn list(items: Vec<Value>) -> Value {
        Value::List(Arc::new(List {
            items,
            merge: Merge::Atomic,
        }))
    }

    /// Makes a map.
    pub fn map(entries: BTreeMap<Key, Value>) -> Value {
        Value::Map(Arc::new(Map { entries, hidden: None }))
    }

    /// Makes an optional value that is there.
    pub fn some(value: Value) -> Value {
        Value::Optional(Some(Arc::new(value)))
    }

    /// Returns the name of the value's type, as `type()` gives it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Null => "null_type",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Uint(_) => "uint",
            Value::Double(_) => "double",
            Value::String(_) => "string",
            Value::Bytes(_) => "bytes",
            Value::Timestamp(_) => "google.protobuf.Timestamp",
            Value::Duration(_) => "google.protobuf.Duration",
            Value::List(_) => "list",
            Value::Map(_) => "map",
            Value::Optional(_) => "optional_type",
            Value::Type(_) => "type",
            Value::Url(_) => "kubernetes.URL",
            Value::Ip(_) => "net.IP",
            Value::Cidr(..) => "net.CIDR",
            Value::Quantity(_) => "kubernetes.Quantity",
            Value::Semver(_) => "kubernetes.Semver",
            Value::Format(_) => "kubernetes.NamedFormat",
            Value::Broken(_) => "error",
        }
    }

    /// Returns the type of a literal.
    pub(crate) fn literal_type(&self) -> Type {
        match self {
            Value::Null => Type::Null,
            Value::Bool(_) => Type::Bool,
            Value::Int(_) => Type::Int,
            Value::Uint(_) => Type::Uint,
            Value::Double(_) => Type::Double,
            Value::String(_) => Type::String,
            Value::Bytes(_) => Type::Bytes,
            _ => Type::Dyn,
        }
    }

    /// Returns how large a value is for what it costs: code points, octets, items, entries; 1 for what has no size.
    pub(crate) fn size(&self) -> u64 {
        let size = match self {
            Value::String(text) => text.chars().count(),
            Value::Bytes(bytes) => bytes.len(),
            Value::List(list) => list.items.len(),
            Value::Map(map) => map.size(),
            Value::Optional(Some(inner)) => return inner.size(),
            Value::Cidr(address, _) => match address {
                IpAddr::V4(_) => 4,
                IpAddr::V6(_) => 16,
            },
            _ => 1,
        };
        size as u64
    }

    /// Returns the text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the value as a message shows it.
    pub(crate) fn shown(&self) -> Cow<'_, str> {
        match self {
            Value::String(text) => Cow::Borrowed(text),
            other => other.to_text().map_or(Cow::Borrowed(other.type_name()), Cow::Owned),
        }
    }
}

impl Map {
    /// Returns how many entries there are, hidden ones included.
    pub fn size(&self) -> usize {
        self.entries.len() + self.hidden.as_ref().map_or(0, |hidden| hidden.len())
    }
}
