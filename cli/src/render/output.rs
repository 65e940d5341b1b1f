//! A cell's output on standard output and error, in the order and at the moment it arrives.
//!
//! Streams pass raw: what a program prints is its own business. Only tracebacks lose their colours
//! where nobody sees them.

use std::io::{self, BufWriter, IsTerminal, Write};

use anstream::{AutoStream, ColorChoice, adapter::strip_str};
use serde_json::Value;

use super::{log::Palette, markdown, picture::Pictures};
use crate::frames::{Content, Item};

/// Bytes kept back while more is already there to read; then it is written at once.
const BUFFER: usize = 64 << 10;

/// What arrived last, and may wait for the next frame in its buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    Nothing,
    Out,
    Err,
}

/// Writes outputs to two streams.
pub(crate) struct Printer<O: Write, E: Write> {
    out: BufWriter<O>,
    err: BufWriter<E>,
    waiting: Waiting,
    /// Whether what was written last ends in the middle of a line.
    mid_line: bool,
    colour: bool,
    /// What a person who reads it can be shown; elsewhere displays are named by their types.
    reader: Option<(Palette, Pictures)>,
}

impl Printer<Box<dyn Write>, Box<dyn Write>> {
    /// The process's own streams.
    pub(crate) fn standard() -> Self {
        let colour = AutoStream::choice(&io::stderr()) != ColorChoice::Never;
        let mut printer = Self::new(Box::new(io::stdout()), Box::new(io::stderr()), colour);
        if io::stdout().is_terminal() {
            printer.reader = Some((Palette::of_stdout(), Pictures::of_stdout()));
        }
        printer
    }
}

impl Printer<io::Stdout, io::Stdout> {
    /// Standard output for everything, as a file or a pager wants it.
    pub(crate) fn onto_stdout() -> Self {
        let palette = Palette::of_stdout();
        let mut printer = Self::new(io::stdout(), io::stdout(), palette == Palette::Colours);
        printer.reader = Some((palette, Pictures::None));
        printer
    }
}

impl<O: Write, E: Write> Printer<O, E> {
    /// `colour`: whether tracebacks keep their colours.
    pub(crate) fn new(out: O, err: E, colour: bool) -> Self {
        Self {
            out: BufWriter::with_capacity(BUFFER, out),
            err: BufWriter::with_capacity(BUFFER, err),
            waiting: Waiting::Nothing,
            mid_line: false,
            colour,
            reader: None,
        }
    }

    /// Shows one output; what has no text form here (`clear_output`, widgets) shows nothing.
    ///
    /// # Errors
    /// When the stream cannot be written.
    pub(crate) fn output(&mut self, msg_type: &str, content: &Content) -> io::Result<()> {
        match msg_type {
            "stream" if content.name == "stderr" => self.write_err(&content.text),
            "stream" => self.write_out(&content.text),
            "display_data" | "update_display_data" | "execute_result"
                if let Some((palette, pictures)) = self.reader
                    && let Some(text) = readable(content, palette, pictures) =>
            {
                self.write_out(&text)
            }
            "execute_result" => {
                let text = content.data.get("text/plain").map(plain);
                self.write_out(&format!("{}\n", text.unwrap_or_default()))
            }
            "error" => {
                let traceback: String = content
                    .traceback
                    .iter()
                    .flat_map(|line| [line.as_str(), "\n"])
                    .collect();
                if self.colour {
                    self.write_err(&traceback)
                } else {
                    self.write_err(&strip_str(&traceback).to_string())
                }
            }
            "display_data" | "update_display_data" => self.write_out(&display(content)),
            _ => Ok(()),
        }
    }

