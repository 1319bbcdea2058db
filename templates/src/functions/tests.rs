use std::rc::Rc;

use proptest::prelude::*;

use super::{Random, TABLE, find};
use crate::gotemplate::exec::{Exec, Host, Limits, Param, Set};
use crate::value::{DateTime, Entries, Str, Value};

fn exec() -> Exec<'static> {
    let host = Host {
        now: DateTime::utc(1_700_000_000, 0),
        random: Random::new([1; 32]),
        lookup: None,
    };
    let limits = Limits {
        depth: 50,
        steps: 100_000,
        output: 1 << 20,
    };
    Exec::new(Rc::new(Set::default()), host, limits)
}

fn integer() -> impl Strategy<Value = i64> {
    prop_oneof![
        -5i64..70,
        Just(i64::MIN),
        Just(i64::MIN + 1),
        Just(i64::MAX),
        Just(i64::MAX - 1),
        Just(1 << 31),
        Just(1 << 53),
        any::<i64>(),
    ]
}

fn text() -> impl Strategy<Value = Value> {
    let odd = vec![
        "",
        "0",
        "-1",
        "1h",
        "-9223372036854775808ns",
        "99999999999999999999h",
        "2024-02-30",
        "2006-01-02T15:04:05Z07:00",
        "Europe/Berlin",
        "Local",
        "{{ . }}",
        "{{ include \"x\" . }}",
        "a: &a [*a]",
        "[1, {\"a\": 1e999}]",
        "a.b.c = 1",
        "%99999999999d%*.*f%[9]x%!%",
        "(a*)*{2,1}[[:alpha:]",
        "${1}$x$$",
        "^1.x || >=2 <3",
        "é\u{301}\u{10ffff}ß",
        "/a/../../b//c/",
        "10.0.0.0/33",
        "http://u:p@[::1]:99999/%zz?q#f",
        "sha256",
        "-----BEGIN CERTIFICATE-----",
        "1,2,3",
        "1.7976931348623157e308",
        "0x1p-2",
    ];
    prop_oneof![
        prop::sample::select(odd).prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        prop::collection::vec(any::<u8>(), 0..8).prop_map(Value::from),
    ]
}

fn float() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>(),
        Just(f64::NAN),
        Just(f64::INFINITY),
        Just(1e308),
        Just(0.5)
    ]
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Nil),
        any::<bool>().prop_map(Value::Bool),
        integer().prop_map(Value::int),
        integer().prop_map(Value::int64),
        float().prop_map(Value::Float),
        text(),
        time(),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::list),
            prop::collection::btree_map("[a-c]{0,2}", inner, 0..4).prop_map(map_of),
        ]
    })
}

fn map_of(entries: std::collections::BTreeMap<String, Value>) -> Value {
    let entries: Entries = entries
        .into_iter()
        .map(|(key, value)| (Str::from(key), value))
        .collect();
    Value::map(entries)
}

fn time() -> impl Strategy<Value = Value> {
    integer().prop_map(|seconds| Value::Time(Rc::new(DateTime::utc(seconds, 0))))
}

fn fitting(param: Param) -> BoxedStrategy<Value> {
    match param {
        Param::Any | Param::Certificate => any_value().boxed(),
        Param::Str => text().boxed(),
        Param::Int => integer().prop_map(Value::int).boxed(),
        Param::Int64 => integer().prop_map(Value::int64).boxed(),
        Param::Uint32 => any::<u32>().prop_map(|n| Value::int(i64::from(n))).boxed(),
        Param::Float => float().prop_map(Value::Float).boxed(),
        Param::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        Param::Map => prop::collection::btree_map("[a-c]{0,2}", any_value(), 0..4)
            .prop_map(map_of)
            .boxed(),
        Param::List => prop::collection::vec(any_value(), 0..4).prop_map(Value::list).boxed(),
        Param::Time => time().boxed(),
    }
}

fn call() -> impl Strategy<Value = (&'static str, Vec<Value>)> {
    let mut names: Vec<&'static str> = TABLE.keys().copied().collect();
    names.sort_unstable();
    (prop::sample::select(names), 0usize..4).prop_flat_map(|(name, more)| {
        let params = find(name).map_or("", |function| function.params);
        let letters: Vec<u8> = match params.split_once('*') {
            Some((fixed, repeated)) => fixed
                .bytes()
                .chain(
                    repeated
                        .bytes()
                        .cycle()
                        .take(if repeated.is_empty() { 0 } else { more }),
                )
                .collect(),
            None => params.bytes().collect(),
        };
        let values: Vec<BoxedStrategy<Value>> = letters.into_iter().map(|letter| fitting(Param::of(letter))).collect();
        (Just(name), values)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_arguments_make_a_function_panic((name, values) in call()) {
        let function = find(name).expect("the name is from the table");
        if let Ok(value) = exec().invoke(function, &values) {
            let _shown = crate::value::string_value(&value);
        }
    }
}
