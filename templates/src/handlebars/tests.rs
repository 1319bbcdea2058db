use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{Error, Renderer, Templates};
use crate::value::from_json;

/// Renders `t.hbs` among other files.
fn rendered(files: &[(&str, &str)], values: &Value) -> Result<Vec<(u32, Value)>, Error> {
    let mut templates = Templates::default();
    for (path, text) in files {
        templates.add("", path, text)?;
    }
    let scope = from_json(&json!({"Values": values, "Release": {"Name": "r"}}));
    let documents = Renderer::new(&templates, [0; 32], 0).objects("t.hbs", &scope)?;
    let found = documents.into_iter().map(|document| (document.line, document.value));
    Ok(found.filter(|(_, value)| !value.is_null()).collect())
}

fn one(template: &str, values: &Value) -> Value {
    let mut documents = rendered(&[("t.hbs", template)], values).unwrap();
    assert_eq!(documents.len(), 1);
    documents.remove(0).1
}

fn fails(template: &str, values: &Value) -> String {
    rendered(&[("t.hbs", template)], values).unwrap_err().to_string()
}

fn text(template: &str, values: &Value) -> String {
    let mut templates = Templates::default();
    templates.add("", "t.hbs", template).unwrap();
    templates.add("", "_p.hbs", "[{{x}}\nand {{this.y}}]\n").unwrap();
    Renderer::new(&templates, [0; 32], 0)
        .text("t.hbs", &from_json(values))
        .unwrap()
}

#[test]
fn a_value_alone_keeps_its_type() {
    let values = json!({"num": 3, "f": 0.5, "b": false, "z": null, "t": "true", "l": [1, "a"], "m": {"k": "v"}, "big": 9_007_199_254_740_993_i64});
    let template = "num: {{Values.num}}\nf: {{Values.f}}\nb: {{Values.b}}\nz: {{Values.z}}\nt: {{Values.t}}\nl: {{Values.l}}\nm: {{Values.m}}\nbig: {{Values.big}}\n";
    assert_eq!(one(template, &values), values);
}

#[test]
fn a_value_in_text_or_quotes_is_text() {
    let values = json!({"port": 80, "host": "a: b # c", "multi": "1\n2"});
    let template = "a: {{Values.host}}:{{Values.port}}\nb: \"{{Values.port}}\"\nc: |\n  x {{Values.multi}} y\nd: '{{Values.host}}!'\n";
    assert_eq!(
        one(template, &values),
        json!({"a": "a: b # c:80", "b": "80", "c": "x 1\n2 y\n", "d": "a: b # c!"})
    );
}

#[test]
fn maps_and_lists_alone_on_a_line_add_to_what_is_around_them() {
    let values = json!({"m": {"k": 1, "o": {"p": 2}}, "l": ["x", {"y": 1}], "e": {}, "el": []});
    let template = "labels:\n  app: x\n  {{Values.m}} # more\nargs:\n  - first\n  {{Values.l}}\nonly:\n  {{Values.m}}\nlist:\n  {{Values.l}}\nnone:\n  {{Values.e}}\nnothing:\n  {{Values.el}}\nflow: {a: 1, b: {{Values.m}}}\nitems:\n- {{Values.m}}\n- {{Values.l}}\n";
    assert_eq!(
        one(template, &values),
        json!({
            "labels": {"app": "x", "k": 1, "o": {"p": 2}}, "args": ["first", "x", {"y": 1}],
            "only": {"k": 1, "o": {"p": 2}}, "list": ["x", {"y": 1}], "none": {}, "nothing": [],
            "flow": {"a": 1, "b": {"k": 1, "o": {"p": 2}}}, "items": [{"k": 1, "o": {"p": 2}}, ["x", {"y": 1}]]
        })
    );
}

#[test]
fn blocks_take_maps_as_yaml_at_their_column_and_as_json_within_a_line() {
    let values = json!({"m": {"b": [1, 2], "a": "x"}, "l": ["u", "v"]});
    let template = "file: |\n  top:\n    {{Values.m}}\n  list:\n    {{Values.l}}\n  line: {{Values.m}}\n";
    assert_eq!(
        one(template, &values)["file"],
        "top:\n  a: x\n  b:\n  - 1\n  - 2\nlist:\n  - u\n  - v\nline: {\"a\":\"x\",\"b\":[1,2]}\n"
    );
}