    /// Writes one line to standard output.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn line(&mut self, text: &str) -> io::Result<()> {
        self.write_out(text)?;
        self.write_out("\n")
    }

    /// Whether something waits in a buffer.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting != Waiting::Nothing
    }

    /// Writes what waits.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        match std::mem::replace(&mut self.waiting, Waiting::Nothing) {
            Waiting::Nothing => Ok(()),
            Waiting::Out => self.out.flush(),
            Waiting::Err => self.err.flush(),
        }
    }

    /// Writes to standard output.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn write_out(&mut self, text: &str) -> io::Result<()> {
        self.turn_to(Waiting::Out)?;
        self.ended_with(text);
        self.out.write_all(text.as_bytes())
    }

    /// Writes to standard error.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn write_err(&mut self, text: &str) -> io::Result<()> {
        self.turn_to(Waiting::Err)?;
        self.ended_with(text);
        self.err.write_all(text.as_bytes())
    }

    /// Whether a line is begun, given that both streams are one terminal.
    pub(crate) fn is_mid_line(&self) -> bool {
        self.mid_line
    }

    fn ended_with(&mut self, text: &str) {
        if let Some(last) = text.chars().next_back() {
            self.mid_line = last != '\n';
        }
    }

    /// Both streams often are one terminal: what came first is written first.
    fn turn_to(&mut self, stream: Waiting) -> io::Result<()> {
        if self.waiting != stream {
            self.flush()?;
            self.waiting = stream;
        }
        Ok(())
    }
}

impl<O: Write, E: Write> Drop for Printer<O, E> {
    fn drop(&mut self) {
        // Whoever cares about the error has flushed before.
        drop(self.flush());
    }
}

/// Outputs as one text, as [`Printer`] would write them to one terminal.
pub(crate) fn text(outputs: &[Item], palette: Palette) -> String {
    outputs
        .iter()
        .map(|item| text_of(&item.output_type, &item.content, palette, Pictures::None))
        .collect()
}

/// One output as text, as readable as the terminal allows.
pub(crate) fn text_of(
    msg_type: &str,
    content: &Content,
    palette: Palette,
    pictures: Pictures,
) -> String {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut printer = Printer::new(&mut out, &mut err, palette == Palette::Colours);
    printer.reader = Some((palette, pictures));
    // Writing to memory does not fail.
    drop(printer.output(msg_type, content));
    drop(printer);
    // An output goes to one of them.
    out.append(&mut err);
    String::from_utf8_lossy(&out).into_owned()
}

/// A display's best form: its picture where that can be shown, else text. One that became a file and
/// has no picture here is named by that file.
fn readable(content: &Content, palette: Palette, pictures: Pictures) -> Option<String> {
    let picture = content.data.get("image/png");
    if let Some(shown) = picture.and_then(|png| pictures.of_value(png)) {
        return Some(shown);
    }
    if artifact(content).is_some() {
        return Some(display(content));
    }
    let of = |mime| content.data.get(mime).map(plain);
    if let Some(source) = of("text/markdown") {
        let text = markdown::styled(source.trim_end_matches('\n'), palette);
        return Some(format!("{text}\n"));
    }
    // What has a text of its own says it better than LaTeX does on a terminal.
    let text = of("text/plain").filter(|text| !is_nameless(text));
    text.or_else(|| of("text/latex").map(|source| formula(&source).to_owned()))
        .or_else(|| of("text/plain"))
        .map(|text| format!("{text}\n"))
}

/// Whether a text is Python's for an object that has none: `<IPython.core.display.Latex object>`.
fn is_nameless(text: &str) -> bool {
    text.starts_with('<') && (text.ends_with(" object>") || text.contains(" object at 0x"))
}

/// LaTeX without what only says that it is mathematics.
fn formula(source: &str) -> &str {
    let source = source.trim();
    let inner = [("$$", "$$"), ("\\[", "\\]"), ("\\(", "\\)"), ("$", "$")]
        .into_iter()
        .find_map(|(open, close)| source.strip_prefix(open)?.strip_suffix(close));
    match inner {
        // One formula among words keeps its marks.
        Some(inner) if !inner.contains('$') => {
            let inner = inner.trim();
            inner.strip_prefix("\\displaystyle").unwrap_or(inner).trim()
        }
        _ => source,
    }
}

