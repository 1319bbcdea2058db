use std::rc::Rc;

use super::exec::{Exec, Host, Limits, Set};
use super::parse::parse;
use crate::functions::{Random, find};
use crate::value::{DateTime, Value, from_json};
use proptest::prelude::*;
use serde_json::json;

fn try_run(text: &str, dot: &serde_json::Value) -> Result<String, String> {
    let mut set = Set::default();
    set.add(parse("t", text, &|name| find(name).is_some())?);
    let host = Host {
        now: DateTime::utc(1_700_000_000, 0),
        random: Random::new([1; 32]),
        lookup: None,
    };
    let mut exec = Exec::new(
        Rc::new(set),
        host,
        Limits {
            depth: 50,
            steps: 100_000,
            output: 1 << 20,
        },
    );
    let out = exec
        .execute("t", from_json(dot))
        .map_err(|failure| failure.to_string())?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

fn run(text: &str) -> String {
    let dot = json!({"a": {"b": 1.5, "s": "x"}, "l": ["p", "q"], "n": null, "big": 12_345_678.0, "i": 3});
    try_run(text, &dot).unwrap_or_else(|words| format!("error: {words}"))
}

#[test]
fn templates_give_what_go_gives() {
    let cases = include_str!("tests/cases.txt");
    let wrong: Vec<String> = cases
        .split("\n====\n")
        .filter_map(|case| {
            let (template, expected) = case.split_once("\n----\n").unwrap_or((case, ""));
            let got = run(template);
            (got != expected.trim_end_matches('\n')).then(|| format!("{template}\n  want {expected}\n  got  {got}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn recursion_and_endless_work_end_in_errors() {
    assert!(
        run("{{define \"x\"}}{{template \"x\"}}{{end}}{{template \"x\"}}").contains("exceeded maximum template depth")
    );
    assert!(run("{{range 1000}}{{range 1000}}x{{end}}{{end}}").contains("too many steps"));
    assert!(run("{{range 100000}}{{range 100000}}{{end}}{{$x := 1}}{{end}}").contains("too many steps"));
    assert!(run("{{ repeat 100000000 \"x\" }}").contains("output grows over"));
}

#[test]
fn work_that_grows_with_the_square_ends_in_errors() {
    assert!(run("{{uniq (until 20000) | len}}").contains("values are too large to be gone through so often"));
    assert_eq!(run("{{uniq (until 2000) | len}}"), "2000");
    // A pattern is compiled once.
    assert_eq!(
        run("{{range 20000}}{{if regexMatch \"(\\\\w{50}){40}\" \"x\"}}y{{end}}{{end}}"),
        ""
    );
}

#[test]
fn values_can_be_put_into_one_another_without_a_stack_as_deep() {
    assert!(run("{{$x := dict}}{{range 20000}}{{$x = dict \"a\" $x}}{{end}}").contains("output grows over"));
    let mut deep = Value::Nil;
    for _ in 0..200_000 {
        deep = Value::list(vec![Value::map([(crate::value::Str::from("a"), deep)].into())]);
    }
    drop(deep);
}

#[test]
fn the_errors_of_nested_texts_stay_readable() {
    let text = "{{define \"x\"}}{{tpl .s .}}{{end}}{{include \"x\" (dict \"s\" (printf \"%s{{include \\\"x\\\" .}}\" (repeat 9000 \"y\")))}}";
    let got = run(text);
    assert!(got.contains("exceeded maximum template depth"));
    assert!(got.len() < 2 << 20);
}

#[test]
fn floats_are_written_with_as_many_digits_as_asked_for() {
    let got = run("{{printf \"%.70000f\" 1.5}}");
    assert_eq!(got.len(), 70_002);
    assert!(got.starts_with("1.50") && got.ends_with("00"));
    assert!(run("{{printf \"%.70000e\" 1.5}}").ends_with("00e+00"));
    assert_eq!(run("{{printf \"%.70000g\" 1.5}}"), "1.5");
}

#[test]
fn toml_is_written_with_tables_last_and_reads_back() {
    let written = run(
        "{{ dict \"b\" 1 \"a\" (dict \"x\" \"q\\\"\" \"t\" (dict \"y z\" true)) \"l\" (list 1 \"z\") \"ts\" (list (dict \"n\" 2.0)) | toToml }}",
    );
    assert_eq!(
        written,
        "b = 1\nl = [1, \"z\"]\n\n[a]\n  x = \"q\\\"\"\n  [a.t]\n    \"y z\" = true\n\n[[ts]]\n  n = 2.0\n"
    );
    assert_eq!(
        run(&format!(
            "{{{{ fromToml {} | toToml }}}}",
            crate::value::go_quote(written.as_bytes())
        )),
        written
    );
    assert!(run("{{ (fromToml \"a = \").Error }}").contains("expected"));
}

#[test]
fn maps_are_shared_by_reference() {
    assert_eq!(run("{{$_ := set .a \"new\" 1}}{{.a.new}}"), "1");
}

#[test]
fn random_functions_repeat_with_their_seed() {
    assert_eq!(
        run("{{randAlphaNum 20}}{{uuidv4}}"),
        run("{{randAlphaNum 20}}{{uuidv4}}")
    );
}

#[test]
fn type_of_a_literal_is_gos() {
    assert!(matches!(from_json(&json!(1.0)), Value::Float(_)));
    assert_eq!(
        run("{{typeOf 1}} {{typeOf 1.0}} {{typeOf .i}} {{typeOf (add 1 2)}} {{typeOf .l}}"),
        "int float64 int64 int64 []interface {}"
    );
}

proptest! {
    #[test]
    fn no_text_makes_the_language_panic(text in "(\\{\\{-? ?|-?\\}\\}|[a-z.$\"|() :=]|if |end|range |define |else ){0,30}") {
        let empty = json!({});
        let outcome = try_run(&text, &empty);
        prop_assert!(outcome.is_ok() || outcome.is_err());
    }
}
