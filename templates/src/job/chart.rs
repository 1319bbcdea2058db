//! A folder with a `Chart.yaml`: its Go templates and its handlebars, with what it carries.

use serde_json::{Map, Value};

use super::objects::{Collector, Document, at, fault};
use super::values::Values;
use super::{Failure, Job, Output};
use crate::chart::{
    Chart, MemoryFiles, Place, RenderError, RenderOptions, Source, exact_values, execute, prepare, sources, split,
};
use crate::gotemplate::exec::Limits;
use crate::handlebars::{self, Renderer, Templates};
use crate::yaml::node::parse;

/// What the Go templates of a job may cost.
pub(super) const LIMITS: Limits = Limits {
    depth: 1000,
    steps: 3_000_000,
    output: 256 << 20,
};

/// Renders the chart that the job's files are.
pub(super) fn render(job: &Job, values: Values) -> Result<Output, Failure> {
    check_values(job)?;
    let chart = Chart::load(&MemoryFiles(job.files.clone())).map_err(|error| failure_of(error.to_string()))?;
    let name = chart.name().to_owned();
    let mut collector = Collector::new(job, true);
    for (path, text) in chart.definitions() {
        collector.add_text(&local(&path, &name), &text, true)?;
    }
    let mut notes = String::new();
    let options = options(job, values.go);
    let prepared = prepare(&chart, &options).map_err(|error| worded(error, &name))?;
    for words in &prepared.unused_schemas {
        collector.warn(words.clone());
    }
    for (path, text) in execute(&prepared, &options, LIMITS).map_err(|error| worded(error, &name))? {
        if path.ends_with("NOTES.txt") {
            if path == format!("{name}/templates/NOTES.txt") {
                notes = text;
            }
            continue;
        }
        add_rendered(&mut collector, &local(&path, &name), &text)?;
    }
    if has_handlebars(&chart) {
        let options = RenderOptions {
            values: values.exact,
            ..options
        };
        if let Some(words) = render_handlebars(chart, &options, &mut collector)? {
            notes = words;
        }
    }
    if collector.is_empty() {
        collector.warn("the chart renders no object with these values".to_owned());
    }
    Ok(collector.finish(notes))
}

/// Says whether a chart, or one that it carries, has templates in handlebars.
fn has_handlebars(chart: &Chart) -> bool {
    chart.templates.keys().any(|path| path.ends_with(".hbs")) || chart.dependencies.iter().any(has_handlebars)
}

/// Renders the templates in handlebars; gives the notes where they are among them.
fn render_handlebars(
    chart: Chart,
    options: &RenderOptions<'_>,
    collector: &mut Collector<'_>,
) -> Result<Option<String>, Failure> {
    let name = chart.name().to_owned();
    let mut notes = None;
    let prepared = prepare(&chart.with_exact_values(), options).map_err(|error| worded(error, &name))?;
    let mut handlebars: Vec<(String, Source)> = sources(&prepared, options, true).into_iter().collect();
    handlebars.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut templates = Templates::default();
    for (path, source) in &handlebars {
        templates.add(&source.base, &local(path, &name), &source.text)?;
    }
    let mut renderer = Renderer::new(&templates, options.seed, options.now);
    for (path, source) in &handlebars {
        let file = local(path, &name);
        if handlebars::is_partial(&file) {
            continue;
        }
        let scope = crate::value::Value::Map(source.scope.clone());
        if file.ends_with("NOTES.txt.hbs") {
            if file == "templates/NOTES.txt.hbs" {
                notes = Some(renderer.text(&file, &scope)?);
            }
            continue;
        }
        add_objects(collector, renderer.objects(&file, &scope)?)?;
    }
    Ok(notes)
}

/// Takes what a handlebars template gives.
pub(super) fn add_objects(collector: &mut Collector<'_>, found: Vec<handlebars::Document>) -> Result<(), Failure> {
    for (index, document) in found.into_iter().enumerate() {
        let document = Document {
            value: document.value,
            file: document.file,
            line: Some(document.line),
            items: document.items,
        };
        collector.add(document, index + 1, false)?;
    }
    Ok(())
}

