//! Charts to manifests.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use serde_json::{Map as Json, Value as JsonValue};

use super::coalesce::coalesce_values;
use super::dependencies;
use super::load::Chart;
use super::manifests::{Hook, Manifest, sort};
use super::schema;
use crate::functions::Random;
use crate::gotemplate::exec::{Exec, Failure, Host, Limits, Lookup, Set};
use crate::gotemplate::parse::parse;
use crate::value::{DateTime, Entries, ListKind, Map, MapKind, Object, Str, Value, from_json};

/// What the cluster can do.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Capabilities {
    /// Its version, such as `v1.37.0`.
    pub kube_version: String,
    /// The API versions and kinds that it serves, such as `apps/v1` and `apps/v1/Deployment`.
    pub api_versions: Vec<String>,
}

/// What a plain cluster of today can do, for rendering without one.
impl Default for Capabilities {
    fn default() -> Self {
        let versions = [
            "v1",
            "admissionregistration.k8s.io/v1",
            "apiextensions.k8s.io/v1",
            "apiregistration.k8s.io/v1",
            "apps/v1",
            "authentication.k8s.io/v1",
            "authorization.k8s.io/v1",
            "autoscaling/v1",
            "autoscaling/v2",
            "batch/v1",
            "certificates.k8s.io/v1",
            "coordination.k8s.io/v1",
            "discovery.k8s.io/v1",
            "events.k8s.io/v1",
            "networking.k8s.io/v1",
            "node.k8s.io/v1",
            "policy/v1",
            "rbac.authorization.k8s.io/v1",
            "scheduling.k8s.io/v1",
            "storage.k8s.io/v1",
        ];
        Self {
            kube_version: "v1.37.0".to_owned(),
            api_versions: versions.map(str::to_owned).into(),
        }
    }
}

/// What rendering depends on besides the chart.
pub struct RenderOptions<'a> {
    /// The release's name.
    pub name: String,
    /// The release's namespace.
    pub namespace: String,
    /// The release's number, from 1.
    pub revision: i64,
    /// Whether this is the first installation.
    pub is_install: bool,
    /// The values given; numbers that are integers count as `int64`, others as `float64`.
    pub values: Json<String, JsonValue>,
    /// What the cluster can do.
    pub capabilities: Capabilities,
    /// What random functions draw from.
    pub seed: [u8; 32],
    /// The time that `now` gives, in seconds since 1970.
    pub now: i64,
    /// Reads live objects: version, kind, namespace, name. Without it `lookup` finds nothing.
    pub lookup: Option<Lookup<'a>>,
}

/// What a chart renders to.
#[derive(Clone, Debug, Default)]
pub struct Rendered {
    /// What stands, in the order of installation.
    pub manifests: Vec<Manifest>,
    /// What runs at events.
    pub hooks: Vec<Hook>,
    /// What the chart tells whoever installs it.
    pub notes: String,
}

/// Why a chart does not render. The words are Helm's.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// A library cannot be installed.
    #[error("library charts are not installable")]
    Library,
    /// Dependencies are declared but not carried.
    #[error(
        "an error occurred while checking for chart dependencies. You may need to run 'helm dependency build' to fetch missing dependencies: found in Chart.yaml, but missing in charts/ directory: {}", .0.join(", ")
    )]
    MissingDependencies(Vec<String>),
    /// The chart needs another version of Kubernetes.
    #[error("chart requires kubeVersion: {constraint} which is incompatible with Kubernetes {version}")]
    KubeVersion {
        /// What the chart asks for.
        constraint: String,
        /// What there is.
        version: String,
    },
    /// A template is wrong.
    #[error("{words}")]
    Template {
        /// What is wrong, as Helm shows it.
        words: String,
        /// Where, the outermost template first.
        trace: Vec<Place>,
    },
    /// Values or what templates give are wrong.
    #[error("{0}")]
    Invalid(String),
}

/// A place in a template that was at work when something went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, by its path from the chart's name on.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1, where it is known.
    pub column: Option<u32>,
    /// What was being evaluated.
    pub context: String,
    /// What was wrong with it, with what was called by it.
    pub cause: String,
}

