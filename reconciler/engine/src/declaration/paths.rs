//! Paths that stay in the repository.

/// Normalizes a path relative to the repository's root: no `.`, no empty parts, `/` between the rest; empty for the root itself.
/// An error says what is wrong with it.
pub fn normalize(path: &str) -> Result<String, String> {
    if path.is_empty() {
        return Err("the path is empty; write `.` for the repository's root".to_owned());
    }
    if path.starts_with('/') {
        return Err(format!(
            "the path `{path}` is absolute; write it relative to the repository's root"
        ));
    }
    if let Some(character) = path.chars().find(|character| character.is_control()) {
        return Err(format!(
            "the path `{}` has the control character {character:?}",
            path.escape_debug()
        ));
    }
    if path.len() > 4_096 {
        return Err("the path is longer than 4096 bytes".to_owned());
    }
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                return Err(format!(
                    "the path `{path}` has a `..`; paths start at the repository's root and may not leave it"
                ));
            }
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}
