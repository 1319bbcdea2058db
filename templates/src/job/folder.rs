//! A plain folder: every file of YAML or JSON below it holds objects, and those that end in `.hbs` are rendered first.

use serde_json::Value;

use super::chart::{add_objects, options};
use super::objects::{Collector, Document, at, fault};
use super::values::Values;
use super::{Failure, Job, Output};
use crate::chart::{capabilities, exact_values, merge_maps, release};
use crate::handlebars::{Renderer, Templates, is_partial};
use crate::value::{Entries, Str, from_json};

/// Renders the plain folder that the job's files are.
pub(super) fn render(job: &Job, values: Values) -> Result<Output, Failure> {
    let mut collector = Collector::new(job, false);
    let mut templates = Templates::default();
    let mut handlebars = Vec::new();
    for (path, data) in &job.files {
        let name = path.rsplit('/').next().unwrap_or(path);
        if path.split('/').any(|part| part.starts_with('.')) || matches!(path.as_str(), "values.yaml" | "values.yml") {
            continue;
        }
        if name == "Chart.yaml" {
            let words = "this is a chart within a plain folder: make the chart an app of its own, or move it elsewhere";
            return Err(fault(path, None, words));
        }
        let (plain, is_template) = name.strip_suffix(".hbs").map_or((name, false), |plain| (plain, true));
        let is_json = plain.ends_with(".json");
        let holds_objects = is_json || plain.ends_with(".yaml") || plain.ends_with(".yml");
        let holds_objects = holds_objects || is_template && !plain.contains('.');
        if !holds_objects {
            continue;
        }
        let Ok(text) = std::str::from_utf8(data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(data)) else {
            return Err(fault(path, None, "this is no text in UTF-8"));
        };
        if is_template {
            templates.add("", path, text)?;
            handlebars.push(path);
        } else if is_json {
            add_json(&mut collector, path, text)?;
        } else {
            collector.add_text(path, text, false)?;
        }
    }
    let scope = scope(job, values)?;
    let mut renderer = Renderer::new(&templates, job.seed, job.now);
    for path in handlebars.into_iter().filter(|path| !is_partial(path)) {
        add_objects(&mut collector, renderer.objects(path, &scope)?)?;
    }
    if collector.is_empty() {
        return Err(Failure {
            message: "there is no object in the app's folder: it holds no *.yaml, *.yml, *.json or *.hbs with one"
                .to_owned(),
            ..Failure::default()
        });
    }
    Ok(collector.finish(String::new()))
}

/// Gives what handlebars sees here: as in a chart, without the chart.
fn scope(job: &Job, values: Values) -> Result<crate::value::Value, Failure> {
    let mut defaults = serde_json::Map::new();
    for path in ["values.yaml", "values.yml"] {
        if let Some(data) = job.files.get(path) {
            let text = String::from_utf8_lossy(data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(data));
            defaults = merge_maps(defaults, exact_values(&text).map_err(|error| at(path, error))?);
        }
    }
    let values = merge_maps(defaults, values.exact);
    let options = options(job, serde_json::Map::new());
    Ok(crate::value::Value::map(Entries::from([
        (Str::from("Values"), from_json(&Value::Object(values))),
        (Str::from("Release"), release(&options)),
        (Str::from("Capabilities"), capabilities(&job.capabilities)),
    ])))
}

/// Takes the objects of a file of JSON, one after the other.
fn add_json(collector: &mut Collector<'_>, file: &str, text: &str) -> Result<(), Failure> {
    let mut documents = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let mut number = 0;
    let (mut passed, mut line) = (0, 1usize);
    loop {
        let rest = &text[documents.byte_offset()..];
        let start = text.len() - rest.trim_start().len();
        line += text[passed..start].matches('\n').count();
        passed = start;
        let Some(value) = documents.next() else {
            return Ok(());
        };
        let value = value.map_err(|error| Failure {
            message: error
                .to_string()
                .split(" at line ")
                .next()
                .unwrap_or_default()
                .to_owned(),
            file: Some(file.to_owned()),
            line: u32::try_from(error.line()).ok(),
            column: u32::try_from(error.column()).ok(),
            chain: Vec::new(),
        })?;
        number += 1;
        let document = Document {
            value,
            file: file.to_owned(),
            line: u32::try_from(line).ok(),
            items: Vec::new(),
        };
        collector.add(document, number, false)?;
    }
}
