use proptest::prelude::*;
use serde_json::json;

use super::*;

const FULL: &str = r#"
[[app]]
name = "db"
path = "db"

[[app]]
name = "web"
path = "./charts//web/"
namespace = "shop"
values = ["values/common.yaml", "values/prod.yaml"]
set = { "image.tag" = "v2", replicas = 3, "a\\.b" = true, nodeSelector = { "kubernetes.io/os" = "linux" } }
after = ["db"]
ignore = ["spec.replicas", "Deployment/web:metadata.annotations"]
[app.sync]
prune = false
deadline = "1h30m"
"#;

fn fails(text: &str) -> DeclarationError {
    match parse(text) {
        Err(error) => error,
        Ok(declaration) => panic!("parsed: {declaration:?}"),
    }
}

fn app(rest: &str) -> String {
    format!("[[app]]\nname = \"web\"\npath = \"web\"\n{rest}\n")
}

#[test]
fn everything_that_can_be_written_is_read() {
    let declaration = parse(FULL).unwrap();
    let web = &declaration.apps[1];
    assert_eq!(declaration.apps[0].name, "db");
    assert_eq!(declaration.apps[0].namespace, "default");
    assert_eq!(declaration.apps[0].sync, Sync::default());
    assert_eq!(web.path, "charts/web");
    assert_eq!(web.values, ["values/common.yaml", "values/prod.yaml"]);
    assert_eq!(
        serde_json::Value::Object(web.set.clone()),
        json!({"image": {"tag": "v2"}, "replicas": 3, "a.b": true, "nodeSelector": {"kubernetes.io/os": "linux"}})
    );
    assert_eq!(web.after, ["db"]);
    assert_eq!(web.ignore.len(), 2);
    assert!(!web.sync.prune && web.sync.heal && web.sync.rollback);
    assert_eq!(web.sync.deadline, Duration::from_secs(5400));
}

