//! Values checked against `values.schema.json`, of a chart and of what it carries.
//!
//! A schema may refer to itself only: nothing is fetched and no other file is read. One that refers to something else is
//! not used, and said to be so.

use boon::{CompileError, Compiler, ErrorKind, Schemas, UrlLoader, ValidationError};
use serde_json::{Map, Value};

use super::load::Chart;

/// The address under which a schema is known to itself.
const ADDRESS: &str = "file:///values.schema.json";

/// Loads nothing.
struct Nowhere;

impl UrlLoader for Nowhere {
    fn load(&self, _: &str) -> Result<Value, Box<dyn std::error::Error>> {
        Err("only what stands in the schema itself can be referred to".into())
    }
}

/// Checks the values of a chart; gives words on the schemas that could not be used.
///
/// # Errors
/// What the values do wrong, in Helm's words.
pub(super) fn check(chart: &Chart, values: &Map<String, Value>) -> Result<Vec<String>, String> {
    let (mut faults, mut unused) = (String::new(), Vec::new());
    check_all(chart, &Value::Object(values.clone()), &mut faults, &mut unused);
    if faults.is_empty() {
        return Ok(unused);
    }
    Err(format!(
        "values don't meet the specifications of the schema(s) in the following chart(s):\n{faults}"
    ))
}

fn check_all(chart: &Chart, values: &Value, faults: &mut String, unused: &mut Vec<String>) {
    if let Some(schema) = &chart.schema {
        match check_one(schema, values) {
            Ok(None) => {}
            Ok(Some(address)) => unused.push(format!(
                "the values of {} are not checked: its values.schema.json refers to {address}, which is not fetched",
                chart.name()
            )),
            Err(words) => faults.push_str(&format!("{}:\n{words}\n", chart.name())),
        }
    }
    for dependency in &chart.dependencies {
        if let Some(values @ Value::Object(_)) = values.get(dependency.name()) {
            check_all(dependency, values, faults, unused);
        }
    }
}

/// Checks values; gives the address that a schema cannot do without.
fn check_one(schema: &[u8], values: &Value) -> Result<Option<String>, String> {
    let schema = serde_json::from_slice(schema).map_err(|error| format!("values.schema.json is no JSON: {error}"))?;
    let mut compiler = Compiler::new();
    compiler.use_loader(Box::new(Nowhere));
    let mut schemas = Schemas::new();
    let compiled = match compiler.add_resource(ADDRESS, schema) {
        Ok(()) => compiler.compile(ADDRESS, &mut schemas),
        Err(error) => Err(error),
    };
    let index = match compiled {
        Ok(index) => index,
        Err(CompileError::LoadUrlError { url, .. }) => return Ok(Some(url)),
        Err(error) => return Err(format!("values.schema.json is no schema: {error}")),
    };
    schemas.validate(values, index).map(|()| None).map_err(|error| {
        let mut lines = Vec::new();
        error.causes.iter().for_each(|cause| word(cause, 0, &mut lines));
        lines.join("\n")
    })
}

fn word(error: &ValidationError<'_, '_>, depth: usize, lines: &mut Vec<String>) {
    let is_way = matches!(error.kind, ErrorKind::Group | ErrorKind::Reference { .. });
    if let ([cause], true) = (error.causes.as_slice(), is_way) {
        return word(cause, depth, lines);
    }
    let words = match &error.kind {
        ErrorKind::Required { want } if want.len() == 1 => format!("missing property '{}'", want[0]),
        ErrorKind::Type { got, want } => {
            let want: Vec<String> = want.iter().map(|kind| kind.to_string()).collect();
            format!("got {got}, want {}", want.join(" or "))
        }
        ErrorKind::AdditionalProperties { got } => {
            let got: Vec<String> = got.iter().map(|name| format!("'{name}'")).collect();
            format!("additional properties {} not allowed", got.join(", "))
        }
        ErrorKind::Minimum { got, want } => format!("minimum: got {got}, want {want}"),
        ErrorKind::Maximum { got, want } => format!("maximum: got {got}, want {want}"),
        kind => kind.to_string(),
    };
    lines.push(format!(
        "{}- at '{}': {words}",
        "  ".repeat(depth),
        error.instance_location
    ));
    for cause in &error.causes {
        word(cause, depth + 1, lines);
    }
}
