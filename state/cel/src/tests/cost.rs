//! What expressions cost: the numbers are those of Kubernetes 1.37.

use std::sync::Arc;

use serde_json::json;

use crate::{CALL_LIMIT, Declaration, Environment, EvaluationError, Field, Merge, Program, Record, Type, Value};

fn object(fields: Vec<(&str, Declaration)>) -> Arc<Declaration> {
    let fields = fields.into_iter().map(|(name, declaration)| Field {
        property: name.into(),
        declaration: Arc::new(declaration),
        required: false,
    });
    Arc::new(Declaration::object(Record::new("self", fields)))
}

fn cost(text: &str, declaration: &Arc<Declaration>, data: &serde_json::Value) -> u64 {
    let program = Program::compile(text, &Environment::default().declare("self", declaration)).expect(text);
    let outcome = program.run(&[Some(declaration.read(data))], CALL_LIMIT);
    assert!(outcome.value.is_ok(), "{text}: {:?}", outcome.value);
    outcome.cost
}

#[test]
fn a_run_costs_what_it_costs_on_kubernetes() {
    let strings = || Declaration::list(Arc::new(Declaration::string(None)), Merge::Set, None);
    let declaration = object(vec![
        ("text", Declaration::string(None)),
        ("int", Declaration::int()),
        (
            "ints",
            Declaration::list(Arc::new(Declaration::int()), Merge::Atomic, None),
        ),
        (
            "more",
            Declaration::list(Arc::new(Declaration::int()), Merge::Atomic, None),
        ),
        ("set", strings()),
        ("map", Declaration::map(Arc::new(Declaration::string(None)), None)),
        ("word", Declaration::words(["Pending", "Available"].into_iter())),
    ]);
    let data = json!({"text": "Rook takes 👑", "int": 10, "ints": [1, 2, 3], "more": [1, 2, 3], "set": ["a", "b", "c"],
        "map": {"k1": "a", "k2": "b"}, "word": "Pending"});
    for (text, wanted) in [
        ("self.text.startsWith('Rook')", 3),
        ("!self.text.startsWith('knight')", 4),
        ("self.text.matches('^[^0-9]*$')", 8),
        ("!self.text.matches('^[0-9]*$')", 7),
        ("type(self.text) == string", 4),
        ("size(self.text) == 12", 4),
        ("self.text.charAt(3) == 'k'", 4),
        ("self.text.indexOf('o') == 1", 4),
        ("self.text.replace(' ', 'x') == 'Rookxtakesx👑'", 7),
        ("self.text.split(' ') == ['Rook', 'takes', '👑']", 6),
        ("self.text.substring(5) == 'takes 👑'", 5),
        ("self.text.upperAscii() == 'ROOK TAKES 👑'", 6),
        ("self.text.lowerAscii() == self.text.lowerAscii()", 10),
        ("'%e'.format([3.14]) == '3.140000×10⁰⁰'", 3),
        ("'%b %b %b'.format([7, 8, 9]) == '111 1000 1001'", 3),
        ("1 in self.ints", 5),
        ("self.more[0] in self.ints", 8),
        ("!(0 in self.ints)", 6),
        ("self.ints + self.more == [1, 2, 3, 1, 2, 3]", 6),
        ("self.ints + [4, 5] == [1, 2, 3, 4, 5]", 4),
        ("has(self.ints)", 1),
        ("has(self.ints) && has(self.more)", 2),
        ("self.set == ['c', 'b', 'a']", 3),
        ("sets.contains(self.set, ['a'])", 6),
        ("sets.equivalent(self.set, ['a', 'b', 'c'])", 21),
        ("'k1' in self.map", 3),
        ("self.map == {'k1': 'a', 'k2': 'b'}", 3),
        ("self.word == 'Pending'", 3),
        ("self.word in ['Pending', 'Available']", 2),
        ("self.ints.transformMap(i, x, x * 2) == {0: 2, 1: 4, 2: 6}", 49),
        ("self.ints.transformMapEntry(i, x, {x: i}) == {1: 0, 2: 1, 3: 2}", 136),
    ] {
        assert_eq!(cost(text, &declaration, &data), wanted, "{text}");
    }
}