#[test]
fn a_declaration_survives_being_stored() {
    let declaration = parse(FULL).unwrap();
    let stored = serde_json::to_string(&declaration).unwrap();
    assert!(stored.contains(r#""deadline":"1h30m""#), "{stored}");
    assert_eq!(serde_json::from_str::<Declaration>(&stored).unwrap(), declaration);
}

#[test]
fn an_empty_file_has_no_apps() {
    for text in ["", "# nothing\n", "\n\n", "app = []"] {
        assert_eq!(parse(text).unwrap(), Declaration::default());
    }
}

#[test]
fn the_root_is_a_path() {
    assert_eq!(parse("[[app]]\nname='a'\npath='.'").unwrap().apps[0].path, "");
}

#[test]
fn names_that_repeat_are_told_with_their_lines() {
    let error = fails("\n[[app]]\nname='web'\npath='a'\n\n[[app]]\npath='b'\nname='web'\n");
    assert_eq!((error.line, error.column), (8, 6));
    assert!(
        error.message.starts_with("two apps are named web: lines 3 and 8"),
        "{error}"
    );
}

#[test]
fn a_cycle_is_named() {
    let error = fails(
        "[[app]]\nname='a'\npath='a'\nafter=['b']\n[[app]]\nname='b'\npath='b'\nafter=['c']\n[[app]]\nname='c'\npath='c'\nafter=['b']\n",
    );
    assert!(error.message.contains("b → c → b"), "{error}");
    assert_eq!(error.line, 12);
    assert!(fails(&app("after=['web']")).message.contains("web → web"));
}

#[test]
fn an_after_must_name_an_app_of_the_file() {
    let error = fails(&app("after = [\n  'dbb']"));
    assert_eq!((error.line, error.column), (5, 3));
    assert!(
        error.message.contains("dbb") && error.message.contains("it has web"),
        "{error}"
    );
}

#[test]
fn each_mistake_is_told_with_its_place() {
    let cases = [
        (app("replicas = 3"), 4, 1, "unknown key `replicas`"),
        (app("[app.sync]\nprun = true"), 5, 1, "unknown key `prun`"),
        ("[[apps]]\nname='a'".to_owned(), 1, 3, "unknown key `apps`"),
        ("[app]\nname='a'".to_owned(), 1, 2, "two brackets"),
        ("app = [1]".to_owned(), 1, 8, "an app is a table"),
        ("[[app]]\npath='a'".to_owned(), 1, 1, "no `name`"),
        ("[[app]]\nname='a'".to_owned(), 1, 1, "no `path`"),
        ("[[app]]\nname='Web'".to_owned(), 2, 6, "no DNS label"),
        ("[[app]]\nname='-web'".to_owned(), 2, 6, "no DNS label"),
        ("[[app]]\nname=''".to_owned(), 2, 6, "no DNS label"),
        (format!("[[app]]\nname='{}'", "a".repeat(54)), 2, 6, "at most 53"),
        ("[[app]]\nname=3".to_owned(), 2, 6, "must be text"),
        ("[[app]]\nname='a'\npath='../x'".to_owned(), 3, 6, "may not leave"),
        ("[[app]]\nname='a'\npath='x/../..'".to_owned(), 3, 6, "may not leave"),
        ("[[app]]\nname='a'\npath='/etc'".to_owned(), 3, 6, "is absolute"),
        ("[[app]]\nname='a'\npath=''".to_owned(), 3, 6, "is empty"),
        (app("values = ['a', '/b']"), 4, 16, "is absolute"),
        (app("values = 'a'"), 4, 10, "must be a list"),
        (app("namespace = 'a.b'"), 4, 13, "no DNS label"),
        (app("set = 3"), 4, 7, "must be a table"),
        (app("set = { \"a.b\" = 1, a = 2 }"), 4, 20, "`a` is set twice"),
        (app("set = { \"a.b\" = 1, a = { b = 2 } }"), 4, 20, "`a.b` is set twice"),
        (app("set = { \"a..b\" = 1 }"), 4, 9, "empty part"),
        (app("set = { \"a[0].b\" = 1 }"), 4, 9, "item of a list"),
        (app("set = { a = nan }"), 4, 13, "NaN"),
        (app("set = { a = 99999999999999999999 }"), 4, 13, "64 bits"),
        (app("sync = true"), 4, 8, "must be a table"),
        (app("[app.sync]\nheal = 'yes'"), 5, 8, "true or false"),
        (app("[app.sync]\ndeadline = '2 minutes'"), 5, 12, "no duration"),
        (app("[app.sync]\ndeadline = 120"), 5, 12, "must be text"),
        (app("[app.sync]\ndeadline = '0s'"), 5, 12, "between 1s and 24h"),
        (app("[app.sync]\ndeadline = '25h'"), 5, 12, "between 1s and 24h"),
    ];
    for (text, line, column, message) in cases {
        let error = fails(&text);
        assert_eq!((error.line, error.column), (line, column), "{error}\n{text}");
        assert!(error.message.contains(message), "{error}\n{text}");
    }
}

#[test]
fn bad_toml_is_told_with_its_place() {
    let error = fails("[[app]]\nname = \"web\npath = 'x'");
    assert_eq!(error.line, 2);
    assert!(!error.message.contains('\n'));
    let error = fails("[[app]]\nname = 'a'\nname = 'b'");
    assert_eq!(error.line, 3);
}

#[test]
fn columns_count_characters() {
    let error = fails("[[app]]\nname='a'\npath='x'\nset={ 'ä'='ö', 'b..c'=1 }");
    assert_eq!((error.line, error.column), (4, 16));
}

#[test]
fn files_and_lists_are_bounded() {
    assert!(fails(&"#".repeat(MAX_BYTES + 1)).message.contains("bytes"));
    let many: String = (0..=MAX_APPS)
        .map(|n| format!("[[app]]\nname='a{n}'\npath='x'\n"))
        .collect();
    assert!(fails(&many).message.contains("1001 apps"));
    let deep = format!("set = {{ \"{}\" = 1 }}", vec!["a"; 70].join("."));
    assert!(fails(&app(&deep)).message.contains("64 parts"));
    let nested = format!("set = {{ a = {}1{} }}", "[".repeat(70), "]".repeat(70));
    assert!(
        fails(&app(&nested)).message.contains("deeper"),
        "{}",
        fails(&app(&nested))
    );
    let bottomless = format!("set = {{ a = {}1{} }}", "[".repeat(100_000), "]".repeat(100_000));
    fails(&app(&bottomless));
}

#[test]
fn a_long_chain_of_apps_is_fine() {
    let chain: String = (0..MAX_APPS)
        .map(|n| {
            format!(
                "[[app]]\nname='a{n}'\npath='x'\nafter=[{}]\n",
                if n == 0 { String::new() } else { format!("'a{}'", n - 1) }
            )
        })
        .collect();
    assert_eq!(parse(&chain).unwrap().apps.len(), MAX_APPS);
}

#[test]
fn durations_are_read_as_people_write_them() {
    for (text, seconds) in [("2m", 120), ("90s", 90), ("1h30m", 5400), ("1h1m1s", 3661), ("0s", 0)] {
        assert_eq!(duration::parse(text), Some(Duration::from_secs(seconds)), "{text}");
    }
    for text in [
        "",
        "2",
        "m",
        "2 m",
        "-1s",
        "1m1h",
        "1s1s",
        "1d",
        "1.5h",
        "99999999999999999999h",
        "9999999999999999999h",
    ] {
        assert_eq!(duration::parse(text), None, "{text}");
    }
}

proptest! {
    #[test]
    fn durations_are_read_back(seconds in 0u64..10_000_000) {
        let duration = Duration::from_secs(seconds);
        prop_assert_eq!(duration::parse(&duration::format(duration)), Some(duration));
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}") {
        drop(parse(&text));
        duration::parse(&text);
    }

    #[test]
    fn no_mangled_file_makes_it_panic(start in 0usize..FULL.len(), length in 0usize..40, insert in "[\\[\\]{}\"'=.,\\\\\n a-z0-9]{0,8}") {
        let mut bytes = FULL.as_bytes().to_vec();
        let end = (start + length).min(bytes.len());
        bytes.splice(start..end, insert.into_bytes());
        drop(parse(&String::from_utf8_lossy(&bytes)));
    }

    #[test]
    fn what_normalizes_stays_inside(path in "[a-z./]{0,20}") {
        if let Ok(path) = normalize_path(&path) {
            prop_assert!(!path.starts_with('/') && path.split('/').all(|part| part != ".."));
            if !path.is_empty() {
                prop_assert_eq!(normalize_path(&path), Ok(path.clone()));
            }
        }
    }
}
