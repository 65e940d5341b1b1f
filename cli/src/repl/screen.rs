//! What goes to the screen: directly while a cell runs, above the prompt while a line is edited.

use std::io::{self, Write};

use super::editor::Prompt;
use crate::{
    frames::{Content, Execution},
    render::{
        log::Palette,
        output::{self, folded},
        picture::Pictures,
    },
};

/// Bytes kept back while more is there to read.
const BUFFER: usize = 64 << 10;

/// Who has the cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Us,
    Editor,
}

/// The terminal, and what has not been written yet.
pub(super) struct Screen {
    palette: Palette,
    pictures: Pictures,
    owner: Owner,
    waiting: String,
    /// Whether the last thing written by us did not end its line.
    line_is_open: bool,
}

impl Screen {
    pub(super) fn new(palette: Palette) -> Self {
        Self {
            palette,
            pictures: Pictures::of_stdout(),
            owner: Owner::Us,
            waiting: String::new(),
            line_is_open: false,
        }
    }

    pub(super) fn palette(&self) -> Palette {
        self.palette
    }

    /// Shows an output as it comes.
    pub(super) fn output(&mut self, msg_type: &str, content: &Content) {
        let text = output::text_of(msg_type, content, self.palette, self.pictures);
        self.write(&text);
    }

    /// Shows what an execution that still runs has printed so far, so that more can follow.
    pub(super) fn so_far(&mut self, execution: &Execution) {
        let cursors = execution
            .fold_state
            .as_ref()
            .map_or(&[][..], |fold| &fold.stream_cursors);
        for (at, item) in execution.outputs.iter().enumerate() {
            self.output(&item.output_type, &item.content);
            let is_last = at + 1 == execution.outputs.len();
            let cursor = cursors.get(at).copied().flatten().filter(|_| is_last);
            let line = item.content.text.rsplit('\n').next().unwrap_or_default();
            if let Some(cursor) = cursor.filter(|cursor| *cursor < line.chars().count()) {
                let before: String = line.chars().take(cursor).collect();
                self.write(&format!("\r{before}"));
            }
        }
    }

    /// Shows a line of our own.
    pub(super) fn line(&mut self, text: &str) {
        self.end_line();
        self.write(text);
        self.write("\n");
    }

    /// Shows a line of our own that is less important than what cells print.
    pub(super) fn aside(&mut self, text: &str) {
        let text = self.palette.paint("2", text);
        self.line(&text);
    }

    /// Begins a new line if one is open.
    pub(super) fn end_line(&mut self) {
        if self.line_is_open {
            self.write("\n");
        }
    }

    /// Takes note that a person's Enter, shown by the terminal itself, began a new line.
    pub(super) fn line_was_ended(&mut self) {
        self.line_is_open = false;
    }

    /// Shows any text.
    pub(super) fn write(&mut self, text: &str) {
        if let Some(last) = text.chars().last() {
            self.line_is_open = last != '\n';
            self.waiting.push_str(text);
        }
    }

    /// Whether it is time to write before more is read.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= BUFFER
    }

    /// Whether something can be written.
    pub(super) fn is_waiting(&self) -> bool {
        match self.owner {
            Owner::Us => !self.waiting.is_empty(),
            Owner::Editor => self.waiting.contains('\n'),
        }
    }

    /// Writes what waits; above the prompt whole lines only.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub(super) fn flush(&mut self, prompt: &mut Prompt) -> io::Result<()> {
        match self.owner {
            Owner::Us => {
                let mut out = io::stdout().lock();
                out.write_all(std::mem::take(&mut self.waiting).as_bytes())?;
                out.flush()
            }
            Owner::Editor => {
                let Some(end) = self.waiting.rfind('\n') else {
                    return Ok(());
                };
                let rest = self.waiting.split_off(end + 1);
                let lines = folded(&std::mem::replace(&mut self.waiting, rest));
                prompt.print_above(lines)
            }
        }
    }

    /// The editor gets the cursor, on a line of its own.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub(super) fn hand_over(&mut self, prompt: &mut Prompt) -> io::Result<()> {
        if self.owner == Owner::Us {
            self.end_line();
            self.flush(prompt)?;
        }
        self.owner = Owner::Editor;
        Ok(())
    }

    /// The editor has let go of the cursor.
    pub(super) fn take_over(&mut self) {
        self.owner = Owner::Us;
    }
}
