use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Failure, Job, Output, ValuesFile, run};
use crate::chart::{Capabilities, FileSource, Folder};

fn job(files: &[(&str, &str)]) -> Job {
    Job {
        files: files
            .iter()
            .map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec()))
            .collect(),
        name: "shop".to_owned(),
        namespace: "prod".to_owned(),
        revision: 1,
        is_install: true,
        capabilities: Capabilities {
            kube_version: "v1.37.0".to_owned(),
            api_versions: vec!["v1".to_owned()],
        },
        ..Job::default()
    }
}

fn output(files: &[(&str, &str)]) -> Output {
    run(&job(files)).unwrap_or_else(|failure| panic!("{failure}"))
}

fn failure(files: &[(&str, &str)]) -> String {
    run(&job(files)).unwrap_err().to_string()
}

fn places(output: &Output) -> Vec<(String, String, Option<u32>)> {
    let name = |object: &Value| {
        format!(
            "{}/{}",
            object["kind"].as_str().unwrap(),
            object["metadata"]["name"].as_str().unwrap()
        )
    };
    output
        .objects
        .iter()
        .map(|found| (name(&found.object), found.file.clone(), found.line))
        .collect()
}

const CHART: (&str, &str) = ("Chart.yaml", "apiVersion: v2\nname: c\nversion: 1.0.0\n");
const MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";

#[test]
fn a_plain_folder_gives_its_objects_with_exact_lines() {
    let found = output(&[
        (
            "a.yaml",
            "# first\napiVersion: v1\nkind: Service\nmetadata:\n  name: a\nspec: {ports: [{port: 80}]}\n---\n---\n# more\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\n",
        ),
        (
            "sub/list.yml",
            "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Secret\n  metadata: {name: c}\n- {apiVersion: v1, kind: Secret, metadata: {name: d}}\n",
        ),
        (
            "sub/e.json",
            "\n{\n\t\"apiVersion\": \"v1\", \"kind\": \"ConfigMap\", \"metadata\": {\"name\": \"e\"}}\n{\"apiVersion\": \"v1\", \"kind\": \"ConfigMap\", \"metadata\": {\"name\": \"f\"}}",
        ),
        (
            "t.yaml.hbs",
            "{{#each Values.names}}\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{this}}\n  namespace: {{Release.Namespace}}\n---\n{{/each}}\n",
        ),
        ("values.yaml", "names: [x, z]\n"),
        (".hidden.yaml", "x: ["),
        (".git/config.yaml", "x: ["),
        ("README.md", "x"),
    ]);
    let wanted = [
        ("Secret/c", "sub/list.yml", 4),
        ("Secret/d", "sub/list.yml", 7),
        ("ConfigMap/b", "a.yaml", 10),
        ("ConfigMap/e", "sub/e.json", 2),
        ("ConfigMap/f", "sub/e.json", 4),
        ("ConfigMap/x", "t.yaml.hbs", 2),
        ("ConfigMap/z", "t.yaml.hbs", 2),
        ("Service/a", "a.yaml", 2),
    ];
    let wanted: Vec<_> = wanted
        .map(|(name, file, line)| (name.to_owned(), file.to_owned(), Some(line)))
        .into();
    assert_eq!(places(&found), wanted);
    assert_eq!(found.objects[7].object["spec"]["ports"][0]["port"], json!(80));
}