/// Renders a chart.
///
/// # Errors
/// What Helm refuses too.
pub fn render(chart: &Chart, options: &RenderOptions<'_>) -> Result<Rendered, RenderError> {
    crate::stack::run(|| render_here(chart, options)).unwrap_or_else(|words| Err(RenderError::Invalid(words)))
}

/// A chart and its values, ready to be rendered: dependencies are switched, defaults laid under what was given.
pub(crate) struct Prepared {
    chart: Chart,
    values: Json<String, JsonValue>,
    /// Words on the schemas of values that could not be used.
    pub(crate) unused_schemas: Vec<String>,
}

/// Readies a chart.
pub(crate) fn prepare(chart: &Chart, options: &RenderOptions<'_>) -> Result<Prepared, RenderError> {
    if chart.metadata.kind.eq_ignore_ascii_case("library") {
        return Err(RenderError::Library);
    }
    let missing: Vec<String> = chart
        .metadata
        .dependencies
        .iter()
        .filter(|wanted| !chart.dependencies.iter().any(|carried| carried.name() == wanted.name))
        .map(|wanted| wanted.name.clone())
        .collect();
    if !missing.is_empty() {
        return Err(RenderError::MissingDependencies(missing));
    }
    let mut chart = chart.clone();
    dependencies::process(&mut chart, &options.values).map_err(RenderError::Invalid)?;
    let values = coalesce_values(&chart, &options.values).map_err(RenderError::Invalid)?;
    let unused_schemas = schema::check(&chart, &values).map_err(RenderError::Invalid)?;
    let version = &options.capabilities.kube_version;
    if !chart.metadata.kube_version.is_empty()
        && !dependencies::compatible(&chart.metadata.kube_version, &normalized(version))
    {
        return Err(RenderError::KubeVersion {
            constraint: chart.metadata.kube_version.clone(),
            version: version.clone(),
        });
    }
    Ok(Prepared {
        chart,
        values,
        unused_schemas,
    })
}

fn render_here(chart: &Chart, options: &RenderOptions<'_>) -> Result<Rendered, RenderError> {
    let prepared = prepare(chart, options)?;
    let files = execute(&prepared, options, Limits::default())?;
    let chart = &prepared.chart;
    let mut rendered = Rendered::default();
    let own_notes = format!("{}/templates/NOTES.txt", chart.name());
    let mut texts = Vec::new();
    for (path, text) in files {
        if path.ends_with("NOTES.txt") {
            if path == own_notes {
                rendered.notes = text;
            }
            continue;
        }
        texts.push((path, text));
    }
    (rendered.manifests, rendered.hooks) = sort(texts).map_err(RenderError::Invalid)?;
    Ok(rendered)
}

/// Cuts what follows the three numbers of a version.
fn normalized(version: &str) -> String {
    version.split(['-', '+']).next().unwrap_or(version).to_owned()
}

/// A template and what it sees.
pub(crate) struct Source {
    /// Its text.
    pub(crate) text: String,
    /// What `.` is to it.
    pub(crate) scope: Map,
    /// The folder of its chart's templates.
    pub(crate) base: String,
}

/// Gives the templates of a chart and of what it carries, by their paths: those of Go, or those of handlebars.
pub(crate) fn sources(prepared: &Prepared, options: &RenderOptions<'_>, handlebars: bool) -> HashMap<String, Source> {
    let mut sources = HashMap::new();
    let values = match from_json(&JsonValue::Object(prepared.values.clone())) {
        Value::Map(map) => map.as_kind(MapKind::Values),
        _ => Map::with_kind(MapKind::Values, Entries::new()),
    };
    collect(
        &prepared.chart,
        prepared.chart.name(),
        true,
        &values,
        &release(options),
        &capabilities(&options.capabilities),
        &mut sources,
    );
    sources.retain(|name: &String, _| name.ends_with(".hbs") == handlebars);
    sources
}

