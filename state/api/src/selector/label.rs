//! Label selectors: `app=web,tier in (a,b),!canary`, and the same as a `LabelSelector` object.

use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value};

use super::SelectorError;
use crate::names;
use crate::validate::field::quote;

/// How a label's value is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `key=value`
    Equals,
    /// `key!=value`: also true where the label is missing
    NotEquals,
    /// `key in (a,b)`
    In,
    /// `key notin (a,b)`: also true where the label is missing
    NotIn,
    /// `key`
    Exists,
    /// `!key`
    DoesNotExist,
    /// `key>5`
    GreaterThan,
    /// `key<5`
    LessThan,
}

/// One term of a label selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// How it is compared.
    pub operator: Operator,
    /// With what; sorted, each once.
    pub values: Vec<String>,
}

impl Requirement {
    fn new(key: &str, operator: Operator, mut values: Vec<String>) -> Result<Requirement, SelectorError> {
        let wrong_key = names::qualified_name(key);
        if !wrong_key.is_empty() {
            return Err(SelectorError(format!(
                "key: Invalid value: {}: {}",
                quote(key),
                wrong_key.join("; ")
            )));
        }
        match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                return Err(SelectorError(
                    "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty".into(),
                ));
            }
            Operator::GreaterThan | Operator::LessThan if !matches!(values.as_slice(), [one] if one.parse::<i64>().is_ok()) =>
            {
                let shown = values.first().map_or_else(|| "\"\"".into(), |value| quote(value));
                return Err(SelectorError(format!(
                    "values[0]: Invalid value: {shown}: for 'Gt', 'Lt' operators, the value must be an integer"
                )));
            }
            _ => {}
        }
        for (index, value) in values.iter().enumerate() {
            let wrong = names::label_value(value);
            if !wrong.is_empty() {
                return Err(SelectorError(format!(
                    "values[{index}][{key}]: Invalid value: {}: {}",
                    quote(value),
                    wrong.join("; ")
                )));
            }
        }
        values.sort();
        values.dedup();
        Ok(Requirement {
            key: key.to_owned(),
            operator,
            values,
        })
    }

    fn matches(&self, labels: Option<&Map<String, Value>>) -> bool {
        let value = labels.and_then(|labels| labels.get(&self.key)).and_then(Value::as_str);
        let listed = |value: &str| self.values.iter().any(|wanted| wanted == value);
        let compared = |wanted: fn(i64, i64) -> bool| {
            let limit = self.values.first().and_then(|limit| limit.parse().ok());
            matches!((value.and_then(|v| v.parse().ok()), limit), (Some(value), Some(limit)) if wanted(value, limit))
        };
        match self.operator {
            Operator::Equals | Operator::In => value.is_some_and(listed),
            Operator::NotEquals | Operator::NotIn => !value.is_some_and(listed),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => compared(|value, limit| value > limit),
            Operator::LessThan => compared(|value, limit| value < limit),
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, values) = (&self.key, self.values.join(","));
        match self.operator {
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

/// Terms that must all hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelSelector {
    /// `None` selects nothing.
    requirements: Option<Vec<Requirement>>,
}

impl LabelSelector {
    /// Makes the selector of everything.
    pub fn everything() -> LabelSelector {
        LabelSelector {
            requirements: Some(Vec::new()),
        }
    }

    /// Makes the selector of nothing.
    pub fn nothing() -> LabelSelector {
        LabelSelector { requirements: None }
    }

    /// Makes a selector from a `LabelSelector` object (`matchLabels`, `matchExpressions`).
    ///
    /// Null selects nothing, `{}` everything.
    pub fn from_value(value: &Value) -> Result<LabelSelector, SelectorError> {
        if value.is_null() {
            return Ok(LabelSelector::nothing());
        }
        let mut requirements = Vec::new();
        if let Some(labels) = value.get("matchLabels").and_then(Value::as_object) {
            requirements.extend(equal_to(labels)?);
        }
        for expression in crate::meta::list_at(value, &["matchExpressions"]) {
            let key = crate::meta::str_at(expression, &["key"]);
            let operator = match crate::meta::str_at(expression, &["operator"]) {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => {
                    return Err(SelectorError(format!(
                        "{} is not a valid label selector operator",
                        quote(other)
                    )));
                }
            };
            let values = crate::meta::list_at(expression, &["values"]);
            let values: Vec<String> = values.iter().filter_map(Value::as_str).map(str::to_owned).collect();
            if matches!(operator, Operator::Exists | Operator::DoesNotExist) && !values.is_empty() {
                return Err(SelectorError(
                    "values: Invalid value: values set must be empty for exists and does not exist".into(),
                ));
            }
            requirements.push(Requirement::new(key, operator, values)?);
        }
        Ok(LabelSelector::of(requirements))
    }

    /// Makes a selector from a map of labels, as a Service or ReplicationController has it.
    pub fn from_labels(labels: &Map<String, Value>) -> Result<LabelSelector, SelectorError> {
        Ok(LabelSelector::of(equal_to(labels)?))
    }

    fn of(mut requirements: Vec<Requirement>) -> LabelSelector {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        LabelSelector {
            requirements: Some(requirements),
        }
    }

    /// Returns whether everything is selected.
    pub fn is_everything(&self) -> bool {
        self.requirements.as_ref().is_some_and(Vec::is_empty)
    }

    /// Returns the terms; none where nothing is selected.
    pub fn requirements(&self) -> &[Requirement] {
        self.requirements.as_deref().unwrap_or(&[])
    }

    /// Returns whether an object with these labels is selected.
    pub fn matches(&self, labels: Option<&Map<String, Value>>) -> bool {
        match &self.requirements {
            Some(requirements) => requirements.iter().all(|requirement| requirement.matches(labels)),
            None => false,
        }
    }

    /// Returns whether an object is selected by its labels.
    pub fn matches_object(&self, object: &Value) -> bool {
        self.matches(crate::meta::labels(object))
    }
}

fn equal_to(labels: &Map<String, Value>) -> Result<Vec<Requirement>, SelectorError> {
    let requirement = |(key, value): (&String, &Value)| {
        Requirement::new(key, Operator::Equals, vec![value.as_str().unwrap_or("").to_owned()])
    };
    labels.iter().map(requirement).collect()
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements().iter().enumerate() {
            write!(f, "{}{requirement}", if index > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

impl FromStr for LabelSelector {
    type Err = SelectorError;

    /// Parses the form of a query: terms joined by commas.
    fn from_str(text: &str) -> Result<LabelSelector, SelectorError> {
        let mut parser = Parser {
            tokens: tokens(text),
            at: 0,
        };
        let requirements = parser.terms()?;
        Ok(LabelSelector::of(requirements))
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Symbol(&'static str),
}

impl Token {
    fn text(&self) -> &str {
        match self {
            Token::Word(word) => word,
            Token::Symbol(symbol) => symbol,
        }
    }
}

fn tokens(text: &str) -> Vec<Token> {
    const SYMBOLS: [&str; 9] = ["!=", "==", "=", "!", "<", ">", "(", ")", ","];
    let mut out = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        if let Some(symbol) = SYMBOLS.into_iter().find(|symbol| rest.starts_with(symbol)) {
            out.push(Token::Symbol(symbol));
            rest = &rest[symbol.len()..];
        } else {
            let end = rest
                .find(|c: char| c.is_whitespace() || "!=<>(),".contains(c))
                .unwrap_or(rest.len());
            out.push(Token::Word(rest[..end].to_owned()));
            rest = &rest[end..];
        }
        rest = rest.trim_start();
    }
    out
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn take(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    fn accept(&mut self, symbol: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Symbol(found)) if *found == symbol);
        self.at += usize::from(found);
        found
    }

    fn wrong<T>(found: Option<&Token>, expected: &str) -> Result<T, SelectorError> {
        let found = found.map_or("", Token::text);
        Err(SelectorError(format!(
            "unable to parse requirement: found '{found}', expected: {expected}"
        )))
    }

    fn terms(&mut self) -> Result<Vec<Requirement>, SelectorError> {
        let mut out = Vec::new();
        if self.peek().is_none() {
            return Ok(out);
        }
        loop {
            out.push(self.term()?);
            if self.peek().is_none() {
                return Ok(out);
            }
            if !self.accept(",") {
                return Self::wrong(self.peek(), "',' or 'end of string'");
            }
            if self.peek().is_none() {
                return Self::wrong(None, "identifier after ','");
            }
        }
    }

    fn term(&mut self) -> Result<Requirement, SelectorError> {
        let absent = self.accept("!");
        let key = match self.take() {
            Some(Token::Word(word)) => word,
            other => return Self::wrong(other.as_ref(), "!, identifier, or 'end of string'"),
        };
        let made = |operator, values| {
            Requirement::new(&key, operator, values)
                .map_err(|error| SelectorError(format!("unable to parse requirement: {error}")))
        };
        if absent {
            return made(Operator::DoesNotExist, Vec::new());
        }
        let operator = match self.peek() {
            None | Some(Token::Symbol(",")) => return made(Operator::Exists, Vec::new()),
            Some(Token::Symbol("=" | "==")) => Operator::Equals,
            Some(Token::Symbol("!=")) => Operator::NotEquals,
            Some(Token::Symbol(">")) => Operator::GreaterThan,
            Some(Token::Symbol("<")) => Operator::LessThan,
            Some(Token::Word(word)) if word == "in" => Operator::In,
            Some(Token::Word(word)) if word == "notin" => Operator::NotIn,
            other => return Self::wrong(other, "in, notin, =, ==, !=, gt, lt"),
        };
        self.at += 1;
        if matches!(operator, Operator::In | Operator::NotIn) {
            let values = self.values()?;
            return made(operator, values);
        }
        match self.peek() {
            // The empty value.
            None | Some(Token::Symbol(",")) => made(operator, vec![String::new()]),
            Some(Token::Word(word)) => {
                let word = word.clone();
                self.at += 1;
                made(operator, vec![word])
            }
            other => Self::wrong(other, "identifier"),
        }
    }

    fn values(&mut self) -> Result<Vec<String>, SelectorError> {
        if !self.accept("(") {
            return Self::wrong(self.peek(), "'('");
        }
        let mut out = Vec::new();
        let mut word = None;
        loop {
            match self.take() {
                Some(Token::Word(text)) if word.is_none() => word = Some(text),
                Some(Token::Symbol(",")) => out.push(word.take().unwrap_or_default()),
                Some(Token::Symbol(")")) => {
                    out.push(word.take().unwrap_or_default());
                    return Ok(out);
                }
                other => return Self::wrong(other.as_ref(), "',', ')' or identifier"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn selects(text: &str, labels: &Value) -> bool {
        text.parse::<LabelSelector>().unwrap().matches(labels.as_object())
    }

    #[test]
    fn every_operator_selects_as_on_kubernetes() {
        let labels = json!({"app": "web", "tier": "a", "n": "5"});
        for text in [
            "",
            "app=web",
            "app==web",
            "app",
            "!x",
            "x!=y",
            "app!=db",
            "tier in (a, b)",
            "tier notin (c)",
            "x notin (c)",
            "n>4",
            "n<6",
            "app=web,tier in (a),!x",
            " app = web , tier ",
        ] {
            assert!(selects(text, &labels), "{text:?}");
        }
        for text in [
            "app=db",
            "x",
            "!app",
            "app!=web",
            "tier in (b)",
            "tier notin (a,b)",
            "n>5",
            "x>1",
            "app=",
            "x=",
            "app in ()",
        ] {
            assert!(!selects(text, &labels), "{text:?}");
        }
    }

    #[test]
    fn what_cannot_be_parsed_is_refused() {
        for text in [
            "=a", "a in b", "a in (b", "a b", "a,", ",a", "a=b=c", "!", "a>x", "a in", "-a=b", "a=b c", "a!b",
        ] {
            assert!(text.parse::<LabelSelector>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_null_selector_selects_nothing_and_an_empty_one_everything() {
        assert!(!LabelSelector::from_value(&Value::Null).unwrap().matches(None));
        assert!(LabelSelector::from_value(&json!({})).unwrap().matches(None));
        let selector = LabelSelector::from_value(
            &json!({"matchLabels": {"b": "1"}, "matchExpressions": [{"key": "a", "operator": "In", "values": ["y", "x"]}]}),
        );
        assert_eq!(selector.unwrap().to_string(), "a in (x,y),b=1");
        assert!(LabelSelector::from_value(&json!({"matchExpressions": [{"key": "a", "operator": "Gt"}]})).is_err());
    }

    fn term() -> impl Strategy<Value = String> {
        let key = "(ex\\.com/)?[a-z]([-a-z]{0,3}[a-z])?";
        let value = "[a-zA-Z0-9]{0,4}";
        prop_oneof![
            key.prop_map(|k| k),
            key.prop_map(|k| format!("!{k}")),
            (key, value).prop_map(|(k, v)| format!("{k}={v}")),
            (key, value).prop_map(|(k, v)| format!("{k}!={v}")),
            (key, proptest::collection::vec(value, 1..4)).prop_map(|(k, v)| format!("{k} in ({})", v.join(","))),
            (key, proptest::collection::vec(value, 1..4)).prop_map(|(k, v)| format!("{k} notin ({})", v.join(","))),
            (key, any::<i64>()).prop_map(|(k, v)| format!("{k}>{}", v.unsigned_abs() / 2)),
        ]
    }

    proptest! {
        #[test]
        fn printing_and_parsing_gives_the_same_selector(terms in proptest::collection::vec(term(), 0..5)) {
            let selector: LabelSelector = terms.join(",").parse().unwrap();
            let again: LabelSelector = selector.to_string().parse().unwrap();
            prop_assert_eq!(again, selector);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "[a-z!=<>(), ]*") {
            drop(text.parse::<LabelSelector>());
        }
    }
}
