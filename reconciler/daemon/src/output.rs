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

/// Colours text by an SGR code where standard output is a terminal that wants colours.
pub fn paint(code: &str, text: &str) -> String {
    match std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        true => format!("\x1b[{code}m{text}\x1b[0m"),
        false => text.to_owned(),
    }
}

/// Counts the characters of a cell that are seen: colours are not.
fn width(cell: &str) -> usize {
    let mut seen = 0;
    let mut escaped = false;
    for character in cell.chars() {
        match (escaped, character) {
            (false, '\x1b') => escaped = true,
            (false, _) => seen += 1,
            (true, 'm') => escaped = false,
            (true, _) => {}
        }
    }
    seen
}

/// Prints rows under a header, in columns as wide as their widest cell.
pub fn table(header: &[&str], rows: &[Vec<String>]) {
    let widths: Vec<usize> = (0..header.len())
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| width(cell));
            cells.chain([width(header[column])]).max().unwrap_or(0)
        })
        .collect();
    let mut out = String::new();
    let header: Vec<String> = header.iter().map(ToString::to_string).collect();
    for row in std::iter::once(&header).chain(rows) {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, wanted)| format!("{cell}{}", " ".repeat(wanted.saturating_sub(width(cell)))))
            .collect();
        out.push_str(cells.join("   ").trim_end());
        out.push('\n');
    }
    text(&out);
}

/// Says something beside the output: on standard error.
pub fn note(what: &str) {
    write(&mut std::io::stderr(), &format!("{what}\n"));
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