#[test]
fn what_is_no_object_is_an_error_with_its_place() {
    assert_eq!(
        failure(&[("a.yaml", &format!("{MAP}---\nkind: X\n"))]),
        "a.yaml:5: document 2 (X) has no apiVersion"
    );
    assert_eq!(
        failure(&[("a.yaml", "apiVersion: v1\nkind: X\n")]),
        "a.yaml:1: document 1 (X) has no metadata.name"
    );
    assert_eq!(
        failure(&[("a.yaml", "- 1\n")]),
        "a.yaml:1: document 1 is no object but a list or a scalar"
    );
    assert_eq!(
        failure(&[("a.yaml", MAP), ("b.yaml", &format!("\n{MAP}"))]),
        "b.yaml:2: ConfigMap a is there already, from a.yaml:1"
    );
    assert!(failure(&[("a.yaml", "a: b: c\n")]).starts_with("a.yaml:1:5: "));
    assert!(failure(&[("a.json", "{\n  \"a\": }")]).starts_with("a.json:2:8: expected value"));
    assert_eq!(failure(&[]), "the app's folder is empty");
    assert!(failure(&[("README.md", "")]).starts_with("there is no object in the app's folder"));
    assert!(failure(&[("kustomization.yaml", "")]).starts_with("kustomization.yaml: this is a kustomization"));
    assert!(failure(&[("x/Chart.yaml", "")]).starts_with("x/Chart.yaml: this is a chart within a plain folder"));
}

#[test]
fn a_key_that_stands_twice_is_a_warning() {
    let found = output(&[("a.yaml", &format!("{MAP}data: {{a: x}}\ndata: {{b: z}}\n"))]);
    assert_eq!(found.warnings, ["a.yaml:5: data is set twice, the last one counts"]);
    assert_eq!(found.objects[0].object["data"], json!({"b": "z"}));
}

#[test]
fn bombs_are_refused() {
    let laughs = "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]\n";
    assert!(failure(&[("a.yaml", laughs)]).ends_with("too large once its aliases are followed"));
    let wide = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), vec!["*a"; 200].join(","));
    assert!(failure(&[("a.yaml", &wide)]).ends_with("too large once its aliases are followed"));
    for deep in ["[", "- ", "{a: "] {
        let failure = failure(&[("a.yaml", &deep.repeat(100_000))]);
        assert!(failure.contains("nest") || failure.contains("recursion"), "{failure}");
    }
    assert!(failure(&[("a.json", &"[".repeat(100_000))]).contains("recursion"));
    let template = |text: &str| failure(&[CHART, ("templates/a.yaml", text)]);
    for endless in [
        "{{ range 1000000000 }}{{ end }}",
        "{{ $x := \"0123456789\" }}{{ range 60 }}{{ $x = print $x $x }}{{ end }}",
        "{{ $x := list 1 }}{{ range 60 }}{{ $x = list $x $x }}{{ end }}{{ $x }}",
        "{{ $x := list 1 }}{{ range 60 }}{{ $x = concat $x $x }}{{ end }}",
        "{{ define \"x\" }}{{ template \"x\" }}{{ end }}{{ template \"x\" }}",
        "{{ $x := repeat 3000000 \"a\" }}{{ $y := replace \"a\" $x $x }}",
        "{{ $x := repeat 3000000 \"a\" }}{{ $y := regexReplaceAll \"a\" $x $x }}",
        "{{ $x := repeat 100000 \"%999999d\" }}{{ $y := printf $x 1 }}",
        "{{ $x := repeat 30000000 \"a\" }}{{ $y := splitList \"\" $x }}",
    ] {
        let failure = template(endless);
        let bounds = ["too many steps", "output grows", "too large", "template depth"];
        assert!(
            bounds.iter().any(|bound| failure.contains(bound)),
            "{endless}: {failure}"
        );
    }
    let circle = "{{ $d := dict }}{{ $_ := set $d \"d\" $d }}{{ toYaml $d }}x: {{ $d }}";
    assert!(!template(circle).is_empty());
}

