use super::*;
use serde_json::json;

#[test]
fn paths_of_printer_columns_find_their_values() {
    let object = json!({
        "spec": {"replicas": 3, "list": [1, 2, 3]},
        "metadata": {"labels": {"app.kubernetes.io/name": "x"}},
        "status": {"conditions": [{"type": "Synced", "status": "False"}, {"type": "Ready", "status": "True"}]},
    });
    for (path, expected) in [
        (".spec.replicas", json!(3)),
        ("$.spec.replicas", json!(3)),
        (".spec.list[1]", json!(2)),
        (".spec.list[-1]", json!(3)),
        (".spec.list[*]", json!(1)),
        (".spec.list", json!([1, 2, 3])),
        (".metadata.labels.app\\.kubernetes\\.io/name", json!("x")),
        (".metadata.labels['app.kubernetes.io/name']", json!("x")),
        (".status.conditions[?(@.type==\"Ready\")].status", json!("True")),
        (".status.conditions[?(@.type=='Ready')].status", json!("True")),
        (".status.conditions[?(@.type != 'Ready')].status", json!("False")),
        (".status.conditions[?(.type=='Ready')].status", json!("True")),
    ] {
        assert_eq!(JsonPath::parse(path).unwrap().first(&object), Some(expected), "{path}");
    }
    assert_eq!(JsonPath::parse(".spec.none.more").unwrap().first(&object), None);
}

#[test]
fn parts_of_lists_unions_and_descents_lead_where_those_of_kubernetes_do() {
    let object = json!({
        "list": [0, 1, 2, 3, 4],
        "empty": [],
        "none": null,
        "map": {"a.b": 1, "name": "x", "inner": {"name": "y", "more": [{"name": "z"}]}},
        "lists": [{"of": [1]}, {"of": []}, {"of": [2]}],
    });
    for (path, expected) in [
        (".list[-1:]", json!([4])),
        (".list[1:3]", json!([1, 2])),
        (".list[:2]", json!([0, 1])),
        (".list[:-3]", json!([0, 1])),
        (".list[::2]", json!([0, 2, 4])),
        (".list[0:4:3]", json!([0, 3])),
        (".list[*]", json!([0, 1, 2, 3, 4])),
        (".list[5:]", json!([])),
        (".list[2:2]", json!([])),
        (".list[]", json!([0])),
        // Nothing is cut off to fit.
        (".list[-6:]", json!([])),
        (".list[0:6]", json!([])),
        (".list[3:1]", json!([])),
        (".list[0:2:0]", json!([])),
        (".list[0:2:-1]", json!([])),
        (".list[5]", json!([])),
        (".list[-6]", json!([])),
        (".empty[-1:]", json!([])),
        (".empty[0:]", json!([])),
        (".none[0]", json!([])),
        (".absent[-1:]", json!([])),
        (".map[*]", json!([])),
        (".map.name[0:1]", json!([])),
        (".lists[*].of[0]", json!([])),
        (".lists[*].of[:]", json!([1])),
        (".list[0,2,-1]", json!([0, 2, 4])),
        (".list[0, 2:4]", json!([0, 2, 3])),
        (".list[0,9]", json!([])),
        (".map['name','a.b']", json!(["x", 1])),
        (".map['name','absent']", json!(["x"])),
        (".map['a\\.b']", json!([1])),
        ("..name", json!(["x", "y", "z"])),
        (".map..more[0].name", json!(["z"])),
        (".map.inner..more", json!([[{"name": "z"}]])),
        (".map.inner...name", json!(["y", "z"])),
        (".list..", json!([[0, 1, 2, 3, 4]])),
        (".map.inner.more..", json!([[{"name": "z"}], {"name": "z"}, "z"])),
    ] {
        let found: Vec<Value> = JsonPath::parse(path)
            .unwrap()
            .find(&object)
            .into_iter()
            .cloned()
            .collect();
        assert_eq!(Value::from(found), expected, "{path}");
    }
}

#[test]
fn no_path_takes_more_than_so_many_looks() {
    let maps = (0..20).fold(json!("x"), |inner, _| json!({"a": inner}));
    let lists = (0..60).fold(json!("x"), |inner, _| json!([inner]));
    for (path, object) in [("['a','a']", maps), ("[0,0]", lists.clone()), ("...*", lists)] {
        let found = |times| JsonPath::parse(&path.repeat(times)).unwrap().first(&object);
        assert!(found(2).is_some() && found(20).is_none(), "{path}");
    }
    assert!(JsonPath::parse(&"[?(@".repeat(100_000)).is_err());
    let nested = format!(".a{}{}", "[?(@.a".repeat(20_000), ")]".repeat(20_000));
    assert!(JsonPath::parse(&nested).is_err());
}

#[test]
fn what_is_no_path_is_refused() {
    for path in [
        ".a[",
        ".a[x]",
        ".a[?(b)]",
        ".a.",
        "....a",
        "..*",
        ".a[1:x]",
        ".a[1:2:3:4]",
        ".a[-]",
        ".a[0,x]",
        ".a['b','c]",
    ] {
        assert!(JsonPath::parse(path).is_err(), "{path}");
    }
}
