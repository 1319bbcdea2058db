//! Sets of fields, and the JSON form that they have in `managedFields`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::node::Node;

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathElement {
    /// A key of an object.
    Field(String),
    /// An item of a list by its keys, as a JSON object with its members sorted.
    Key(String),
    /// An item of a set by its value, as JSON.
    Value(String),
    /// An item of a list by its position.
    Index(i64),
}

impl PathElement {
    /// Makes the step to a key.
    pub fn field(name: &str) -> PathElement {
        PathElement::Field(name.to_owned())
    }

    /// Makes the step to the item with these keys.
    pub fn key<'a>(keys: impl IntoIterator<Item = (&'a str, &'a Value)>) -> PathElement {
        let sorted: BTreeMap<&str, &Value> = keys.into_iter().collect();
        let members: Vec<String> = sorted
            .iter()
            .map(|(name, value)| format!("{}:{value}", Value::from(*name)))
            .collect();
        PathElement::Key(format!("{{{}}}", members.join(",")))
    }

    /// Makes the step to the item of this value.
    pub fn value(value: &Value) -> PathElement {
        PathElement::Value(value.to_string())
    }

    fn encode(&self) -> String {
        match self {
            PathElement::Field(name) => format!("f:{name}"),
            PathElement::Key(keys) => format!("k:{keys}"),
            PathElement::Value(value) => format!("v:{value}"),
            PathElement::Index(index) => format!("i:{index}"),
        }
    }

    fn decode(text: &str) -> Option<PathElement> {
        let (sort, rest) = text.split_once(':')?;
        match sort {
            "f" => Some(PathElement::Field(rest.to_owned())),
            "k" => {
                let keys: Map<String, Value> = serde_json::from_str(rest).ok()?;
                Some(PathElement::key(
                    keys.iter().map(|(name, value)| (name.as_str(), value)),
                ))
            }
            "v" => serde_json::from_str::<Value>(rest)
                .ok()
                .map(|value| PathElement::value(&value)),
            "i" => rest.parse().ok().map(PathElement::Index),
            _ => None,
        }
    }

    /// Writes the step as messages do: `.name`, `[name="x"]`, `[="v"]`, `[3]`.
    fn display(&self, out: &mut String) {
        match self {
            PathElement::Field(name) => {
                out.push('.');
                out.push_str(name);
            }
            PathElement::Key(keys) => {
                let keys: BTreeMap<String, Value> = serde_json::from_str(keys).unwrap_or_default();
                let texts: Vec<String> = keys.iter().map(|(name, value)| format!("{name}={value}")).collect();
                out.push_str(&format!("[{}]", texts.join(",")));
            }
            PathElement::Value(value) => out.push_str(&format!("[={value}]")),
            PathElement::Index(index) => out.push_str(&format!("[{index}]")),
        }
    }
}

/// A set of paths: those that end here, and those that go on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    /// The last steps of paths that end at this level.
    pub members: BTreeSet<PathElement>,
    /// What is below; never an empty set.
    pub children: BTreeMap<PathElement, Set>,
}

