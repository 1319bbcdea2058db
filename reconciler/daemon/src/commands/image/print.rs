//! Images as people and programs read them.

use serde_json::{Value, json};
use setpoint_runtime::images::Image;

use crate::cli::Format;
use crate::output;

/// An image for programs.
pub fn value(image: &Image) -> Value {
    json!({"id": image.id, "digest": image.digest, "names": image.references,
        "layers": image.layers.len(), "size": image.size})
}

/// Prints images, a line for each name.
pub fn list(images: &[Image], format: Format) -> anyhow::Result<()> {
    match format {
        Format::Json => output::json(&images.iter().map(value).collect::<Vec<_>>()),
        Format::Text => {
            let mut rows = Vec::new();
            for image in images {
                let id = image
                    .id
                    .trim_start_matches("sha256:")
                    .chars()
                    .take(12)
                    .collect::<String>();
                let names = if image.references.is_empty() {
                    vec!["<none>".to_string()]
                } else {
                    image.references.clone()
                };
                for name in names {
                    rows.push(vec![name, id.clone(), size(image.size)]);
                }
            }
            output::table(&["IMAGE", "ID", "SIZE"], &rows);
            Ok(())
        }
    }
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