/// Executes the Go templates of a chart: what each file becomes, by its path.
pub(crate) fn execute(
    prepared: &Prepared,
    options: &RenderOptions<'_>,
    limits: Limits,
) -> Result<BTreeMap<String, String>, RenderError> {
    let sources = sources(prepared, options, false);
    let mut names: Vec<&String> = sources.keys().collect();
    names.sort_by(|a, b| (b.matches('/').count(), b.as_str()).cmp(&(a.matches('/').count(), a.as_str())));
    let mut set = Set::default();
    for name in &names {
        let parsed = parse(name, &sources[*name].text, &|function| {
            crate::functions::find(function).is_some()
        })
        .map_err(|words| {
            let trace = trace([words.clone()].into_iter());
            RenderError::Template {
                words: clean_parse_error(name, &words),
                trace,
            }
        })?;
        set.add(parsed);
    }
    let host = Host {
        now: DateTime::utc(options.now, 0),
        random: Random::new(options.seed),
        lookup: options.lookup,
    };
    let mut exec = Exec::new(Rc::new(set), host, limits);
    let mut rendered = BTreeMap::new();
    for name in names {
        if name.rsplit('/').next().is_some_and(|base| base.starts_with('_')) {
            continue;
        }
        let source = &sources[name];
        let template = Entries::from([
            (Str::from("Name"), Value::from(name.as_str())),
            (Str::from("BasePath"), Value::from(source.base.as_str())),
        ]);
        source.scope.insert(
            Str::from("Template"),
            Value::Map(Map::with_kind(MapKind::Values, template)),
        );
        let out = exec
            .execute(name, Value::Map(source.scope.clone()))
            .map_err(|failure| RenderError::Template {
                words: exec_error(name, &failure),
                trace: trace(failure.chain()),
            })?;
        rendered.insert(name.clone(), String::from_utf8_lossy(&out).replace("<no value>", ""));
    }
    Ok(rendered)
}

fn collect(
    chart: &Chart,
    path: &str,
    is_root: bool,
    values: &Map,
    release: &Value,
    capabilities: &Value,
    sources: &mut HashMap<String, Source>,
) -> Value {
    let subcharts = Map::new(Entries::new());
    let files: Entries = chart
        .files
        .iter()
        .map(|(name, data)| (Str::from(name.as_str()), Value::Bytes(Str::from(&data[..]))))
        .collect();
    let top = Map::with_kind(
        MapKind::Any,
        Entries::from([
            (Str::from("Chart"), metadata(chart, is_root)),
            (Str::from("Files"), Value::Map(Map::with_kind(MapKind::Files, files))),
            (Str::from("Release"), release.clone()),
            (Str::from("Capabilities"), capabilities.clone()),
            (Str::from("Values"), Value::Map(values.clone())),
            (Str::from("Subcharts"), Value::Map(subcharts.clone())),
        ]),
    );
    for dependency in &chart.dependencies {
        let inner = match values.get(dependency.name().as_bytes()) {
            Some(Value::Map(map)) => map.as_kind(MapKind::Values),
            _ => Map::with_kind(MapKind::Values, Entries::new()),
        };
        let path = format!("{path}/charts/{}", dependency.name());
        let scope = collect(dependency, &path, false, &inner, release, capabilities, sources);
        subcharts.insert(Str::from(dependency.name()), scope);
    }
    let library = chart.metadata.kind.eq_ignore_ascii_case("library");
    for (name, data) in &chart.templates {
        let base = name.rsplit('/').next().unwrap_or(name);
        if library && !base.starts_with('_') {
            continue;
        }
        let source = Source {
            text: String::from_utf8_lossy(data).into_owned(),
            scope: top.as_kind(MapKind::Values),
            base: format!("{path}/templates"),
        };
        sources.insert(format!("{path}/{name}"), source);
    }
    Value::Map(top)
}