impl Set {
    /// Returns whether there is no path in it.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.children.is_empty()
    }

    /// Makes the set of one path through keys.
    pub(super) fn of_path(path: &[impl AsRef<str>]) -> Set {
        let mut out = Set::default();
        match path {
            [] => {}
            [last] => out.insert(PathElement::field(last.as_ref())),
            [first, rest @ ..] => out.insert_below(PathElement::field(first.as_ref()), Set::of_path(rest)),
        }
        out
    }

    /// Adds a path that ends at this level.
    pub fn insert(&mut self, element: PathElement) {
        self.members.insert(element);
    }

    /// Adds paths below a step.
    pub fn insert_below(&mut self, element: PathElement, below: Set) {
        if below.is_empty() {
            return;
        }
        let merged = match self.children.remove(&element) {
            Some(known) => known.union(&below),
            None => below,
        };
        self.children.insert(element, merged);
    }

    /// Returns the paths that are in either.
    #[must_use]
    pub fn union(&self, other: &Set) -> Set {
        let mut out = self.clone();
        out.members.extend(other.members.iter().cloned());
        for (element, below) in &other.children {
            out.insert_below(element.clone(), below.clone());
        }
        out
    }

    /// Returns the paths that are in both.
    #[must_use]
    pub fn intersection(&self, other: &Set) -> Set {
        let mut out = Set {
            members: self.members.intersection(&other.members).cloned().collect(),
            ..Set::default()
        };
        for (element, below) in &self.children {
            if let Some(same) = other.children.get(element) {
                out.insert_below(element.clone(), below.intersection(same));
            }
        }
        out
    }

    /// Returns the paths that are in this one alone.
    #[must_use]
    pub fn difference(&self, other: &Set) -> Set {
        let mut out = Set {
            members: self.members.difference(&other.members).cloned().collect(),
            ..Set::default()
        };
        for (element, below) in &self.children {
            match other.children.get(element) {
                Some(same) => out.insert_below(element.clone(), below.difference(same)),
                None => out.insert_below(element.clone(), below.clone()),
            }
        }
        out
    }

    /// Keeps the paths whose first step is wanted.
    pub(super) fn retain_top(&mut self, wanted: impl Fn(&PathElement) -> bool) {
        self.members.retain(&wanted);
        self.children.retain(|element, _| wanted(element));
    }

    /// Takes out all paths that begin with a step.
    pub(super) fn remove_top(&mut self, element: &PathElement) {
        self.members.remove(element);
        self.children.remove(element);
    }

    /// Takes out all paths that begin with these keys.
    pub(super) fn remove_path(&mut self, path: &[&str]) {
        match path {
            [] => {}
            [last] => self.remove_top(&PathElement::field(last)),
            [first, rest @ ..] => {
                let element = PathElement::field(first);
                if let Some(below) = self.children.get_mut(&element) {
                    below.remove_path(rest);
                    if below.is_empty() {
                        self.children.remove(&element);
                    }
                }
            }
        }
    }

    /// Adds to each path through a known field the field itself.
    #[must_use]
    pub(super) fn with_named_fields(&self, node: &Node<'_>) -> Set {
        let mut out = Set {
            members: self.members.clone(),
            ..Set::default()
        };
        for (element, below) in &self.children {
            let child = node.step(element);
            if child.named {
                out.members.insert(element.clone());
            }
            out.children
                .insert(element.clone(), below.with_named_fields(&child.node));
        }
        out
    }

    /// Returns all paths as messages write them: `.spec.replicas`.
    pub fn paths(&self) -> Vec<String> {
        let mut out = Vec::new();
        self.list(&mut String::new(), &mut out);
        out
    }

    fn list(&self, prefix: &mut String, out: &mut Vec<String>) {
        let length = prefix.len();
        for element in &self.members {
            element.display(prefix);
            out.push(prefix.clone());
            prefix.truncate(length);
        }
        for (element, below) in &self.children {
            element.display(prefix);
            below.list(prefix, out);
            prefix.truncate(length);
        }
    }

    /// Returns the set as `fieldsV1`.
    pub fn encode(&self) -> Value {
        let mut out: BTreeMap<String, Value> = BTreeMap::new();
        for element in &self.members {
            out.insert(element.encode(), Value::Object(Map::new()));
        }
        for (element, below) in &self.children {
            let mut encoded = Map::new();
            if self.members.contains(element) {
                encoded.insert(".".to_owned(), Value::Object(Map::new()));
            }
            if let Value::Object(inner) = below.encode() {
                encoded.extend(inner);
            }
            out.insert(element.encode(), Value::Object(encoded));
        }
        Value::Object(out.into_iter().collect())
    }

    /// Reads `fieldsV1`; nothing where it is none.
    pub fn decode(fields: &Value) -> Option<Set> {
        Set::decode_level(fields, 0).map(|(set, _)| set)
    }

    fn decode_level(fields: &Value, depth: usize) -> Option<(Set, bool)> {
        // Objects nest less deep than that, and the parser's own limit stands in front.
        if depth > 200 {
            return None;
        }
        let mut out = Set::default();
        let mut itself = false;
        for (key, below) in fields.as_object()? {
            if key == "." {
                itself = true;
                continue;
            }
            let element = PathElement::decode(key)?;
            if below.as_object()?.is_empty() {
                out.members.insert(element);
                continue;
            }
            let (below, member) = Set::decode_level(below, depth + 1)?;
            if member {
                out.members.insert(element.clone());
            }
            out.insert_below(element, below);
        }
        Some((out, itself))
    }
}