/// Gives what rendering depends on.
pub(super) fn options(job: &Job, values: Map<String, Value>) -> RenderOptions<'static> {
    RenderOptions {
        name: job.name.clone(),
        namespace: job.namespace.clone(),
        revision: job.revision,
        is_install: job.is_install,
        values,
        capabilities: job.capabilities.clone(),
        seed: job.seed,
        now: job.now,
        lookup: None,
    }
}

/// Reads the files of default values for their places: what loads charts has Helm's words, without them.
fn check_values(job: &Job) -> Result<(), Failure> {
    for (path, data) in &job.files {
        let charts = path.strip_suffix("values.yaml").filter(|folder| {
            let file = format!("{folder}Chart.yaml");
            (folder.is_empty() || folder.starts_with("charts/")) && job.files.contains_key(&file)
        });
        if charts.is_some() {
            let text = String::from_utf8_lossy(data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(data));
            exact_values(&text).map_err(|error| at(path, error))?;
        }
    }
    Ok(())
}

/// Cuts the chart's name off a path.
fn local(path: &str, name: &str) -> String {
    path.strip_prefix(name)
        .and_then(|path| path.strip_prefix('/'))
        .unwrap_or(path)
        .to_owned()
}

fn failure_of(message: String) -> Failure {
    Failure {
        message,
        file: Some("Chart.yaml".to_owned()),
        ..Failure::default()
    }
}

/// Takes an error of Go templates apart: the innermost place in a file is where to look.
fn worded(error: RenderError, name: &str) -> Failure {
    let RenderError::Template { words, trace } = error else {
        return failure_of(error.to_string());
    };
    // What `tpl` renders is in no file.
    let Some(at) = trace.iter().rposition(|place| place.file != "gotpl") else {
        return Failure {
            message: words,
            ..Failure::default()
        };
    };
    let place = &trace[at];
    let last = trace.last().unwrap_or(place);
    let cause = last.cause.trim();
    let is_own_words = words.starts_with("execution error at (");
    let message = if last.context.is_empty() || is_own_words {
        cause.split("error calling fail: ").last().unwrap_or(cause).to_owned()
    } else {
        format!("{cause}, at <{}>", last.context)
    };
    let shown = |place: &Place| match place.column {
        Some(column) => format!("{}:{}:{column}", local(&place.file, name), place.line),
        None => format!("{}:{}", local(&place.file, name), place.line),
    };
    Failure {
        message,
        file: Some(local(&place.file, name)),
        line: Some(place.line),
        column: place.column,
        chain: trace[..at]
            .iter()
            .rev()
            .map(|place| format!("{} <{}>", shown(place), place.context))
            .collect(),
    }
}

/// Takes the documents that a Go template has rendered.
fn add_rendered(collector: &mut Collector<'_>, file: &str, text: &str) -> Result<(), Failure> {
    let base = file.rsplit('/').next().unwrap_or(file);
    if base.starts_with('_') || text.trim().is_empty() {
        return Ok(());
    }
    let mut number = 0;
    let (mut passed, mut before) = (0, 0);
    for document in split(text) {
        let offset = document.as_ptr() as usize - text.as_ptr() as usize;
        before += text[passed..offset].matches('\n').count();
        passed = offset;
        let located = |error: crate::yaml::node::YamlError| {
            let line = before + error.line as usize;
            fault(
                file,
                None,
                format!(
                    "what this renders is no YAML: {}\n{}",
                    error.message,
                    excerpt(text, line)
                ),
            )
        };
        for node in parse(document).map_err(located)? {
            number += 1;
            let mut duplicates = Vec::new();
            let value = node.json(&mut duplicates).map_err(located)?;
            collector.warn_of(file, &duplicates, false);
            let document = Document {
                value,
                file: file.to_owned(),
                line: None,
                items: Vec::new(),
            };
            collector.add(document, number, false)?;
        }
    }
    Ok(())
}

/// Shows a line of rendered text and those before it.
fn excerpt(text: &str, line: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let line = line.min(lines.len()).max(1);
    let shown: Vec<String> = (line.saturating_sub(2).max(1)..=line)
        .filter_map(|number| {
            let mark = if number == line { '>' } else { ' ' };
            let content: String = lines.get(number - 1)?.chars().take(160).collect();
            Some(format!("  {mark} {number:>4} | {content}"))
        })
        .collect();
    format!("  rendered line {line}:\n{}", shown.join("\n"))
}
