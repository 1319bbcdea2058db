//! A place in an object's structure, and how the values there merge.

use serde_json::Value;

use super::fields::PathElement;
use crate::schema::{ListMerge, Schema, Type};

/// A schema with what the field that led here says about it.
#[derive(Clone, Copy)]
pub(crate) struct Node<'a> {
    pub schema: &'a Schema,
    atomic: Option<bool>,
}

/// The node below a step.
pub(super) struct Child<'a> {
    pub node: Node<'a>,
    /// Whether the step is to a field that the schema names.
    pub named: bool,
    /// Whether the field is a struct that is never absent.
    pub by_value: bool,
}

/// How values merge.
#[derive(Clone, Copy)]
pub(super) enum Form<'a> {
    /// As a whole.
    Leaf,
    /// Key by key.
    Map,
    /// Item by item.
    List(&'a ListMerge),
}

impl<'a> Node<'a> {
    pub fn root(schema: &'a Schema) -> Node<'a> {
        Node { schema, atomic: None }
    }

    /// Returns how one value here merges.
    pub fn form(&self, value: &Value) -> Form<'a> {
        match (&self.schema.kind, value) {
            (Type::Object(object), Value::Object(_)) => self.map(object.atomic),
            (Type::Map(map), Value::Object(_)) => self.map(map.atomic),
            (Type::Any, Value::Object(_)) => self.map(false),
            (Type::List(list), Value::Array(_)) if list.merge != ListMerge::Atomic => Form::List(&list.merge),
            _ => Form::Leaf,
        }
    }

    fn map(&self, atomic: bool) -> Form<'a> {
        if self.atomic.unwrap_or(atomic) {
            Form::Leaf
        } else {
            Form::Map
        }
    }

    /// Returns how two values here merge; values of different forms do so as wholes.
    pub fn form_of_both(&self, a: Option<&Value>, b: Option<&Value>) -> Form<'a> {
        let said = |value: Option<&Value>| value.filter(|value| !value.is_null()).map(|value| self.form(value));
        match (said(a), said(b)) {
            (Some(Form::Map), Some(Form::Map) | None) | (None, Some(Form::Map)) => Form::Map,
            (Some(list @ Form::List(_)), Some(Form::List(_)) | None) | (None, Some(list @ Form::List(_))) => list,
            _ => Form::Leaf,
        }
    }

    pub fn child(&self, key: &str) -> Child<'a> {
        match self.schema.below(key) {
            Some(below) => Child {
                node: Node {
                    schema: below.schema,
                    atomic: below.field.and_then(|field| field.atomic),
                },
                named: below.field.is_some(),
                by_value: below.field.is_some_and(|field| field.by_value),
            },
            None => Child {
                node: Node::root(Schema::any()),
                named: false,
                by_value: false,
            },
        }
    }

    pub fn items(&self) -> Node<'a> {
        Node::root(self.schema.items())
    }

    pub fn step(&self, element: &PathElement) -> Child<'a> {
        match element {
            PathElement::Field(key) => self.child(key),
            _ => Child {
                node: self.items(),
                named: false,
                by_value: false,
            },
        }
    }
}

/// Returns which item of its list an item is.
pub(super) fn identify(merge: &ListMerge, index: usize, item: &Value) -> PathElement {
    match merge {
        ListMerge::Set => PathElement::value(item),
        ListMerge::Keys(keys) if item.is_object() => PathElement::key(keys.iter().filter_map(|key| {
            let value = item.get(&*key.name).or(key.default.as_ref())?;
            Some((&*key.name, value))
        })),
        _ => PathElement::Index(i64::try_from(index).unwrap_or(i64::MAX)),
    }
}