#[test]
fn a_key_that_is_there_already_is_an_error() {
    let values = json!({"m": {"app": "y"}, "k": "app"});
    assert_eq!(
        fails("labels:\n  app: x\n  {{Values.m}}\n", &values),
        "t.hbs:3:5: app is there already: Values.m sets it again"
    );
    assert_eq!(
        fails("app: x\n{{Values.k}}: y\n", &values),
        "t.hbs:2:3: app is there already"
    );
}

#[test]
fn what_is_not_there_is_an_error_with_its_place() {
    let values = json!({"image": {"tag": "v1"}, "on": true});
    assert_eq!(
        fails("a: 1\nb: {{Values.imge.tag}}\n", &values),
        "t.hbs:2:6: there is no imge in Values, which has image, on"
    );
    assert_eq!(
        fails("{{#if Values.image.tagg}}a: 1{{/if}}\n", &values),
        "t.hbs:1:7: there is no tagg in Values.image, which has tag"
    );
    assert_eq!(
        fails("{{#each Values.x}}{{/each}}\n", &values),
        "t.hbs:1:9: there is no x in Values, which has image, on"
    );
    assert_eq!(
        fails("a: {{upper Values.x}}\n", &values),
        "t.hbs:1:12: there is no x in Values, which has image, on"
    );
    assert_eq!(
        one("a: {{default \"d\" Values.x}}\nb: {{exists Values.x.y}}\n", &values),
        json!({"a": "d", "b": false})
    );
    assert_eq!(
        one("a: {{and (exists Values.x) Values.x.y}}", &values),
        json!({"a": false})
    );
}

#[test]
fn other_errors_have_their_places_too() {
    let values = json!({"m": {"a": 1}, "s": "x", "z": null});
    assert_eq!(
        fails("a: b {{Values.m}}\n", &values),
        "t.hbs:1:8: Values.m is a map and stands within text"
    );
    assert_eq!(
        fails("a: \"{{Values.m}}\"\n", &values),
        "t.hbs:1:7: Values.m is a map and stands within text"
    );
    assert_eq!(
        fails("a: b {{Values.z}}\n", &values),
        "t.hbs:1:8: Values.z is null and stands within text"
    );
    assert_eq!(
        fails("a: {{nope Values.s}}\n", &values),
        "t.hbs:1:6: there is no helper nope"
    );
    assert_eq!(
        fails("a: {{repeat \"x\" \"y\"}}\n", &values),
        "t.hbs:1:13: argument 1 of repeat must be an integer and is text"
    );
    assert_eq!(
        fails("a: {{upper}}\n", &values),
        "t.hbs:1:6: there is no upper here, which has Release, Values"
    );
    assert_eq!(fails("a: {{fail \"no way\"}}\n", &values), "t.hbs:1:6: fail: no way");
    assert_eq!(
        fails("{{#if Values.s}}\na: 1\n", &values),
        "t.hbs:1:4: {{#if}} is never closed"
    );
    assert_eq!(
        fails("a: {{Values.s\n", &values),
        "t.hbs:2:1: }} is missing, or something here is out of place"
    );
    assert_eq!(
        fails("{{> gone}}\n", &values),
        "t.hbs:1:1: there is no partial gone: no file _gone.hbs"
    );
    assert!(fails("a: 1\nb:\n  - x\n c: 2\n", &values).starts_with("t.hbs:4:"));
}

#[test]
fn objects_and_errors_know_their_lines_through_blocks_and_partials() {
    let files = [
        (
            "t.hbs",
            "{{#if Values.on}}\na: 1\n{{/if}}\n---\n{{!-- a\ncomment --}}\n\nb:\n  {{> p x=Values.x}}\n---\n{{#each Values.l}}\nc: {{this}}\n---\n{{/each}}\n",
        ),
        ("_p.hbs", "k: {{x}}\nl:\n  m: {{Release.Name}}\n"),
    ];
    let values = json!({"on": true, "x": [1], "l": ["p", "q"]});
    assert_eq!(
        rendered(&files, &values).unwrap(),
        [
            (2, json!({"a": 1})),
            (8, json!({"b": {"k": [1], "l": {"m": "r"}}})),
            (12, json!({"c": "p"})),
            (12, json!({"c": "q"})),
        ]
    );
    let files = [files[0], ("_p.hbs", "k: {{x}}\nl:\n  m: {{Release.Nam}}\n")];
    let error = rendered(&files, &values).unwrap_err();
    assert_eq!(
        error.to_string(),
        "_p.hbs:3:8: there is no Nam in Release, which has Name"
    );
    assert_eq!(error.chain, ["t.hbs:9:3 {{> p}}"]);
}

