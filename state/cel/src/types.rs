//! The types of expressions, and how they are written.

use std::fmt;
use std::sync::Arc;

use crate::declare::Record;

/// What is known of an expression before it runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    /// Anything: checked when it runs.
    Dyn,
    /// Of what is wrong already: fits everywhere, so that a fault is told once.
    Error,
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool,
    /// 64 bits with a sign.
    Int,
    /// 64 bits without a sign.
    Uint,
    /// 64 bits, floating.
    Double,
    /// Unicode text.
    String,
    /// Octets.
    Bytes,
    /// A moment.
    Timestamp,
    /// A span of time.
    Duration,
    /// A list of one type.
    List(Arc<Type>),
    /// A map from one type to another.
    Map(Arc<Type>, Arc<Type>),
    /// A value that may be absent.
    Optional(Arc<Type>),
    /// A type as a value.
    Type(Arc<Type>),
    /// An object with declared fields.
    Object(Arc<Record>),
    /// A type of Kubernetes' libraries: `net.IP`.
    Named(&'static str),
    /// A type that is not known yet.
    Param(u32),
}

pub(crate) const URL: Type = Type::Named("kubernetes.URL");
pub(crate) const IP: Type = Type::Named("net.IP");
pub(crate) const CIDR: Type = Type::Named("net.CIDR");
pub(crate) const QUANTITY: Type = Type::Named("kubernetes.Quantity");
pub(crate) const SEMVER: Type = Type::Named("kubernetes.Semver");
pub(crate) const FORMAT: Type = Type::Named("kubernetes.NamedFormat");

impl Type {
    /// Makes the type of lists of a type.
    pub fn list(items: Type) -> Type {
        Type::List(Arc::new(items))
    }

    /// Makes the type of maps.
    pub fn map(keys: Type, values: Type) -> Type {
        Type::Map(Arc::new(keys), Arc::new(values))
    }

    /// Makes the type of optional values of a type.
    pub fn optional(inner: Type) -> Type {
        Type::Optional(Arc::new(inner))
    }

    pub(crate) fn is_dyn(&self) -> bool {
        matches!(self, Type::Dyn)
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self, Type::Dyn | Type::Error)
    }

    /// Returns the type that a name stands for, if it stands for one.
    pub(crate) fn named(name: &str) -> Option<Type> {
        Some(match name {
            "bool" => Type::Bool,
            "int" => Type::Int,
            "uint" => Type::Uint,
            "double" => Type::Double,
            "string" => Type::String,
            "bytes" => Type::Bytes,
            "list" => Type::list(Type::Dyn),
            "map" => Type::map(Type::Dyn, Type::Dyn),
            "null_type" => Type::Null,
            "type" => Type::Type(Arc::new(Type::Dyn)),
            "dyn" => Type::Dyn,
            "optional_type" => Type::optional(Type::Dyn),
            "google.protobuf.Timestamp" => Type::Timestamp,
            "google.protobuf.Duration" => Type::Duration,
            "kubernetes.URL" => URL,
            "net.IP" => IP,
            "net.CIDR" => CIDR,
            "kubernetes.Quantity" => QUANTITY,
            "kubernetes.Semver" => SEMVER,
            "kubernetes.NamedFormat" => FORMAT,
            _ => return None,
        })
    }

    /// Returns the name that `type()` gives for values of the type.
    pub(crate) fn runtime_name(&self) -> &str {
        match self {
            Type::Dyn => "dyn",
            Type::Error => "!error!",
            Type::Null => "null_type",
            Type::Bool => "bool",
            Type::Int => "int",
            Type::Uint => "uint",
            Type::Double => "double",
            Type::String => "string",
            Type::Bytes => "bytes",
            Type::Timestamp => "google.protobuf.Timestamp",
            Type::Duration => "google.protobuf.Duration",
            Type::List(_) => "list",
            Type::Map(..) => "map",
            Type::Optional(_) => "optional_type",
            Type::Type(_) => "type",
            Type::Object(record) => record.name(),
            Type::Named(name) => name,
            Type::Param(_) => "dyn",
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::List(items) => write!(f, "list({items})"),
            Type::Map(keys, values) => write!(f, "map({keys}, {values})"),
            Type::Optional(inner) => write!(f, "optional_type({inner})"),
            Type::Type(inner) => match &**inner {
                Type::Dyn => f.write_str("type"),
                inner => write!(f, "type({inner})"),
            },
            Type::Null => f.write_str("null"),
            Type::Timestamp => f.write_str("timestamp"),
            Type::Duration => f.write_str("duration"),
            Type::Param(number) => write!(f, "_var{number}"),
            other => f.write_str(other.runtime_name()),
        }
    }
}

/// What a function takes and gives, as a row of the function table says it.
#[derive(Clone, Debug)]
pub(crate) struct Signature {
    /// Whether it is called on its first argument: `a.f(b)`.
    pub member: bool,
    pub params: Vec<Type>,
    pub result: Type,
}

impl Signature {
    /// Reads `(int, list(A)) -> bool`, or `string.(int) -> string` for a function that is called on its first argument.
    pub fn parse(text: &str) -> Option<Signature> {
        let (left, result) = text.split_once(" -> ")?;
        let (target, args) = match left.split_once(".(") {
            Some((target, args)) => (Some(target), args),
            None => (None, left.strip_prefix('(')?),
        };
        let args = args.strip_suffix(')')?;
        let mut params = Vec::new();
        if let Some(target) = target {
            params.push(read(target)?);
        }
        if !args.is_empty() {
            for part in split(args) {
                params.push(read(part)?);
            }
        }
        Some(Signature {
            member: target.is_some(),
            params,
            result: read(result)?,
        })
    }
}

/// Splits at the commas that are in no brackets.
fn split(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts
}

fn read(text: &str) -> Option<Type> {
    if let Some((name, rest)) = text.split_once('(') {
        let parts = split(rest.strip_suffix(')')?);
        return Some(match (name, &parts[..]) {
            ("list", [items]) => Type::list(read(items)?),
            ("map", [keys, values]) => Type::map(read(keys)?, read(values)?),
            ("optional", [inner]) => Type::optional(read(inner)?),
            ("type", [inner]) => Type::Type(Arc::new(read(inner)?)),
            _ => return None,
        });
    }
    Some(match text {
        "A" => Type::Param(0),
        "B" => Type::Param(1),
        "null" => Type::Null,
        "timestamp" => Type::Timestamp,
        "duration" => Type::Duration,
        "url" => URL,
        "ip" => IP,
        "cidr" => CIDR,
        "quantity" => QUANTITY,
        "semver" => SEMVER,
        "format" => FORMAT,
        name => return Type::named(name),
    })
}
