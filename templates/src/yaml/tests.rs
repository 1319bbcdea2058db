use super::{documents, read, read_map, write, write_pretty};
use crate::value::{Value, from_json};
use proptest::prelude::*;
use serde_json::json;

fn round(json: &serde_json::Value) -> String {
    write(&from_json(json)).unwrap()
}

#[test]
fn text_that_reads_as_something_else_is_quoted() {
    for (text, written) in [
        ("y", "\"y\"\n"),
        ("0o17", "\"0o17\"\n"),
        ("12:30:45", "\"12:30:45\"\n"),
        ("1e400", "1e400\n"),
        ("-", "'-'\n"),
        ("a: b", "'a: b'\n"),
        ("a #b", "'a #b'\n"),
        ("", "\"\"\n"),
        ("2020-01-01", "\"2020-01-01\"\n"),
        ("a\tb", "\"a\\tb\"\n"),
        ("a😀", "\"a\\U0001F600\"\n"),
        ("é", "é\n"),
        ("null", "\"null\"\n"),
    ] {
        assert_eq!(round(&json!(text)), written);
    }
}

#[test]
fn lists_stand_at_the_column_of_their_key() {
    let value = json!({"a": [1.0, [2.0, {"b": []}], {"c": "x\ny\n", "d": {}}], "n": null});
    assert_eq!(
        round(&value),
        "a:\n- 1\n- - 2\n  - b: []\n- c: |\n    x\n    y\n  d: {}\n\"n\": null\n"
    );
    assert_eq!(
        write_pretty(&from_json(&json!({"a": [{"b": 1.0}]}))).unwrap(),
        "a:\n  - b: 1\n"
    );
}

#[test]
fn long_text_folds_after_column_eighty() {
    let text = format!("{} {} end", "a".repeat(60), "b".repeat(30));
    assert_eq!(
        round(&json!({"k": text})),
        format!("k: {} {}\n  end\n", "a".repeat(60), "b".repeat(30))
    );
}

#[test]
fn keys_sort_digits_by_value_and_long_ones_stand_apart() {
    let key = "k".repeat(129);
    assert_eq!(
        round(&json!({"a10": 1.0, "a9": 2.0, key.clone(): 3.0})),
        format!("a9: 2\na10: 1\n? {key}\n: 3\n")
    );
}

#[test]
fn numbers_and_words_read_as_yaml_1_1_has_them() {
    let read = read_map("a: 0755\nb: on\nc: 1_000\nd: 0b11\ne: 1e3\nf: 08\ng: ~\nh: 1:30\n").unwrap();
    assert_eq!(
        serde_json::Value::Object(read),
        json!({"a": 493.0, "b": true, "c": 1000.0, "d": 3.0, "e": 1000.0, "f": 8.0, "g": null, "h": "1:30"})
    );
}

#[test]
fn anchors_and_merges_are_followed_and_bombs_are_not() {
    let read_back = read("a: &a {x: 1}\nb:\n  <<: *a\n  z: 2\n").unwrap();
    assert_eq!(read_back["b"], json!({"x": 1.0, "z": 2.0}));
    let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
    for level in 1..12 {
        let refs = vec![format!("*a{}", level - 1); 9].join(",");
        bomb.push_str(&format!("a{level}: &a{level} [{refs}]\n"));
    }
    assert!(read(&bomb).unwrap_err().contains("aliasing"));
}

#[test]
fn documents_split_at_their_markers() {
    assert_eq!(documents("a: 1\n---\nb: 2\n"), ["a: 1\n", "b: 2\n"]);
}

fn json_values() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|value| json!(value)),
        (-1_000_000i32..1_000_000).prop_map(|value| json!(f64::from(value))),
        (-1e12f64..1e12).prop_map(|value| json!(value)),
        "[ -~\n\té]{0,40}".prop_map(|value| json!(value)),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(|items| json!(items)),
            // A key `<<` is written as Go writes it, bare, and does not read back.
            prop::collection::btree_map("[ -~]{1,12}".prop_filter("a merge", |key| key != "<<"), inner, 0..5)
                .prop_map(|map| json!(map)),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_reads_back(value in json_values()) {
        let text = write(&from_json(&value)).unwrap();
        prop_assert_eq!(read(&text).map_err(|error| format!("{error}\n{text}")), Ok(value));
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "[ -~\n\t]{0,200}") {
        // Whether it parses is the text's affair.
        prop_assert!(matches!(read(&text), Ok(_) | Err(_)));
    }
}

#[test]
fn a_merge_key_is_written_bare_as_helm_does() {
    assert_eq!(write(&from_json(&json!({"<<": null}))).unwrap(), "<<: null\n");
    assert!(read("<<: null\n").unwrap_err().contains("map merge"));
}

#[test]
fn what_json_cannot_hold_is_an_error() {
    assert_eq!(
        write(&Value::Float(f64::NAN)).unwrap_err(),
        "json: unsupported value: NaN"
    );
}

#[test]
fn lines_within_quotes_may_stand_at_the_left() {
    let text = "a:\n  b: \"one\ntwo\n\n three\"\n  c: 'x\ny'\nd: 1\n";
    let wanted = json!({"a": {"b": "one two\nthree", "c": "x y"}, "d": 1.0});
    assert_eq!(read(text).unwrap(), wanted);
    let nodes = super::node::parse(text).unwrap();
    assert_eq!(nodes[0].json(&mut Vec::new()).unwrap()["a"], wanted["a"]);
    // What is wrong for another reason stays wrong, at its line.
    assert!(
        read("a: \"x\ny\"\nb: c: d\n")
            .unwrap_err()
            .contains("line 3: mapping values")
    );
}

#[test]
fn text_counts_as_often_as_its_aliases() {
    let text = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), "*a,".repeat(10_000));
    assert!(read(&text).unwrap_err().contains("excessive aliasing"));
}