pub(crate) fn release(options: &RenderOptions<'_>) -> Value {
    Value::map(Entries::from([
        (Str::from("Name"), Value::from(options.name.as_str())),
        (Str::from("Namespace"), Value::from(options.namespace.as_str())),
        (Str::from("IsUpgrade"), Value::Bool(!options.is_install)),
        (Str::from("IsInstall"), Value::Bool(options.is_install)),
        (Str::from("Revision"), Value::int(options.revision)),
        (Str::from("Service"), Value::from("Helm")),
    ]))
}

pub(crate) fn capabilities(capabilities: &Capabilities) -> Value {
    let version = capabilities.kube_version.as_str();
    let plain = normalized(version);
    let mut numbers = plain.trim_start_matches('v').split('.');
    let kube = Value::Object(Rc::new(Object {
        type_name: "common.KubeVersion",
        fields: vec![
            ("Version", "Version", Value::from(version)),
            ("Major", "Major", Value::from(numbers.next().unwrap_or("1"))),
            ("Minor", "Minor", Value::from(numbers.next().unwrap_or("0"))),
        ],
        methods: vec![
            ("GitVersion", Value::from(version)),
            ("String", Value::from(plain.as_str())),
        ],
        text: Some(plain.clone()),
    }));
    let helm = Value::Object(Rc::new(Object {
        type_name: "version.BuildInfo",
        fields: vec![
            ("Version", "version", Value::from("v4.3.1")),
            ("GitCommit", "git_commit", Value::from("")),
            ("GitTreeState", "git_tree_state", Value::from("clean")),
            ("GoVersion", "go_version", Value::from("go1.27.2")),
            ("KubeClientVersion", "kube_client_version", Value::from("v1.37")),
        ],
        methods: Vec::new(),
        text: None,
    }));
    let versions = capabilities
        .api_versions
        .iter()
        .map(|version| Value::from(version.as_str()))
        .collect();
    Value::Object(Rc::new(Object {
        type_name: "*common.Capabilities",
        fields: vec![
            ("KubeVersion", "KubeVersion", kube),
            (
                "APIVersions",
                "APIVersions",
                Value::typed_list(ListKind::Versions, versions),
            ),
            ("HelmVersion", "HelmVersion", helm),
        ],
        methods: Vec::new(),
        text: None,
    }))
}

fn metadata(chart: &Chart, is_root: bool) -> Value {
    let m = &chart.metadata;
    let texts = |items: &[String]| Value::list(items.iter().map(|item| Value::from(item.as_str())).collect());
    let map = |entries: Vec<(&str, Value)>| {
        Value::map(
            entries
                .into_iter()
                .map(|(key, value)| (Str::from(key), value))
                .collect(),
        )
    };
    let annotations: Entries = m
        .annotations
        .iter()
        .map(|(key, value)| (Str::from(key.as_str()), Value::from(value.as_str().unwrap_or_default())))
        .collect();
    map(vec![
        ("Name", Value::from(m.name.as_str())),
        ("Home", Value::from(m.home.as_str())),
        ("Sources", texts(&m.sources)),
        ("Version", Value::from(m.version.as_str())),
        ("Description", Value::from(m.description.as_str())),
        ("Keywords", texts(&m.keywords)),
        (
            "Maintainers",
            Value::list(
                m.maintainers
                    .iter()
                    .map(|person| {
                        map(vec![
                            ("Name", Value::from(person.name.as_str())),
                            ("Email", Value::from(person.email.as_str())),
                            ("URL", Value::from(person.url.as_str())),
                        ])
                    })
                    .collect(),
            ),
        ),
        ("Icon", Value::from(m.icon.as_str())),
        ("APIVersion", Value::from(m.api_version.as_str())),
        ("Condition", Value::from(m.condition.as_str())),
        ("Tags", Value::from(m.tags.as_str())),
        ("AppVersion", Value::from(m.app_version.as_str())),
        ("Deprecated", Value::Bool(m.deprecated)),
        ("Annotations", Value::Map(Map::with_kind(MapKind::Strings, annotations))),
        ("KubeVersion", Value::from(m.kube_version.as_str())),
        (
            "Dependencies",
            Value::list(
                m.dependencies
                    .iter()
                    .map(|d| {
                        map(vec![
                            ("Name", Value::from(d.name.as_str())),
                            ("Version", Value::from(d.version.as_str())),
                            ("Repository", Value::from(d.repository.as_str())),
                            ("Condition", Value::from(d.condition.as_str())),
                            ("Tags", texts(&d.tags)),
                            ("Enabled", Value::Bool(d.enabled)),
                            (
                                "ImportValues",
                                Value::list(d.import_values.iter().map(from_json).collect()),
                            ),
                            ("Alias", Value::from(d.alias.as_str())),
                        ])
                    })
                    .collect(),
            ),
        ),
        ("Type", Value::from(m.kind.as_str())),
        ("IsRoot", Value::Bool(is_root)),
    ])
}