#[test]
fn endless_partials_and_deep_nesting_are_refused() {
    let error = rendered(&[("t.hbs", "{{> p}}"), ("_p.hbs", "{{> p}}")], &json!({})).unwrap_err();
    assert_eq!(error.message, "partials include one another deeper than 64 levels");
    let deep = format!("a: {{{{{}x{}}}}}", "(not ".repeat(100_000), ")".repeat(100_000));
    assert!(fails(&deep, &json!({})).contains("nest deeper than 100 levels"));
    let deep = "{{#if Values}}".repeat(100_000);
    assert!(fails(&deep, &json!({})).contains("nest deeper than 100 levels"));
    let many = "{{#each Values.l}}".repeat(8) + &"{{/each}}".repeat(8);
    assert!(fails(&many, &json!({"l": vec![0; 100]})).ends_with("too many steps"));
    let laughs = "a: &a {{Values.s}}\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c,*c,*c,*c,*c]\n";
    assert!(fails(laughs, &json!({"s": "x".repeat(1 << 20)})).ends_with("the objects of this file are too large"));
}

#[test]
fn nothing_but_a_mark_is_taken_for_one() {
    let values = json!({"v": "secret", "s": "\u{e000}0\u{e001}"});
    let template = "v: {{Values.v}}\nescaped: \"\\uE0000\\uE001\"\nplain: \u{e000}0\u{e001}\nraw: {{{Values.s}}}\nboth: x{{Values.s}}\n";
    assert_eq!(
        one(template, &values),
        json!({"v": "secret", "escaped": "\u{e000}0\u{e001}", "plain": "\u{e000}0\u{e001}", "raw": "\u{e000}0\u{e001}", "both": "x\u{e000}0\u{e001}"})
    );
}

#[test]
fn a_value_cannot_be_a_tag_and_nothing_goes_on_from_a_map() {
    let values = json!({"t": "int", "m": {"a": 1}});
    assert!(fails("a: !{{Values.t}} 1\n", &values).starts_with("t.hbs:1:4: "));
    assert!(
        fails("a:\n  {{Values.m}}\n    lost\n", &values)
            .ends_with("Values.m is a map that stands alone; nothing can go on from it")
    );
}

#[test]
fn what_is_spliced_nests_no_deeper_than_the_rest() {
    let mut deep = json!(1);
    for _ in 0..95 {
        deep = json!({"a": deep});
    }
    let values = json!({"m": deep, "l": [deep]});
    for name in ["m", "l"] {
        let mut template = String::new();
        for depth in 0..10 {
            template += &format!("{}k:\n", " ".repeat(depth));
        }
        template += &format!("{}{{{{Values.{name}}}}}\n", " ".repeat(10));
        assert!(fails(&template, &values).ends_with("this nests deeper than 100 levels"));
    }
}

#[test]
fn what_a_partial_is_given_gives_way_within_blocks() {
    let files = [
        (
            "t.hbs",
            "a:\n{{#each Values.l}}\n  {{> p Values name=@index extra=1}}\n{{/each}}\n",
        ),
        (
            "_p.hbs",
            "- own: {{name}}\n  this: {{this.name}}\n  index: {{@index}}\n  items:\n{{#each l}}\n  - {{name}}-{{../name}}-{{extra}}-{{@../index}}\n{{/each}}\n",
        ),
    ];
    let values = json!({"name": "n", "l": [{"name": "x"}, {"name": "y"}]});
    let item = |index: u32| json!({"own": index, "this": index, "index": index, "items": [format!("x-{index}-1-{index}"), format!("y-{index}-1-{index}")]});
    assert_eq!(
        rendered(&files, &values).unwrap()[0].1,
        json!({"a": [item(0), item(1)]})
    );
}

#[test]
fn names_are_given_only_by_each_and_with() {
    let values = json!({"x": 0, "l": [1]});
    assert!(fails("a: {{Values.x as |y|}}", &values).contains("a value gives no names"));
    assert!(fails("{{> p Values as |y|}}", &values).contains("a partial gives no names"));
    assert_eq!(
        fails("{{#if Values.l as |y|}}{{/if}}", &values),
        "t.hbs:1:4: if gives 0 names, and `as` asks for more"
    );
    assert!(fails("{{#each Values.l as |a b c|}}{{/each}}", &values).contains("each gives 2 names"));
    assert_eq!(
        one("a: {{#with Values.x as |y|}}{{y}}{{else}}1{{/with}}", &values),
        json!({"a": 0})
    );
}

