//! Go's values: what templates compute with.
//!
//! Helm's output and error texts depend on the types that Go would have (`float64` from YAML, `int64` from arithmetic,
//! `[]string` beside `[]interface {}`), on strings being bytes, and on maps being shared: `set` on `.Values` is seen by
//! every holder. Hence a type of our own instead of JSON's.

mod convert;
mod go_float;
mod json;
mod object;
mod print;
mod release;
mod time;

pub(crate) use convert::parse_int;
pub use convert::{to_float64, to_int64};
pub use go_float::{float_general, float_json};
pub use json::{from_json, to_json, to_json_pretty, to_json_raw, write_json_string};
pub use object::Object;
pub use print::{go_quote, print, printf, sprint, sprintln, string_value};
use release::Cell;
pub use release::Items;
pub use time::{DateTime, format_duration, parse_duration};

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::rc::Rc;

/// A Go string: bytes that are usually, but not necessarily, UTF-8.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Str(Rc<[u8]>);

impl Str {
    /// Shows the text, with what is not UTF-8 replaced.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }
}

impl Deref for Str {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl std::borrow::Borrow<[u8]> for Str {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl From<&str> for Str {
    fn from(text: &str) -> Self {
        Self(Rc::from(text.as_bytes()))
    }
}

impl From<String> for Str {
    fn from(text: String) -> Self {
        Self(Rc::from(text.into_bytes()))
    }
}

impl From<&[u8]> for Str {
    fn from(bytes: &[u8]) -> Self {
        Self(Rc::from(bytes))
    }
}

impl From<Vec<u8>> for Str {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Rc::from(bytes))
    }
}

impl fmt::Debug for Str {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text())
    }
}

/// The integer types that templates meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntKind {
    /// `int`
    Int,
    /// `int64`
    Int64,
    /// `int32`
    Int32,
    /// `uint8`
    Uint8,
    /// `time.Duration`
    Duration,
    /// `time.Month`
    Month,
}

impl IntKind {
    /// Names the Go type.
    pub fn type_name(self) -> &'static str {
        match self {
            Self::Int => "int",
            Self::Int64 => "int64",
            Self::Int32 => "int32",
            Self::Uint8 => "uint8",
            Self::Duration => "time.Duration",
            Self::Month => "time.Month",
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Duration => "int64",
            Self::Month => "int",
            other => other.type_name(),
        }
    }
}

/// The element type of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListKind {
    /// `[]interface {}`
    Any,
    /// `[]string`
    Strings,
    /// `[]int`
    Ints,
    /// `[][]interface {}`
    Lists,
    /// `common.VersionSet`, which has a method `Has`
    Versions,
}

/// A shared, immutable list.
#[derive(Clone, Debug)]
pub struct List {
    /// The Go type.
    pub kind: ListKind,
    /// The elements.
    pub items: Rc<Items>,
    /// Whether it is a nil slice, which JSON and YAML write as null.
    pub nil: bool,
}

/// The type of a map whose keys are strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapKind {
    /// `map[string]interface {}`
    Any,
    /// `common.Values`
    Values,
    /// `map[string]string`
    Strings,
    /// `engine.files`: names to bytes, with methods of its own
    Files,
}

/// The entries of a map, in the order in which Go walks them in templates.
pub type Entries = BTreeMap<Str, Value>;

/// A map shared by all of its holders.
#[derive(Clone)]
pub struct Map {
    /// The Go type as which this holder sees it.
    pub kind: MapKind,
    cell: Rc<Cell>,
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of {} entries", self.kind, self.len())
    }
}

impl Map {
    /// Makes a `map[string]interface {}`.
    pub fn new(entries: Entries) -> Self {
        Self::with_kind(MapKind::Any, entries)
    }

    /// Makes a map of the given type.
    pub fn with_kind(kind: MapKind, entries: Entries) -> Self {
        Self {
            kind,
            cell: Rc::new(Cell::new(entries)),
        }
    }

