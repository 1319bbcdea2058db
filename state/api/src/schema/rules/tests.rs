//! Rules of definitions, and what they say of objects.

use serde_json::{Value, json};

use crate::schema::Schema;
use crate::validate::field::Path;

fn schema(spec: Value) -> Schema {
    Schema::from_openapi(&whole(spec)).expect("a structural schema")
}

fn whole(spec: Value) -> Value {
    json!({"type": "object", "properties": {"spec": spec, "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}})
}

fn object(spec: Value) -> Value {
    json!({"apiVersion": "e/v1", "kind": "X", "metadata": {"name": "x"}, "spec": spec})
}

fn create(schema: &Schema, spec: Value) -> Vec<String> {
    schema.validate(&object(spec)).iter().map(ToString::to_string).collect()
}

fn update(schema: &Schema, new: Value, old: Value) -> Vec<String> {
    schema
        .validate_update(&object(new), &object(old))
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn faults(spec: Value) -> Vec<String> {
    let found = Schema::rule_faults(&whole(spec), &Path::new("spec.versions[0].schema.openAPIV3Schema"));
    found
        .iter()
        .map(|error| {
            error
                .to_string()
                .replace("spec.versions[0].schema.openAPIV3Schema.properties[spec]", "$")
        })
        .collect()
}

const NOTHING: &[&str] = &[];

#[test]
fn a_broken_rule_is_told_with_its_message() {
    let schema = schema(json!({
        "type": "object",
        "x-kubernetes-validations": [
            {"rule": "self.min <= self.max", "message": "min must not exceed max"},
            {"rule": "self.min >= 0"},
            {"rule": "self.max < 100", "messageExpression": "'max is %d'.format([self.max])", "reason": "FieldValueForbidden", "fieldPath": ".max"},
            {"rule": "!has(self.name) || self.name.startsWith('a')", "reason": "FieldValueRequired", "fieldPath": ".name"},
        ],
        "properties": {
            "min": {"type": "integer"}, "max": {"type": "integer"},
            "name": {"type": "string", "maxLength": 10, "x-kubernetes-validations": [{"rule": "self != 'bad'", "message": "no"}]},
            "map": {"type": "object", "additionalProperties": {"type": "integer", "x-kubernetes-validations": [{"rule": "self > 0"}]}},
            "list": {"type": "array", "maxItems": 10, "items": {"type": "integer", "x-kubernetes-validations": [{"rule": "self > 0", "reason": "FieldValueDuplicate"}]}},
        },
    }));
    assert_eq!(create(&schema, json!({"min": 1, "max": 2, "name": "abc"})), NOTHING);
    assert_eq!(
        create(&schema, json!({"min": 3, "max": 2})),
        ["spec: Invalid value: min must not exceed max"]
    );
    assert_eq!(
        create(&schema, json!({"min": -1, "max": 2})),
        ["spec: Invalid value: failed rule: self.min >= 0"]
    );
    assert_eq!(
        create(&schema, json!({"min": 1, "max": 100})),
        ["spec.max: Forbidden: max is 100"]
    );
    assert_eq!(
        create(&schema, json!({"min": 1, "max": 2, "name": "bad"})),
        [
            "spec.name: Required value: failed rule: !has(self.name) || self.name.startsWith('a')",
            "spec.name: Invalid value: \"bad\": no",
        ]
    );
    assert_eq!(
        create(
            &schema,
            json!({"min": 1, "max": 2, "map": {"a": 0, "b": 1}, "list": [1, 0]})
        ),
        [
            "spec.list[1]: Duplicate value: 0",
            "spec.map[a]: Invalid value: 0: failed rule: self > 0"
        ]
    );
    assert_eq!(
        create(&schema, json!({"min": 1})),
        [
            "spec: Invalid value: \"object\": no such key: max evaluating rule: min must not exceed max",
            "spec: Invalid value: \"object\": no such key: max evaluating rule: self.max < 100"
        ]
    );
}

#[test]
fn a_message_that_cannot_be_made_gives_way_to_the_other() {
    let schema = schema(
        json!({"type": "object", "properties": {"a": {"type": "integer"}}, "x-kubernetes-validations": [
            {"rule": "false", "messageExpression": "string(self.a)", "message": "plain"},
            {"rule": "false", "messageExpression": "'  '"},
            {"rule": "false", "messageExpression": "'a\\nb'", "message": "one line"},
        ]}),
    );
    assert_eq!(
        create(&schema, json!({})),
        [
            "spec: Invalid value: plain",
            "spec: Invalid value: failed rule: false",
            "spec: Invalid value: one line"
        ]
    );
}

#[test]
fn rules_are_not_run_on_what_has_the_wrong_form() {
    let schema = schema(
        json!({"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}},
        "x-kubernetes-validations": [{"rule": "self.a > 0"}]}),
    );
    assert_eq!(
        create(&schema, json!({})),
        [
            "spec.a: Required value",
            "<nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation",
        ]
    );
}

#[test]
fn rules_of_transition_run_where_there_is_a_past() {
    let schema = schema(json!({"type": "object", "properties": {
        "fixed": {"type": "string", "maxLength": 10, "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "is immutable"}]},
        "once": {"type": "string", "maxLength": 10, "x-kubernetes-validations": [{
            "rule": "oldSelf.hasValue() || self == 'first'", "optionalOldSelf": true, "message": "must begin as first"}]},
        "rows": {"type": "array", "maxItems": 5, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id"], "items": {
            "type": "object", "required": ["id"], "properties": {"id": {"type": "string", "maxLength": 5},
            "size": {"type": "integer", "x-kubernetes-validations": [{"rule": "self >= oldSelf", "message": "must not shrink"}]}}}},
    }}));
    assert_eq!(create(&schema, json!({"fixed": "a", "once": "first"})), NOTHING);
    assert_eq!(
        create(&schema, json!({"once": "second"})),
        ["spec.once: Invalid value: \"second\": must begin as first"]
    );
    assert_eq!(
        update(&schema, json!({"once": "second"}), json!({"once": "first"})),
        NOTHING
    );
    assert_eq!(
        update(&schema, json!({"fixed": "b"}), json!({"fixed": "a"})),
        ["spec.fixed: Invalid value: \"b\": is immutable"]
    );
    assert_eq!(update(&schema, json!({"fixed": "b"}), json!({})), NOTHING);
    let rows = |a: i64, b: i64| json!({"rows": [{"id": "b", "size": b}, {"id": "a", "size": a}]});
    let before = json!({"rows": [{"id": "a", "size": 2}, {"id": "b", "size": 2}]});
    assert_eq!(update(&schema, rows(3, 2), before.clone()), NOTHING);
    assert_eq!(
        update(&schema, rows(1, 3), before),
        ["spec.rows[1].size: Invalid value: 1: must not shrink"]
    );
}

#[test]
fn what_was_wrong_before_may_stay_where_no_past_is_asked_for() {
    let schema = schema(json!({"type": "object", "properties": {
        "a": {"type": "string", "maxLength": 9, "x-kubernetes-validations": [{"rule": "self == 'good'"}]},
        "b": {"type": "string"},
        "list": {"type": "array", "maxItems": 9, "items": {"type": "string", "maxLength": 9, "x-kubernetes-validations": [{"rule": "self == 'good'"}]}},
    }}));
    assert_eq!(
        update(&schema, json!({"a": "bad", "b": "y"}), json!({"a": "bad", "b": "x"})),
        NOTHING
    );
    assert_eq!(
        update(&schema, json!({"a": "worse"}), json!({"a": "bad"})),
        ["spec.a: Invalid value: \"worse\": failed rule: self == 'good'"]
    );
    // Items without keys have no past; the list that they are in has one.
    assert_eq!(
        update(
            &schema,
            json!({"list": ["bad"], "b": "y"}),
            json!({"list": ["bad"], "b": "x"})
        ),
        NOTHING
    );
    assert_eq!(
        update(&schema, json!({"list": ["bad", "good"]}), json!({"list": ["bad"]})),
        ["spec.list[0]: Invalid value: \"bad\": failed rule: self == 'good'"]
    );
}

#[test]
fn the_whole_object_can_be_looked_at() {
    let mut source = whole(json!({"type": "object", "properties": {"size": {"type": "integer"}}}));
    source["x-kubernetes-validations"] = json!([
        {"rule": "self.metadata.name.startsWith('a')", "message": "name must start with a"},
        {"rule": "self.kind == 'X' && self.apiVersion == 'e/v1'"},
        {"rule": "self.spec.size > 0", "fieldPath": ".spec.size", "message": "too small"},
    ]);
    assert_eq!(Schema::rule_faults(&source, &Path::new("s")), []);
    let schema = Schema::from_openapi(&source).expect("structural");
    assert_eq!(
        create(&schema, json!({"size": 0})),
        [
            "<nil>: Invalid value: name must start with a",
            "spec.size: Invalid value: too small"
        ]
    );
}

#[test]
fn special_schemas_are_seen_as_kubernetes_shows_them() {
    let schema = schema(json!({"type": "object", "properties": {
        "port": {"x-kubernetes-int-or-string": true},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"known": {"type": "string"}}},
        "template": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "name-space": {"type": "string"}, "when": {"type": "string", "format": "date-time"},
    }, "x-kubernetes-validations": [
        {"rule": "!has(self.port) || type(self.port) == string || self.port > 0"},
        {"rule": "!has(self.free) || self.free.known == 'k'"},
        {"rule": "!has(self.template) || self.template.kind == 'Pod' && self.template.metadata.name == 'p'"},
        {"rule": "!has(self.set) || self.set == ['b', 'a']"},
        {"rule": "!has(self.name__dash__space) || self.name__dash__space == 'n'"},
        {"rule": "!has(self.when) || self.when.getFullYear() == 2020"},
    ]}));
    let fine = json!({"port": "80%", "free": {"known": "k", "other": 1}, "set": ["a", "b"], "name-space": "n", "when": "2020-01-01T00:00:00Z",
        "template": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {}}});
    assert_eq!(create(&schema, fine), NOTHING);
    assert_eq!(create(&schema, json!({"port": 0})).len(), 1);
    assert_eq!(create(&schema, json!({"set": ["a", "c"]})).len(), 1);
}

#[test]
fn all_rules_of_an_object_share_a_budget() {
    let schema = schema(
        json!({"type": "object", "properties": {"list": {"type": "array", "items": {"type": "integer"}}},
        "x-kubernetes-validations": [{"rule": "self.list.all(x, self.list.all(y, x == y || x != y))"}, {"rule": "false"}]}),
    );
    let list: Vec<i64> = (0..2_000).collect();
    assert_eq!(
        create(&schema, json!({"list": list})),
        [
            "spec: Invalid value: \"object\": 'operation cancelled: actual cost limit exceeded': no further validation rules will be run due to call cost exceeds limit for rule: self.list.all(x, self.list.all(y, x == y || x != y))"
        ]
    );
    let costly = json!({"rule": "lists.range(900000).size() > 0"});
    let schema = schema_of(vec![costly; 20]);
    assert_eq!(
        create(&schema, json!({})),
        [
            "spec: Invalid value: \"object\": validation failed due to running out of cost budget, no further validation rules will be run"
        ]
    );
}

fn schema_of(rules: Vec<Value>) -> Schema {
    schema(json!({"type": "object", "x-kubernetes-validations": rules}))
}

#[test]
fn faults_of_rules_are_told_with_the_definition() {
    let rule = |rule: &str| json!({"type": "object", "properties": {"a": {"type": "integer"}}, "x-kubernetes-validations": [{"rule": rule}]});
    assert_eq!(faults(rule("self.a > 0")), NOTHING);
    let found = faults(rule("self.b > 0"));
    assert_eq!(found.len(), 1);
    assert!(
        found[0].starts_with("$.x-kubernetes-validations[0].rule: Invalid value: {"),
        "{found:?}"
    );
    assert!(
        found[0].ends_with("compilation failed: ERROR: <input>:1:5: undefined field 'b'\n | self.b > 0\n | ....^"),
        "{found:?}"
    );
    assert!(faults(rule("self.a"))[0].ends_with("cel expression must evaluate to a bool"));
    let message = json!({"type": "object", "x-kubernetes-validations": [{"rule": "true", "messageExpression": "1"}]});
    assert!(faults(message)[0].ends_with("messageExpression must evaluate to a string"));
    let form = |rule: Value| {
        faults(json!({"type": "object", "properties": {"a": {"type": "integer"}}, "x-kubernetes-validations": [rule]}))
    };
    assert_eq!(
        form(json!({"rule": " "})),
        ["$.x-kubernetes-validations[0].rule: Required value: rule is not specified"]
    );
    assert_eq!(
        form(json!({"rule": "true", "message": " "})),
        ["$.x-kubernetes-validations[0].message: Invalid value: \" \": must be non-empty if specified"]
    );
    assert_eq!(
        form(json!({"rule": "true &&\ntrue"})),
        [
            "$.x-kubernetes-validations[0].message: Required value: message must be specified if rule contains line breaks"
        ]
    );
    assert_eq!(
        form(json!({"rule": "true", "reason": "Nope"})),
        [
            "$.x-kubernetes-validations[0].reason: Unsupported value: \"Nope\": supported values: \"FieldValueDuplicate\", \"FieldValueForbidden\", \"FieldValueInvalid\", \"FieldValueRequired\""
        ]
    );
    assert_eq!(
        form(json!({"rule": "true", "fieldPath": ".b"})),
        ["$.x-kubernetes-validations[0].fieldPath: Invalid value: \".b\": must be a valid path"]
    );
    assert_eq!(
        form(json!({"rule": "true", "optionalOldSelf": true})),
        [
            "$.x-kubernetes-validations[0].optionalOldSelf: Invalid value: true: may not be set if oldSelf is not used in rule"
        ]
    );
    let items = json!({"type": "array", "items": {"type": "integer", "x-kubernetes-validations": [{"rule": "self >= oldSelf"}]}});
    assert_eq!(
        faults(items),
        [
            "$.items.x-kubernetes-validations[0].rule: Invalid value: \"self >= oldSelf\": oldSelf cannot be used on the uncorrelatable portion of the schema within $"
        ]
    );
}

#[test]
fn rules_that_could_cost_too_much_are_refused() {
    let list = |limit: Value| {
        let mut list = json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-validations": [{"rule": "self.all(a, self.all(b, a == b || a != b))"}]});
        if !limit.is_null() {
            list["maxItems"] = limit;
            list["items"]["maxLength"] = 10.into();
        }
        list
    };
    assert_eq!(
        faults(list(Value::Null)),
        [
            "$.x-kubernetes-validations[0].rule: Forbidden: estimated rule cost exceeds budget by factor of more than 100x (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)",
            "$.x-kubernetes-validations[0].rule: Forbidden: contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema",
            "spec.versions[0].schema.openAPIV3Schema: Forbidden: x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds budget by factor of more than 100x (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)",
        ]
    );
    assert_eq!(faults(list(json!(100))), NOTHING);
}
