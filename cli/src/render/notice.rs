//! Progress of a kernel's start: one line that updates on a terminal, plain lines elsewhere.

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::words;

/// Slow enough to cost nothing, fast enough to show that something happens.
const TICK: Duration = Duration::from_millis(120);

/// Shows notices; the line on a terminal is gone when this is dropped.
#[derive(Default)]
pub(crate) struct Notices {
    line: Option<ProgressBar>,
    last: String,
}

impl Notices {
    /// Shows a notice in place of the one before.
    pub(crate) fn show(&mut self, message: &str) {
        if self.last == message {
            return;
        }
        message.clone_into(&mut self.last);
        if io::stderr().is_terminal() {
            self.line
                .get_or_insert_with(spinner)
                .set_message(message.to_owned());
        } else {
            words::say(message);
        }
    }

    /// Takes the line away, because something else is about to be printed.
    pub(crate) fn clear(&mut self) {
        if let Some(line) = self.line.take() {
            line.finish_and_clear();
        }
    }
}

impl Drop for Notices {
    fn drop(&mut self) {
        self.clear();
    }
}

fn spinner() -> ProgressBar {
    let line = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
        line.set_style(style);
    }
    line.enable_steady_tick(TICK);
    line
}
