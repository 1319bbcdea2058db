//! The structure of objects for those who compare them as an apply would, without applying anything.

use serde_json::Value;

use super::node::{Form, Node};
use crate::schema::{Format, ListKey, ListMerge, Schema, Type};

/// A place in an object's structure.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    node: Node<'a>,
    named: bool,
    by_value: bool,
}

/// How values at a place merge.
#[derive(Clone, Copy)]
pub enum Merge<'a> {
    /// As a whole.
    Whole,
    /// Key by key.
    Fields,
    /// Item by item; an item is known by its value.
    Set,
    /// Item by item; an item is known by the values of its keys.
    Keys(Keys<'a>),
}

/// The keys that the items of a list are known by.
#[derive(Clone, Copy)]
pub struct Keys<'a>(&'a [ListKey]);

/// What is special about comparing the values at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// A quantity: `1000m` is `1`.
    Quantity,
    /// Base64: line breaks say nothing.
    Bytes,
    /// Nothing.
    Plain,
}

impl<'a> Keys<'a> {
    /// Returns the keys with what each reads as where an item lacks it.
    pub fn iter(self) -> impl Iterator<Item = (&'a str, Option<&'a Value>)> {
        self.0.iter().map(|key| (&*key.name, key.default.as_ref()))
    }

    /// Returns whether two items are the same one.
    pub fn same(self, a: &Value, b: &Value) -> bool {
        self.iter()
            .all(|(name, default)| a.get(name).or(default) == b.get(name).or(default))
    }
}

impl<'a> Place<'a> {
    /// Returns the place of a whole object.
    pub fn root(schema: &'a Schema) -> Place<'a> {
        Place {
            node: Node::root(schema),
            named: false,
            by_value: false,
        }
    }

    /// Returns the place below a key.
    pub fn child(&self, key: &str) -> Place<'a> {
        let child = self.node.child(key);
        Place {
            node: child.node,
            named: child.named,
            by_value: child.by_value,
        }
    }

    /// Returns the place of a list's items.
    pub fn items(&self) -> Place<'a> {
        Place {
            node: self.node.items(),
            named: false,
            by_value: false,
        }
    }

    /// Returns how one value here merges with others.
    pub fn merge(&self, value: &Value) -> Merge<'a> {
        merge(self.node.form(value))
    }

    /// Returns how two values here merge.
    pub fn merge_of(&self, a: &Value, b: &Value) -> Merge<'a> {
        merge(self.node.form_of_both(Some(a), Some(b)))
    }

    /// Returns whether the schema names the field here (rather than it being a key of a map, an item, or unknown).
    pub fn is_field(&self) -> bool {
        self.named
    }

    /// Returns whether anything can stand here.
    pub fn is_anything(&self) -> bool {
        matches!(self.node.schema.kind, Type::Any | Type::Opaque)
    }

    /// Returns whether an empty map or list here is not kept: Go writes neither empty maps and lists nor says whether structs
    /// that it holds by value were there.
    pub fn drops_empty(&self) -> bool {
        match self.node.schema.kind {
            Type::Map(_) | Type::List(_) => self.named && !self.node.schema.custom,
            Type::Object(_) => self.by_value,
            _ => false,
        }
    }

    /// Returns what is special about comparing values here.
    pub fn sort(&self) -> Sort {
        match self.node.schema.kind {
            Type::Quantity => Sort::Quantity,
            Type::String(Format::Byte) => Sort::Bytes,
            _ => Sort::Plain,
        }
    }
}

fn merge(form: Form<'_>) -> Merge<'_> {
    match form {
        Form::Leaf | Form::List(ListMerge::Atomic) => Merge::Whole,
        Form::Map => Merge::Fields,
        Form::List(ListMerge::Set) => Merge::Set,
        Form::List(ListMerge::Keys(keys)) => Merge::Keys(Keys(keys)),
    }
}
