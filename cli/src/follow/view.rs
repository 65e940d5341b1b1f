//! What `run` shows of its execution: output as text, or its frames.

use std::io::{self, IsTerminal, Write};

use serde::Deserialize;
use serde_json::value::RawValue;
use tithon_worker::fold::Fold;

use super::Stdin;
use crate::{
    error::CliError,
    frames::{self, Content, Item},
    render::{notice::Notices, output::Printer},
};

/// How an execution is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Its output, as a program's.
    Text,
    /// Its event frames, verbatim, one per line.
    Json,
    /// Not at all; but who is to answer a prompt sees it.
    Silent,
}

/// Where output goes: the standard streams, but in tests.
pub(super) type Streams = Printer<Box<dyn Write>, Box<dyn Write>>;

/// The standard streams, and what went to them.
pub(super) struct View {
    mode: Mode,
    printer: Streams,
    shown: bool,
    /// What the cell has shown, where that is wanted and known.
    kept: Option<Fold>,
    /// What is said while the cell runs silently.
    pub(super) label: Option<String>,
    /// Progress while there is no output yet.
    pub(super) notices: Notices,
}

/// An event's frame, as far as a fold needs it.
#[derive(Deserialize)]
struct Shown<'a> {
    #[serde(borrow)]
    payload: &'a RawValue,
}

#[derive(Deserialize)]
struct Message<'a> {
    msg_type: String,
    /// A widget's event is its own content.
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

impl View {
    pub(super) fn new(mode: Mode, printer: Streams) -> Self {
        Self {
            mode,
            printer,
            shown: false,
            kept: None,
            label: None,
            notices: Notices::default(),
        }
    }

    /// Whether a person reads it, beside whatever it shows.
    pub(super) fn is_for_a_person(&self) -> bool {
        self.mode == Mode::Text
    }

    /// Whether anything of the execution was shown.
    pub(super) fn has_shown(&self) -> bool {
        self.shown
    }

    /// Whether something written waits to be flushed.
    pub(super) fn is_waiting(&self) -> bool {
        self.printer.is_waiting()
    }

    /// Flushes what was written.
    pub(super) fn flush(&mut self) -> Result<(), CliError> {
        self.printer.flush().map_err(CliError::Output)
    }

    /// Keeps from here on what is shown.
    pub(super) fn keep(&mut self) {
        self.kept = Some(Fold::new());
    }

    /// What was shown, if it was kept.
    pub(super) fn kept(&self) -> Option<Vec<Item>> {
        frames::parse(&self.kept.as_ref()?.outputs_json()).ok()
    }

    /// A part of what was shown will not come as events.
    pub(super) fn missed(&mut self) {
        self.kept = None;
    }

    /// The cell runs.
    pub(super) fn started(&mut self) {
        if let Some(label) = &self.label
            && io::stderr().is_terminal()
        {
            self.notices.show(label);
        }
    }

    /// Takes in one of the cell's event frames; shows it, where frames are shown.
    pub(super) fn event(&mut self, kind: &str, text: &str) -> Result<(), CliError> {
        if let Some(fold) = &mut self.kept
            && matches!(kind, "output" | "widget")
        {
            let Shown { payload } = serde_json::from_str(text)?;
            let message: Message<'_> = serde_json::from_str(payload.get())?;
            let content = message.content.unwrap_or(payload).get();
            if fold.apply(&message.msg_type, content).is_err() {
                self.kept = None;
            }
        }
        match self.mode {
            Mode::Json => self.line(text),
            Mode::Text | Mode::Silent => Ok(()),
        }
    }

    /// Shows an output, where output is shown.
    pub(super) fn output(&mut self, msg_type: &str, content: &Content) -> Result<(), CliError> {
        self.shown = true;
        if self.mode == Mode::Silent {
            return Ok(());
        }
        self.notices.clear();
        match self.mode {
            Mode::Json | Mode::Silent => Ok(()),
            Mode::Text => self
                .printer
                .output(msg_type, content)
                .map_err(CliError::Output),
        }
    }

    /// Writes one line.
    pub(super) fn line(&mut self, text: &str) -> Result<(), CliError> {
        self.notices.clear();
        self.shown = true;
        self.printer.line(text).map_err(CliError::Output)
    }

    /// Shows a prompt as Python's `input()` would: on standard output, unless the person who is to
    /// answer would not see it there.
    pub(super) fn prompt(&mut self, prompt: &str, stdin: Stdin) -> Result<(), CliError> {
        self.notices.clear();
        let seen = self.mode == Mode::Text && io::stdout().is_terminal();
        let written = match (stdin, seen, self.mode) {
            (Stdin::Terminal, false, _) => self.printer.write_err(prompt),
            (_, _, Mode::Text) => self.printer.write_out(prompt),
            (_, _, Mode::Json | Mode::Silent) => Ok(()),
        };
        written
            .and_then(|()| self.printer.flush())
            .map_err(CliError::Output)
    }

    /// Ends a line that the output left open, before words of ours.
    pub(super) fn close_line(&mut self) {
        if self.printer.is_mid_line() {
            self.end_line();
        }
    }

    /// Ends the line on which the terminal shows `^C`.
    pub(super) fn end_line(&mut self) {
        if io::stderr().is_terminal() {
            drop(
                self.printer
                    .write_err("\n")
                    .and_then(|()| self.printer.flush()),
            );
        }
    }
}
