//! Just enough of Python's lexical grammar to colour a prompt and to tell whether code goes on on
//! the next line, for kernels that do not answer in time. The kernel's own word goes before ours.

use std::{borrow::Cow, ops::Range};

/// One level of indentation.
pub(super) const INDENT: &str = "    ";

const KEYWORDS: &[&str] = &[
    "False", "None", "True", "and", "as", "assert", "async", "await", "break", "case", "class",
    "continue", "def", "del", "elif", "else", "except", "finally", "for", "from", "global", "if",
    "import", "in", "is", "lambda", "match", "nonlocal", "not", "or", "pass", "raise", "return",
    "try", "while", "with", "yield",
];
/// After these a block has nothing more to say.
const LAST_WORDS: &[&str] = &["return", "pass", "break", "continue", "raise"];

/// Whether code can run as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Completeness {
    /// It can.
    Complete,
    /// The next line begins with this.
    Incomplete { indent: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Word,
    Number,
    Text,
    /// A text in three quotes that has not ended.
    OpenText,
    Comment,
    Magic,
    Open,
    Close,
    Colon,
    Backslash,
    Newline,
    Other,
}

/// The code with colours; nothing else about it changes.
pub(super) fn highlighted(code: &str) -> Cow<'_, str> {
    let mut out = String::new();
    for (kind, range) in tokens(code) {
        let text = &code[range];
        let style = match kind {
            Kind::Word if KEYWORDS.contains(&text) => "34",
            Kind::Number => "36",
            Kind::Text | Kind::OpenText => "32",
            Kind::Comment => "2",
            Kind::Magic => "35",
            _ => "",
        };
        if style.is_empty() {
            out.push_str(text);
            continue;
        }
        // Each line for itself: terminals forget colours where the editor redraws a part.
        for (number, line) in text.split('\n').enumerate() {
            if number > 0 {
                out.push('\n');
            }
            out.extend(["\x1b[", style, "m", line, "\x1b[0m"]);
        }
    }
    Cow::Owned(out)
}

/// Whether the code can run, as Python's own prompt would decide: a block ends with an empty line.
pub(super) fn completeness(code: &str) -> Completeness {
    let incomplete = |indent: String| Completeness::Incomplete { indent };
    let mut depth = 0_i32;
    let mut opens_block = false;
    let mut last = Kind::Newline;
    for (kind, range) in tokens(code) {
        match kind {
            Kind::OpenText => return incomplete(String::new()),
            Kind::Open => depth += 1,
            Kind::Close => depth -= 1,
            Kind::Newline if depth <= 0 && last == Kind::Colon => opens_block = true,
            _ => {}
        }
        if kind != Kind::Comment && !code[range].trim_matches([' ', '\t']).is_empty() {
            last = kind;
        }
    }
    let line = code.rsplit('\n').next().unwrap_or_default();
    let indent: String = line
        .chars()
        .take_while(|c| matches!(c, ' ' | '\t'))
        .collect();
    if depth > 0 {
        let deeper = if last == Kind::Open { INDENT } else { "" };
        return incomplete(indent + deeper);
    }
    if last == Kind::Backslash || code.trim_start().starts_with("%%") && !line.is_empty() {
        return incomplete(indent);
    }
    if last == Kind::Colon {
        return incomplete(indent + INDENT);
    }
    let is_decorated = code.trim_start().starts_with('@');
    if (opens_block || is_decorated) && !line.trim().is_empty() {
        let first_word = line.split_whitespace().next().unwrap_or_default();
        let kept = match LAST_WORDS.contains(&first_word) {
            true => indent.len().saturating_sub(INDENT.len()),
            false => indent.len(),
        };
        return incomplete(indent[..kept].to_owned());
    }
    Completeness::Complete
}

fn tokens(code: &str) -> Vec<(Kind, Range<usize>)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < code.len() {
        let (kind, length) = token(&code[at..], at == 0 || code[..at].ends_with('\n'));
        found.push((kind, at..at + length));
        at += length;
    }
    found
}