#[test]
fn two_partials_cannot_have_one_name() {
    let files = [("_p.hbs", "a"), ("_p.yaml.hbs", "b"), ("t.hbs", "{{> p}}")];
    let error = rendered(&files, &json!({})).unwrap_err();
    assert_eq!(
        error.to_string(),
        "_p.yaml.hbs:1:1: the partial p is there already: _p.hbs"
    );
}

#[test]
fn what_is_written_is_counted_with_its_indentation() {
    let called = format!("a:\n{}{{{{> p}}}}\n", " ".repeat(100_000));
    let partial = "x: 1\n".repeat(10_000);
    let error = rendered(&[("t.hbs", &called), ("_p.hbs", &partial)], &json!({})).unwrap_err();
    assert!(error.message.starts_with("output grows over"), "{error}");
}

#[test]
fn long_lines_and_many_tags_take_time_in_proportion() {
    let values = json!({"l": vec![0; 5_000], "m": {"a": 1}});
    // Each of these would take minutes if it took the square of its length.
    for template in [
        "{{#if Values.m}}{{/if}}".repeat(40_000),
        "{{!x}}".repeat(100_000),
        "{{!-- x --~}}".repeat(100_000),
        " ".repeat(1 << 20) + &"{{#if Values.m}}{{/if}}".repeat(5_000),
        format!(
            "{{{{#each Values.l}}}}{{{{#if (and \"{}\" Values.m)}}}}{{{{/if}}}}{{{{/each}}}}",
            "y".repeat(1 << 20)
        ),
    ] {
        let found = rendered(&[("t.hbs", &template)], &values).unwrap();
        assert!(found.is_empty());
    }
    let list = "kind: List\nitems:\n{{#each Values.l}}\n- a\n{{/each}}\n";
    assert_eq!(one(list, &values)["items"].as_array().unwrap().len(), 5_000);
}

#[test]
fn the_names_of_the_top_are_seen_from_within_blocks() {
    let values = json!({"name": "n", "ports": [{"port": 1, "name": "a"}, {"port": 2, "name": "b"}]});
    let template = "ports:\n{{#each Values.ports}}\n  - name: {{name}}-{{Values.name}}-{{@index}}-{{../Values.name}}\n    port: {{port}}\n{{/each}}\n";
    assert_eq!(
        one(template, &values),
        json!({"ports": [{"name": "a-n-0-n", "port": 1}, {"name": "b-n-1-n", "port": 2}]})
    );
}

#[test]
fn it_writes_what_the_handlebars_crate_writes() {
    let data = json!({
        "x": "X", "y": 2, "t": true, "f": false, "l": ["a", "b"], "m": {"k": "v", "o": "w"}, "e": [], "odd key": "o",
        "n": {"x": "inner", "deep": {"z": 1}}
    });
    let mut peer = handlebars::Handlebars::new();
    peer.register_escape_fn(handlebars::no_escape);
    peer.register_partial("p", "[{{x}}\nand {{this.y}}]\n").unwrap();
    for template in [
        "plain",
        "{{x}} {{y}}",
        "a\n{{#if t}}\nb\n{{/if}}\nc\n",
        "a\n  {{#if f}}\nb\n  {{else}}\n  c\n  {{/if}}\nd",
        "{{#if f}}1{{else if t}}2{{else}}3{{/if}}",
        "{{#each l}}{{@index}}{{this}}{{#unless @last}},{{/unless}}{{/each}}",
        "{{#each m}}{{@key}}={{this}};{{/each}}",
        "{{#each e}}x{{else}}none{{/each}}",
        "{{#with n}}{{x}}{{../x}}{{deep.z}}{{/with}}",
        "{{n.deep.z}} {{n/x}} {{[odd key]}} {{this.x}} {{./x}}",
        "{{~x~}}  a",
        "a  {{~x~}}  b",
        "a \n{{~#if t~}}  b  {{~/if~}} \n c",
        "{{! gone }}a{{!-- gone }} too --}}b",
        "a\n{{! gone }}\nb\n",
        "a\n  {{!-- gone\n --}}  \nb",
        "\\{{x}} {{y}}",
        "{{#each l as |item i|}}{{i}}{{item}}{{/each}}",
        "{{#with n as |q|}}{{q.x}}{{/with}}",
        "{{lookup l 1}}{{lookup m \"k\"}}",
        "{{> p}}",
        "  {{> p}}\nend",
        "{{#each l}}\n  - {{this}}\n{{/each}}\n",
        "{{#if t}}{{#if t}}\nx\n{{/if}}{{/if}}\n",
        "{{#if t}}\r\na\r\n{{/if}}\r\nb\r\n",
        "{{@root.x}}{{#with n}}{{@root.x}}{{/with}}",
        "{{{x}}}{{&y}}",
        "{{#if (lookup m \"k\")}}yes{{/if}}",
        "{{#if f}}a{{^}}b{{/if}}",
        "{{#each l}}{{#if @first}}[{{/if}}{{this}}{{/each}}]",
    ] {
        let Ok(wanted) = peer.render_template(template, &data) else {
            panic!(
                "the peer refuses {template:?}: {:?}",
                peer.render_template(template, &data)
            );
        };
        assert_eq!(text(template, &data), wanted, "{template:?}");
    }
}

