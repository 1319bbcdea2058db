//! Declared data: what expressions see of it.

use std::sync::Arc;

use serde_json::{Value as Json, json};

use crate::{CALL_LIMIT, Declaration, Environment, Field, Merge, Program, Record, Value};

fn field(name: &str, declaration: Declaration) -> Field {
    Field {
        property: name.into(),
        declaration: Arc::new(declaration),
        required: false,
    }
}

fn list(items: Declaration, merge: Merge) -> Declaration {
    Declaration::list(Arc::new(items), merge, None)
}

fn declaration() -> Arc<Declaration> {
    let pair = |name: &str| {
        Declaration::object(Record::new(
            name,
            [field("k", Declaration::string(None)), field("v", Declaration::int())],
        ))
    };
    let keys = || Merge::Keys(vec!["k".into()].into());
    Arc::new(Declaration::object(Record::new(
        "self",
        [
            field("int", Declaration::int()),
            field("number", Declaration::double()),
            field("text", Declaration::string(Some(10))),
            field("port", Declaration::int_or_string(None)),
            field("when", Declaration::date_time()),
            field("day", Declaration::date()),
            field("span", Declaration::duration()),
            field("raw", Declaration::bytes(None)),
            field("namespace", Declaration::string(None)),
            field("x-y.z", Declaration::int()),
            field("set", list(Declaration::string(None), Merge::Set)),
            field("plain", list(Declaration::int(), Merge::Atomic)),
            field("pairs", list(pair("pair"), keys())),
            field("others", list(pair("pair"), keys())),
            field("map", Declaration::map(Arc::new(Declaration::int()), None)),
            field("nullable", Declaration::string(None).nullable(true)),
            field(
                "maybe",
                Declaration::map(Arc::new(Declaration::string(None).nullable(true)), None),
            ),
            field(
                "inner",
                Declaration::object(Record::new("inner", [field("a", Declaration::int())])),
            ),
        ],
    )))
}

fn run(text: &str, data: &Json) -> Result<Value, String> {
    let declaration = declaration();
    let environment = Environment::default().declare("self", &declaration);
    let program =
        Program::compile(text, &environment).map_err(|issues| issues.messages().collect::<Vec<_>>().join("; "))?;
    program
        .run(&[Some(declaration.read(data))], CALL_LIMIT)
        .value
        .map_err(|error| error.to_string())
}

#[test]
fn data_has_the_types_that_were_declared() {
    let data = json!({
        "int": 1, "number": 1, "text": "a", "port": 80, "when": "2020-01-01T00:00:00Z", "day": "2020-01-01", "span": "1h",
        "raw": "YQ==", "namespace": "n", "x-y.z": 2, "set": ["a", "b"], "plain": [1, 2],
        "pairs": [{"k": "a", "v": 1}, {"k": "b", "v": 2}], "others": [{"k": "b", "v": 2}, {"k": "a", "v": 1}],
        "map": {"x": 1}, "nullable": null, "maybe": {"a": null}, "inner": {"a": 1, "hidden": 1},
    });
    for text in [
        "self.int == 1 && self.number == 1.0 && type(self.number) == double",
        "type(self.port) == int && self.port == 80 && self.port < 100",
        "self.when == timestamp('2020-01-01T00:00:00Z') && self.day == self.when",
        "self.span == duration('60m') && self.raw == b'a'",
        "self.__namespace__ == 'n' && self.x__dash__y__dot__z == 2",
        "self.set == ['b', 'a'] && self.plain != [2, 1] && self.plain == [1, 2]",
        "self.pairs == self.others && self.pairs + self.others == self.pairs",
        "self.set + ['b', 'c'] == ['a', 'b', 'c']",
        "self.pairs.exists(p, p.k == 'b' && p.v == 2)",
        "self.map.x == 1 && 'x' in self.map && self.map.all(k, self.map[k] > 0)",
        "!has(self.nullable) && dyn(self.maybe.a) == null",
        "has(self.inner.a)",
        "self.inner.a == 1 && size(self.map) == 1",
        "self.?text.orValue('b') == 'a'",
        "self.inner == self.inner",
    ] {
        assert_eq!(run(text, &data), Ok(Value::Bool(true)), "{text}");
    }
}

#[test]
fn what_is_not_declared_cannot_be_seen() {
    let data = json!({"inner": {"a": 1, "hidden": 1}});
    assert_eq!(
        run("self.inner.hidden == 1", &data),
        Err("undefined field 'hidden'".to_owned())
    );
    assert_eq!(run("has(self.nope)", &data), Err("undefined field 'nope'".to_owned()));
    assert_eq!(run("self.int == 1", &data), Err("no such key: int".to_owned()));
    assert_eq!(run("has(self.int)", &data), Ok(Value::Bool(false)));
    assert_eq!(
        run("self.port.size() > 1", &json!({"port": 1})),
        Err("no such overload".to_owned())
    );
}

#[test]
fn data_that_does_not_fit_is_an_error_where_it_is_touched() {
    let data = json!({"int": "one", "when": "soon", "plain": [1, null], "text": "a"});
    assert_eq!(run("self.text == 'a'", &data), Ok(Value::Bool(true)));
    assert_eq!(
        run("self.int == 1", &data),
        Err("invalid data, expected int, got string".to_owned())
    );
    assert!(run("self.when < timestamp(0)", &data).is_err_and(|why| why.starts_with("Invalid date-time")));
    assert_eq!(run("self.plain[0] == 1", &data), Ok(Value::Bool(true)));
    assert!(run("self.plain.all(x, x > 0)", &data).is_err());
}
