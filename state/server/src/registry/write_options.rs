//! What creations, updates and patches say in their query: `dryRun`, `fieldManager`, `fieldValidation`.

use serde_json::Value;
use setpoint_api::Status;
use setpoint_api::validate::field::FieldError;

use crate::body::FieldValidation;
use crate::request::Query;

/// The longest `fieldManager` that Kubernetes takes, in bytes.
const LONGEST_MANAGER: usize = 128;

/// Reads whether a write is a dry run, and what happens to unknown fields; `kind` is the kind of the verb's options.
///
/// Errors: 422 with everything that is wrong.
pub(super) fn write_options(query: &Query, kind: &str) -> Result<(bool, FieldValidation), Status> {
    let mut errors = manager_faults(query.get("fieldManager").unwrap_or_default());
    let dry_run: Vec<&str> = query.all("dryRun").collect();
    if dry_run.iter().any(|value| *value != "All") {
        errors.push(FieldError::not_supported(
            "dryRun",
            Value::from(dry_run.clone()),
            &["All"],
        ));
    }
    let validation = match query.get("fieldValidation").unwrap_or_default() {
        "" | "Warn" => FieldValidation::Warn,
        "Strict" => FieldValidation::Strict,
        "Ignore" => FieldValidation::Ignore,
        other => {
            let known = ["", "Ignore", "Strict", "Warn"];
            errors.push(FieldError::not_supported("fieldValidation", other, &known));
            FieldValidation::Warn
        }
    };
    if errors.is_empty() {
        Ok((!dry_run.is_empty(), validation))
    } else {
        Err(Status::invalid("meta.k8s.io", kind, "", &errors))
    }
}

fn manager_faults(manager: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if manager.len() > LONGEST_MANAGER {
        errors.push(FieldError::too_long("fieldManager", LONGEST_MANAGER));
    }
    // One fault says enough of a text that may hold thousands.
    if let Some((at, letter)) = manager.char_indices().find(|(_, letter)| !is_printable(*letter)) {
        let detail = format!("invalid character U+{:04X} (at position {at})", u32::from(letter));
        errors.push(FieldError::invalid("fieldManager", manager, detail));
    }
    errors
}

/// Whether Go's `unicode.IsPrint` takes a letter, but for the few that are not assigned.
fn is_printable(letter: char) -> bool {
    let code = u32::from(letter);
    let formats = matches!(
        code,
        0xad | 0x600..=0x605 | 0x61c | 0x6dd | 0x70f | 0x180e | 0x200b..=0x200f | 0x202a..=0x202e | 0x2060..=0x206f | 0xfeff
            | 0xfff9..=0xfffb | 0xe0001 | 0xe0020..=0xe007f
    );
    let private = matches!(code, 0xe000..=0xf8ff | 0xf0000..);
    letter == ' ' || !(letter.is_control() || letter.is_whitespace() || formats || private)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_refused_as_a_whole() {
        let read = |text: &str| write_options(&Query::parse(text), "UpdateOptions");
        assert_eq!(read(""), Ok((false, FieldValidation::Warn)));
        assert_eq!(
            read("dryRun=All&fieldValidation=Strict&fieldManager=k%C3%BCbectl%20x"),
            Ok((true, FieldValidation::Strict))
        );
        let long = "m".repeat(129);
        for (query, message) in [
            (
                format!("fieldManager={long}"),
                "fieldManager: Too long: may not be more than 128 bytes",
            ),
            (
                "fieldManager=abc%07".to_owned(),
                "fieldManager: Invalid value: \"abc\\a\": invalid character U+0007 (at position 3)",
            ),
            (
                "dryRun=Some&fieldValidation=odd".to_owned(),
                "[dryRun: Unsupported value: [\"Some\"]: supported values: \"All\", fieldValidation: Unsupported value: \"odd\": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\"]",
            ),
        ] {
            let status = read(&query).expect_err("wrong");
            assert_eq!(
                (status.code, status.message),
                (422, format!("UpdateOptions.meta.k8s.io \"\" is invalid: {message}"))
            );
        }
    }
}