/// Lines as they stand once they are complete: what a carriage return took back is left out.
pub(crate) fn folded(lines: &str) -> String {
    lines
        .split_inclusive('\n')
        .map(|line| {
            let (line, end) = match line.strip_suffix('\n') {
                Some(line) => (line, "\n"),
                None => (line, ""),
            };
            let shown = line.trim_end_matches('\r').rsplit('\r').next();
            format!("{}{end}", shown.unwrap_or_default())
        })
        .collect()
}

/// The text of a MIME value: text as it is, lists of lines joined, anything else as JSON.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(lines) => lines.iter().filter_map(Value::as_str).collect(),
        other => other.to_string(),
    }
}

/// The file that a display became.
fn artifact(content: &Content) -> Option<&str> {
    content.data.values().find_map(|value| {
        value
            .get("$tithon_artifact")
            .and_then(|artifact| artifact.get("rel_path"))
            .and_then(Value::as_str)
    })
}

/// A file's place if the display became one, else its MIME types.
fn display(content: &Content) -> String {
    match artifact(content) {
        Some(path) => format!("[artifact] {path}\n"),
        None => {
            let types: Vec<_> = content
                .data
                .keys()
                .map(|mime| format!("'{mime}'"))
                .collect();
            format!("[display] [{}]\n", types.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(colour: bool, outputs: &[(&str, &str)]) -> (String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut printer = Printer::new(&mut out, &mut err, colour);
        for (msg_type, content) in outputs {
            let content = serde_json::from_str(content).unwrap();
            printer.output(msg_type, &content).unwrap();
        }
        printer.flush().unwrap();
        drop(printer);
        (
            String::from_utf8(out).unwrap(),
            String::from_utf8(err).unwrap(),
        )
    }

    #[test]
    fn it_is_known_whether_a_line_is_begun() {
        let mut printer = Printer::new(Vec::new(), Vec::new(), false);
        let mut after = |text: &str, is_error: bool| {
            match is_error {
                true => printer.write_err(text).unwrap(),
                false => printer.write_out(text).unwrap(),
            }
            printer.is_mid_line()
        };
        assert!(!after("", false));
        assert!(after("a\nb", false));
        assert!(after("", true));
        assert!(!after("\n", true));
    }

    #[test]
    fn outputs_look_as_they_always_did() {
        let image = r#"{"data": {"image/png": {"$tithon_artifact": {"rel_path": ".tithon/outputs/a.png"}}, "text/plain": "<Figure>"}}"#;
        for (msg_type, content, out, err) in [
            (
                "stream",
                r#"{"name": "stdout", "text": "a\r\u001b[31mb"}"#,
                "a\r\x1b[31mb",
                "",
            ),
            ("stream", r#"{"name": "stderr", "text": "e\n"}"#, "", "e\n"),
            (
                "execute_result",
                r#"{"data": {"text/plain": "42", "text/html": "<b>"}}"#,
                "42\n",
                "",
            ),
            ("execute_result", r#"{"data": {}}"#, "\n", ""),
            (
                "error",
                r#"{"ename": "E", "traceback": ["one", "two"]}"#,
                "",
                "one\ntwo\n",
            ),
            (
                "display_data",
                r#"{"data": {"text/plain": "x", "text/html": "y"}}"#,
                "[display] ['text/html', 'text/plain']\n",
                "",
            ),
            (
                "update_display_data",
                r#"{"data": {}}"#,
                "[display] []\n",
                "",
            ),
            (
                "display_data",
                image,
                "[artifact] .tithon/outputs/a.png\n",
                "",
            ),
            ("clear_output", r#"{"wait": true}"#, "", ""),
            ("from_the_future", "{}", "", ""),
        ] {
            let shown = shown(true, &[(msg_type, content)]);
            assert_eq!(
                shown,
                (out.to_owned(), err.to_owned()),
                "{msg_type} {content}"
            );
        }
    }

    #[test]
    fn only_tracebacks_lose_their_colours() {
        let red = r#"{"name": "stdout", "text": "\u001b[31mred", "traceback": ["\u001b[31mred\u001b[0m"]}"#;
        let (out, err) = shown(false, &[("stream", red), ("error", red)]);
        assert_eq!((out.as_str(), err.as_str()), ("\x1b[31mred", "red\n"));
        assert_eq!(shown(true, &[("error", red)]).1, "\x1b[31mred\x1b[0m\n");
    }

    #[test]
    fn displays_are_read_in_their_best_form() {
        for (data, shown) in [
            (
                r#"{"text/plain": "   a  b\n0  1  2", "text/html": "<table>"}"#,
                "   a  b\n0  1  2\n",
            ),
            (
                r##"{"text/markdown": "# Title", "text/plain": "<Markdown>"}"##,
                "# Title\n",
            ),
            (
                r#"{"text/latex": "$\\displaystyle x^{2}$", "text/plain": "<IPython.core.display.Math object>"}"#,
                "x^{2}\n",
            ),
            (r#"{"text/latex": ["$$", "a", "$$"]}"#, "a\n"),
            (r#"{"text/latex": "$a$ and $b$"}"#, "$a$ and $b$\n"),
            (
                r#"{"text/latex": "$x^{2}$", "text/plain": "x**2"}"#,
                "x**2\n",
            ),
            (
                r#"{"text/html": "<b>", "text/plain": "<__main__.A object at 0x7f>"}"#,
                "<__main__.A object at 0x7f>\n",
            ),
            (
                r#"{"image/png": "aGk=", "text/plain": "<Figure>"}"#,
                "<Figure>\n",
            ),
            (
                r#"{"image/png": {"$tithon_artifact": {"rel_path": "a.png"}}, "text/plain": "<Figure>"}"#,
                "[artifact] a.png\n",
            ),
            (
                r#"{"image/svg+xml": {"$tithon_artifact": {"rel_path": "a.svg"}}, "text/plain": "<SVG>"}"#,
                "[artifact] a.svg\n",
            ),
            (r#"{"text/html": "<b>"}"#, "[display] ['text/html']\n"),
        ] {
            let content = serde_json::from_str(&format!(r#"{{"data": {data}}}"#)).unwrap();
            let text = text_of("display_data", &content, Palette::Plain, Pictures::None);
            assert_eq!(text, shown);
        }
        let content = serde_json::from_str(r#"{"data": {"image/png": "aGk="}}"#).unwrap();
        let text = text_of("display_data", &content, Palette::Plain, Pictures::Iterm);
        assert!(text.contains("inline=1:aGk="), "{text:?}");
    }

    #[test]
    fn progress_is_folded_to_where_it_ended() {
        for (lines, shown) in [
            ("10%\r20%\r30%\ndone\n", "30%\ndone\n"),
            ("windows\r\n", "windows\n"),
            ("10%\r", "10%"),
            ("", ""),
        ] {
            assert_eq!(folded(lines), shown, "{lines:?}");
        }
    }

    #[test]
    fn two_streams_into_one_terminal_keep_their_order() {
        /// Two handles on one terminal.
        #[derive(Clone, Default)]
        struct Terminal(std::rc::Rc<std::cell::RefCell<Vec<u8>>>);
        impl Write for Terminal {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.borrow_mut().write(bytes)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let terminal = Terminal::default();
        let mut printer = Printer::new(terminal.clone(), terminal.clone(), true);
        for text in ["1", "2", "3"] {
            printer.write_out(text).unwrap();
            printer.write_err(&text.repeat(2)).unwrap();
        }
        assert!(printer.is_waiting());
        printer.flush().unwrap();
        assert!(!printer.is_waiting());
        assert_eq!(*terminal.0.borrow(), b"111222333");
    }
}
