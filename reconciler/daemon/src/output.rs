//! What people and programs read on the terminal.

use std::io::{IsTerminal, Write};

use serde::Serialize;

/// Prints an error and its causes once, on standard error: what failed, then why.
pub fn error(error: &anyhow::Error) {
    let (start, end) = if std::io::stderr().is_terminal() {
        ("\x1b[1;31m", "\x1b[0m")
    } else {
        ("", "")
    };
    let mut text = format!("{start}error:{end} {error}\n");
    for cause in error.chain().skip(1) {
        text.push_str(&format!("  because: {cause}\n"));
    }
    write(&mut std::io::stderr(), &text);
}

/// Prints a value as indented JSON.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    write(&mut std::io::stdout(), &text);
    Ok(())
}

/// Prints text as it is.
pub fn text(text: &str) {
    write(&mut std::io::stdout(), text);
}

/// Prints rows under a header, in columns as wide as their widest cell.
pub fn table(header: &[&str], rows: &[Vec<String>]) {
    let widths: Vec<usize> = (0..header.len())
        .map(|column| {
            let cells = rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count());
            cells.chain([header[column].chars().count()]).max().unwrap_or(0)
        })
        .collect();
    let mut out = String::new();
    let header: Vec<String> = header.iter().map(ToString::to_string).collect();
    for row in std::iter::once(&header).chain(rows) {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        out.push_str(cells.join("   ").trim_end());
        out.push('\n');
    }
    text(&out);
}

/// Says on a terminal what is being done, because it may take longer than a second; programs are not told.
pub fn progress(what: &str) {
    if std::io::stderr().is_terminal() {
        write(&mut std::io::stderr(), &format!("{what}\n"));
    }
}

/// Writes, and takes a reader that has gone away (`setpoint … | head`) for the end of the work.
fn write(to: &mut dyn Write, text: &str) {
    if to.write_all(text.as_bytes()).and_then(|()| to.flush()).is_err() {
        tracing::debug!("nobody reads the output any more");
    }
}
