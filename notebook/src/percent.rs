//! The percent format: a Python file whose cells begin at marker lines.
//!
//! `# %%` begins a code cell, `# %% [markdown]` and `# %% [raw]` those; text before the first marker
//! is a code cell. A marker counts at the start of a line outside strings and brackets. Splitting
//! loses nothing: marker and body of every cell, one after the other, are the text.

use std::fmt;

use crate::python::Scanner;

/// What a cell is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Python.
    Code,
    /// Markdown, in comments.
    Markdown,
    /// Anything, in comments.
    Raw,
}

impl Kind {
    /// The notebook format's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::Markdown => "markdown",
            Self::Raw => "raw",
        }
    }

    /// The kind of a name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Code, Self::Markdown, Self::Raw]
            .into_iter()
            .find(|kind| kind.name() == name)
    }

    /// The marker that is written.
    pub fn marker(self) -> &'static str {
        match self {
            Self::Code => "# %%\n",
            Self::Markdown => "# %% [markdown]\n",
            Self::Raw => "# %% [raw]\n",
        }
    }
}

/// One cell of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell<'a> {
    /// What its marker says it is.
    pub kind: Kind,
    /// The marker's line with its end; empty for text before the first marker.
    pub marker: &'a str,
    /// Everything up to the next marker.
    pub body: &'a str,
    /// The number of the body's first line, from 0.
    pub line: usize,
}

/// Why a text cannot be split: what is opened here may hold the markers behind it, or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unclosed {
    /// What is opened.
    pub what: &'static str,
    /// In which line, from 1.
    pub line: usize,
}

impl fmt::Display for Unclosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in line {} is never closed", self.what, self.line)
    }
}

/// The mark that some editors put before a text's first character.
const BOM: char = '\u{feff}';

/// Splits a text into its cells.
///
/// # Errors
/// When a string or bracket is opened and never closed.
pub fn split(text: &str) -> Result<Vec<Cell<'_>>, Unclosed> {
    let mut scanner = Scanner::default();
    let mut cells: Vec<Cell<'_>> = Vec::new();
    let (mut at, mut begin) = (0, 0);
    let mut first = true;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let marker = kind_of(line.strip_prefix(BOM).filter(|_| at == 0).unwrap_or(line))
            .filter(|_| scanner.is_outside());
        if let Some(kind) = marker {
            close(&mut cells, &text[begin..at]);
            begin = at + line.len();
            cells.push(Cell {
                kind,
                marker: line,
                body: "",
                line: number + 1,
            });
            scanner.begin_cell();
            first = true;
        } else {
            scanner.line(line, at, first);
            first &= line.trim().is_empty();
        }
        at += line.len();
    }
    close(&mut cells, &text[begin..]);
    match scanner.open() {
        None => Ok(cells),
        Some(open) => Err(Unclosed {
            what: open.what,
            line: text[..open.at].matches('\n').count() + 1,
        }),
    }
}

/// Gives the last cell its body; there is none yet where text comes before the first marker.
fn close<'a>(cells: &mut Vec<Cell<'a>>, body: &'a str) {
    match cells.last_mut() {
        Some(cell) => cell.body = body,
        None if body.is_empty() => {}
        None => cells.push(Cell {
            kind: Kind::Code,
            marker: "",
            body,
            line: 0,
        }),
    }
}

/// The kind that a kept marker names; only a file's first may have a byte order mark.
pub(crate) fn kind_of_marker(marker: &str, first: bool) -> Option<Kind> {
    let line = marker.strip_prefix(BOM).filter(|_| first).unwrap_or(marker);
    kind_of(line).filter(|_| line.matches('\n').count() <= usize::from(line.ends_with('\n')))
}

/// The kind that a marker's line names; `None` for any other line.
fn kind_of(line: &str) -> Option<Kind> {
    let blank = [' ', '\t'];
    let rest = line
        .strip_prefix('#')?
        .trim_start_matches(blank)
        .strip_prefix("%%")?;
    let rest = rest.trim_start_matches(blank);
    Some(if rest.starts_with("[markdown]") {
        Kind::Markdown
    } else if rest.starts_with("[raw]") {
        Kind::Raw
    } else {
        Kind::Code
    })
}

/// What a notebook shows of a cell's body.
pub(crate) fn source_of(kind: Kind, body: &str) -> String {
    let whole = match kind {
        Kind::Code => body.to_owned(),
        Kind::Markdown | Kind::Raw => body.split_inclusive('\n').map(uncommented).collect(),
    };
    // The newline that ends the last line is the file's, unless that would lose an empty line.
    match whole.strip_suffix('\n') {
        Some(shorter) if body_of(kind, shorter) == body => shorter.to_owned(),
        _ => whole,
    }
}

/// The body of a cell that shows this source; it ends in a newline.
pub(crate) fn body_of(kind: Kind, source: &str) -> String {
    match kind {
        Kind::Code if source.ends_with('\n') => source.to_owned(),
        Kind::Code => format!("{source}\n"),
        Kind::Markdown | Kind::Raw => source
            .split('\n')
            .map(|line| format!("# {line}\n"))
            .collect(),
    }
}

fn uncommented(line: &str) -> &str {
    match line.strip_prefix('#') {
        Some(rest) => rest.strip_prefix(' ').unwrap_or(rest),
        None => line,
    }
}

#[cfg(test)]
mod tests;