#[test]
fn a_chart_mixes_both_engines_with_hooks_definitions_and_notes() {
    let found = output(&[
        CHART,
        ("values.yaml", "replicas: 2\nlabels: {tier: web}\n"),
        (
            "crds/d.yaml",
            "\napiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: ds.x.y}\n",
        ),
        (
            "templates/go.yaml",
            "{{- if .Values.replicas }}\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Release.Name }}-go}\ndata: {n: {{ .Values.replicas | quote }}}\n{{- end }}\n",
        ),
        ("templates/_labels.hbs", "app: {{Release.Name}}\n{{Values.labels}}\n"),
        (
            "templates/hbs.yaml.hbs",
            "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: {{Release.Name}}\n  labels:\n    {{> labels}}\nspec:\n  replicas: {{Values.replicas}}\n",
        ),
        (
            "templates/hook.yaml",
            "apiVersion: batch/v1\nkind: Job\nmetadata: {name: j, annotations: {helm.sh/hook: pre-install, helm.sh/hook-weight: '3', helm.sh/hook-delete-policy: hook-succeeded}}\n",
        ),
        ("templates/NOTES.txt.hbs", "{{Release.Name}} runs {{Values.replicas}}"),
        ("charts/s/Chart.yaml", "apiVersion: v2\nname: s\nversion: 1.0.0\n"),
        ("charts/s/values.yaml", "own: 7\n"),
        (
            "charts/s/templates/x.hbs",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: s, labels: { {{> labels}} }}\ndata: {n: \"{{Values.own}}\"}\n",
        ),
        ("charts/s/templates/_labels.hbs", "chart: {{Chart.Name}}"),
    ]);
    let wanted = [
        ("CustomResourceDefinition/ds.x.y", "crds/d.yaml", Some(2)),
        ("ConfigMap/shop-go", "templates/go.yaml", None),
        ("ConfigMap/s", "charts/s/templates/x.hbs", Some(1)),
        ("Deployment/shop", "templates/hbs.yaml.hbs", Some(1)),
    ];
    let wanted: Vec<_> = wanted
        .map(|(name, file, line)| (name.to_owned(), file.to_owned(), line))
        .into();
    assert_eq!(places(&found), wanted);
    assert_eq!(
        found.objects[3].object["metadata"]["labels"],
        json!({"app": "shop", "tier": "web"})
    );
    assert_eq!(found.objects[3].object["spec"]["replicas"], json!(2));
    assert_eq!(found.objects[2].object["metadata"]["labels"], json!({"chart": "s"}));
    assert_eq!(
        (found.hooks[0].weight, found.hooks[0].events[0].as_str()),
        (3, "pre-install")
    );
    assert_eq!(found.notes, "shop runs 2");
}

#[test]
fn errors_of_go_templates_name_file_line_and_column() {
    let fails = |text: &str| {
        run(&job(&[
            CHART,
            ("templates/_h.tpl", "{{ define \"h\" }}\n{{ .Values.a.b.c }}{{ end }}"),
            ("templates/a.yaml", text),
        ]))
        .unwrap_err()
    };
    let failure = fails("\n{{ fail \"no way\" }}");
    assert_eq!(failure.to_string(), "templates/a.yaml:2:4: no way");
    let failure = fails("{{ nope }}");
    assert_eq!(failure.to_string(), "templates/a.yaml:1: function \"nope\" not defined");
    let failure = fails("x: {{ include \"h\" . }}");
    assert_eq!(
        failure.to_string(),
        "templates/_h.tpl:2:11: nil pointer evaluating interface {}.b, at <.Values.a.b.c>\n  from templates/a.yaml:1:7 <include \"h\" .>"
    );
    let failure = fails("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: x\n   labels: {}\n");
    assert_eq!(failure.file.as_deref(), Some("templates/a.yaml"));
    assert!(failure.message.contains(">    5 |    labels: {}"), "{failure}");
    let failure = fails("kind: ConfigMap\n");
    assert_eq!(
        failure.to_string(),
        "templates/a.yaml: document 1 (ConfigMap) has no apiVersion"
    );
}

