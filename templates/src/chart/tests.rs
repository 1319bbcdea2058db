use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{
    Capabilities, Chart, FileSource as _, Folder, MemoryFiles, RenderOptions, Rendered, coalesce_values, merge_maps,
    render, set_json, set_string, set_values,
};

fn chart(files: &[(&str, &str)]) -> Chart {
    let files: BTreeMap<String, Vec<u8>> = files
        .iter()
        .map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec()))
        .collect();
    Chart::load(&MemoryFiles(files)).unwrap()
}

fn rendered(chart: &Chart, values: Value) -> Result<Rendered, String> {
    let Value::Object(values) = values else {
        panic!("values are a map")
    };
    let options = RenderOptions {
        name: "r".to_owned(),
        namespace: "ns".to_owned(),
        revision: 1,
        is_install: true,
        values,
        capabilities: Capabilities {
            kube_version: "v1.37.0".to_owned(),
            api_versions: vec!["v1".to_owned()],
        },
        seed: [0; 32],
        now: 0,
        lookup: None,
    };
    render(chart, &options).map_err(|error| error.to_string())
}

const HEAD: &str = "apiVersion: v2\nname: c\nversion: 1.0.0\n";

#[test]
fn a_chart_renders_with_its_subcharts_sorted_for_installation() {
    let chart = chart(&[
        (
            "Chart.yaml",
            &format!("{HEAD}dependencies:\n- {{name: sub, version: 1.x, condition: s.enabled, alias: s}}\n"),
        ),
        ("values.yaml", "color: blue\ns: {size: 3}\nglobal: {g: 1}\n"),
        (
            "templates/a.yaml",
            "kind: Service\nname: {{ .Values.color }}\n---\nkind: Secret\nfiles: {{ .Files.Get \"f.txt\" }}\n",
        ),
        (
            "templates/hook.yaml",
            "kind: Job\nmetadata: {annotations: {helm.sh/hook: \"pre-install,test\", helm.sh/hook-weight: \"-2\"}}\n",
        ),
        ("templates/NOTES.txt", "hello {{ .Release.Name }}"),
        ("templates/_x.tpl", "{{ define \"x\" }}from x{{ end }}"),
        ("f.txt", "content"),
        ("charts/sub/Chart.yaml", "apiVersion: v2\nname: sub\nversion: 1.2.0\n"),
        ("charts/sub/values.yaml", "size: 1\nown: 2\n"),
        (
            "charts/sub/templates/b.yaml",
            "kind: ConfigMap\nv: {{ .Values.size }} {{ .Values.own }} {{ .Values.global.g }} {{ include \"x\" . }} {{ .Chart.Name }}\n",
        ),
    ]);
    let out = rendered(&chart, json!({"s": {"enabled": true}})).unwrap();
    let kinds: Vec<&str> = out.manifests.iter().map(|manifest| manifest.kind.as_str()).collect();
    assert_eq!(kinds, ["Secret", "ConfigMap", "Service"]);
    assert_eq!(out.manifests[0].yaml, "kind: Secret\nfiles: content\n");
    assert_eq!(out.manifests[1].source, "c/charts/s/templates/b.yaml");
    assert_eq!(out.manifests[1].yaml, "kind: ConfigMap\nv: 3 2 1 from x s\n");
    assert_eq!(out.hooks[0].events, ["pre-install", "test"]);
    assert_eq!(out.hooks[0].weight, -2);
    assert_eq!(out.notes, "hello r");
    assert_eq!(
        rendered(&chart, json!({"s": {"enabled": false}}))
            .unwrap()
            .manifests
            .len(),
        2
    );
}

#[test]
fn errors_are_worded_as_helm_words_them() {
    let failing = |template: &str| {
        let chart = chart(&[("Chart.yaml", HEAD), ("templates/a.yaml", template)]);
        rendered(&chart, json!({})).unwrap_err()
    };
    assert_eq!(
        failing("\n{{ fail \"no\" }}"),
        "execution error at (c/templates/a.yaml:2:3): no"
    );
    assert_eq!(
        failing("{{ required \"need it\" .Values.x }}"),
        "execution error at (c/templates/a.yaml:1:3): need it"
    );
    assert_eq!(
        failing("{{ nope }}"),
        "parse error at (c/templates/a.yaml:1): function \"nope\" not defined"
    );
    assert_eq!(
        failing("{{ define \"i\" }}{{ .a.b.c }}{{ end }}{{ include \"i\" . }}"),
        "c/templates/a.yaml:1:40\n  executing \"c/templates/a.yaml\" at <include \"i\" .>:\n    error calling include:\nc/templates/a.yaml:1:21\n  executing \"i\" at <.a.b.c>:\n    nil pointer evaluating interface {}.b"
    );
}

#[test]
fn libraries_old_clusters_and_missing_dependencies_are_refused() {
    let refused = |head: &str| rendered(&chart(&[("Chart.yaml", head)]), json!({})).unwrap_err();
    assert_eq!(
        refused(&format!("{HEAD}type: library\n")),
        "library charts are not installable"
    );
    assert_eq!(
        refused(&format!("{HEAD}kubeVersion: '>=1.99'\n")),
        "chart requires kubeVersion: >=1.99 which is incompatible with Kubernetes v1.37.0"
    );
    assert!(
        refused(&format!("{HEAD}dependencies: [{{name: x, version: 1.x}}]\n"))
            .ends_with("missing in charts/ directory: x")
    );
}

