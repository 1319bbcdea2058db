//! Images as people and programs read them.

use serde_json::{Value, json};
use setpoint_runtime::images::Image;

use crate::cli::Format;
use crate::output;

/// An image for programs.
pub fn value(image: &Image) -> Value {
    json!({"id": image.id, "digest": image.digest, "names": image.references,
        "layers": image.layers.len(), "size": image.size, "pinned": image.pinned})
}

/// Prints images, a line for each name.
pub fn list(images: &[Image], format: Format) -> anyhow::Result<()> {
    let values: Vec<Value> = images.iter().map(value).collect();
    match format {
        Format::Json => output::json(&values),
        Format::Text => {
            table(&values);
            Ok(())
        }
    }
}

/// Prints images, as programs read them, for people.
pub fn table(images: &[Value]) {
    let mut rows = Vec::new();
    for image in images {
        let id = image["id"].as_str().unwrap_or_default().trim_start_matches("sha256:");
        let id: String = id.chars().take(12).collect();
        let names = image["names"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
        if names.is_empty() {
            names.push("<none>");
        }
        let size = size(image["size"].as_u64().unwrap_or_default());
        let pinned = match image["pinned"].as_bool() {
            Some(true) => "imported",
            _ => "",
        };
        for name in names {
            rows.push(vec![name.to_owned(), id.clone(), size.clone(), pinned.to_owned()]);
        }
    }
    output::table(&["IMAGE", "ID", "SIZE", "PINNED"], &rows);
}

/// A number of bytes for people.
pub fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB"] {
        if value < 1000.0 {
            return format!("{value:.1} {unit}");
        }
        value /= 1000.0;
    }
    format!("{value:.1} GB")
}