#[test]
fn values_come_from_defaults_then_files_then_what_is_set() {
    let mut job = job(&[
        CHART,
        (
            "values.yaml",
            "a: 1\nb: {c: 1, d: 1}\ne: 12345678901234567\nlist: [1, 2]\n",
        ),
        ("templates/x.hbs", &format!("{MAP}data: {{{{Values}}}}\n")),
        (
            "templates/y.yaml",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: go}\ndata: {a: {{ kindOf .Values.a }}, c: {{ kindOf .Values.b.c }}}\n",
        ),
    ]);
    job.values = vec![
        ValuesFile {
            name: "one.yaml".to_owned(),
            text: "b: {d: 2}\nf: x\n".to_owned(),
        },
        ValuesFile {
            name: "two.yaml".to_owned(),
            text: "f: z\n".to_owned(),
        },
    ];
    job.set = json!({"b.c": 3, "g": {"h": "i.j"}, "list[1]": 5})
        .as_object()
        .unwrap()
        .clone();
    let found = run(&job).unwrap();
    assert_eq!(
        found.objects[1].object["data"],
        json!({"a": 1, "b": {"c": 3, "d": 2}, "e": 12_345_678_901_234_567_i64, "f": "z", "g": {"h": "i.j"}, "list": [null, 5], "global": {}})
            .as_object()
            .map(|map| map.iter().filter(|(key, _)| *key != "global").map(|(k, v)| (k.clone(), v.clone())).collect::<Value>())
            .unwrap()
    );
    assert_eq!(found.objects[0].object["data"], json!({"a": "float64", "c": "int64"}));
    job.values[1].text = "f: y\n  g: [\n".to_owned();
    let failure = run(&job).unwrap_err();
    assert_eq!(
        (failure.file.as_deref(), failure.line),
        (Some("two.yaml"), Some(2)),
        "{failure}"
    );
    job.values.clear();
    job.files.insert("values.yaml".to_owned(), b"a:\n\t- b".to_vec());
    let failure = run(&job).unwrap_err();
    assert_eq!(
        (failure.file.as_deref(), failure.line),
        (Some("values.yaml"), Some(2)),
        "{failure}"
    );
}