#[test]
fn values_are_checked_against_the_schemas_of_the_chart_and_of_what_it_carries() {
    let schema = |text: &str| format!("{{\"type\": \"object\", {text}}}");
    let own = schema("\"required\": [\"a\"], \"properties\": {\"a\": {\"type\": \"integer\", \"minimum\": 2}}");
    let files = [
        ("Chart.yaml", HEAD),
        ("values.schema.json", &own),
        ("charts/sub/Chart.yaml", "apiVersion: v2\nname: sub\nversion: 1.2.0\n"),
        ("charts/sub/values.yaml", "size: x\n"),
        (
            "charts/sub/values.schema.json",
            "{\"properties\": {\"size\": {\"type\": \"string\"}}}",
        ),
    ];
    assert!(rendered(&chart(&files), json!({"a": 3.0})).is_ok());
    assert_eq!(
        rendered(&chart(&files), json!({"sub": {"size": 1}})).unwrap_err(),
        "values don't meet the specifications of the schema(s) in the following chart(s):\nc:\n- at '': missing property 'a'\nsub:\n- at '/size': got number, want string\n"
    );
    let away = schema("\"$ref\": \"file:///etc/hostname\"");
    assert!(
        rendered(
            &chart(&[("Chart.yaml", HEAD), ("values.schema.json", &away)]),
            json!({})
        )
        .is_ok()
    );
    let wrong = rendered(
        &chart(&[("Chart.yaml", HEAD), ("values.schema.json", "{\"type\": 1}")]),
        json!({}),
    );
    assert!(wrong.unwrap_err().contains("values.schema.json is no schema"));
}

#[test]
fn null_deletes_a_default() {
    let chart = chart(&[("Chart.yaml", HEAD), ("values.yaml", "a: {b: 1, c: 2}\nd: 3\n")]);
    let given = json!({"a": {"b": null}, "d": null});
    let values = coalesce_values(&chart, given.as_object().unwrap()).unwrap();
    assert_eq!(Value::Object(values), json!({"a": {"c": 2.0}}));
}

#[test]
fn set_understands_paths_lists_and_escapes() {
    let mut values = Map::new();
    set_values(&mut values, "a.b=1,a.c=true,l[1].x=y,m={1,two},k\\.q=null,z=007").unwrap();
    set_string(&mut values, "s=1").unwrap();
    set_json(&mut values, "j={\"a\":[1]}").unwrap();
    assert_eq!(
        Value::Object(values),
        json!({"a": {"b": 1, "c": true}, "l": [null, {"x": "y"}], "m": [1, "two"], "k.q": null, "z": "007", "s": "1", "j": {"a": [1]}})
    );
    assert!(set_values(&mut Map::new(), "a").is_err());
    assert!(set_values(&mut Map::new(), "a[99999999]=1").is_err());
}

#[test]
fn links_are_followed_within_a_folder_and_not_out_of_it() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("chart");
    std::fs::create_dir_all(folder.join("templates")).unwrap();
    std::fs::write(folder.join("a"), "inside").unwrap();
    std::fs::write(outer.path().join("secret"), "outside").unwrap();
    std::os::unix::fs::symlink("../a", folder.join("templates/b")).unwrap();
    let files = Folder(folder.clone()).files().unwrap();
    assert_eq!(files["templates/b"], b"inside");
    std::os::unix::fs::symlink("../../secret", folder.join("templates/c")).unwrap();
    let error = Folder(folder.clone()).files().unwrap_err();
    assert_eq!(error.to_string(), "templates/c is a link that leads out of the folder");
    std::fs::remove_file(folder.join("templates/c")).unwrap();
    std::os::unix::fs::symlink("..", folder.join("templates/d")).unwrap();
    assert!(Folder(folder).files().is_err());
}

fn tables() -> impl Strategy<Value = Map<String, Value>> {
    let leaf = prop_oneof![Just(json!(1.0)), Just(json!("x")), Just(json!([]))];
    let value = leaf.prop_recursive(3, 12, 3, |inner| {
        prop::collection::btree_map("[a-c]", inner, 0..3).prop_map(|map| json!(map))
    });
    prop::collection::btree_map("[a-d]", value, 0..4).prop_map(|map| map.into_iter().collect())
}

proptest! {
    #[test]
    fn coalescing_twice_is_coalescing_once(defaults in tables(), given in tables()) {
        let chart = Chart { values: defaults, ..Chart::default() };
        let once = coalesce_values(&chart, &given).unwrap();
        prop_assert_eq!(coalesce_values(&chart, &once).unwrap(), once);
    }

    #[test]
    fn given_values_win_over_defaults(defaults in tables(), given in tables()) {
        let chart = Chart { values: defaults, ..Chart::default() };
        let values = coalesce_values(&chart, &given).unwrap();
        for (key, value) in &given {
            if !value.is_object() {
                prop_assert_eq!(&values[key], value);
            }
        }
    }

    #[test]
    fn merging_a_table_with_itself_changes_nothing(a in tables()) {
        prop_assert_eq!(merge_maps(a.clone(), a.clone()), a);
    }
}