/// Words an error of the grammar as Helm does.
fn clean_parse_error(name: &str, words: &str) -> String {
    let tokens: Vec<&str> = words.split(": ").collect();
    match tokens.as_slice() {
        [_, location, .., last] => format!("parse error at ({location}): {last}"),
        _ => format!("parse error in ({name}): {words}"),
    }
}

/// Words an error of an execution as Helm does: the chain of places, or the chart's own words.
fn exec_error(name: &str, failure: &Failure) -> String {
    let whole = failure.to_string();
    let mut tokens = whole.splitn(3, ": ");
    let (Some(_), Some(location), Some(rest)) = (tokens.next(), tokens.next(), tokens.next()) else {
        return format!("execution error in ({name}): {whole}");
    };
    if let (Some(start), Some(end)) = (rest.find("HELM_ERR_START"), rest.rfind("HELM_ERR_END"))
        && start + 14 <= end
    {
        return format!("execution error at ({location}): {}", &rest[start + 14..end]);
    }
    let mut places: Vec<String> = Vec::new();
    for text in failure.chain() {
        let Some(place) = traced(&text) else { return whole };
        if places.last() != Some(&place) {
            places.push(place);
        }
    }
    places.concat().trim().to_owned()
}

/// Takes the texts of a chain, the outermost first, apart.
fn trace(texts: impl Iterator<Item = String>) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    for text in texts {
        let Some(rest) = text.strip_prefix("template: ") else {
            continue;
        };
        let (location, context, cause) = match rest.split_once(": executing ") {
            Some((location, after)) => match after.split_once(" at <").and_then(|(_, at)| at.split_once(">: ")) {
                Some((context, cause)) => (location, context, cause),
                None => continue,
            },
            None => match rest.split_once(": ") {
                Some((location, cause)) => (location, "", cause),
                None => continue,
            },
        };
        let mut parts = location.split(':');
        let (Some(file), Some(Ok(line))) = (parts.next(), parts.next().map(str::parse)) else {
            continue;
        };
        let place = Place {
            file: file.to_owned(),
            line,
            column: parts
                .next()
                .and_then(|column| column.parse().ok())
                .map(|column: u32| column + 1),
            context: context.to_owned(),
            cause: cause.replace("HELM_ERR_START", "").replace("HELM_ERR_END", ""),
        };
        if places.last() != Some(&place) {
            places.push(place);
        }
    }
    places
}

fn traced(text: &str) -> Option<String> {
    let rest = text.strip_prefix("template: ")?;
    let cut = |words: &str| words.split(" template:").next().unwrap_or_default().to_owned();
    if rest.starts_with("no template ") {
        return Some(format!("{text}\n"));
    }
    if let Some((location, after)) = rest.split_once(": executing ") {
        let function = after.strip_prefix('"')?.split('"').next()?;
        let after = after.get(function.len() + 2..)?.strip_prefix(" at <")?;
        let (context, words) = after.split_once(">: ")?;
        let words = cut(words);
        let words = if words.is_empty() {
            String::new()
        } else {
            format!("{words}\n")
        };
        return Some(format!(
            "{location}\n  executing \"{function}\" at <{context}>:\n    {words}"
        ));
    }
    let (location, words) = rest.rsplit_once(": ")?;
    Some(format!("{location}\n  {}\n", cut(words)))
}
