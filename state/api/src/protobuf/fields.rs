//! The table of messages, parsed once from `fields.txt`.

use std::collections::HashMap;
use std::sync::OnceLock;

/// The type of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A text.
    String,
    /// A signed integer.
    Int,
    /// A bool.
    Bool,
    /// A floating-point number.
    Double,
    /// Bytes, base64 in JSON.
    Bytes,
    /// A message of the table.
    Message(&'static str),
    /// `resource.Quantity`: a text in a message.
    Quantity,
    /// `meta/v1 Time`.
    Time,
    /// `meta/v1 MicroTime`.
    MicroTime,
    /// `intstr.IntOrString`.
    IntOrString,
    /// A message whose first field holds JSON: RawExtension, FieldsV1, JSON.
    Json,
    /// `meta/v1 Duration`: nanoseconds.
    Duration,
    /// A message whose first field is a list of texts.
    Strings,
    /// JSONSchemaPropsOrArray.
    SchemaOrArray,
    /// JSONSchemaPropsOrBool.
    SchemaOrBool,
    /// JSONSchemaPropsOrStringArray.
    SchemaOrStrings,
}

/// How often a field occurs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// At most once.
    Single,
    /// A list.
    List,
    /// A map from text.
    Map,
}

/// One field of a message.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The number on the wire.
    pub number: u32,
    /// The name in JSON; `None` when the message's fields stand in the enclosing object.
    pub name: Option<&'static str>,
    /// How often it occurs.
    pub shape: Shape,
    /// The type of a value.
    pub ty: Type,
    /// Whether a zero or empty value is kept.
    pub keep: bool,
}

/// All messages.
pub struct Table {
    kinds: HashMap<(&'static str, &'static str), &'static str>,
    messages: HashMap<&'static str, Vec<Field>>,
}

impl Table {
    /// Returns the table.
    pub fn get() -> &'static Table {
        static TABLE: OnceLock<Table> = OnceLock::new();
        TABLE.get_or_init(|| Table::parse(include_str!("fields.txt")))
    }

    /// Returns the message of a kind. Options and Status belong to every group.
    pub fn kind(&self, api_version: &str, kind: &str) -> Option<&'static str> {
        let everywhere = kind.ends_with("Options") || kind == "Status";
        let api_version = if everywhere { "v1" } else { api_version };
        // The table's keys live for ever, the looked-up ones do not: compare by content.
        self.kinds
            .iter()
            .find(|((a, k), _)| *a == api_version && *k == kind)
            .map(|(_, message)| *message)
    }

    /// Returns a field of a message by its number.
    pub fn field(&self, message: &str, number: u32) -> Option<&Field> {
        self.messages.get(message)?.iter().find(|field| field.number == number)
    }

    /// Returns a field of a message by its name in JSON, also one of a message whose fields stand in this one.
    pub fn field_named(&self, message: &str, name: &str) -> Option<&Field> {
        let fields = self.messages.get(message)?;
        let own = fields.iter().find(|field| field.name == Some(name));
        own.or_else(|| {
            fields.iter().find_map(|field| match (field.name, field.ty) {
                (None, Type::Message(inner)) => self.field_named(inner, name),
                _ => None,
            })
        })
    }

    /// Returns whether a message is in the table.
    pub fn contains(&self, message: &str) -> bool {
        self.messages.contains_key(message)
    }

    /// Returns all messages with their fields.
    #[cfg(test)]
    pub fn messages(&self) -> impl Iterator<Item = (&'static str, &[Field])> {
        self.messages.iter().map(|(name, fields)| (*name, fields.as_slice()))
    }

    fn parse(text: &'static str) -> Table {
        let mut table = Table {
            kinds: HashMap::new(),
            messages: HashMap::new(),
        };
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let mut words = line.split_ascii_whitespace();
            let Some(first) = words.next() else { continue };
            if let Some((left, message)) = line.split_once(" = ") {
                if let Some((api_version, kind)) = left.split_once(' ') {
                    table.kinds.insert((api_version, kind), message);
                }
                continue;
            }
            table.messages.insert(first, words.filter_map(Field::parse).collect());
        }
        table
    }
}

impl Field {
    /// Returns whether Go holds it as a struct, not a pointer to one.
    pub fn is_struct_by_value(&self) -> bool {
        matches!(self.ty, Type::Message(_)) && self.shape == Shape::Single && !self.keep
    }

    fn parse(word: &'static str) -> Option<Field> {
        let (name, rest) = word.split_once('=')?;
        let (number, ty) = rest.split_once(':')?;
        let (ty, keep) = ty.strip_suffix('!').map_or((ty, false), |ty| (ty, true));
        let (shape, ty) = match (ty.strip_prefix("[]"), ty.strip_prefix("{}")) {
            (Some(ty), _) => (Shape::List, ty),
            (_, Some(ty)) => (Shape::Map, ty),
            _ => (Shape::Single, ty),
        };
        let ty = match ty {
            "string" => Type::String,
            "int" => Type::Int,
            "bool" => Type::Bool,
            "double" => Type::Double,
            "bytes" => Type::Bytes,
            "quantity" => Type::Quantity,
            "time" => Type::Time,
            "microtime" => Type::MicroTime,
            "intorstring" => Type::IntOrString,
            "json" => Type::Json,
            "duration" => Type::Duration,
            "strings" => Type::Strings,
            "schemaorarray" => Type::SchemaOrArray,
            "schemaorbool" => Type::SchemaOrBool,
            "schemaorstrings" => Type::SchemaOrStrings,
            message => Type::Message(message),
        };
        let name = Some(name).filter(|name| *name != "~");
        Some(Field {
            number: number.parse().ok()?,
            name,
            shape,
            ty,
            keep,
        })
    }
}