    /// Sees the same map as another type.
    pub fn as_kind(&self, kind: MapKind) -> Self {
        Self {
            kind,
            cell: Rc::clone(&self.cell),
        }
    }

    /// Reads one entry.
    pub fn get(&self, key: &[u8]) -> Option<Value> {
        self.cell.borrow().get(key).cloned()
    }

    /// Says whether the key is there.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.cell.borrow().contains_key(key)
    }

    /// Writes one entry.
    pub fn insert(&self, key: Str, value: Value) {
        self.cell.borrow_mut().insert(key, value);
    }

    /// Removes one entry.
    pub fn remove(&self, key: &[u8]) {
        self.cell.borrow_mut().remove(key);
    }

    /// Counts the entries.
    pub fn len(&self) -> usize {
        self.cell.borrow().len()
    }

    /// Says whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies the entries, so that the map may change while they are walked.
    pub fn entries(&self) -> Entries {
        self.cell.borrow().clone()
    }

    /// Says whether both are the same map in memory.
    pub fn same(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.cell, &other.cell)
    }

    /// Gives what an absent key reads as.
    pub fn zero(&self) -> Value {
        match self.kind {
            MapKind::Any | MapKind::Values => Value::Nil,
            MapKind::Strings => Value::from(""),
            MapKind::Files => Value::Bytes(Str::from("")),
        }
    }

    fn type_name(&self) -> &'static str {
        match self.kind {
            MapKind::Any => "map[string]interface {}",
            MapKind::Values => "common.Values",
            MapKind::Strings => "map[string]string",
            MapKind::Files => "engine.files",
        }
    }
}

/// A value of a template.
#[derive(Clone, Debug)]
pub enum Value {
    /// No value at all: what a pipeline makes of a nil interface.
    Invalid,
    /// A nil `interface {}`.
    Nil,
    /// `bool`
    Bool(bool),
    /// One of Go's integers.
    Int(IntKind, i64),
    /// `float64`
    Float(f64),
    /// `string`
    Str(Str),
    /// `[]uint8`
    Bytes(Str),
    /// A slice.
    List(List),
    /// A map.
    Map(Map),
    /// `time.Time`
    Time(Rc<DateTime>),
    /// A struct of the host, such as `.Capabilities`.
    Object(Rc<Object>),
}

impl Value {
    /// Makes an `int`.
    pub fn int(value: i64) -> Self {
        Self::Int(IntKind::Int, value)
    }

    /// Makes an `int64`.
    pub fn int64(value: i64) -> Self {
        Self::Int(IntKind::Int64, value)
    }

    /// Makes an `[]interface {}`.
    pub fn list(items: Vec<Self>) -> Self {
        Self::typed_list(ListKind::Any, items)
    }

    /// Makes a slice of the given type.
    pub fn typed_list(kind: ListKind, items: Vec<Self>) -> Self {
        Self::List(List {
            kind,
            items: Rc::new(Items::from(items)),
            nil: false,
        })
    }

    /// Makes a nil `[]interface {}`.
    pub fn nil_list() -> Self {
        Self::List(List {
            kind: ListKind::Any,
            items: Rc::new(Items::default()),
            nil: true,
        })
    }

