//! Just enough of Python's tokenizer to know which lines begin outside strings and brackets.
//!
//! Strings with any prefix, triple quotes, formatted strings with nested fields (also with the
//! same quotes, as since 3.12), brackets, comments, continued lines, and IPython's magics. What no
//! Python would take either ends at its line, so that a mistake in one cell does not swallow the next.

/// Something that was opened and is never closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Open {
    /// What opened it.
    pub(crate) what: &'static str,
    /// Where, counted from 0, in bytes.
    pub(crate) at: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Quote {
    byte: u8,
    triple: bool,
    formatted: bool,
    raw: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Context {
    /// Inside a string's text.
    Text(Quote),
    /// Inside brackets, closed by this byte.
    Bracket(u8),
    /// Inside a field of a formatted string; `spec` once its format is being read.
    Field { quote: Quote, spec: bool },
}

/// Reads text line by line.
#[derive(Debug, Default)]
pub(crate) struct Scanner {
    contexts: Vec<(Context, usize)>,
    /// Whether the line before ended in a backslash.
    continued: bool,
    /// Whether that line was a magic.
    magic: bool,
    /// Whether the rest of the cell is in another language.
    foreign: bool,
}

/// Cell magics whose cell is Python.
const PYTHON_MAGICS: [&str; 6] = [
    "%%time",
    "%%timeit",
    "%%capture",
    "%%prun",
    "%%debug",
    "%%python",
];

impl Scanner {
    /// Whether the next line begins outside strings, brackets and continued lines.
    pub(crate) fn is_outside(&self) -> bool {
        self.contexts.is_empty() && !self.continued
    }

    /// What is still open.
    pub(crate) fn open(&self) -> Option<Open> {
        let (context, at) = *self.contexts.last()?;
        let what = match context {
            Context::Text(Quote {
                byte: b'"',
                triple: true,
                ..
            }) => "\"\"\"",
            Context::Text(Quote { triple: true, .. }) => "'''",
            Context::Text(_) => "a string",
            Context::Bracket(b')') => "(",
            Context::Bracket(b']') => "[",
            Context::Bracket(_) | Context::Field { .. } => "{",
        };
        Some(Open { what, at })
    }

    /// A cell begins: what the one before it was in is over.
    pub(crate) fn begin_cell(&mut self) {
        self.foreign = false;
    }

    /// Reads one line, its end included. `at` is where it begins; `first` says that nothing but
    /// empty lines came before it in its cell.
    pub(crate) fn line(&mut self, line: &str, at: usize, first: bool) {
        let content = line.trim_end_matches(['\n', '\r']);
        let ends = content.len() < line.len();
        if self.is_outside() {
            self.magic = is_magic(content);
            self.foreign |= first && is_foreign(content);
        }
        if self.foreign || self.magic && self.contexts.is_empty() {
            self.continued = self.magic && !self.foreign && ends && content.ends_with('\\');
            return;
        }
        self.continued = false;
        self.code(content.as_bytes(), at);
        self.continued &= ends;
        self.end_of_line();
    }

    fn code(&mut self, line: &[u8], start: usize) {
        let mut at = 0;
        while at < line.len() {
            let here = start + at;
            at += match self.contexts.last().map(|(context, _)| *context) {
                Some(Context::Text(quote)) => self.text(&line[at..], quote, here),
                Some(Context::Field { quote, spec: true }) => self.spec(&line[at..], quote, here),
                other => self.token(&line[at..], other, here),
            };
        }
    }

    /// Text of a string; returns how many bytes were read.
    fn text(&mut self, rest: &[u8], quote: Quote, here: usize) -> usize {
        let length = if quote.triple { 3 } else { 1 };
        match rest[0] {
            b'\\' if quote.formatted && !quote.raw && rest.starts_with(b"\\N{") => rest
                .iter()
                .position(|byte| *byte == b'}')
                .map_or(3, |end| end + 1),
            b'\\' if quote.formatted && matches!(rest.get(1), Some(b'{' | b'}')) => 1,
            b'\\' => {
                self.continued = rest.len() == 1;
                2.min(rest.len())
            }
            b'{' if quote.formatted && rest.get(1) == Some(&b'{') => 2,
            b'{' if quote.formatted => {
                self.contexts
                    .push((Context::Field { quote, spec: false }, here));
                1
            }
            byte if byte == quote.byte
                && rest.len() >= length
                && rest[..length].iter().all(|b| *b == byte) =>
            {
                self.contexts.pop();
                length
            }
            _ => 1,
        }
    }

    /// A field's format: text, but for fields in it.
    fn spec(&mut self, rest: &[u8], quote: Quote, here: usize) -> usize {
        match rest[0] {
            b'}' => {
                self.contexts.pop();
            }
            b'{' => self
                .contexts
                .push((Context::Field { quote, spec: false }, here)),
            // The string ends here, its field unfinished: no Python takes that.
            byte if byte == quote.byte && !quote.triple => {
                self.contexts.pop();
            }
            _ => {}
        }
        1
    }

    fn token(&mut self, rest: &[u8], within: Option<Context>, here: usize) -> usize {
        match rest[0] {
            b'#' => rest.len(),
            b'\\' if rest.len() == 1 => {
                self.continued = true;
                1
            }
            byte @ (b'"' | b'\'') => self.begin_string(rest, byte, b"", here),
            byte if byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80 => {
                let word = rest
                    .iter()
                    .take_while(|byte| {
                        byte.is_ascii_alphanumeric() || **byte == b'_' || **byte >= 0x80
                    })
                    .count();
                match rest.get(word) {
                    Some(quote @ (b'"' | b'\'')) if is_prefix(&rest[..word]) => {
                        word + self.begin_string(&rest[word..], *quote, &rest[..word], here)
                    }
                    _ => word,
                }
            }
            b'(' => self.bracket(b')', here),
            b'[' => self.bracket(b']', here),
            b'{' => self.bracket(b'}', here),
            close @ (b')' | b']' | b'}') => {
                let closes = match within {
                    Some(Context::Bracket(byte)) => byte == close,
                    Some(Context::Field { .. }) => close == b'}',
                    _ => false,
                };
                if closes {
                    self.contexts.pop();
                }
                1
            }
            b':' => {
                if let Some((Context::Field { spec, .. }, _)) = self.contexts.last_mut() {
                    *spec = true;
                }
                1
            }
            _ => 1,
        }
    }

    fn bracket(&mut self, close: u8, here: usize) -> usize {
        self.contexts.push((Context::Bracket(close), here));
        1
    }

    fn begin_string(&mut self, rest: &[u8], byte: u8, prefix: &[u8], here: usize) -> usize {
        let triple = rest.len() >= 3 && rest[..3].iter().all(|next| *next == byte);
        let has = |letter: u8| prefix.iter().any(|byte| byte.eq_ignore_ascii_case(&letter));
        let quote = Quote {
            byte,
            triple,
            formatted: has(b'f') || has(b't'),
            raw: has(b'r'),
        };
        self.contexts.push((Context::Text(quote), here));
        if triple { 3 } else { 1 }
    }

    /// A string in single quotes ends with its line at the latest, unless the line is continued.
    fn end_of_line(&mut self) {
        let is_short = |context: &Context| matches!(context, Context::Text(quote) | Context::Field { quote, spec: true } if !quote.triple);
        while !self.continued
            && self
                .contexts
                .last()
                .is_some_and(|(context, _)| is_short(context))
        {
            self.contexts.pop();
        }
    }
}

fn is_prefix(word: &[u8]) -> bool {
    let lower = word.to_ascii_lowercase();
    let known: [&[u8]; 11] = [
        b"r", b"u", b"b", b"br", b"rb", b"f", b"fr", b"rf", b"t", b"tr", b"rt",
    ];
    known.contains(&lower.as_slice())
}

fn is_magic(line: &str) -> bool {
    line.trim_start().starts_with(['%', '!', '?'])
}

fn is_foreign(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("%%")
        && !PYTHON_MAGICS.contains(&line.split_whitespace().next().unwrap_or_default())
}