/// Text of the kind that breaks YAML.
fn nasty() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[ \\n\\t:#\\-\\[\\]{},&*!|>'\"%@`?~<=yn0-9e.\u{e000}-\u{e004}\u{85}\u{2028}\u{feff}]{0,12}",
        Just("{{Values.other}}".to_owned()),
        Just("\u{e000}0\u{e001}".to_owned()),
        Just("a: b\n- c\n---\n...\n<<: {}".to_owned()),
        Just("null".to_owned()),
        Just("<<".to_owned()),
    ]
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        nasty().prop_map(Value::String),
        any::<i64>().prop_map(Value::from),
        any::<bool>().prop_map(Value::Bool),
        Just(Value::Null),
        (-1e9f64..1e9).prop_map(|number| if number.fract() == 0.0 {
            json!(number as i64)
        } else {
            json!(number)
        }),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::btree_map(nasty(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_value_is_exactly_itself_in_its_place_and_nothing_else_changes(value in any_value()) {
        let template = "before: 1\nplain: {{Values.v}}\nlist:\n  - {{Values.v}}\n  - after\nflow: [{{Values.v}}, {k: {{Values.v}}}]\nafter: 2\n";
        prop_assert_eq!(
            one(template, &json!({"v": value})),
            json!({"before": 1, "plain": value, "list": [value, "after"], "flow": [value, {"k": value}], "after": 2})
        );
    }

    #[test]
    fn text_is_exactly_itself_within_text(value in nasty()) {
        let template = "plain: a{{Values.v}}b\ndouble: \"{{Values.v}}\"\nsingle: 'x{{Values.v}}'\nliteral: |-\n  one\n  two {{Values.v}}\n  {{Values.v}}\nlines:\n  {{Values.v}}\nafter: 1\n";
        prop_assert_eq!(
            one(template, &json!({"v": value})),
            json!({
                "plain": format!("a{value}b"), "double": value, "single": format!("x{value}"),
                "literal": format!("one\ntwo {value}\n{value}"), "lines": value, "after": 1
            })
        );
    }

    #[test]
    fn a_map_alone_on_its_line_adds_exactly_its_entries(map in prop::collection::btree_map(nasty(), any_value(), 0..5)) {
        prop_assume!(!map.contains_key("own") && !map.contains_key("last"));
        let template = "m:\n  own: 1\n  {{Values.m}}\n  last: 2\nafter: 1\n";
        let mut wanted = serde_json::to_value(&map).unwrap();
        wanted["own"] = json!(1);
        wanted["last"] = json!(2);
        prop_assert_eq!(one(template, &json!({"m": map})), json!({"m": wanted, "after": 1}));
    }

    #[test]
    fn a_list_alone_on_its_line_adds_exactly_its_items(list in prop::collection::vec(any_value(), 0..5)) {
        let template = "l:\n  - own\n  {{Values.l}}\n  - last\nafter: 1\n";
        let mut wanted = vec![json!("own")];
        wanted.extend(list.iter().cloned());
        wanted.push(json!("last"));
        prop_assert_eq!(one(template, &json!({"l": list})), json!({"l": wanted, "after": 1}));
    }

    #[test]
    fn a_key_is_exactly_its_text(key in nasty()) {
        prop_assume!(key != "after");
        let template = "{{Values.k}}: 1\nafter: {x{{Values.k}}: 2}\n";
        prop_assert_eq!(one(template, &json!({"k": key})), json!({&*key: 1, "after": {format!("x{key}"): 2}}));
    }

    #[test]
    fn no_template_makes_it_panic(template in "(\\{\\{|\\}\\}|[#/~^&!>.()\\[\\]@='\"| \\nab:\\\\-]|else|if|each|Values|as){0,20}") {
        let outcome = rendered(&[("t.hbs", &template)], &json!({"a": [1], "b": {"a": 1}}));
        if let Err(error) = outcome {
            prop_assert!(error.line >= 1 && error.column >= 1 && !error.message.is_empty());
        }
    }
}