/// The first token of `rest`, and its length in bytes: at least one character.
fn token(rest: &str, begins_line: bool) -> (Kind, usize) {
    let first = rest.chars().next().unwrap_or_default();
    let run = |part: fn(char) -> bool| rest.find(|c| !part(c)).unwrap_or(rest.len());
    match first {
        '\n' => (Kind::Newline, 1),
        '#' => (Kind::Comment, line_end(rest)),
        '%' | '!' if begins_line => (Kind::Magic, line_end(rest)),
        '\'' | '"' => text(rest, 0),
        '(' | '[' | '{' => (Kind::Open, 1),
        ')' | ']' | '}' => (Kind::Close, 1),
        ':' => (Kind::Colon, 1),
        '\\' => (Kind::Backslash, 1),
        '0'..='9' => (
            Kind::Number,
            run(|c| c.is_alphanumeric() || matches!(c, '.' | '_')),
        ),
        c if c.is_alphabetic() || c == '_' => {
            let length = run(|c| c.is_alphanumeric() || c == '_');
            let is_prefix = length <= 2 && rest[..length].chars().all(|c| "rbfuRBFU".contains(c));
            match rest[length..].starts_with(['\'', '"']) && is_prefix {
                true => text(rest, length),
                false => (Kind::Word, length),
            }
        }
        c if c == ' ' || c == '\t' => (Kind::Other, run(|c| c == ' ' || c == '\t')),
        c => (Kind::Other, c.len_utf8()),
    }
}

/// A text whose opening quote is at `quote`.
fn text(rest: &str, quote: usize) -> (Kind, usize) {
    let mark = &rest[quote..=quote];
    let triple = mark.repeat(3);
    let is_triple = rest[quote..].starts_with(&triple);
    let end = if is_triple { triple.as_str() } else { mark };
    let mut at = quote + end.len();
    while at < rest.len() {
        let ahead = &rest[at..];
        if ahead.starts_with(end) {
            return (Kind::Text, at + end.len());
        }
        if !is_triple && ahead.starts_with('\n') {
            return (Kind::Text, at);
        }
        let mut chars = ahead.chars();
        let step = chars.next().map_or(1, char::len_utf8);
        at += match ahead.starts_with('\\') {
            true => step + chars.next().map_or(0, char::len_utf8),
            false => step,
        };
    }
    let kind = if is_triple {
        Kind::OpenText
    } else {
        Kind::Text
    };
    (kind, rest.len())
}

fn line_end(rest: &str) -> usize {
    rest.find('\n').unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;

    use super::*;

    #[test]
    fn code_goes_on_where_pythons_prompt_would_go_on() {
        for (code, indent) in [
            ("x = 1", None),
            ("", None),
            ("a = 1\nb = 2", None),
            ("for x in y:", Some("    ")),
            ("for x in y:  # every one", Some("    ")),
            ("for x in y:\n    print(x)", Some("    ")),
            ("for x in y:\n    print(x)\n", None),
            ("for x in y: print(x)", None),
            ("def f():\n    return 1", Some("")),
            ("def f():\n    if x:\n        pass", Some("    ")),
            ("f(", Some("    ")),
            ("f(1,", Some("")),
            ("f(1,\n  2)", None),
            ("x = {'a': 1,", Some("")),
            ("x = ':'", None),
            ("x[1:", Some("")),
            ("'''one", Some("")),
            ("'''one\ntwo'''", None),
            ("print('it''s')", None),
            ("x = 1 + \\", Some("")),
            ("@cache", Some("")),
            ("%%time\nf()", Some("")),
            ("%%time\nf()\n", None),
            ("%time f()", None),
            ("x = 'not closed", None),
            ("# only (a comment", None),
        ] {
            let expected = match indent {
                Some(indent) => Completeness::Incomplete {
                    indent: indent.to_owned(),
                },
                None => Completeness::Complete,
            };
            assert_eq!(completeness(code), expected, "{code:?}");
        }
    }

    #[test]
    fn colours_change_no_character() {
        for code in [
            "def f(x): return rb'\\'' + 1.5 # ü",
            "'''two\nlines''' if x else \"\\",
            "!ls\n%magic\nπ = 3",
            "f\"{x!r:>{width}}\"",
            "0x1F\t\\",
        ] {
            assert_eq!(strip_str(&highlighted(code)).to_string(), code);
        }
        let shown = highlighted("return 1 + 'a'");
        assert_eq!(
            shown,
            "\x1b[34mreturn\x1b[0m \x1b[36m1\x1b[0m + \x1b[32m'a'\x1b[0m"
        );
        assert_eq!(highlighted("returned"), "returned");
    }
}