#[test]
fn the_same_job_gives_the_same_output_and_goes_over_a_wire() {
    let mut job = job(&[
        CHART,
        (
            "templates/x.yaml",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {p: {{ randAlphaNum 20 }}, t: {{ now | date \"2006\" | quote }}}\n",
        ),
        (
            "templates/y.hbs",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: z}\ndata: {p: {{randAlphaNum 20}}, u: {{uuidv4}}}\n",
        ),
    ]);
    job.files.insert("logo.png".to_owned(), vec![0xff, 0, 1]);
    job.seed = [9; 32];
    let first = run(&job).unwrap();
    let sent: Job = serde_json::from_slice(&serde_json::to_vec(&job).unwrap()).unwrap();
    assert_eq!(sent, job);
    let again = run(&sent).unwrap();
    assert_eq!(first, again);
    let back: Output = serde_json::from_slice(&serde_json::to_vec(&again).unwrap()).unwrap();
    assert_eq!(back, again);
    job.seed = [8; 32];
    assert_ne!(run(&job).unwrap(), first);
}

#[test]
fn certificates_verify_and_are_the_same_for_the_same_seed() {
    let template = "{{ $ca := genCA \"ca\" 365 }}{{ $cert := genSignedCert \"web\" (list \"10.0.0.1\") (list \"web.prod.svc\") 30 $ca }}apiVersion: v1\nkind: Secret\nmetadata: {name: tls}\nstringData:\n  ca: {{ $ca.Cert | toJson }}\n  cert: {{ $cert.Cert | toJson }}\n  key: {{ $cert.Key | toJson }}\n";
    let mut job = job(&[CHART, ("templates/x.yaml", template)]);
    job.now = 1_700_000_000;
    let first = run(&job).unwrap();
    job.now += 3600;
    assert_eq!(run(&job).unwrap(), first);
    let pem = |key: &str| first.objects[0].object["stringData"][key].as_str().unwrap().to_owned();
    let parse = |text: &str| x509_parser::pem::parse_x509_pem(text.as_bytes()).unwrap().1;
    let (authority, certificate) = (parse(&pem("ca")), parse(&pem("cert")));
    let (authority, certificate) = (authority.parse_x509().unwrap(), certificate.parse_x509().unwrap());
    certificate.verify_signature(Some(authority.public_key())).unwrap();
    assert_eq!(certificate.issuer(), authority.subject());
    assert!(authority.is_ca() && !certificate.is_ca());
    let names = certificate
        .subject_alternative_name()
        .unwrap()
        .unwrap()
        .value
        .general_names
        .len();
    assert_eq!(names, 2);
    let (from, until) = (
        certificate.validity().not_before.timestamp(),
        certificate.validity().not_after.timestamp(),
    );
    assert!(from <= 1_700_000_000 && until >= 1_700_000_000 + 30 * 86_400);
    assert!(pem("key").starts_with("-----BEGIN PRIVATE KEY-----\n"));
}

#[test]
fn a_packed_chart_within_a_chart_renders() {
    let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for (path, text) in [
        ("s/Chart.yaml", "apiVersion: v2\nname: s\nversion: 1.0.0\n"),
        ("s/templates/x.yaml", MAP),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_cksum();
        archive.append_data(&mut header, path, text.as_bytes()).unwrap();
    }
    let packed = archive.into_inner().unwrap().finish().unwrap();
    let mut job = job(&[CHART]);
    job.files.insert("charts/s-1.0.0.tgz".to_owned(), packed);
    assert_eq!(
        places(&run(&job).unwrap()),
        [("ConfigMap/a".to_owned(), "charts/s/templates/x.yaml".to_owned(), None)]
    );
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Renders a folder of the repository.
fn shipped(path: &str, values: &[(&str, Value)]) -> Result<Output, Failure> {
    let mut job = job(&[]);
    job.files = Folder(root().join(path)).files().unwrap();
    job.set = values
        .iter()
        .map(|(key, value)| ((*key).to_owned(), value.clone()))
        .collect();
    run(&job)
}

#[test]
fn the_charts_that_are_shipped_render() {
    for (path, name) in [
        ("charts/demo", "shop"),
        ("charts/web", "shop"),
        ("examples/quickstart/charts/hello", "shop"),
        ("examples/quickstart/charts/web", "shop"),
    ] {
        let found = shipped(path, &[("replicas", json!(4))]).unwrap_or_else(|failure| panic!("{path}: {failure}"));
        let deployment = found
            .objects
            .iter()
            .find(|found| found.object["kind"] == "Deployment")
            .unwrap();
        assert_eq!(deployment.object["spec"]["replicas"], json!(4), "{path}");
        assert_eq!(deployment.object["metadata"]["name"], json!(name), "{path}");
        let container = &deployment.object["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["image"], json!("setpoint.dev/demo:v1"), "{path}");
        let service = found
            .objects
            .iter()
            .find(|found| found.object["kind"] == "Service")
            .unwrap();
        assert_eq!(
            service.object["spec"]["selector"], deployment.object["spec"]["selector"]["matchLabels"],
            "{path}"
        );
        assert!(found.warnings.is_empty(), "{path}: {:?}", found.warnings);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_files_make_it_panic(files in prop::collection::btree_map(
        "(Chart\\.yaml|values\\.yaml|templates/[a-c]\\.(yaml|hbs)|[a-c]\\.(yaml|json|hbs)|charts/s/Chart\\.yaml|charts/x\\.tgz)",
        "[{}\\[\\]:\\-&*!#%|>'\" \\n.a-c0-9]{0,40}", 1..5)) {
        let files: BTreeMap<String, Vec<u8>> = files.into_iter().map(|(path, text)| (path, text.into_bytes())).collect();
        let job = Job { files, ..job(&[]) };
        if let Err(failure) = run(&job) {
            prop_assert!(!failure.message.is_empty() && !failure.message.contains("rendering template failed"));
        }
    }
}
