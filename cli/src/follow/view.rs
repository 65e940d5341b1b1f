//! What `run` shows of its execution: output as text, or its frames.

use std::io::{self, IsTerminal, Write};

use super::Stdin;
use crate::{
    error::CliError,
    frames::Content,
    render::{notice::Notices, output::Printer},
};

/// How an execution is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Its output, as a program's.
    Text,
    /// Its event frames, verbatim, one per line.
    Json,
    /// Not at all.
    Silent,
}

/// Where output goes: the standard streams, but in tests.
pub(super) type Streams = Printer<Box<dyn Write>, Box<dyn Write>>;

/// The standard streams, and what went to them.
pub(super) struct View {
    mode: Mode,
    printer: Streams,
    shown: bool,
    /// Progress while there is no output yet.
    pub(super) notices: Notices,
}

impl View {
    pub(super) fn new(mode: Mode, printer: Streams) -> Self {
        Self {
            mode,
            printer,
            shown: false,
            notices: Notices::default(),
        }
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

    /// Shows a frame, where frames are shown.
    pub(super) fn event(&mut self, text: &str) -> Result<(), CliError> {
        match self.mode {
            Mode::Json => self.line(text),
            Mode::Text | Mode::Silent => Ok(()),
        }
    }

    /// Shows an output, where output is shown.
    pub(super) fn output(&mut self, msg_type: &str, content: &Content) -> Result<(), CliError> {
        self.notices.clear();
        self.shown = true;
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
        let seen = self.mode == Mode::Text && io::stdout().is_terminal();
        let written = match (stdin, seen, self.mode) {
            (_, _, Mode::Silent) => Ok(()),
            (Stdin::Terminal, false, _) => self.printer.write_err(prompt),
            (_, _, Mode::Text) => self.printer.write_out(prompt),
            (_, _, Mode::Json) => Ok(()),
        };
        written
            .and_then(|()| self.printer.flush())
            .map_err(CliError::Output)
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
