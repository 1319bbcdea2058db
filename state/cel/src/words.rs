//! The words of the language that name nothing.

/// Words that are operators or values.
pub(crate) const OPERANDS: &[&str] = &["in", "true", "false", "null"];

/// Words that the specification reserves.
pub(crate) const RESERVED: &[&str] = &[
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// Returns whether a text is a word of the language, and so no identifier.
pub fn is_word(text: &str) -> bool {
    OPERANDS.contains(&text) || RESERVED.contains(&text)
}