    /// Makes a `[]string`.
    pub fn strings<I, S>(items: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<Str>,
    {
        Self::typed_list(
            ListKind::Strings,
            items.into_iter().map(|item| Self::Str(item.into())).collect(),
        )
    }

    /// Makes a `map[string]interface {}`.
    pub fn map(entries: Entries) -> Self {
        Self::Map(Map::new(entries))
    }

    /// Says whether it is nil or nothing.
    pub fn is_nil(&self) -> bool {
        matches!(self, Self::Nil | Self::Invalid)
    }

    /// Turns "no value" into a nil interface, as passing it to a parameter does.
    #[must_use]
    pub fn or_nil(self) -> Self {
        match self {
            Self::Invalid => Self::Nil,
            other => other,
        }
    }

    /// Turns a nil interface into "no value", as the end of a pipeline does.
    #[must_use]
    pub fn elem(self) -> Self {
        match self {
            Self::Nil => Self::Invalid,
            other => other,
        }
    }

    /// Names the Go type as `%T` does.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Invalid | Self::Nil => "<nil>",
            Self::Bool(_) => "bool",
            Self::Int(kind, _) => kind.type_name(),
            Self::Float(_) => "float64",
            Self::Str(_) => "string",
            Self::Bytes(_) => "[]uint8",
            Self::List(list) => match list.kind {
                ListKind::Any => "[]interface {}",
                ListKind::Strings => "[]string",
                ListKind::Ints => "[]int",
                ListKind::Lists => "[][]interface {}",
                ListKind::Versions => "common.VersionSet",
            },
            Self::Map(map) => map.type_name(),
            Self::Time(_) => "time.Time",
            Self::Object(object) => object.type_name,
        }
    }

    /// Names the type as it appears where a value of static type `interface {}` is meant.
    pub fn static_type_name(&self) -> &'static str {
        match self {
            Self::Invalid | Self::Nil => "interface {}",
            other => other.type_name(),
        }
    }

    /// Names the kind as `reflect` does.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Invalid | Self::Nil => "invalid",
            Self::Int(kind, _) => kind.kind(),
            Self::Bytes(_) | Self::List(_) => "slice",
            Self::Map(_) => "map",
            Self::Time(_) => "struct",
            Self::Object(object) => {
                if object.type_name.starts_with('*') {
                    "ptr"
                } else {
                    "struct"
                }
            }
            other => other.type_name(),
        }
    }

    /// Decides as `if` does.
    pub fn truth(&self) -> bool {
        match self {
            Self::Invalid | Self::Nil => false,
            Self::Bool(value) => *value,
            Self::Int(_, value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Str(value) | Self::Bytes(value) => !value.is_empty(),
            Self::List(list) => !list.items.is_empty(),
            Self::Map(map) => !map.is_empty(),
            Self::Time(_) | Self::Object(_) => true,
        }
    }

    /// Compares as `reflect.DeepEqual` does: types count.
    pub fn deep_equal(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Invalid | Self::Nil, Self::Invalid | Self::Nil) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Int(ka, a), Self::Int(kb, b)) => ka == kb && a == b,
            (Self::Float(a), Self::Float(b)) => a == b,
            (Self::Str(a), Self::Str(b)) | (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::List(a), Self::List(b)) => {
                a.kind == b.kind
                    && a.nil == b.nil
                    && a.items.len() == b.items.len()
                    && a.items.iter().zip(b.items.iter()).all(|(a, b)| a.deep_equal(b))
            }
            (Self::Map(a), Self::Map(b)) => {
                if a.kind != b.kind || a.len() != b.len() {
                    return false;
                }
                let (a, b) = (a.entries(), b.entries());
                a.iter()
                    .zip(b.iter())
                    .all(|((ka, va), (kb, vb))| ka == kb && va.deep_equal(vb))
            }
            (Self::Time(a), Self::Time(b)) => a == b,
            (Self::Object(a), Self::Object(b)) => Rc::ptr_eq(a, b) || a.text.is_some() && a.text == b.text,
            _ => false,
        }
    }

    /// Copies it so that nothing is shared.
    #[must_use]
    pub fn deep_copy(&self) -> Self {
        match self {
            Self::List(list) => Self::List(List {
                kind: list.kind,
                items: Rc::new(list.items.iter().map(Self::deep_copy).collect()),
                nil: list.nil,
            }),
            Self::Map(map) => Self::Map(Map::with_kind(
                map.kind,
                map.cell
                    .borrow()
                    .iter()
                    .map(|(key, value)| (key.clone(), value.deep_copy()))
                    .collect(),
            )),
            other => other.clone(),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Str(Str::from(text))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Str(Str::from(text))
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Str(Str::from(bytes))
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}
