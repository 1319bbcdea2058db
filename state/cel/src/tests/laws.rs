//! What holds for any text: nothing panics, everything ends, and what is said twice is the same.

use proptest::prelude::*;

use crate::{Environment, Program, Type, Value, compile_pattern, escape, unescape};

fn try_all(text: &str) {
    let environment = Environment::default()
        .variable("self", Type::Dyn)
        .variable("n", Type::Int);
    match Program::compile(text, &environment) {
        Ok(program) => {
            program.worst_cost();
            let once = program.run(&[Some(Value::from("a")), Some(Value::Int(3))], 20_000);
            let again = program.run(&[Some(Value::from("a")), Some(Value::Int(3))], 20_000);
            assert_eq!(once.cost, again.cost);
        }
        Err(issues) => assert!(!issues.to_string().is_empty()),
    }
}

/// Expressions made of all that there is, most of them ill-typed.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("self".to_owned()),
        Just("n".to_owned()),
        Just("x".to_owned()),
        Just("null".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<u64>().prop_map(|number| format!("{number}u")),
        any::<i32>().prop_map(|number| format!("{number}.5")),
        "[a-z%.*()\\[\\]{}0-9 -]{0,6}".prop_map(|text| format!("'{text}'")),
        any::<bool>().prop_map(|value| value.to_string()),
        Just("duration('1h')".to_owned()),
        Just("timestamp('2020-01-01T00:00:00Z')".to_owned()),
        Just("optional.none()".to_owned()),
        Just("quantity('1Gi')".to_owned()),
        Just("ip('::1')".to_owned()),
    ];
    leaf.prop_recursive(6, 64, 4, |inner| {
        let operators = prop::sample::select(vec![
            "+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=", "&&", "||", "in",
        ]);
        let members = prop::sample::select(vec![
            "contains",
            "startsWith",
            "matches",
            "find",
            "findAll",
            "charAt",
            "indexOf",
            "lastIndexOf",
            "replace",
            "split",
            "substring",
            "join",
            "format",
            "isSorted",
            "sum",
            "min",
            "max",
            "slice",
            "flatten",
            "sort",
            "reverse",
            "distinct",
            "getHours",
            "getDate",
            "value",
            "hasValue",
            "or",
            "orValue",
            "includes",
            "add",
            "compareTo",
            "containsIP",
            "size",
            "trim",
            "lowerAscii",
            "first",
            "unwrapOpt",
            "validate",
        ]);
        let functions = prop::sample::select(vec![
            "size",
            "type",
            "dyn",
            "int",
            "uint",
            "double",
            "string",
            "bytes",
            "bool",
            "duration",
            "timestamp",
            "matches",
            "url",
            "isURL",
            "ip",
            "cidr",
            "quantity",
            "semver",
            "lists.range",
            "sets.contains",
            "optional.of",
            "optional.ofNonZeroValue",
            "strings.quote",
            "has",
            "format.named",
            "ip.isCanonical",
        ]);
        let macros = prop::sample::select(vec![
            "all",
            "exists",
            "exists_one",
            "map",
            "filter",
            "sortBy",
            "optMap",
            "optFlatMap",
        ]);
        let pairs = prop::sample::select(vec![
            "all",
            "exists",
            "transformList",
            "transformMap",
            "transformMapEntry",
        ]);
        prop_oneof![
            (inner.clone(), operators, inner.clone()).prop_map(|(a, sign, b)| format!("({a} {sign} {b})")),
            (
                inner.clone(),
                members.clone(),
                prop::collection::vec(inner.clone(), 0..3)
            )
                .prop_map(|(a, name, args)| format!("{a}.{name}({})", args.join(", "))),
            (functions, prop::collection::vec(inner.clone(), 0..3))
                .prop_map(|(name, args)| format!("{name}({})", args.join(", "))),
            (inner.clone(), macros, inner.clone()).prop_map(|(a, name, body)| format!("{a}.{name}(x, {body})")),
            (inner.clone(), pairs, inner.clone()).prop_map(|(a, name, body)| format!("{a}.{name}(x, y, {body})")),
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(", "))),
            prop::collection::vec((inner.clone(), inner.clone()), 0..3).prop_map(|entries| {
                let entries: Vec<String> = entries
                    .into_iter()
                    .map(|(key, value)| format!("{key}: {value}"))
                    .collect();
                format!("{{{}}}", entries.join(", "))
            }),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a}[{b}]")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a}[?{b}]")),
            inner.clone().prop_map(|a| format!("dyn({a})")),
            inner.clone().prop_map(|a| format!("!{a}")),
            inner.clone().prop_map(|a| format!("-{a}")),
            inner.clone().prop_map(|a| format!("{a}.field")),
            inner.clone().prop_map(|a| format!("{a}.?field")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,60}") {
        try_all(&text);
    }

    #[test]
    fn no_text_of_its_own_signs_makes_it_panic(text in "[a-c0-9.+*/%!?:&|<>=(){}\\[\\]'\"\\\\, \n-]{0,60}") {
        try_all(&text);
    }

    #[test]
    fn no_expression_makes_it_panic_and_each_runs_the_same_twice(text in expression()) {
        try_all(&text);
    }

    #[test]
    fn no_expression_of_dyn_makes_it_panic(text in expression()) {
        // Without types nothing is refused before it runs.
        try_all(&text.replace("self", "dyn(self)").replace("n", "dyn(n)"));
    }

    #[test]
    fn no_pattern_makes_it_panic(pattern in "[a-c\\\\\\[\\](){}|*+?^$.,:&~0-9dwsbQE-]{0,24}", text in "[a-c0-9 ]{0,12}") {
        if let Ok(pattern) = compile_pattern(&pattern) {
            pattern.is_match(&text);
        }
    }

    #[test]
    fn names_are_escaped_to_identifiers_and_back(name in "[a-zA-Z_./-][a-zA-Z0-9_./-]{0,20}") {
        if let Some(identifier) = escape(&name) {
            prop_assert!(identifier.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'));
        }
        // Text of any sort is read without a fault.
        unescape(&name);
    }
}