#[test]
fn the_worst_cost_follows_the_limits_of_the_data() {
    let worst = |text: &str, declaration: &Arc<Declaration>| {
        Program::compile(text, &Environment::default().declare("self", declaration))
            .expect(text)
            .worst_cost()
    };
    let list = |most| {
        object(vec![(
            "list",
            Declaration::list(Arc::new(Declaration::int()), Merge::Atomic, most),
        )])
    };
    // A loop's turn: the condition (2), the variable, the comparison and the accumulator.
    let (small, large) = (
        worst("self.list.all(x, x > 0)", &list(Some(10))),
        worst("self.list.all(x, x > 0)", &list(None)),
    );
    assert!(small < 100, "{small}");
    assert!(large > 1_000_000, "{large}");
    let twice = "self.list.all(x, self.list.all(y, x <= y))";
    assert!(worst(twice, &list(None)) > 1_000_000_000_000);
    let text = |most| object(vec![("text", Declaration::string(most))]);
    assert_eq!(worst("self.text == 'abc'", &text(Some(10))), 3);
    assert_eq!(worst("self.text.contains('a')", &text(Some(10))), 6);
    assert_eq!(worst("self.text.matches('a')", &text(Some(10))), 7);
    assert_eq!(worst("self.text.startsWith('abcabcabcabc')", &text(Some(10))), 4);
    assert_eq!(worst("has(self.text)", &text(None)), 1);
    assert_eq!(worst("true || self.text == ''", &text(None)), 2);
}

#[test]
fn a_run_ends_when_its_budget_does() {
    let digits = "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]";
    let mut bomb = "true".to_owned();
    for name in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        bomb = format!("{digits}.all({name}, {bomb})");
    }
    let double = (0..60).fold("optional.of([0, 1, 2, 3, 4, 5, 6, 7])".to_owned(), |text, _| {
        format!("{text}.optMap(x, x + x)")
    });
    let deep = (0..60).fold("optional.of([0])".to_owned(), |text, _| {
        format!("{text}.optMap(x, [dyn(x), dyn(x)])")
    });
    let long = (0..60).fold("optional.of('abcdefghijklmnopqrstuvwxyz')".to_owned(), |text, _| {
        format!("{text}.optMap(x, x.replace('', x))")
    });
    let wide = (0..60).fold("optional.of('abcdefghijklmnopqrstuvwxyz')".to_owned(), |text, _| {
        format!("{text}.optMap(x, '%s%s%s'.format([x, x, x]))")
    });
    for text in [
        bomb,
        double,
        long,
        wide,
        format!("{deep}.optMap(x, x == x)"),
        format!("{deep}.optMap(x, '%s'.format([x]))"),
        "lists.range(900000).map(x, lists.range(900000))".to_owned(),
        "lists.range(9000).map(x, lists.range(900)).flatten().distinct()".to_owned(),
    ] {
        let program = Program::compile(&text, &Environment::default()).map_err(|issues| issues.to_string());
        // What is refused before it runs is no danger either.
        let Ok(program) = program else { continue };
        let outcome = program.run(&[], CALL_LIMIT);
        assert_eq!(
            outcome.value.map(|_| ()),
            Err(EvaluationError::CostLimit),
            "{}",
            &text[..40]
        );
    }
}

#[test]
fn large_maps_are_built_within_the_budget() {
    for text in [
        "lists.range(10000).transformMap(i, n, n).size() == 10000",
        "lists.range(10000).transformMap(i, n, n % 2 == 0, n).size() == 5000",
        "lists.range(10000).transformMapEntry(i, n, {n: i}).size() == 10000",
    ] {
        assert_eq!(super::run(text), Ok(Value::Bool(true)), "{text}");
    }
}

#[test]
fn what_kubernetes_charges_little_for_is_bounded_all_the_same() {
    let digits = "1".repeat(1 << 20);
    let variables = [
        ("digits", Type::String, Value::from(digits.as_str())),
        ("link", Type::String, Value::from(format!("https://{digits}"))),
        // Behind it, every number makes another pattern.
        ("pattern", Type::String, Value::from("a".repeat(1000))),
    ];
    let environment = variables
        .iter()
        .fold(Environment::default(), |environment, (name, kind, _)| {
            environment.variable(name, kind.clone())
        });
    let values = variables.map(|(_, _, value)| Some(value));
    let turns = |condition: &str| format!("lists.range(2000).all(n, {condition})");
    for text in [
        turns("digits.size() > n"),
        turns("digits.charAt(n) == '1'"),
        turns("int(digits) == n || true"),
        turns("duration(digits) == duration('1s') || true"),
        format!("[url(link)].all(u, {})", turns("u.getHost() != ''")),
        turns("!'b'.matches(pattern + string(n))"),
        turns("'b'.find(pattern + string(n)) == ''"),
    ] {
        let program = Program::compile(&text, &environment).expect(&text);
        let outcome = program.run(&values, CALL_LIMIT);
        assert_eq!(outcome.value.err(), Some(EvaluationError::CostLimit), "{text}");
    }
}
